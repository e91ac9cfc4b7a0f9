//! What is missing from a log that was opened although it is damaged.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use huntaway_replica::Entry;
use huntaway_wire::Partition;

use crate::disk::Disk;
use crate::index::index_path;
use crate::locking::lock;
use crate::memory::Memory;
use crate::partition::{Epochs, PartitionState, Slot, directory_name};
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

    /// Says that the ledger knows which partitions' logs are damaged. Until then whoever opens the store next is told, too. From
    /// then on what has no index that can be used is an empty partition, to be taught like any other.
    pub fn log_damage_is_known(&self) {
        for partition in Partition::all() {
            if let Err(error) = self.begin_anew(partition) {
                tracing::error!(%partition, %error, "a partition whose index cannot be used cannot be made anew");
            }
        }
        self.damage.is_known.store(true, Ordering::Release);
        self.ring_unapplied();
    }

    /// The partition gets an index with nothing in it, if it has one that is damaged. The files of its objects are leftovers then.
    fn begin_anew(&self, partition: Partition) -> Result<(), Box<dyn std::error::Error>> {
        let slot = || lock(&self.partitions[partition.index()]);
        if !matches!(*slot(), Slot::Damaged) {
            return Ok(());
        }
        let epochs = Epochs { known: None, ..self.directories[partition.index()] };
        let path = index_path(&directory_name(partition, epochs.of_directory()));
        match self.disk.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let nothing = (Some(Memory::new(self.account.clone())), true);
        let anew =
            PartitionState::load(&*self.disk, partition, epochs, self.pepoch(), nothing, &self.account)?;
        *slot() = Slot::Loaded(Box::new(anew));
        // What the log has of it counts as little.
        self.log_entry(partition, &Entry::Forget).inspect_err(|_| *slot() = Slot::Damaged)?;
        Ok(())
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
