//! What starts when, with which version.

use std::ops::Range;

use huntaway_wire::{ObjectKind, Oid, Partition, Pepoch, Refusal, Version, Vid};

use super::{Access, Input, OpId, Order, Output, Outputs};

fn order() -> Order {
    Order::new(Partition::new(9).unwrap(), Pepoch(7))
}

fn oid(index: u32) -> Oid {
    Oid::new(ObjectKind::Data, Vid::new(1).unwrap(), index)
}

fn begin(op: u64, access: Access, blocks: Range<u32>) -> Input {
    Input::Begin { op: OpId(op), pepoch: Pepoch(7), access, oid: oid(0), blocks }
}

fn write(op: u64, blocks: Range<u32>) -> Input {
    begin(op, Access::Write, blocks)
}

fn read(op: u64, blocks: Range<u32>) -> Input {
    begin(op, Access::Read, blocks)
}

fn started(op: u64, seq: u32) -> Output {
    Output::Start { op: OpId(op), version: Some(Version { pepoch: 7, seq }) }
}

fn looking(op: u64) -> Output {
    Output::Start { op: OpId(op), version: None }
}

fn acknowledged(op: u64) -> Output {
    Output::Acknowledge { op: OpId(op) }
}

fn outputs(list: &[Output]) -> Outputs {
    list.iter().copied().collect()
}

const LOGGED: fn(u64) -> Input = |op| Input::Logged { op: OpId(op) };
const DONE: fn(u64) -> Input = |op| Input::Done { op: OpId(op) };

#[test]
fn versions_count_from_one_and_follow_the_order_of_starting() {
    let mut order = order();
    assert_eq!(order.step(write(10, 0..1)), outputs(&[started(10, 1)]));
    assert_eq!(order.step(write(11, 1..2)), outputs(&[started(11, 2)]));
    assert_eq!(order.step(LOGGED(11)), outputs(&[acknowledged(11)]));
    assert_eq!(order.step(LOGGED(10)), outputs(&[acknowledged(10)]));
    assert_eq!(order.operations(), 0);
}

#[test]
fn overlapping_writes_go_one_after_another_in_order_of_arrival() {
    let mut order = order();
    order.step(write(1, 0..8));
    assert_eq!(order.step(write(2, 7..9)), outputs(&[]));
    assert_eq!(order.step(write(3, 8..12)), outputs(&[]), "it would overtake 2");
    assert_eq!(order.step(write(4, 20..21)), outputs(&[started(4, 2)]));
    assert_eq!(order.step(LOGGED(1)), outputs(&[acknowledged(1), started(2, 3)]));
    assert_eq!(order.step(LOGGED(2)), outputs(&[acknowledged(2), started(3, 4)]));
}

#[test]
fn reads_wait_for_writes_and_writes_for_reads() {
    let mut order = order();
    assert_eq!(order.step(read(1, 0..4)), outputs(&[looking(1)]));
    assert_eq!(order.step(read(2, 2..6)), outputs(&[looking(2)]));
    assert_eq!(order.step(write(3, 3..4)), outputs(&[]));
    assert_eq!(order.step(read(4, 0..4)), outputs(&[]), "readers do not starve a writer");
    assert_eq!(order.step(DONE(1)), outputs(&[]));
    assert_eq!(order.step(DONE(2)), outputs(&[started(3, 1)]));
    assert_eq!(order.step(LOGGED(3)), outputs(&[acknowledged(3), looking(4)]));
}

#[test]
fn objects_do_not_wait_for_each_other() {
    let mut order = order();
    order.step(write(1, 0..1024));
    let other =
        Input::Begin { op: OpId(2), pepoch: Pepoch(7), access: Access::Write, oid: oid(1), blocks: 0..1024 };
    assert_eq!(order.step(other), outputs(&[started(2, 2)]));
}

#[test]
fn a_failed_write_is_not_acknowledged_and_its_version_is_not_used_again() {
    let mut order = order();
    order.step(write(1, 0..1));
    order.step(write(2, 0..1));
    assert_eq!(order.step(Input::Failed { op: OpId(1) }), outputs(&[started(2, 2)]));
}

#[test]
fn another_pepoch_is_refused_and_changes_nothing() {
    let mut order = order();
    let with = |pepoch| Input::Begin {
        op: OpId(1),
        pepoch: Pepoch(pepoch),
        access: Access::Read,
        oid: oid(0),
        blocks: 0..1,
    };
    let refusal = Refusal::StaleEpoch { newest: Pepoch(7) };
    assert_eq!(order.step(with(6)), outputs(&[Output::Refuse { op: OpId(1), refusal }]));
    let refusal = Refusal::NotServing;
    assert_eq!(order.step(with(8)), outputs(&[Output::Refuse { op: OpId(1), refusal }]));
    assert_eq!(order.operations(), 0);
}

#[test]
fn after_the_last_version_only_reads_are_served() {
    let mut order = order();
    order.last_seq = Version::MAX_SEQ - 1;
    assert_eq!(order.step(write(1, 0..1)), outputs(&[started(1, Version::MAX_SEQ)]));
    let refused = |op| Output::Refuse { op: OpId(op), refusal: Refusal::NotServing };
    assert!(order.is_exhausted());
    assert_eq!(order.step(write(2, 5..6)), outputs(&[refused(2)]));
    assert_eq!(order.step(read(3, 5..6)), outputs(&[looking(3)]));
}

#[test]
fn a_write_that_waited_past_the_last_version_is_refused() {
    let mut order = order();
    order.last_seq = Version::MAX_SEQ - 1;
    order.step(write(1, 0..1));
    order.last_seq -= 1;
    order.step(write(2, 0..1));
    order.last_seq += 1;
    let refused = Output::Refuse { op: OpId(2), refusal: Refusal::NotServing };
    assert_eq!(order.step(LOGGED(1)), outputs(&[acknowledged(1), refused]));
    assert_eq!(order.operations(), 0);
}

#[test]
fn only_so_many_operations_are_taken() {
    let mut order = order();
    for op in 0..Order::MAX_OPERATIONS as u64 {
        order.step(write(op, 0..1));
    }
    let refused = Output::Refuse { op: OpId(9999), refusal: Refusal::NotServing };
    assert_eq!(order.step(write(9999, 0..1)), outputs(&[refused]));
    order.step(LOGGED(0));
    assert_eq!(order.step(write(9999, 0..1)), outputs(&[]));
}

#[test]
fn what_is_said_of_operations_that_do_not_run_is_ignored() {
    let mut order = order();
    order.step(write(1, 0..1));
    order.step(write(2, 0..1));
    for input in [LOGGED(2), LOGGED(3), DONE(2), Input::Failed { op: OpId(2) }] {
        assert_eq!(order.step(input), outputs(&[]));
    }
    assert_eq!(order.operations(), 2);
}

#[test]
fn alone_an_operation_takes_no_memory() {
    let mut order = order();
    let outputs = order.step(write(1, 0..1));
    assert!(!outputs.spilled());
    assert!(!order.step(LOGGED(1)).spilled());
    assert!(!order.locks.has_spilled());
}
