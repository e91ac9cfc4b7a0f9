//! UNMAP (SBC-3). Only thin logical units have it.
//!
//! Its parameter list:
//!
//! | bytes | field |
//! |---|---|
//! | 0-1 | UNMAP DATA LENGTH: bytes after this field |
//! | 2-3 | UNMAP BLOCK DESCRIPTOR DATA LENGTH |
//! | 4-7 | reserved |
//! | 8-  | descriptors of 16 bytes: LBA (8), number of blocks (4), reserved (4) |

use crate::cdb::Cdb;
use crate::extent::Extent;
use crate::limits::{MAXIMUM_UNMAP_BYTES, MAXIMUM_UNMAP_DESCRIPTORS};
use crate::logical_unit::LogicalUnit;
use crate::mode::ModeState;
use crate::plan::{Action, BlockOperation, ParameterList, Plan};
use crate::sense::Sense;
use smallvec::SmallVec;

const HEADER_LENGTH: usize = 8;
const DESCRIPTOR_LENGTH: usize = 16;

pub(crate) fn decode(_: &LogicalUnit, _: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    match cdb.u16(7) {
        0 => Ok(Plan::now(Action::Good)),
        1..=7 => Err(Sense::parameter_list_length_error()),
        length => Ok(Plan::after_data(ParameterList { name: "UNMAP", length, flags: 0, parse })),
    }
}

fn parse(unit: &LogicalUnit, modes: &ModeState, _: u8, data: &[u8]) -> Result<Action, Sense> {
    let (header, rest) =
        data.split_first_chunk::<HEADER_LENGTH>().ok_or(Sense::parameter_list_length_error())?;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let descriptors = rest.get(..length).ok_or(Sense::parameter_list_length_error())?;
    // What is left after the last whole descriptor is ignored (SBC-3).
    let descriptors = descriptors.as_chunks::<DESCRIPTOR_LENGTH>().0;
    if descriptors.len() > MAXIMUM_UNMAP_DESCRIPTORS as usize {
        return Err(Sense::invalid_field_in_parameter_list(2, None));
    }
    let mut extents = SmallVec::new();
    let mut blocks_left = MAXIMUM_UNMAP_BYTES / u64::from(unit.block_size());
    for (index, descriptor) in descriptors.iter().enumerate() {
        let byte = (HEADER_LENGTH + index * DESCRIPTOR_LENGTH) as u16;
        let extent = parse_descriptor(unit, descriptor, byte)?;
        blocks_left = blocks_left
            .checked_sub(extent.blocks)
            .ok_or(Sense::invalid_field_in_parameter_list(byte + 8, None))?;
        if !extent.is_empty() {
            extents.push(extent);
        }
    }
    Ok(Action::Block(BlockOperation::Unmap { extents, fua: !modes.write_cache }))
}

fn parse_descriptor(
    unit: &LogicalUnit,
    descriptor: &[u8; DESCRIPTOR_LENGTH],
    byte: u16,
) -> Result<Extent, Sense> {
    let [l0, l1, l2, l3, l4, l5, l6, l7, b0, b1, b2, b3, ..] = *descriptor;
    let lba = u64::from_be_bytes([l0, l1, l2, l3, l4, l5, l6, l7]);
    let blocks = u32::from_be_bytes([b0, b1, b2, b3]);
    Extent::within(lba, blocks.into(), unit.blocks())
        .ok_or(Sense::lba_out_of_range_in_parameter_list(lba, byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::{self, BLOCKS};

    fn unmap(descriptors: &[(u64, u32)]) -> Result<Action, Sense> {
        let mut list = vec![0; HEADER_LENGTH];
        for (lba, blocks) in descriptors {
            list.extend_from_slice(&lba.to_be_bytes());
            list.extend_from_slice(&blocks.to_be_bytes());
            list.extend_from_slice(&[0; 4]);
        }
        let length = list.len() as u16;
        list[0..2].copy_from_slice(&(length - 2).to_be_bytes());
        list[2..4].copy_from_slice(&(length - 8).to_be_bytes());
        send(&list)
    }

    fn send(list: &[u8]) -> Result<Action, Sense> {
        let [high, low] = (list.len() as u16).to_be_bytes();
        example::with_parameters(&example::thin_unit(), &[0x42, 0, 0, 0, 0, 0, 0, high, low, 0], list)
    }

    fn extents(action: Result<Action, Sense>) -> Vec<Extent> {
        match action {
            Ok(Action::Block(BlockOperation::Unmap { extents, fua: false })) => extents.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn descriptors_become_extents() {
        let expected = [Extent { lba: 8, blocks: 16 }, Extent { lba: 100, blocks: 1 }];
        assert_eq!(extents(unmap(&[(8, 16), (100, 1)])), expected);
        assert_eq!(extents(unmap(&[(8, 0), (BLOCKS, 0)])), []);
        assert_eq!(extents(unmap(&[])), []);
    }

    #[test]
    fn no_list_is_good_and_a_piece_of_a_header_is_not() {
        let unit = example::thin_unit();
        let cdb = |length| [0x42, 0, 0, 0, 0, 0, 0, 0, length, 0];
        assert_eq!(example::plan(&unit, &cdb(0)), Ok(Plan::now(Action::Good)));
        assert_eq!(example::plan(&unit, &cdb(7)), Err(Sense::parameter_list_length_error()));
    }

    #[test]
    fn list_shorter_than_it_says_is_refused_and_half_a_descriptor_ignored() {
        assert_eq!(send(&[0, 22, 0, 16, 0, 0, 0, 0, 0, 0]), Err(Sense::parameter_list_length_error()));
        assert_eq!(extents(send(&[0, 8, 0, 2, 0, 0, 0, 0, 0, 0])), []);
    }

    #[test]
    fn descriptor_past_the_end_is_out_of_range() {
        let expected = Err(Sense::lba_out_of_range_in_parameter_list(BLOCKS, 24));
        assert_eq!(unmap(&[(0, 1), (BLOCKS, 1)]), expected);
        let expected = Err(Sense::lba_out_of_range_in_parameter_list(u64::MAX, 8));
        assert_eq!(unmap(&[(u64::MAX, 2)]), expected);
    }

    #[test]
    fn too_many_descriptors_or_blocks_are_refused() {
        assert!(unmap(&[(0, 1); 256]).is_ok());
        assert_eq!(unmap(&[(0, 1); 257]), Err(Sense::invalid_field_in_parameter_list(2, None)));
        assert!(unmap(&[(0, 1 << 20)]).is_ok());
        let expected = Err(Sense::invalid_field_in_parameter_list(32, None));
        assert_eq!(unmap(&[(0, 1 << 20), (0, 1)]), expected);
    }
}
