//! What a command comes to, given what its blocks hold: results only, so that whoever logs them has the same.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use bytes::Bytes;
use huntaway_wire::{
    BLOCK_SIZE_BYTES, BLOCKS_PER_OBJECT, ByteRange, Durability, MappedRun, Oid, Provisioning, pieces,
};
use smallvec::SmallVec;

use super::lookup::Lookup;
use crate::event::{Command, Refused};
use crate::order::Access;
use crate::planted::PlantedBug;
use crate::record::{Block, Change, Completion, Content, SET_ASIDE_BLOCK};
use crate::replica::is_change;
use crate::room::Cost;
use crate::site::Site;

/// Blocks that a lock on a whole object covers.
pub(crate) const WHOLE_OBJECT: Range<u32> = 0..BLOCKS_PER_OBJECT;

/// What tells whether space is set aside for an object.
pub(crate) const SET_ASIDE: Range<u32> = SET_ASIDE_BLOCK..SET_ASIDE_BLOCK + 1;

/// A search for what the command has to know, and for what its blocks hold already.
pub(crate) fn lookup_of_all(site: &Site, command: &Command) -> Lookup {
    let Some((_, _, blocks)) = extent(command) else { return Lookup::default() };
    let blocks = (!matches!(command, Command::Reserve { .. })).then_some(blocks);
    Lookup::new(lineage(site, command), blocks.into_iter().chain([SET_ASIDE]))
}

/// A search for what the command has to know, and for whether space is set aside.
pub(crate) fn lookup_of_space(site: &Site, command: &Command) -> Lookup {
    Lookup::new(lineage(site, command), wanted(command).into_iter().chain([SET_ASIDE]))
}

/// A search for what the command has to know.
pub(crate) fn lookup(site: &Site, command: &Command) -> Lookup {
    Lookup::new(lineage(site, command), wanted(command))
}

/// Where the command looks: in its object, and in those that it inherits from.
fn lineage(site: &Site, command: &Command) -> VecDeque<Oid> {
    let Some((_, oid, _)) = extent(command) else { return VecDeque::new() };
    let inherits_nothing = if is_change(command) {
        site.has(PlantedBug::MergedWithoutAncestors)
    } else if matches!(command, Command::Map { .. }) {
        site.has(PlantedBug::MappedWithoutAncestors)
    } else {
        site.has(PlantedBug::InheritedReadAsZeroes)
    };
    let mut lineage = site.configuration.vdis.lineage(oid.vid());
    lineage.truncate(if inherits_nothing { 1 } else { lineage.len() });
    lineage.into_iter().map(|vid| Oid::new(oid.kind(), vid, oid.index())).collect()
}

/// What a command does to which blocks; `None` for a flush.
pub(crate) fn extent(command: &Command) -> Option<(Access, Oid, Range<u32>)> {
    match command {
        Command::Read { oid, blocks } | Command::Map { oid, blocks } => {
            Some((Access::Read, *oid, blocks.clone()))
        }
        Command::Write { oid, range, .. }
        | Command::CompareAndWrite { oid, range, .. }
        | Command::Or { oid, range, .. }
        | Command::Discard { oid, range, .. } => Some((Access::Write, *oid, range.blocks())),
        Command::Remove { oid, .. } | Command::Reserve { oid, .. } => {
            Some((Access::Write, *oid, WHOLE_OBJECT))
        }
        Command::Flush => None,
    }
}

/// When a command that changes something counts as done.
pub(crate) fn durability(command: &Command) -> Durability {
    match command {
        Command::Write { durability, .. }
        | Command::CompareAndWrite { durability, .. }
        | Command::Or { durability, .. }
        | Command::Discard { durability, .. }
        | Command::Reserve { durability, .. }
        | Command::Remove { durability, .. } => *durability,
        Command::Read { .. } | Command::Map { .. } | Command::Flush => Durability::Logged,
    }
}

/// What a change takes of each replica, at most; `None` if it is none. What is left of a block that is discarded in part is
/// written, as data is.
pub(crate) fn cost(command: &Command) -> Option<Cost> {
    let (access, _, blocks) = extent(command)?;
    if matches!(command, Command::Reserve { .. }) {
        return Some(Cost::of_whole_object());
    }
    let data_blocks = match command {
        Command::Discard { range, .. } => pieces(*range).filter(is_fragment).count(),
        Command::Remove { .. } => 0,
        _ => blocks.len(),
    };
    (access == Access::Write).then_some(Cost::new(blocks.len(), data_blocks))
}

/// Whether what is expected, and the data, are what their checksums say.
pub(crate) fn is_sound(command: &Command) -> bool {
    match command {
        Command::CompareAndWrite { expected, .. } if !expected.is_sound() => false,
        Command::Write { pieces, .. }
        | Command::CompareAndWrite { pieces, .. }
        | Command::Or { pieces, .. } => pieces.iter().all(Block::is_sound),
        Command::Read { .. }
        | Command::Map { .. }
        | Command::Discard { .. }
        | Command::Reserve { .. }
        | Command::Remove { .. }
        | Command::Flush => true,
    }
}

/// The blocks whose content has to be known to carry the command out.
fn wanted(command: &Command) -> SmallVec<[Range<u32>; 2]> {
    match command {
        Command::Read { blocks, .. } => SmallVec::from_iter([blocks.clone()]),
        Command::Map { blocks, .. } => SmallVec::from_iter([blocks.clone(), SET_ASIDE]),
        Command::Reserve { .. } => SmallVec::from_iter([SET_ASIDE]),
        Command::CompareAndWrite { range, .. } | Command::Or { range, .. } => {
            SmallVec::from_iter([range.blocks()])
        }
        Command::Write { range, .. } | Command::Discard { range, .. } => {
            let fragments = pieces(*range).filter(is_fragment).map(|piece| block_of(&piece));
            fragments.map(|block| block..block + 1).collect()
        }
        Command::Remove { .. } | Command::Flush => SmallVec::new(),
    }
}

