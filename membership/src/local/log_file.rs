//! The file `epoch/log`: how it is laid out, made and read.
//!
//! ```text
//!  0       8           12      28               508      512
//! | magic  | version   | node  | zeroes         | crc32c |   header, never changed
//! | 8 B    | u32 = 1   | uuid  |                | u32    |
//!  512     520         528     536     568      1020     1024
//! | magic  | number    | end   | hash  | zeroes | crc32c |   mark, rewritten in place
//! | 8 B    | u64       | u64   | 32 B  |        | u32    |
//!  1024
//! | record 1 | record 2 | ..                                (see huntaway-ledger's frame)
//! ```
//!
//! A file that was cut has version 2. After the node its header says what stands for the records that are gone: how many hashes (u32),
//! their CRC32C (u32), and the length of a snapshot (u64). These lie between the mark and the records: 32 bytes for each hash, of the
//! last record that the snapshot stands for and those before it, oldest first; then the snapshot (see huntaway-ledger).
//!
//! Integers are little-endian; each CRC32C covers the 508 bytes of the sector before it.
//!
//! The mark tells a torn tail from damage. It is written after each fsync, and names the last record that was
//! fsynced, the byte after it and its hash. What does not read well beyond the mark was never reported and is cut
//! off; up to the mark it is damage. It is not fsynced itself (the next append's fsync does that): after a power
//! loss it may be one append old. If the mark is unreadable, whatever else does not read well is damage.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use huntaway_ledger::{DecodeError, Ledger, Next, NoMemory, ReadError, Record, RecordHash, State};
use huntaway_wire::NodeId;

use super::directory;
use super::error::{Damage, OpenError};
use super::log::Log;

/// Largest file, in bytes: hundreds of thousands of records.
pub const MAX_LOG_BYTES: u64 = 64 << 20;

/// Where operations end, in bytes: the rest is left for starts, so that a full ledger can still be opened.
pub(super) const MAX_OPERATIONS_BYTES: u64 = MAX_LOG_BYTES - (1 << 20);

pub(super) const SECTOR_BYTES: usize = 512;
pub(super) const MARK_OFFSET_BYTES: u64 = SECTOR_BYTES as u64;
const RECORDS_OFFSET_BYTES: usize = 2 * SECTOR_BYTES;
const HEADER_MAGIC: [u8; 8] = *b"HTLEDGER";
const MARK_MAGIC: [u8; 8] = *b"HTLEDMRK";
const FORMAT_VERSION: u32 = 1;
const CUT_VERSION: u32 = 2;
const HASH_BYTES: usize = 32;

/// A ledger as it was read, without opening it.
#[derive(Debug, Clone)]
pub struct LedgerFile {
    /// The node it belongs to.
    pub node: NodeId,
    /// The state after its last record.
    pub state: Arc<State>,
    /// Its records, from the first, or since it was cut.
    pub records: Vec<Record>,
}

/// What was found in the file.
pub(super) struct Found {
    pub(super) node: NodeId,
    pub(super) ledger: Ledger,
    /// Where the marked records end, in bytes from the beginning of the file.
    marked_end_bytes: u64,
    /// Whole records that follow the marked ones.
    unmarked: Vec<u8>,
    /// Where the records begin.
    start_bytes: u64,
}

/// What is found in the file, one thing after the other.
pub(super) enum Visited<'a> {
    /// Before the first record: the file was cut, and the ledger is what the records until then came to.
    Cut(&'a Ledger, Vec<RecordHash>),
    /// A record, the ledger that ends with it, and its bytes.
    Record(Record, &'a Ledger, &'a [u8]),
}

pub(super) fn path(dir: &Path) -> PathBuf {
    directory::epoch(dir).join("log")
}

pub(super) fn exists(dir: &Path) -> Result<bool, OpenError> {
    let path = path(dir);
    path.try_exists().map_err(OpenError::io("look at", &path))
}

