//! NOP-Out (RFC 7143 §11.18): the initiator's ping, or its answer to ours.

use super::{BasicHeader, FINAL, Opcode};
use crate::lun::Lun;

/// The header of a NOP-Out; the data segment is ping data to echo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NopOutPdu {
    /// Outside the order of commands.
    pub immediate: bool,
    /// Copied from the NOP-In this answers; otherwise zero.
    pub lun: Lun,
    /// Tag for the answer, or [`RESERVED_TAG`](super::RESERVED_TAG) if none is wanted.
    pub initiator_task_tag: u32,
    /// The tag of the NOP-In this answers, or [`RESERVED_TAG`](super::RESERVED_TAG).
    pub target_transfer_tag: u32,
    /// Number of this command, or of the next one if immediate.
    pub cmd_sn: u32,
    /// Next status the initiator expects.
    pub exp_stat_sn: u32,
}

impl NopOutPdu {
    /// Reads the header.
    pub fn parse(header: &BasicHeader) -> Self {
        Self {
            immediate: header.is_immediate(),
            lun: header.lun(),
            initiator_task_tag: header.initiator_task_tag(),
            target_transfer_tag: header.u32_at(20),
            cmd_sn: header.u32_at(24),
            exp_stat_sn: header.u32_at(28),
        }
    }

    /// The header on the wire.
    pub fn build(&self) -> BasicHeader {
        let mut header = BasicHeader::new(Opcode::NopOut, FINAL).immediate(self.immediate);
        header.set_lun(self.lun);
        header.put_u32(16, self.initiator_task_tag);
        header.put_u32(20, self.target_transfer_tag);
        header.put_u32(24, self.cmd_sn);
        header.put_u32(28, self.exp_stat_sn);
        header
    }
}
