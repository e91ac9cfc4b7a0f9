//! One run: a few lives of a store on one simulated disk, each ended by a crash.

use std::fmt;
use std::io::ErrorKind;
use std::sync::Arc;

use bytes::Bytes;
use huntaway_store::disk::{Crash, Fault, Operation as DiskOperation, SeededRandom, SimulatedDisk};
use huntaway_store::{PlantedBug, Store, StoreOptions};
use huntaway_wire::{
    BLOCK_SIZE_BYTES, ByteRange, Durability, OBJECT_SIZE_BYTES, ObjectKind, ObjectRequest, Oid, Operation,
    Partition, Read, Request, Segments, Vid, piece_crcs,
};

use crate::model::{CELL_BYTES, Model, content};
use crate::outstanding::{Effect, Outstanding, Verdict};

/// Lives of a store in one run.
const LIVES: u64 = 4;

/// Most requests and other steps of one life.
const MAX_STEPS: u64 = 60;

/// Openings in a row that may die before one must succeed.
const MAX_DEATHS_WHILE_OPENING: u32 = 3;

/// What is shown of a step, in characters: read data is long.
const MAX_LINE_CHARS: usize = 150;

/// A promise that was not kept.
#[derive(Debug)]
pub(crate) struct Broken {
    what: String,
    /// The steps that led to it, if they were asked for.
    pub(crate) trace: Vec<String>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.what.fmt(f)
    }
}

/// What happened in runs.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Summary {
    requests: u64,
    refused: u64,
    process_crashes: u64,
    power_losses: u64,
    deaths: u64,
    disk_operations: u64,
    fingerprint: u64,
}

