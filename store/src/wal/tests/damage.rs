//! What was on stable storage and cannot be read is damage; what was not is the log's end.

use std::io::{ErrorKind, IoSlice};
use std::sync::Arc;

use super::super::{Change, Lsn, Record, Wal, WalError, WalOptions, inspect};
use super::{OPTIONS, PER_SEGMENT, RECORD_BYTES, append, header, open, seqs, simulated};
use crate::disk::{Crash, Disk, Fault, Open, Operation, SimulatedDisk};

/// A log of `records` in which the first `durable` were synced before the last was written.
fn log(records: u32, durable: u32) -> Arc<SimulatedDisk> {
    let disk = simulated();
    let (wal, _) = open(&disk).unwrap();
    for seq in 1..=records {
        append(&wal, seq, 1).unwrap();
        if seq == durable {
            wal.sync().unwrap();
        }
    }
    disk.crash(Crash::Process, 0);
    disk
}

fn path(segment: u64) -> String {
    format!("wal/{segment:016x}")
}

fn flip(disk: &SimulatedDisk, path: &str, offset: u64) {
    let file = disk.open(path, Open::Existing).unwrap();
    let mut byte = [0];
    disk.read_at(&file, &mut byte, offset).unwrap();
    disk.write_at(&file, &[IoSlice::new(&[!byte[0]])], offset).unwrap();
}

/// Offset of a record within its segment, counted from 1 over the log.
fn offset(seq: u32) -> u64 {
    4096 + u64::from((seq - 1) % PER_SEGMENT) * RECORD_BYTES
}

#[test]
fn a_bad_record_that_was_synced_is_damage_wherever_it_is_bad() {
    for place in [0, 4, 8, 16, 24, 41, 44, 48, 55, 56, 59, 60, 4155] {
        let disk = log(4, 3);
        flip(&disk, &path(1), offset(2) + place);
        match open(&disk).map(|(_, seen)| seen) {
            Err(WalError::Damaged { segment: 1, offset: found }) => assert_eq!(found, offset(2)),
            other => panic!("byte {place}: {other:?}"),
        }
    }
}

#[test]
fn a_bad_record_is_damage_though_nothing_was_written_after_its_sync() {
    for place in [0, 44, 59, 60, 4155] {
        let disk = log(3, 3);
        flip(&disk, &path(1), offset(3) + place);
        assert!(matches!(open(&disk), Err(WalError::Damaged { segment: 1, .. })), "byte {place}");
    }
    // Whatever was replayed is on stable storage, too.
    let disk = log(3, 1);
    drop(open(&disk).unwrap());
    disk.crash(Crash::Power, 1);
    flip(&disk, &path(1), offset(3) + 100);
    assert!(matches!(open(&disk), Err(WalError::Damaged { segment: 1, .. })));
}

#[test]
fn an_earlier_state_of_the_newest_segment_is_noticed() {
    let disk = log(2, 2);
    let image = disk.image(&path(1)).unwrap();
    let (wal, _) = open(&disk).unwrap();
    append(&wal, 3, 1).unwrap();
    wal.sync().unwrap();
    disk.crash(Crash::Process, 0);
    assert!(disk.put_back(&image));
    assert!(matches!(open(&disk), Err(WalError::Damaged { segment: 1, .. })));
}

/// Records that the system wrote to the disk by itself, the first of them badly, and a process that cannot destroy them. Those
/// written in their place end where a sector does: what follows is in sectors that nobody writes any more.
#[test]
fn leftovers_whose_destruction_could_not_be_synced_never_come_back() {
    let options = WalOptions { may_be_new: true, ..OPTIONS };
    for (after, seed) in (0..4).flat_map(|after| (0..8).map(move |seed| (after, seed))) {
        let disk = simulated();
        let open = || {
            let mut seen = Vec::new();
            let wal = Wal::open(disk.clone(), options, &mut |_, record: Record<'_>| {
                seen.push(record.header.version.seq);
                Ok::<(), WalError>(())
            });
            wal.map(|wal| (wal, seen))
        };
        let discard = |wal: &Wal<SimulatedDisk>, seq| {
            wal.append(&header(seq, Change::Discard { blocks: 0..1 }), &[]).unwrap();
        };
        let (wal, _) = open().unwrap();
        append(&wal, 1, 1).unwrap();
        wal.sync().unwrap();
        (2..=10).for_each(|seq| discard(&wal, seq));
        disk.crash(Crash::Process, 0);
        flip(&disk, &path(1), offset(2) + 30);
        disk.sync_data(&disk.open(&path(1), Open::Existing).unwrap()).unwrap();
        disk.fail(Fault { operation: Operation::SyncData, after, error: ErrorKind::Other });
        drop(open());
        disk.crash(Crash::Process, 0);
        let (wal, seen) = open().unwrap();
        assert_eq!(seen, [1], "sync {after}");
        (50..58).for_each(|seq| discard(&wal, seq));
        wal.sync().unwrap();
        disk.crash(Crash::Power, seed);
        let expected: Vec<u32> = [1].into_iter().chain(50..58).collect();
        assert_eq!(open().unwrap().1, expected, "sync {after}, power loss {seed}");
    }
}

