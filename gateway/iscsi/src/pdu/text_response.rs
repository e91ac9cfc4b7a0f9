//! Text Response (RFC 7143 §11.11).

use super::{BasicHeader, CONTINUE, FINAL, Opcode, SequenceNumbers};
use crate::lun::Lun;

/// The header of a Text Response; the data segment is `key=value` text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextResponsePdu {
    /// The exchange is over.
    pub is_final: bool,
    /// The text goes on in the next response.
    pub continues: bool,
    /// To be copied into the request that continues.
    pub lun: Lun,
    /// The initiator's name for the exchange.
    pub initiator_task_tag: u32,
    /// Our name for the exchange if it goes on, or [`RESERVED_TAG`](super::RESERVED_TAG).
    pub target_transfer_tag: u32,
    /// Sequence numbers.
    pub sequence: SequenceNumbers,
}

impl TextResponsePdu {
    /// Reads the header.
    pub fn parse(header: &BasicHeader) -> Self {
        Self {
            is_final: header.flags() & FINAL != 0,
            continues: header.flags() & CONTINUE != 0,
            lun: header.lun(),
            initiator_task_tag: header.initiator_task_tag(),
            target_transfer_tag: header.u32_at(20),
            sequence: SequenceNumbers::parse(header),
        }
    }

    /// The header on the wire.
    pub fn build(&self) -> BasicHeader {
        let flags = if self.is_final { FINAL } else { 0 } | if self.continues { CONTINUE } else { 0 };
        let mut header = BasicHeader::new(Opcode::TextResponse, flags);
        header.set_lun(self.lun);
        header.put_u32(16, self.initiator_task_tag);
        header.put_u32(20, self.target_transfer_tag);
        self.sequence.write(&mut header);
        header
    }
}
