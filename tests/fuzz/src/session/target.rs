//! The caller of the session core: takes its events, and holds against them what the initiator sent.

use std::collections::VecDeque;

use iscsi_target::{
    Command, Event, LogoutResponse, Payload, ScsiResponse, TaskFunction, TaskManagementResponse, TaskTag,
};

use super::initiator::Initiator;
use super::{MAX_TRANSFER_BYTES, pattern};

/// A task that the core handed over.
#[derive(Debug)]
struct Live {
    task: TaskTag,
    initiator_task_tag: u32,
    immediate: bool,
    write: bool,
    expected: u32,
    wanted: Option<u32>,
    /// All of its data was handed over, or it wants none.
    complete: bool,
}

/// What the caller knows.
#[derive(Debug, Default)]
pub(super) struct Target {
    live: Vec<Live>,
    task_management: VecDeque<u32>,
    delivered_cmd_sn: Option<u32>,
}

impl Target {
    pub(super) fn live(&self) -> usize {
        self.live.len()
    }

    /// Tasks under way of commands that are immediate, or that are not.
    pub(super) fn live_by_kind(&self, immediate: bool) -> usize {
        self.live.iter().filter(|live| live.immediate == immediate).count()
    }

    pub(super) fn take(&mut self, initiator: &mut Initiator, event: Event) {
        match event {
            Event::Command(command) => self.take_command(initiator, &command),
            Event::DataOut { task, data } => {
                let live = self.find(task);
                let wanted = live.wanted.expect("it was asked for").min(live.expected);
                assert_eq!(data.len(), wanted as usize, "all that was asked for");
                live.complete = true;
                initiator.check_complete(live.initiator_task_tag, wanted);
                check_data(initiator, &data);
            }
            Event::DataFailed { task, .. } => {
                let live = self.find(task);
                assert!(live.wanted.is_some() && !live.complete);
                initiator.check_failed(live.initiator_task_tag);
            }
            Event::TaskManagement(request) => {
                assert!(initiator.is_asked(request.initiator_task_tag));
                if let Some(task) = request.referenced.filter(|_| request.function == TaskFunction::AbortTask)
                {
                    initiator.connection.abort(task);
                    self.live.retain(|live| live.task != task);
                    initiator.forget(request.referenced_task_tag);
                }
                self.task_management.push_back(request.initiator_task_tag);
            }
            Event::Logout(logout) => {
                let closes = self.live.is_empty();
                let response = if closes { LogoutResponse::Closed } else { LogoutResponse::CleanupFailed };
                initiator.connection.respond_logout(logout.initiator_task_tag, response);
            }
            Event::Login(_) | Event::Proof => panic!("a second login"),
        }
    }

    fn take_command(&mut self, initiator: &mut Initiator, command: &Command) {
        assert!(initiator.is_asked(command.initiator_task_tag), "{command:?} was never sent");
        assert!(self.live.iter().all(|live| live.initiator_task_tag != command.initiator_task_tag));
        if !command.immediate {
            if let Some(last) = self.delivered_cmd_sn {
                assert!(command.cmd_sn.wrapping_sub(last) as i32 > 0, "{command:?} after CmdSN {last}");
            }
            self.delivered_cmd_sn = Some(command.cmd_sn);
        }
        if let Some(data) = &command.data {
            assert!(command.write && data.len() == command.expected_length as usize);
            initiator.check_complete(command.initiator_task_tag, command.expected_length);
            check_data(initiator, data);
        }
        self.live.push(Live {
            task: command.task,
            initiator_task_tag: command.initiator_task_tag,
            immediate: command.immediate,
            write: command.write,
            expected: if command.write { command.expected_length } else { 0 },
            wanted: None,
            complete: !command.write || command.data.is_some(),
        });
    }

    fn find(&mut self, task: TaskTag) -> &mut Live {
        self.live.iter_mut().find(|live| live.task == task).expect("the task lives")
    }

    fn choose(&self, number: u8) -> Option<usize> {
        (!self.live.is_empty()).then(|| usize::from(number) % self.live.len())
    }

    /// GOOD only if the data is there.
    pub(super) fn respond(&mut self, initiator: &mut Initiator, task: u8, good: bool) {
        let Some(at) = self.choose(task) else { return };
        let live = self.live.swap_remove(at);
        let response = match good && live.complete {
            true => ScsiResponse::good(),
            false => ScsiResponse::check_condition(&[0x70; 18]),
        };
        initiator.connection.respond(live.task, response);
    }

    pub(super) fn give_data(&mut self, initiator: &mut Initiator, task: u8, length: u16, abandon: bool) {
        let Some(at) = self.choose(task) else { return };
        if self.live[at].write {
            return;
        }
        let before = initiator.connection.output().len();
        let mut data_in = initiator.connection.data_in(self.live[at].task, length.into());
        let mut offset = 0;
        while let Some(segment) = data_in.next_segment() {
            segment.copy_from_slice(&pattern(offset, segment.len()));
            offset += segment.len();
        }
        assert!(offset <= usize::from(length) && offset == data_in.len());
        if abandon {
            data_in.abandon();
            assert_eq!(initiator.connection.output().len(), before);
        } else {
            data_in.finish(ScsiResponse::good());
            self.live.swap_remove(at);
        }
    }

    /// Asks for the data of a task, mostly of one that waits for that.
    pub(super) fn request_data(&mut self, initiator: &mut Initiator, task: u8, length: u16) {
        let length = u32::from(length % MAX_TRANSFER_BYTES);
        let waits = self.live.iter().position(|live| live.write && live.wanted.is_none());
        let Some(at) = waits.filter(|_| task < 192).or_else(|| self.choose(task)) else { return };
        let live = &mut self.live[at];
        if live.wanted.is_none() {
            live.wanted = Some(length);
            live.complete = false;
        }
        initiator.connection.request_data(live.task, length);
    }

    pub(super) fn abort(&mut self, initiator: &mut Initiator, task: u8) {
        let Some(at) = self.choose(task) else { return };
        let live = self.live.swap_remove(at);
        initiator.connection.abort(live.task);
        initiator.forget(live.initiator_task_tag);
    }

    pub(super) fn answer_task_management(&mut self, initiator: &mut Initiator) {
        if let Some(tag) = self.task_management.pop_front() {
            let response = TaskManagementResponse::FunctionComplete;
            initiator.connection.respond_task_management(tag, response);
        }
    }
}

fn check_data(initiator: &Initiator, data: &Payload) {
    let is_whole = data.to_vec() == pattern(0, data.len());
    assert!(is_whole || initiator.is_lost, "every byte in its place");
}
