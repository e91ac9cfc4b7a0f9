//! START STOP UNIT (SBC-3 §5.25). A shared logical unit is not stopped because one initiator leaves: stopping only
//! flushes. There is no medium to eject, and there are no power conditions.

use crate::cdb::Cdb;
use crate::extent::Extent;
use crate::logical_unit::LogicalUnit;
use crate::mode::ModeState;
use crate::plan::{Action, BlockOperation, Plan};
use crate::sense::Sense;

const START_BIT: u8 = 0;
const NO_FLUSH_BIT: u8 = 2;
const IMMED_BIT: u8 = 0;

pub(crate) fn decode(unit: &LogicalUnit, _: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    if cdb.bit(4, START_BIT) || cdb.bit(4, NO_FLUSH_BIT) {
        return Ok(Plan::now(Action::Good));
    }
    let extent = Extent { lba: 0, blocks: unit.blocks() };
    Ok(Plan::block(BlockOperation::Flush { extent, immediate: cdb.bit(1, IMMED_BIT) }))
}
