//! Damaged files: what they hold is lost, nothing else.

use std::io::IoSlice;

use huntaway_wire::{Broken, Durability, Error, Oid, Operation, Reply, Submission};

use super::harness::{Harness, oid, options, partition, pattern, write};
use crate::disk::{Disk, Open, SimulatedDisk};

fn harness() -> Harness<SimulatedDisk> {
    let harness = Harness::simulated(1 << 30, options());
    for index in 0..3 {
        harness.write(oid(index), 0, &pattern(index as u8, 8192));
    }
    harness.apply();
    harness.store.checkpoint().unwrap();
    harness
}

/// Changes a bit at `offset` of a file.
fn damage(harness: &Harness<SimulatedDisk>, path: &str, offset: u64) {
    let disk = &harness.place.disk;
    let file = disk.open(path, Open::Existing).unwrap();
    let mut byte = [0];
    disk.read_at(&file, &mut byte, offset).unwrap();
    disk.write_at(&file, &[IoSlice::new(&[byte[0] ^ 4])], offset).unwrap();
}

fn directory(oid: Oid) -> String {
    format!("objects/{}.1", partition(oid))
}

fn damaged(oid: Oid) -> Error {
    Broken::DamagedObject { oid }.into()
}

#[test]
fn a_damaged_object_with_writes_to_be_applied_is_the_only_one_to_suffer() {
    let harness = harness();
    harness.write(oid(0), 4096, &pattern(9, 4096));
    harness.write(oid(1), 4096, &pattern(8, 4096));
    damage(&harness, &format!("{}/{}", directory(oid(0)), oid(0)), 17);
    let mut harness = harness.restart();
    for _ in 0..2 {
        harness.apply();
        assert!(!harness.store.has_failed());
        assert_eq!((harness.store.memory_bytes(), harness.store.wal_bytes()), (0, 0));
        assert_eq!(harness.read_only(oid(0)), Err(damaged(oid(0))));
        assert_eq!(harness.ask(oid(0), write(0, &[1; 4096], Durability::Logged)), Err(damaged(oid(0))));
        assert!(harness.read(oid(1), 4096, 4096).unwrap() == pattern(8, 4096));
        assert!(harness.read(oid(2), 0, 8192).unwrap() == pattern(2, 8192));
        harness.store.checkpoint().unwrap();
        harness = harness.restart();
    }
    // Removed, it can be made again.
    let remove = Operation::Remove { durability: Durability::Logged };
    assert_eq!(harness.ask(oid(0), remove), Ok(Reply::Done));
    harness.write(oid(0), 0, &pattern(7, 4096));
    harness.apply();
    assert!(harness.read(oid(0), 0, 4096).unwrap() == pattern(7, 4096));
}

#[test]
fn what_memory_holds_of_a_damaged_object_is_read_as_it_is_merged() {
    let harness = harness();
    harness.write(oid(0), 4096, &pattern(9, 4096));
    damage(&harness, &format!("{}/{}", directory(oid(0)), oid(0)), 17);
    let harness = harness.restart();
    assert_eq!(harness.read_only(oid(0)), Err(damaged(oid(0))));
    assert_eq!(harness.read(oid(0), 4096, 4096), Ok(pattern(9, 4096)));
    harness.discard(oid(0), 4096, 512);
    let expected = [vec![0; 512], pattern(9, 4096)[512..].to_vec()].concat();
    assert_eq!(harness.read(oid(0), 4096, 4096), Ok(expected));
    assert_eq!(harness.read(oid(0), 0, 8192), Err(damaged(oid(0))));
}

#[test]
fn a_reservation_of_an_object_that_is_damaged_meanwhile_is_told_so() {
    let harness = Harness::simulated(1 << 30, options());
    harness.write(oid(0), 0, &pattern(0, 8192));
    harness.apply();
    let harness = harness.restart();
    let Submission::Waiting(mut reserve) = harness.submit(oid(0), Operation::Reserve) else {
        panic!("answered before its space is there")
    };
    // What is open is let go, so that the file is looked at again.
    harness.store.objects.remove((partition(oid(0)), oid(0)));
    damage(&harness, &format!("{}/{}", directory(oid(0)), oid(0)), 17);
    harness.apply();
    assert_eq!(reserve.try_recv(), Ok(Err(damaged(oid(0)))));
}

