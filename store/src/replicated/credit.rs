//! What a partition's replica may promise to take, so that no write that has a version is refused for space.
//!
//! Space on the disk is granted: what one partition was told is there for it alone, until its writes take it. It is set aside
//! among what was promised to writes that are not applied yet, so nobody is told of it twice. The log is not: it is a queue,
//! which application empties, and what application needs is set aside. So each partition may always have one of the largest
//! writes there are in the log; whoever logs it may have to apply first ([`LogError::Full`](crate::LogError::Full)).

use huntaway_replica::{Credit, Record, WHOLE_OBJECT_BYTES};
use huntaway_wire::{Broken, Error, Partition};

use crate::disk::Disk;
use crate::partition::PartitionState;
use crate::store::Store;
use crate::wal::Lsn;

/// What the largest write takes of the log, and of the disk: each partition is granted as much at a time.
const GRANTED_BYTES: u64 = WHOLE_OBJECT_BYTES;

/// What is never granted: blocks that are put in place take it, so that what is damaged on a full disk can be mended.
const KEPT_FOR_MENDING_BYTES: u64 = WHOLE_OBJECT_BYTES;

/// What a partition's writes took since the store was opened, and what it was granted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Grant {
    taken_bytes: u64,
    taken_space_bytes: u64,
    granted_bytes: u64,
    granted_space_bytes: u64,
    /// How often in a row the disk had no room for more; up to where the log was applied the last time; and where it gave space back
    /// the first time: what gives some back later is not waited for, or there were no end to it.
    refused: u32,
    refused_at: Lsn,
    frees: Lsn,
}

/// A full disk is looked at for a partition after it was asked for more room so often, and whenever something was applied: only others
/// may have freed something meanwhile, and thousands of partitions ask a few times in a second.
const ASKED_IN_VAIN: u32 = 16;

impl Grant {
    /// What is granted of the disk and not taken yet.
    fn left_space_bytes(&self) -> u64 {
        self.granted_space_bytes.saturating_sub(self.taken_space_bytes)
    }

    fn credit(&self, is_full: bool) -> Credit {
        Credit { limit_bytes: self.granted_bytes, space_limit_bytes: self.granted_space_bytes, is_full }
    }

    /// The record was logged. Returns what is not set aside for the partition any more.
    fn take(&mut self, record: &Record) -> u64 {
        let before = self.left_space_bytes();
        self.taken_bytes += record.size_bytes();
        self.taken_space_bytes += record.space_bytes();
        before - self.left_space_bytes()
    }
}

impl<D: Disk> Store<D> {
    /// Up to where a partition's replica may promise to take writes ([`huntaway_replica::Input::Room`]), counted since the store
    /// was opened. To be asked when its replica wants to know.
    ///
    /// As much as a whole object takes is kept on the disk for each partition that this is asked of. What is rolled forward without
    /// having been granted comes out of [`StoreOptions::space_reserve_bytes`](crate::StoreOptions::space_reserve_bytes).
    ///
    /// # Errors
    /// `Broken`: the partition cannot be used, and nor can its replica. Else it may be another time.
    pub fn credit(&self, partition: Partition) -> Result<Credit, Error> {
        let damaged = || Broken::DiskFailed { disk: self.options.directory.clone() };
        self.with_partition(partition, |state| Ok(self.grant(state)), damaged)
    }

    fn grant(&self, state: &mut PartitionState) -> Credit {
        let has_room = self.wal.live_bytes() < self.options.wal_bytes / 2;
        let grant = &mut state.grant;
        // Whoever has a lot in the log waits until that is applied.
        if has_room || state.memory.is_empty() {
            grant.granted_bytes = grant.granted_bytes.max(grant.taken_bytes + GRANTED_BYTES);
        }
        let more_bytes = GRANTED_BYTES.saturating_sub(grant.left_space_bytes());
        let applied = self.room.applied();
        if grant.refused_at == applied && !grant.refused.is_multiple_of(ASKED_IN_VAIN) {
            grant.refused = grant.refused.wrapping_add(1).max(1);
            let is_full = !self.may_grow_for(grant.frees);
            return grant.credit(is_full);
        }
        let granted = self.room.promise_beside(&*self.disk, more_bytes, KEPT_FOR_MENDING_BYTES);
        #[cfg(feature = "planted-bugs")]
        if granted.is_ok() && self.options.has(crate::PlantedBug::GrantsCountedTwice) {
            self.room.give_back(more_bytes);
        }
        let mut is_full = false;
        match granted {
            // What was taken beyond it was rolled forward.
            Ok(()) => {
                grant.refused = 0;
                grant.granted_space_bytes =
                    grant.granted_space_bytes.max(grant.taken_space_bytes + GRANTED_BYTES);
            }
            Err(_) => {
                if grant.refused == 0 {
                    grant.frees = self.room.frees();
                }
                (grant.refused, grant.refused_at) = (1, applied);
                is_full = !self.may_grow_for(grant.frees);
            }
        }
        grant.credit(is_full)
    }

    /// Whether there may be more space soon: records up to `frees` give some back when they are applied, or the log does, which holds
    /// more than its bound.
    fn may_grow_for(&self, frees: Lsn) -> bool {
        self.room.may_grow_for(frees) || self.wal.has_surplus()
    }

    /// A write was logged: what it takes is not set aside for its partition any more.
    pub(super) fn spend(&self, state: &mut PartitionState, record: &Record) {
        let bytes = state.grant.take(record);
        #[cfg(feature = "planted-bugs")]
        if self.options.has(crate::PlantedBug::GrantsCountedTwice) {
            return;
        }
        self.room.give_back(bytes);
    }
}
