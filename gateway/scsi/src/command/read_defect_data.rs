//! READ DEFECT DATA (10) and (12) (SBC-3). There are no defects an initiator should know of: damage is found by
//! checksums and repaired below. An empty list has every format.

use crate::cdb::Cdb;
use crate::logical_unit::LogicalUnit;
use crate::mode::ModeState;
use crate::plan::Plan;
use crate::sense::Sense;

/// Bytes of the defect list header.
const HEADER_LENGTH_10: usize = 4;
const HEADER_LENGTH_12: usize = 8;

/// REQ_PLIST and REQ_GLIST, which stand where the header has PLISTV and GLISTV.
const LISTS: u8 = 0x18;
const FORMAT: u8 = 0x07;

/// The vendor specific format, of which we have none; the one after it is reserved.
const FIRST_UNKNOWN_FORMAT: u8 = 0b110;

pub(crate) fn decode_10(_: &LogicalUnit, _: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    Ok(Plan::data(empty_list(cdb, 2, HEADER_LENGTH_10)?, cdb.u16(7).into()))
}

/// Whatever the ADDRESS DESCRIPTOR INDEX is, no descriptor is left from there on.
pub(crate) fn decode_12(_: &LogicalUnit, _: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    Ok(Plan::data(empty_list(cdb, 1, HEADER_LENGTH_12)?, cdb.u32(6)))
}

/// A list of no descriptors: of the lists, and in the format, that the flags at `byte` ask for.
fn empty_list(cdb: &Cdb, byte: usize, header_length: usize) -> Result<Vec<u8>, Sense> {
    let flags = cdb.byte(byte) & (LISTS | FORMAT);
    if flags & FORMAT >= FIRST_UNKNOWN_FORMAT {
        return Err(Sense::invalid_field_in_cdb(byte as u16, Some(2)));
    }
    let mut list = vec![0; header_length];
    list[1] = flags;
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    fn read_10(flags: u8, allocation_length: u8) -> [u8; 10] {
        [0x37, 0, flags, 0, 0, 0, 0, 0, allocation_length, 0]
    }

    fn read_12(flags: u8, index: u8, allocation_length: u8) -> [u8; 12] {
        [0xb7, flags, 0, 0, 0, index, 0, 0, 0, allocation_length, 0, 0]
    }

    #[test]
    fn the_lists_asked_for_are_empty_in_the_format_asked_for() {
        let unit = example::thin_unit();
        for flags in [0x00, 0x08, 0x10, 0x18, 0x1b, 0x1d] {
            assert_eq!(example::data(&unit, &read_10(flags, 255)), [0, flags, 0, 0]);
            assert_eq!(example::data(&unit, &read_12(flags, 3, 255)), [0, flags, 0, 0, 0, 0, 0, 0]);
        }
        assert_eq!(example::data(&unit, &read_10(0x18, 2)), [0, 0x18]);
        assert_eq!(example::data(&unit, &read_12(0x18, 0, 0)), []);
    }

    #[test]
    fn formats_that_are_not_the_standards_are_refused() {
        let unit = example::thin_unit();
        for format in [6, 7] {
            let expected = Err(Sense::invalid_field_in_cdb(2, Some(2)));
            assert_eq!(example::plan(&unit, &read_10(format, 255)), expected);
            let expected = Err(Sense::invalid_field_in_cdb(1, Some(2)));
            assert_eq!(example::plan(&unit, &read_12(format, 0, 255)), expected);
        }
    }
}
