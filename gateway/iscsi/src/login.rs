//! The login phase (RFC 7143 §6.3): from a connection's first Login request to a session, as a state machine that
//! knows neither PDU bytes nor sockets. Its stages' keys are answered by the negotiation table and the security
//! exchange; whether a session of that name exists already is for the caller to say.

mod identity;
mod refusal;
mod request;
mod security;
mod status;

use std::sync::Arc;

use identity::Identity;
pub use refusal::{LoginRefusal, RefusalReason};
pub use request::{LoginReply, LoginRequest, LoginStep};
use security::Security;
pub use status::LoginStatus;

use crate::directory::{Admission, Directory};
use crate::entropy::Entropy;
use crate::limits::Limits;
use crate::negotiation::{MAX_RECV_DATA_SEGMENT_LENGTH, Negotiation, NegotiationError, Stage};
use crate::parameters::{DEFAULT_MAX_RECV_DATA_SEGMENT_LENGTH, Negotiated, SessionKind};
use crate::text::{Pair, TextInbox, TextLimits, TextOutbox, TextWriter, decode};

/// The next stage that stands for the full feature phase.
const FULL_FEATURE_PHASE: u8 = 3;

/// The only protocol version there is (RFC 7143 §11.12.4).
const VERSION: u8 = 0;

/// One connection's login phase.
pub struct Login {
    portal_group_tag: u16,
    directory: Arc<dyn Directory>,
    entropy: Entropy,
    limits: Limits,
    requests: u32,
    inbox: TextInbox,
    outbox: TextOutbox,
    progress: Progress,
    /// Initiator and target, once they are known: for the report of a refusal.
    names: Option<(Option<String>, Option<String>)>,
}

/// How far the login has come.
enum Progress {
    /// No complete message yet; header and stage of the first request, once there was one.
    Start(Option<(Header, Stage)>),
    /// The initiator has said who it is.
    Known(Box<Dialogue>),
    /// Finished or refused.
    Over,
}

/// What all requests of a login phase have in common.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Header {
    isid: [u8; 6],
    tsih: u16,
    cid: u16,
}

/// The login phase after the first message.
struct Dialogue {
    header: Header,
    identity: Identity,
    admission: Admission,
    stage: Stage,
    security: Security,
    negotiation: Negotiation,
    segment_length_declared: bool,
}

impl Login {
    /// A login phase on a portal of this group. `limits` bounds what the peer can make it hold and do.
    #[must_use]
    pub fn new(
        portal_group_tag: u16,
        directory: Arc<dyn Directory>,
        entropy: Entropy,
        limits: &Limits,
    ) -> Self {
        Self {
            portal_group_tag,
            directory,
            entropy,
            limits: limits.clone(),
            requests: 0,
            inbox: TextInbox::default(),
            outbox: TextOutbox::default(),
            progress: Progress::Start(None),
            names: None,
        }
    }

    /// Handles one Login request. After `Finished` or `Refuse` every further request is refused.
    pub fn step(&mut self, request: &LoginRequest<'_>) -> LoginStep {
        match self.advance(request) {
            Ok(reply) if reply.transit && reply.nsg == FULL_FEATURE_PHASE => self.finish(reply),
            Ok(reply) => LoginStep::Reply(reply),
            Err(reason) => self.refuse(request, reason),
        }
    }

    fn refuse(&mut self, request: &LoginRequest<'_>, reason: RefusalReason) -> LoginStep {
        self.progress = Progress::Over;
        self.inbox.take();
        self.outbox.start(Vec::new());
        let (initiator, target) = self.names.take().unwrap_or_default();
        let reply = LoginReply::refusal(request, reason.status());
        LoginStep::Refuse { reply, refusal: LoginRefusal { reason, initiator, target } }
    }

