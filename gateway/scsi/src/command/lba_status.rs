//! GET LBA STATUS (SBC-3): which blocks hold data. Of a thick logical unit, all do.

use crate::cdb::Cdb;
use crate::extent::Extent;
use crate::limits::MAXIMUM_LBA_STATUS_DESCRIPTORS;
use crate::logical_unit::LogicalUnit;
use crate::mode::ModeState;
use crate::plan::{BlockOperation, Plan, cut};
use crate::sense::Sense;

const HEADER_LENGTH: usize = 8;
const DESCRIPTOR_LENGTH: usize = 16;

/// Whether blocks have space of their own (the PROVISIONING STATUS field).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provisioning {
    /// They may hold data.
    Mapped,
    /// They read as zeros and take no space.
    Deallocated,
}

pub(crate) fn decode(unit: &LogicalUnit, _: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    let lba = cdb.u64(2);
    let allocation_length = cdb.u32(10);
    let blocks = unit.blocks().checked_sub(lba).filter(|blocks| *blocks > 0);
    let blocks = blocks.ok_or(Sense::lba_out_of_range_in_cdb(lba, 2))?;
    let extent = Extent { lba, blocks };
    if !unit.is_thin() {
        return Ok(Plan::data(
            lba_status([(extent, Provisioning::Mapped)], allocation_length),
            allocation_length,
        ));
    }
    let wanted = (allocation_length as usize).saturating_sub(HEADER_LENGTH) / DESCRIPTOR_LENGTH;
    let maximum_descriptors = wanted.clamp(1, MAXIMUM_LBA_STATUS_DESCRIPTORS);
    Ok(Plan::block(BlockOperation::LbaStatus { extent, maximum_descriptors, allocation_length }))
}

/// The data that GET LBA STATUS sends. The descriptors must follow each other without gaps, the first beginning at
/// the LBA asked for. Neighbours with the same status are joined; at most [`MAXIMUM_LBA_STATUS_DESCRIPTORS`] are
/// used.
pub fn lba_status(
    descriptors: impl IntoIterator<Item = (Extent, Provisioning)>,
    allocation_length: u32,
) -> Vec<u8> {
    let mut runs: Vec<(Extent, Provisioning)> = Vec::new();
    for (extent, provisioning) in descriptors {
        if let Some((last, _)) = runs.last_mut().filter(|(_, status)| *status == provisioning) {
            last.blocks = last.blocks.saturating_add(extent.blocks);
        } else if runs.len() < MAXIMUM_LBA_STATUS_DESCRIPTORS {
            runs.push((extent, provisioning));
        } else {
            break;
        }
    }
    let mut data = vec![0; HEADER_LENGTH];
    for (extent, provisioning) in runs {
        data.extend_from_slice(&extent.lba.to_be_bytes());
        let blocks = u32::try_from(extent.blocks);
        data.extend_from_slice(&blocks.unwrap_or(u32::MAX).to_be_bytes());
        data.extend_from_slice(&[provisioning.code(), 0, 0, 0]);
        // What a descriptor cannot hold is left for the next command: descriptors must not have gaps.
        if blocks.is_err() {
            break;
        }
    }
    let length = (data.len() - 4) as u32;
    data[0..4].copy_from_slice(&length.to_be_bytes());
    cut(data, allocation_length)
}

impl Provisioning {
    fn code(self) -> u8 {
        match self {
            Self::Mapped => 0x0,
            Self::Deallocated => 0x1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::{self, BLOCKS};

    fn get_lba_status(lba: u64, allocation_length: u32) -> Vec<u8> {
        let (lba, allocation_length) = (lba.to_be_bytes(), allocation_length.to_be_bytes());
        [&[0x9e, 0x12][..], &lba, &allocation_length, &[0, 0]].concat()
    }

    #[test]
    fn thin_unit_is_asked_for_as_many_descriptors_as_fit() {
        let unit = example::thin_unit();
        for (allocation_length, maximum_descriptors) in [(0, 1), (24, 1), (55, 2), (u32::MAX, 256)] {
            let extent = Extent { lba: 9, blocks: BLOCKS - 9 };
            let expected = BlockOperation::LbaStatus { extent, maximum_descriptors, allocation_length };
            assert_eq!(example::block(&unit, &get_lba_status(9, allocation_length)), (expected, 0));
        }
    }

    #[test]
    fn thick_unit_is_mapped_to_its_end() {
        let data = example::data(&example::thick_unit(), &get_lba_status(BLOCKS - 3, 24));
        assert_eq!(data, [0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x1f, 0xff, 0xfd, 0, 0, 0, 3, 0, 0, 0, 0]);
    }

    #[test]
    fn there_is_no_status_past_the_end() {
        for lba in [BLOCKS, BLOCKS + 1, 1 << 63, u64::MAX] {
            let expected = Err(Sense::lba_out_of_range_in_cdb(lba, 2));
            assert_eq!(example::plan(&example::thin_unit(), &get_lba_status(lba, 24)), expected);
        }
    }

    #[test]
    fn neighbours_with_the_same_status_are_one_descriptor() {
        let extent = |lba, blocks| Extent { lba, blocks };
        let data = lba_status(
            [
                (extent(8, 8), Provisioning::Mapped),
                (extent(16, 8), Provisioning::Mapped),
                (extent(24, 1), Provisioning::Deallocated),
            ],
            1000,
        );
        assert_eq!(data.len(), 40);
        assert_eq!(&data[..4], [0, 0, 0, 36]);
        assert_eq!(&data[8..24], [0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 16, 0, 0, 0, 0]);
        assert_eq!(&data[24..], [0, 0, 0, 0, 0, 0, 0, 24, 0, 0, 0, 1, 1, 0, 0, 0]);
    }

    #[test]
    fn descriptor_holds_at_most_32_bits_of_blocks_and_ends_the_list() {
        let huge = Extent { lba: 0, blocks: 1 << 33 };
        let next = Extent { lba: 1 << 33, blocks: 1 };
        let data = lba_status([(huge, Provisioning::Mapped), (next, Provisioning::Deallocated)], 1000);
        assert_eq!(data.len(), 24);
        assert_eq!(&data[16..20], [0xff; 4]);
    }
}
