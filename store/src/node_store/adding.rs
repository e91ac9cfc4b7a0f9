//! A disk more for a node that works.
//!
//! The disk is made, and remembers what the others do, before the table has it: a process that dies in between leaves a directory that
//! nobody uses. From then on it fills: the partitions that placement has on it come to it one after the other, and no others move.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use huntaway_wire::Partition;

use super::open::{open_disk, size_gib};
use super::probe::{Found, check_paths, probe_for_new};
use super::{DiskDirectory, DisksError, NodeDisk, NodeStore, Service};
use crate::disk::FileDisk;
use crate::disk_table::{DiskEntry, DiskTable, MAX_DISKS};
use crate::error::OpenError;
use crate::locking::lock;
use crate::placement::{self, WeightedDisk};
use crate::service::{LocalStore, new_disk_id};
use crate::store::Store;

/// Why a disk is not added.
#[derive(Debug, thiserror::Error)]
pub enum NotAdded {
    /// It is one of the node's.
    #[error("it is a disk of this node already: `huntaway node disk list` shows them")]
    Known,
    /// There are as many as there may be.
    #[error("a node has {MAX_DISKS} disks at most")]
    TooMany,
    /// There is a store in the directory.
    #[error(
        "a store is in it already, and what that has is not known to be of any use: empty the directory first, if nobody needs that"
    )]
    Used,
    /// Nothing would ever be on it.
    #[error("with weight 0 nothing would ever be on it: give it a weight")]
    NoWeight,
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
    /// It cannot be made.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It is given twice.
    #[error(transparent)]
    Directory(#[from] DisksError),
    /// It cannot be noted.
    #[error("the node's table of disks cannot be written: {0}")]
    Table(io::Error),
}

impl NodeStore {
    /// Makes a disk in the directory, which is empty or not there, and takes it into use; `begin` is to have it remember what the
    /// others do. There are so many copies of everything, of which so many are needed. Returns its number.
    ///
    /// # Errors
    /// [`NotAdded`]: the node's disks are as before.
    pub(crate) fn add(
        &self,
        given: &DiskDirectory,
        (copies, min_copies): (usize, usize),
        begin: impl FnOnce(&Store<FileDisk>) -> Result<(), OpenError>,
    ) -> Result<usize, NotAdded> {
        // Nobody else adds one, or writes the table, before this is done.
        let mut table = lock(&self.table);
        if self.numbered(&given.path).is_ok() {
            return Err(NotAdded::Known);
        }
        let number = self.disks.len();
        if number >= MAX_DISKS {
            return Err(NotAdded::TooMany);
        }
        if min_copies >= copies {
            return Err(NotAdded::NoSpare { copies, min_copies });
        }
        if given.weight == Some(0) {
            return Err(NotAdded::NoWeight);
        }
        let known = self.disks.iter().map(|disk| disk.directory.clone());
        let mut all: Vec<DiskDirectory> = known.map(|path| DiskDirectory { path, weight: None }).collect();
        all.push(given.clone());
        check_paths(&all)?;
        let probed = probe_for_new(given, &self.options)?;
        if !matches!(probed.found, Found::Nothing { .. }) {
            return Err(NotAdded::Used);
        }
        let weight = given.weight.map_or_else(|| size_gib(&given.path), Ok)?;
        let entry = DiskEntry { fills: true, ..DiskEntry::new(new_disk_id()?, weight) };
        let local = open_disk(probed, &entry, number + 1, &self.options, &self.registry)?;
        self.take_in(&mut table, given, entry, local, begin)?;
        Ok(number)
    }

    fn take_in(
        &self,
        table: &mut DiskTable,
        given: &DiskDirectory,
        entry: DiskEntry,
        local: LocalStore,
        begin: impl FnOnce(&Store<FileDisk>) -> Result<(), OpenError>,
    ) -> Result<(), NotAdded> {
        begin(local.store())?;
        // Where partitions are does not follow from the disks any more.
        let mut changed = DiskTable { routes: table.routes(), ..table.clone() };
        changed.disks.push(entry);
        changed.store(&self.state).map_err(NotAdded::Table)?;
        *table = changed;
        let disk = NodeDisk {
            directory: given.path.clone(),
            id: entry.id,
            weight: entry.weight,
            partitions: AtomicU16::new(0),
            leaves: AtomicBool::new(false),
            fills: AtomicBool::new(true),
            service: Service::Serving(local),
        };
        self.disks.push(disk).map_err(|_| NotAdded::TooMany)
    }

    /// The disk that fills on which the partition is to be, if it is on another one.
    pub(crate) fn fills(&self, partition: Partition) -> Option<usize> {
        let weigh = |disk: &NodeDisk| {
            let stays = !disk.leaves.load(Ordering::Relaxed) && disk.at_work().is_some();
            WeightedDisk { disk: disk.id, weight: if stays { disk.weight } else { 0 } }
        };
        let weighted: Vec<WeightedDisk> = self.disks.iter().map(weigh).collect();
        let place = placement::place(partition, &weighted)?;
        let fills = self.disks.get(place)?.fills.load(Ordering::Relaxed);
        (fills && place != self.number_of(partition)).then_some(place)
    }

    /// Whether a disk fills that is at work.
    pub(crate) fn is_filling(&self) -> bool {
        self.disks.iter().any(|disk| disk.fills.load(Ordering::Relaxed) && disk.at_work().is_some())
    }

    /// All that is to be on disks that fill is there: they are like the others from now on.
    pub(crate) fn are_filled(&self) -> io::Result<()> {
        let mut table = lock(&self.table);
        let mut changed = table.clone();
        let filled: Vec<&NodeDisk> = self.disks.iter().filter(|disk| disk.at_work().is_some()).collect();
        for entry in &mut changed.disks {
            entry.fills &= !filled.iter().any(|disk| disk.id == entry.id);
        }
        changed.store(&self.state)?;
        *table = changed;
        filled.iter().for_each(|disk| disk.fills.store(false, Ordering::Relaxed));
        Ok(())
    }
}
