//! Replicas of several nodes at work, with a ledger and a network: what was written is there, whoever dies.

#[path = "flock/full.rs"]
mod full;
#[path = "../../tests/support/needs.rs"]
#[allow(dead_code, reason = "shared with the tests of the binary, which need more")]
mod needs;
#[path = "flock/running.rs"]
#[allow(dead_code, reason = "shared with the tests of nodes of several disks")]
mod running;

use std::time::{Duration, Instant};

use huntaway_ledger::State;
use huntaway_wire::Durability;
use huntaway_wire::replicated::{Answer, Command};
use running::{Flock, id, object, read, write};

#[test]
fn what_was_written_is_read_from_others_when_its_primary_is_gone() {
    let mut flock = Flock::new(3, 3);
    let vid = flock.create("disk");
    for index in 0..20 {
        let (partition, oid) = object(vid, index);
        let durability = if index % 2 == 0 { Durability::Logged } else { Durability::Stable };
        assert_eq!(flock.ask(partition, &write(oid, 1, index as u8, durability)), Answer::Done);
    }
    let (partition, _) = object(vid, 3);
    let primary = flock.state().primary(partition).expect("a primary").0[0];
    flock.kill(primary);
    for index in 0..20 {
        assert_eq!(read(&mut flock, vid, index, 3), [None, Some(index as u8), None], "{index}");
        let (partition, oid) = object(vid, index);
        assert_eq!(flock.ask(partition, &write(oid, 2, 100 + index as u8, Durability::Logged)), Answer::Done);
    }
    assert_eq!(flock.ask(partition, &Command::Flush), Answer::Done);
    flock.start(primary);
    let partitions: Vec<_> = (0..20).map(|index| object(vid, index).0).collect();
    flock.until_whole(&partitions);
    (1..=3).filter(|node| *node != primary).for_each(|node| flock.kill(node));
    for index in 0..20 {
        let expected = [None, Some(index as u8), Some(100 + index as u8)];
        assert_eq!(read(&mut flock, vid, index, 3), expected, "{index}");
    }
}

#[test]
fn a_process_that_is_asked_to_sync_all_says_what_it_knew_then_as_long_as_it_takes_part() {
    let mut flock = Flock::new(3, 3);
    let vid = flock.create("disk");
    for index in 0..8 {
        let (partition, oid) = object(vid, index);
        assert_eq!(flock.ask(partition, &write(oid, 1, index as u8, Durability::Logged)), Answer::Done);
    }
    let number = flock.state().number();
    for (asks, asked) in [(1, 1), (1, 2), (1, 3), (2, 1)] {
        let known = flock.sync_all(asks, asked);
        assert!(known >= Some(number), "{asks} asks {asked}, which knows {known:?} of {number}");
    }
    flock.kill(2);
    assert!(flock.sync_all(1, 3) >= Some(number));
    flock.leave(3);
    assert_eq!(flock.sync_all(1, 3), None, "who has left is sure of nothing");
}

#[test]
fn a_request_is_handed_on_to_a_primary_that_its_gateway_does_not_reach() {
    let mut flock = Flock::new(3, 3);
    let vid = flock.create("disk");
    flock.is_relayed = true;
    for index in 0..8 {
        let (partition, oid) = object(vid, index);
        assert_eq!(flock.ask(partition, &write(oid, 0, 7 + index as u8, Durability::Logged)), Answer::Done);
    }
    flock.is_relayed = false;
    for index in 0..8 {
        assert_eq!(read(&mut flock, vid, index, 2), [Some(7 + index as u8), None], "{index}");
    }
}

