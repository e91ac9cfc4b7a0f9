//! Reads that wait for the disk: what carries them out, and that whoever asks does not wait.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use huntaway_wire::{
    Answer, Broken, ByteRange, Durability, Error, ObjectRequest, Oid, Operation, Peer, Read, Refusal, Reply,
    Request, Submission,
};
use prometheus::Registry;

use super::harness::{Harness, io_uring_is_allowed, oid, options, partition, pattern, wait, write};
use crate::disk::{Disk, FileDisk, Open, SeededRandom, SimulatedDisk};
use crate::locking::lock;
use crate::service::lock_directory;
use crate::{LocalStore, ReadEngine, StoreOptions};

/// Objects of a store with something in them, and their bytes.
const OBJECTS: u32 = 6;
const BYTES: usize = 200_000;

/// Where nothing was written in them: it is a hole between blocks that are not neighbours.
const HOLE: std::ops::Range<usize> = 81_920..90_112;

fn open(directory: &Path, read_engine: ReadEngine) -> LocalStore {
    LocalStore::open(directory, StoreOptions { read_engine, ..options() }, &Registry::new()).unwrap()
}

/// A store in which all was applied, closed.
fn stored() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), ReadEngine::Threads);
    for index in 0..OBJECTS {
        for (start, end) in [(0, HOLE.start), (HOLE.end, BYTES)] {
            let data = &pattern(index as u8, BYTES)[start..end];
            let answer = wait(submit(&store, index, write(start as u32, data, Durability::Logged)));
            assert_eq!(answer, Ok(Reply::Done));
        }
    }
    store.close().unwrap();
    directory
}

fn content(index: u32) -> Vec<u8> {
    let mut bytes = pattern(index as u8, BYTES);
    bytes[HOLE].fill(0);
    bytes
}

fn submit(store: &LocalStore, index: u32, operation: Operation) -> Submission {
    let (oid, pepoch) = (oid(index), store.pepoch());
    store.submit(Request::Object(ObjectRequest { partition: partition(oid), pepoch, oid, operation }))
}

fn submit_read(store: &LocalStore, index: u32, start: usize, length: usize) -> Submission {
    let range = ByteRange::new(start as u32, length as u32).unwrap();
    submit(store, index, Operation::Read { range })
}

fn data(answer: Answer) -> Vec<u8> {
    match answer {
        Ok(Reply::Data(segments)) => segments.concat(),
        other => panic!("{other:?} is no data"),
    }
}

fn object_path(directory: &Path, oid: Oid) -> PathBuf {
    directory.join(format!("objects/{}.1/{oid}", partition(oid)))
}

/// What a store calls what carries out its reads.
fn engine(registry: &Registry) -> String {
    let families = registry.gather();
    let family = families.iter().find(|family| family.name() == "huntaway_store_read_engine").unwrap();
    let labels = family.get_metric()[0].get_label();
    labels.iter().find(|label| label.name() == "engine").unwrap().value().to_owned()
}

/// One module of tests for each engine.
macro_rules! for_each_engine {
    ($($name:ident,)*) => {
        mod threads {
            $(#[test] fn $name() { super::$name(super::ReadEngine::Threads); })*
        }
        mod io_uring {
            $(#[test] fn $name() {
                if super::io_uring_is_allowed() {
                    super::$name(super::ReadEngine::IoUring);
                }
            })*
        }
    };
}

for_each_engine! {
    every_part_of_every_object_is_read,
    recent_writes_and_what_is_stored_are_read_together,
    a_damaged_block_is_an_error_and_its_neighbours_are_not,
    everybody_is_answered_when_the_store_stops,
    everybody_is_answered_when_the_disk_fails,
    who_does_not_wait_any_more_does_no_harm,
}

fn every_part_of_every_object_is_read(engine: ReadEngine) {
    let directory = stored();
    let store = open(directory.path(), engine);
    let contents: Vec<_> = (0..OBJECTS).map(content).collect();
    let mut random = SeededRandom::new(5);
    // The first time no object is open.
    for _ in 0..3 {
        let mut submissions = Vec::new();
        for index in 0..OBJECTS {
            for _ in 0..20 {
                let start = random.below(BYTES as u64 - 1) as usize;
                let bound = if random.chance(1, 3) { BYTES } else { 10_000 };
                let length = 1 + random.below((BYTES - start - 1).min(bound) as u64) as usize;
                submissions.push((index, start, length, submit_read(&store, index, start, length)));
            }
        }
        for (index, start, length, submission) in submissions {
            let expected = &contents[index as usize][start..][..length];
            assert!(data(wait(submission)) == expected, "{index} {start} {length}");
        }
    }
    assert_eq!(data(wait(submit_read(&store, OBJECTS, 5, 9000))), [0; 9000], "what was never written");
    assert_eq!(store.store().waiting_reads(), 0);
}

