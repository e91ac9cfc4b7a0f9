//! Page B1h: block device characteristics (SBC-3): nothing rotates.

use crate::logical_unit::LogicalUnit;
use crate::mode::ModeState;

/// Bytes after the header.
const LENGTH: usize = 0x3c;
/// MEDIUM ROTATION RATE of a medium that does not rotate.
const NON_ROTATING: [u8; 2] = [0x00, 0x01];

pub(super) fn body(_: &LogicalUnit, _: &ModeState) -> Vec<u8> {
    let mut body = vec![0; LENGTH];
    body[0..2].copy_from_slice(&NON_ROTATING);
    body
}
