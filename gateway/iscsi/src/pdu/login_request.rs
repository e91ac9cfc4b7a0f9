//! Login Request (RFC 7143 §11.12).

use super::{BasicHeader, CONTINUE, FINAL, Opcode};

/// The header of a Login Request; the data segment is `key=value` text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginRequestPdu {
    /// The T bit: the initiator is ready to leave this stage.
    pub transit: bool,
    /// The text goes on in the next request.
    pub continues: bool,
    /// Stage the request belongs to.
    pub current_stage: u8,
    /// Stage the initiator wants next, if `transit`.
    pub next_stage: u8,
    /// Highest version the initiator speaks.
    pub version_max: u8,
    /// Lowest version the initiator speaks.
    pub version_min: u8,
    /// Initiator's part of the session identifier.
    pub isid: [u8; 6],
    /// Target's part of the session identifier; 0 asks for a new session.
    pub tsih: u16,
    /// The initiator's name for the exchange.
    pub initiator_task_tag: u32,
    /// Identifies the connection within the session.
    pub connection_id: u16,
    /// Number the first command of the session will have.
    pub cmd_sn: u32,
    /// Next status the initiator expects.
    pub exp_stat_sn: u32,
}

impl LoginRequestPdu {
    /// Reads the header. The I bit is not looked at: a Login Request is immediate by nature, and
    /// initiators that forget the bit mean the same.
    pub fn parse(header: &BasicHeader) -> Self {
        let flags = header.flags();
        Self {
            transit: flags & FINAL != 0,
            continues: flags & CONTINUE != 0,
            current_stage: (flags >> 2) & 3,
            next_stage: flags & 3,
            version_max: header.u8_at(2),
            version_min: header.u8_at(3),
            isid: header.bytes_at(8),
            tsih: header.u16_at(14),
            initiator_task_tag: header.initiator_task_tag(),
            connection_id: header.u16_at(20),
            cmd_sn: header.u32_at(24),
            exp_stat_sn: header.u32_at(28),
        }
    }

    /// The header on the wire.
    pub fn build(&self) -> BasicHeader {
        let flags = if self.transit { FINAL } else { 0 }
            | if self.continues { CONTINUE } else { 0 }
            | (self.current_stage & 3) << 2
            | (self.next_stage & 3);
        let mut header = BasicHeader::new(Opcode::LoginRequest, flags).immediate(true);
        header.put(2, &[self.version_max, self.version_min]);
        header.put(8, &self.isid);
        header.put_u16(14, self.tsih);
        header.put_u32(16, self.initiator_task_tag);
        header.put_u16(20, self.connection_id);
        header.put_u32(24, self.cmd_sn);
        header.put_u32(28, self.exp_stat_sn);
        header
    }
}
