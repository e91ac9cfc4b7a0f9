//! A store is what its model is: after any entries of several partitions in one log, and any crashes, both have the same blocks,
//! and know the same.

use std::sync::Arc;

use bytes::Bytes;
use huntaway_replica::{
    Block, Change, Completion, Content, CopiedBlock, Entry, Moment, Outcome, Process, Record, Recovered,
    Replica, RequestId, Requests, SET_ASIDE_BLOCK, SET_ASIDE_VERSION, Stored,
};
use huntaway_wire::{
    BLOCK_SIZE_BYTES, Durability, Incarnation, NodeId, ObjectKind, Oid, Partition, Version, Vid,
};

use super::{Crash, ModelStorage, RealDisk, RealStorage, Storage};
use crate::Random;

const SEEDS: u64 = 300;
const STEPS: u64 = 80;
const OBJECTS: u64 = 3;
const PARTITIONS: u16 = 3;

/// Blocks of the largest writes: a log has room for a few of them.
const MANY_BLOCKS: usize = 500;

fn partition(number: usize) -> Partition {
    Partition::new(number as u16 + 5).unwrap()
}

fn oid(random: &mut Random) -> Oid {
    Oid::new(ObjectKind::Data, Vid::new(1).unwrap(), random.below(OBJECTS) as u32)
}

fn version(random: &mut Random) -> Version {
    Version { pepoch: random.between(1, 3) as u32, seq: random.between(1, 20) as u32 }
}

fn block(random: &mut Random) -> u32 {
    if random.percent(90) { random.below(6) as u32 } else { random.between(1018, 1023) as u32 }
}

fn content(random: &mut Random) -> Content {
    let byte = random.draw() as u8;
    random.percent(70).then(|| Block::new(Bytes::from(vec![byte; BLOCK_SIZE_BYTES as usize])))
}

fn record(random: &mut Random) -> Record {
    let first_block = block(random);
    let most = u64::from(1024 - first_block).min(4);
    let change = match random.below(11) {
        0 => Change::Write { first_block: 7, blocks: vec![content(random); MANY_BLOCKS] },
        1 if random.percent(40) => Change::Reserve,
        1 => Change::Remove,
        2 => Change::Nothing,
        3 => {
            let start = random.below(6) as u32;
            let end = start + random.between(1, 3) as u32;
            let last = random.pick(&[1024, SET_ASIDE_BLOCK + 1]);
            Change::Free { runs: vec![start..end, end + 1..last] }
        }
        _ => {
            let blocks = (0..random.between(1, most)).map(|_| content(random)).collect();
            Change::Write { first_block, blocks }
        }
    };
    let gateway = Process { node: NodeId([7; 16]), incarnation: Incarnation(random.between(1, 2)) };
    Record {
        version: version(random),
        oid: oid(random),
        change,
        completion: random.pick(&[Completion::Done, Completion::Miscompare { offset: 9 }]),
        request: random.percent(80).then(|| RequestId { gateway, number: random.between(1, 30) }),
        unanswered_from: random.below(10),
        durability: random.pick(&[Durability::Logged, Durability::Stable]),
    }
}

fn copied(random: &mut Random) -> Arc<Vec<CopiedBlock>> {
    let mut blocks: Vec<u32> = (0..random.below(5)).map(|_| block(random)).collect();
    blocks.sort_unstable();
    blocks.dedup();
    if random.percent(20) {
        blocks.push(SET_ASIDE_BLOCK);
    }
    let copy = |block| {
        if block == SET_ASIDE_BLOCK {
            let version = random.pick(&[Version::NEVER, SET_ASIDE_VERSION]);
            return CopiedBlock { block, stored: Stored { version, content: None }, is_lost: false };
        }
        let stored = match random.below(4) {
            0 => Stored::default(),
            _ => Stored { version: version(random), content: content(random) },
        };
        CopiedBlock { block, stored, is_lost: random.percent(15) }
    };
    Arc::new(blocks.into_iter().map(copy).collect())
}

fn entry(random: &mut Random) -> Entry {
    match random.below(100) {
        0..55 => Entry::Write { record: Arc::new(record(random)), settled: version(random) },
        55..72 => Entry::Copy { oid: oid(random), blocks: copied(random) },
        72..82 => Entry::Replace { oid: oid(random), blocks: copied(random) },
        82..87 => Entry::Remove { oid: oid(random) },
        87..89 => Entry::Forget,
        _ => {
            let mut requests = Requests::default();
            (0..random.below(5)).for_each(|_| requests.add(&record(random)));
            let in_doubt = (0..random.below(3)).map(|_| Arc::new(record(random))).collect();
            Entry::Known { requests: Arc::new(requests), settled: version(random), in_doubt }
        }
    }
}

/// What a replica knows that recovered that.
fn knowledge(recovered: Recovered) -> Entry {
    let me = Process { node: NodeId([1; 16]), incarnation: Incarnation(1) };
    Replica::new(partition(0), me, Moment(0), recovered).checkpoint()
}

/// The entries of each partition, in the order of the log.
type Log = Vec<(usize, Entry)>;

fn of(log: &[(usize, Entry)], number: usize) -> impl Iterator<Item = &Entry> {
    log.iter().filter(move |(whose, _)| *whose == number).map(|(_, entry)| entry)
}

fn known_after(log: &[(usize, Entry)], number: usize) -> Entry {
    let mut recovered = Recovered::default();
    of(log, number).for_each(|entry| recovered.take(entry));
    knowledge(recovered)
}

