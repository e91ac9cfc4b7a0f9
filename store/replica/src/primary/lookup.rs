//! What blocks hold before a request changes them, or for a read: asked of the store run by run.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use huntaway_wire::{BLOCK_SIZE_BYTES, Oid};

use crate::record::{Block, Content, Stored};

/// A search for the content of blocks.
#[derive(Debug, Default)]
pub(crate) struct Lookup {
    oid: Option<Oid>,
    /// Runs that are still to be read; the first one is being read.
    wanted: VecDeque<Range<u32>>,
    found: BTreeMap<u32, Content>,
}

/// The store answered with something else than whole blocks, as many as it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unasked;

impl Lookup {
    pub(crate) fn new(oid: Oid, wanted: impl IntoIterator<Item = Range<u32>>) -> Self {
        Self { oid: Some(oid), wanted: wanted.into_iter().collect(), found: BTreeMap::new() }
    }

    /// What to read next; `None` when everything was found.
    pub(crate) fn next(&self) -> Option<(Oid, Range<u32>)> {
        Some((self.oid?, self.wanted.front()?.clone()))
    }

    /// Takes in what was read. What was never written reads as zeroes.
    pub(crate) fn take(&mut self, stored: Vec<Stored>) -> Result<(), Unasked> {
        let blocks = self.wanted.pop_front().filter(|blocks| blocks.len() == stored.len()).ok_or(Unasked)?;
        let is_whole = |block: &Block| block.bytes.len() == BLOCK_SIZE_BYTES as usize;
        if !stored.iter().filter_map(|stored| stored.content.as_ref()).all(is_whole) {
            return Err(Unasked);
        }
        self.found.extend(blocks.zip(stored.into_iter().map(|stored| stored.content)));
        Ok(())
    }

    /// What the blocks hold, in order.
    pub(crate) fn found(&self) -> &BTreeMap<u32, Content> {
        &self.found
    }
}
