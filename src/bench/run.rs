//! One run of a load on a target: workers are started, told when to measure and when to stop, and added up.

use std::panic::resume_unwind;
use std::path::PathBuf;
use std::process;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use huntaway_config::SecretError;

use super::block::{MAX_BLOCK_BYTES, MIN_BLOCK_BYTES, noise};
use super::conditions::Conditions;
use super::cpu::{self, Gone, Settled, settle};
use super::error::SessionError;
use super::initiator::{Address, LogicalUnit, Offer, Session, flush};
use super::journal::{Journal, JournalError};
use super::load::{Load, Mode};
use super::measurement::{Costs, Measurement, Place};
use super::target::Target;
use super::verifier::Verifier;
use super::worker::{
    MEASURING, PATTERN_STEP_BYTES, PATTERN_STEPS, Results, STOPPING, Share, Shared, Way, Worker, WorkerError,
};

/// How often it is looked at whether enough was done.
const ENOUGH_SAMPLE: Duration = Duration::from_millis(20);

/// How loads are run.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Before anything is measured.
    pub(crate) warm: Duration,
    /// Of a measurement.
    pub(crate) time: Duration,
    /// What a load that writes has to write at least, however long that takes.
    pub(crate) min_bytes: u64,
    /// How much of a LUN is used at most.
    pub(crate) span_bytes: u64,
    /// Where it is kept what was written when a load is verified; otherwise it is forgotten.
    pub(crate) journal: Option<PathBuf>,
}

/// Why a load cannot be run at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Gone(#[from] Gone),
    #[error("the target does not do the digests that are asked for")]
    NoDigests,
    #[error("an I/O of {io_bytes} bytes is no multiple of the LUN's blocks of {block_bytes} bytes")]
    Blocks { io_bytes: u32, block_bytes: u32 },
    #[error("blocks of {0} bytes cannot be verified: {MIN_BLOCK_BYTES} to {MAX_BLOCK_BYTES} can")]
    BlockSize(u32),
    #[error("{span_bytes} bytes are too few for so many I/Os at once")]
    TooSmall { span_bytes: u64 },
    #[error("check reads what a journal knows: give one with --journal")]
    NoJournal,
    #[error("it cannot be filled: {0}")]
    NotFilled(String),
}

/// The sessions of a load, and what they are divided into.
struct Opened {
    sessions: Vec<Session>,
    unit: LogicalUnit,
    span_bytes: u64,
    /// I/Os that the span has room for.
    units: u64,
}

/// Which target gets which load, under what conditions.
pub(super) struct Run<'a> {
    pub(super) target: &'a Target,
    pub(super) address: &'a Address,
    /// What share of a core the target's processes use when nothing is asked of them.
    pub(super) at_rest: f64,
    pub(super) load: &'a Load,
    pub(super) settings: &'a Settings,
    pub(super) conditions: &'a Conditions,
}

