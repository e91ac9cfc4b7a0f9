//! Self-describing blocks: each says which block, write and run it belongs to, and carries a checksum of itself.
//!
//! ```text
//! | magic 8 | seed 8 | LBA 8 | generation 4 | zeroes 4 | filling, no two blocks alike | CRC32C of all before 4 |
//! ```
//! Numbers are little-endian.

use std::fmt;
use std::sync::LazyLock;

const MAGIC: u64 = 0x6b6c_622d_6177_7568;
const HEAD_BYTES: usize = 32;
const CRC_BYTES: usize = 4;
/// Shortest block that can describe itself.
pub(super) const MIN_BLOCK_BYTES: u32 = (HEAD_BYTES + CRC_BYTES) as u32;
/// Longest block that there is filling for.
pub(super) const MAX_BLOCK_BYTES: u32 = 4096;
const FILLING_BYTES: usize = 1 << 20;

static FILLING: LazyLock<Vec<u8>> = LazyLock::new(|| noise(FILLING_BYTES + MAX_BLOCK_BYTES as usize));

/// Bytes that do not repeat, and are the same in each run. `length` is a multiple of 8.
pub(super) fn noise(length: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252u64;
    let words = (0..length / 8).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.collect()
}

/// What a block says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Tells this run's blocks from those of others.
    pub(super) seed: u64,
    pub(super) lba: u64,
    /// Number of the write, counted for each place; from 1.
    pub(super) generation: u32,
}

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Zeroes,
    /// Nothing that was ever stamped.
    Foreign,
    /// Its checksum is wrong; what its head says may be so, too.
    Damaged(Stamp),
    Intact(Stamp),
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zeroes => write!(f, "zeroes"),
            Self::Foreign => write!(f, "something foreign"),
            Self::Damaged(Stamp { generation, lba, .. }) => {
                write!(f, "a damaged block that may be generation {generation} of LBA {lba}")
            }
            Self::Intact(Stamp { generation, lba, .. }) => write!(f, "generation {generation} of LBA {lba}"),
        }
    }
}

impl Stamp {
    /// Fills a block with what this write of it must hold.
    pub(super) fn fill(&self, block: &mut [u8]) {
        let end = block.len() - CRC_BYTES;
        let begin =
            (self.lba.wrapping_mul(64).wrapping_add(u64::from(self.generation) * 8)) as usize % FILLING_BYTES;
        block[HEAD_BYTES..end].copy_from_slice(&FILLING[begin..begin + end - HEAD_BYTES]);
        block[..8].copy_from_slice(&MAGIC.to_le_bytes());
        block[8..16].copy_from_slice(&self.seed.to_le_bytes());
        block[16..24].copy_from_slice(&self.lba.to_le_bytes());
        block[24..HEAD_BYTES].copy_from_slice(&u64::from(self.generation).to_le_bytes());
        let crc = crc32c::crc32c(&block[..end]);
        block[end..].copy_from_slice(&crc.to_le_bytes());
    }
}

impl Content {
    /// What is in a block.
    pub(super) fn of(block: &[u8]) -> Self {
        let word = |at: usize| block[at..at + 8].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        if word(0) != MAGIC {
            return if block.iter().all(|byte| *byte == 0) { Self::Zeroes } else { Self::Foreign };
        }
        let stamp = Stamp { seed: word(8), lba: word(16), generation: word(24) as u32 };
        let intact = block
            .split_last_chunk::<CRC_BYTES>()
            .is_some_and(|(covered, crc)| crc32c::crc32c(covered).to_le_bytes() == *crc);
        if intact { Self::Intact(stamp) } else { Self::Damaged(stamp) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { seed: 7, lba: 123_456, generation: 9 };

    #[test]
    fn a_block_is_what_it_was_stamped_as_and_nothing_else() {
        for length in [512, 4096] {
            let mut block = vec![0xff; length];
            assert_eq!(Content::of(&block), Content::Foreign);
            STAMP.fill(&mut block);
            assert_eq!(Content::of(&block), Content::Intact(STAMP));
            for at in [40, length / 2, length - 1] {
                block[at] ^= 1;
                assert_eq!(Content::of(&block), Content::Damaged(STAMP), "byte {at}");
                block[at] ^= 1;
            }
            block.fill(0);
            assert_eq!(Content::of(&block), Content::Zeroes);
        }
    }

    #[test]
    fn no_two_blocks_are_alike() {
        let mut one = vec![0; 512];
        let mut other = vec![0; 512];
        STAMP.fill(&mut one);
        Stamp { generation: 10, ..STAMP }.fill(&mut other);
        let same = one.iter().zip(&other).filter(|(a, b)| a == b).count();
        assert!(same < 64, "{same} bytes are the same");
    }
}
