//! What lies below a replica: its part of the log, and the blocks.
//!
//! [`ModelStorage`] behaves as a store does at a crash: what is in the log's file survives the process, what was synced
//! survives power loss, and of the rest a prefix may be left.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use huntaway_replica::{Block, Change, Entry, Outcome, Page, Recovered, Stored};
use huntaway_wire::{Oid, Version};

use crate::Random;

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
    fn digests(&self, after: Option<Oid>, most: usize) -> Page;
    /// Lists versions.
    fn versions(&self, oid: Oid) -> Vec<(u32, Version)>;
    /// The process dies, or the machine loses power.
    fn crash(&mut self, loses_power: bool, random: &mut Random);
    /// A process finds what is left.
    fn recover(&mut self) -> Recovered;
}

type Blocks = BTreeMap<Oid, BTreeMap<u32, Stored>>;

/// A store in memory.
#[derive(Debug, Default)]
pub(crate) struct ModelStorage {
    /// What is on stable storage: blocks, and what the log says.
    stable: Blocks,
    stable_recovered: Recovered,
    /// The entries after that.
    tail: VecDeque<Entry>,
    /// How many there were before the tail.
    folded: u64,
    /// Those up to this number are in the file.
    in_file: u64,
    now: Blocks,
}

impl ModelStorage {
    /// What is there now.
    pub(crate) fn blocks(&self) -> &Blocks {
        &self.now
    }
}

impl Storage for ModelStorage {
    fn log(&mut self, entry: Entry) -> u64 {
        apply(&mut self.now, &entry);
        self.tail.push_back(entry);
        self.last()
    }

    fn written(&mut self, number: u64) {
        self.in_file = self.in_file.max(number);
    }

    fn last(&self) -> u64 {
        self.folded + self.tail.len() as u64
    }

    fn synced(&mut self, number: u64) {
        while self.folded < number
            && let Some(entry) = self.tail.pop_front()
        {
            apply(&mut self.stable, &entry);
            self.stable_recovered.take(&entry);
            self.folded += 1;
        }
        self.in_file = self.in_file.max(self.folded);
    }

    fn read(&self, oid: Oid, blocks: Range<u32>) -> Outcome {
        let object = self.now.get(&oid);
        let stored = |block| object.and_then(|object| object.get(&block)).cloned().unwrap_or_default();
        let blocks: Vec<Stored> = blocks.map(stored).collect();
        if blocks.iter().flat_map(|stored| &stored.content).all(Block::is_sound) {
            Outcome::Blocks(blocks)
        } else {
            Outcome::Damaged
        }
    }

    fn digests(&self, after: Option<Oid>, most: usize) -> Page {
        let mut rest = self.now.iter().filter(|(oid, _)| after.is_none_or(|after| **oid > after));
        let objects = rest.by_ref().take(most).map(|(oid, object)| (*oid, digest(object))).collect();
        Page { objects, is_last: rest.next().is_none() }
    }

    fn versions(&self, oid: Oid) -> Vec<(u32, Version)> {
        let versions = |object: &BTreeMap<u32, Stored>| {
            object.iter().map(|(block, stored)| (*block, stored.version)).collect()
        };
        self.now.get(&oid).map(versions).unwrap_or_default()
    }

    fn crash(&mut self, loses_power: bool, random: &mut Random) {
        let in_file = self.in_file.saturating_sub(self.folded);
        let kept = in_file + random.below(self.tail.len() as u64 + 1 - in_file);
        let kept = if loses_power { random.below(kept + 1) } else { kept };
        self.tail.truncate(kept as usize);
        self.in_file = self.last();
        if loses_power {
            // What survived did so because it is on stable storage.
            self.synced(self.last());
        }
    }

    fn recover(&mut self) -> Recovered {
        self.now = self.stable.clone();
        let mut recovered = self.stable_recovered.clone();
        for entry in &self.tail {
            apply(&mut self.now, entry);
            recovered.take(entry);
        }
        recovered
    }
}

fn apply(blocks: &mut Blocks, entry: &Entry) {
    match entry {
        Entry::Write { record, .. } => match &record.change {
            Change::Write { first_block, blocks: contents } => {
                let object = blocks.entry(record.oid).or_default();
                for (block, content) in (*first_block..).zip(contents) {
                    object.insert(block, Stored { version: record.version, content: content.clone() });
                }
            }
            Change::Remove => {
                blocks.remove(&record.oid);
            }
            Change::Nothing => {}
        },
        Entry::Copy { oid, blocks: copied } => {
            let object = blocks.entry(*oid).or_default();
            for copied in copied.iter() {
                if copied.stored.version == Version::NEVER {
                    object.remove(&copied.block);
                } else {
                    object.insert(copied.block, copied.stored.clone());
                }
            }
            if object.is_empty() {
                blocks.remove(oid);
            }
        }
        Entry::Remove { oid } => {
            blocks.remove(oid);
        }
        Entry::Requests { .. } => {}
    }
}

/// A sum (FNV-1a) over the numbers and versions of an object's blocks.
fn digest(object: &BTreeMap<u32, Stored>) -> u64 {
    let add = |sum: u64, word: u32| (sum ^ u64::from(word)).wrapping_mul(0x0100_0000_01b3);
    object.iter().fold(0xcbf2_9ce4_8422_2325, |sum, (block, stored)| {
        add(add(add(sum, *block), stored.version.pepoch), stored.version.seq)
    })
}