/// What the command, whose data [`is_sound`], comes to in a VDI that `inherits`, or not. `old` holds, of what is [`wanted`],
/// what was found, verified.
pub(crate) fn outcome(
    command: &Command,
    old: &BTreeMap<u32, Content>,
    inherits: bool,
) -> Result<(Change, Completion), Refused> {
    let change = match command {
        Command::Write { range, pieces, .. } => write(*range, pieces, old, true)?,
        Command::Or { range, pieces, .. } => write(*range, pieces, old, false)?,
        Command::CompareAndWrite { range, expected, pieces, .. } => {
            let change = write(*range, pieces, old, true)?;
            if expected.bytes.len() != range.length() as usize {
                return Err(Refused::Unsound);
            }
            if let Some(offset) = first_difference(*range, &expected.bytes, old) {
                return Ok((Change::Nothing, Completion::Miscompare { offset }));
            }
            change
        }
        Command::Discard { range, .. } => {
            let blocks = pieces(*range).map(|piece| discarded(&piece, old)).collect();
            Change::Write { first_block: range.blocks().start, blocks }
        }
        // What it inherits would come to light.
        Command::Remove { .. } if inherits => {
            Change::Write { first_block: 0, blocks: vec![None; WHOLE_OBJECT.len()] }
        }
        Command::Remove { .. } => Change::Remove,
        Command::Reserve { .. } => Change::Reserve,
        Command::Read { .. } | Command::Map { .. } | Command::Flush => Change::Nothing,
    };
    Ok((change, Completion::Done))
}

/// Which blocks hold data, by what they hold, or have space set aside.
pub(crate) fn map(blocks: &BTreeMap<u32, Content>, is_set_aside: bool) -> Vec<MappedRun> {
    let mut runs: Vec<MappedRun> = Vec::new();
    for (block, content) in blocks {
        let is_data = content.is_some() || is_set_aside;
        let provisioning = if is_data { Provisioning::Mapped } else { Provisioning::Deallocated };
        match runs.last_mut() {
            Some(run) if run.provisioning == provisioning => run.blocks += 1,
            _ => runs.push(MappedRun { first_block: *block, blocks: 1, provisioning }),
        }
    }
    runs
}

/// The blocks of `range` with the data in them, in place of what was there (`replaces`), or with the bits of both. A block that is
/// replaced as a whole keeps the checksum that it came with; one that is merged gets another.
fn write(
    range: ByteRange,
    data: &[Block],
    old: &BTreeMap<u32, Content>,
    replaces: bool,
) -> Result<Change, Refused> {
    if data.len() != range.blocks().len() {
        return Err(Refused::Unsound);
    }
    let mut blocks = Vec::with_capacity(data.len());
    for (piece, new) in pieces(range).zip(data) {
        let is_whole = !is_fragment(&piece);
        let old = old.get(&block_of(&piece));
        if new.bytes.len() != piece.len() {
            return Err(Refused::Unsound);
        }
        blocks.push(Some(match old {
            // Whatever was there: it keeps the checksum that it came with.
            _ if is_whole && replaces => new.clone(),
            Some(old) => {
                let mut bytes = bytes_of(old);
                let into = &mut bytes[within_block(&piece)];
                if replaces {
                    into.copy_from_slice(&new.bytes);
                } else {
                    into.iter_mut().zip(&new.bytes).for_each(|(byte, new)| *byte |= new);
                }
                Block::new(Bytes::from(bytes))
            }
            // What is missing is not zeroes.
            None => return Err(Refused::NotServing),
        }));
    }
    Ok(Change::Write { first_block: range.blocks().start, blocks })
}

/// What is left of a block that `piece` is discarded of: a hole if that is nothing but zeroes.
fn discarded(piece: &Range<u32>, old: &BTreeMap<u32, Content>) -> Content {
    let old = old.get(&block_of(piece))?;
    let mut bytes = bytes_of(old);
    bytes[within_block(piece)].fill(0);
    bytes.iter().any(|byte| *byte != 0).then(|| Block::new(Bytes::from(bytes)))
}

/// Where the range first holds something else than `expected`, counted from the range's beginning.
fn first_difference(range: ByteRange, expected: &Bytes, old: &BTreeMap<u32, Content>) -> Option<u32> {
    let found = pieces(range).flat_map(|piece| {
        let bytes = old.get(&block_of(&piece)).map_or_else(zeroes, bytes_of);
        bytes[within_block(&piece)].to_vec()
    });
    found.zip(expected).position(|(found, expected)| found != *expected).map(|place| place as u32)
}

fn zeroes() -> Vec<u8> {
    vec![0; BLOCK_SIZE_BYTES as usize]
}

fn bytes_of(content: &Content) -> Vec<u8> {
    let mut bytes = content.as_ref().map_or_else(Vec::new, |block| block.bytes.to_vec());
    bytes.resize(BLOCK_SIZE_BYTES as usize, 0);
    bytes
}

fn is_fragment(piece: &Range<u32>) -> bool {
    piece.len() < BLOCK_SIZE_BYTES as usize
}

fn block_of(piece: &Range<u32>) -> u32 {
    piece.start / BLOCK_SIZE_BYTES
}

fn within_block(piece: &Range<u32>) -> Range<usize> {
    let start = (piece.start % BLOCK_SIZE_BYTES) as usize;
    start..start + piece.len()
}

#[cfg(test)]
mod tests;
