//! The disks of a node as one store: each partition's requests go to the disk that holds it.
//!
//! A disk that is absent, or fails, is an error for its partitions only. A flush concerns all disks, for whoever asks for
//! it may have written to any of them: it fails as long as a disk that is not served may lack writes that were
//! acknowledged.

mod adding;
mod budget;
mod error;
mod moves;
mod open;
mod probe;

use std::fmt;
use std::io;
use std::ops::Index;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread::{self, ScopedJoinHandle};

use huntaway_wire::{Broken, Error, PARTITIONS, Partition, Peer, Pepoch, Read, Reply, Request, Submission};
use prometheus::Registry;
use tokio::sync::oneshot;

pub use self::adding::NotAdded;
pub use self::error::DisksError;
pub use self::moves::NotRemoved;
use crate::disk::{FileDisk, Space};
use crate::disk_table::{DiskTable, MAX_DISKS};
use crate::locking::lock;
use crate::options::StoreOptions;
use crate::service::LocalStore;
use crate::store::Store;
use crate::superblock::DiskId;
use crate::waiters::{Joined, Sender};

/// A directory that keeps one disk of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskDirectory {
    /// Where it is.
    pub path: PathBuf,
    /// Its share of the partitions, relative to the others'; if not given, its size in GiB when it is first used.
    pub weight: Option<u32>,
}

/// How a disk is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskState {
    /// It is served.
    Serving,
    /// It failed while it was served, and was stopped.
    Failed,
    /// It could not be opened.
    Absent {
        /// Why.
        reason: String,
    },
}

/// One disk of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskStatus {
    /// Where it is, or should be.
    pub directory: PathBuf,
    /// Its id.
    pub id: DiskId,
    /// Its share of the partitions.
    pub weight: u32,
    /// How it is.
    pub state: DiskState,
    /// How many partitions are on it.
    pub partitions: u16,
    /// How many of these are about to go to another one.
    pub moving: u16,
    /// It is to be taken away: what it has goes to the others.
    pub leaves: bool,
    /// It was added, and does not have its share yet.
    pub fills: bool,
    /// Bytes free; 0 if it is absent.
    pub free_bytes: u64,
    /// Its size in bytes; 0 if it is absent.
    pub total_bytes: u64,
}

/// Disks have failed. Shown as their directories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DisksStopped {
    /// Their directories.
    pub directories: Vec<PathBuf>,
}

impl fmt::Display for DisksStopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, directory) in self.directories.iter().enumerate() {
            let separator = if place == 0 { "" } else { " " };
            write!(f, "{separator}{}", directory.display())?;
        }
        Ok(())
    }
}

impl std::error::Error for DisksStopped {}

/// The stores of all disks of a node, at work.
pub struct NodeStore {
    disks: NodeDisks,
    /// Which disk holds a partition.
    routes: Box<[AtomicU8]>,
    least_pepoch: Pepoch,
    /// Where the table is kept, and what it says.
    state: FileDisk,
    table: Mutex<DiskTable>,
    /// How the disks were opened, and where their metrics are: one that is added is no different.
    options: StoreOptions,
    registry: Registry,
}

/// The disks in the order of the table: there may be more one day, and never fewer.
struct NodeDisks(Box<[OnceLock<NodeDisk>]>);

impl NodeDisks {
    fn new(disks: Vec<NodeDisk>) -> Self {
        let found = disks.into_iter().map(OnceLock::from);
        Self(found.chain(std::iter::repeat_with(OnceLock::new)).take(MAX_DISKS).collect())
    }

    fn iter(&self) -> impl Iterator<Item = &NodeDisk> {
        self.0.iter().map_while(OnceLock::get)
    }

    fn len(&self) -> usize {
        self.iter().count()
    }

    #[inline]
    fn get(&self, disk: usize) -> Option<&NodeDisk> {
        self.0.get(disk)?.get()
    }

    /// Behind those that there are; whoever does it keeps others from doing it. Gives it back if there are as many as there may be.
    fn push(&self, disk: NodeDisk) -> Result<(), NodeDisk> {
        match self.0.get(self.len()) {
            Some(place) => place.set(disk),
            None => Err(disk),
        }
    }
}

impl Index<usize> for NodeDisks {
    type Output = NodeDisk;

    #[inline]
    fn index(&self, disk: usize) -> &NodeDisk {
        match self.get(disk) {
            Some(found) => found,
            None => unreachable!("the table has no disk {disk}"),
        }
    }
}