#[test]
fn a_damaged_index_with_writes_to_be_applied_is_the_only_one_to_suffer() {
    let harness = harness();
    harness.write(oid(0), 4096, &pattern(9, 4096));
    harness.write(oid(1), 4096, &pattern(8, 4096));
    damage(&harness, &format!("{}/index", directory(oid(0))), 17);
    let mut harness = harness.restart();
    assert_eq!(harness.store.metrics.damaged_indexes.get(), 1);
    for _ in 0..2 {
        assert_eq!(harness.read_only(oid(0)), Err(damaged(oid(0))));
        assert_eq!(harness.ask(oid(0), write(0, &[1; 4096], Durability::Logged)), Err(damaged(oid(0))));
        assert!(harness.read(oid(1), 4096, 4096).unwrap() == pattern(8, 4096));
        harness.apply();
        assert_eq!((harness.store.memory_bytes(), harness.store.wal_bytes()), (0, 0));
        assert!(harness.read(oid(2), 0, 8192).unwrap() == pattern(2, 8192));
        harness.store.checkpoint().unwrap();
        harness = harness.restart();
    }
}

/// An object in the partition of `oid(0)`.
fn neighbour() -> Oid {
    (1..100_000).map(oid).find(|other| partition(*other) == partition(oid(0))).unwrap()
}

#[test]
fn an_object_that_the_index_has_lost_is_not_zeroes() {
    let harness = harness();
    let index = format!("{}/index", directory(oid(0)));
    let image = harness.place.disk.image(&index).unwrap();
    harness.write(neighbour(), 0, &pattern(5, 4096));
    harness.apply();
    assert!(harness.place.disk.put_back(&image));
    let report = crate::check::check_disk(&*harness.place.disk).unwrap();
    assert_eq!(report.damages, 1, "{report}");
    // Whether or not the log says something about it meanwhile.
    let mut harness = harness;
    for byte in [6, 7] {
        harness = harness.restart();
        assert_eq!(harness.read_only(neighbour()), Err(damaged(neighbour())));
        assert!(harness.read(oid(0), 0, 8192).unwrap() == pattern(0, 8192));
        harness.write(oid(0), 0, &pattern(byte, 4096));
        harness.write(oid(0), 0, &pattern(0, 4096));
    }
    let harness = harness.restart();
    let remove = Operation::Remove { durability: Durability::Logged };
    assert_eq!(harness.ask(neighbour(), remove), Ok(Reply::Done));
    harness.apply();
    let harness = harness.restart();
    assert_eq!(harness.read(neighbour(), 0, 4096), Ok(vec![0; 4096]));
}

#[test]
fn the_file_of_an_object_from_before_it_was_removed_is_not_served() {
    let harness = harness();
    let path = format!("{}/{}", directory(oid(0)), oid(0));
    let image = harness.place.disk.image(&path).unwrap();
    let remove = Operation::Remove { durability: Durability::Logged };
    assert_eq!(harness.ask(oid(0), remove), Ok(Reply::Done));
    harness.apply();
    harness.write(oid(0), 0, &pattern(9, 4096));
    harness.apply();
    assert!(harness.place.disk.put_back(&image));
    assert_eq!(crate::check::check_disk(&*harness.place.disk).unwrap().damages, 1);
    assert_eq!(harness.restart().read_only(oid(0)), Err(damaged(oid(0))));
}

#[test]
fn an_entry_that_never_reached_its_table_is_not_a_hole() {
    for (reserved, crashed) in [(false, false), (false, true), (true, false)] {
        let harness = harness();
        if reserved {
            assert_eq!(harness.ask(oid(0), Operation::Reserve), Ok(Reply::Done));
        }
        let disk = harness.place.disk.clone();
        let file = disk.open(&format!("{}/{}", directory(oid(0)), oid(0)), Open::Existing).unwrap();
        let mut sector = [0; 512];
        disk.read_at(&file, &mut sector, 4096).unwrap();
        harness.write(oid(0), 8192, &pattern(9, 4096));
        harness.apply();
        disk.write_at(&file, &[IoSlice::new(&sector)], 4096).unwrap();
        if crashed {
            harness.write(oid(0), 0, &pattern(0, 4096));
        }
        assert!(!crate::check::check_disk(&*disk).unwrap().is_sound());
        let harness = harness.restart();
        let corrupt = Err(Broken::CorruptBlock { oid: oid(0), block: 2 }.into());
        assert_eq!(harness.read(oid(0), 8192, 4096), corrupt, "reserved: {reserved}, crashed: {crashed}");
        // Applying something else does not make it good.
        harness.write(oid(0), 0, &pattern(1, 4096));
        harness.apply();
        let harness = harness.restart();
        assert_eq!(harness.read(oid(0), 8192, 4096), corrupt, "reserved: {reserved}, crashed: {crashed}");
        harness.write(oid(0), 8192, &pattern(2, 4096));
        harness.apply();
        assert!(harness.restart().read(oid(0), 8192, 4096).unwrap() == pattern(2, 4096));
    }
}