impl Run<'_> {
    /// Puts the load on the target, as the round of this number, and tells what came of it. To verify is to check all data, and
    /// to read it all again at the end.
    ///
    /// # Errors
    /// It cannot begin. What happens later is told by the measurement.
    pub(super) fn measure(&self, round: u32, verify: bool) -> Result<Measurement, RunError> {
        let opened = self.open(verify)?;
        let (unit, span_bytes) = (opened.unit.clone(), opened.span_bytes);
        let negotiated = *opened.sessions[0].negotiated();
        let journal = verify.then(|| self.journal(&opened)).transpose()?;
        let shared = Shared::default();
        let mut workers = self.workers(opened, &shared, journal.as_ref())?;
        let mut ends = Vec::new();
        if verify && !self.load.writes() && self.load.mode != Mode::Check {
            ends.extend(all(&mut workers, Way::Fill));
        }
        let (timing, load_ends) = self.put(&mut workers, &shared)?;
        ends.extend(load_ends);
        let drains = self.load.writes() && !verify && ends.is_empty();
        if drains {
            ends.extend(flush_by(&mut workers));
        }
        if verify && ends.is_empty() && !is_asked_to_leave(&workers) {
            ends.extend(all(&mut workers, Way::Known));
        }
        let logout_requested = is_asked_to_leave(&workers);
        let ios_of_all = shared.ios.load(Ordering::Relaxed);
        let sum = finish(workers);
        let settled = if drains { Some(settle(&self.target.pids, self.at_rest)?) } else { None };
        let costs = Costs::of(&timing, settled, sum.ios, ios_of_all);
        let error = error(&ends, &sum, logout_requested);
        let lost = ends.iter().any(is_lost);
        let place = Place { unit, span_bytes, negotiated };
        let measurement = self.measurement((round, verify), &timing, costs, sum, place);
        Ok(Measurement { lost, logout_requested, error, ..measurement })
    }

    /// Of a load that went well.
    fn measurement(
        &self,
        (round, verify): (u32, bool),
        timing: &Timing,
        costs: Costs,
        sum: Results,
        place: Place,
    ) -> Measurement {
        let per_second = |amount: f64| if timing.seconds > 0.0 { amount / timing.seconds } else { 0.0 };
        Measurement {
            target: self.target.name.clone(),
            load: self.load.clone(),
            round,
            verify,
            seconds: timing.seconds,
            ios: sum.ios,
            iops: per_second(sum.ios as f64),
            mb_per_s: per_second(sum.ios as f64 * f64::from(self.load.io_bytes)) / 1e6,
            latency_us: sum.latency.summary(),
            longest_gap_ms: sum.longest_gap.as_secs_f64() * 1e3,
            costs,
            errors: sum.errors,
            verified: sum.verified,
            wrong: sum.wrong,
            read_back: sum.read_back,
            attentions: sum.attentions,
            lost: false,
            logout_requested: false,
            error: None,
            portal: self.target.portal.clone(),
            iqn: self.target.iqn.clone(),
            lun: self.target.lun,
            place,
            conditions: self.conditions.clone(),
        }
    }

    /// Writes all that is used once, and waits until the target has done with that: holes are cheap to read.
    ///
    /// # Errors
    /// It does not go well.
    pub(super) fn fill(&self) -> Result<(), RunError> {
        let opened = self.open(false)?;
        let shared = Shared::default();
        let mut workers = self.workers(opened, &shared, None)?;
        let mut ends = all(&mut workers, Way::Fill);
        if ends.is_empty() {
            ends.extend(flush_by(&mut workers));
        }
        let logout_requested = is_asked_to_leave(&workers);
        let sum = finish(workers);
        if let Some(reason) = error(&ends, &sum, logout_requested) {
            return Err(RunError::NotFilled(reason));
        }
        settle(&self.target.pids, self.at_rest)?;
        Ok(())
    }

    fn open(&self, verify: bool) -> Result<Opened, RunError> {
        let Load { io_bytes, depth, connections, header_digest, data_digest, solicited, .. } = *self.load;
        let pattern = PATTERN_STEPS * PATTERN_STEP_BYTES + io_bytes.next_multiple_of(8) as usize;
        let pattern: Arc<[u8]> =
            if verify || !self.load.writes() { [].into() } else { noise(pattern).into() };
        let offer = Offer { header_digest, data_digest, solicited };
        let open = |_| Session::open(self.address, offer, depth, Arc::clone(&pattern));
        let mut sessions = (0..connections).map(open).collect::<Result<Vec<_>, _>>()?;
        let agreed = sessions[0].negotiated();
        if (header_digest, data_digest) != (agreed.header_digest, agreed.data_digest) {
            return Err(RunError::NoDigests);
        }
        let unit = LogicalUnit::ask(&mut sessions[0])?;
        let block_bytes = unit.block_bytes;
        if !io_bytes.is_multiple_of(block_bytes) {
            return Err(RunError::Blocks { io_bytes, block_bytes });
        }
        if verify && !(MIN_BLOCK_BYTES..=MAX_BLOCK_BYTES).contains(&block_bytes) {
            return Err(RunError::BlockSize(block_bytes));
        }
        let span_bytes = unit.lun_bytes.min(self.settings.span_bytes);
        let units = span_bytes / u64::from(io_bytes);
        // each I/O under way is on a unit of its own
        if units / u64::from(connections) <= if verify { depth.into() } else { 0 } {
            return Err(RunError::TooSmall { span_bytes });
        }
        Ok(Opened { sessions, unit, span_bytes, units })
    }

    fn journal(&self, opened: &Opened) -> Result<Journal, RunError> {
        match &self.settings.journal {
            Some(path) => Ok(Journal::open(path, self.load.io_bytes.into(), opened.units)?),
            None if self.load.mode == Mode::Check => Err(RunError::NoJournal),
            None => Ok(Journal::in_memory()),
        }
    }

    /// Divides the LUN among the workers; random I/O that is not verified may go anywhere.
    fn workers<'a>(
        &'a self,
        opened: Opened,
        shared: &'a Shared,
        journal: Option<&'a Journal>,
    ) -> Result<Vec<Worker<'a>>, RunError> {
        let Opened { sessions, unit, units, .. } = opened;
        let is_divided = journal.is_some() || self.load.mode.is_sequential();
        let count = units / u64::from(self.load.connections);
        let worker = |(session, number): (Session, u64)| {
            let (first, end) = if is_divided { (count * number, count * (number + 1)) } else { (0, units) };
            let verifier = journal
                .map(|journal| Verifier::new(journal, (first, end), self.load.io_bytes, unit.block_bytes))
                .transpose()?;
            let share = Share::new(first, end, number);
            Ok(Worker::new(self.load, shared, session, share, verifier, unit.block_bytes))
        };
        sessions.into_iter().zip(0..).map(worker).collect()
    }

    /// Warms up, measures, and stops.
    fn put(
        &self,
        workers: &mut [Worker<'_>],
        shared: &Shared,
    ) -> Result<(Timing, Vec<WorkerError>), RunError> {
        if self.load.mode == Mode::Check {
            return Ok((Timing::default(), Vec::new()));
        }
        thread::scope(|scope| {
            let (alive, ended) = mpsc::channel();
            let start = |worker| {
                let alive = alive.clone();
                scope.spawn(move || {
                    let worker: &mut Worker<'_> = worker;
                    let end = worker.run(Way::Load);
                    // whoever waits for it may have gone
                    let _ = alive.send(());
                    end.err()
                })
            };
            let threads: Vec<_> = workers.iter_mut().map(start).collect();
            let timing = self.time(shared, &ended);
            shared.phase.store(STOPPING, Ordering::Relaxed);
            let ends = threads.into_iter().filter_map(joined).collect();
            Ok((timing?, ends))
        })
    }

    /// Lets the workers warm up and measures; sooner, if one of them has ended.
    fn time(&self, shared: &Shared, ended: &Receiver<()>) -> Result<Timing, RunError> {
        let go_on = |time| ended.recv_timeout(time) == Err(RecvTimeoutError::Timeout);
        let own = [process::id()];
        let pids = &self.target.pids;
        let used_before = cpu::used(pids)?;
        let mut goes_on = go_on(self.settings.warm);
        let (began, used, own_used) = (Instant::now(), cpu::used(pids)?, cpu::used(&own)?);
        shared.phase.store(MEASURING, Ordering::Relaxed);
        goes_on = goes_on && go_on(self.settings.time);
        let written = || {
            let bytes = shared.ios.load(Ordering::Relaxed) * u64::from(self.load.io_bytes);
            bytes / 100 * u64::from(100 - self.load.read_percent)
        };
        let is_enough = || {
            let has_written = !self.load.writes() || written() >= self.settings.min_bytes;
            has_written && shared.measured.load(Ordering::Relaxed) > 0
        };
        while goes_on && !is_enough() {
            goes_on = go_on(ENOUGH_SAMPLE);
        }
        shared.phase.store(STOPPING, Ordering::Relaxed);
        let since = |before: Option<f64>, now: Option<f64>| now.zip(before).map(|(now, before)| now - before);
        Ok(Timing {
            seconds: began.elapsed().as_secs_f64(),
            used_before,
            target_cpu: since(used, cpu::used(pids)?),
            own_cpu: since(own_used, cpu::used(&own)?).unwrap_or(0.0),
        })
    }
}

