//! The store that the binary has, on a simulated disk, below the replicas of a node: all of them have their entries in one log.
//!
//! An entry is in the log's file as soon as it is logged, so a process that dies has all of them; a power loss leaves what the
//! disk leaves of them. A log that is damaged has flipped bits, or ends early. Now and then, by chances of its own, the store
//! applies what was logged, and some processes die while it does.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use huntaway_replica::{Block, Credit, Entry, Outcome, Recovered, Stored};
use huntaway_store::disk::{Crash as DiskCrash, Disk, Fault, Open, Operation, SimulatedDisk};
use huntaway_store::{BootId, LogError, PlantedBug, Store, StoreOptions};
use huntaway_wire::{BLOCK_SIZE_BYTES, Oid, Partition, Reply, Request, Submission, Version};

use super::{Crash, Objects, Storage};
use crate::Random;

/// Bytes of a simulated disk: it is full when others fill it.
const DISK_BYTES: u64 = 1 << 30;

/// What a store never promises: what is rolled forward without having been granted takes it.
const RESERVE_BYTES: u64 = 16 << 20;

/// What names and indexes take, which nobody reckons with.
const SMALL_BYTES: u64 = 1 << 20;

/// The log of a store.
const SEGMENT_BYTES: u64 = 5 << 20;
const SEGMENTS: u64 = 2;

/// What others have on the disk.
const OTHERS: &str = "others";

/// Where blocks begin in the file of an object, in bytes (`store/FORMAT.md`).
const DATA_OFFSET_BYTES: u64 = 20480;

/// Where the position of a segment's first record is in its file, and that record (`store/FORMAT.md`).
const SEGMENT_BASE_OFFSET_BYTES: u64 = 40;
const SEGMENT_RECORDS_OFFSET_BYTES: u64 = 4096;

/// The beginning of an index (`store/FORMAT.md`).
const SECTOR_BYTES: u64 = 512;

/// In so many of a hundred cases an index is lost when a process dies, where disks rot.
const INDEX_LOST_PERCENT: u64 = 10;

/// Objects asked for at once.
const PAGE_OBJECTS: usize = 64;

/// A disk and the store on it.
pub(crate) struct RealDisk {
    disk: Arc<SimulatedDisk>,
    /// While a process has it open.
    store: Option<Store<SimulatedDisk>>,
    /// How often processes died.
    deaths: u64,
    /// How often its machine was started.
    boots: u64,
    chances: Random,
    /// Where its newest entry begins and ends in the log.
    newest: (u64, u64),
    /// Up to where its log is on stable storage.
    durable: u64,
    /// Up to where the newest entry says that it was when that was logged.
    claimed: u64,
    /// Up to where what is on stable storage says so: all but what was synced last.
    noted: u64,
    /// Up to where it was when the log was opened, which is noted beside it.
    opened_at: u64,
    /// It is applied once in so many entries.
    applied_every: u64,
    /// Its log is damaged now and then, also when only a process dies.
    rots: bool,
    /// Of the disk's space, what partitions' writes may take, as their replicas were told, and what they took, since it was opened.
    told: BTreeMap<Partition, (u64, u64)>,
    /// What writes took that nobody had been told of: they were rolled forward.
    untold_bytes: u64,
    /// It had no room for what it promised to take, or promised more than there is.
    is_overdrawn: bool,
    bug: Option<PlantedBug>,
}

/// A partition's part of it, and whoever drives it.
pub(crate) struct RealStorage {
    partition: Partition,
    disk: Rc<RefCell<RealDisk>>,
    /// Of the disk's, those that this one knows of.
    deaths: u64,
    recovered: Recovered,
    last: u64,
    /// Entries that it did not take since it was opened, for its disk has failed.
    refused: u64,
    since_checkpoint: u64,
    has_refused: bool,
    pub(super) is_damaged: bool,
}

impl RealDisk {
    /// A new disk.
    pub(crate) fn new(rots: bool, bug: Option<PlantedBug>, random: &mut Random) -> Rc<RefCell<Self>> {
        let mut disk = Self {
            disk: Arc::new(SimulatedDisk::new(DISK_BYTES)),
            store: None,
            deaths: 0,
            boots: 1,
            applied_every: random.pick(&[1, 4, 20]),
            chances: Random::new(random.draw()),
            newest: (0, 0),
            durable: 0,
            claimed: 0,
            noted: 0,
            opened_at: 0,
            rots,
            told: BTreeMap::new(),
            untold_bytes: 0,
            is_overdrawn: false,
            bug,
        };
        disk.open();
        Rc::new(RefCell::new(disk))
    }

