//! READ CAPACITY (10) and (16) (SBC-3).

use crate::cdb::Cdb;
use crate::logical_unit::LogicalUnit;
use crate::mode::ModeState;
use crate::plan::{Action, Plan};
use crate::sense::Sense;

/// Bytes of READ CAPACITY(16) parameter data.
const LONG_LENGTH: usize = 32;
const LBPME: u8 = 0x80;
const LBPRZ: u8 = 0x40;

pub(crate) fn decode_10(unit: &LogicalUnit, _: &ModeState, _: &Cdb) -> Result<Plan, Sense> {
    // FFFF_FFFFh says that only READ CAPACITY(16) can tell.
    let last = u32::try_from(unit.blocks() - 1).unwrap_or(u32::MAX);
    let mut data = Vec::with_capacity(8);
    data.extend_from_slice(&last.to_be_bytes());
    data.extend_from_slice(&unit.block_size().to_be_bytes());
    Ok(Plan::now(Action::Data(data)))
}

pub(crate) fn decode_16(unit: &LogicalUnit, _: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    let mut data = vec![0; LONG_LENGTH];
    data[0..8].copy_from_slice(&(unit.blocks() - 1).to_be_bytes());
    data[8..12].copy_from_slice(&unit.block_size().to_be_bytes());
    data[13] = unit.physical_block_exponent();
    if unit.is_thin() {
        data[14] = LBPME | LBPRZ;
    }
    Ok(Plan::data(data, cdb.u32(10)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;
    use crate::logical_unit::LogicalUnitConfig;

    fn read_capacity_16(allocation_length: u8) -> [u8; 16] {
        [0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, allocation_length, 0, 0]
    }

    #[test]
    fn golden_data() {
        let unit = example::thin_unit();
        assert_eq!(
            example::data(&unit, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            [0, 0x1f, 0xff, 0xff, 0, 0, 2, 0]
        );
        let mut expected = vec![0, 0, 0, 0, 0, 0x1f, 0xff, 0xff, 0, 0, 2, 0, 0, 3, 0xc0, 0];
        expected.resize(32, 0);
        assert_eq!(example::data(&unit, &read_capacity_16(32)), expected);
        assert_eq!(example::data(&unit, &read_capacity_16(15)), expected[..15]);
        assert_eq!(example::data(&unit, &read_capacity_16(0)), []);
        expected[14] = 0;
        assert_eq!(example::data(&example::thick_unit(), &read_capacity_16(255)), expected);
    }

    #[test]
    fn more_than_32_bits_of_blocks_send_the_initiator_to_the_long_command() {
        let config = LogicalUnitConfig { blocks: 1 << 33, ..example::config() };
        let unit = LogicalUnit::new(config).unwrap();
        assert_eq!(example::data(&unit, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0])[..4], [0xff; 4]);
    }

    #[test]
    fn pmi_and_lba_are_refused() {
        let unit = example::thin_unit();
        let expected = Err(Sense::invalid_field_in_cdb(8, Some(0)));
        assert_eq!(example::plan(&unit, &[0x25, 0, 0, 0, 0, 0, 0, 0, 1, 0]), expected);
        let expected = Err(Sense::invalid_field_in_cdb(5, Some(0)));
        assert_eq!(example::plan(&unit, &[0x25, 0, 0, 0, 0, 1, 0, 0, 0, 0]), expected);
    }
}