/// Has the target flush what was written; why it does not.
fn flush_by(workers: &mut [Worker<'_>]) -> Option<WorkerError> {
    let session = &mut workers.first_mut()?.session;
    session.run_alone("SYNCHRONIZE CACHE(16)", &flush()).err().map(WorkerError::from)
}

/// CPU times are in seconds.
#[derive(Debug, Default)]
struct Timing {
    seconds: f64,
    /// Used by the target's processes before the first I/O.
    used_before: Option<f64>,
    /// Used by them in the measured time.
    target_cpu: Option<f64>,
    /// Used by us in the measured time.
    own_cpu: f64,
}

impl Costs {
    /// For each of `ios` in the measured time, and of `ios_of_all` from the first on.
    fn of(timing: &Timing, settled: Option<Settled>, ios: u64, ios_of_all: u64) -> Self {
        let per_io = |seconds: f64, ios: u64| if ios == 0 { 0.0 } else { seconds * 1e6 / ios as f64 };
        let during = timing.target_cpu.map(|cpu| per_io(cpu, ios));
        let used = settled.and_then(|settled| settled.used).zip(timing.used_before);
        let through = used.map(|(now, before)| per_io(now - before, ios_of_all));
        Self {
            cpu_us_per_io: during,
            cpu_us_per_io_through_drain: if settled.is_some() { through } else { during },
            drain_seconds: settled.map_or(0.0, |settled| settled.seconds),
            drained: settled.is_none_or(|settled| settled.is_idle),
            initiator_cpu_us_per_io: per_io(timing.own_cpu, ios),
        }
    }
}

/// Has all workers go a way, and tells why some did not reach its end.
fn all(workers: &mut [Worker<'_>], way: Way) -> Vec<WorkerError> {
    thread::scope(|scope| {
        let threads: Vec<_> =
            workers.iter_mut().map(|worker| scope.spawn(move || worker.run(way).err())).collect();
        threads.into_iter().filter_map(joined).collect()
    })
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// Ends the sessions and adds up what came of them.
fn finish(workers: Vec<Worker<'_>>) -> Results {
    let mut sum = Results::default();
    for worker in workers {
        sum.add(worker.results);
        worker.session.close();
    }
    sum
}

fn is_asked_to_leave(workers: &[Worker<'_>]) -> bool {
    workers.iter().any(|worker| worker.session.is_asked_to_leave())
}

fn is_lost(end: &WorkerError) -> bool {
    matches!(end, WorkerError::Session(error) if error.is_lost())
}

/// Why a measurement is not to be used, if so: the worst first.
fn error(ends: &[WorkerError], sum: &Results, logout_requested: bool) -> Option<String> {
    if let Some(mismatch) = sum.mismatches.first() {
        return Some(format!("{mismatch} ({} of {} reads checked are wrong)", sum.wrong, sum.verified));
    }
    // a connection that broke is mostly the consequence of another one's end
    if let Some(end) = ends.iter().find(|end| !is_lost(end)).or(ends.first()) {
        return Some(end.to_string());
    }
    match &sum.first_error {
        Some(first) => Some(format!("{} I/Os failed, the first: {first}", sum.errors)),
        None => logout_requested.then(|| "the target asked us to log out".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_through_the_drain_is_that_of_all_ios_until_the_target_is_idle() {
        let timing = Timing { seconds: 1.0, used_before: Some(1.0), target_cpu: Some(0.5), own_cpu: 0.25 };
        let settled = Settled { used: Some(3.0), seconds: 0.7, is_idle: false };
        let writing = Costs::of(&timing, Some(settled), 10, 40);
        assert_eq!((writing.cpu_us_per_io, writing.cpu_us_per_io_through_drain), (Some(5e4), Some(5e4)));
        assert_eq!((writing.initiator_cpu_us_per_io, writing.drained), (2.5e4, false));
        let longer = Costs::of(&timing, Some(Settled { used: Some(5.0), ..settled }), 10, 40);
        assert_eq!((longer.cpu_us_per_io, longer.cpu_us_per_io_through_drain), (Some(5e4), Some(1e5)));
        let reading = Costs::of(&timing, None, 10, 40);
        assert_eq!((reading.cpu_us_per_io_through_drain, reading.drained), (Some(5e4), true));
        let unknown = Timing { used_before: None, target_cpu: None, ..timing };
        let nobody = Costs::of(&unknown, Some(Settled { used: None, ..settled }), 10, 40);
        assert_eq!((nobody.cpu_us_per_io, nobody.cpu_us_per_io_through_drain), (None, None));
    }
}
