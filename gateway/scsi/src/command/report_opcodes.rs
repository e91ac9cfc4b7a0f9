//! REPORT SUPPORTED OPERATION CODES and REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS (SPC-4).

use crate::cdb::Cdb;
use crate::logical_unit::LogicalUnit;
use crate::mode::ModeState;
use crate::plan::Plan;
use crate::sense::Sense;
use crate::table::{self, Command};

/// Return command timeouts descriptors.
const RCTD_BIT: u8 = 7;
/// Return extended parameter data.
const REPD_BIT: u8 = 7;

/// The command timeouts descriptor's length field, and its bytes with that field.
const TIMEOUTS_LENGTH: u16 = 0x0a;

/// SUPPORT field: not supported, and supported as the standard says.
const NOT_SUPPORTED: u8 = 0b001;
const SUPPORTED: u8 = 0b011;

pub(crate) fn decode(unit: &LogicalUnit, _: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    let with_timeouts = cdb.bit(2, RCTD_BIT);
    let data = match cdb.byte(2) & 0x07 {
        0b000 => all_commands(unit, with_timeouts),
        0b001 => {
            if commands_with_service_actions(unit, cdb.byte(3)) {
                return Err(Sense::invalid_field_in_cdb(2, Some(2)));
            }
            one_command(find(unit, cdb.byte(3), None), with_timeouts)
        }
        0b010 => {
            let is_known = table::supported(unit).any(|command| command.opcode == cdb.byte(3));
            if is_known && !commands_with_service_actions(unit, cdb.byte(3)) {
                return Err(Sense::invalid_field_in_cdb(2, Some(2)));
            }
            one_command(find(unit, cdb.byte(3), Some(cdb.u16(4))), with_timeouts)
        }
        0b011 => {
            let service_action = cdb.u16(4);
            let command = if commands_with_service_actions(unit, cdb.byte(3)) {
                find(unit, cdb.byte(3), Some(service_action))
            } else {
                find(unit, cdb.byte(3), None).filter(|_| service_action == 0)
            };
            one_command(command, with_timeouts)
        }
        _ => return Err(Sense::invalid_field_in_cdb(2, Some(2))),
    };
    Ok(Plan::data(data, cdb.u32(6)))
}

fn commands_with_service_actions(unit: &LogicalUnit, opcode: u8) -> bool {
    table::supported(unit).any(|command| command.opcode == opcode && command.service_action.is_some())
}

fn find(unit: &LogicalUnit, opcode: u8, service_action: Option<u16>) -> Option<&'static Command> {
    table::supported(unit)
        .find(|command| command.opcode == opcode && command.service_action == service_action)
}

/// The all_commands format (SPC-4).
fn all_commands(unit: &LogicalUnit, with_timeouts: bool) -> Vec<u8> {
    const SERVACTV: u8 = 0x01;
    const CTDP: u8 = 0x02;
    let mut data = vec![0; 4];
    for command in table::supported(unit) {
        let [high, low] = command.service_action.unwrap_or(0).to_be_bytes();
        let mut flags = 0;
        if command.service_action.is_some() {
            flags |= SERVACTV;
        }
        if with_timeouts {
            flags |= CTDP;
        }
        data.extend_from_slice(&[command.opcode, 0, high, low, 0, flags, 0, command.usage.len() as u8]);
        if with_timeouts {
            push_timeouts(&mut data, command);
        }
    }
    let length = (data.len() - 4) as u32;
    data[0..4].copy_from_slice(&length.to_be_bytes());
    data
}

/// The one_command format (SPC-4).
fn one_command(command: Option<&Command>, with_timeouts: bool) -> Vec<u8> {
    const CTDP: u8 = 0x80;
    let Some(command) = command else { return vec![0, NOT_SUPPORTED, 0, 0] };
    let flags = if with_timeouts { CTDP } else { 0 };
    let mut data = vec![0, flags | SUPPORTED, 0, command.usage.len() as u8];
    data.extend_from_slice(command.usage);
    if with_timeouts {
        push_timeouts(&mut data, command);
    }
    data
}

/// The command timeouts descriptor (SPC-4). The nominal time is 0: not known.
fn push_timeouts(data: &mut Vec<u8>, command: &Command) {
    data.extend_from_slice(&TIMEOUTS_LENGTH.to_be_bytes());
    data.extend_from_slice(&[0, 0]);
    data.extend_from_slice(&0u32.to_be_bytes());
    data.extend_from_slice(&command.timeout_seconds.to_be_bytes());
}

