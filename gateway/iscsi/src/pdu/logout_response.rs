//! Logout Response (RFC 7143 §11.15).

use super::{BasicHeader, FINAL, Opcode, SequenceNumbers};

/// The outcome of a logout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogoutResponse {
    /// Connection or session closed.
    Closed,
    /// No connection with this CID.
    ConnectionNotFound,
    /// Connection recovery is not supported.
    RecoveryUnsupported,
    /// Clean-up failed for another reason.
    CleanupFailed,
}

impl LogoutResponse {
    fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Closed,
            1 => Self::ConnectionNotFound,
            2 => Self::RecoveryUnsupported,
            _ => Self::CleanupFailed,
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::ConnectionNotFound => 1,
            Self::RecoveryUnsupported => 2,
            Self::CleanupFailed => 3,
        }
    }
}

/// The header of a Logout Response. Time2Retain is always 0: we keep nothing of a closed connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogoutResponsePdu {
    /// The outcome.
    pub response: LogoutResponse,
    /// The initiator's name for the request.
    pub initiator_task_tag: u32,
    /// Sequence numbers.
    pub sequence: SequenceNumbers,
    /// Seconds the initiator must wait before it logs in again.
    pub time_to_wait_seconds: u16,
}

impl LogoutResponsePdu {
    /// Reads the header.
    pub fn parse(header: &BasicHeader) -> Self {
        Self {
            response: LogoutResponse::from_code(header.u8_at(2)),
            initiator_task_tag: header.initiator_task_tag(),
            sequence: SequenceNumbers::parse(header),
            time_to_wait_seconds: header.u16_at(40),
        }
    }

    /// The header on the wire.
    pub fn build(&self) -> BasicHeader {
        let mut header = BasicHeader::new(Opcode::LogoutResponse, FINAL);
        header.put(2, &[self.response.code()]);
        header.put_u32(16, self.initiator_task_tag);
        self.sequence.write(&mut header);
        header.put_u16(40, self.time_to_wait_seconds);
        header
    }
}
