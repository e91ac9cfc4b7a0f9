//! The store at work with its threads.

use std::path::Path;
use std::time::{Duration, Instant};

use huntaway_wire::{
    ByteRange, Durability, ObjectRequest, Operation, Peer, Refusal, Reply, Request, Submission,
};
use prometheus::Registry;

use super::harness::{io_uring_is_allowed, oid, options, partition, pattern, wait, write};
use crate::disk::SeededRandom;
use crate::{LocalStore, OpenError, ReadEngine};

/// How long a test waits for what must come about.
const PATIENCE: Duration = Duration::from_secs(30);

fn open(directory: &Path) -> LocalStore {
    LocalStore::open(directory, options(), &Registry::new()).unwrap()
}

fn submit(store: &LocalStore, operation: Operation) -> Submission {
    let (oid, pepoch) = (oid(0), store.pepoch());
    store.submit(Request::Object(ObjectRequest { partition: partition(oid), pepoch, oid, operation }))
}

fn read(store: &LocalStore, length: u32) -> Vec<u8> {
    let range = ByteRange::new(0, length).unwrap();
    let Ok(Reply::Data(data)) = wait(submit(store, Operation::Read { range })) else { panic!("no data") };
    data.concat()
}

#[test]
fn stable_writes_flushes_and_reservations_are_answered_by_the_threads() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for round in 0..20 {
        let data = pattern(round, 10_000);
        assert_eq!(wait(submit(&store, write(0, &data, Durability::Stable))), Ok(Reply::Done));
        assert_eq!(wait(submit(&store, write(0, &data, Durability::Logged))), Ok(Reply::Done));
        assert_eq!(wait(store.submit(Request::Flush)), Ok(Reply::Done));
        assert!(read(&store, 10_000) == data);
    }
    assert_eq!(wait(submit(&store, Operation::Reserve)), Ok(Reply::Done));
    store.close().unwrap();
}

#[test]
fn what_is_written_is_applied_without_being_asked() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    assert_eq!(wait(submit(&store, write(0, &[1; 4096], Durability::Logged))), Ok(Reply::Done));
    let begun = Instant::now();
    while store.store().has_unapplied() || store.store().memory_bytes() > 0 {
        assert!(begun.elapsed() < PATIENCE, "it is never applied");
        std::thread::yield_now();
    }
    assert_eq!(read(&store, 4096), [1; 4096]);
}

#[test]
fn writes_beyond_all_bounds_wait_and_come_through() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options();
    options.memory_bytes = 2 << 20;
    options.apply_at_bytes = 1 << 20;
    let store = LocalStore::open(directory.path(), options, &Registry::new()).unwrap();
    let submissions: Vec<_> =
        (0..60).map(|round| submit(&store, write(0, &vec![round; 1 << 20], Durability::Logged))).collect();
    for submission in submissions {
        let answer = wait(submission);
        assert!(matches!(answer, Ok(Reply::Done) | Err(huntaway_wire::Error::Refused(Refusal::NotServing))));
    }
    assert_eq!(wait(submit(&store, write(0, &[77; 4096], Durability::Logged))), Ok(Reply::Done));
    assert_eq!(read(&store, 4096), [77; 4096]);
}

/// Writes, discards and reads back one part of an object that other threads use, too.
fn use_a_part(store: &LocalStore, part: u8) {
    const PART_BYTES: usize = 300_000;
    let origin = u32::from(part) * PART_BYTES as u32 + 1000;
    let mut expected = vec![0; PART_BYTES];
    let mut random = SeededRandom::new(part.into());
    for round in 0..250u32 {
        let offset = random.below(PART_BYTES as u64 - 1) as usize;
        let length = 1 + random.below((PART_BYTES - offset).min(40_000) as u64 - 1) as usize;
        let place = origin + offset as u32;
        let range = ByteRange::new(place, length as u32).unwrap();
        if random.chance(1, 4) {
            let discard = Operation::Discard { range, durability: Durability::Logged };
            assert_eq!(wait(submit(store, discard)), Ok(Reply::Done));
            expected[offset..offset + length].fill(0);
        } else {
            let data = pattern(round as u8 ^ part, length);
            assert_eq!(wait(submit(store, write(place, &data, Durability::Logged))), Ok(Reply::Done));
            expected[offset..offset + length].copy_from_slice(&data);
        }
        let range = ByteRange::new(origin, PART_BYTES as u32).unwrap();
        let Ok(Reply::Data(found)) = wait(submit(store, Operation::Read { range })) else {
            panic!("part {part} cannot be read in round {round}");
        };
        assert!(found.concat() == expected, "part {part}, round {round}");
    }
}

fn readers_and_writers_do_not_see_application(read_engine: ReadEngine) {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options();
    options.memory_bytes = 4 << 20;
    options.apply_at_bytes = 1;
    options.read_engine = read_engine;
    let store = LocalStore::open(directory.path(), options, &Registry::new()).unwrap();
    std::thread::scope(|scope| {
        for part in 0..4 {
            let store = &store;
            scope.spawn(move || use_a_part(store, part));
        }
    });
    assert_eq!(store.store().metrics.corrupt_blocks.get(), 0);
    store.close().unwrap();
    drop(store);
    assert!(crate::check::check(directory.path()).unwrap().is_sound());
}

#[test]
fn readers_and_writers_never_see_application_at_work() {
    readers_and_writers_do_not_see_application(ReadEngine::Threads);
}

#[test]
fn readers_by_io_uring_never_see_application_at_work() {
    if io_uring_is_allowed() {
        readers_and_writers_do_not_see_application(ReadEngine::IoUring);
    }
}

#[test]
fn a_closed_store_has_nothing_to_replay() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    assert_eq!(wait(submit(&store, write(100, &[5; 9000], Durability::Logged))), Ok(Reply::Done));
    store.close().unwrap();
    let refused = wait(submit(&store, write(0, &[1], Durability::Logged)));
    assert_eq!(refused, Err(Refusal::NotServing.into()));
    drop(store);
    let report = crate::check::check(directory.path()).unwrap();
    assert_eq!((report.log_records, report.objects, report.is_sound()), (0, 1, true), "{report}");
    let store = open(directory.path());
    assert_eq!(read(&store, 9100)[100..], [5; 9000]);
}

#[test]
fn a_directory_in_use_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let again = LocalStore::open(directory.path(), options(), &Registry::new());
    assert!(matches!(again.err(), Some(OpenError::InUse { .. })));
    assert!(matches!(crate::check::check(directory.path()), Err(OpenError::InUse { .. })));
    drop(store);
    drop(open(directory.path()));
}

#[test]
fn metrics_say_what_the_store_holds() {
    let directory = tempfile::tempdir().unwrap();
    let registry = Registry::new();
    let store = LocalStore::open(directory.path(), options(), &registry).unwrap();
    assert_eq!(wait(submit(&store, write(0, &[1; 4096], Durability::Stable))), Ok(Reply::Done));
    let families = registry.gather();
    let value = |name: &str| {
        let family = families.iter().find(|family| family.name() == name).unwrap();
        let metric = &family.get_metric()[0];
        metric.get_gauge().get_value() + metric.get_counter().get_value()
    };
    assert!(value("huntaway_store_size_bytes") > 0.0);
    assert_eq!(value("huntaway_store_corrupt_blocks_total"), 0.0);
    assert_eq!(value("huntaway_store_disk_failed"), 0.0);
}
