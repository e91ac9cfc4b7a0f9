//! The table agrees with itself: what a row claims is what its decoder does, and what is reported is what works.

use std::ops::RangeInclusive;

use super::{COMMANDS, Command, NO_ROW, command_name, supported};
use crate::example;
use crate::logical_unit::LogicalUnit;
use crate::plan::{Action, Plan, Step};
use crate::sense::Sense;

/// CDBs from which single bits are flipped, in addition to one of zeros: they reach what zeros do not.
const BASES: &[&[u8]] = &[
    &[0x12, 1, 0, 0, 0xff, 0],
    &[0x15, 0x10, 0, 0, 12, 0],
    &[0x1a, 0, 0x3f, 0, 0, 0],
    &[0x1a, 0, 0x3f, 0, 0xff, 0],
    &[0x1a, 0, 0x7f, 0, 0xff, 0],
    &[0x37, 0, 0, 0, 0, 0, 0, 0, 0xff, 0],
    &[0x41, 0, 0, 0, 0, 0, 0, 0, 1, 0],
    &[0x48, 0x01, 0, 0, 0, 0, 0, 0, 5, 0],
    &[0x48, 0x01, 0, 0, 0, 0, 0, 2, 4, 0],
    &[0x4d, 0, 0x0c, 0, 0, 0, 0, 0, 0, 0],
    &[0x55, 0x10, 0, 0, 0, 0, 0, 0, 12, 0],
    &[0x5a, 0, 0x3f, 0, 0, 0, 0, 0, 0, 0],
    &[0x5a, 0, 0x3f, 0, 0, 0, 0, 0, 0xff, 0],
    &[0x5a, 0, 0x7f, 0, 0, 0, 0, 0, 0xff, 0],
    &[0x90, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0],
    &[0x91, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0],
    &[0x93, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0],
    &[0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0, 0],
    &[0xa3, 0x0c, 1, 0x12, 0, 0, 0, 0, 0xff, 0, 0, 0],
    &[0xa3, 0x0c, 2, 0xa3, 0, 0x0c, 0, 0, 0xff, 0, 0, 0],
    &[0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 0xff, 0, 0, 0],
    &[0xa3, 0x0d, 0x80, 0, 0, 0, 0, 0, 0, 4, 0, 0],
    &[0xb7, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0, 0],
];

/// Bits that are accepted though they change nothing: what we do satisfies them whether set or not.
fn is_satisfied_anyway(command: &Command, byte: usize, bit: u8) -> bool {
    const DPO: (usize, u8) = (1, 4);
    const FUA_NV: (usize, u8) = (1, 1);
    const RARC: (usize, u8) = (1, 2);
    const SYNC_NV: (usize, u8) = (1, 2);
    const BYTCHK: (usize, u8) = (1, 1);
    const LOG_PAGE_CONTROL: [(usize, u8); 2] = [(2, 7), (2, 6)];
    const DESCRIPTOR_INDEX: RangeInclusive<usize> = 2..=5;
    let group_byte = match command.usage.len() {
        10 => 6,
        length => length - 2,
    };
    let at = (byte, bit);
    let name = command.name;
    if name == "READ DEFECT DATA(12)" {
        DESCRIPTOR_INDEX.contains(&byte)
    } else if name == "LOG SENSE" {
        LOG_PAGE_CONTROL.contains(&at)
    } else if name == "WRITE ATOMIC(16)" {
        // A boundary up to the maximum is kept whatever it is.
        at == DPO || byte == group_byte || at == (10, 0) || byte == 11
    } else if name.starts_with("WRITE AND VERIFY") {
        at == DPO || at == BYTCHK || byte == group_byte
    } else if name.starts_with("READ(") && command.usage.len() > 6 {
        [DPO, FUA_NV, RARC].contains(&at) || byte == group_byte
    } else if ["WRITE(", "COMPARE AND WRITE", "ORWRITE"].iter().any(|family| name.starts_with(family))
        && command.usage.len() > 6
    {
        [DPO, FUA_NV].contains(&at) || byte == group_byte
    } else if name.starts_with("VERIFY") {
        at == DPO || byte == group_byte
    } else if name.starts_with("SYNCHRONIZE") {
        at == SYNC_NV || byte == group_byte
    } else if ["PRE-FETCH", "WRITE SAME", "UNMAP"].iter().any(|family| name.starts_with(family)) {
        byte == group_byte
    } else {
        false
    }
}

fn bases(command: &Command) -> Vec<Vec<u8>> {
    let mut zeros = vec![0; command.usage.len()];
    zeros[0] = command.opcode;
    zeros[1] = command.service_action.unwrap_or(0) as u8;
    let same_command = |base: &&&[u8]| {
        base[0] == command.opcode && command.service_action.is_none_or(|action| action == u16::from(base[1]))
    };
    let mut bases = vec![zeros];
    bases.extend(BASES.iter().filter(same_command).map(|base| base.to_vec()));
    bases
}

fn bits(command: &Command) -> impl Iterator<Item = (usize, u8)> {
    let first_bits = if command.service_action.is_some() { 5..8 } else { 0..8 };
    let rest = (2..command.usage.len()).flat_map(|byte| (0..8).map(move |bit| (byte, bit)));
    first_bits.map(|bit| (1, bit)).chain(rest)
}

fn units() -> [LogicalUnit; 2] {
    [example::thin_unit(), example::thick_unit()]
}