fn model_of(log: &[(usize, Entry)], number: usize) -> ModelStorage {
    let mut model = ModelStorage::new(0, None, None);
    of(log, number).for_each(|entry| {
        model.log(entry.clone());
    });
    model
}

fn is_same(model: &ModelStorage, real: &RealStorage) -> bool {
    model.objects().difference(&real.objects()).is_none()
}

/// Every question has the same answer.
fn compare(model: &ModelStorage, real: &RealStorage, context: &str) {
    for index in 0..OBJECTS as u32 {
        let oid = Oid::new(ObjectKind::Data, Vid::new(1).unwrap(), index);
        for blocks in [0..6, 2..3, 1018..SET_ASIDE_BLOCK + 1] {
            let (expected, found) = (model.read(oid, blocks.clone()), real.read(oid, blocks));
            assert_eq!(expected, found, "{context}");
        }
        assert_eq!(model.versions(oid), real.versions(oid), "{context}");
        assert_eq!(model.verify(oid), real.verify(oid), "{context}");
        for (after, most) in [(None, 64), (None, 1), (Some(oid), 1)] {
            let (expected, found) = (model.digests(after, most), real.digests(after, most));
            assert!(matches!(expected, Outcome::Digests(_)));
            assert_eq!(expected, found, "{context}");
        }
    }
}

/// A disk with several partitions, and what was logged there.
struct History {
    random: Random,
    storages: Vec<RealStorage>,
    log: Log,
    /// So many of these are on stable storage.
    stable: usize,
    /// The disk dies soon: perhaps while it is read.
    is_doomed: bool,
    /// The newest segment of the log that was seen.
    newest_segment: String,
    context: String,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let disk = RealDisk::new(false, None, &mut random);
        let new = |number| RealStorage::new(partition(number), &disk);
        let storages = (0..usize::from(PARTITIONS)).map(new).collect();
        let (log, newest_segment, context) = (Log::new(), String::new(), String::new());
        Self { random, storages, log, stable: 0, is_doomed: false, newest_segment, context }
    }

    fn log(&mut self, number: usize, entry: Entry) {
        let may_wait = matches!(entry, Entry::Copy { .. } | Entry::Replace { .. });
        self.log.push((number, entry.clone()));
        let refused = self.storages[number].refused();
        self.storages[number].log(entry);
        // Blocks that are put in place have to wait for the log, and nothing came of them.
        if may_wait && self.storages[number].refused() > refused && !self.storages[number].has_failed() {
            self.log.pop();
            self.storages[number].waits_for_room();
        }
        self.newest_segment = self.storages[0].segments().into_iter().max().unwrap_or_default();
        for due in self.storages[0].checkpoints_due() {
            let number = usize::from(due.value()) - 5;
            let known = known_after(&self.log, number);
            self.log.push((number, known.clone()));
            self.storages[number].log(known);
        }
    }

    fn sync(&mut self) {
        self.storages[0].synced(0);
        if !self.storages[0].has_failed() {
            self.stable = self.log.len();
        }
    }

    fn compare(&self) {
        for (number, real) in self.storages.iter().enumerate() {
            compare(&model_of(&self.log, number), real, &self.context);
        }
    }

    /// What is left is a beginning of the log: the same of all partitions.
    fn crash(&mut self) {
        let refused: u64 = self.storages.iter().map(RealStorage::refused).sum();
        let taken = self.log.len() - refused as usize;
        let kind = self.random.pick(&[Crash::Killed, Crash::PowerLost]);
        let least = if kind == Crash::Killed { taken } else { self.stable };
        for storage in &mut self.storages {
            storage.crash(kind, &mut self.random);
        }
        let context = format!("{}, {kind:?}", self.context);
        assert!(self.storages.iter().all(|storage| storage.is_open() && !storage.is_damaged), "{context}");
        let known: Vec<Entry> =
            self.storages.iter_mut().map(|storage| knowledge(storage.recover())).collect();
        // The process may have died when the entry was in the log already.
        let most = (taken + 1).min(self.log.len());
        let is_left = |count: &usize| {
            let left = &self.log[..*count];
            self.storages.iter().zip(&known).enumerate().all(|(number, (real, known))| {
                known_after(left, number) == *known && is_same(&model_of(left, number), real)
            })
        };
        let count = (least..=most).rev().find(is_left);
        let count = count.unwrap_or_else(|| panic!("{context}: {least} to {most}"));
        self.log.truncate(count);
        // A store that is opened puts all that it finds on stable storage.
        (self.stable, self.is_doomed) = (count, false);
        self.compare();
    }

    fn step(&mut self) {
        // What is dead stays so.
        if !self.is_doomed && self.random.percent(3) {
            let operations = self.random.below(40);
            self.storages[0].die_after(operations);
            self.is_doomed = true;
        }
        match self.random.below(100) {
            0..80 => {
                let number = self.random.below(PARTITIONS.into()) as usize;
                let entry = entry(&mut self.random);
                self.log(number, entry);
            }
            80..90 => self.sync(),
            90..95 if !self.is_doomed => self.compare(),
            90..95 => {}
            _ => self.crash(),
        }
    }
}

#[test]
fn a_store_has_what_its_model_has_whatever_crashes() {
    let mut reused = 0;
    for seed in 0..SEEDS {
        let mut history = History::new(seed);
        for step in 0..STEPS {
            history.context = format!("seed {seed}, step {step}");
            history.step();
        }
        reused += u32::from(history.newest_segment.as_str() > "wal/0000000000000003");
    }
    assert!(reused > 20, "the log was used again in {reused} histories only");
}
