//! A disk that is full: what needs no more space goes on, the rest is refused before anything of it is done, and what is
//! given back can be used at once.

use huntaway_wire::{Durability, Error, Operation, Refusal, Reply, Request, Space, Submission};

use super::harness::{Harness, oid, options, pattern, write};
use crate::disk::{Disk, SimulatedDisk};

const MIB: u32 = 1 << 20;

/// Objects of 1 MiB each that fit, and no more.
fn full() -> (Harness<SimulatedDisk>, u32) {
    let harness = Harness::simulated(34 << 20, options());
    for index in 0.. {
        match harness.ask(oid(index), write(0, &pattern(index as u8, MIB as usize), Durability::Logged)) {
            Ok(Reply::Done) => harness.apply(),
            Err(Error::Refused(Refusal::NoSpace { .. })) => return (harness, index),
            other => panic!("{other:?}"),
        }
    }
    unreachable!("the disk has an end")
}

fn is_refused(submission: Submission) -> bool {
    matches!(submission, Submission::Done(Err(Error::Refused(Refusal::NoSpace { .. }))))
}

fn space(harness: &Harness<SimulatedDisk>) -> Space {
    match harness.submit_any(Request::Space { exact: true }) {
        Submission::Done(Ok(Reply::Space(space))) => space,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_needs_no_more_space_goes_on() {
    let (harness, objects) = full();
    assert!(objects > 5, "{objects} objects");
    harness.write(oid(0), 4096, &pattern(99, 8192));
    harness.discard(oid(1), 0, 4096);
    assert_eq!(harness.read(oid(0), 4096, 8192), Ok(pattern(99, 8192)));
    assert_eq!(harness.read(oid(2), 0, MIB), Ok(pattern(2, MIB as usize)));
    harness.apply();
    assert_eq!(harness.read(oid(0), 4096, 8192), Ok(pattern(99, 8192)));
}

#[test]
fn what_is_refused_has_no_part_in_the_log_or_in_memory() {
    let (harness, objects) = full();
    let before = (harness.store.wal.written(), harness.store.memory_bytes());
    // It begins in blocks that have their space.
    for offset in [MIB, MIB - 4096, 0] {
        assert!(is_refused(harness.submit(oid(0), write(offset, &[7; 3 << 20], Durability::Logged))));
    }
    assert!(is_refused(harness.submit(oid(objects + 1), write(0, &[7; 1 << 20], Durability::Stable))));
    assert_eq!((harness.store.wal.written(), harness.store.memory_bytes()), before);
    assert_eq!(harness.read(oid(0), 0, MIB), Ok(pattern(0, MIB as usize)));
}

#[test]
fn a_write_waits_for_space_that_was_given_back_and_is_not_free_yet() {
    let remove = Operation::Remove { durability: Durability::Logged };
    let range = huntaway_wire::ByteRange::new(0, MIB).unwrap();
    for freeing in [remove, Operation::Discard { range, durability: Durability::Logged }] {
        let (harness, objects) = full();
        assert_eq!(harness.ask(oid(3), freeing), Ok(Reply::Done));
        let new = write(0, &pattern(77, MIB as usize - 65536), Durability::Logged);
        let waiting = harness.submit(oid(objects + 1), new);
        assert!(matches!(waiting, Submission::Waiting(_)), "{waiting:?}");
        assert_eq!(harness.settle(waiting), Ok(Reply::Done));
        harness.apply();
        let found = harness.read(oid(objects + 1), 0, MIB - 65536);
        assert_eq!(found, Ok(pattern(77, MIB as usize - 65536)));
        let more = write(0, &pattern(78, MIB as usize), Durability::Logged);
        assert!(is_refused(harness.submit(oid(objects + 2), more)), "nothing will be free");
    }
}

#[test]
fn available_space_is_what_can_still_be_written() {
    let harness = Harness::simulated(34 << 20, options());
    harness.apply();
    let fresh = space(&harness);
    assert_eq!(fresh.total_bytes, harness.place.disk.space().unwrap().total_bytes);
    harness.write(oid(0), 0, &pattern(1, MIB as usize));
    let promised = space(&harness);
    assert!(promised.available_bytes <= fresh.available_bytes - u64::from(MIB), "at once");
    harness.apply();
    let written = space(&harness).available_bytes;
    assert!(written >= promised.available_bytes, "what was promised is reckoned dear");
    harness.write(oid(0), 0, &pattern(2, MIB as usize));
    assert_eq!(space(&harness).available_bytes, written, "an overwrite takes nothing");
    harness.discard(oid(0), 0, MIB);
    harness.apply();
    assert!(space(&harness).available_bytes >= written + u64::from(MIB));
    let (full, _) = full();
    assert!(space(&full).available_bytes < u64::from(MIB) + 65536);
}
