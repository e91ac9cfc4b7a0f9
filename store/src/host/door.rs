//! How whatever happens gets to a replica: nobody waits for one that is busy.
//!
//! A replica is busy while somebody carries out what it says, which can take as long as its disk takes. Whoever comes meanwhile leaves
//! what he has and goes on, for he has something for other replicas, whose leases hang on it. Whoever is at it takes that in, too.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use huntaway_replica::{Configuration, Input, Outcome, Ticket};
use huntaway_wire::replicated::{Answers, Request};

use super::step::Place;
use crate::locking::lock;

/// What waits at most of what is sent again.
const MOST_WAITING: usize = 256;

/// What that comes to at most for all replicas of a disk, which may be busy all at once: that disk does not answer, then.
const MOST_WAITING_BYTES: usize = 256 << 20;

/// What is smaller counts for nothing there: leases come in it.
const SMALL_BYTES: usize = 4 << 10;

/// Something for a replica.
pub(super) enum Comes {
    /// As it is.
    Input(Input),
    /// A disk was synced for the replica, in that one of its lives.
    Synced { life: u32, ticket: Ticket, outcome: Outcome },
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

    /// Whether it is a state of the ledger: a newer one says all of that.
    fn is_state(&self) -> bool {
        matches!(self, Self::Configured(..))
    }

    /// Whether it is a lease of the ledger, which rests on a state.
    fn is_lease(&self) -> bool {
        matches!(self, Self::Input(Input::LedgerLease { .. }))
    }
}

/// A partition's replica, and what waits for it.
pub(super) struct Door {
    place: Mutex<Place>,
    waiting: Mutex<Waiting>,
    /// Whether this process is to be its primary, as far as the ledger is known.
    pub(super) leads: AtomicBool,
    /// The last record of the ledger that it knows of what concerns it.
    configured: AtomicU64,
}

struct Waiting {
    queue: VecDeque<(Comes, usize)>,
    /// Bytes that wait for replicas of its disk.
    bytes: Arc<AtomicUsize>,
}

impl Door {
    /// `bytes` is what waits for all replicas of its disk.
    pub(super) fn new(place: Place, bytes: Arc<AtomicUsize>) -> Self {
        let waiting = Mutex::new(Waiting { queue: VecDeque::new(), bytes });
        let (leads, configured) = (AtomicBool::new(false), AtomicU64::new(0));
        Self { place: Mutex::new(place), waiting, leads, configured }
    }

    /// Its replica is on another disk from now on, for whose replicas so much waits.
    pub(super) fn moves(&self, bytes: &Arc<AtomicUsize>) {
        let mut waiting = lock(&self.waiting);
        let of_it: usize = waiting.queue.iter().map(|(_, bytes)| bytes).sum();
        bytes.fetch_add(of_it, Ordering::Relaxed);
        std::mem::replace(&mut waiting.bytes, Arc::clone(bytes)).fetch_sub(of_it, Ordering::Relaxed);
    }

    /// It waits until the replica is free, and takes so many bytes of memory meanwhile. What is sent again anyway may be dropped.
    pub(super) fn put(&self, comes: Comes, bytes: usize) {
        let bytes = if bytes < SMALL_BYTES { 0 } else { bytes };
        let mut guard = lock(&self.waiting);
        let Waiting { queue: waiting, bytes: all } = &mut *guard;
        // Where nobody waits it is taken in at once.
        let is_too_much = waiting.len() >= MOST_WAITING
            || bytes > 0 && !waiting.is_empty() && all.load(Ordering::Relaxed) + bytes > MOST_WAITING_BYTES;
        if is_too_much && comes.is_repeated()
            || comes.is_tick() && waiting.iter().any(|(other, _)| other.is_tick())
        {
            return;
        }
        if comes.is_state() {
            // Who leads is told of a lease right after it.
            waiting.retain(|(other, _)| !other.is_lease());
            // What came behind an older one is not taken in before what that said.
            if let Some((older, _)) = waiting.iter_mut().find(|(other, _)| other.is_state()) {
                *older = comes;
                return;
            }
        } else if comes.is_lease() {
            waiting.pop_back_if(|(last, _)| last.is_lease());
        }
        all.fetch_add(bytes, Ordering::Relaxed);
        waiting.push_back((comes, bytes));
    }

