//! What each block may hold, by what was asked, answered and seen.

use std::collections::BTreeMap;

use huntaway_store::disk::Crash;
use huntaway_wire::{BLOCK_SIZE_BYTES, ByteRange, Oid};

use crate::cells::{CELL_BYTES, CELLS, Joined, State, cells, tell};

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
    /// It could not be read, because something was damaged: only a write of all of it makes it good.
    lost: bool,
    /// All states it ever had.
    history: Vec<State>,
}

impl Default for Block {
    fn default() -> Self {
        let states = vec![[0; CELLS]];
        Self { history: states.clone(), states, sure: 0, durable: 0, unknown: false, lost: false }
    }
}

/// One state of one block, by its place in the block's history.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    oid: Oid,
    block: u32,
    state: usize,
    /// The request was about all of the block.
    is_whole: bool,
}

/// The blocks that a simulation uses.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    blocks: BTreeMap<(Oid, u32), Block>,
    joined: Joined,
}

impl Model {
    /// A request gives the cells of `range` the content `number`. Returns the new state of each block it touches.
    pub(crate) fn change(&mut self, oid: Oid, range: ByteRange, number: u64) -> Vec<Place> {
        range.blocks().map(|block| self.add(oid, range, block, |_, _| number)).collect()
    }

    /// As [`Model::change`], but the bits of `number` are set in what is there.
    pub(crate) fn or(&mut self, oid: Oid, range: ByteRange, number: u64) -> Vec<Place> {
        range
            .blocks()
            .map(|block| self.add(oid, range, block, |joined, old| joined.join(old, number)))
            .collect()
    }

    fn add(
        &mut self,
        oid: Oid,
        range: ByteRange,
        block: u32,
        new: impl Fn(&mut Joined, u64) -> u64,
    ) -> Place {
        let found = self.blocks.entry((oid, block)).or_default();
        let mut state = *found.states.last().expect("there is always one");
        let cells = cells(range, block);
        let is_whole = cells.len() == CELLS;
        state[cells].iter_mut().for_each(|cell| *cell = new(&mut self.joined, *cell));
        found.states.push(state);
        found.history.push(state);
        Place { oid, block, state: found.states.len() - 1, is_whole }
    }

    /// The object is gone: all its known blocks are zeroes.
    pub(crate) fn remove(&mut self, oid: Oid) -> Vec<Place> {
        let blocks: Vec<u32> =
            self.blocks.range((oid, 0)..=(oid, u32::MAX)).map(|((_, block), _)| *block).collect();
        blocks.into_iter().map(whole).flat_map(|range| self.change(oid, range, 0)).collect()
    }

    /// A request was refused, and nothing else was asked of its blocks since: it never happened.
    pub(crate) fn undo(&mut self, places: &[Place]) {
        for place in places.iter().rev() {
            let block = self.block(place);
            assert_eq!(block.states.len() - 1, place.state, "something else was asked meanwhile");
            block.states.pop();
            block.history.pop();
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
    pub(crate) fn acknowledge(&mut self, places: &[Place], stable: bool) -> Result<(), String> {
        for place in places {
            let block = self.block(place);
            if block.lost && !place.is_whole {
                return Err(format!("{place:?} was merged into a block that cannot be read"));
            }
            block.lost = false;
            block.sure = block.sure.max(place.state);
            if stable {
                block.durable = block.durable.max(place.state);
            }
        }
        Ok(())
    }

    /// All that is acknowledged by now is on stable storage, as a flush says that was asked for when `acknowledged` was.
    pub(crate) fn flushed(&mut self, acknowledged: &[Place]) {
        for place in acknowledged {
            let block = self.block(place);
            block.durable = block.durable.max(place.state);
        }
    }

    /// All that is acknowledged by now.
    pub(crate) fn acknowledged(&self) -> Vec<Place> {
        let place = |(&(oid, block), found): (&(Oid, u32), &Block)| Place {
            oid,
            block,
            state: found.sure,
            is_whole: true,
        };
        self.blocks.iter().map(place).collect()
    }

    /// The blocks as they are asked for now.
    pub(crate) fn newest(&self, oid: Oid, range: ByteRange) -> Vec<(Place, State)> {
        range
            .blocks()
            .map(|block| {
                let states =
                    self.blocks.get(&(oid, block)).map(|found| found.states.as_slice()).unwrap_or(&[]);
                let state = states.len().saturating_sub(1);
                let place = Place { oid, block, state, is_whole: true };
                (place, states.last().copied().unwrap_or_default())
            })
            .collect()
    }

    /// What a read of the range must find.
    pub(crate) fn newest_bytes(&self, oid: Oid, range: ByteRange) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(range.length() as usize);
        for (place, state) in self.newest(oid, range) {
            for index in cells(range, place.block) {
                let offset = place.block * BLOCK_SIZE_BYTES + index as u32 * CELL_BYTES;
                bytes.extend_from_slice(&self.joined.cell(oid, offset, state[index]));
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
            let block = self.blocks.entry((oid, place.block)).or_default();
            let matches = |state: &State| self.joined.matches(oid, range, place.block, state, bytes);
            let is_right = matches(state) || (block.lost && block.states.iter().any(matches));
            if !is_right {
                let found = tell(oid, range, place.block, bytes);
                return Err(format!(
                    "object {oid} block {}: read {found}, but the newest is {state:?}",
                    place.block
                ));
            }
            block.sure = block.sure.max(place.state);
        }
        Ok(())
    }

    /// The first look at a whole block after a crash: it must be one of the states that may be there, and is known then.
    /// `is_stale`: an earlier state of its file was put back, and nothing on the disk tells: it may be any it ever had.
    pub(crate) fn check_after_crash(
        &mut self,
        oid: Oid,
        block: u32,
        is_stale: bool,
        bytes: &[u8],
    ) -> Result<(), String> {
        let known = self.blocks.entry((oid, block)).or_default();
        let states = if is_stale { &known.history[..] } else { &known.states[known.sure..] };
        let matches = |state: &&State| self.joined.matches(oid, whole(block), block, state, bytes);
        let Some(state) = states.iter().find(matches).copied() else {
            let found = tell(oid, whole(block), block, bytes);
            return Err(format!(
                "object {oid} block {block}: found {found}, but it must be one of {states:?}"
            ));
        };
        let history = std::mem::take(&mut known.history);
        *known = Block { states: vec![state], history, ..Block::default() };
        Ok(())
    }

    /// A block cannot be read because of damage: what it holds is open until all of it is written.
    pub(crate) fn lose(&mut self, oid: Oid, block: u32) {
        self.blocks.entry((oid, block)).or_default().lost = true;
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

/// All of a block.
pub(crate) fn whole(block: u32) -> ByteRange {
    ByteRange::new(block * BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES).expect("the block is in the object")
}
