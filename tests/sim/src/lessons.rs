//! What went wrong in stores of this kind, and in earlier designs of this one, each as a scenario with a name. The simulation finds all of
//! it by chance; here it is on purpose.

mod flock;

use std::sync::Arc;

use huntaway_replica::{
    Answer, Block, Body, Change, Command, Hold, Lesson, Process, Record, Refused, Reply, Request, RequestId,
    SetChange, Vdi, Vdis,
};
use huntaway_wire::{BLOCK_SIZE_BYTES, ByteRange, Durability, Incarnation, Oid};

use crate::storage::{Crash, Storage};
use flock::{Flock, LEASES_RUN_OUT_US, block, oid, vid, write};

/// All gets through.
const NOTHING: fn(&Body) -> bool = |_| false;

/// A block that is not what its checksum says.
fn damaged() -> Block {
    Block { crc: block(1).crc, ..block(7) }
}

fn remove(oid: Oid) -> Command {
    Command::Remove { oid, durability: Durability::Logged }
}

/// A gateway that died in the middle of a write left replicas that differed for ever, and reads that went back and forth.
#[test]
fn a_write_that_reached_one_replica_is_on_all_of_them_or_on_none() {
    for reached in [1, 2] {
        let mut flock = Flock::new(3);
        assert_eq!(flock.write(0, oid(1, 0), 1), Some(Answer::Done));
        flock.part(0, 3 - reached);
        assert_eq!(flock.write(0, oid(1, 0), 2), None);
        flock.dies(0, Crash::Killed);
        flock.gateway.incarnation.0 += 1;
        flock.agree(&[1, 2], &[]);
        flock.pass(LEASES_RUN_OUT_US);
        assert_eq!(flock.read(1, oid(1, 0)), Ok(Some(2)), "somebody may have seen it");
        flock.agree(&[2, 1], &[]);
        flock.pass(LEASES_RUN_OUT_US);
        assert_eq!(flock.read(2, oid(1, 0)), Ok(Some(2)));
        assert!(flock.are_equal(1, 2));
    }
    let mut flock = Flock::new(3);
    assert_eq!(flock.write(0, oid(1, 0), 1), Some(Answer::Done));
    flock.part(0, 1);
    flock.part(0, 2);
    assert_eq!(flock.write(0, oid(1, 0), 2), None);
    flock.dies(0, Crash::Killed);
    flock.cut.clear();
    flock.agree(&[1, 2], &[]);
    flock.pass(LEASES_RUN_OUT_US);
    assert_eq!(flock.read(1, oid(1, 0)), Ok(Some(1)));
    // The one that has it learns what the others agreed on.
    flock.start(0);
    flock.agree(&[1, 2], &[0]);
    flock.pass(2_000_000);
    assert!(flock.has_promoted(0) && flock.are_equal(0, 1));
}

/// A recovery that failed counted as done, and the last copies were deleted.
#[test]
fn a_recovery_that_failed_is_not_done() {
    let mut flock = Flock::new(2);
    flock.agree(&[0], &[]);
    flock.pass(LEASES_RUN_OUT_US);
    assert_eq!(flock.write(0, oid(1, 0), 1), Some(Answer::Done));
    flock.nodes[1].reads_fail = true;
    flock.agree(&[0], &[1]);
    flock.pass(10_000_000);
    assert!(!flock.has_promoted(1));
    flock.nodes[1].reads_fail = false;
    // What it is to have instead of its own is damaged on its way.
    let is_copy: fn(&Body) -> bool =
        |body| matches!(body, Body::Ask { lesson: Lesson::Copy { .. } | Lesson::Replace { .. }, .. });
    flock.is_stopped = is_copy;
    flock.pass(100_000_000);
    for (_, _, message) in &mut flock.kept_back {
        if let Body::Ask { lesson: Lesson::Copy { blocks, .. } | Lesson::Replace { blocks, .. }, .. } =
            &mut message.body
        {
            Arc::make_mut(blocks)[0].stored.content = Some(damaged());
        }
    }
    flock.let_through(is_copy);
    flock.pass(LEASES_RUN_OUT_US);
    assert!(!flock.has_promoted(1));
    flock.let_through(NOTHING);
    flock.pass(100_000_000);
    assert!(flock.has_promoted(1) && flock.are_equal(0, 1));
}

