//! Asynchronous Message (RFC 7143 §11.9).

use super::{BasicHeader, FINAL, Opcode, RESERVED_TAG, SequenceNumbers};
use crate::lun::Lun;

/// What a target tells unasked (RFC 7143 §11.9.1), with the parameters of each event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsyncEvent {
    /// A SCSI asynchronous event; sense data is in the data segment.
    Scsi,
    /// The target asks for a logout within so many seconds.
    LogoutRequested {
        /// Seconds until the target closes the connection itself.
        seconds: u16,
    },
    /// The target will drop this connection.
    ConnectionDropped {
        /// The connection.
        connection_id: u16,
        /// Seconds to wait before reconnecting.
        time_to_wait_seconds: u16,
        /// Seconds tasks are retained.
        time_to_retain_seconds: u16,
    },
    /// The target will drop all connections of the session.
    SessionDropped {
        /// Seconds to wait before reconnecting.
        time_to_wait_seconds: u16,
        /// Seconds tasks are retained.
        time_to_retain_seconds: u16,
    },
    /// The target asks for a negotiation within so many seconds.
    NegotiationRequested {
        /// Seconds until the target closes the connection itself.
        seconds: u16,
    },
    /// Any other event.
    Other(u8),
}

impl AsyncEvent {
    fn from_fields(code: u8, [first, second, third]: [u16; 3]) -> Self {
        match code {
            0 => Self::Scsi,
            1 => Self::LogoutRequested { seconds: third },
            2 => Self::ConnectionDropped {
                connection_id: first,
                time_to_wait_seconds: second,
                time_to_retain_seconds: third,
            },
            3 => Self::SessionDropped { time_to_wait_seconds: second, time_to_retain_seconds: third },
            4 => Self::NegotiationRequested { seconds: third },
            other => Self::Other(other),
        }
    }

    fn fields(self) -> (u8, [u16; 3]) {
        match self {
            Self::Scsi => (0, [0; 3]),
            Self::LogoutRequested { seconds } => (1, [0, 0, seconds]),
            Self::ConnectionDropped { connection_id, time_to_wait_seconds, time_to_retain_seconds } => {
                (2, [connection_id, time_to_wait_seconds, time_to_retain_seconds])
            }
            Self::SessionDropped { time_to_wait_seconds, time_to_retain_seconds } => {
                (3, [0, time_to_wait_seconds, time_to_retain_seconds])
            }
            Self::NegotiationRequested { seconds } => (4, [0, 0, seconds]),
            Self::Other(code) => (code, [0; 3]),
        }
    }
}

/// The header of an Asynchronous Message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsyncMessagePdu {
    /// The logical unit meant, for SCSI events; otherwise zero.
    pub lun: Lun,
    /// What happened.
    pub event: AsyncEvent,
    /// Sequence numbers.
    pub sequence: SequenceNumbers,
}

impl AsyncMessagePdu {
    /// Reads the header.
    pub fn parse(header: &BasicHeader) -> Self {
        let parameters = [header.u16_at(38), header.u16_at(40), header.u16_at(42)];
        Self {
            lun: header.lun(),
            event: AsyncEvent::from_fields(header.u8_at(36), parameters),
            sequence: SequenceNumbers::parse(header),
        }
    }

    /// The header on the wire.
    pub fn build(&self) -> BasicHeader {
        let (code, [first, second, third]) = self.event.fields();
        let mut header = BasicHeader::new(Opcode::AsyncMessage, FINAL);
        header.set_lun(self.lun);
        header.put_u32(16, RESERVED_TAG);
        self.sequence.write(&mut header);
        header.put(36, &[code, 0]);
        header.put_u16(38, first);
        header.put_u16(40, second);
        header.put_u16(42, third);
        header
    }
}