    /// Bytes of text held for the peer, in both directions.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.inbox.len() + self.outbox.len()
    }

    /// The next request with the end of a text is to prove who the initiator is.
    #[must_use]
    pub fn awaits_proof(&self) -> bool {
        match &self.progress {
            Progress::Known(dialogue) => dialogue.security.awaits_proof(),
            Progress::Start(_) | Progress::Over => false,
        }
    }

    fn advance(&mut self, request: &LoginRequest<'_>) -> Result<LoginReply, RefusalReason> {
        self.requests += 1;
        if self.requests > self.limits.login_exchanges {
            return Err(LoginStatus::InitiatorError.into());
        }
        self.check_header(request)?;
        if !self.outbox.is_empty() {
            // The initiator asks for the rest of an answer with empty requests (RFC 7143 §6.2).
            if request.cont || !request.data.is_empty() {
                return Err(LoginStatus::InitiatorError.into());
            }
            return self.reply(request);
        }
        let text_limits = TextLimits { text_bytes: self.limits.login_text, pairs: self.limits.text_keys };
        self.inbox.push(request.data, &text_limits).map_err(|_| LoginStatus::InitiatorError)?;
        if request.cont {
            return Ok(LoginReply::partial(request));
        }
        let text = self.inbox.take();
        let pairs = decode(&text, &text_limits).map_err(|_| LoginStatus::InitiatorError)?;
        let answers = self.answer(request, &pairs)?;
        self.outbox.start(answers.into_bytes());
        self.reply(request)
    }

    /// Checks what must hold for a request whatever its text says.
    fn check_header(&mut self, request: &LoginRequest<'_>) -> Result<(), LoginStatus> {
        if request.version_min > VERSION {
            return Err(LoginStatus::UnsupportedVersion);
        }
        let stage = Stage::from_csg(request.csg).ok_or(LoginStatus::InitiatorError)?;
        let transit_allowed = !request.cont && is_transition(request.csg, request.nsg);
        if request.transit && !transit_allowed {
            return Err(LoginStatus::InitiatorError);
        }
        let header = Header { isid: request.isid, tsih: request.tsih, cid: request.cid };
        let expected = match &mut self.progress {
            Progress::Start(first) => *first.get_or_insert((header, stage)) == (header, stage),
            Progress::Known(dialogue) => (dialogue.header, dialogue.stage) == (header, stage),
            Progress::Over => false,
        };
        if expected { Ok(()) } else { Err(LoginStatus::InitiatorError) }
    }

    /// Answers a complete message.
    fn answer(
        &mut self,
        request: &LoginRequest<'_>,
        pairs: &[Pair<'_>],
    ) -> Result<TextWriter, RefusalReason> {
        let stage = Stage::from_csg(request.csg).ok_or(LoginStatus::InitiatorError)?;
        let mut answers = TextWriter::default();
        let first_request = matches!(self.progress, Progress::Start(_));
        if first_request {
            let dialogue = self.open(request, stage, pairs)?;
            if dialogue.identity.target_name.is_some() {
                answers.push("TargetPortalGroupTag", &self.portal_group_tag.to_string());
            }
            self.progress = Progress::Known(Box::new(dialogue));
        }
        let Progress::Known(dialogue) = &mut self.progress else {
            return Err(LoginStatus::InitiatorError.into());
        };
        dialogue.negotiation.answer(pairs, stage, first_request, &self.limits, &mut answers).map_err(
            |error| match error {
                NegotiationError::DigestsRequired => RefusalReason::DigestsRequired,
                _ => LoginStatus::InitiatorError.into(),
            },
        )?;
        match stage {
            Stage::Security => dialogue.security.step(pairs, &mut answers)?,
            Stage::Operational => dialogue.declare_segment_length(&self.limits, &mut answers),
        }
        if (request.transit || stage == Stage::Operational) && dialogue.security.is_untouched() {
            // Authentication is required and the initiator wants to go on without it.
            return Err(RefusalReason::ChapNotOffered);
        }
        Ok(answers)
    }

    /// Takes in the first message: who logs in to what, and whether it may.
    fn open(
        &mut self,
        request: &LoginRequest<'_>,
        stage: Stage,
        pairs: &[Pair<'_>],
    ) -> Result<Dialogue, RefusalReason> {
        let identity = Identity::read(pairs)?;
        let target = identity.target_name.as_deref().filter(|_| identity.kind == SessionKind::Normal);
        self.names = Some((Some(identity.initiator_name.clone()), target.map(str::to_owned)));
        let admission = self.directory.admit(&identity.initiator_name, target)?;
        let negotiation = Negotiation::new(identity.kind, admission.digests);
        Ok(Dialogue {
            header: Header { isid: request.isid, tsih: request.tsih, cid: request.cid },
            identity,
            stage,
            security: Security::new(admission.authentication.clone(), self.entropy),
            admission,
            negotiation,
            segment_length_declared: false,
        })
    }

    /// The next part of the answer. The stage changes with its last part, if the initiator asked for that and
    /// the stage has nothing left to do.
    ///
    /// # Errors
    /// The login would be complete without the digests that are required.
    fn reply(&mut self, request: &LoginRequest<'_>) -> Result<LoginReply, RefusalReason> {
        let data = self.outbox.next_chunk(DEFAULT_MAX_RECV_DATA_SEGMENT_LENGTH as usize);
        let cont = !self.outbox.is_empty();
        let mut transit = false;
        if let Progress::Known(dialogue) = &mut self.progress {
            transit = request.transit && !cont && dialogue.security.is_done();
            if transit && request.nsg != FULL_FEATURE_PHASE {
                dialogue.stage = Stage::Operational;
            } else if transit && dialogue.negotiation.lacks_digests() {
                return Err(RefusalReason::DigestsRequired);
            }
        }
        Ok(LoginReply {
            transit,
            cont,
            csg: request.csg,
            nsg: if transit { request.nsg } else { 0 },
            status: LoginStatus::Success,
            data,
        })
    }

    fn finish(&mut self, reply: LoginReply) -> LoginStep {
        match std::mem::replace(&mut self.progress, Progress::Over) {
            Progress::Known(dialogue) => LoginStep::Finished { reply, session: dialogue.into_session() },
            Progress::Start(_) | Progress::Over => LoginStep::Reply(reply),
        }
    }
}

impl Dialogue {
    /// Declares our segment length once, in the operational stage.
    fn declare_segment_length(&mut self, limits: &Limits, answers: &mut TextWriter) {
        if !self.segment_length_declared {
            self.segment_length_declared = true;
            let length = match self.identity.kind {
                SessionKind::Normal => limits.max_recv_data_segment_length,
                SessionKind::Discovery => {
                    limits.max_recv_data_segment_length.min(text_segment_length(limits))
                }
            };
            self.negotiation.parameters.target_max_recv_data_segment_length = length;
            answers.push(MAX_RECV_DATA_SEGMENT_LENGTH, &length.to_string());
        }
    }

    fn into_session(self) -> Negotiated {
        let mut parameters = self.negotiation.parameters;
        // The two may have been agreed in different requests, or one of them not at all (RFC 7143 §13.14).
        parameters.first_burst_length = parameters.first_burst_length.min(parameters.max_burst_length);
        let kind = self.identity.kind;
        Negotiated {
            kind,
            initiator_name: self.identity.initiator_name,
            initiator_alias: self.negotiation.initiator_alias,
            target_name: self.identity.target_name.filter(|_| kind == SessionKind::Normal),
            isid: self.header.isid,
            tsih: self.header.tsih,
            connection_id: self.header.cid,
            user: self.security.into_user(),
            admission: self.admission,
            parameters,
        }
    }
}

/// The largest data segment that can be of use in a text negotiation, of those that may be declared
/// (RFC 7143 §13.12).
fn text_segment_length(limits: &Limits) -> u32 {
    u32::try_from(limits.text).unwrap_or(u32::MAX).clamp(512, (1 << 24) - 1)
}

impl Stage {
    fn from_csg(csg: u8) -> Option<Self> {
        match csg {
            0 => Some(Self::Security),
            1 => Some(Self::Operational),
            _ => None,
        }
    }
}

/// The transitions of RFC 7143 §6.3: forward, and to a stage that exists.
const fn is_transition(csg: u8, nsg: u8) -> bool {
    matches!((csg, nsg), (0, 1 | FULL_FEATURE_PHASE) | (1, FULL_FEATURE_PHASE))
}