/// After an even split both halves went on writing.
#[test]
fn no_half_of_an_even_split_serves() {
    let mut flock = Flock::new(2);
    flock.part(0, 1);
    flock.pass(LEASES_RUN_OUT_US);
    assert_eq!(flock.write(0, oid(1, 0), 1), None);
    assert_eq!(flock.write(1, oid(1, 0), 2), Some(Answer::Refused(Refused::NotServing)));
    assert_eq!(flock.read(0, oid(1, 1)), Err(Some(Answer::Refused(Refused::NotServing))));
    assert!(!flock.is_serving(0) && !flock.is_serving(1));
}

/// A cluster was busy with itself: what nobody asks for anything keeps no leases, and nobody who asks notices.
#[test]
fn a_partition_that_nobody_asks_is_quiet_and_awake_at_once() {
    let mut flock = Flock::new(3);
    assert_eq!(flock.write(0, oid(1, 0), 1), Some(Answer::Done));
    flock.pass(2_000_000);
    let before = flock.sent;
    flock.pass(10_000_000);
    // Now and then it asks the others whether they are there: two beacons and their answers in each second.
    assert!((36..=44).contains(&(flock.sent - before)), "{}", flock.sent - before);
    flock.pass(500_000);
    while flock.is_serving(0) {
        flock.pass(100_000);
    }
    assert_eq!(flock.read(0, oid(1, 0)), Ok(Some(1)));
    flock.pass(2_500_000);
    assert_eq!(flock.write(0, oid(1, 0), 2), Some(Answer::Done));
    // Who is cut off wakes up, and finds that it has no leases.
    flock.pass(2_500_000);
    flock.part(0, 1);
    flock.pass(LEASES_RUN_OUT_US);
    assert_eq!(flock.read(0, oid(1, 0)), Err(None));
    flock.pass(400_000);
    assert!(flock.answers.iter().any(|(_, answer)| *answer == Answer::Refused(Refused::NotServing)));
}

/// A write that had timed out overtook a newer one.
#[test]
fn a_write_that_comes_late_does_not_land_on_a_newer_one() {
    let mut flock = Flock::new(2);
    let late = flock.next_request(0, write(oid(1, 0), 1));
    flock.pass(LEASES_RUN_OUT_US);
    assert_eq!(flock.write(0, oid(1, 0), 2), Some(Answer::Done));
    assert_eq!(flock.request(0, late), Some(Answer::Refused(Refused::OldStamp)));
    assert_eq!(flock.read(0, oid(1, 0)), Ok(Some(2)));
}

/// An object that was made while another node recovered was lost.
#[test]
fn an_object_that_is_made_while_a_replica_learns_is_there_afterwards() {
    let mut flock = Flock::new(2);
    flock.agree(&[0], &[]);
    flock.pass(LEASES_RUN_OUT_US);
    assert_eq!(flock.write(0, oid(1, 5), 1), Some(Answer::Done));
    // It takes part, and was asked for its objects; what it says is on its way.
    flock.is_stopped = |body| matches!(body, Body::Reply { reply: Reply::Digests(_), .. });
    flock.agree(&[0], &[1]);
    for index in 0..10 {
        assert_eq!(flock.write(0, oid(1, index), 2), Some(Answer::Done));
    }
    flock.let_through(NOTHING);
    flock.pass(3_000_000);
    assert!(flock.has_promoted(1) && flock.are_equal(0, 1));
    assert_eq!(flock.has(1, oid(1, 9)), Some(2));
}

/// What was not found was served as zeroes.
#[test]
fn what_is_missing_is_not_zeroes() {
    let mut flock = Flock::new(2);
    assert_eq!(flock.write(0, oid(1, 0), 1), Some(Answer::Done));
    for node in 0..2 {
        let known = flock.nodes[node].replica.as_ref().unwrap().checkpoint();
        let storage = &mut flock.nodes[node].storage;
        storage.log(known);
        storage.synced(storage.last());
        storage.lose(oid(1, 0));
        // One copy is left at first, and then none.
        let expected = if node == 0 { Ok(Some(1)) } else { Err(Some(Answer::Damaged)) };
        assert_eq!(flock.read(0, oid(1, 0)), expected);
    }
}

