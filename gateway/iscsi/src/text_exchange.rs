//! Text negotiation in the full feature phase (RFC 7143 §6.4, §11.10, §11.11): SendTargets, and the few keys that
//! may still be declared. Long messages are gathered from and cut into PDUs by the C bit, held together by a target
//! transfer tag. One negotiation at a time; a new request without a tag ends the one before.

use thiserror::Error;

use crate::directory::Directory;
use crate::limits::Limits;
use crate::negotiation::{
    NOT_UNDERSTOOD, NegotiationError, REJECT, Rule, SEND_TARGETS, declared_alias, declared_segment_length,
    find, is_answer,
};
use crate::parameters::Negotiated;
use crate::send_targets::{BadSendTargets, answer_text};
use crate::text::{Pair, TextError, TextInbox, TextLimits, TextOutbox, TextWriter, decode};

/// The target transfer tag of a request that begins a negotiation, and of a reply that ends one.
pub const NO_TARGET_TRANSFER_TAG: u32 = 0xffff_ffff;

/// One Text Request PDU.
#[derive(Debug, Clone, Copy)]
pub struct TextRequest<'a> {
    /// F: the initiator has nothing more to say.
    pub is_final: bool,
    /// C: the text goes on in the next request.
    pub cont: bool,
    /// The task tag of the negotiation.
    pub initiator_task_tag: u32,
    /// The tag of our last reply, or [`NO_TARGET_TRANSFER_TAG`].
    pub target_transfer_tag: u32,
    /// The text, without padding.
    pub data: &'a [u8],
}

/// One Text Response PDU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextReply {
    /// F: the negotiation is over.
    pub is_final: bool,
    /// C: the text goes on in the next reply, which an empty request asks for.
    pub cont: bool,
    /// The tag the next request must carry, or [`NO_TARGET_TRANSFER_TAG`].
    pub target_transfer_tag: u32,
    /// The text, without padding; at most the initiator's MaxRecvDataSegmentLength.
    pub data: Vec<u8>,
}

/// Why a Text request is answered by a Reject PDU. The negotiation is over, the session goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TextRefusal {
    /// The tags are not those of the negotiation under way.
    #[error("the request belongs to no negotiation under way")]
    UnknownNegotiation,
    /// C together with F, or text where only an empty request may come.
    #[error("the request breaks the rules of text negotiation")]
    ProtocolError,
    /// The text is malformed or over a limit.
    #[error(transparent)]
    BadText(#[from] TextError),
    /// SendTargets asks for nothing we know, or comes twice.
    #[error(transparent)]
    BadSendTargets(#[from] BadSendTargets),
    /// A declared value that the key cannot have.
    #[error("a key is declared with an impossible value")]
    BadDeclaration,
    /// There is no key in the request that we understand.
    #[error("no key of the request is understood")]
    NothingUnderstood,
}

impl TextRefusal {
    /// The reason code of the Reject PDU (RFC 7143 §11.17.1).
    #[must_use]
    pub const fn reject_reason(self) -> u8 {
        const PROTOCOL_ERROR: u8 = 0x04;
        const COMMAND_NOT_SUPPORTED: u8 = 0x05;
        const INVALID_PDU_FIELD: u8 = 0x09;
        match self {
            Self::UnknownNegotiation => INVALID_PDU_FIELD,
            Self::BadSendTargets(_) | Self::NothingUnderstood => COMMAND_NOT_SUPPORTED,
            Self::ProtocolError | Self::BadText(_) | Self::BadDeclaration => PROTOCOL_ERROR,
        }
    }
}

/// The text negotiations of one connection in full feature phase.
#[derive(Debug)]
pub struct TextExchange {
    limits: TextLimits,
    inbox: TextInbox,
    outbox: TextOutbox,
    under_way: Option<Tags>,
    last_tag: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tags {
    initiator_task_tag: u32,
    target_transfer_tag: u32,
}

impl TextExchange {
    /// No negotiation under way.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            limits: TextLimits::from(limits),
            inbox: TextInbox::default(),
            outbox: TextOutbox::default(),
            under_way: None,
            last_tag: 0,
        }
    }

    /// Handles one Text request. What it declares goes into `session`.
    ///
    /// # Errors
    /// The request is to be answered by a Reject PDU with [`TextRefusal::reject_reason`].
    pub fn step(
        &mut self,
        request: &TextRequest<'_>,
        session: &mut Negotiated,
        directory: &dyn Directory,
    ) -> Result<TextReply, TextRefusal> {
        let result = self.advance(request, session, directory);
        if result.is_err() {
            self.forget();
        }
        result
    }

    fn advance(
        &mut self,
        request: &TextRequest<'_>,
        session: &mut Negotiated,
        directory: &dyn Directory,
    ) -> Result<TextReply, TextRefusal> {
        if request.target_transfer_tag == NO_TARGET_TRANSFER_TAG {
            self.forget();
        } else if self.under_way != Some(Tags::of(request)) {
            return Err(TextRefusal::UnknownNegotiation);
        }
        if request.cont && request.is_final {
            return Err(TextRefusal::ProtocolError);
        }
        if !self.outbox.is_empty() {
            if request.cont || !request.data.is_empty() {
                return Err(TextRefusal::ProtocolError);
            }
            return Ok(self.reply(request, session));
        }
        self.inbox.push(request.data, &self.limits)?;
        if !request.cont {
            let text = self.inbox.take();
            let answers = answer(&decode(&text, &self.limits)?, session, directory)?;
            self.outbox.start(answers.into_bytes());
        }
        Ok(self.reply(request, session))
    }

    /// The next part of the answer; the negotiation ends with its last part, if the initiator has ended too.
    fn reply(&mut self, request: &TextRequest<'_>, session: &Negotiated) -> TextReply {
        let length = session.parameters.initiator_max_recv_data_segment_length;
        let data = self.outbox.next_chunk(length as usize);
        let cont = !self.outbox.is_empty();
        let is_final = request.is_final && !cont;
        let target_transfer_tag = if is_final { NO_TARGET_TRANSFER_TAG } else { self.next_tag() };
        self.under_way = (!is_final)
            .then_some(Tags { initiator_task_tag: request.initiator_task_tag, target_transfer_tag });
        TextReply { is_final, cont, target_transfer_tag, data }
    }

    fn next_tag(&mut self) -> u32 {
        self.last_tag = self.last_tag.wrapping_add(1) % NO_TARGET_TRANSFER_TAG;
        self.last_tag
    }

    fn forget(&mut self) {
        self.under_way = None;
        self.inbox.take();
        self.outbox.start(Vec::new());
    }
}

