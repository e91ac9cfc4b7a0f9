//! What lies below a replica: its part of the log, and the blocks. Mostly that is a model; sometimes it is a store.
//!
//! [`ModelStorage`] behaves as a store does at a crash: what is in the log's file survives the process, what was synced
//! survives power loss, and of the rest a prefix may be left. What is on stable storage may rot, block by block or as a whole
//! object: the index still has it then. A disk that failed keeps what it has.

#[cfg(test)]
mod compared;
mod either;
mod real;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use bytes::Bytes;
use huntaway_replica::{
    Block, Change, CopiedBlock, Credit, Entry, Outcome, Page, Recovered, SET_ASIDE_BLOCK, SET_ASIDE_VERSION,
    Stored, Verified, WHOLE_OBJECT_BYTES,
};
use huntaway_wire::{Oid, Version};

pub(crate) use either::ReplicaStorage;
pub(crate) use real::{RealDisk, RealStorage};

use crate::room::{Room, object_bytes};
use crate::{Bug, Random};

/// One replica's storage, as the node that drives the replica uses it.
pub(crate) trait Storage {
    /// Takes in the next entry: reads find it. Returns its number.
    fn log(&mut self, entry: Entry) -> u64;
    /// Entries up to this number are in the log's file.
    fn written(&mut self, number: u64);
    /// The number of the last entry.
    fn last(&self) -> u64;
    /// Entries up to this number are on stable storage.
    fn synced(&mut self, number: u64);
    /// Reads blocks.
    fn read(&self, oid: Oid, blocks: Range<u32>) -> Outcome;
    /// Lists objects.
    fn digests(&self, after: Option<Oid>, most: usize) -> Outcome;
    /// Lists versions.
    fn versions(&self, oid: Oid) -> Outcome;
    /// Reads an object again.
    fn verify(&self, oid: Oid) -> Outcome;
    /// The process dies, or the machine loses power.
    fn crash(&mut self, crash: Crash, random: &mut Random);
    /// A process finds what is left.
    fn recover(&mut self) -> Recovered;
}

/// Objects, and those whose files are missing or damaged: of such a one, only what was written since is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Objects {
    blocks: BTreeMap<Oid, BTreeMap<u32, Stored>>,
    missing: BTreeSet<Oid>,
}
/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crash {
    /// It is killed.
    Killed,
    /// With its machine.
    PowerLost,
    /// With its machine, and the log is not readable to its end, or the disk has to be replaced.
    Damaged,
}

/// A store in memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct ModelStorage {
    /// What is in objects, out of the log: blocks, and what the log said.
    folded: Objects,
    folded_recovered: Recovered,
    folded_entries: u64,
    /// How many entries stay in the log although they are on stable storage: they are lost when it is damaged.
    log_keeps: u64,
    tail: VecDeque<Entry>,
    /// The numbers of the entries in it that stand for all that was known before them: the log is kept from the last one on that
    /// is on stable storage.
    checkpoints: VecDeque<u64>,
    /// Entries up to this number are on stable storage.
    stable: u64,
    /// Those up to this number are in the file.
    in_file: u64,
    now: Objects,
    /// Nothing gets to the disk any more.
    has_failed: bool,
    /// It may have lost entries that were on stable storage, and nobody taught it since.
    pub(crate) is_damaged: bool,
    /// How much it takes; `None` for everything.
    room: Option<Room>,
    /// What it does wrong.
    bug: Option<Bug>,
}

impl ModelStorage {
    pub(crate) fn new(log_keeps: u64, room: Option<Room>, bug: Option<Bug>) -> Self {
        Self { log_keeps, room, bug, ..Self::default() }
    }

    /// What it has room for, if that is limited.
    pub(crate) fn promise(&mut self) -> Option<Credit> {
        self.room.as_mut().map(Room::promise)
    }

    /// Whether it has no room for blocks that are to be put in place.
    pub(crate) fn refuses(&self, entry: &Entry) -> bool {
        self.room.as_ref().is_some_and(|room| !room.takes(entry, self.now.more_bytes(entry)))
    }

