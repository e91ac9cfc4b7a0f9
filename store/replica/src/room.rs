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

/// What an object with one block of data takes on the disk more than that block, at most.
pub const NEW_OBJECT_BYTES: u64 = 24 << 10;

/// What an object takes on the disk at most, and when space is set aside for all of it.
pub const WHOLE_OBJECT_BYTES: u64 = NEW_OBJECT_BYTES + huntaway_wire::OBJECT_SIZE_BYTES as u64;

/// What a block of data takes.
const DATA_BYTES: u64 = huntaway_wire::BLOCK_SIZE_BYTES as u64;

/// What a replica promises to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credit {
    /// Bytes of writes ([`Record::size_bytes`]), counted from the beginning of the pepoch, or of the attempt to teach the
    /// replica. It only grows.
    pub limit_bytes: u64,
    /// Bytes that writes may take on the disk that were not taken before ([`Record::space_bytes`]), counted likewise. It only
    /// grows; a store that does not say that it is full promises at least what a whole object takes.
    pub space_limit_bytes: u64,
    /// That does not grow faster than what is counted before something on the disk is freed: whoever waits for it waits for a
    /// person.
    pub is_full: bool,
}

impl Credit {
    /// Nothing is promised yet.
    pub const NONE: Self = Self { limit_bytes: 0, space_limit_bytes: 0, is_full: false };

    /// As much as anybody wants.
    pub const ENDLESS: Self = Self { limit_bytes: u64::MAX, space_limit_bytes: u64::MAX, is_full: false };

    /// Takes in what a replica promises. What overtook it promised more.
    pub(crate) fn hear(&mut self, other: Self) {
        if other.limit_bytes >= self.limit_bytes && other.space_limit_bytes >= self.space_limit_bytes {
            *self = other;
        }
    }

    /// Whether so much in all was promised to be taken.
    pub(crate) fn covers(self, all: Cost) -> bool {
        all.bytes <= self.limit_bytes && all.space_bytes <= self.space_limit_bytes
    }

    /// What keeps a change from going on when so much was counted before.
    pub(crate) fn lack(self, cost: Cost, spent: Cost) -> Option<Lack> {
        let all = spent.plus(cost);
        if all.bytes > self.limit_bytes {
            // The log of a full disk can be applied and used again.
            Some(Lack::ForNow)
        } else if cost.takes_space() && all.space_bytes > self.space_limit_bytes {
            Some(if self.is_full { Lack::ForGood } else { Lack::ForNow })
        } else {
            None
        }
    }
}

/// What changes take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    /// Of the log.
    pub(crate) bytes: u64,
    /// Of the disk, where there was nothing before.
    pub(crate) space_bytes: u64,
}

impl Cost {
    /// Of a record that touches so many blocks, and puts data into so many of them: at worst there is no object yet.
    pub(crate) fn new(blocks: usize, data_blocks: usize) -> Self {
        let data_bytes = DATA_BYTES * data_blocks as u64;
        let bytes = RECORD_BYTES + ENTRY_BYTES * blocks as u64 + data_bytes;
        Self { bytes, space_bytes: if data_blocks > 0 { NEW_OBJECT_BYTES + data_bytes } else { 0 } }
    }

    /// Of a record that sets aside the space of an object.
    pub(crate) fn of_whole_object() -> Self {
        Self { bytes: RECORD_BYTES, space_bytes: WHOLE_OBJECT_BYTES }
    }

    pub(crate) fn takes_space(self) -> bool {
        self.space_bytes > 0
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            space_bytes: self.space_bytes.saturating_add(other.space_bytes),
        }
    }

    pub(crate) fn minus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(other.bytes),
            space_bytes: self.space_bytes.saturating_sub(other.space_bytes),
        }
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
    /// What it takes of the log, at most.
    pub fn size_bytes(&self) -> u64 {
        self.cost().bytes
    }

    /// What it takes on the disk that was not taken before, at most.
    pub fn space_bytes(&self) -> u64 {
        self.cost().space_bytes
    }

    pub(crate) fn cost(&self) -> Cost {
        let blocks = match &self.change {
            Change::Write { blocks, .. } => blocks.len(),
            Change::Free { runs } => runs.iter().map(ExactSizeIterator::len).sum(),
            Change::Reserve => return Cost::of_whole_object(),
            Change::Remove | Change::Nothing => 0,
        };
        Cost::new(blocks, self.contents().iter().flatten().count())
    }
}

/// What the store of one replica promised, and what it took of that.
#[derive(Debug)]
pub(crate) struct Room {
    /// Counted since the process began.
    promised: Credit,
    taken: Cost,
    /// What was taken before the pepoch or the attempt began.
    before: Cost,
}

impl Room {
    pub(crate) fn endless() -> Self {
        Self { promised: Credit::ENDLESS, taken: Cost::default(), before: Cost::default() }
    }

    /// What the store says. It counts what it took since the process began.
    pub(crate) fn promise(&mut self, promised: Credit) {
        self.promised = promised;
    }

    /// Somebody begins to count: what was promised to others and not used is for him.
    pub(crate) fn begin(&mut self) {
        self.before = self.taken;
    }

    /// Whether the record was promised to be taken. A learner may not have what its blocks take the place of.
    pub(crate) fn fits(&self, record: &Record, is_learner: bool) -> bool {
        let cost = record.cost();
        let all = self.taken.plus(cost);
        let has_space = all.space_bytes <= self.promised.space_limit_bytes;
        all.bytes <= self.promised.limit_bytes && (has_space || !is_learner || !cost.takes_space())
    }

    /// Whether less is promised and not taken than so much, of the log or of the disk.
    pub(crate) fn has_less_than(&self, bytes: u64) -> bool {
        let Credit { limit_bytes, space_limit_bytes, .. } = self.promised;
        let left = |limit: u64, taken: u64| limit.saturating_sub(taken);
        left(limit_bytes, self.taken.bytes).min(left(space_limit_bytes, self.taken.space_bytes)) < bytes
    }

    /// Whether the disk was full, as its store said last.
    pub(crate) fn is_full(&self) -> bool {
        self.promised.is_full
    }

    /// Whether the store promised anything since the process began.
    pub(crate) fn is_promised_some(&self) -> bool {
        self.promised != Credit::NONE
    }

    /// The record goes to the log.
    pub(crate) fn take(&mut self, record: &Record) {
        self.taken = self.taken.plus(record.cost());
    }

    /// What is promised to whoever counts now.
    pub(crate) fn credit(&self) -> Credit {
        let limit_bytes = self.promised.limit_bytes.saturating_sub(self.before.bytes);
        let space_limit_bytes = self.promised.space_limit_bytes.saturating_sub(self.before.space_bytes);
        Credit { limit_bytes, space_limit_bytes, ..self.promised }
    }
}
