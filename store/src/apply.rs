//! Application: recent writes go from the log to the object files, and the log's space is free again.
//!
//! The order is what keeps every promise: the log's records are on stable storage before anything of them is applied;
//! object files, names and indexes are on stable storage before the log is released; memory forgets a block only after
//! the object file holds it.

mod object;
mod partition;

use std::ops::AddAssign;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use huntaway_wire::{Oid, Partition};

use crate::disk::{Disk, Job};
use crate::error::DiskError;
use crate::locking::lock;
use crate::memory::Captured;
use crate::partition::{PartitionState, Slot};
use crate::store::{DiskStopped, Rung, Store, Task};
use crate::wal::Lsn;

/// Partitions whose recent writes are put on stable storage, and held until they are applied, together.
const PARTITIONS_AT_ONCE: usize = 32;

/// What one application did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Applied {
    /// Objects changed, made or removed.
    pub objects: u64,
    /// Blocks changed.
    pub blocks: u64,
    /// Bytes of data written.
    pub bytes: u64,
    /// Objects that the disk had no room for. They stay in the log: free space and apply again.
    pub objects_without_room: u64,
}

impl AddAssign for Applied {
    fn add_assign(&mut self, more: Self) {
        self.objects += more.objects;
        self.blocks += more.blocks;
        self.bytes += more.bytes;
        self.objects_without_room += more.objects_without_room;
    }
}

/// What is to be applied to one partition.
struct Batch {
    partition: Partition,
    objects: Vec<Captured>,
}

/// Why something was not applied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    /// The disk is no good any more.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The file of an object that was sound when it was written to, is not any more.
    #[error("object {0} was damaged while writes to it waited to be applied")]
    Object(Oid),
    /// The operating system is short of something: it may be there later.
    #[error("object {0} cannot be opened now")]
    NotNow(Oid),
}

impl ApplyError {
    /// Whether nothing is wrong, and it may succeed later.
    fn may_pass(&self) -> bool {
        match self {
            Self::Disk(error) => error.may_pass(),
            Self::Object(_) => false,
            Self::NotNow(_) => true,
        }
    }
}

