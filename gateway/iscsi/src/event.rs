//! What a connection tells its caller, and the answers it takes.

use smallvec::SmallVec;

use crate::lun::Lun;
use crate::parameters::Negotiated;
use crate::payload::Payload;
use crate::pdu::{LogoutReason, ScsiStatus, TaskAttribute, TaskFunction};
use crate::tasks::TaskTag;

/// A command descriptor block: 16 bytes as they are in the PDU, or up to 260.
pub type Cdb = SmallVec<[u8; 16]>;

/// Sense data in fixed or descriptor format; empty if there is none.
pub type SenseData = SmallVec<[u8; 32]>;

/// What concerns the caller. Each is answered by a method of [`Connection`](crate::Connection).
#[derive(Clone, Debug)]
pub enum Event {
    /// The login is complete on our side: `accept_session` or `refuse_session`. Until then no further
    /// event comes.
    Login(Negotiated),
    /// The initiator sent what is to prove who it is: `judge_proof`, now or when the caller has slowed guessing down
    /// enough, or `refuse_session`. Until then no further event comes. A connection has one try.
    Proof,
    /// A command, in CmdSN order: `respond`, `data_in`, `request_data` or `abort`.
    Command(Command),
    /// All data that `request_data` asked for.
    DataOut {
        /// The task it belongs to.
        task: TaskTag,
        /// Its bytes from offset 0: as many as were asked for, or all the initiator has if that is less.
        data: Payload,
    },
    /// The data that `request_data` asked for will not come: `respond` with CHECK CONDITION.
    DataFailed {
        /// The task it belongs to.
        task: TaskTag,
        /// What is wrong, and the sense for it.
        failure: DataFailure,
    },
    /// A task management function: `respond_task_management`.
    TaskManagement(TaskManagement),
    /// The initiator ends the session: `respond_logout`. Until then no further event comes, and what the
    /// initiator sends is discarded: a task that waits for its data waits in vain.
    Logout(Logout),
}

/// A SCSI command.
#[derive(Clone, Debug)]
pub struct Command {
    /// Our name for the task.
    pub task: TaskTag,
    /// The initiator's name for the task.
    pub initiator_task_tag: u32,
    /// The logical unit.
    pub lun: Lun,
    /// The command descriptor block.
    pub cdb: Cdb,
    /// Ordering among the tasks of the logical unit.
    pub attribute: TaskAttribute,
    /// The initiator expects input data.
    pub read: bool,
    /// The initiator has output data.
    pub write: bool,
    /// Bytes the initiator expects to move.
    pub expected_length: u32,
    /// CmdSN.
    pub cmd_sn: u32,
    /// The command was outside the order of commands.
    pub immediate: bool,
    /// All `expected_length` bytes of write data, if they came with the command; `request_data` is then
    /// not needed (but allowed).
    pub data: Option<Payload>,
}

/// A task management function request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskManagement {
    /// The initiator's name for this request.
    pub initiator_task_tag: u32,
    /// What is asked for.
    pub function: TaskFunction,
    /// The logical unit meant.
    pub lun: Lun,
    /// The initiator's name for the task meant.
    pub referenced_task_tag: u32,
    /// CmdSN of the task meant.
    pub ref_cmd_sn: u32,
    /// The task meant, if it is under way on this connection. Its command may not have been delivered yet,
    /// while an earlier one is missing: after `abort` it never will be.
    pub referenced: Option<TaskTag>,
}

/// A logout request that will end this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logout {
    /// The initiator's name for this request.
    pub initiator_task_tag: u32,
    /// Session or connection; with one connection per session both mean the same.
    pub reason: LogoutReason,
}

/// The end of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScsiResponse {
    /// SCSI status.
    pub status: ScsiStatus,
    /// Sense data, without the SenseLength of the PDU.
    pub sense: SenseData,
    /// Bytes of write data the device server wanted, if that is neither what `request_data` asked for nor
    /// what the initiator expected: the base of the residual.
    pub data_out_wanted: Option<u32>,
}

impl ScsiResponse {
    /// GOOD.
    pub fn good() -> Self {
        Self::status(ScsiStatus::Good)
    }

    /// A status without sense data.
    pub fn status(status: ScsiStatus) -> Self {
        Self { status, sense: SenseData::new(), data_out_wanted: None }
    }

    /// CHECK CONDITION with this sense data.
    pub fn check_condition(sense: &[u8]) -> Self {
        Self {
            status: ScsiStatus::CheckCondition,
            sense: SenseData::from_slice(sense),
            data_out_wanted: None,
        }
    }
}

/// Why the write data of a command is unusable (the iSCSI conditions of RFC 7143 §11.4.7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum DataFailure {
    /// A digest was wrong, or a Data-Out is missing.
    #[error("a Data-Out is damaged, missing or out of order")]
    ProtocolServiceCrc,
    /// Unsolicited data although the negotiation or the command excluded it.
    #[error("unexpected unsolicited data")]
    UnexpectedUnsolicitedData,
    /// More or less data than was asked for.
    #[error("incorrect amount of data")]
    IncorrectAmount,
}

impl DataFailure {
    /// Sense key (always ABORTED COMMAND), additional sense code and its qualifier.
    pub fn sense_code(self) -> (u8, u8, u8) {
        match self {
            Self::ProtocolServiceCrc => (0x0b, 0x47, 0x05),
            Self::UnexpectedUnsolicitedData => (0x0b, 0x0c, 0x0c),
            Self::IncorrectAmount => (0x0b, 0x0c, 0x0d),
        }
    }
}
