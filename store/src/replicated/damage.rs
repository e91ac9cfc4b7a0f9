//! What is missing from a log that was opened although it is damaged.

use std::sync::atomic::{AtomicBool, Ordering};

use huntaway_wire::Partition;

use crate::disk::Disk;
use crate::store::Store;
use crate::wal::{Hole, Lsn};

/// The log's holes. They stay in it, for whoever opens it next, until somebody says that he knows.
#[derive(Debug, Default)]
pub(crate) struct LogDamage {
    holes: Vec<Hole>,
    is_known: AtomicBool,
}

impl LogDamage {
    pub(crate) fn new(holes: &[Hole]) -> Self {
        for Hole { from, to, partition } in holes {
            let partition = partition.map(tracing::field::display);
            tracing::error!(%from, %to, partition, "records of the write-ahead log that were on stable storage are unreadable");
        }
        Self { holes: holes.to_vec(), is_known: AtomicBool::new(false) }
    }

    /// Whether some of it may have been the partition's.
    pub(crate) fn concerns(&self, partition: Partition) -> bool {
        self.holes.iter().any(|hole| hole.partition.is_none_or(|whose| whose == partition))
    }

    /// From where on the log is needed for it.
    pub(crate) fn needed(&self) -> Option<Lsn> {
        let first = self.holes.first().map(|hole| hole.from);
        first.filter(|_| !self.is_known.load(Ordering::Acquire))
    }
}

impl<D: Disk> Store<D> {
    /// Whether the log may lack what the partition had in it, on stable storage or not: what the ledger is to hear of a process
    /// before it takes part. Only of a store that [opens a damaged log](crate::StoreOptions::opens_damaged_log).
    pub fn is_log_damaged(&self, partition: Partition) -> bool {
        #[cfg(feature = "planted-bugs")]
        if self.options.has(crate::PlantedBug::LogDamageNotTold) {
            return false;
        }
        self.damage.concerns(partition)
    }

    /// Says that the ledger knows which partitions' logs are damaged. Until then whoever opens the store next is told, too.
    pub fn log_damage_is_known(&self) {
        self.damage.is_known.store(true, Ordering::Release);
    }
}