    /// Whether it has less room than the entry takes, or than was promised.
    pub(crate) fn is_overdrawn_by(&self, entry: &Entry) -> bool {
        let bytes = self.now.more_bytes(entry);
        self.room.as_ref().is_some_and(|room| !self.refuses(entry) && room.is_overdrawn_by(entry, bytes))
    }

    /// Whether all that was logged is in objects.
    pub(crate) fn is_applied(&self) -> bool {
        self.tail.iter().all(|entry| matches!(entry, Entry::Known { .. }))
    }

    /// Others fill its disk, but for so much.
    pub(crate) fn fill(&mut self, left_bytes: u64) {
        self.room.iter_mut().for_each(|room| room.fill(left_bytes));
    }

    /// What others had on its disk is gone.
    pub(crate) fn empty(&mut self) {
        self.room.iter_mut().for_each(Room::empty);
    }

    /// It has room for everything.
    pub(crate) fn enlarge(&mut self) {
        self.room.iter_mut().for_each(Room::enlarge);
    }

    fn reckon(&mut self) {
        if let Some(room) = &mut self.room {
            room.holds(self.folded.blocks.keys().map(|oid| self.folded.space_bytes(*oid)).sum());
        }
    }

    /// Objects whose files are missing, and that were written to since.
    pub(crate) fn suspects(&self) -> Vec<Oid> {
        self.now.missing.iter().filter(|oid| self.now.blocks.contains_key(oid)).copied().collect()
    }

    /// What is there now.
    pub(crate) fn objects(&self) -> &Objects {
        &self.now
    }

    /// How many entries came after the last one that stands for all that was known before it.
    pub(crate) fn since_checkpoint(&self) -> u64 {
        self.last() - self.checkpoints.back().copied().unwrap_or(self.folded_entries)
    }

    /// The disk fails: whatever it says from here on, it keeps what it has.
    pub(crate) fn fail(&mut self) {
        self.has_failed = true;
    }

    /// A block of data that is on stable storage, and what reads find.
    pub(crate) fn places_to_rot(&self) -> Vec<(Oid, u32)> {
        let is_read = |oid: &Oid, block: &u32, stored: &Stored| {
            let found = self.now.blocks.get(oid).and_then(|object| object.get(block));
            found.is_some_and(|found| {
                found.version == stored.version && is_whole(found) && found.content.is_some()
            })
        };
        let places = |(oid, object): (&Oid, &BTreeMap<u32, Stored>)| {
            let (oid, blocks) = (*oid, object.iter().filter(|(block, stored)| is_read(oid, block, stored)));
            blocks.map(|(block, _)| (oid, *block)).collect::<Vec<_>>()
        };
        self.folded.blocks.iter().flat_map(places).collect()
    }

    /// A bit of the block flips.
    pub(crate) fn rot(&mut self, oid: Oid, block: u32) {
        for objects in [&mut self.folded, &mut self.now] {
            let stored = objects.blocks.get_mut(&oid).and_then(|object| object.get_mut(&block));
            if let Some(content) = stored.and_then(|stored| stored.content.as_mut()) {
                let mut bytes = content.bytes.to_vec();
                bytes.iter_mut().take(1).for_each(|byte| *byte ^= 1);
                content.bytes = Bytes::from(bytes);
            }
        }
    }

    /// The object's file is lost; the log, and what was written since, are not.
    pub(crate) fn lose(&mut self, oid: Oid) {
        if let Some(lost) = self.folded.blocks.remove(&oid) {
            self.folded.missing.insert(oid);
            self.now.missing.insert(oid);
            if let Some(object) = self.now.blocks.get_mut(&oid) {
                object.retain(|block, stored| {
                    lost.get(block).is_none_or(|lost| lost.version != stored.version)
                });
            }
            self.reckon();
        }
    }
}

