//! The store of a disk as what lies below replicas: their log, with what they know of requests, and their blocks with versions.
//!
//! A replica orders and resolves; what it logs says what blocks become. Versions go down as well as up, a hole is something, and
//! what nobody has any more is remembered as lost. Everything here is carried out at once; whoever drives a replica calls
//! [`Store::sync`] and [`Store::apply`] when they are due, has the partitions of [`Store::checkpoints_due`] tell the log
//! what they know, and those of [`Store::suspects`] have objects mended.

mod credit;
mod damage;
mod looking;
mod meta;
mod replay;
#[cfg(test)]
mod tests;
mod tight;
mod trail;

use std::io::IoSlice;

use huntaway_replica::{Entry, Recovered};
use huntaway_wire::{BLOCK_SIZE_BYTES, Broken, Error, Oid, Partition, Refusal};

pub(crate) use credit::Grant;
pub(crate) use damage::LogDamage;
pub(crate) use meta::{Logged, States, decode};
pub(crate) use replay::{Consequence, Replay};
pub(crate) use tight::Tight;
pub(crate) use trail::Trails;

use crate::disk::Disk;
use crate::locking::lock;
use crate::memory::{Effect, RecentObject};
use crate::object::{Change as BlockChange, Entry as BlockState, FILE_BYTES, NEW_OBJECT_BYTES};
use crate::partition::{Epochs, PartitionState};
use crate::store::Store;
use crate::wal::{Change, Lsn, RecordHeader, Urgency, WalError};
use crate::write::new_bytes;

/// The part of the log's bound after which a partition is to tell the log again what it knows.
const CHECKPOINT_SHARE: u64 = 4;

/// What replicas reckon with is enough.
const _: () = assert!(
    NEW_OBJECT_BYTES <= huntaway_replica::NEW_OBJECT_BYTES
        && FILE_BYTES <= huntaway_replica::WHOLE_OBJECT_BYTES
);

/// Why an entry was not logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// There is no room among the recent writes, or in the log: have checkpoints logged that are due, sync, apply, and try again.
    /// The log's bound is only for blocks that are put in place: all else takes another segment of the disk if need be, but for
    /// writes, which leave alone what the disk has for others.
    #[error("there is no room for recent writes until some are applied")]
    Full,
    /// The disk is full.
    #[error("the disk lacks {needed_bytes} bytes")]
    NoSpace {
        /// How much.
        needed_bytes: u64,
    },
    /// The system is short of something: try again later.
    #[error("the system is short of something")]
    NotNow,
    /// The entry names blocks that no object has, or has blocks of another size: the caller's mistake.
    #[error("the entry has blocks or versions that there cannot be")]
    Malformed,
    /// The partition's index cannot be used: what it had is not known.
    #[error("the partition's index is damaged")]
    DamagedIndex,
    /// The disk has failed.
    #[error("the disk has failed and was stopped")]
    DiskFailed,
}

impl From<Error> for LogError {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(Refusal::NoSpace { needed_bytes }) => Self::NoSpace { needed_bytes },
            Error::Refused(_) => Self::NotNow,
            Error::Broken(Broken::DiskFailed { .. }) => Self::DiskFailed,
            Error::Broken(_) => Self::DamagedIndex,
        }
    }
}

/// Where a record is in the log.
#[derive(Debug, Clone, Copy)]
struct Placed {
    end: Lsn,
    /// Where its data begins.
    payload: Lsn,
}

/// What states mean for the recent writes, when the data is where the record has it.
fn effect(states: States, placed: Placed) -> Effect {
    let mut at = placed.payload;
    let change = |(block, state): (u32, BlockState)| {
        let change = match state {
            BlockState::Data { crc, version } => {
                let change = BlockChange::Data { at, crc, version };
                at = Lsn(at.0 + u64::from(BLOCK_SIZE_BYTES));
                change
            }
            BlockState::Hole { version } => BlockChange::Hole { version },
            BlockState::Lost { version } => BlockChange::Lost { version },
            BlockState::Inherit | BlockState::Damaged => BlockChange::Never,
        };
        (block, change)
    };
    let reserves = states.reserves;
    Effect { replaces: states.replaces, reserves, blocks: states.blocks.into_iter().map(change).collect() }
}

impl<D: Disk> Store<D> {
    /// Adds an entry to a replica's log, and returns where it ends: it survives the process then, and power loss once
    /// [`Store::sync`] has got there. Whoever reads finds it. The data must match its checksums: a record that does not cannot
    /// be read again.
    ///
    /// # Errors
    /// See [`LogError`]. Nothing came of the entry.
    pub fn log_entry(&self, partition: Partition, entry: &Entry) -> Result<Lsn, LogError> {
        self.log_entry_beyond(partition, entry, false)
    }

