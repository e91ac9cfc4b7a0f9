//! A worker: one session that keeps a number of I/Os under way, in one thread.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::error::{ProtocolError, SessionError};
use super::histogram::Histogram;
use super::initiator::{Direction, Outcome, Request, Session, flush};
use super::journal::JournalError;
use super::load::{Load, Mode};
use super::verifier::{Mismatch, Verifier};

const READ_16: u8 = 0x88;
const WRITE_16: u8 = 0x8a;
const FUA: u8 = 0x08;
/// Places in the pattern at which the data of writes begins.
pub(super) const PATTERN_STEPS: usize = 256;
/// Bytes between them.
pub(super) const PATTERN_STEP_BYTES: usize = 4096;
/// Mismatches that are told in full.
const MISMATCHES_TOLD: usize = 8;

/// I/Os that end are counted; before, the phase is 0.
pub(super) const MEASURING: u8 = 1;
/// No I/O begins any more.
pub(super) const STOPPING: u8 = 2;

/// Which way through its share of the LUN a worker takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// As the load says, until it is stopped.
    Load,
    /// Every unit is written once.
    Fill,
    /// What is known of is read once.
    Known,
}

/// What the workers of a load do together.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) phase: AtomicU8,
    /// I/Os of the load that have ended.
    pub(super) ios: AtomicU64,
    /// Those of them that ended in the measured time.
    pub(super) measured: AtomicU64,
}

/// Why a worker cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum WorkerError {
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// What came of a worker's I/Os.
#[derive(Clone, Default)]
pub(super) struct Results {
    /// I/Os in the measured time.
    pub(super) ios: u64,
    pub(super) latency: Histogram,
    pub(super) longest_gap: Duration,
    /// I/Os that failed, at any time, and the first of them.
    pub(super) errors: u64,
    pub(super) first_error: Option<String>,
    /// Reads whose data was checked, and was wrong, at any time.
    pub(super) verified: u64,
    pub(super) wrong: u64,
    pub(super) mismatches: Vec<Mismatch>,
    /// Units that were read again at the end.
    pub(super) read_back: u64,
    /// Unit attentions: commands that were sent again.
    pub(super) attentions: u64,
}

impl Results {
    pub(super) fn add(&mut self, other: Self) {
        self.ios += other.ios;
        self.latency.merge(&other.latency);
        self.longest_gap = self.longest_gap.max(other.longest_gap);
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
        self.verified += other.verified;
        self.wrong += other.wrong;
        self.mismatches.extend(other.mismatches);
        self.mismatches.truncate(MISMATCHES_TOLD);
        self.read_back += other.read_back;
        self.attentions += other.attentions;
    }
}

/// One I/O; its index is the command's tag.
#[derive(Clone, Copy)]
struct Io {
    unit: u64,
    write: bool,
    flushing: bool,
    submitted: Instant,
}

/// A share of the LUN, in units of one I/O, and where in it the next one is.
#[derive(Debug, Clone)]
pub(super) struct Share {
    pub(super) first: u64,
    pub(super) end: u64,
    next: u64,
    random: u64,
}

impl Share {
    /// `number` makes it differ from others in its random places.
    pub(super) fn new(first: u64, end: u64, number: u64) -> Self {
        Self { first, end, next: first, random: (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) }
    }

    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn random_unit(&mut self) -> u64 {
        let count = u128::from(self.end - self.first);
        self.first + ((u128::from(self.random()) * count) >> 64) as u64
    }

    fn next_around(&mut self) -> u64 {
        let unit = self.next;
        self.next = if unit + 1 == self.end { self.first } else { unit + 1 };
        unit
    }
}

/// A session, and what it is to do.
pub(super) struct Worker<'a> {
    load: &'a Load,
    shared: &'a Shared,
    pub(super) session: Session,
    share: Share,
    verifier: Option<Verifier<'a>>,
    ios: Vec<Io>,
    free: Vec<u32>,
    block_bytes: u32,
    last_done: Option<Instant>,
    pub(super) results: Results,
}