impl Objects {
    /// Every block that was written.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Oid, u32, &Stored)> {
        self.blocks
            .iter()
            .flat_map(|(oid, object)| object.iter().map(|(block, stored)| (*oid, *block, stored)))
    }

    /// The block, if it is what was written.
    pub(crate) fn whole(&self, oid: Oid, block: u32) -> Option<Stored> {
        match self.blocks.get(&oid).and_then(|object| object.get(&block)) {
            Some(stored) => is_whole(stored).then(|| stored.clone()),
            None => (!self.missing.contains(&oid)).then(Stored::default),
        }
    }

    /// Whether all blocks have the versions that they have in the other one, but for objects that are missing in one of them.
    pub(crate) fn has_versions_of(&self, other: &Self) -> bool {
        let versions = |objects: &'_ Self| -> Vec<(Oid, u32, Version)> {
            let is_there = |oid: &Oid| !self.missing.contains(oid) && !other.missing.contains(oid);
            let blocks = objects.all().filter(|(oid, ..)| is_there(oid));
            blocks.map(|(oid, block, stored)| (oid, block, stored.version)).collect()
        };
        versions(self) == versions(other)
    }

    /// The first object that differs. What is damaged in both is the same.
    pub(crate) fn difference(&self, other: &Self) -> Option<Oid> {
        let mut oids: Vec<Oid> = self.blocks.keys().chain(other.blocks.keys()).copied().collect();
        oids.extend(self.missing.symmetric_difference(&other.missing));
        oids.sort_unstable();
        let is_same = |one: Option<&Stored>, other: Option<&Stored>| match (one, other) {
            (Some(one), Some(other)) if !is_whole(one) && !is_whole(other) => one.version == other.version,
            (one, other) => one == other,
        };
        oids.into_iter().find(|oid| {
            let (ours, theirs) = (self.blocks.get(oid), other.blocks.get(oid));
            let blocks = |object: Option<&BTreeMap<u32, Stored>>| -> Vec<u32> {
                object.into_iter().flat_map(BTreeMap::keys).copied().collect()
            };
            self.missing.contains(oid) != other.missing.contains(oid)
                || blocks(ours).into_iter().chain(blocks(theirs)).any(|block| {
                    let of = |object: Option<&BTreeMap<u32, Stored>>| {
                        object.and_then(|object| object.get(&block)).cloned()
                    };
                    !is_same(of(ours).as_ref(), of(theirs).as_ref())
                })
        })
    }

    /// What an object takes on the disk.
    fn space_bytes(&self, oid: Oid) -> u64 {
        self.blocks
            .get(&oid)
            .map_or(0, |object| bytes_of(object.iter().map(|(block, at)| (*block, is_data(at)))))
    }

    /// What the entry takes on the disk that is not taken so far.
    fn more_bytes(&self, entry: &Entry) -> u64 {
        let is_there = |copied: &CopiedBlock| copied.stored.version != Version::NEVER;
        let state = |copied: &CopiedBlock| (copied.block, copied.stored.content.is_some());
        let (oid, new): (Oid, Vec<(u32, bool)>) = match entry {
            Entry::Write { record, .. } if record.change == Change::Reserve => {
                (record.oid, vec![(SET_ASIDE_BLOCK, false)])
            }
            Entry::Write { record, .. } => {
                let contents = record.contents().iter().map(Option::is_some);
                (record.oid, record.extent().zip(contents).collect())
            }
            Entry::Copy { oid, blocks } => {
                (*oid, blocks.iter().filter(|it| is_there(it)).map(state).collect())
            }
            Entry::Replace { blocks, .. } => {
                return bytes_of(blocks.iter().filter(|it| is_there(it)).map(state));
            }
            Entry::Remove { .. } | Entry::Forget | Entry::Known { .. } => return 0,
        };
        let object = self.blocks.get(&oid);
        let known = object.into_iter().flatten().map(|(block, stored)| (*block, is_data(stored)));
        let is_known = |block: u32| object.and_then(|object| object.get(&block)).is_some_and(is_data);
        let more = new.into_iter().filter(|(block, _)| !is_known(*block));
        bytes_of(known.chain(more)).saturating_sub(self.space_bytes(oid))
    }

    fn remove(&mut self, oid: Oid) {
        self.missing.remove(&oid);
        self.blocks.remove(&oid);
    }

    fn put(&mut self, oid: Oid, copied: &[CopiedBlock]) {
        let object = self.blocks.entry(oid).or_default();
        for copied in copied {
            let mut stored = copied.stored.clone();
            if copied.is_lost && copied.block != SET_ASIDE_BLOCK {
                // No bytes have that sum.
                stored.content = Some(Block { crc: 1, bytes: Bytes::new() });
            }
            if stored.version == Version::NEVER {
                object.remove(&copied.block);
            } else {
                object.insert(copied.block, stored);
            }
        }
        if object.is_empty() {
            self.blocks.remove(&oid);
        }
    }

    fn apply(&mut self, entry: &Entry, bug: Option<Bug>) {
        match entry {
            Entry::Write { record, .. } => match &record.change {
                Change::Write { first_block, blocks } => {
                    let object = self.blocks.entry(record.oid).or_default();
                    for (block, content) in (*first_block..).zip(blocks) {
                        let bug = bug.filter(|_| content.is_none());
                        if bug == Some(Bug::HoleNotKept) {
                            object.remove(&block);
                            continue;
                        }
                        let stored = object.entry(block).or_default();
                        stored.content.clone_from(content);
                        if bug != Some(Bug::HoleWithoutVersion) || stored.version == Version::NEVER {
                            stored.version = record.version;
                        }
                    }
                }
                Change::Remove => self.remove(record.oid),
                Change::Reserve => {
                    let stored = Stored { version: SET_ASIDE_VERSION, content: None };
                    self.blocks.entry(record.oid).or_default().insert(SET_ASIDE_BLOCK, stored);
                }
                Change::Free { runs } => {
                    let Some(object) = self.blocks.get_mut(&record.oid) else { return };
                    object.retain(|block, _| !runs.iter().any(|run| run.contains(block)));
                    if object.is_empty() {
                        self.blocks.remove(&record.oid);
                    }
                }
                Change::Nothing => {}
            },
            Entry::Copy { oid, blocks } => self.put(*oid, blocks),
            Entry::Replace { oid, blocks } => {
                self.remove(*oid);
                self.put(*oid, blocks);
            }
            Entry::Remove { oid } => self.remove(*oid),
            Entry::Forget => *self = Self::default(),
            Entry::Known { .. } => {}
        }
    }
}

