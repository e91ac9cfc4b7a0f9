//! Login Response (RFC 7143 §11.13).

use super::{BasicHeader, CONTINUE, FINAL, Opcode, SequenceNumbers};

/// The header of a Login Response; the data segment is `key=value` text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginResponsePdu {
    /// The T bit: the target is ready to leave this stage.
    pub transit: bool,
    /// The text goes on in the next response.
    pub continues: bool,
    /// Stage the response belongs to.
    pub current_stage: u8,
    /// Next stage, if `transit`.
    pub next_stage: u8,
    /// Initiator's part of the session identifier.
    pub isid: [u8; 6],
    /// Target's part of the session identifier; set in the last response of a successful login.
    pub tsih: u16,
    /// The initiator's name for the exchange.
    pub initiator_task_tag: u32,
    /// Sequence numbers; valid if the status class is 0.
    pub sequence: SequenceNumbers,
    /// Status class (high byte) and detail (low byte); 0 is success.
    pub status: u16,
}

impl LoginResponsePdu {
    /// Reads the header.
    pub fn parse(header: &BasicHeader) -> Self {
        let flags = header.flags();
        Self {
            transit: flags & FINAL != 0,
            continues: flags & CONTINUE != 0,
            current_stage: (flags >> 2) & 3,
            next_stage: flags & 3,
            isid: header.bytes_at(8),
            tsih: header.u16_at(14),
            initiator_task_tag: header.initiator_task_tag(),
            sequence: SequenceNumbers::parse(header),
            status: header.u16_at(36),
        }
    }

    /// The header on the wire. Version-max and Version-active are 0, the only version there is.
    pub fn build(&self) -> BasicHeader {
        let flags = if self.transit { FINAL } else { 0 }
            | if self.continues { CONTINUE } else { 0 }
            | (self.current_stage & 3) << 2
            | (self.next_stage & 3);
        let mut header = BasicHeader::new(Opcode::LoginResponse, flags);
        header.put(8, &self.isid);
        header.put_u16(14, self.tsih);
        header.put_u32(16, self.initiator_task_tag);
        self.sequence.write(&mut header);
        header.put_u16(36, self.status);
        header
    }
}
