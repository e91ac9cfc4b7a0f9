//! Reading the log back after a stop of any kind: where it ends, and whether something is missing.
//!
//! Each record tells what was on stable storage when it was written. An unreadable record ends the log (a *torn tail*:
//! power was lost before it was synced) unless some record after it, or `wal/released`, says that it had been synced: then
//! it is damage.

use std::io::{self, IoSlice};

use bytes::Bytes;

use super::record::{self, ALIGNMENT_BYTES, Fixed, HEADER_BYTES, Record, Table};
use super::segment::{self, Header, RECORDS_OFFSET, Segment};
use super::{DIRECTORY, Lsn, WalError};
use crate::disk::{Disk, Open};

/// Bytes searched at a time for records beyond an unreadable one.
const SEARCH_BYTES: usize = 1 << 20;

/// The segment files as they were found, sorted by what is to become of them.
pub(super) struct Found<F> {
    /// In order, from the one that holds the first record not released to the last.
    pub(super) live: Vec<Segment<F>>,
    /// All that they hold is released.
    pub(super) free: Vec<u64>,
    /// They hold nothing, and are not to be taken for a segment later.
    pub(super) unfinished: Vec<u64>,
}

impl<F> Found<F> {
    /// Looks at every segment file; `released` is where replay begins. Only a log that `may_be_new` may have none.
    pub(super) fn look<D: Disk<File = F>>(
        disk: &D,
        uuid: &[u8; 16],
        released: Lsn,
        may_be_new: bool,
    ) -> Result<Self, WalError> {
        let mut found = Self { live: Vec::new(), free: Vec::new(), unfinished: Vec::new() };
        let mut damaged = Vec::new();
        let names = disk.list(DIRECTORY).map_err(|source| io_error("list", DIRECTORY.into(), source))?;
        for number in names.iter().filter_map(|name| segment::number(name)) {
            let path = segment::path(number);
            let read = disk.open(&path, Open::Existing).and_then(|file| {
                let header = Header::read(disk, &file, uuid, number)?;
                Ok((file, header))
            });
            let (file, header) = read.map_err(|source| io_error("read", path, source))?;
            match header {
                Header::Valid { base, seed } => {
                    found.live.push(Segment { number, base, seed, file, written_bytes: RECORDS_OFFSET });
                }
                Header::Unfinished => found.unfinished.push(number),
                Header::Damaged => damaged.push(number),
            }
        }
        let is_free = |pair: &[Segment<F>]| pair[1].base <= released;
        let free = found.live.windows(2).take_while(|pair| is_free(pair)).count();
        found.free = found.live.drain(..free).map(|segment| segment.number).collect();
        let first = found.live.first();
        let must_exist = !may_be_new || released > Lsn(0);
        if first.map_or(must_exist && damaged.is_empty(), |first| first.base > released) {
            return Err(WalError::Incomplete { what: "the segment from which to replay is missing" });
        }
        if let Some(segment) = damaged.iter().copied().find(|n| first.is_none_or(|first| *n > first.number)) {
            return Err(WalError::Damaged { segment, offset: 0 });
        }
        found.unfinished.extend(damaged);
        Ok(found)
    }
}

/// Where the log was found to end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) lsn: Lsn,
    /// Which of the live segments it lies in.
    pub(super) segment: usize,
    /// Whether that segment holds leftovers of records at or after the end.
    pub(super) has_leftovers: bool,
}

/// What is done with the records that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replay {
    /// Nothing is changed.
    Looking,
    /// Those that are not released are written again where they are, so that the next sync puts them on stable storage: a
    /// process whose sync had failed leaves bytes that can be read, are not on the disk, and that no sync writes.
    Rewriting,
}

/// A record as it was read.
struct Raw {
    header: [u8; HEADER_BYTES],
    fixed: Fixed,
    rest: Bytes,
}

