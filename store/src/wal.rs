//! The write-ahead log of one disk: what was acknowledged but is not in the object files yet.
//!
//! A write is acknowledged once its record is in the log's files (it survives the process); [`Wal::sync`] puts
//! everything written so far on stable storage, for all callers at once. The log is cut into segments of one size, which
//! are used again once all that they hold is applied. `store/FORMAT.md` ("wal/") draws the bytes.
//!
//! It does not interpret records, order writes or know about objects.

mod bound;
mod error;
mod record;
mod released;
mod replay;
mod segment;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use smallvec::SmallVec;

pub use error::WalError;
pub use record::{Change, Record, RecordHeader};
use record::{HEADER_BYTES, Place};
use released::{DurableMark, Released};
pub(crate) use replay::Hole;
use replay::{Found, Marks, Replay, io_error};
use segment::{RECORDS_OFFSET, Segment};

use crate::disk::{Disk, Open};
use crate::error::{is_full, is_shortage};
use crate::locking::lock;

/// The log's directory, relative to the disk's.
const DIRECTORY: &str = "wal";

/// What is said of a log without its directory.
const MISSING: WalError =
    WalError::Incomplete { what: "the directory wal/ is missing (is everything mounted? put it back)" };

/// Fewest segments a log may have: one to write and one to apply.
const MIN_SEGMENTS: u64 = 2;

/// Parts of a record handed to the disk without allocating.
const INLINE_PARTS: usize = 8;

/// A new segment is filled with zeroes behind the tail in so many steps.
const STEPS_AHEAD: u64 = 64;

/// Zeroes for a part of such a step.
static ZEROES: [u8; 64 << 10] = [0; 64 << 10];

/// A position in the log: bytes of records since it was made. Grows for ever; only positions beyond an end that a crash
/// left are used again, where nothing of the earlier use can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

/// What says that it stands further on than this is damaged: no log gets there, and all that is added to it fits in 64 bits.
const MAX_LSN: Lsn = Lsn(1 << 62);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether a record keeps to the log's bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// It does.
    Usual,
    /// It was promised room, or the log can be released only when it is there: if need be, the log takes another segment for
    /// it, which it gives back to the disk when it is released.
    Promised,
}

/// How a log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalOptions {
    /// The disk's uuid: records of another disk's log are never taken for ours.
    pub disk_uuid: [u8; 16],
    /// Size of a segment file in bytes. A record is at most this less 4 KiB, so 5 MiB take every record.
    pub segment_bytes: u64,
    /// Bytes of all segment files together; at least two segments are kept whatever it says.
    pub bound_bytes: u64,
    /// The disk may have no log yet: then one is made. Otherwise a missing one is [`WalError::Incomplete`].
    pub may_be_new: bool,
    /// Records that were there and cannot be read are passed over ([`Wal::holes`]), and are no error.
    pub skips_damage: bool,
    /// The machine has not lost power since the log was used last: what was written is there, synced or not.
    pub is_same_boot: bool,
}

/// The write-ahead log of one disk.
pub struct Wal<D: Disk> {
    disk: Arc<D>,
    options: WalOptions,
    tail: Mutex<Tail<D::File>>,
    /// Those of the tail, for who must not wait for a record to be written. Changed with the tail locked.
    files: Mutex<Arc<LogFiles<D::File>>>,
    /// Held by the one who syncs; the others find their records synced when they get it.
    syncing: Mutex<()>,
    released: Mutex<Released<D::File>>,
    durable_mark: DurableMark<D::File>,
    written: AtomicU64,
    durable: AtomicU64,
    released_lsn: AtomicU64,
    poisoned: AtomicBool,
    holes: Vec<Hole>,
}

/// Where records are added.
struct Tail<F> {
    current: Segment<F>,
    /// Full segments that hold records which are not released, oldest first.
    full: VecDeque<Segment<F>>,
    /// Files to use again.
    free: Vec<Free<F>>,
    /// Full segments that were not synced since they were written to.
    unsynced: SmallVec<[(u64, Arc<F>); 2]>,
    /// A segment was given its name since the directory was synced.
    names_changed: bool,
}

