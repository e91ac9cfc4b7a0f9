//! READ (6), (10), (12) and (16) (SBC-3). DPO, RARC and FUA_NV ask for nothing we could do better.

use crate::addressing::BlockRange;
use crate::cdb::Cdb;
use crate::limits::MAXIMUM_TRANSFER_BYTES;
use crate::logical_unit::LogicalUnit;
use crate::mode::ModeState;
use crate::plan::{BlockOperation, Plan};
use crate::sense::Sense;

const FUA_BIT: u8 = 3;

pub(crate) fn decode_6(unit: &LogicalUnit, _: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    decode(unit, BlockRange::from_cdb6(cdb), false)
}

pub(crate) fn decode_10(unit: &LogicalUnit, _: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    decode(unit, BlockRange::from_cdb10(cdb), cdb.bit(1, FUA_BIT))
}

pub(crate) fn decode_12(unit: &LogicalUnit, _: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    decode(unit, BlockRange::from_cdb12(cdb), cdb.bit(1, FUA_BIT))
}

pub(crate) fn decode_16(unit: &LogicalUnit, _: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    decode(unit, BlockRange::from_cdb16(cdb), cdb.bit(1, FUA_BIT))
}

fn decode(unit: &LogicalUnit, range: BlockRange, fua: bool) -> Result<Plan, Sense> {
    let extent = range.at_most(range.within(unit)?, MAXIMUM_TRANSFER_BYTES, unit)?;
    Ok(Plan::block(BlockOperation::Read { extent, fua }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::{self, BLOCKS};
    use crate::extent::Extent;

    fn read_10(lba: u32, blocks: u16, flags: u8) -> [u8; 10] {
        let ([l0, l1, l2, l3], [b0, b1]) = (lba.to_be_bytes(), blocks.to_be_bytes());
        [0x28, flags, l0, l1, l2, l3, 0, b0, b1, 0]
    }

    #[test]
    fn all_lengths_of_cdb_read() {
        let unit = example::thin_unit();
        let read = |lba, blocks, fua| BlockOperation::Read { extent: Extent { lba, blocks }, fua };
        assert_eq!(example::block(&unit, &[0x08, 0, 1, 0, 0, 0]), (read(256, 256, false), 0));
        assert_eq!(example::block(&unit, &read_10(7, 3, 0x08)), (read(7, 3, true), 0));
        assert_eq!(example::block(&unit, &[0xa8, 0, 0, 0, 1, 0, 0, 0, 0, 2, 0, 0]), (read(256, 2, false), 0));
        let cdb = [0x88, 0x18, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 9, 0x1f, 0];
        assert_eq!(example::block(&unit, &cdb), (read(512, 9, true), 0));
    }

    #[test]
    fn read_past_the_end_is_out_of_range() {
        let unit = example::thin_unit();
        let end = BLOCKS as u32;
        for (lba, blocks) in [(end, 1), (end + 1, 0), (end - 1, 2), (0x8000_0000, 0), (u32::MAX, 1)] {
            let expected = Sense::lba_out_of_range_in_cdb(lba.into(), 2);
            assert_eq!(example::plan(&unit, &read_10(lba, blocks, 0)), Err(expected));
        }
        let mut cdb = [0xff; 16];
        (cdb[0], cdb[1], cdb[14], cdb[15]) = (0x88, 0, 0, 0);
        assert_eq!(example::plan(&unit, &cdb), Err(Sense::lba_out_of_range_in_cdb(u64::MAX, 2)));
    }

    #[test]
    fn zero_blocks_are_good_up_to_the_end() {
        let unit = example::thin_unit();
        for lba in [0, BLOCKS as u32] {
            let extent = Extent { lba: lba.into(), blocks: 0 };
            let expected = (BlockOperation::Read { extent, fua: false }, 0);
            assert_eq!(example::block(&unit, &read_10(lba, 0, 0)), expected);
        }
    }

    #[test]
    fn protection_information_is_refused() {
        let unit = example::thin_unit();
        for protect in 1..8u8 {
            let sense = example::plan(&unit, &read_10(0, 1, protect << 5)).unwrap_err();
            assert_eq!((sense.asc, sense.ascq), (0x24, 0));
        }
    }

    #[test]
    fn more_than_the_maximum_transfer_is_refused() {
        let unit = example::thin_unit();
        assert!(example::plan(&unit, &read_10(0, 16_384, 0)).is_ok());
        let expected = Sense::invalid_field_in_cdb(7, None);
        assert_eq!(example::plan(&unit, &read_10(0, 16_385, 0)), Err(expected));
    }
}
