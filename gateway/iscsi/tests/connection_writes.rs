//! Output data: immediate, unsolicited and solicited, and what becomes of damaged or missing pieces.

mod initiator;

use initiator::{Initiator, pattern};
use iscsi_target::pdu::{Opcode, RESERVED_TAG, RejectPdu, RejectReason, Residual};
use iscsi_target::{Command, DataFailure, Event, ScsiResponse, ScsiStatus};

const KEYS: &str = "InitialR2T=No FirstBurstLength=1024 MaxBurstLength=2048 MaxOutstandingR2T=4";

/// Takes the data of a write, which must be complete.
fn take_data(initiator: &mut Initiator, command: &Command) -> Vec<u8> {
    match initiator.event() {
        Event::DataOut { task, data } if task == command.task => data.to_vec(),
        other => panic!("{other:?} instead of data"),
    }
}

fn take_failure(initiator: &mut Initiator, command: &Command) -> DataFailure {
    match initiator.event() {
        Event::DataFailed { task, failure } if task == command.task => failure,
        other => panic!("{other:?} instead of a failure"),
    }
}

fn finish(initiator: &mut Initiator, command: &Command) -> Residual {
    initiator.target.respond(command.task, ScsiResponse::good());
    let (response, _) = initiator.receive_response();
    assert_eq!(response.initiator_task_tag, command.initiator_task_tag);
    response.residual
}

#[test]
fn immediate_data_comes_with_the_command() {
    let mut initiator = Initiator::log_in("HeaderDigest=CRC32C DataDigest=CRC32C");
    let pdu = initiator.command(false, true, 512);
    initiator.send(&pdu.build(), &pattern(0, 512));
    let command = initiator.command_event();
    assert_eq!(command.data.as_ref().map(|data| data.to_vec()), Some(pattern(0, 512)));
    assert_eq!((command.expected_length, command.cmd_sn), (512, pdu.cmd_sn));
    assert_eq!(finish(&mut initiator, &command), Residual::None);
}

#[test]
fn solicited_data_keeps_to_the_negotiated_bursts() {
    let all = pattern(0, 10_000);
    let mut initiator = Initiator::log_in(KEYS);
    let command = initiator.write(10_000);
    assert!(command.data.is_none());
    initiator.assert_no_event();
    initiator.target.request_data(command.task, 10_000);
    assert_eq!(initiator.target.output().len(), 4 * 48, "as many R2Ts as negotiated");
    for r2t_sn in 0..5 {
        let r2t = initiator.answer_r2t(&all);
        assert_eq!((r2t.r2t_sn, r2t.buffer_offset), (r2t_sn, r2t_sn * 2048));
        if r2t_sn < 4 {
            initiator.assert_no_event();
        }
    }
    assert_eq!(take_data(&mut initiator, &command), all);
    assert_eq!(finish(&mut initiator, &command), Residual::None);
}

#[test]
fn immediate_unsolicited_and_solicited_data_make_one_payload() {
    let all = pattern(0, 3000);
    let mut initiator = Initiator::log_in(KEYS);
    let mut pdu = initiator.command(false, true, 3000);
    pdu.is_final = false;
    initiator.send(&pdu.build(), &all[..100]);
    let command = initiator.command_event();
    initiator.target.request_data(command.task, 3000);
    initiator.assert_nothing_received();
    initiator.data_out(pdu.initiator_task_tag, RESERVED_TAG, (0, 100), &all[100..500], false);
    initiator.data_out(pdu.initiator_task_tag, RESERVED_TAG, (1, 500), &all[500..1024], true);
    initiator.assert_no_event();
    let r2t = initiator.answer_r2t(&all);
    assert_eq!((r2t.buffer_offset, r2t.desired_data_transfer_length), (1024, 1976));
    assert_eq!(take_data(&mut initiator, &command), all);
    assert_eq!(finish(&mut initiator, &command), Residual::None);
}

#[test]
fn residuals_of_writes_are_exact() {
    let mut initiator = Initiator::log_in("");
    for (expected, wanted, residual) in [
        (512u32, 512, Residual::None),
        (1024, 512, Residual::Underflow(512)),
        (512, 1024, Residual::Overflow(512)),
    ] {
        let all = pattern(0, expected as usize);
        let command = initiator.write(expected);
        initiator.target.request_data(command.task, wanted);
        initiator.answer_r2t(&all);
        let fitting = expected.min(wanted) as usize;
        assert_eq!(take_data(&mut initiator, &command), all[..fitting]);
        assert_eq!(finish(&mut initiator, &command), residual);

        let pdu = initiator.command(false, true, expected);
        initiator.send(&pdu.build(), &all);
        let command = initiator.command_event();
        let response = ScsiResponse { data_out_wanted: Some(wanted), ..ScsiResponse::good() };
        initiator.target.respond(command.task, response);
        assert_eq!(initiator.receive_response().0.residual, residual, "with immediate data");
    }
    let command = initiator.write(512);
    initiator.target.respond(command.task, ScsiResponse::check_condition(&[0x70]));
    assert_eq!(initiator.receive_response().0.residual, Residual::Underflow(512));
    let no_data = initiator.command(false, false, 0);
    initiator.send(&no_data.build(), &[]);
    let command = initiator.command_event();
    assert_eq!(finish(&mut initiator, &command), Residual::None);
}

