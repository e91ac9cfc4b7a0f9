//! Why a session cannot be had, or cannot go on.

use std::io;

use iscsi_target::pdu::{Opcode, RejectReason};
use iscsi_target::text::TextError;

/// A session that is not, or is no more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    /// The portal's name has no address.
    #[error("portal {portal} cannot be resolved: {source}")]
    Unresolved {
        /// As it was given.
        portal: String,
        /// What the resolver says.
        source: io::Error,
    },
    /// Nobody answers there.
    #[error("portal {portal} cannot be reached: {source}; does the target listen there?")]
    Unreachable {
        /// As it was given.
        portal: String,
        /// The last address's failure.
        source: io::Error,
    },
    /// The target does not let us in.
    #[error("the login was refused: {} (status {status:04x})", refusal(*status))]
    Refused {
        /// Status class and detail (RFC 7143 §11.13.5).
        status: u16,
    },
    /// The connection broke, or the target closed it.
    #[error("the connection broke: {0}")]
    Lost(io::Error),
    /// The target has said nothing for too long.
    #[error("the target has not answered for {0} seconds")]
    Silent(u64),
    /// The target does not follow RFC 7143.
    #[error("the target broke the protocol: {0}")]
    Protocol(#[from] ProtocolError),
    /// A command that must succeed before any load failed.
    #[error("{command}: {outcome}")]
    Command {
        /// The command's name.
        command: &'static str,
        /// How it ended.
        outcome: String,
    },
}

impl SessionError {
    /// Whether the connection ended, rather than that somebody erred.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::Silent(_))
    }
}

/// What a target must not do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProtocolError {
    #[error("{0:?} where it has no place")]
    Unexpected(Opcode),
    #[error("an answer to task {0}, which is not under way")]
    UnknownTask(u32),
    #[error("Data-In of {length} bytes at {offset} where {next} of {expected} were next")]
    DataOutOfPlace { length: usize, offset: u32, next: u32, expected: u32 },
    #[error("an R2T beyond the end of the data: {length} bytes at {offset} of {expected}")]
    BeyondTheEnd { offset: u32, length: u32, expected: u32 },
    #[error("a header digest is wrong")]
    HeaderDigest,
    #[error("the data digest of {0} is wrong: what arrived is not what was sent")]
    DataDigest(String),
    #[error("a PDU of {0} bytes")]
    TooLong(usize),
    #[error("it rejects what we sent: {0:?}")]
    Rejected(RejectReason),
    #[error("login: {0}")]
    Text(#[from] TextError),
    #[error("login: the key {0} is missing, or has no value that can be")]
    Key(&'static str),
    #[error("login: it asks for {0} authentication; give a user and secret with chap=USER:SECRETFILE")]
    Authentication(String),
    #[error("the login does not end")]
    EndlessLogin,
    #[error("the command window stays closed")]
    ClosedWindow,
}

/// What a login's status means (RFC 7143 §11.13.5), and what to look at.
fn refusal(status: u16) -> &'static str {
    match status {
        0x0101 | 0x0102 => "the target has moved to another portal",
        0x0201 => "authentication failed; are user and secret (chap=USER:SECRETFILE) right?",
        0x0202 => "this initiator may not use the target; its name has to be in the target's access list",
        0x0203 => "there is no target of this name at this portal",
        0x0204 => "the target was removed",
        0x0206 => "the target has as many connections as it takes",
        0x0301 => "the target does not serve now",
        0x0302 => "the target is out of resources",
        0x0300..=0x03ff => "the target has a fault",
        _ => "the target took offence at what we sent",
    }
}
