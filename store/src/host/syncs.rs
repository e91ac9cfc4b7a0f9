//! Stable storage: one thread for each disk, which syncs for all replicas that wait at that time.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use huntaway_replica::{Input, Outcome, Ticket};
use huntaway_wire::Partition;

use super::Shared;
use crate::locking::lock;

/// What is to be told when a disk is synced.
pub(super) struct Syncs {
    disks: Box<[Queue]>,
    is_stopping: AtomicBool,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Vec<(Partition, Ticket)>>,
    filled: Condvar,
}

impl Syncs {
    pub(super) fn new(disks: usize) -> Self {
        Self { disks: (0..disks).map(|_| Queue::default()).collect(), is_stopping: AtomicBool::new(false) }
    }

    /// The replica wants to be told when all that it has logged is on stable storage.
    pub(super) fn want(&self, disk: usize, partition: Partition, ticket: Ticket) {
        let queue = &self.disks[disk];
        lock(&queue.waiting).push((partition, ticket));
        queue.filled.notify_one();
    }

    /// The threads end.
    pub(super) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        for queue in &self.disks {
            // Whoever is about to sleep has seen it, or is woken.
            drop(lock(&queue.waiting));
            queue.filled.notify_all();
        }
    }

    /// Waits for some; none when it is over.
    fn next(&self, disk: usize) -> Option<Vec<(Partition, Ticket)>> {
        let queue = &self.disks[disk];
        let mut waiting = lock(&queue.waiting);
        loop {
            if self.is_stopping.load(Ordering::Acquire) {
                return None;
            }
            if !waiting.is_empty() {
                return Some(std::mem::take(&mut *waiting));
            }
            waiting = queue.filled.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Shared {
    /// Starts the threads. They end when that is said.
    pub(super) fn start_syncing(self: &Arc<Self>) -> io::Result<()> {
        for disk in 0..self.disks.count() {
            let shared = Arc::clone(self);
            thread::Builder::new().name("replica-sync".into()).spawn(move || shared.sync(disk))?;
        }
        Ok(())
    }

    fn sync(&self, disk: usize) {
        while let Some(waiting) = self.syncs.next(disk) {
            let is_synced = self.disks.by_number(disk).is_some_and(|store| store.sync().is_ok());
            for (partition, ticket) in waiting {
                let outcome = if is_synced { Outcome::Done } else { Outcome::Failed };
                self.step(partition, Input::Stored { ticket, outcome });
            }
        }
    }
}