pub(crate) fn decode_task_management(_: &LogicalUnit, _: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    /// ABORT TASK, ABORT TASK SET, CLEAR TASK SET, LOGICAL UNIT RESET.
    const FUNCTIONS: u8 = 0x80 | 0x40 | 0x10 | 0x08;
    /// A timeout is given (TMFTMOV) and holds for all functions.
    const TIMEOUT_VALID: u8 = 0x01;
    /// In units of 100 ms.
    const TIMEOUT: u32 = 100;

    let allocation_length = cdb.u32(6);
    if allocation_length < 4 {
        return Err(Sense::invalid_field_in_cdb(6, None));
    }
    let mut data = vec![FUNCTIONS, 0, 0, 0];
    if cdb.bit(2, REPD_BIT) {
        data[3] = 0x0c;
        data.extend_from_slice(&[TIMEOUT_VALID, 0, 0, 0]);
        data.extend_from_slice(&TIMEOUT.to_be_bytes());
        data.extend_from_slice(&0u32.to_be_bytes());
    }
    Ok(Plan::data(data, allocation_length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    fn report(options: u8, opcode: u8, service_action: u8) -> [u8; 12] {
        [0xa3, 0x0c, options, opcode, 0, service_action, 0, 0, 0xff, 0xff, 0, 0]
    }

    #[test]
    fn one_command_shows_usage_and_timeouts() {
        let unit = example::thin_unit();
        let usage = [0x28, 0x1e, 255, 255, 255, 255, 0x1f, 255, 255, 0];
        let plain = [&[0, 3, 0, 10][..], &usage].concat();
        assert_eq!(example::data(&unit, &report(1, 0x28, 0)), plain);
        assert_eq!(example::data(&unit, &report(3, 0x28, 0)), plain);
        let timed = [&[0, 0x83, 0, 10][..], &usage, &[0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 30]].concat();
        assert_eq!(example::data(&unit, &report(0x81, 0x28, 0)), timed);
        assert_eq!(example::data(&unit, &report(2, 0x9e, 0x10))[..6], [0, 3, 0, 16, 0x9e, 0x10]);
        assert_eq!(example::data(&unit, &report(3, 0x9e, 0x10))[..6], [0, 3, 0, 16, 0x9e, 0x10]);
    }

    #[test]
    fn service_actions_of_sanitize_have_their_own_usage_and_a_long_timeout() {
        let unit = example::thin_unit();
        let timeouts = [0, 10, 0, 0, 0, 0, 0, 0, 0, 1, 0x51, 0x80];
        let overwrite = [0x48, 0xa1, 0, 0, 0, 0, 0, 255, 255, 0];
        let expected = [&[0, 0x83, 0, 10][..], &overwrite, &timeouts].concat();
        assert_eq!(example::data(&unit, &report(0x82, 0x48, 0x01)), expected);
        let erase = [&[0, 3, 0, 10][..], &[0x48, 0xa2, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
        assert_eq!(example::data(&unit, &report(3, 0x48, 0x02)), erase);
        assert_eq!(example::data(&unit, &report(3, 0x48, 0x1f))[5], 0x1f);
        for (unit, action) in [(&unit, 0x03), (&example::thick_unit(), 0x02)] {
            assert_eq!(example::data(unit, &report(3, 0x48, action)), [0, 1, 0, 0]);
        }
    }

    #[test]
    fn what_is_not_supported_is_said_so() {
        let unit = example::thin_unit();
        for cdb in [report(1, 0x5f, 0), report(2, 0x9e, 0x13), report(2, 0x5f, 1), report(3, 0x28, 1)] {
            assert_eq!(example::data(&unit, &cdb), [0, 1, 0, 0]);
        }
        assert_eq!(example::data(&example::thick_unit(), &report(1, 0x42, 0)), [0, 1, 0, 0]);
    }

    #[test]
    fn option_must_fit_the_opcode() {
        let unit = example::thin_unit();
        let expected = Err(Sense::invalid_field_in_cdb(2, Some(2)));
        for cdb in [report(1, 0x9e, 0x10), report(2, 0x28, 0), report(4, 0, 0)] {
            assert_eq!(example::plan(&unit, &cdb), expected);
        }
    }

    #[test]
    fn all_commands_have_timeouts_when_asked() {
        let unit = example::thin_unit();
        let count = table::supported(&unit).count();
        let plain = example::data(&unit, &report(0, 0, 0));
        assert_eq!(plain.len(), 4 + 8 * count);
        let length = (8 * count as u32).to_be_bytes();
        assert_eq!(plain[..12], [&length[..], &[0, 0, 0, 0, 0, 0, 0, 6]].concat());
        let timed = example::data(&unit, &report(0x80, 0, 0));
        assert_eq!(timed.len(), 4 + 20 * count);
        assert!(timed[4..].chunks(20).all(|row| row[5] & 2 != 0 && row[8..10] == [0, 10]));
        assert_eq!(unmap_bit_of_write_same(&unit), 0x08);
        assert_eq!(unmap_bit_of_write_same(&example::thick_unit()), 0);
    }

    fn unmap_bit_of_write_same(unit: &LogicalUnit) -> u8 {
        example::data(unit, &report(1, 0x41, 0))[5]
    }

    #[test]
    fn task_management_functions() {
        let unit = example::thin_unit();
        let cdb = |repd, length| [0xa3, 0x0d, repd, 0, 0, 0, 0, 0, 0, length, 0, 0];
        assert_eq!(example::data(&unit, &cdb(0, 16)), [0xd8, 0, 0, 0]);
        let extended = [0xd8, 0, 0, 12, 1, 0, 0, 0, 0, 0, 0, 100, 0, 0, 0, 0];
        assert_eq!(example::data(&unit, &cdb(0x80, 16)), extended);
        assert_eq!(example::plan(&unit, &cdb(0, 3)), Err(Sense::invalid_field_in_cdb(6, None)));
    }
}
