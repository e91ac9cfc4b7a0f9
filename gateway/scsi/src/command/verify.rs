//! VERIFY (10), (12) and (16) (SBC-3).

use crate::addressing::BlockRange;
use crate::cdb::Cdb;
use crate::limits::MAXIMUM_TRANSFER_BYTES;
use crate::logical_unit::LogicalUnit;
use crate::mode::ModeState;
use crate::plan::{BlockOperation, Compare, Plan};
use crate::sense::Sense;

pub(crate) fn decode_10(unit: &LogicalUnit, _: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    decode(unit, cdb, BlockRange::from_cdb10(cdb))
}

pub(crate) fn decode_12(unit: &LogicalUnit, _: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    decode(unit, cdb, BlockRange::from_cdb12(cdb))
}

pub(crate) fn decode_16(unit: &LogicalUnit, _: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    decode(unit, cdb, BlockRange::from_cdb16(cdb))
}

fn decode(unit: &LogicalUnit, cdb: &Cdb, range: BlockRange) -> Result<Plan, Sense> {
    let compare = match cdb.byte(1) >> 1 & 0x03 {
        0b00 => Compare::None,
        0b01 => Compare::Full,
        0b11 => Compare::SameBlock,
        _ => return Err(Sense::invalid_field_in_cdb(1, Some(2))),
    };
    let extent = range.at_most(range.within(unit)?, MAXIMUM_TRANSFER_BYTES, unit)?;
    let data_out = match compare {
        Compare::None => 0,
        Compare::Full => unit.transfer_bytes(extent.blocks)?,
        Compare::SameBlock if extent.is_empty() => 0,
        Compare::SameBlock => unit.block_size(),
    };
    Ok(Plan::block_with_data(data_out, BlockOperation::Verify { extent, compare }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;
    use crate::extent::Extent;

    #[test]
    fn bytchk_chooses_what_is_compared() {
        let unit = example::thin_unit();
        for (bytchk, compare, data_out) in
            [(0, Compare::None, 0), (1, Compare::Full, 1536), (3, Compare::SameBlock, 512)]
        {
            let cdb = [0x2f, bytchk << 1, 0, 0, 0, 8, 0, 0, 3, 0];
            let extent = Extent { lba: 8, blocks: 3 };
            assert_eq!(example::block(&unit, &cdb), (BlockOperation::Verify { extent, compare }, data_out));
        }
        let cdb = [0x2f, 4, 0, 0, 0, 8, 0, 0, 3, 0];
        assert_eq!(example::plan(&unit, &cdb), Err(Sense::invalid_field_in_cdb(1, Some(2))));
    }

    #[test]
    fn one_block_for_all_must_be_offered_exactly() {
        let unit = example::thin_unit();
        let mut plan = example::plan(&unit, &[0x2f, 6, 0, 0, 0, 8, 0, 0, 3, 0]).unwrap();
        assert_eq!(unit.fit_data(&mut plan, 512), Ok(()));
        assert_eq!(unit.fit_data(&mut plan, 1536), Err(Sense::invalid_data_length()));
    }
}
