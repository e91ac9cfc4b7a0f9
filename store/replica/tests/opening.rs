//! Whom a primary that does not serve yet leaves out, and waits for.

mod support;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use huntaway_replica::{
    Block, Body, Configuration, Credit, Entry, Input, Lesson, Message, Moment, Outcome, Output, Page,
    Process, Recovered, Replica, Reply, SetChange, Stored, Verified,
};
use huntaway_wire::{
    BLOCK_SIZE_BYTES, Incarnation, NodeId, ObjectKind, Oid, Partition, Pepoch, Version, Vid,
};
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
fn opens_at_once(released: Option<(Process, Pepoch)>) -> bool {
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
    if let Some((from, pepoch)) = released {
        let _ = hears(&mut replica, from, pepoch, Body::Released);
    }
    let outputs = hears(&mut replica, THIRD, next, Body::Gathered { records: Vec::new() });
    outputs.iter().any(|output| {
        matches!(output, Output::Send { message: Message { body: Body::RollForward { .. }, .. }, .. })
    })
}

#[test]
fn nobody_waits_for_the_leases_of_who_says_that_it_serves_no_more() {
    // It was sent before the pepoch began, or when it did.
    assert!(opens_at_once(Some((OTHER, PEPOCH))));
    assert!(!opens_at_once(None));
    assert!(!opens_at_once(Some((THIRD, PEPOCH))), "it was not THIRD that has the lease");
    let restarted = Process { incarnation: Incarnation(2), ..OTHER };
    assert!(!opens_at_once(Some((restarted, PEPOCH))));
    assert!(!opens_at_once(Some((OTHER, Pepoch(PEPOCH.0 - 1)))), "it may have been primary again since");
}

/// Who `output` releases, and in which pepoch.
fn released(output: &Output) -> Option<(Process, Pepoch)> {
    match output {
        Output::Send { to, message: Message { pepoch, body: Body::Released } } => Some((*to, *pepoch)),
        _ => None,
    }
}

#[test]
fn a_primary_that_is_none_any_more_releases_all_that_may_have_granted_it_a_lease() {
    let partition = Partition::new(7).expect("there are more");
    let mut replica = Replica::new(partition, ME, Moment(0), Recovered::default());
    let now = Moment(1_000_000);
    let led = Configuration { candidates: vec![THIRD], ..configuration(PEPOCH, &[ME, OTHER]) };
    let _ = replica.step(now, Input::Configured(Arc::new(led)));
    let next = |pepoch, set: &[Process]| Input::Configured(Arc::new(configuration(Pepoch(pepoch), set)));
    let outputs = replica.step(now, next(PEPOCH.0 + 1, &[ME, OTHER, THIRD]));
    assert_eq!(outputs.iter().find_map(released), None, "it still is");
    let outputs = replica.step(now, next(PEPOCH.0 + 2, &[THIRD, ME, OTHER]));
    let to: Vec<_> = outputs.iter().filter_map(released).collect();
    assert_eq!(to, [OTHER, THIRD].map(|to| (to, Pepoch(PEPOCH.0 + 1))));
    let outputs = replica.step(now, next(PEPOCH.0 + 3, &[OTHER, ME, THIRD]));
    assert_eq!(outputs.iter().find_map(released), None, "nobody grants a member anything");
}

#[test]
fn who_was_asked_too_early_answers_when_the_old_primary_releases_it() {
    let partition = Partition::new(7).expect("there are more");
    let mut replica = Replica::new(partition, ME, Moment(0), Recovered::default());
    let now = Moment(1_000_000);
    let next = Pepoch(PEPOCH.0 + 1);
    let _ = replica.step(now, Input::Configured(Arc::new(configuration(PEPOCH, &[OTHER, ME, THIRD]))));
    let mut hears = |from, pepoch, body| {
        if pepoch == next {
            let set = configuration(next, &[THIRD, OTHER, ME]);
            let _ = replica.step(now, Input::Configured(Arc::new(set)));
        }
        replica.step(now, Input::Received { from, message: Message { pepoch, body } })
    };
    let beacon =
        Body::Beacon { sent: now, settled: Version::NEVER, attempt: 0, is_missed: false, wants_room: false };
    let _ = hears(OTHER, PEPOCH, beacon);
    assert_eq!(hears(THIRD, next, Body::Gather), []);
    let outputs = hears(OTHER, PEPOCH, Body::Released);
    let answer = Message { pepoch: next, body: Body::Gathered { records: Vec::new() } };
    assert_eq!(outputs, [Output::Send { to: THIRD, message: answer }]);
}

