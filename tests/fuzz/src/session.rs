//! Whole sessions: sequences of PDUs, mostly plausible, against the session core, whose caller answers in any order.
//!
//! Whatever comes, what is held is bounded, answers are numbered without gaps and only given to what was asked, the command
//! window never shrinks, commands are delivered in order, and write data is handed on only when all of it was sent.

mod answers;
mod initiator;
mod target;

use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use initiator::Initiator;
use iscsi_target::Limits;
use target::Target;

/// Most steps of one session.
const MAX_STEPS: usize = 200;

/// Bytes that one call may add to the output beyond the limit: one answer, and the R2Ts of tasks that waited.
const MAX_ANSWER_BYTES: usize = 64 << 10;

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    parameters: u8,
    discovery: bool,
    steps: Vec<Step<'a>>,
}

/// What happens next.
#[derive(Debug, Arbitrary)]
enum Step<'a> {
    Command(Command),
    /// All the data that the oldest R2T asks for.
    AnswerR2t {
        pieces: u8,
    },
    DataOut(DataOut),
    Ping {
        immediate: bool,
        answer: bool,
        data: u8,
    },
    Text {
        flags: u8,
        text: &'a [u8],
    },
    SendTargets,
    TaskManagement {
        immediate: bool,
        function: u8,
        referenced: u8,
        ref_cmd_sn: u8,
        tag: Tag,
    },
    Logout {
        reason: u8,
        connection_id: u8,
    },
    /// Any header, with lengths that fit the data.
    Any {
        header: [u8; 48],
        acknowledges: bool,
        data: &'a [u8],
    },
    /// A PDU whose bits were changed on the way.
    Damaged {
        at: u16,
        bits: u8,
        data: u8,
    },
    /// Bytes that are no PDU: the stream cannot be followed afterwards.
    Garbage(&'a [u8]),
    Respond {
        task: u8,
        good: bool,
    },
    GiveData {
        task: u8,
        length: u16,
        abandon: bool,
    },
    RequestData {
        task: u8,
        length: u16,
    },
    Abort {
        task: u8,
    },
    AnswerTaskManagement,
    /// From now on the initiator reads what is sent, or does not.
    Read(bool),
    Wait {
        milliseconds: u16,
    },
}

/// The initiator's name for a task.
#[derive(Debug, Clone, Copy, Arbitrary)]
enum Tag {
    Next,
    Recent(u8),
    Any(u32),
}

#[derive(Debug, Arbitrary)]
struct Command {
    flags: u8,
    length: u16,
    data: u16,
    tag: Tag,
    /// Distance of its CmdSN from the next one.
    cmd_sn: Option<i8>,
}

#[derive(Debug, Arbitrary)]
struct DataOut {
    tag: Tag,
    /// The tag of one of the last R2Ts, or that of unsolicited data.
    transfer: Option<u8>,
    data_sn: u8,
    /// Where it begins, if not where the R2T does.
    offset: Option<u16>,
    /// How much it is, if not what the R2T asks for.
    length: Option<u16>,
    is_final: bool,
}

fn limits() -> Limits {
    Limits {
        text: 2048,
        text_keys: 20,
        max_recv_data_segment_length: 4096,
        max_burst_length: 8192,
        first_burst_length: 4096,
        max_outstanding_r2t: 4,
        command_window: 8,
        immediate_commands: 3,
        held_input: 8192,
        solicited_data: 16384,
        copied_payload: 512,
        pending_output: 8192,
        idle_output: 2048,
        ..Limits::default()
    }
}

/// Takes a session.
pub fn run(bytes: &[u8]) {
    let mut unstructured = Unstructured::new(bytes);
    let Ok(input) = Input::arbitrary(&mut unstructured) else { return };
    let mut initiator = Initiator::log_in(limits(), input.parameters, input.discovery);
    let mut target = Target::default();
    for step in input.steps.iter().take(MAX_STEPS) {
        match step {
            Step::Respond { task, good } => target.respond(&mut initiator, *task, *good),
            Step::GiveData { task, length, abandon } => {
                target.give_data(&mut initiator, *task, *length, *abandon);
            }
            Step::RequestData { task, length } => target.request_data(&mut initiator, *task, *length),
            Step::Abort { task } => target.abort(&mut initiator, *task),
            Step::AnswerTaskManagement => target.answer_task_management(&mut initiator),
            Step::Wait { milliseconds } => {
                initiator.now += Duration::from_millis(u64::from(milliseconds % 4096));
            }
            step => initiator.send_step(step),
        }
        if settle(&mut initiator, &mut target).is_break() {
            break;
        }
    }
    finish(&mut initiator, &mut target);
}

/// Has the core do all that it can do now; `Break` when the session is over.
fn settle(initiator: &mut Initiator, target: &mut Target) -> std::ops::ControlFlow<()> {
    let mut over = false;
    loop {
        let before = initiator.connection.output().len().max(limits().pending_output);
        let next = initiator.connection.next_event(initiator.now);
        let after = initiator.connection.output().len();
        assert!(after <= before + MAX_ANSWER_BYTES, "{after} bytes of output");
        match next {
            Ok(Some(event)) => target.take(initiator, event),
            Ok(None) => break,
            Err(_) => {
                over = true;
                break;
            }
        }
    }
    let limits = limits();
    if initiator.connection.wants_input() {
        let most = 48 + limits.additional_header + limits.max_recv_data_segment_length as usize + 8;
        assert!(initiator.connection.input().len() < most, "less than one PDU is left");
    }
    let tasks = usize::from(limits.command_window + limits.immediate_commands);
    assert!(target.live() <= tasks, "{} tasks", target.live());
    if initiator.connection.next_timeout().is_some_and(|due| due <= initiator.now) {
        over |= initiator.connection.handle_timeout(initiator.now).is_err();
    }
    initiator.read_answers();
    if over || initiator.connection.is_finished() {
        std::ops::ControlFlow::Break(())
    } else {
        std::ops::ControlFlow::Continue(())
    }
}

/// Tasks that are left end in any case; and when a session is over nothing happens any more.
fn finish(initiator: &mut Initiator, target: &mut Target) {
    initiator.reads = true;
    initiator.read_answers();
    while target.live() > 0 {
        target.respond(initiator, 0, true);
        initiator.read_answers();
    }
    if initiator.connection.is_finished() {
        initiator.send_step(&Step::Ping { immediate: true, answer: true, data: 1 });
        assert!(matches!(initiator.connection.next_event(initiator.now), Ok(None)));
        assert!(initiator.connection.output().is_empty());
    }
}

/// Bytes by which a wrong place is seen.
fn pattern(offset: usize, length: usize) -> Vec<u8> {
    (offset..offset + length).map(|at| (at % 251) as u8).collect()
}
