//! What is there after a stop of any kind.

use std::fs;
use std::sync::Arc;

use huntaway_wire::{Broken, Durability, Operation, Reply};

use super::harness::{Harness, oid, options, partition, pattern};
use crate::check::check;
use crate::disk::FileDisk;
use crate::superblock::ClusterId;
use crate::wal::WalError;
use crate::{OpenError, Store};

#[test]
fn what_was_acknowledged_is_there_after_a_kill() {
    let mut harness = Harness::new();
    let mut expected = vec![0; 1 << 20];
    for round in 0..12u8 {
        let offset = u32::from(round) * 50_000;
        let data = pattern(round, 60_000);
        harness.write(oid(7), offset, &data);
        expected[offset as usize..][..60_000].copy_from_slice(&data);
        if round % 3 == 0 {
            harness.discard(oid(7), offset + 1000, 20_000);
            expected[offset as usize + 1000..][..20_000].fill(0);
        }
        if round % 4 == 1 {
            harness.apply();
        }
        harness = harness.restart();
        assert!(harness.read(oid(7), 0, 1 << 20).unwrap() == expected, "round {round}");
    }
}

#[test]
fn each_opening_serves_a_new_pepoch() {
    let harness = Harness::new();
    let first = harness.store.pepoch();
    let harness = harness.restart();
    assert!(harness.store.pepoch() > first);
    assert_eq!(harness.store.superblock().incarnation, 2);
}

#[test]
fn a_reservation_and_a_removal_survive_a_kill() {
    let harness = Harness::new();
    harness.write(oid(0), 0, &[1; 4096]);
    harness.apply();
    drop(harness.submit(oid(1), Operation::Reserve));
    assert_eq!(harness.ask(oid(0), Operation::Remove { durability: Durability::Logged }), Ok(Reply::Done));
    let harness = harness.restart();
    assert_eq!(harness.read(oid(0), 0, 4096), Ok(vec![0; 4096]));
    harness.apply();
    assert!(!harness.object_path(oid(0)).exists() && harness.object_path(oid(1)).exists());
    let harness = harness.restart();
    assert_eq!(harness.read(oid(0), 0, 4096), Ok(vec![0; 4096]));
}

#[test]
fn a_flipped_bit_in_a_block_is_never_served() {
    let harness = Harness::new();
    harness.write(oid(0), 0, &pattern(1, 12_288));
    harness.apply();
    let path = harness.object_path(oid(0));
    let mut bytes = fs::read(&path).unwrap();
    bytes[20_480 + 4096 + 7] ^= 4;
    fs::write(&path, bytes).unwrap();
    let corrupt = Err(Broken::CorruptBlock { oid: oid(0), block: 1 }.into());
    assert_eq!(harness.read(oid(0), 0, 12_288), corrupt);
    assert_eq!(harness.read(oid(0), 4100, 10), corrupt);
    assert!(harness.read(oid(0), 8192, 4096).is_ok());
    let fragment = super::harness::write(4100, &[1], Durability::Logged);
    assert_eq!(harness.ask(oid(0), fragment).err(), corrupt.err(), "nothing is merged over it");
    assert!(harness.store.metrics.corrupt_blocks.get() >= 3);
    harness.write(oid(0), 4096, &[5; 4096]);
    harness.apply();
    assert_eq!(harness.read(oid(0), 4096, 4096), Ok(vec![5; 4096]), "a whole block replaces it");
}

#[test]
fn a_missing_or_damaged_file_of_the_index_is_not_zeroes() {
    for damage in [
        |path: &std::path::Path| fs::remove_file(path),
        |path: &std::path::Path| {
            let mut bytes = fs::read(path)?;
            bytes[17] ^= 1;
            fs::write(path, bytes)
        },
    ] {
        let harness = Harness::new();
        harness.write(oid(0), 0, &[1; 4096]);
        harness.apply();
        damage(&harness.object_path(oid(0))).unwrap();
        // A clean end, so that nothing is replayed.
        harness.store.checkpoint().unwrap();
        let harness = harness.restart();
        let damaged: huntaway_wire::Error = Broken::DamagedObject { oid: oid(0) }.into();
        assert_eq!(harness.read(oid(0), 0, 4096), Err(damaged.clone()));
        let write = super::harness::write(0, &[2; 4096], Durability::Logged);
        assert_eq!(harness.ask(oid(0), write), Err(damaged), "it could not be applied");
        let remove = Operation::Remove { durability: Durability::Logged };
        assert_eq!(harness.ask(oid(0), remove), Ok(Reply::Done));
        harness.write(oid(0), 4096, &[3; 4096]);
        harness.apply();
        assert_eq!(harness.read(oid(0), 0, 8192), Ok([[0; 4096], [3; 4096]].concat()));
    }
}

#[test]
fn a_lost_index_is_not_zeroes() {
    let harness = Harness::new();
    harness.write(oid(0), 0, &[1; 4096]);
    harness.apply();
    harness.store.checkpoint().unwrap();
    fs::remove_file(harness.object_path(oid(0)).with_file_name("index")).unwrap();
    let harness = harness.restart();
    assert_eq!(harness.read(oid(0), 0, 4096), Err(Broken::DamagedObject { oid: oid(0) }.into()));
}

