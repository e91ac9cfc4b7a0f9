//! The simulated disk keeps what it promised to keep, and loses the rest now and then.

mod content;

use std::io::{ErrorKind, IoSlice};

use super::{Crash, Fault, Operation, SimulatedDisk, SimulatedFile};
use crate::disk::{Disk, Open};

const BLOCK: [u8; 4096] = [1; 4096];
const OTHER: [u8; 4096] = [2; 4096];

fn write(disk: &SimulatedDisk, file: &SimulatedFile, data: &[u8], offset: u64) {
    disk.write_at(file, &[IoSlice::new(data)], offset).unwrap();
}

fn content(disk: &SimulatedDisk, path: &str) -> Vec<u8> {
    let file = disk.open(path, Open::Existing).unwrap();
    let mut bytes = vec![0; disk.length(&file).unwrap() as usize];
    assert_eq!(disk.read_at(&file, &mut bytes, 0).unwrap(), bytes.len());
    bytes
}

/// Runs `use_disk` and loses power, with many seeds.
fn after_power_loss<T>(use_disk: impl Fn(&SimulatedDisk), look: impl Fn(&SimulatedDisk) -> T) -> Vec<T> {
    (0..200)
        .map(|seed| {
            let disk = SimulatedDisk::new(1 << 30);
            use_disk(&disk);
            disk.crash(Crash::Power, seed);
            look(&disk)
        })
        .collect()
}

#[test]
fn a_process_crash_keeps_everything_and_closes_the_files() {
    let disk = SimulatedDisk::new(1 << 30);
    let file = disk.open("f", Open::New).unwrap();
    write(&disk, &file, &BLOCK, 0);
    disk.crash(Crash::Process, 1);
    assert!(disk.read_at(&file, &mut [0; 16], 0).is_err());
    assert_eq!(content(&disk, "f"), BLOCK);
}

#[test]
fn what_was_synced_survives_a_power_loss() {
    let synced = |disk: &SimulatedDisk| {
        disk.create_dir("d").unwrap();
        let file = disk.open("d/f", Open::New).unwrap();
        write(disk, &file, &BLOCK, 8192);
        disk.sync_data(&file).unwrap();
        disk.sync_dir("d").unwrap();
        disk.sync_dir("").unwrap();
    };
    let expected = [[0; 4096], [0; 4096], BLOCK].concat();
    assert!(after_power_loss(synced, |disk| content(disk, "d/f")).iter().all(|found| *found == expected));
}

#[test]
fn sectors_that_were_not_synced_are_old_or_new_one_by_one() {
    let overwritten = |disk: &SimulatedDisk| {
        let file = disk.open("f", Open::New).unwrap();
        write(disk, &file, &BLOCK, 0);
        disk.sync_data(&file).unwrap();
        disk.sync_dir("").unwrap();
        write(disk, &file, &OTHER, 0);
    };
    let found = after_power_loss(overwritten, |disk| content(disk, "f"));
    let is_whole = |sector: &[u8]| sector == &BLOCK[..512] || sector == &OTHER[..512];
    assert!(found.iter().all(|bytes| bytes.len() == 4096 && bytes.chunks(512).all(is_whole)));
    assert!(found.iter().any(|bytes| *bytes == BLOCK) && found.iter().any(|bytes| *bytes == OTHER));
    assert!(found.iter().any(|bytes| *bytes != BLOCK && *bytes != OTHER));
}

#[test]
fn names_that_were_not_synced_come_or_go_but_renames_are_whole() {
    let renamed = |disk: &SimulatedDisk| {
        let file = disk.open("old", Open::New).unwrap();
        write(disk, &file, &BLOCK, 0);
        disk.sync_data(&file).unwrap();
        disk.sync_dir("").unwrap();
        disk.rename("old", "new").unwrap();
        drop(disk.open("other", Open::New).unwrap());
    };
    let found = after_power_loss(renamed, |disk| disk.list("").unwrap());
    for expected in [&["old"][..], &["new"], &["old", "other"], &["new", "other"]] {
        assert!(found.iter().any(|names| names == expected), "{expected:?} never seen");
    }
    assert!(found.iter().all(|names| names.contains(&"old".into()) != names.contains(&"new".into())));
}

