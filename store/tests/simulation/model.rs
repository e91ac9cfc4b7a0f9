//! What each block may hold, by what was asked, answered and seen.

use std::collections::BTreeMap;
use std::ops::Range;

use huntaway_store::disk::Crash;
use huntaway_wire::{BLOCK_SIZE_BYTES, ByteRange, Oid};

/// Bytes that are written and checked as one: requests begin and end at multiples of it.
pub(crate) const CELL_BYTES: u32 = 512;

const CELLS: usize = (BLOCK_SIZE_BYTES / CELL_BYTES) as usize;

/// Number of the write that each cell of a block holds; 0 for zeroes.
pub(crate) type State = [u64; CELLS];

/// A block's states since its oldest that may still come back, in the order in which they were asked for.
#[derive(Debug, Clone)]
struct Block {
    states: Vec<State>,
    /// The newest acknowledged or seen: only a power loss can take it away.
    sure: usize,
    /// The newest known to be on stable storage.
    durable: usize,
    /// Since a crash nobody looked: it may be any of the states.
    unknown: bool,
}

impl Default for Block {
    fn default() -> Self {
        Self { states: vec![[0; CELLS]], sure: 0, durable: 0, unknown: false }
    }
}

/// One state of one block, by its place in the block's history.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    oid: Oid,
    block: u32,
    state: usize,
}

/// The blocks that a simulation uses.
#[derive(Debug, Default)]
pub(crate) struct Model {
    blocks: BTreeMap<(Oid, u32), Block>,
}

impl Model {
    /// A request gives the cells of `range` the content `number`. Returns the new state of each block it touches.
    pub(crate) fn change(&mut self, oid: Oid, range: ByteRange, number: u64) -> Vec<Place> {
        range
            .blocks()
            .map(|block| {
                let found = self.blocks.entry((oid, block)).or_default();
                let mut state = *found.states.last().expect("there is always one");
                state[cells(range, block)].fill(number);
                found.states.push(state);
                Place { oid, block, state: found.states.len() - 1 }
            })
            .collect()
    }

    /// The object is gone: all its known blocks are zeroes.
    pub(crate) fn remove(&mut self, oid: Oid) -> Vec<Place> {
        let blocks: Vec<u32> =
            self.blocks.range((oid, 0)..=(oid, u32::MAX)).map(|((_, block), _)| *block).collect();
        let whole = |block: u32| ByteRange::new(block * BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES);
        blocks.into_iter().filter_map(whole).flat_map(|range| self.change(oid, range, 0)).collect()
    }

    /// A request was refused, and nothing else was asked of its blocks since: it never happened.
    pub(crate) fn undo(&mut self, places: &[Place]) {
        for place in places.iter().rev() {
            let block = self.block(place);
            assert_eq!(block.states.len() - 1, place.state, "something else was asked meanwhile");
            block.states.pop();
        }
    }

    /// Whether nothing else was asked of these blocks since.
    pub(crate) fn is_newest(&self, places: &[Place]) -> bool {
        places.iter().all(|place| {
            self.blocks
                .get(&(place.oid, place.block))
                .is_some_and(|block| block.states.len() == place.state + 1)
        })
    }

    /// A request was acknowledged; `stable`: as one on stable storage.
    pub(crate) fn acknowledge(&mut self, places: &[Place], stable: bool) {
        for place in places {
            let block = self.block(place);
            block.sure = block.sure.max(place.state);
            if stable {
                block.durable = block.durable.max(place.state);
            }
        }
    }

    /// All that is acknowledged by now.
    pub(crate) fn acknowledged(&self) -> Vec<Place> {
        self.blocks.iter().map(|(&(oid, block), found)| Place { oid, block, state: found.sure }).collect()
    }

    /// The blocks as they are asked for now.
    pub(crate) fn newest(&self, oid: Oid, range: ByteRange) -> Vec<(Place, State)> {
        range
            .blocks()
            .map(|block| {
                let states =
                    self.blocks.get(&(oid, block)).map(|found| found.states.as_slice()).unwrap_or(&[]);
                let state = states.len().saturating_sub(1);
                (Place { oid, block, state }, states.last().copied().unwrap_or_default())
            })
            .collect()
    }

