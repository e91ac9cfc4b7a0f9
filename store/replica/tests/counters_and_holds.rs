//! A primary that is alone: what it makes of requests that are out of date, and of writes that a snapshot holds.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use huntaway_replica::{
    Answer, Block, Command, Configuration, Hold, Input, Moment, Outcome, Output, Process, Recovered, Refused,
    Replica, Request, RequestId, Stored, Ticket, Vdi, Vdis,
};
use huntaway_wire::{ByteRange, Durability, Incarnation, NodeId, ObjectKind, Oid, Partition, Pepoch, Stamp};
use support::{GATEWAY, VDI, vid};

const ME: Process = Process { node: NodeId([1; 16]), incarnation: Incarnation(1) };

/// Later than whatever an earlier process of the node may have granted.
const NOW: Moment = Moment(1_000_000);

fn configuration(vdi: Vdi) -> Input {
    let vdis = Arc::new(Vdis::from_iter([(vid(), vdi)]));
    Input::Configured(Arc::new(Configuration { vdis, ..support::configuration(Pepoch(1), &[ME]) }))
}

fn stored(ticket: Ticket) -> Input {
    Input::Stored { ticket, outcome: Outcome::Done }
}

/// A primary that serves.
fn primary() -> Replica {
    let mut replica = Replica::new(Partition::new(0).unwrap(), ME, Moment(0), Recovered::default());
    let _ = replica.step(NOW, Input::LedgerLease { until: Moment(9_000_000) });
    let outputs = replica.step(NOW, configuration(VDI));
    let synced = outputs.iter().find_map(|output| match output {
        Output::Sync { ticket } => Some(*ticket),
        _ => None,
    });
    let _ = replica.step(NOW, stored(synced.unwrap()));
    assert!(replica.is_serving());
    replica
}

/// A write to the first block, under the counters that the gateway knows.
fn write(number: u64, layout: u64, fence: u64) -> Input {
    let command = Command::Write {
        oid: Oid::new(ObjectKind::Data, vid(), 0),
        range: ByteRange::new(0, 4096).unwrap(),
        pieces: vec![Block::new(Bytes::from(vec![7; 4096]))],
        durability: Durability::Logged,
    };
    Input::Requested(Request {
        id: RequestId { gateway: GATEWAY, number },
        resend: 1,
        unanswered_from: 1,
        pepoch: Pepoch(1),
        stamp: Stamp { incarnation: ME.incarnation, clock: Duration::from_micros(NOW.0) },
        layout,
        fence,
        command,
    })
}

fn logged(outputs: &[Output]) -> Option<Ticket> {
    outputs.iter().find_map(|output| match output {
        Output::Log { ticket, .. } => Some(*ticket),
        _ => None,
    })
}

fn answers(outputs: &[Output]) -> Vec<(u64, Answer)> {
    let answer = |output: &Output| match output {
        Output::Answer { id, answer, .. } => Some((id.number, answer.clone())),
        _ => None,
    };
    outputs.iter().filter_map(answer).collect()
}

fn is_held(outputs: &[Output]) -> bool {
    outputs.contains(&Output::Held { pepoch: Pepoch(1), hold: Hold(5) })
}

#[test]
fn requests_under_old_counters_are_refused_and_nothing_is_logged() {
    let mut replica = primary();
    let _ = replica.step(NOW, configuration(Vdi { layout: 2, fence: 2, ..VDI }));
    for (layout, fence, refused) in [
        (1, 2, Refused::OldLayout),
        (2, 1, Refused::Fenced),
        (1, 1, Refused::Fenced),
        (3, 2, Refused::NotServing),
        (2, 3, Refused::NotServing),
    ] {
        let outputs = replica.step(NOW, write(1, layout, fence));
        assert_eq!((answers(&outputs), logged(&outputs)), (vec![(1, Answer::Refused(refused))], None));
    }
    assert!(logged(&replica.step(NOW, write(1, 2, 2))).is_some());
}

#[test]
fn a_write_that_was_given_up_while_it_waited_is_refused() {
    let mut replica = primary();
    let first = logged(&replica.step(NOW, write(1, 1, 1))).unwrap();
    assert_eq!(logged(&replica.step(NOW, write(2, 1, 1))), None);
    let _ = replica.step(NOW, configuration(Vdi { fence: 2, ..VDI }));
    let outputs = replica.step(NOW, stored(first));
    let expected = vec![(1, Answer::Done), (2, Answer::Refused(Refused::Fenced))];
    assert_eq!((answers(&outputs), logged(&outputs)), (expected, None));
}

