//! A disk at whose reads, writes and syncs a test does something else: what other threads might do at that moment, but in one
//! thread and at the same moment each time.
//!
//! Another thread would wait for locks that the store holds at that moment; the same thread would wait for itself. So a hook
//! makes requests only when none is held that they need: at syncs, and at writes to object files. While a record is written
//! the log is locked, and its partition; while a request reads, its partition may be.

use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex};

use crate::Store;
use crate::disk::{Disk, Open, SimulatedDisk, SimulatedFile, Space};
use crate::locking::lock;

/// What the disk has just done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    Read,
    Written,
    Synced,
}

type Hook = Box<dyn FnMut(Moment) + Send>;

/// A disk that calls a hook.
pub(super) struct Hooked {
    pub(super) disk: SimulatedDisk,
    hook: Mutex<Option<Hook>>,
}

impl Hooked {
    pub(super) fn new() -> Self {
        Self { disk: SimulatedDisk::new(1 << 30), hook: Mutex::default() }
    }

    /// Calls `hook` after every read, write and sync from now on, except for those that it makes itself.
    pub(super) fn at_every_moment(&self, hook: impl FnMut(Moment) + Send + 'static) {
        *lock(&self.hook) = Some(Box::new(hook));
    }

    /// Calls `hook` with the store after the next such moment only.
    pub(super) fn once(
        &self,
        wanted: Moment,
        store: &Arc<Store<Self>>,
        hook: impl FnOnce(&Store<Self>) + Send + 'static,
    ) {
        let (store, mut hook) = (Arc::downgrade(store), Some(hook));
        self.at_every_moment(move |moment| {
            if moment == wanted
                && let (Some(hook), Some(store)) = (hook.take(), store.upgrade())
            {
                hook(&store);
            }
        });
    }

    fn call(&self, moment: Moment) {
        let Some(mut hook) = lock(&self.hook).take() else { return };
        hook(moment);
        *lock(&self.hook) = Some(hook);
    }
}

impl Disk for Hooked {
    type File = SimulatedFile;

    fn open(&self, path: &str, how: Open) -> io::Result<Arc<SimulatedFile>> {
        self.disk.open(path, how)
    }

    fn read_at(&self, file: &SimulatedFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let count = self.disk.read_at(file, buffer, offset)?;
        self.call(Moment::Read);
        Ok(count)
    }

    fn write_at(&self, file: &SimulatedFile, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.disk.write_at(file, parts, offset)?;
        self.call(Moment::Written);
        Ok(())
    }

    fn sync_data(&self, file: &SimulatedFile) -> io::Result<()> {
        self.disk.sync_data(file)?;
        self.call(Moment::Synced);
        Ok(())
    }

    fn length(&self, file: &SimulatedFile) -> io::Result<u64> {
        self.disk.length(file)
    }

    fn set_length(&self, file: &SimulatedFile, length: u64) -> io::Result<()> {
        self.disk.set_length(file, length)
    }

    fn allocate(&self, file: &SimulatedFile, offset: u64, length: u64) -> io::Result<()> {
        self.disk.allocate(file, offset, length)
    }

    fn punch_hole(&self, file: &SimulatedFile, offset: u64, length: u64) -> io::Result<()> {
        self.disk.punch_hole(file, offset, length)
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.disk.create_dir(path)
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        self.disk.list(path)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.disk.sync_dir(path)?;
        self.call(Moment::Synced);
        Ok(())
    }

    fn space(&self) -> io::Result<Space> {
        self.disk.space()
    }
}
