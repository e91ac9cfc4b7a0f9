//! The index of a partition: which objects it has. What is in it must have a sound file; what is not, was never
//! written and reads as zeroes (promise P6).
//!
//! On disk it is a log of batches, each synced before the next is written (`store/FORMAT.md`, "Index"). After a crash
//! only the last batch can be incomplete; it is left out then, because the write-ahead log still has what it said.

mod log;
mod sector;

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex};

use huntaway_wire::{Epoch, Oid, Partition, Version};

pub(crate) use log::{IndexLog, SET_ASIDE, set_aside};
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
    /// The log, which was just replayed, says something about the objects for which there is a version, the first that it
    /// has of them: a torn tail is cut off, a missing index is made.
    AfterCrash(&'a dyn Fn(Oid) -> Option<Version>),
    /// As before, but the log was damaged, and what is missing from it may be what explains the files there are: an index that
    /// was never finished is made anew.
    AfterDamage(&'a dyn Fn(Oid) -> Option<Version>),
    /// As after a crash, but nothing is changed.
    Looking(&'a dyn Fn(Oid) -> Option<Version>),
}

/// What explains the file of an object that is not in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leftover {
    /// The index says that the object was removed: what was written up to here counts for nothing.
    removed: Version,
    /// The log has all that was written from here on.
    logged: Option<Version>,
}

impl Leftover {
    /// Whether it was left by a crash if it holds the results of `writes`. Otherwise the index has lost the object.
    pub(crate) fn explains(&self, mut writes: impl Iterator<Item = Version>) -> bool {
        writes.all(|write| write <= self.removed || self.logged.is_some_and(|first| write >= first))
    }
}

/// The objects of one partition, in memory, and the log that keeps them.
pub(crate) struct Index {
    objects: BTreeMap<Oid, Version>,
    /// Objects that have a file but are not in the index.
    leftovers: BTreeMap<Oid, Leftover>,
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
        let files = object_files(disk, &directory)?;
        let lacks_log = matches!(loading, Loading::AfterDamage(_));
        let is_unexplained = |oid: &Oid| loading.logged(*oid).is_none() && !lacks_log;
        if !log.exists() && (must_exist || files.iter().any(is_unexplained)) {
            return Err(IndexError::Missing);
        }
        match (loading, log.torn_at()) {
            (Loading::Quiet, Some(offset_bytes)) => return Err(IndexError::Damaged { offset_bytes }),
            (Loading::AfterCrash(_) | Loading::AfterDamage(_), _) => log.mend(disk)?,
            (Loading::Quiet, None) | (Loading::Looking(_), _) => log.forget_content(),
        }
        let (objects, leftovers) = (BTreeMap::new(), BTreeMap::new());
        let mut index = Self { objects, leftovers, log: Arc::new(Mutex::new(log)) };
        index.publish(&items);
        let removals = items.iter().filter(|item| item.state == State::Removed);
        let removals: BTreeMap<Oid, Version> = removals.map(|item| (item.oid, item.version)).collect();
        for oid in files.into_iter().filter(|oid| !index.objects.contains_key(oid)) {
            let removed = removals.get(&oid).copied().unwrap_or(Version::NEVER);
            index.leftovers.insert(oid, Leftover { removed, logged: loading.logged(oid) });
        }
        Ok(index)
    }

    /// Whether it has the object.
    pub(crate) fn contains(&self, oid: Oid) -> bool {
        self.objects.contains_key(&oid)
    }

    /// The newest write to the object when it was put here, if it is here.
    pub(crate) fn version(&self, oid: Oid) -> Option<Version> {
        self.objects.get(&oid).copied()
    }

    /// What explains the object's file, if there was one when the index was read, and the index does not have it.
    pub(crate) fn leftover(&self, oid: Oid) -> Option<Leftover> {
        self.leftovers.get(&oid).copied()
    }

    /// Objects that have a file, or may have one, and are not in the index.
    pub(crate) fn leftovers(&self) -> impl Iterator<Item = Oid> {
        self.leftovers.keys().copied()
    }

    /// The file of an object that was removed up to `removed`, and is not in the index, is gone, but a power loss may
    /// bring it back.
    pub(crate) fn may_come_back(&mut self, oid: Oid, removed: Version) {
        let leftover = self.leftovers.entry(oid).or_insert(Leftover { removed, logged: None });
        leftover.removed = leftover.removed.max(removed);
    }

    /// The object's file, which was not in the index, is gone.
    pub(crate) fn forget_leftover(&mut self, oid: Oid) {
        self.leftovers.remove(&oid);
    }

    /// The objects and the versions that put them here, in order.
    pub(crate) fn items(&self) -> impl Iterator<Item = Item> {
        self.objects.iter().map(|(&oid, &version)| Item { oid, version, state: State::Present })
    }

    /// All that the file has to say once `items` are in it, one item for each object.
    pub(crate) fn items_after(&self, items: &[Item]) -> Vec<Item> {
        let mut after: BTreeMap<_, _> = self.items().map(|item| (item.oid, item)).collect();
        // Files may still be there of what was removed: the tombstones explain them.
        let removed = self.leftovers.iter().filter(|(_, leftover)| leftover.removed > Version::NEVER);
        after.extend(
            removed.map(|(&oid, leftover)| {
                (oid, Item { oid, version: leftover.removed, state: State::Removed })
            }),
        );
        after.extend(items.iter().map(|item| (item.oid, *item)));
        after.into_values().collect()
    }

    /// Its objects after `after`, in order.
    pub(crate) fn oids(&self, after: Option<Oid>) -> impl Iterator<Item = Oid> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.objects.range((from, Bound::Unbounded)).map(|(oid, _)| *oid)
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
            self.leftovers.remove(&item.oid);
            match item.state {
                State::Present => self.objects.insert(item.oid, item.version),
                State::Removed => self.objects.remove(&item.oid),
            };
        }
    }
}

impl Loading<'_> {
    fn logged(&self, oid: Oid) -> Option<Version> {
        match self {
            Loading::Quiet => None,
            Loading::AfterCrash(first) | Loading::AfterDamage(first) | Loading::Looking(first) => first(oid),
        }
    }
}

/// The objects that have a file in `directory`.
fn object_files<D: Disk>(disk: &D, directory: &str) -> io::Result<Vec<Oid>> {
    match disk.list(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        names => Ok(names?.iter().filter_map(|name| oid_of(name)).collect()),
    }
}

/// The object whose file has this name.
pub(crate) fn oid_of(name: &str) -> Option<Oid> {
    let oid = Oid::from_value(u64::from_str_radix(name, 16).ok()?).ok()?;
    (oid.to_string() == name).then_some(oid)
}
