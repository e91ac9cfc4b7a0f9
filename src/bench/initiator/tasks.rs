//! The commands under way in a session, and its numbering: what PDUs of the target mean for them, and what is sent in answer.

use std::fmt;

use iscsi_target::Lun;
use iscsi_target::pdu::{
    AsyncEvent, AsyncMessagePdu, BasicHeader, DataInPdu, DataOutPdu, LogoutReason, LogoutRequestPdu,
    NopInPdu, NopOutPdu, Opcode, R2tPdu, RESERVED_TAG, RejectPdu, ScsiCommandPdu, ScsiResponsePdu,
    ScsiStatus, SequenceNumbers, TaskAttribute,
};

use super::input::Pdu;
use super::login::{LoggedIn, Negotiated};
use super::output::{Output, Source};
use crate::bench::error::ProtocolError;

/// Sense data that is kept: key, code and qualifier of both formats are among its first bytes (SPC-4 §4.5).
const SENSE_BYTES: usize = 18;

/// Which way a command's data goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    None,
    /// To us, into the tag's buffer if that is as large, or nowhere.
    In,
    /// To the target, from the session's pattern at this offset.
    OutOfPattern(usize),
    /// To the target, from the tag's buffer.
    OutOfBuffer,
}

/// A command to be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    pub(crate) cdb: [u8; 16],
    pub(crate) direction: Direction,
    pub(crate) length_bytes: u32,
}

/// How a command ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    /// `None` if the target could not even try (a target failure, RFC 7143 §11.4.3).
    status: Option<ScsiStatus>,
    sense: [u8; SENSE_BYTES],
    /// Bytes that were read.
    pub(crate) received_bytes: u32,
}

impl Outcome {
    /// It did what it was to do.
    pub(crate) fn is_good(&self) -> bool {
        self.status == Some(ScsiStatus::Good)
    }

    /// The target told of news, and did nothing (SAM-5 §5.14): the command is to be sent again.
    pub(crate) fn is_unit_attention(&self) -> bool {
        self.status == Some(ScsiStatus::CheckCondition) && self.sense_codes().0 == 6
    }

    /// Sense key, additional code and qualifier, of either format (SPC-4 §4.5.2, §4.5.3).
    fn sense_codes(&self) -> (u8, u8, u8) {
        let sense = &self.sense;
        match sense[0] & 0x7f {
            0x72 | 0x73 => (sense[1] & 0xf, sense[2], sense[3]),
            _ => (sense[2] & 0xf, sense[12], sense[13]),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, code, qualifier) = self.sense_codes();
        match self.status {
            None => write!(f, "the target failed to carry it out"),
            Some(ScsiStatus::Good) => write!(f, "good, with {} bytes read", self.received_bytes),
            Some(ScsiStatus::CheckCondition) => {
                write!(f, "CHECK CONDITION, sense {key:x}h/{code:02x}h/{qualifier:02x}h")
            }
            Some(status) => write!(f, "status {status:?}"),
        }
    }
}

/// One tag of the session, and the command on it.
struct Task {
    live: bool,
    request: Request,
    received_bytes: u32,
    buffer: Vec<u8>,
}

/// The commands of a session. A command's tag is its index.
pub(super) struct Tasks {
    lun: Lun,
    limits: Negotiated,
    tasks: Vec<Task>,
    done: Vec<(u32, Outcome)>,
    under_way: u32,
    cmd_sn: u32,
    exp_stat_sn: u32,
    max_cmd_sn: u32,
    asked_to_leave: bool,
    logged_out: bool,
}

/// `later` comes after `earlier` in serial number arithmetic (RFC 1982).
fn is_after(later: u32, earlier: u32) -> bool {
    (later.wrapping_sub(earlier) as i32) > 0
}

impl Tasks {
    pub(super) fn new(lun: Lun, depth: u32, login: &LoggedIn) -> Self {
        let nothing = Request { cdb: [0; 16], direction: Direction::None, length_bytes: 0 };
        let idle = || Task { live: false, request: nothing, received_bytes: 0, buffer: Vec::new() };
        Self {
            lun,
            limits: login.negotiated,
            tasks: (0..depth).map(|_| idle()).collect(),
            done: Vec::with_capacity(depth as usize),
            under_way: 0,
            cmd_sn: login.cmd_sn,
            exp_stat_sn: login.exp_stat_sn,
            max_cmd_sn: login.max_cmd_sn,
            asked_to_leave: false,
            logged_out: false,
        }
    }

    pub(super) fn is_asked_to_leave(&self) -> bool {
        self.asked_to_leave
    }

