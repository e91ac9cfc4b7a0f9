//! Which partitions have recent writes: a bit for each, set and cleared under the partition's lock.

use std::sync::atomic::{AtomicU64, Ordering};

use huntaway_wire::{PARTITIONS, Partition};

const WORDS: usize = PARTITIONS as usize / 64;

/// A set of partitions.
#[derive(Debug)]
pub(crate) struct DirtyPartitions([AtomicU64; WORDS]);

impl DirtyPartitions {
    pub(crate) fn new() -> Self {
        Self([const { AtomicU64::new(0) }; WORDS])
    }

    /// Adds a partition: before anything of it goes to the log, so that whoever sees the log's end sees this, too.
    pub(crate) fn insert(&self, partition: Partition) {
        self.0[partition.index() / 64].fetch_or(bit(partition), Ordering::AcqRel);
    }

    /// Takes a partition out.
    pub(crate) fn remove(&self, partition: Partition) {
        self.0[partition.index() / 64].fetch_and(!bit(partition), Ordering::AcqRel);
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| word.load(Ordering::Acquire) == 0)
    }

    /// Those in it now, in order.
    pub(crate) fn list(&self) -> Vec<Partition> {
        let contains = |p: &Partition| self.0[p.index() / 64].load(Ordering::Acquire) & bit(*p) != 0;
        Partition::all().filter(contains).collect()
    }
}

fn bit(partition: Partition) -> u64 {
    1 << (partition.index() % 64)
}
