//! Why a connection must be closed.

use crate::framing::FrameError;
use crate::login::LoginRefusal;
use crate::pdu::Opcode;
use crate::status_sequence::AcknowledgedBeyondSent;

/// The connection cannot go on: send what is in the output buffer, then close it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    /// The byte stream cannot be followed.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Too many bytes before the login was complete.
    #[error("{held} bytes of input before the login is complete, more than {limit}")]
    LoginInputTooLong {
        /// Bytes held.
        held: usize,
        /// [`Limits::login_input`](crate::Limits::login_input).
        limit: usize,
    },
    /// The login was refused.
    #[error(transparent)]
    LoginRefused(Box<LoginRefusal>),
    /// Another PDU than a Login Request before full feature phase.
    #[error("{0:?} during login")]
    UnexpectedDuringLogin(Opcode),
    /// The login took too long.
    #[error("the login was not complete in time")]
    LoginTimeout,
    /// The discovery session lasted too long.
    #[error("the discovery session did not end in time")]
    DiscoveryTimeout,
    /// A Login Request in full feature phase.
    #[error("Login Request in full feature phase")]
    LoginInFullFeaturePhase,
    /// The initiator acknowledged a status that was never sent.
    #[error(transparent)]
    AcknowledgedBeyondSent(#[from] AcknowledgedBeyondSent),
    /// Too much input waits for a missing CmdSN.
    #[error("more than {limit} bytes wait for the missing CmdSN {missing}")]
    HeldInputTooLong {
        /// The CmdSN that never came.
        missing: u32,
        /// [`Limits::held_input`](crate::Limits::held_input).
        limit: usize,
    },
    /// Neither input from the peer nor progress of our output for too long.
    #[error("the peer is silent")]
    PeerSilent,
}
