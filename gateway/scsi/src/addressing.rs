//! Where CDBs of 6, 10, 12 and 16 bytes hold the LBA and the number of blocks (SBC-3), and the checks on them.

use crate::cdb::Cdb;
use crate::extent::Extent;
use crate::logical_unit::LogicalUnit;
use crate::sense::Sense;

/// The LBA and number of blocks of a CDB, with the places to point at when they are wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockRange {
    pub(crate) lba: u64,
    pub(crate) blocks: u64,
    lba_byte: u16,
    blocks_byte: u16,
}

impl BlockRange {
    /// READ(6) and WRITE(6): 21 bits of LBA, and a length in which 0 means 256.
    pub(crate) fn from_cdb6(cdb: &Cdb) -> Self {
        let lba = u64::from(cdb.byte(1) & 0x1f) << 16 | u64::from(cdb.u16(2));
        let blocks = match cdb.byte(4) {
            0 => 256,
            blocks => u64::from(blocks),
        };
        Self { lba, blocks, lba_byte: 1, blocks_byte: 4 }
    }

    pub(crate) fn from_cdb10(cdb: &Cdb) -> Self {
        Self { lba: cdb.u32(2).into(), blocks: cdb.u16(7).into(), lba_byte: 2, blocks_byte: 7 }
    }

    pub(crate) fn from_cdb12(cdb: &Cdb) -> Self {
        Self { lba: cdb.u32(2).into(), blocks: cdb.u32(6).into(), lba_byte: 2, blocks_byte: 6 }
    }

    pub(crate) fn from_cdb16(cdb: &Cdb) -> Self {
        Self { lba: cdb.u64(2), blocks: cdb.u32(10).into(), lba_byte: 2, blocks_byte: 10 }
    }

    /// WRITE ATOMIC: a CDB of 16 bytes whose length is the two bytes at `blocks_byte`.
    pub(crate) fn from_cdb16_with_16_bits(cdb: &Cdb, blocks_byte: u16) -> Self {
        Self { lba: cdb.u64(2), blocks: cdb.u16(blocks_byte.into()).into(), lba_byte: 2, blocks_byte }
    }

    /// COMPARE AND WRITE: a CDB of 16 bytes whose length is the one byte at `blocks_byte`.
    pub(crate) fn from_cdb16_with_8_bits(cdb: &Cdb, blocks_byte: u16) -> Self {
        Self { lba: cdb.u64(2), blocks: cdb.byte(blocks_byte.into()).into(), lba_byte: 2, blocks_byte }
    }

    /// Refuses a range of 0 blocks.
    ///
    /// # Errors
    /// INVALID FIELD IN CDB, pointing at the number of blocks.
    pub(crate) fn not_empty(&self) -> Result<&Self, Sense> {
        if self.blocks == 0 { Err(Sense::invalid_field_in_cdb(self.blocks_byte, None)) } else { Ok(self) }
    }

    /// Refuses a range of more than `maximum_blocks`.
    ///
    /// # Errors
    /// INVALID FIELD IN CDB, pointing at the number of blocks.
    pub(crate) fn at_most_blocks(&self, maximum_blocks: u64) -> Result<&Self, Sense> {
        if self.blocks > maximum_blocks {
            return Err(Sense::invalid_field_in_cdb(self.blocks_byte, None));
        }
        Ok(self)
    }

    /// The extent, if it lies within the logical unit.
    ///
    /// # Errors
    /// LOGICAL BLOCK ADDRESS OUT OF RANGE.
    pub(crate) fn within(&self, unit: &LogicalUnit) -> Result<Extent, Sense> {
        Extent::within(self.lba, self.blocks, unit.blocks())
            .ok_or(Sense::lba_out_of_range_in_cdb(self.lba, self.lba_byte))
    }

    /// As [`Self::within`], for the commands in which 0 blocks means up to the last one.
    ///
    /// # Errors
    /// LOGICAL BLOCK ADDRESS OUT OF RANGE.
    pub(crate) fn within_or_to_the_end(&self, unit: &LogicalUnit) -> Result<Extent, Sense> {
        let mut extent = self.within(unit)?;
        if extent.blocks == 0 {
            extent.blocks = unit.blocks() - extent.lba;
        }
        Ok(extent)
    }

    /// Refuses an extent of more than `maximum_bytes`.
    ///
    /// # Errors
    /// INVALID FIELD IN CDB, pointing at the number of blocks.
    pub(crate) fn at_most(
        &self,
        extent: Extent,
        maximum_bytes: u64,
        unit: &LogicalUnit,
    ) -> Result<Extent, Sense> {
        if extent.blocks > maximum_bytes / u64::from(unit.block_size()) {
            return Err(Sense::invalid_field_in_cdb(self.blocks_byte, None));
        }
        Ok(extent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cdb6_has_21_bits_of_lba_and_0_means_256_blocks() {
        let range = BlockRange::from_cdb6(&Cdb::new(&[0x08, 0x1f, 0xff, 0xfe, 0, 0]));
        assert_eq!((range.lba, range.blocks), (0x1f_fffe, 256));
    }

    #[test]
    fn golden_ranges() {
        let range = BlockRange::from_cdb10(&Cdb::new(&[0x28, 0, 1, 2, 3, 4, 0, 5, 6, 0]));
        assert_eq!((range.lba, range.blocks), (0x0102_0304, 0x0506));
        let range = BlockRange::from_cdb12(&Cdb::new(&[0xa8, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0]));
        assert_eq!((range.lba, range.blocks), (0x0102_0304, 0x0506_0708));
        let range =
            BlockRange::from_cdb16(&Cdb::new(&[0x88, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0]));
        assert_eq!((range.lba, range.blocks), (0x0102_0304_0506_0708, 0x090a_0b0c));
    }
}
