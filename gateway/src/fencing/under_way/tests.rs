//! The life of requests, step by step.

use huntaway_wire::Incarnation;

use super::*;

const STORE: NodeId = NodeId([1; 16]);
const OTHER: NodeId = NodeId([2; 16]);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn stamp(clock: u64) -> Stamp {
    Stamp { incarnation: Incarnation(1), clock: ms(clock) }
}

/// A proof for this time.
fn proof_at(at: Duration) -> Proven {
    Proven(Some(at))
}

/// The stamp with this clock, of a reply that was read at this time.
fn read(clock: u64, at: u64) -> NewestStamp {
    let mut newest = NewestStamp::default();
    newest.note(stamp(clock), ms(at));
    newest
}

/// The store's newest stamp, which was read at 1000 ms.
fn newest() -> NewestStamp {
    read(50, 1_000)
}

fn send(under_way: &mut UnderWay<u8>, number: RequestNumber, now: Duration) -> Sending {
    let stamped = under_way.take_stamp(number, STORE, newest()).unwrap();
    match under_way.check_proof(stamped, proof_at(now), now) {
        Decision::Send(sending) => sending,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_request_is_sent_with_the_newest_stamp_and_the_lowest_number_under_way() {
    let mut under_way = UnderWay::default();
    let (first, second) = (under_way.enter(1, 1), under_way.enter(1, 1));
    let sending = send(&mut under_way, second, ms(1_020));
    assert_eq!(
        sending,
        Sending { number: second, send: 1, lowest: first, store: STORE, stamp: stamp(50), fence: 1 }
    );
    let ended = Ended { number: first, owner: 1, end: End::Done, given_up: None };
    assert_eq!(under_way.done(first), Some(ended));
    assert_eq!(under_way.done(first), None, "by another send");
    assert!(under_way.overdue(second, 1));
    assert_eq!(send(&mut under_way, second, ms(1_030)).lowest, second);
}

#[test]
fn a_store_whose_stamp_is_unknown_is_sent_one_that_is_never_fresh() {
    let mut under_way = UnderWay::default();
    let number = under_way.enter(1, 1);
    let stamped = under_way.take_stamp(number, STORE, NewestStamp::default()).unwrap();
    let Decision::Send(sending) = under_way.check_proof(stamped, proof_at(ms(5)), ms(5)) else { panic!() };
    assert_eq!(sending.stamp, Stamp::NONE);
}

#[test]
fn a_request_without_a_fresh_proof_waits_for_one_of_its_connection() {
    let mut under_way = UnderWay::default();
    let (first, second) = (under_way.enter(1, 1), under_way.enter(2, 1));
    for number in [first, second] {
        let stamped = under_way.take_stamp(number, STORE, newest()).unwrap();
        let decision = under_way.check_proof(stamped, proof_at(ms(1_000)), ms(3_000));
        assert_eq!(decision, Decision::WaitForProof);
    }
    assert_eq!(under_way.proof_is_newer(|owner| *owner == 2), [second]);
    assert_eq!(under_way.proof_is_newer(|owner| *owner == 2), []);
    assert_eq!(under_way.proof_is_newer(|_| true), [first]);
    assert_eq!(send(&mut under_way, second, ms(3_010)).send, 1);
}

#[test]
fn every_send_needs_its_own_proof() {
    let mut under_way = UnderWay::default();
    let number = under_way.enter(1, 1);
    let _ = send(&mut under_way, number, ms(1_000));
    assert!(under_way.refused(number, 1));
    let stamped = under_way.take_stamp(number, STORE, newest()).unwrap();
    let decision = under_way.check_proof(stamped, proof_at(ms(1_000)), ms(3_000));
    assert_eq!(decision, Decision::WaitForProof);
}

#[test]
fn only_the_last_send_is_followed_by_another() {
    let mut under_way = UnderWay::default();
    let number = under_way.enter(1, 1);
    let _ = send(&mut under_way, number, ms(1_000));
    assert!(under_way.overdue(number, 1));
    assert!(!under_way.refused(number, 1), "it is about to be sent already");
    let _ = send(&mut under_way, number, ms(1_100));
    assert!(!under_way.refused(number, 1));
    assert!(under_way.refused(number, 2));
}

#[test]
fn what_is_given_up_is_never_sent_again() {
    let mut under_way = UnderWay::default();
    let [taken, sent, unproven] = [(); 3].map(|()| under_way.enter(1, 1));
    let stamped = under_way.take_stamp(taken, STORE, newest()).unwrap();
    let _ = send(&mut under_way, sent, ms(1_000));
    let old = under_way.take_stamp(unproven, STORE, newest()).unwrap();
    assert_eq!(under_way.check_proof(old, Proven::default(), ms(1_000)), Decision::WaitForProof);
    under_way.give_up(|_| true, GivenUp::Aborted);
    assert_eq!(under_way.check_proof(stamped, proof_at(ms(1_000)), ms(1_000)), Decision::Drop);
    assert!(!under_way.refused(sent, 1) && !under_way.overdue(sent, 1));
    assert_eq!(under_way.proof_is_newer(|_| true), []);
    assert!(under_way.take_stamp(sent, STORE, newest()).is_none());
}

#[test]
fn what_is_given_up_settles_when_its_newest_stamp_has_run_out() {
    let mut under_way = UnderWay::default();
    let number = under_way.enter(1, 1);
    let _ = send(&mut under_way, number, ms(1_100));
    let stamped = under_way.take_stamp(number, OTHER, read(70, 1_200)).unwrap();
    under_way.give_up(|_| true, GivenUp::Failed);
    assert_eq!(under_way.check_proof(stamped, proof_at(ms(1_300)), ms(1_300)), Decision::Drop);
    assert!(!under_way.refused(number, 1), "which shortens nothing: the other send may be on its way");
    assert_eq!(under_way.next_settlement(), Some(ms(1_860)));
    assert_eq!(under_way.settle(ms(1_859)), []);
    assert!(!under_way.is_clear(|_| true));
    let ended = Ended { number, owner: 1, end: End::Settled, given_up: Some(GivenUp::Failed) };
    assert_eq!(under_way.settle(ms(1_860)), [ended]);
    assert!(under_way.is_clear(|_| true));
    assert_eq!(under_way.done(number), None);
}

#[test]
fn what_was_never_sent_settles_at_once() {
    let mut under_way = UnderWay::default();
    let number = under_way.enter(1, 1);
    assert_eq!(under_way.next_settlement(), None);
    under_way.give_up(|_| true, GivenUp::Failed);
    assert_eq!(under_way.next_settlement(), Some(Duration::ZERO));
    assert_eq!(under_way.settle(Duration::ZERO).len(), 1);
    assert_eq!(under_way.owner(number), None);
}

#[test]
fn the_stronger_reason_to_give_up_stays() {
    let mut under_way = UnderWay::default();
    let number = under_way.enter(1, 1);
    let _ = send(&mut under_way, number, ms(1_000));
    under_way.give_up(|_| true, GivenUp::Aborted);
    under_way.give_up(|_| true, GivenUp::Failed);
    assert_eq!(under_way.done(number).unwrap().given_up, Some(GivenUp::Aborted));
    let number = under_way.enter(1, 1);
    under_way.give_up(|_| true, GivenUp::Failed);
    under_way.give_up(|owner| *owner == 2, GivenUp::Dropped);
    assert_eq!(under_way.settle(ms(1_000))[0].given_up, Some(GivenUp::Failed));
    assert!(under_way.done(number).is_none());
}

#[test]
fn a_dropped_session_is_clear_when_its_last_request_has_ended() {
    let mut under_way = UnderWay::default();
    let [done, settled, other] = [1, 1, 2].map(|owner| under_way.enter(owner, 1));
    for number in [done, settled, other] {
        let _ = send(&mut under_way, number, ms(1_000));
    }
    under_way.give_up(|owner| *owner == 1, GivenUp::Dropped);
    assert_eq!(under_way.done(done).unwrap().given_up, Some(GivenUp::Dropped));
    assert!(!under_way.is_clear(|owner| *owner == 1));
    assert_eq!(under_way.settle(ms(1_660)).len(), 1);
    assert!(under_way.is_clear(|owner| *owner == 1) && !under_way.is_clear(|owner| *owner == 2));
    assert_eq!(under_way.owner(other), Some(2));
}

/// What a reset says of all that was received before.
fn given_up(_: &u8, _: u64) -> Verdict {
    Verdict::GivenUp(GivenUp::Failed)
}

#[test]
fn a_command_keeps_the_fence_that_it_was_received_under() {
    let mut under_way = UnderWay::default();
    let number = under_way.enter(1, 7);
    for count in 1..4 {
        let sending = send(&mut under_way, number, ms(1_000));
        assert_eq!((sending.send, sending.fence), (count, 7));
        assert!(under_way.overdue(number, count));
    }
}

#[test]
fn what_is_refused_for_its_fence_is_sent_again_only_when_it_was_judged() {
    let mut under_way = UnderWay::default();
    let [stands, reset, other] = [1, 2, 3].map(|owner| under_way.enter(owner, 1));
    for number in [stands, reset, other] {
        let sending = send(&mut under_way, number, ms(1_000));
        assert!(!under_way.fenced(number, sending.send, sending.fence));
        assert!(!under_way.overdue(number, sending.send), "it may be given up");
    }
    let verdict = |owner: &u8, fence: u64| match owner {
        1 => Verdict::Stands,
        2 => given_up(owner, fence),
        _ => Verdict::Unconcerned,
    };
    assert_eq!(under_way.judge(2, verdict), [stands]);
    assert_eq!(send(&mut under_way, stands, ms(1_010)).fence, 2);
    assert!(under_way.take_stamp(reset, STORE, newest()).is_none());
    assert_eq!(under_way.judge(2, |_, _| Verdict::Stands), [other], "and given up stays given up");
}

#[test]
fn what_was_judged_before_its_refusal_comes_is_sent_again_at_once() {
    let mut under_way = UnderWay::default();
    let number = under_way.enter(1, 1);
    let sending = send(&mut under_way, number, ms(1_000));
    assert_eq!(under_way.judge(2, |_, _| Verdict::Stands), [], "it is on its way");
    assert!(under_way.fenced(number, sending.send, sending.fence));
}

#[test]
fn an_aborted_command_that_is_refused_for_its_fence_is_never_sent_again() {
    let mut under_way = UnderWay::default();
    let number = under_way.enter(1, 1);
    let sending = send(&mut under_way, number, ms(1_000));
    under_way.give_up(|_| true, GivenUp::Aborted);
    assert!(!under_way.fenced(number, sending.send, sending.fence));
    assert_eq!(under_way.judge(2, |_, _| Verdict::Stands), []);
    assert!(under_way.take_stamp(number, STORE, newest()).is_none());
    assert_eq!(under_way.settle(ms(1_659)), [], "the refusal shortens nothing");
    assert_eq!(under_way.settle(ms(1_660)).len(), 1);
}

#[test]
fn what_was_given_up_has_ended_when_stores_take_nothing_of_its_fence() {
    let mut under_way = UnderWay::default();
    let old = under_way.enter(1, 1);
    let _ = send(&mut under_way, old, ms(1_000));
    under_way.give_up(|_| true, GivenUp::Failed);
    assert_eq!(under_way.in_force(1, |_| true), [], "they went out under this one");
    assert_eq!(under_way.in_force(2, |owner| *owner == 9), []);
    let ended = Ended { number: old, owner: 1, end: End::Settled, given_up: Some(GivenUp::Failed) };
    assert_eq!(under_way.in_force(2, |_| true), [ended]);
    let number = under_way.enter(1, 1);
    let _ = send(&mut under_way, number, ms(1_100));
    assert_eq!(under_way.judge(2, |_, _| Verdict::Stands), []);
    assert!(under_way.overdue(number, 1));
    let _ = send(&mut under_way, number, ms(1_110));
    under_way.give_up(|_| true, GivenUp::Failed);
    assert_eq!(under_way.in_force(2, |_| true), [], "it was sent under that one, too");
    assert_eq!(under_way.in_force(3, |_| true).len(), 1);
}
