//! A primary that most of its replicas miss is taken to the ledger, and no other.

mod support;

use std::sync::Arc;

use huntaway_replica::{
    Body, Configuration, Input, Message, Moment, Output, Process, Recovered, Replica, SetChange,
};
use huntaway_wire::{Incarnation, NodeId, Partition, Pepoch, Version};
use support::configuration;

const PRIMARY: Process = Process { node: NodeId([1; 16]), incarnation: Incarnation(1) };
const ME: Process = Process { node: NodeId([2; 16]), incarnation: Incarnation(1) };
const OTHER: Process = Process { node: NodeId([3; 16]), incarnation: Incarnation(1) };
const PEPOCH: Pepoch = Pepoch(4);

/// A primary that was paused for long finds itself alone for a moment: the others answer what it asks from then on.
#[test]
fn who_was_paused_has_nobody_removed_for_it() {
    let partition = Partition::new(7).expect("there are more");
    let mut now = Moment(1_000_000);
    let mut replica = Replica::new(partition, PRIMARY, now, Recovered::default());
    let configuration = Configuration { copies: 3, ..configuration(PEPOCH, &ALL) };
    let _ = replica.step(now, Input::Configured(Arc::new(configuration)));
    let removes = |output: &Output| matches!(output, Output::Propose(_));
    let mut tick = |us: u64| {
        now = now.after(us);
        replica.step(now, Input::Tick).iter().any(removes)
    };
    assert!(!(0..10).any(|_| tick(150_000)));
    assert!(!tick(60_000_000), "it has just read its clock again");
    assert!(!(0..19).any(|_| tick(150_000)));
    assert!((0..9).any(|_| tick(150_000)), "by now they had their time");
}

/// What is in doubt may be much, and a new primary asks for it at each tick.
#[test]
fn what_is_in_doubt_is_not_told_again_while_it_is_on_its_way() {
    let outputs = outputs_of(3_000_000, &ALL, || vec![(PRIMARY, Body::Gather)]);
    let tells = |output: &&Output| {
        matches!(output, Output::Send { to: PRIMARY, message: Message { body: Body::Gathered { .. }, .. } })
    };
    let count = outputs.iter().filter(tells).count();
    assert!((3..=4).contains(&count), "{count} times");
}

/// A replica in sync, told the time each 150 ms for so long; each time it hears what `says` says.
fn outputs_of(us: u64, in_sync: &[Process], says: impl Fn() -> Vec<(Process, Body)>) -> Vec<Output> {
    let partition = Partition::new(7).expect("there are more");
    let mut now = Moment(1_000_000);
    let mut replica = Replica::new(partition, ME, now, Recovered::default());
    let configuration = Configuration { copies: 3, ..configuration(PEPOCH, in_sync) };
    let mut outputs = replica.step(now, Input::Configured(Arc::new(configuration)));
    for _ in 0..us / 150_000 {
        now = now.after(150_000);
        for (from, body) in says() {
            let message = Message { pepoch: PEPOCH, body };
            outputs.extend(replica.step(now, Input::Received { from, message }));
        }
        outputs.extend(replica.step(now, Input::Tick));
    }
    outputs
}

fn has_it_removed(outputs: &[Output]) -> bool {
    let removes = |output: &Output| matches!(output, Output::Propose(proposal) if proposal.change == SetChange::Drop(PRIMARY));
    outputs.iter().any(removes)
}

fn tells_the_other(outputs: &[Output]) -> bool {
    let tells = |output: &Output| {
        matches!(output, Output::Send { to: OTHER, message: Message { body: Body::Misses, .. } })
    };
    outputs.iter().any(tells)
}

fn beacon(is_missed: bool) -> (Process, Body) {
    (
        PRIMARY,
        Body::Beacon { sent: Moment(7), settled: Version::NEVER, attempt: 0, is_missed, wants_room: false },
    )
}

const ALL: [Process; 3] = [PRIMARY, ME, OTHER];

#[test]
fn who_misses_it_alone_removes_nobody() {
    let outputs = outputs_of(9_000_000, &ALL, Vec::new);
    assert!(tells_the_other(&outputs) && !has_it_removed(&outputs));
    assert!(!has_it_removed(&outputs_of(9_000_000, &[PRIMARY, ME], Vec::new)));
}

#[test]
fn most_of_them_have_it_removed_before_it_leaves_them_out() {
    let other_misses = || vec![(OTHER, Body::Misses)];
    assert!(has_it_removed(&outputs_of(2_000_000, &ALL, other_misses)));
    assert!(!has_it_removed(&outputs_of(1_300_000, &ALL, other_misses)));
}

#[test]
fn one_that_hears_nobody_is_missed_although_it_speaks() {
    let deaf = || vec![beacon(true), (OTHER, Body::Misses)];
    assert!(has_it_removed(&outputs_of(2_000_000, &ALL, deaf)));
    let sound = || vec![beacon(false), (OTHER, Body::Misses)];
    assert!(!has_it_removed(&outputs_of(9_000_000, &ALL, sound)));
}
