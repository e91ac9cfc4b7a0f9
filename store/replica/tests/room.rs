//! Writes and the room that replicas promised: whoever lacks some waits or is refused before it has a version.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use huntaway_replica::{
    Answer, Block, Body, Change, Command, Credit, Entry, Input, Lesson, Message, Moment, NEW_OBJECT_BYTES,
    Outcome, Output, Process, Record, Recovered, Refused, Replica, Reply, Request, RequestId,
    SET_ASIDE_BLOCK, SET_ASIDE_VERSION, Stored, WHOLE_OBJECT_BYTES,
};
use huntaway_wire::{
    ByteRange, Durability, Incarnation, NodeId, ObjectKind, Oid, Partition, Pepoch, Stamp, Version,
};
use support::{GATEWAY, configuration, vid};

const PRIMARY: Process = Process { node: NodeId([1; 16]), incarnation: Incarnation(1) };
const MEMBER: Process = Process { node: NodeId([2; 16]), incarnation: Incarnation(1) };
const PEPOCH: Pepoch = Pepoch(1);

/// Later than whatever an earlier process of the node may have granted.
const NOW: Moment = Moment(1_000_000);

/// Room for one write of a block, and a discard of one.
const ONE_WRITE_BYTES: u64 = 5200;

fn oid() -> Oid {
    Oid::new(ObjectKind::Data, vid(), 0)
}

/// What the ledger says to a replica that starts.
fn start(me: Process) -> Replica {
    let mut replica = Replica::new(Partition::new(0).unwrap(), me, Moment(0), Recovered::default());
    let _ = replica.step(NOW, Input::LedgerLease { until: Moment(9_000_000) });
    let _ = replica.step(NOW, Input::Configured(Arc::new(configuration(PEPOCH, &[PRIMARY, MEMBER]))));
    replica
}

fn hears(replica: &mut Replica, from: Process, body: Body) -> Vec<Output> {
    replica.step(NOW, Input::Received { from, message: Message { pepoch: PEPOCH, body } })
}

/// A primary that serves, whose only other replica promised so much.
fn primary(limit_bytes: u64, is_full: bool) -> Replica {
    let mut primary = start(PRIMARY);
    for output in hears(&mut primary, MEMBER, Body::Gathered { records: Vec::new() }) {
        if let Output::Sync { ticket } = output {
            let _ = primary.step(NOW, Input::Stored { ticket, outcome: Outcome::Done });
        }
    }
    hears(&mut primary, MEMBER, Body::RolledForward);
    promises(&mut primary, limit_bytes, is_full);
    assert!(primary.is_serving());
    primary
}

fn promises(primary: &mut Replica, limit_bytes: u64, is_full: bool) -> Vec<Output> {
    // At worst each write makes an object.
    let writes = limit_bytes.div_ceil(ONE_WRITE_BYTES);
    let space_limit_bytes = limit_bytes.saturating_add(writes.saturating_mul(NEW_OBJECT_BYTES));
    let credit = Credit { limit_bytes, space_limit_bytes, is_full };
    hears(primary, MEMBER, Body::Granted { sent: NOW, credit, attempt: 0 })
}

fn request(number: u64, command: Command) -> Input {
    Input::Requested(Request {
        id: RequestId { gateway: GATEWAY, number },
        resend: 1,
        unanswered_from: 1,
        pepoch: PEPOCH,
        stamp: Stamp { incarnation: PRIMARY.incarnation, clock: Duration::from_micros(NOW.0) },
        layout: 1,
        fence: 1,
        command,
    })
}

fn block() -> Block {
    Block::new(Bytes::from(vec![7; 4096]))
}

/// A write to a block of its own.
fn write(number: u64) -> Input {
    let pieces = vec![block()];
    let range = ByteRange::new(number as u32 * 4096, 4096).unwrap();
    request(number, Command::Write { oid: oid(), range, pieces, durability: Durability::Logged })
}