#[test]
fn data_that_no_command_wanted_is_an_underflow() {
    let mut initiator = Initiator::log_in(KEYS);
    for (immediate, is_final) in [(512, true), (0, true), (100, false), (0, false)] {
        let mut pdu = initiator.command(false, true, 512);
        pdu.is_final = is_final;
        initiator.send(&pdu.build(), &pattern(0, immediate));
        let command = initiator.command_event();
        let response = ScsiResponse { data_out_wanted: Some(0), ..ScsiResponse::good() };
        initiator.target.respond(command.task, response);
        assert_eq!(initiator.receive_response().0.residual, Residual::Underflow(512));
        if !is_final {
            let rest = pattern(immediate, 512 - immediate);
            let place = (0, immediate as u32);
            initiator.data_out(pdu.initiator_task_tag, RESERVED_TAG, place, &rest, true);
        }
        initiator.assert_alive();
    }
}

#[test]
fn a_gap_never_ends_in_good() {
    let mut initiator = Initiator::log_in(KEYS);
    let command = initiator.write(2000);
    initiator.target.request_data(command.task, 2000);
    let r2t = initiator.receive_opcode(Opcode::ReadyToTransfer);
    let transfer = iscsi_target::pdu::R2tPdu::parse(&r2t.header).target_transfer_tag;
    let tag = command.initiator_task_tag;
    initiator.data_out(tag, transfer, (0, 0), &pattern(0, 500), false);
    initiator.data_out(tag, transfer, (2, 1000), &pattern(1000, 500), false);
    initiator.assert_no_event();
    initiator.data_out(tag, transfer, (3, 1500), &pattern(1500, 500), true);
    let failure = take_failure(&mut initiator, &command);
    assert_eq!(failure.sense_code(), (0x0b, 0x47, 0x05));
    initiator.target.respond(command.task, ScsiResponse::check_condition(&[0x70]));
    initiator.receive_response();
    initiator.assert_alive();
}

#[test]
fn a_damaged_data_out_is_rejected_and_fails_the_command() {
    let mut initiator = Initiator::log_in("DataDigest=CRC32C");
    let command = initiator.write(512);
    initiator.target.request_data(command.task, 512);
    initiator.answer_r2t(&pattern(0, 512));
    let last = initiator.target.input().len() - 1;
    initiator.target.input()[last] ^= 1;
    assert_eq!(take_failure(&mut initiator, &command), DataFailure::ProtocolServiceCrc);
    let reject = initiator.receive_opcode(Opcode::Reject);
    assert_eq!(RejectPdu::parse(&reject.header).reason, RejectReason::DataDigestError);
    assert_eq!(reject.data[16..20], command.initiator_task_tag.to_be_bytes());
}

#[test]
fn damaged_immediate_data_is_rejected_and_fails_the_command_if_wanted() {
    let mut initiator = Initiator::log_in("DataDigest=CRC32C");
    let pdu = initiator.command(false, true, 512);
    initiator.send(&pdu.build(), &pattern(0, 512));
    let last = initiator.target.input().len() - 1;
    initiator.target.input()[last] ^= 1;
    let command = initiator.command_event();
    assert!(command.data.is_none());
    initiator.receive_opcode(Opcode::Reject);
    initiator.target.request_data(command.task, 512);
    assert_eq!(take_failure(&mut initiator, &command), DataFailure::ProtocolServiceCrc);
    initiator.target.respond(command.task, ScsiResponse::check_condition(&[0x70]));
    assert_eq!(initiator.receive_response().0.status, ScsiStatus::CheckCondition);
    assert_eq!(initiator.write(0).cmd_sn, pdu.cmd_sn + 1, "the CmdSN was consumed");
}

#[test]
fn unsolicited_data_of_failed_commands_is_discarded_silently() {
    let mut initiator = Initiator::log_in(KEYS);
    let mut pdu = initiator.command(false, true, 1024);
    pdu.is_final = false;
    initiator.send(&pdu.build(), &[]);
    let command = initiator.command_event();
    initiator.target.respond(command.task, ScsiResponse::check_condition(&[0x70]));
    initiator.receive_response();
    initiator.data_out(pdu.initiator_task_tag, RESERVED_TAG, (0, 0), &pattern(0, 512), false);
    initiator.data_out(pdu.initiator_task_tag, RESERVED_TAG, (1, 512), &pattern(512, 512), true);
    initiator.assert_alive();
}

#[test]
fn data_of_aborted_tasks_is_discarded_silently() {
    let mut initiator = Initiator::log_in(KEYS);
    let command = initiator.write(4096);
    initiator.target.request_data(command.task, 4096);
    initiator.answer_r2t(&pattern(0, 4096));
    initiator.target.abort(command.task);
    initiator.assert_no_event();
    initiator.answer_r2t(&pattern(0, 4096));
    initiator.assert_alive();
}

#[test]
fn data_that_waits_for_the_caller_is_discarded_with_its_task() {
    let mut initiator = Initiator::log_in(KEYS);
    let pdu = initiator.command(false, true, 512);
    initiator.send(&pdu.build(), &pattern(0, 512));
    let command = initiator.command_event();
    initiator.target.request_data(command.task, 512);
    initiator.target.abort(command.task);
    initiator.assert_no_event();
}

#[test]
fn unsolicited_data_against_the_negotiation_fails() {
    let mut initiator = Initiator::log_in("InitialR2T=Yes ImmediateData=No");
    let pdu = initiator.command(false, true, 512);
    initiator.send(&pdu.build(), &pattern(0, 512));
    let command = initiator.command_event();
    assert!(command.data.is_none());
    initiator.target.request_data(command.task, 512);
    assert_eq!(take_failure(&mut initiator, &command), DataFailure::UnexpectedUnsolicitedData);
}