impl<'a> Worker<'a> {
    pub(super) fn new(
        load: &'a Load,
        shared: &'a Shared,
        mut session: Session,
        share: Share,
        verifier: Option<Verifier<'a>>,
        block_bytes: u32,
    ) -> Self {
        let idle = Io { unit: 0, write: false, flushing: false, submitted: Instant::now() };
        for tag in 0..load.depth {
            let length = if verifier.is_some() { load.io_bytes as usize } else { 0 };
            *session.buffer_mut(tag) = vec![0; length];
        }
        Self {
            load,
            shared,
            session,
            share,
            verifier,
            ios: vec![idle; load.depth as usize],
            free: (0..load.depth).rev().collect(),
            block_bytes,
            last_done: None,
            results: Results::default(),
        }
    }

    /// Goes a way to its end.
    ///
    /// # Errors
    /// The session or the journal is of no more use.
    pub(super) fn run(&mut self, way: Way) -> Result<(), WorkerError> {
        self.share.next = self.share.first;
        while self.goes_on(way) {
            let more = self.keep_busy(way)?;
            if self.session.under_way() == 0 {
                if more {
                    return Err(SessionError::from(ProtocolError::ClosedWindow).into());
                }
                break;
            }
            self.turn(way)?;
        }
        while self.session.under_way() > 0 {
            self.turn(way)?;
        }
        Ok(())
    }

    fn goes_on(&self, way: Way) -> bool {
        let is_stopped = way == Way::Load && self.shared.phase.load(Ordering::Relaxed) == STOPPING;
        !is_stopped && !self.session.is_asked_to_leave()
    }

    /// Submits I/Os as long as there is room. False if there are no more.
    fn keep_busy(&mut self, way: Way) -> Result<bool, WorkerError> {
        if self.free.is_empty() {
            return Ok(true);
        }
        let now = Instant::now();
        while self.session.has_room() {
            let Some(&tag) = self.free.last() else { break };
            let Some((unit, write)) = self.next(way) else { return Ok(false) };
            self.free.pop();
            self.ios[tag as usize] = Io { unit, write, flushing: false, submitted: now };
            match &mut self.verifier {
                Some(verifier) if write => verifier.begin_write(unit, self.session.buffer_mut(tag))?,
                Some(verifier) => verifier.begin_read(unit),
                None => {}
            }
            self.send(tag);
        }
        Ok(true)
    }

    /// The next unit on a way, and whether it is written.
    fn next(&mut self, way: Way) -> Option<(u64, bool)> {
        match (way, &self.verifier) {
            (Way::Load, _) => Some(self.next_of_load()),
            (Way::Fill, _) => {
                let unit = self.share.next;
                self.share.next += 1;
                (unit < self.share.end).then_some((unit, true))
            }
            (Way::Known, Some(verifier)) => {
                let unit = verifier.next_known(self.share.next, self.share.end)?;
                self.share.next = unit + 1;
                self.results.read_back += 1;
                Some((unit, false))
            }
            (Way::Known, None) => None,
        }
    }

    /// As the load says. If that is verified, a unit on which no other I/O is; one whose content is in doubt is read first.
    fn next_of_load(&mut self) -> (u64, bool) {
        let write = self.is_next_a_write();
        let is_sequential = self.load.mode.is_sequential();
        let unit = if is_sequential { self.share.next_around() } else { self.share.random_unit() };
        let Some(verifier) = &self.verifier else { return (unit, write) };
        let unit = verifier.idle_unit(unit);
        (unit, write && !verifier.is_in_doubt(unit))
    }

    fn is_next_a_write(&mut self) -> bool {
        match self.load.read_percent {
            0 => true,
            100 => false,
            percent => self.share.random() % 100 >= u64::from(percent),
        }
    }

