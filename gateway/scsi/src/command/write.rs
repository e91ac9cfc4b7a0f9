//! WRITE (6), (10), (12), (16) and WRITE AND VERIFY (10), (12), (16) (SBC-3 §5.32 to §5.38).

use crate::addressing::BlockRange;
use crate::cdb::Cdb;
use crate::extent::Extent;
use crate::limits::MAXIMUM_TRANSFER_BYTES;
use crate::logical_unit::LogicalUnit;
use crate::mode::ModeState;
use crate::plan::{BlockOperation, Plan};
use crate::sense::Sense;

const FUA_BIT: u8 = 3;

pub(crate) fn decode_6(unit: &LogicalUnit, modes: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    decode(unit, modes, BlockRange::from_cdb6(cdb), false)
}

pub(crate) fn decode_10(unit: &LogicalUnit, modes: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    decode(unit, modes, BlockRange::from_cdb10(cdb), cdb.bit(1, FUA_BIT))
}

pub(crate) fn decode_12(unit: &LogicalUnit, modes: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    decode(unit, modes, BlockRange::from_cdb12(cdb), cdb.bit(1, FUA_BIT))
}

pub(crate) fn decode_16(unit: &LogicalUnit, modes: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    decode(unit, modes, BlockRange::from_cdb16(cdb), cdb.bit(1, FUA_BIT))
}

pub(crate) fn decode_and_verify_10(unit: &LogicalUnit, _: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    decode_and_verify(unit, BlockRange::from_cdb10(cdb))
}

pub(crate) fn decode_and_verify_12(unit: &LogicalUnit, _: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    decode_and_verify(unit, BlockRange::from_cdb12(cdb))
}

pub(crate) fn decode_and_verify_16(unit: &LogicalUnit, _: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    decode_and_verify(unit, BlockRange::from_cdb16(cdb))
}

fn decode(unit: &LogicalUnit, modes: &ModeState, range: BlockRange, fua: bool) -> Result<Plan, Sense> {
    let (extent, data_out) = checked(unit, range)?;
    let fua = fua || !modes.write_cache;
    Ok(Plan::block_with_data(data_out, BlockOperation::Write { extent, fua }))
}

fn decode_and_verify(unit: &LogicalUnit, range: BlockRange) -> Result<Plan, Sense> {
    let (extent, data_out) = checked(unit, range)?;
    Ok(Plan::block_with_data(data_out, BlockOperation::WriteAndVerify { extent }))
}

fn checked(unit: &LogicalUnit, range: BlockRange) -> Result<(Extent, u32), Sense> {
    let extent = range.at_most(range.within(unit)?, MAXIMUM_TRANSFER_BYTES, unit)?;
    Ok((extent, unit.transfer_bytes(extent.blocks)?))
}
