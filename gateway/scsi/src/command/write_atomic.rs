//! WRITE ATOMIC (16) (SBC-4): all of the data or none of it. Where it may begin, and how much it may be, the block limits
//! VPD page tells; within these limits it is written at once, which is more than any ATOMIC BOUNDARY asks for.

use crate::addressing::BlockRange;
use crate::cdb::Cdb;
use crate::limits::{ATOMIC_GRANULARITY_BYTES, MAXIMUM_ATOMIC_BYTES};
use crate::logical_unit::LogicalUnit;
use crate::mode::ModeState;
use crate::plan::{BlockOperation, Plan};
use crate::sense::Sense;

const FUA_BIT: u8 = 3;
const LBA_BYTE: u16 = 2;
const BOUNDARY_BYTE: u16 = 10;
const BLOCKS_BYTE: u16 = 12;

pub(crate) fn decode(unit: &LogicalUnit, modes: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    let range = BlockRange::from_cdb16_with_16_bits(cdb, BLOCKS_BYTE);
    let extent = range.at_most(range.within(unit)?, MAXIMUM_ATOMIC_BYTES, unit)?;
    let in_blocks = |bytes: u64| bytes / u64::from(unit.block_size());
    if !extent.lba.is_multiple_of(in_blocks(MAXIMUM_ATOMIC_BYTES)) {
        return Err(Sense::invalid_field_in_cdb(LBA_BYTE, None));
    }
    if !extent.blocks.is_multiple_of(in_blocks(ATOMIC_GRANULARITY_BYTES)) {
        return Err(Sense::invalid_field_in_cdb(BLOCKS_BYTE, None));
    }
    if u64::from(cdb.u16(BOUNDARY_BYTE.into())) > in_blocks(MAXIMUM_ATOMIC_BYTES) {
        return Err(Sense::invalid_field_in_cdb(BOUNDARY_BYTE, None));
    }
    let data_out = unit.transfer_bytes(extent.blocks)?;
    let fua = cdb.bit(1, FUA_BIT) || !modes.write_cache;
    Ok(Plan::block_with_data(data_out, BlockOperation::WriteAtomic { extent, fua }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::{self, BLOCKS};
    use crate::extent::Extent;

    fn write_atomic(flags: u8, lba: u64, boundary: u16, blocks: u16) -> Vec<u8> {
        [&[0x9c, flags][..], &lba.to_be_bytes(), &boundary.to_be_bytes(), &blocks.to_be_bytes(), &[0, 0]]
            .concat()
    }

    #[test]
    fn whole_store_blocks_at_aligned_places_are_written_with_or_without_boundary() {
        let unit = example::thin_unit();
        for (flags, fua) in [(0x00, false), (0x10, false), (0x08, true)] {
            for boundary in [0, 1, 3, 256] {
                let extent = Extent { lba: 512, blocks: 256 };
                let expected = (BlockOperation::WriteAtomic { extent, fua }, 128 << 10);
                assert_eq!(example::block(&unit, &write_atomic(flags, 512, boundary, 256)), expected);
            }
        }
        let extent = Extent { lba: BLOCKS, blocks: 0 };
        let expected = (BlockOperation::WriteAtomic { extent, fua: false }, 0);
        assert_eq!(example::block(&unit, &write_atomic(0, BLOCKS, 0, 0)), expected);
    }

    #[test]
    fn no_write_within_the_limits_leaves_an_object() {
        const OBJECT_BLOCKS: u64 = (4 << 20) / 512;
        let unit = example::thin_unit();
        for lba in 0..2 * OBJECT_BLOCKS {
            for blocks in [8, 248, 256] {
                if example::plan(&unit, &write_atomic(0, lba, 0, blocks)).is_ok() {
                    assert_eq!(lba / OBJECT_BLOCKS, (lba + u64::from(blocks) - 1) / OBJECT_BLOCKS);
                }
            }
        }
    }

    #[test]
    fn what_is_beyond_a_limit_is_pointed_at() {
        let unit = example::thin_unit();
        for (lba, boundary, blocks, byte) in
            [(1, 0, 8, 2), (128, 0, 8, 2), (0, 0, 264, 12), (0, 0, 1, 12), (0, 0, 12, 12), (0, 257, 8, 10)]
        {
            let expected = Err(Sense::invalid_field_in_cdb(byte, None));
            assert_eq!(
                example::plan(&unit, &write_atomic(0, lba, boundary, blocks)),
                expected,
                "{lba} {blocks}"
            );
        }
        for lba in [BLOCKS, BLOCKS - 1, 1 << 63, u64::MAX] {
            let expected = Err(Sense::lba_out_of_range_in_cdb(lba, 2));
            assert_eq!(example::plan(&unit, &write_atomic(0, lba, 0, 264)), expected);
        }
    }

    #[test]
    fn less_than_all_of_the_data_is_refused() {
        let unit = example::thin_unit();
        let mut plan = example::plan(&unit, &write_atomic(0, 0, 0, 16)).unwrap();
        for offered in [0, 512, 4096, 8191] {
            assert_eq!(unit.fit_data(&mut plan, offered), Err(Sense::invalid_data_length()));
        }
        assert_eq!(unit.fit_data(&mut plan, 8192), Ok(()));
        assert_eq!(unit.fit_data(&mut plan, 9000), Ok(()));
    }
}
