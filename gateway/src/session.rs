//! A session as its connection holds it: login, task management, logout, and what other sessions ask of it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use futures_util::FutureExt;
use huntaway_scsi::{Sense, UnitAttentions};
use iscsi_target::{
    LoginStatus, LogoutResponse, Negotiated, SessionKind, TaskFunction, TaskManagement,
    TaskManagementResponse,
};
use tokio::sync::{mpsc, oneshot};

use crate::driver::{Driver, Ended};
use crate::gateway::Shared;
use crate::sessions::{Call, Mailbox, Registration, SessionKey};
use crate::target::Target;

/// Seconds an initiator is given to log out when the gateway stops.
pub(crate) const LOGOUT_SECONDS: u16 = 3;

/// An I_T nexus in full feature phase.
pub(crate) struct Session {
    pub(crate) calls: mpsc::Receiver<Call>,
    /// `None` in a discovery session.
    pub(crate) target: Option<Arc<Target>>,
    key: SessionKey,
    tsih: u16,
    /// What the initiator is to be told, for each LUN.
    attentions: BTreeMap<u16, UnitAttentions>,
}

impl Session {
    /// The sense to answer this command with instead of carrying it out, if there is something to tell.
    pub(crate) fn intercept(&mut self, lun: u16, cdb: &[u8]) -> Option<Sense> {
        if self.attentions.is_empty() {
            return None;
        }
        let attentions = self.attentions.get_mut(&lun)?;
        let sense = attentions.intercept(cdb);
        if attentions.is_empty() {
            self.attentions.remove(&lun);
        }
        sense
    }

    /// The oldest thing to tell, for REQUEST SENSE.
    pub(crate) fn take_attention(&mut self, lun: u16) -> Option<Sense> {
        self.attentions.get_mut(&lun)?.take()
    }

    pub(crate) fn establish(&mut self, lun: Option<u16>, attention: Sense) {
        let Some(target) = &self.target else { return };
        for number in target.luns().filter(|number| lun.is_none_or(|lun| lun == *number)) {
            self.attentions.entry(number).or_default().establish(attention);
        }
    }

    pub(crate) fn tsih(&self) -> u16 {
        self.tsih
    }

    /// Gives up the session's place among the others.
    pub(crate) fn leave(self, shared: &Shared) {
        shared.sessions.remove(&self.key, self.tsih);
        shared.metrics.sessions.dec();
        tracing::info!(initiator = self.key.initiator, tsih = self.tsih, "session ended");
    }
}

impl Driver {
    /// The login phase is over but for the session: RFC 7143 §6.3.5, §7.3.
    pub(crate) fn on_login(&mut self, negotiated: Negotiated) {
        if negotiated.tsih != 0 {
            let exists = self.shared.sessions.has(negotiated.tsih);
            let status =
                if exists { LoginStatus::TooManyConnections } else { LoginStatus::SessionDoesNotExist };
            return self.refuse_login(status);
        }
        let target = match negotiated.kind {
            SessionKind::Discovery => None,
            SessionKind::Normal => negotiated.target_name,
        };
        let key = SessionKey { initiator: negotiated.initiator_name, isid: negotiated.isid, target };
        let Some(mut registration) = self.shared.sessions.register(key) else {
            tracing::warn!("login refused: the gateway has as many sessions as it can hold");
            return self.refuse_login(LoginStatus::OutOfResources);
        };
        match registration.predecessor.take() {
            None => self.start_session(registration),
            Some(predecessor) => {
                let closed = close(predecessor);
                let registration = Box::new(registration);
                self.running.push(closed.map(|()| Ended::Predecessor(registration)).boxed());
            }
        }
    }

    fn refuse_login(&mut self, status: LoginStatus) {
        self.shared.metrics.count_login("refused");
        self.connection.refuse_session(status);
    }

    pub(crate) fn start_session(&mut self, registration: Registration) {
        let Registration { key, tsih, calls, .. } = registration;
        let target = key.target.as_deref().and_then(|name| self.shared.targets.find(name));
        self.shared.metrics.count_login("success");
        self.shared.metrics.sessions.inc();
        tracing::info!(initiator = key.initiator, target = key.target, tsih, "session started");
        let mut session = Session { calls, target, key, tsih, attentions: BTreeMap::new() };
        session.establish(None, Sense::power_on());
        self.session = Some(session);
        self.connection.accept_session(self.shared.now(), tsih);
    }

