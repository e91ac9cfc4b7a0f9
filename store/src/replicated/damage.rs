//! What is missing from a log that was opened although it is damaged.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use huntaway_wire::Partition;

use crate::disk::Disk;
use crate::error::{DiskError, is_out_of_files};
use crate::index::{IndexError, set_aside};
use crate::locking::lock;
use crate::memory::Memory;
use crate::partition::{Epochs, OBJECTS, PartitionState, Slot, directory_name};
use crate::store::Store;
use crate::wal::{Hole, Lsn};

/// The log's holes. They stay in it, for whoever opens it next, until somebody says that he knows.
#[derive(Default)]
pub(crate) struct LogDamage {
    holes: Vec<Hole>,
    is_known: AtomicBool,
    /// No index needs any more what may have been in them.
    is_settled: AtomicBool,
    /// What the log says of partitions whose index cannot be used, until they have another one.
    without_index: Mutex<BTreeMap<Partition, Memory>>,
    /// From where on it says that.
    from: Lsn,
    /// Partitions that could not be begun anew when they were to be, for a while.
    put_off: Mutex<BTreeSet<Partition>>,
}

impl LogDamage {
    pub(crate) fn new(holes: &[Hole]) -> Self {
        for Hole { from, to, partition } in holes {
            let partition = partition.map(tracing::field::display);
            tracing::error!(%from, %to, partition, "records of the write-ahead log that were on stable storage are unreadable");
        }
        Self { holes: holes.to_vec(), ..Self::default() }
    }

    /// The partition's index cannot be used: what the log says of it from `from` on is kept in both places.
    pub(crate) fn keep(&mut self, partition: Partition, memory: Memory, from: Lsn) {
        lock(&self.without_index).insert(partition, memory);
        self.from = from;
    }

    /// Whether some of it may have been the partition's.
    pub(crate) fn concerns(&self, partition: Partition) -> bool {
        self.holes.iter().any(|hole| hole.partition.is_none_or(|whose| whose == partition))
    }

    /// From where on the log is needed for it.
    pub(crate) fn needed(&self) -> Option<Lsn> {
        let first = self.holes.first().map(|hole| hole.from);
        let hole = first.filter(|_| !self.is_settled.load(Ordering::Acquire));
        let kept = (!lock(&self.without_index).is_empty()).then_some(self.from);
        hole.into_iter().chain(kept).min()
    }

