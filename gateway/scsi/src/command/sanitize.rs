//! SANITIZE (SBC-3 §5.28): OVERWRITE, on thin logical units BLOCK ERASE, and EXIT FAILURE MODE. There is nothing to change
//! a key of, hence no CRYPTOGRAPHIC ERASE.
//!
//! The parameter list of OVERWRITE:
//!
//! | bytes | field |
//! |---|---|
//! | 0 | INVERT (bit 7), TEST (6-5), OVERWRITE COUNT (4-0) |
//! | 1 | reserved |
//! | 2-3 | INITIALIZATION PATTERN LENGTH |
//! | 4-  | the pattern, which fills each block from its beginning, again and again |

use crate::cdb::Cdb;
use crate::logical_unit::LogicalUnit;
use crate::mode::ModeState;
use crate::plan::{Action, ParameterList, Plan};
use crate::sanitize::{SanitizeMethod, SanitizeRequest};
use crate::sense::Sense;

/// In byte 1 of the CDB.
const IMMED: u8 = 0x80;
const AUSE: u8 = 0x20;

const LENGTH_BYTE: u16 = 7;
const HEADER_LENGTH: usize = 4;

pub(crate) fn decode_overwrite(unit: &LogicalUnit, _: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    let length = cdb.u16(LENGTH_BYTE.into());
    let longest = HEADER_LENGTH + unit.block_size() as usize;
    if !(HEADER_LENGTH + 1..=longest).contains(&length.into()) {
        return Err(Sense::invalid_field_in_cdb(LENGTH_BYTE, None));
    }
    let flags = cdb.byte(1) & (IMMED | AUSE);
    Ok(Plan::after_data(ParameterList { name: "SANITIZE", length, flags, parse: parse_overwrite }))
}

pub(crate) fn decode_block_erase(_: &LogicalUnit, _: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    Ok(Plan::now(sanitize(cdb.byte(1), SanitizeMethod::BlockErase)))
}

pub(crate) fn decode_exit(_: &LogicalUnit, _: &ModeState, _: &Cdb) -> Result<Plan, Sense> {
    Ok(Plan::now(Action::ExitSanitizeFailure))
}

fn parse_overwrite(unit: &LogicalUnit, _: &ModeState, flags: u8, data: &[u8]) -> Result<Action, Sense> {
    const INVERT: u8 = 0x80;
    const TEST: u8 = 0x60;
    const COUNT: u8 = 0x1f;
    let (header, rest) =
        data.split_first_chunk::<HEADER_LENGTH>().ok_or(Sense::parameter_list_length_error())?;
    let invalid = |byte, bit| Sense::invalid_field_in_parameter_list(byte, bit);
    if header[0] & TEST != 0 {
        return Err(invalid(0, Some(6)));
    }
    if header[0] & COUNT == 0 {
        return Err(invalid(0, Some(4)));
    }
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if length == 0 || length > unit.block_size() as usize {
        return Err(invalid(2, None));
    }
    let pattern = rest.get(..length).ok_or(Sense::parameter_list_length_error())?;
    let block = pattern.iter().copied().cycle().take(unit.block_size() as usize).collect();
    let (passes, invert) = (header[0] & COUNT, header[0] & INVERT != 0);
    Ok(sanitize(flags, SanitizeMethod::Overwrite { block, passes, invert }))
}

fn sanitize(flags: u8, method: SanitizeMethod) -> Action {
    let (immediate, may_exit) = (flags & IMMED != 0, flags & AUSE != 0);
    Action::Sanitize(SanitizeRequest { method, immediate, may_exit })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    fn cdb(byte_1: u8, length: u16) -> [u8; 10] {
        let [high, low] = length.to_be_bytes();
        [0x48, byte_1, 0, 0, 0, 0, 0, high, low, 0]
    }

    fn overwrite(byte_1: u8, list: &[u8]) -> Result<Action, Sense> {
        example::with_parameters(&example::thin_unit(), &cdb(byte_1, list.len() as u16), list)
    }

    #[test]
    fn overwrite_fills_each_block_with_the_pattern() {
        for (byte_1, immediate, may_exit) in
            [(0x01, false, false), (0x81, true, false), (0x21, false, true), (0xa1, true, true)]
        {
            let block: Vec<u8> = [1, 2, 3].into_iter().cycle().take(512).collect();
            let method = SanitizeMethod::Overwrite { block, passes: 5, invert: true };
            let expected = Action::Sanitize(SanitizeRequest { method, immediate, may_exit });
            assert_eq!(overwrite(byte_1, &[0x85, 0, 0, 3, 1, 2, 3]), Ok(expected));
        }
        let whole = [&[1, 0, 2, 0][..], &[7; 512]].concat();
        let method = SanitizeMethod::Overwrite { block: vec![7; 512], passes: 1, invert: false };
        let expected = Action::Sanitize(SanitizeRequest { method, immediate: false, may_exit: false });
        assert_eq!(overwrite(1, &whole), Ok(expected));
    }

    #[test]
    fn overwrite_with_a_wrong_list_is_refused() {
        let unit = example::thin_unit();
        for length in [0, 1, 4, 517, u16::MAX] {
            let expected = Err(Sense::invalid_field_in_cdb(7, None));
            assert_eq!(example::plan(&unit, &cdb(1, length)), expected, "{length}");
        }
        let invalid = |byte, bit| Err(Sense::invalid_field_in_parameter_list(byte, bit));
        assert_eq!(overwrite(1, &[0x21, 0, 0, 1, 9]), invalid(0, Some(6)));
        assert_eq!(overwrite(1, &[0x80, 0, 0, 1, 9]), invalid(0, Some(4)));
        assert_eq!(overwrite(1, &[1, 0, 0, 0, 9]), invalid(2, None));
        assert_eq!(overwrite(1, &[1, 0, 2, 1, 9]), invalid(2, None));
        assert_eq!(overwrite(1, &[1, 0, 0, 2, 9]), Err(Sense::parameter_list_length_error()));
    }

    #[test]
    fn block_erase_and_exit_want_no_data() {
        let unit = example::thin_unit();
        let erase = |immediate, may_exit| {
            let method = SanitizeMethod::BlockErase;
            Ok(Plan::now(Action::Sanitize(SanitizeRequest { method, immediate, may_exit })))
        };
        assert_eq!(example::plan(&unit, &cdb(0x02, 0)), erase(false, false));
        assert_eq!(example::plan(&unit, &cdb(0xa2, 0)), erase(true, true));
        assert_eq!(example::plan(&unit, &cdb(0x1f, 0)), Ok(Plan::now(Action::ExitSanitizeFailure)));
        for action in [0x02, 0x1f] {
            let expected = Err(Sense::invalid_field_in_cdb(8, Some(3)));
            assert_eq!(example::plan(&unit, &cdb(action, 8)), expected);
        }
    }

    #[test]
    fn what_is_not_offered_is_a_wrong_service_action() {
        let expected = Err(Sense::invalid_field_in_cdb(1, Some(4)));
        assert_eq!(example::plan(&example::thin_unit(), &cdb(0x03, 0)), expected);
        assert_eq!(example::plan(&example::thin_unit(), &cdb(0x00, 0)), expected);
        assert_eq!(example::plan(&example::thick_unit(), &cdb(0x02, 0)), expected);
    }
}
