//! Task Management Function Request (RFC 7143 §11.5).

use super::{BasicHeader, FINAL, Opcode};
use crate::lun::Lun;

const FUNCTION_MASK: u8 = 0x7f;

/// What is asked for (RFC 7143 §11.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskFunction {
    /// Abort one task of this I_T nexus.
    AbortTask,
    /// Abort all tasks of this I_T nexus on the logical unit.
    AbortTaskSet,
    /// Clear an auto contingent allegiance.
    ClearAca,
    /// Abort the tasks of all I_T nexuses on the logical unit.
    ClearTaskSet,
    /// Reset the logical unit.
    LogicalUnitReset,
    /// Reset all logical units of the target.
    TargetWarmReset,
    /// Reset the target and end all its sessions.
    TargetColdReset,
    /// Move a task to this connection (needs ErrorRecoveryLevel 2).
    TaskReassign,
    /// Any other code.
    Unknown(u8),
}

impl TaskFunction {
    fn from_code(code: u8) -> Self {
        match code & FUNCTION_MASK {
            1 => Self::AbortTask,
            2 => Self::AbortTaskSet,
            3 => Self::ClearAca,
            4 => Self::ClearTaskSet,
            5 => Self::LogicalUnitReset,
            6 => Self::TargetWarmReset,
            7 => Self::TargetColdReset,
            8 => Self::TaskReassign,
            other => Self::Unknown(other),
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::AbortTask => 1,
            Self::AbortTaskSet => 2,
            Self::ClearAca => 3,
            Self::ClearTaskSet => 4,
            Self::LogicalUnitReset => 5,
            Self::TargetWarmReset => 6,
            Self::TargetColdReset => 7,
            Self::TaskReassign => 8,
            Self::Unknown(code) => code & FUNCTION_MASK,
        }
    }
}

/// The header of a Task Management Function Request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskManagementRequestPdu {
    /// Outside the order of commands.
    pub immediate: bool,
    /// What is asked for.
    pub function: TaskFunction,
    /// The logical unit meant.
    pub lun: Lun,
    /// The initiator's name for this request.
    pub initiator_task_tag: u32,
    /// The task meant, for functions on one task; otherwise [`RESERVED_TAG`](super::RESERVED_TAG).
    pub referenced_task_tag: u32,
    /// Number of this command, or of the next one if immediate.
    pub cmd_sn: u32,
    /// Next status the initiator expects.
    pub exp_stat_sn: u32,
    /// CmdSN of the task to abort.
    pub ref_cmd_sn: u32,
    /// Next DataSN the initiator expects, for reassignment.
    pub exp_data_sn: u32,
}

impl TaskManagementRequestPdu {
    /// Reads the header.
    pub fn parse(header: &BasicHeader) -> Self {
        Self {
            immediate: header.is_immediate(),
            function: TaskFunction::from_code(header.flags()),
            lun: header.lun(),
            initiator_task_tag: header.initiator_task_tag(),
            referenced_task_tag: header.u32_at(20),
            cmd_sn: header.u32_at(24),
            exp_stat_sn: header.u32_at(28),
            ref_cmd_sn: header.u32_at(32),
            exp_data_sn: header.u32_at(36),
        }
    }

    /// The header on the wire.
    pub fn build(&self) -> BasicHeader {
        let flags = FINAL | self.function.code();
        let mut header = BasicHeader::new(Opcode::TaskManagementRequest, flags).immediate(self.immediate);
        header.set_lun(self.lun);
        header.put_u32(16, self.initiator_task_tag);
        header.put_u32(20, self.referenced_task_tag);
        header.put_u32(24, self.cmd_sn);
        header.put_u32(28, self.exp_stat_sn);
        header.put_u32(32, self.ref_cmd_sn);
        header.put_u32(36, self.exp_data_sn);
        header
    }
}
