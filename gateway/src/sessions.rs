//! All sessions of this gateway, and how one reaches another.
//!
//! Each session is driven by its connection's task and owned by nothing else. What concerns other sessions (LUN RESET,
//! reinstatement, shutdown) is asked of them by a [`Call`] in their mailbox.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use huntaway_scsi::Sense;
use tokio::sync::{mpsc, oneshot};

/// Calls a session may have waiting; a caller waits for room.
const MAILBOX_CALLS: usize = 64;

/// Sessions one gateway holds at most.
pub(crate) const MAX_SESSIONS: usize = 4096;

/// What makes a session the same one to its initiator (RFC 7143 §6.3.5): a second login with it reinstates.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SessionKey {
    pub(crate) initiator: String,
    pub(crate) isid: [u8; 6],
    pub(crate) target: Option<String>,
}

/// What is asked of a session by others.
#[derive(Debug)]
pub(crate) enum Call {
    /// Give up all tasks of one LUN (or of all), and say when none of them can take effect any more.
    AbortTasks { lun: Option<u16>, done: oneshot::Sender<()> },
    /// Tell the initiator at its next command to one LUN (or to each).
    UnitAttention { lun: Option<u16>, attention: Sense },
    /// Ask the initiator to log out.
    RequestLogout,
    /// End now. `done` is dropped when no command of the session can take effect any more.
    Close { done: oneshot::Sender<()> },
}

pub(crate) type Mailbox = mpsc::Sender<Call>;

/// The table of sessions.
#[derive(Default)]
pub(crate) struct Sessions {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    last_tsih: u16,
    sessions: HashMap<SessionKey, Entry>,
}

struct Entry {
    tsih: u16,
    mailbox: Mailbox,
}

/// A session's place in the table.
pub(crate) struct Registration {
    pub(crate) key: SessionKey,
    pub(crate) tsih: u16,
    pub(crate) calls: mpsc::Receiver<Call>,
    /// The session this one takes the place of; to be closed before the login is answered.
    pub(crate) predecessor: Option<Mailbox>,
}

impl Sessions {
    /// Enters a new session under a fresh TSIH, in the place of one with the same key.
    /// Returns `None` when the table is full.
    pub(crate) fn register(&self, key: SessionKey) -> Option<Registration> {
        let mut table = self.lock();
        if table.sessions.len() >= MAX_SESSIONS && !table.sessions.contains_key(&key) {
            return None;
        }
        let tsih = table.fresh_tsih();
        let (mailbox, calls) = mpsc::channel(MAILBOX_CALLS);
        let old = table.sessions.insert(key.clone(), Entry { tsih, mailbox });
        Some(Registration { key, tsih, calls, predecessor: old.map(|entry| entry.mailbox) })
    }

    /// Takes a session out, unless another has taken its place.
    pub(crate) fn remove(&self, key: &SessionKey, tsih: u16) {
        let mut table = self.lock();
        if table.sessions.get(key).is_some_and(|entry| entry.tsih == tsih) {
            table.sessions.remove(key);
        }
    }

    /// Whether a session has this TSIH.
    pub(crate) fn has(&self, tsih: u16) -> bool {
        self.lock().sessions.values().any(|entry| entry.tsih == tsih)
    }

    /// The mailboxes of all sessions with `target` (or of all) but the one with TSIH `except`.
    pub(crate) fn mailboxes(&self, target: Option<&str>, except: Option<u16>) -> Vec<Mailbox> {
        let table = self.lock();
        let chosen = table.sessions.iter().filter(|(key, entry)| {
            (target.is_none() || key.target.as_deref() == target) && Some(entry.tsih) != except
        });
        chosen.map(|(_, entry)| entry.mailbox.clone()).collect()
    }

    /// Number of sessions.
    pub(crate) fn len(&self) -> usize {
        self.lock().sessions.len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// A TSIH no session has; never 0, which stands for "new session" on the wire.
    fn fresh_tsih(&mut self) -> u16 {
        loop {
            self.last_tsih = self.last_tsih.wrapping_add(1);
            let tsih = self.last_tsih;
            if tsih != 0 && self.sessions.values().all(|entry| entry.tsih != tsih) {
                return tsih;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(isid: u8) -> SessionKey {
        SessionKey { initiator: "iqn.2026-11.test:a".into(), isid: [isid; 6], target: Some("t".into()) }
    }

    #[test]
    fn a_second_login_with_the_same_key_takes_the_place_of_the_first() {
        let sessions = Sessions::default();
        let first = sessions.register(key(1)).unwrap();
        assert!(first.predecessor.is_none());
        let second = sessions.register(key(1)).unwrap();
        assert!(second.predecessor.is_some());
        sessions.remove(&first.key, first.tsih);
        assert!(sessions.has(second.tsih), "the first one's end must not remove the second");
        assert_eq!(sessions.len(), 1);
    }

    #[test]
    fn tsihs_are_unique_and_never_zero() {
        let sessions = Sessions::default();
        let first = sessions.register(key(1)).unwrap();
        sessions.lock().last_tsih = u16::MAX;
        let second = sessions.register(key(2)).unwrap();
        assert_eq!((first.tsih, second.tsih), (1, 2));
    }

    #[test]
    fn the_table_has_a_bound() {
        let sessions = Sessions::default();
        let register = |n: usize| {
            let isid = [0, 0, 0, 0, (n >> 8) as u8, n as u8];
            sessions.register(SessionKey { isid, ..key(0) })
        };
        assert!((0..MAX_SESSIONS).all(|n| register(n).is_some()));
        assert!(register(MAX_SESSIONS).is_none());
        assert!(register(0).is_some(), "reinstatement needs no new place");
    }
}
