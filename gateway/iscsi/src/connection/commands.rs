//! SCSI commands and their write data: from the Command PDU to the events, by way of R2Ts and Data-Outs.

use super::Connection;
use crate::event::{Cdb, Command, Event};
use crate::framing::Frame;
use crate::pdu::{
    AdditionalHeaders, DataOutPdu, R2tPdu, RESERVED_TAG, RejectReason, ScsiCommandPdu, SequenceNumbers,
};
use crate::tasks::{Task, TaskTag};
use crate::transfer::{TransferLimits, WriteTransfer};

impl Connection {
    /// Asks for `length` bytes of a task's write data, from offset 0. What the initiator does not have is
    /// left to the residual. [`Event::DataOut`] or [`Event::DataFailed`] follows, perhaps at once. A task
    /// asks once; a repetition or an unknown task is ignored.
    pub fn request_data(&mut self, task: TaskTag, length: u32) {
        let Some(entry) = self.tasks.task_mut(task) else { return };
        if entry.data_out_wanted.is_some() || entry.delivery.is_none() {
            return;
        }
        entry.data_out_wanted = Some(length);
        entry.transfer.want(length);
        if entry.transfer.to_solicit() > 0 {
            self.await_budget(task);
        }
        self.settle_transfer(task);
    }

    /// Makes a task of a SCSI Command; `None` if it was rejected. Data it carries below `copied_payload`
    /// bytes is copied; if it is damaged, it is for the caller to reject it.
    pub(super) fn begin_task(&mut self, frame: &Frame, copied_payload: usize) -> Option<TaskTag> {
        let command = ScsiCommandPdu::parse(&frame.header);
        let cdb = match self.admit(&command, frame) {
            Ok(cdb) => cdb,
            Err(reason) => {
                self.reject(&frame.header, reason);
                return None;
            }
        };
        let parameters = &self.session.as_ref()?.parameters;
        let transfer = WriteTransfer::begin(&command, frame, parameters, copied_payload);
        let task = self.tasks.insert(Task::new(command, cdb, transfer))?;
        self.hold_unsolicited_data(task);
        Some(task)
    }

    /// Rejects the data of a SCSI Command that became a task, if it is damaged: once the task counts against the window,
    /// lest the Reject shows room that there is not.
    pub(super) fn reject_damaged_data(&mut self, frame: &Frame) {
        if !frame.data_is_intact {
            self.reject(&frame.header, RejectReason::DataDigestError);
        }
    }

    /// Hands a task to the caller: its turn has come.
    pub(super) fn deliver(&mut self, task: TaskTag) {
        let Some(entry) = self.tasks.task_mut(task) else { return };
        let command = entry.command;
        entry.delivery = Some(self.deliveries);
        self.deliveries += 1;
        if !command.immediate {
            entry.occupies_window = true;
            self.window.task_began();
        }
        self.events.push_back(Event::Command(Command {
            task,
            initiator_task_tag: command.initiator_task_tag,
            lun: command.lun,
            cdb: std::mem::take(&mut entry.cdb),
            attribute: command.attribute,
            read: command.read,
            write: command.write,
            expected_length: command.expected_data_transfer_length,
            cmd_sn: command.cmd_sn,
            immediate: command.immediate,
            data: entry.transfer.complete_immediate_data(),
        }));
    }

    /// Handles a Data-Out. One for a task that is no more is discarded: its sender has the status already,
    /// or will have.
    pub(super) fn handle_data_out(&mut self, frame: Frame) {
        if !frame.data_is_intact {
            self.reject(&frame.header, RejectReason::DataDigestError);
        }
        let pdu = DataOutPdu::parse(&frame.header);
        let Some(task) = self.tasks.find(pdu.initiator_task_tag) else {
            self.refused_requests += u64::from(frame.data_is_intact);
            return;
        };
        let Some(entry) = self.tasks.task_mut(task) else { return };
        entry.transfer.receive(&pdu, frame, self.limits.copied_payload);
        self.solicit(task);
        self.settle_transfer(task);
    }

    /// The whole CDB of a command that may become a task, or why it may not.
    fn admit(&self, command: &ScsiCommandPdu, frame: &Frame) -> Result<Cdb, RejectReason> {
        let tag = command.initiator_task_tag;
        if tag == RESERVED_TAG {
            return Err(RejectReason::InvalidPduField);
        }
        if self.tasks.find(tag).is_some() || self.task_management.contains(&tag) {
            return Err(RejectReason::TaskInProgress);
        }
        if command.immediate && self.tasks.immediate() >= self.limits.immediate_commands {
            return Err(RejectReason::TooManyImmediateCommands);
        }
        let additional = AdditionalHeaders::parse(&frame.additional_header)
            .map_err(|_malformed| RejectReason::InvalidPduField)?;
        let mut cdb = Cdb::from_slice(&command.cdb);
        cdb.extend_from_slice(additional.extended_cdb);
        Ok(cdb)
    }

    /// Sends the R2Ts that a task may send now.
    pub(super) fn solicit(&mut self, task: TaskTag) {
        let Some(session) = &self.session else { return };
        let limits = TransferLimits {
            max_burst_length: session.parameters.max_burst_length,
            max_outstanding_r2t: usize::from(session.parameters.max_outstanding_r2t),
        };
        loop {
            let target_transfer_tag = self.next_transfer_tag();
            let Some(entry) = self.tasks.task_mut(task).filter(|entry| entry.may_solicit) else { return };
            let Some(wanted) = entry.transfer.solicit(target_transfer_tag, &limits) else { return };
            let r2t = R2tPdu {
                lun: entry.command.lun,
                initiator_task_tag: entry.command.initiator_task_tag,
                target_transfer_tag,
                r2t_sn: entry.take_data_sn(),
                buffer_offset: wanted.offset,
                desired_data_transfer_length: wanted.length,
                sequence: SequenceNumbers { stat_sn: self.status.show(), ..self.unconsumed_numbers() },
            };
            self.send(r2t.build(), &[]);
        }
    }

    /// Tells the caller once the write data it asked for is complete or failed.
    fn settle_transfer(&mut self, task: TaskTag) {
        let Some(entry) = self.tasks.task_mut(task) else { return };
        let Some(outcome) = entry.transfer.take_outcome() else { return };
        self.events.push_back(match outcome {
            Ok(data) => Event::DataOut { task, data },
            Err(failure) => Event::DataFailed { task, failure },
        });
    }
}
