//! Space on the disk: what is free, and what of it was promised to writes that are not applied yet.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use huntaway_wire::Refusal;

use crate::disk::{Disk, Space};
use crate::locking::lock;
use crate::replicated::Tight;
use crate::wal::Lsn;

/// Where the log's segments are, relative to the disk's directory, and how long their names are.
const LOG_DIRECTORY: &str = "wal";
const SEGMENT_NAME_LENGTH: usize = 16;

/// Refuses writes before the disk is full, so that what was acknowledged can be applied.
#[derive(Debug)]
pub(crate) struct Room {
    free_bytes: AtomicU64,
    total_bytes: AtomicU64,
    /// What of the free bytes the log does not want.
    usable_bytes: AtomicU64,
    promised_bytes: AtomicU64,
    /// Promises that were kept: they end when the disk is asked next, and says what is left.
    kept_bytes: AtomicU64,
    /// Where the log ended after the last record that gives space back, and up to where it was applied.
    freed: AtomicU64,
    freed_applied: AtomicU64,
    /// The disk did not say how much is free when it was asked last.
    is_unknown: AtomicBool,
    /// Whether the log's end is near, and nothing is left for it.
    pub(crate) tight: Tight,
    /// Held while it is asked: of two answers the older one must not come last.
    asking: Mutex<()>,
    reserve_bytes: u64,
    log: LogSize,
}

/// How large the log may become: what it has not taken yet is not free.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogSize {
    /// Most segments.
    pub(crate) segments: u64,
    pub(crate) segment_bytes: u64,
}

impl Room {
    /// Keeps `reserve_bytes` of the disk, and what the log may still take, out of all promises.
    pub(crate) fn new(reserve_bytes: u64, log: LogSize) -> Self {
        Self {
            free_bytes: AtomicU64::new(0),
            total_bytes: AtomicU64::new(0),
            usable_bytes: AtomicU64::new(0),
            promised_bytes: AtomicU64::new(0),
            kept_bytes: AtomicU64::new(0),
            freed: AtomicU64::new(0),
            freed_applied: AtomicU64::new(0),
            is_unknown: AtomicBool::new(false),
            tight: Tight::default(),
            asking: Mutex::new(()),
            reserve_bytes,
            log,
        }
    }

    /// Promises `bytes` of the disk until [`Room::keep`] or [`Room::give_back`].
    ///
    /// # Errors
    /// `NoSpace` when that much is not there.
    pub(crate) fn promise<D: Disk>(&self, disk: &D, bytes: u64) -> Result<(), Refusal> {
        self.promise_beside(disk, bytes, 0)
    }

    /// The same, if `left_bytes` can be promised beside it.
    pub(crate) fn promise_beside<D: Disk>(
        &self,
        disk: &D,
        bytes: u64,
        left_bytes: u64,
    ) -> Result<(), Refusal> {
        if bytes == 0 {
            return Ok(());
        }
        self.promised_bytes.fetch_add(bytes, Ordering::Relaxed);
        if self.missing_bytes(left_bytes) > 0 {
            self.refresh(disk);
        }
        match self.missing_bytes(left_bytes) {
            0 => Ok(()),
            needed_bytes => {
                self.give_back(bytes);
                Err(Refusal::NoSpace { needed_bytes })
            }
        }
    }

    /// Whether so much more could be promised, as far as the disk said last.
    pub(crate) fn has_left(&self, bytes: u64) -> bool {
        self.missing_bytes(bytes) == 0
    }

    /// The same, of what is kept out of promises as well.
    pub(crate) fn has_beside_promises(&self, bytes: u64) -> bool {
        let wanted = self.promised_bytes.load(Ordering::Relaxed).saturating_add(bytes);
        wanted <= self.usable_bytes.load(Ordering::Relaxed)
    }

    /// How much less there is than is promised and reserved, and `left_bytes`.
    fn missing_bytes(&self, left_bytes: u64) -> u64 {
        let promised_bytes = self.promised_bytes.load(Ordering::Relaxed);
        let wanted = promised_bytes.saturating_add(self.reserve_bytes).saturating_add(left_bytes);
        wanted.saturating_sub(self.usable_bytes.load(Ordering::Relaxed))
    }

