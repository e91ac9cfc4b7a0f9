//! CRC32C of the pieces of a write: the checksum every block carries from the moment it enters the gateway.

use std::ops::Range;

use smallvec::SmallVec;

use crate::{BLOCK_SIZE_BYTES, ByteRange, Segments};

/// CRC32C of a block of zeroes, which is what was never written.
pub const ZERO_BLOCK_CRC: u32 = 0x98f9_4189;

/// Cuts `range` at the block boundaries of its object: each piece is a whole block, or a fragment at either end.
/// Pieces are byte ranges within the object.
pub fn pieces(range: ByteRange) -> impl Iterator<Item = Range<u32>> {
    range.blocks().map(move |block| {
        let start = (block * BLOCK_SIZE_BYTES).max(range.offset());
        let end = ((block + 1) * BLOCK_SIZE_BYTES).min(range.end());
        start..end
    })
}

/// The CRC32C of each piece (see [`pieces`]) of `data`, which holds the bytes of `range` in order.
/// Pieces that `data` is too short for are left out.
pub fn piece_crcs(range: ByteRange, data: &Segments) -> SmallVec<[u32; 4]> {
    let mut segments = data.iter();
    let mut segment: &[u8] = &[];
    let mut crcs = SmallVec::new();
    for piece in pieces(range) {
        let mut missing = piece.len();
        let mut crc = 0;
        while missing > 0 {
            if segment.is_empty() {
                match segments.next() {
                    Some(next) => segment = next,
                    None => return crcs,
                }
            }
            let (part, rest) = segment.split_at(missing.min(segment.len()));
            crc = crc32c::crc32c_append(crc, part);
            missing -= part.len();
            segment = rest;
        }
        crcs.push(crc);
    }
    crcs
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use smallvec::smallvec;

    use super::*;

    #[test]
    fn a_range_is_cut_at_block_boundaries() {
        let cut: Vec<_> = pieces(ByteRange::new(512, 8192).unwrap()).collect();
        assert_eq!(cut, [512..4096, 4096..8192, 8192..8704]);
    }

    #[test]
    fn the_crc_of_zeroes_is_known() {
        assert_eq!(ZERO_BLOCK_CRC, crc32c::crc32c(&[0; BLOCK_SIZE_BYTES as usize]));
    }

    #[test]
    fn each_piece_has_its_own_crc_however_the_data_is_segmented() {
        let range = ByteRange::new(4000, 5000).unwrap();
        let bytes: Vec<u8> = (0..5000u32).map(|i| (i * 7 % 251) as u8).collect();
        let segments: Segments = smallvec![
            Bytes::copy_from_slice(&bytes[..50]),
            Bytes::new(),
            Bytes::copy_from_slice(&bytes[50..])
        ];
        let expected: Vec<u32> = [0..96, 96..4192, 4192..5000].map(|r| crc32c::crc32c(&bytes[r])).to_vec();
        assert_eq!(piece_crcs(range, &segments).to_vec(), expected);
    }
}
