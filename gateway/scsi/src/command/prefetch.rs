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
