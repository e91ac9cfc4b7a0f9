//! A log at its bound on a disk that has nothing left: what can wait is put off before it is begun, so that what has begun finds room.
//!
//! The bound's last segment is for the latter, and for what replicas know. Room comes when they tell that again in the segment to
//! which records are added, and all before it is applied: [`Store::in_the_way`] says who is to, [`Store::want_room`] sees to the rest.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use huntaway_wire::{Partition, clock};

use crate::disk::Disk;
use crate::store::{Store, Task};

/// The largest write there is.
const LARGEST_BYTES: u64 = huntaway_replica::WHOLE_OBJECT_BYTES;

/// So often it is said at most that there is no room.
const SAID_AGAIN: Duration = Duration::from_secs(30);

/// Whether room is wanted, and when that was said last.
#[derive(Debug, Default)]
pub(crate) struct Tight {
    is_wanted: AtomicBool,
    /// By [`clock::now`], in milliseconds.
    said_ms: AtomicU64,
}

impl Tight {
    /// Whether somebody waits until the log is used again.
    pub(crate) fn is_wanted(&self) -> bool {
        self.is_wanted.load(Ordering::Acquire)
    }

    /// Somebody sees to it.
    pub(crate) fn take(&self) -> bool {
        self.is_wanted.swap(false, Ordering::AcqRel)
    }
}

impl<D: Disk> Store<D> {
    /// Whether the log takes so many bytes more and keeps some room for what cannot wait. A log that is at its bound takes more while
    /// the disk has space for others.
    pub fn takes_more(&self, bytes: u64) -> bool {
        self.room.has_left(self.wal.segment_bytes()) || self.wal.has_room_for(bytes.min(self.most_bytes()))
    }

    /// Whether it may not take the next write, or has what others wait for: room is to be made.
    pub fn is_tight(&self) -> bool {
        let is_full = !self.room.has_left(self.wal.segment_bytes());
        is_full && (self.wal.has_surplus() || !self.wal.has_room_for(LARGEST_BYTES.min(self.most_bytes())))
    }

    /// Of what is more, nothing is said: a segment may not hold it.
    fn most_bytes(&self) -> u64 {
        self.wal.segment_bytes() / 2
    }

    /// The partitions whose replicas are to log what they know, when the log [is tight](Self::is_tight), for it to be used again.
    pub fn in_the_way(&self) -> Vec<Partition> {
        self.trails.up_to(self.wal.last_base())
    }

    /// Has the log synced, applied and used again as soon as possible, by whoever does that.
    pub fn want_room(&self) {
        self.room.tight.is_wanted.store(true, Ordering::Release);
        self.ring(Task::Apply);
    }

    /// Nobody counts on what the partition's replica knew, and it adds nothing: the log is not needed for that.
    pub(crate) fn gives_up_knowledge(&self, partition: Partition) {
        self.trails.give_up(partition);
    }

    /// Something was put off: it counts, and is said now and then.
    pub(crate) fn put_off(&self) {
        self.metrics.put_off.inc();
        let now_ms = clock::now().as_millis().try_into().unwrap_or(u64::MAX);
        let said_ms = self.room.tight.said_ms.load(Ordering::Relaxed);
        let is_due = said_ms == 0 || now_ms - said_ms.min(now_ms) >= SAID_AGAIN.as_millis() as u64;
        let order = Ordering::Relaxed;
        if is_due && self.room.tight.said_ms.compare_exchange(said_ms, now_ms.max(1), order, order).is_ok() {
            tracing::warn!(
                disk = self.options.directory,
                log_bytes = self.wal.live_bytes(),
                "the log is at its bound and the disk is full: writes wait until some of it is applied. Free space on the disk"
            );
        }
    }
}
