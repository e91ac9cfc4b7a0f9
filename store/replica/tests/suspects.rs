//! An object that a store cannot put in place is mended, whoever finds that, and whether objects are read again or not.

mod support;

use std::sync::Arc;

use huntaway_replica::{Body, Input, Lesson, Message, Moment, Outcome, Output, Process, Recovered, Replica};
use huntaway_wire::{Incarnation, NodeId, ObjectKind, Oid, Partition, Pepoch};
use support::{configuration, vid};

const PRIMARY: Process = Process { node: NodeId([1; 16]), incarnation: Incarnation(1) };
const MEMBER: Process = Process { node: NodeId([2; 16]), incarnation: Incarnation(1) };
const PEPOCH: Pepoch = Pepoch(4);
const NOW: Moment = Moment(1_000_000);

fn oid() -> Oid {
    Oid::new(ObjectKind::Data, vid(), 3)
}

fn start(me: Process) -> Replica {
    let partition = Partition::new(7).expect("there are more");
    let mut replica = Replica::new(partition, me, Moment(0), Recovered::default());
    let _ = replica.step(NOW, Input::LedgerLease { until: Moment(9_000_000) });
    let _ = replica.step(NOW, Input::Configured(Arc::new(configuration(PEPOCH, &[PRIMARY, MEMBER]))));
    replica
}

fn hears(replica: &mut Replica, body: Body) -> Vec<Output> {
    replica.step(NOW, Input::Received { from: MEMBER, message: Message { pepoch: PEPOCH, body } })
}

fn primary() -> Replica {
    let mut primary = start(PRIMARY);
    for output in hears(&mut primary, Body::Gathered { records: Vec::new() }) {
        if let Output::Sync { ticket } = output {
            let _ = primary.step(NOW, Input::Stored { ticket, outcome: Outcome::Done });
        }
    }
    hears(&mut primary, Body::RolledForward);
    primary
}

/// Whether both replicas are to read the object again.
fn is_verified(outputs: &[Output]) -> bool {
    let here = |output: &Output| matches!(output, Output::Verify { oid, .. } if *oid == self::oid());
    let there = |output: &Output| {
        let Output::Send { to: MEMBER, message } = output else { return false };
        matches!(message.body, Body::Inspect { lesson: Lesson::Verify { oid }, .. } if oid == self::oid())
    };
    outputs.iter().any(here) && outputs.iter().any(there)
}

#[test]
fn a_replica_asks_its_primary_to_mend() {
    let outputs = start(MEMBER).step(NOW, Input::Suspect { oid: oid() });
    let message = Message { pepoch: PEPOCH, body: Body::Suspect { oid: oid() } };
    assert_eq!(outputs, [Output::Send { to: PRIMARY, message }]);
}

#[test]
fn the_primary_has_all_replicas_read_the_object_again() {
    let mut primary = primary();
    hears(&mut primary, Body::Suspect { oid: oid() });
    assert!(is_verified(&primary.step(NOW.after(150_000), Input::Tick)));
}

#[test]
fn so_it_has_when_its_own_store_says_so() {
    let mut primary = self::primary();
    let _ = primary.step(NOW, Input::Suspect { oid: oid() });
    assert!(is_verified(&primary.step(NOW.after(150_000), Input::Tick)));
}