    fn open(&mut self) {
        let mut boot = BootId([0; 16]);
        boot.0[..8].copy_from_slice(&self.boots.to_le_bytes());
        let options = StoreOptions {
            directory: "simulated".into(),
            boot,
            make: true,
            wal_segment_bytes: SEGMENT_BYTES,
            wal_bytes: SEGMENTS * SEGMENT_BYTES,
            space_reserve_bytes: RESERVE_BYTES,
            open_objects: 4,
            opens_damaged_log: true,
            planted: self.bug,
            ..StoreOptions::default()
        };
        (self.told, self.untold_bytes) = (BTreeMap::new(), 0);
        // Whatever a crash left can be opened: a store that cannot has nothing, which whoever looks sees.
        self.store = Store::open(self.disk.clone(), options).ok();
        self.sync();
        (self.claimed, self.noted, self.opened_at) = (self.durable, self.durable, self.durable);
    }

    fn sync(&mut self) {
        if let Some(Ok(durable)) = self.store.as_ref().map(Store::sync) {
            (self.durable, self.noted) = (durable.0, self.claimed);
        }
    }

    fn crash(&mut self, crash: Crash, random: &mut Random) {
        if random.percent(30) {
            // While it applies, or soon after that.
            self.disk.die_after(random.below(60));
            self.apply();
        }
        self.store = None;
        self.deaths += 1;
        self.boots += u64::from(crash != Crash::Killed);
        let kind = if crash == Crash::Killed { DiskCrash::Process } else { DiskCrash::Power };
        self.disk.crash(kind, random.draw());
        if crash == Crash::Damaged || self.rots && random.percent(20) {
            (0..random.between(1, 4)).for_each(|_| self.damage_log(crash, random));
        }
        if self.rots && random.percent(INDEX_LOST_PERCENT) {
            self.lose_index(random);
        }
        self.open();
    }

    /// The index of a partition cannot be used any more, is gone, or is gone with all its objects.
    fn lose_index(&self, random: &mut Random) {
        let files = self.disk.files();
        let indexes: Vec<_> = files.iter().filter_map(|path| path.strip_suffix("/index")).collect();
        let Some(directory) = (!indexes.is_empty()).then(|| random.pick(&indexes)) else { return };
        let path = format!("{directory}/index");
        let with_objects = random.percent(40);
        if !with_objects && random.percent(50) {
            self.disk.flip(&path, random.below(SECTOR_BYTES), random.below(8) as u32);
            return;
        }
        let is_in = |file: &&String| file.strip_prefix(directory).is_some_and(|name| name.starts_with('/'));
        for file in files.iter().filter(is_in).filter(|file| with_objects || **file == path) {
            let _ = self.disk.remove(file);
        }
        let _ = self.disk.sync_dir(directory);
    }

    /// A bit of the log flips, or a segment is cut, where that is noticed (`store/FORMAT.md`). If only a process died, no file is cut,
    /// and its newest entry is not flipped: nothing would tell that from an entry which it was writing when it died. If power was
    /// lost, what was synced last is not flipped, nor is anything cut off that was synced since the log was opened: that looks as
    /// if it had never been on stable storage.
    fn damage_log(&self, crash: Crash, random: &mut Random) {
        let files = self.disk.files();
        let segments: Vec<_> = files.iter().filter(|path| path.starts_with("wal/0")).collect();
        let Some(path) = (!segments.is_empty()).then(|| random.pick(&segments)) else { return };
        let Ok(file) = self.disk.open(path, Open::Existing) else { return };
        let mut base = [0; 8];
        let _ = self.disk.read_at(&file, &mut base, SEGMENT_BASE_OFFSET_BYTES);
        let base = u64::from_le_bytes(base);
        // Most of a run is in its beginning, and what is not on stable storage yet at the end.
        let longest = random.pick(&[8 << 10, 64 << 10, 512 << 10]);
        let at = random.below(longest);
        let end = self.newest.1.saturating_sub(base) + SEGMENT_RECORDS_OFFSET_BYTES;
        let at = if random.percent(50) { at } else { end.saturating_sub(at / 8) };
        let is_killed = crash == Crash::Killed;
        let lsn = base.saturating_add(at.saturating_sub(SEGMENT_RECORDS_OFFSET_BYTES));
        let is_newest = (self.newest.0..self.newest.1).contains(&lsn);
        if !is_killed && random.percent(15) {
            if lsn < self.opened_at {
                let length = self.disk.length(&file).unwrap_or_default().min(at);
                let _ = self.disk.set_length(&file, length).and_then(|()| self.disk.sync_data(&file));
            }
        } else if if is_killed { !is_newest } else { lsn < self.noted } {
            // Whoever wrote it may not have synced it: the system has it on the disk by now.
            let _ = self.disk.sync_data(&file);
            self.disk.flip(path, at, random.below(8) as u32);
        }
    }

