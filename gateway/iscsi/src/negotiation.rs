//! Key negotiation (RFC 7143 §6.2): what turns an offer into an answer, by the rows of the table of keys. Keys are
//! judged here one by one; the order of stages and requests belongs to the login phase.

mod keys;

use std::borrow::Cow;

use keys::Relevance::{self, Always, Normal, UnsolicitedData};
use keys::Rule::{Alias, Constant, Digest, Ignored, Leading, Misplaced, Security, SegmentLength};
pub(crate) use keys::{
    INITIATOR_NAME, MAX_RECV_DATA_SEGMENT_LENGTH, Rule, SEND_TARGETS, SESSION_TYPE, TARGET_NAME, find,
};
use keys::{KEYS, LENGTHS};
use thiserror::Error;

use crate::directory::DigestPolicy;
use crate::limits::Limits;
use crate::parameters::{Parameters, SessionKind};
use crate::text::{Pair, TextWriter, decode_number};

/// The answer to an offer that is not acceptable or not admissible now.
pub(crate) const REJECT: &str = "Reject";
/// The answer to a key that does not matter in this session.
const IRRELEVANT: &str = "Irrelevant";
/// The answer to a key we do not know.
pub(crate) const NOT_UNDERSTOOD: &str = "NotUnderstood";

/// The digest we know (§13.1).
const CRC32C: &str = "CRC32C";
/// No digest.
const NO_DIGEST: &str = "None";

/// The longest simple value, in bytes (§6.1).
const MAX_SIMPLE_VALUE_BYTES: usize = 255;

/// A stage of the login phase (§6.3) that negotiates keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// SecurityNegotiation, CSG 0.
    Security,
    /// LoginOperationalNegotiation, CSG 1.
    Operational,
}

/// `Reject`, `Irrelevant` and `NotUnderstood` answer something we said, and are not answered themselves.
pub(crate) fn is_answer(value: &str) -> bool {
    matches!(value, REJECT | IRRELEVANT | NOT_UNDERSTOOD)
}

/// What cannot be answered by a value and ends the login with status 0200.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum NegotiationError {
    /// A key offered or declared twice (§6.3).
    #[error("{key} comes twice")]
    Repeated {
        /// The key.
        key: &'static str,
    },
    /// A key of the first request in a later one (§6.3).
    #[error("{key} comes after the first request")]
    Late {
        /// The key.
        key: &'static str,
    },
    /// A declaration with a value the key cannot have.
    #[error("{key} is declared with an impossible value")]
    BadDeclaration {
        /// The key.
        key: &'static str,
    },
    /// A digest that must be is not offered (§13.1).
    #[error("digests are required, but not offered")]
    DigestsRequired,
}

/// The keys of one login phase: what was said, and what is agreed so far.
#[derive(Debug)]
pub(crate) struct Negotiation {
    /// What is agreed so far.
    pub(crate) parameters: Parameters,
    /// What the session is for; known after the first request.
    pub(crate) kind: SessionKind,
    /// The declared InitiatorAlias.
    pub(crate) initiator_alias: Option<String>,
    digests: DigestPolicy,
    /// Rows of the table that were offered, a bit each.
    seen: u64,
}

impl Negotiation {
    pub(crate) fn new(kind: SessionKind, digests: DigestPolicy) -> Self {
        const { assert!(KEYS.len() <= 64) };
        Self { parameters: Parameters::default(), kind, initiator_alias: None, digests, seen: 0 }
    }

    /// Whether digests are required and not agreed on.
    pub(crate) fn lacks_digests(&self) -> bool {
        let Parameters { header_digest, data_digest, .. } = self.parameters;
        self.digests == DigestPolicy::Required && !(header_digest && data_digest)
    }