/// One disk.
struct NodeDisk {
    directory: PathBuf,
    id: DiskId,
    weight: u32,
    /// How many partitions it holds.
    partitions: AtomicU16,
    /// What it has is to go to the others.
    leaves: AtomicBool,
    /// It was added, and what is to be on it comes to it.
    fills: AtomicBool,
    service: Service,
}

enum Service {
    Serving(LocalStore),
    Absent { reason: String, may_owe: bool },
}

impl NodeDisk {
    fn failed(&self) -> Error {
        Broken::DiskFailed { disk: self.directory.display().to_string() }.into()
    }

    /// Whether it is not served, and may lack writes that were acknowledged in this boot.
    fn may_lack_writes(&self) -> bool {
        match &self.service {
            Service::Serving(local) => local.store().has_failed() && local.store().is_unflushed(),
            Service::Absent { may_owe, .. } => *may_owe,
        }
    }

    /// The store, unless it failed or was absent.
    fn at_work(&self) -> Option<&LocalStore> {
        match &self.service {
            Service::Serving(local) if !local.store().has_failed() => Some(local),
            Service::Serving(_) | Service::Absent { .. } => None,
        }
    }

    /// Applies everything and stops its threads; whether it is sound, as an absent one is.
    fn close(&self) -> bool {
        match &self.service {
            Service::Serving(local) => local.close().is_ok(),
            Service::Absent { .. } => true,
        }
    }

    fn status(&self) -> DiskStatus {
        let (state, space) = match &self.service {
            Service::Serving(local) => {
                let failed = local.store().has_failed();
                let state = if failed { DiskState::Failed } else { DiskState::Serving };
                (state, local.store().space())
            }
            Service::Absent { reason, .. } => {
                (DiskState::Absent { reason: reason.clone() }, Space { free_bytes: 0, total_bytes: 0 })
            }
        };
        DiskStatus {
            directory: self.directory.clone(),
            id: self.id,
            weight: self.weight,
            state,
            partitions: self.partitions.load(Ordering::Relaxed),
            moving: 0,
            leaves: self.leaves.load(Ordering::Relaxed),
            fills: self.fills.load(Ordering::Relaxed),
            free_bytes: space.free_bytes,
            total_bytes: space.total_bytes,
        }
    }
}

impl NodeStore {
    /// The pepoch that requests for the partition must carry.
    pub fn pepoch(&self, partition: Partition) -> Pepoch {
        match &self.disk_of(partition).service {
            Service::Serving(local) => local.pepoch(),
            Service::Absent { .. } => self.least_pepoch,
        }
    }

    /// Space that partitions of the same size find: the disk that is full first counts. If `exact` the disks are asked;
    /// otherwise, and of those that do not answer, it is what they said last.
    pub fn space(&self, exact: bool) -> huntaway_wire::Space {
        let mut space = huntaway_wire::Space::default();
        let mut spread_bytes = u64::MAX;
        for disk in self.disks.iter() {
            let Some(local) = disk.at_work() else { continue };
            let own = local.store().available(exact);
            space.total_bytes += own.total_bytes;
            let partitions = disk.partitions.load(Ordering::Relaxed);
            if partitions > 0 {
                let parts = u128::from(own.available_bytes) * u128::from(PARTITIONS);
                let spread = parts / u128::from(partitions);
                spread_bytes = spread_bytes.min(spread.try_into().unwrap_or(u64::MAX));
            }
        }
        space.available_bytes = spread_bytes.min(space.total_bytes);
        space
    }

    /// How many disks there are, serving or not.
    pub(crate) fn count(&self) -> usize {
        self.disks.len()
    }

    /// Which disk of the table holds the partition.
    pub(crate) fn number_of(&self, partition: Partition) -> usize {
        self.routes[partition.index()].load(Ordering::Acquire).into()
    }

    /// The store of a disk; `None` if that failed or is absent.
    pub(crate) fn store_of(&self, disk: usize) -> Option<&Store<FileDisk>> {
        self.disks.get(disk).and_then(NodeDisk::at_work).map(LocalStore::store)
    }

    /// The stores of all disks that were there at the start, failed or not.
    pub(crate) fn opened(&self) -> impl Iterator<Item = &Store<FileDisk>> {
        self.disks.iter().filter_map(|disk| match &disk.service {
            Service::Serving(local) => Some(local.store()),
            Service::Absent { .. } => None,
        })
    }

    /// Where the table of disks is.
    pub(crate) fn state(&self) -> &FileDisk {
        &self.state
    }