/// A file of which nothing is needed any more.
struct Free<F> {
    number: u64,
    /// If it is open.
    file: Option<Arc<F>>,
}

/// Where the records that are not released lie, in order.
pub(crate) struct LogFiles<F>(Vec<(Lsn, Arc<F>)>);

impl<F> LogFiles<F> {
    /// A log of one file.
    #[cfg(test)]
    pub(crate) fn of_one(file: Arc<F>) -> Self {
        Self(vec![(Lsn(0), file)])
    }

    fn of(tail: &Tail<F>) -> Arc<Self> {
        let segments = tail.full.iter().chain([&tail.current]);
        Arc::new(Self(segments.map(|segment| (segment.base, Arc::clone(&segment.file))).collect()))
    }

    /// In which file the position `at` is, which is not released, and where.
    pub(crate) fn find(&self, at: Lsn) -> Option<(&Arc<F>, u64)> {
        let (base, file) = self.0.iter().rfind(|(base, _)| *base <= at)?;
        Some((file, segment::offset(*base, at)))
    }
}

impl<D: Disk> Wal<D> {
    /// Opens the log of `disk`, or makes an empty one. Every record that is not released goes through `replay`, in order
    /// and with its end; then all of them are on stable storage.
    ///
    /// # Errors
    /// [`WalError::Damaged`] and [`WalError::Incomplete`] when records that were synced cannot be read, unless they are to be
    /// passed over; `Io` and `NoSpace`; and whatever `replay` returns.
    pub fn open<E: From<WalError>>(
        disk: Arc<D>,
        options: WalOptions,
        replay: &mut dyn FnMut(Lsn, Record<'_>) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut released = open_released(&*disk, &options)?;
        let from = released.lsn();
        // What was to be destroyed may still be there.
        let is_all_there = options.is_same_boot && !released.is_cutting();
        let marks = Marks { released: from, durable: released.durable(), is_all_there };
        let may = (options.may_be_new, options.skips_damage);
        let mut found = Found::look(&*disk, &options.disk_uuid, from, may)?;
        let next_number = found.next_number();
        let how = Replay::Rewriting { skips_damage: options.skips_damage };
        let end = replay::replay(&*disk, &found, marks, how, replay)?;
        let must_cut = end.has_leftovers || released.is_cutting();
        let fail = |source| io_error("write", released::path(), source);
        let durable_mark = released.durable_mark();
        if !end.holes.is_empty() {
            // What tells of them may be what is destroyed now.
            replay::sync_all(&*disk, &options.disk_uuid, &found.live)?;
            durable_mark.note(&*disk, end.lsn).and_then(|()| released.renew(&*disk)).map_err(fail)?;
        }
        if must_cut {
            released.begin_cutting(&*disk).map_err(fail)?;
        }
        replay::destroy_tail(&*disk, &mut found, &end, must_cut)?;
        replay::sync_all(&*disk, &options.disk_uuid, &found.live)?;
        if must_cut {
            released.end_cutting(&*disk).map_err(fail)?;
        }
        durable_mark.note(&*disk, end.lsn).map_err(fail)?;
        released.renew(&*disk).map_err(fail)?;
        let mut full = VecDeque::from(found.live);
        let current = match full.pop_back() {
            Some(last) => last,
            None => create_first(&*disk, &options, (next_number, end.lsn))?,
        };
        let tail = Tail {
            current,
            full,
            free: found.free.into_iter().map(|number| Free { number, file: None }).collect(),
            unsynced: SmallVec::new(),
            names_changed: false,
        };
        Ok(Self {
            disk,
            options,
            files: Mutex::new(LogFiles::of(&tail)),
            tail: Mutex::new(tail),
            syncing: Mutex::new(()),
            released: Mutex::new(released),
            durable_mark,
            written: AtomicU64::new(end.lsn.0),
            durable: AtomicU64::new(end.lsn.0),
            released_lsn: AtomicU64::new(from.0),
            poisoned: AtomicBool::new(false),
            holes: end.holes,
        })
    }

    /// Where records are missing that were on stable storage, if that is no error; in order.
    pub(crate) fn holes(&self) -> &[Hole] {
        &self.holes
    }

    /// Adds a record and returns where it ends. `payload` is the content of the change's blocks, which must match
    /// the CRCs.
    ///
    /// # Errors
    /// `Full`, `NoSpace` and `Shortage`: nothing was written, try again after a release. `TooLarge` and `Malformed`: the caller's
    /// mistake, nothing was written. `Exhausted`: nothing can be added any more. `Io` and `Poisoned`: the log has stopped.
    pub fn append(&self, record: &RecordHeader<'_>, payload: &[IoSlice<'_>]) -> Result<Lsn, WalError> {
        self.append_as(record, payload, Urgency::Usual)
    }