/// What counted references lost objects when it was done twice.
#[test]
fn what_was_removed_and_written_again_is_not_removed_by_the_same_request() {
    let mut flock = Flock::new(2);
    assert_eq!(flock.write(0, oid(1, 0), 1), Some(Answer::Done));
    let first = flock.next_request(0, remove(oid(1, 0)));
    assert_eq!(flock.request(0, first.clone()), Some(Answer::Done));
    assert_eq!(flock.read(0, oid(1, 0)), Ok(None));
    assert_eq!(flock.write(0, oid(1, 0), 2), Some(Answer::Done));
    assert_eq!(flock.request(0, first.clone()), Some(Answer::Done), "its answer was lost");
    assert_eq!(flock.read(0, oid(1, 0)), Ok(Some(2)));
    // So it is for whoever is primary next.
    flock.agree(&[1, 0], &[]);
    flock.pass(LEASES_RUN_OUT_US);
    let again = Request { pepoch: flock.configuration.pepoch, stamp: flock.stamp(1), ..first };
    assert_eq!(flock.request(1, again), Some(Answer::Done));
    assert_eq!(flock.read(1, oid(1, 0)), Ok(Some(2)));
}

/// Whatever was done to one disk stopped the whole cluster.
#[test]
fn a_snapshot_of_one_disk_holds_no_other() {
    let mut flock = Flock::new(2);
    let vdi = *flock.configuration.vdis.vdi(vid(1)).unwrap();
    let held = Vdi { hold: Some(Hold(1)), ..vdi };
    flock.configuration.vdis = Arc::new(Vdis::from_iter([(vid(1), held), (vid(2), vdi)]));
    flock.tell_all();
    assert_eq!(flock.write(0, oid(1, 0), 1), None);
    assert_eq!(flock.write(0, oid(2, 0), 2), Some(Answer::Done));
    assert_eq!(flock.read(0, oid(1, 0)), Ok(None), "reads go on");
    flock.configuration.vdis = Arc::new(Vdis::from_iter([(vid(1), vdi), (vid(2), vdi)]));
    flock.tell_all();
    assert_eq!(flock.read(0, oid(1, 0)), Ok(Some(1)));
}

/// Objects that were deleted came back with a node that had been away.
#[test]
fn what_was_removed_does_not_come_back_with_a_node_that_was_away() {
    let mut flock = Flock::new(3);
    assert_eq!(flock.write(0, oid(1, 0), 1), Some(Answer::Done));
    flock.dies(2, Crash::Killed);
    flock.agree(&[0, 1], &[]);
    flock.pass(LEASES_RUN_OUT_US);
    assert_eq!(flock.ask(0, remove(oid(1, 0))), Some(Answer::Done));
    flock.start(2);
    assert_eq!(flock.has(2, oid(1, 0)), Some(1));
    flock.agree(&[0, 1], &[2]);
    flock.pass(2_000_000);
    assert!(flock.has_promoted(2));
    assert_eq!(flock.has(2, oid(1, 0)), None);
    flock.agree(&[2, 0, 1], &[]);
    flock.pass(LEASES_RUN_OUT_US);
    assert_eq!(flock.read(2, oid(1, 0)), Ok(None));
}

/// A journal without checksums replayed what had been damaged on its way to it.
#[test]
fn what_was_damaged_on_its_way_is_not_logged() {
    let mut flock = Flock::new(2);
    flock.part(0, 1);
    assert_eq!(flock.write(0, oid(1, 0), 1), None);
    for (_, _, message) in &mut flock.kept_back {
        if let Body::Forward { record, .. } = &mut message.body {
            let change = Change::Write { first_block: 0, blocks: vec![Some(damaged())] };
            *record = Arc::new(Record { change, ..Record::clone(record) });
        }
    }
    flock.let_through(NOTHING);
    assert_eq!((flock.has(1, oid(1, 0)), flock.answers.len()), (None, 0));
    flock.pass(LEASES_RUN_OUT_US);
    assert_eq!((flock.has(1, oid(1, 0)), flock.answers.len()), (Some(1), 1), "it is sent again");
}

/// A read over several objects with a hole among them zeroed the wrong part.
#[test]
fn a_read_over_data_holes_and_what_was_never_written_has_each_in_its_place() {
    let mut flock = Flock::new(2);
    let blocks = |range: std::ops::Range<u32>| {
        ByteRange::new(range.start * BLOCK_SIZE_BYTES, range.len() as u32 * BLOCK_SIZE_BYTES).unwrap()
    };
    let pieces = (1..=4).map(block).collect();
    let (oid, durability) = (oid(1, 0), Durability::Logged);
    let written = Command::Write { oid, range: blocks(2..6), pieces, durability };
    assert_eq!(flock.ask(0, written), Some(Answer::Done));
    assert_eq!(flock.ask(0, Command::Discard { oid, range: blocks(3..4), durability }), Some(Answer::Done));
    let Some(Answer::Data(found)) = flock.ask(0, Command::Read { oid, blocks: 0..8 }) else { panic!() };
    let values: Vec<u8> =
        found.iter().map(|block| block.as_ref().map_or(0, |block| block.bytes[0])).collect();
    assert_eq!(values, [0, 0, 1, 0, 3, 4, 0, 0]);
}