/// What an object with these blocks takes on the disk, of which some hold data.
fn bytes_of(blocks: impl Iterator<Item = (u32, bool)>) -> u64 {
    let (mut is_set_aside, mut data_blocks) = (false, 0);
    for (block, is_data) in blocks {
        is_set_aside |= block == SET_ASIDE_BLOCK;
        data_blocks += usize::from(is_data);
    }
    if is_set_aside { WHOLE_OBJECT_BYTES } else { object_bytes(data_blocks) }
}

/// What is lost has no bytes.
fn is_data(stored: &Stored) -> bool {
    stored.content.as_ref().is_some_and(|block| !block.bytes.is_empty())
}

fn is_whole(stored: &Stored) -> bool {
    stored.content.as_ref().is_none_or(Block::is_sound)
}

impl Storage for ModelStorage {
    fn log(&mut self, entry: Entry) -> u64 {
        let bytes = if self.room.is_some() { self.now.more_bytes(&entry) } else { 0 };
        self.room.iter_mut().for_each(|room| room.log(&entry, bytes));
        self.now.apply(&entry, self.bug);
        let is_checkpoint = matches!(entry, Entry::Known { .. });
        self.tail.push_back(entry);
        let last = self.last();
        if is_checkpoint {
            self.checkpoints.push_back(last);
        }
        last
    }

    fn written(&mut self, number: u64) {
        if !self.has_failed {
            self.in_file = self.in_file.max(number);
        }
    }

    fn last(&self) -> u64 {
        self.folded_entries + self.tail.len() as u64
    }