fn discard(number: u64) -> Input {
    let range = ByteRange::new(number as u32 * 4096, 4096).unwrap();
    request(number, Command::Discard { oid: oid(), range, durability: Durability::Logged })
}

/// The requests that are forwarded.
fn forwarded(outputs: &[Output]) -> Vec<u64> {
    records(outputs).iter().filter_map(|record| Some(record.request?.number)).collect()
}

/// Whether nothing is done but that the other replica is asked for room.
fn only_asks_for_room(outputs: &[Output]) -> bool {
    let asks = |output: &Output| {
        let Output::Send { to: MEMBER, message } = output else { return false };
        matches!(message.body, Body::Beacon { wants_room: true, .. })
    };
    outputs.len() == 1 && outputs.iter().all(asks)
}

fn records(outputs: &[Output]) -> Vec<Arc<Record>> {
    let record = |output: &Output| match output {
        Output::Send { message: Message { body: Body::Forward { record, .. }, .. }, .. } => {
            Some(record.clone())
        }
        _ => None,
    };
    outputs.iter().filter_map(record).collect()
}

fn refused(outputs: &[Output]) -> Vec<(u64, Answer)> {
    let answer = |output: &Output| match output {
        Output::Answer { id, answer, .. } => Some((id.number, answer.clone())),
        _ => None,
    };
    outputs.iter().filter_map(answer).collect()
}

#[test]
fn a_write_waits_in_order_until_there_is_room_and_discards_do_not() {
    let mut primary = primary(ONE_WRITE_BYTES, false);
    assert_eq!(forwarded(&primary.step(NOW, write(1))), [1]);
    assert!(only_asks_for_room(&primary.step(NOW, write(2))));
    assert_eq!(primary.step(NOW, write(3)), []);
    assert_eq!(forwarded(&primary.step(NOW, discard(4))), [4]);
    // What overtook this promised more.
    assert_eq!(forwarded(&promises(&mut primary, 10, false)), [0; 0]);
    assert_eq!(forwarded(&promises(&mut primary, 2 * ONE_WRITE_BYTES, false)), [2]);
    assert_eq!(forwarded(&promises(&mut primary, 3 * ONE_WRITE_BYTES, false)), [3]);
}

/// The answer of the primary's store when it is asked what is in the block that is to be written.
fn finds(primary: &mut Replica, outputs: &[Output], content: Option<Block>) -> Vec<Output> {
    let [Output::Read { ticket, .. }] = outputs else { panic!("{outputs:?}") };
    let stored = Stored { version: Version { pepoch: 1, seq: 1 }, content };
    let outcome = Outcome::Blocks(vec![stored]);
    let outputs = primary.step(NOW, Input::Stored { ticket: *ticket, outcome });
    finds_nothing(primary, outputs, false)
}

#[test]
fn when_a_disk_is_full_a_write_may_only_replace_what_is_there() {
    let mut primary = primary(0, true);
    let full = Credit { limit_bytes: ONE_WRITE_BYTES + 4000, space_limit_bytes: 0, is_full: true };
    hears(&mut primary, MEMBER, Body::Granted { sent: NOW, credit: full, attempt: 0 });
    let hole = primary.step(NOW, write(1));
    let refused = refused(&finds(&mut primary, &hole, None));
    assert_eq!(refused, [(1, Answer::Refused(Refused::NoSpace))]);
    let data = primary.step(NOW, write(2));
    assert_eq!(forwarded(&finds(&mut primary, &data, Some(block()))), [2]);
    assert_eq!(forwarded(&primary.step(NOW, discard(3))), [3]);
    // The log is full as well: that passes.
    assert!(only_asks_for_room(&primary.step(NOW, write(4))));
    assert_eq!(primary.step(NOW, write(5)), [] as [Output; 0]);
    let freed = promises(&mut primary, 9 * ONE_WRITE_BYTES, false);
    assert_eq!(forwarded(&freed), [4, 5]);
}

