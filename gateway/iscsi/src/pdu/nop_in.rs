//! NOP-In (RFC 7143 §11.19): our ping, or our answer to the initiator's.

use super::{BasicHeader, FINAL, Opcode, SequenceNumbers};
use crate::lun::Lun;

/// The header of a NOP-In; the data segment echoes the ping data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NopInPdu {
    /// Any LUN in a ping with a target transfer tag; otherwise zero.
    pub lun: Lun,
    /// The tag of the NOP-Out this answers, or [`RESERVED_TAG`](super::RESERVED_TAG).
    pub initiator_task_tag: u32,
    /// Tag for the answer, or [`RESERVED_TAG`](super::RESERVED_TAG) if none is wanted.
    pub target_transfer_tag: u32,
    /// Sequence numbers; StatSN is consumed only by answers.
    pub sequence: SequenceNumbers,
}

impl NopInPdu {
    /// Reads the header.
    pub fn parse(header: &BasicHeader) -> Self {
        Self {
            lun: header.lun(),
            initiator_task_tag: header.initiator_task_tag(),
            target_transfer_tag: header.u32_at(20),
            sequence: SequenceNumbers::parse(header),
        }
    }

    /// The header on the wire.
    pub fn build(&self) -> BasicHeader {
        let mut header = BasicHeader::new(Opcode::NopIn, FINAL);
        header.set_lun(self.lun);
        header.put_u32(16, self.initiator_task_tag);
        header.put_u32(20, self.target_transfer_tag);
        self.sequence.write(&mut header);
        header
    }
}
