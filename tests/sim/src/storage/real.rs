//! The store that the binary has, on a simulated disk, below a replica.
//!
//! An entry is in the log's file as soon as it is logged, so a process that dies has all of them; a power loss leaves what the
//! disk leaves of them. A log that is not readable to its end is an earlier state of the whole disk: a store refuses to open
//! anything else. Now and then, by chances of its own, it applies what was logged, and some processes die while they do.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use huntaway_replica::{Block, Entry, Outcome, Recovered, Stored};
use huntaway_store::disk::{Crash as DiskCrash, Disk, Fault, Operation, SimulatedDisk};
use huntaway_store::{LogError, PlantedBug, Store, StoreOptions};
use huntaway_wire::{BLOCK_SIZE_BYTES, Oid, Partition, Version};

use super::{Crash, Objects, Storage};
use crate::Random;

/// Bytes of a simulated disk: it is never full.
const DISK_BYTES: u64 = 1 << 30;

/// Where blocks begin in the file of an object, in bytes (`store/FORMAT.md`).
const DATA_OFFSET_BYTES: u64 = 20480;

/// Objects asked for at once.
const PAGE_OBJECTS: usize = 64;

/// A store on a disk of its own, and whoever drives it.
pub(crate) struct RealStorage {
    partition: Partition,
    disk: Arc<SimulatedDisk>,
    /// While a process has it open.
    store: Option<Store<SimulatedDisk>>,
    recovered: Recovered,
    last: u64,
    /// Entries that it did not take since it was opened, for its disk has failed.
    refused: u64,
    since_checkpoint: u64,
    chances: Random,
    /// It is applied once in so many entries.
    applied_every: u64,
    /// Earlier states of the disk are kept, for a log that is damaged.
    keeps_earlier: bool,
    earlier: Option<SimulatedDisk>,
    pub(super) is_damaged: bool,
    bug: Option<PlantedBug>,
}

impl RealStorage {
    pub(crate) fn new(
        partition: Partition,
        keeps_earlier: bool,
        bug: Option<PlantedBug>,
        random: &mut Random,
    ) -> Self {
        let mut storage = Self {
            partition,
            disk: Arc::new(SimulatedDisk::new(DISK_BYTES)),
            store: None,
            recovered: Recovered::default(),
            last: 0,
            refused: 0,
            since_checkpoint: 0,
            applied_every: random.pick(&[1, 4, 20]),
            chances: Random::new(random.draw()),
            keeps_earlier,
            earlier: None,
            is_damaged: false,
            bug,
        };
        storage.open();
        storage
    }

    fn open(&mut self) {
        let options = StoreOptions {
            directory: "simulated".into(),
            make: true,
            wal_segment_bytes: 5 << 20,
            wal_bytes: 10 << 20,
            space_reserve_bytes: 0,
            open_objects: 4,
            planted: self.bug,
            ..StoreOptions::default()
        };
        // Whatever a crash left can be opened: a store that cannot has nothing, which whoever looks sees.
        self.store = Store::open(self.disk.clone(), options).ok();
        self.recovered = self.store.as_ref().map(|store| store.recovered(self.partition)).unwrap_or_default();
        (self.since_checkpoint, self.refused) = (0, 0);
    }

    /// Whether its store could be opened.
    pub(crate) fn is_open(&self) -> bool {
        self.store.is_some()
    }

    /// The process dies when the disk has done so much more.
    #[cfg(test)]
    pub(super) fn die_after(&self, operations: u64) {
        self.disk.die_after(operations);
    }

    /// Whether the disk does nothing any more.
    #[cfg(test)]
    pub(super) fn has_failed(&self) -> bool {
        self.disk.is_dead() || self.store.as_ref().is_none_or(Store::has_failed)
    }

    /// How many entries it did not take since it was opened.
    #[cfg(test)]
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    pub(super) fn since_checkpoint(&self) -> u64 {
        self.since_checkpoint
    }

    /// The next sync fails.
    pub(super) fn fail(&mut self) {
        let error = std::io::ErrorKind::Other;
        self.disk.fail(Fault { operation: Operation::SyncData, after: 0, error });
        let _ = self.store.as_ref().map(Store::sync);
    }

