//! The index of a partition: which objects it has. What is in it must have a sound file; what is not, was never
//! written and reads as zeroes (promise P6).
//!
//! On disk it is a log of batches, each synced before the next is written (`store/FORMAT.md`, "Index"). After a crash
//! only the last batch can be incomplete; it is left out then, because the write-ahead log still has what it said.

mod log;
mod sector;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use huntaway_wire::{Epoch, Oid, Partition, Version};

pub(crate) use log::IndexLog;
pub(crate) use sector::{Item, State};

use crate::disk::Disk;

/// Whose index it is, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IndexPlace {
    pub(crate) partition: Partition,
    pub(crate) epoch: Epoch,
    /// The partition's directory.
    pub(crate) directory: String,
    /// The store's file `partitions` says that there is one.
    pub(crate) must_exist: bool,
}

/// Why an index cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IndexError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it is missing, though there are or were object files")]
    Missing,
    #[error("its header is damaged")]
    DamagedHeader,
    #[error("it is damaged at byte {offset_bytes}")]
    Damaged { offset_bytes: u64 },
}

/// What is known when an index is read. An index that misses its last batch, or a missing one, is what a crash leaves
/// if the write-ahead log still says what is missing; otherwise it is damage.
pub(crate) enum Loading<'a> {
    /// The log says nothing about the partition.
    Quiet,
    /// The log, which was just replayed, says something about the objects for which the function is true: a torn tail
    /// is cut off, a missing index is made.
    AfterCrash(&'a dyn Fn(Oid) -> bool),
    /// As before, but nothing is changed.
    Looking(&'a dyn Fn(Oid) -> bool),
}

/// The objects of one partition, in memory, and the log that keeps them.
pub(crate) struct Index {
    objects: BTreeMap<Oid, Version>,
    log: Arc<Mutex<IndexLog>>,
}

impl Index {
    /// Reads the index; a partition without objects may have none.
    pub(crate) fn load<D: Disk>(
        disk: &D,
        place: IndexPlace,
        loading: &Loading<'_>,
    ) -> Result<Self, IndexError> {
        let directory = place.directory.clone();
        let must_exist = place.must_exist;
        let (mut log, items) = IndexLog::load(disk, place)?;
        if !log.exists() && (must_exist || !unexplained_objects(disk, &directory, loading)?.is_empty()) {
            return Err(IndexError::Missing);
        }
        match (loading, log.torn_at()) {
            (Loading::Quiet, Some(offset_bytes)) => return Err(IndexError::Damaged { offset_bytes }),
            (Loading::AfterCrash(_), _) => log.mend(disk)?,
            (Loading::Quiet, None) | (Loading::Looking(_), _) => log.forget_content(),
        }
        let mut index = Self { objects: BTreeMap::new(), log: Arc::new(Mutex::new(log)) };
        index.publish(&items);
        Ok(index)
    }

    /// Whether it has the object.
    pub(crate) fn contains(&self, oid: Oid) -> bool {
        self.objects.contains_key(&oid)
    }

    /// The objects and the versions that put them here, in order.
    pub(crate) fn items(&self) -> impl Iterator<Item = Item> {
        self.objects.iter().map(|(&oid, &version)| Item { oid, version, state: State::Present })
    }

    /// What [`Index::items`] will be once `items` are published.
    pub(crate) fn items_after(&self, items: &[Item]) -> Vec<Item> {
        let mut after: BTreeMap<_, _> = self.items().map(|item| (item.oid, item)).collect();
        for item in items {
            match item.state {
                State::Present => after.insert(item.oid, *item),
                State::Removed => after.remove(&item.oid),
            };
        }
        after.into_values().collect()
    }

    /// How many objects it has.
    pub(crate) fn len(&self) -> usize {
        self.objects.len()
    }

    /// The log, to append to without holding the partition's lock.
    pub(crate) fn log(&self) -> Arc<Mutex<IndexLog>> {
        self.log.clone()
    }

    /// Takes in what was appended to the log.
    pub(crate) fn publish(&mut self, items: &[Item]) {
        for item in items {
            match item.state {
                State::Present => self.objects.insert(item.oid, item.version),
                State::Removed => self.objects.remove(&item.oid),
            };
        }
    }
}

/// The object files in `directory` of which the log says nothing.
fn unexplained_objects<D: Disk>(disk: &D, directory: &str, loading: &Loading<'_>) -> io::Result<Vec<Oid>> {
    let names = match disk.list(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        names => names?,
    };
    let is_explained = |oid: &Oid| match loading {
        Loading::Quiet => false,
        Loading::AfterCrash(replayed) | Loading::Looking(replayed) => replayed(*oid),
    };
    Ok(names.iter().filter_map(|name| oid_of(name)).filter(|oid| !is_explained(oid)).collect())
}

/// The object whose file has this name.
pub(crate) fn oid_of(name: &str) -> Option<Oid> {
    let oid = Oid::from_value(u64::from_str_radix(name, 16).ok()?).ok()?;
    (oid.to_string() == name).then_some(oid)
}
