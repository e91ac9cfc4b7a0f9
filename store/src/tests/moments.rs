//! What happens at the same time as something else: requests that come while the disk is at work, one at a chosen
//! moment.

use std::sync::{Arc, Mutex, mpsc};

use huntaway_wire::{
    ByteRange, Durability, ObjectRequest, Oid, Operation, Read, Refusal, Reply, Request, Submission,
};

use super::harness::{oid, options, partition, write};
use super::hooked::{Hooked, Moment};
use crate::disk::Crash;
use crate::locking::lock;
use crate::{Store, StoreOptions, Task};

type HookedStore = Arc<Store<Hooked>>;

fn open(disk: &Arc<Hooked>, options: StoreOptions) -> HookedStore {
    Arc::new(Store::open(disk.clone(), options).unwrap())
}

fn submit(store: &Store<Hooked>, oid: Oid, operation: Operation) -> Submission {
    let (partition, pepoch) = (partition(oid), store.pepoch());
    store.submit(Request::Object(ObjectRequest { partition, pepoch, oid, operation }))
}

fn write_logged(store: &Store<Hooked>, oid: Oid, byte: u8) {
    let answer = submit(store, oid, write(0, &[byte; 4096], Durability::Logged));
    assert!(matches!(answer, Submission::Done(Ok(Reply::Done))));
}

fn first_byte(store: &Store<Hooked>, oid: Oid) -> u8 {
    let range = ByteRange::new(0, 1).unwrap();
    let read = Read { partition: partition(oid), pepoch: store.pepoch(), oid, range };
    let mut byte = [0xee];
    store.read_now(&read, &mut byte, None).unwrap().unwrap();
    byte[0]
}

#[test]
fn a_read_of_recent_writes_finds_them_when_other_records_have_taken_their_place() {
    let disk = Arc::new(Hooked::new());
    let store = open(&disk, options());
    for block in 0..2_u8 {
        let data = [7 + block; 4096];
        let answer = submit(&store, oid(0), write(u32::from(block) * 4096, &data, Durability::Logged));
        assert!(matches!(answer, Submission::Done(Ok(Reply::Done))));
    }
    disk.once(Moment::Read, &store, |store| {
        let end = store.wal.written().0 + 2 * store.options.wal_bytes;
        while store.wal.written().0 < end {
            let answer = submit(store, oid(1), write(0, &[1; 1 << 20], Durability::Logged));
            assert!(matches!(answer, Submission::Done(Ok(Reply::Done))));
            store.apply().unwrap();
        }
    });
    let range = ByteRange::new(0, 8192).unwrap();
    let read = Read { partition: partition(oid(0)), pepoch: store.pepoch(), oid: oid(0), range };
    let mut bytes = [0xee; 8192];
    store.read_now(&read, &mut bytes, None).unwrap().unwrap();
    assert!(bytes[..4096] == [7; 4096] && bytes[4096..] == [8; 4096]);
}

/// Memory for eight writes of `LARGE` bytes, of which `store` holds as many as go.
const LARGE: usize = 120 << 10;

fn with_full_memory(disk: &Arc<Hooked>) -> HookedStore {
    let store = open(disk, StoreOptions { memory_bytes: 1 << 20, ..options() });
    for index in 0..8 {
        let answer = submit(&store, oid(index), write(0, &[1; LARGE], Durability::Logged));
        assert!(matches!(answer, Submission::Done(Ok(Reply::Done))));
    }
    store
}

#[test]
fn a_write_that_waits_for_memory_gets_it_while_the_rest_is_applied() {
    let disk = Arc::new(Hooked::new());
    let store = with_full_memory(&disk);
    let waiting = submit(&store, oid(100), write(0, &[2; LARGE], Durability::Logged));
    let Submission::Waiting(mut receiver) = waiting else { panic!("it does not wait") };
    let answered = Arc::new(Mutex::new((0, 0)));
    let count = answered.clone();
    disk.at_every_moment(move |moment| {
        if moment == Moment::Synced {
            let (before, after) = &mut *lock(&count);
            *(if *after > 0 || receiver.try_recv().is_ok() { after } else { before }) += 1;
        }
    });
    store.apply().unwrap();
    let (before, after) = *lock(&answered);
    assert!(after > before, "answered after {before} of {} syncs", before + after);
}

