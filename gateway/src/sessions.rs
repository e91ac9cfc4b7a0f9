//! All sessions of this gateway, and what they see.
//!
//! A login and an update of what is served exclude each other: a session is entered with the catalog of that moment, or
//! the update finds it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use huntaway_scsi::Sense;
use iscsi_target::{Admission, LoginStatus, RefusalReason};
use tokio::sync::{mpsc, watch};

use crate::catalog::Catalog;
use crate::disk::Disk;
use crate::metrics::Metrics;
use crate::nexus::{Call, Nexus, Origin, SessionKey};
use crate::served::{Served, TargetError};

/// Calls a session may have waiting; a caller waits for room.
const MAILBOX_CALLS: usize = 64;

/// Sessions one gateway holds at most, discovery sessions not counted: they hold nothing but their connection.
pub(crate) const MAX_SESSIONS: usize = 4096;

/// A session that an initiator has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionInfo {
    /// The initiator's iSCSI name, in lower case.
    pub initiator: String,
    /// The target's iSCSI name, in lower case.
    pub target: String,
    /// The initiator's end of the connection.
    pub peer: SocketAddr,
    /// The name of the portal it came in by.
    pub portal: String,
    /// Our handle of the session.
    pub tsih: u16,
}

/// What an update did to sessions and units.
pub(crate) struct Aftermath {
    /// Each closes when no command has its unit any more.
    pub(crate) retired: Vec<watch::Receiver<()>>,
    /// Sessions whose initiator may no longer use its target.
    pub(crate) revoked: Vec<Arc<Nexus>>,
}

/// The table of sessions.
#[derive(Default)]
pub(crate) struct Sessions {
    table: Mutex<Table>,
    /// What is served. Replaced only under the lock of `table`.
    catalog: ArcSwap<Catalog>,
}

#[derive(Default)]
struct Table {
    last_tsih: u16,
    sessions: HashMap<SessionKey, Arc<Nexus>>,
}

/// A session's place in the table, given up when this is dropped: then nothing of the session can take effect any more.
pub(crate) struct Registration {
    pub(crate) nexus: Arc<Nexus>,
    /// What is asked of it, until its connection takes care of that.
    pub(crate) calls: Option<mpsc::Receiver<Call>>,
    sessions: Arc<Sessions>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.sessions.remove(&self.nexus);
    }
}

impl Sessions {
    /// Enters a new session, in the place of one with the same key, which is returned: it is to be closed before the login
    /// is answered. It gets a fresh TSIH, or goes on under `tsih`. `admission` is on what terms it was let in.
    ///
    /// # Errors
    /// The table is full, or what was served when the login began no longer is, or no longer on these terms.
    pub(crate) fn register(
        self: &Arc<Self>,
        key: SessionKey,
        origin: Origin,
        connection_id: u16,
        tsih: Option<u16>,
        admission: &Admission,
    ) -> Result<(Registration, Option<Arc<Nexus>>), RefusalReason> {
        let mut table = lock(&self.table);
        if table.sessions.len() >= MAX_SESSIONS && !table.sessions.contains_key(&key) {
            return Err(LoginStatus::OutOfResources.into());
        }
        let catalog = self.catalog.load();
        let (target, access) = catalog.admit(&origin.portal, &key.initiator, &key.target)?;
        if target.admission(access) != *admission {
            return Err(RefusalReason::TermsChanged);
        }
        let (mailbox, calls) = mpsc::channel(MAILBOX_CALLS);
        let tsih = tsih.unwrap_or_else(|| table.fresh_tsih());
        let view = Arc::clone(&access.view);
        let nexus = Arc::new(Nexus::new(key.clone(), tsih, connection_id, origin, view, mailbox));
        let predecessor = table.sessions.insert(key, Arc::clone(&nexus));
        Ok((Registration { nexus, calls: Some(calls), sessions: Arc::clone(self) }, predecessor))
    }