/// Writes to neighbouring objects went one after another.
#[test]
fn objects_do_not_wait_for_each_other() {
    let mut flock = Flock::new(1);
    flock.nodes[0].log_is_slow = true;
    assert_eq!(flock.write(0, oid(1, 0), 1), None);
    assert_eq!(flock.read(0, oid(1, 1)), Ok(None), "it waits for no write but those to its own blocks");
    assert_eq!(flock.write(0, oid(1, 1), 2), None);
    flock.log_goes_on(0);
    assert_eq!(flock.answers.len(), 3, "both were given to the log at once");
}

/// A write that was sent twice and came late took the place of a newer one.
#[test]
fn a_write_that_is_sent_twice_is_logged_once() {
    let mut flock = Flock::new(2);
    flock.cut.insert((1, 0));
    assert_eq!(flock.write(0, oid(1, 0), 1), None);
    flock.cut.insert((0, 1));
    flock.pass(400_000);
    flock.kept_back.retain(|(_, _, message)| !matches!(message.body, Body::Beacon { .. }));
    let late: Vec<_> = flock.kept_back.iter().filter(|(from, ..)| *from == 0).cloned().collect();
    assert!(late.iter().any(|(_, _, message)| matches!(message.body, Body::Forward { .. })));
    flock.let_through(NOTHING);
    assert_eq!(flock.write(0, oid(1, 0), 2), Some(Answer::Done));
    flock.kept_back = late;
    flock.let_through(NOTHING);
    assert_eq!(flock.has(1, oid(1, 0)), Some(2));
}

/// The table of requests stayed when the data it told of was rolled back: the request was not carried out when it came again.
#[test]
fn what_is_known_of_requests_goes_with_their_data() {
    let mut flock = Flock::new(3);
    flock.part(0, 1);
    flock.part(0, 2);
    let request = flock.next_request(0, write(oid(1, 0), 1));
    assert_eq!(flock.request(0, request.clone()), None);
    assert_eq!(flock.has(0, oid(1, 0)), Some(1));
    // The others go on without it. It learns from them, and is primary again.
    flock.cut.clear();
    flock.kept_back.clear();
    flock.agree(&[1, 2], &[0]);
    flock.pass(2_000_000);
    assert!(flock.has_promoted(0));
    assert_eq!(flock.has(0, oid(1, 0)), None);
    flock.agree(&[0, 1, 2], &[]);
    flock.pass(LEASES_RUN_OUT_US);
    let again = Request { pepoch: flock.configuration.pepoch, stamp: flock.stamp(0), ..request };
    assert_eq!(flock.request(0, again), Some(Answer::Done));
    assert_eq!(flock.read(0, oid(1, 0)), Ok(Some(1)));
}

/// A replica could become primary before the old primary knew that it depends on it.
#[test]
fn a_learner_is_in_the_lease_before_it_is_proposed() {
    let mut flock = Flock::new(2);
    flock.agree(&[0], &[1]);
    flock.pass(2_000_000);
    assert!(flock.has_promoted(1) && flock.is_serving(0));
    // Nothing is recorded, but it may be any moment.
    flock.part(0, 1);
    flock.pass(LEASES_RUN_OUT_US);
    assert!(!flock.is_serving(0));
    assert_eq!(flock.read(0, oid(1, 0)), Err(Some(Answer::Refused(Refused::NotServing))));
}

/// It could also become one without what was written meanwhile.
#[test]
fn a_learner_is_proposed_when_it_acknowledged_all_writes() {
    let mut flock = Flock::new(2);
    flock.agree(&[0], &[]);
    flock.pass(LEASES_RUN_OUT_US);
    flock.is_stopped = |body| matches!(body, Body::Reply { .. });
    flock.agree(&[0], &[1]);
    for value in 1..5 {
        assert_eq!(flock.write(0, oid(1, 0), value), Some(Answer::Done));
    }
    // It is compared to the end; the writes have not come so far.
    flock.let_through(|body| matches!(body, Body::Forward { .. }));
    flock.pass(LEASES_RUN_OUT_US);
    assert!(!flock.has_promoted(1) && flock.are_equal(0, 1));
    flock.let_through(NOTHING);
    flock.pass(LEASES_RUN_OUT_US);
    assert!(flock.has_promoted(1));
    assert_eq!(flock.has(1, oid(1, 0)), Some(4));
}

