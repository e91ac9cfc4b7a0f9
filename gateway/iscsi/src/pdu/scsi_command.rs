//! SCSI Command (RFC 7143 §11.3).

use super::{BasicHeader, FINAL, Opcode};
use crate::lun::Lun;

const READ: u8 = 0x40;
const WRITE: u8 = 0x20;
const ATTRIBUTE_MASK: u8 = 0x07;

/// How a task is ordered among the others of its logical unit (RFC 7143 §11.3.1, SAM-5 §8.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskAttribute {
    /// No attribute; treated as simple.
    Untagged,
    /// Any order.
    Simple,
    /// After all that came before, before all that comes later.
    Ordered,
    /// Before all that waits.
    HeadOfQueue,
    /// Part of the handling of an auto contingent allegiance.
    AutoContingentAllegiance,
    /// A reserved value (5 to 7).
    Reserved(u8),
}

impl TaskAttribute {
    fn from_code(code: u8) -> Self {
        match code & ATTRIBUTE_MASK {
            0 => Self::Untagged,
            1 => Self::Simple,
            2 => Self::Ordered,
            3 => Self::HeadOfQueue,
            4 => Self::AutoContingentAllegiance,
            other => Self::Reserved(other),
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Untagged => 0,
            Self::Simple => 1,
            Self::Ordered => 2,
            Self::HeadOfQueue => 3,
            Self::AutoContingentAllegiance => 4,
            Self::Reserved(code) => code & ATTRIBUTE_MASK,
        }
    }
}

/// The header of a SCSI Command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScsiCommandPdu {
    /// Outside the order of commands.
    pub immediate: bool,
    /// No unsolicited Data-Out follows.
    pub is_final: bool,
    /// The initiator expects input data.
    pub read: bool,
    /// The initiator has output data.
    pub write: bool,
    /// Ordering among the tasks of the logical unit.
    pub attribute: TaskAttribute,
    /// The logical unit.
    pub lun: Lun,
    /// The initiator's name for the task.
    pub initiator_task_tag: u32,
    /// Bytes the initiator expects to move (of the write half, for a bidirectional command).
    pub expected_data_transfer_length: u32,
    /// Number of this command, or of the next one if immediate.
    pub cmd_sn: u32,
    /// Next status the initiator expects.
    pub exp_stat_sn: u32,
    /// The first 16 bytes of the CDB; shorter CDBs are padded with zeroes.
    pub cdb: [u8; 16],
}

impl ScsiCommandPdu {
    /// Reads the header.
    pub fn parse(header: &BasicHeader) -> Self {
        let flags = header.flags();
        Self {
            immediate: header.is_immediate(),
            is_final: flags & FINAL != 0,
            read: flags & READ != 0,
            write: flags & WRITE != 0,
            attribute: TaskAttribute::from_code(flags),
            lun: header.lun(),
            initiator_task_tag: header.initiator_task_tag(),
            expected_data_transfer_length: header.u32_at(20),
            cmd_sn: header.u32_at(24),
            exp_stat_sn: header.u32_at(28),
            cdb: header.bytes_at(32),
        }
    }

    /// The header on the wire.
    pub fn build(&self) -> BasicHeader {
        let mut flags = self.attribute.code();
        for (set, bit) in [(self.is_final, FINAL), (self.read, READ), (self.write, WRITE)] {
            flags |= if set { bit } else { 0 };
        }
        let mut header = BasicHeader::new(Opcode::ScsiCommand, flags).immediate(self.immediate);
        header.set_lun(self.lun);
        header.put_u32(16, self.initiator_task_tag);
        header.put_u32(20, self.expected_data_transfer_length);
        header.put_u32(24, self.cmd_sn);
        header.put_u32(28, self.exp_stat_sn);
        header.put(32, &self.cdb);
        header
    }
}
