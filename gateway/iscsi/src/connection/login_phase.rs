//! The login phase of a connection: Login PDUs around the [`Login`] state machine, and the caller's decision.

use std::sync::Arc;
use std::time::Duration;

use super::{Connection, Phase};
use crate::command_window::CommandWindow;
use crate::directory::Directory;
use crate::entropy::Entropy;
use crate::error::ConnectionError;
use crate::event::Event;
use crate::framing::{Digests, Frame};
use crate::limits::Limits;
use crate::login::{Login, LoginReply, LoginRequest, LoginStatus, LoginStep};
use crate::parameters::{Negotiated, SessionKind};
use crate::pdu::{LoginRequestPdu, LoginResponsePdu, Opcode, SequenceNumbers};

/// What a connection keeps until it is in full feature phase.
pub(super) struct LoginPhase {
    login: Login,
    pub(super) deadline: Duration,
    decision: Option<Decision>,
    proof: Option<Proof>,
}

/// A request that is to prove who the initiator is.
struct Proof {
    request: Frame,
    /// The caller wants it judged.
    is_due: bool,
}

/// A login that is complete but for the caller's consent.
struct Decision {
    request: LoginRequestPdu,
    reply: LoginReply,
    session: Negotiated,
}

impl LoginPhase {
    pub(super) fn new(
        portal_group_tag: u16,
        directory: Arc<dyn Directory>,
        entropy: Entropy,
        limits: &Limits,
        now: Duration,
    ) -> Self {
        let login = Login::new(portal_group_tag, directory, entropy, limits);
        Self { login, deadline: now + limits.login_time, decision: None, proof: None }
    }

    /// Whether the caller's decision is awaited.
    pub(super) fn awaits_decision(&self) -> bool {
        self.decision.is_some() || self.proof.as_ref().is_some_and(|proof| !proof.is_due)
    }
}

impl Connection {
    /// Answers [`Event::Login`]: the session exists under this handle (not 0), and full feature phase begins.
    /// Without such an event it does nothing.
    pub fn accept_session(&mut self, now: Duration, tsih: u16) {
        let Some(Decision { request, reply, mut session }) = self.take_decision() else { return };
        session.tsih = tsih;
        self.send_login_reply(&request, &reply, tsih);
        let parameters = &session.parameters;
        self.digests = Digests { header: parameters.header_digest, data: parameters.data_digest };
        self.frame_limits.data = parameters.target_max_recv_data_segment_length;
        self.connection_id = request.connection_id;
        let limits = &self.limits;
        match session.kind {
            SessionKind::Normal => self.keep_alive.begin(now, limits.silence, limits.ping_interval),
            SessionKind::Discovery => {
                self.keep_alive.begin_discovery(now, limits.discovery_silence, limits.discovery_time);
            }
        }
        self.session = Some(session);
        self.phase = Phase::FullFeature;
    }

    /// Answers [`Event::Login`] or [`Event::Proof`]: there will be no session. The connection is over once the output is
    /// sent.
    pub fn refuse_session(&mut self, status: LoginStatus) {
        let Phase::Login(phase) = &mut self.phase else { return };
        let request = match (phase.decision.take(), phase.proof.take()) {
            (Some(decision), _) => decision.request,
            (None, Some(proof)) => LoginRequestPdu::parse(&proof.request.header),
            (None, None) => return,
        };
        self.refuse_login(&request, status);
    }

    /// Answers [`Event::Proof`]: [`next_event`](Self::next_event) judges it. Without such an event it does nothing.
    pub fn judge_proof(&mut self) {
        if let Phase::Login(phase) = &mut self.phase
            && let Some(proof) = &mut phase.proof
        {
            proof.is_due = true;
        }
    }

    /// Handles a PDU before full feature phase.
    pub(super) fn handle_during_login(&mut self, frame: Frame) -> Result<(), ConnectionError> {
        let request = LoginRequestPdu::parse(&frame.header);
        let opcode = frame.header.opcode();
        if opcode != Opcode::LoginRequest {
            self.refuse_login(&request, LoginStatus::InvalidDuringLogin);
            return Err(ConnectionError::UnexpectedDuringLogin(opcode));
        }
        if let Phase::Login(phase) = &mut self.phase
            && phase.login.awaits_proof()
            && !request.continues
        {
            phase.proof = Some(Proof { request: frame, is_due: false });
            self.events.push_back(Event::Proof);
            return Ok(());
        }
        self.step_login(&frame)
    }

    /// The proof that the caller wants judged now.
    pub(super) fn take_proof_to_judge(&mut self) -> Option<Frame> {
        match &mut self.phase {
            Phase::Login(phase) => phase.proof.take_if(|proof| proof.is_due).map(|proof| proof.request),
            _ => None,
        }
    }

    /// Handles a Login Request.
    pub(super) fn step_login(&mut self, frame: &Frame) -> Result<(), ConnectionError> {
        let request = LoginRequestPdu::parse(&frame.header);
        let Phase::Login(phase) = &mut self.phase else { return Ok(()) };
        // Commands are numbered from the CmdSN of the login, which being immediate does not consume it.
        self.window = CommandWindow::new(request.cmd_sn, self.limits.command_window);
        match phase.login.step(&login_request(&request, &frame.data)) {
            LoginStep::Reply(reply) => self.send_login_reply(&request, &reply, request.tsih),
            LoginStep::Finished { reply, session } => {
                self.events.push_back(Event::Login(session.clone()));
                phase.decision = Some(Decision { request, reply, session });
            }
            LoginStep::Refuse { reply, refusal } => {
                self.send_login_reply(&request, &reply, request.tsih);
                return Err(ConnectionError::LoginRefused(Box::new(refusal)));
            }
        }
        Ok(())
    }

    fn take_decision(&mut self) -> Option<Decision> {
        match &mut self.phase {
            Phase::Login(phase) => phase.decision.take(),
            _ => None,
        }
    }

    fn refuse_login(&mut self, request: &LoginRequestPdu, status: LoginStatus) {
        let (csg, data) = (request.current_stage, Vec::new());
        let reply = LoginReply { transit: false, cont: false, csg, nsg: 0, status, data };
        self.send_login_reply(request, &reply, request.tsih);
        self.phase = Phase::Closed;
    }

    fn send_login_reply(&mut self, request: &LoginRequestPdu, reply: &LoginReply, tsih: u16) {
        // Sequence numbers are not valid in a refusal.
        let sequence = match reply.status {
            LoginStatus::Success => self.status_numbers(),
            _ => SequenceNumbers::default(),
        };
        let response = LoginResponsePdu {
            transit: reply.transit,
            continues: reply.cont,
            current_stage: reply.csg,
            next_stage: reply.nsg,
            isid: request.isid,
            tsih,
            initiator_task_tag: request.initiator_task_tag,
            sequence,
            status: reply.status as u16,
        };
        self.send(response.build(), &[&reply.data]);
    }
}

fn login_request<'a>(pdu: &LoginRequestPdu, data: &'a [u8]) -> LoginRequest<'a> {
    LoginRequest {
        transit: pdu.transit,
        cont: pdu.continues,
        csg: pdu.current_stage,
        nsg: pdu.next_stage,
        version_max: pdu.version_max,
        version_min: pdu.version_min,
        isid: pdu.isid,
        tsih: pdu.tsih,
        initiator_task_tag: pdu.initiator_task_tag,
        cid: pdu.connection_id,
        cmd_sn: pdu.cmd_sn,
        exp_stat_sn: pdu.exp_stat_sn,
        data,
    }
}