    /// Answers the pairs of one request, except those of the security exchange. Keys whose answer depends on
    /// others come last, so that the order within a request does not matter.
    pub(crate) fn answer(
        &mut self,
        pairs: &[Pair<'_>],
        stage: Stage,
        first_request: bool,
        limits: &Limits,
        answers: &mut TextWriter,
    ) -> Result<(), NegotiationError> {
        for dependent in [false, true] {
            for pair in pairs.iter().filter(|pair| !is_answer(pair.value)) {
                match KEYS.iter().position(|key| key.name == pair.key) {
                    Some(row) if (KEYS[row].relevance == UnsolicitedData) == dependent => {
                        let answer = self.answer_known(row, pair.value, stage, first_request, limits)?;
                        answer.iter().for_each(|value| answers.push(pair.key, value));
                    }
                    None if !dependent => answers.push(pair.key, NOT_UNDERSTOOD),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn answer_known(
        &mut self,
        row: usize,
        value: &str,
        stage: Stage,
        first_request: bool,
        limits: &Limits,
    ) -> Result<Option<Cow<'static, str>>, NegotiationError> {
        let key = &KEYS[row];
        if !key.rule.belongs_to(stage) {
            // A protocol error by the letter (§6.3); refusing only the key lets the initiator offer it in time.
            return Ok(Some(REJECT.into()));
        }
        if self.seen & (1 << row) != 0 {
            return Err(NegotiationError::Repeated { key: key.name });
        }
        self.seen |= 1 << row;
        match key.rule {
            Leading if !first_request => Err(NegotiationError::Late { key: key.name }),
            Leading | Security | Ignored => Ok(None),
            Alias => {
                self.initiator_alias = Some(declared_alias(key.name, value)?);
                Ok(None)
            }
            SegmentLength => {
                self.parameters.initiator_max_recv_data_segment_length = declared_segment_length(value)?;
                Ok(None)
            }
            Digest(set) => self.agree_on_digest(value, set).map(Some),
            _ if !self.is_relevant(key.relevance) => Ok(Some(IRRELEVANT.into())),
            _ => Ok(Some(key.rule.combine(value, limits, &mut self.parameters))),
        }
    }

    fn agree_on_digest(
        &mut self,
        offered: &str,
        set: fn(&mut Parameters, bool),
    ) -> Result<Cow<'static, str>, NegotiationError> {
        let known: &[&'static str] = match self.digests {
            DigestPolicy::Allowed => &[CRC32C, NO_DIGEST],
            DigestPolicy::Required => &[CRC32C],
            DigestPolicy::Off => &[NO_DIGEST],
        };
        match choose(offered, known) {
            Some(agreed) => {
                set(&mut self.parameters, agreed == CRC32C);
                Ok(agreed.into())
            }
            None if self.digests == DigestPolicy::Required => Err(NegotiationError::DigestsRequired),
            None => Ok(REJECT.into()),
        }
    }

    fn is_relevant(&self, relevance: Relevance) -> bool {
        let normal = self.kind == SessionKind::Normal;
        match relevance {
            Always => true,
            Normal => normal,
            UnsolicitedData => normal && (!self.parameters.initial_r2t || self.parameters.immediate_data),
        }
    }
}

impl Rule {
    fn belongs_to(&self, stage: Stage) -> bool {
        match self {
            // A segment length declared early does no harm.
            Leading | Alias | Ignored | Misplaced | SegmentLength => true,
            Security => stage == Stage::Security,
            _ => stage == Stage::Operational,
        }
    }

    /// Answers an offer of a negotiated key and stores what is agreed.
    fn combine(&self, value: &str, limits: &Limits, parameters: &mut Parameters) -> Cow<'static, str> {
        match *self {
            Self::Boolean { combine, ours, set } => {
                let Some(offered) = decode_boolean(value) else { return REJECT.into() };
                let agreed = combine(offered, ours);
                set(parameters, agreed);
                if agreed { "Yes".into() } else { "No".into() }
            }
            Self::Number { bounds, combine, ours, set } => {
                let Some(offered) = decode_bounded(value, bounds) else { return REJECT.into() };
                let agreed = combine(offered, ours(limits, parameters));
                set(parameters, agreed);
                agreed.to_string().into()
            }
            Self::List { known, set } => {
                let Some(agreed) = choose(value, known) else { return REJECT.into() };
                set(parameters, agreed);
                agreed.into()
            }
            Constant(answer) => answer.into(),
            Leading | Security | Alias | SegmentLength | Digest(_) | Ignored | Misplaced => REJECT.into(),
        }
    }
}

/// The first offered value that we know.
pub(crate) fn choose(offered: &str, known: &[&'static str]) -> Option<&'static str> {
    offered.split(',').find_map(|value| known.iter().find(|&&one| one == value)).copied()
}

/// An alias for people to read.
pub(crate) fn declared_alias(key: &'static str, value: &str) -> Result<String, NegotiationError> {
    if value.len() > MAX_SIMPLE_VALUE_BYTES {
        return Err(NegotiationError::BadDeclaration { key });
    }
    Ok(value.to_owned())
}

/// The data segment length the initiator declares for itself, in bytes.
pub(crate) fn declared_segment_length(value: &str) -> Result<u32, NegotiationError> {
    let bad = NegotiationError::BadDeclaration { key: MAX_RECV_DATA_SEGMENT_LENGTH };
    decode_bounded(value, LENGTHS).ok_or(bad)
}

fn decode_boolean(value: &str) -> Option<bool> {
    match value {
        "Yes" => Some(true),
        "No" => Some(false),
        _ => None,
    }
}

fn decode_bounded(value: &str, (lowest, highest): (u32, u32)) -> Option<u32> {
    let number = u32::try_from(decode_number(value)?).ok()?;
    (lowest..=highest).contains(&number).then_some(number)
}
