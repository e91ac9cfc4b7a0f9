//! The kinds of PDU (RFC 7143 §11.2.1.2).

/// What kind of PDU a header begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Opcode {
    /// NOP-Out, from the initiator.
    NopOut,
    /// SCSI Command, from the initiator.
    ScsiCommand,
    /// Task Management Function Request, from the initiator.
    TaskManagementRequest,
    /// Login Request, from the initiator.
    LoginRequest,
    /// Text Request, from the initiator.
    TextRequest,
    /// SCSI Data-Out, from the initiator.
    DataOut,
    /// Logout Request, from the initiator.
    LogoutRequest,
    /// SNACK Request, from the initiator.
    Snack,
    /// NOP-In, from the target.
    NopIn,
    /// SCSI Response, from the target.
    ScsiResponse,
    /// Task Management Function Response, from the target.
    TaskManagementResponse,
    /// Login Response, from the target.
    LoginResponse,
    /// Text Response, from the target.
    TextResponse,
    /// SCSI Data-In, from the target.
    DataIn,
    /// Logout Response, from the target.
    LogoutResponse,
    /// Ready To Transfer, from the target.
    ReadyToTransfer,
    /// Asynchronous Message, from the target.
    AsyncMessage,
    /// Reject, from the target.
    Reject,
    /// Any other six bits.
    Unknown(u8),
}

impl Opcode {
    /// The kind with this code (six bits).
    pub fn from_code(code: u8) -> Self {
        match code {
            0x00 => Self::NopOut,
            0x01 => Self::ScsiCommand,
            0x02 => Self::TaskManagementRequest,
            0x03 => Self::LoginRequest,
            0x04 => Self::TextRequest,
            0x05 => Self::DataOut,
            0x06 => Self::LogoutRequest,
            0x10 => Self::Snack,
            0x20 => Self::NopIn,
            0x21 => Self::ScsiResponse,
            0x22 => Self::TaskManagementResponse,
            0x23 => Self::LoginResponse,
            0x24 => Self::TextResponse,
            0x25 => Self::DataIn,
            0x26 => Self::LogoutResponse,
            0x31 => Self::ReadyToTransfer,
            0x32 => Self::AsyncMessage,
            0x3f => Self::Reject,
            other => Self::Unknown(other),
        }
    }

    /// The code of this kind (six bits).
    pub fn code(self) -> u8 {
        match self {
            Self::NopOut => 0x00,
            Self::ScsiCommand => 0x01,
            Self::TaskManagementRequest => 0x02,
            Self::LoginRequest => 0x03,
            Self::TextRequest => 0x04,
            Self::DataOut => 0x05,
            Self::LogoutRequest => 0x06,
            Self::Snack => 0x10,
            Self::NopIn => 0x20,
            Self::ScsiResponse => 0x21,
            Self::TaskManagementResponse => 0x22,
            Self::LoginResponse => 0x23,
            Self::TextResponse => 0x24,
            Self::DataIn => 0x25,
            Self::LogoutResponse => 0x26,
            Self::ReadyToTransfer => 0x31,
            Self::AsyncMessage => 0x32,
            Self::Reject => 0x3f,
            Self::Unknown(code) => code & 0x3f,
        }
    }
}
