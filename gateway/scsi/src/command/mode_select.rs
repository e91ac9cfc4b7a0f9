//! MODE SELECT (6) and (10) (SPC-4). The whole list is checked before anything changes.

use crate::cdb::Cdb;
use crate::command::mode_sense::{long_descriptor, short_descriptor};
use crate::logical_unit::LogicalUnit;
use crate::mode::{self, ModePage, ModeState, SPF};
use crate::plan::{Action, ParameterList, Plan};
use crate::sense::Sense;

/// The list has standard pages, not vendor specific ones.
const PF_BIT: u8 = 4;

const HEADER_6_LENGTH: usize = 4;
const HEADER_10_LENGTH: usize = 8;
const SHORT_DESCRIPTOR_LENGTH: usize = 8;
const LONG_DESCRIPTOR_LENGTH: usize = 16;

pub(crate) fn decode_6(_: &LogicalUnit, _: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    let length = cdb.byte(4).into();
    decode(cdb, ParameterList { name: "MODE SELECT(6)", length, flags: 0, parse: parse_6 })
}

pub(crate) fn decode_10(_: &LogicalUnit, _: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    let length = cdb.u16(7);
    decode(cdb, ParameterList { name: "MODE SELECT(10)", length, flags: 0, parse: parse_10 })
}

fn decode(cdb: &Cdb, list: ParameterList) -> Result<Plan, Sense> {
    if list.length == 0 {
        return Ok(Plan::now(Action::Good));
    }
    if !cdb.bit(1, PF_BIT) {
        return Err(Sense::invalid_field_in_cdb(1, Some(PF_BIT)));
    }
    Ok(Plan::after_data(list))
}

fn parse_6(unit: &LogicalUnit, modes: &ModeState, _: u8, data: &[u8]) -> Result<Action, Sense> {
    let header = data.first_chunk::<HEADER_6_LENGTH>().ok_or(Sense::parameter_list_length_error())?;
    let list = List { unit, data, descriptor_length_byte: 3 };
    list.parse(modes, HEADER_6_LENGTH, header[3].into(), false)
}

fn parse_10(unit: &LogicalUnit, modes: &ModeState, _: u8, data: &[u8]) -> Result<Action, Sense> {
    const LONGLBA: u8 = 0x01;
    let header = data.first_chunk::<HEADER_10_LENGTH>().ok_or(Sense::parameter_list_length_error())?;
    let descriptor_length = u16::from_be_bytes([header[6], header[7]]);
    let list = List { unit, data, descriptor_length_byte: 6 };
    list.parse(modes, HEADER_10_LENGTH, descriptor_length.into(), header[4] & LONGLBA != 0)
}

/// A mode parameter list of which the header is known to be there.
struct List<'a> {
    unit: &'a LogicalUnit,
    data: &'a [u8],
    descriptor_length_byte: u16,
}

