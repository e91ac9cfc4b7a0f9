//! A session as its connection holds it: login, logout, and what other sessions ask of it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use huntaway_scsi::Sense;
use iscsi_target::{LoginStatus, Logout, LogoutResponse, Negotiated, SessionKind};
use prometheus::IntGauge;

use crate::driver::{Driver, Waited};
use crate::sessions::{Call, Registration, SessionKey};

/// Seconds an initiator is given to log out when the gateway stops.
pub(crate) const LOGOUT_SECONDS: u16 = 3;

/// A session in full feature phase. Dropping it gives up its place among the others.
pub(crate) struct Session {
    pub(crate) registration: Registration,
    gauge: IntGauge,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.gauge.dec();
        let nexus = &self.registration.nexus;
        tracing::info!(initiator = nexus.key.initiator, tsih = nexus.tsih, "session ended");
    }
}

impl Driver {
    /// The login phase is over but for the session: RFC 7143 §6.3.5, §7.3.
    pub(crate) fn on_login(&mut self, negotiated: Negotiated) {
        if self.shared.is_stopping() {
            return self.refuse_login(LoginStatus::ServiceUnavailable);
        }
        let Negotiated { kind, initiator_name, target_name, isid, connection_id, tsih, .. } = negotiated;
        let target = match (kind, target_name) {
            (SessionKind::Normal, Some(name)) => name,
            (SessionKind::Discovery, _) | (SessionKind::Normal, None) => {
                return self.start_discovery(&initiator_name);
            }
        };
        let Some(served) = self.shared.targets.find(&target) else {
            return self.refuse_login(LoginStatus::NotFound);
        };
        let key = SessionKey { initiator: initiator_name, isid, target };
        // A TSIH asks for its session to go on: with this connection in the place of the one it has (§6.3.4), for it can
        // have no second one.
        if tsih != 0 {
            match self.shared.sessions.find(&key, tsih) {
                None => return self.refuse_login(LoginStatus::SessionDoesNotExist),
                Some(nexus) if nexus.connection_id != connection_id => {
                    return self.refuse_login(LoginStatus::TooManyConnections);
                }
                Some(_) => {}
            }
        }
        match self.shared.sessions.register(key, served, connection_id, (tsih != 0).then_some(tsih)) {
            None => {
                tracing::warn!("login refused: the gateway has as many sessions as it can hold");
                self.refuse_login(LoginStatus::OutOfResources);
            }
            Some((registration, None)) => {
                registration.nexus.establish(None, Sense::power_on());
                self.start_session(registration);
            }
            Some((registration, Some(predecessor))) => {
                let registration = Box::new(registration);
                let closed = async move {
                    predecessor.close().await;
                    if predecessor.tsih == registration.nexus.tsih {
                        registration.nexus.inherit(&predecessor);
                    } else {
                        registration.nexus.establish(None, Sense::power_on());
                    }
                    Waited::Predecessor(registration)
                };
                self.waits.push(closed.boxed());
            }
        }
    }

    fn refuse_login(&mut self, status: LoginStatus) {
        self.shared.metrics.count_login(status);
        self.connection.refuse_session(status);
    }

    fn start_discovery(&mut self, initiator: &str) {
        self.shared.metrics.count_login(LoginStatus::Success);
        tracing::info!(initiator, "discovery");
        let tsih = self.shared.sessions.fresh_tsih();
        self.connection.accept_session(self.shared.now(), tsih);
    }

    pub(crate) fn start_session(&mut self, registration: Registration) {
        let nexus = Arc::clone(&registration.nexus);
        let metrics = &self.shared.metrics;
        metrics.count_login(LoginStatus::Success);
        metrics.sessions.inc();
        let (initiator, target, tsih) = (&nexus.key.initiator, &nexus.key.target, nexus.tsih);
        tracing::info!(initiator, target, tsih, "session started");
        self.session = Some(Session { registration, gauge: metrics.sessions.clone() });
        self.connection.accept_session(self.shared.now(), tsih);
    }

    /// What another session, or the gateway, asks.
    pub(crate) fn on_call(&mut self, call: Call) -> ControlFlow<()> {
        match call {
            Call::AbortTasks { lun, done } => self.abort_tasks(lun, done),
            Call::RequestLogout => self.connection.request_logout(LOGOUT_SECONDS),
            Call::Close => {
                self.last_words = Duration::ZERO;
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    /// A Logout ends the commands that have not begun (RFC 7143 §11.14); it is answered when the others have ended.
    pub(crate) fn on_logout(&mut self, logout: Logout) {
        self.abort_waiting();
        self.logout = Some(logout.initiator_task_tag);
    }

    /// Answers a Logout once no task is left; `Break` when that was done.
    pub(crate) fn answer_logout(&mut self) -> ControlFlow<()> {
        match self.logout {
            Some(tag) if self.tasks.is_empty() => {
                self.connection.respond_logout(tag, LogoutResponse::Closed);
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        }
    }
}
