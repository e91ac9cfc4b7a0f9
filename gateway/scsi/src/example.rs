//! Logical units for the tests of this crate.

use crate::logical_unit::{LogicalUnit, LogicalUnitConfig};
use crate::plan::Plan;
use crate::sense::Sense;

/// 1 GiB in blocks of 512 bytes on 4 KiB ones, thin.
pub(crate) fn config() -> LogicalUnitConfig {
    LogicalUnitConfig {
        identifier: std::array::from_fn(|index| index as u8),
        serial: "0123456789ab".to_owned(),
        product: "VDI".to_owned(),
        blocks: 1 << 21,
        block_size: 512,
        physical_block_size: 4096,
        thin: true,
        read_only: false,
        write_cache: true,
        target_name: "iqn.2026-11.dev.huntaway:demo".to_owned(),
        target_port_group: 1,
        relative_target_port: 1,
    }
}

pub(crate) fn thin_unit() -> LogicalUnit {
    LogicalUnit::new(config()).unwrap()
}

pub(crate) fn thick_unit() -> LogicalUnit {
    LogicalUnit::new(LogicalUnitConfig { thin: false, ..config() }).unwrap()
}

/// The plan of a command to a unit in its default mode state.
pub(crate) fn plan(unit: &LogicalUnit, cdb: &[u8]) -> Result<Plan, Sense> {
    unit.plan(&unit.default_modes(), cdb)
}
