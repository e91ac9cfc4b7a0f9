//! What clients put into blocks, and how it is told apart again.
//!
//! A block has two halves, each with a number of its own at its beginning, so that a half that is written without the other
//! shows whether the other was left alone; and in the end a row of bits, which are set one at a time.

use bytes::Bytes;
use huntaway_replica::{Block, Content};
use huntaway_wire::{BLOCK_SIZE_BYTES, ByteRange};

/// Bytes of half a block.
const HALF_BYTES: u32 = BLOCK_SIZE_BYTES / 2;

/// Where the bits begin in a block, in bytes.
const BITS_AT: u32 = BLOCK_SIZE_BYTES - 64;

/// Bits of a block.
pub(crate) const BITS: u32 = 512;

/// What a client finds in a block.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Seen {
    /// The numbers of the halves; 0 for zeroes.
    pub(crate) halves: [u64; 2],
    /// The bits that are set.
    pub(crate) bits: Vec<u32>,
}

impl Seen {
    pub(crate) fn of(content: &Content) -> Self {
        let Some(block) = content else { return Self::default() };
        let number = |at: u32| {
            let bytes = block.bytes.get(at as usize..at as usize + 8);
            bytes.and_then(|bytes| bytes.try_into().ok()).map_or(u64::MAX, u64::from_le_bytes)
        };
        let row = block.bytes.get(BITS_AT as usize..).unwrap_or_default();
        let is_set = |bit: &u32| row.get(*bit as usize / 8).is_some_and(|byte| byte >> (bit % 8) & 1 == 1);
        Self { halves: [number(0), number(HALF_BYTES)], bits: (0..BITS).filter(is_set).collect() }
    }
}

/// A whole block with the number in both halves.
pub(crate) fn whole(number: u64) -> Block {
    Block::new(Bytes::from([half_bytes(number), half_bytes(number)].concat()))
}

/// Half a block with the number in it.
pub(crate) fn half(number: u64) -> Block {
    Block::new(half_bytes(number))
}

fn half_bytes(number: u64) -> Bytes {
    let mut bytes = vec![0; HALF_BYTES as usize];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Bytes::from(bytes)
}

/// One byte in which one bit is set.
pub(crate) fn one_bit(bit: u32) -> Block {
    Block::new(Bytes::from(vec![1_u8 << (bit % 8)]))
}

/// A bit of the block flips.
pub(crate) fn flip(block: Option<&mut Block>) {
    if let Some(block) = block {
        let mut bytes = block.bytes.to_vec();
        bytes[0] ^= 1;
        *block = Block { crc: block.crc, bytes: Bytes::from(bytes) };
    }
}

/// Where whole blocks lie.
pub(crate) fn range_of(block: u32, blocks: u32) -> ByteRange {
    range(block * BLOCK_SIZE_BYTES, blocks * BLOCK_SIZE_BYTES)
}

/// Where half a block lies.
pub(crate) fn range_of_half(block: u32, half: u32) -> ByteRange {
    range(block * BLOCK_SIZE_BYTES + half * HALF_BYTES, HALF_BYTES)
}

/// Where the byte with the bit lies.
pub(crate) fn range_of_bit(block: u32, bit: u32) -> ByteRange {
    range(block * BLOCK_SIZE_BYTES + BITS_AT + bit / 8, 1)
}

fn range(offset: u32, length: u32) -> ByteRange {
    ByteRange::new(offset, length).expect("clients use the first few blocks")
}