    /// The same for what has begun and found no room however often it was tried: if need be it takes of the disk what is kept out of
    /// promises ([`StoreOptions::space_reserve_bytes`](crate::StoreOptions::space_reserve_bytes)).
    ///
    /// # Errors
    /// See [`LogError`]. Nothing came of the entry.
    pub fn log_entry_at_last(&self, partition: Partition, entry: &Entry) -> Result<Lsn, LogError> {
        self.log_entry_beyond(partition, entry, true)
    }

    fn log_entry_beyond(&self, partition: Partition, entry: &Entry, is_last: bool) -> Result<Lsn, LogError> {
        self.check_not_failed()?;
        #[cfg(feature = "planted-bugs")]
        let changed = self.log_wrongly(entry);
        #[cfg(feature = "planted-bugs")]
        let entry = changed.as_ref().unwrap_or(entry);
        let damaged = || Broken::DiskFailed { disk: self.options.directory.clone() };
        let work = |state: &mut PartitionState| Ok(self.log_locked(state, entry, is_last));
        // The partition is what is damaged: to a replica on it, that is no better than a disk that failed.
        self.with_partition(partition, work, damaged).map_err(|error| match LogError::from(error) {
            LogError::DiskFailed if !self.has_failed() => LogError::DamagedIndex,
            error => error,
        })?
    }

    fn log_locked(&self, state: &mut PartitionState, entry: &Entry, is_last: bool) -> Result<Lsn, LogError> {
        let records = meta::encode(entry).ok_or(LogError::Malformed)?;
        let states = meta::states(entry);
        let data_bytes = records.iter().map(|record| record.data.len() as u64).sum::<u64>();
        // What has a version is never refused for space: there was room for it when it was promised.
        let may_be_refused = matches!(entry, Entry::Copy { .. } | Entry::Replace { .. });
        if may_be_refused && !self.has_memory_for(data_bytes * u64::from(BLOCK_SIZE_BYTES)) {
            return Err(LogError::Full);
        }
        let promised_bytes =
            states.as_ref().map_or(0, |(oid, states)| self.replicated_bytes(state, *oid, states));
        if !may_be_refused {
            self.room.promise_anyway(promised_bytes);
        } else if let Err(refusal) = self.room.promise(&*self.disk, promised_bytes) {
            let may_grow = self.room.may_grow_for(self.room.frees());
            return Err(if may_grow { LogError::Full } else { Error::from(refusal).into() });
        }
        let logged = self.log_records(state, entry, &records, is_last);
        let placed = logged.inspect_err(|_| self.room.give_back(promised_bytes))?;
        if let Entry::Write { record, .. } = entry {
            self.spend(state, record);
        }
        if let Some((oid, states)) = states {
            let frees = states.replaces || states.reserves == Some(false);
            state.memory.replicate(oid, placed.end, effect(states, placed));
            state.memory.promise(oid, promised_bytes);
            if frees {
                self.room.will_free(placed.end);
            }
            self.ring_unapplied();
        } else if *entry == Entry::Forget {
            let oids: Vec<_> = state.index.oids(None).collect();
            state.memory.forget_all(placed.end, oids);
            self.room.will_free(placed.end);
            self.ring_unapplied();
        }
        Ok(placed.end)
    }

    /// What an entry takes of the disk that was not taken or promised before, at most.
    fn replicated_bytes(&self, state: &PartitionState, oid: Oid, states: &States) -> u64 {
        let is_something = |(_, state): &(u32, BlockState)| *state != BlockState::Inherit;
        if states.reserves != Some(true) && !states.blocks.iter().any(is_something) {
            return 0;
        }
        let recent = state.memory.object(oid);
        // Nothing of a file that cannot be used is used again.
        let found = || self.find_object(state, oid).ok().flatten();
        let object = if recent.is_some_and(RecentObject::starts_anew) { None } else { found() };
        if states.reserves == Some(true) {
            let was_set_aside = object.as_ref().is_some_and(|object| object.content().reserved);
            let is_set_aside = recent.and_then(RecentObject::reservation).unwrap_or(was_set_aside);
            return if is_set_aside { 0 } else { FILE_BYTES };
        }
        let data =
            |(block, state): &(u32, BlockState)| matches!(state, BlockState::Data { .. }).then_some(*block);
        new_bytes(state, oid, object.as_deref(), states.blocks.iter().filter_map(data))
    }

