//! Partitions whose index cannot be used: they get another one when that is known, and nothing that was there is taken for nothing.

use std::io::ErrorKind;
use std::sync::Arc;

use huntaway_replica::{Entry, Outcome};
use huntaway_wire::Version;

use super::{known, oid, partition, version, write};
use crate::disk::{Crash, Disk, Fault, Operation, SimulatedDisk};
use crate::{LogError, Store, StoreOptions};

const INDEX: &str = "objects/001.1/index";

/// What becomes of the partition's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    /// A bit of the index flips.
    Bit,
    /// The index is gone.
    Index,
    /// All of its directory is.
    Directory,
}

const ALL: [Lost; 3] = [Lost::Bit, Lost::Index, Lost::Directory];

fn open(disk: &Arc<SimulatedDisk>) -> Store<SimulatedDisk> {
    let options = StoreOptions { opens_damaged_log: true, ..super::options() };
    Store::open(disk.clone(), options).unwrap()
}

/// A disk on which the partition has object 0 in its index, and objects 1 and 2 in the log, 2 with a file that holds block 0.
fn disk(lost: Lost) -> Arc<SimulatedDisk> {
    let disk = Arc::new(SimulatedDisk::new(1 << 30));
    let store = open(&disk);
    (0..3).step_by(2).for_each(|index| {
        store.log_entry(partition(1), &write(version(1, index + 1), index, 0, &[Some(1)])).unwrap();
    });
    store.apply().unwrap();
    store.log_entry(partition(1), &known(&[])).unwrap();
    store.log_entry(partition(1), &write(version(1, 4), 1, 0, &[Some(4)])).unwrap();
    store.log_entry(partition(1), &write(version(1, 5), 2, 1, &[Some(5)])).unwrap();
    store.sync().unwrap();
    store.apply().unwrap();
    drop(store);
    disk.crash(Crash::Process, 0);
    match lost {
        Lost::Bit => assert!(disk.flip(INDEX, 3, 1)),
        Lost::Index => disk.remove(INDEX).and_then(|()| disk.sync_dir("objects/001.1")).unwrap(),
        Lost::Directory => {
            let moved = disk.rename("objects/001.1", "taken");
            moved.and_then(|()| disk.sync_dir("objects")).and_then(|()| disk.sync_dir("")).unwrap();
        }
    }
    Arc::new(disk.copy())
}

fn is_told(store: &Store<SimulatedDisk>) -> bool {
    store.is_log_damaged(partition(1))
}

/// The version of a block, or that it is not known.
fn block(store: &Store<SimulatedDisk>, index: u32, block: u32) -> Option<Version> {
    match store.read_blocks(partition(1), oid(index), block..block + 1) {
        Outcome::Blocks(blocks) => Some(blocks[0].version),
        Outcome::Damaged(_) => None,
        other => panic!("{other:?}"),
    }
}

/// Object 0 is missing, not empty, unless nothing tells of its file; of the others, there is what the log says.
fn check(store: &Store<SimulatedDisk>, lost: Lost) {
    let is_gone = lost == Lost::Directory;
    assert_eq!(block(store, 0, 0), is_gone.then_some(Version::NEVER), "{lost:?}");
    assert_eq!(block(store, 1, 0), Some(version(1, 4)), "{lost:?}");
    assert_eq!(block(store, 2, 0), is_gone.then_some(Version::NEVER), "{lost:?}");
    assert_eq!(block(store, 2, 1), Some(version(1, 5)), "{lost:?}");
}