#[test]
fn an_index_that_is_written_anew_keeps_its_objects() {
    let harness = Harness::new();
    let home = partition(oid(0));
    let others: Vec<_> = (1..100_000).map(oid).filter(|other| partition(*other) == home).take(4).collect();
    let index = harness.object_path(oid(0)).with_file_name("index");
    harness.write(oid(0), 0, &[1; 4096]);
    harness.write(others[0], 0, &[2; 4096]);
    harness.apply();
    let mut sizes = Vec::new();
    for round in 0..40 {
        let other = others[1 + round % 3];
        harness.write(other, 0, &[3; 4096]);
        harness.apply();
        assert_eq!(harness.ask(other, Operation::Remove { durability: Durability::Logged }), Ok(Reply::Done));
        harness.apply();
        sizes.push(fs::metadata(&index).unwrap().len());
    }
    // 80 batches came, of a sector each at least; few sectors are kept
    assert!(sizes.iter().all(|size| *size <= 8 * 512), "{sizes:?}");
    harness.store.checkpoint().unwrap();
    let harness = harness.restart();
    assert_eq!(harness.read(oid(0), 0, 4096), Ok(vec![1; 4096]));
    assert_eq!(harness.read(others[0], 0, 4096), Ok(vec![2; 4096]));
    assert_eq!(harness.read(others[1], 0, 4096), Ok(vec![0; 4096]));
}

#[test]
fn a_directory_of_somebody_else_is_refused() {
    let harness = Harness::new();
    let disk = Arc::new(FileDisk::new(harness.directory()).unwrap());
    let mut other = options();
    other.cluster = ClusterId([9; 16]);
    assert!(matches!(Store::open(disk, other), Err(OpenError::OtherCluster { .. })));

    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("notes.txt"), "mine").unwrap();
    let disk = Arc::new(FileDisk::new(directory.path()).unwrap());
    assert!(
        matches!(Store::open(disk, options()), Err(OpenError::NotAStore { name }) if name == "notes.txt")
    );
}

#[test]
fn a_log_or_directory_that_is_gone_is_refused_and_found() {
    for lost in ["wal", "objects", "partitions"] {
        let harness = Harness::new();
        harness.write(oid(0), 0, &[1; 4096]);
        harness.apply();
        harness.store.checkpoint().unwrap();
        let path = harness.directory().join(lost);
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
        let open = || Store::open(harness.place.disk.clone(), options()).err();
        let error = open().expect("it is refused").to_string();
        assert!(error.contains("mounted"), "{error}");
        assert!(!harness.directory().join(lost).exists(), "nothing was changed");
        assert_eq!(check(harness.directory()).unwrap().damages, 1);
        if lost == "wal" {
            fs::create_dir(harness.directory().join(lost)).unwrap();
            assert!(matches!(open(), Some(OpenError::Wal(WalError::Incomplete { .. }))));
            assert_eq!(check(harness.directory()).unwrap().damages, 1);
        }
    }
}

#[test]
fn a_partition_that_is_gone_is_not_zeroes() {
    let index_only = |path: &std::path::Path| fs::remove_file(path.join("index"));
    let everything = |path: &std::path::Path| fs::remove_dir_all(path);
    let with_objects_gone = |path: &std::path::Path| {
        fs::remove_dir_all(path.parent().unwrap())?;
        fs::create_dir(path.parent().unwrap())
    };
    for lose in [index_only as fn(&std::path::Path) -> _, everything, with_objects_gone] {
        let harness = Harness::new();
        harness.write(oid(0), 0, &[1; 4096]);
        harness.apply();
        assert_eq!(
            harness.ask(oid(0), Operation::Remove { durability: Durability::Logged }),
            Ok(Reply::Done)
        );
        harness.write(oid(0), 4096, &[1; 4096]);
        harness.apply();
        harness.store.checkpoint().unwrap();
        lose(harness.object_path(oid(0)).parent().unwrap()).unwrap();
        assert_eq!(check(harness.directory()).unwrap().damages, 1);
        let harness = harness.restart();
        assert_eq!(harness.read(oid(0), 0, 4096), Err(Broken::DamagedObject { oid: oid(0) }.into()));
        harness.write(oid(1), 0, &[2; 4096]);
        harness.apply();
    }
}

#[test]
fn no_store_is_made_over_the_data_of_another_without_a_superblock() {
    for also_lost in [None, Some("objects"), Some("wal")] {
        let harness = Harness::new();
        harness.write(oid(0), 0, &[1; 4096]);
        harness.apply();
        fs::remove_file(harness.directory().join("superblock")).unwrap();
        also_lost.inspect(|name| fs::remove_dir_all(harness.directory().join(name)).unwrap());
        let opened = Store::open(harness.place.disk.clone(), options()).err();
        assert!(matches!(opened, Some(OpenError::LostSuperblock { .. })), "{also_lost:?}: {opened:?}");
        assert!(!harness.directory().join("superblock").exists(), "nothing was changed");
    }
}

#[test]
fn what_was_applied_is_not_replayed_even_if_its_records_rot() {
    let harness = Harness::new();
    for byte in 1..=3 {
        let stable = super::harness::write(0, &[byte; 4096], Durability::Stable);
        assert_eq!(harness.ask(oid(0), stable), Ok(Reply::Done));
    }
    harness.apply();
    // 4096 is where the records of a segment begin.
    for offset in [4096 + 2 * 4160 + 100, 4096 + 4160 + 100, 4096 + 100] {
        let path = harness.directory().join("wal/0000000000000001");
        let mut bytes = fs::read(&path).unwrap();
        bytes[offset] ^= 1;
        fs::write(path, bytes).unwrap();
    }
    let harness = harness.restart();
    assert_eq!(harness.read(oid(0), 0, 4096), Ok(vec![3; 4096]));
    harness.apply();
    assert_eq!(harness.read(oid(0), 0, 4096), Ok(vec![3; 4096]));
}
