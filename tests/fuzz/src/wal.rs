//! The write-ahead log: whatever its files say, it opens or is refused; every record it replays is whole, and replayed
//! again the same; and what is added then comes after them.

use std::io::IoSlice;
use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use huntaway_store::disk::{Crash, Disk, Open, SimulatedDisk};
use huntaway_store::wal::{Change, Lsn, Record, RecordHeader, Wal, WalError, WalOptions};
use huntaway_wire::{Oid, Partition, Version};

const UUID: [u8; 16] = [7; 16];
const SEGMENT_BYTES: u64 = 16 << 10;
const RECORDS_OFFSET: u64 = 4096;

/// The files of a log.
#[derive(Debug, Arbitrary)]
struct Input<'a> {
    may_be_new: bool,
    released: [Option<(u8, Position)>; 2],
    segments: Vec<Segment<'a>>,
}

/// A position in the log.
#[derive(Debug, Clone, Copy, Arbitrary)]
enum Position {
    /// Where the records of the segment before end.
    Following,
    Near(u16),
    Any(u64),
}

#[derive(Debug, Arbitrary)]
struct Segment<'a> {
    /// The number in the file's name, and that in its header if it is another.
    number: u8,
    named: Option<u64>,
    base: Position,
    records: Vec<Entry>,
    rest: &'a [u8],
    /// Bytes changed after all checksums were made.
    edits: Vec<(u16, u8)>,
}

#[derive(Debug, Arbitrary)]
struct Entry {
    lsn: Option<u64>,
    durable_before: Position,
    oid: u64,
    version: (u32, u32),
    partition: u16,
    kind: u8,
    first_block: u16,
    blocks: u16,
    wrong: Option<Wrong>,
}

/// A field that may have any value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Arbitrary)]
enum Wrong {
    Kind,
    Blocks,
    Oid,
    Partition,
}

/// Takes the files of a log.
pub fn run(bytes: &[u8]) {
    let mut unstructured = Unstructured::new(bytes);
    let Ok(input) = Input::arbitrary(&mut unstructured) else { return };
    let disk = Arc::new(SimulatedDisk::new(1 << 22));
    put_files(&disk, &input);
    let Ok((wal, seen)) = open(&disk, input.may_be_new) else { return };
    let written = wal.written();
    drop(wal);
    disk.crash(Crash::Power, 1);
    let (wal, again) = open(&disk, false).expect("what was opened once can be opened again");
    assert_eq!((&again, wal.written()), (&seen, written), "replay is the same each time");
    let added = RecordHeader {
        partition: Partition::new(1).expect("there is one"),
        oid: Oid::from_value(1 << 32).expect("there is one"),
        version: Version { pepoch: 1, seq: 1 },
        change: Change::Reserve,
    };
    let Ok(end) = wal.append(&added, &[]) else { return };
    wal.sync().expect("the disk works");
    drop(wal);
    disk.crash(Crash::Power, 2);
    let (wal, after) = open(&disk, false).expect("what was added harms nothing");
    let (last, before) = after.split_last().expect("what was added is there");
    assert!(before == seen && last.0 == end);
    wal.release(end).expect("all of it may be released");
    wal.checkpoint().expect("the disk works");
    drop(wal);
    let (_, rest) = open(&disk, false).expect("an empty log can be opened");
    assert!(rest.is_empty());
}

/// A record as it was replayed: its end, what it says, its data.
type Seen = Vec<(Lsn, String, Vec<u8>)>;

fn open(disk: &Arc<SimulatedDisk>, may_be_new: bool) -> Result<(Wal<SimulatedDisk>, Seen), WalError> {
    let options = WalOptions {
        disk_uuid: UUID,
        segment_bytes: SEGMENT_BYTES,
        bound_bytes: 8 * SEGMENT_BYTES,
        may_be_new,
        skips_damage: false,
        is_same_boot: false,
    };
    let mut seen = Seen::new();
    let wal = Wal::open(Arc::clone(disk), options, &mut |end, record: Record<'_>| {
        assert!(seen.last().is_none_or(|(before, ..)| *before < end));
        check(&record);
        seen.push((end, format!("{:?}", record.header), record.payload.to_vec()));
        Ok::<(), WalError>(())
    })?;
    Ok((wal, seen))
}

/// A record that is replayed is whole, and names blocks that there are.
fn check(record: &Record<'_>) {
    match &record.header.change {
        Change::Write { first_block, crcs } => {
            assert!(!crcs.is_empty() && *first_block as usize + crcs.len() <= 1024);
            check_payload(record, crcs);
        }
        Change::Replicated { crcs, .. } => check_payload(record, crcs),
        Change::Discard { blocks } => assert!(blocks.start < blocks.end && blocks.end <= 1024),
        Change::Reserve | Change::Remove => assert!(record.payload.is_empty()),
    }
}

fn check_payload(record: &Record<'_>, crcs: &[u32]) {
    assert_eq!(record.payload.len(), crcs.len() * 4096);
    let blocks = record.payload.chunks(4096);
    assert!(blocks.zip(crcs).all(|(block, crc)| crc32c::crc32c(block) == *crc));
}

