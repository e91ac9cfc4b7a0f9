//! How far the log is from its bound.

use super::{Lsn, MIN_SEGMENTS, Wal};
use crate::disk::Disk;
use crate::locking::lock;

impl<D: Disk> Wal<D> {
    /// Whether a record of so many bytes fits without the last segment that the log's bound allows, which is kept for what cannot wait.
    pub(crate) fn has_room_for(&self, bytes: u64) -> bool {
        let tail = lock(&self.tail);
        let others = self.most_segments().saturating_sub(1).max(MIN_SEGMENTS);
        tail.current.offset(self.written()) + bytes <= self.options.segment_bytes
            || (tail.full.len() as u64) + 1 < others
    }

    /// Whether it has taken more of the disk than its bound: that comes back when it is released.
    pub(crate) fn has_surplus(&self) -> bool {
        let tail = lock(&self.tail);
        (tail.full.len() + tail.free.len() + 1) as u64 > self.most_segments()
    }

    /// Where the segment begins to which records are added: with all before it released, the others are used again.
    pub(crate) fn last_base(&self) -> Lsn {
        lock(&self.tail).current.base
    }
}
