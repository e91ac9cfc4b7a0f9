//! Whole sessions: sequences of PDUs, mostly plausible, against the session core, whose caller answers in any order.
//!
//! Whatever comes, what is held is bounded, answers are numbered without gaps and only given to what was asked, the command
//! window never shrinks, commands are delivered in order, and write data is handed on only when all of it was sent.

mod answers;
mod initiator;
mod target;
mod transfers;

use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use initiator::Initiator;
use iscsi_target::Limits;
use target::Target;

/// Most steps of one session.
const MAX_STEPS: usize = 200;

/// Expected lengths are below this: a few bursts.
const MAX_TRANSFER_BYTES: u16 = 6000;

/// Bytes that one call may add to the output beyond the limit: one answer, and the R2Ts of tasks that waited.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// What happens next.
#[derive(Debug, Arbitrary)]
enum Step<'a> {
    Command(Command),
    /// As many commands as there may be at once, or more.
    Crowd {
        count: u8,
        immediate: bool,
    },
    /// All the data that was asked for, or that follows a command unasked, mostly what is due first; perhaps with one slip.
    SendAsked {
        which: u8,
        pieces: u8,
        slip: Option<(u8, Slip)>,
    },
    DataOut(DataOut),
    Ping {
        immediate: bool,
        answer: bool,
        data: u8,
    },
    Text {
        flags: u8,
        text: Bytes<'a>,
    },
    SendTargets,
    TaskManagement {
        immediate: bool,
        function: u8,
        referenced: u8,
        ref_cmd_sn: u8,
        tag: Tag,
    },
    Rare(Rare<'a>),
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

/// What often ends a session, or leaves little to be said of it: as likely as any other step, all of it together.
#[derive(Debug, Arbitrary)]
enum Rare<'a> {
    Logout {
        reason: u8,
        connection_id: u8,
    },
    /// Any header, with lengths that fit the data.
    Any {
        header: [u8; 48],
        acknowledges: bool,
        data: Bytes<'a>,
    },
    /// A PDU whose bits were changed on the way.
    Damaged {
        at: u16,
        bits: u8,
        data: u8,
    },
    /// Bytes that are no PDU: the stream cannot be followed afterwards.
    Garbage(Bytes<'a>),
}

/// Mostly few, so that something is left for the steps to come.
#[derive(Debug)]
struct Bytes<'a>(&'a [u8]);

impl<'a> Arbitrary<'a> for Bytes<'a> {
    fn arbitrary(input: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let length = match u8::arbitrary(input)? {
            few @ ..240 => usize::from(few) / 4,
            many => usize::from(many - 239) << 8,
        };
        Ok(Self(input.bytes(length.min(input.len()))?))
    }
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
    /// Immediate data.
    data: Option<u16>,
    tag: Tag,
    /// Distance of its CmdSN from the next one.
    cmd_sn: Option<i8>,
}

/// What is wrong with one Data-Out among sound ones.
#[derive(Debug, Clone, Copy, Arbitrary)]
enum Slip {
    Offset(i16),
    DataSn(i8),
    TransferTag(i8),
    Length(i8),
    Repeated,
    Unfinished,
    Damaged,
}

#[derive(Debug, Arbitrary)]
struct DataOut {
    tag: Tag,
    /// One of the bursts that were not sent yet; else it is unsolicited.
    burst: Option<u8>,
    /// Its number, if not the next one.
    data_sn: Option<u8>,
    /// Where it begins, if not where the burst goes on.
    offset: Option<u16>,
    /// How much it is, if not what the burst lacks.
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
    let mut input = Unstructured::new(bytes);
    let Ok(kind) = u8::arbitrary(&mut input) else { return };
    let mut initiator = Initiator::log_in(limits(), kind % 4, kind >= 0xf0);
    let mut target = Target::default();
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        let Ok(step) = Step::arbitrary(&mut input) else { break };
        match &step {
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
    assert!(target.live_by_kind(false) <= usize::from(limits.command_window), "within the window");
    assert!(target.live_by_kind(true) <= usize::from(limits.immediate_commands), "immediate ones");
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
