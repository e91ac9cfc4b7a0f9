//! Reading fields of a command descriptor block. All commands here have CDBs of at most 16 bytes.

use crate::sense::Sense;

/// The longest CDB of a command this device server knows.
pub(crate) const MAXIMUM_CDB_LENGTH: usize = 16;

/// A CDB, zero-padded to 16 bytes, of which dispatch has checked that it is long enough for its operation code.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cdb([u8; MAXIMUM_CDB_LENGTH]);

impl Cdb {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let mut padded = [0; MAXIMUM_CDB_LENGTH];
        let length = bytes.len().min(MAXIMUM_CDB_LENGTH);
        padded[..length].copy_from_slice(&bytes[..length]);
        Self(padded)
    }

    pub(crate) fn opcode(&self) -> u8 {
        self.0[0]
    }

    /// Where the operation code has service actions: bits 4 to 0 of byte 1.
    pub(crate) fn service_action(&self) -> u16 {
        u16::from(self.0[1] & 0x1f)
    }

    pub(crate) fn byte(&self, index: usize) -> u8 {
        self.0[index]
    }

    pub(crate) fn bit(&self, index: usize, bit: u8) -> bool {
        self.0[index] & (1 << bit) != 0
    }

    pub(crate) fn u16(&self, index: usize) -> u16 {
        u16::from_be_bytes([self.0[index], self.0[index + 1]])
    }

    pub(crate) fn u32(&self, index: usize) -> u32 {
        u32::from(self.u16(index)) << 16 | u32::from(self.u16(index + 2))
    }

    pub(crate) fn u64(&self, index: usize) -> u64 {
        u64::from(self.u32(index)) << 32 | u64::from(self.u32(index + 4))
    }

    /// Refuses the first bit that is set but not in `mask`, with a pointer at that bit. Byte 0 is not looked at, nor are those
    /// behind the mask.
    pub(crate) fn refuse_bits_outside(&self, mask: &[u8]) -> Result<(), Sense> {
        let mut allowed = [0xff; MAXIMUM_CDB_LENGTH];
        let length = mask.len().min(MAXIMUM_CDB_LENGTH);
        allowed[1..length].copy_from_slice(&mask[1..length]);
        let unknown = u128::from_be_bytes(self.0) & !u128::from_be_bytes(allowed);
        if unknown == 0 {
            return Ok(());
        }
        let place = unknown.leading_zeros() as u16;
        Err(Sense::invalid_field_in_cdb(place / 8, Some(7 - (place % 8) as u8)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_big_endian() {
        let cdb = Cdb::new(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(cdb.u16(1), 0x0102);
        assert_eq!(cdb.u32(2), 0x0203_0405);
        assert_eq!(cdb.u64(2), 0x0203_0405_0607_0809);
        assert_eq!(cdb.byte(15), 0);
        assert!(cdb.bit(9, 3) && !cdb.bit(9, 1));
    }

    #[test]
    fn unknown_bit_is_pointed_at() {
        let cdb = Cdb::new(&[0x28, 0x60, 0, 0, 0, 0, 0, 0, 0, 0]);
        let mask = [0x28, 0x1e, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 0];
        assert_eq!(cdb.refuse_bits_outside(&mask), Err(Sense::invalid_field_in_cdb(1, Some(6))));
    }
}
