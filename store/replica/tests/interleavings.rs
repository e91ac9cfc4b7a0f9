//! Whatever the order in which operations arrive and end, they behave as if each happened at once, in order of arrival
//! where they overlap: a seeded driver with a checker. One seed is one run.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::BTreeMap;
use std::ops::Range;

use huntaway_replica::order::{Access, Input, OpId, Order, Output};
use huntaway_wire::{ObjectKind, Oid, Partition, Pepoch, Version, Vid};

const SEEDS: u64 = 500;
const STEPS: u32 = 400;
const BLOCKS: u32 = 12;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % bound
    }
}

#[derive(Debug, Clone)]
struct Arrived {
    access: Access,
    oid: Oid,
    blocks: Range<u32>,
    running: bool,
    version: Option<Version>,
}

impl Arrived {
    fn conflicts(&self, other: &Self) -> bool {
        let overlap = self.blocks.start < other.blocks.end && other.blocks.start < self.blocks.end;
        self.oid == other.oid && overlap && (self.access == Access::Write || other.access == Access::Write)
    }
}

/// Knows what arrived and did not end, by order of arrival, and the newest acknowledged version of each block.
#[derive(Default)]
struct Checker {
    open: BTreeMap<OpId, Arrived>,
    newest: BTreeMap<(Oid, u32), Version>,
    last_version: Option<Version>,
    started: u64,
}

impl Checker {
    fn check(&mut self, outputs: &[Output], ended: Option<(OpId, bool)>) {
        let acknowledged =
            outputs.iter().filter(|output| matches!(output, Output::Acknowledge { .. })).count();
        assert_eq!(acknowledged, usize::from(ended.is_some_and(|(_, logged)| logged)));
        if let Some((op, logged)) = ended {
            let operation = self.open.remove(&op).unwrap();
            if logged {
                for block in operation.blocks {
                    let before = self.newest.insert((operation.oid, block), operation.version.unwrap());
                    assert!(before < operation.version, "a block's version went back");
                }
            }
        }
        for output in outputs {
            match *output {
                Output::Start { op, version } => self.start(op, version),
                Output::Acknowledge { op } => assert_eq!(ended, Some((op, true))),
                Output::Refuse { .. } => panic!("nothing is to be refused here"),
            }
        }
        self.check_progress();
    }

    fn start(&mut self, op: OpId, version: Option<Version>) {
        let operation = self.open[&op].clone();
        assert!(!operation.running, "started twice");
        for (_, earlier) in self.open.range(..op) {
            assert!(!earlier.conflicts(&operation), "{operation:?} overtook {earlier:?}");
        }
        assert_eq!(version.is_some(), operation.access == Access::Write);
        if version.is_some() {
            assert!(version > self.last_version, "versions must grow");
            self.last_version = version;
        }
        self.started += 1;
        let operation = self.open.get_mut(&op).unwrap();
        (operation.running, operation.version) = (true, version);
    }

    /// Nothing waits without a reason.
    fn check_progress(&self) {
        for (op, waiting) in self.open.iter().filter(|(_, operation)| !operation.running) {
            let blocked = self.open.range(..op).any(|(_, earlier)| earlier.conflicts(waiting));
            assert!(blocked, "{waiting:?} waits for nothing");
        }
    }
}

fn run(seed: u64) -> u64 {
    let mut random = Random(seed);
    let mut order = Order::new(Partition::new(1).unwrap(), Pepoch(3));
    let mut checker = Checker::default();
    for step in 0..STEPS {
        let running: Vec<OpId> =
            checker.open.iter().filter(|(_, operation)| operation.running).map(|(op, _)| *op).collect();
        if step < STEPS / 2 && (running.is_empty() || random.below(100) < 55) {
            arrive(&mut order, &mut checker, &mut random, OpId(step.into()));
        } else if !running.is_empty() {
            let op = running[random.below(running.len() as u64) as usize];
            end(&mut order, &mut checker, &mut random, op);
        }
        assert_eq!(order.operations(), checker.open.len());
    }
    assert!(checker.open.is_empty(), "some never ended");
    checker.started
}

fn arrive(order: &mut Order, checker: &mut Checker, random: &mut Random, op: OpId) {
    let access = if random.below(2) == 0 { Access::Read } else { Access::Write };
    let oid = Oid::new(ObjectKind::Data, Vid::new(1).unwrap(), random.below(2) as u32);
    let start = random.below(BLOCKS.into()) as u32;
    let blocks = start..start + 1 + random.below(4) as u32;
    checker.open.insert(op, Arrived { access, oid, blocks: blocks.clone(), running: false, version: None });
    let outputs = order.step(Input::Begin { op, pepoch: Pepoch(3), access, oid, blocks });
    checker.check(&outputs, None);
}

fn end(order: &mut Order, checker: &mut Checker, random: &mut Random, op: OpId) {
    let (input, logged) = match checker.open[&op].access {
        _ if random.below(10) == 0 => (Input::Failed { op }, false),
        Access::Read => (Input::Done { op }, false),
        Access::Write => (Input::Logged { op }, true),
    };
    let outputs = order.step(input);
    checker.check(&outputs, Some((op, logged)));
}

#[test]
fn operations_take_effect_in_order_of_arrival_where_they_overlap() {
    let started: u64 = (0..SEEDS)
        .map(|seed| {
            std::panic::catch_unwind(|| run(seed)).unwrap_or_else(|_| panic!("failed with seed {seed}"))
        })
        .sum();
    assert!(started > SEEDS * u64::from(STEPS) / 5, "only {started} operations were started");
}