    /// What a read of the range must find.
    pub(crate) fn newest_bytes(&self, oid: Oid, range: ByteRange) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(range.length() as usize);
        for (place, state) in self.newest(oid, range) {
            for index in cells(range, place.block) {
                let offset = place.block * BLOCK_SIZE_BYTES + index as u32 * CELL_BYTES;
                bytes.extend_from_slice(&cell(oid, offset, state[index]));
            }
        }
        bytes
    }

    /// A read found `bytes` at `range`, where it was to find `expected`.
    pub(crate) fn check_read(
        &mut self,
        oid: Oid,
        range: ByteRange,
        expected: &[(Place, State)],
        bytes: &[u8],
    ) -> Result<(), String> {
        for (place, state) in expected {
            let found = decode(oid, range, place.block, bytes)?;
            if found != state[cells(range, place.block)] {
                return Err(format!(
                    "object {oid} block {}: read {found:?}, but the newest is {state:?}",
                    place.block
                ));
            }
            let block = self.blocks.entry((oid, place.block)).or_default();
            block.sure = block.sure.max(place.state);
        }
        Ok(())
    }

    /// The first look at a whole block after a crash: it must be one of the states that may be there, and is known then.
    pub(crate) fn check_after_crash(&mut self, oid: Oid, block: u32, bytes: &[u8]) -> Result<(), String> {
        let range =
            ByteRange::new(block * BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES).expect("the block is in the object");
        let found = decode(oid, range, block, bytes)?;
        let known = self.blocks.entry((oid, block)).or_default();
        let states = &known.states[known.sure..];
        if !states.iter().any(|state| found == *state) {
            return Err(format!(
                "object {oid} block {block}: found {found:?}, but it must be one of {states:?}"
            ));
        }
        let mut state = [0; CELLS];
        state.copy_from_slice(&found);
        *known = Block { states: vec![state], sure: 0, durable: 0, unknown: false };
        Ok(())
    }

    /// The blocks whose content a crash left open.
    pub(crate) fn unknown(&self) -> Vec<(Oid, u32)> {
        self.blocks.iter().filter(|(_, block)| block.unknown).map(|(key, _)| *key).collect()
    }

    /// A process that dies takes nothing along; a power loss leaves what was on stable storage, or anything newer.
    pub(crate) fn crash(&mut self, crash: Crash) {
        for block in self.blocks.values_mut() {
            block.states.drain(..block.durable);
            block.sure = match crash {
                Crash::Process => block.sure.max(block.durable) - block.durable,
                Crash::Power => 0,
            };
            (block.durable, block.unknown) = (0, true);
        }
    }

    fn block(&mut self, place: &Place) -> &mut Block {
        self.blocks.get_mut(&(place.oid, place.block)).expect("places are of blocks that are known")
    }
}

/// The cells of `block` that lie in `range`.
fn cells(range: ByteRange, block: u32) -> Range<usize> {
    let start = block * BLOCK_SIZE_BYTES;
    let from = range.offset().max(start) - start;
    let to = range.end().min(start + BLOCK_SIZE_BYTES) - start;
    (from / CELL_BYTES) as usize..(to / CELL_BYTES) as usize
}

/// The bytes of write `number` over `range`: each cell names the write and its own place.
pub(crate) fn content(oid: Oid, range: ByteRange, number: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(range.length() as usize);
    for offset in (range.offset()..range.end()).step_by(CELL_BYTES as usize) {
        bytes.extend_from_slice(&cell(oid, offset, number));
    }
    bytes
}

fn cell(oid: Oid, offset: u32, number: u64) -> [u8; CELL_BYTES as usize] {
    let mut bytes = [0; CELL_BYTES as usize];
    if number > 0 {
        let mut filled = 0;
        for word in [number, oid.value(), u64::from(offset), number ^ oid.value()] {
            bytes[filled..filled + 8].copy_from_slice(&word.to_le_bytes());
            filled += 8;
        }
        while filled < bytes.len() {
            bytes.copy_within(..filled, filled);
            filled *= 2;
        }
    }
    bytes
}

/// Which writes the cells of `block` hold, as far as `bytes`, read from `range`, show them.
fn decode(oid: Oid, range: ByteRange, block: u32, bytes: &[u8]) -> Result<Vec<u64>, String> {
    let first = block * BLOCK_SIZE_BYTES;
    cells(range, block)
        .map(|index| {
            let offset = first + index as u32 * CELL_BYTES;
            let found = &bytes[(offset - range.offset()) as usize..][..CELL_BYTES as usize];
            let number = found[..8].try_into().map(u64::from_le_bytes).expect("eight bytes");
            if found == cell(oid, offset, number) {
                Ok(number)
            } else {
                Err(format!("object {oid} byte {offset}: what is there was never written there"))
            }
        })
        .collect()
}