#[test]
fn damage_is_told_from_records_of_later_segments_too() {
    let disk = log(PER_SEGMENT * 2 + 1, PER_SEGMENT * 2);
    flip(&disk, &path(1), offset(PER_SEGMENT));
    assert!(matches!(open(&disk), Err(WalError::Damaged { segment: 1, .. })));
}

#[test]
fn claims_are_found_quickly_among_data_that_looks_like_records() {
    let disk = simulated();
    let options = WalOptions { segment_bytes: 2 << 20, bound_bytes: 8 << 20, ..OPTIONS };
    let open = || Wal::open(disk.clone(), options, &mut |_, _: Record<'_>| Ok::<(), WalError>(()));
    let wal = open().unwrap();
    let block: Vec<u8> = b"\0\0\0\0HWrc".iter().copied().cycle().take(4096).collect();
    let crcs = [crc32c::crc32c(&block); 255];
    let write = header(1, Change::Write { first_block: 0, crcs: &crcs });
    wal.append(&write, &vec![IoSlice::new(&block); 255]).unwrap();
    let discard = |seq| wal.append(&header(seq, Change::Discard { blocks: 0..1 }), &[]).unwrap();
    for seq in 2..55 {
        discard(seq);
    }
    wal.sync().unwrap();
    // The only record that says so lies across the end of what is read at once.
    assert_eq!(wal.written(), Lsn((1 << 20) - 48));
    discard(55);
    drop(wal);
    disk.crash(Crash::Process, 0);
    flip(&disk, &path(1), 4096);
    let before = disk.operations();
    assert!(matches!(open(), Err(WalError::Damaged { segment: 1, offset: 4096 })));
    assert!(disk.operations() - before < 50, "{} operations", disk.operations() - before);
}

#[test]
fn a_bad_record_that_was_not_synced_ends_the_log_for_good() {
    let disk = log(8, 3);
    flip(&disk, &path(1), offset(5) + 100);
    let (wal, seen) = open(&disk).unwrap();
    assert_eq!(seqs(&seen), [1, 2, 3, 4]);
    assert_eq!((wal.written(), wal.durable()), (Lsn(4 * RECORD_BYTES), Lsn(4 * RECORD_BYTES)));
    append(&wal, 50, 1).unwrap();
    disk.crash(Crash::Process, 0);
    let (_, seen) = open(&disk).unwrap();
    assert_eq!(seqs(&seen), [1, 2, 3, 4, 50], "6, 7 and 8 are not to come back");
}

/// A process that dies takes nothing along of what it wrote: only the last record can be unfinished.
#[test]
fn what_follows_a_bad_record_was_there_if_no_power_was_lost() {
    let open = |disk: &Arc<SimulatedDisk>, skips_damage| {
        let mut seen = Vec::new();
        let options = WalOptions { is_same_boot: true, skips_damage, ..OPTIONS };
        let wal = Wal::open(disk.clone(), options, &mut |_, record: Record<'_>| {
            seen.push(record.header.version.seq);
            Ok::<(), WalError>(())
        });
        wal.map(|wal| (wal.holes().len(), seen))
    };
    let records = PER_SEGMENT + 3;
    // In the header or in the data; what follows is in the same segment, or in the next one.
    for (place, bad) in [30, 100].into_iter().flat_map(|place| [4, PER_SEGMENT].map(|bad| (place, bad))) {
        let disk = log(records, 2);
        flip(&disk, &path(1), offset(bad) + place);
        assert!(matches!(open(&disk, false), Err(WalError::Damaged { segment: 1, .. })));
        let others: Vec<u32> = (1..=records).filter(|seq| *seq != bad).collect();
        // Also when the next one to open it cannot tell.
        for _ in 0..2 {
            assert_eq!(open(&disk, true).unwrap(), (1, others.clone()), "{place} {bad}");
            disk.crash(Crash::Power, 1);
        }
    }
    // The last one: it may have been written in part.
    for place in [30, 100] {
        let disk = log(4, 2);
        flip(&disk, &path(1), offset(4) + place);
        assert_eq!(open(&disk, false).unwrap(), (0, vec![1, 2, 3]));
    }
}