/// Hands every record from `released` on to `replay`, in order, until the log's end, which is not before `durable`.
pub(super) fn replay<D: Disk, E: From<WalError>>(
    disk: &D,
    live: &[Segment<D::File>],
    (released, durable): (Lsn, Lsn),
    how: Replay,
    replay: &mut dyn FnMut(Lsn, Record<'_>) -> Result<(), E>,
) -> Result<End, E> {
    let mut table = Table::default();
    let mut lsn = released;
    for (place, segment) in live.iter().enumerate() {
        let next = live.get(place + 1);
        while next.is_none_or(|next| next.base != lsn) {
            let Some(Raw { header, fixed, rest }) = read(disk, segment, lsn)? else {
                return Ok(end(disk, live, place, lsn, durable)?);
            };
            let Some(record) = fixed.complete(rest.clone(), &mut table) else {
                return Ok(end(disk, live, place, lsn, durable)?);
            };
            let offset = segment.offset(lsn);
            lsn = Lsn(lsn.0 + fixed.logged_bytes());
            if how == Replay::Rewriting {
                disk.write_at(&segment.file, &[IoSlice::new(&header), IoSlice::new(&rest)], offset)
                    .map_err(|source| io_error("write", segment::path(segment.number), source))?;
            }
            replay(lsn, record)?;
        }
    }
    Ok(End { lsn, segment: live.len().saturating_sub(1), has_leftovers: false })
}

fn read<D: Disk>(disk: &D, segment: &Segment<D::File>, lsn: Lsn) -> Result<Option<Raw>, WalError> {
    let fail = |source| io_error("read", segment::path(segment.number), source);
    let offset = segment.offset(lsn);
    let mut header = [0; HEADER_BYTES];
    if disk.read_at(&segment.file, &mut header, offset).map_err(fail)? < HEADER_BYTES {
        return Ok(None);
    }
    let Some(fixed) = Fixed::decode(&header, segment.seed).filter(|fixed| fixed.place.lsn == lsn) else {
        return Ok(None);
    };
    let mut rest = vec![0; fixed.rest_bytes()];
    let length = disk.read_at(&segment.file, &mut rest, offset + HEADER_BYTES as u64).map_err(fail)?;
    rest.truncate(length);
    Ok(Some(Raw { header, fixed, rest: rest.into() }))
}

/// The record at `lsn` of segment `place` is unreadable: is that the end, or damage?
fn end<D: Disk>(
    disk: &D,
    live: &[Segment<D::File>],
    place: usize,
    lsn: Lsn,
    durable: Lsn,
) -> Result<End, WalError> {
    let mut known_durable = Some(durable);
    let mut has_leftovers = false;
    for (index, segment) in live.iter().enumerate().skip(place) {
        let from = if index == place { segment.offset(lsn) } else { RECORDS_OFFSET };
        let newest = newest_claim(disk, segment, from)
            .map_err(|source| io_error("read", segment::path(segment.number), source))?;
        has_leftovers |= index == place && newest.is_some();
        known_durable = known_durable.max(newest);
    }
    if known_durable > Some(lsn) {
        return Err(WalError::Damaged { segment: live[place].number, offset: live[place].offset(lsn) });
    }
    Ok(End { lsn, segment: place, has_leftovers })
}

/// The furthest position that records of `segment` at or after `from` claim to have been on stable storage.
fn newest_claim<D: Disk>(disk: &D, segment: &Segment<D::File>, from: u64) -> io::Result<Option<Lsn>> {
    let mut newest = None;
    let mut buffer = vec![0; SEARCH_BYTES];
    let mut offset = from;
    loop {
        let length = disk.read_at(&segment.file, &mut buffer, offset)?;
        let (found, is_last) = (&buffer[..length], length < buffer.len());
        for place in possible_headers(found) {
            // A header that goes on behind what was read is the first thing read the next time.
            let Some((header, _)) = found[place as usize..].split_first_chunk::<HEADER_BYTES>() else {
                break;
            };
            let lsn = Lsn(segment.base.0 + (offset + place - RECORDS_OFFSET));
            let fixed = Fixed::decode(header, segment.seed).filter(|fixed| fixed.place.lsn == lsn);
            newest = newest.max(fixed.map(|fixed| fixed.place.durable_before));
        }
        if is_last {
            return Ok(newest);
        }
        offset += (length - HEADER_BYTES) as u64;
    }
}

/// Where in `bytes` a record may begin. Most of a segment that was never used is zeroes, which are skipped quickly.
fn possible_headers(bytes: &[u8]) -> impl Iterator<Item = u64> {
    const ZEROES: [u8; 4096] = [0; 4096];
    let pages = bytes.chunks(ZEROES.len()).enumerate().filter(|(_, page)| **page != ZEROES[..page.len()]);
    pages.flat_map(|(number, page)| {
        let places = page.chunks(ALIGNMENT_BYTES as usize).enumerate();
        let start = (number * ZEROES.len()) as u64;
        places
            .filter(|(_, word)| word.starts_with(&record::MAGIC))
            .map(move |(place, _)| start + place as u64 * ALIGNMENT_BYTES)
    })
}

/// Makes sure that nothing after the end is ever read again: later segments go, and what follows it becomes zeroes if
/// `must_cut`.
pub(super) fn destroy_tail<D: Disk>(
    disk: &D,
    found: &mut Found<D::File>,
    end: &End,
    must_cut: bool,
) -> Result<(), WalError> {
    let later = found.live.split_off((end.segment + 1).min(found.live.len()));
    let gone: Vec<u64> =
        later.iter().map(|segment| segment.number).chain(found.unfinished.drain(..)).collect();
    for number in &gone {
        let path = segment::path(*number);
        disk.remove(&path).map_err(|source| io_error("remove", path, source))?;
    }
    if !gone.is_empty() {
        disk.sync_dir(DIRECTORY).map_err(|source| io_error("sync", DIRECTORY.into(), source))?;
    }
    if let (true, Some(last)) = (must_cut, found.live.last()) {
        let fail = |source| io_error("write", segment::path(last.number), source);
        let length = disk.length(&last.file).map_err(fail)?;
        let zeroes = vec![0; SEARCH_BYTES];
        let mut offset = last.offset(end.lsn);
        while offset < length {
            let count = (length - offset).min(zeroes.len() as u64);
            disk.write_at(&last.file, &[IoSlice::new(&zeroes[..count as usize])], offset).map_err(fail)?;
            offset += count;
        }
    }
    Ok(())
}

/// Puts all that was replayed on stable storage: a process that died may have left it in memory only. The records were
/// written again before.
pub(super) fn sync_all<D: Disk>(
    disk: &D,
    uuid: &[u8; 16],
    live: &[Segment<D::File>],
) -> Result<(), WalError> {
    for segment in live {
        let written = segment.write_header(disk, uuid);
        written.map_err(|source| io_error("write", segment::path(segment.number), source))?;
        disk.sync_data(&segment.file)
            .map_err(|source| io_error("sync", segment::path(segment.number), source))?;
    }
    disk.sync_dir(DIRECTORY).map_err(|source| io_error("sync", DIRECTORY.into(), source))
}

pub(super) fn io_error(operation: &'static str, path: String, source: io::Error) -> WalError {
    WalError::Io { operation, path, source }
}