    fn apply(&self) {
        let _ = self.store.as_ref().map(Store::apply);
    }

    /// A replica is told that its writes may take so much of the disk. All that was told has to be there, beside what the store
    /// keeps for the log and for what nobody was told of. What was rolled forward before it was opened may have taken some of that:
    /// nobody is told of anything, then.
    fn tells(&mut self, partition: Partition, space_limit_bytes: u64) {
        self.told.entry(partition).or_default().0 = space_limit_bytes;
        let left = self.told.values().map(|(told, taken)| told.saturating_sub(*taken)).sum::<u64>();
        let segments = self.disk.files().iter().filter(|path| path.starts_with("wal/0")).count() as u64;
        let kept = RESERVE_BYTES + (SEGMENTS + 1).saturating_sub(segments) * SEGMENT_BYTES;
        if let Ok(space) = self.disk.space() {
            self.is_overdrawn |= left > 0 && left + kept > space.free_bytes + self.untold_bytes + SMALL_BYTES;
        }
    }

    /// A write was logged.
    fn takes(&mut self, partition: Partition, space_bytes: u64) {
        let (told, taken) = self.told.entry(partition).or_default();
        let beyond = |taken: u64| taken.saturating_sub(*told);
        self.untold_bytes += beyond(*taken + space_bytes) - beyond(*taken);
        *taken += space_bytes;
    }

    /// Others take all that is not promised, but for so much.
    fn fill(&mut self, left_bytes: u64) {
        let Some(store) = &self.store else { return };
        let Submission::Done(Ok(Reply::Space(space))) = store.submit(Request::Space { exact: true }) else {
            return;
        };
        let bytes = space.available_bytes.saturating_sub(left_bytes) / 4096 * 4096;
        let opened = self.disk.open(OTHERS, Open::Existing).or_else(|_| self.disk.open(OTHERS, Open::New));
        let Ok(file) = opened else { return };
        let taken = self.disk.length(&file).and_then(|length| self.disk.allocate(&file, length, bytes));
        let _ = taken.and_then(|()| self.disk.sync_data(&file)).and_then(|()| self.disk.sync_dir(""));
        store.space();
    }

    fn perhaps_apply(&mut self) {
        if self.chances.below(self.applied_every) == 0 {
            self.apply();
        }
    }
}

impl RealStorage {
    /// The partition's part of a disk that nobody has used yet.
    pub(crate) fn new(partition: Partition, disk: &Rc<RefCell<RealDisk>>) -> Self {
        let mut storage = Self {
            partition,
            disk: disk.clone(),
            deaths: 0,
            recovered: Recovered::default(),
            last: 0,
            refused: 0,
            since_checkpoint: 0,
            has_refused: false,
            is_damaged: false,
        };
        storage.opened();
        storage
    }

    /// A copy of a disk comes into use.
    pub(super) fn put_in(&mut self) {
        if !self.is_open() {
            self.disk.borrow_mut().open();
            self.opened();
        }
    }

    fn opened(&mut self) {
        self.deaths = self.disk.borrow().deaths;
        (self.since_checkpoint, self.refused) = (0, 0);
        self.recovered = self.with_store(|store| store.recovered(self.partition)).unwrap_or_default();
        self.is_damaged |= self.tells_damage();
    }

    pub(super) fn tells_damage(&self) -> bool {
        self.with_store(|store| store.is_log_damaged(self.partition)).unwrap_or(false)
    }

    pub(super) fn damage_is_known(&self) {
        self.with_store(Store::log_damage_is_known);
    }

    fn with_store<R>(&self, work: impl FnOnce(&Store<SimulatedDisk>) -> R) -> Option<R> {
        self.disk.borrow().store.as_ref().map(work)
    }

    fn ask(&self, question: impl FnOnce(&Store<SimulatedDisk>) -> Outcome) -> Outcome {
        self.with_store(question).unwrap_or(Outcome::Failed)
    }

