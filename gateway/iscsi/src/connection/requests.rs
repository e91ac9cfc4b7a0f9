//! Requests in full feature phase: which are accepted, in what order they act, and those that the
//! connection answers by itself (NOP-Out, Text) or passes on (task management, logout).

use bytes::Bytes;

use super::{Connection, Held, Phase};
use crate::command_window::Admission;
use crate::error::ConnectionError;
use crate::event::{Event, Logout, TaskManagement};
use crate::framing::Frame;
use crate::lun::Lun;
use crate::pdu::{
    BASIC_HEADER_BYTES, BasicHeader, LogoutReason, LogoutRequestPdu, LogoutResponse, NopInPdu, NopOutPdu,
    Opcode, RESERVED_TAG, RejectReason, TaskFunction, TaskManagementRequestPdu, TaskManagementResponse,
    TextRequestPdu, TextResponsePdu,
};
use crate::text_exchange::TextRequest;

impl Connection {
    /// Handles a PDU in full feature phase.
    pub(super) fn handle(&mut self, frame: Frame) -> Result<(), ConnectionError> {
        let header = &frame.header;
        match header.opcode() {
            Opcode::NopOut
            | Opcode::ScsiCommand
            | Opcode::TaskManagementRequest
            | Opcode::TextRequest
            | Opcode::LogoutRequest => {
                self.status.acknowledge(header.exp_stat_sn())?;
                self.order(frame)
            }
            Opcode::DataOut => {
                self.status.acknowledge(header.exp_stat_sn())?;
                self.handle_data_out(frame);
                Ok(())
            }
            Opcode::Snack => {
                self.status.acknowledge(header.exp_stat_sn())?;
                self.reject(header, RejectReason::SnackReject);
                Ok(())
            }
            Opcode::LoginRequest => {
                self.reject(header, RejectReason::ProtocolError);
                Err(ConnectionError::LoginInFullFeaturePhase)
            }
            _ => {
                self.reject(header, RejectReason::CommandNotSupported);
                Ok(())
            }
        }
    }

    /// Lets a request act when its CmdSN's turn has come.
    fn order(&mut self, frame: Frame) -> Result<(), ConnectionError> {
        if !is_unordered(&frame.header) {
            let cmd_sn = frame.header.cmd_sn();
            match self.window.admission(cmd_sn) {
                Admission::Ignore => {
                    self.refused_requests += 1;
                    return Ok(());
                }
                Admission::Early => return self.hold(cmd_sn, frame),
                Admission::Next => self.window.advance(),
            }
        }
        self.act(frame);
        Ok(())
    }

    /// Keeps a request until the ones before it have come. A SCSI command becomes a task at once, because
    /// its Data-Outs may follow. All its data is copied: a slice would keep a whole input buffer, which is
    /// not counted.
    fn hold(&mut self, cmd_sn: u32, mut frame: Frame) -> Result<(), ConnectionError> {
        let limit = if self.is_discovery() { self.limits.text } else { self.limits.held_input };
        self.held_input += frame.data.len() + frame.additional_header.len() + BASIC_HEADER_BYTES;
        if self.held_input > limit {
            let missing = self.window.exp_cmd_sn();
            return Err(ConnectionError::HeldInputTooLong { missing, limit });
        }
        if frame.header.opcode() != Opcode::ScsiCommand || self.is_discovery() {
            frame.data = Bytes::copy_from_slice(&frame.data);
            self.window.hold(cmd_sn, Held::Request(frame));
        } else if let Some(task) = self.begin_task(&frame, usize::MAX) {
            self.window.hold(cmd_sn, Held::Task(task));
            self.reject_damaged_data(&frame);
        } else {
            self.window.skip(cmd_sn);
        }
        Ok(())
    }

    /// Lets the held request act whose turn has come; `false` if there is none. One at a time, when the
    /// caller has taken all events: a task that an ABORT TASK finds is then one the caller still knows.
    pub(super) fn release_held(&mut self) -> bool {
        let next = self.window.take_next();
        if self.window.holds_nothing() {
            self.held_input = 0;
        }
        match next {
            Some(Held::Task(task)) => self.deliver(task),
            Some(Held::Request(frame)) => self.act(frame),
            None => return false,
        }
        true
    }

    fn act(&mut self, frame: Frame) {
        let header = &frame.header;
        let opcode = header.opcode();
        let is_for_normal_sessions = matches!(opcode, Opcode::ScsiCommand | Opcode::TaskManagementRequest);
        if self.is_discovery() && is_for_normal_sessions {
            self.reject(header, RejectReason::ProtocolError);
            return;
        }
        if opcode == Opcode::ScsiCommand {
            if let Some(task) = self.begin_task(&frame, self.limits.copied_payload) {
                self.deliver(task);
                self.reject_damaged_data(&frame);
            }
            return;
        }
        if !frame.data_is_intact {
            self.reject(header, RejectReason::DataDigestError);
            return;
        }
        match opcode {
            Opcode::NopOut => self.answer_nop_out(&NopOutPdu::parse(header), &frame.data),
            Opcode::TextRequest => self.answer_text(header, &frame.data),
            Opcode::LogoutRequest => self.begin_logout(&LogoutRequestPdu::parse(header)),
            Opcode::TaskManagementRequest => self.begin_task_management(header),
            _ => {}
        }
    }

