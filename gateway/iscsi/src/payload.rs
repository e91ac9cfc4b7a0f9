//! Write data of one command, as slices of the buffers it was received in.

use std::ops::Range;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::crc::{PIECE_BYTES, PieceCrcs};

/// Bytes in the order of their offsets, in one or more segments; cloning and slicing copy nothing.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    segments: SmallVec<[Bytes; 2]>,
    length: usize,
    piece_crcs: PieceCrcs,
}

impl Payload {
    /// No bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Adds bytes at the end. If the last piece grows by that, its CRC is not known any more.
    pub fn push(&mut self, segment: Bytes) {
        if !segment.is_empty() {
            self.piece_crcs.truncate(self.length / PIECE_BYTES);
            self.length += segment.len();
            self.segments.push(segment);
        }
    }

    /// The segments in order, none empty.
    pub fn segments(&self) -> &[Bytes] {
        &self.segments
    }

    /// The segments in order, none empty.
    pub fn into_segments(self) -> SmallVec<[Bytes; 2]> {
        self.segments
    }

    /// The CRC32C of each [piece](PieceCrcs), from the first to the last of which it is known: where data digests are in
    /// use, the sums that were found to agree with them.
    pub fn piece_crcs(&self) -> &[u32] {
        &self.piece_crcs
    }

    /// Notes what the pieces sum up to, as far as it is known.
    pub(crate) fn set_piece_crcs(&mut self, piece_crcs: PieceCrcs) {
        self.piece_crcs = piece_crcs;
    }

    /// The first `length` bytes, or all if there are no more.
    pub fn truncated(self, length: usize) -> Self {
        if length >= self.length {
            return self;
        }
        let mut rest = self.slice(0..length);
        rest.piece_crcs = self.piece_crcs;
        rest.piece_crcs.truncate(length / PIECE_BYTES);
        rest
    }

    /// The bytes of this range, cut to what exists, without CRCs.
    pub fn slice(&self, range: Range<usize>) -> Self {
        let mut slice = Self::new();
        let mut begin = 0;
        for segment in &self.segments {
            let end = begin + segment.len();
            let from = range.start.clamp(begin, end);
            let to = range.end.clamp(from, end);
            slice.push(segment.slice(from - begin..to - begin));
            begin = end;
        }
        slice
    }

    /// Copies the first bytes into `target`, as many as both have; returns how many.
    pub fn copy_to(&self, target: &mut [u8]) -> usize {
        let mut copied = 0;
        for segment in &self.segments {
            let length = segment.len().min(target.len() - copied);
            target[copied..copied + length].copy_from_slice(&segment[..length]);
            copied += length;
        }
        copied
    }

    /// All bytes in one piece.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.length);
        for segment in &self.segments {
            bytes.extend_from_slice(segment);
        }
        bytes
    }
}

impl From<Bytes> for Payload {
    fn from(segment: Bytes) -> Self {
        let mut payload = Self::new();
        payload.push(segment);
        payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three_segments() -> Payload {
        let mut payload = Payload::new();
        for segment in ["ab", "", "cdef", "g"] {
            payload.push(Bytes::from(segment));
        }
        payload
    }

    #[test]
    fn slices_cross_segments() {
        let payload = three_segments();
        assert_eq!(payload.len(), 7);
        assert_eq!(payload.segments().len(), 3);
        for from in 0..=8 {
            for to in 0..=9 {
                let expected = b"abcdefg".get(from..to.min(7).max(from)).unwrap_or_default();
                assert_eq!(payload.slice(from..to).to_vec(), expected, "{from}..{to}");
            }
        }
    }

    #[test]
    fn copies_what_fits() {
        let mut short = [0; 3];
        assert_eq!(three_segments().copy_to(&mut short), 3);
        assert_eq!(&short, b"abc");
        let mut long = [0; 9];
        assert_eq!(three_segments().copy_to(&mut long), 7);
        assert_eq!(&long, b"abcdefg\0\0");
    }
}