    /// What its replica may promise.
    pub(super) fn promise(&self) -> Option<Credit> {
        let credit = self.with_store(|store| store.credit(self.partition).ok()).flatten()?;
        self.disk.borrow_mut().tells(self.partition, credit.space_limit_bytes);
        Some(credit)
    }

    /// Whether it had less room than it promised.
    pub(super) fn is_overdrawn(&self) -> bool {
        self.disk.borrow().is_overdrawn
    }

    /// Others fill its disk, but for so much.
    pub(super) fn fill(&self, left_bytes: u64) {
        self.disk.borrow_mut().fill(left_bytes);
    }

    /// What others had on its disk is gone.
    pub(super) fn empty(&self) {
        let disk = &self.disk.borrow().disk;
        let _ = disk.remove(OTHERS).and_then(|()| disk.sync_dir(""));
    }

    /// Whether the last entry was not taken in, for there was no room to put blocks in place.
    pub(super) fn has_refused(&self) -> bool {
        self.has_refused
    }

    /// Whether its store could be opened.
    pub(crate) fn is_open(&self) -> bool {
        self.with_store(|_| ()).is_some()
    }

    /// The process dies when the disk has done so much more.
    #[cfg(test)]
    pub(super) fn die_after(&self, operations: u64) {
        self.disk.borrow().disk.die_after(operations);
    }

    /// Whether the disk does nothing any more.
    #[cfg(test)]
    pub(super) fn has_failed(&self) -> bool {
        self.disk.borrow().disk.is_dead() || self.with_store(Store::has_failed).unwrap_or(true)
    }

    /// How many entries it did not take since it was opened.
    #[cfg(test)]
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// The last entry was not refused by a disk that failed.
    #[cfg(test)]
    pub(super) fn waits_for_room(&mut self) {
        self.refused -= 1;
    }

    /// The partitions that are to say what they know.
    #[cfg(test)]
    pub(super) fn checkpoints_due(&self) -> Vec<Partition> {
        self.with_store(Store::checkpoints_due).unwrap_or_default()
    }

    /// The files of the log.
    #[cfg(test)]
    pub(super) fn segments(&self) -> Vec<String> {
        self.disk.borrow().disk.files().into_iter().filter(|path| path.starts_with("wal/0")).collect()
    }

    pub(super) fn since_checkpoint(&self) -> u64 {
        self.since_checkpoint
    }

    pub(super) fn suspects(&self) -> Vec<Oid> {
        self.with_store(|store| store.suspects(self.partition)).unwrap_or_default()
    }

    /// The next sync fails.
    pub(super) fn fail(&mut self) {
        let disk = self.disk.borrow();
        let Some(store) = disk.store.as_ref().filter(|store| !store.has_failed()) else { return };
        disk.disk.fail(Fault { operation: Operation::SyncData, after: 0, error: std::io::ErrorKind::Other });
        let _ = store.sync();
    }

    /// What is there now, read from the disk.
    pub(super) fn objects(&self) -> Objects {
        let mut objects = Objects::default();
        let disk = self.disk.borrow();
        let Some(store) = &disk.store else { return objects };
        let mut after = None;
        while let Outcome::Digests(page) = store.digests(self.partition, after, PAGE_OBJECTS) {
            page.objects.iter().for_each(|(oid, _)| self.add(store, *oid, &mut objects));
            after = page.objects.last().map(|(oid, _)| *oid);
            if page.is_last {
                break;
            }
        }
        objects
    }

    fn add(&self, store: &Store<SimulatedDisk>, oid: Oid, objects: &mut Objects) {
        let versions = match store.versions(self.partition, oid) {
            Outcome::Missing(verified) => {
                objects.missing.insert(oid);
                verified.iter().map(|verified| (verified.block, verified.version)).collect()
            }
            Outcome::Versions(versions) => versions,
            _ => return,
        };
        let stored = |(block, version): (u32, Version)| {
            let stored = match store.read_blocks(self.partition, oid, block..block + 1) {
                Outcome::Blocks(mut blocks) => blocks.pop(),
                _ => None,
            };
            // No bytes have that sum.
            let lost = || Stored { version, content: Some(Block { crc: 1, bytes: Bytes::new() }) };
            (block, stored.unwrap_or_else(lost))
        };
        let blocks: BTreeMap<_, _> = versions.into_iter().map(stored).collect();
        if !blocks.is_empty() {
            objects.blocks.insert(oid, blocks);
        }
    }