fn recent_writes_and_what_is_stored_are_read_together(engine: ReadEngine) {
    let directory = stored();
    let store = open(directory.path(), engine);
    let mut expected = content(0);
    assert!(data(wait(submit_read(&store, 0, 0, BYTES))) == expected);
    for place in (0..BYTES - 5000).step_by(20_000) {
        let answer = wait(submit(&store, 0, write(place as u32, &[place as u8; 5000], Durability::Logged)));
        assert_eq!(answer, Ok(Reply::Done));
        expected[place..place + 5000].fill(place as u8);
        assert!(data(wait(submit_read(&store, 0, 1, BYTES - 2))) == expected[1..BYTES - 1]);
    }
}

fn a_damaged_block_is_an_error_and_its_neighbours_are_not(engine: ReadEngine) {
    use std::os::unix::fs::FileExt;
    let directory = stored();
    let file = File::options().write(true).open(object_path(directory.path(), oid(1))).unwrap();
    file.write_all_at(&[0xee; 10], crate::object::data_offset(3)).unwrap();
    let store = open(directory.path(), engine);
    let corrupt = Err(Error::from(Broken::CorruptBlock { oid: oid(1), block: 3 }));
    for _ in 0..3 {
        assert_eq!(wait(submit_read(&store, 1, 0, BYTES)), corrupt);
        assert_eq!(wait(submit_read(&store, 1, 3 * 4096 + 100, 512)), corrupt);
        assert!(data(wait(submit_read(&store, 1, 2 * 4096, 4096))) == content(1)[2 * 4096..3 * 4096]);
    }
}

fn everybody_is_answered_when_the_store_stops(engine: ReadEngine) {
    let directory = stored();
    let store = open(directory.path(), engine);
    let read = |n: usize| submit_read(&store, n as u32 % OBJECTS, n * 100, 50_000);
    let submissions: Vec<_> = (0..200).map(read).collect();
    store.close().unwrap();
    for (n, submission) in (0..).zip(submissions) {
        match wait(submission) {
            Err(Error::Refused(Refusal::NotServing)) => {}
            answer => assert!(data(answer) == content(n as u32 % OBJECTS)[n * 100..][..50_000]),
        }
    }
    assert_eq!(wait(read(0)), Err(Refusal::NotServing.into()));
    assert_eq!(store.store().waiting_reads(), 0);
}

fn everybody_is_answered_when_the_disk_fails(engine: ReadEngine) {
    let directory = stored();
    let store = open(directory.path(), engine);
    let submissions: Vec<_> = (0..100).map(|n| submit_read(&store, n % OBJECTS, 0, BYTES)).collect();
    let failed = store.store().fail(&io::Error::other("on purpose"));
    for submission in submissions {
        assert!(matches!(
            wait(submission),
            Ok(Reply::Data(_)) | Err(Error::Broken(Broken::DiskFailed { .. }))
        ));
    }
    assert_eq!(wait(submit_read(&store, 0, 0, 1)), Err(failed));
    assert_eq!(store.store().waiting_reads(), 0);
}

fn who_does_not_wait_any_more_does_no_harm(engine: ReadEngine) {
    let directory = stored();
    let store = open(directory.path(), engine);
    let mut kept = Vec::new();
    for n in 0..60 {
        let submission = submit_read(&store, n % OBJECTS, 0, BYTES);
        if n % 3 == 0 {
            kept.push((n, submission));
        }
    }
    for (n, submission) in kept {
        assert!(data(wait(submission)) == content(n % OBJECTS));
    }
}

#[test]
fn where_io_uring_is_refused_threads_read() {
    for errno in [rustix::io::Errno::PERM, rustix::io::Errno::NOSYS] {
        let directory = stored();
        let open = |read_engine, registry: &Registry| {
            let options = StoreOptions { read_engine, ..options() };
            let lock = lock_directory(directory.path()).unwrap();
            LocalStore::open_with(directory.path(), lock, options, registry, || Err(errno.into()))
        };
        assert!(open(ReadEngine::IoUring, &Registry::new()).is_err(), "it has to be used");
        let registry = Registry::new();
        let store = open(ReadEngine::Best, &registry).unwrap();
        let expected = if store.store().disk.is_memory() { "memory" } else { "threads" };
        assert_eq!(engine(&registry), expected);
        assert!(data(wait(submit_read(&store, 2, 0, BYTES))) == content(2));
    }
}

