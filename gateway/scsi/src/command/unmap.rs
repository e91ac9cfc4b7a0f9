//! UNMAP (SBC-3 §5.28). Only thin logical units have it.
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
        length => Ok(Plan::after_data(length.into(), ParameterList { name: "UNMAP", parse })),
    }
}

fn parse(unit: &LogicalUnit, modes: &ModeState, data: &[u8]) -> Result<Action, Sense> {
    let (header, rest) =
        data.split_first_chunk::<HEADER_LENGTH>().ok_or(Sense::parameter_list_length_error())?;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let descriptors = rest.get(..length).ok_or(Sense::parameter_list_length_error())?;
    // What is left after the last whole descriptor is ignored (SBC-3 §5.28.2).
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
