//! Partitions that go from one disk of the node to another.
//!
//! The table alone says where a partition is: what another disk has of it is nothing to anybody. Who changes the table has seen to it
//! that nobody counts on what the partition has (`store/src/host/rehoming.rs`).

use std::path::Path;
use std::sync::atomic::Ordering;
use std::{fs, io};

use huntaway_wire::{OBJECT_SIZE_BYTES, Partition};

use super::{NodeDisk, NodeStore, Service};
use crate::disk::FileDisk;
use crate::disk_table::DiskTable;
use crate::locking::lock;
use crate::placement::{self, WeightedDisk};
use crate::store::Store;

/// Why a disk is not to be taken away.
#[derive(Debug, thiserror::Error)]
pub enum NotRemoved {
    /// The node has none there.
    #[error(
        "no disk of this node is in that directory, but in {known}: `huntaway node disk list` shows them"
    )]
    Unknown {
        /// Where they are.
        known: String,
    },
    /// No other one takes what it has.
    #[error(
        "no other disk of this node serves and stays, so nothing takes what it has: `huntaway node drain` empties the node"
    )]
    Only,
    /// No copy may be lacking, not even while it goes from one disk to another.
    #[error(
        "{min_copies} of {copies} copies have to be in sync for writes, so none may be lacking while it moves: lower \
         `huntaway cluster set --min-copies` first, or raise `--copies`"
    )]
    NoSpare {
        /// Copies of everything.
        copies: usize,
        /// Those that are needed.
        min_copies: usize,
    },
    /// The others are too small.
    #[error(
        "the other disks of this node have room for {} MiB, and up to {} MiB are on it: free space there, or give the node a smaller \
         weight first", available_bytes >> 20, needed_bytes.div_ceil(1 << 20)
    )]
    NoRoom {
        /// What is on it.
        needed_bytes: u64,
        /// What is free on the others.
        available_bytes: u64,
    },
    /// It cannot be noted.
    #[error("the node's table of disks cannot be written: {0}")]
    Table(#[from] io::Error),
}

