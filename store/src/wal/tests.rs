//! The log as a whole, on the real file system and on the simulated one.

mod crash;
mod damage;
mod golden;

use std::fs::File;
use std::io::{ErrorKind, IoSlice};
use std::path::Path;
use std::sync::Arc;

use huntaway_wire::{BLOCK_SIZE_BYTES, ObjectKind, Oid, Partition, Version, Vid};

use super::{Change, LogFiles, Lsn, Record, RecordHeader, Wal, WalError, WalOptions};
use crate::disk::{Crash, Disk, Fault, FileDisk, Open, Operation, SimulatedDisk};

const OPTIONS: WalOptions = WalOptions {
    disk_uuid: [7; 16],
    segment_bytes: 32 << 10,
    bound_bytes: 128 << 10,
    may_be_new: true,
    skips_damage: false,
    is_same_boot: false,
};

/// Bytes that a record of one block takes.
const RECORD_BYTES: u64 = 56 + 4 + 4096 + 4;

/// Records of one block that a segment takes.
const PER_SEGMENT: u32 = 6;

/// (end, sequence number) of each record replayed.
type Seen = Vec<(Lsn, u32)>;

fn open<D: Disk>(disk: &Arc<D>) -> Result<(Wal<D>, Seen), WalError> {
    let mut seen = Seen::new();
    let wal = Wal::open(Arc::clone(disk), OPTIONS, &mut |lsn, record: Record<'_>| {
        let seq = record.header.version.seq;
        assert!(record.payload == block(seq) || record.payload == [block(seq), block(seq)].concat());
        seen.push((lsn, seq));
        Ok::<(), WalError>(())
    })?;
    Ok((wal, seen))
}

fn block(seq: u32) -> Vec<u8> {
    (0..BLOCK_SIZE_BYTES).map(|i| (seq.wrapping_mul(31).wrapping_add(i) % 251) as u8).collect()
}

fn header(seq: u32, change: Change<'_>) -> RecordHeader<'_> {
    let oid = Oid::new(ObjectKind::Data, Vid::new(1).unwrap(), 2);
    RecordHeader { partition: Partition::new(3).unwrap(), oid, version: Version { pepoch: 1, seq }, change }
}

fn append<D: Disk>(wal: &Wal<D>, seq: u32, blocks: usize) -> Result<Lsn, WalError> {
    let block = block(seq);
    let crcs = vec![crc32c::crc32c(&block); blocks];
    let parts = vec![IoSlice::new(&block); blocks];
    wal.append(&header(seq, Change::Write { first_block: seq % 1000, crcs: &crcs }), &parts)
}

fn simulated() -> Arc<SimulatedDisk> {
    Arc::new(SimulatedDisk::new(1 << 30))
}

fn seqs(seen: &Seen) -> Vec<u32> {
    seen.iter().map(|(_, seq)| *seq).collect()
}

#[test]
fn what_was_appended_is_replayed_until_it_is_released() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Arc::new(FileDisk::new(directory.path()).unwrap());
    let (wal, seen) = open(&disk).unwrap();
    assert!(seen.is_empty());
    let ends: Vec<Lsn> = (1..=20).map(|seq| append(&wal, seq, 1).unwrap()).collect();
    assert_eq!((wal.durable(), wal.written(), wal.live_bytes()), (Lsn(0), ends[19], ends[19].0));
    assert_eq!(wal.sync().unwrap(), ends[19]);
    drop(wal);
    let (wal, seen) = open(&disk).unwrap();
    assert_eq!(seen.iter().map(|(lsn, _)| *lsn).collect::<Vec<_>>(), ends);
    wal.release(ends[13]).unwrap();
    wal.checkpoint().unwrap();
    drop(wal);
    let (wal, seen) = open(&disk).unwrap();
    assert_eq!(seqs(&seen), (15..=20).collect::<Vec<_>>());
    assert_eq!((wal.durable(), wal.live_bytes()), (ends[19], 6 * RECORD_BYTES));
}