impl Summary {
    pub(crate) fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.refused += other.refused;
        self.process_crashes += other.process_crashes;
        self.power_losses += other.power_losses;
        self.deaths += other.deaths;
        self.disk_operations += other.disk_operations;
    }

    /// Whether each kind of thing that can happen did.
    pub(crate) fn is_varied(&self) -> bool {
        [self.refused, self.process_crashes, self.power_losses, self.deaths].iter().all(|count| *count > 0)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} requests ({} refused), {} process crashes, {} power losses ({} while something was under way), \
             {} disk operations",
            self.requests,
            self.refused,
            self.process_crashes,
            self.power_losses,
            self.deaths,
            self.disk_operations
        )
    }
}

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
            (DiskOperation::SyncData, Crash::Power),
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
        // After a failed sync the system's memory no longer tells the truth.
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

    fn step(&mut self, store: &Store<SimulatedDisk>) -> Result<(), String> {
        match self.random.below(100) {
            0..42 => self.write(store),
            42..52 => self.read(store),
            52..58 => {
                let effect = Effect::Flush { acknowledged: self.model.acknowledged() };
                self.submit(store, effect, Request::Flush)
            }
            58..66 => self.discard(store),
            66..68 => {
                let oid = self.object();
                let (durability, stable) = self.durability();
                let effect = Effect::Change { places: self.model.remove(oid), stable };
                self.ask(store, oid, effect, Operation::Remove { durability })
            }
            68..70 => {
                let oid = self.object();
                self.ask(store, oid, Effect::Reserve, Operation::Reserve)
            }
            70..73 => {
                let (oid, range) = (self.object(), self.range());
                let effect = Effect::Map { range, expected: self.model.newest(oid, range) };
                self.ask(store, oid, effect, Operation::Map { range })
            }
            73..85 => self.sync(store),
            _ => self.apply(store),
        }
    }

    fn write(&mut self, store: &Store<SimulatedDisk>) -> Result<(), String> {
        let (oid, range) = (self.object(), self.range());
        let (durability, stable) = self.durability();
        self.next_number += 1;
        let mut data = Bytes::from(content(oid, range, self.next_number));
        let rest = data.split_off(self.random.below(data.len() as u64) as usize);
        let data: Segments = [data, rest].into_iter().collect();
        let crcs = piece_crcs(range, &data);
        let effect = Effect::Change { places: self.model.change(oid, range, self.next_number), stable };
        self.ask(store, oid, effect, Operation::Write { range, data, crcs, durability })
    }

    fn discard(&mut self, store: &Store<SimulatedDisk>) -> Result<(), String> {
        let (oid, mut range) = (self.object(), self.range());
        let (durability, stable) = self.durability();
        let places = if self.random.chance(1, 6) {
            range = ByteRange::new(0, OBJECT_SIZE_BYTES).expect("an object is as long as itself");
            self.model.remove(oid)
        } else {
            self.model.change(oid, range, 0)
        };
        self.ask(store, oid, Effect::Change { places, stable }, Operation::Discard { range, durability })
    }

    fn read(&mut self, store: &Store<SimulatedDisk>) -> Result<(), String> {
        let (oid, range) = (self.object(), self.range());
        let expected = self.model.newest(oid, range);
        let mut bytes = vec![0xee; range.length() as usize];
        let read = Read { partition: partition(oid), pepoch: store.pepoch(), oid, range };
        match store.read_now(&read, &mut bytes) {
            Some(Ok(())) if self.random.chance(1, 2) => {
                self.note(|| format!("read {oid} {range:?}"));
                self.model.check_read(oid, range, &expected, &bytes)
            }
            Some(_) | None => {
                self.ask(store, oid, Effect::Read { oid, range, expected }, Operation::Read { range })
            }
        }
    }

    fn ask(
        &mut self,
        store: &Store<SimulatedDisk>,
        oid: Oid,
        effect: Effect,
        operation: Operation,
    ) -> Result<(), String> {
        let request = ObjectRequest { partition: partition(oid), pepoch: store.pepoch(), oid, operation };
        self.submit(store, effect, Request::Object(request))
    }

    fn submit(
        &mut self,
        store: &Store<SimulatedDisk>,
        effect: Effect,
        request: Request,
    ) -> Result<(), String> {
        self.summary.requests += 1;
        let told = self.trace.is_some().then(|| tell(&request, self.next_number));
        let submission = store.submit(request);
        self.note(|| format!("{}: {submission:?}", told.unwrap_or_default()));
        self.outstanding.push(Outstanding::new(effect, submission));
        self.poll()?;
        // Where requests may be refused, each is over before the next: a refused one leaves nothing behind.
        let mut rounds = 0;
        while self.is_tight && !self.outstanding.is_empty() && !self.disk.is_dead() && !self.is_over {
            rounds += 1;
            self.is_over = rounds > 3;
            self.work(store)?;
        }
        Ok(())
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

    fn object(&mut self) -> Oid {
        let vid = Vid::new(1 + self.random.below(2) as u32).expect("1 and 2 are vids");
        Oid::new(ObjectKind::Data, vid, self.random.below(2) as u32)
    }

    /// Bytes at the beginning or the end of an object: whole blocks, or not.
    fn range(&mut self) -> ByteRange {
        let unit = if self.random.chance(1, 2) { BLOCK_SIZE_BYTES } else { CELL_BYTES };
        let window = self.window_blocks * BLOCK_SIZE_BYTES / unit;
        let start = self.random.below(window.into()) as u32;
        let length = 1 + self.random.below(u64::from(window - start).min(40)) as u32;
        let origin = if self.random.chance(1, 4) { OBJECT_SIZE_BYTES - window * unit } else { 0 };
        let length = if self.window_blocks > 8 { window - start } else { length };
        ByteRange::new(origin + start * unit, length * unit).expect("the window is in the object")
    }

    fn durability(&mut self) -> (Durability, bool) {
        if self.random.chance(1, 4) { (Durability::Stable, true) } else { (Durability::Logged, false) }
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

fn tell(request: &Request, number: u64) -> String {
    match request {
        Request::Flush => "flush".into(),
        Request::Object(ObjectRequest { oid, operation, .. }) => match operation {
            Operation::Write { range, durability, .. } => {
                format!("write {number} to {oid} {range:?} {durability:?}")
            }
            other => format!("{oid} {other:?}"),
        },
    }
}
