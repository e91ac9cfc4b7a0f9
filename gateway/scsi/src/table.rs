//! The command table: one row per operation code and service action. Dispatch and REPORT SUPPORTED OPERATION CODES
//! both read it, so they cannot disagree.
//!
//! A bit that the usage data of a row leaves clear must be clear in the CDB: we do not know what it asks for, so
//! we do not pretend to do it. That alone refuses protection information, anchoring, NACA and saved pages.

#[cfg(test)]
mod consistency;

use crate::cdb::Cdb;
use crate::command::{
    capacity, compare_and_write, inquiry, lba_status, log_sense, mode_select, mode_sense, orwrite, prefetch,
    read, read_defect_data, report_luns, report_opcodes, request_sense, sanitize, start_stop, sync_cache,
    test_unit_ready, unmap, verify, write, write_atomic, write_same,
};
use crate::logical_unit::LogicalUnit;
use crate::mode::ModeState;
use crate::plan::Plan;
use crate::sense::Sense;
use crate::unit_attention::AttentionRule::{self, Pass, PassAndClearLunsChanged};
use Availability::{Thick, Thin};

/// Decodes a CDB that has no unknown bits.
pub(crate) type Decode = fn(&LogicalUnit, &ModeState, &Cdb) -> Result<Plan, Sense>;

/// On which logical units a row counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Availability {
    Always,
    Thin,
    Thick,
}

/// One row of the table.
#[derive(Clone, Copy)]
pub(crate) struct Command {
    pub(crate) name: &'static str,
    pub(crate) opcode: u8,
    pub(crate) service_action: Option<u16>,
    /// CDB usage data (SPC-4): the operation code, the service action, and a one for each bit we evaluate. As long
    /// as the CDB.
    pub(crate) usage: &'static [u8],
    pub(crate) availability: Availability,
    /// Refused when the logical unit is write protected.
    pub(crate) writes: bool,
    pub(crate) attention: AttentionRule,
    /// Carried out while the logical unit is sanitized, and after that failed: it tells of the target only.
    pub(crate) answered_while_sanitizing: bool,
    /// The RECOMMENDED COMMAND TIMEOUT, in seconds.
    pub(crate) timeout_seconds: u32,
    pub(crate) decode: Decode,
}

/// A row with what most have in common; the methods below say what is different.
const fn row(name: &'static str, usage: &'static [u8], decode: Decode) -> Command {
    Command {
        name,
        opcode: usage[0],
        service_action: None,
        usage,
        availability: Availability::Always,
        writes: false,
        attention: AttentionRule::Report,
        answered_while_sanitizing: false,
        timeout_seconds: TIMEOUT_SECONDS,
        decode,
    }
}

impl Command {
    /// Byte 1 of the usage data holds a service action.
    const fn with_service_action(mut self) -> Self {
        self.service_action = Some((self.usage[1] & 0x1f) as u16);
        self
    }

    const fn writes(mut self) -> Self {
        self.writes = true;
        self
    }

    /// Its work grows with what it covers, or it waits for earlier writes.
    const fn slow(mut self) -> Self {
        self.timeout_seconds = LONG_TIMEOUT_SECONDS;
        self
    }

    /// It takes as long as all blocks take.
    const fn takes_hours(mut self) -> Self {
        self.timeout_seconds = SANITIZE_TIMEOUT_SECONDS;
        self
    }

    const fn answered_while_sanitizing(mut self) -> Self {
        self.answered_while_sanitizing = true;
        self
    }

    const fn only_if(mut self, availability: Availability) -> Self {
        self.availability = availability;
        self
    }

    const fn attention(mut self, rule: AttentionRule) -> Self {
        self.attention = rule;
        self
    }
}

const TIMEOUT_SECONDS: u32 = 30;
const LONG_TIMEOUT_SECONDS: u32 = 120;
const SANITIZE_TIMEOUT_SECONDS: u32 = 24 * 60 * 60;

/// SANITIZE's operation code: the only command that ends what its failure brought about.
pub(crate) const SANITIZE: u8 = 0x48;