    pub(super) fn is_logged_out(&self) -> bool {
        self.logged_out
    }

    pub(super) fn under_way(&self) -> u32 {
        self.under_way
    }

    pub(super) fn has_room(&self) -> bool {
        !is_after(self.cmd_sn, self.max_cmd_sn)
    }

    pub(super) fn next_done(&mut self) -> Option<(u32, Outcome)> {
        self.done.pop()
    }

    pub(super) fn buffer(&self, tag: u32) -> &[u8] {
        &self.tasks[tag as usize].buffer
    }

    pub(super) fn buffer_mut(&mut self, tag: u32) -> &mut Vec<u8> {
        &mut self.tasks[tag as usize].buffer
    }

    /// Queues a command, with as much of its data as need not be asked for.
    pub(super) fn submit(&mut self, tag: u32, request: &Request, output: &mut Output) {
        let length = request.length_bytes;
        let task = &mut self.tasks[tag as usize];
        task.live = true;
        task.request = *request;
        task.received_bytes = 0;
        self.under_way += 1;
        let write = matches!(request.direction, Direction::OutOfPattern(_) | Direction::OutOfBuffer);
        let (immediate, unsolicited) = if write { self.limits.first_burst(length) } else { (0, 0) };
        let header = ScsiCommandPdu {
            immediate: false,
            is_final: unsolicited == 0,
            read: request.direction == Direction::In,
            write,
            attribute: TaskAttribute::Simple,
            lun: self.lun,
            initiator_task_tag: tag,
            expected_data_transfer_length: length,
            cmd_sn: self.cmd_sn,
            exp_stat_sn: self.exp_stat_sn,
            cdb: request.cdb,
        };
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        self.put_part(tag, header.build(), 0, immediate, output);
        if unsolicited > 0 {
            self.send_data(tag, RESERVED_TAG, immediate, unsolicited, output);
        }
    }

    /// Queues a PDU with a part of a task's data.
    fn put_part(&self, tag: u32, header: BasicHeader, offset: u32, length: u32, output: &mut Output) {
        let task = &self.tasks[tag as usize];
        let source = match task.request.direction {
            Direction::OutOfPattern(at) => Source::Pattern(at),
            Direction::OutOfBuffer => Source::Buffer(tag),
            Direction::None | Direction::In => return output.put(&header),
        };
        let range = offset as usize..(offset + length) as usize;
        output.put_with_data(header, source, range, &task.buffer);
    }

    /// Queues a part of a task's data as Data-Out PDUs, the last of which is final.
    fn send_data(&self, tag: u32, transfer: u32, offset: u32, length: u32, output: &mut Output) {
        let (mut offset, end, mut data_sn) = (offset, offset + length, 0);
        while offset < end {
            let part = self.limits.segment_bytes().min(end - offset);
            let header = DataOutPdu {
                is_final: offset + part == end,
                lun: self.lun,
                initiator_task_tag: tag,
                target_transfer_tag: transfer,
                exp_stat_sn: self.exp_stat_sn,
                data_sn,
                buffer_offset: offset,
            };
            self.put_part(tag, header.build(), offset, part, output);
            offset += part;
            data_sn += 1;
        }
    }

    /// Queues the request to end the session.
    pub(super) fn log_out(&mut self, output: &mut Output) {
        let header = LogoutRequestPdu {
            immediate: true,
            reason: LogoutReason::CloseSession,
            initiator_task_tag: self.tasks.len() as u32,
            connection_id: 0,
            cmd_sn: self.cmd_sn,
            exp_stat_sn: self.exp_stat_sn,
        };
        output.put(&header.build());
    }

    /// Takes a PDU of the target.
    pub(super) fn take(&mut self, pdu: &Pdu<'_>, output: &mut Output) -> Result<(), ProtocolError> {
        match pdu.header.opcode() {
            Opcode::DataIn => self.take_data_in(pdu)?,
            Opcode::ScsiResponse => self.take_response(pdu)?,
            Opcode::ReadyToTransfer => self.take_r2t(&R2tPdu::parse(&pdu.header), output)?,
            Opcode::NopIn => self.take_ping(&NopInPdu::parse(&pdu.header), output),
            Opcode::AsyncMessage => {
                let message = AsyncMessagePdu::parse(&pdu.header);
                self.take_numbers(message.sequence, true);
                self.asked_to_leave |= matches!(message.event, AsyncEvent::LogoutRequested { .. });
            }
            Opcode::LogoutResponse => self.logged_out = true,
            Opcode::Reject => return Err(ProtocolError::Rejected(RejectPdu::parse(&pdu.header).reason)),
            other => return Err(ProtocolError::Unexpected(other)),
        }
        Ok(())
    }

