//! The order of commands: the CmdSN window, immediate commands, repeated tags and acknowledged statuses.

mod initiator;

use initiator::{Initiator, pattern};
use iscsi_target::pdu::{
    NopInPdu, Opcode, RESERVED_TAG, RejectPdu, RejectReason, TaskManagementRequestPdu,
    TaskManagementResponsePdu,
};
use iscsi_target::{
    Command, ConnectionError, Event, Limits, Lun, ScsiResponse, TaskFunction, TaskManagementResponse,
};

/// An immediate ABORT TASK, not sent.
fn abort_task_of(initiator: &mut Initiator, referenced: u32, ref_cmd_sn: u32) -> TaskManagementRequestPdu {
    TaskManagementRequestPdu {
        immediate: true,
        function: TaskFunction::AbortTask,
        lun: Lun::ZERO,
        initiator_task_tag: initiator.tag(),
        referenced_task_tag: referenced,
        cmd_sn: initiator.cmd_sn,
        exp_stat_sn: initiator.exp_stat_sn,
        ref_cmd_sn,
        exp_data_sn: 0,
    }
}

/// Sends one.
fn abort_task(initiator: &mut Initiator, referenced: u32, ref_cmd_sn: u32) -> TaskManagementRequestPdu {
    let pdu = abort_task_of(initiator, referenced, ref_cmd_sn);
    initiator.send(&pdu.build(), &[]);
    pdu
}

/// MaxCmdSN as of now.
fn max_cmd_sn(initiator: &mut Initiator) -> u32 {
    initiator.ping(b"");
    initiator.assert_no_event();
    NopInPdu::parse(&initiator.receive_opcode(Opcode::NopIn).header).sequence.max_cmd_sn
}

fn assert_rejected(initiator: &mut Initiator, reason: RejectReason, tag: u32) {
    let reject = initiator.receive_opcode(Opcode::Reject);
    assert_eq!(RejectPdu::parse(&reject.header).reason, reason);
    assert_eq!(reject.header.initiator_task_tag(), RESERVED_TAG);
    assert_eq!(reject.data.len(), 48, "the offending header");
    assert_eq!(reject.data[16..20], tag.to_be_bytes());
}

#[test]
fn commands_outside_the_window_are_ignored() {
    let mut initiator = Initiator::log_in("");
    let max = max_cmd_sn(&mut initiator);
    for cmd_sn in [max.wrapping_add(1), initiator.cmd_sn - 1, initiator.cmd_sn.wrapping_add(1 << 31)] {
        let mut pdu = initiator.command(true, false, 512);
        pdu.cmd_sn = cmd_sn;
        initiator.send(&pdu.build(), &[]);
        initiator.cmd_sn -= 1;
        initiator.assert_no_event();
    }
    initiator.assert_alive();
    initiator.read(512);
}

#[test]
fn the_window_closes_and_opens_with_the_tasks() {
    let mut initiator = Initiator::log_in_within(Limits { command_window: 3, ..Limits::default() }, "");
    let first = initiator.cmd_sn;
    let commands: Vec<Command> = (0..3).map(|_| initiator.read(0)).collect();
    assert_eq!(max_cmd_sn(&mut initiator), first + 2, "never goes back");
    let beyond = initiator.command(true, false, 0);
    initiator.send(&beyond.build(), &[]);
    initiator.assert_no_event();
    initiator.target.respond(commands[1].task, ScsiResponse::good());
    let (response, _) = initiator.receive_response();
    assert_eq!(response.sequence.max_cmd_sn, first + 3);
    initiator.send(&beyond.build(), &[]);
    assert_eq!(initiator.command_event().cmd_sn, beyond.cmd_sn);
    initiator.target.abort(commands[0].task);
    assert_eq!(max_cmd_sn(&mut initiator), first + 4);
}

#[test]
fn a_write_whose_data_is_rejected_opens_no_room() {
    let mut initiator = Initiator::log_in("DataDigest=CRC32C");
    let pdu = initiator.command(false, true, 512);
    initiator.send(&pdu.build(), &pattern(0, 512));
    let last = initiator.target.input().len() - 1;
    initiator.target.input()[last] ^= 1;
    initiator.command_event();
    let reject = RejectPdu::parse(&initiator.receive_opcode(Opcode::Reject).header);
    initiator.ping(b"");
    initiator.assert_no_event();
    let answer = NopInPdu::parse(&initiator.receive_opcode(Opcode::NopIn).header);
    assert_eq!(reject.sequence.max_cmd_sn, answer.sequence.max_cmd_sn);
}