#[test]
fn what_a_new_object_takes_is_counted() {
    let mut primary = primary(0, false);
    let promise = |primary: &mut Replica, space_limit_bytes| {
        let credit = Credit { limit_bytes: u64::MAX, space_limit_bytes, is_full: false };
        hears(primary, MEMBER, Body::Granted { sent: NOW, credit, attempt: 0 })
    };
    promise(&mut primary, NEW_OBJECT_BYTES + 4095);
    assert!(only_asks_for_room(&primary.step(NOW, write(1))));
    assert_eq!(forwarded(&promise(&mut primary, NEW_OBJECT_BYTES + 4096)), [1]);
}

#[test]
fn what_is_damaged_everywhere_is_not_told_to_whom_a_full_disk_refuses() {
    let mut primary = primary(0, true);
    let full = Credit { limit_bytes: u64::MAX, space_limit_bytes: 0, is_full: true };
    hears(&mut primary, MEMBER, Body::Granted { sent: NOW, credit: full, attempt: 0 });
    let mut outputs = primary.step(NOW, write(1));
    let mut answers = Vec::new();
    while let Some(output) = outputs.pop() {
        answers.extend(refused(std::slice::from_ref(&output)));
        outputs.extend(match output {
            // Whether space is set aside is not known of an object that is missing.
            Output::Read { ticket, blocks, .. } => {
                let is_space = blocks.start == SET_ASIDE_BLOCK;
                let outcome =
                    if is_space { Outcome::Missing(Vec::new()) } else { Outcome::Damaged(vec![None]) };
                primary.step(NOW, Input::Stored { ticket, outcome })
            }
            Output::Send { message: Message { body: Body::Inspect { number, lesson }, .. }, .. } => {
                let is_space =
                    matches!(lesson, Lesson::Read { blocks, .. } if blocks.start == SET_ASIDE_BLOCK);
                let reply = if is_space { Reply::Missing(Vec::new()) } else { Reply::Damaged(vec![None]) };
                hears(&mut primary, MEMBER, Body::Inspected { number, reply })
            }
            _ => Vec::new(),
        });
    }
    assert_eq!(answers, [(1, Answer::Refused(Refused::NoSpace))]);
}

/// A primary whose disks are full, but for their logs.
fn full_primary() -> Replica {
    let mut primary = primary(0, true);
    let full = Credit { limit_bytes: u64::MAX, space_limit_bytes: 0, is_full: true };
    hears(&mut primary, MEMBER, Body::Granted { sent: NOW, credit: full, attempt: 0 });
    primary
}

/// The primary's store answers all that it is asked to read: there is nothing, but perhaps space is set aside.
fn finds_nothing(primary: &mut Replica, mut outputs: Vec<Output>, is_set_aside: bool) -> Vec<Output> {
    let mut all = Vec::new();
    while let Some(output) = outputs.pop() {
        if let Output::Read { ticket, blocks, .. } = &output {
            let is_it = is_set_aside && *blocks == (SET_ASIDE_BLOCK..SET_ASIDE_BLOCK + 1);
            let version = if is_it { SET_ASIDE_VERSION } else { Version::NEVER };
            let stored = blocks.clone().map(|_| Stored { version, content: None }).collect();
            let outcome = Outcome::Blocks(stored);
            outputs.extend(primary.step(NOW, Input::Stored { ticket: *ticket, outcome }));
        }
        all.push(output);
    }
    all
}

fn reserve(number: u64) -> Input {
    request(number, Command::Reserve { oid: oid(), durability: Durability::Logged })
}

#[test]
fn what_space_was_set_aside_for_is_written_on_a_full_disk() {
    let mut primary = full_primary();
    let outputs = primary.step(NOW, write(1));
    let none = finds_nothing(&mut primary, outputs, false);
    assert_eq!(refused(&none), [(1, Answer::Refused(Refused::NoSpace))]);
    let outputs = primary.step(NOW, write(2));
    let set_aside = finds_nothing(&mut primary, outputs, true);
    assert_eq!(forwarded(&set_aside), [2]);
}