fn put_files(disk: &SimulatedDisk, input: &Input<'_>) {
    disk.create_dir("wal").expect("an empty disk has room");
    let mut marks = vec![0; 1024];
    for (number, mark) in input.released.iter().enumerate() {
        if let Some((count, position)) = mark {
            marks[number * 512..number * 512 + 48].copy_from_slice(&mark_bytes(*count, position.from(0)));
        }
    }
    put_file(disk, "wal/released", &marks);
    let mut end = 0;
    for segment in input.segments.iter().take(4) {
        let (bytes, segment_end) = segment.bytes(end);
        end = segment_end;
        put_file(disk, &format!("wal/{:016x}", segment.number), &bytes);
    }
}

fn put_file(disk: &SimulatedDisk, path: &str, bytes: &[u8]) {
    let opened = disk.open(path, Open::New).or_else(|_| disk.open(path, Open::Existing));
    let file = opened.expect("the disk works");
    disk.write_at(&file, &[IoSlice::new(bytes)], 0).expect("the disk has room");
}

impl Position {
    fn from(self, end: u64) -> u64 {
        match self {
            Self::Following => end,
            Self::Near(distance) => end.wrapping_add(u64::from(distance)).wrapping_sub(256),
            Self::Any(position) => position,
        }
    }
}

impl Segment<'_> {
    /// The bytes of the file, and where its records end, if they begin where `end` is.
    fn bytes(&self, end: u64) -> (Vec<u8>, u64) {
        let base = self.base.from(end);
        let mut bytes = header_bytes(self.named.unwrap_or(self.number.into()), base);
        let seed = u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]);
        bytes.resize(RECORDS_OFFSET as usize, 0);
        for entry in self.records.iter().take(8) {
            let lsn = base.wrapping_add(bytes.len() as u64 - RECORDS_OFFSET);
            let record = entry.bytes(lsn, seed);
            if bytes.len() + record.len() > SEGMENT_BYTES as usize {
                break;
            }
            bytes.extend(record);
        }
        let end = base.wrapping_add(bytes.len() as u64 - RECORDS_OFFSET);
        bytes.extend(self.rest.iter().take(4096));
        for (place, byte) in &self.edits {
            let place = usize::from(*place) % bytes.len();
            bytes[place] ^= byte;
        }
        (bytes, end)
    }
}

/// `store/FORMAT.md`, "wal/": the header of a segment.
fn header_bytes(number: u64, base: u64) -> Vec<u8> {
    let mut bytes = [b"HWwalseg" as &[u8], &1_u32.to_le_bytes(), &[0; 4], &UUID].concat();
    bytes.extend(number.to_le_bytes());
    bytes.extend(base.to_le_bytes());
    let crc = crc32c::crc32c(&bytes);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// `store/FORMAT.md`, "wal/": from where to replay.
fn mark_bytes(count: u8, lsn: u64) -> Vec<u8> {
    let mut bytes = [b"HWwalrel" as &[u8], &1_u32.to_le_bytes(), &[0; 4], &UUID].concat();
    bytes.extend(u64::from(count).to_le_bytes());
    bytes.extend(lsn.to_le_bytes());
    let crc = crc32c::crc32c(&bytes);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    bytes
}

impl Entry {
    /// `store/FORMAT.md`, "wal/": a record, but for what is wrong. Of its blocks there are at most two.
    fn bytes(&self, lsn: u64, seed: u32) -> Vec<u8> {
        let right = |field: Wrong| self.wrong != Some(field);
        let kind = if right(Wrong::Kind) { self.kind % 4 + 1 } else { self.kind };
        let present = if kind == 1 { usize::from(self.blocks % 2) + 1 } else { 0 };
        let blocks = match kind {
            _ if !right(Wrong::Blocks) => self.blocks,
            1 => present as u16,
            2 => self.blocks.clamp(1, 1024),
            _ => 0,
        };
        let first = match blocks {
            _ if !right(Wrong::Blocks) => self.first_block,
            0 => 0,
            blocks => self.first_block % (1025 - blocks),
        };
        let oid = if right(Wrong::Oid) { self.oid & 0xffff_ffff | 1 << 32 } else { self.oid };
        let partition = if right(Wrong::Partition) { self.partition % 4096 } else { self.partition };
        let data = vec![self.kind; 4096 * present];
        let crcs: Vec<u8> = data.chunks(4096).flat_map(|block| crc32c::crc32c(block).to_le_bytes()).collect();
        let mut bytes = [b"HWrc" as &[u8], &[0; 4]].concat();
        bytes.extend(self.lsn.unwrap_or(lsn).to_le_bytes());
        bytes.extend(self.durable_before.from(lsn).to_le_bytes());
        bytes.extend(oid.to_le_bytes());
        bytes.extend(self.version.0.to_le_bytes());
        bytes.extend(self.version.1.to_le_bytes());
        bytes.extend(partition.to_le_bytes());
        bytes.extend([kind, 0]);
        bytes.extend(first.to_le_bytes());
        bytes.extend(blocks.to_le_bytes());
        bytes.extend(crc32c::crc32c(&crcs).to_le_bytes());
        bytes.extend([0; 4]);
        let crc = crc32c::crc32c_append(seed, &bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes.extend(crcs);
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }
}
