//! Space on the disk: what is free, and what of it was promised to writes that are not applied yet.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use huntaway_wire::Refusal;

use crate::disk::{Disk, Space};

/// Where the log's segments are, relative to the disk's directory, and how long their names are.
const LOG_DIRECTORY: &str = "wal";
const SEGMENT_NAME_LENGTH: usize = 16;

/// Refuses writes before the disk is full, so that what was acknowledged can be applied.
#[derive(Debug)]
pub(crate) struct Room {
    free_bytes: AtomicU64,
    total_bytes: AtomicU64,
    promised_bytes: AtomicU64,
    reserve_bytes: u64,
    log: LogSize,
}

/// How large the log may become: what it has not taken yet is not free.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogSize {
    pub(crate) bound_bytes: u64,
    pub(crate) segment_bytes: u64,
}

impl Room {
    /// Keeps `reserve_bytes` of the disk, and what the log may still take, out of all promises.
    pub(crate) fn new(reserve_bytes: u64, log: LogSize) -> Self {
        Self {
            free_bytes: AtomicU64::new(0),
            total_bytes: AtomicU64::new(0),
            promised_bytes: AtomicU64::new(0),
            reserve_bytes,
            log,
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
        match disk.space().and_then(|space| Ok((space, self.log.growth_bytes(disk)?))) {
            Ok((space, growth_bytes)) => {
                let free_bytes = space.free_bytes.saturating_sub(growth_bytes);
                self.free_bytes.store(free_bytes, Ordering::Relaxed);
                self.total_bytes.store(space.total_bytes, Ordering::Relaxed);
            }
            Err(error) => tracing::warn!(%error, "cannot find out how much space is free"),
        }
    }

    /// What the disk said last, without what the log may still take.
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
        let segments =
            disk.list(LOG_DIRECTORY)?.iter().filter(|name| name.len() == SEGMENT_NAME_LENGTH).count() as u64;
        Ok(self.bound_bytes.saturating_sub(segments * self.segment_bytes))
    }
}
