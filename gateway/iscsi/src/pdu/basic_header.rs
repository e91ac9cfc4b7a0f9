//! The basic header segment (BHS): 48 bytes that begin every PDU (RFC 7143 §11.2.1).
//!
//! It gives typed access to single fields; what the fields of one kind of PDU mean is in that kind's file.

use crate::lun::Lun;
use crate::pdu::Opcode;

/// Bytes of a basic header segment.
pub const BASIC_HEADER_BYTES: usize = 48;

/// The reserved tag: "no task" or "no transfer" (RFC 7143 §11.2.1.8).
pub const RESERVED_TAG: u32 = 0xffff_ffff;

const IMMEDIATE: u8 = 0x40;
const OPCODE_MASK: u8 = 0x3f;

/// One basic header segment as it is on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BasicHeader([u8; BASIC_HEADER_BYTES]);

impl BasicHeader {
    /// A header of zeroes but for opcode and flags (byte 1).
    pub fn new(opcode: Opcode, flags: u8) -> Self {
        let mut bytes = [0; BASIC_HEADER_BYTES];
        bytes[0] = opcode.code();
        bytes[1] = flags;
        Self(bytes)
    }

    /// The header in these bytes.
    pub fn from_bytes(bytes: [u8; BASIC_HEADER_BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes on the wire.
    pub fn as_bytes(&self) -> &[u8; BASIC_HEADER_BYTES] {
        &self.0
    }

    /// What kind of PDU this is.
    pub fn opcode(&self) -> Opcode {
        Opcode::from_code(self.0[0] & OPCODE_MASK)
    }

    /// The I bit: a request outside the order of commands (RFC 7143 §4.2.2.1).
    pub fn is_immediate(&self) -> bool {
        self.0[0] & IMMEDIATE != 0
    }

    /// Sets the I bit.
    pub fn immediate(mut self, immediate: bool) -> Self {
        self.0[0] = (self.0[0] & OPCODE_MASK) | if immediate { IMMEDIATE } else { 0 };
        self
    }

    /// Byte 1: flags that depend on the opcode.
    pub fn flags(&self) -> u8 {
        self.0[1]
    }

    /// Bytes of additional header segments (TotalAHSLength counts words of 4 bytes).
    pub fn additional_header_bytes(&self) -> usize {
        usize::from(self.0[4]) * 4
    }

    /// Sets TotalAHSLength, in words of 4 bytes.
    pub fn set_additional_header_words(&mut self, words: u8) {
        self.0[4] = words;
    }

    /// DataSegmentLength: bytes of data without padding.
    pub fn data_segment_length(&self) -> u32 {
        self.u32_at(4) & 0x00ff_ffff
    }

    /// Sets DataSegmentLength; only the low 24 bits exist.
    pub fn set_data_segment_length(&mut self, length: u32) {
        self.0[5..8].copy_from_slice(&length.to_be_bytes()[1..]);
    }

    /// The LUN field, where the opcode has one.
    pub fn lun(&self) -> Lun {
        Lun::from_bytes(self.bytes_at(8))
    }

    /// Sets the LUN field.
    pub fn set_lun(&mut self, lun: Lun) {
        self.put(8, &lun.to_bytes());
    }

    /// Initiator task tag: the initiator's name for the task.
    pub fn initiator_task_tag(&self) -> u32 {
        self.u32_at(16)
    }

    /// CmdSN, which every request but Data-Out and SNACK has.
    pub fn cmd_sn(&self) -> u32 {
        self.u32_at(24)
    }

    /// ExpStatSN, which every PDU of an initiator has.
    pub fn exp_stat_sn(&self) -> u32 {
        self.u32_at(28)
    }

    pub(super) fn u8_at(&self, at: usize) -> u8 {
        self.0[at]
    }

    pub(super) fn u16_at(&self, at: usize) -> u16 {
        u16::from_be_bytes(self.bytes_at(at))
    }

    pub(super) fn u32_at(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.bytes_at(at))
    }

    pub(super) fn bytes_at<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.0[at..at + N]);
        bytes
    }

    pub(super) fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub(super) fn put_u32(&mut self, at: usize, value: u32) {
        self.put(at, &value.to_be_bytes());
    }

    pub(super) fn put_u16(&mut self, at: usize, value: u16) {
        self.put(at, &value.to_be_bytes());
    }
}

/// StatSN, ExpCmdSN and MaxCmdSN, which every PDU of a target carries in bytes 24 to 35.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SequenceNumbers {
    /// Status sequence number of this PDU, or the next one where the PDU carries no status.
    pub stat_sn: u32,
    /// Next CmdSN the target expects.
    pub exp_cmd_sn: u32,
    /// Last CmdSN the target accepts.
    pub max_cmd_sn: u32,
}

impl SequenceNumbers {
    pub(super) fn parse(header: &BasicHeader) -> Self {
        Self { stat_sn: header.u32_at(24), exp_cmd_sn: header.u32_at(28), max_cmd_sn: header.u32_at(32) }
    }

    pub(super) fn write(&self, header: &mut BasicHeader) {
        header.put_u32(24, self.stat_sn);
        header.put_u32(28, self.exp_cmd_sn);
        header.put_u32(32, self.max_cmd_sn);
    }
}