#[test]
fn a_write_that_was_sent_again_while_it_waited_is_judged_by_its_last_sending() {
    let mut replica = primary();
    let first = logged(&replica.step(NOW, write(1, 1, 1))).unwrap();
    assert_eq!(logged(&replica.step(NOW, write(2, 1, 1))), None);
    let _ = replica.step(NOW, configuration(Vdi { fence: 2, ..VDI }));
    let Input::Requested(again) = write(2, 1, 2) else { unreachable!("it is a request") };
    let outputs = replica.step(NOW, Input::Requested(Request { resend: 2, ..again }));
    assert_eq!((answers(&outputs), logged(&outputs)), (vec![], None));
    let outputs = replica.step(NOW, stored(first));
    assert_eq!(answers(&outputs), [(1, Answer::Done)]);
    assert!(logged(&outputs).is_some());
}

#[test]
fn a_hold_is_told_of_when_the_writes_that_had_begun_are_done() {
    let mut replica = primary();
    let begun = logged(&replica.step(NOW, write(1, 1, 1))).unwrap();
    let hold = Vdi { hold: Some(Hold(5)), ..VDI };
    assert!(!is_held(&replica.step(NOW, configuration(hold))));
    assert!(!is_held(&replica.step(NOW, Input::Tick)));
    assert!(is_held(&replica.step(NOW, stored(begun))));
    assert!(is_held(&replica.step(NOW, Input::Tick)), "what may have been lost is told again");
}

#[test]
fn a_write_that_is_held_begins_when_the_hold_is_aborted_however_long_that_takes() {
    let mut replica = primary();
    assert!(is_held(&replica.step(NOW, configuration(Vdi { hold: Some(Hold(5)), ..VDI }))));
    let outputs = replica.step(NOW, write(1, 1, 1));
    assert_eq!((answers(&outputs), logged(&outputs)), (vec![], None));
    let outputs = replica.step(Moment(1_500_000), Input::Tick);
    assert_eq!((answers(&outputs), logged(&outputs)), (vec![], None));
    assert!(logged(&replica.step(Moment(1_500_000), configuration(VDI))).is_some());
}

#[test]
fn a_write_that_was_held_goes_elsewhere_after_the_commit() {
    let mut replica = primary();
    let _ = replica.step(NOW, configuration(Vdi { hold: Some(Hold(5)), ..VDI }));
    let _ = replica.step(NOW, write(1, 1, 1));
    let outputs = replica.step(NOW, configuration(Vdi { layout: 2, is_frozen: true, ..VDI }));
    let expected = vec![(1, Answer::Refused(Refused::OldLayout))];
    assert_eq!((answers(&outputs), logged(&outputs)), (expected, None));
    let outputs = replica.step(NOW, write(2, 2, 1));
    let expected = vec![(2, Answer::Refused(Refused::OldLayout))];
    assert_eq!(answers(&outputs), expected, "nobody writes to what is frozen");
}

/// A read of the first block.
fn read(number: u64) -> Input {
    let Input::Requested(request) = write(number, 1, 1) else { unreachable!("it is a request") };
    let oid = Oid::new(ObjectKind::Data, vid(), 0);
    Input::Requested(Request { command: Command::Read { oid, blocks: 0..1 }, ..request })
}

fn reading(outputs: &[Output]) -> Option<Ticket> {
    outputs.iter().find_map(|output| match output {
        Output::Read { ticket, .. } => Some(*ticket),
        _ => None,
    })
}

#[test]
fn a_read_of_what_was_deleted_meanwhile_is_not_answered() {
    let mut replica = primary();
    let ticket = reading(&replica.step(NOW, read(1))).unwrap();
    let _ = replica.step(NOW, configuration(Vdi { layout: 2, is_frozen: true, is_deleted: true, ..VDI }));
    let outcome = Outcome::Blocks(vec![Stored::default()]);
    let outputs = replica.step(NOW, Input::Stored { ticket, outcome });
    assert_eq!(answers(&outputs), [(1, Answer::Refused(Refused::OldLayout))]);
}

#[test]
fn reads_are_held_when_a_disk_goes_back_to_a_snapshot() {
    let mut replica = primary();
    let ticket = reading(&replica.step(NOW, read(1))).unwrap();
    let hold = Vdi { hold: Some(Hold(5)), holds_reads: true, ..VDI };
    assert!(!is_held(&replica.step(NOW, configuration(hold))), "one is under way");
    let outcome = Outcome::Blocks(vec![Stored::default()]);
    let outputs = replica.step(NOW, Input::Stored { ticket, outcome });
    assert!(is_held(&outputs) && answers(&outputs) == [(1, Answer::Data(vec![None]))]);
    assert_eq!(reading(&replica.step(NOW, read(2))), None);
    let outputs = replica.step(NOW, configuration(VDI));
    assert!(reading(&outputs).is_some(), "the hold came to nothing");
}
