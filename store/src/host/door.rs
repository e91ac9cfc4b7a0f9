//! How whatever happens gets to a replica: nobody waits for one that is busy.
//!
//! A replica is busy while somebody carries out what it says, which can take as long as its disk takes. Whoever comes meanwhile leaves
//! what he has and goes on, for he has something for other replicas, whose leases hang on it. Whoever is at it takes that in, too.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use huntaway_replica::{Configuration, Input};
use huntaway_wire::replicated::{Answers, Request};

use super::step::Place;
use crate::locking::lock;

/// What waits at most of what is sent again.
const MOST_WAITING: usize = 256;

/// Something for a replica.
pub(super) enum Comes {
    /// As it is.
    Input(Input),
    /// A request, and where its answer goes.
    Request(Request, Arc<dyn Answers>),
    /// What the ledger had agreed on with that record.
    Configured(Arc<Configuration>, u64),
}

impl Comes {
    /// Whether it comes again if it is dropped.
    fn is_repeated(&self) -> bool {
        let Self::Input(input) = self else { return matches!(self, Self::Request(..)) };
        matches!(input, Input::Tick | Input::Received { .. } | Input::Teach { .. } | Input::Suspect { .. })
    }

    fn is_tick(&self) -> bool {
        matches!(self, Self::Input(Input::Tick))
    }

    /// Whether a newer state of the ledger says it as well, or its lease does not rest on that.
    fn is_of_the_ledger(&self) -> bool {
        matches!(self, Self::Configured(..) | Self::Input(Input::LedgerLease { .. }))
    }
}

/// A partition's replica, and what waits for it.
pub(super) struct Door {
    place: Mutex<Place>,
    waiting: Mutex<VecDeque<Comes>>,
    /// Whether this process is to be its primary, as far as the ledger is known.
    pub(super) leads: AtomicBool,
    /// The last record of the ledger that it knows of what concerns it.
    configured: AtomicU64,
}

impl Door {
    pub(super) fn new(place: Place) -> Self {
        let (waiting, leads) = (Mutex::default(), AtomicBool::new(false));
        Self { place: Mutex::new(place), waiting, leads, configured: AtomicU64::new(0) }
    }

    /// It waits until the replica is free. What is sent again anyway may be dropped.
    pub(super) fn put(&self, comes: Comes) {
        let mut waiting = lock(&self.waiting);
        let is_too_much = waiting.len() >= MOST_WAITING && comes.is_repeated();
        if is_too_much || comes.is_tick() && waiting.iter().any(Comes::is_tick) {
            return;
        }
        if let Comes::Configured(..) = comes {
            // Who leads is told of a lease right after it.
            waiting.retain(|other| !other.is_of_the_ledger());
        } else if comes.is_of_the_ledger() {
            waiting.pop_back_if(|last| matches!(last, Comes::Input(Input::LedgerLease { .. })));
        }
        waiting.push_back(comes);
    }

    pub(super) fn next(&self) -> Option<Comes> {
        lock(&self.waiting).pop_front()
    }

    pub(super) fn is_anybody_waiting(&self) -> bool {
        !lock(&self.waiting).is_empty()
    }

    /// The replica, if nobody is at it.
    pub(super) fn try_place(&self) -> Option<MutexGuard<'_, Place>> {
        match self.place.try_lock() {
            Ok(place) => Some(place),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// The replica, however long that takes.
    pub(super) fn place(&self) -> MutexGuard<'_, Place> {
        lock(&self.place)
    }

    pub(super) fn is_configured(&self, number: u64) {
        self.configured.fetch_max(number, Ordering::AcqRel);
    }

    /// Whether it knows what the ledger had agreed on with that record.
    pub(super) fn knows(&self, number: u64) -> bool {
        self.configured.load(Ordering::Acquire) >= number
    }
}