impl<D: Disk> Store<D> {
    /// Whether there is anything to apply.
    pub fn has_unapplied(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Whether [`Store::apply`] should be called now: there are many recent writes, the log fills up, or somebody waits for it.
    pub fn apply_is_due(&self) -> bool {
        self.account.held_bytes() >= self.options.apply_at_bytes
            || self.unapplied_log_bytes() >= self.options.wal_bytes / 2
            || self.backlog.len() > 0
            || self.room.tight.is_wanted()
            || self.waiters.any_for_applied()
    }

    /// Whether whoever applies may sleep until it is rung for: what comes from here on rings. It may have been rung for what he applied
    /// since, of which nothing is left.
    pub(crate) fn rests(&self) -> bool {
        self.rung.clear();
        !self.has_unapplied() && !self.apply_is_due()
    }

    /// Bytes of the log that are not known to be applied.
    fn unapplied_log_bytes(&self) -> u64 {
        let applied = self.wal.released().0.max(self.applied.load(Ordering::Acquire));
        self.wal.written().0.saturating_sub(applied)
    }

    /// Whether what stays in the log would soon leave no room for more.
    fn is_log_filling(&self) -> bool {
        self.wal.live_bytes() >= self.options.wal_bytes / 4 * 3
    }

    /// Applies all that was written before the call, releases the log, and carries out requests that waited for room.
    /// Requests go on meanwhile.
    ///
    /// # Errors
    /// The disk has failed. There is no point in calling again.
    pub fn apply(&self) -> Result<Applied, DiskStopped> {
        let _applying = lock(&self.applying);
        self.rung.clear();
        self.check_not_failed().map_err(|_| DiskStopped)?;
        if self.room.tight.take() {
            // What replicas told for that lets the log go only when it is on stable storage.
            self.sync()?;
        }
        self.begin_anew_again();
        let cut = self.wal.written();
        // What replicas know of requests is in the log alone.
        let needed = self.trails.needed(self.wal.durable());
        #[cfg(feature = "planted-bugs")]
        let needed = needed.filter(|_| !self.options.has(crate::PlantedBug::ReleasedBeforeKnown));
        let settles = self.damage.is_to_be_settled() && self.load_concerned();
        #[cfg(feature = "planted-bugs")]
        if self.options.has(crate::PlantedBug::ReleasedBeforeApplied) {
            self.release_early(cut)?;
        }
        let mut applied = Applied::default();
        for partitions in self.dirty.list().chunks(PARTITIONS_AT_ONCE) {
            let batches = self.capture(partitions);
            self.make_durable(&batches)?;
            applied += self.apply_batches(batches)?;
        }
        // What came after the cut was applied as well, if nothing is left; whoever waits for it would wait for another write.
        let frees = self.room.frees();
        let applied_to = if self.dirty.is_empty() { cut.max(frees) } else { cut };
        self.room.refresh(&*self.disk);
        self.room.freed(applied_to);
        if applied.objects_without_room == 0 {
            self.applied.fetch_max(cut.0, Ordering::AcqRel);
            if settles {
                self.damage.settle();
            }
            self.release(cut, needed.into_iter().chain(self.damage.needed()).min())?;
        }
        self.drain_backlog();
        if self.dirty.is_empty() {
            self.wal.let_go();
        }
        Ok(applied)
    }

    /// Applies batches of different partitions.
    fn apply_batches(&self, batches: Vec<Batch>) -> Result<Applied, DiskStopped> {
        if let Err(error) = self.make_directories(&batches) {
            self.fail(&error);
            return Err(DiskStopped);
        }
        let applied = Mutex::new(Applied::default());
        let job = |batch| -> Job<'_> { Box::new(|| self.apply_batch(batch, &applied)) };
        self.disk.carry_out(batches.into_iter().map(job).collect());
        self.objects.trim();
        self.check_not_failed().map_err(|_| DiskStopped)?;
        Ok(*lock(&applied))
    }

    /// Applies a batch unless the disk has failed meanwhile, or stops the disk.
    fn apply_batch(&self, batch: Batch, sum: &Mutex<Applied>) {
        if self.has_failed() {
            return;
        }
        let mut applied = Applied::default();
        if let Err(error) = self.apply_partition(batch, &mut applied) {
            self.fail(&error);
        }
        *lock(sum) += applied;
        // The room that this partition's recent writes took is there for others now.
        self.drain_backlog();
    }

    /// Copies out what is to be applied of these partitions.
    fn capture(&self, partitions: &[Partition]) -> Vec<Batch> {
        let mut batches = Vec::with_capacity(partitions.len());
        for &partition in partitions {
            let mut slot = lock(&self.partitions[partition.index()]);
            self.dirty.remove(partition);
            if let Slot::Loaded(state) = &mut *slot {
                batches.push(Batch { partition, objects: state.memory.capture() });
            }
        }
        batches
    }

    /// Nothing is applied that a power loss could take out of the log: otherwise the object files could show a later
    /// write without an earlier one.
    fn make_durable(&self, batches: &[Batch]) -> Result<(), DiskStopped> {
        #[cfg(feature = "planted-bugs")]
        if self.options.has(crate::PlantedBug::ApplyBeforeDurable) {
            return Ok(());
        }
        let newest = batches.iter().flat_map(|batch| &batch.objects).map(|captured| captured.lsn).max();
        if newest.is_some_and(|newest| newest > self.wal.durable()) {
            self.sync()?;
        }
        Ok(())
    }

    /// Releases the log up to `cut`, of which all is applied, but for what is `needed` from some place on.
    fn release(&self, cut: Lsn, needed: Option<Lsn>) -> Result<(), DiskStopped> {
        if !self.save_known()? {
            return Ok(());
        }
        // Without a record after it, what was captured up to `cut` may be nothing: then it was durable all along.
        if cut > self.wal.durable() {
            self.sync()?;
        }
        let mut released = self.wal.release(needed.map_or(cut, |needed| needed.min(cut)));
        // While nothing is left to be applied, the mark follows: what was applied is not replayed, so that a record that
        // cannot be read any more does not bring back what was there before it.
        if self.dirty.is_empty() {
            released = released.and_then(|()| self.wal.checkpoint());
        }
        if let Err(error) = released {
            self.fail(&error);
            return Err(DiskStopped);
        }
        self.waiters.applied(cut);
        Ok(())
    }

    /// Puts on stable storage which partitions have an index now: without the log, one that is gone would not be missed.
    /// False if there is no room for it now.
    fn save_known(&self) -> Result<bool, DiskStopped> {
        match lock(&self.known).save(&*self.disk) {
            Ok(()) => Ok(true),
            Err(error) if error.may_pass() => Ok(false),
            Err(error) => {
                self.fail(&error);
                Err(DiskStopped)
            }
        }
    }

    /// Works on a partition that has recent writes, and so is loaded.
    fn with_loaded<R>(&self, partition: Partition, work: impl FnOnce(&mut PartitionState) -> R) -> Option<R> {
        match &mut *lock(&self.partitions[partition.index()]) {
            Slot::Loaded(state) => Some(work(state)),
            Slot::Untouched | Slot::Damaged => None,
        }
    }

    /// Tells whoever applies that there is something to apply, once each time it becomes so, and once more when it
    /// becomes due.
    pub(crate) fn ring_unapplied(&self) {
        let why = if self.apply_is_due() { Rung::Due } else { Rung::Unapplied };
        if self.rung.raise(why) {
            self.ring(Task::Apply);
        }
    }
}
