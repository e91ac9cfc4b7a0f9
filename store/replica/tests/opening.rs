//! Whom a primary that does not serve yet leaves out, and waits for.

mod support;

use std::sync::Arc;

use huntaway_replica::{
    Body, Configuration, Credit, Input, Message, Moment, Output, Process, Recovered, Replica, SetChange,
};
use huntaway_wire::{Incarnation, NodeId, Partition, Pepoch, Version};
use support::configuration;

const ME: Process = Process { node: NodeId([1; 16]), incarnation: Incarnation(1) };
const OTHER: Process = Process { node: NodeId([2; 16]), incarnation: Incarnation(1) };
const THIRD: Process = Process { node: NodeId([3; 16]), incarnation: Incarnation(1) };
const PEPOCH: Pepoch = Pepoch(4);

/// So many milliseconds after the pepoch began the primary leaves out `OTHER`, which answers beacons and nothing else, until
/// `heard_until_ms`.
fn leaves_out_after(heard_until_ms: u64) -> Option<u64> {
    let partition = Partition::new(7).expect("there are more");
    let start = Moment(1_000_000);
    let mut replica = Replica::new(partition, ME, start, Recovered::default());
    let configuration = Configuration { copies: 3, ..configuration(PEPOCH, &[ME, OTHER, THIRD]) };
    let _ = replica.step(start, Input::Configured(Arc::new(configuration)));
    (50..10_000).step_by(50).find(|ms| {
        let now = start.after(ms * 1000);
        if *ms <= heard_until_ms {
            let credit = Credit::ENDLESS;
            let body = Body::Granted { sent: now, credit, attempt: 0 };
            let _ =
                replica.step(now, Input::Received { from: OTHER, message: Message { pepoch: PEPOCH, body } });
        }
        let outputs = replica.step(now, Input::Tick);
        outputs.iter().any(
            |output| matches!(output, Output::Propose(proposal) if proposal.change == SetChange::Drop(OTHER)),
        )
    })
}

#[test]
fn who_was_heard_is_left_out_only_when_it_was_silent_for_long() {
    assert_eq!(leaves_out_after(0), Some(3_050));
    // It misses this primary as well, and is told so after 0.6 s.
    assert_eq!(leaves_out_after(2_000), Some(5_050));
}

#[test]
fn who_is_there_and_does_not_do_what_it_is_asked_for_is_left_out() {
    assert_eq!(leaves_out_after(9_000), Some(3_050));
}

/// Whether the replica, which granted `OTHER` a lease and is primary after it, rolls forward at once when `released` said that it
/// serves no more, and has nothing to wait for but that lease.
fn opens_at_once(released: Option<Process>) -> bool {
    let partition = Partition::new(7).expect("there are more");
    let now = Moment(1_000_000);
    let mut replica = Replica::new(partition, ME, Moment(0), Recovered::default());
    let _ = replica.step(now, Input::Configured(Arc::new(configuration(PEPOCH, &[OTHER, ME, THIRD]))));
    let beacon =
        Body::Beacon { sent: now, settled: Version::NEVER, attempt: 0, is_missed: false, wants_room: false };
    let hears = |replica: &mut Replica, from, pepoch, body| {
        replica.step(now, Input::Received { from, message: Message { pepoch, body } })
    };
    let _ = hears(&mut replica, OTHER, PEPOCH, beacon);
    let next = Pepoch(PEPOCH.0 + 1);
    let _ = replica.step(now, Input::Configured(Arc::new(configuration(next, &[ME, THIRD]))));
    // It was sent before the pepoch began.
    released.into_iter().for_each(|from| drop(hears(&mut replica, from, PEPOCH, Body::Released)));
    let outputs = hears(&mut replica, THIRD, next, Body::Gathered { records: Vec::new() });
    outputs.iter().any(|output| {
        matches!(output, Output::Send { message: Message { body: Body::RollForward { .. }, .. }, .. })
    })
}

#[test]
fn nobody_waits_for_the_leases_of_who_says_that_it_serves_no_more() {
    assert!(opens_at_once(Some(OTHER)));
    assert!(!opens_at_once(None));
    assert!(!opens_at_once(Some(THIRD)), "it was not THIRD that has the lease");
    let restarted = Process { incarnation: Incarnation(2), ..OTHER };
    assert!(!opens_at_once(Some(restarted)));
}
