//! How much write data a connection holds: R2Ts wait while tasks with their data are not ended, and the
//! oldest task never waits for a younger one.

mod initiator;

use initiator::{Initiator, pattern};
use iscsi_target::pdu::{Opcode, R2tPdu, RESERVED_TAG};
use iscsi_target::{Command, Event, Limits, ScsiResponse};

const KEYS: &str = "InitialR2T=No FirstBurstLength=1024 MaxBurstLength=4096 MaxOutstandingR2T=1";
const BUDGET: u64 = 6000;
const WRITE: u32 = 4096;

fn log_in() -> Initiator {
    Initiator::log_in_within(Limits { solicited_data: BUDGET, ..Limits::default() }, KEYS)
}

/// Writes without data, delivered to the caller.
fn writes(initiator: &mut Initiator, count: usize) -> Vec<Command> {
    (0..count).map(|_| initiator.write(WRITE)).collect()
}

/// A write with this much immediate data, delivered to the caller.
fn write_with(initiator: &mut Initiator, immediate: usize) -> Command {
    let pdu = initiator.command(false, true, WRITE);
    initiator.send(&pdu.build(), &pattern(0, immediate));
    initiator.command_event()
}

/// The next R2T is this task's; it is answered, and the data is handed over.
fn complete(initiator: &mut Initiator, command: &Command) {
    let r2t = initiator.answer_r2t(&pattern(0, WRITE as usize));
    assert_eq!(r2t.initiator_task_tag, command.initiator_task_tag);
    let Event::DataOut { task, data } = initiator.event() else { panic!("no data") };
    assert_eq!((task, data.to_vec()), (command.task, pattern(0, WRITE as usize)));
}

fn respond(initiator: &mut Initiator, command: &Command) {
    initiator.target.respond(command.task, ScsiResponse::good());
    initiator.receive_opcode(Opcode::ScsiResponse);
}

#[test]
fn complete_data_counts_until_its_task_ends() {
    let mut initiator = log_in();
    let commands = writes(&mut initiator, 3);
    for command in &commands {
        initiator.target.request_data(command.task, WRITE);
    }
    for command in &commands {
        complete(&mut initiator, command);
        initiator.assert_nothing_received();
        respond(&mut initiator, command);
    }
    initiator.assert_nothing_received();
}

#[test]
fn an_abort_gives_its_share_back() {
    let mut initiator = log_in();
    let commands = writes(&mut initiator, 3);
    for command in &commands {
        initiator.target.request_data(command.task, WRITE);
    }
    complete(&mut initiator, &commands[0]);
    initiator.assert_nothing_received();
    initiator.target.abort(commands[1].task);
    initiator.assert_nothing_received();
    initiator.target.abort(commands[0].task);
    complete(&mut initiator, &commands[2]);
}

#[test]
fn data_that_failed_counts_until_its_task_ends() {
    let mut initiator = log_in();
    let commands = writes(&mut initiator, 2);
    for command in &commands {
        initiator.target.request_data(command.task, WRITE);
    }
    let r2t = R2tPdu::parse(&initiator.receive_opcode(Opcode::ReadyToTransfer).header);
    initiator.data_out(r2t.initiator_task_tag, r2t.target_transfer_tag, (0, 0), &[0; 5], true);
    assert!(matches!(initiator.event(), Event::DataFailed { .. }));
    initiator.assert_nothing_received();
    respond(&mut initiator, &commands[0]);
    complete(&mut initiator, &commands[1]);
}

#[test]
fn unsolicited_data_counts_too() {
    let mut initiator = log_in();
    let commands: Vec<Command> = (0..3).map(|_| write_with(&mut initiator, 1000)).collect();
    for command in &commands {
        initiator.target.request_data(command.task, WRITE);
    }
    // 3 x 1000 bytes are there, 3096 more do not fit; but the oldest never waits.
    complete(&mut initiator, &commands[0]);
    initiator.assert_nothing_received();
    respond(&mut initiator, &commands[0]);
    complete(&mut initiator, &commands[1]);
    initiator.assert_nothing_received();
}

#[test]
fn unsolicited_data_counts_before_all_of_it_is_there() {
    let mut initiator = log_in();
    let mut announced = initiator.command(false, true, 1024);
    announced.is_final = false;
    initiator.send(&announced.build(), &[]);
    let first = initiator.command_event();
    let second = writes(&mut initiator, 2);
    for command in [&first, &second[0], &second[1]] {
        initiator.target.request_data(command.task, command.expected_length);
    }
    complete(&mut initiator, &second[0]);
    initiator.assert_nothing_received();
    initiator.data_out(announced.initiator_task_tag, RESERVED_TAG, (0, 0), &pattern(0, 1024), true);
    assert!(matches!(initiator.event(), Event::DataOut { .. }));
    respond(&mut initiator, &second[0]);
    complete(&mut initiator, &second[1]);
}

#[test]
fn the_oldest_proceeds_though_the_younger_ones_hold_everything() {
    let mut initiator = log_in();
    let oldest = initiator.write(WRITE);
    let younger: Vec<Command> = (0..6).map(|_| write_with(&mut initiator, 1024)).collect();
    for command in &younger {
        initiator.target.request_data(command.task, 1024);
        assert!(matches!(initiator.event(), Event::DataOut { .. }));
    }
    initiator.target.request_data(oldest.task, WRITE);
    complete(&mut initiator, &oldest);
}

#[test]
fn the_budget_goes_by_the_order_of_the_commands() {
    let mut initiator = log_in();
    let commands = writes(&mut initiator, 4);
    for at in [3, 0, 2, 1] {
        initiator.target.request_data(commands[at].task, WRITE);
    }
    // The youngest asked when nobody else did; the oldest does not wait for it.
    complete(&mut initiator, &commands[3]);
    complete(&mut initiator, &commands[0]);
    respond(&mut initiator, &commands[0]);
    complete(&mut initiator, &commands[1]);
    respond(&mut initiator, &commands[1]);
    complete(&mut initiator, &commands[2]);
    respond(&mut initiator, &commands[2]);
    respond(&mut initiator, &commands[3]);
    initiator.assert_nothing_received();
}

#[test]
fn what_waits_ahead_of_its_turn_never_holds_up_what_is_next() {
    let mut initiator = log_in();
    let missing = initiator.command(false, true, WRITE);
    for _ in 0..8 {
        let early = initiator.command(false, true, 1024);
        initiator.send(&early.build(), &pattern(0, 1024));
    }
    initiator.assert_no_event();
    initiator.send(&missing.build(), &[]);
    let first = initiator.command_event();
    initiator.target.request_data(first.task, WRITE);
    let r2t = initiator.answer_r2t(&pattern(0, WRITE as usize));
    assert_eq!(r2t.initiator_task_tag, missing.initiator_task_tag);
}

#[test]
fn one_task_alone_may_exceed_the_budget() {
    let mut initiator = log_in();
    let length = 4 * WRITE;
    let all = pattern(0, length as usize);
    let large = initiator.write(length);
    let small = initiator.write(WRITE);
    initiator.target.request_data(large.task, length);
    initiator.target.request_data(small.task, WRITE);
    for _ in 0..4 {
        assert_eq!(initiator.answer_r2t(&all).initiator_task_tag, large.initiator_task_tag);
        initiator.next_event().expect("the connection lives");
    }
    initiator.assert_nothing_received();
    respond(&mut initiator, &large);
    complete(&mut initiator, &small);
}