    /// How the disks are, in the order of the table.
    pub fn disks(&self) -> Vec<DiskStatus> {
        self.disks.iter().map(NodeDisk::status).collect()
    }

    /// Takes no more requests, applies everything and stops the threads of all disks; see [`LocalStore::close`].
    ///
    /// # Errors
    /// Disks have failed, now or before; what was acknowledged is in their logs as far as they hold it. Absent ones do
    /// not count.
    pub fn close(&self) -> Result<(), DisksStopped> {
        self.close_by(thread::Builder::new)
    }

    /// The same with a way to make threads.
    pub(crate) fn close_by(&self, new_thread: impl Fn() -> thread::Builder) -> Result<(), DisksStopped> {
        let closed: Vec<bool> = thread::scope(|scope| {
            let start = |disk| (disk, new_thread().spawn_scoped(scope, move || NodeDisk::close(disk)));
            let closing: Vec<_> = self.disks.iter().map(start).collect();
            let end = |(disk, closing): (&NodeDisk, io::Result<ScopedJoinHandle<'_, bool>>)| match closing {
                Ok(closing) => closing.join().unwrap_or(false),
                // Without a thread of its own it is closed all the same: one after the other.
                Err(_) => disk.close(),
            };
            closing.into_iter().map(end).collect()
        });
        self.note_what_is_flushed();
        let stopped = self.disks.iter().zip(closed).filter(|(_, closed)| !closed);
        let directories: Vec<PathBuf> = stopped.map(|(disk, _)| disk.directory.clone()).collect();
        if directories.is_empty() { Ok(()) } else { Err(DisksStopped { directories }) }
    }

    /// Notes that the disks can be done without at the next start, as far as flushes are concerned.
    fn note_what_is_flushed(&self) {
        let mut table = lock(&self.table);
        for disk in self.disks.iter() {
            if let Service::Serving(local) = &disk.service
                && let Some(entry) = table.disks.iter_mut().find(|entry| entry.id == disk.id)
            {
                entry.may_owe = local.store().is_unflushed();
            }
        }
        if let Err(error) = table.store(&self.state) {
            // What it says stays true: it says less than is so.
            let state = self.state.directory().display();
            tracing::warn!(%error, %state, "cannot note in the table of disks that they were closed");
        }
    }

    /// The store of the disk at that place in the table.
    #[cfg(test)]
    pub(crate) fn local(&self, disk: usize) -> Option<&LocalStore> {
        match &self.disks.get(disk)?.service {
            Service::Serving(local) => Some(local),
            Service::Absent { .. } => None,
        }
    }

    #[inline]
    fn disk_of(&self, partition: Partition) -> &NodeDisk {
        &self.disks[self.number_of(partition)]
    }

    fn flush(&self) -> Submission {
        if let Some(disk) = self.disks.iter().find(|disk| disk.may_lack_writes()) {
            return Submission::Done(Err(disk.failed()));
        }
        let at_work: Vec<&LocalStore> = self.disks.iter().filter_map(NodeDisk::at_work).collect();
        match (&*at_work, self.disks.get(0)) {
            ([], Some(first)) => Submission::Done(Err(first.failed())),
            ([], None) => Submission::Done(Ok(Reply::Done)),
            ([only], _) => only.submit(Request::Flush),
            (several, _) => {
                let (sender, receiver) = oneshot::channel();
                let joined = Joined::new(several.len(), sender);
                several.iter().for_each(|local| local.store().flush_for(Sender::Joined(joined.clone())));
                Submission::Waiting(receiver)
            }
        }
    }
}

impl Peer for NodeStore {
    fn submit(&self, request: Request) -> Submission {
        let object = match &request {
            Request::Object(object) => object,
            Request::Flush => return self.flush(),
            Request::Space { exact } => return Submission::Done(Ok(Reply::Space(self.space(*exact)))),
        };
        let disk = self.disk_of(object.partition);
        match &disk.service {
            Service::Serving(local) => local.submit(request),
            Service::Absent { .. } => Submission::Done(Err(disk.failed())),
        }
    }

    #[inline]
    fn read_now(&self, read: &Read, into: &mut [u8], crcs: Option<&mut [u32]>) -> Option<Result<(), Error>> {
        let disk = self.disk_of(read.partition);
        match &disk.service {
            Service::Serving(local) => local.read_now(read, into, crcs),
            Service::Absent { .. } => Some(Err(disk.failed())),
        }
    }
}