#[test]
fn io_uring_is_used_where_it_can_be() {
    if !io_uring_is_allowed() {
        return;
    }
    let (directory, registry) = (stored(), Registry::new());
    let store = LocalStore::open(directory.path(), options(), &registry).unwrap();
    let expected = if store.store().disk.is_memory() { "memory" } else { "io_uring" };
    assert_eq!(engine(&registry), expected);
    drop(store);
    let opened = |read_engine| {
        let registry = Registry::new();
        let options = StoreOptions { read_engine, ..options() };
        drop(LocalStore::open(directory.path(), options, &registry).unwrap());
        engine(&registry)
    };
    assert_eq!(
        (opened(ReadEngine::IoUring), opened(ReadEngine::Threads)),
        ("io_uring".into(), "threads".into())
    );
}

#[test]
fn a_ring_that_fails_leaves_its_reads_to_threads() {
    let directory = stored();
    let store = open(directory.path(), ReadEngine::Threads);
    let reads = &store.store().reads;
    // A ring's thread that took one read, was given another, and ended.
    reads.serve(crate::reads::Lane::Ring);
    let submissions = [submit_read(&store, 0, 0, BYTES), submit_read(&store, 1, 0, BYTES)];
    let (taken, _) = reads.next_for_ring().unwrap();
    reads.lose_ring();
    reads.leave_to_threads(taken);
    for (index, submission) in (0..).zip(submissions) {
        assert!(data(wait(submission)) == content(index));
    }
    assert!(data(wait(submit_read(&store, 2, 0, BYTES))) == content(2));
}

/// Reads four bytes if that is possible at once.
fn read_now(harness: &Harness<SimulatedDisk>, index: u32) -> Option<[u8; 4]> {
    let (oid, range) = (oid(index), ByteRange::new(10_000, 4).unwrap());
    let read = Read { partition: partition(oid), pepoch: harness.store.pepoch(), oid, range };
    let mut bytes = [0xee; 4];
    harness.store.read_now(&read, &mut bytes, None).map(|read| read.map(|()| bytes).unwrap())
}

#[test]
fn a_read_is_carried_out_at_once_only_if_nothing_has_to_be_waited_for() {
    let harness = Harness::simulated(1 << 30, options());
    (0..2).for_each(|index| harness.write(oid(index), 0, &[7; 20_000]));
    harness.apply();
    harness.store.checkpoint().unwrap();
    let disk = harness.place.disk.clone();
    drop(harness);
    disk.cool(1);
    let harness = Harness::on_old(disk);
    let state = |index| lock(&harness.store.partitions[partition(oid(index)).index()]);
    assert_eq!(read_now(&harness, 0), None, "the object is not open");
    let range = ByteRange::new(0, 1).unwrap();
    assert!(harness.ask(oid(0), Operation::Read { range }).is_ok());
    let found: Vec<_> = (0..100).map(|_| read_now(&harness, 0)).collect();
    let at_once = found.iter().flatten().count();
    assert!((1..100).contains(&at_once), "{at_once} of 100 are at hand");
    assert!(found.iter().flatten().all(|bytes| *bytes == [7; 4]));
    let held = state(0);
    assert!((0..20).all(|_| read_now(&harness, 0).is_none()), "somebody works on the partition");
    drop(held);
    // What was written lately is in the log, which is on the disk as well.
    harness.write(oid(0), 8192, &[8; 8192]);
    let found: Vec<_> = (0..100).map(|_| read_now(&harness, 0)).collect();
    assert!(found.contains(&None) && found.contains(&Some([8; 4])));
    assert!(found.iter().flatten().all(|bytes| *bytes == [8; 4]));
}

#[test]
fn the_page_cache_is_asked_first_where_it_can_be() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f");
    std::fs::write(&path, [7; 8192]).unwrap();
    let file = File::open(&path).unwrap();
    let disk = FileDisk::new(directory.path()).unwrap().asked_first(&file).unwrap();
    let file = disk.open("f", Open::Existing).unwrap();
    let mut bytes = [0; 4096];
    assert_eq!(disk.read_at(&file, &mut bytes, 0).unwrap(), 4096);
    bytes.fill(0);
    if disk.read_at_hand(&file, &mut bytes, 0) {
        assert_eq!(bytes, [7; 4096]);
    } else {
        eprintln!("skipped: the file system of {} does not tell what is cached", directory.path().display());
    }
    assert!(!disk.read_at_hand(&file, &mut bytes, 8000), "the file ends before");
    let plain = FileDisk::new(directory.path()).unwrap();
    assert!(plain.is_memory() && plain.read_at_hand(&file, &mut bytes, 0));
}
