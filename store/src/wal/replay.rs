//! Reading the log back after a stop of any kind: where it ends, and whether something is missing.
//!
//! Each record tells what was on stable storage when it was written. An unreadable record ends the log (a *torn tail*:
//! power was lost before it was synced) unless some record after it, or `wal/released`, says that it had been synced, or no
//! power was lost and something follows: then it is damage. Whoever wants that has what can be read beyond it, too, and is told of the holes.

use std::io::{self, IoSlice};

use bytes::Bytes;

use huntaway_wire::Partition;

use super::record::{self, ALIGNMENT_BYTES, Fixed, HEADER_BYTES, Record, Table};
use super::segment::{self, Header, RECORDS_OFFSET, Segment};
use super::{DIRECTORY, Lsn, WalError};
use crate::disk::{Disk, Open};
use crate::error::is_unreadable;

/// Bytes searched at a time for records beyond an unreadable one.
const SEARCH_BYTES: usize = 1 << 20;

/// What a disk can read or not, as a whole.
const PAGE_BYTES: usize = 4096;

/// The segment files as they were found, sorted by what is to become of them.
pub(super) struct Found<F> {
    /// In order, from the one that holds the first record not released to the last.
    pub(super) live: Vec<Segment<F>>,
    /// All that they hold is released.
    pub(super) free: Vec<u64>,
    /// They hold nothing, and are not to be taken for a segment later.
    pub(super) unfinished: Vec<u64>,
    /// They held something, and their headers cannot be read.
    pub(super) damaged: Vec<u64>,
    /// The first record that is not released was in one of these, or in one that was cut short.
    lacks_beginning: bool,
}

/// Records that were on stable storage and cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hole {
    /// Where the first of them began.
    pub(crate) from: Lsn,
    /// Where what can be read goes on.
    pub(crate) to: Lsn,
    /// Whose the only one was; `None`: they may have been anybody's.
    pub(crate) partition: Option<Partition>,
}

impl<F> Found<F> {
    /// Looks at every segment file; `released` is where replay begins. Only a log that `may_be_new` may have none, and only one
    /// of which holes are skipped may have some that are damaged.
    pub(super) fn look<D: Disk<File = F>>(
        disk: &D,
        uuid: &[u8; 16],
        released: Lsn,
        (may_be_new, skips_damage): (bool, bool),
    ) -> Result<Self, WalError> {
        let mut found = Self {
            live: Vec::new(),
            free: Vec::new(),
            unfinished: Vec::new(),
            damaged: Vec::new(),
            lacks_beginning: false,
        };
        let names = disk.list(DIRECTORY).map_err(|source| io_error("list", DIRECTORY.into(), source))?;
        for number in names.iter().filter_map(|name| segment::number(name)) {
            let path = segment::path(number);
            let read = disk.open(&path, Open::Existing).and_then(|file| {
                let header = match Header::read(disk, &file, uuid, number) {
                    Err(error) if skips_damage && is_unreadable(&error) => Header::Damaged,
                    header => header?,
                };
                Ok((file, header))
            });
            let (file, header) = read.map_err(|source| io_error("read", path, source))?;
            match header {
                Header::Valid { base, seed } => {
                    found.live.push(Segment { number, base, seed, file, written_bytes: RECORDS_OFFSET });
                }
                Header::Unfinished => found.unfinished.push(number),
                Header::Damaged => found.damaged.push(number),
            }
        }
        let is_free = |pair: &[Segment<F>]| pair[1].base <= released;
        let free = found.live.windows(2).take_while(|pair| is_free(pair)).count();
        found.free = found.live.drain(..free).map(|segment| segment.number).collect();
        let first = found.live.first();
        let must_exist = !may_be_new || released > Lsn(0);
        found.lacks_beginning = first.map_or(must_exist, |first| first.base > released);
        let is_before = |number: &u64| first.is_none_or(|first| *number < first.number);
        // One that was cut short looks as if it had never been finished.
        let cut = found.unfinished.iter().filter(|_| skips_damage);
        if found.lacks_beginning && !found.damaged.iter().chain(cut).any(is_before) {
            return Err(WalError::Incomplete { what: "the segment from which to replay is missing" });
        }
        let is_behind = |number: &u64| first.is_none_or(|first| *number > first.number);
        match found.damaged.iter().copied().find(is_behind) {
            Some(segment) if !skips_damage => Err(WalError::Damaged { segment, offset: 0 }),
            _ => Ok(found),
        }
    }

