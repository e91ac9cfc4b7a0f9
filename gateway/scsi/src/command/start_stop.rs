//! START STOP UNIT (SBC-3). A shared logical unit is not stopped because one initiator leaves: stopping only
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::{self, BLOCKS};

    #[test]
    fn stopping_flushes_and_nothing_else_does_anything() {
        let unit = example::thin_unit();
        let start_stop = |immed, byte_4| [0x1b, immed, 0, 0, byte_4, 0];
        let extent = Extent { lba: 0, blocks: BLOCKS };
        let flush = (BlockOperation::Flush { extent, immediate: true }, 0);
        assert_eq!(example::block(&unit, &start_stop(1, 0)), flush);
        for byte_4 in [1, 4, 5] {
            assert_eq!(example::plan(&unit, &start_stop(0, byte_4)), Ok(Plan::now(Action::Good)));
        }
        let eject = Err(Sense::invalid_field_in_cdb(4, Some(1)));
        assert_eq!(example::plan(&unit, &start_stop(0, 2)), eject);
        let standby = Err(Sense::invalid_field_in_cdb(4, Some(5)));
        assert_eq!(example::plan(&unit, &start_stop(0, 0x30)), standby);
    }
}
