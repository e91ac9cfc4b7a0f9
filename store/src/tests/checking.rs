//! What an offline check finds.

use std::fs;

use huntaway_wire::Oid;

use super::harness::{Harness, oid, pattern};
use crate::check::{Problem, Report, check};

fn sound(harness: &Harness) -> Report {
    let report = check(harness.directory()).unwrap();
    assert!(report.is_sound() && report.findings.is_empty(), "{report}");
    report
}

/// Changes one byte of a file.
fn flip(path: &std::path::Path, offset: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[offset] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

/// A store with one object of three blocks, applied.
fn written() -> (Harness, Oid) {
    let harness = Harness::new();
    harness.write(oid(0), 0, &pattern(1, 12_288));
    harness.apply();
    harness.store.checkpoint().unwrap();
    (harness, oid(0))
}

fn only_problem(harness: &Harness) -> (Option<u64>, Problem) {
    let report = check(harness.directory()).unwrap();
    assert_eq!(report.findings.len(), 1, "{report}");
    (report.findings[0].offset_bytes, report.findings[0].problem.clone())
}

#[test]
fn a_store_is_sound_before_and_after_application() {
    let harness = Harness::new();
    harness.write(oid(0), 100, &pattern(1, 50_000));
    assert_eq!(sound(&harness).log_records, 1);
    harness.apply();
    harness.store.checkpoint().unwrap();
    let report = sound(&harness);
    assert_eq!((report.log_records, report.objects, report.data_blocks), (0, 1, 13));
    assert_eq!(
        report.to_string(),
        "1 partitions, 1 objects, 13 blocks verified, 0 log records to be replayed: sound"
    );
}

#[test]
fn every_kind_of_damage_is_found_and_told_apart() {
    let (harness, oid) = written();
    flip(&harness.object_path(oid), 20_480 + 8192);
    let (offset, problem) = only_problem(&harness);
    assert!(
        matches!((offset, &problem), (Some(28_672), Problem::CorruptBlock { block: 2, .. })),
        "{problem}"
    );

    let (harness, oid) = written();
    flip(&harness.object_path(oid), 4096 + 16);
    assert_eq!(only_problem(&harness), (Some(4112), Problem::DamagedEntry { block: 1 }));

    let (harness, oid) = written();
    flip(&harness.object_path(oid), 20);
    assert!(matches!(only_problem(&harness), (None, Problem::DamagedObject { .. })));
    fs::remove_file(harness.object_path(oid)).unwrap();
    assert!(matches!(only_problem(&harness), (None, Problem::DamagedObject { .. })));

    let (harness, oid) = written();
    flip(&harness.object_path(oid).with_file_name("index"), 600);
    assert!(matches!(only_problem(&harness), (Some(512), Problem::DamagedIndex { .. })));

    let (harness, _) = written();
    flip(&harness.directory().join("superblock"), 0);
    assert_eq!(only_problem(&harness), (None, Problem::OneCopyDamaged));
    assert!(check(harness.directory()).unwrap().is_sound());
    flip(&harness.directory().join("superblock"), 4096);
    assert_eq!(only_problem(&harness), (None, Problem::DamagedSuperblock));
    fs::remove_file(harness.directory().join("superblock")).unwrap();
    assert_eq!(only_problem(&harness), (None, Problem::NoStore));
}

#[test]
fn what_the_log_will_replace_is_not_damage() {
    let (harness, oid) = written();
    harness.write(oid, 4096, &[1; 4096]);
    flip(&harness.object_path(oid), 20_480 + 4096);
    sound(&harness);
}

#[test]
fn leftovers_and_strangers_are_noted_but_are_no_damage() {
    let (harness, oid) = written();
    fs::write(harness.object_path(super::harness::oid(1)).with_file_name("notes"), "").unwrap_err();
    fs::write(harness.object_path(oid).with_file_name("notes"), "").unwrap();
    assert_eq!(only_problem(&harness), (None, Problem::Unknown));
    fs::rename(
        harness.object_path(oid).with_file_name("notes"),
        harness.object_path(oid).with_file_name("00000001000000ff"),
    )
    .unwrap();
    assert_eq!(only_problem(&harness), (None, Problem::LeftOver));
    assert!(check(harness.directory()).unwrap().is_sound());
}