/// A byte of which every bit counts.
const A: u8 = 0xff;
/// The GROUP NUMBER: any is accepted, none means anything.
const G: u8 = 0x1f;
/// READ's flags: DPO, FUA, RARC, and the obsolete FUA_NV.
const READ_FLAGS: u8 = 0x1e;
/// The flags of WRITE, COMPARE AND WRITE and ORWRITE: DPO, FUA, and the obsolete FUA_NV.
const WRITE_FLAGS: u8 = 0x1a;
/// WRITE ATOMIC's flags: DPO and FUA.
const WRITE_ATOMIC_FLAGS: u8 = 0x18;
/// VERIFY's flags: DPO and the two bits of BYTCHK.
const VERIFY_FLAGS: u8 = 0x16;
/// WRITE AND VERIFY's flags: DPO and the one bit of BYTCHK.
const WRITE_AND_VERIFY_FLAGS: u8 = 0x12;
/// SYNCHRONIZE CACHE's flags: IMMED and the obsolete SYNC_NV.
const SYNC_FLAGS: u8 = 0x06;

/// All commands, in ascending order of operation code and service action.
#[rustfmt::skip]
pub(crate) static COMMANDS: &[Command] = &[
    row("TEST UNIT READY", &[0x00, 0, 0, 0, 0, 0], test_unit_ready::decode),
    row("REQUEST SENSE", &[0x03, 0x01, 0, 0, A, 0], request_sense::decode).attention(Pass).answered_while_sanitizing(),
    row("READ(6)", &[0x08, 0x1f, A, A, A, 0], read::decode_6),
    row("WRITE(6)", &[0x0a, 0x1f, A, A, A, 0], write::decode_6).writes(),
    row("INQUIRY", &[0x12, 0x01, A, A, A, 0], inquiry::decode).attention(Pass).answered_while_sanitizing(),
    row("MODE SELECT(6)", &[0x15, 0x10, 0, 0, A, 0], mode_select::decode_6),
    row("MODE SENSE(6)", &[0x1a, 0x08, A, A, A, 0], mode_sense::decode_6),
    row("START STOP UNIT", &[0x1b, 0x01, 0, 0, 0x05, 0], start_stop::decode).slow(),
    row("READ CAPACITY(10)", &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], capacity::decode_10),
    row("READ(10)", &[0x28, READ_FLAGS, A, A, A, A, G, A, A, 0], read::decode_10),
    row("WRITE(10)", &[0x2a, WRITE_FLAGS, A, A, A, A, G, A, A, 0], write::decode_10).writes(),
    row("WRITE AND VERIFY(10)", &[0x2e, WRITE_AND_VERIFY_FLAGS, A, A, A, A, G, A, A, 0], write::decode_and_verify_10).writes(),
    row("VERIFY(10)", &[0x2f, VERIFY_FLAGS, A, A, A, A, G, A, A, 0], verify::decode_10),
    row("PRE-FETCH(10)", &[0x34, 0x02, A, A, A, A, G, A, A, 0], prefetch::decode_10),
    row("SYNCHRONIZE CACHE(10)", &[0x35, SYNC_FLAGS, A, A, A, A, G, A, A, 0], sync_cache::decode_10).slow(),
    row("READ DEFECT DATA(10)", &[0x37, 0, 0x1f, 0, 0, 0, 0, A, A, 0], read_defect_data::decode_10),
    row("WRITE SAME(10)", &[0x41, 0x08, A, A, A, A, G, A, A, 0], write_same::decode_10).only_if(Thin).writes().slow(),
    row("WRITE SAME(10)", &[0x41, 0, A, A, A, A, G, A, A, 0], write_same::decode_10).only_if(Thick).writes().slow(),
    row("UNMAP", &[0x42, 0, 0, 0, 0, 0, G, A, A, 0], unmap::decode).only_if(Thin).writes().slow(),
    row("SANITIZE OVERWRITE", &[SANITIZE, 0xa1, 0, 0, 0, 0, 0, A, A, 0], sanitize::decode_overwrite).with_service_action().writes().takes_hours(),
    row("SANITIZE BLOCK ERASE", &[SANITIZE, 0xa2, 0, 0, 0, 0, 0, 0, 0, 0], sanitize::decode_block_erase).with_service_action().only_if(Thin).writes().takes_hours(),
    row("SANITIZE EXIT FAILURE MODE", &[SANITIZE, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0], sanitize::decode_exit).with_service_action().writes(),
    row("LOG SENSE", &[0x4d, 0, A, A, 0, A, A, A, A, 0], log_sense::decode),
    row("MODE SELECT(10)", &[0x55, 0x10, 0, 0, 0, 0, 0, A, A, 0], mode_select::decode_10),
    row("MODE SENSE(10)", &[0x5a, 0x18, A, A, 0, 0, 0, A, A, 0], mode_sense::decode_10),
    row("READ(16)", &[0x88, READ_FLAGS, A, A, A, A, A, A, A, A, A, A, A, A, G, 0], read::decode_16),
    row("COMPARE AND WRITE", &[0x89, WRITE_FLAGS, A, A, A, A, A, A, A, A, 0, 0, 0, A, G, 0], compare_and_write::decode).writes(),
    row("WRITE(16)", &[0x8a, WRITE_FLAGS, A, A, A, A, A, A, A, A, A, A, A, A, G, 0], write::decode_16).writes(),
    row("ORWRITE(16)", &[0x8b, WRITE_FLAGS, A, A, A, A, A, A, A, A, A, A, A, A, G, 0], orwrite::decode).writes(),
    row("WRITE AND VERIFY(16)", &[0x8e, WRITE_AND_VERIFY_FLAGS, A, A, A, A, A, A, A, A, A, A, A, A, G, 0], write::decode_and_verify_16).writes(),
    row("VERIFY(16)", &[0x8f, VERIFY_FLAGS, A, A, A, A, A, A, A, A, A, A, A, A, G, 0], verify::decode_16),
    row("PRE-FETCH(16)", &[0x90, 0x02, A, A, A, A, A, A, A, A, A, A, A, A, G, 0], prefetch::decode_16),
    row("SYNCHRONIZE CACHE(16)", &[0x91, SYNC_FLAGS, A, A, A, A, A, A, A, A, A, A, A, A, G, 0], sync_cache::decode_16).slow(),
    row("WRITE SAME(16)", &[0x93, 0x09, A, A, A, A, A, A, A, A, A, A, A, A, G, 0], write_same::decode_16).only_if(Thin).writes().slow(),
    row("WRITE SAME(16)", &[0x93, 0x01, A, A, A, A, A, A, A, A, A, A, A, A, G, 0], write_same::decode_16).only_if(Thick).writes().slow(),
    row("WRITE ATOMIC(16)", &[0x9c, WRITE_ATOMIC_FLAGS, A, A, A, A, A, A, A, A, A, A, A, A, G, 0], write_atomic::decode).writes(),
    row("READ CAPACITY(16)", &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, A, A, A, A, 0, 0], capacity::decode_16).with_service_action(),
    row("GET LBA STATUS", &[0x9e, 0x12, A, A, A, A, A, A, A, A, A, A, A, A, 0, 0], lba_status::decode).with_service_action(),
    row("REPORT LUNS", &[0xa0, 0, A, 0, 0, 0, A, A, A, A, 0, 0], report_luns::decode).attention(PassAndClearLunsChanged).answered_while_sanitizing(),
    row("REPORT SUPPORTED OPERATION CODES", &[0xa3, 0x0c, 0x87, A, A, A, A, A, A, A, 0, 0], report_opcodes::decode).with_service_action().answered_while_sanitizing(),
    row("REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", &[0xa3, 0x0d, 0x80, 0, 0, 0, A, A, A, A, 0, 0], report_opcodes::decode_task_management).with_service_action().answered_while_sanitizing(),
    row("READ(12)", &[0xa8, READ_FLAGS, A, A, A, A, A, A, A, A, G, 0], read::decode_12),
    row("WRITE(12)", &[0xaa, WRITE_FLAGS, A, A, A, A, A, A, A, A, G, 0], write::decode_12).writes(),
    row("WRITE AND VERIFY(12)", &[0xae, WRITE_AND_VERIFY_FLAGS, A, A, A, A, A, A, A, A, G, 0], write::decode_and_verify_12).writes(),
    row("VERIFY(12)", &[0xaf, VERIFY_FLAGS, A, A, A, A, A, A, A, A, G, 0], verify::decode_12),
    row("READ DEFECT DATA(12)", &[0xb7, 0x1f, A, A, A, A, A, A, A, A, 0, 0], read_defect_data::decode_12),
];

