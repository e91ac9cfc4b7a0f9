//! COMPARE AND WRITE (SBC-3): the first half of the write data is compared with the blocks, and only if all of it is
//! equal the second half is written to them; nobody else gets in between.

use crate::addressing::BlockRange;
use crate::cdb::Cdb;
use crate::limits::MAXIMUM_COMPARE_AND_WRITE_BLOCKS;
use crate::logical_unit::LogicalUnit;
use crate::mode::ModeState;
use crate::plan::{BlockOperation, Plan};
use crate::sense::Sense;

/// Where the NUMBER OF LOGICAL BLOCKS is.
pub(crate) const BLOCKS_BYTE: u16 = 13;

const FUA_BIT: u8 = 3;

pub(crate) fn decode(unit: &LogicalUnit, modes: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    let range = BlockRange::from_cdb16_with_8_bits(cdb, BLOCKS_BYTE);
    // The maximum comes first: it holds wherever the blocks are.
    let extent = range.at_most_blocks(MAXIMUM_COMPARE_AND_WRITE_BLOCKS.into())?.within(unit)?;
    let data_out = unit.transfer_bytes(2 * extent.blocks)?;
    let fua = cdb.bit(1, FUA_BIT) || !modes.write_cache;
    Ok(Plan::block_with_data(data_out, BlockOperation::CompareAndWrite { extent, fua }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::{self, BLOCKS};
    use crate::extent::Extent;

    fn compare_and_write(flags: u8, lba: u64, blocks: u8) -> Vec<u8> {
        [&[0x89, flags][..], &lba.to_be_bytes(), &[0, 0, 0, blocks, 0, 0]].concat()
    }

    #[test]
    fn two_blocks_of_data_are_wanted_for_one() {
        let unit = example::thin_unit();
        for (flags, fua) in [(0x00, false), (0x10, false), (0x08, true), (0x18, true)] {
            let extent = Extent { lba: 7, blocks: 1 };
            let expected = (BlockOperation::CompareAndWrite { extent, fua }, 1024);
            assert_eq!(example::block(&unit, &compare_and_write(flags, 7, 1)), expected);
        }
    }

    #[test]
    fn no_blocks_want_no_data() {
        let unit = example::thin_unit();
        let extent = Extent { lba: BLOCKS, blocks: 0 };
        let expected = (BlockOperation::CompareAndWrite { extent, fua: false }, 0);
        assert_eq!(example::block(&unit, &compare_and_write(0, BLOCKS, 0)), expected);
    }

    #[test]
    fn more_than_the_maximum_is_a_wrong_field_even_past_the_end() {
        let unit = example::thin_unit();
        for (lba, blocks) in [(0, 2), (0, 255), (BLOCKS, 2)] {
            let expected = Err(Sense::invalid_field_in_cdb(13, None));
            assert_eq!(example::plan(&unit, &compare_and_write(0, lba, blocks)), expected);
        }
        let expected = Err(Sense::lba_out_of_range_in_cdb(BLOCKS, 2));
        assert_eq!(example::plan(&unit, &compare_and_write(0, BLOCKS, 1)), expected);
    }

    #[test]
    fn protection_information_is_refused() {
        let unit = example::thin_unit();
        for (flags, bit) in [(0x20, 5), (0x40, 6), (0x80, 7)] {
            let expected = Err(Sense::invalid_field_in_cdb(1, Some(bit)));
            assert_eq!(example::plan(&unit, &compare_and_write(flags, 0, 1)), expected);
        }
    }

    #[test]
    fn both_halves_must_be_offered_and_nothing_else() {
        let unit = example::thin_unit();
        for (blocks, wanted) in [(0, 0), (1, 1024)] {
            let mut plan = example::plan(&unit, &compare_and_write(0, 0, blocks)).unwrap();
            assert_eq!(unit.fit_data(&mut plan, wanted), Ok(()));
            for offered in [0, 512, 1000, 1024, 2048].into_iter().filter(|offered| *offered != wanted) {
                let expected = Err(Sense::invalid_field_in_cdb(13, None));
                assert_eq!(unit.fit_data(&mut plan, offered), expected);
            }
        }
    }
}
