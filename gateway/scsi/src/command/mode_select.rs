//! MODE SELECT (6) and (10) (SPC-4 §6.11, §6.12). The whole list is checked before anything changes.

use crate::cdb::Cdb;
use crate::command::mode_sense::{long_descriptor, short_descriptor};
use crate::logical_unit::LogicalUnit;
use crate::mode::{ModePage, ModeState, PAGES};
use crate::plan::{Action, ParameterList, Plan};
use crate::sense::Sense;

/// The list has standard pages, not vendor specific ones.
const PF_BIT: u8 = 4;

const HEADER_6_LENGTH: usize = 4;
const HEADER_10_LENGTH: usize = 8;
const SHORT_DESCRIPTOR_LENGTH: usize = 8;
const LONG_DESCRIPTOR_LENGTH: usize = 16;

pub(crate) fn decode_6(_: &LogicalUnit, _: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    let list = ParameterList { name: "MODE SELECT(6)", parse: parse_6 };
    decode(cdb, u16::from(cdb.byte(4)), list)
}

pub(crate) fn decode_10(_: &LogicalUnit, _: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    let list = ParameterList { name: "MODE SELECT(10)", parse: parse_10 };
    decode(cdb, cdb.u16(7), list)
}

fn decode(cdb: &Cdb, length: u16, list: ParameterList) -> Result<Plan, Sense> {
    if length == 0 {
        return Ok(Plan::now(Action::Good));
    }
    if !cdb.bit(1, PF_BIT) {
        return Err(Sense::invalid_field_in_cdb(1, Some(PF_BIT)));
    }
    Ok(Plan::after_data(length.into(), list))
}

fn parse_6(unit: &LogicalUnit, modes: &ModeState, data: &[u8]) -> Result<Action, Sense> {
    let header = data.first_chunk::<HEADER_6_LENGTH>().ok_or(Sense::parameter_list_length_error())?;
    let list = List { unit, data, descriptor_length_byte: 3 };
    list.parse(modes, HEADER_6_LENGTH, header[3].into(), false)
}

fn parse_10(unit: &LogicalUnit, modes: &ModeState, data: &[u8]) -> Result<Action, Sense> {
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
        const SPF: u8 = 0x40;
        let header = self.data[start..].first_chunk::<2>().ok_or(Sense::parameter_list_length_error())?;
        let invalid = |byte: usize, bit| Sense::invalid_field_in_parameter_list((start + byte) as u16, bit);
        if header[0] & SPF != 0 {
            return Err(invalid(0, Some(6)));
        }
        // PS is reserved in MODE SELECT; initiators that send back what they read leave it as it was.
        let code = header[0] & 0x3f;
        let page = PAGES.into_iter().find(|page| page.code == code).ok_or(invalid(0, Some(5)))?;
        if usize::from(header[1]) != page.length - 2 {
            return Err(invalid(1, None));
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
        let values = page.values(modes);
        let changeable = page.changeable(self.unit);
        for byte in 2..page.length {
            let wrong = (bytes[byte] ^ values[byte]) & !changeable[byte];
            if wrong != 0 {
                return Err((byte, 7 - wrong.leading_zeros() as u8));
            }
        }
        Ok(())
    }
}