    pub(super) fn next(&self) -> Option<Comes> {
        let mut waiting = lock(&self.waiting);
        let (comes, bytes) = waiting.queue.pop_front()?;
        waiting.bytes.fetch_sub(bytes, Ordering::Relaxed);
        Some(comes)
    }

    pub(super) fn is_anybody_waiting(&self) -> bool {
        !lock(&self.waiting).queue.is_empty()
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

#[cfg(test)]
mod tests {
    use huntaway_replica::{Body, Message, Moment, Process, Recovered, Replica};
    use huntaway_wire::{Incarnation, NodeId, Partition, Pepoch};

    use super::*;

    const PROCESS: Process = Process { node: NodeId([1; 16]), incarnation: Incarnation(1) };

    fn door(bytes: &Arc<AtomicUsize>) -> Door {
        let replica =
            Replica::new(Partition::new(0).unwrap(), PROCESS, Moment::default(), Recovered::default());
        Door::new(Place::new(replica, false), Arc::clone(bytes))
    }

    fn message() -> Comes {
        let message = Message { pepoch: Pepoch(1), body: Body::Misses };
        Comes::Input(Input::Received { from: PROCESS, message })
    }

    #[test]
    fn what_came_behind_an_older_state_of_the_ledger_is_taken_in_behind_the_newest() {
        let door = door(&Arc::default());
        let configuration = Arc::new(door.place().replica.configuration().clone());
        let configured = |number| Comes::Configured(Arc::clone(&configuration), number);
        let lease = || Comes::Input(Input::LedgerLease { until: Moment(1) });
        let coming =
            [lease(), Comes::Input(Input::Leave), configured(1), lease(), message(), configured(2), lease()];
        coming.into_iter().for_each(|comes| door.put(comes, 0));
        let told = |comes: Comes| match comes {
            Comes::Configured(_, number) => format!("state {number}"),
            Comes::Input(Input::LedgerLease { .. }) => "lease".into(),
            Comes::Input(Input::Received { .. }) => "message".into(),
            _ => "leave".to_owned(),
        };
        let waited: Vec<String> = std::iter::from_fn(|| door.next()).map(told).collect();
        assert_eq!(waited, ["leave", "state 2", "message", "lease"]);
    }

    #[test]
    fn what_is_sent_again_waits_as_far_as_there_is_memory_for_it_for_all_replicas_of_a_disk() {
        let bytes = Arc::default();
        let (one, other) = (door(&bytes), door(&bytes));
        let half = MOST_WAITING_BYTES / 2;
        one.put(message(), half);
        other.put(message(), half);
        other.put(message(), SMALL_BYTES);
        other.put(message(), SMALL_BYTES - 1);
        other.put(Comes::Input(Input::Tick), 0);
        let waiting = |door: &Door| std::iter::from_fn(|| door.next()).count();
        let free = door(&bytes);
        free.put(message(), half);
        assert_eq!(waiting(&free), 1, "it is taken in at once");
        assert_eq!(waiting(&other), 3, "what takes no memory is no more than others");
        other.put(message(), half);
        other.put(message(), SMALL_BYTES);
        assert_eq!((waiting(&one), waiting(&other)), (1, 1));
        assert_eq!(bytes.load(Ordering::Relaxed), 0);
        // What waits goes with it to another disk.
        let elsewhere = Arc::default();
        one.put(message(), half);
        one.moves(&elsewhere);
        assert_eq!((bytes.load(Ordering::Relaxed), elsewhere.load(Ordering::Relaxed)), (0, half));
        assert_eq!((waiting(&one), elsewhere.load(Ordering::Relaxed)), (1, 0));
    }
}
