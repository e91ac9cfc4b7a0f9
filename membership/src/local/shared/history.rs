//! The last records, for followers that know those before them.

use std::collections::VecDeque;

use bytes::Bytes;
use huntaway_ledger::{Ledger, RecordHash};

/// Whoever lacks more gets the state as a whole.
const MOST_RECORDS: u64 = 1024;

/// What a follower is sent to know all.
#[derive(Debug)]
pub(super) enum CatchUp {
    /// These records.
    Records(Vec<Bytes>),
    /// The state as a whole.
    Snapshot,
    /// It knows what this ledger does not have.
    OldCopy,
}

/// Records, each with its number and hash: no gap, and none after the last.
#[derive(Debug)]
pub(super) struct History {
    records: VecDeque<(u64, RecordHash, Bytes)>,
    /// What comes before the first of them.
    before: (u64, RecordHash),
    bytes: usize,
    most_bytes: usize,
}

impl History {
    /// Of at most so many bytes.
    pub(super) fn new(most_bytes: usize) -> Self {
        Self { records: VecDeque::new(), before: (0, RecordHash::default()), bytes: 0, most_bytes }
    }

    /// `ledger` ends with this record.
    pub(super) fn add(&mut self, ledger: &Ledger, record: Bytes) {
        self.bytes += record.len();
        self.records.push_back((ledger.state().number(), ledger.hash(), record));
        while self.bytes > self.most_bytes
            && let Some((number, hash, record)) = self.records.pop_front()
        {
            self.bytes -= record.len();
            self.before = (number, hash);
        }
    }

    /// What leads from the record with this number and hash to the last one.
    pub(super) fn catch_up(&self, number: u64, hash: RecordHash) -> CatchUp {
        let last = self.records.back().map_or(self.before, |(number, hash, _)| (*number, *hash));
        if number < self.before.0 || last.0.saturating_sub(number) > MOST_RECORDS {
            return CatchUp::Snapshot;
        }
        let known =
            [self.before].into_iter().chain(self.records.iter().map(|(number, hash, _)| (*number, *hash)));
        if number > last.0 || !known.into_iter().any(|known| known == (number, hash)) {
            return CatchUp::OldCopy;
        }
        let later = self.records.iter().filter(|(later, _, _)| *later > number);
        CatchUp::Records(later.map(|(_, _, record)| record.clone()).collect())
    }
}