/// For each operation code the number of its first row, so that a READ does not search the table.
static FIRST_ROW: [u8; 256] = first_rows();

const NO_ROW: u8 = u8::MAX;

const fn first_rows() -> [u8; 256] {
    let mut first = [NO_ROW; 256];
    let mut row = COMMANDS.len();
    while row > 0 {
        row -= 1;
        first[COMMANDS[row].opcode as usize] = row as u8;
    }
    first
}

/// Decodes a CDB: finds its row, checks write protection, length and unknown bits, then lets the row decode it.
pub(crate) fn plan(unit: &LogicalUnit, modes: &ModeState, bytes: &[u8]) -> Result<Plan, Sense> {
    if bytes.is_empty() {
        return Err(Sense::invalid_opcode());
    }
    let cdb = Cdb::new(bytes);
    let command = find(unit, &cdb)?;
    if command.writes {
        check_writable(unit, modes)?;
    }
    if bytes.len() < command.usage.len() {
        return Err(Sense::invalid_field_in_cdb(bytes.len() as u16, None));
    }
    cdb.refuse_bits_outside(command.usage)?;
    (command.decode)(unit, modes, &cdb)
}

fn find(unit: &LogicalUnit, cdb: &Cdb) -> Result<&'static Command, Sense> {
    let mut is_known = false;
    for command in rows_of(cdb.opcode()).filter(|command| command.is_available(unit)) {
        if command.service_action.is_none_or(|service_action| service_action == cdb.service_action()) {
            return Ok(command);
        }
        is_known = true;
    }
    Err(if is_known { Sense::invalid_field_in_cdb(1, Some(4)) } else { Sense::invalid_opcode() })
}

