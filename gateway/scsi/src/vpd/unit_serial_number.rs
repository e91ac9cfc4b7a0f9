//! Page 80h: the unit serial number (SPC-4).

use crate::logical_unit::LogicalUnit;
use crate::mode::ModeState;

pub(super) fn body(unit: &LogicalUnit, _: &ModeState) -> Vec<u8> {
    unit.config().serial.clone().into_bytes()
}
