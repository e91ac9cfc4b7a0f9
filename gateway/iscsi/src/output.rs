//! The bytes a connection has to send: one contiguous buffer whose memory stays initialised.
//!
//! A plain growable buffer would zero the area of every Data-In before the caller fills it. This one zeroes
//! its memory once, when it grows, and hands the same bytes out again.

use std::ops::{Deref, Range};

use bytes::Buf;

/// Bytes to send, taken from the front with [`Buf::advance`] and laid out at the back by the connection.
#[derive(Debug, Default)]
pub struct OutputBuffer {
    memory: Vec<u8>,
    start: usize,
    end: usize,
    taken: u64,
}

impl OutputBuffer {
    /// Bytes taken since the connection began: how far the peer's TCP came.
    pub fn taken_total(&self) -> u64 {
        self.taken
    }

    /// Adds `length` bytes of any content; returns where they begin.
    pub(crate) fn grow(&mut self, length: usize) -> usize {
        let used = self.end - self.start;
        if self.end + length > self.memory.len() {
            // Moving is worth it only if it frees at least what it costs.
            if self.start >= used {
                self.memory.copy_within(self.start..self.end, 0);
                self.start = 0;
                self.end = used;
            }
            let needed = self.end + length;
            if needed > self.memory.len() {
                self.memory.resize(needed.max(self.memory.len() * 2), 0);
            }
        }
        let begin = self.end;
        self.end += length;
        begin
    }

    /// Laid out bytes, by position.
    pub(crate) fn range_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        &mut self.memory[range]
    }

    /// Forgets what was laid out at `position` and behind.
    pub(crate) fn truncate(&mut self, position: usize) {
        self.end = self.end.min(position).max(self.start);
    }

    /// Forgets everything that was not taken.
    pub(crate) fn clear(&mut self) {
        self.truncate(self.start);
    }

    /// Gives memory back if nothing is to be sent and more than `limit` bytes are kept.
    pub(crate) fn trim(&mut self, limit: usize) {
        if self.is_empty() && self.memory.len() > limit {
            *self = Self { taken: self.taken, ..Self::default() };
        }
    }
}

impl Deref for OutputBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.end]
    }
}

impl Buf for OutputBuffer {
    fn remaining(&self) -> usize {
        self.end - self.start
    }

    fn chunk(&self) -> &[u8] {
        self
    }

    fn advance(&mut self, count: usize) {
        assert!(count <= self.remaining(), "advance past the end of the output");
        self.start += count;
        self.taken += count as u64;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl OutputBuffer {
        fn extend(&mut self, bytes: &[u8]) {
            let begin = self.grow(bytes.len());
            self.range_mut(begin..begin + bytes.len()).copy_from_slice(bytes);
        }
    }

    #[test]
    fn bytes_come_out_in_order_whatever_is_taken_meanwhile() {
        let mut output = OutputBuffer::default();
        let mut expected = std::collections::VecDeque::new();
        for round in 0..200u8 {
            let bytes = vec![round; usize::from(round % 13) + 1];
            output.extend(&bytes);
            expected.extend(bytes);
            let taken = output.len() * usize::from(round % 5) / 5;
            assert!(output[..taken].iter().eq(expected.iter().take(taken)));
            output.advance(taken);
            expected.drain(..taken);
        }
        assert!(output.iter().eq(expected.iter()));
        assert!(output.memory.len() < 4096);
    }

    #[test]
    fn truncation_forgets_the_tail_only() {
        let mut output = OutputBuffer::default();
        output.extend(b"kept");
        let begin = output.grow(10);
        output.truncate(begin);
        assert_eq!(&output[..], b"kept");
    }

    #[test]
    fn an_idle_buffer_gives_its_memory_back() {
        let mut output = OutputBuffer::default();
        output.grow(1000);
        output.trim(100);
        assert_eq!(output.len(), 1000, "not while bytes wait");
        output.advance(1000);
        output.trim(100);
        assert_eq!(output.memory.capacity(), 0);
        assert_eq!(output.taken_total(), 1000);
    }
}
