//! One run: a few lives of a store on one simulated disk, each ended by a crash.

mod requests;

use std::io::ErrorKind;
use std::sync::Arc;

use huntaway_store::disk::{Crash, Fault, Operation as DiskOperation, SeededRandom, SimulatedDisk};
use huntaway_store::{PlantedBug, Store, StoreOptions};
use huntaway_wire::{BLOCK_SIZE_BYTES, ByteRange, Oid, Partition, Read, Vid};

use crate::model::Model;
use crate::outstanding::{Outstanding, Verdict};
use crate::summary::{Broken, Summary};

/// Lives of a store in one run.
const LIVES: u64 = 4;

/// Most requests and other steps of one life.
const MAX_STEPS: u64 = 60;

/// Openings in a row that may die before one must succeed.
const MAX_DEATHS_WHILE_OPENING: u32 = 3;

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
    /// The disk may run out of space: requests may be refused, so that each is answered before the next.
    is_tight: bool,
    /// A fault was planned in this life, and what must follow when it came about.
    fault: Option<Crash>,
    /// The disk has failed: this life is over.
    is_over: bool,
    next_number: u64,
    summary: Summary,
    trace: Option<Vec<String>>,
}

impl Simulation {
    fn new(seed: u64, bug: Option<PlantedBug>, traced: bool) -> Self {
        let mut random = SeededRandom::new(seed);
        let is_tight = random.chance(1, 8);
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
        Self {
            random,
            disk: Arc::new(SimulatedDisk::new(bytes)),
            options,
            model: Model::default(),
            outstanding: Vec::new(),
            window_blocks: if is_bulky { 200 } else { 8 },
            is_tight,
            fault: None,
            is_over: false,
            next_number: 0,
            summary: Summary::default(),
            trace: traced.then(Vec::new),
        }
    }

    fn run(&mut self) -> Result<(), String> {
        for _ in 0..LIVES {
            let store = self.open()?;
            if self.look_at_everything(&store)? {
                self.live(&store)?;
            }
            drop(store);
            self.crash();
        }
        let store = self.open()?;
        self.look_at_everything(&store).map(drop)
    }

    /// Opens the store; sometimes it dies in the attempt, and is opened again.
    fn open(&mut self) -> Result<Store<SimulatedDisk>, String> {
        for _ in 0..MAX_DEATHS_WHILE_OPENING {
            if !self.random.chance(1, 4) {
                break;
            }
            let operations = self.random.below(40);
            self.disk.die_after(operations);
            let opened = Store::open(self.disk.clone(), self.options.clone());
            self.note(|| format!("open, die after {operations}: {:?}", opened.as_ref().err()));
            match opened {
                Err(error) if !self.disk.is_dead() => return Err(format!("cannot be opened: {error}")),
                Ok(_) | Err(_) => self.crash(),
            }
        }
        let opened = Store::open(self.disk.clone(), self.options.clone());
        self.note(|| format!("open: {:?}", opened.as_ref().err()));
        opened.map_err(|error| format!("cannot be opened: {error}"))
    }

    fn live(&mut self, store: &Store<SimulatedDisk>) -> Result<(), String> {
        if self.random.chance(2, 3) {
            let soon = self.random.chance(1, 2);
            let operations = self.random.below(if soon { 40 } else { 400 });
            self.disk.die_after(operations);
            self.note(|| format!("die after {operations}"));
        } else if self.is_tight || self.random.chance(1, 10) {
            self.plan_fault();
        }
        for _ in 0..self.random.below(MAX_STEPS) {
            self.step(store)?;
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

    fn crash(&mut self) {
        let by_chance = if self.random.chance(1, 2) { Crash::Power } else { Crash::Process };
        // After a failed sync of names nobody knows what is there.
        let crash = self.fault.take().filter(|crash| *crash == Crash::Power).unwrap_or(by_chance);
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
    }

    /// Reads what a crash left open. False if the process dies meanwhile.
    fn look_at_everything(&mut self, store: &Store<SimulatedDisk>) -> Result<bool, String> {
        for (oid, block) in self.model.unknown() {
            let range =
                ByteRange::new(block * BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES).expect("blocks are in objects");
            let mut bytes = vec![0xee; BLOCK_SIZE_BYTES as usize];
            let read = Read { partition: partition(oid), pepoch: store.pepoch(), oid, range };
            match store.read_now(&read, &mut bytes) {
                Some(Ok(())) => self.model.check_after_crash(oid, block, &bytes)?,
                Some(Err(_)) if self.disk.is_dead() => return Ok(false),
                answer => return Err(format!("object {oid} block {block} cannot be read: {answer:?}")),
            }
        }
        Ok(true)
    }

    /// Takes in the answers that are there.
    fn poll(&mut self) -> Result<(), String> {
        let waiting = self.outstanding.len();
        for outstanding in std::mem::take(&mut self.outstanding) {
            match outstanding.poll() {
                Ok((effect, answer)) => match effect.answered(answer, &mut self.model)? {
                    Verdict::Fine => {}
                    Verdict::NoRoom => {
                        self.summary.refused += 1;
                        self.judge(!self.is_tight, || {
                            "refused for want of space, but there is plenty".into()
                        })?;
                    }
                    Verdict::TooMuch => {
                        self.summary.refused += 1;
                        let nothing_waits = waiting < 2;
                        self.judge(nothing_waits, || "refused, though nothing waits".into())?;
                    }
                    Verdict::Failed(error) => self.judge(true, || error)?,
                },
                Err(open) => self.outstanding.push(open),
            }
        }
        Ok(())
    }

    /// Something went wrong: that is right only if the disk is to blame.
    fn judge(&mut self, is_wrong: bool, what: impl FnOnce() -> String) -> Result<(), String> {
        if !is_wrong {
            return Ok(());
        }
        self.is_over = true;
        if self.disk.is_dead() || self.fault.is_some() { Ok(()) } else { Err(what()) }
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(what().chars().take(MAX_LINE_CHARS).collect());
        }
    }
}

/// Both disks are of one family: objects of the same index share a partition.
fn partition(oid: Oid) -> Partition {
    Partition::of(Vid::new(1).expect("1 is a vid"), oid.index())
}