/// Makes the file with its first record, whole or not at all.
pub(super) fn create(dir: &Path, node: NodeId, first: &Next) -> Result<(), OpenError> {
    let mut bytes = header(node).to_vec();
    bytes.extend(mark(RECORDS_OFFSET_BYTES as u64 + first.bytes.len() as u64, &first.ledger));
    bytes.extend(&first.bytes);
    let (unfinished, finished) = paths(dir);
    write_new(&unfinished, &bytes)?;
    fs::rename(&unfinished, &finished).map_err(OpenError::io("rename", &unfinished))?;
    let epoch = directory::epoch(dir);
    directory::sync(&epoch).map_err(OpenError::io("fsync", &epoch))
}

/// Where a new file is written, and where it belongs.
fn paths(dir: &Path) -> (PathBuf, PathBuf) {
    (directory::epoch(dir).join("log.new"), path(dir))
}

/// Writes a file so that it is on stable storage, under a name that nobody looks at.
fn write_new(path: &Path, bytes: &[u8]) -> Result<File, OpenError> {
    let mut file = File::create(path).map_err(OpenError::io("make", path))?;
    file.write_all(bytes).map_err(OpenError::io("write", path))?;
    file.sync_all().map_err(OpenError::io("fsync", path))?;
    Ok(file)
}

/// The bytes of a file that has a snapshot of the ledger in place of its records.
fn cut_bytes(node: NodeId, ledger: &Ledger, hashes: &[RecordHash]) -> Result<Vec<u8>, NoMemory> {
    let snapshot = ledger.snapshot()?;
    let hashes: Vec<u8> = hashes.iter().flat_map(|hash| hash.0).collect();
    let (count, crc) = ((hashes.len() / HASH_BYTES) as u32, crc32c::crc32c(&hashes));
    let end_bytes = RECORDS_OFFSET_BYTES + hashes.len() + snapshot.len();
    let mut bytes = sealed(&[
        &HEADER_MAGIC,
        &CUT_VERSION.to_le_bytes(),
        &node.0,
        &count.to_le_bytes(),
        &crc.to_le_bytes(),
        &(snapshot.len() as u64).to_le_bytes(),
    ])
    .to_vec();
    bytes.extend(mark(end_bytes as u64, ledger));
    bytes.extend(hashes);
    bytes.extend(snapshot);
    Ok(bytes)
}

/// Puts a file in the place of the ledger's that has a snapshot of all records. Returns it, or `None` if it would be too long: then
/// nothing happened.
///
/// # Errors
/// [`NotCut`]: whether the old file may be gone on with.
pub(super) fn cut(
    dir: &Path,
    node: NodeId,
    ledger: &Ledger,
    hashes: &[RecordHash],
) -> Result<Option<(File, u64)>, NotCut> {
    let bytes = cut_bytes(node, ledger, hashes).map_err(|error| NotCut::Still(error.to_string()))?;
    if bytes.len() as u64 > MAX_OPERATIONS_BYTES / 2 {
        return Ok(None);
    }
    let (unfinished, finished) = paths(dir);
    let file = write_new(&unfinished, &bytes).map_err(|error| NotCut::Still(error.to_string()))?;
    // From here on either file may be there after a power loss, until the directory is on stable storage.
    fs::rename(&unfinished, &finished)
        .and_then(|()| directory::sync(&directory::epoch(dir)))
        .map_err(NotCut::Unknown)?;
    Ok(Some((file, bytes.len() as u64)))
}

/// A ledger's file that is not cut.
#[derive(Debug)]
pub(super) enum NotCut {
    /// It is as it was.
    Still(String),
    /// It is not known which file is there.
    Unknown(std::io::Error),
}

/// Opens the file to append after what was found in it. A torn tail is cut off. Whole records beyond the mark may be
/// in memory only, if an fsync failed in an earlier process: they are written once more, in place, for the next fsync.
pub(super) fn open_for_append(dir: &Path, found: &Found) -> Result<Log<File>, OpenError> {
    let path = path(dir);
    let file = OpenOptions::new().read(true).write(true).open(&path).map_err(OpenError::io("open", &path))?;
    let end_bytes = found.marked_end_bytes + found.unmarked.len() as u64;
    file.set_len(end_bytes)
        .and_then(|()| file.write_all_at(&found.unmarked, found.marked_end_bytes))
        .map_err(OpenError::io("write", &path))?;
    Ok(Log::new(file, path, end_bytes, found.start_bytes))
}

