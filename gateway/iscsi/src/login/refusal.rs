//! Why a login was refused: more than the status tells the initiator, for the target's own log. No secret is in it, nor
//! anything an initiator sent but the names it gave.

use thiserror::Error;

use super::status::LoginStatus;
use crate::chap::ChapError;

/// A refused login.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("login refused: {reason}")]
pub struct LoginRefusal {
    /// Why.
    pub reason: RefusalReason,
    /// Who wanted to log in, if it came to say so.
    pub initiator: Option<String>,
    /// To which target; `None` in a discovery session.
    pub target: Option<String>,
}

/// Why a login is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum RefusalReason {
    /// No account has the CHAP name.
    #[error("unknown user")]
    UnknownUser,
    /// The CHAP response does not fit the account's secret.
    #[error("wrong secret")]
    WrongSecret,
    /// CHAP is required, and the initiator does not offer it or goes on without it.
    #[error("CHAP not offered")]
    ChapNotOffered,
    /// The initiator insists on a method where nothing is to be proved.
    #[error("the initiator insists on authentication, but none is configured")]
    AuthenticationNotConfigured,
    /// The initiator wants our proof, and we have no account to prove.
    #[error("mutual CHAP is asked for, but not configured")]
    MutualNotConfigured,
    /// A challenge was turned around, or one secret serves both directions (RFC 7143 §9.2.1).
    #[error("a CHAP challenge or secret is used in both directions")]
    ChapReflected,
    /// The CHAP keys are malformed, out of order, or name no algorithm we know.
    #[error("the CHAP exchange is malformed or has no algorithm in common")]
    ChapMalformed,
    /// The access control list has no entry for this initiator.
    #[error("no ACL entry matches the initiator")]
    NotAllowed,
    /// There is no target of this name.
    #[error("no such target")]
    NoSuchTarget,
    /// The target is not served through the portal in use.
    #[error("the target is not served through this portal")]
    NotThroughPortal,
    /// Digests are required, and the initiator does not agree to them.
    #[error("digests are required, but not offered")]
    DigestsRequired,
    /// Authentication or digests were configured otherwise while the login went on: the initiator may try again.
    #[error("what the target asks of a login has changed meanwhile")]
    TermsChanged,
    /// Too many proofs were wrong that came from where this one did: it was not looked at. The initiator may try again.
    #[error("too many wrong proofs from this address: try again later")]
    TooManyGuesses,
    /// Anything else that the status names.
    #[error("status {0:?}")]
    Status(LoginStatus),
}

impl RefusalReason {
    /// What the initiator is told.
    #[must_use]
    pub const fn status(self) -> LoginStatus {
        match self {
            Self::UnknownUser
            | Self::WrongSecret
            | Self::ChapNotOffered
            | Self::AuthenticationNotConfigured
            | Self::MutualNotConfigured
            | Self::ChapReflected
            | Self::ChapMalformed => LoginStatus::AuthenticationFailure,
            Self::NotAllowed => LoginStatus::AuthorizationFailure,
            Self::NoSuchTarget | Self::NotThroughPortal => LoginStatus::NotFound,
            Self::DigestsRequired => LoginStatus::InitiatorError,
            Self::TermsChanged | Self::TooManyGuesses => LoginStatus::ServiceUnavailable,
            Self::Status(status) => status,
        }
    }
}

impl From<LoginStatus> for RefusalReason {
    fn from(status: LoginStatus) -> Self {
        Self::Status(status)
    }
}

impl From<ChapError> for RefusalReason {
    fn from(error: ChapError) -> Self {
        match error {
            ChapError::UnknownUser => Self::UnknownUser,
            ChapError::WrongSecret => Self::WrongSecret,
            ChapError::NoMutualAccount => Self::MutualNotConfigured,
            ChapError::Reflected => Self::ChapReflected,
            ChapError::NoCommonAlgorithm | ChapError::OutOfOrder | ChapError::Malformed => {
                Self::ChapMalformed
            }
        }
    }
}
