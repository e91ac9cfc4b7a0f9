//! A disk in memory that loses power on demand: for tests and simulations.
//!
//! It does what [`Disk`] promises and nothing more. After a power loss, each 512-byte sector that was written since its
//! file's last sync holds its old content, its new content or one in between, each change of a directory that was not
//! synced happened or did not, and the order in which things were done means nothing. The same seed gives the same outcome.

mod content;
mod damage;
mod faults;
mod names;
mod pages;
mod random;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use content::{Content, PAGE_BYTES, SECTOR_BYTES};
use damage::Astray;
pub use damage::{FileImage, Misdirected};
use faults::{Failure, Faults};
pub use faults::{Fault, Operation};
use names::{Names, Node};
pub use random::SeededRandom;
use rustix::io::Errno;

use super::{Disk, Open, Space};

/// How the process stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process dies; the system keeps all that it was given.
    Process,
    /// The machine loses power; what was not synced may be lost.
    Power,
}

/// A disk in memory.
#[derive(Debug)]
pub struct SimulatedDisk {
    state: Mutex<State>,
}

/// A file opened on a [`SimulatedDisk`]. It is of no use after a crash.
#[derive(Debug)]
pub struct SimulatedFile {
    number: u64,
    life: u64,
}

#[derive(Debug)]
struct State {
    names: Names,
    files: BTreeMap<u64, Content>,
    faults: Faults,
    astray: Option<Astray>,
    misdirected: Option<Misdirected>,
    /// What decides whether a read would have to wait; without it, none would.
    cold: Option<SeededRandom>,
    /// Counts crashes: whoever opened a file before one cannot use it after.
    life: u64,
    total_pages: u64,
}

impl SimulatedDisk {
    /// An empty disk with room for `bytes` of file content.
    pub fn new(bytes: u64) -> Self {
        let state = State {
            names: Names::new(),
            files: BTreeMap::new(),
            faults: Faults::default(),
            astray: None,
            misdirected: None,
            cold: None,
            life: 0,
            total_pages: bytes / PAGE_BYTES as u64,
        };
        Self { state: Mutex::new(state) }
    }

    /// Ends the process that uses the disk. Its files are closed, planned faults are forgotten, and a next process finds
    /// what `crash` and `seed` leave.
    pub fn crash(&self, crash: Crash, seed: u64) {
        let mut state = self.lock();
        let state = &mut *state;
        state.life += 1;
        state.faults.clear();
        (state.astray, state.misdirected) = (None, None);
        if crash == Crash::Power {
            let mut random = SeededRandom::new(seed);
            // Some crashes lose all, some almost nothing.
            let newest = [0, 50, 90, 99][random.below(4) as usize];
            state.names.lose_power(&mut random, newest);
            for content in state.files.values_mut() {
                content.lose_power(&mut random, newest);
            }
        }
        let named: BTreeSet<u64> = state.names.possible_files().collect();
        state.files.retain(|number, _| named.contains(number));
    }

    /// From now on one read in four is of something that is not at hand ([`Disk::read_at_hand`]), by `seed`.
    pub fn cool(&self, seed: u64) {
        self.lock().cold = Some(SeededRandom::new(seed));
    }

    /// Makes one operation fail.
    pub fn fail(&self, fault: Fault) {
        self.lock().faults.plan(fault);
    }

    /// Makes the process die during the operation that many operations from now; a write may then be done up to a
    /// sector's end. Everything fails until [`SimulatedDisk::crash`].
    pub fn die_after(&self, operations: u64) {
        let mut state = self.lock();
        let at = state.faults.operations + operations + 1;
        state.faults.die_at(at);
    }

    /// Whether the process is dead.
    pub fn is_dead(&self) -> bool {
        self.lock().faults.is_dead()
    }

    /// Whether a sync failed for the process that uses the disk now.
    pub fn has_a_sync_failed(&self) -> bool {
        self.lock().faults.a_sync_failed
    }

    /// Syncs that were tried after one had failed, by the process that uses the disk now.
    pub fn syncs_after_a_failed_one(&self) -> u64 {
        self.lock().faults.syncs_after_a_failed_one
    }

    /// Operations so far.
    pub fn operations(&self) -> u64 {
        self.lock().faults.operations
    }

