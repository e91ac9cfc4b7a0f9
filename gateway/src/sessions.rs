//! All sessions of this gateway, and how one reaches another.
//!
//! Each session is driven by its connection's task. What others want of it is asked by a [`Call`] in its mailbox; what
//! its initiator is to be told is put into its [`Nexus`] at once, so that it cannot come too late or be lost.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use huntaway_scsi::{Sense, UnitAttentions};
use tokio::sync::{mpsc, oneshot};

use crate::target::Target;

/// Calls a session may have waiting; a caller waits for room.
const MAILBOX_CALLS: usize = 64;

/// Sessions one gateway holds at most, discovery sessions not counted: they hold nothing but their connection.
pub(crate) const MAX_SESSIONS: usize = 4096;

/// What makes a session the same one to its initiator (RFC 7143 §6.3.5): a second login with it reinstates.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SessionKey {
    pub(crate) initiator: String,
    pub(crate) isid: [u8; 6],
    pub(crate) target: String,
}

/// What is asked of a session by others.
#[derive(Debug)]
pub(crate) enum Call {
    /// Give up all tasks of one LUN (or of all). `done` is dropped when none of them can take effect any more.
    AbortTasks { lun: Option<u16>, done: oneshot::Sender<()> },
    /// Ask the initiator to log out.
    RequestLogout,
    /// End now.
    Close,
}

/// An I_T nexus as other sessions see it.
pub(crate) struct Nexus {
    pub(crate) key: SessionKey,
    pub(crate) tsih: u16,
    /// The CID of its one connection.
    pub(crate) connection_id: u16,
    pub(crate) target: Arc<Target>,
    mailbox: mpsc::Sender<Call>,
    /// What the initiator is to be told, for each LUN.
    attentions: Mutex<BTreeMap<u16, UnitAttentions>>,
    /// Spares commands the lock when there is nothing to tell.
    has_attentions: AtomicBool,
}

impl Nexus {
    /// Takes over what the initiator was to be told through `predecessor`.
    pub(crate) fn inherit(&self, predecessor: &Self) {
        *lock(&self.attentions) = std::mem::take(&mut *lock(&predecessor.attentions));
        self.has_attentions.store(true, Ordering::Release);
    }

    /// Has the initiator told at its next command to one LUN, or to each.
    pub(crate) fn establish(&self, lun: Option<u16>, attention: Sense) {
        let mut attentions = lock(&self.attentions);
        for number in self.target.luns().filter(|number| lun.is_none_or(|lun| lun == *number)) {
            attentions.entry(number).or_default().establish(attention);
        }
        self.has_attentions.store(true, Ordering::Release);
    }

    /// The sense to answer this command with instead of carrying it out, if there is something to tell.
    pub(crate) fn intercept(&self, lun: u16, cdb: &[u8]) -> Option<Sense> {
        self.told(lun, |attentions| attentions.intercept(cdb))
    }

    /// The oldest thing to tell, for REQUEST SENSE.
    pub(crate) fn take_attention(&self, lun: u16) -> Option<Sense> {
        self.told(lun, UnitAttentions::take)
    }

    fn told(&self, lun: u16, take: impl FnOnce(&mut UnitAttentions) -> Option<Sense>) -> Option<Sense> {
        if !self.has_attentions.load(Ordering::Acquire) {
            return None;
        }
        let mut attentions = lock(&self.attentions);
        let of_unit = attentions.get_mut(&lun)?;
        let sense = take(of_unit);
        if of_unit.is_empty() {
            attentions.remove(&lun);
        }
        self.has_attentions.store(!attentions.is_empty(), Ordering::Release);
        sense
    }

    /// Asks for something. A session that has ended does not care.
    pub(crate) async fn call(&self, call: Call) {
        let _ = self.mailbox.send(call).await;
    }

    /// Has the session give up its tasks of one LUN (or all), and waits until none of them can take effect any more.
    pub(crate) async fn abort_tasks(&self, lun: Option<u16>) {
        let (done, settled) = oneshot::channel();
        self.call(Call::AbortTasks { lun, done }).await;
        tokio::select! {
            // Only ever dropped.
            _ = settled => {}
            // A call that came too late may lie in the mailbox of an ended session for as long as we hold that.
            () = self.mailbox.closed() => {}
        }
    }

    /// Closes the session and waits until none of its commands can take effect any more.
    pub(crate) async fn close(&self) {
        self.call(Call::Close).await;
        self.mailbox.closed().await;
    }
}

/// The table of sessions.
#[derive(Default)]
pub(crate) struct Sessions {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    last_tsih: u16,
    sessions: HashMap<SessionKey, Arc<Nexus>>,
}

/// A session's place in the table, given up when this is dropped: then nothing of the session can take effect any more.
pub(crate) struct Registration {
    pub(crate) nexus: Arc<Nexus>,
    pub(crate) calls: mpsc::Receiver<Call>,
    sessions: Arc<Sessions>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.sessions.remove(&self.nexus);
    }
}

