//! Logical units for the tests of this crate.

use crate::logical_unit::{LogicalUnit, LogicalUnitConfig};
use crate::plan::{Action, BlockOperation, Plan, Step};
use crate::sense::Sense;

/// 1 GiB in blocks of 512 bytes on 4 KiB ones, thin.
pub(crate) fn config() -> LogicalUnitConfig {
    LogicalUnitConfig {
        identifier: std::array::from_fn(|index| index as u8),
        serial: "0123456789ab".to_owned(),
        product: "VDI".to_owned(),
        blocks: BLOCKS,
        block_size: 512,
        physical_block_size: 4096,
        thin: true,
        read_only: false,
        write_cache: true,
        modes_are_fixed: false,
        soft_threshold_bytes: (512 << 20) + 1,
        target_name: "iqn.2026-11.dev.huntaway:demo".to_owned(),
        target_port_group: 1,
        relative_target_port: 1,
    }
}

/// The capacity of the examples.
pub(crate) const BLOCKS: u64 = 1 << 21;

pub(crate) fn thin_unit() -> LogicalUnit {
    LogicalUnit::new(config()).unwrap()
}

pub(crate) fn thick_unit() -> LogicalUnit {
    LogicalUnit::new(LogicalUnitConfig { thin: false, ..config() }).unwrap()
}

/// The same logical unit, read-only.
pub(crate) fn read_only(unit: &LogicalUnit) -> LogicalUnit {
    LogicalUnit::new(LogicalUnitConfig { read_only: true, ..unit.config().clone() }).unwrap()
}

/// The plan of a command to a unit in its default mode state.
pub(crate) fn plan(unit: &LogicalUnit, cdb: &[u8]) -> Result<Plan, Sense> {
    unit.plan(&unit.default_modes(), cdb)
}

/// The data that a command to a unit in its default mode state is answered with.
pub(crate) fn data(unit: &LogicalUnit, cdb: &[u8]) -> Vec<u8> {
    match plan(unit, cdb) {
        Ok(Plan { data_out: 0, step: Step::Now(Action::Data(data)) }) => data,
        other => panic!("not data: {other:?}"),
    }
}

/// The block operation that a command to a unit in its default mode state comes to, and its bytes of write data.
pub(crate) fn block(unit: &LogicalUnit, cdb: &[u8]) -> (BlockOperation, u32) {
    match plan(unit, cdb) {
        Ok(Plan { data_out, step: Step::Now(Action::Block(operation)) }) => (operation, data_out),
        other => panic!("not a block operation: {other:?}"),
    }
}

/// What a command with this parameter list, to a unit in its default mode state, comes to.
pub(crate) fn with_parameters(unit: &LogicalUnit, cdb: &[u8], list: &[u8]) -> Result<Action, Sense> {
    match plan(unit, cdb)? {
        Plan { step: Step::AfterData(expected), data_out } => {
            assert_eq!(data_out as usize, list.len());
            unit.parse_parameters(&unit.default_modes(), expected, list)
        }
        other => panic!("wants no parameter list: {other:?}"),
    }
}
