//! Ready To Transfer (RFC 7143 §11.8).

use super::{BasicHeader, FINAL, Opcode, SequenceNumbers};
use crate::lun::Lun;

/// The header of an R2T.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct R2tPdu {
    /// The command's logical unit, which the Data-Outs repeat.
    pub lun: Lun,
    /// The initiator's name for the task.
    pub initiator_task_tag: u32,
    /// Our name for this transfer, which the Data-Outs repeat.
    pub target_transfer_tag: u32,
    /// Sequence numbers; StatSN is the next one and is not consumed.
    pub sequence: SequenceNumbers,
    /// Number of this R2T among those of the command, from 0.
    pub r2t_sn: u32,
    /// Where in the task's data the wanted bytes begin.
    pub buffer_offset: u32,
    /// How many bytes are wanted; at most MaxBurstLength.
    pub desired_data_transfer_length: u32,
}

impl R2tPdu {
    /// Reads the header.
    pub fn parse(header: &BasicHeader) -> Self {
        Self {
            lun: header.lun(),
            initiator_task_tag: header.initiator_task_tag(),
            target_transfer_tag: header.u32_at(20),
            sequence: SequenceNumbers::parse(header),
            r2t_sn: header.u32_at(36),
            buffer_offset: header.u32_at(40),
            desired_data_transfer_length: header.u32_at(44),
        }
    }

    /// The header on the wire.
    pub fn build(&self) -> BasicHeader {
        let mut header = BasicHeader::new(Opcode::ReadyToTransfer, FINAL);
        header.set_lun(self.lun);
        header.put_u32(16, self.initiator_task_tag);
        header.put_u32(20, self.target_transfer_tag);
        self.sequence.write(&mut header);
        header.put_u32(36, self.r2t_sn);
        header.put_u32(40, self.buffer_offset);
        header.put_u32(44, self.desired_data_transfer_length);
        header
    }
}
