//! WRITE SAME (10) and (16) (SBC-3 §5.41, §5.42), with UNMAP on thin logical units and NDOB in the longer form.
//! 0 blocks means up to the last one, so long as that is not more than we do in one command (WSNZ=0).

use crate::addressing::BlockRange;
use crate::cdb::Cdb;
use crate::limits::MAXIMUM_WRITE_SAME_BYTES;
use crate::logical_unit::LogicalUnit;
use crate::mode::ModeState;
use crate::plan::{BlockOperation, Pattern, Plan};
use crate::sense::Sense;

const UNMAP_BIT: u8 = 3;
const NDOB_BIT: u8 = 0;

pub(crate) fn decode_10(unit: &LogicalUnit, modes: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    decode(unit, modes, cdb, BlockRange::from_cdb10(cdb), Pattern::Data)
}

pub(crate) fn decode_16(unit: &LogicalUnit, modes: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    let pattern = if cdb.bit(1, NDOB_BIT) { Pattern::Zero } else { Pattern::Data };
    decode(unit, modes, cdb, BlockRange::from_cdb16(cdb), pattern)
}

fn decode(
    unit: &LogicalUnit,
    modes: &ModeState,
    cdb: &Cdb,
    range: BlockRange,
    pattern: Pattern,
) -> Result<Plan, Sense> {
    let extent = range.at_most(range.within_or_to_the_end(unit)?, MAXIMUM_WRITE_SAME_BYTES, unit)?;
    let data_out = match pattern {
        Pattern::Zero => 0,
        Pattern::Data => unit.block_size(),
    };
    let operation =
        BlockOperation::WriteSame { extent, unmap: cdb.bit(1, UNMAP_BIT), pattern, fua: !modes.write_cache };
    Ok(Plan::block_with_data(data_out, operation))
}
