//! Places for connections: who may have one.
//!
//! Anybody who can reach a portal can connect. So a connection has a place for good only once it has a session; the others
//! make room for newcomers when all places are taken, the oldest first. To keep an initiator out, one would have to fill
//! all these places within the moment that its login takes. Sessions leave a part of the places to those that log in.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::sessions::lock;

/// Part of the places that sessions leave to those that have none yet.
const STRANGERS_SHARE: usize = 4;

/// All places of a gateway.
pub(crate) struct Places {
    free: Arc<Semaphore>,
    /// Sessions at most.
    max_sessions: usize,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    last_number: u64,
    /// Connections without a session by their age, each with the way to tell it to leave.
    strangers: BTreeMap<u64, oneshot::Sender<()>>,
    sessions: usize,
}

/// A connection's place; given up when this is dropped.
pub(crate) struct Place {
    places: Arc<Places>,
    number: u64,
    has_session: bool,
    leave: oneshot::Receiver<()>,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    pub(crate) fn new(count: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(count)),
            max_sessions: count - count / STRANGERS_SHARE,
            table: Mutex::default(),
        }
    }

    /// A place for a connection that was just accepted. If all are taken, the one that has been there longest without a
    /// session is told to leave, and its place awaited. `None` if all have sessions.
    pub(crate) async fn take(self: &Arc<Self>) -> Option<Place> {
        let permit = match Arc::clone(&self.free).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) if self.dismiss_oldest() => Arc::clone(&self.free).acquire_owned().await.ok()?,
            Err(_) => return None,
        };
        let (way, leave) = oneshot::channel();
        let mut table = lock(&self.table);
        table.last_number += 1;
        let number = table.last_number;
        table.strangers.insert(number, way);
        Some(Place { places: Arc::clone(self), number, has_session: false, leave, _permit: permit })
    }

    /// Whether there is one: it is in the table only as long as it can be told.
    fn dismiss_oldest(&self) -> bool {
        match lock(&self.table).strangers.pop_first() {
            Some((_, way)) => way.send(()).is_ok(),
            None => false,
        }
    }
}

impl Place {
    /// The connection is to have a session, and keeps its place. `false` if it was told to leave, or sessions have all the
    /// places that they may have; one that takes the place of another adds none.
    pub(crate) fn keep(&mut self, reinstates: bool) -> bool {
        let mut table = lock(&self.places.table);
        let may = self.has_session || reinstates || table.sessions < self.places.max_sessions;
        if may && table.strangers.remove(&self.number).is_some() {
            table.sessions += 1;
            self.has_session = true;
        }
        may && self.has_session
    }

    /// Returns when the connection is to leave: its place is another's.
    pub(crate) async fn dismissed(&mut self) {
        if self.has_session || (&mut self.leave).await.is_err() {
            std::future::pending().await
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = lock(&self.places.table);
        table.strangers.remove(&self.number);
        table.sessions -= usize::from(self.has_session);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn taken(places: &Arc<Places>, count: usize) -> Vec<Place> {
        (0..count).map(|_| places.take().now_or_never().flatten().unwrap()).collect()
    }

    #[test]
    fn the_oldest_without_a_session_makes_room() {
        let places = Arc::new(Places::new(4));
        let mut held = taken(&places, 4);
        assert!(held[0].keep(false) && held[0].keep(false), "twice is no more than once");
        let newcomer = places.take();
        let mut newcomer = std::pin::pin!(newcomer);
        assert!((&mut newcomer).now_or_never().is_none(), "a place is free when its connection is gone");
        let dismissed: Vec<_> =
            held.iter_mut().map(|place| place.dismissed().now_or_never().is_some()).collect();
        assert_eq!(dismissed, [false, true, false, false]);
        assert!(!held[1].keep(true), "it is too late for a session");
        drop(held.remove(1));
        assert!(newcomer.now_or_never().flatten().is_some());
    }

    #[test]
    fn sessions_keep_their_places_and_leave_some_to_others() {
        let places = Arc::new(Places::new(4));
        let mut held = taken(&places, 4);
        let kept: Vec<_> = held.iter_mut().map(|place| place.keep(false)).collect();
        assert_eq!(kept, [true, true, true, false]);
        drop(held.remove(0));
        assert!(held[2].keep(false), "a session that ended gives its place up");
        let mut last = taken(&places, 1);
        assert!(!last[0].keep(false));
        assert!(last[0].keep(true), "it takes the place of a session that gives its own up");
    }

    #[test]
    fn nobody_gets_in_where_all_have_sessions() {
        let places = Arc::new(Places::new(1));
        let mut held = taken(&places, 1);
        assert!(held[0].keep(false));
        assert!(places.take().now_or_never().flatten().is_none());
        drop(held);
        assert_eq!(taken(&places, 1).len(), 1);
    }
}
