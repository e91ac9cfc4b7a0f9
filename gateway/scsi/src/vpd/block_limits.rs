//! Page B0h: block limits (SBC-3). Offsets in the standard count the four byte header; here they do not.

use crate::limits;
use crate::logical_unit::LogicalUnit;
use crate::mode::ModeState;

/// Bytes after the header.
const LENGTH: usize = 0x3c;
/// WRITE SAME of 0 blocks is refused.
const WSNZ: u8 = 0x01;
/// The optimal unmap granularity is aligned to LBA 0 (UGAVALID).
const UGAVALID: u32 = 0x8000_0000;

pub(super) fn body(unit: &LogicalUnit, _: &ModeState) -> Vec<u8> {
    let in_blocks = |bytes: u64| (bytes / u64::from(unit.block_size())) as u32;
    let mut body = vec![0; LENGTH];
    body[0] = WSNZ;
    body[1] = limits::MAXIMUM_COMPARE_AND_WRITE_BLOCKS;
    let granularity = 1u16 << unit.physical_block_exponent();
    body[2..4].copy_from_slice(&granularity.to_be_bytes());
    body[4..8].copy_from_slice(&in_blocks(limits::MAXIMUM_TRANSFER_BYTES).to_be_bytes());
    body[8..12].copy_from_slice(&in_blocks(limits::OPTIMAL_TRANSFER_BYTES).to_be_bytes());
    if unit.is_thin() {
        body[16..20].copy_from_slice(&in_blocks(limits::MAXIMUM_UNMAP_BYTES).to_be_bytes());
        body[20..24].copy_from_slice(&limits::MAXIMUM_UNMAP_DESCRIPTORS.to_be_bytes());
        body[24..28].copy_from_slice(&in_blocks(limits::UNMAP_GRANULARITY_BYTES).to_be_bytes());
        body[28..32].copy_from_slice(&UGAVALID.to_be_bytes());
    }
    let maximum_write_same = u64::from(in_blocks(limits::MAXIMUM_WRITE_SAME_BYTES));
    body[32..40].copy_from_slice(&maximum_write_same.to_be_bytes());
    let atomic = in_blocks(limits::MAXIMUM_ATOMIC_BYTES).to_be_bytes();
    // The maximum transfer length and the alignment, and with a boundary the maximum transfer length and boundary.
    for field in [40, 44, 52, 56] {
        body[field..field + 4].copy_from_slice(&atomic);
    }
    body[48..52].copy_from_slice(&in_blocks(limits::ATOMIC_GRANULARITY_BYTES).to_be_bytes());
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    #[test]
    fn golden_page_of_a_thin_unit() {
        let unit = example::thin_unit();
        let body = body(&unit, &unit.default_modes());
        let mut expected = vec![1, 1, 0, 8];
        expected.extend_from_slice(&[0, 0, 0x40, 0, 0, 0, 0x08, 0, 0, 0, 0, 0]);
        expected.extend_from_slice(&[0, 0x10, 0, 0, 0, 0, 1, 0, 0, 0, 0, 8, 0x80, 0, 0, 0]);
        expected.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0x80, 0]);
        expected.extend_from_slice(&[0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 8, 0, 0, 1, 0, 0, 0, 1, 0]);
        assert_eq!(body, expected);
    }

    #[test]
    fn thick_unit_has_no_unmap_limits() {
        let unit = example::thick_unit();
        let body = body(&unit, &unit.default_modes());
        assert_eq!(body[16..32], [0; 16]);
    }
}
