//! SYNCHRONIZE CACHE (10) and (16) (SBC-3). 0 blocks means up to the last one.

use crate::addressing::BlockRange;
use crate::cdb::Cdb;
use crate::logical_unit::LogicalUnit;
use crate::mode::ModeState;
use crate::plan::{BlockOperation, Plan};
use crate::sense::Sense;

const IMMED_BIT: u8 = 1;

pub(crate) fn decode_10(unit: &LogicalUnit, _: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    decode(unit, cdb, BlockRange::from_cdb10(cdb))
}

pub(crate) fn decode_16(unit: &LogicalUnit, _: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    decode(unit, cdb, BlockRange::from_cdb16(cdb))
}

fn decode(unit: &LogicalUnit, cdb: &Cdb, range: BlockRange) -> Result<Plan, Sense> {
    let extent = range.within_or_to_the_end(unit)?;
    Ok(Plan::block(BlockOperation::Flush { extent, immediate: cdb.bit(1, IMMED_BIT) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::{self, BLOCKS};
    use crate::extent::Extent;

    #[test]
    fn zero_blocks_reach_to_the_end() {
        let unit = example::thin_unit();
        let flush =
            |lba, blocks, immediate| (BlockOperation::Flush { extent: Extent { lba, blocks }, immediate }, 0);
        assert_eq!(example::block(&unit, &[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0]), flush(0, BLOCKS, false));
        assert_eq!(example::block(&unit, &[0x35, 2, 0, 0, 0, 1, 0, 0, 2, 0]), flush(1, 2, true));
        let cdb = [0x91, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0];
        assert_eq!(example::block(&unit, &cdb), flush(3, BLOCKS - 3, false));
        let expected = Err(Sense::lba_out_of_range_in_cdb(u32::MAX.into(), 2));
        assert_eq!(example::plan(&unit, &[0x35, 0, 255, 255, 255, 255, 0, 0, 0, 0]), expected);
    }
}
