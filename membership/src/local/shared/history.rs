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

/// So many hashes are known of the last records, 32 bytes each. Whoever knows only what is older can be on another branch unnoticed.
const MOST_HASHES: usize = 64 << 10;

/// The last records: no gap, and none after the last.
#[derive(Debug)]
pub(super) struct History {
    records: VecDeque<Bytes>,
    /// Of the last record, of those before it, and of none, which has the number 0.
    hashes: VecDeque<RecordHash>,
    /// The last record.
    last: u64,
    bytes: usize,
    most_bytes: usize,
}

impl History {
    /// Of at most so many bytes.
    pub(super) fn new(most_bytes: usize) -> Self {
        let hashes = VecDeque::from([RecordHash::default()]);
        Self { records: VecDeque::new(), hashes, last: 0, bytes: 0, most_bytes }
    }

    /// The records so far are not there, but a ledger, and hashes up to that of its last one.
    pub(super) fn cut(&mut self, ledger: &Ledger, hashes: Vec<RecordHash>) {
        (self.last, self.hashes) = (ledger.state().number(), hashes.into());
    }

    /// Hashes up to that of the last record.
    pub(super) fn hashes(&mut self) -> &[RecordHash] {
        self.hashes.make_contiguous()
    }

    /// `ledger` ends with this record.
    pub(super) fn add(&mut self, ledger: &Ledger, record: Bytes) {
        self.bytes += record.len();
        self.last = ledger.state().number();
        self.records.push_back(record);
        self.hashes.push_back(ledger.hash());
        if self.hashes.len() > MOST_HASHES {
            self.hashes.pop_front();
        }
        while self.bytes > self.most_bytes
            && let Some(record) = self.records.pop_front()
        {
            self.bytes -= record.len();
        }
    }

    /// What leads from the record with this number and hash to the last one.
    pub(super) fn catch_up(&self, number: u64, hash: RecordHash) -> CatchUp {
        let Some(missing) = self.last.checked_sub(number) else { return CatchUp::OldCopy };
        let place = |length: usize, back: u64| length.checked_sub(usize::try_from(back).ok()?);
        let known = place(self.hashes.len(), missing + 1).and_then(|place| self.hashes.get(place));
        if known.is_some_and(|known| *known != hash) {
            return CatchUp::OldCopy;
        }
        match place(self.records.len(), missing) {
            Some(place) if known.is_some() && missing <= MOST_RECORDS => {
                CatchUp::Records(self.records.range(place..).cloned().collect())
            }
            _ => CatchUp::Snapshot,
        }
    }
}

#[cfg(test)]
mod tests {
    use huntaway_ledger::Record;

    use super::*;

    #[test]
    fn who_knows_another_record_is_on_another_branch_however_much_it_lacks() {
        let (mut ledger, mut history) = (Ledger::default(), History::new(200));
        let mut hashes = vec![ledger.hash()];
        for copies in 1..=5 {
            let next = ledger.follow(&Record::Copies { copies, min_copies: 1 }).unwrap();
            ledger = next.ledger;
            history.add(&ledger, next.bytes.into());
            hashes.push(ledger.hash());
        }
        let length = history.records[0].len();
        let kept = 200 / length;
        assert!((1..5).contains(&kept));
        for (number, hash) in (0..).zip(&hashes) {
            let missing = 5 - number as usize;
            match history.catch_up(number, *hash) {
                CatchUp::Records(records) => assert!(records.len() == missing && missing <= kept),
                CatchUp::Snapshot => assert!(missing > kept),
                CatchUp::OldCopy => panic!("{number} is known"),
            }
            assert!(matches!(history.catch_up(number, RecordHash([9; 32])), CatchUp::OldCopy));
        }
        assert!(matches!(history.catch_up(6, hashes[5]), CatchUp::OldCopy));
    }
}
