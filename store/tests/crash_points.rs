//! A process that dies at any one operation of the disk, and whatever comes after: nothing that was flushed is lost.
//!
//! The simulation goes everywhere by chance; this goes to every point of a few stories on purpose.

use std::sync::Arc;

use bytes::Bytes;
use huntaway_store::disk::{Crash, SimulatedDisk};
use huntaway_store::{Store, StoreOptions};
use huntaway_wire::{
    Answer, ByteRange, Durability, ObjectKind, ObjectRequest, Oid, Operation, Partition, Read, Reply,
    Request, Segments, Submission, Vid, piece_crcs,
};

/// Seeds of each power loss: some lose all that was not synced, some only a little.
const POWER_LOSSES: u64 = 8;

/// No story is longer than this, in operations of the disk.
const MAX_OPERATIONS: u64 = 2000;

/// Objects of different VDIs with one index: they share a partition, and so its index and directory.
fn object(number: u32) -> Oid {
    Oid::new(ObjectKind::Data, Vid::new(number).expect("the number is small"), 7)
}

fn partition() -> Partition {
    Partition::of(Vid::new(1).expect("1 is a vid"), 7)
}

fn block(byte: u8) -> Bytes {
    vec![byte; 4096].into()
}

fn range() -> ByteRange {
    ByteRange::new(8192, 4096).expect("the range is in the object")
}

fn open(disk: &Arc<SimulatedDisk>) -> Option<Store<SimulatedDisk>> {
    let options = StoreOptions { wal_bytes: 10 << 20, wal_segment_bytes: 5 << 20, ..StoreOptions::default() };
    match Store::open(disk.clone(), options) {
        Ok(store) => Some(store),
        Err(_) if disk.is_dead() => None,
        Err(error) => panic!("cannot be opened: {error}"),
    }
}

fn ask(store: &Store<SimulatedDisk>, oid: Oid, operation: Operation) -> Option<Answer> {
    let request = ObjectRequest { partition: partition(), pepoch: store.pepoch(), oid, operation };
    match store.submit(Request::Object(request)) {
        Submission::Done(answer) => Some(answer),
        Submission::Waiting(mut receiver) => {
            let _ = store.sync();
            receiver.try_recv().ok()
        }
    }
}

/// Whether the write was acknowledged as being on stable storage.
fn write(store: &Store<SimulatedDisk>, oid: Oid, byte: u8) -> bool {
    let data = Segments::from_iter([block(byte)]);
    let crcs = piece_crcs(range(), &data);
    let write = Operation::Write { range: range(), data, crcs, durability: Durability::Stable };
    matches!(ask(store, oid, write), Some(Ok(Reply::Done)))
}

fn remove(store: &Store<SimulatedDisk>, oid: Oid) -> bool {
    matches!(ask(store, oid, Operation::Remove { durability: Durability::Stable }), Some(Ok(Reply::Done)))
}

fn read(store: &Store<SimulatedDisk>, oid: Oid) -> u8 {
    let mut bytes = vec![0xee; 4096];
    let read = Read { partition: partition(), pepoch: store.pepoch(), oid, range: range() };
    store.read_now(&read, &mut bytes, None).expect("nothing waits").expect("it can be read");
    assert!(bytes.iter().all(|byte| *byte == bytes[0]), "the block is torn");
    bytes[0]
}

/// What the objects 1 to 3 hold: what they may hold, if the last request about them was not answered.
type Holds = [Vec<u8>; 3];

/// A second object appears, the first changes, a third comes and goes.
fn story(store: &Store<SimulatedDisk>, holds: &mut Holds) {
    let mut change = |number: usize, byte: u8, done: bool| {
        if done {
            holds[number].clear();
        }
        holds[number].push(byte);
        done
    };
    let applied = || store.apply().is_ok();
    let _ = change(0, 1, write(store, object(1), 1))
        && applied()
        && change(1, 2, write(store, object(2), 2))
        && change(2, 3, write(store, object(3), 3))
        && applied()
        && change(0, 4, write(store, object(1), 4))
        && change(2, 0, remove(store, object(3)))
        && applied()
        && store.checkpoint().is_ok();
}

fn check(store: &Store<SimulatedDisk>, holds: &mut Holds, told: &str) {
    for (number, may_hold) in (1..).zip(holds) {
        let found = read(store, object(number));
        assert!(may_hold.contains(&found), "{told}: object {number} holds {found}, not one of {may_hold:?}");
        *may_hold = vec![found];
    }
}

/// Tells the story until operation `at`, where the process dies; then two more crashes. False if it did not die.
fn run(at: u64, first: Crash, apply_between: bool, seed: u64) -> bool {
    let told = format!("died at {at}, {first:?}, applied between: {apply_between}, seed {seed}");
    let disk = Arc::new(SimulatedDisk::new(1 << 30));
    let mut holds: Holds = [vec![0], vec![0], vec![0]];
    disk.die_after(at);
    if let Some(store) = open(&disk) {
        story(&store, &mut holds);
    }
    let died = disk.is_dead();
    disk.crash(first, seed);
    if let Some(store) = open(&disk) {
        check(&store, &mut holds, &told);
        if apply_between {
            store.apply().expect("the disk is sound");
            store.checkpoint().expect("the disk is sound");
        }
    }
    disk.crash(Crash::Power, seed);
    let store = open(&disk).expect("the process lives");
    check(&store, &mut holds, &told);
    died
}

fn every_point(first: Crash, seeds: u64) {
    for (apply_between, seed) in
        [false, true].into_iter().flat_map(|apply| (0..seeds).map(move |s| (apply, s)))
    {
        let end = (0..MAX_OPERATIONS).find(|at| !run(*at, first, apply_between, seed));
        assert!(end.is_some_and(|end| end > 50), "the story was not told: {end:?}");
    }
}

#[test]
fn a_process_that_dies_anywhere_and_then_a_power_loss_lose_nothing() {
    every_point(Crash::Process, POWER_LOSSES);
}

#[test]
fn power_losses_anywhere_lose_nothing() {
    every_point(Crash::Power, POWER_LOSSES);
}