/// The only replica went on in its pepoch after a restart, and gave versions twice.
#[test]
fn a_process_that_starts_again_does_not_go_on_in_its_pepoch() {
    let mut flock = Flock::new(1);
    assert_eq!(flock.write(0, oid(1, 0), 1), Some(Answer::Done));
    flock.dies(0, Crash::Killed);
    flock.start(0);
    flock.tell(0);
    flock.pass(3_000_000);
    assert!(!flock.is_serving(0), "the pepoch is that of the process before it");
    flock.agree(&[0], &[]);
    assert!(flock.is_serving(0));
    assert_eq!(flock.write(0, oid(1, 0), 2), Some(Answer::Done));
    assert_eq!(flock.read(0, oid(1, 0)), Ok(Some(2)));
}

/// What a gateway had sent before it died was carried out after the one that started in its place had answered.
#[test]
fn requests_of_a_gateway_that_ended_are_refused() {
    let mut flock = Flock::new(2);
    let late = flock.next_request(0, write(oid(1, 0), 1));
    flock.gateway = Process { incarnation: Incarnation(2), ..flock.gateway };
    flock.agree(&[0, 1], &[]);
    flock.pass(LEASES_RUN_OUT_US);
    assert_eq!(flock.write(0, oid(1, 0), 2), Some(Answer::Done));
    let late = Request { pepoch: flock.configuration.pepoch, stamp: flock.stamp(0), ..late };
    assert_eq!(flock.request(0, late), Some(Answer::Refused(Refused::Late)));
    assert_eq!(flock.read(0, oid(1, 0)), Ok(Some(2)));
}

/// A sync that was asked for before a write was taken for one that covers it.
#[test]
fn a_learner_is_synced_after_it_has_what_was_acknowledged_without_it() {
    for chance in 0..8 {
        let mut flock = Flock::new(2);
        flock.chance = chance;
        flock.agree(&[0], &[]);
        flock.pass(LEASES_RUN_OUT_US);
        flock.is_stopped = |body| matches!(body, Body::Reply { .. });
        flock.agree(&[0], &[1]);
        assert_eq!(flock.write(0, oid(1, 0), 1), Some(Answer::Done));
        assert_eq!(flock.ask(0, Command::Flush), Some(Answer::Done));
        flock.let_through(NOTHING);
        flock.pass(3_000_000);
        assert!(flock.has_promoted(1));
        flock.dies(1, Crash::PowerLost);
        flock.start(1);
        assert_eq!(flock.has(1, oid(1, 0)), Some(1));
    }
}

/// Versions that were used up left a partition without writes for good.
#[test]
fn another_pepoch_is_asked_for_before_versions_are_used_up() {
    let mut flock = Flock::new(2);
    flock.nodes[0].replica.as_mut().unwrap().renew_after(3);
    for value in 1..4 {
        flock.pass(100_000);
        assert!(!flock.proposals.contains(&SetChange::Renew));
        assert_eq!(flock.write(0, oid(1, 0), value), Some(Answer::Done));
    }
    flock.pass(100_000);
    assert!(flock.proposals.contains(&SetChange::Renew));
    assert_eq!(flock.write(0, oid(1, 0), 4), Some(Answer::Done), "it goes on until it is agreed on");
    flock.agree(&[0, 1], &[]);
    flock.pass(LEASES_RUN_OUT_US);
    assert_eq!(flock.write(0, oid(1, 0), 5), Some(Answer::Done));
    assert_eq!((flock.has(1, oid(1, 0)), flock.configuration.pepoch.0), (Some(5), 2));
}

/// What is remembered of requests grew without limit while one was not answered.
#[test]
fn a_gateway_runs_only_so_far_ahead_of_its_answers() {
    let mut flock = Flock::new(1);
    let last = flock.next_request(0, write(oid(1, 0), 1));
    let numbered = |number| {
        let id = RequestId { number, ..last.id };
        Request { id, ..last.clone() }
    };
    assert_eq!(flock.request(0, numbered(1 << 12)), Some(Answer::Done));
    assert_eq!(flock.request(0, numbered((1 << 12) + 1)), Some(Answer::Refused(Refused::NotServing)));
    let answered = Request { unanswered_from: 7, ..numbered((1 << 12) + 1) };
    assert_eq!(flock.request(0, answered), Some(Answer::Done));
    assert_eq!(
        flock.request(0, Request { unanswered_from: 3, ..numbered(2) }),
        Some(Answer::Refused(Refused::Late))
    );
}
