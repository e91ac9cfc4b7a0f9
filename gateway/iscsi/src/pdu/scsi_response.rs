//! SCSI Response (RFC 7143 §11.4), with the status codes and residual counts that Data-In shares.

use super::{BasicHeader, FINAL, Opcode, SequenceNumbers};

const OVERFLOW: u8 = 0x04;
const UNDERFLOW: u8 = 0x02;

/// A SCSI status byte (SAM-5 §5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScsiStatus {
    /// Completed.
    Good,
    /// Completed with an exception; sense data says which.
    CheckCondition,
    /// A compare was met.
    ConditionMet,
    /// The logical unit cannot accept the command now; try again.
    Busy,
    /// Reserved by another I_T nexus.
    ReservationConflict,
    /// Too many tasks; try again when one is done.
    TaskSetFull,
    /// An auto contingent allegiance exists.
    AcaActive,
    /// Aborted by another I_T nexus (and control mode page TAS=1).
    TaskAborted,
    /// Any other status byte.
    Other(u8),
}

impl ScsiStatus {
    /// The status with this code.
    pub fn from_code(code: u8) -> Self {
        match code {
            0x00 => Self::Good,
            0x02 => Self::CheckCondition,
            0x04 => Self::ConditionMet,
            0x08 => Self::Busy,
            0x18 => Self::ReservationConflict,
            0x28 => Self::TaskSetFull,
            0x30 => Self::AcaActive,
            0x40 => Self::TaskAborted,
            other => Self::Other(other),
        }
    }

    /// The status byte.
    pub fn code(self) -> u8 {
        match self {
            Self::Good => 0x00,
            Self::CheckCondition => 0x02,
            Self::ConditionMet => 0x04,
            Self::Busy => 0x08,
            Self::ReservationConflict => 0x18,
            Self::TaskSetFull => 0x28,
            Self::AcaActive => 0x30,
            Self::TaskAborted => 0x40,
            Self::Other(code) => code,
        }
    }
}

/// How what the device server had to move differs from what the initiator expected, in bytes
/// (RFC 7143 §11.4.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Residual {
    /// Equal.
    #[default]
    None,
    /// This many bytes did not fit into what the initiator expected.
    Overflow(u32),
    /// This many of the expected bytes were not moved.
    Underflow(u32),
}

impl Residual {
    /// The residual of a transfer of `actual` bytes where `expected` were expected.
    pub fn between(expected: u32, actual: u64) -> Self {
        match u32::try_from(actual) {
            Ok(actual) if actual == expected => Self::None,
            Ok(actual) if actual < expected => Self::Underflow(expected - actual),
            _ => Self::Overflow(u32::try_from(actual - u64::from(expected)).unwrap_or(u32::MAX)),
        }
    }

    pub(super) fn parse(flags: u8, count: u32) -> Self {
        match (flags & OVERFLOW != 0, flags & UNDERFLOW != 0) {
            (true, false) => Self::Overflow(count),
            (false, true) => Self::Underflow(count),
            _ => Self::None,
        }
    }

    pub(super) fn flags(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Overflow(_) => OVERFLOW,
            Self::Underflow(_) => UNDERFLOW,
        }
    }

    pub(super) fn count(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Overflow(count) | Self::Underflow(count) => count,
        }
    }
}

/// The header of a SCSI Response. The residual of the read half of a bidirectional command is not
/// represented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScsiResponsePdu {
    /// iSCSI service response: 0 = command completed at target, 1 = target failure.
    pub response: u8,
    /// SCSI status; meaningful if the response is 0.
    pub status: ScsiStatus,
    /// Expected against moved bytes.
    pub residual: Residual,
    /// The initiator's name for the task.
    pub initiator_task_tag: u32,
    /// Sequence numbers.
    pub sequence: SequenceNumbers,
    /// Number of Data-In and R2T PDUs sent for the command.
    pub exp_data_sn: u32,
}

impl ScsiResponsePdu {
    /// Reads the header.
    pub fn parse(header: &BasicHeader) -> Self {
        Self {
            response: header.u8_at(2),
            status: ScsiStatus::from_code(header.u8_at(3)),
            residual: Residual::parse(header.flags(), header.u32_at(44)),
            initiator_task_tag: header.initiator_task_tag(),
            sequence: SequenceNumbers::parse(header),
            exp_data_sn: header.u32_at(36),
        }
    }

    /// The header on the wire.
    pub fn build(&self) -> BasicHeader {
        let mut header = BasicHeader::new(Opcode::ScsiResponse, FINAL | self.residual.flags());
        header.put(2, &[self.response, self.status.code()]);
        header.put_u32(16, self.initiator_task_tag);
        self.sequence.write(&mut header);
        header.put_u32(36, self.exp_data_sn);
        header.put_u32(44, self.residual.count());
        header
    }
}
