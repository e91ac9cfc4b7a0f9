//! What blocks hold before a request changes them, or for a read: asked of the store run by run, and of one ancestor after
//! the other for blocks that inherit.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use huntaway_wire::{BLOCK_SIZE_BYTES, Oid, Version};

use crate::record::{Block, Content, SET_ASIDE_BLOCK, Stored};

/// A search for the content of blocks.
#[derive(Debug, Default)]
pub(crate) struct Lookup {
    /// Where to look: the object, and after it those that it inherits from, the nearest first.
    oids: VecDeque<Oid>,
    /// Runs that are still to be read of the first of them; the first one is being read.
    wanted: VecDeque<Range<u32>>,
    /// Runs that it has nothing of.
    inherited: VecDeque<Range<u32>>,
    found: BTreeMap<u32, Content>,
    /// Those that hold data in the object itself.
    own: BTreeSet<u32>,
    /// Space is set aside for the object.
    is_set_aside: bool,
    is_below: bool,
}

/// The store answered with something else than whole blocks, as many as it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unasked;

impl Lookup {
    pub(crate) fn new(oids: VecDeque<Oid>, wanted: impl IntoIterator<Item = Range<u32>>) -> Self {
        Self { oids, wanted: wanted.into_iter().collect(), ..Self::default() }
    }

    /// What to read next; `None` when everything was found.
    pub(crate) fn next(&self) -> Option<(Oid, Range<u32>)> {
        Some((*self.oids.front()?, self.wanted.front()?.clone()))
    }

    /// Takes in what was read. What was written neither here nor in any ancestor reads as zeroes.
    pub(crate) fn take(&mut self, stored: Vec<Stored>) -> Result<(), Unasked> {
        let blocks = self.wanted.pop_front().filter(|blocks| blocks.len() == stored.len()).ok_or(Unasked)?;
        let is_whole = |block: &Block| block.bytes.len() == BLOCK_SIZE_BYTES as usize;
        if !stored.iter().filter_map(|stored| stored.content.as_ref()).all(is_whole) {
            return Err(Unasked);
        }
        let is_last = self.oids.len() <= 1;
        for (block, stored) in blocks.zip(stored) {
            if block == SET_ASIDE_BLOCK {
                // What is set aside for an ancestor is not for what inherits from it.
                self.is_set_aside |= stored.version != Version::NEVER;
            } else if stored.version == Version::NEVER && !is_last {
                self.inherit(block);
            } else {
                if stored.content.is_some() && !self.is_below {
                    self.own.insert(block);
                }
                self.found.insert(block, stored.content);
            }
        }
        if self.wanted.is_empty() && !is_last {
            self.oids.pop_front();
            self.is_below = true;
            self.wanted = std::mem::take(&mut self.inherited);
        }
        Ok(())
    }

    fn inherit(&mut self, block: u32) {
        match self.inherited.back_mut() {
            Some(run) if run.end == block => run.end += 1,
            _ => self.inherited.push_back(block..block + 1),
        }
    }

    /// The blocks, as far as they were found, that hold data in the object itself.
    pub(crate) fn own(&self) -> &BTreeSet<u32> {
        &self.own
    }

    /// Whether space is set aside for the object, if that was looked for.
    pub(crate) fn is_set_aside(&self) -> bool {
        self.is_set_aside
    }

    /// What the blocks hold.
    pub(crate) fn found(&self) -> &BTreeMap<u32, Content> {
        &self.found
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use huntaway_wire::{ObjectKind, Vid};

    use super::*;

    fn oid(vid: u32) -> Oid {
        Oid::new(ObjectKind::Data, Vid::new(vid).unwrap(), 0)
    }

    fn stored(byte: u8) -> Stored {
        let content = Some(Block::new(Bytes::from(vec![byte; BLOCK_SIZE_BYTES as usize])));
        Stored { version: Version { pepoch: 1, seq: 1 }, content }
    }

    #[test]
    fn each_block_is_that_of_the_nearest_ancestor_that_has_one() {
        let hole = Stored { content: None, ..stored(0) };
        let mut lookup = Lookup::new([oid(3), oid(2), oid(1)].into(), Some(0..4));
        assert_eq!(lookup.next(), Some((oid(3), 0..4)));
        lookup.take(vec![stored(9), Stored::default(), hole, Stored::default()]).unwrap();
        assert_eq!(lookup.next(), Some((oid(2), 1..2)));
        lookup.take(vec![stored(8)]).unwrap();
        assert_eq!(lookup.next(), Some((oid(2), 3..4)));
        lookup.take(vec![Stored::default()]).unwrap();
        assert_eq!(lookup.next(), Some((oid(1), 3..4)));
        lookup.take(vec![Stored::default()]).unwrap();
        assert_eq!(lookup.next(), None);
        let found: Vec<Content> = lookup.found().values().cloned().collect();
        assert_eq!(found, [stored(9).content, stored(8).content, None, None]);
    }

    #[test]
    fn fewer_blocks_than_asked_for_are_not_taken_for_zeroes() {
        let mut lookup = Lookup::new([oid(1)].into(), Some(0..2));
        assert_eq!(lookup.take(vec![stored(1)]), Err(Unasked));
    }
}