    fn synced(&mut self, number: u64) {
        if self.has_failed {
            return;
        }
        self.stable = self.stable.max(number);
        self.in_file = self.in_file.max(number);
        let is_stable = |number: &&u64| **number <= self.stable;
        let Some(checkpoint) = self.checkpoints.iter().rev().find(is_stable).copied() else { return };
        let before = self.folded_entries;
        while self.folded_entries + self.log_keeps < self.stable
            && self.folded_entries + 1 < checkpoint
            && let Some(entry) = self.tail.pop_front()
        {
            self.folded.apply(&entry, self.bug);
            if matches!(entry, Entry::Known { .. }) {
                self.folded_recovered = Recovered::default();
                self.folded_recovered.take(&entry);
            }
            self.folded_entries += 1;
            self.room.iter_mut().for_each(Room::applied);
        }
        if self.folded_entries > before {
            self.reckon();
        }
        self.checkpoints.retain(|number| *number > self.folded_entries);
    }

    fn read(&self, oid: Oid, blocks: Range<u32>) -> Outcome {
        let blocks: Vec<Option<Stored>> = blocks.map(|block| self.now.whole(oid, block)).collect();
        if blocks.iter().all(Option::is_some) {
            Outcome::Blocks(blocks.into_iter().flatten().collect())
        } else {
            Outcome::Damaged(blocks)
        }
    }

    fn digests(&self, after: Option<Oid>, most: usize) -> Outcome {
        let mut oids: Vec<Oid> = self.now.blocks.keys().chain(&self.now.missing).copied().collect();
        oids.sort_unstable();
        oids.dedup();
        let sum = |oid: &Oid| {
            let object = self.now.blocks.get(oid).filter(|_| !self.now.missing.contains(oid));
            object.map(digest)
        };
        let mut rest = oids.into_iter().filter(|oid| after.is_none_or(|after| *oid > after));
        let objects = rest.by_ref().take(most).map(|oid| (oid, sum(&oid))).collect();
        Outcome::Digests(Page { objects, is_last: rest.next().is_none() })
    }

    fn versions(&self, oid: Oid) -> Outcome {
        match self.verify(oid) {
            Outcome::Verified(blocks) => {
                Outcome::Versions(blocks.iter().map(|block| (block.block, block.version)).collect())
            }
            outcome => outcome,
        }
    }

    fn verify(&self, oid: Oid) -> Outcome {
        let verified = |(block, stored): (&u32, &Stored)| {
            let crc = is_whole(stored).then(|| stored.content.as_ref().map_or(0, |content| content.crc));
            Verified { block: *block, version: stored.version, crc }
        };
        let blocks = self.now.blocks.get(&oid).into_iter().flatten().map(verified).collect();
        if self.now.missing.contains(&oid) { Outcome::Missing(blocks) } else { Outcome::Verified(blocks) }
    }

    fn crash(&mut self, crash: Crash, random: &mut Random) {
        let kept = if self.has_failed { self.in_file } else { random.between(self.in_file, self.last()) };
        let kept = match crash {
            Crash::Killed => kept,
            Crash::PowerLost => random.between(self.stable, kept),
            Crash::Damaged => random.between(self.folded_entries, self.stable),
        };
        self.is_damaged |= crash == Crash::Damaged;
        self.tail.truncate((kept - self.folded_entries) as usize);
        self.checkpoints.retain(|number| *number <= kept);
        self.in_file = kept;
        self.has_failed = false;
        if crash != Crash::Killed {
            // What survived did so because it is on stable storage.
            self.stable = kept;
        }
    }

    fn recover(&mut self) -> Recovered {
        self.now = self.folded.clone();
        let mut recovered = self.folded_recovered.clone();
        self.room.iter_mut().for_each(Room::restart);
        for entry in &self.tail {
            let bytes = self.now.more_bytes(entry);
            self.room.iter_mut().for_each(|room| room.add(entry, bytes));
            self.now.apply(entry, self.bug);
            recovered.take(entry);
        }
        self.reckon();
        recovered
    }
}

/// A sum (FNV-1a) over the numbers and versions of an object's blocks.
fn digest(object: &BTreeMap<u32, Stored>) -> u64 {
    let add = |sum: u64, word: u32| (sum ^ u64::from(word)).wrapping_mul(0x0100_0000_01b3);
    object.iter().fold(0xcbf2_9ce4_8422_2325, |sum, (block, stored)| {
        add(add(add(sum, *block), stored.version.pepoch), stored.version.seq)
    })
}
