//! One run: a few lives of a store on one simulated disk, each ended by a crash.

mod harm;
mod requests;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::Arc;

use huntaway_store::disk::{Crash, Fault, Operation as DiskOperation, SeededRandom, SimulatedDisk};
use huntaway_store::{PlantedBug, Store, StoreOptions};
use huntaway_wire::{
    BLOCK_SIZE_BYTES, Broken as Damage, Error, ObjectRequest, Oid, Operation, Partition, Read, Reply,
    Request, Submission, Vid,
};

use harm::{Harm, Kept, Plot};

use crate::model::{Model, whole};
use crate::outstanding::{Outstanding, Verdict};
use crate::summary::{Broken, Summary};

/// Lives of a store in one run.
const LIVES: u64 = 4;

/// Most requests and other steps of one life.
const MAX_STEPS: u64 = 60;

/// Openings in a row that may die before one must succeed.
const MAX_DEATHS_WHILE_OPENING: u32 = 3;

/// Virtual disks, from 1, of which each has so many objects.
const VIDS: u32 = 2;
const INDEXES: u32 = 2;

/// What is shown of a step, in characters: read data is long.
const MAX_LINE_CHARS: usize = 150;

/// Runs one seed, with a bug or without.
pub(crate) fn run(seed: u64, bug: Option<PlantedBug>, traced: bool) -> Result<Summary, Box<Broken>> {
    let mut simulation = Simulation::new(seed, bug, traced);
    match simulation.run() {
        Ok(()) => {
            simulation.summary.disk_operations = simulation.disk.operations();
            simulation.summary.fingerprint = simulation.disk.fingerprint();
            Ok(simulation.summary)
        }
        Err(what) => Err(Box::new(Broken { what, trace: simulation.trace.unwrap_or_default() })),
    }
}

struct Simulation {
    random: SeededRandom,
    disk: Arc<SimulatedDisk>,
    options: StoreOptions,
    model: Model,
    outstanding: Vec<Outstanding>,
    /// Blocks of an object that requests begin in, at either end of it.
    window_blocks: u32,
    plot: Plot,
    harm: Harm,
    kept: Kept,
    /// Objects whose space was to be set aside.
    reserved: BTreeSet<Oid>,
    /// Until the store is opened, no crash takes anything out of the system's memory.
    needs_memory: bool,
    /// The disk may run out of space.
    is_tight: bool,
    /// Requests may be refused or fail: each is answered before the next.
    one_at_a_time: bool,
    /// A fault was planned in this life, and what must follow when it came about.
    fault: Option<Crash>,
    /// The disk has failed: this life is over.
    is_over: bool,
    /// All that the last life wrote to the log is on stable storage.
    is_flushed: bool,
    /// The offline check found damage before the store was opened.
    is_damage_found: bool,
    next_number: u64,
    summary: Summary,
    trace: Option<Vec<String>>,
}

impl Simulation {
    fn new(seed: u64, bug: Option<PlantedBug>, traced: bool) -> Self {
        let mut random = SeededRandom::new(seed);
        let plot = Plot::of(random.below(18));
        let is_tight = plot == Plot::Nothing && random.chance(1, 5);
        let is_bulky = random.chance(1, 50);
        let mut options = StoreOptions::default();
        options.directory = "simulated".into();
        options.wal_segment_bytes = 5 << 20;
        options.wal_bytes = 10 << 20;
        options.memory_bytes = (64 << 10) << random.below(8);
        options.apply_at_bytes = options.memory_bytes / 2;
        options.open_objects = 1 + random.below(4) as usize;
        options.space_reserve_bytes = 128 << 10;
        options.planted = bug;
        let bytes = if is_tight { (5 << 20) + (256 << 10) + random.below(1 << 20) } else { 1 << 30 };
        let disk = Arc::new(SimulatedDisk::new(bytes));
        disk.cool(seed);
        Self {
            random,
            disk,
            options,
            model: Model::default(),
            outstanding: Vec::new(),
            window_blocks: if is_bulky { 200 } else { 8 },
            plot,
            harm: Harm::default(),
            kept: Kept::default(),
            reserved: BTreeSet::new(),
            needs_memory: false,
            is_tight,
            one_at_a_time: is_tight || plot.fails_requests(),
            fault: None,
            is_over: false,
            is_flushed: false,
            is_damage_found: false,
            next_number: 0,
            summary: Summary::default(),
            trace: traced.then(Vec::new),
        }
    }

    fn run(&mut self) -> Result<(), String> {
        for _ in 0..LIVES {
            let Some(store) = self.open()? else { return Ok(()) };
            self.needs_memory = false;
            if self.look_at_everything(&store)? {
                self.harm_begins();
                self.live(&store)?;
                self.harm_ends(&store)?;
            }
            drop(store);
            let crash = self.crash()?;
            self.harm_between(crash);
        }
        let Some(store) = self.open()? else { return Ok(()) };
        self.look_at_everything(&store).map(drop)
    }

