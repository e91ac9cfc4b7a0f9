//! Full disks, failing disks.

use std::io::ErrorKind;

use huntaway_wire::{
    Broken, Durability, Error, OBJECT_SIZE_BYTES, Operation, Refusal, Reply, Request, Submission,
};

use super::harness::{Harness, oid, options, pattern, write};
use crate::StoreOptions;
use crate::disk::{Crash, Disk, Fault, Operation as DiskOperation, SimulatedDisk};

/// Space of a disk that holds the log, and a little more than two whole objects.
const SMALL_DISK_BYTES: u64 = (24 << 20) + (10 << 20);

fn small() -> Harness<SimulatedDisk> {
    Harness::simulated(SMALL_DISK_BYTES, StoreOptions { space_reserve_bytes: 1 << 20, ..options() })
}

fn roomy() -> Harness<SimulatedDisk> {
    Harness::simulated(1 << 30, options())
}

fn is_no_space<T: std::fmt::Debug>(answer: &Result<T, Error>) -> bool {
    matches!(answer, Err(Error::Refused(Refusal::NoSpace { needed_bytes: 1.. })))
}

#[test]
fn a_full_disk_refuses_writes_ahead_of_time_and_takes_them_again_after_a_discard() {
    let harness = small();
    let mut whole = 0;
    let refused = loop {
        let answer = harness.ask(oid(whole), write(0, &pattern(whole as u8, 1 << 20), Durability::Logged));
        if answer != Ok(Reply::Done) {
            break answer;
        }
        whole += 1;
        assert!(whole < 40, "the disk is never full");
    };
    assert!(is_no_space(&refused), "{refused:?}");
    // What was acknowledged fits.
    assert_eq!(harness.store.apply().unwrap().objects_without_room, 0);
    for index in 0..whole {
        assert!(harness.read(oid(index), 0, 1 << 20).unwrap() == pattern(index as u8, 1 << 20));
    }
    // Overwriting takes no space, and so does discarding.
    harness.write(oid(0), 0, &pattern(99, 1 << 20));
    harness.discard(oid(1), 0, OBJECT_SIZE_BYTES);
    harness.apply();
    harness.write(oid(whole), 0, &pattern(7, 512 << 10));
    harness.apply();
    assert!(harness.store.metrics.refused_for_space.get() > 0);
}

#[test]
fn a_reservation_that_does_not_fit_is_refused_and_leaves_nothing() {
    let harness = small();
    let mut reserved = 0;
    let refused = loop {
        let answer = harness.ask(oid(reserved), Operation::Reserve);
        if answer != Ok(Reply::Done) {
            break answer;
        }
        reserved += 1;
        assert!(reserved < 20, "the disk is never full");
    };
    assert!(is_no_space(&refused), "{refused:?}");
    assert!(reserved > 0);
    // A reserved object takes writes however full the disk is.
    harness.write(oid(0), 0, &pattern(1, OBJECT_SIZE_BYTES as usize));
    harness.apply();
    assert!(is_no_space(&harness.ask(oid(100), write(0, &[1; 4 << 20], Durability::Logged))));
}

#[test]
fn a_reservation_that_meets_a_full_disk_is_told_so() {
    let harness = roomy();
    harness.place.disk.fail(Fault {
        operation: DiskOperation::Allocate,
        after: 0,
        error: ErrorKind::StorageFull,
    });
    assert!(is_no_space(&harness.ask(oid(0), Operation::Reserve)));
    harness.apply();
    assert_eq!(harness.map(oid(0)).len(), 1);
    assert_eq!(harness.ask(oid(0), Operation::Reserve), Ok(Reply::Done));
}

#[test]
fn all_who_reserve_an_object_are_told_when_a_disk_is_full() {
    let harness = roomy();
    let reserve = || match harness.submit(oid(0), Operation::Reserve) {
        Submission::Waiting(receiver) => receiver,
        Submission::Done(answer) => panic!("{answer:?} before its space is there"),
    };
    let (mut first, mut second) = (reserve(), reserve());
    harness.place.disk.fail(Fault {
        operation: DiskOperation::Allocate,
        after: 0,
        error: ErrorKind::StorageFull,
    });
    assert_eq!(harness.store.apply().unwrap().objects_without_room, 1);
    assert!(is_no_space(&first.try_recv().unwrap()) && is_no_space(&second.try_recv().unwrap()));
    harness.apply();
    assert_eq!(harness.map(oid(0)).len(), 1);
    let (mut first, mut second) = (reserve(), reserve());
    harness.apply();
    assert_eq!((first.try_recv(), second.try_recv()), (Ok(Ok(Reply::Done)), Ok(Ok(Reply::Done))));
    assert_eq!(harness.map(oid(0))[0].provisioning, huntaway_wire::Provisioning::Mapped);
}

