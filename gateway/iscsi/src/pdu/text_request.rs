//! Text Request (RFC 7143 §11.10).

use super::{BasicHeader, CONTINUE, FINAL, Opcode};
use crate::lun::Lun;

/// The header of a Text Request; the data segment is `key=value` text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextRequestPdu {
    /// Outside the order of commands.
    pub immediate: bool,
    /// The initiator has nothing more to say.
    pub is_final: bool,
    /// The text goes on in the next request.
    pub continues: bool,
    /// Copied from the response this continues; otherwise zero.
    pub lun: Lun,
    /// The initiator's name for the exchange.
    pub initiator_task_tag: u32,
    /// The tag of the response this continues, or [`RESERVED_TAG`](super::RESERVED_TAG) to begin.
    pub target_transfer_tag: u32,
    /// Number of this command, or of the next one if immediate.
    pub cmd_sn: u32,
    /// Next status the initiator expects.
    pub exp_stat_sn: u32,
}

impl TextRequestPdu {
    /// Reads the header.
    pub fn parse(header: &BasicHeader) -> Self {
        Self {
            immediate: header.is_immediate(),
            is_final: header.flags() & FINAL != 0,
            continues: header.flags() & CONTINUE != 0,
            lun: header.lun(),
            initiator_task_tag: header.initiator_task_tag(),
            target_transfer_tag: header.u32_at(20),
            cmd_sn: header.u32_at(24),
            exp_stat_sn: header.u32_at(28),
        }
    }

    /// The header on the wire.
    pub fn build(&self) -> BasicHeader {
        let flags = if self.is_final { FINAL } else { 0 } | if self.continues { CONTINUE } else { 0 };
        let mut header = BasicHeader::new(Opcode::TextRequest, flags).immediate(self.immediate);
        header.set_lun(self.lun);
        header.put_u32(16, self.initiator_task_tag);
        header.put_u32(20, self.target_transfer_tag);
        header.put_u32(24, self.cmd_sn);
        header.put_u32(28, self.exp_stat_sn);
        header
    }
}