/// A sector that could not be read at one start, and can be at the next.
#[test]
fn what_was_passed_over_stays_so_though_it_can_be_read_again() {
    let options = WalOptions { may_be_new: false, skips_damage: true, ..OPTIONS };
    let open = |disk: &Arc<SimulatedDisk>| {
        let mut seen = Vec::new();
        let wal = Wal::open(disk.clone(), options, &mut |_, record: Record<'_>| {
            seen.push(record.header.version.seq);
            Ok::<(), WalError>(())
        });
        wal.map(|wal| (wal, seen))
    };
    for (durable, expected) in [(2, &[1, 2, 50][..]), (3, &[1, 2, 3, 50])] {
        let disk = log(3, durable);
        // The segment's header.
        flip(&disk, &path(1), 20);
        let (wal, seen) = open(&disk).unwrap();
        assert_eq!((seen, wal.holes().len()), (vec![], 1));
        append(&wal, 50, 1).unwrap();
        wal.sync().unwrap();
        disk.crash(Crash::Process, 0);
        flip(&disk, &path(1), 20);
        for _ in 0..2 {
            let (wal, seen) = open(&disk).unwrap();
            // The log goes on where that began which was written then.
            assert_eq!((&*seen, wal.holes().len()), (expected, 1));
            disk.crash(Crash::Power, 1);
        }
    }
}

