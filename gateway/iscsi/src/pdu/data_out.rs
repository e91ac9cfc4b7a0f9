//! SCSI Data-Out (RFC 7143 §11.7).

use super::{BasicHeader, FINAL, Opcode};
use crate::lun::Lun;

/// The header of a Data-Out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataOutPdu {
    /// The last PDU of its sequence (one R2T, or the unsolicited data).
    pub is_final: bool,
    /// Logical unit: copied from the R2T, if solicited.
    pub lun: Lun,
    /// The initiator's name for the task.
    pub initiator_task_tag: u32,
    /// The R2T this answers, or [`RESERVED_TAG`](super::RESERVED_TAG) for unsolicited data.
    pub target_transfer_tag: u32,
    /// Next status the initiator expects.
    pub exp_stat_sn: u32,
    /// Number of this PDU within its sequence, from 0.
    pub data_sn: u32,
    /// Where in the task's data this payload belongs, in bytes.
    pub buffer_offset: u32,
}

impl DataOutPdu {
    /// Reads the header.
    pub fn parse(header: &BasicHeader) -> Self {
        Self {
            is_final: header.flags() & FINAL != 0,
            lun: header.lun(),
            initiator_task_tag: header.initiator_task_tag(),
            target_transfer_tag: header.u32_at(20),
            exp_stat_sn: header.u32_at(28),
            data_sn: header.u32_at(36),
            buffer_offset: header.u32_at(40),
        }
    }

    /// The header on the wire.
    pub fn build(&self) -> BasicHeader {
        let mut header = BasicHeader::new(Opcode::DataOut, if self.is_final { FINAL } else { 0 });
        header.set_lun(self.lun);
        header.put_u32(16, self.initiator_task_tag);
        header.put_u32(20, self.target_transfer_tag);
        header.put_u32(28, self.exp_stat_sn);
        header.put_u32(36, self.data_sn);
        header.put_u32(40, self.buffer_offset);
        header
    }
}
