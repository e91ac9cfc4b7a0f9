//! The bytes that writes leave: each write of a run has a number, and each cell names the write and its own place.

use std::collections::BTreeMap;
use std::ops::Range;

use huntaway_wire::{BLOCK_SIZE_BYTES, ByteRange, Oid};

/// Bytes that are written and checked as one: requests begin and end at multiples of it.
pub(crate) const CELL_BYTES: u32 = 512;

/// Cells of a block.
pub(crate) const CELLS: usize = (BLOCK_SIZE_BYTES / CELL_BYTES) as usize;

/// Numbers from here on stand for what ORWRITE made of two others.
const FIRST_JOINED: u64 = 1 << 40;

/// Number of the write that each cell of a block holds; 0 for zeroes.
pub(crate) type State = [u64; CELLS];

type Cell = [u8; CELL_BYTES as usize];

/// What the numbers of ORWRITEs stand for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Joined(BTreeMap<u64, (u64, u64)>);

impl Joined {
    /// The number of what there is when the bits of write `mask` are set in a cell that held `old`.
    pub(crate) fn join(&mut self, old: u64, mask: u64) -> u64 {
        if old == 0 {
            return mask;
        }
        let number = FIRST_JOINED + self.0.len() as u64;
        self.0.insert(number, (old, mask));
        number
    }

    /// The bytes of a cell that begins at byte `offset` of the object.
    pub(crate) fn cell(&self, oid: Oid, offset: u32, number: u64) -> Cell {
        let Some((old, mask)) = self.0.get(&number) else { return cell(oid, offset, number) };
        let mut bytes = self.cell(oid, offset, *old);
        bytes.iter_mut().zip(cell(oid, offset, *mask)).for_each(|(byte, more)| *byte |= more);
        bytes
    }

    /// Whether `bytes`, read from `range`, are what `state` says of `block`.
    pub(crate) fn matches(
        &self,
        oid: Oid,
        range: ByteRange,
        block: u32,
        state: &State,
        bytes: &[u8],
    ) -> bool {
        cells(range, block).all(|index| {
            let offset = block * BLOCK_SIZE_BYTES + index as u32 * CELL_BYTES;
            found(range, offset, bytes) == self.cell(oid, offset, state[index])
        })
    }
}

/// The cells of `block` that lie in `range`.
pub(crate) fn cells(range: ByteRange, block: u32) -> Range<usize> {
    let start = block * BLOCK_SIZE_BYTES;
    let from = range.offset().max(start) - start;
    let to = range.end().min(start + BLOCK_SIZE_BYTES) - start;
    (from / CELL_BYTES) as usize..(to / CELL_BYTES) as usize
}

/// The bytes of write `number` over `range`.
pub(crate) fn content(oid: Oid, range: ByteRange, number: u64) -> Vec<u8> {
    let offsets = (range.offset()..range.end()).step_by(CELL_BYTES as usize);
    offsets.flat_map(|offset| cell(oid, offset, number)).collect()
}

/// Which writes the cells of `block` seem to hold, in words.
pub(crate) fn tell(oid: Oid, range: ByteRange, block: u32, bytes: &[u8]) -> String {
    let told = cells(range, block).map(|index| {
        let offset = block * BLOCK_SIZE_BYTES + index as u32 * CELL_BYTES;
        let found = found(range, offset, bytes);
        let number = found[..8].try_into().map(u64::from_le_bytes).expect("eight bytes");
        if *found == cell(oid, offset, number) { number.to_string() } else { "what nobody wrote".into() }
    });
    told.collect::<Vec<_>>().join(", ")
}

fn found(range: ByteRange, offset: u32, bytes: &[u8]) -> &[u8] {
    &bytes[(offset - range.offset()) as usize..][..CELL_BYTES as usize]
}

fn cell(oid: Oid, offset: u32, number: u64) -> Cell {
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
