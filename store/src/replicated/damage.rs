//! What is missing from a log that was opened although it is damaged.

use std::sync::atomic::{AtomicBool, Ordering};

use huntaway_wire::Partition;

use crate::disk::Disk;
use crate::partition::Slot;
use crate::store::Store;
use crate::wal::{Hole, Lsn};

/// The log's holes. They stay in it, for whoever opens it next, until somebody says that he knows.
#[derive(Debug, Default)]
pub(crate) struct LogDamage {
    holes: Vec<Hole>,
    is_known: AtomicBool,
    /// No index needs any more what may have been in them.
    is_settled: AtomicBool,
}

impl LogDamage {
    pub(crate) fn new(holes: &[Hole]) -> Self {
        for Hole { from, to, partition } in holes {
            let partition = partition.map(tracing::field::display);
            tracing::error!(%from, %to, partition, "records of the write-ahead log that were on stable storage are unreadable");
        }
        Self { holes: holes.to_vec(), ..Self::default() }
    }

    /// Whether some of it may have been the partition's.
    pub(crate) fn concerns(&self, partition: Partition) -> bool {
        self.holes.iter().any(|hole| hole.partition.is_none_or(|whose| whose == partition))
    }

    /// From where on the log is needed for it.
    pub(crate) fn needed(&self) -> Option<Lsn> {
        let first = self.holes.first().map(|hole| hole.from);
        first.filter(|_| !self.is_settled.load(Ordering::Acquire))
    }

    /// Whether indexes are to be made good for it to be needed no more.
    pub(crate) fn is_to_be_settled(&self) -> bool {
        self.needed().is_some() && self.is_known.load(Ordering::Acquire)
    }

    /// All indexes were made good.
    pub(crate) fn settle(&self) {
        self.is_settled.store(true, Ordering::Release);
    }
}

impl<D: Disk> Store<D> {
    /// Whether the log may lack what the partition had in it, on stable storage or not, or its index cannot be used: what the
    /// ledger is to hear of a process before it takes part. Only of a store that
    /// [opens a damaged log](crate::StoreOptions::opens_damaged_log).
    pub fn is_log_damaged(&self, partition: Partition) -> bool {
        #[cfg(feature = "planted-bugs")]
        if self.options.has(crate::PlantedBug::LogDamageNotTold) {
            return false;
        }
        // Without its index, nothing is kept of what was in the log.
        let epochs = self.directories[partition.index()];
        let is_there = epochs.found.max(epochs.known).is_some();
        self.damage.concerns(partition)
            || is_there && self.look_up(partition).is_ok_and(|slot| matches!(*slot, Slot::Damaged))
    }

    /// Says that the ledger knows which partitions' logs are damaged. Until then whoever opens the store next is told, too.
    pub fn log_damage_is_known(&self) {
        self.damage.is_known.store(true, Ordering::Release);
        self.ring_unapplied();
    }

    /// What the log lacks may be what explains the index of a partition, or its absence: before it is as if nothing were missing,
    /// all indexes that this concerns are made good by the next application. False if one cannot be read now.
    pub(crate) fn load_concerned(&self) -> bool {
        let is_there = |partition: &Partition| self.directories[partition.index()].found.is_some();
        let mut concerned =
            Partition::all().filter(|partition| is_there(partition) && self.damage.concerns(*partition));
        concerned.all(|partition| match self.look_up(partition).as_deref() {
            Ok(Slot::Loaded(state)) => {
                if state.is_inherited {
                    self.dirty.insert(partition);
                }
                true
            }
            Ok(Slot::Damaged) => true,
            Ok(Slot::Untouched) | Err(_) => false,
        })
    }
}
