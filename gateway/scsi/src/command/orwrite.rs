//! ORWRITE (16) (SBC-3): every bit that is set in the write data is set in the blocks; the others stay as they are.

use crate::addressing::BlockRange;
use crate::cdb::Cdb;
use crate::limits::MAXIMUM_TRANSFER_BYTES;
use crate::logical_unit::LogicalUnit;
use crate::mode::ModeState;
use crate::plan::{BlockOperation, Plan};
use crate::sense::Sense;

const FUA_BIT: u8 = 3;

pub(crate) fn decode(unit: &LogicalUnit, modes: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    let range = BlockRange::from_cdb16(cdb);
    let extent = range.at_most(range.within(unit)?, MAXIMUM_TRANSFER_BYTES, unit)?;
    let data_out = unit.transfer_bytes(extent.blocks)?;
    let fua = cdb.bit(1, FUA_BIT) || !modes.write_cache;
    Ok(Plan::block_with_data(data_out, BlockOperation::OrWrite { extent, fua }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::{self, BLOCKS};
    use crate::extent::Extent;
    use crate::plan::{Action, Step};

    fn orwrite(flags: u8, lba: u64, blocks: u32) -> Vec<u8> {
        [&[0x8b, flags][..], &lba.to_be_bytes(), &blocks.to_be_bytes(), &[0, 0]].concat()
    }

    #[test]
    fn it_is_planned_like_a_write() {
        let unit = example::thin_unit();
        for (flags, fua) in [(0x00, false), (0x10, false), (0x08, true)] {
            let extent = Extent { lba: 7, blocks: 3 };
            let expected = (BlockOperation::OrWrite { extent, fua }, 1536);
            assert_eq!(example::block(&unit, &orwrite(flags, 7, 3)), expected);
        }
        let mut modes = unit.default_modes();
        modes.write_cache = false;
        let plan = unit.plan(&modes, &orwrite(0, 0, 1)).unwrap();
        assert!(matches!(plan.step, Step::Now(Action::Block(BlockOperation::OrWrite { fua: true, .. }))));
    }

    #[test]
    fn blocks_are_within_the_unit_and_the_maximum() {
        let unit = example::thin_unit();
        let outside = Err(Sense::lba_out_of_range_in_cdb(BLOCKS - 1, 2));
        assert_eq!(example::plan(&unit, &orwrite(0, BLOCKS - 1, 2)), outside);
        let too_many = Err(Sense::invalid_field_in_cdb(10, None));
        assert_eq!(example::plan(&unit, &orwrite(0, 0, 0x4001)), too_many);
        assert!(example::plan(&unit, &orwrite(0, 0, 0x4000)).is_ok());
        assert!(example::plan(&unit, &orwrite(0, BLOCKS, 0)).is_ok());
    }

    #[test]
    fn offered_data_decides_how_many_whole_blocks_are_written() {
        let unit = example::thin_unit();
        let mut plan = example::plan(&unit, &orwrite(0, 0, 3)).unwrap();
        assert_eq!(unit.fit_data(&mut plan, 1000), Err(Sense::invalid_data_length()));
        assert_eq!(unit.fit_data(&mut plan, 1024), Ok(()));
        let extent = Extent { lba: 0, blocks: 2 };
        assert_eq!(plan.step, Step::Now(Action::Block(BlockOperation::OrWrite { extent, fua: false })));
    }
}