    /// The number of the next segment.
    pub(super) fn next_number(&self) -> u64 {
        let live = self.live.iter().map(|segment| segment.number);
        let others = [&self.free, &self.unfinished, &self.damaged].into_iter().flatten().copied();
        live.chain(others).max().map_or(1, |number| number + 1)
    }

    /// Whether a damaged segment follows this one.
    fn is_damaged_behind(&self, place: usize) -> bool {
        let next = self.live.get(place + 1);
        let follows =
            |number: &u64| *number > self.live[place].number && next.is_none_or(|next| *number < next.number);
        self.damaged.iter().any(follows)
    }
}

/// Where the log was found to end.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct End {
    pub(super) lsn: Lsn,
    /// Which of the live segments it lies in.
    pub(super) segment: usize,
    /// Whether that segment holds leftovers of records at or after the end.
    pub(super) has_leftovers: bool,
    /// What is missing before, in order.
    pub(super) holes: Vec<Hole>,
}

/// What is known of a log before it is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Marks {
    /// From where on it is read.
    pub(super) released: Lsn,
    /// It does not end before.
    pub(super) durable: Lsn,
    /// All that was written is there, synced or not: what is unreadable with something behind it is damaged.
    pub(super) is_all_there: bool,
}

/// What is done with the records that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replay {
    /// Nothing is changed.
    Looking,
    /// Those that are not released are written again where they are, so that the next sync puts them on stable storage: a
    /// process whose sync had failed leaves bytes that can be read, are not on the disk, and that no sync writes.
    Rewriting {
        /// What is damaged is passed over.
        skips_damage: bool,
    },
}

impl Replay {
    fn skips_damage(self) -> bool {
        self == Self::Rewriting { skips_damage: true }
    }
}

/// A record as it was read.
struct Raw {
    header: [u8; HEADER_BYTES],
    fixed: Fixed,
    rest: Bytes,
}

impl End {
    /// What lies before `to` cannot be read.
    fn skip(&mut self, to: Lsn, partition: Option<Partition>) {
        self.holes.push(Hole { from: self.lsn, to, partition });
        self.lsn = to;
    }
}