    /// Whether somebody said that he knows.
    pub(crate) fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Acquire)
    }

    /// Whether indexes are to be made good for it to be needed no more.
    pub(crate) fn is_to_be_settled(&self) -> bool {
        self.needed().is_some() && self.is_known()
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
        #[cfg(feature = "planted-bugs")]
        if self.options.has(crate::PlantedBug::DamagedIndexNotTold) {
            self.begin_all_anew();
        }
        self.damage.concerns(partition)
            || self.has_directory(partition)
                && self.look_up(partition).is_ok_and(|slot| matches!(*slot, Slot::Damaged))
    }

    /// Says that the ledger has heard that logs of the node are [damaged](Self::is_log_damaged): only of a process that told so. Until
    /// then whoever opens the store next is told, too. From then on nobody relies on what was lost, so partitions whose index cannot be
    /// used get another one.
    pub fn log_damage_is_known(&self) {
        self.begin_all_anew();
        self.damage.is_known.store(true, Ordering::Release);
        self.ring_unapplied();
    }

    /// Says that the ledger has heard of the process, which told of no damage: what cannot be used from now on stays so, and is told by
    /// the next one.
    pub fn no_log_damage_was_told(&self) {
        self.damage.is_known.store(true, Ordering::Release);
    }

    fn begin_all_anew(&self) {
        #[cfg(feature = "planted-bugs")]
        if self.options.has(crate::PlantedBug::DamagedIndexStays) {
            return;
        }
        // What the log says of them is not released before it is seen that it is to be applied.
        let _applying = lock(&self.applying);
        // Whoever asked may have been content with one that is damaged.
        for partition in Partition::all().filter(|partition| self.has_directory(*partition)) {
            let Ok(mut slot) = self.look_up(partition) else { continue };
            if let Slot::Damaged = *slot {
                *slot = self.begin_anew(partition);
            }
        }
    }

    /// Whether there are partitions that are to be begun anew and could not: [`Store::apply`] tries it again.
    pub fn is_to_begin_anew(&self) -> bool {
        !lock(&self.damage.put_off).is_empty()
    }

    /// To be called by whoever applies.
    pub(crate) fn begin_anew_again(&self) {
        let put_off = std::mem::take(&mut *lock(&self.damage.put_off));
        for partition in put_off {
            let mut slot = lock(&self.partitions[partition.index()]);
            if let Slot::Damaged = *slot {
                *slot = self.begin_anew(partition);
            }
        }
    }

    /// Whether what the partition has cannot be told now, but perhaps soon: its index cannot be read, or is to be begun anew.
    pub fn is_unreadable_now(&self, partition: Partition) -> bool {
        match self.look_up(partition).as_deref() {
            Ok(Slot::Loaded(_)) => false,
            Ok(Slot::Damaged) => lock(&self.damage.put_off).contains(&partition),
            Ok(Slot::Untouched) | Err(_) => !self.has_failed(),
        }
    }

    fn has_directory(&self, partition: Partition) -> bool {
        let epochs = self.directories[partition.index()];
        epochs.found.max(epochs.known).is_some()
    }

    /// A partition whose index cannot be used, with an empty one and with what the log says of it. It is as if the index had been
    /// in a hole of the log: an object whose file is there, and which the log does not explain, is missing, not empty.
    fn begin_anew(&self, partition: Partition) -> Slot {
        let memory = lock(&self.damage.without_index).remove(&partition);
        let mut memory = Some(memory.unwrap_or_else(|| Memory::new(self.account.clone())));
        let epochs = self.directories[partition.index()];
        let epochs = Epochs { found: Some(epochs.of_directory()), known: None, ..epochs };
        let directory = directory_name(partition, epochs.of_directory());
        let error = match self.make_index_anew(partition, (epochs, &directory), &mut memory) {
            Ok(mut state) => {
                self.room.promise_anyway(state.memory.promise_all());
                lock(&self.known).add(partition, epochs.of_directory());
                self.dirty.insert(partition);
                tracing::warn!(%partition, "the index of a partition was begun anew");
                return Slot::Loaded(Box::new(state));
            }
            Err(IndexError::Io(error)) => DiskError::new("make an index anew in", &directory)(error),
            Err(error) => DiskError::new("use a new index in", &directory)(io::Error::other(error)),
        };
        if error.may_pass() {
            // The log keeps what it has of the partition, for the next try or the next process.
            tracing::warn!(%partition, %error, "the index of a partition cannot be begun anew now");
            lock(&self.damage.put_off).insert(partition);
            let kept = memory.filter(|memory| !memory.is_empty());
            lock(&self.damage.without_index).extend(kept.map(|memory| (partition, memory)));
            return Slot::Damaged;
        }
        self.fail(&error);
        self.trails.give_up(partition);
        Slot::Damaged
    }

    fn make_index_anew(
        &self,
        partition: Partition,
        (epochs, directory): (Epochs, &str),
        memory: &mut Option<Memory>,
    ) -> Result<PartitionState, IndexError> {
        self.disk.create_dir(directory)?;
        // A failed sync is not tried again.
        let is_unsynced = |error| if is_out_of_files(&error) { error } else { io::Error::other(error) };
        self.disk.sync_dir(OBJECTS).map_err(is_unsynced)?;
        set_aside(&*self.disk, directory, self.superblock.incarnation)?;
        PartitionState::load(&*self.disk, partition, epochs, self.pepoch(), (memory, true), &self.account)
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