    /// Opens the store; sometimes it dies in the attempt, and is opened again. `None` if damage keeps it from being opened.
    fn open(&mut self) -> Result<Option<Store<SimulatedDisk>>, String> {
        for _ in 0..MAX_DEATHS_WHILE_OPENING {
            if !self.random.chance(1, 4) {
                break;
            }
            if self.plot == Plot::BadOpening {
                self.plan_fault();
            } else {
                let operations = self.random.below(60);
                self.disk.die_after(operations);
                self.note(|| format!("die after {operations}"));
            }
            let opened = Store::open(self.disk.clone(), self.options.clone());
            self.note(|| format!("open: {:?}", opened.as_ref().err()));
            match opened {
                Err(error) if !self.disk.is_dead() && self.fault.is_none() => {
                    return self.refused(&error.to_string()).map(|()| None);
                }
                Ok(_) | Err(_) => self.crash()?,
            };
        }
        self.is_damage_found = !self.harm.is_none() && self.is_damage_found()?;
        let opened = Store::open(self.disk.clone(), self.options.clone());
        self.note(|| format!("open: {:?}", opened.as_ref().err()));
        match opened {
            Ok(store) => Ok(Some(store)),
            Err(error) => self.refused(&error.to_string()).map(|()| None),
        }
    }

    /// The store cannot be opened: that is right only if something is damaged, and the offline check must say so, too.
    fn refused(&mut self, why: &str) -> Result<(), String> {
        self.summary.refused_openings += 1;
        if !self.harm.may_refuse {
            return Err(format!("cannot be opened: {why}"));
        }
        match self.is_damage_found()? {
            true => Ok(()),
            false => Err(format!("cannot be opened ({why}), but the check finds no damage")),
        }
    }

    fn live(&mut self, store: &Store<SimulatedDisk>) -> Result<(), String> {
        if self.plot != Plot::Misdirection && self.random.chance(2, 3) {
            let soon = self.random.chance(1, 2);
            let operations = self.random.below(if soon { 40 } else { 400 });
            self.disk.die_after(operations);
            self.note(|| format!("die after {operations}"));
        } else if self.is_tight || self.random.chance(1, 10) {
            self.plan_fault();
        }
        for _ in 0..self.random.below(MAX_STEPS) {
            self.step(store)?;
            if self.disk.has_a_sync_failed() && !store.has_failed() {
                return Err("a sync failed, but the disk is not stopped".into());
            }
            self.keep_for_later();
            if self.disk.is_dead() || self.is_over {
                return Ok(());
            }
        }
        if self.random.chance(1, 3) { self.finish(store) } else { Ok(()) }
    }

    fn plan_fault(&mut self) {
        let kinds = [
            (DiskOperation::SyncData, Crash::Process),
            (DiskOperation::SyncDir, Crash::Power),
            (DiskOperation::Write, Crash::Process),
            (DiskOperation::Name, Crash::Process),
            (DiskOperation::Allocate, Crash::Process),
        ];
        let (operation, crash) = kinds[self.random.below(kinds.len() as u64) as usize];
        let error = if self.is_tight { ErrorKind::StorageFull } else { ErrorKind::Other };
        let fault = Fault { operation, after: self.random.below(30), error };
        self.disk.fail(fault);
        self.fault = Some(crash);
        self.note(|| format!("{fault:?}"));
    }

    /// Everything that was asked for must be answered once there is nothing left to do.
    fn finish(&mut self, store: &Store<SimulatedDisk>) -> Result<(), String> {
        for _ in 0..4 {
            self.work(store)?;
        }
        let excused = self.disk.is_dead() || self.is_over || self.is_tight;
        if !self.outstanding.is_empty() && !excused {
            return Err(format!("{} requests are never answered", self.outstanding.len()));
        }
        if self.random.chance(1, 2) {
            store.stop();
            let checked = store.checkpoint();
            self.note(|| format!("stop: {checked:?}"));
        }
        Ok(())
    }

    fn work(&mut self, store: &Store<SimulatedDisk>) -> Result<(), String> {
        self.sync(store)?;
        self.apply(store)
    }

    fn sync(&mut self, store: &Store<SimulatedDisk>) -> Result<(), String> {
        let synced = store.sync();
        self.note(|| format!("sync: {synced:?}"));
        self.poll()?;
        self.judge(synced.is_err(), || "a sync failed".into())
    }

    fn apply(&mut self, store: &Store<SimulatedDisk>) -> Result<(), String> {
        let applied = store.apply();
        self.note(|| format!("apply: {applied:?}"));
        self.poll()?;
        self.judge(applied.is_err(), || "an application failed".into())
    }