    /// What is there now, read from the disk.
    pub(super) fn objects(&self) -> Objects {
        let mut objects = Objects::default();
        let Some(store) = &self.store else { return objects };
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
        self.apply();
        let objects = self.objects();
        let is_data = |stored: &Stored| stored.is_sound() && stored.content.is_some();
        objects.all().filter(|at| is_data(at.2)).map(|(oid, block, _)| (oid, block)).collect()
    }

    fn perhaps_apply(&mut self) {
        if self.chances.below(self.applied_every) == 0 {
            self.apply();
        }
    }

    fn apply(&self) {
        let _ = self.store.as_ref().map(Store::apply);
    }

    fn path(&self, oid: Oid) -> String {
        format!("objects/{}.1/{oid}", self.partition)
    }

    pub(super) fn rot(&mut self, oid: Oid, block: u32) {
        let offset = DATA_OFFSET_BYTES + u64::from(block) * u64::from(BLOCK_SIZE_BYTES);
        self.disk.flip(&self.path(oid), offset, 0);
    }

    /// The object's file is gone, or its header is damaged.
    pub(super) fn lose(&mut self, oid: Oid) {
        let path = self.path(oid);
        if self.chances.percent(50) {
            self.disk.flip(&path, self.chances.below(28), 0);
        } else {
            let directory = format!("objects/{}.1", self.partition);
            let _ = self.disk.remove(&path).and_then(|()| self.disk.sync_dir(&directory));
        }
    }
}

impl Clone for RealStorage {
    /// A copy of the disk, which nobody has open.
    fn clone(&self) -> Self {
        Self {
            disk: Arc::new(self.disk.copy()),
            store: None,
            recovered: Recovered::default(),
            chances: self.chances.clone(),
            earlier: None,
            ..*self
        }
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
        let log = |store: &Store<SimulatedDisk>| store.log_entry(self.partition, &entry);
        let mut logged = self.store.as_ref().map(log);
        if logged == Some(Err(LogError::Full)) {
            self.apply();
            logged = self.store.as_ref().map(log);
        }
        self.refused += u64::from(!matches!(logged, Some(Ok(_))));
        self.perhaps_apply();
        if self.keeps_earlier && self.chances.percent(3) {
            self.earlier = Some(self.disk.copy());
        }
        self.last
    }

    fn written(&mut self, _: u64) {}

    fn last(&self) -> u64 {
        self.last
    }

    fn synced(&mut self, _: u64) {
        let _ = self.store.as_ref().map(Store::sync);
        self.perhaps_apply();
    }

    fn read(&self, oid: Oid, blocks: Range<u32>) -> Outcome {
        self.store.as_ref().map_or(Outcome::Failed, |store| store.read_blocks(self.partition, oid, blocks))
    }

    fn digests(&self, after: Option<Oid>, most: usize) -> Outcome {
        self.store.as_ref().map_or(Outcome::Failed, |store| store.digests(self.partition, after, most))
    }

    fn versions(&self, oid: Oid) -> Outcome {
        self.store.as_ref().map_or(Outcome::Failed, |store| store.versions(self.partition, oid))
    }

    fn verify(&self, oid: Oid) -> Outcome {
        self.store.as_ref().map_or(Outcome::Failed, |store| store.verify(self.partition, oid))
    }

    fn crash(&mut self, crash: Crash, random: &mut Random) {
        if random.percent(30) {
            // While it applies, or soon after that.
            self.disk.die_after(random.below(60));
            self.apply();
        }
        self.store = None;
        let seed = random.draw();
        match crash {
            Crash::Killed => self.disk.crash(DiskCrash::Process, seed),
            Crash::PowerLost => self.disk.crash(DiskCrash::Power, seed),
            Crash::Damaged => {
                self.is_damaged = true;
                self.disk.crash(DiskCrash::Power, seed);
                if let Some(earlier) = self.earlier.take() {
                    self.disk = Arc::new(earlier);
                }
            }
        }
        self.open();
    }

    fn recover(&mut self) -> Recovered {
        if self.store.is_none() {
            self.open();
        }
        std::mem::take(&mut self.recovered)
    }
}
