//! A store is what its model is: after any entries and crashes, both have the same blocks, and know the same.

use std::sync::Arc;

use bytes::Bytes;
use huntaway_replica::{
    Block, Change, Completion, Content, CopiedBlock, Entry, Moment, Outcome, Process, Record, Recovered,
    Replica, RequestId, Requests, SET_ASIDE_BLOCK, SET_ASIDE_VERSION, Stored,
};
use huntaway_wire::{
    BLOCK_SIZE_BYTES, Durability, Incarnation, NodeId, ObjectKind, Oid, Partition, Version, Vid,
};

use super::{Crash, ModelStorage, RealStorage, Storage};
use crate::Random;

const SEEDS: u64 = 400;
const STEPS: u64 = 80;
const OBJECTS: u64 = 3;

fn partition() -> Partition {
    Partition::new(5).unwrap()
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
    let change = match random.below(10) {
        0 => {
            if random.percent(40) {
                Change::Reserve
            } else {
                Change::Remove
            }
        }
        1 => Change::Nothing,
        2 => {
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
    Replica::new(partition(), me, Moment(0), recovered).checkpoint()
}

fn known_after(entries: &[Entry]) -> Entry {
    let mut recovered = Recovered::default();
    entries.iter().for_each(|entry| recovered.take(entry));
    knowledge(recovered)
}

fn model_of(entries: &[Entry]) -> ModelStorage {
    let mut model = ModelStorage::new(0, None, None);
    for entry in entries {
        model.log(entry.clone());
    }
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

/// The entries that are left after a crash.
fn crash(
    real: &mut RealStorage,
    entries: &mut Vec<Entry>,
    random: &mut Random,
    (taken, stable): (u64, u64),
    context: &str,
) {
    let kind = random.pick(&[Crash::Killed, Crash::PowerLost]);
    let least = if kind == Crash::Killed { taken } else { stable };
    real.crash(kind, random);
    assert!(real.is_open(), "{context}, {kind:?}");
    let known = knowledge(real.recover());
    // The process may have died when the entry was in the log already.
    let most = (taken as usize + 1).min(entries.len());
    let mut prefixes = (least as usize..=most).rev();
    let is_left = |count: &usize| {
        let left = &entries[..*count];
        known_after(left) == known && is_same(&model_of(left), real)
    };
    let count = prefixes.find(is_left).unwrap_or_else(|| panic!("{context}, {kind:?}: {least} to {most}"));
    entries.truncate(count);
}

#[test]
fn a_store_has_what_its_model_has_whatever_crashes() {
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let mut real = RealStorage::new(partition(), false, None, &mut random);
        let mut entries = Vec::new();
        let mut stable = 0;
        // The disk dies soon: perhaps while it is read.
        let mut is_doomed = false;
        for step in 0..STEPS {
            let context = format!("seed {seed}, step {step}");
            if random.percent(3) {
                real.die_after(random.below(40));
                is_doomed = true;
            }
            match random.below(100) {
                0..80 => {
                    let entry = entry(&mut random);
                    entries.push(entry.clone());
                    real.log(entry);
                }
                80..90 => {
                    real.synced(0);
                    stable = if real.has_failed() { stable } else { entries.len() as u64 };
                }
                90..95 if !is_doomed => compare(&model_of(&entries), &real, &context),
                90..95 => {}
                _ => {
                    is_doomed = false;
                    let taken = entries.len() as u64 - real.refused();
                    crash(&mut real, &mut entries, &mut random, (taken, stable), &context);
                    // A store that is opened puts all that it finds on stable storage.
                    stable = entries.len() as u64;
                    compare(&model_of(&entries), &real, &context);
                }
            }
        }
    }
}