#[test]
fn every_kind_of_record_comes_back_as_it_went_in() {
    let disk = simulated();
    let (wal, _) = open(&disk).unwrap();
    let blocks = [block(1), block(2)];
    let crcs = [crc32c::crc32c(&blocks[0]), crc32c::crc32c(&blocks[1])];
    let write = header(1, Change::Write { first_block: 1022, crcs: &crcs });
    wal.append(&write, &[IoSlice::new(&blocks[0]), IoSlice::new(&blocks[1])]).unwrap();
    let others = [
        header(2, Change::Discard { blocks: 0..1024 }),
        header(3, Change::Reserve),
        header(4, Change::Remove),
    ];
    for header in &others {
        wal.append(header, &[]).unwrap();
    }
    drop(wal);
    let mut count = 0;
    let check = &mut |_, record: Record<'_>| {
        let (header, payload) =
            if count == 0 { (&write, blocks.concat()) } else { (&others[count - 1], vec![]) };
        assert_eq!((&record.header, &record.payload[..]), (header, &payload[..]));
        count += 1;
        Ok::<(), WalError>(())
    };
    Wal::open(disk, OPTIONS, check).unwrap();
    assert_eq!(count, 4);
}

#[test]
fn records_that_could_not_be_read_back_are_not_taken() {
    let (wal, _) = open(&simulated()).unwrap();
    let malformed = |change: Change<'_>, payload: &[u8]| {
        let result = wal.append(&header(1, change), &[IoSlice::new(payload)]);
        assert!(matches!(result, Err(WalError::Malformed)), "{result:?}");
    };
    malformed(Change::Write { first_block: 0, crcs: &[] }, &[]);
    malformed(Change::Write { first_block: 0, crcs: &[1] }, &[0; 4095]);
    malformed(Change::Write { first_block: 1024, crcs: &[1] }, &[0; 4096]);
    malformed(Change::Discard { blocks: 5..5 }, &[]);
    malformed(Change::Discard { blocks: 0..1025 }, &[]);
    malformed(Change::Remove, &[1]);
    assert!(matches!(append(&wal, 1, 7), Err(WalError::TooLarge { bytes }) if bytes == 56 + 7 * 4100 + 4));
    assert_eq!(wal.written(), Lsn(0));
}

#[test]
fn data_is_found_where_it_lies_until_it_is_released() {
    let disk = simulated();
    let (mut wal, _) = open(&disk).unwrap();
    let holds = |files: &LogFiles<_>, seq: u32, end: Lsn| {
        let crcs = [0];
        let payload = header(seq, Change::Write { first_block: 0, crcs: &crcs }).payload_at(end);
        let (file, offset) = files.find(payload).unwrap();
        let mut found = vec![0; BLOCK_SIZE_BYTES as usize];
        disk.read_at(file, &mut found, offset).unwrap();
        found == block(seq)
    };
    let mut ends: Vec<Lsn> = (0..4 * PER_SEGMENT).map(|seq| append(&wal, seq, 1).unwrap()).collect();
    let before = wal.files();
    assert!((0..).zip(&ends).all(|(seq, end)| holds(&before, seq, *end)));
    wal.sync().unwrap();
    let released = 2 * PER_SEGMENT + 1;
    wal.release(ends[released as usize]).unwrap();
    ends.extend((4 * PER_SEGMENT..6 * PER_SEGMENT).map(|seq| append(&wal, seq, 1).unwrap()));
    assert!(!holds(&before, 0, ends[0]), "its segment is used again");
    for _ in 0..2 {
        let files = wal.files();
        assert!((0..).zip(&ends).skip(released as usize).all(|(seq, end)| holds(&files, seq, *end)));
        drop(wal);
        disk.crash(Crash::Process, 1);
        wal = open(&disk).unwrap().0;
    }
}

#[test]
fn a_full_log_refuses_until_something_is_released_and_never_grows() {
    let disk = simulated();
    let (wal, _) = open(&disk).unwrap();
    let mut seq = 0;
    for _ in 0..10 {
        let full = loop {
            seq += 1;
            if let Err(error) = append(&wal, seq, 1) {
                break error;
            }
        };
        assert!(matches!(full, WalError::Full { live_bytes } if live_bytes == wal.live_bytes()));
        wal.release(wal.written()).unwrap();
        assert_eq!(wal.released(), wal.durable(), "only what is durable can be released");
        wal.release(wal.sync().unwrap()).unwrap();
        assert_eq!(wal.live_bytes(), 0);
    }
    assert_eq!(disk.list("wal").unwrap().len(), 4 + 1);
    append(&wal, seq, 1).unwrap();
    drop(wal);
    assert_eq!(seqs(&open(&disk).unwrap().1).last(), Some(&seq));
}