/// What tells of a hole is destroyed with what lies beyond the log's end: a segment without a header, a record behind a bad one.
#[test]
fn who_dies_while_a_damaged_log_is_opened_takes_no_hole_along() {
    let open = |disk: &Arc<SimulatedDisk>| {
        let options = WalOptions { skips_damage: true, ..OPTIONS };
        let wal = Wal::open(disk.clone(), options, &mut |_, _: Record<'_>| Ok::<(), WalError>(()));
        wal.map(|wal| wal.holes().first().map(|hole| hole.from))
    };
    let (segments, records) = (log(PER_SEGMENT * 2, PER_SEGMENT * 2), log(6, 3));
    assert!(segments.flip(&path(2), 20, 1));
    for bad in [2, 4] {
        flip(&records, &path(1), offset(bad) + 30);
    }
    for (disk, hole) in [(segments, PER_SEGMENT), (records, 1)] {
        let released = disk.open("wal/released", Open::Existing).unwrap();
        disk.write_at(&released, &[IoSlice::new(&[0; 512])], 1024).unwrap();
        for path in disk.files() {
            disk.sync_data(&disk.open(&path, Open::Existing).unwrap()).unwrap();
        }
        let expected = Some(Lsn(u64::from(hole) * RECORD_BYTES));
        for (after, seed) in (0..60).flat_map(|after| (0..6).map(move |seed| (after, seed))) {
            let disk = Arc::new(disk.copy());
            disk.die_after(after);
            let opened = open(&disk);
            assert!(opened.is_err() || opened.is_ok_and(|hole| hole == expected));
            disk.crash(Crash::Power, seed);
            assert_eq!(open(&disk).unwrap(), expected, "operation {after}, seed {seed}");
        }
    }
}

#[test]
fn inspection_finds_the_same_as_opening_and_changes_nothing() {
    let disk = log(8, 3);
    flip(&disk, &path(1), offset(5) + 100);
    let before = disk.fingerprint();
    let mut count = 0;
    let end = inspect(&*disk, OPTIONS.disk_uuid, true, &mut |_, _| {
        count += 1;
        Ok::<(), WalError>(())
    });
    assert_eq!((end.unwrap(), count), (Lsn(4 * RECORD_BYTES), 4));
    flip(&disk, &path(1), offset(2));
    let damaged = inspect(&*disk, OPTIONS.disk_uuid, true, &mut |_, _| Ok::<(), WalError>(()));
    assert!(matches!(damaged, Err(WalError::Damaged { .. })));
    flip(&disk, &path(1), offset(2));
    assert_eq!(disk.fingerprint(), before);
}

#[test]
fn a_log_that_ended_early_before_anything_new_ends_there_again() {
    let disk = log(8, 3);
    flip(&disk, &path(1), offset(5));
    assert_eq!(open(&disk).unwrap().1.len(), 4);
    disk.crash(Crash::Process, 0);
    assert_eq!(open(&disk).unwrap().1.len(), 4);
}

#[test]
fn a_segment_or_header_that_is_gone_is_noticed() {
    let three_segments = || log(PER_SEGMENT * 3, PER_SEGMENT * 3 - 1);
    let disk = three_segments();
    disk.remove(&path(1)).unwrap();
    assert!(matches!(open(&disk), Err(WalError::Incomplete { .. })));
    let disk = three_segments();
    disk.remove(&path(2)).unwrap();
    assert!(matches!(open(&disk), Err(WalError::Damaged { segment: 1, .. })));
    let disk = three_segments();
    flip(&disk, &path(3), 20);
    assert!(matches!(open(&disk), Err(WalError::Damaged { segment: 3, offset: 0 })));
    let disk = three_segments();
    disk.remove("wal/released").unwrap();
    assert!(matches!(open(&disk), Err(WalError::Incomplete { .. })));
}

#[test]
fn a_log_that_was_there_is_never_taken_for_a_new_one() {
    let known = WalOptions { may_be_new: false, ..OPTIONS };
    let losses: [&[&str]; 3] =
        [&["wal/released"], &["wal/0000000000000001"], &["wal/released", "wal/0000000000000001"]];
    for lost in losses {
        let disk = log(1, 1);
        lost.iter().for_each(|path| disk.remove(path).unwrap());
        let opened = Wal::open(Arc::clone(&disk), known, &mut |_, _| Ok::<(), WalError>(()));
        assert!(matches!(opened.err(), Some(WalError::Incomplete { .. })), "{lost:?}");
        let inspected = inspect(&*disk, OPTIONS.disk_uuid, false, &mut |_, _| Ok::<(), WalError>(()));
        assert!(matches!(inspected, Err(WalError::Incomplete { .. })), "{lost:?}");
    }
    let opened = Wal::open(simulated(), known, &mut |_, _| Ok::<(), WalError>(()));
    assert!(matches!(opened.err(), Some(WalError::Incomplete { .. })));
}

#[test]
fn released_records_that_cannot_be_read_do_not_matter() {
    let disk = simulated();
    let (wal, _) = open(&disk).unwrap();
    for seq in 1..=4 {
        append(&wal, seq, 1).unwrap();
    }
    wal.release(wal.sync().unwrap()).unwrap();
    wal.checkpoint().unwrap();
    disk.crash(Crash::Process, 0);
    (1..=4).for_each(|seq| flip(&disk, &path(1), offset(seq)));
    let (wal, seen) = open(&disk).unwrap();
    assert_eq!((wal.written(), seqs(&seen)), (Lsn(4 * RECORD_BYTES), vec![]));
    append(&wal, 5, 1).unwrap();
    disk.crash(Crash::Process, 0);
    assert_eq!(seqs(&open(&disk).unwrap().1), [5]);
}

#[test]
fn one_destroyed_sector_of_the_mark_is_made_good_by_the_other() {
    for sector in [0, 512] {
        let disk = log(3, 3);
        let (wal, _) = open(&disk).unwrap();
        wal.release(Lsn(RECORD_BYTES)).unwrap();
        wal.checkpoint().unwrap();
        disk.crash(Crash::Process, 0);
        flip(&disk, "wal/released", sector + 33);
        let (_, seen) = open(&disk).unwrap();
        assert!(matches!(seqs(&seen)[..], [1, 2, 3] | [2, 3]), "{seen:?}");
    }
}