    /// Promises `bytes` whether they are there or not: for what the log already holds.
    pub(crate) fn promise_anyway(&self, bytes: u64) {
        self.promised_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Ends a promise that was kept: the bytes were taken from the disk.
    pub(crate) fn keep(&self, bytes: u64) {
        self.kept_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Ends a promise that nobody needs any more.
    pub(crate) fn give_back(&self, bytes: u64) {
        self.promised_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Asks the disk. When it does not answer, what it said last stands.
    pub(crate) fn refresh<D: Disk>(&self, disk: &D) {
        let _asking = lock(&self.asking);
        let kept_bytes = self.kept_bytes.swap(0, Ordering::Relaxed);
        match disk.space().and_then(|space| Ok((space, self.log.growth_bytes(disk)?))) {
            Ok((space, growth_bytes)) => {
                self.free_bytes.store(space.free_bytes, Ordering::Relaxed);
                self.total_bytes.store(space.total_bytes, Ordering::Relaxed);
                let usable_bytes = space.free_bytes.saturating_sub(growth_bytes);
                self.usable_bytes.store(usable_bytes, Ordering::Relaxed);
                self.promised_bytes.fetch_sub(kept_bytes, Ordering::Relaxed);
                self.is_unknown.store(false, Ordering::Relaxed);
            }
            Err(error) => {
                self.kept_bytes.fetch_add(kept_bytes, Ordering::Relaxed);
                // it is asked each second
                if !self.is_unknown.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "cannot find out how much space is free: what was free last stands");
                }
            }
        }
    }

    /// A record that gives space back ends at `lsn`: once it is applied.
    pub(crate) fn will_free(&self, lsn: Lsn) {
        self.freed.fetch_max(lsn.0, Ordering::AcqRel);
    }

    /// What was logged before `cut` was applied, as far as it could be.
    pub(crate) fn freed(&self, cut: Lsn) {
        self.freed_applied.fetch_max(cut.0, Ordering::AcqRel);
    }

    /// Up to where it was applied, as far as that gives space back.
    pub(crate) fn applied(&self) -> Lsn {
        Lsn(self.freed_applied.load(Ordering::Acquire))
    }

    /// Where the last record ends that gives space back.
    pub(crate) fn frees(&self) -> Lsn {
        Lsn(self.freed.load(Ordering::Acquire))
    }

    /// Whether the records up to `frees` may still give space back: then whoever came after them and lacks some has to
    /// wait for that. What came later is not waited for, or there were no end to it.
    pub(crate) fn may_grow_for(&self, frees: Lsn) -> bool {
        self.freed_applied.load(Ordering::Acquire) < frees.0
    }

    /// What can be promised still, as far as the disk said last.
    pub(crate) fn available(&self) -> huntaway_wire::Space {
        let wanted = self.promised_bytes.load(Ordering::Relaxed).saturating_add(self.reserve_bytes);
        let available_bytes = self.usable_bytes.load(Ordering::Relaxed).saturating_sub(wanted);
        huntaway_wire::Space { available_bytes, total_bytes: self.total_bytes.load(Ordering::Relaxed) }
    }

    /// What the disk said last.
    pub(crate) fn space(&self) -> Space {
        Space {
            free_bytes: self.free_bytes.load(Ordering::Relaxed),
            total_bytes: self.total_bytes.load(Ordering::Relaxed),
        }
    }
}

impl LogSize {
    /// Bytes that the log has not set aside yet and may want.
    fn growth_bytes<D: Disk>(&self, disk: &D) -> io::Result<u64> {
        let names = disk.list(LOG_DIRECTORY)?;
        let segments = names.iter().filter(|name| name.len() == SEGMENT_NAME_LENGTH).count() as u64;
        Ok(self.segments.saturating_sub(segments).saturating_mul(self.segment_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Open, SimulatedDisk};

    const MIB: u64 = 1 << 20;

    #[test]
    fn what_is_promised_reserved_or_the_logs_is_not_promised_again() {
        let disk = SimulatedDisk::new(20 * MIB);
        disk.create_dir(LOG_DIRECTORY).unwrap();
        let room = Room::new(MIB, LogSize { segments: 2, segment_bytes: 4 * MIB });
        room.refresh(&disk);
        assert_eq!(room.promise(&disk, 11 * MIB), Ok(()));
        assert_eq!(room.promise(&disk, MIB), Err(Refusal::NoSpace { needed_bytes: MIB }));
        // The log takes what was kept for it.
        let segment = disk.open("wal/0000000000000001", Open::New).unwrap();
        disk.allocate(&segment, 0, 4 * MIB).unwrap();
        assert_eq!(room.promise(&disk, MIB), Err(Refusal::NoSpace { needed_bytes: MIB }));
        // What was promised is taken.
        let object = disk.open("object", Open::New).unwrap();
        disk.allocate(&object, 0, 11 * MIB).unwrap();
        room.keep(11 * MIB);
        assert_eq!(room.promise(&disk, 1), Err(Refusal::NoSpace { needed_bytes: 1 }));
        disk.remove("object").unwrap();
        drop(object);
        assert_eq!(room.promise(&disk, 11 * MIB), Ok(()));
    }
}
