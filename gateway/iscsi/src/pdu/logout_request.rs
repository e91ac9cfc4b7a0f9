//! Logout Request (RFC 7143 §11.14).

use super::{BasicHeader, FINAL, Opcode};

const REASON_MASK: u8 = 0x7f;

/// What the initiator wants to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogoutReason {
    /// The session and all its connections.
    CloseSession,
    /// One connection, named by its CID.
    CloseConnection,
    /// One connection, whose tasks move to another (needs ErrorRecoveryLevel 2).
    RemoveForRecovery,
    /// A reserved code.
    Unknown(u8),
}

impl LogoutReason {
    fn from_code(code: u8) -> Self {
        match code & REASON_MASK {
            0 => Self::CloseSession,
            1 => Self::CloseConnection,
            2 => Self::RemoveForRecovery,
            other => Self::Unknown(other),
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::CloseSession => 0,
            Self::CloseConnection => 1,
            Self::RemoveForRecovery => 2,
            Self::Unknown(code) => code & REASON_MASK,
        }
    }
}

/// The header of a Logout Request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogoutRequestPdu {
    /// Outside the order of commands.
    pub immediate: bool,
    /// What to end.
    pub reason: LogoutReason,
    /// The initiator's name for the request.
    pub initiator_task_tag: u32,
    /// The connection meant, unless the whole session is.
    pub connection_id: u16,
    /// Number of this command, or of the next one if immediate.
    pub cmd_sn: u32,
    /// Next status the initiator expects.
    pub exp_stat_sn: u32,
}

impl LogoutRequestPdu {
    /// Reads the header.
    pub fn parse(header: &BasicHeader) -> Self {
        Self {
            immediate: header.is_immediate(),
            reason: LogoutReason::from_code(header.flags()),
            initiator_task_tag: header.initiator_task_tag(),
            connection_id: header.u16_at(20),
            cmd_sn: header.u32_at(24),
            exp_stat_sn: header.u32_at(28),
        }
    }

    /// The header on the wire.
    pub fn build(&self) -> BasicHeader {
        let flags = FINAL | self.reason.code();
        let mut header = BasicHeader::new(Opcode::LogoutRequest, flags).immediate(self.immediate);
        header.put_u32(16, self.initiator_task_tag);
        header.put_u16(20, self.connection_id);
        header.put_u32(24, self.cmd_sn);
        header.put_u32(28, self.exp_stat_sn);
        header
    }
}