#[test]
fn a_partition_without_an_index_is_begun_anew_when_that_is_known() {
    for lost in ALL {
        let disk = disk(lost);
        for _ in 0..2 {
            let store = open(&disk);
            assert!(is_told(&store), "{lost:?}: until it is known, whoever opens the store next is told");
            assert_eq!(store.log_entry(partition(1), &known(&[])), Err(LogError::DamagedIndex));
            // Others go on, and the log keeps what it has of this one.
            store.log_entry(partition(2), &write(version(1, 1), 0, 0, &[Some(1)])).unwrap();
            store.apply().unwrap();
            drop(store);
            disk.crash(Crash::Process, 0);
        }
        let store = open(&disk);
        let damaged = disk.image(INDEX);
        assert!(is_told(&store));
        store.log_damage_is_known();
        assert!(!is_told(&store));
        check(&store, lost);
        let kept = disk.files().into_iter().find(|path| path.starts_with("objects/001.1/index.damaged."));
        assert_eq!((kept.is_some(), damaged.is_some()), (lost == Lost::Bit, lost == Lost::Bit));
        for crash in [Crash::Process, Crash::Power, Crash::Process] {
            drop(open(&disk));
            disk.crash(crash, 3);
            let store = open(&disk);
            assert!(!is_told(&store));
            check(&store, lost);
            store.apply().unwrap();
            check(&store, lost);
        }
    }
}

/// What was known of requests is known, and the log is kept for that until it is told again.
#[test]
fn what_the_log_says_of_requests_is_not_lost_with_the_index() {
    let disk = disk(Lost::Bit);
    let store = open(&disk);
    assert!(is_told(&store));
    store.log_damage_is_known();
    let mut expected = huntaway_replica::Recovered::default();
    [known(&[]), write(version(1, 4), 1, 0, &[Some(4)]), write(version(1, 5), 2, 1, &[Some(5)])]
        .iter()
        .for_each(|entry: &Entry| expected.take(entry));
    assert_eq!(super::knowledge(store.recovered(partition(1))), super::knowledge(expected));
    store.log_entry(partition(1), &Entry::Remove { oid: oid(0) }).unwrap();
    store.log_entry(partition(1), &Entry::Remove { oid: oid(2) }).unwrap();
    let begins = store.wal.written();
    store.log_entry(partition(1), &known(&[])).unwrap();
    store.sync().unwrap();
    assert_eq!(store.apply().unwrap().objects_without_room, 0);
    assert_eq!(store.wal.released(), begins);
    assert_eq!(block(&store, 0, 0), Some(Version::NEVER), "what is removed is not missing any more");
}

/// What the system is short of when it is to be done may be there later.
#[test]
fn what_cannot_be_begun_anew_now_is_by_whoever_applies() {
    for lost in ALL {
        let disk = disk(lost);
        let store = open(&disk);
        assert!(is_told(&store));
        let full = Fault { operation: Operation::Name, after: 0, error: ErrorKind::StorageFull };
        disk.fail(full);
        store.log_damage_is_known();
        assert!(store.is_to_begin_anew() && store.is_unreadable_now(partition(1)), "{lost:?}");
        disk.fail(full);
        store.apply().unwrap();
        assert!(store.is_to_begin_anew(), "{lost:?}");
        store.apply().unwrap();
        assert!(!store.is_to_begin_anew() && !store.is_unreadable_now(partition(1)), "{lost:?}");
        check(&store, lost);
    }
}

/// Whatever was done when the process, or the machine, stops: it is told again, or done.
#[test]
fn what_is_begun_anew_can_be_interrupted_anywhere() {
    for (lost, crash) in ALL.into_iter().flat_map(|lost| [(lost, Crash::Process), (lost, Crash::Power)]) {
        let mut done = false;
        for count in 0.. {
            let disk = disk(lost);
            let store = open(&disk);
            assert!(is_told(&store));
            disk.die_after(count);
            store.log_damage_is_known();
            let is_over = !disk.is_dead();
            drop(store);
            disk.crash(crash, count);
            let store = open(&disk);
            if is_told(&store) {
                assert!(!done && !is_over, "{lost:?} {crash:?} {count}");
                store.log_damage_is_known();
            } else {
                done = true;
            }
            check(&store, lost);
            if is_over {
                break;
            }
        }
        assert!(done, "{lost:?} {crash:?}");
    }
}
