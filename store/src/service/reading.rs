//! How a store at work carries out the reads that have to wait for the disk.
//!
//! By io_uring where the kernel allows it: one thread begins many reads and verifies what comes. Threads that each wait for
//! one read do the rest: everything where there is no io_uring, else what it cannot do, such as opening an object, and
//! what has to be looked at again. Where the file system is memory, no read waits, and whoever asks reads.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::{Shared, spawn};
use crate::disk::{Bell, Disk, FileDisk, Ring};
use crate::error::OpenError;
use crate::options::ReadEngine;
use crate::read::{Beginning, Begun};
use crate::reads::{Lane, ReadNumber};

/// Threads that each carry out one read at a time: as many reads as these wait for the disk at once.
const THREADS: usize = 16;

/// A read in the ring.
pub(crate) struct Owner {
    number: ReadNumber,
    begun: Begun<FileDisk>,
}

/// What carries out reads, and what it consists of.
pub(super) struct Reading {
    /// `None`: whoever asks.
    pub(super) lane: Option<Lane>,
    pub(super) bell: Option<Bell>,
    pub(super) threads: Vec<JoinHandle<()>>,
}

impl Reading {
    /// What it is called in the log and in metrics.
    pub(super) fn name(&self) -> &'static str {
        match self.lane {
            None => "memory",
            Some(Lane::Threads) => "threads",
            Some(Lane::Ring) => "io_uring",
        }
    }
}

/// Starts the threads that the options and the machine ask for; `new_ring` makes a ring if it can.
///
/// # Errors
/// A thread cannot be started, or there is no ring and there has to be one.
pub(super) fn start(
    shared: &Arc<Shared>,
    new_ring: impl FnOnce() -> io::Result<Ring<Owner>>,
) -> Result<Reading, OpenError> {
    let store = &shared.store;
    let disk = &store.options.directory;
    let ring = match store.options.read_engine {
        ReadEngine::Best if store.disk.is_memory() => {
            return Ok(Reading { lane: None, bell: None, threads: Vec::new() });
        }
        ReadEngine::Best => new_ring()
            .inspect_err(|error| tracing::info!(disk, %error, "io_uring cannot be used: threads read"))
            .ok(),
        ReadEngine::IoUring => Some(new_ring().map_err(OpenError::io("set up", "io_uring"))?),
        ReadEngine::Threads => None,
    };
    let lane = Some(if ring.is_some() { Lane::Ring } else { Lane::Threads });
    let bell = ring.as_ref().map(Ring::bell);
    let started = || -> Result<Vec<_>, OpenError> {
        let mut threads = (0..THREADS)
            .map(|_| spawn("read", shared, Shared::read_until_stopped))
            .collect::<Result<Vec<_>, _>>()?;
        if let Some(ring) = ring {
            threads.push(spawn("read-ring", shared, |shared| shared.read_by_ring(ring))?);
        }
        Ok(threads)
    };
    let threads = started().inspect_err(|_| store.reads.close())?;
    Ok(Reading { lane, bell, threads })
}

impl Shared {
    fn read_until_stopped(&self) {
        let reads = &self.store.reads;
        while let Some((number, read)) = reads.next_for_thread() {
            let answer = self.store.check_not_failed().and_then(|()| self.store.read_whole(&read));
            reads.answer(number, answer);
        }
    }

    fn read_by_ring(&self, mut ring: Ring<Owner>) {
        let store = &self.store;
        while !self.is_stopping() || ring.owners().next().is_some() {
            self.fill(&mut ring);
            if let Err(error) = ring.wait() {
                let disk = &store.options.directory;
                tracing::warn!(disk, %error, "io_uring failed: threads read from now on");
                store.reads.lose_ring();
                ring.owners().for_each(|owner| store.reads.leave_to_threads(owner.number));
                return;
            }
            while let Some(finished) = ring.finished() {
                let Owner { number, begun } = finished.owner;
                match finished.is_whole.then(|| store.finish_read(&begun, finished.buffer)).flatten() {
                    Some(reply) => store.reads.answer(number, Ok(reply)),
                    // Application came between, or something is wrong: they find out.
                    None => store.reads.leave_to_threads(number),
                }
            }
        }
    }

    /// Begins the reads that wait, as far as there is room.
    fn fill(&self, ring: &mut Ring<Owner>) {
        let store = &self.store;
        while ring.has_room()
            && let Some((number, read)) = store.reads.next_for_ring()
        {
            match store.begin_read(&read) {
                Beginning::Answered(answer) => store.reads.answer(number, answer),
                Beginning::Waits => store.reads.leave_to_threads(number),
                Beginning::Begun(begun, buffer) => {
                    let (file, parts): (_, Vec<_>) = (Arc::clone(begun.file()), begun.parts().collect());
                    ring.read(Owner { number, begun }, file, buffer, parts.into_iter());
                }
            }
        }
    }
}