/// The thread that is at the replica waits for a disk that does not answer: it alone, and whoever wants something of that replica.
#[test]
fn a_replica_that_is_busy_for_long_keeps_no_other_from_its_leases() {
    let mut flock = Flock::new(3, 3);
    let vid = flock.create("disk");
    let put = |flock: &mut Flock, vid, index, byte| {
        let (partition, oid) = object(vid, index);
        flock.ask(partition, &write(oid, 0, byte, Durability::Logged))
    };
    (0..12).for_each(|index| assert_eq!(put(&mut flock, vid, index, 1), Answer::Done));
    let busy = object(vid, 0).0;
    let node = flock.primary(busy);
    let mut number = 0;
    flock.while_busy(node, busy, |flock| {
        // What the ledger says reaches all others, which act on it.
        let another = flock.create("another");
        number = flock.state().number();
        let began = Instant::now();
        for byte in (1..=u8::MAX).cycle() {
            for index in (0..12).filter(|index| object(vid, *index).0 != busy) {
                assert_eq!(put(flock, vid, index, byte), Answer::Done);
            }
            for index in (0..12).filter(|index| object(another, *index).0 != busy) {
                assert_eq!(put(flock, another, index, byte), Answer::Done);
            }
            if began.elapsed() > Duration::from_secs(3) {
                break;
            }
        }
        // Its place is taken, and nobody is told that it knows what it does not know.
        assert_eq!(put(flock, vid, 0, 2), Answer::Done);
        assert_ne!(flock.primary(busy), node);
        assert!(flock.known_by_all(node) < number);
    });
    let began = Instant::now();
    while flock.known_by_all(node) < number {
        assert!(began.elapsed() < running::DEADLINE, "what waited is taken in");
        std::thread::sleep(Duration::from_millis(10));
    }
    flock.until_whole(&[busy]);
    assert_eq!(read(&mut flock, vid, 0, 1), [Some(2)]);
}

/// What it had begun when its log got full waits, as it does on a disk that is slow to apply what is logged.
#[test]
fn a_replica_that_finds_no_room_for_a_while_takes_part_again_when_there_is_some() {
    let mut flock = Flock::new(3, 3);
    let vid = flock.create("disk");
    let put = |flock: &mut Flock, index, byte| {
        let (partition, oid) = object(vid, index);
        flock.ask(partition, &write(oid, 0, byte, Durability::Logged))
    };
    let partitions: Vec<_> = (0..6).map(|index| object(vid, index).0).collect();
    (0..6).for_each(|index| assert_eq!(put(&mut flock, index, 1), Answer::Done));
    let node = flock.primary(partitions[0]);
    flock.is_full(node, true);
    // Others go on without it, also where it was primary.
    (0..6).for_each(|index| assert_eq!(put(&mut flock, index, 2), Answer::Done));
    let takes_part =
        |state: &State, at| state.sets().set(at).is_some_and(|set| set.in_sync.contains(&id(node)));
    flock.until("it is left out", |state| partitions.iter().all(|at| !takes_part(state, *at)));
    // What waits there is nothing that resets, or leases from the ledger, wait for.
    let number = flock.state().number();
    flock.until("its node acts on that", |_| flock.known_by_all(node) >= number);
    let has_failed = |at| flock.state().sets().set(at).is_some_and(|set| set.failed.contains(&id(node)));
    assert!(!partitions.iter().any(|at| has_failed(*at)), "it waits no more");
    flock.is_full(node, false);
    flock.until_whole(&partitions);
    (1..=3).filter(|other| *other != node).for_each(|other| flock.kill(other));
    (0..6).for_each(|index| assert_eq!(read(&mut flock, vid, index, 1), [Some(2)], "{index}"));
}

/// The store says what it has room for before the replica takes in the first write to it, which would wait for that otherwise.
#[test]
fn the_first_write_to_a_replica_waits_for_nothing() {
    let mut flock = Flock::new(1, 1);
    let vid = flock.create("disk");
    let began = Instant::now();
    for index in 0.. {
        // So that the next one has a stamp.
        assert_eq!(read(&mut flock, vid, 0, 1), [None]);
        let (partition, oid) = object(vid, 1 + index);
        match flock.answers_at_once(partition, &write(oid, 0, 1, Durability::Logged)) {
            Some(Answer::Done) => return,
            // It may lack its lease for a while.
            _ => assert!(began.elapsed() < running::DEADLINE, "one of {index} is answered at once"),
        }
    }
}
