//! What is done to the bytes of a disk while a run goes on, and what that excuses.

use std::collections::BTreeSet;

use huntaway_store::Store;
use huntaway_store::check::check_disk;
use huntaway_store::disk::{Crash, Fault, FileImage, Misdirected, Operation as DiskOperation, SimulatedDisk};
use huntaway_wire::{ObjectKind, Oid, Vid};

use super::{INDEXES, Simulation, VIDS, partition};
use crate::model::Model;

/// Most bits that rot at once, in one file.
const MAX_FLIPS: u64 = 3;

/// What goes wrong in a run beside crashes and what fails visibly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plot {
    Nothing,
    /// Stored bits change.
    Rot,
    /// A write lands elsewhere.
    Misdirection,
    /// A file returns as it was.
    StaleFile,
    /// The whole disk returns as it was.
    StaleDisk,
    /// Reads fail.
    ReadErrors,
    /// Something fails while the store is opened.
    BadOpening,
}

impl Plot {
    pub(super) fn of(number: u64) -> Self {
        match number {
            0 | 1 => Self::Rot,
            2 | 3 => Self::Misdirection,
            4 => Self::StaleFile,
            5 => Self::StaleDisk,
            6 => Self::ReadErrors,
            7 | 8 => Self::BadOpening,
            _ => Self::Nothing,
        }
    }

    /// Whether requests may fail without doing anything.
    pub(super) fn fails_requests(self) -> bool {
        matches!(self, Self::Rot | Self::Misdirection | Self::StaleFile | Self::ReadErrors)
    }
}

/// What may be amiss because of damage: nothing else may be.
#[derive(Debug, Default)]
pub(super) struct Harm {
    /// Objects that may be answered by errors.
    objects: BTreeSet<Oid>,
    /// Objects whose file returned as it was: nothing on the disk tells (`store/FORMAT.md`, "What is not noticed").
    stale: BTreeSet<Oid>,
    /// Objects whose space was set aside, one of whose writes went astray: what was discarded may be seen.
    reserved: BTreeSet<Oid>,
    /// The store may refuse to be opened.
    pub(super) may_refuse: bool,
}

impl Harm {
    pub(super) fn is_none(&self) -> bool {
        self.objects.is_empty() && !self.may_refuse
    }

    pub(super) fn may_be_stale(&self, oid: Oid) -> bool {
        self.stale.contains(&oid) || self.reserved.contains(&oid)
    }

    /// What a file that returned shows is known.
    pub(super) fn seen(&mut self) {
        self.stale.clear();
    }

    pub(super) fn excuses(&self, oid: Oid) -> bool {
        self.objects.contains(&oid)
    }

    /// A write went astray: one file lacks it, another was overwritten.
    pub(super) fn add_both(&mut self, misdirected: &Misdirected) {
        self.add(&misdirected.from);
        if let Some(to) = &misdirected.to {
            self.add(to);
        }
    }

    /// A file was damaged.
    fn add(&mut self, path: &str) {
        match path.strip_prefix("objects/").and_then(|path| path.split_once('/')) {
            // Each file's damage is its own.
            Some((_, name)) if object_of(name).is_some() => self.objects.extend(object_of(name)),
            Some((directory, _)) => {
                let is_there = |oid: &Oid| directory.starts_with(&format!("{}.", partition(*oid)));
                self.objects.extend(all_objects().filter(is_there));
            }
            None => {
                self.may_refuse = true;
                // What is not applied is in the log alone.
                if path.starts_with("wal/") && path != "wal/released" {
                    self.objects.extend(all_objects());
                }
            }
        }
    }
}

fn all_objects() -> impl Iterator<Item = Oid> {
    (1..=VIDS).flat_map(|vid| {
        let vid = Vid::new(vid).expect("it is small");
        (0..INDEXES).map(move |index| Oid::new(ObjectKind::Data, vid, index))
    })
}

fn object_of(name: &str) -> Option<Oid> {
    all_objects().find(|oid| oid.to_string() == name)
}

/// What is kept to come back.
#[derive(Default)]
pub(super) struct Kept {
    file: Option<FileImage>,
    disk: Option<(SimulatedDisk, Model)>,
}

impl Simulation {
    /// Before a life begins to be asked anything.
    pub(super) fn harm_begins(&mut self) {
        match self.plot {
            // What is in the log by now is marked as being on stable storage: whatever rots, it is told from a torn tail.
            Plot::Rot if self.random.chance(1, 4) => self.rot(|path| path.starts_with("wal/")),
            Plot::Misdirection if self.harm.is_none() => {
                let (syncs, seed) = (self.random.below(12), self.random.draw());
                self.disk.misdirect_after(syncs, seed);
                self.note(|| format!("misdirect after {syncs} syncs"));
            }
            Plot::ReadErrors => {
                for _ in 0..=self.random.below(3) {
                    let after = self.random.below(60);
                    let error = std::io::ErrorKind::Other;
                    self.disk.fail(Fault { operation: DiskOperation::Read, after, error });
                    self.fault = Some(Crash::Process);
                    self.note(|| format!("fail a read after {after}"));
                }
            }
            _ => {}
        }
    }

