//! Page B2h: logical block provisioning (SBC-3). Thresholds, but no anchors.

use crate::logical_unit::LogicalUnit;
use crate::mode::ModeState;
use crate::provisioning::threshold_exponent;

/// UNMAP, WRITE SAME(16) and WRITE SAME(10) with UNMAP work, and what is unmapped reads as zeros.
const LBPU: u8 = 0x80;
const LBPWS: u8 = 0x40;
const LBPWS10: u8 = 0x20;
const LBPRZ: u8 = 0x04;
/// PROVISIONING TYPE: thin.
const THIN: u8 = 0x02;

pub(super) fn body(unit: &LogicalUnit, _: &ModeState) -> Vec<u8> {
    if unit.is_thin() {
        vec![threshold_exponent(unit), LBPU | LBPWS | LBPWS10 | LBPRZ, THIN, 0]
    } else {
        vec![0; 4]
    }
}