impl NodeStore {
    /// Has the partitions be on that disk: on stable storage first.
    ///
    /// # Errors
    /// The table cannot be written. Which disk they are on at the next start is not known then, until another try succeeds.
    pub(crate) fn reroute(&self, partitions: &[Partition], disk: usize) -> io::Result<()> {
        let mut table = lock(&self.table);
        let place = table.disks.iter().position(|entry| entry.id == self.disks[disk].id);
        let place = place.and_then(|place| u8::try_from(place).ok());
        let place = place.ok_or_else(|| io::Error::other("the disk is not in the table"))?;
        let mut routes = table.routes().ok_or_else(|| io::Error::other("no disk has a weight"))?;
        partitions.iter().for_each(|partition| routes[partition.index()] = place);
        let changed = DiskTable { routes: Some(routes), ..table.clone() };
        changed.store(&self.state)?;
        *table = changed;
        for partition in partitions {
            let route = &self.routes[partition.index()];
            let before = route.swap(disk as u8, Ordering::AcqRel);
            self.disks[usize::from(before)].partitions.fetch_sub(1, Ordering::Relaxed);
            self.disks[disk].partitions.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Which disk takes the partition when the one that it is on does not keep it: by their weights, of those that serve, are another
    /// one, and have room.
    pub(crate) fn instead(
        &self,
        partition: Partition,
        has_room: impl Fn(&Store<FileDisk>) -> bool,
    ) -> Option<usize> {
        let at = self.number_of(partition);
        let takes = |disk: &NodeDisk| disk.at_work().is_some_and(|local| has_room(local.store()));
        let place = |may_leave: bool| {
            let weigh = |(number, disk): (usize, &NodeDisk)| {
                let stays = may_leave || !disk.leaves.load(Ordering::Relaxed);
                let weight = if number != at && stays && takes(disk) { disk.weight } else { 0 };
                WeightedDisk { disk: disk.id, weight }
            };
            let weighted: Vec<WeightedDisk> = self.disks.iter().enumerate().map(weigh).collect();
            placement::place(partition, &weighted)
        };
        // What no disk has is better off on one that is to be taken away than on none.
        place(false).or_else(|| self.store_of(at).map_or_else(|| place(true), |_| None))
    }

    /// What the disk in that directory has is to go to the others, so that it can be taken away. There are so many copies of everything,
    /// of which so many are needed.
    ///
    /// # Errors
    /// [`NotRemoved`]: nothing has changed.
    pub(crate) fn remove(
        &self,
        directory: &Path,
        (copies, min_copies): (usize, usize),
    ) -> Result<usize, NotRemoved> {
        let number = self.numbered(directory)?;
        // Who removes another one meanwhile looks at the others after this.
        let mut table = lock(&self.table);
        if self.leaves(number) {
            return Ok(number);
        }
        // What a disk lacks that failed is lacking already.
        if min_copies >= copies && self.store_of(number).is_some() {
            return Err(NotRemoved::NoSpare { copies, min_copies });
        }
        let others = self.disks.iter().enumerate().filter(|(other, disk)| {
            *other != number && disk.weight > 0 && !disk.leaves.load(Ordering::Relaxed)
        });
        let others: Vec<&Store<FileDisk>> =
            others.filter_map(|(_, disk)| Some(disk.at_work()?.store())).collect();
        if others.is_empty() {
            return Err(NotRemoved::Only);
        }
        let needed_bytes = self.needed_bytes(number);
        let available_bytes = others.iter().map(|store| store.available(true).available_bytes).sum();
        if needed_bytes > available_bytes {
            return Err(NotRemoved::NoRoom { needed_bytes, available_bytes });
        }
        self.note_leaves(&mut table, number, true)?;
        Ok(number)
    }

    /// What the disk in that directory still has stays there, though it was to go to the others.
    ///
    /// # Errors
    /// [`NotRemoved`]: nothing has changed.
    pub(crate) fn keep(&self, directory: &Path) -> Result<usize, NotRemoved> {
        let number = self.numbered(directory)?;
        let mut table = lock(&self.table);
        if self.leaves(number) {
            self.note_leaves(&mut table, number, false)?;
        }
        Ok(number)
    }

    pub(super) fn numbered(&self, directory: &Path) -> Result<usize, NotRemoved> {
        let is_it = |disk: &NodeDisk| {
            disk.directory == directory
                || fs::canonicalize(&disk.directory).is_ok_and(|found| found == directory)
        };
        self.disks.iter().position(is_it).ok_or_else(|| {
            let known = self.disks.iter().map(|disk| disk.directory.display().to_string());
            NotRemoved::Unknown { known: known.collect::<Vec<_>>().join(", ") }
        })
    }

    fn note_leaves(&self, table: &mut DiskTable, number: usize, leaves: bool) -> io::Result<()> {
        let disk = &self.disks[number];
        let mut changed = DiskTable { routes: table.routes(), ..table.clone() };
        let entry = changed.disks.iter_mut().find(|entry| entry.id == disk.id);
        let entry = entry.ok_or_else(|| io::Error::other("the disk is not in the table"))?;
        // What has gone from a disk does not come back by itself.
        (entry.leaves, entry.fills) = (leaves, false);
        changed.store(&self.state)?;
        *table = changed;
        disk.leaves.store(leaves, Ordering::Relaxed);
        disk.fills.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// What is on the disk, at most: all of its objects, or all that its file system has.
    fn needed_bytes(&self, disk: usize) -> u64 {
        let Some(store) = self.store_of(disk) else { return 0 };
        let on_it = Partition::all().filter(|at| self.number_of(*at) == disk);
        let objects: u64 = on_it.map(|at| store.objects_of(at) as u64).sum();
        let space = store.space();
        (objects * u64::from(OBJECT_SIZE_BYTES)).min(space.total_bytes.saturating_sub(space.free_bytes))
    }

    /// Whether what the disk has is to go to the others.
    pub(crate) fn leaves(&self, disk: usize) -> bool {
        self.disks.get(disk).is_some_and(|disk| disk.leaves.load(Ordering::Relaxed))
    }

    /// Whether partitions may be on other disks than at first.
    pub(crate) fn are_routed(&self) -> bool {
        lock(&self.table).routes.is_some()
    }

    /// How many partitions are on the disk.
    pub(crate) fn partitions_of(&self, disk: usize) -> u16 {
        self.disks.get(disk).map_or(0, |disk| disk.partitions.load(Ordering::Relaxed))
    }

    /// Whether the disk failed while it was served.
    pub(crate) fn has_failed(&self, disk: usize) -> bool {
        let service = self.disks.get(disk).map(|disk| &disk.service);
        matches!(service, Some(Service::Serving(local)) if local.store().has_failed())
    }
}
