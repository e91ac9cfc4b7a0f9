//! Writes and the room that replicas promised: whoever lacks some waits or is refused before it has a version.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use huntaway_replica::{
    Answer, Block, Body, Command, Configuration, Credit, Entry, FREEING_BYTES, Input, Message, Moment,
    Outcome, Output, Process, Record, Recovered, Refused, Replica, Request, RequestId, Vdi, Vdis,
};
use huntaway_wire::{
    ByteRange, Durability, Incarnation, NodeId, ObjectKind, Oid, Partition, Pepoch, Stamp, Vid,
};

const PRIMARY: Process = Process { node: NodeId([1; 16]), incarnation: Incarnation(1) };
const MEMBER: Process = Process { node: NodeId([2; 16]), incarnation: Incarnation(1) };
const GATEWAY: Process = Process { node: NodeId([9; 16]), incarnation: Incarnation(1) };
const PEPOCH: Pepoch = Pepoch(1);

/// Later than whatever an earlier process of the node may have granted.
const NOW: Moment = Moment(1_000_000);

/// Room for one write of a block and a little.
const ONE_WRITE_BYTES: u64 = FREEING_BYTES + 5000;

fn oid() -> Oid {
    Oid::new(ObjectKind::Data, Vid::new(1).unwrap(), 0)
}

/// What the ledger says to a replica that starts.
fn start(me: Process) -> Replica {
    let vdi = Vdi {
        parent: None,
        layout: 1,
        fence: 1,
        is_frozen: false,
        is_deleted: false,
        hold: None,
        holds_reads: false,
    };
    let configuration = Configuration {
        pepoch: PEPOCH,
        in_sync: vec![PRIMARY, MEMBER],
        doubtful: Vec::new(),
        damaged: Vec::new(),
        is_lost: false,
        primary: PRIMARY.node,
        candidates: Vec::new(),
        keepers: vec![PRIMARY.node, MEMBER.node],
        copies: 2,
        min_copies: 1,
        gateways: vec![GATEWAY],
        vdis: Arc::new(Vdis::from_iter([(oid().vid(), vdi)])),
    };
    let mut replica = Replica::new(Partition::new(0).unwrap(), me, Moment(0), Recovered::default());
    replica.step(NOW, Input::LedgerLease { until: Moment(9_000_000) });
    replica.step(NOW, Input::Configured(Arc::new(configuration)));
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
            primary.step(NOW, Input::Stored { ticket, outcome: Outcome::Done });
        }
    }
    hears(&mut primary, MEMBER, Body::RolledForward);
    promises(&mut primary, limit_bytes, is_full);
    assert!(primary.is_serving());
    primary
}

fn promises(primary: &mut Replica, limit_bytes: u64, is_full: bool) -> Vec<Output> {
    let credit = Credit { limit_bytes, is_full };
    hears(primary, MEMBER, Body::Granted { sent: NOW, credit })
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

/// A write to a block of its own.
fn write(number: u64) -> Input {
    let pieces = vec![Block::new(Bytes::from(vec![7; 4096]))];
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
    assert_eq!(primary.step(NOW, write(2)), []);
    assert_eq!(primary.step(NOW, write(3)), []);
    assert_eq!(forwarded(&primary.step(NOW, discard(4))), [4]);
    // What overtook this promised more.
    assert_eq!(forwarded(&promises(&mut primary, 10, false)), [0; 0]);
    assert_eq!(forwarded(&promises(&mut primary, ONE_WRITE_BYTES + 5200, false)), [2]);
    assert_eq!(forwarded(&promises(&mut primary, ONE_WRITE_BYTES + 10200, false)), [3]);
}

#[test]
fn a_write_is_refused_when_a_disk_is_full_and_has_no_version() {
    let mut primary = primary(FREEING_BYTES, true);
    let no_space = |number| vec![(number, Answer::Refused(Refused::NoSpace))];
    assert_eq!(refused(&primary.step(NOW, write(1))), no_space(1));
    let discarded = records(&primary.step(NOW, discard(2)));
    assert_eq!(discarded.iter().map(|record| record.version.seq).collect::<Vec<_>>(), [1]);
    assert_eq!(forwarded(&promises(&mut primary, ONE_WRITE_BYTES + 600, false)), [0; 0]);
    assert_eq!(forwarded(&primary.step(NOW, write(3))), [3]);
    assert_eq!(primary.step(NOW, write(4)), []);
    assert_eq!(refused(&promises(&mut primary, ONE_WRITE_BYTES + 600, true)), no_space(4));
}

#[test]
fn the_primarys_own_store_has_to_have_room_as_well() {
    let mut primary = primary(u64::MAX, false);
    let limited = |limit_bytes, is_full| Input::Room(Credit { limit_bytes, is_full });
    primary.step(NOW, limited(ONE_WRITE_BYTES, false));
    assert_eq!(forwarded(&primary.step(NOW, write(1))), [1]);
    assert_eq!(primary.step(NOW, write(2)), []);
    assert_eq!(forwarded(&primary.step(NOW, limited(2 * ONE_WRITE_BYTES, false))), [2]);
}

#[test]
fn a_replica_takes_what_it_promised_and_no_more() {
    let mut primary = primary(u64::MAX, false);
    let forward = |record: &Arc<Record>| Body::Forward {
        record: record.clone(),
        settled: huntaway_wire::Version::NEVER,
        attempt: 0,
    };
    let writes: Vec<Arc<Record>> =
        (1..3).flat_map(|number| records(&primary.step(NOW, write(number)))).collect();
    let mut member = start(MEMBER);
    member.step(NOW, Input::Room(Credit { limit_bytes: writes[0].size_bytes(), is_full: true }));
    let is_logged = |outputs: &[Output]| {
        outputs.iter().any(|output| matches!(output, Output::Log { entry: Entry::Write { .. }, .. }))
    };
    assert!(is_logged(&hears(&mut member, PRIMARY, forward(&writes[0]))));
    assert_eq!(hears(&mut member, PRIMARY, forward(&writes[1])), []);
    assert_eq!(member.beyond_credit(), 1);
    member.step(NOW, Input::Room(Credit::ENDLESS));
    assert!(is_logged(&hears(&mut member, PRIMARY, forward(&writes[1]))));
}
