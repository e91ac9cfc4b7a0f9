//! Output that the initiator does not take: how much of it the connection adds by itself.

mod initiator;

use initiator::Initiator;
use iscsi_target::pdu::{BasicHeader, Opcode};
use iscsi_target::{Limits, ScsiResponse};

const PENDING: usize = 10_000;

fn limits() -> Limits {
    Limits { pending_output: PENDING, ..Limits::default() }
}

/// Sends the output in pieces until the connection has nothing more to say, and counts the PDUs.
fn drain(initiator: &mut Initiator, largest: usize) -> usize {
    let mut received = 0;
    loop {
        initiator.assert_no_event();
        assert!(initiator.target.output().len() < PENDING + largest, "one answer beyond the limit");
        if initiator.try_receive().is_none() {
            return received;
        }
        received += 1;
        while initiator.try_receive().is_some() {
            received += 1;
        }
    }
}

#[test]
fn answers_wait_until_the_initiator_takes_the_ones_before() {
    let mut initiator = Initiator::log_in_within(limits(), "");
    for _ in 0..100 {
        initiator.ping(&[7; 1000]);
        initiator.text_request("SendTargets=All");
        initiator.send(&BasicHeader::new(Opcode::from_code(0x07), 0x80), &[]);
    }
    initiator.assert_no_event();
    assert!(initiator.target.output().len() >= PENDING && !initiator.target.input().is_empty());
    assert!(!initiator.target.wants_input(), "it has enough");
    assert_eq!(drain(&mut initiator, 2000), 300);
    assert!(initiator.target.input().is_empty() && initiator.target.wants_input());
    initiator.assert_alive();
}

#[test]
fn held_requests_wait_for_the_output_too() {
    let mut initiator = Initiator::log_in_within(limits(), "");
    let missing = initiator.command(true, false, 0);
    for _ in 0..50 {
        let mut ping = initiator.ping(&[]);
        ping.immediate = false;
        ping.initiator_task_tag = initiator.tag();
        initiator.cmd_sn += 1;
        initiator.send(&ping.build(), &[7; 1000]);
    }
    drain(&mut initiator, 2000);
    initiator.send(&missing.build(), &[]);
    let command = initiator.command_event();
    initiator.assert_no_event();
    assert!(initiator.target.output().len() < PENDING + 2000);
    let last = initiator.ping(&[]);
    assert_eq!(drain(&mut initiator, 2000), 51);
    initiator.target.respond(command.task, ScsiResponse::good());
    let (response, _) = initiator.receive_response();
    assert_eq!(response.sequence.exp_cmd_sn, initiator.cmd_sn, "all of them acted");
    assert_eq!(last.cmd_sn, initiator.cmd_sn);
}
