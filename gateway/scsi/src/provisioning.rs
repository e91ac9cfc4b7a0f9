//! Logical block provisioning resources (SBC-3): how they are counted, and the log page that tells of them.
//!
//! The resources are those of the disks behind a logical unit, which it shares with others. They are counted in threshold
//! sets; the VPD page B2h tells their size, the mode page 1Ch/02h how few that are available are too few.

use crate::logical_unit::LogicalUnit;
use crate::plan::cut;

/// Bytes of a threshold set.
const THRESHOLD_SET_BYTES: u64 = 1 << 20;

/// LBA mapping resources of the disks behind a logical unit, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resources {
    /// What can still be allocated.
    pub available_bytes: u64,
    /// What can be no more: used, set aside, or kept for other purposes.
    pub used_bytes: u64,
}

/// The LOGICAL BLOCK PROVISIONING log page (0Ch). `first_parameter` is the PARAMETER POINTER.
pub fn provisioning_log(resources: Resources, first_parameter: u16, allocation_length: u32) -> Vec<u8> {
    /// The page is not saved (DS).
    const PAGE: u8 = 0x80 | PROVISIONING_PAGE;
    let counts = [resources.available_bytes, resources.used_bytes];
    let parameters = (AVAILABLE_PARAMETER..=USED_PARAMETER).zip(counts);
    let chosen = parameters.filter(|(code, _)| *code >= first_parameter);
    let parameters: Vec<u8> = chosen.flat_map(|(code, bytes)| parameter(code, bytes)).collect();
    let [high, low] = (parameters.len() as u16).to_be_bytes();
    cut([&[PAGE, 0, high, low][..], &parameters].concat(), allocation_length)
}

/// The log page's code.
pub(crate) const PROVISIONING_PAGE: u8 = 0x0c;

const AVAILABLE_PARAMETER: u16 = 0x0001;
/// The last parameter of the page.
pub(crate) const USED_PARAMETER: u16 = 0x0002;

fn parameter(code: u16, bytes: u64) -> [u8; 12] {
    /// A binary list parameter.
    const CONTROL: u8 = 0x03;
    /// Bytes after the parameter's header.
    const LENGTH: u8 = 8;
    /// SCOPE: the resources are not dedicated to one logical unit.
    const SHARED: u8 = 0x02;
    let [c0, c1] = code.to_be_bytes();
    let [b0, b1, b2, b3] = sets(bytes).to_be_bytes();
    [c0, c1, CONTROL, LENGTH, b0, b1, b2, b3, SHARED, 0, 0, 0]
}

fn sets(bytes: u64) -> u32 {
    u32::try_from(bytes / THRESHOLD_SET_BYTES).unwrap_or(u32::MAX)
}

/// The THRESHOLD EXPONENT: the binary logarithm of the logical blocks in a threshold set.
pub(crate) fn threshold_exponent(unit: &LogicalUnit) -> u8 {
    (THRESHOLD_SET_BYTES / u64::from(unit.block_size())).trailing_zeros() as u8
}

/// The soft threshold in threshold sets.
pub(crate) fn soft_threshold_sets(unit: &LogicalUnit) -> u32 {
    sets(unit.config().soft_threshold_bytes)
}

impl LogicalUnit {
    /// Bytes of available resources from which downwards initiators are to be told
    /// [`Sense::soft_threshold_reached`](crate::Sense::soft_threshold_reached): whole threshold sets. `None`: never.
    pub fn soft_threshold_bytes(&self) -> Option<u64> {
        self.is_thin().then(|| u64::from(soft_threshold_sets(self)) * THRESHOLD_SET_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;
    use crate::logical_unit::LogicalUnitConfig;

    const RESOURCES: Resources = Resources { available_bytes: (0x102 << 20) + 5, used_bytes: 3 << 20 };
    const AVAILABLE: [u8; 12] = [0, 1, 3, 8, 0, 0, 1, 2, 2, 0, 0, 0];
    const USED: [u8; 12] = [0, 2, 3, 8, 0, 0, 0, 3, 2, 0, 0, 0];

    #[test]
    fn golden_log_page() {
        let both = [&[0x8c, 0, 0, 24][..], &AVAILABLE, &USED].concat();
        for pointer in [0, 1] {
            assert_eq!(provisioning_log(RESOURCES, pointer, 255), both);
        }
        assert_eq!(provisioning_log(RESOURCES, 2, 255), [&[0x8c, 0, 0, 12][..], &USED].concat());
        assert_eq!(provisioning_log(RESOURCES, 0, 7), both[..7]);
    }

    #[test]
    fn counts_beyond_32_bits_are_the_largest_one() {
        let resources = Resources { available_bytes: u64::MAX, used_bytes: 0 };
        assert_eq!(provisioning_log(resources, 1, 255)[8..12], [0xff; 4]);
    }

    #[test]
    fn a_threshold_set_is_a_mebibyte_whatever_the_block_size() {
        let unit =
            |block_size| LogicalUnit::new(LogicalUnitConfig { block_size, ..example::config() }).unwrap();
        assert_eq!([512, 4096].map(|size| threshold_exponent(&unit(size))), [11, 8]);
        assert_eq!(unit(4096).soft_threshold_bytes(), Some(512 << 20));
        assert_eq!(example::thick_unit().soft_threshold_bytes(), None);
    }
}
