//! Lives and deaths of a log: after each, it holds what was durable, in order, and nothing that was lost comes back.

use std::sync::Arc;

use super::super::{Lsn, Wal, WalError};
use super::{append, open};
use crate::disk::{Crash, SeededRandom, SimulatedDisk};

/// What the log may and must hold.
#[derive(Default)]
struct Model {
    /// (end, sequence number) of the records that may be there, in order.
    records: Vec<(Lsn, u32)>,
    durable: Lsn,
    released: Lsn,
    next_seq: u32,
}

impl Model {
    /// One life of the log, which ends in the middle of something.
    fn live(&mut self, disk: &SimulatedDisk, wal: &Wal<SimulatedDisk>, random: &mut SeededRandom) {
        disk.die_after(random.below(60));
        while !disk.is_dead() {
            match random.below(10) {
                0 => self.durable = wal.sync().unwrap_or(self.durable),
                1 => {
                    // Whether a release took effect when the process died during it is not known: replay tells.
                    let aim = Lsn(wal.durable().0.saturating_sub(random.below(9000)));
                    let ends = self.records.iter().map(|(end, _)| *end).filter(|end| *end <= aim);
                    let up_to = ends.max().unwrap_or_default();
                    self.released = self.released.max(up_to);
                    assert!(wal.release(up_to).is_ok() || disk.is_dead());
                }
                _ => self.append(wal, random),
            }
        }
    }

    fn append(&mut self, wal: &Wal<SimulatedDisk>, random: &mut SeededRandom) {
        self.next_seq += 1;
        match append(wal, self.next_seq, 1 + random.below(2) as usize) {
            Ok(end) => self.records.push((end, self.next_seq)),
            Err(WalError::Full { .. }) => {
                if let Ok(durable) = wal.sync() {
                    (self.durable, self.released) = (durable, durable);
                    drop(wal.release(durable));
                }
            }
            // It may be there or not.
            Err(_) => {}
        }
    }

    /// Compares with what replay found, and takes that for the truth from now on.
    fn check(&mut self, crash: Crash, seen: &[(Lsn, u32)], seed: u64) {
        let first = seen.first().map(|(_, seq)| *seq);
        let expected: Vec<_> =
            self.records.iter().filter(|(_, seq)| first.is_none_or(|first| *seq >= first)).copied().collect();
        let known = seen.len().min(expected.len());
        assert_eq!(seen[..known], expected[..known], "seed {seed}");
        let in_doubt = seen.len() - known;
        assert!(in_doubt <= 1 && seen[known..].iter().all(|(_, seq)| *seq == self.next_seq), "seed {seed}");
        let must = |end: Lsn| end > self.released && (crash == Crash::Process || end <= self.durable);
        for record in self.records.iter().filter(|(end, _)| must(*end)) {
            assert!(seen.contains(record), "seed {seed}: {record:?} was lost");
        }
        self.records.retain(|record| seen.first().is_none_or(|first| record < first));
        self.records.extend_from_slice(seen);
        self.records
            .retain(|record| seen.last().is_some_and(|last| record <= last) || record.0 <= self.released);
    }
}

fn run(seed: u64) {
    let mut random = SeededRandom::new(seed);
    let disk = Arc::new(SimulatedDisk::new(1 << 30));
    let mut model = Model::default();
    let mut crash = Crash::Process;
    for _ in 0..6 {
        let (wal, seen) = open(&disk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        model.check(crash, &seen, seed);
        model.durable = wal.durable();
        model.live(&disk, &wal, &mut random);
        crash = if random.chance(2, 3) { Crash::Power } else { Crash::Process };
        disk.crash(crash, random.draw());
        if random.chance(1, 3) {
            // It dies once more while it opens.
            disk.die_after(random.below(20));
            drop(open(&disk));
            let again = if random.chance(1, 2) { Crash::Power } else { Crash::Process };
            disk.crash(again, random.draw());
            crash = if again == Crash::Power { again } else { crash };
        }
    }
}

#[test]
fn no_crash_loses_what_was_durable_or_is_taken_for_damage() {
    (0..200).for_each(run);
}