#[test]
fn rows_are_in_order_and_name_themselves() {
    let key = |command: &Command| (command.opcode, command.service_action);
    for unit in units() {
        let rows: Vec<_> = supported(&unit).map(key).collect();
        assert!(rows.windows(2).all(|pair| pair[0] < pair[1]));
    }
    assert!(COMMANDS.windows(2).all(|pair| key(&pair[0]) <= key(&pair[1])));
    assert!(COMMANDS.len() < usize::from(NO_ROW));
    for command in COMMANDS {
        assert_eq!(command.usage[0], command.opcode, "{}", command.name);
        let action = command.usage[1] & 0x1f;
        assert!(command.service_action.is_none_or(|wanted| wanted == u16::from(action)));
        assert!([6, 10, 12, 16].contains(&command.usage.len()));
        assert_eq!(command.usage.last(), Some(&0), "NACA is not supported");
    }
}

#[test]
fn bit_outside_the_usage_data_is_refused_and_pointed_at() {
    for unit in units() {
        for command in supported(&unit) {
            for (byte, bit) in bits(command).filter(|(byte, bit)| command.usage[*byte] & 1 << bit == 0) {
                for mut cdb in bases(command) {
                    cdb[byte] |= 1 << bit;
                    let expected = Sense::invalid_field_in_cdb(byte as u16, Some(bit));
                    assert_eq!(example::plan(&unit, &cdb), Err(expected), "{} {byte}.{bit}", command.name);
                }
            }
        }
    }
}

#[test]
fn bit_in_the_usage_data_matters_or_is_satisfied_anyway() {
    for unit in units() {
        for command in supported(&unit) {
            for (byte, bit) in bits(command).filter(|(byte, bit)| command.usage[*byte] & 1 << bit != 0) {
                let matters = bases(command).into_iter().any(|cdb| {
                    let mut flipped = cdb.clone();
                    flipped[byte] ^= 1 << bit;
                    example::plan(&unit, &cdb) != example::plan(&unit, &flipped)
                });
                let satisfied = is_satisfied_anyway(command, byte, bit);
                assert_eq!(matters, !satisfied, "{} {byte}.{bit}", command.name);
            }
        }
    }
}

#[test]
fn report_supported_opcodes_lists_exactly_what_is_not_refused() {
    for unit in units() {
        let report = [0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0];
        let Ok(Plan { step: Step::Now(Action::Data(data)), .. }) = example::plan(&unit, &report) else {
            panic!("no report");
        };
        let listed: Vec<_> = data[4..].chunks(8).map(|row| (row[0], row[3], row[5] & 1 != 0)).collect();
        for opcode in 0..=255 {
            for action in 0..0x20 {
                let mut cdb = [0; 16];
                (cdb[0], cdb[1]) = (opcode, action);
                let refused = [Sense::invalid_opcode(), Sense::invalid_field_in_cdb(1, Some(4))];
                let is_known = example::plan(&unit, &cdb).map_or_else(|e| !refused.contains(&e), |_| true);
                let is_listed = listed.contains(&(opcode, action, true))
                    || (action == 0 && listed.contains(&(opcode, 0, false)));
                // Without service actions, these bits are flags: bit 4 alone may be an unknown one.
                if action == 0 || listed.iter().any(|row| row.0 == opcode && row.2) {
                    assert_eq!(is_known, is_listed, "{opcode:02x}/{action:02x}");
                }
            }
        }
    }
}

#[test]
fn every_writing_command_is_refused_when_write_protected() {
    for unit in units() {
        let read_only = example::read_only(&unit);
        let mut protected = unit.default_modes();
        protected.software_write_protect = true;
        for command in supported(&unit) {
            // Protection comes before any other fault of the CDB.
            let mut cdb = vec![0xff; command.usage.len()];
            cdb[0] = command.opcode;
            if let Some(action) = command.service_action {
                cdb[1] = 0xe0 | action as u8;
            }
            let hard = read_only.plan(&read_only.default_modes(), &cdb) == Err(Sense::write_protected());
            let soft = unit.plan(&protected, &cdb) == Err(Sense::software_write_protected());
            assert_eq!((hard, soft), (command.writes, command.writes), "{}", command.name);
        }
    }
}

#[test]
fn opcode_that_is_not_there_is_refused() {
    let unit = example::thick_unit();
    for opcode in [0x42, 0x16, 0x17, 0x5e, 0x5f, 0x83, 0xff] {
        assert_eq!(example::plan(&unit, &[opcode; 16]), Err(Sense::invalid_opcode()));
    }
    assert_eq!(example::plan(&unit, &[]), Err(Sense::invalid_opcode()));
    let cdb = [0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(example::plan(&unit, &cdb), Err(Sense::invalid_field_in_cdb(1, Some(4))));
}

#[test]
fn short_cdb_is_refused() {
    let unit = example::thin_unit();
    assert_eq!(example::plan(&unit, &[0x28, 0, 0]), Err(Sense::invalid_field_in_cdb(3, None)));
}

#[test]
fn names_are_the_standards() {
    assert_eq!(command_name(&[0x28]), Some("READ(10)"));
    assert_eq!(command_name(&[0x9e, 0x12]), Some("GET LBA STATUS"));
    assert_eq!(command_name(&[0x9e, 0x13]), None);
    assert_eq!(command_name(&[]), None);
}
