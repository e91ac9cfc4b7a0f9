//! Space on the disk: what is free, and what of it was promised to writes that are not applied yet.

use std::sync::atomic::{AtomicU64, Ordering};

use huntaway_wire::Refusal;

use crate::disk::{Disk, Space};

/// Refuses writes before the disk is full, so that what was acknowledged can be applied.
#[derive(Debug)]
pub(crate) struct Room {
    free_bytes: AtomicU64,
    total_bytes: AtomicU64,
    promised_bytes: AtomicU64,
    reserve_bytes: u64,
}

impl Room {
    /// Keeps `reserve_bytes` of the disk out of all promises.
    pub(crate) fn new(reserve_bytes: u64) -> Self {
        Self {
            free_bytes: AtomicU64::new(0),
            total_bytes: AtomicU64::new(0),
            promised_bytes: AtomicU64::new(0),
            reserve_bytes,
        }
    }

    /// Promises `bytes`, to be given back once they are taken from the disk.
    pub(crate) fn promise<D: Disk>(&self, disk: &D, bytes: u64) -> Result<(), Refusal> {
        if bytes == 0 {
            return Ok(());
        }
        let wanted = self.promised_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes + self.reserve_bytes;
        if self.free_bytes.load(Ordering::Relaxed) >= wanted {
            return Ok(());
        }
        self.refresh(disk);
        let free = self.free_bytes.load(Ordering::Relaxed);
        if free >= wanted {
            return Ok(());
        }
        self.give_back(bytes);
        Err(Refusal::NoSpace { needed_bytes: wanted - free })
    }

    /// Promises `bytes` whether they are there or not: for what the log already holds.
    pub(crate) fn promise_anyway(&self, bytes: u64) {
        self.promised_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Ends a promise.
    pub(crate) fn give_back(&self, bytes: u64) {
        self.promised_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Asks the disk. When it does not answer, what it said last stands.
    pub(crate) fn refresh<D: Disk>(&self, disk: &D) {
        match disk.space() {
            Ok(space) => {
                self.free_bytes.store(space.free_bytes, Ordering::Relaxed);
                self.total_bytes.store(space.total_bytes, Ordering::Relaxed);
            }
            Err(error) => tracing::warn!(%error, "cannot find out how much space is free"),
        }
    }

    /// What the disk said last.
    pub(crate) fn space(&self) -> Space {
        Space {
            free_bytes: self.free_bytes.load(Ordering::Relaxed),
            total_bytes: self.total_bytes.load(Ordering::Relaxed),
        }
    }
}