impl Tags {
    fn of(request: &TextRequest<'_>) -> Self {
        Self {
            initiator_task_tag: request.initiator_task_tag,
            target_transfer_tag: request.target_transfer_tag,
        }
    }
}

/// Answers a complete message. A message in which nothing is understood is refused as a whole: initiators take a
/// Text response for success.
fn answer(
    pairs: &[Pair<'_>],
    session: &mut Negotiated,
    directory: &dyn Directory,
) -> Result<TextWriter, TextRefusal> {
    let understood = |pair: &Pair<'_>| find(pair.key).is_some() || is_extension(pair.key);
    if !pairs.is_empty() && !pairs.iter().any(understood) {
        return Err(TextRefusal::NothingUnderstood);
    }
    if pairs.iter().filter(|pair| pair.key == SEND_TARGETS).count() > 1 {
        return Err(BadSendTargets.into());
    }
    let mut answers = TextWriter::default();
    for pair in pairs.iter().filter(|pair| pair.key == SEND_TARGETS || !is_answer(pair.value)) {
        answer_pair(pair, session, directory, &mut answers)?;
    }
    Ok(answers)
}

fn answer_pair(
    pair: &Pair<'_>,
    session: &mut Negotiated,
    directory: &dyn Directory,
    answers: &mut TextWriter,
) -> Result<(), TextRefusal> {
    match find(pair.key) {
        None => answers.push(pair.key, NOT_UNDERSTOOD),
        Some(key) if key.name == SEND_TARGETS => answers.append(answer_text(pair.value, session, directory)?),
        Some(key) => match key.rule {
            Rule::SegmentLength => {
                session.parameters.initiator_max_recv_data_segment_length =
                    declared_segment_length(pair.value)?;
            }
            Rule::Alias => session.initiator_alias = Some(declared_alias(key.name, pair.value)?),
            Rule::Ignored => {}
            // All else is settled by the login (§13: "LO" and "IO" keys).
            _ => answers.push(pair.key, REJECT),
        },
    }
    Ok(())
}

/// Private and public extension keys (RFC 7143 §6.1), which may be tried on anybody.
fn is_extension(key: &str) -> bool {
    key.starts_with("X-") || key.starts_with("X#")
}

impl From<NegotiationError> for TextRefusal {
    fn from(_: NegotiationError) -> Self {
        Self::BadDeclaration
    }
}