    /// What is served now.
    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        self.catalog.load_full()
    }

    /// Serves this from now on, to the sessions there are as well. All or nothing.
    ///
    /// # Errors
    /// What cannot be served.
    pub(crate) fn update(&self, served: Served, metrics: &Metrics) -> Result<Aftermath, TargetError> {
        let table = lock(&self.table);
        let before = self.catalog.load_full();
        let catalog = Arc::new(Catalog::new(served, &before, metrics)?);
        self.catalog.store(Arc::clone(&catalog));
        let mut revoked = Vec::new();
        for nexus in table.sessions.values().filter(|nexus| !nexus.is_revoked()) {
            match catalog.access(&nexus.key.initiator, &nexus.key.target) {
                Some(access) => nexus.show(Arc::clone(&access.view)),
                None if nexus.revoke() => revoked.push(Arc::clone(nexus)),
                None => {}
            }
        }
        let retired = before.units_not_in(&catalog).map(|unit| unit.retire()).collect();
        Ok(Aftermath { retired, revoked })
    }

    /// What people are told of the sessions, by target and initiator.
    pub(crate) fn infos(&self) -> Vec<SessionInfo> {
        let info = |nexus: &Arc<Nexus>| SessionInfo {
            initiator: nexus.key.initiator.clone(),
            target: nexus.key.target.clone(),
            peer: nexus.origin.peer,
            portal: nexus.origin.portal.to_string(),
            tsih: nexus.tsih,
        };
        let mut infos: Vec<_> = self.all().iter().map(info).collect();
        infos.sort_by(|a, b| (&a.target, &a.initiator, a.tsih).cmp(&(&b.target, &b.initiator, b.tsih)));
        infos
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

    /// Whether there is a session with this key.
    pub(crate) fn has(&self, key: &SessionKey) -> bool {
        lock(&self.table).sessions.contains_key(key)
    }

    /// All sessions.
    pub(crate) fn all(&self) -> Vec<Arc<Nexus>> {
        lock(&self.table).sessions.values().cloned().collect()
    }

    /// All sessions but this one.
    pub(crate) fn beside(&self, nexus: &Nexus) -> Vec<Arc<Nexus>> {
        let mut others = self.all();
        others.retain(|other| !std::ptr::eq(&**other, nexus));
        others
    }

    /// Has all initiators told that see this disk, through whichever target and LUN, but for the nexus and LUN of
    /// `except`.
    pub(crate) fn tell(&self, disk: &Arc<Disk>, except: Option<(&Nexus, u16)>, attention: Sense) {
        for nexus in self.all() {
            let own_lun = except.filter(|(own, _)| std::ptr::eq(*own, &*nexus)).map(|(_, lun)| lun);
            let luns: Vec<u16> =
                nexus.luns_of(disk).into_iter().filter(|lun| Some(*lun) != own_lun).collect();
            nexus.establish(&luns, attention);
        }
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
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::served::{InitiatorConfig, TargetConfig};
    use iscsi_target::{Authentication, DigestPolicy};

    fn sessions() -> Arc<Sessions> {
        let sessions = Sessions::default();
        let anyone =
            InitiatorConfig { pattern: "*".into(), luns: None, authentication: Authentication::None };
        let target = TargetConfig {
            name: "t".into(),
            portals: None,
            initiators: vec![anyone],
            digests: DigestPolicy::Allowed,
            units: Vec::new(),
        };
        let served = Served { targets: vec![target], discovery: Authentication::None };
        sessions.update(served, &Metrics::new(&prometheus::Registry::new()).unwrap()).unwrap();
        Arc::new(sessions)
    }

    fn key(isid: u8) -> SessionKey {
        SessionKey { initiator: "iqn.2026-11.test:a".into(), isid: [isid; 6], target: "t".into() }
    }

    fn register(sessions: &Arc<Sessions>, key: SessionKey) -> Option<(Registration, Option<Arc<Nexus>>)> {
        let origin = Origin { peer: "192.0.2.1:1".parse().unwrap(), portal: "p".into() };
        let admission = Admission { authentication: Authentication::None, digests: DigestPolicy::Allowed };
        sessions.register(key, origin, 0, None, &admission).ok()
    }

    #[test]
    fn a_second_login_with_the_same_key_takes_the_place_of_the_first() {
        let sessions = sessions();
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
        let sessions = sessions();
        drop(register(&sessions, key(1)));
        assert_eq!(sessions.len(), 0);
    }

    #[test]
    fn tsihs_are_unique_and_never_zero() {
        let sessions = sessions();
        let (first, _) = register(&sessions, key(1)).unwrap();
        lock(&sessions.table).last_tsih = u16::MAX;
        let (second, _) = register(&sessions, key(2)).unwrap();
        assert_eq!((first.nexus.tsih, second.nexus.tsih), (1, 2));
    }

    #[test]
    fn the_table_has_a_bound() {
        let sessions = sessions();
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