    /// Blocks of data in the files of objects.
    pub(super) fn places_to_rot(&self) -> Vec<(Oid, u32)> {
        self.disk.borrow().apply();
        let objects = self.objects();
        let is_data = |stored: &Stored| stored.is_sound() && stored.content.is_some();
        objects.all().filter(|at| is_data(at.2)).map(|(oid, block, _)| (oid, block)).collect()
    }

    fn path(&self, oid: Oid) -> String {
        format!("objects/{}.1/{oid}", self.partition)
    }

    pub(super) fn rot(&mut self, oid: Oid, block: u32) {
        let offset = DATA_OFFSET_BYTES + u64::from(block) * u64::from(BLOCK_SIZE_BYTES);
        self.disk.borrow().disk.flip(&self.path(oid), offset, 0);
    }

    /// The object's file is gone, or its header is damaged.
    pub(super) fn lose(&mut self, oid: Oid) {
        let path = self.path(oid);
        let mut shared = self.disk.borrow_mut();
        let is_flipped = shared.chances.percent(50);
        let (offset, disk) = (shared.chances.below(28), &shared.disk);
        if is_flipped {
            disk.flip(&path, offset, 0);
        } else {
            let directory = format!("objects/{}.1", self.partition);
            let _ = disk.remove(&path).and_then(|()| disk.sync_dir(&directory));
        }
    }
}

impl Clone for RealStorage {
    /// A copy of the disk, which nobody has open.
    fn clone(&self) -> Self {
        let disk = self.disk.borrow();
        let copy = RealDisk {
            disk: Arc::new(disk.disk.copy()),
            store: None,
            deaths: disk.deaths,
            chances: disk.chances.clone(),
            told: BTreeMap::new(),
            ..*disk
        };
        Self { disk: Rc::new(RefCell::new(copy)), recovered: Recovered::default(), ..*self }
    }
}

impl std::fmt::Debug for RealStorage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a store of partition {}", self.partition)
    }
}

impl Storage for RealStorage {
    fn log(&mut self, entry: Entry) -> u64 {
        self.last += 1;
        self.since_checkpoint += 1;
        if matches!(entry, Entry::Known { .. }) {
            self.since_checkpoint = 0;
        }
        let mut disk = self.disk.borrow_mut();
        let log = |store: &Store<SimulatedDisk>| store.log_entry(self.partition, &entry);
        let mut logged = disk.store.as_ref().map(log);
        if logged == Some(Err(LogError::Full)) {
            disk.sync();
            disk.apply();
            logged = disk.store.as_ref().map(log);
        }
        if let Some(Ok(end)) = logged {
            // After a loss of power the log may go on before where it had been.
            disk.newest = (disk.newest.1.min(end.0.saturating_sub(1)), end.0);
            disk.claimed = disk.durable;
        }
        if let (Some(Ok(_)), Entry::Write { record, .. }) = (&logged, &entry) {
            disk.takes(self.partition, record.space_bytes());
        }
        self.refused += u64::from(!matches!(logged, Some(Ok(_))));
        let has_no_room = matches!(logged, Some(Err(LogError::Full | LogError::NoSpace { .. })));
        let may_be_refused = matches!(entry, Entry::Copy { .. } | Entry::Replace { .. });
        self.has_refused = has_no_room && may_be_refused;
        disk.is_overdrawn |= has_no_room && !may_be_refused;
        disk.perhaps_apply();
        self.last
    }

    fn written(&mut self, _: u64) {}

    fn last(&self) -> u64 {
        self.last
    }

    fn synced(&mut self, _: u64) {
        let mut disk = self.disk.borrow_mut();
        disk.sync();
        disk.perhaps_apply();
    }

    fn read(&self, oid: Oid, blocks: Range<u32>) -> Outcome {
        self.ask(|store| store.read_blocks(self.partition, oid, blocks))
    }

    fn digests(&self, after: Option<Oid>, most: usize) -> Outcome {
        self.ask(|store| store.digests(self.partition, after, most))
    }

    fn versions(&self, oid: Oid) -> Outcome {
        self.ask(|store| store.versions(self.partition, oid))
    }

    fn verify(&self, oid: Oid) -> Outcome {
        self.ask(|store| store.verify(self.partition, oid))
    }

    /// All that are on one disk are to be told; it happens to the first.
    fn crash(&mut self, crash: Crash, random: &mut Random) {
        if self.disk.borrow().deaths == self.deaths {
            self.disk.borrow_mut().crash(crash, random);
        }
        self.opened();
    }

    fn recover(&mut self) -> Recovered {
        self.put_in();
        std::mem::take(&mut self.recovered)
    }
}
