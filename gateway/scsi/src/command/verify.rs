//! VERIFY (10), (12) and (16) (SBC-3 §5.29 to §5.31).

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