/// Reads the file; `visit` is shown all of it in order.
pub(super) fn load(dir: &Path, visit: impl FnMut(Visited<'_>)) -> Result<Found, OpenError> {
    let path = path(dir);
    let file = match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let source =
                std::io::Error::new(error.kind(), "there is no ledger; is this Huntaway's directory?");
            return Err(OpenError::Io { doing: "open", path, source });
        }
        opened => opened.map_err(OpenError::io("open", &path))?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_LOG_BYTES + 1).read_to_end(&mut bytes).map_err(OpenError::io("read", &path))?;
    if bytes.len() as u64 > MAX_LOG_BYTES {
        return Err(OpenError::TooLarge { path });
    }
    parse(&bytes, visit).map_err(|Failure { offset_bytes, reason }| match reason {
        Reason::Newer(reason) => OpenError::Newer { path, offset_bytes, reason },
        Reason::Damage(damage) => OpenError::Damaged { path, offset_bytes, damage },
    })
}

#[derive(Debug)]
struct Failure {
    offset_bytes: u64,
    reason: Reason,
}

#[derive(Debug)]
enum Reason {
    Damage(Damage),
    Newer(ReadError),
}

fn parse(bytes: &[u8], mut visit: impl FnMut(Visited<'_>)) -> Result<Found, Failure> {
    let damage =
        |offset: usize, damage| Failure { offset_bytes: offset as u64, reason: Reason::Damage(damage) };
    let (node, cut) = read_header(bytes).ok_or_else(|| damage(0, Damage::Header))?;
    let mark = read_mark(bytes);
    let (mut ledger, mut offset) = (Ledger::default(), RECORDS_OFFSET_BYTES);
    if let Some(cut) = cut {
        let (known, hashes, end) = cut.read(bytes).ok_or_else(|| damage(offset, Damage::Snapshot))?;
        (ledger, offset) = (known, end);
        visit(Visited::Cut(&ledger, hashes));
    }
    let start_bytes = offset as u64;
    let mut marked_end = offset;
    while let Some(rest) = bytes.get(offset..).filter(|rest| !rest.is_empty()) {
        match ledger.read(rest) {
            Ok((record, length)) => {
                offset += length;
                visit(Visited::Record(record, &ledger, rest.get(..length).unwrap_or(rest)));
            }
            Err(reason @ ReadError::Decode(DecodeError::Unknown { .. })) => {
                return Err(Failure { offset_bytes: offset as u64, reason: Reason::Newer(reason) });
            }
            Err(reason) => {
                let number = ledger.state().number() + 1;
                if mark.as_ref().is_some_and(|mark| number > mark.number) && may_be_torn(&reason) {
                    tracing::warn!(offset_bytes = offset, record = number, %reason, "torn tail of the ledger");
                    break;
                }
                return Err(damage(offset, Damage::Record { number, reason }));
            }
        }
        if let Some(mark) = mark.as_ref().filter(|mark| mark.number == ledger.state().number()) {
            if mark.hash != ledger.hash() || mark.end_bytes != offset as u64 {
                return Err(damage(offset, Damage::OtherRecords));
            }
            marked_end = offset;
        }
    }
    let last = ledger.state().number();
    let marked = mark.map_or(1, |mark| mark.number);
    if last < marked {
        return Err(damage(offset, Damage::CutOff { last, marked }));
    }
    let unmarked = bytes.get(marked_end..offset).unwrap_or_default().to_vec();
    Ok(Found { node, ledger, marked_end_bytes: marked_end as u64, unmarked, start_bytes })
}

/// Whether a write that was cut short can look like this. An intact record that cannot follow is not of that kind.
fn may_be_torn(reason: &ReadError) -> bool {
    use DecodeError::{Incomplete, PayloadChecksum, Preamble};
    matches!(reason, ReadError::Decode(Incomplete { .. } | PayloadChecksum | Preamble))
}

fn header(node: NodeId) -> [u8; SECTOR_BYTES] {
    sealed(&[&HEADER_MAGIC, &FORMAT_VERSION.to_le_bytes(), &node.0])
}

/// The mark of a ledger whose last record ends at `end_bytes`.
pub(super) fn mark(end_bytes: u64, ledger: &Ledger) -> [u8; SECTOR_BYTES] {
    let number = ledger.state().number();
    sealed(&[&MARK_MAGIC, &number.to_le_bytes(), &end_bytes.to_le_bytes(), &ledger.hash().0])
}

/// A sector of the given fields, zeroes and a checksum.
fn sealed(fields: &[&[u8]]) -> [u8; SECTOR_BYTES] {
    let mut sector = [0; SECTOR_BYTES];
    let mut rest = sector.as_mut_slice();
    for field in fields {
        let (place, after) = rest.split_at_mut(field.len());
        place.copy_from_slice(field);
        rest = after;
    }
    let crc_offset = SECTOR_BYTES - 4;
    let crc = crc32c::crc32c(&sector[..crc_offset]);
    sector[crc_offset..].copy_from_slice(&crc.to_le_bytes());
    sector
}

fn read_header(bytes: &[u8]) -> Option<(NodeId, Option<Cut>)> {
    let fields = unsealed(bytes.get(..SECTOR_BYTES)?, HEADER_MAGIC)?;
    let (version, fields) = fields.split_first_chunk()?;
    let (node, fields) = fields.split_first_chunk()?;
    let cut = match u32::from_le_bytes(*version) {
        FORMAT_VERSION => None,
        CUT_VERSION => {
            let (count, fields) = fields.split_first_chunk()?;
            let (crc, fields) = fields.split_first_chunk()?;
            Some(Cut {
                hashes: u32::from_le_bytes(*count),
                crc: u32::from_le_bytes(*crc),
                snapshot_bytes: u64::from_le_bytes(*fields.first_chunk()?),
            })
        }
        _ => return None,
    };
    Some((NodeId(*node), cut))
}

/// What a header says of what stands for records that are gone.
struct Cut {
    hashes: u32,
    crc: u32,
    snapshot_bytes: u64,
}

impl Cut {
    /// The ledger, hashes up to that of its last record, and where all that ends.
    fn read(&self, bytes: &[u8]) -> Option<(Ledger, Vec<RecordHash>, usize)> {
        let rest = bytes.get(RECORDS_OFFSET_BYTES..)?;
        let hashes_bytes = HASH_BYTES.checked_mul(self.hashes.try_into().ok()?)?;
        let (hashes, rest) = rest.split_at_checked(hashes_bytes)?;
        let snapshot = rest.get(..self.snapshot_bytes.try_into().ok()?)?;
        let ledger = Ledger::of_snapshot(snapshot).ok().filter(|_| crc32c::crc32c(hashes) == self.crc)?;
        let hashes: Vec<RecordHash> =
            hashes.as_chunks::<HASH_BYTES>().0.iter().map(|hash| RecordHash(*hash)).collect();
        let is_right = hashes.last() == Some(&ledger.hash());
        is_right.then_some((ledger, hashes, RECORDS_OFFSET_BYTES + hashes_bytes + snapshot.len()))
    }
}

struct Mark {
    number: u64,
    end_bytes: u64,
    hash: RecordHash,
}

fn read_mark(bytes: &[u8]) -> Option<Mark> {
    let fields = unsealed(bytes.get(SECTOR_BYTES..RECORDS_OFFSET_BYTES)?, MARK_MAGIC)?;
    let (number, fields) = fields.split_first_chunk()?;
    let (end_bytes, fields) = fields.split_first_chunk()?;
    Some(Mark {
        number: u64::from_le_bytes(*number),
        end_bytes: u64::from_le_bytes(*end_bytes),
        hash: RecordHash(*fields.first_chunk()?),
    })
}

/// The fields of a sector after its magic, if both magic and checksum are right.
fn unsealed(sector: &[u8], magic: [u8; 8]) -> Option<&[u8]> {
    let (covered, crc) = sector.split_last_chunk()?;
    let intact = crc32c::crc32c(covered) == u32::from_le_bytes(*crc);
    covered.strip_prefix(&magic).filter(|_| intact)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn header_and_mark_are_written_as_they_always_were() {
        let header = header(NodeId(*b"node-uuid-16byte"));
        let mark = mark(0x0102_0304, &Ledger::default());
        assert_eq!(hex(&header[..32]), "48544c4544474552010000006e6f64652d757569642d31366279746500000000");
        assert_eq!(hex(&header[508..]), "dd000b34");
        assert_eq!(hex(&mark[..32]), "48544c45444d524b000000000000000004030201000000000000000000000000");
        assert_eq!(hex(&mark[508..]), "ba62262d");
        assert!(header[32..508].iter().chain(&mark[32..508]).all(|&byte| byte == 0));
    }

    /// What the file comes to, and how many records it has itself.
    fn found(dir: &Path) -> Result<(Ledger, usize), OpenError> {
        let mut records = 0;
        let found = load(dir, |visited| records += usize::from(matches!(visited, Visited::Record(..))))?;
        Ok((found.ledger, records))
    }

    fn append(dir: &Path, ledger: &Ledger, copies: usize) -> Ledger {
        let found = load(dir, |_| ()).unwrap();
        let next = ledger.follow(&Record::Copies { copies, min_copies: 1 }).unwrap();
        open_for_append(dir, &found).unwrap().append(&next.bytes, &next.ledger, MAX_LOG_BYTES).unwrap();
        next.ledger
    }

    #[test]
    fn wherever_it_is_killed_a_cut_leaves_the_old_file_or_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let (dir, node) = (dir.path(), NodeId([1; 16]));
        directory::make(dir).unwrap();
        let first = Ledger::default().follow(&Record::Copies { copies: 1, min_copies: 1 }).unwrap();
        create(dir, node, &first).unwrap();
        let ledger = append(dir, &first.ledger, 2);
        let hashes = [RecordHash::default(), first.ledger.hash(), ledger.hash()];
        let new = cut_bytes(node, &ledger, &hashes).unwrap();
        let (unfinished, finished) = paths(dir);
        for length in (0..new.len()).step_by(97).chain([new.len()]) {
            fs::write(&unfinished, &new[..length]).unwrap();
            let (found, records) = found(dir).unwrap();
            assert_eq!((found.hash(), records), (ledger.hash(), 2));
        }
        let cut = cut(dir, node, &ledger, &hashes).unwrap().unwrap();
        assert_eq!((fs::read(&finished).unwrap(), cut.1), (new.clone(), new.len() as u64));
        let mut before = Vec::new();
        load(dir, |visited| {
            let Visited::Cut(cut, hashes) = visited else { panic!("a record") };
            assert_eq!(cut.state(), ledger.state());
            before = hashes;
        })
        .unwrap();
        assert_eq!(before, hashes);
        let later = append(dir, &ledger, 3);
        let (found_later, records) = found(dir).unwrap();
        assert_eq!((found_later.hash(), records), (later.hash(), 1));
        // An append that was cut short is cut off, and whatever is wrong before it is damage.
        let whole = fs::read(&finished).unwrap();
        let third = append(dir, &later, 4);
        let torn = fs::read(&finished).unwrap();
        fs::write(&finished, [&whole[..], &torn[whole.len()..torn.len() - 9]].concat()).unwrap();
        let (found_torn, _) = found(dir).unwrap();
        assert_eq!((found_torn.hash(), found_torn.hash() == third.hash()), (later.hash(), false));
        for place in (0..SECTOR_BYTES).chain(RECORDS_OFFSET_BYTES..whole.len()).step_by(13) {
            let mut damaged = whole.clone();
            damaged[place] ^= 1;
            fs::write(&finished, &damaged).unwrap();
            assert!(found(dir).is_err(), "{place}");
        }
        fs::write(&finished, &whole[..new.len() - 1]).unwrap();
        assert!(found(dir).is_err(), "it is cut off");
    }
}