#[test]
fn commands_ahead_of_their_turn_wait_with_their_data() {
    let mut initiator = Initiator::log_in("InitialR2T=No FirstBurstLength=1024");
    let first = initiator.command(true, false, 0);
    let mut second = initiator.command(false, true, 1024);
    second.is_final = false;
    initiator.send(&second.build(), &[]);
    let all = pattern(0, 1024);
    initiator.data_out(second.initiator_task_tag, RESERVED_TAG, (0, 0), &all, true);
    initiator.text_request("SendTargets=All");
    initiator.assert_no_event();
    initiator.assert_nothing_received();
    initiator.send(&first.build(), &[]);
    assert_eq!(initiator.command_event().cmd_sn, first.cmd_sn);
    let command = initiator.command_event();
    assert_eq!(command.cmd_sn, second.cmd_sn);
    initiator.target.request_data(command.task, 1024);
    let Event::DataOut { data, .. } = initiator.event() else { panic!("no data") };
    assert_eq!(data.to_vec(), all);
    initiator.assert_no_event();
    initiator.receive_opcode(Opcode::TextResponse);
    initiator.assert_alive();
}

#[test]
fn input_held_for_a_missing_command_is_bounded() {
    let limits = Limits { held_input: 10_000, ..Limits::default() };
    let mut initiator = Initiator::log_in_within(limits, "");
    let missing = initiator.cmd_sn;
    initiator.cmd_sn += 1;
    for _ in 0..3 {
        let pdu = initiator.command(false, true, 4096);
        initiator.send(&pdu.build(), &[0; 4096]);
    }
    let error = initiator.next_event().expect_err("too much");
    assert_eq!(error, ConnectionError::HeldInputTooLong { missing, limit: 10_000 });
    assert!(initiator.target.is_finished());
}

#[test]
fn immediate_commands_consume_no_number_and_are_limited() {
    let limits = Limits { immediate_commands: 2, ..Limits::default() };
    let mut initiator = Initiator::log_in_within(limits, "");
    let next = initiator.cmd_sn;
    let mut commands = Vec::new();
    for _ in 0..3 {
        let mut pdu = initiator.command(true, false, 0);
        initiator.cmd_sn = next;
        pdu.immediate = true;
        pdu.cmd_sn = next;
        initiator.send(&pdu.build(), &[]);
        commands.push(pdu);
    }
    let first = initiator.command_event();
    assert!(first.immediate);
    initiator.command_event();
    initiator.assert_no_event();
    assert_rejected(&mut initiator, RejectReason::TooManyImmediateCommands, commands[2].initiator_task_tag);
    initiator.target.respond(first.task, ScsiResponse::good());
    assert_eq!(initiator.receive_response().0.sequence.exp_cmd_sn, next);
    initiator.send(&commands[2].build(), &[]);
    initiator.command_event();
}

#[test]
fn a_tag_in_use_is_rejected_and_the_first_task_lives() {
    let mut initiator = Initiator::log_in("");
    let first = initiator.write(0);
    let mut second = initiator.command(true, false, 512);
    second.initiator_task_tag = first.initiator_task_tag;
    initiator.send(&second.build(), &[]);
    initiator.assert_no_event();
    assert_rejected(&mut initiator, RejectReason::TaskInProgress, first.initiator_task_tag);
    initiator.target.respond(first.task, ScsiResponse::good());
    initiator.receive_response();
    let third = initiator.command(true, false, 512);
    initiator.send(&third.build(), &[]);
    assert_eq!(initiator.command_event().cmd_sn, third.cmd_sn, "the rejected one consumed its number");
}

#[test]
fn a_status_that_was_never_sent_cannot_be_acknowledged() {
    let mut initiator = Initiator::log_in("");
    initiator.exp_stat_sn += 1;
    let mut pdu = initiator.command(true, false, 0);
    pdu.exp_stat_sn = initiator.exp_stat_sn;
    initiator.send(&pdu.build(), &[]);
    let error = initiator.next_event().expect_err("a protocol error");
    assert!(matches!(error, ConnectionError::AcknowledgedBeyondSent(_)), "{error}");
    assert!(initiator.target.is_finished());
    assert!(initiator.next_event().expect("nothing more").is_none());
}

#[test]
fn a_status_number_shown_in_an_r2t_may_be_acknowledged() {
    let mut initiator = Initiator::log_in("");
    let command = initiator.write(512);
    initiator.target.request_data(command.task, 512);
    initiator.receive_opcode(Opcode::ReadyToTransfer);
    initiator.exp_stat_sn += 1;
    initiator.ping(b"as libiscsi does");
    initiator.assert_no_event();
    assert_eq!(initiator.target.acknowledged_stat_sn(), initiator.exp_stat_sn - 1);
}