    fn crash(&mut self) -> Result<Crash, String> {
        if self.disk.syncs_after_a_failed_one() > 0 {
            return Err("something was synced after a sync had failed".into());
        }
        let by_chance = if self.random.chance(1, 2) { Crash::Power } else { Crash::Process };
        // After a failed sync of names nobody knows what is there.
        let crash = self.fault.take().filter(|crash| *crash == Crash::Power).unwrap_or(by_chance);
        let crash = if self.needs_memory { Crash::Process } else { crash };
        self.summary.deaths += u64::from(self.disk.is_dead());
        match crash {
            Crash::Power => self.summary.power_losses += 1,
            Crash::Process => self.summary.process_crashes += 1,
        }
        self.note(|| format!("crash: {crash:?}"));
        self.outstanding.clear();
        self.is_over = false;
        self.model.crash(crash);
        self.disk.crash(crash, self.random.draw());
        Ok(crash)
    }

    /// Reads what a crash left open. False if the process dies meanwhile.
    fn look_at_everything(&mut self, store: &Store<SimulatedDisk>) -> Result<bool, String> {
        for (oid, block) in self.model.unknown() {
            let mut bytes = vec![0xee; BLOCK_SIZE_BYTES as usize];
            let read = Read { partition: partition(oid), pepoch: store.pepoch(), oid, range: whole(block) };
            match read_anyhow(store, &read, &mut bytes) {
                Ok(()) => {
                    let is_stale = self.harm.may_be_stale(oid);
                    self.model.check_after_crash(oid, block, is_stale, &bytes)?;
                }
                Err(_) if self.disk.is_dead() => return Ok(false),
                Err(Error::Broken(Damage::CorruptBlock { .. } | Damage::DamagedObject { .. }))
                    if self.harm.excuses(oid) =>
                {
                    if !self.is_damage_found {
                        return Err(format!(
                            "object {oid} block {block} is damaged, but the check is content"
                        ));
                    }
                    self.summary.damaged_blocks += 1;
                    self.model.lose(oid, block);
                }
                answer => return Err(format!("object {oid} block {block} cannot be read: {answer:?}")),
            }
        }
        self.harm.seen();
        Ok(true)
    }

    /// Takes in the answers that are there.
    fn poll(&mut self) -> Result<(), String> {
        let waiting = self.outstanding.len();
        for outstanding in std::mem::take(&mut self.outstanding) {
            match outstanding.poll() {
                Ok((effect, answer)) => match effect.answered(answer, &mut self.model) {
                    // A request may have failed that this one rested on, because the process is dead: nobody is answered.
                    Err(_) if self.disk.is_dead() => {}
                    verdict => self.take(verdict?, waiting)?,
                },
                Err(open) => self.outstanding.push(open),
            }
        }
        Ok(())
    }

    /// Takes in an answer that was one of `waiting`.
    fn take(&mut self, verdict: Verdict, waiting: usize) -> Result<(), String> {
        match verdict {
            Verdict::Fine => Ok(()),
            Verdict::NoRoom => {
                self.summary.refused += 1;
                self.judge(!self.is_tight, || "refused for want of space, but there is plenty".into())
            }
            Verdict::TooMuch => {
                self.summary.refused += 1;
                self.judge(waiting < 2, || "refused, though nothing waits".into())
            }
            Verdict::Damaged(oid, error) => {
                let excused = self.harm.excuses(oid) || self.is_excused_now(oid);
                self.judge(!excused, || error)
            }
            Verdict::Failed(error) => self.judge(true, || error),
        }
    }

    /// Something went wrong: that is right only if the disk is to blame.
    fn judge(&mut self, is_wrong: bool, what: impl FnOnce() -> String) -> Result<(), String> {
        if !is_wrong {
            return Ok(());
        }
        self.is_over = true;
        if self.disk.is_dead() || self.fault.is_some() { Ok(()) } else { Err(what()) }
    }

    /// Whether damage is to be expected that came in this life.
    fn is_excused_now(&self, oid: Oid) -> bool {
        let mut harm = Harm::default();
        if let Some(misdirected) = self.disk.misdirected() {
            harm.add_both(&misdirected);
        }
        harm.excuses(oid) || self.plot == Plot::ReadErrors
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(what().chars().take(MAX_LINE_CHARS).collect());
        }
    }
}

/// Reads, at once or not, when nothing else is under way.
fn read_anyhow(store: &Store<SimulatedDisk>, read: &Read, into: &mut [u8]) -> Result<(), Error> {
    if let Some(read) = store.read_now(read, into, None) {
        return read;
    }
    let Read { partition, pepoch, oid, range } = *read;
    let operation = Operation::Read { range };
    match store.submit(Request::Object(ObjectRequest { partition, pepoch, oid, operation })) {
        Submission::Done(Ok(Reply::Data(data))) => {
            into.copy_from_slice(&data.concat());
            Ok(())
        }
        Submission::Done(Err(error)) => Err(error),
        other => panic!("{other:?} is no answer to a read"),
    }
}

/// Both disks are of one family: objects of the same index share a partition.
fn partition(oid: Oid) -> Partition {
    Partition::of(Vid::new(1).expect("1 is a vid"), oid.index())
}