impl List<'_> {
    fn parse(
        &self,
        modes: &ModeState,
        header_length: usize,
        descriptor_length: usize,
        has_long_lba: bool,
    ) -> Result<Action, Sense> {
        let pages_start = header_length + descriptor_length;
        let descriptor =
            self.data.get(header_length..pages_start).ok_or(Sense::parameter_list_length_error())?;
        self.check_descriptor(descriptor, header_length, has_long_lba)?;
        let mut new_modes = *modes;
        let mut start = pages_start;
        while start < self.data.len() {
            start += self.apply_page(start, modes, &mut new_modes)?;
        }
        Ok(Action::SetModePages(new_modes))
    }

    /// A block descriptor may only repeat what is so; 0 blocks or all ones leave the capacity as it is.
    fn check_descriptor(&self, descriptor: &[u8], start: usize, has_long_lba: bool) -> Result<(), Sense> {
        let expected = match (descriptor.len(), has_long_lba) {
            (0, _) => return Ok(()),
            (SHORT_DESCRIPTOR_LENGTH, false) => short_descriptor(self.unit),
            (LONG_DESCRIPTOR_LENGTH, true) => long_descriptor(self.unit),
            _ => return Err(Sense::invalid_field_in_parameter_list(self.descriptor_length_byte, None)),
        };
        let (blocks, block_length) = descriptor.split_at(descriptor.len() / 2);
        let (expected_blocks, expected_length) = expected.split_at(descriptor.len() / 2);
        let keeps_capacity = blocks.iter().all(|byte| *byte == 0) || blocks.iter().all(|byte| *byte == 0xff);
        if !keeps_capacity && blocks != expected_blocks {
            return Err(Sense::invalid_field_in_parameter_list(start as u16, None));
        }
        if block_length != expected_length {
            let byte = start + descriptor.len() / 2;
            return Err(Sense::invalid_field_in_parameter_list(byte as u16, None));
        }
        Ok(())
    }

    /// Checks the page at `start` against the present values, takes over what it changes, and returns its length.
    fn apply_page(&self, start: usize, modes: &ModeState, new: &mut ModeState) -> Result<usize, Sense> {
        let rest = &self.data[start..];
        let header = rest.first_chunk::<2>().ok_or(Sense::parameter_list_length_error())?;
        let invalid = |byte: usize, bit| Sense::invalid_field_in_parameter_list((start + byte) as u16, bit);
        // PS is reserved in MODE SELECT; initiators that send back what they read leave it as it was.
        let (code, has_subpage) = (header[0] & 0x3f, header[0] & SPF != 0);
        if !mode::pages(self.unit).any(|page| page.code == code) {
            return Err(invalid(0, Some(5)));
        }
        let mut of_format =
            mode::pages(self.unit).filter(|page| page.code == code && (page.subpage != 0) == has_subpage);
        let page = of_format.next().ok_or(invalid(0, Some(6)))?;
        if has_subpage && header[1] != page.subpage {
            return Err(invalid(1, None));
        }
        let expected = page.header();
        let length = rest.get(..expected.len()).ok_or(Sense::parameter_list_length_error())?;
        let length_byte = if has_subpage { 2 } else { 1 };
        if length[length_byte..] != expected[length_byte..] {
            return Err(invalid(length_byte, None));
        }
        let bytes = self.data.get(start..start + page.length).ok_or(Sense::parameter_list_length_error())?;
        self.check_unchangeable(page, bytes, modes).map_err(|(byte, bit)| invalid(byte, Some(bit)))?;
        (page.apply)(bytes, new);
        Ok(page.length)
    }

    /// Finds the first bit that is changed though it cannot be: its byte in the page, and its number.
    fn check_unchangeable(
        &self,
        page: &ModePage,
        bytes: &[u8],
        modes: &ModeState,
    ) -> Result<(), (usize, u8)> {
        let values = page.values(self.unit, modes);
        let changeable = page.changeable(self.unit);
        for byte in page.header().len()..page.length {
            let wrong = (bytes[byte] ^ values[byte]) & !changeable[byte];
            if wrong != 0 {
                return Err((byte, 7 - wrong.leading_zeros() as u8));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;
    use crate::logical_unit::LogicalUnitConfig;

    const CONTROL: [u8; 12] = [0x0a, 10, 0, 0x10, 0, 0, 0, 0, 0xff, 0xff, 0, 0];

    fn select(list: &[u8]) -> Result<Action, Sense> {
        let cdb = [0x15, 0x10, 0, 0, list.len() as u8, 0];
        example::with_parameters(&example::thin_unit(), &cdb, list)
    }

    fn select_page(page: &[u8]) -> Result<Action, Sense> {
        select(&[&[0; 4], page].concat())
    }

    fn set(change: impl Fn(&mut ModeState)) -> Result<Action, Sense> {
        let mut modes = example::thin_unit().default_modes();
        change(&mut modes);
        Ok(Action::SetModePages(modes))
    }

    #[test]
    fn changeable_bits_are_taken_over() {
        let mut control = CONTROL;
        control[0] |= 0x80;
        (control[2], control[4]) = (4, 8);
        let both = set(|modes| (modes.descriptor_sense, modes.software_write_protect) = (true, true));
        assert_eq!(select_page(&control), both);
        let mut caching = [0; 20];
        (caching[0], caching[1]) = (8, 18);
        assert_eq!(select_page(&caching), set(|modes| modes.write_cache = false));
        let cdb = [0x55, 0x10, 0, 0, 0, 0, 0, 0, 8 + 16 + 20, 0];
        let descriptor = [0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0];
        let list = [&[0, 0, 0, 0, 1, 0, 0, 16][..], &descriptor, &caching].concat();
        let action = example::with_parameters(&example::thin_unit(), &cdb, &list);
        assert_eq!(action, set(|modes| modes.write_cache = false));
    }

    #[test]
    fn where_modes_are_fixed_only_what_is_so_already_is_taken() {
        let config = LogicalUnitConfig { modes_are_fixed: true, ..example::config() };
        let unit = LogicalUnit::new(config).unwrap();
        let cdb = |list: &[u8]| [0x15, 0x10, 0, 0, list.len() as u8, 0];
        let select = |page: &[u8]| {
            let list = [&[0; 4], page].concat();
            example::with_parameters(&unit, &cdb(&list), &list)
        };
        assert_eq!(select(&CONTROL), Ok(Action::SetModePages(unit.default_modes())));
        for (byte, bits, bit) in [(2, 4, 2), (4, 8, 3)] {
            let mut control = CONTROL;
            control[byte] = bits;
            let expected = Sense::invalid_field_in_parameter_list(4 + byte as u16, Some(bit));
            assert_eq!(select(&control), Err(expected));
        }
        let without_cache = [&[8, 18][..], &[0; 18]].concat();
        assert_eq!(select(&without_cache), Err(Sense::invalid_field_in_parameter_list(4 + 2, Some(2))));
        // MODE SENSE(6) of what may be changed: nothing, in no page
        let changeable = example::data(&unit, &[0x1a, 0x08, 0x7f, 0xff, 0xff, 0]);
        let pages = mode::pages(&unit).flat_map(|page| {
            let header = page.header();
            [&header[..], &vec![0; page.length - header.len()]].concat()
        });
        assert_eq!(changeable[4..], pages.collect::<Vec<u8>>());
    }

    #[test]
    fn all_pages_are_checked_before_one_is_taken() {
        let (mut first, mut second) = (CONTROL, CONTROL);
        first[2] = 4;
        second[3] = 0;
        let expected = Err(Sense::invalid_field_in_parameter_list(4 + 12 + 3, Some(4)));
        assert_eq!(select_page(&[first, second].concat()), expected);
    }

    #[test]
    fn wrong_pages_are_pointed_at() {
        let parameter = |byte, bit| Err(Sense::invalid_field_in_parameter_list(byte, bit));
        assert_eq!(select_page(&[0x02, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), parameter(4, Some(5)));
        assert_eq!(select_page(&[0x4a, 1, 0, 0]), parameter(4, Some(6)));
        assert_eq!(select_page(&[0x0a, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0]), parameter(5, None));
        assert_eq!(select_page(&CONTROL[..11]), Err(Sense::parameter_list_length_error()));
        assert_eq!(select_page(&CONTROL[..1]), Err(Sense::parameter_list_length_error()));
        assert_eq!(select(&[0; 3]), Err(Sense::parameter_list_length_error()));
    }

    #[test]
    fn subpages_are_read_and_their_thresholds_stay() {
        let mut thresholds = [0; 24];
        thresholds[..4].copy_from_slice(&[0x5c, 2, 0, 20]);
        thresholds[16..].copy_from_slice(&[0x80, 1, 0, 0, 0, 0, 2, 0]);
        assert_eq!(select_page(&thresholds), set(|_| ()));
        let recovery = [1, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let both = [&thresholds[..], &recovery].concat();
        assert_eq!(select_page(&both), set(|modes| modes.threshold_reporting = false));
        let parameter = |byte, bit| Err(Sense::invalid_field_in_parameter_list(byte, bit));
        for (byte, value, pointer, bit) in
            [(1, 3, 1, None), (3, 19, 2, None), (23, 1, 23, Some(0)), (16, 0, 16, Some(7))]
        {
            let mut wrong = thresholds;
            wrong[byte] = value;
            assert_eq!(select_page(&wrong), parameter(4 + pointer, bit), "{byte}");
        }
        assert_eq!(select_page(&thresholds[..3]), Err(Sense::parameter_list_length_error()));
    }

    #[test]
    fn block_descriptor_may_only_repeat_what_is_so() {
        let select_descriptor = |descriptor: [u8; 8]| select(&[&[0, 0, 0, 8][..], &descriptor].concat());
        for blocks in [[0; 4], [0xff; 4], [0, 0x20, 0, 0]] {
            let [b0, b1, b2, b3] = blocks;
            assert_eq!(select_descriptor([b0, b1, b2, b3, 0, 0, 2, 0]), set(|_| ()));
        }
        let parameter = |byte| Err(Sense::invalid_field_in_parameter_list(byte, None));
        assert_eq!(select_descriptor([0, 0x10, 0, 0, 0, 0, 2, 0]), parameter(4));
        assert_eq!(select_descriptor([0, 0, 0, 0, 0, 0, 0x10, 0]), parameter(8));
        assert_eq!(select(&[0, 0, 0, 4, 0, 0, 0, 0]), parameter(3));
        assert_eq!(select(&[0, 0, 0, 8, 0, 0]), Err(Sense::parameter_list_length_error()));
    }

    #[test]
    fn cdb_decides_whether_there_is_a_list() {
        let unit = example::thin_unit();
        assert_eq!(example::plan(&unit, &[0x15, 0x10, 0, 0, 0, 0]), Ok(Plan::now(Action::Good)));
        let vendor_page = Err(Sense::invalid_field_in_cdb(1, Some(4)));
        assert_eq!(example::plan(&unit, &[0x15, 0, 0, 0, 16, 0]), vendor_page);
        let save = Err(Sense::invalid_field_in_cdb(1, Some(0)));
        assert_eq!(example::plan(&unit, &[0x15, 0x11, 0, 0, 16, 0]), save);
    }

    #[test]
    fn list_that_did_not_come_whole_is_refused() {
        let unit = example::thin_unit();
        let plan = example::plan(&unit, &[0x15, 0x10, 0, 0, 16, 0]).unwrap();
        let crate::plan::Step::AfterData(list) = plan.step else { panic!("{plan:?}") };
        let result = unit.parse_parameters(&unit.default_modes(), list, &[0; 4]);
        assert_eq!(result, Err(Sense::parameter_list_length_error()));
    }
}
