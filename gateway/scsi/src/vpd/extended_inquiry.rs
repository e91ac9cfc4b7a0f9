//! Page 86h: extended INQUIRY data (SPC-4).

use crate::logical_unit::LogicalUnit;
use crate::mode::ModeState;
use crate::sense::MAXIMUM_SENSE_LENGTH;

/// Bytes after the header.
const LENGTH: usize = 0x3c;
/// Of the task attributes, SIMPLE.
const SIMPSUP: u8 = 0x01;
/// There is a volatile cache.
const V_SUP: u8 = 0x01;

pub(super) fn body(unit: &LogicalUnit, _: &ModeState) -> Vec<u8> {
    let mut body = vec![0; LENGTH];
    body[1] = SIMPSUP;
    if unit.config().write_cache {
        body[2] = V_SUP;
    }
    body[9] = MAXIMUM_SENSE_LENGTH as u8;
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    #[test]
    fn golden_page() {
        let unit = example::thin_unit();
        let body = body(&unit, &unit.default_modes());
        assert_eq!(&body[..10], [0, 1, 1, 0, 0, 0, 0, 0, 0, 28]);
        assert_eq!(body.len(), 60);
    }
}