    /// Sends the command of an I/O whose place and data are settled.
    fn send(&mut self, tag: u32) {
        let Io { unit, write, flushing, .. } = self.ios[tag as usize];
        if flushing {
            return self.session.submit(tag, &flush());
        }
        let blocks = self.load.io_bytes / self.block_bytes;
        let mut cdb = [0; 16];
        cdb[0] = if write { WRITE_16 } else { READ_16 };
        cdb[1] = if write && self.load.mode == Mode::Fua { FUA } else { 0 };
        cdb[2..10].copy_from_slice(&(unit * u64::from(blocks)).to_be_bytes());
        cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
        let direction = match (write, &self.verifier) {
            (false, _) => Direction::In,
            (true, Some(_)) => Direction::OutOfBuffer,
            (true, None) => Direction::OutOfPattern(unit as usize % PATTERN_STEPS * PATTERN_STEP_BYTES),
        };
        self.session.submit(tag, &Request { cdb, direction, length_bytes: self.load.io_bytes });
    }

    /// Sends, waits for the target, and takes what has come.
    fn turn(&mut self, way: Way) -> Result<(), WorkerError> {
        if !self.session.pump()? {
            return Ok(());
        }
        let now = Instant::now();
        let is_load = way == Way::Load;
        let is_measured = is_load && self.shared.phase.load(Ordering::Relaxed) == MEASURING;
        let mut ended = 0;
        while let Some((tag, outcome)) = self.session.next_done() {
            let io = self.ios[tag as usize];
            if !self.has_ended(tag, io, &outcome)? {
                continue;
            }
            ended += 1;
            self.free.push(tag);
            if is_measured && outcome.is_good() {
                self.results.ios += 1;
                self.results.latency.add(now - io.submitted);
            }
        }
        if is_load && ended > 0 {
            self.shared.ios.fetch_add(ended, Ordering::Relaxed);
        }
        if is_measured && ended > 0 {
            self.shared.measured.fetch_add(ended, Ordering::Relaxed);
            let gap = self.last_done.map_or(Duration::ZERO, |last| now - last);
            self.results.longest_gap = self.results.longest_gap.max(gap);
            self.last_done = Some(now);
        }
        Ok(())
    }

    /// Takes the outcome of a command. False if its I/O goes on with another one.
    fn has_ended(&mut self, tag: u32, io: Io, outcome: &Outcome) -> Result<bool, WorkerError> {
        if outcome.is_unit_attention() {
            self.results.attentions += 1;
            self.send(tag);
            return Ok(false);
        }
        let is_good = outcome.is_good() && (io.write || outcome.received_bytes == self.load.io_bytes);
        if !is_good {
            self.results.errors += 1;
            if self.results.first_error.is_none() {
                self.results.first_error = Some(self.complaint(io, outcome));
            }
        } else if io.write && self.load.mode == Mode::Flush && !io.flushing {
            self.ios[tag as usize].flushing = true;
            self.send(tag);
            return Ok(false);
        }
        self.verify(tag, io, is_good)?;
        Ok(true)
    }

    fn complaint(&self, io: Io, outcome: &Outcome) -> String {
        let what = match io {
            Io { flushing: true, .. } => "flush after the write",
            Io { write: true, .. } => "write",
            _ => "read",
        };
        let lba = io.unit * u64::from(self.load.io_bytes / self.block_bytes);
        format!("{what} of {} bytes at LBA {lba}: {outcome}", self.load.io_bytes)
    }

    /// Notes what a finished I/O has shown.
    fn verify(&mut self, tag: u32, io: Io, is_good: bool) -> Result<(), WorkerError> {
        let Some(verifier) = &mut self.verifier else { return Ok(()) };
        if !is_good {
            verifier.fail(io.unit);
        } else if io.write {
            verifier.end_write(io.unit)?;
        } else {
            let (is_known, mismatch) = verifier.end_read(io.unit, self.session.buffer_mut(tag))?;
            self.results.verified += u64::from(is_known);
            if let Some(mismatch) = mismatch {
                self.results.wrong += 1;
                if self.results.mismatches.len() < MISMATCHES_TOLD {
                    self.results.mismatches.push(mismatch);
                }
            }
        }
        Ok(())
    }
}
