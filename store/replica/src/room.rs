//! Room for writes: how much a replica promises to take in advance, so that no write that has a version is refused for space.
//!
//! Each replica counts the bytes of the writes that it logs, and its store says up to which count it has room: on the disk, in the
//! log and in memory. What was promised is set aside, and never taken back. The primary counts what it gives a version in its
//! pepoch, and lets no change begin that all replicas have not promised to take.

use crate::record::{Change, Record};

/// What a record takes beside its blocks, at most.
const RECORD_BYTES: u64 = 512;

/// What a record takes for each block that it touches, at most, beside the data.
const ENTRY_BYTES: u64 = 8;

/// What a block of data takes.
const DATA_BYTES: u64 = huntaway_wire::BLOCK_SIZE_BYTES as u64;

/// What a replica promises to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credit {
    /// Bytes of writes, counted from the beginning of the pepoch, or of the attempt to teach the replica. It only grows.
    pub limit_bytes: u64,
    /// As long as no more are counted, also for what takes space on the disk that was not taken before. It only grows.
    pub space_limit_bytes: u64,
    /// That does not grow faster than what is counted before something on the disk is freed: whoever waits for it waits for a
    /// person.
    pub is_full: bool,
}

impl Credit {
    /// Nothing was promised yet.
    pub(crate) const NONE: Self = Self { limit_bytes: 0, space_limit_bytes: 0, is_full: false };

    /// As much as anybody wants.
    pub const ENDLESS: Self = Self { limit_bytes: u64::MAX, space_limit_bytes: u64::MAX, is_full: false };

    /// Takes in what a replica promises. What overtook it promised more.
    pub(crate) fn hear(&mut self, other: Self) {
        if other.limit_bytes >= self.limit_bytes && other.space_limit_bytes >= self.space_limit_bytes {
            *self = other;
        }
    }

    /// What keeps a change from going on when `spent_bytes` were counted before.
    pub(crate) fn lack(self, cost: Cost, spent_bytes: u64) -> Option<Lack> {
        let bytes = spent_bytes.saturating_add(cost.bytes);
        if bytes > self.limit_bytes {
            // The log of a full disk can be applied and used again.
            Some(Lack::ForNow)
        } else if cost.takes_space && bytes > self.space_limit_bytes {
            Some(if self.is_full { Lack::ForGood } else { Lack::ForNow })
        } else {
            None
        }
    }
}

/// What a change takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) bytes: u64,
    /// It puts data on the disk where there was none.
    pub(crate) takes_space: bool,
}

impl Cost {
    /// Of a record that touches so many blocks, and puts data into so many of them.
    pub(crate) fn new(blocks: usize, data_blocks: usize) -> Self {
        let bytes = RECORD_BYTES + ENTRY_BYTES * blocks as u64 + DATA_BYTES * data_blocks as u64;
        Self { bytes, takes_space: data_blocks > 0 }
    }
}

/// There is no room; of several replicas the last of these counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lack {
    /// A disk is full.
    ForGood,
    /// Some will be there when what was logged is applied.
    ForNow,
}

impl Record {
    /// What it takes, at most, where it is logged and put on the disk.
    pub fn size_bytes(&self) -> u64 {
        let blocks = match &self.change {
            Change::Write { blocks, .. } => blocks.len(),
            Change::Free { runs } => runs.iter().map(ExactSizeIterator::len).sum(),
            Change::Remove | Change::Nothing => 0,
        };
        Cost::new(blocks, self.contents().iter().flatten().count()).bytes
    }
}

/// What the store of one replica promised, and what it took of that.
#[derive(Debug)]
pub(crate) struct Room {
    /// Counted since the process began.
    promised: Credit,
    taken_bytes: u64,
    /// What was taken before the pepoch or the attempt began.
    before_bytes: u64,
}

impl Room {
    pub(crate) fn endless() -> Self {
        Self { promised: Credit::ENDLESS, taken_bytes: 0, before_bytes: 0 }
    }

    /// What the store says. It counts what it took since the process began.
    pub(crate) fn promise(&mut self, promised: Credit) {
        self.promised = promised;
    }

    /// Somebody begins to count: what was promised to others and not used is for him.
    pub(crate) fn begin(&mut self) {
        self.before_bytes = self.taken_bytes;
    }

    /// Whether the record was promised to be taken. A learner may not have what its blocks take the place of.
    pub(crate) fn fits(&self, record: &Record, is_learner: bool) -> bool {
        let has_data = record.contents().iter().any(Option::is_some);
        let Credit { limit_bytes, space_limit_bytes, .. } = self.promised;
        let limit_bytes =
            if is_learner && has_data { limit_bytes.min(space_limit_bytes) } else { limit_bytes };
        self.taken_bytes.saturating_add(record.size_bytes()) <= limit_bytes
    }

    /// The record goes to the log.
    pub(crate) fn take(&mut self, record: &Record) {
        self.taken_bytes = self.taken_bytes.saturating_add(record.size_bytes());
    }

    /// What is promised to whoever counts now.
    pub(crate) fn credit(&self) -> Credit {
        let limit_bytes = self.promised.limit_bytes.saturating_sub(self.before_bytes);
        let space_limit_bytes = self.promised.space_limit_bytes.saturating_sub(self.before_bytes);
        Credit { limit_bytes, space_limit_bytes, ..self.promised }
    }
}
