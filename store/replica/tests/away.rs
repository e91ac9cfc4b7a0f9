//! A node that was away gets what was written meanwhile, and hardly more; and no faster than it may.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use huntaway_replica::{
    Block, Body, Configuration, Credit, Input, Lesson, Message, Moment, Outcome, Output, Page, Process,
    Recovered, Replica, Reply, SetChange, Stored,
};
use huntaway_wire::{BLOCK_SIZE_BYTES, Incarnation, NodeId, ObjectKind, Oid, Partition, Pepoch, Version};
use support::{configuration, vid};

const PRIMARY: Process = Process { node: NodeId([1; 16]), incarnation: Incarnation(1) };
const LEARNER: Process = Process { node: NodeId([2; 16]), incarnation: Incarnation(1) };
const PEPOCH: Pepoch = Pepoch(4);
const OBJECTS: u32 = 100;
const BLOCKS: u32 = 8;
const BLOCK_BYTES: u64 = BLOCK_SIZE_BYTES as u64;

/// The blocks of a store.
#[derive(Clone, Default, PartialEq, Debug)]
struct Store(BTreeMap<Oid, BTreeMap<u32, Stored>>);

impl Store {
    fn write(&mut self, object: u32, block: u32, seq: u32) {
        let content = Some(Block::new(Bytes::from(vec![seq as u8; BLOCK_SIZE_BYTES as usize])));
        let stored = Stored { version: Version { pepoch: 3, seq }, content };
        self.0.entry(oid(object)).or_default().insert(block, stored);
    }

    fn page(&self, after: Option<Oid>, most: usize) -> Page {
        let sum = |blocks: &BTreeMap<u32, Stored>| {
            blocks.values().map(|stored| u64::from(stored.version.seq) * 7919).sum::<u64>()
        };
        let rest: Vec<_> = self.0.iter().filter(|(oid, _)| after.is_none_or(|after| **oid > after)).collect();
        let objects = rest.iter().take(most).map(|(oid, blocks)| (**oid, Some(sum(blocks)))).collect();
        Page { objects, is_last: rest.len() <= most }
    }

    fn versions(&self, oid: Oid) -> Vec<(u32, Version)> {
        let blocks = self.0.get(&oid).into_iter().flatten();
        blocks.map(|(block, stored)| (*block, stored.version)).collect()
    }

    fn read(&self, oid: Oid, blocks: std::ops::Range<u32>) -> Vec<Stored> {
        let block = |block| self.0.get(&oid).and_then(|blocks| blocks.get(&block)).cloned();
        blocks.map(|number| block(number).unwrap_or_default()).collect()
    }

    fn learn(&mut self, lesson: Lesson) -> Reply {
        match lesson {
            Lesson::Digests { after, most } => return Reply::Digests(self.page(after, most)),
            Lesson::Versions { oid } => return Reply::Versions(self.versions(oid)),
            Lesson::Copy { oid, blocks } | Lesson::Replace { oid, blocks } => {
                let object = self.0.entry(oid).or_default();
                object.extend(blocks.iter().map(|copied| (copied.block, copied.stored.clone())));
            }
            Lesson::Remove { oid } => drop(self.0.remove(&oid)),
            _ => {}
        }
        Reply::Done
    }
}

fn oid(object: u32) -> Oid {
    Oid::new(ObjectKind::Data, vid(), object)
}

/// Every object in full.
fn full() -> Store {
    let mut store = Store::default();
    (0..OBJECTS * BLOCKS).for_each(|number| store.write(number / BLOCKS, number % BLOCKS, number + 1));
    store
}

/// Teaches until the learner is proposed. Returns the bytes that were copied and how long it took.
fn taught(here: &Store, there: &mut Store, bytes_per_second: u64) -> (u64, u64) {
    let mut now = Moment(1_000_000);
    let partition = Partition::new(7).expect("there are more");
    let mut replica = Replica::new(partition, PRIMARY, now, Recovered::default());
    now = now.after(700_000);
    let began = now;
    let _ = replica.step(now, Input::LedgerLease { until: now.after(1 << 40) });
    let configuration = Configuration { candidates: vec![LEARNER], ..configuration(PEPOCH, &[PRIMARY]) };
    let mut inputs = vec![Input::Configured(Arc::new(configuration))];
    for _ in 0..100_000 {
        while !inputs.is_empty() {
            for output in replica.step(now, inputs.remove(0)) {
                match answered(here, there, output) {
                    Ok(answer) => inputs.extend(answer),
                    Err(Proposed) => return (replica.copied_bytes(), now.since(began)),
                }
            }
        }
        now = now.after(10_000);
        inputs.extend([Input::Tick, Input::Teach { learner: LEARNER, bytes_per_second }]);
    }
    panic!("nobody was proposed");
}

struct Proposed;

/// What the primary's store or the learner says to it.
fn answered(here: &Store, there: &mut Store, output: Output) -> Result<Option<Input>, Proposed> {
    let stored = |ticket, outcome| Ok(Some(Input::Stored { ticket, outcome }));
    match output {
        Output::Log { ticket, .. } | Output::Sync { ticket } => stored(ticket, Outcome::Done),
        Output::Digests { ticket, after, most } => stored(ticket, Outcome::Digests(here.page(after, most))),
        Output::Versions { ticket, oid } => stored(ticket, Outcome::Versions(here.versions(oid))),
        Output::Read { ticket, oid, blocks } => stored(ticket, Outcome::Blocks(here.read(oid, blocks))),
        Output::Propose(proposal) if proposal.change == SetChange::Promote(LEARNER) => Err(Proposed),
        Output::Send { to: LEARNER, message } => {
            let body = match message.body {
                Body::Ask { attempt, step, lesson } => {
                    Body::Reply { attempt, step, reply: there.learn(lesson) }
                }
                Body::Beacon { sent, attempt, .. } => {
                    Body::Granted { sent, credit: Credit::ENDLESS, attempt }
                }
                _ => return Ok(None),
            };
            Ok(Some(Input::Received { from: LEARNER, message: Message { pepoch: PEPOCH, body } }))
        }
        _ => Ok(None),
    }
}

#[test]
fn who_was_away_gets_what_was_written_meanwhile_and_hardly_more() {
    let (mut here, mut there) = (full(), full());
    let written: Vec<(u32, u32)> = (0..OBJECTS).step_by(9).map(|object| (object, object % BLOCKS)).collect();
    for ((object, block), seq) in written.iter().zip(10_000..) {
        here.write(*object, *block, seq);
    }
    here.write(OBJECTS, 0, 20_000);
    there.write(OBJECTS + 1, 0, 30_000);
    let (copied, _) = taught(&here, &mut there, 1 << 30);
    assert_eq!(there, here);
    let bytes = (written.len() as u64 + 1) * BLOCK_BYTES;
    assert!(copied * 10 <= bytes * 11, "{copied} bytes were copied of {bytes} that were written");
}

#[test]
fn who_was_not_away_for_long_gets_nothing() {
    let (copied, _) = taught(&full(), &mut full(), 1 << 30);
    assert_eq!(copied, 0);
}

#[test]
fn a_new_learner_gets_everything_no_faster_than_it_may() {
    let (here, mut there) = (full(), Store::default());
    let bytes = u64::from(OBJECTS * BLOCKS) * BLOCK_BYTES;
    let (copied, us) = taught(&here, &mut there, bytes / 10);
    assert_eq!((copied, there), (bytes, here));
    assert!((8_500_000..11_000_000).contains(&us), "it took {us} microseconds, not 10 seconds");
}
