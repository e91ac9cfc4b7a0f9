//! Ways to the processes that keep replicas.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Weak};

use huntaway_wire::replicated::{Answers, Store};
use huntaway_wire::{Process, Stamp};

use crate::fencing::NewestStamp;
use crate::sessions::lock;
use huntaway_wire::clock;

/// Whoever knows how processes that keep replicas are reached.
///
/// There is one connection for each pair of processes and direction: a node that is a store as well hands out the ones that its
/// replicas use, and itself. [`Links`](super::Links) makes them for a gateway that is alone in its process.
pub trait Stores: Send + Sync {
    /// The way to this process, which listens at these addresses; `None` if there is none yet: then it is asked again in a while. What the process answers is told to `answers`, by the calls to
    /// [`Store::request`] and beside them.
    fn reach(
        &self,
        process: Process,
        addresses: &[SocketAddr],
        answers: &Weak<dyn Answers>,
    ) -> Option<Arc<dyn Store>>;
}

/// The way to one process.
pub(super) struct Way {
    pub(super) process: Process,
    pub(super) store: Arc<dyn Store>,
    newest: Mutex<NewestStamp>,
}

impl Way {
    pub(super) fn new(process: Process, store: Arc<dyn Store>) -> Self {
        Self { process, store, newest: Mutex::default() }
    }

    /// The newest stamp of the process.
    pub(super) fn newest(&self) -> NewestStamp {
        *lock(&self.newest)
    }

    /// Takes note of the stamp of a reply that was read by now.
    pub(super) fn note(&self, stamp: Stamp) {
        let read_at = clock::now();
        lock(&self.newest).note(stamp, read_at);
    }
}
