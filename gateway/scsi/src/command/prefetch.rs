//! PRE-FETCH (10) and (16) (SBC-3). 0 blocks means up to the last one. It is a hint: any number of
//! blocks is allowed, and GOOD (not CONDITION MET) promises nothing.

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
    Ok(Plan::block(BlockOperation::Prefetch { extent, immediate: cdb.bit(1, IMMED_BIT) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::{self, BLOCKS};
    use crate::extent::Extent;

    #[test]
    fn any_number_of_blocks_within_the_unit_is_good() {
        let unit = example::thin_unit();
        let prefetch = |lba, blocks, immediate| {
            (BlockOperation::Prefetch { extent: Extent { lba, blocks }, immediate }, 0)
        };
        assert_eq!(
            example::block(&unit, &[0x34, 0, 0, 0, 0, 1, 3, 0xff, 0xff, 0]),
            prefetch(1, 65_535, false)
        );
        let cdb = [0x90, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0x1f, 0];
        assert_eq!(example::block(&unit, &cdb), prefetch(1, BLOCKS - 1, true));
        let expected = Err(Sense::lba_out_of_range_in_cdb(BLOCKS - 1, 2));
        assert_eq!(example::plan(&unit, &[0x34, 0, 0, 0x1f, 0xff, 0xff, 0, 0, 2, 0]), expected);
    }
}