    /// A number that differs when any file's content does.
    pub fn fingerprint(&self) -> u64 {
        let state = self.lock();
        state.files.iter().fold(0, |sum: u64, (number, content)| {
            sum.rotate_left(7).wrapping_add(number.wrapping_mul(0x9e37_79b9))
                ^ u64::from(content.fingerprint())
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, if `operation` does not fail.
    fn enter(&self, operation: Operation) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.lock();
        match state.faults.check(operation) {
            Ok(()) => Ok(state),
            Err(Failure::Fault(error)) => Err(error),
            Err(Failure::Dead { .. }) => Err(dead()),
        }
    }
}

impl State {
    fn content(&mut self, file: &SimulatedFile) -> io::Result<&mut Content> {
        if file.life != self.life {
            return Err(dead());
        }
        self.files.get_mut(&file.number).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn check_room(&mut self, file: &SimulatedFile, offset: u64, length: u64) -> io::Result<()> {
        let missing = self.content(file)?.missing_pages(offset, length);
        if missing > 0 && missing > self.free_pages() {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            Ok(())
        }
    }

    fn free_pages(&self) -> u64 {
        let used = self.names.files().filter_map(|number| self.files.get(&number)).map(Content::pages).sum();
        self.total_pages.saturating_sub(used)
    }
}

fn dead() -> io::Error {
    io::Error::other("the simulated process is dead")
}

impl Disk for SimulatedDisk {
    type File = SimulatedFile;

    fn open(&self, path: &str, how: Open) -> io::Result<Arc<SimulatedFile>> {
        let operation = if how == Open::New { Operation::Name } else { Operation::Read };
        let mut state = self.enter(operation)?;
        let number = match how {
            Open::New => {
                let number = state.names.create(path, Node::File)?;
                state.files.insert(number, Content::default());
                number
            }
            Open::Existing => match state.names.find(path)? {
                Node::File(number) => number,
                Node::Directory(_) => return Err(io::ErrorKind::IsADirectory.into()),
            },
        };
        Ok(Arc::new(SimulatedFile { number, life: state.life }))
    }

    fn read_at(&self, file: &SimulatedFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.enter(Operation::Read)?;
        let content = state.content(file)?;
        if content.is_spoilt(offset, buffer.len() as u64) {
            return Err(io::Error::from_raw_os_error(Errno::IO.raw_os_error()));
        }
        Ok(content.read(buffer, offset))
    }

    fn is_memory(&self) -> bool {
        self.lock().cold.is_none()
    }

    fn read_at_hand(&self, file: &SimulatedFile, buffer: &mut [u8], offset: u64) -> bool {
        let is_at_hand = self.lock().cold.as_mut().is_none_or(|random| !random.chance(1, 4));
        is_at_hand && self.read_at(file, buffer, offset).is_ok_and(|count| count == buffer.len())
    }

    fn write_at(&self, file: &SimulatedFile, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let data = parts.iter().map(|part| &**part).collect::<Vec<&[u8]>>().concat();
        let mut state = self.lock();
        match state.faults.check(Operation::Write) {
            Ok(()) => {
                state.check_room(file, offset, data.len() as u64)?;
                state.content(file)?.write(&data, offset);
                Ok(())
            }
            Err(Failure::Fault(error)) => Err(error),
            Err(Failure::Dead { last }) => {
                if last {
                    let end = offset + data.len() as u64;
                    let cut =
                        offset + SeededRandom::new(state.faults.operations).below(data.len() as u64 + 1);
                    let done = if cut == end { end } else { offset.max(cut - cut % SECTOR_BYTES as u64) };
                    state.content(file)?.write(&data[..(done - offset) as usize], offset);
                }
                Err(dead())
            }
        }
    }

    fn sync_data(&self, file: &SimulatedFile) -> io::Result<()> {
        let mut state = self.lock();
        let checked = state.faults.check(Operation::SyncData);
        if checked.is_ok() {
            state.let_go_astray(file.number);
        }
        let content = state.content(file)?;
        match checked {
            Ok(()) => {
                content.sync();
                Ok(())
            }
            Err(Failure::Fault(error)) => {
                content.forget();
                Err(error)
            }
            Err(Failure::Dead { .. }) => Err(dead()),
        }
    }

    fn length(&self, file: &SimulatedFile) -> io::Result<u64> {
        Ok(self.enter(Operation::Read)?.content(file)?.length())
    }

    fn set_length(&self, file: &SimulatedFile, length: u64) -> io::Result<()> {
        self.enter(Operation::Write)?.content(file)?.set_length(length);
        Ok(())
    }

    fn allocate(&self, file: &SimulatedFile, offset: u64, length: u64) -> io::Result<()> {
        let mut state = self.enter(Operation::Allocate)?;
        state.check_room(file, offset, length)?;
        state.content(file)?.allocate(offset, length);
        Ok(())
    }

    fn punch_hole(&self, file: &SimulatedFile, offset: u64, length: u64) -> io::Result<()> {
        self.enter(Operation::Write)?.content(file)?.zero(offset, length);
        Ok(())
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        match self.enter(Operation::Name)?.names.create(path, Node::Directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result.map(|_| ()),
        }
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        self.enter(Operation::Read)?.names.list(path)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.enter(Operation::Name)?.names.rename(from, to)
    }

    /// The file's space is free at once, also while it is open.
    fn remove(&self, path: &str) -> io::Result<()> {
        self.enter(Operation::Name)?.names.remove(path)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.enter(Operation::SyncDir)?.names.sync(path)
    }

    fn space(&self) -> io::Result<Space> {
        let state = self.enter(Operation::Read)?;
        let bytes = |pages: u64| pages.saturating_mul(PAGE_BYTES as u64);
        Ok(Space { free_bytes: bytes(state.free_pages()), total_bytes: bytes(state.total_pages) })
    }
}