    /// Logs all records of an entry; where the last one is.
    fn log_records(
        &self,
        state: &PartitionState,
        entry: &Entry,
        records: &[meta::Encoded<'_>],
        is_last: bool,
    ) -> Result<Placed, LogError> {
        let partition = state.order.partition();
        let is_known = matches!(entry, Entry::Known { .. });
        if !is_known {
            self.dirty.insert(partition);
        }
        self.trails.begin(partition, self.wal.written());
        // What has a version was promised room, but not that which the disk has for others; what is known is what the log waits for.
        let may_wait = match entry {
            Entry::Copy { .. } | Entry::Replace { .. } => true,
            Entry::Write { .. } if is_last => !self.room.has_beside_promises(self.wal.segment_bytes()),
            Entry::Write { .. } => !self.room.has_left(self.wal.segment_bytes()),
            Entry::Known { .. } | Entry::Remove { .. } | Entry::Forget => false,
        };
        let urgency = if may_wait { Urgency::Usual } else { Urgency::Promised };
        let mut placed: Option<(Lsn, Placed)> = None;
        for record in records {
            let crcs: Vec<u32> = record.data.iter().map(|block| block.crc).collect();
            let payload: Vec<IoSlice<'_>> =
                record.data.iter().map(|block| IoSlice::new(&block.bytes)).collect();
            let oid = record.oid.or_else(meta::no_object).ok_or(LogError::Malformed)?;
            let change = Change::Replicated { meta: &record.meta, crcs: &crcs };
            let header = RecordHeader { partition, oid, version: record.version, change };
            let end = self
                .wal
                .append_as(&header, &payload, urgency)
                .map_err(|error| self.replicated_log_failed(error))?;
            let begins = placed.map_or(Lsn(end.0 - header.logged_bytes()), |(begins, _)| begins);
            placed = Some((begins, Placed { end, payload: header.payload_at(end) }));
        }
        let (begins, placed) = placed.ok_or(LogError::Malformed)?;
        match entry {
            Entry::Known { .. } => self.trails.known(partition, begins, placed.end),
            Entry::Forget => self.trails.known(partition, placed.end, placed.end),
            _ => {}
        }
        Ok(placed)
    }

    fn replicated_log_failed(&self, error: WalError) -> LogError {
        match error {
            WalError::Malformed | WalError::TooLarge { .. } => LogError::Malformed,
            WalError::Full { .. } => LogError::Full,
            WalError::NoSpace { .. } | WalError::Shortage { .. } if self.wal.live_bytes() > 0 => {
                LogError::Full
            }
            WalError::NoSpace { needed_bytes } => LogError::NoSpace { needed_bytes },
            WalError::Shortage { .. } => LogError::NotNow,
            error => self.fail(&error).into(),
        }
    }

    /// Objects whose files are missing or damaged, so that what was written to them could not be applied since this was asked last:
    /// their replicas are to have them mended ([`huntaway_replica::Input::Suspect`]), for the log is kept for them meanwhile.
    pub fn suspects(&self, partition: Partition) -> Vec<Oid> {
        let is_of_it = |suspect: &(Partition, Oid)| suspect.0 == partition;
        lock(&self.suspects).extract_if(.., is_of_it).map(|(_, oid)| oid).collect()
    }

    /// What a partition's replica learns from the log: once, after the store was opened.
    pub fn recovered(&self, partition: Partition) -> Recovered {
        lock(&self.recovered).remove(&partition).unwrap_or_default()
    }

    /// Whether there is anything of the partition here, as far as that is known.
    pub(crate) fn has_something(&self, partition: Partition) -> bool {
        let Epochs { found, known, .. } = self.directories[partition.index()];
        lock(&self.recovered).contains_key(&partition)
            || (found.is_some() || known.is_some()) && self.objects_of(partition) > 0
    }

    /// Removes whatever there is of a partition that is on another disk, or is to begin anew here. Whether the log has it that it is gone.
    pub(crate) fn clears(&self, partition: Partition) -> bool {
        drop(self.recovered(partition));
        let cleared = self.log_entry(partition, &Entry::Forget);
        if let Err(error) = &cleared {
            tracing::warn!(%partition, disk = self.name(), %error, "what a disk has of a partition is not removed yet");
        }
        cleared.is_ok()
    }

    /// The partitions whose replicas are to log an [`Entry::Known`]: what they know is in a part of the log that could be used
    /// again otherwise. Once that is on stable storage, [`Store::apply`] releases the log.
    pub fn checkpoints_due(&self) -> Vec<Partition> {
        self.trails.before(self.told_by())
    }

    /// Whether the partition is one of them, and the log fills up: whoever has its replica take something in, which may have to be
    /// logged, has it tell what it knows first. Half way through that it is too late.
    pub fn wants_checkpoint(&self, partition: Partition) -> bool {
        self.wal.live_bytes() >= self.options.wal_bytes / 4
            && self.trails.is_before(partition, self.told_by())
    }

    fn told_by(&self) -> Lsn {
        let share = self.options.wal_bytes / CHECKPOINT_SHARE;
        Lsn(self.wal.written().0.saturating_sub(share))
    }
}