#[test]
fn abort_task_names_the_live_task() {
    let mut initiator = Initiator::log_in("");
    let command = initiator.write(512);
    let pdu = abort_task(&mut initiator, command.initiator_task_tag, command.cmd_sn);
    let Event::TaskManagement(request) = initiator.event() else { panic!("no task management") };
    assert_eq!(request.referenced, Some(command.task));
    assert_eq!((request.function, request.ref_cmd_sn), (TaskFunction::AbortTask, command.cmd_sn));
    initiator.target.abort(command.task);
    let answer = TaskManagementResponse::FunctionComplete;
    initiator.target.respond_task_management(pdu.initiator_task_tag, answer);
    initiator.target.respond_task_management(pdu.initiator_task_tag, answer);
    let frame = initiator.receive_opcode(Opcode::TaskManagementResponse);
    assert_eq!(TaskManagementResponsePdu::parse(&frame.header).response, answer);
    initiator.assert_alive();

    abort_task(&mut initiator, command.initiator_task_tag, command.cmd_sn);
    let Event::TaskManagement(request) = initiator.event() else { panic!("no task management") };
    assert_eq!(request.referenced, None, "it is no more");
}

#[test]
fn a_command_aborted_before_it_arrives_counts_as_received() {
    let mut initiator = Initiator::log_in("");
    let lost = initiator.command(true, false, 0);
    let waiting = initiator.command(true, false, 0);
    initiator.send(&waiting.build(), &[]);
    initiator.assert_no_event();
    abort_task(&mut initiator, lost.initiator_task_tag, lost.cmd_sn);
    assert_eq!(initiator.command_event().cmd_sn, waiting.cmd_sn);
    let frame = initiator.receive_opcode(Opcode::TaskManagementResponse);
    let response = TaskManagementResponsePdu::parse(&frame.header).response;
    assert_eq!(response, TaskManagementResponse::FunctionComplete);
    initiator.send(&lost.build(), &[]);
    initiator.assert_no_event();
    initiator.assert_alive();
}

#[test]
fn a_command_aborted_ahead_of_its_turn_is_not_delivered() {
    let mut initiator = Initiator::log_in("");
    let missing = initiator.command(true, false, 0);
    let pdu = initiator.command(true, false, 0);
    initiator.send(&pdu.build(), &[]);
    abort_task(&mut initiator, pdu.initiator_task_tag, pdu.cmd_sn);
    let Event::TaskManagement(request) = initiator.event() else { panic!("no task management") };
    initiator.target.abort(request.referenced.expect("it is held"));
    initiator.send(&missing.build(), &[]);
    assert_eq!(initiator.command_event().cmd_sn, missing.cmd_sn);
    initiator.assert_no_event();
    assert_eq!(initiator.read(0).cmd_sn, pdu.cmd_sn + 1, "its number was consumed");
}

#[test]
fn an_abort_held_with_its_command_finds_the_task_only_while_it_lives() {
    for answered_before in [false, true] {
        let mut initiator = Initiator::log_in("");
        let missing = initiator.command(true, false, 0);
        let pdu = initiator.command(true, false, 0);
        initiator.send(&pdu.build(), &[]);
        let abort = abort_task_of(&mut initiator, pdu.initiator_task_tag, pdu.cmd_sn);
        initiator.cmd_sn += 1;
        initiator.send(&TaskManagementRequestPdu { immediate: false, ..abort }.build(), &[]);
        initiator.send(&missing.build(), &[]);
        assert_eq!(initiator.command_event().cmd_sn, missing.cmd_sn);
        let command = initiator.command_event();
        if answered_before {
            initiator.target.respond(command.task, ScsiResponse::good());
        }
        let Event::TaskManagement(request) = initiator.event() else { panic!("no task management") };
        assert_eq!(request.referenced, (!answered_before).then_some(command.task));
    }
}

#[test]
fn a_task_management_request_needs_a_tag_of_its_own() {
    let mut initiator = Initiator::log_in("");
    let command = initiator.read(512);
    let first = abort_task(&mut initiator, command.initiator_task_tag, command.cmd_sn);
    assert!(matches!(initiator.event(), Event::TaskManagement(_)));
    for tag in [first.initiator_task_tag, command.initiator_task_tag, RESERVED_TAG] {
        let repeated = TaskManagementRequestPdu { initiator_task_tag: tag, ..first };
        initiator.send(&repeated.build(), &[]);
        initiator.assert_no_event();
        assert_rejected(&mut initiator, RejectReason::TaskInProgress, tag);
    }
    let answer = TaskManagementResponse::TaskDoesNotExist;
    initiator.target.respond_task_management(first.initiator_task_tag, answer);
    initiator.receive_opcode(Opcode::TaskManagementResponse);
}

#[test]
fn task_management_requests_under_way_are_limited() {
    let limits = Limits { immediate_commands: 2, ..Limits::default() };
    let mut initiator = Initiator::log_in_within(limits, "");
    for _ in 0..2 {
        abort_task(&mut initiator, 9999, 0);
        assert!(matches!(initiator.event(), Event::TaskManagement(_)));
    }
    let pdu = abort_task(&mut initiator, 9999, 0);
    initiator.assert_no_event();
    assert_rejected(&mut initiator, RejectReason::TooManyImmediateCommands, pdu.initiator_task_tag);
}