    /// As [`Wal::append`], whose urgency is the usual one.
    pub(crate) fn append_as(
        &self,
        record: &RecordHeader<'_>,
        payload: &[IoSlice<'_>],
        urgency: Urgency,
    ) -> Result<Lsn, WalError> {
        let payload_bytes: u64 = payload.iter().map(|part| part.len() as u64).sum();
        if !record.is_well_formed() || payload_bytes != record.payload_bytes() {
            return Err(WalError::Malformed);
        }
        let bytes = record.logged_bytes();
        if RECORDS_OFFSET + bytes > self.options.segment_bytes {
            return Err(WalError::TooLarge { bytes });
        }
        let mut table: SmallVec<[u8; 64]> = record.crcs().iter().flat_map(|crc| crc.to_le_bytes()).collect();
        table.extend_from_slice(record.meta());
        let mut tail = lock(&self.tail);
        self.check()?;
        let lsn = self.written();
        if lsn.0 + bytes > MAX_LSN.0 {
            // Whoever opens the log next would not believe it.
            return Err(WalError::Exhausted);
        }
        if tail.current.offset(lsn) + bytes > self.options.segment_bytes {
            self.begin_segment(&mut tail, lsn, urgency)?;
        }
        let place = Place { lsn, durable_before: self.durable() };
        let fixed: [u8; HEADER_BYTES] = record::encode(record, place, tail.current.seed, &table);
        let mut parts: SmallVec<[IoSlice<'_>; INLINE_PARTS]> = SmallVec::new();
        parts.extend([IoSlice::new(&fixed), IoSlice::new(&table)]);
        parts.extend_from_slice(payload);
        let written = self.disk.write_at(&tail.current.file, &parts, tail.current.offset(lsn));
        self.poison_on_error(written, "write", || segment::path(tail.current.number))?;
        let end = Lsn(lsn.0 + bytes);
        self.written.store(end.0, Ordering::Release);
        Ok(end)
    }

    /// Where what is not released lies. It is there as long as it is not released; then other records take its place.
    pub(crate) fn files(&self) -> Arc<LogFiles<D::File>> {
        Arc::clone(&lock(&self.files))
    }

    /// Gives back the memory that [`Disk::copy`] took to read the log.
    pub(crate) fn let_go(&self) {
        let tail = lock(&self.tail);
        let used = tail.full.iter().chain([&tail.current]).map(|segment| &segment.file);
        let free = tail.free.iter().filter_map(|free| free.file.as_ref());
        let files: Vec<_> = used.chain(free).cloned().collect();
        drop(tail);
        files.iter().for_each(|file| self.disk.let_go(file));
    }

    /// Where the next record will begin: all before survives the process.
    pub fn written(&self) -> Lsn {
        Lsn(self.written.load(Ordering::Acquire))
    }

    /// All before is on stable storage.
    pub fn durable(&self) -> Lsn {
        Lsn(self.durable.load(Ordering::Acquire))
    }

    /// All before is in the object files.
    pub fn released(&self) -> Lsn {
        Lsn(self.released_lsn.load(Ordering::Acquire))
    }

    /// Bytes of records that are not released.
    pub fn live_bytes(&self) -> u64 {
        self.written().0.saturating_sub(self.released().0)
    }

    /// Puts everything written before the call on stable storage and returns up to where. Callers at the same time share
    /// the work.
    ///
    /// # Errors
    /// `Io` when it fails; from then on everything fails with `Poisoned`, for nobody knows what is on the disk.
    pub fn sync(&self) -> Result<Lsn, WalError> {
        let wanted = self.written();
        if self.durable() < wanted {
            let _syncing = lock(&self.syncing);
            self.check()?;
            if self.durable() < wanted {
                self.sync_tail()?;
            }
        }
        self.check()?;
        Ok(self.durable())
    }

    /// Says that everything before `up_to`, where a record ends, is applied, and on stable storage, in the object files.
    /// Segments that hold nothing else are used again.
    ///
    /// # Errors
    /// `Io` when that cannot be noted; the log is poisoned by it.
    pub fn release(&self, up_to: Lsn) -> Result<(), WalError> {
        let mut released = lock(&self.released);
        self.released_lsn.fetch_max(up_to.0.min(self.durable().0), Ordering::AcqRel);
        let first_ends = lock(&self.tail).second_base();
        if first_ends.is_some_and(|end| end < self.released()) {
            self.note_release(&mut released)
        } else {
            Ok(())
        }
    }

    /// Notes durably what was released, so that the next opening replays only the rest: for a clean end, and when all is
    /// released. Released records that cannot be read do not matter then.
    ///
    /// # Errors
    /// As [`Wal::release`].
    pub fn checkpoint(&self) -> Result<(), WalError> {
        self.note_release(&mut lock(&self.released))
    }

    fn note_release(&self, released: &mut Released<D::File>) -> Result<(), WalError> {
        self.check()?;
        let noted = self.released();
        if noted > released.lsn() {
            self.poison_on_error(released.advance(&*self.disk, noted), "write", released::path)?;
        }
        let mut tail = lock(&self.tail);
        // Records after its end are durable, hence so is the segment that follows: the log never lacks a beginning.
        while tail.second_base().is_some_and(|end| end < noted) {
            let segment = tail.full.pop_front();
            tail.free.extend(segment.map(|Segment { number, file, .. }| Free { number, file: Some(file) }));
        }
        *lock(&self.files) = LogFiles::of(&tail);
        let most = self.most_segments();
        while (tail.full.len() + tail.free.len() + 1) as u64 > most
            && let Some(surplus) = tail.free.pop()
        {
            let path = segment::path(surplus.number);
            self.poison_on_error(self.disk.remove(&path), "remove", || path.clone())?;
        }
        Ok(())
    }

    /// What another segment takes of the disk.
    pub(crate) fn segment_bytes(&self) -> u64 {
        self.options.segment_bytes
    }

    /// The log's bound.
    fn most_segments(&self) -> u64 {
        (self.options.bound_bytes / self.options.segment_bytes).max(MIN_SEGMENTS)
    }

    fn sync_tail(&self) -> Result<(), WalError> {
        let mut tail = lock(&self.tail);
        let written = self.written();
        self.write_ahead(&mut tail.current, written)?;
        let mut unsynced = mem::take(&mut tail.unsynced);
        unsynced.push((tail.current.number, Arc::clone(&tail.current.file)));
        let names_changed = mem::take(&mut tail.names_changed);
        drop(tail);
        for (number, file) in &unsynced {
            self.poison_on_error(self.disk.sync_data(file), "sync", || segment::path(*number))?;
        }
        if names_changed {
            self.poison_on_error(self.disk.sync_dir(DIRECTORY), "sync", || DIRECTORY.into())?;
        }
        self.durable.fetch_max(written.0, Ordering::AcqRel);
        match self.durable_mark.note(&*self.disk, written) {
            // It is only said later than it could be.
            Err(error) if is_full(&error) || is_shortage(&error) => Ok(()),
            noted => self.poison_on_error(noted, "write", released::path),
        }
    }

    /// Sees to it that the records of the next syncs go where something was written before: zeroes, behind the log's end. To
    /// sync what is written to space that was only set aside the file system has to note that it holds something now, which
    /// costs more than the sync itself. The zeroes are synced with the records that are there.
    fn write_ahead(&self, current: &mut Segment<D::File>, end: Lsn) -> Result<(), WalError> {
        let step_bytes = (self.options.segment_bytes / STEPS_AHEAD).next_multiple_of(RECORDS_OFFSET);
        let tail_bytes = current.offset(end);
        let from = current.written_bytes.max(tail_bytes);
        let to = (from + step_bytes).min(self.options.segment_bytes);
        if from >= to || from > tail_bytes + step_bytes / 4 {
            return Ok(());
        }
        let mut parts = vec![IoSlice::new(&ZEROES); (to - from).div_ceil(ZEROES.len() as u64) as usize];
        if let Some(last) = parts.last_mut() {
            *last = IoSlice::new(&ZEROES[..((to - from - 1) % ZEROES.len() as u64) as usize + 1]);
        }
        current.written_bytes = to;
        match self.disk.write_at(&current.file, &parts, from) {
            // The next syncs only take longer.
            Err(error) if is_full(&error) || is_shortage(&error) => Ok(()),
            written => self.poison_on_error(written, "write", || segment::path(current.number)),
        }
    }

    /// Goes on in another segment, which begins at `base`.
    fn begin_segment(&self, tail: &mut Tail<D::File>, base: Lsn, urgency: Urgency) -> Result<(), WalError> {
        let number = tail.current.number + 1;
        let path = segment::path(number);
        let next = match tail.free.pop() {
            Some(old) => {
                // Opened before anything is changed: there may be no file descriptor.
                let path_before = segment::path(old.number);
                let file =
                    match old.file.clone().map_or_else(|| self.disk.open(&path_before, Open::Existing), Ok) {
                        Err(source) if is_shortage(&source) => {
                            tail.free.push(old);
                            return Err(WalError::Shortage { source });
                        }
                        opened => self.poison_on_error(opened, "open", || path_before.clone())?,
                    };
                let reused = self.reuse(&path_before, file, number, base);
                self.poison_on_error(reused, "reuse", || path_before)?
            }
            None => {
                let segments = tail.full.len() as u64 + 1;
                if segments >= self.most_segments() && urgency == Urgency::Usual {
                    return Err(WalError::Full { live_bytes: self.live_bytes() });
                }
                create(&*self.disk, &self.options, number, base).map_err(|source| match () {
                    () if is_full(&source) => WalError::NoSpace { needed_bytes: self.options.segment_bytes },
                    () if is_shortage(&source) => WalError::Shortage { source },
                    () => io_error("create", path, source),
                })?
            }
        };
        let full = mem::replace(&mut tail.current, next);
        tail.unsynced.push((full.number, Arc::clone(&full.file)));
        tail.full.push_back(full);
        tail.names_changed = true;
        *lock(&self.files) = LogFiles::of(tail);
        Ok(())
    }

    /// Makes `file`, which is the segment `old`, another one.
    fn reuse(&self, path: &str, file: Arc<D::File>, number: u64, base: Lsn) -> io::Result<Segment<D::File>> {
        self.disk.rename(path, &segment::path(number))?;
        if self.disk.length(&file)? != self.options.segment_bytes {
            self.disk.set_length(&file, self.options.segment_bytes)?;
            self.disk.allocate(&file, 0, self.options.segment_bytes)?;
        }
        Segment::begin(&*self.disk, file, &self.options.disk_uuid, (number, base), self.options.segment_bytes)
    }

    fn check(&self) -> Result<(), WalError> {
        if self.poisoned.load(Ordering::Acquire) { Err(WalError::Poisoned) } else { Ok(()) }
    }

    fn poison_on_error<T>(
        &self,
        result: io::Result<T>,
        operation: &'static str,
        path: impl FnOnce() -> String,
    ) -> Result<T, WalError> {
        result.map_err(|source| {
            self.poisoned.store(true, Ordering::Release);
            io_error(operation, path(), source)
        })
    }
}

impl<F> Tail<F> {
    /// Where the second segment begins, which is where the first one ends.
    fn second_base(&self) -> Option<Lsn> {
        self.full.get(1).or((self.full.len() == 1).then_some(&self.current)).map(|second| second.base)
    }
}

/// Reads a log without changing anything: every record that is not released goes through `visit`, in order and with its
/// end. Returns where the log ends; a log that was never made ends at 0, if it `may_be_new`.
///
/// # Errors
/// As [`Wal::open`].
pub fn inspect<D: Disk, E: From<WalError>>(
    disk: &D,
    disk_uuid: [u8; 16],
    may_be_new: bool,
    visit: &mut dyn FnMut(Lsn, Record<'_>) -> Result<(), E>,
) -> Result<Lsn, E> {
    let fail = |source| io_error("read", released::path(), source);
    let released = match has_directory(disk)? {
        true => Released::read(disk, disk_uuid).map_err(fail)?,
        false if may_be_new => return Ok(Lsn(0)),
        false => return Err(MISSING.into()),
    };
    let (released, durable) = match released {
        Some(released) => (released.lsn(), released.durable()),
        None => check_new(disk, may_be_new).map(|()| (Lsn(0), Lsn(0)))?,
    };
    let marks = Marks { released, durable, is_all_there: false };
    let found = Found::look(disk, &disk_uuid, released, (may_be_new, false))?;
    Ok(replay::replay(disk, &found, marks, Replay::Looking, visit)?.lsn)
}

fn open_released<D: Disk>(disk: &D, options: &WalOptions) -> Result<Released<D::File>, WalError> {
    let fail = |source| io_error("open", released::path(), source);
    if options.may_be_new {
        disk.create_dir(DIRECTORY).and_then(|()| disk.sync_dir("")).map_err(fail)?;
    } else if !has_directory(disk)? {
        return Err(MISSING);
    }
    if let Some(released) = Released::read(disk, options.disk_uuid).map_err(fail)? {
        return Ok(released);
    }
    check_new(disk, options.may_be_new)?;
    Released::create(disk, options.disk_uuid).map_err(fail)
}

fn has_directory<D: Disk>(disk: &D) -> Result<bool, WalError> {
    let names = disk.list("").map_err(|source| io_error("list", "the directory".into(), source))?;
    Ok(names.iter().any(|name| name == DIRECTORY))
}

/// Without a readable `released`, the log must be a new one, and there must be no segments either.
fn check_new<D: Disk>(disk: &D, may_be_new: bool) -> Result<(), WalError> {
    let names = disk.list(DIRECTORY).map_err(|source| io_error("list", DIRECTORY.into(), source))?;
    if !may_be_new || names.iter().any(|name| segment::number(name).is_some()) {
        return Err(WalError::Incomplete {
            what: "wal/released is missing or unreadable (is everything mounted? put all of wal/ back)",
        });
    }
    Ok(())
}

fn create_first<D: Disk>(
    disk: &D,
    options: &WalOptions,
    (number, base): (u64, Lsn),
) -> Result<Segment<D::File>, WalError> {
    let fail = |source| io_error("create", segment::path(number), source);
    let segment = create(disk, options, number, base).map_err(fail)?;
    disk.sync_data(&segment.file).and_then(|()| disk.sync_dir(DIRECTORY)).map_err(fail)?;
    Ok(segment)
}

/// Makes a segment with its space set aside, or nothing.
fn create<D: Disk>(disk: &D, options: &WalOptions, number: u64, base: Lsn) -> io::Result<Segment<D::File>> {
    let path = segment::path(number);
    let file = disk.open(&path, Open::New)?;
    let segment = disk
        .allocate(&file, 0, options.segment_bytes)
        .and_then(|()| Segment::begin(disk, file, &options.disk_uuid, (number, base), RECORDS_OFFSET));
    if segment.is_err() {
        disk.remove(&path).map_err(io::Error::other)?;
    }
    segment
}
