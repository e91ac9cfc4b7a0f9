//! A session as its connection holds it: login, logout, and what other sessions ask of it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use huntaway_scsi::Sense;
use iscsi_target::{
    Admission, LoginRefusal, LoginStatus, Logout, LogoutResponse, Negotiated, RefusalReason, SessionKind,
};
use prometheus::IntGauge;
use tokio::sync::oneshot;

use crate::driver::{Driver, Waited, next_call};
use crate::fencing::GivenUp;
use crate::guesses::MAX_WAIT;
use crate::nexus::{Call, Nexus, SessionKey};
use crate::sessions::Registration;

/// Seconds an initiator is given to log out when the gateway stops, or when it may no longer use its target.
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
        let Negotiated { kind, initiator_name, target_name, isid, connection_id, tsih, admission, .. } =
            negotiated;
        let target = target_name.filter(|_| kind == SessionKind::Normal);
        if self.shared.is_stopping() || self.shared.has_lost_cluster() {
            return self.refuse_login(LoginStatus::ServiceUnavailable.into(), initiator_name, target);
        }
        let Some(target) = target else { return self.start_discovery(initiator_name, &admission) };
        let key =
            SessionKey { initiator: initiator_name.to_lowercase(), isid, target: target.to_lowercase() };
        if !self.place.keep(self.shared.sessions.has(&key)) {
            return self.refuse_login(LoginStatus::OutOfResources.into(), key.initiator, Some(key.target));
        }
        match self.register(key.clone(), connection_id, tsih, &admission) {
            Err(reason) => self.refuse_login(reason, key.initiator, Some(key.target)),
            Ok((registration, None)) => {
                registration.nexus.establish_everywhere(Sense::power_on());
                self.start_session(registration);
            }
            Ok((registration, Some(predecessor))) => self.succeed(registration, predecessor),
        }
    }

    /// Takes a session's place once it has ended. Until then the place is held even if this connection ends: whoever comes
    /// next must not get in while the old session's commands can still take effect.
    fn succeed(&mut self, registration: Registration, predecessor: Arc<Nexus>) {
        let registration = Box::new(registration);
        let (ready, is_ready) = oneshot::channel();
        tokio::spawn(async move {
            predecessor.close().await;
            if predecessor.tsih == registration.nexus.tsih {
                registration.nexus.inherit(&predecessor);
            } else {
                registration.nexus.establish_everywhere(Sense::power_on());
            }
            // Comes back, and is dropped, if the connection has ended.
            let _ = ready.send(registration);
        });
        let closed = async move {
            match is_ready.await {
                Ok(registration) => Waited::Predecessor(registration),
                // The runtime is shutting down.
                Err(_) => std::future::pending().await,
            }
        };
        self.waits.push(closed.boxed());
    }

    /// A proof is judged when it is its turn: see [`crate::guesses`].
    pub(crate) fn on_proof(&mut self) {
        let now = self.shared.now();
        let is_new = self.proof_since.is_none();
        let since = *self.proof_since.get_or_insert(now);
        let Some(wait) = self.shared.guesses.turn(self.origin.peer.ip(), now) else {
            self.awaits_verdict = true;
            return self.connection.judge_proof();
        };
        if is_new {
            self.shared.metrics.slowed_logins.inc();
        }
        if now + wait > since + MAX_WAIT {
            let reason = RefusalReason::TooManyGuesses;
            self.report_refusal(&LoginRefusal { reason, initiator: None, target: None });
            return self.connection.refuse_session(reason.status());
        }
        self.waits.push(tokio::time::sleep(wait).map(|()| Waited::Turn).boxed());
    }

    /// The core went on after a proof, or the login was refused, or the connection ended.
    pub(crate) fn note_verdict(&mut self, was_right: bool) {
        if std::mem::take(&mut self.awaits_verdict) {
            self.proof_since = None;
            self.shared.guesses.verdict(self.origin.peer.ip(), was_right, self.shared.now());
        }
    }

    /// A newcomer has this connection's place.
    pub(crate) fn leave(&mut self) -> ControlFlow<()> {
        self.shared.metrics.displaced_connections.inc();
        tracing::debug!(peer = %self.origin.peer, "connection without a session closed: its place is needed");
        self.end_now()
    }

    /// A TSIH asks for its session to go on: with this connection in the place of the one it has (RFC 7143 §6.3.4), for
    /// it can have no second one.
    fn register(
        &self,
        key: SessionKey,
        connection_id: u16,
        tsih: u16,
        admission: &Admission,
    ) -> Result<(Registration, Option<Arc<Nexus>>), RefusalReason> {
        let sessions = &self.shared.sessions;
        if tsih != 0 {
            match sessions.find(&key, tsih) {
                None => return Err(LoginStatus::SessionDoesNotExist.into()),
                Some(nexus) if nexus.connection_id != connection_id => {
                    return Err(LoginStatus::TooManyConnections.into());
                }
                Some(_) => {}
            }
        }
        let tsih = (tsih != 0).then_some(tsih);
        sessions.register(key, self.origin.clone(), connection_id, tsih, admission)
    }

    fn refuse_login(&mut self, reason: RefusalReason, initiator: String, target: Option<String>) {
        self.report_refusal(&LoginRefusal { reason, initiator: Some(initiator), target });
        self.connection.refuse_session(reason.status());
    }

    /// Counts and logs a login that is refused. What an initiator sent to prove itself is not in it.
    pub(crate) fn report_refusal(&self, refusal: &LoginRefusal) {
        let LoginRefusal { reason, initiator, target } = refusal;
        self.shared.metrics.count_login(reason.status());
        let (initiator, target) = (initiator.as_deref(), target.as_deref());
        let (peer, portal) = (self.origin.peer, &*self.origin.portal);
        tracing::info!(initiator, target, %peer, portal, %reason, "login refused");
    }

    fn start_discovery(&mut self, initiator: String, admission: &Admission) {
        if self.shared.sessions.catalog().discovery() != *admission {
            return self.refuse_login(RefusalReason::TermsChanged, initiator, None);
        }
        self.shared.metrics.count_login(LoginStatus::Success);
        tracing::info!(initiator, "discovery");
        let tsih = self.shared.sessions.fresh_tsih();
        self.connection.accept_session(self.shared.now(), tsih);
    }

    pub(crate) fn start_session(&mut self, mut registration: Registration) {
        if let Some(calls) = registration.calls.take() {
            self.waits.push(next_call(calls).boxed());
        }
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
            Call::AbortTasks { luns, done } => self.abort_tasks(&luns, done),
            Call::SettleWrites { disk, done } => self.tasks.watch_writes(&disk, done),
            Call::FailRetired => self.fail_retired(),
            Call::RequestLogout => self.connection.request_logout(LOGOUT_SECONDS),
            Call::CloseIfStalled if self.is_stalled() => {
                tracing::warn!(
                    peer = %self.origin.peer,
                    "session closed: commands to a disk that is no longer served, or has changed, wait for the initiator \
                     to take its answers"
                );
                return self.end_now();
            }
            Call::CloseIfStalled => {}
            Call::Close => return self.end_now(),
        }
        ControlFlow::Continue(())
    }

    fn end_now(&mut self) -> ControlFlow<()> {
        self.last_words = Duration::ZERO;
        ControlFlow::Break(())
    }

    /// A Logout ends the commands that have not begun (RFC 7143 §11.14); it is answered when the others have ended.
    pub(crate) fn on_logout(&mut self, logout: Logout) {
        self.abort_waiting();
        self.give_up_running(GivenUp::Dropped);
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
