//! Task Management Function Response (RFC 7143 §11.6).

use super::{BasicHeader, FINAL, Opcode, SequenceNumbers};

/// The outcome of a task management function (RFC 7143 §11.6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskManagementResponse {
    /// Done.
    FunctionComplete,
    /// There is no such task (it may have ended already).
    TaskDoesNotExist,
    /// There is no such logical unit.
    LunDoesNotExist,
    /// The task is still allegiant to its connection.
    TaskStillAllegiant,
    /// Reassignment is not supported.
    ReassignmentUnsupported,
    /// The function is not supported.
    FunctionUnsupported,
    /// The initiator may not do this.
    AuthorizationFailed,
    /// Refused.
    FunctionRejected,
}

impl TaskManagementResponse {
    fn from_code(code: u8) -> Self {
        match code {
            0 => Self::FunctionComplete,
            1 => Self::TaskDoesNotExist,
            2 => Self::LunDoesNotExist,
            3 => Self::TaskStillAllegiant,
            4 => Self::ReassignmentUnsupported,
            5 => Self::FunctionUnsupported,
            6 => Self::AuthorizationFailed,
            _ => Self::FunctionRejected,
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::FunctionComplete => 0,
            Self::TaskDoesNotExist => 1,
            Self::LunDoesNotExist => 2,
            Self::TaskStillAllegiant => 3,
            Self::ReassignmentUnsupported => 4,
            Self::FunctionUnsupported => 5,
            Self::AuthorizationFailed => 6,
            Self::FunctionRejected => 255,
        }
    }
}

/// The header of a Task Management Function Response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskManagementResponsePdu {
    /// The outcome.
    pub response: TaskManagementResponse,
    /// The initiator's name for the request.
    pub initiator_task_tag: u32,
    /// Sequence numbers.
    pub sequence: SequenceNumbers,
}

impl TaskManagementResponsePdu {
    /// Reads the header.
    pub fn parse(header: &BasicHeader) -> Self {
        Self {
            response: TaskManagementResponse::from_code(header.u8_at(2)),
            initiator_task_tag: header.initiator_task_tag(),
            sequence: SequenceNumbers::parse(header),
        }
    }

    /// The header on the wire.
    pub fn build(&self) -> BasicHeader {
        let mut header = BasicHeader::new(Opcode::TaskManagementResponse, FINAL);
        header.put(2, &[self.response.code()]);
        header.put_u32(16, self.initiator_task_tag);
        self.sequence.write(&mut header);
        header
    }
}