    /// In the middle of a life: something is kept that comes back later.
    pub(super) fn keep_for_later(&mut self) {
        if !self.random.chance(1, 20) {
            return;
        }
        match self.plot {
            Plot::StaleFile if self.kept.file.is_none() => {
                let files = self.disk.files();
                let path = files[self.random.below(files.len() as u64) as usize].clone();
                self.kept.file = self.disk.image(&path);
                self.note(|| format!("keep {path}"));
            }
            Plot::StaleDisk if self.kept.disk.is_none() => {
                self.kept.disk = Some((self.disk.copy(), self.model.clone()));
                self.note(|| "keep the disk".into());
            }
            _ => {}
        }
    }

    /// At the end of a life, before it is over: what the disk is to have written is written, so that what is put back can be
    /// told from what was never there.
    pub(super) fn harm_ends(&mut self, store: &Store<SimulatedDisk>) -> Result<(), String> {
        self.is_flushed = false;
        if self.plot == Plot::StaleFile && self.kept.file.is_some() && !self.disk.is_dead() && !self.is_over {
            self.sync(store)?;
            self.is_flushed = !store.has_failed();
        }
        let Some(misdirected) = self.disk.misdirected() else { return Ok(()) };
        self.note(|| format!("{misdirected:?}"));
        self.summary.misdirections += 1;
        self.harm.add_both(&misdirected);
        let from = misdirected.from.rsplit('/').next().and_then(object_of);
        self.harm.reserved.extend(from.filter(|oid| self.reserved.contains(oid)));
        self.needs_memory = misdirected.from.starts_with("wal/");
        Ok(())
    }

    /// Between two lives.
    pub(super) fn harm_between(&mut self, crash: Crash) {
        match self.plot {
            Plot::Rot if self.random.chance(1, 2) => self.rot(|path| !path.starts_with("wal/")),
            // Only what is in the log or beside it tells of the log's end: after a power loss, the last of it may not.
            Plot::StaleFile if crash == Crash::Process && self.random.chance(1, 2) => {
                let is_useful = |image: &mut FileImage| self.is_flushed || !image.path().starts_with("wal/");
                let Some(image) = self.kept.file.take_if(is_useful) else { return };
                let is_there = self.disk.put_back(&image);
                self.note(|| format!("put back {}: {is_there}", image.path()));
                self.harm.add(image.path());
                if image.path() == "superblock" {
                    // A pepoch that is used again makes versions compare as they should not.
                    self.harm.objects.extend(all_objects());
                }
                self.harm.stale.extend(image.path().rsplit('/').next().and_then(object_of));
                self.needs_memory = image.path().starts_with("wal/");
                self.summary.stale_images += 1;
            }
            Plot::StaleDisk if self.random.chance(1, 2) => {
                let Some((disk, model)) = self.kept.disk.take() else { return };
                self.note(|| "the disk is as it was".into());
                (self.disk, self.model) = (disk.into(), model);
                self.model.crash(Crash::Process);
                self.summary.stale_images += 1;
            }
            _ => {}
        }
    }

    fn rot(&mut self, which: impl Fn(&str) -> bool) {
        let files: Vec<String> = self.disk.files().into_iter().filter(|path| which(path)).collect();
        let Some(path) = files.get(self.random.below(files.len() as u64) as usize) else { return };
        let pages = self.disk.stored_pages(path);
        for _ in 0..=self.random.below(MAX_FLIPS) {
            let Some(page) = pages.get(self.random.below(pages.len() as u64) as usize) else { return };
            // Half of what matters is at the beginning of something.
            let bytes = if self.random.chance(1, 2) { 512 } else { 4096 };
            let (offset, bit) = (page + self.random.below(bytes), self.random.below(8) as u32);
            if self.disk.flip(path, offset, bit) {
                self.note(|| format!("flip bit {bit} of byte {offset} of {path}"));
                self.harm.add(path);
                self.summary.flips += 1;
            }
        }
    }

    /// Whether the offline check finds damage.
    pub(super) fn is_damage_found(&mut self) -> Result<bool, String> {
        // Of a copy: the process may be about to die.
        let report = check_disk(&self.disk.copy()).map_err(|error| format!("cannot be checked: {error}"))?;
        self.note(|| format!("check: {report}"));
        Ok(!report.is_sound())
    }
}
