//! Stable storage: one thread for each disk, which syncs for all replicas that wait at that time.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use huntaway_membership::Driver as _;
use huntaway_replica::{Outcome, Ticket};
use huntaway_wire::replicated::{Answers, SyncAll, Synced};
use huntaway_wire::{Partition, clock};

use super::Shared;
use super::door::Comes;
use super::step::WholeOrNothing;
use crate::locking::lock;

/// Most gateways' wishes that wait for a disk: each gateway has one at a time, and a few that it does not wait for any more.
const MOST_WISHES: usize = 256;

/// What is to be told when a disk is synced.
pub(super) struct Syncs {
    disks: Box<[Queue]>,
    /// How many of them have a thread.
    served: Mutex<usize>,
    is_stopping: AtomicBool,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    filled: Condvar,
}

/// Who is to be told of the next sync that begins.
#[derive(Default)]
struct Waiting {
    replicas: Vec<Waits>,
    wishes: Vec<Arc<Wish>>,
    /// It is time to see whether the log holds what keeps it from being used again.
    looks_at_log: bool,
}

/// A replica waits for it, in that one of its lives.
pub(super) struct Waits {
    pub(super) partition: Partition,
    pub(super) life: u32,
    pub(super) ticket: Ticket,
}

/// A gateway wants all disks synced.
struct Wish {
    asked: SyncAll,
    answers: Arc<dyn Answers>,
    /// Disks that are not synced yet.
    left: AtomicUsize,
    has_failed: AtomicBool,
}

impl Syncs {
    /// For so many disks at most, each of which a thread looks after from when it is there.
    pub(super) fn new(disks: usize) -> Self {
        let disks = (0..disks).map(|_| Queue::default()).collect();
        Self { disks, served: Mutex::new(0), is_stopping: AtomicBool::new(false) }
    }

    /// The replica wants to be told when all that it has logged is on stable storage.
    pub(super) fn want(&self, disk: usize, waits: Waits) {
        let queue = &self.disks[disk];
        lock(&queue.waiting).replicas.push(waits);
        queue.filled.notify_one();
    }

    /// A gateway wants to be told when all that any replica has logged on so many disks is on stable storage. `false`: too many do, or
    /// nothing is synced any more.
    fn want_all(&self, disks: usize, asked: SyncAll, answers: &Arc<dyn Answers>) -> bool {
        let (left, has_failed) = (AtomicUsize::new(disks), AtomicBool::new(false));
        let wish = Arc::new(Wish { asked, answers: Arc::clone(answers), left, has_failed });
        for queue in self.disks.iter().take(disks) {
            let mut waiting = lock(&queue.waiting);
            if waiting.wishes.len() >= MOST_WISHES || self.is_stopping.load(Ordering::Acquire) {
                return false;
            }
            waiting.wishes.push(Arc::clone(&wish));
            queue.filled.notify_one();
        }
        true
    }

    /// To be said now and then.
    pub(super) fn look_at_logs(&self) {
        for queue in &self.disks {
            lock(&queue.waiting).looks_at_log = true;
            queue.filled.notify_one();
        }
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
    fn next(&self, disk: usize) -> Option<Waiting> {
        let queue = &self.disks[disk];
        let mut waiting = lock(&queue.waiting);
        loop {
            if self.is_stopping.load(Ordering::Acquire) {
                return None;
            }
            if !waiting.replicas.is_empty() || !waiting.wishes.is_empty() || waiting.looks_at_log {
                return Some(std::mem::take(&mut *waiting));
            }
            waiting = queue.filled.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Shared {
    /// Starts the threads of so many disks, as far as they have none. They end when that is said.
    pub(super) fn start_syncing(self: &Arc<Self>, disks: usize) -> io::Result<()> {
        let mut served = lock(&self.syncs.served);
        for disk in *served..disks {
            let shared = Arc::clone(self);
            let sync = move || {
                let _whole = WholeOrNothing("who syncs for replicas");
                shared.sync(disk);
            };
            thread::Builder::new().name("replica-sync".into()).spawn(sync)?;
            *served += 1;
        }
        Ok(())
    }

    fn sync(&self, disk: usize) {
        while let Some(waiting) = self.syncs.next(disk) {
            if let Some(store) = self.disks.by_number(disk).filter(|_| waiting.looks_at_log) {
                self.checkpoint_due(store);
            }
            if waiting.replicas.is_empty() && waiting.wishes.is_empty() {
                continue;
            }
            let is_synced = self.disks.by_number(disk).is_some_and(|store| store.sync().is_ok());
            // Nobody counts on what a disk has that failed and is on which no partition is any more: whoever was in sync with what it
            // had is in no set that this node knows of then, or learned it on another disk, which was synced for that.
            let is_nothing = self.disks.partitions(disk) == 0;
            for wish in waiting.wishes {
                self.wish_is_done(&wish, is_synced || is_nothing);
            }
            for Waits { partition, life, ticket } in waiting.replicas {
                let outcome = if is_synced { Outcome::Done } else { Outcome::Failed };
                self.comes(partition, Comes::Synced { life, ticket, outcome }, 0);
            }
        }
    }

    /// Has all disks synced for a gateway. `false`: there is no answer.
    pub(super) fn wants_all(&self, asked: SyncAll, answers: &Arc<dyn Answers>) -> bool {
        self.syncs.want_all(self.disks.count(), asked, answers)
    }

    /// A disk was synced for a gateway. When all are, it is told what the ledger had said by then, if this process has the lease.
    fn wish_is_done(&self, wish: &Wish, is_synced: bool) {
        if !is_synced {
            wish.has_failed.store(true, Ordering::Release);
        }
        if wish.left.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        let is_sure = !wish.has_failed.load(Ordering::Acquire);
        // The lease is read before what is known: it came with all that was agreed on before it. Replicas know no more than that.
        let leased_until = self.ledger.leased_until();
        let number = self.ledger.state().number();
        let has_lease = clock::now() < leased_until && !self.has_ended.load(Ordering::Acquire);
        let known = (is_sure && has_lease).then_some(number);
        wish.answers.synced(self.me, Synced { asked: wish.asked, known });
    }
}
