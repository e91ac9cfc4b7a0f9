//! WRITE (6), (10), (12), (16) and WRITE AND VERIFY (10), (12), (16) (SBC-3).

use crate::addressing::BlockRange;
use crate::cdb::Cdb;
use crate::extent::Extent;
use crate::limits::MAXIMUM_TRANSFER_BYTES;
use crate::logical_unit::LogicalUnit;
use crate::mode::ModeState;
use crate::plan::{BlockOperation, Plan};
use crate::sense::Sense;

const FUA_BIT: u8 = 3;

pub(crate) fn decode_6(unit: &LogicalUnit, modes: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    decode(unit, modes, BlockRange::from_cdb6(cdb), false)
}

pub(crate) fn decode_10(unit: &LogicalUnit, modes: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    decode(unit, modes, BlockRange::from_cdb10(cdb), cdb.bit(1, FUA_BIT))
}

pub(crate) fn decode_12(unit: &LogicalUnit, modes: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    decode(unit, modes, BlockRange::from_cdb12(cdb), cdb.bit(1, FUA_BIT))
}

pub(crate) fn decode_16(unit: &LogicalUnit, modes: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    decode(unit, modes, BlockRange::from_cdb16(cdb), cdb.bit(1, FUA_BIT))
}

pub(crate) fn decode_and_verify_10(unit: &LogicalUnit, _: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    decode_and_verify(unit, BlockRange::from_cdb10(cdb))
}

pub(crate) fn decode_and_verify_12(unit: &LogicalUnit, _: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    decode_and_verify(unit, BlockRange::from_cdb12(cdb))
}

pub(crate) fn decode_and_verify_16(unit: &LogicalUnit, _: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    decode_and_verify(unit, BlockRange::from_cdb16(cdb))
}

fn decode(unit: &LogicalUnit, modes: &ModeState, range: BlockRange, fua: bool) -> Result<Plan, Sense> {
    let (extent, data_out) = checked(unit, range)?;
    let fua = fua || !modes.write_cache;
    Ok(Plan::block_with_data(data_out, BlockOperation::Write { extent, fua }))
}

fn decode_and_verify(unit: &LogicalUnit, range: BlockRange) -> Result<Plan, Sense> {
    let (extent, data_out) = checked(unit, range)?;
    Ok(Plan::block_with_data(data_out, BlockOperation::WriteAndVerify { extent }))
}

fn checked(unit: &LogicalUnit, range: BlockRange) -> Result<(Extent, u32), Sense> {
    let extent = range.at_most(range.within(unit)?, MAXIMUM_TRANSFER_BYTES, unit)?;
    Ok((extent, unit.transfer_bytes(extent.blocks)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;
    use crate::plan::{Action, Step};

    const WRITE_2_BLOCKS: [u8; 10] = [0x2a, 0, 0, 0, 0, 8, 0, 0, 2, 0];

    #[test]
    fn all_lengths_of_cdb_write() {
        let unit = example::thin_unit();
        let write = |lba, blocks, fua| BlockOperation::Write { extent: Extent { lba, blocks }, fua };
        assert_eq!(example::block(&unit, &[0x0a, 0, 0, 1, 2, 0]), (write(1, 2, false), 1024));
        assert_eq!(example::block(&unit, &WRITE_2_BLOCKS), (write(8, 2, false), 1024));
        assert_eq!(example::block(&unit, &[0xaa, 8, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0]), (write(1, 1, true), 512));
        let cdb = [0x8a, 0x1a, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0];
        assert_eq!(example::block(&unit, &cdb), (write(1, 1, true), 512));
    }

    #[test]
    fn without_write_cache_every_write_is_stable() {
        let unit = example::thin_unit();
        let mut modes = unit.default_modes();
        modes.write_cache = false;
        let plan = unit.plan(&modes, &WRITE_2_BLOCKS).unwrap();
        assert!(matches!(plan.step, Step::Now(Action::Block(BlockOperation::Write { fua: true, .. }))));
    }

    #[test]
    fn write_and_verify_compares_or_not() {
        let unit = example::thin_unit();
        for bytchk in [0, 2] {
            let cdb = [0x2e, bytchk, 0, 0, 0, 8, 0, 0, 2, 0];
            let extent = Extent { lba: 8, blocks: 2 };
            assert_eq!(example::block(&unit, &cdb), (BlockOperation::WriteAndVerify { extent }, 1024));
        }
    }

    #[test]
    fn offered_data_decides_how_many_whole_blocks_are_written() {
        let unit = example::thin_unit();
        let written = |offered| {
            let mut plan = example::plan(&unit, &WRITE_2_BLOCKS)?;
            unit.fit_data(&mut plan, offered)?;
            assert_eq!(plan.data_out, 1024, "the residual counts from what the command wants");
            match plan.step {
                Step::Now(Action::Block(BlockOperation::Write { extent, .. })) => Ok(extent.blocks),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(written(1024), Ok(2));
        assert_eq!(written(10_000), Ok(2));
        assert_eq!(written(512), Ok(1));
        assert_eq!(written(0), Ok(0));
        assert_eq!(written(200), Err(Sense::invalid_data_length()));
    }
}