    fn take_numbers(&mut self, sequence: SequenceNumbers, has_status: bool) {
        if is_after(sequence.max_cmd_sn, self.max_cmd_sn) {
            self.max_cmd_sn = sequence.max_cmd_sn;
        }
        let next = sequence.stat_sn.wrapping_add(1);
        if has_status && is_after(next, self.exp_stat_sn) {
            self.exp_stat_sn = next;
        }
    }

    fn live_task(&mut self, tag: u32) -> Result<&mut Task, ProtocolError> {
        let task = self.tasks.get_mut(tag as usize).filter(|task| task.live);
        task.ok_or(ProtocolError::UnknownTask(tag))
    }

    fn take_data_in(&mut self, pdu: &Pdu<'_>) -> Result<(), ProtocolError> {
        let header = DataInPdu::parse(&pdu.header);
        self.take_numbers(header.sequence, header.status.is_some());
        let task = self.live_task(header.initiator_task_tag)?;
        let (offset, next, expected) = (header.buffer_offset, task.received_bytes, task.request.length_bytes);
        let length = pdu.data.len();
        if offset != next || length > (expected - next) as usize {
            return Err(ProtocolError::DataOutOfPlace { length, offset, next, expected });
        }
        if !pdu.data_is_intact {
            return Err(ProtocolError::DataDigest(place(&task.request, offset, length)));
        }
        let offset = offset as usize;
        if let Some(area) = task.buffer.get_mut(offset..offset + length) {
            area.copy_from_slice(pdu.data);
        }
        task.received_bytes += length as u32;
        if let Some((status, _)) = header.status {
            self.finish(header.initiator_task_tag, Some(status), [0; SENSE_BYTES]);
        }
        Ok(())
    }

    fn take_response(&mut self, pdu: &Pdu<'_>) -> Result<(), ProtocolError> {
        let header = ScsiResponsePdu::parse(&pdu.header);
        self.take_numbers(header.sequence, true);
        self.live_task(header.initiator_task_tag)?;
        let mut sense = [0; SENSE_BYTES];
        // behind its length (RFC 7143 §11.4.7)
        for (to, from) in sense.iter_mut().zip(pdu.data.iter().skip(2)) {
            *to = *from;
        }
        let status = (header.response == 0).then_some(header.status);
        self.finish(header.initiator_task_tag, status, sense);
        Ok(())
    }

    fn finish(&mut self, tag: u32, status: Option<ScsiStatus>, sense: [u8; SENSE_BYTES]) {
        let task = &mut self.tasks[tag as usize];
        task.live = false;
        self.under_way -= 1;
        self.done.push((tag, Outcome { status, sense, received_bytes: task.received_bytes }));
    }

    fn take_r2t(&mut self, r2t: &R2tPdu, output: &mut Output) -> Result<(), ProtocolError> {
        self.take_numbers(r2t.sequence, false);
        let expected = self.live_task(r2t.initiator_task_tag)?.request.length_bytes;
        let (offset, length) = (r2t.buffer_offset, r2t.desired_data_transfer_length);
        if offset.checked_add(length).is_none_or(|end| end > expected) {
            return Err(ProtocolError::BeyondTheEnd { offset, length, expected });
        }
        self.send_data(r2t.initiator_task_tag, r2t.target_transfer_tag, offset, length, output);
        Ok(())
    }

    /// Answers a ping, if it wants an answer.
    fn take_ping(&mut self, ping: &NopInPdu, output: &mut Output) {
        self.take_numbers(ping.sequence, ping.initiator_task_tag != RESERVED_TAG);
        if ping.target_transfer_tag == RESERVED_TAG {
            return;
        }
        let answer = NopOutPdu {
            immediate: true,
            lun: ping.lun,
            initiator_task_tag: RESERVED_TAG,
            target_transfer_tag: ping.target_transfer_tag,
            cmd_sn: self.cmd_sn,
            exp_stat_sn: self.exp_stat_sn,
        };
        output.put(&answer.build());
    }
}

/// Which data of a READ(16) is meant, for people.
fn place(request: &Request, offset: u32, length: usize) -> String {
    const READ_16: u8 = 0x88;
    match request.cdb {
        [READ_16, _, a, b, c, d, e, f, g, h, ..] => {
            let lba = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
            format!("{length} bytes at byte {offset} of a read of LBA {lba}")
        }
        _ => format!("{length} bytes read"),
    }
}