#[test]
fn a_disk_without_room_for_a_segment_says_so_and_keeps_what_it_has() {
    let disk = Arc::new(SimulatedDisk::new(OPTIONS.segment_bytes * 2));
    let (wal, _) = open(&disk).unwrap();
    for seq in 1..=PER_SEGMENT {
        append(&wal, seq, 1).unwrap();
    }
    assert!(
        matches!(append(&wal, 7, 1), Err(WalError::NoSpace { needed_bytes }) if needed_bytes == 32 << 10)
    );
    assert_eq!(disk.list("wal").unwrap().len(), 2);
    wal.sync().unwrap();
    drop(wal);
    assert_eq!(seqs(&open(&disk).unwrap().1), (1..=PER_SEGMENT).collect::<Vec<_>>());
}

#[test]
fn after_a_failed_sync_or_write_nothing_is_promised_any_more() {
    for operation in [Operation::SyncData, Operation::Write] {
        let disk = simulated();
        let (wal, _) = open(&disk).unwrap();
        append(&wal, 1, 1).unwrap();
        disk.fail(Fault { operation, after: 0, error: ErrorKind::Other });
        let result = if operation == Operation::Write { append(&wal, 2, 1) } else { wal.sync() };
        assert!(matches!(result, Err(WalError::Io { .. })), "{result:?}");
        assert!(matches!(append(&wal, 3, 1), Err(WalError::Poisoned)));
        assert!(matches!(wal.sync(), Err(WalError::Poisoned)));
        assert!(matches!(wal.checkpoint(), Err(WalError::Poisoned)));
        assert_eq!(wal.durable(), Lsn(0));
    }
}

#[test]
fn segments_of_another_size_are_read_and_then_used_in_the_new_size() {
    let disk = simulated();
    let (wal, _) = open(&disk).unwrap();
    for seq in 1..=15 {
        append(&wal, seq, 1).unwrap();
    }
    drop(wal);
    let larger = WalOptions { segment_bytes: 48 << 10, bound_bytes: 96 << 10, ..OPTIONS };
    let mut count = 0;
    let wal = Wal::open(Arc::clone(&disk), larger, &mut |_, _| {
        count += 1;
        Ok::<(), WalError>(())
    });
    assert_eq!(count, 15);
    let wal = wal.unwrap();
    for seq in 16..80 {
        wal.release(wal.sync().unwrap()).unwrap();
        append(&wal, seq, 1).unwrap();
    }
    let last = disk.list("wal").unwrap().into_iter().rfind(|name| name != "released").unwrap();
    let file = disk.open(&format!("wal/{last}"), Open::Existing).unwrap();
    assert_eq!(disk.length(&file).unwrap(), 48 << 10);
}

/// Up to where the first segment of the real file system was written to, in bytes: what was only set aside counts as a hole.
fn written_bytes(directory: &Path) -> u64 {
    let file = File::open(directory.join(super::segment::path(1))).expect("the first segment is there");
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(0)).expect("the file system knows holes")
}

#[test]
fn a_sync_writes_ahead_so_that_the_next_one_changes_no_metadata() {
    let options = WalOptions { segment_bytes: 1 << 20, bound_bytes: 2 << 20, ..OPTIONS };
    let directory = tempfile::tempdir().unwrap();
    let disk = Arc::new(FileDisk::new(directory.path()).unwrap());
    let open = || Wal::open(Arc::clone(&disk), options, &mut |_, _| Ok::<(), WalError>(())).unwrap();
    let mut wal = open();
    for seq in 1..=50 {
        if seq == 20 {
            drop(wal);
            wal = open();
        }
        let end = super::segment::RECORDS_OFFSET + append(&wal, seq, 1).unwrap().0;
        wal.sync().unwrap();
        let written = written_bytes(directory.path());
        assert!(written >= end + RECORD_BYTES, "record {seq} ends at {end}, a hole begins at {written}");
    }
    drop(wal);
    let mut count = 0;
    let count_them = &mut |_, _: Record<'_>| {
        count += 1;
        Ok::<(), WalError>(())
    };
    Wal::open(disk, options, count_them).unwrap();
    assert_eq!(count, 50);
}