#[test]
fn small_writes_do_not_take_the_memory_that_a_large_one_waits_for() {
    let disk = Arc::new(Hooked::new());
    let store = with_full_memory(&disk);
    let large = submit(&store, oid(100), write(0, &[2; LARGE], Durability::Logged));
    let small = submit(&store, oid(101), write(0, &[3; 512], Durability::Logged));
    let (Submission::Waiting(mut large), Submission::Waiting(mut small)) = (large, small) else {
        panic!("one of them passed");
    };
    assert_eq!(first_byte(&store, oid(7)), 1, "what takes no memory goes on");
    let discard =
        Operation::Discard { range: ByteRange::new(0, 4096).unwrap(), durability: Durability::Logged };
    assert!(matches!(submit(&store, oid(7), discard), Submission::Done(Ok(Reply::Done))));
    store.apply().unwrap();
    assert_eq!((large.try_recv(), small.try_recv()), (Ok(Ok(Reply::Done)), Ok(Ok(Reply::Done))));
    write_logged(&store, oid(102), 4);
}

#[test]
fn a_write_during_application_stays_in_the_log() {
    // More partitions than are captured together.
    const OBJECTS: u32 = 80;
    for moment in [Moment::Written, Moment::Synced] {
        let disk = Arc::new(Hooked::new());
        let store = open(&disk, options());
        (0..OBJECTS).for_each(|index| write_logged(&store, oid(index), 1));
        store.sync().unwrap();
        disk.once(moment, &store, |store| {
            (0..OBJECTS).for_each(|index| write_logged(store, oid(index), 2));
        });
        store.apply().unwrap();
        store.checkpoint().unwrap();
        drop(store);
        let store = open(&disk, options());
        for index in 0..OBJECTS {
            assert_eq!(first_byte(&store, oid(index)), 2, "object {index}, {moment:?}");
        }
    }
}

#[test]
fn a_write_during_a_sync_waits_for_the_next() {
    let disk = Arc::new(Hooked::new());
    let store = open(&disk, options());
    write_logged(&store, oid(0), 1);
    let (sender, receiver) = mpsc::channel();
    disk.once(Moment::Synced, &store, move |store| {
        let stable = submit(store, oid(1), write(0, &[2; 4096], Durability::Stable));
        sender.send(stable).unwrap();
    });
    store.sync().unwrap();
    let Ok(Submission::Waiting(mut stable)) = receiver.try_recv() else { panic!("answered at once") };
    assert!(stable.try_recv().is_err(), "answered by a sync that had begun before");
    assert!(matches!(store.submit(Request::Flush), Submission::Waiting(_)));
    store.sync().unwrap();
    assert_eq!(stable.try_recv(), Ok(Ok(Reply::Done)));
    drop(store);
    disk.disk.crash(Crash::Power, 1);
    assert_eq!(first_byte(&open(&disk, options()), oid(1)), 2);
}

#[test]
fn a_write_that_is_synced_before_it_can_wait_is_answered() {
    let disk = Arc::new(Hooked::new());
    let store = open(&disk, options());
    let syncing = Arc::downgrade(&store);
    // It is called when the write is in the log and does not wait yet.
    store.on_work(move |task| {
        if let (Task::Apply, Some(store)) = (task, syncing.upgrade()) {
            store.sync().unwrap();
        }
    });
    let stable = submit(&store, oid(0), write(0, &[1; 4096], Durability::Stable));
    let Submission::Waiting(mut stable) = stable else { panic!("answered at once") };
    assert_eq!(stable.try_recv(), Ok(Ok(Reply::Done)));
}

#[test]
fn making_objects_takes_few_syncs() {
    const OBJECTS: u32 = 20;
    let disk = Arc::new(Hooked::new());
    let store = open(&disk, options());
    (0..OBJECTS).for_each(|index| write_logged(&store, oid(index), 1));
    store.sync().unwrap();
    let syncs = Arc::new(Mutex::new(0));
    let count = syncs.clone();
    disk.at_every_moment(move |moment| *lock(&count) += u32::from(moment == Moment::Synced));
    store.apply().unwrap();
    // The object, the index that is made with its partition, their names, the index; and once each, the partitions' names,
    // the record of them, and the mark of what is released.
    let syncs = *lock(&syncs);
    assert!(syncs <= OBJECTS * 4 + 3, "{syncs} syncs for {OBJECTS} new objects");
}

