//! SNACK Request (RFC 7143 §11.16). It needs ErrorRecoveryLevel 1; we only recognise and reject it.

use super::{BasicHeader, FINAL, Opcode};
use crate::lun::Lun;

/// The header of a SNACK Request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnackPdu {
    /// 0 = Data/R2T, 1 = status, 2 = data acknowledgement, 3 = R-Data.
    pub kind: u8,
    /// The command's logical unit.
    pub lun: Lun,
    /// The task meant, or [`RESERVED_TAG`](super::RESERVED_TAG).
    pub initiator_task_tag: u32,
    /// The transfer meant, or [`RESERVED_TAG`](super::RESERVED_TAG).
    pub target_transfer_tag: u32,
    /// Next status the initiator expects.
    pub exp_stat_sn: u32,
    /// First missing number.
    pub begin: u32,
    /// How many are missing; 0 = all from `begin`.
    pub length: u32,
}

impl SnackPdu {
    /// Reads the header.
    pub fn parse(header: &BasicHeader) -> Self {
        Self {
            kind: header.flags() & 0x0f,
            lun: header.lun(),
            initiator_task_tag: header.initiator_task_tag(),
            target_transfer_tag: header.u32_at(20),
            exp_stat_sn: header.u32_at(28),
            begin: header.u32_at(40),
            length: header.u32_at(44),
        }
    }

    /// The header on the wire.
    pub fn build(&self) -> BasicHeader {
        let mut header = BasicHeader::new(Opcode::Snack, FINAL | (self.kind & 0x0f));
        header.set_lun(self.lun);
        header.put_u32(16, self.initiator_task_tag);
        header.put_u32(20, self.target_transfer_tag);
        header.put_u32(28, self.exp_stat_sn);
        header.put_u32(40, self.begin);
        header.put_u32(44, self.length);
        header
    }
}
