//! WRITE SAME (10) and (16) (SBC-3), with UNMAP on thin logical units and NDOB in the longer form.
//! 0 blocks, which would mean all up to the last one, is refused (WSNZ=1).

use crate::addressing::BlockRange;
use crate::cdb::Cdb;
use crate::limits::MAXIMUM_WRITE_SAME_BYTES;
use crate::logical_unit::LogicalUnit;
use crate::mode::ModeState;
use crate::plan::{BlockOperation, Pattern, Plan};
use crate::sense::Sense;

const UNMAP_BIT: u8 = 3;
const NDOB_BIT: u8 = 0;

pub(crate) fn decode_10(unit: &LogicalUnit, modes: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    decode(unit, modes, cdb, BlockRange::from_cdb10(cdb), Pattern::Data)
}

pub(crate) fn decode_16(unit: &LogicalUnit, modes: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    let pattern = if cdb.bit(1, NDOB_BIT) { Pattern::Zero } else { Pattern::Data };
    decode(unit, modes, cdb, BlockRange::from_cdb16(cdb), pattern)
}

fn decode(
    unit: &LogicalUnit,
    modes: &ModeState,
    cdb: &Cdb,
    range: BlockRange,
    pattern: Pattern,
) -> Result<Plan, Sense> {
    let extent = range.not_empty()?.within(unit)?;
    let extent = range.at_most(extent, MAXIMUM_WRITE_SAME_BYTES, unit)?;
    let data_out = match pattern {
        Pattern::Zero => 0,
        Pattern::Data => unit.block_size(),
    };
    let operation =
        BlockOperation::WriteSame { extent, unmap: cdb.bit(1, UNMAP_BIT), pattern, fua: !modes.write_cache };
    Ok(Plan::block_with_data(data_out, operation))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::{self, BLOCKS};
    use crate::extent::Extent;

    /// 16 MiB in blocks of 512 bytes.
    const MAXIMUM_BLOCKS: u32 = 32_768;

    fn write_same_16(lba: u64, blocks: u32, flags: u8) -> [u8; 16] {
        let mut cdb = [0; 16];
        (cdb[0], cdb[1]) = (0x93, flags);
        cdb[2..10].copy_from_slice(&lba.to_be_bytes());
        cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
        cdb
    }

    #[test]
    fn flags_choose_unmapping_and_pattern() {
        let unit = example::thin_unit();
        for (flags, unmap, pattern, data_out) in [
            (0x00, false, Pattern::Data, 512),
            (0x01, false, Pattern::Zero, 0),
            (0x08, true, Pattern::Data, 512),
            (0x09, true, Pattern::Zero, 0),
        ] {
            let extent = Extent { lba: 5, blocks: 6 };
            let operation = BlockOperation::WriteSame { extent, unmap, pattern, fua: false };
            assert_eq!(example::block(&unit, &write_same_16(5, 6, flags)), (operation, data_out));
        }
    }

    #[test]
    fn anchor_is_refused_and_so_is_unmap_on_a_thick_unit() {
        let thin = example::thin_unit();
        for flags in [0x10, 0x18] {
            let expected = Err(Sense::invalid_field_in_cdb(1, Some(4)));
            assert_eq!(example::plan(&thin, &write_same_16(0, 1, flags)), expected);
        }
        let expected = Err(Sense::invalid_field_in_cdb(1, Some(3)));
        assert_eq!(example::plan(&example::thick_unit(), &write_same_16(0, 1, 0x08)), expected);
    }

    #[test]
    fn number_of_blocks_is_from_1_to_the_maximum() {
        let unit = example::thin_unit();
        assert!(example::plan(&unit, &write_same_16(0, MAXIMUM_BLOCKS, 0)).is_ok());
        let wrong_number = Err(Sense::invalid_field_in_cdb(10, None));
        assert_eq!(example::plan(&unit, &write_same_16(0, MAXIMUM_BLOCKS + 1, 0)), wrong_number);
        assert_eq!(example::plan(&unit, &write_same_16(0, 0, 0)), wrong_number);
        let outside = Err(Sense::lba_out_of_range_in_cdb(BLOCKS, 2));
        assert_eq!(example::plan(&unit, &write_same_16(BLOCKS, 1, 0)), outside);
    }

    #[test]
    fn exactly_one_block_must_be_offered() {
        let unit = example::thin_unit();
        for cdb in [&[0x41, 0x08, 0, 0, 0, 0, 0, 0, 1, 0][..], &write_same_16(0, 1, 0)] {
            let mut plan = example::plan(&unit, cdb).unwrap();
            assert_eq!(unit.fit_data(&mut plan, 512), Ok(()));
            for offered in [0, 256, 1024] {
                assert_eq!(unit.fit_data(&mut plan, offered), Err(Sense::invalid_data_length()));
            }
        }
        let mut plan = example::plan(&unit, &write_same_16(0, 1, 0x01)).unwrap();
        assert_eq!(unit.fit_data(&mut plan, 0), Ok(()));
    }
}