#[test]
fn application_that_meets_a_full_disk_loses_nothing() {
    // Wherever the disk becomes full, what was acknowledged stays, is readable, and is applied once there is room.
    // (The first write only notes how far the log is on stable storage, and may fail.)
    for after in 1.. {
        let harness = roomy();
        harness.write(oid(0), 0, &pattern(1, 8192));
        harness.apply();
        harness.write(oid(0), 4096, &pattern(2, 8192));
        harness.write(oid(1), 0, &pattern(3, 4096));
        harness.discard(oid(0), 0, 4096);
        harness.place.disk.fail(Fault {
            operation: DiskOperation::Write,
            after,
            error: ErrorKind::StorageFull,
        });
        let first = harness.store.apply().unwrap_or_else(|_| panic!("stopped after {after}"));
        let check = |harness: &Harness<SimulatedDisk>| {
            assert!(harness.read(oid(0), 0, 4096).unwrap() == [0; 4096], "after {after}");
            assert!(harness.read(oid(0), 4096, 8192).unwrap() == pattern(2, 8192), "after {after}");
            assert!(harness.read(oid(1), 0, 4096).unwrap() == pattern(3, 4096), "after {after}");
        };
        check(&harness);
        if first.objects_without_room == 0 {
            assert!(after > 5, "only {after} writes can meet a full disk");
            return;
        }
        assert!(harness.store.has_unapplied());
        let harness = if after % 2 == 0 { harness.restart() } else { harness };
        check(&harness);
        harness.apply();
        check(&harness);
        harness.store.checkpoint().unwrap();
        let report = crate::check::check_disk(&*harness.place.disk).unwrap();
        assert!(report.is_sound(), "after {after}: {report}");
        check(&harness.restart());
    }
}

#[test]
fn a_file_that_can_neither_be_filled_nor_removed_stops_the_disk() {
    let home = super::harness::partition(oid(0));
    let neighbour = (1..100_000).map(oid).find(|other| super::harness::partition(*other) == home).unwrap();
    let mut stopped = 0;
    for after in 0..6 {
        let harness = roomy();
        harness.write(neighbour, 0, &pattern(2, 4096));
        harness.apply();
        harness.write(oid(0), 0, &pattern(1, 4096));
        harness.store.sync().unwrap();
        let disk = harness.place.disk.clone();
        disk.fail(Fault { operation: DiskOperation::Write, after, error: ErrorKind::StorageFull });
        // The directory and the index are there: the file's is the only name that is made.
        disk.fail(Fault { operation: DiskOperation::Name, after: 1, error: ErrorKind::Other });
        let is_stopped = harness.store.apply().is_err();
        assert_eq!(harness.store.has_failed(), is_stopped);
        stopped += u32::from(is_stopped);
        disk.crash(Crash::Process, 0);
        let harness = harness.restart();
        harness.apply();
        assert!(harness.read(oid(0), 0, 4096).unwrap() == pattern(1, 4096), "after {after}");
    }
    assert!(stopped > 0, "no removal of a file that was begun failed");
}

#[test]
fn a_failed_sync_stops_the_disk_for_good() {
    let harness = roomy();
    harness.write(oid(0), 0, &[1; 4096]);
    let Submission::Waiting(mut stable) = harness.submit(oid(0), write(0, &[2; 4096], Durability::Stable))
    else {
        panic!("answered before it was synced");
    };
    harness.place.disk.fail(Fault { operation: DiskOperation::SyncData, after: 0, error: ErrorKind::Other });
    assert!(harness.store.sync().is_err());
    let failed: Error = Broken::DiskFailed { disk: "the disk".into() }.into();
    assert_eq!(stable.try_recv(), Ok(Err(failed.clone())));
    assert!(harness.store.has_failed());
    assert_eq!(harness.read_only(oid(0)), Err(failed.clone()));
    assert_eq!(harness.ask(oid(0), write(0, &[3], Durability::Logged)), Err(failed.clone()));
    assert_eq!(harness.settle(harness.store.submit(Request::Flush)), Err(failed));
    assert!(harness.store.sync().is_err() && harness.store.apply().is_err());
    // The next start goes by what the disk holds.
    assert!(harness.restart().read(oid(0), 0, 4096).is_ok());
}