/// Hands every record that is not released on to `replay`, in order, until the log's end.
pub(super) fn replay<D: Disk, E: From<WalError>>(
    disk: &D,
    found: &Found<D::File>,
    marks: Marks,
    how: Replay,
    replay: &mut dyn FnMut(Lsn, Record<'_>) -> Result<(), E>,
) -> Result<End, E> {
    let mut table = Table::default();
    let mut end = End { lsn: marks.released, ..End::default() };
    if found.lacks_beginning {
        let behind = Lsn(marks.released.max(marks.durable).0 + ALIGNMENT_BYTES);
        end.skip(found.live.first().map_or(behind, |first| first.base), None);
    }
    for (place, segment) in found.live.iter().enumerate() {
        let next = found.live.get(place + 1);
        end.segment = place;
        while next.is_none_or(|next| next.base != end.lsn) {
            // What goes on where the next segment begins was passed over by an earlier start, and can be read again.
            let fits =
                |raw: &Raw| next.is_none_or(|next| end.lsn.0 + raw.fixed.logged_bytes() <= next.base.0);
            let raw = read(disk, segment, end.lsn, how)?.filter(fits);
            let fixed = raw.as_ref().map(|raw| raw.fixed.clone());
            let whole = raw.and_then(|raw| {
                let record = raw.fixed.complete(raw.rest.clone(), &mut table)?;
                Some((raw, record))
            });
            let Some((raw, record)) = whole else {
                if meet_unreadable(disk, found, &mut end, marks, how, fixed.as_ref())? {
                    return Ok(end);
                }
                continue;
            };
            let offset = segment.offset(end.lsn);
            end.lsn = Lsn(end.lsn.0 + raw.fixed.logged_bytes());
            if how != Replay::Looking {
                disk.write_at(&segment.file, &[IoSlice::new(&raw.header), IoSlice::new(&raw.rest)], offset)
                    .map_err(|source| io_error("write", segment::path(segment.number), source))?;
            }
            replay(end.lsn, record)?;
        }
    }
    Ok(end)
}

fn read<D: Disk>(
    disk: &D,
    segment: &Segment<D::File>,
    lsn: Lsn,
    how: Replay,
) -> Result<Option<Raw>, WalError> {
    let fail = |source| io_error("read", segment::path(segment.number), source);
    let offset = segment.offset(lsn);
    let mut header = [0; HEADER_BYTES];
    if read_at(disk, &segment.file, &mut header, offset, how).map_err(fail)? < HEADER_BYTES {
        return Ok(None);
    }
    let Some(fixed) = Fixed::decode(&header, segment.seed).filter(|fixed| fixed.place.lsn == lsn) else {
        return Ok(None);
    };
    let mut rest = vec![0; fixed.rest_bytes()];
    let length = read_at(disk, &segment.file, &mut rest, offset + HEADER_BYTES as u64, how).map_err(fail)?;
    rest.truncate(length);
    Ok(Some(Raw { header, fixed, rest: rest.into() }))
}

/// As [`Disk::read_at`], but where damage is passed over, what the disk cannot read is zeroes, page by page.
fn read_at<D: Disk>(
    disk: &D,
    file: &D::File,
    buffer: &mut [u8],
    offset: u64,
    how: Replay,
) -> io::Result<usize> {
    match disk.read_at(file, buffer, offset) {
        Err(error) if how.skips_damage() && is_unreadable(&error) => {}
        read => return read,
    }
    let mut done = 0;
    while done < buffer.len() {
        let at = offset + done as u64;
        let length = (PAGE_BYTES - (at % PAGE_BYTES as u64) as usize).min(buffer.len() - done);
        let page = &mut buffer[done..done + length];
        let read = match disk.read_at(file, page, at) {
            Err(error) if is_unreadable(&error) => {
                page.fill(0);
                length
            }
            read => read?,
        };
        done += read;
        if read < length {
            break;
        }
    }
    Ok(done)
}

/// The record at `end` is unreadable: is that the end? If it is damage, that is passed over, if that is to be done.
fn meet_unreadable<D: Disk>(
    disk: &D,
    found: &Found<D::File>,
    end: &mut End,
    marks: Marks,
    how: Replay,
    fixed: Option<&Fixed>,
) -> Result<bool, WalError> {
    let (lsn, place) = (end.lsn, end.segment);
    let segment = &found.live[place];
    let fail = |source| io_error("read", segment::path(segment.number), source);
    let mut known_durable = marks.durable;
    end.has_leftovers = false;
    for (index, segment) in found.live.iter().enumerate().skip(place) {
        let from = if index == place { segment.offset(lsn) } else { RECORDS_OFFSET };
        let newest = newest_claim(disk, segment, from, how)
            .map_err(|source| io_error("read", segment::path(segment.number), source))?;
        end.has_leftovers |= index == place && newest.is_some();
        known_durable = known_durable.max(newest.unwrap_or_default());
    }
    let is_known = |hole: &Hole| hole.to == lsn && hole.partition.is_none();
    let is_damaged_behind = found.is_damaged_behind(place) && !end.holes.last().is_some_and(is_known);
    let next = found.live.get(place + 1).map(|next| next.base);
    let bytes = fixed.map_or(ALIGNMENT_BYTES, Fixed::logged_bytes);
    let readable = first_header(disk, segment, segment.offset(lsn) + bytes, how).map_err(fail)?;
    let is_followed = marks.is_all_there && (readable.is_some() || next.is_some());
    if known_durable <= lsn && !is_damaged_behind && !is_followed {
        return Ok(true);
    }
    let damaged = WalError::Damaged { segment: segment.number, offset: segment.offset(lsn) };
    if !how.skips_damage() {
        return Err(damaged);
    }
    let (to, partition) = match fixed {
        Some(fixed) => (Lsn(lsn.0 + bytes), Some(fixed.partition())),
        None => {
            let behind = known_durable.max(Lsn(lsn.0 + ALIGNMENT_BYTES));
            // A segment that is lost as a whole was begun when this one was full.
            let last = next.filter(|next| is_damaged_behind || *next < behind).unwrap_or(behind);
            let follows = readable.or(next).filter(|_| is_followed);
            let to = follows.unwrap_or_else(|| readable.map_or(last, |readable| readable.min(last)));
            (to, None)
        }
    };
    let to = next.map_or(to, |next| next.min(to));
    if to <= lsn {
        return Err(damaged);
    }
    end.skip(to, partition);
    Ok(false)
}

/// The furthest position that records of `segment` at or after `from` claim to have been on stable storage.
fn newest_claim<D: Disk>(
    disk: &D,
    segment: &Segment<D::File>,
    from: u64,
    how: Replay,
) -> io::Result<Option<Lsn>> {
    let mut newest = None;
    scan(disk, segment, from, how, &mut |fixed| {
        newest = newest.max(Some(fixed.place.durable_before));
        true
    })?;
    Ok(newest)
}

/// Where the first record of `segment` at or after `from` begins whose header can be read.
fn first_header<D: Disk>(
    disk: &D,
    segment: &Segment<D::File>,
    from: u64,
    how: Replay,
) -> io::Result<Option<Lsn>> {
    let mut first = None;
    scan(disk, segment, from, how, &mut |fixed| {
        first = Some(fixed.place.lsn);
        false
    })?;
    Ok(first)
}

/// Looks for headers of records of `segment` at or after `from`, in order, until `visit` says that it is enough.
fn scan<D: Disk>(
    disk: &D,
    segment: &Segment<D::File>,
    from: u64,
    how: Replay,
    visit: &mut dyn FnMut(&Fixed) -> bool,
) -> io::Result<()> {
    let mut buffer = vec![0; SEARCH_BYTES];
    let mut offset = from;
    loop {
        let length = read_at(disk, &segment.file, &mut buffer, offset, how)?;
        let (found, is_last) = (&buffer[..length], length < buffer.len());
        for place in possible_headers(found) {
            // A header that goes on behind what was read is the first thing read the next time.
            let Some((header, _)) = found[place as usize..].split_first_chunk::<HEADER_BYTES>() else {
                break;
            };
            let lsn = Lsn(segment.base.0 + (offset + place - RECORDS_OFFSET));
            let fixed = Fixed::decode(header, segment.seed).filter(|fixed| fixed.place.lsn == lsn);
            if fixed.is_some_and(|fixed| !visit(&fixed)) {
                return Ok(());
            }
        }
        if is_last {
            return Ok(());
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
    let (first, lacks_beginning) = (found.live.first().map(|first| first.number), found.lacks_beginning);
    // Whoever opens the log next is to see that there was something.
    let is_proof = |number: &u64| lacks_beginning && first.is_none_or(|first| *number < first);
    let unread = found.unfinished.drain(..).chain(found.damaged.drain(..)).filter(|unread| !is_proof(unread));
    let gone: Vec<u64> = later.iter().map(|segment| segment.number).chain(unread).collect();
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