#[test]
fn a_removal_that_was_not_synced_may_be_undone() {
    let removed = |disk: &SimulatedDisk| {
        drop(disk.open("f", Open::New).unwrap());
        disk.sync_dir("").unwrap();
        disk.remove("f").unwrap();
        disk.crash(Crash::Process, 0);
    };
    let found = after_power_loss(removed, |disk| disk.open("f", Open::Existing).is_ok());
    assert!(found.contains(&true) && found.contains(&false));
}

#[test]
fn the_same_seed_leaves_the_same_disk() {
    let written = |disk: &SimulatedDisk| {
        let file = disk.open("f", Open::New).unwrap();
        disk.sync_dir("").unwrap();
        (0..20).for_each(|i| write(disk, &file, &[i; 3000], u64::from(i) * 1000));
    };
    let look = |disk: &SimulatedDisk| disk.fingerprint();
    assert_eq!(after_power_loss(written, look), after_power_loss(written, look));
}

#[test]
fn holes_and_cuts_read_as_zeroes_and_give_space_back() {
    let disk = SimulatedDisk::new(8 * 4096);
    let file = disk.open("f", Open::New).unwrap();
    write(&disk, &file, &[3; 4 * 4096], 0);
    disk.punch_hole(&file, 2048, 8192).unwrap();
    let free = |disk: &SimulatedDisk| disk.space().unwrap().free_bytes / 4096;
    assert_eq!(free(&disk), 5);
    disk.set_length(&file, 100).unwrap();
    disk.set_length(&file, 4096).unwrap();
    assert_eq!(free(&disk), 7);
    assert_eq!(content(&disk, "f"), [vec![3; 100], vec![0; 3996]].concat());
    disk.allocate(&file, 0, 8 * 4096).unwrap();
    let other = disk.open("g", Open::New).unwrap();
    let error = disk.write_at(&other, &[IoSlice::new(&[1])], 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    disk.remove("f").unwrap();
    write(&disk, &other, &[1], 0);
}

#[test]
fn the_planned_operation_fails_and_a_failed_sync_is_never_made_good() {
    let failed = |disk: &SimulatedDisk| {
        let file = disk.open("f", Open::New).unwrap();
        disk.sync_dir("").unwrap();
        disk.set_length(&file, 4096).unwrap();
        disk.fail(Fault { operation: Operation::SyncData, after: 1, error: ErrorKind::Other });
        disk.sync_data(&file).unwrap();
        write(disk, &file, &BLOCK, 0);
        disk.sync_data(&file).unwrap_err();
        assert_eq!(content(disk, "f"), BLOCK);
        disk.sync_data(&file).unwrap();
    };
    let found = after_power_loss(failed, |disk| content(disk, "f"));
    assert!(found.iter().any(|bytes| *bytes != BLOCK));
}

#[test]
fn a_dying_process_may_leave_half_a_write_and_does_nothing_after() {
    let mut lengths = Vec::new();
    for before in 0..20 {
        let disk = SimulatedDisk::new(1 << 30);
        let file = disk.open("f", Open::New).unwrap();
        (0..before).for_each(|_| write(&disk, &file, &[0], 0));
        disk.die_after(0);
        disk.write_at(&file, &[IoSlice::new(&BLOCK)], 0).unwrap_err();
        disk.sync_data(&file).unwrap_err();
        assert!(disk.is_dead());
        disk.crash(Crash::Process, 0);
        lengths.push(content(&disk, "f").len());
    }
    assert!(lengths.iter().any(|length| (2..4096).contains(length) && length % 512 == 0));
}

/// A disk with files `a` and `b` of three blocks each, all on stable storage.
fn stored() -> SimulatedDisk {
    let disk = SimulatedDisk::new(1 << 30);
    for path in ["a", "b"] {
        let file = disk.open(path, Open::New).unwrap();
        write(&disk, &file, &[BLOCK; 3].concat(), 0);
        disk.sync_data(&file).unwrap();
    }
    disk.sync_dir("").unwrap();
    disk
}

#[test]
fn only_what_is_stored_rots() {
    let disk = stored();
    assert_eq!((disk.files(), disk.stored_pages("a")), (vec!["a".into(), "b".into()], vec![0, 4096, 8192]));
    assert!(disk.flip("a", 5000, 3) && !disk.flip("a", 3 * 4096, 0) && !disk.flip("c", 0, 0));
    let mut expected = [BLOCK; 3].concat();
    expected[5000] ^= 8;
    assert_eq!((content(&disk, "a"), content(&disk, "b")), (expected, [BLOCK; 3].concat()));
    let file = disk.open("a", Open::Existing).unwrap();
    write(&disk, &file, &OTHER, 4096);
    assert!(!disk.flip("a", 5000, 3), "it is in memory only");
}

#[test]
fn a_misdirected_write_is_missing_in_one_place_and_found_in_another() {
    let mut targets = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let disk = stored();
        disk.misdirect_after(0, seed);
        let file = disk.open("a", Open::Existing).unwrap();
        write(&disk, &file, &OTHER, 4096);
        disk.sync_data(&file).unwrap();
        let went = disk.misdirected().unwrap();
        assert_eq!(went.from, "a");
        let bytes = [content(&disk, "a"), content(&disk, "b")].concat();
        let astray = bytes.chunks(512).filter(|sector| *sector == &OTHER[..512]).count();
        let from = went.from_offset as usize;
        assert!(bytes[from] == 1 && (4096..8192).contains(&from));
        if let Some(to) = &went.to {
            let start = if to == "a" { 0 } else { 3 * 4096 } + went.to_offset as usize;
            assert_eq!((bytes[start], astray), (2, 8));
        } else {
            assert!(astray < 8);
        }
        targets.insert(went.to);
        write(&disk, &file, &OTHER, 4096);
        disk.sync_data(&file).unwrap();
        assert_eq!(content(&disk, "a")[4096..8192], OTHER, "only one goes astray");
    }
    assert_eq!(targets, [None, Some("a".into()), Some("b".into())].into());
}

