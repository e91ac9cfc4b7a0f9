//! Answers to what was delivered, and what a target says unasked.

use super::{Connection, Phase};
use crate::event::ScsiResponse;
use crate::lun::Lun;
use crate::pdu::{
    AsyncEvent, AsyncMessagePdu, BasicHeader, LogoutResponse, LogoutResponsePdu, RejectPdu, RejectReason,
    Residual, ScsiResponsePdu, ScsiStatus, TaskManagementResponse, TaskManagementResponsePdu,
};
use crate::tasks::{Task, TaskTag};

/// The iSCSI service response "command completed at target" (RFC 7143 §11.4.3).
const COMPLETED_AT_TARGET: u8 = 0;

impl Connection {
    /// Ends a task with a SCSI Response without input data. The residual is what the initiator expected
    /// against what the device server asked for. An unknown task is ignored.
    pub fn respond(&mut self, task: TaskTag, response: ScsiResponse) {
        let Some(task) = self.take_task(task) else { return };
        let residual = Residual::between(task.expected_length(), data_out_moved(&task, &response));
        self.send_response(&task, &response, residual);
        self.return_budget(task.held_data);
    }

    /// Answers [`Event::TaskManagement`](crate::Event::TaskManagement). An unknown request is ignored.
    pub fn respond_task_management(&mut self, initiator_task_tag: u32, response: TaskManagementResponse) {
        let Some(at) = self.task_management.iter().position(|tag| *tag == initiator_task_tag) else { return };
        self.task_management.swap_remove(at);
        let sequence = self.status_numbers();
        let pdu = TaskManagementResponsePdu { response, initiator_task_tag, sequence };
        self.send(pdu.build(), &[]);
    }

    /// Forgets a task without an answer (ABORT TASK and the like). Its further Data-Outs and events are
    /// discarded.
    pub fn abort(&mut self, task: TaskTag) {
        if let Some(task) = self.take_task(task) {
            self.return_budget(task.held_data);
        }
    }

    /// Answers [`Event::Logout`](crate::Event::Logout). After [`LogoutResponse::Closed`] the connection is
    /// over once the output is sent; after another response the session goes on.
    pub fn respond_logout(&mut self, initiator_task_tag: u32, response: LogoutResponse) {
        if !matches!(self.phase, Phase::LoggingOut) {
            return;
        }
        self.send_logout_response(initiator_task_tag, response);
        self.phase = match response {
            LogoutResponse::Closed => Phase::Closed,
            _ => Phase::FullFeature,
        };
    }

    /// Asks the initiator to log out within so many seconds; closing the connection then is the caller's
    /// business.
    pub fn request_logout(&mut self, seconds: u16) {
        self.send_async(Lun::ZERO, AsyncEvent::LogoutRequested { seconds }, &[]);
    }

    /// Tells the initiator of a unit attention condition that no command reported yet.
    pub fn notify_unit_attention(&mut self, lun: Lun, sense: &[u8]) {
        self.send_async(lun, AsyncEvent::Scsi, sense);
    }

    /// Removes a task whose budget is still to be returned, which may add R2Ts to the output.
    pub(super) fn take_task(&mut self, task: TaskTag) -> Option<Task> {
        let removed = self.tasks.remove(task)?;
        if removed.occupies_window {
            self.window.task_ended();
        }
        if let Some(delivery) = removed.delivery {
            self.waiting_for_budget.remove(&delivery);
        }
        Some(removed)
    }

    /// The SCSI Response of a task that has ended.
    pub(super) fn send_response(&mut self, task: &Task, response: &ScsiResponse, residual: Residual) {
        let pdu = ScsiResponsePdu {
            response: COMPLETED_AT_TARGET,
            status: response.status,
            residual,
            initiator_task_tag: task.initiator_task_tag(),
            sequence: self.status_numbers(),
            exp_data_sn: task.data_sn,
        };
        self.send_with_sense(pdu.build(), &response.sense);
    }

    /// Rejects a PDU, with its header.
    pub(super) fn reject(&mut self, rejected: &BasicHeader, reason: RejectReason) {
        self.refused_requests += 1;
        let pdu = RejectPdu { reason, sequence: self.status_numbers(), data_sn: 0 };
        self.send(pdu.build(), &[rejected.as_bytes()]);
    }

    pub(super) fn send_logout_response(&mut self, initiator_task_tag: u32, response: LogoutResponse) {
        let session = self.session.as_ref();
        let time_to_wait_seconds = session.map_or(0, |session| session.parameters.default_time2wait);
        let sequence = self.status_numbers();
        let pdu = LogoutResponsePdu { response, initiator_task_tag, sequence, time_to_wait_seconds };
        self.send(pdu.build(), &[]);
    }

    fn send_async(&mut self, lun: Lun, event: AsyncEvent, sense: &[u8]) {
        if self.is_full_feature() && !self.is_discovery() {
            let sequence = self.status_numbers();
            self.send_with_sense(AsyncMessagePdu { lun, event, sequence }.build(), sense);
        }
    }

    /// Sense data travels behind its length (RFC 7143 §11.4.7.1). No sense data is longer than 252 bytes
    /// (SPC-4 §4.5.1), and every initiator takes 512.
    fn send_with_sense(&mut self, header: BasicHeader, sense: &[u8]) {
        let sense = &sense[..sense.len().min(252)];
        match sense.len() as u16 {
            0 => self.send(header, &[]),
            length => self.send(header, &[&length.to_be_bytes(), sense]),
        }
    }
}

/// Bytes of write data that were moved, or would have been had the initiator expected as many.
fn data_out_moved(task: &Task, response: &ScsiResponse) -> u64 {
    let asked = response.data_out_wanted.or(task.data_out_wanted);
    let assumed = match (task.command.write, response.status) {
        (true, ScsiStatus::Good) => task.command.expected_data_transfer_length,
        _ => 0,
    };
    u64::from(asked.unwrap_or(assumed))
}
