//! Page B1h: block device characteristics (SBC-3): nothing rotates.

use crate::logical_unit::LogicalUnit;
use crate::mode::ModeState;

/// Bytes after the header.
const LENGTH: usize = 0x3c;
/// MEDIUM ROTATION RATE of a medium that does not rotate.
const NON_ROTATING: [u8; 2] = [0x00, 0x01];

/// WABEREQ: after a block erase, blocks may be read without being written first.
const READABLE_AFTER_BLOCK_ERASE: u8 = 0x40;

pub(super) fn body(unit: &LogicalUnit, _: &ModeState) -> Vec<u8> {
    let mut body = vec![0; LENGTH];
    body[0..2].copy_from_slice(&NON_ROTATING);
    if unit.is_thin() {
        body[3] = READABLE_AFTER_BLOCK_ERASE;
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    #[test]
    fn golden_page() {
        for (unit, flags) in [(example::thin_unit(), 0x40), (example::thick_unit(), 0)] {
            let mut expected = vec![0, 1, 0, flags];
            expected.resize(60, 0);
            assert_eq!(body(&unit, &unit.default_modes()), expected);
        }
    }
}