impl Sessions {
    /// Enters a new session, in the place of one with the same key, which is returned: it is to be closed before the login
    /// is answered. It gets a fresh TSIH, or goes on under `tsih`. `None` when the table is full.
    pub(crate) fn register(
        self: &Arc<Self>,
        key: SessionKey,
        target: Arc<Target>,
        connection_id: u16,
        tsih: Option<u16>,
    ) -> Option<(Registration, Option<Arc<Nexus>>)> {
        let mut table = lock(&self.table);
        if table.sessions.len() >= MAX_SESSIONS && !table.sessions.contains_key(&key) {
            return None;
        }
        let (mailbox, calls) = mpsc::channel(MAILBOX_CALLS);
        let nexus = Arc::new(Nexus {
            key: key.clone(),
            tsih: tsih.unwrap_or_else(|| table.fresh_tsih()),
            connection_id,
            target,
            mailbox,
            attentions: Mutex::default(),
            has_attentions: AtomicBool::new(false),
        });
        let predecessor = table.sessions.insert(key, Arc::clone(&nexus));
        Some((Registration { nexus, calls, sessions: Arc::clone(self) }, predecessor))
    }

    /// A TSIH for a session that is not entered: a discovery session.
    pub(crate) fn fresh_tsih(&self) -> u16 {
        lock(&self.table).fresh_tsih()
    }

    /// Takes a session out, unless another has taken its place.
    fn remove(&self, nexus: &Nexus) {
        let mut table = lock(&self.table);
        if table.sessions.get(&nexus.key).is_some_and(|entry| std::ptr::eq(&**entry, nexus)) {
            table.sessions.remove(&nexus.key);
        }
    }

    /// The session with this key, if it has this TSIH.
    pub(crate) fn find(&self, key: &SessionKey, tsih: u16) -> Option<Arc<Nexus>> {
        lock(&self.table).sessions.get(key).filter(|nexus| nexus.tsih == tsih).cloned()
    }

    /// All sessions.
    pub(crate) fn all(&self) -> Vec<Arc<Nexus>> {
        lock(&self.table).sessions.values().cloned().collect()
    }

    /// The sessions with the target of `nexus`, without it.
    pub(crate) fn beside(&self, nexus: &Nexus) -> Vec<Arc<Nexus>> {
        let table = lock(&self.table);
        let beside = |other: &&Arc<Nexus>| other.key.target == nexus.key.target && other.tsih != nexus.tsih;
        table.sessions.values().filter(beside).cloned().collect()
    }

    /// Number of sessions.
    pub(crate) fn len(&self) -> usize {
        lock(&self.table).sessions.len()
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

/// A panic elsewhere leaves these tables whole: each change is one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(isid: u8) -> SessionKey {
        SessionKey { initiator: "iqn.2026-11.test:a".into(), isid: [isid; 6], target: "t".into() }
    }

    fn register(sessions: &Arc<Sessions>, key: SessionKey) -> Option<(Registration, Option<Arc<Nexus>>)> {
        sessions.register(key, Arc::new(Target::empty()), 0, None)
    }

    #[test]
    fn a_second_login_with_the_same_key_takes_the_place_of_the_first() {
        let sessions = Arc::new(Sessions::default());
        let (first, predecessor) = register(&sessions, key(1)).unwrap();
        assert!(predecessor.is_none());
        let (second, predecessor) = register(&sessions, key(1)).unwrap();
        assert_eq!(predecessor.map(|nexus| nexus.tsih), Some(first.nexus.tsih));
        drop(first);
        let found = sessions.find(&key(1), second.nexus.tsih);
        assert!(found.is_some(), "the first one's end must not remove the second");
        assert_eq!(sessions.len(), 1);
    }

    #[test]
    fn a_registration_that_is_dropped_leaves_no_entry() {
        let sessions = Arc::new(Sessions::default());
        drop(register(&sessions, key(1)));
        assert_eq!(sessions.len(), 0);
    }

    #[test]
    fn tsihs_are_unique_and_never_zero() {
        let sessions = Arc::new(Sessions::default());
        let (first, _) = register(&sessions, key(1)).unwrap();
        lock(&sessions.table).last_tsih = u16::MAX;
        let (second, _) = register(&sessions, key(2)).unwrap();
        assert_eq!((first.nexus.tsih, second.nexus.tsih), (1, 2));
    }

    #[test]
    fn the_table_has_a_bound() {
        let sessions = Arc::new(Sessions::default());
        let register = |n: usize| {
            let isid = [0, 0, 0, 0, (n >> 8) as u8, n as u8];
            register(&sessions, SessionKey { isid, ..key(0) })
        };
        let held: Vec<_> = (0..MAX_SESSIONS).map_while(register).collect();
        assert_eq!(held.len(), MAX_SESSIONS);
        assert!(register(MAX_SESSIONS).is_none());
        assert!(register(0).is_some(), "reinstatement needs no new place");
    }
}