fn check_writable(unit: &LogicalUnit, modes: &ModeState) -> Result<(), Sense> {
    if unit.is_read_only() {
        return Err(Sense::write_protected());
    }
    if modes.software_write_protect {
        return Err(Sense::software_write_protected());
    }
    Ok(())
}

fn rows_of(opcode: u8) -> impl Iterator<Item = &'static Command> {
    let first = usize::from(FIRST_ROW[usize::from(opcode)]);
    COMMANDS.iter().skip(first).take_while(move |command| command.opcode == opcode)
}

/// The rows that count for this logical unit.
pub(crate) fn supported(unit: &LogicalUnit) -> impl Iterator<Item = &'static Command> {
    COMMANDS.iter().filter(|command| command.is_available(unit))
}

/// How the command in this CDB meets a pending unit attention. An unknown one is stopped like any other.
pub(crate) fn attention_rule(cdb: &[u8]) -> AttentionRule {
    cdb.first()
        .and_then(|opcode| rows_of(*opcode).next())
        .map_or(AttentionRule::Report, |command| command.attention)
}

/// Whether the command in this CDB tells of the target only: it is carried out while its logical unit is sanitized, or cannot be reached.
pub fn tells_of_the_target_only(cdb: &[u8]) -> bool {
    row_of(cdb).is_some_and(|command| command.answered_while_sanitizing)
}

/// The standard's name of the command in this CDB, for metrics and logs; `None` if it is not supported.
pub fn command_name(cdb: &[u8]) -> Option<&'static str> {
    row_of(cdb).map(|command| command.name)
}

/// The first row for the command in this CDB, whether or not it counts for some logical unit.
fn row_of(cdb: &[u8]) -> Option<&'static Command> {
    let fields = Cdb::new(cdb);
    rows_of(*cdb.first()?)
        .find(|command| command.service_action.is_none_or(|action| action == fields.service_action()))
}

impl Command {
    fn is_available(&self, unit: &LogicalUnit) -> bool {
        match self.availability {
            Availability::Always => true,
            Availability::Thin => unit.is_thin(),
            Availability::Thick => !unit.is_thin(),
        }
    }
}