#[test]
fn a_file_or_a_disk_returns_as_it_was() {
    let disk = stored();
    let image = disk.image("a").unwrap();
    let copy = disk.copy();
    for path in ["a", "b"] {
        let file = disk.open(path, Open::Existing).unwrap();
        write(&disk, &file, &OTHER, 0);
        disk.sync_data(&file).unwrap();
    }
    assert!(disk.put_back(&image));
    disk.crash(Crash::Power, 1);
    assert_eq!((content(&disk, "a")[0], content(&disk, "b")[0]), (1, 2));
    assert_eq!((content(&copy, "a")[0], content(&copy, "b")[0]), (1, 1));
    disk.remove("a").unwrap();
    assert!(!disk.put_back(&image));
}

#[test]
fn syncs_after_a_failed_one_are_counted() {
    let disk = stored();
    let file = disk.open("a", Open::Existing).unwrap();
    disk.fail(Fault { operation: Operation::SyncData, after: 1, error: ErrorKind::Other });
    disk.sync_data(&file).unwrap();
    assert!(!disk.has_a_sync_failed());
    disk.sync_data(&file).unwrap_err();
    assert!(disk.has_a_sync_failed() && disk.syncs_after_a_failed_one() == 0);
    disk.sync_dir("").unwrap();
    assert_eq!(disk.syncs_after_a_failed_one(), 1);
    disk.crash(Crash::Process, 0);
    assert!(!disk.has_a_sync_failed() && disk.syncs_after_a_failed_one() == 0);
}