    /// What another session, or the gateway, asks.
    pub(crate) fn on_call(&mut self, call: Call) -> ControlFlow<()> {
        match call {
            Call::AbortTasks { lun, done } => self.abort_tasks(lun, done),
            Call::UnitAttention { lun, attention } => {
                if let Some(session) = &mut self.session {
                    session.establish(lun, attention);
                }
            }
            Call::RequestLogout => self.connection.request_logout(LOGOUT_SECONDS),
            Call::Close { done } => {
                self.end = Some(done);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    /// Task management (RFC 7143 §11.5): answered when the tasks it concerns can take no effect any more.
    pub(crate) fn on_task_management(&mut self, request: &TaskManagement) {
        let itt = request.initiator_task_tag;
        let known = request.lun.flat().filter(|lun| self.has_lun(*lun));
        let (settled, attention, close) = match (request.function, known) {
            (TaskFunction::AbortTask, _) => return self.abort_task(request),
            (TaskFunction::AbortTaskSet, Some(lun)) => (self.abort_own(Some(lun)), None, false),
            (TaskFunction::ClearTaskSet, Some(lun)) => {
                (self.abort_everywhere(Some(lun)), Some((Some(lun), Sense::commands_cleared())), false)
            }
            (TaskFunction::LogicalUnitReset, Some(lun)) => {
                (self.abort_everywhere(Some(lun)), Some((Some(lun), Sense::logical_unit_reset())), false)
            }
            (TaskFunction::TargetWarmReset, _) => {
                (self.abort_everywhere(None), Some((None, Sense::target_reset())), false)
            }
            (TaskFunction::TargetColdReset, _) => {
                (self.abort_everywhere(None), Some((None, Sense::power_on())), true)
            }
            (
                TaskFunction::AbortTaskSet | TaskFunction::ClearTaskSet | TaskFunction::LogicalUnitReset,
                None,
            ) => {
                let response = TaskManagementResponse::LunDoesNotExist;
                return self.connection.respond_task_management(itt, response);
            }
            (TaskFunction::TaskReassign, _) => {
                let response = TaskManagementResponse::ReassignmentUnsupported;
                return self.connection.respond_task_management(itt, response);
            }
            (TaskFunction::ClearAca | TaskFunction::Unknown(_), _) => {
                let response = TaskManagementResponse::FunctionUnsupported;
                return self.connection.respond_task_management(itt, response);
            }
        };
        let others = self.other_sessions();
        let resets = !matches!(request.function, TaskFunction::ClearTaskSet);
        if let (Some((lun, attention)), true) = (attention, resets) {
            self.reset(lun, attention);
        }
        let finish = async move {
            for settled in settled {
                // An error means that the session has ended, and with it its tasks.
                let _ = settled.await;
            }
            for other in others {
                if let Some((lun, attention)) = attention {
                    let _ = other.send(Call::UnitAttention { lun, attention }).await;
                }
                if close {
                    let _ = other.send(Call::Close { done: oneshot::channel().0 }).await;
                }
            }
            Ended::TaskManagement { initiator_task_tag: itt }
        };
        self.running.push(finish.boxed());
    }

    /// What a reset of one LUN (or of all) does beside giving up tasks: mode parameters are the default ones again (SPC-4;
    /// pages are not saved), and the initiator that asked for it is told like the others.
    fn reset(&mut self, lun: Option<u16>, attention: Sense) {
        let Some(session) = &mut self.session else { return };
        let units = session.target.iter().flat_map(|target| target.units.values());
        units.filter(|unit| lun.is_none_or(|lun| lun == unit.lun)).for_each(|unit| unit.reset_modes());
        session.establish(lun, attention);
    }

    pub(crate) fn task_management_done(&mut self, initiator_task_tag: u32) {
        self.connection.respond_task_management(initiator_task_tag, TaskManagementResponse::FunctionComplete);
    }

    fn abort_task(&mut self, request: &TaskManagement) {
        let itt = request.initiator_task_tag;
        let Some(task) = request.referenced else {
            // Answered already, or never seen.
            let response = TaskManagementResponse::TaskDoesNotExist;
            return self.connection.respond_task_management(itt, response);
        };
        let (done, settled) = oneshot::channel();
        self.abort_one(task, done);
        let finish = settled.map(move |_| Ended::TaskManagement { initiator_task_tag: itt });
        self.running.push(finish.boxed());
    }

    fn abort_own(&mut self, lun: Option<u16>) -> Vec<oneshot::Receiver<()>> {
        let (done, settled) = oneshot::channel();
        self.abort_tasks(lun, done);
        vec![settled]
    }

    /// Aborts the tasks of every session with this target; each receiver ends when one session's are settled.
    fn abort_everywhere(&mut self, lun: Option<u16>) -> Vec<oneshot::Receiver<()>> {
        let mut settled = self.abort_own(lun);
        for other in self.other_sessions() {
            let (done, theirs) = oneshot::channel();
            self.running_call(other, Call::AbortTasks { lun, done });
            settled.push(theirs);
        }
        settled
    }

    /// Posts a call without waiting for room in the mailbox; the caller waits for the call's own answer.
    fn running_call(&self, mailbox: Mailbox, call: Call) {
        tokio::spawn(async move { mailbox.send(call).await });
    }

    /// The other sessions with this one's target.
    pub(crate) fn other_sessions(&self) -> Vec<Mailbox> {
        let Some(session) = &self.session else { return Vec::new() };
        let Some(target) = &session.target else { return Vec::new() };
        self.shared.sessions.mailboxes(Some(&target.name), Some(session.tsih()))
    }

    fn has_lun(&self, lun: u16) -> bool {
        let target = self.session.as_ref().and_then(|session| session.target.as_ref());
        target.is_some_and(|target| target.units.contains_key(&lun))
    }

    /// Answers a Logout once every task has been (RFC 7143 §11.14).
    pub(crate) fn answer_logout(&mut self) {
        if !self.tasks.is_empty() {
            return;
        }
        if let Some(logout) = self.logout.take() {
            let response = match logout.reason {
                iscsi_target::LogoutReason::RemoveForRecovery => LogoutResponse::RecoveryUnsupported,
                _ => LogoutResponse::Closed,
            };
            self.connection.respond_logout(logout.initiator_task_tag, response);
        }
    }
}

/// Closes a session and waits until none of its commands can take effect any more.
pub(crate) async fn close(mailbox: Mailbox) {
    let (done, closed) = oneshot::channel();
    if mailbox.send(Call::Close { done }).await.is_ok() {
        let _ = closed.await;
    }
}
