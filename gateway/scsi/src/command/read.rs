//! READ (6), (10), (12) and (16) (SBC-3 §5.11 to §5.15). DPO, RARC and FUA_NV ask for nothing we could do better.

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