#[test]
fn space_is_set_aside_once_and_refused_before_it_has_a_version() {
    let mut primary = full_primary();
    let outputs = primary.step(NOW, reserve(1));
    let none = finds_nothing(&mut primary, outputs, false);
    assert_eq!(refused(&none), [(1, Answer::Refused(Refused::NoSpace))]);
    let outputs = primary.step(NOW, reserve(2));
    let known = finds_nothing(&mut primary, outputs, true);
    assert_eq!(records(&known)[0].change, Change::Nothing);
    let mut primary = full_primary();
    let credit = Credit { limit_bytes: u64::MAX, space_limit_bytes: WHOLE_OBJECT_BYTES, is_full: true };
    hears(&mut primary, MEMBER, Body::Granted { sent: NOW, credit, attempt: 0 });
    let outputs = primary.step(NOW, reserve(3));
    let enough = finds_nothing(&mut primary, outputs, false);
    assert_eq!(records(&enough)[0].change, Change::Reserve);
    assert_eq!(records(&enough)[0].space_bytes(), WHOLE_OBJECT_BYTES);
}

/// A disk was full when two changes began, and is not any more when the first one knows what is there; what the other may take
/// is kept for it. The request comes again, and waits like others.
#[test]
fn what_lacks_space_only_for_now_is_not_told_that_there_is_none() {
    let mut primary = full_primary();
    let (first, second) = (primary.step(NOW, write(1)), primary.step(NOW, write(2)));
    let credit = Credit { limit_bytes: u64::MAX, space_limit_bytes: NEW_OBJECT_BYTES + 4096, is_full: false };
    hears(&mut primary, MEMBER, Body::Granted { sent: NOW, credit, attempt: 0 });
    let first = finds_nothing(&mut primary, first, false);
    assert_eq!(refused(&first), [(1, Answer::Refused(Refused::NotServing))]);
    let second = finds_nothing(&mut primary, second, false);
    assert_eq!(forwarded(&second), [2]);
}

#[test]
fn the_primarys_own_store_has_to_have_room_as_well() {
    let mut primary = primary(u64::MAX, false);
    let limited = |limit_bytes| Input::Room(Credit { limit_bytes, ..Credit::ENDLESS });
    let _ = primary.step(NOW, limited(ONE_WRITE_BYTES));
    assert_eq!(forwarded(&primary.step(NOW, write(1))), [1]);
    assert!(primary.wants_room_for(&write(2)));
    assert!(only_asks_for_room(&primary.step(NOW, write(2))));
    assert_eq!(forwarded(&primary.step(NOW, limited(2 * ONE_WRITE_BYTES))), [2]);
}

#[test]
fn a_replica_takes_what_it_promised_and_no_more() {
    let mut primary = primary(u64::MAX, false);
    let forward = |record: &Arc<Record>| {
        let (record, settled) = (record.clone(), Version::NEVER);
        Body::Forward { record, settled, attempt: 0 }
    };
    let writes: Vec<Arc<Record>> =
        (1..3).flat_map(|number| records(&primary.step(NOW, write(number)))).collect();
    let mut member = start(MEMBER);
    let limit_bytes = writes[0].size_bytes();
    let _ = member.step(NOW, Input::Room(Credit { limit_bytes, space_limit_bytes: 0, is_full: true }));
    let is_logged = |outputs: &[Output]| {
        outputs.iter().any(|output| matches!(output, Output::Log { entry: Entry::Write { .. }, .. }))
    };
    assert!(is_logged(&hears(&mut member, PRIMARY, forward(&writes[0]))));
    assert_eq!(hears(&mut member, PRIMARY, forward(&writes[1])), []);
    assert_eq!(member.beyond_credit(), 1);
    let _ = member.step(NOW, Input::Room(Credit::ENDLESS));
    assert!(is_logged(&hears(&mut member, PRIMARY, forward(&writes[1]))));
}
