//! Since when nodes are down: the ledger has no times.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use huntaway_ledger::State;
use huntaway_wire::NodeId;
use tokio::sync::watch;

/// The nodes that went down while this process looked on.
#[derive(Debug, Default)]
pub(super) struct Absent(Mutex<BTreeMap<NodeId, Instant>>);

impl Absent {
    /// Looks on as long as the states come. To be called within a runtime.
    pub(super) fn of(mut states: watch::Receiver<Arc<State>>) -> Arc<Self> {
        let absent = Arc::new(Self::default());
        let told = Arc::downgrade(&absent);
        tokio::spawn(async move {
            let mut before = Arc::clone(&states.borrow_and_update());
            while states.changed().await.is_ok() {
                let now = Arc::clone(&states.borrow_and_update());
                let Some(absent) = told.upgrade() else { return };
                absent.follow(&before, &now);
                before = now;
            }
        });
        absent
    }

    fn follow(&self, before: &State, now: &State) {
        let mut since = self.lock();
        let is_up = |state: &State, node| state.sets().node(node).is_some_and(|state| state.is_up);
        since.retain(|node, _| now.sets().node(*node).is_some_and(|state| !state.is_up));
        for (node, _) in before.sets().nodes().filter(|(_, state)| state.is_up) {
            if now.sets().node(node).is_some() && !is_up(now, node) {
                since.insert(node, Instant::now());
            }
        }
    }

    /// For how long each of them is down.
    pub(super) fn times(&self) -> BTreeMap<NodeId, Duration> {
        self.lock().iter().map(|(node, since)| (*node, since.elapsed())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Instant>> {
        // Each change of it is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
