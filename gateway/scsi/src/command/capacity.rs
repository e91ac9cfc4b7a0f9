//! READ CAPACITY (10) and (16) (SBC-3 §5.16, §5.17).

use crate::cdb::Cdb;
use crate::logical_unit::LogicalUnit;
use crate::mode::ModeState;
use crate::plan::{Action, Plan};
use crate::sense::Sense;

/// Bytes of READ CAPACITY(16) parameter data.
const LONG_LENGTH: usize = 32;
const LBPME: u8 = 0x80;
const LBPRZ: u8 = 0x40;

pub(crate) fn decode_10(unit: &LogicalUnit, _: &ModeState, _: &Cdb) -> Result<Plan, Sense> {
    // FFFF_FFFFh says that only READ CAPACITY(16) can tell.
    let last = u32::try_from(unit.blocks() - 1).unwrap_or(u32::MAX);
    let mut data = Vec::with_capacity(8);
    data.extend_from_slice(&last.to_be_bytes());
    data.extend_from_slice(&unit.block_size().to_be_bytes());
    Ok(Plan::now(Action::Data(data)))
}

pub(crate) fn decode_16(unit: &LogicalUnit, _: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    let mut data = vec![0; LONG_LENGTH];
    data[0..8].copy_from_slice(&(unit.blocks() - 1).to_be_bytes());
    data[8..12].copy_from_slice(&unit.block_size().to_be_bytes());
    data[13] = unit.physical_block_exponent();
    if unit.is_thin() {
        data[14] = LBPME | LBPRZ;
    }
    Ok(Plan::data(data, cdb.u32(10)))
}