#[test]
fn a_read_finds_all_of_a_write_or_nothing_of_it() {
    const BYTES: usize = 4 * 4096;
    let disk = Arc::new(Hooked::new());
    let store = open(&disk, options());
    let put = |store: &Store<Hooked>, byte| {
        let answer = submit(store, oid(0), write(0, &[byte; BYTES], Durability::Logged));
        assert!(matches!(answer, Submission::Done(Ok(Reply::Done))));
        store.apply().unwrap();
    };
    put(&store, 1);
    // The fragment at the beginning is read by itself, and the rest after another write has gone to the file.
    let range = ByteRange::new(512, BYTES as u32 - 512).unwrap();
    disk.once(Moment::Read, &store, move |store| put(store, 2));
    let read = Read { partition: partition(oid(0)), pepoch: store.pepoch(), oid: oid(0), range };
    let mut bytes = [0xee; BYTES - 512];
    let mut crcs = [0; BYTES / 4096];
    store.read_now(&read, &mut bytes, Some(&mut crcs)).unwrap().unwrap();
    assert!(bytes == [2; BYTES - 512], "{} and {}", bytes[0], bytes[BYTES - 513]);
    assert_eq!(crcs, [crc32c::crc32c(&[2; 4096]); BYTES / 4096]);
}

#[test]
fn who_waits_when_the_store_ends_is_told_so() {
    let disk = Arc::new(Hooked::new());
    let store = with_full_memory(&disk);
    let stable = Operation::Remove { durability: Durability::Stable };
    let submissions =
        [submit(&store, oid(100), write(0, &[2; LARGE], Durability::Logged)), submit(&store, oid(0), stable)];
    store.end();
    for submission in submissions {
        let Submission::Waiting(mut receiver) = submission else { panic!("answered at once") };
        assert_eq!(receiver.try_recv(), Ok(Err(Refusal::NotServing.into())));
    }
    assert_eq!(store.waiting_requests(), 0);
}

#[test]
fn a_write_waits_for_no_space_that_is_given_back_after_it_came() {
    let disk = Arc::new(Hooked::new());
    // The reserve takes nearly all.
    let options = StoreOptions { space_reserve_bytes: (1 << 30) - (40 << 20), ..options() };
    let store = open(&disk, options);
    let new_object = |index| submit(&store, oid(index), write(0, &[1; 1 << 20], Durability::Logged));
    let objects = (0..).take_while(|&index| {
        let is_done = matches!(new_object(index), Submission::Done(Ok(Reply::Done)));
        store.apply().unwrap();
        is_done
    });
    let objects = objects.count() as u32;
    assert!(objects > 2);
    // The same block again and again: it gives back nothing more.
    let discard = |store: &Store<Hooked>| {
        let range = ByteRange::new(0, 4096).unwrap();
        let answer = submit(store, oid(0), Operation::Discard { range, durability: Durability::Logged });
        matches!(answer, Submission::Done(Ok(Reply::Done)))
    };
    assert!(discard(&store));
    let (weak, discards) = (Arc::downgrade(&store), Arc::new(Mutex::new(0)));
    let count = discards.clone();
    disk.at_every_moment(move |moment| {
        if moment == Moment::Synced
            && let Some(store) = weak.upgrade()
        {
            let is_done = discard(&store);
            *lock(&count) += u32::from(is_done);
        }
    });
    let lacking = submit(&store, oid(objects + 1), write(0, &[2; 2 << 20], Durability::Logged));
    let Submission::Waiting(mut lacking) = lacking else { panic!("{lacking:?} does not wait") };
    let other = submit(&store, oid(1), write(0, &[3; 4096], Durability::Logged));
    let Submission::Waiting(mut other) = other else { panic!("{other:?} passes the one before it") };
    store.apply().unwrap();
    store.apply().unwrap();
    let refused = lacking.try_recv().unwrap();
    assert!(matches!(refused, Err(huntaway_wire::Error::Refused(Refusal::NoSpace { .. }))), "{refused:?}");
    assert_eq!(other.try_recv(), Ok(Ok(Reply::Done)));
    assert!(*lock(&discards) > 1);
}
