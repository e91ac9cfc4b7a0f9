//! Replicas of several nodes at work, with a ledger and a network: what was written is there, whoever dies.

#[path = "flock/full.rs"]
mod full;
#[path = "../../tests/support/needs.rs"]
#[allow(dead_code, reason = "shared with the tests of the binary, which need more")]
mod needs;
#[path = "flock/running.rs"]
mod running;

use huntaway_wire::Durability;
use huntaway_wire::replicated::{Answer, Command};
use running::{Flock, object, read, write};

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
