//! Reject (RFC 7143 §11.17).

use super::{BasicHeader, FINAL, Opcode, RESERVED_TAG, SequenceNumbers};

/// Why a PDU was rejected (RFC 7143 §11.17.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// The data digest was wrong.
    DataDigestError,
    /// SNACK is not supported or cannot be satisfied.
    SnackReject,
    /// The PDU has no place here.
    ProtocolError,
    /// The request is not supported.
    CommandNotSupported,
    /// Too many immediate commands.
    TooManyImmediateCommands,
    /// The task tag is in use.
    TaskInProgress,
    /// A field has a value it must not have.
    InvalidPduField,
    /// No target transfer tag can be given: out of resources.
    OutOfResources,
    /// A logout was asked for, and nothing else is accepted.
    WaitingForLogout,
    /// Any other code.
    Other(u8),
}

impl RejectReason {
    /// The reason with this code.
    pub fn from_code(code: u8) -> Self {
        match code {
            0x02 => Self::DataDigestError,
            0x03 => Self::SnackReject,
            0x04 => Self::ProtocolError,
            0x05 => Self::CommandNotSupported,
            0x06 => Self::TooManyImmediateCommands,
            0x07 => Self::TaskInProgress,
            0x09 => Self::InvalidPduField,
            0x0a => Self::OutOfResources,
            0x0c => Self::WaitingForLogout,
            other => Self::Other(other),
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::DataDigestError => 0x02,
            Self::SnackReject => 0x03,
            Self::ProtocolError => 0x04,
            Self::CommandNotSupported => 0x05,
            Self::TooManyImmediateCommands => 0x06,
            Self::TaskInProgress => 0x07,
            Self::InvalidPduField => 0x09,
            Self::OutOfResources => 0x0a,
            Self::WaitingForLogout => 0x0c,
            Self::Other(code) => code,
        }
    }
}

/// The header of a Reject; the data segment is the header of the rejected PDU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RejectPdu {
    /// Why.
    pub reason: RejectReason,
    /// Sequence numbers.
    pub sequence: SequenceNumbers,
    /// Next valid DataSN or R2TSN, for rejected data acknowledgements only.
    pub data_sn: u32,
}

impl RejectPdu {
    /// Reads the header.
    pub fn parse(header: &BasicHeader) -> Self {
        Self {
            reason: RejectReason::from_code(header.u8_at(2)),
            sequence: SequenceNumbers::parse(header),
            data_sn: header.u32_at(36),
        }
    }

    /// The header on the wire.
    pub fn build(&self) -> BasicHeader {
        let mut header = BasicHeader::new(Opcode::Reject, FINAL);
        header.put(2, &[self.reason.code()]);
        header.put_u32(16, RESERVED_TAG);
        self.sequence.write(&mut header);
        header.put_u32(36, self.data_sn);
        header
    }
}