#[test]
fn a_disk_that_fails_during_application_is_stopped_and_nothing_is_released() {
    for operation in
        [DiskOperation::Write, DiskOperation::SyncData, DiskOperation::SyncDir, DiskOperation::Name]
    {
        // One sync succeeds: the log's.
        let after = u64::from(operation == DiskOperation::SyncData);
        let harness = roomy();
        harness.write(oid(0), 0, &pattern(1, 4096));
        harness.place.disk.fail(Fault { operation, after, error: ErrorKind::Other });
        assert!(harness.store.apply().is_err(), "{operation:?}");
        assert!(harness.store.has_failed());
        let harness = harness.restart();
        assert!(harness.read(oid(0), 0, 4096).unwrap() == pattern(1, 4096), "{operation:?}");
        harness.apply();
        assert!(harness.read(oid(0), 0, 4096).unwrap() == pattern(1, 4096), "{operation:?}");
    }
}

#[test]
fn a_read_error_is_a_corrupt_block_and_stops_nothing() {
    let harness = roomy();
    harness.write(oid(0), 0, &pattern(1, 4096));
    harness.apply();
    for after in 0..2 {
        harness.place.disk.fail(Fault { operation: DiskOperation::Read, after, error: ErrorKind::Other });
    }
    assert_eq!(harness.read_only(oid(0)), Err(Broken::CorruptBlock { oid: oid(0), block: 0 }.into()));
    assert!(harness.read(oid(0), 0, 4096).unwrap() == pattern(1, 4096));
}

#[test]
fn an_index_that_could_not_be_read_is_read_the_next_time() {
    let harness = roomy();
    harness.write(oid(0), 0, &pattern(1, 4096));
    harness.apply();
    harness.store.checkpoint().unwrap();
    let harness = harness.restart();
    harness.place.disk.fail(Fault { operation: DiskOperation::Read, after: 0, error: ErrorKind::Other });
    assert!(matches!(harness.read_only(oid(0)), Err(Error::Broken(_))));
    assert!(harness.read(oid(0), 0, 4096).unwrap() == pattern(1, 4096));
}

/// Giving up what cannot be applied would bring back what was there before.
#[test]
fn a_read_that_fails_while_a_write_is_applied_brings_nothing_back() {
    let mut stopped = 0;
    for after in 0..12 {
        let harness = roomy();
        harness.write(oid(0), 0, &pattern(1, 4096));
        harness.apply();
        harness.write(oid(0), 0, &pattern(2, 4096));
        // What is open is let go, so that the file is opened again.
        harness.store.objects.remove((super::harness::partition(oid(0)), oid(0)));
        harness.place.disk.fail(Fault { operation: DiskOperation::Read, after, error: ErrorKind::Other });
        stopped += u32::from(harness.store.apply().is_err());
        harness.place.disk.crash(Crash::Process, 0);
        let harness = harness.restart();
        assert!(harness.read(oid(0), 0, 4096).unwrap() == pattern(2, 4096), "after {after}");
        harness.apply();
        assert!(harness.read(oid(0), 0, 4096).unwrap() == pattern(2, 4096), "after {after}");
    }
    assert!(stopped > 0, "no read failed that application needs");
}

#[test]
fn a_disk_that_an_unreadable_file_stopped_serves_all_others_once_that_is_gone() {
    let harness = roomy();
    (0..4).for_each(|index| harness.write(oid(index), 0, &pattern(1, 4096)));
    harness.apply();
    harness.store.checkpoint().unwrap();
    harness.write(oid(0), 4096, &pattern(2, 4096));
    harness.store.sync().unwrap();
    let harness = harness.restart();
    let partition = super::harness::partition(oid(0));
    let path = format!("objects/{partition}.1/{}", oid(0));
    let unreadable = |harness: &Harness<SimulatedDisk>| {
        (0..6).any(|after| {
            let error = ErrorKind::Other;
            harness.place.disk.fail(Fault { operation: DiskOperation::Read, after, error });
            harness.store.apply().is_err()
        })
    };
    assert!(unreadable(&harness) && harness.store.has_failed());
    harness.place.disk.crash(Crash::Process, 0);
    harness.place.disk.remove(&path).unwrap();
    let harness = harness.restart();
    harness.apply();
    assert_eq!(harness.read_only(oid(0)), Err(Broken::DamagedObject { oid: oid(0) }.into()));
    (1..4).for_each(|index| assert_eq!(harness.read(oid(index), 0, 4096), Ok(pattern(1, 4096))));
    harness.write(oid(1), 0, &pattern(3, 4096));
    harness.apply();
}
