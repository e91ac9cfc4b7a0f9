//! What an initiator receives.

/// A PDU: its header and its data segment.
#[derive(Debug)]
pub struct Pdu {
    pub header: [u8; 48],
    pub data: Vec<u8>,
}

impl Pdu {
    pub fn opcode(&self) -> u8 {
        self.header[0] & 0x3f
    }

    pub fn tag(&self) -> u32 {
        u32::from_be_bytes(self.header[16..20].try_into().unwrap())
    }

    /// Key, code and qualifier of fixed format sense data, behind its length.
    pub fn sense(&self) -> (u8, u8, u8) {
        (self.data[4] & 0xf, self.data[14], self.data[15])
    }

    /// The progress indication of fixed format sense data, if there is one.
    pub fn progress(&self) -> Option<u16> {
        (self.data[17] & 0x80 != 0).then(|| u16::from_be_bytes([self.data[18], self.data[19]]))
    }

    /// The INFORMATION field of fixed format sense data, if it is valid.
    pub fn information(&self) -> Option<u32> {
        (self.data[2] & 0x80 != 0).then(|| u32::from_be_bytes(self.data[5..9].try_into().unwrap()))
    }
}