/// What goes to the log of a primary that has an object in its index and nothing else of it, when nobody is sure to have
/// everything, and the other replica says `theirs` of the object and has its first block. The own store, which answers at once,
/// fails so many times first.
fn collected(theirs: &Reply, mut failures: u32) -> Option<Entry> {
    let partition = Partition::new(7).expect("there are more");
    let (mut now, mut ticks, mut asked) = (Moment(1_000_000), 0, 0);
    let mut replica = Replica::new(partition, ME, Moment(0), Recovered::default());
    let doubtful = vec![ME.node, OTHER.node];
    let set = Configuration { doubtful, ..configuration(PEPOCH, &[ME, OTHER]) };
    let oid = Oid::new(ObjectKind::Data, Vid::new(1).expect("it is one"), 0);
    let page = Page { objects: vec![(oid, None)], is_last: true };
    let block = Block::new(Bytes::from(vec![1; BLOCK_SIZE_BYTES as usize]));
    let stored = Stored { version: Version { pepoch: 1, seq: 5 }, content: Some(block) };
    let mut inputs = VecDeque::from([Input::Configured(Arc::new(set)), Input::Tick]);
    while ticks < 20 {
        let input = inputs.pop_front().unwrap_or_else(|| {
            (now, ticks) = (Moment(now.0 + 150_000), ticks + 1);
            Input::Tick
        });
        for output in replica.step(now, input) {
            let answer = match output {
                Output::Send {
                    message: Message { body: Body::Ask { attempt, step, lesson }, .. }, ..
                } => {
                    let reply = match lesson {
                        Lesson::Requests => Reply::Requests(Arc::default()),
                        Lesson::Digests { .. } => Reply::Digests(page.clone()),
                        Lesson::Versions { .. } => theirs.clone(),
                        _ => Reply::Blocks(vec![stored.clone()]),
                    };
                    let message = Message { pepoch: PEPOCH, body: Body::Reply { attempt, step, reply } };
                    Input::Received { from: OTHER, message }
                }
                Output::Digests { ticket, .. } | Output::Versions { ticket, .. } if failures > 0 => {
                    (failures, asked) = (failures - 1, asked + 1);
                    assert!(asked <= ticks + 1, "what failed is asked again when time has gone by");
                    Input::Stored { ticket, outcome: Outcome::Failed }
                }
                Output::Digests { ticket, .. } => {
                    Input::Stored { ticket, outcome: Outcome::Digests(page.clone()) }
                }
                Output::Versions { ticket, .. } => {
                    Input::Stored { ticket, outcome: Outcome::Missing(Vec::new()) }
                }
                Output::Log { entry, .. } => return Some(entry),
                _ => continue,
            };
            inputs.push_back(answer);
        }
    }
    None
}

#[test]
fn what_is_known_of_an_object_that_is_missing_everywhere_is_not_all_there_was() {
    let version = Version { pepoch: 1, seq: 5 };
    let whole = collected(&Reply::Versions(vec![(0, version)]), 0);
    assert!(matches!(whole, Some(Entry::Replace { .. })), "{whole:?}");
    let known = Verified { block: 0, version, crc: None };
    let missing = collected(&Reply::Missing(vec![known]), 0);
    assert!(matches!(missing, Some(Entry::Copy { .. })), "{missing:?}");
}

#[test]
fn an_own_store_that_fails_is_asked_again_when_time_has_gone_by() {
    let version = Version { pepoch: 1, seq: 5 };
    for failures in [1, 3] {
        let whole = collected(&Reply::Versions(vec![(0, version)]), failures);
        assert!(matches!(whole, Some(Entry::Replace { .. })), "{whole:?}");
    }
    assert_eq!(collected(&Reply::Versions(vec![(0, version)]), u32::MAX), None);
}
