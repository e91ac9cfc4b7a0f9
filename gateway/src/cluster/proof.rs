//! What a connection's initiator has proved, as whoever sends its commands sees it: the connection's own task, the thread that
//! brings a store's answer, or the one that sends again what is overdue.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use huntaway_wire::Partition;
use tokio::sync::Notify;

use super::number;
use crate::fencing::Proven;
use crate::sessions::lock;

/// One connection's proof. Its [`PathProof`](crate::fencing::PathProof) is the connection's own.
pub(crate) struct Proof {
    /// Tells connections apart.
    pub(super) number: u64,
    /// The time since boot for which there is a proof; 0 = none.
    proven_ns: AtomicU64,
    /// Where requests wait for a newer one.
    waiting: Mutex<Vec<Partition>>,
    wanted: Notify,
}

impl Proof {
    /// Nothing is proved.
    pub(crate) fn new() -> Self {
        Self {
            number: number(),
            proven_ns: AtomicU64::new(0),
            waiting: Mutex::default(),
            wanted: Notify::new(),
        }
    }

    /// What is proved so far.
    pub(super) fn proven(&self) -> Proven {
        match self.proven_ns.load(Ordering::Acquire) {
            0 => Proven::default(),
            ns => Proven(Some(Duration::from_nanos(ns))),
        }
    }

    /// It is known by now that the initiator held its session at this time. Only the connection says so.
    pub(super) fn prove(&self, proven: Proven) {
        if let Proven(Some(at)) = proven {
            // Enough for 580 years since the boot.
            self.proven_ns.store(at.as_nanos() as u64, Ordering::Release);
        }
    }

    /// A request for the partition waits for a newer proof than this one. Returns whether there is one already.
    pub(super) fn wait(&self, partition: Partition, than: Proven) -> bool {
        lock(&self.waiting).push(partition);
        self.wanted.notify_one();
        // Whoever has a newer one stores it before it looks who waits.
        self.proven() > than
    }

    /// Where requests waited for what is proved now.
    pub(super) fn take_waiting(&self) -> Vec<Partition> {
        let mut waiting = std::mem::take(&mut *lock(&self.waiting));
        waiting.sort_unstable();
        waiting.dedup();
        waiting
    }

    /// Returns when a newer proof is wanted.
    pub(crate) async fn wanted(&self) {
        self.wanted.notified().await;
    }
}