    fn answer_nop_out(&mut self, request: &NopOutPdu, data: &[u8]) {
        if request.target_transfer_tag != RESERVED_TAG {
            self.keep_alive.ping_was_answered(request.target_transfer_tag);
        }
        if request.initiator_task_tag == RESERVED_TAG {
            return;
        }
        let limit = self.initiator_segment_length().min(data.len());
        let answer = NopInPdu {
            lun: Lun::ZERO,
            initiator_task_tag: request.initiator_task_tag,
            target_transfer_tag: RESERVED_TAG,
            sequence: self.status_numbers(),
        };
        self.send(answer.build(), &[&data[..limit]]);
    }

    fn answer_text(&mut self, header: &BasicHeader, data: &[u8]) {
        let pdu = TextRequestPdu::parse(header);
        let request = TextRequest {
            is_final: pdu.is_final,
            cont: pdu.continues,
            initiator_task_tag: pdu.initiator_task_tag,
            target_transfer_tag: pdu.target_transfer_tag,
            data,
        };
        let Some(session) = &mut self.session else { return };
        match self.text.step(&request, session, &*self.directory) {
            Ok(reply) => {
                let response = TextResponsePdu {
                    is_final: reply.is_final,
                    continues: reply.cont,
                    lun: pdu.lun,
                    initiator_task_tag: pdu.initiator_task_tag,
                    target_transfer_tag: reply.target_transfer_tag,
                    sequence: self.status_numbers(),
                };
                self.send(response.build(), &[&reply.data]);
            }
            Err(refusal) => self.reject(header, RejectReason::from_code(refusal.reject_reason())),
        }
    }

    fn begin_logout(&mut self, request: &LogoutRequestPdu) {
        let is_ours = request.connection_id == self.connection_id;
        let refusal = match request.reason {
            LogoutReason::CloseSession => None,
            LogoutReason::CloseConnection if is_ours => None,
            LogoutReason::CloseConnection => Some(LogoutResponse::ConnectionNotFound),
            LogoutReason::RemoveForRecovery => Some(LogoutResponse::RecoveryUnsupported),
            LogoutReason::Unknown(_) => Some(LogoutResponse::CleanupFailed),
        };
        match refusal {
            Some(response) => self.send_logout_response(request.initiator_task_tag, response),
            None => {
                self.phase = Phase::LoggingOut;
                let initiator_task_tag = request.initiator_task_tag;
                self.events.push_back(Event::Logout(Logout { initiator_task_tag, reason: request.reason }));
            }
        }
    }

    fn begin_task_management(&mut self, header: &BasicHeader) {
        let request = TaskManagementRequestPdu::parse(header);
        let tag = request.initiator_task_tag;
        if tag == RESERVED_TAG || self.task_management.contains(&tag) || self.tasks.find(tag).is_some() {
            self.reject(header, RejectReason::TaskInProgress);
            return;
        }
        if self.task_management.len() >= usize::from(self.limits.immediate_commands) {
            self.reject(header, RejectReason::TooManyImmediateCommands);
            return;
        }
        self.task_management.push(tag);
        let referenced = self.tasks.find(request.referenced_task_tag);
        let is_abort = request.function == TaskFunction::AbortTask;
        if is_abort && referenced.is_none() && self.skip_before(request.ref_cmd_sn, request.cmd_sn) {
            self.respond_task_management(tag, TaskManagementResponse::FunctionComplete);
            return;
        }
        self.events.push_back(Event::TaskManagement(TaskManagement {
            initiator_task_tag: tag,
            function: request.function,
            lun: request.lun,
            referenced_task_tag: request.referenced_task_tag,
            ref_cmd_sn: request.ref_cmd_sn,
            referenced,
        }));
    }

    /// An ABORT TASK for a command that has not arrived: it counts as received (RFC 7143 §11.6.1).
    fn skip_before(&mut self, ref_cmd_sn: u32, request_cmd_sn: u32) -> bool {
        let is_earlier = (request_cmd_sn.wrapping_sub(ref_cmd_sn) as i32) > 0;
        is_earlier && self.window.skip(ref_cmd_sn)
    }

    /// The largest data segment the initiator takes.
    pub(super) fn initiator_segment_length(&self) -> usize {
        let session = self.session.as_ref();
        session.map_or(0, |session| session.parameters.initiator_max_recv_data_segment_length as usize)
    }
}

/// Whether a request acts at once and consumes no CmdSN. A NOP-Out that wants no answer is immediate by
/// nature (RFC 7143 §11.18.1), with or without the bit.
fn is_unordered(header: &BasicHeader) -> bool {
    let wants_no_answer = header.opcode() == Opcode::NopOut && header.initiator_task_tag() == RESERVED_TAG;
    header.is_immediate() || wants_no_answer
}
