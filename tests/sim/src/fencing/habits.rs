//! What distinguishes one seed's run from another's: what is slow, who is nervous, where threads stall.

use std::time::Duration;

use crate::Random;
use crate::clock::Ms;

/// Where a thread of a gateway may stall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Before it reads what a connection received.
    Read,
    /// Before a request's stamp is taken.
    TakeStamp,
    /// Between the stamp and the clock.
    CheckProof,
    /// Between the decision to send and the socket to the store.
    Send,
    /// Before responses are numbered.
    Number,
    /// Between their numbers and the socket.
    Write,
    /// After the socket took them.
    Written,
    /// Between a store's reply and the clock.
    Reply,
    /// Before a ping.
    Ping,
}

const STEPS: [Option<Step>; 10] = [
    Some(Step::Read),
    Some(Step::TakeStamp),
    Some(Step::CheckProof),
    Some(Step::Send),
    Some(Step::Number),
    Some(Step::Write),
    Some(Step::Written),
    Some(Step::Reply),
    Some(Step::Ping),
    None,
];

/// How often a favourite step stalls, in a thousand.
const FAVOURITE_STALLS: u64 = 50;

/// The habits of one seed. Chances are in a thousand.
#[derive(Debug)]
pub(super) struct Habits {
    pub(super) stalls: u64,
    /// The step that stalls more often than others.
    pub(super) favourite: Option<Step>,
    /// A segment of TCP is late.
    pub(super) slow_tcp: u64,
    /// A request waits in a store's queue.
    pub(super) slow_queue: u64,
    /// Another store becomes primary right after a write, whose reply is late.
    pub(super) restless: u64,
    /// A path fails right after a command was sent on it.
    pub(super) nervous: u64,
    /// The path of a command dies while that stalls for long.
    pub(super) malice: u64,
    /// News of the ledger are late.
    pub(super) late_news: u64,
    /// Resets, preemptions, unmappings and snapshots, of faults.
    pub(super) records: u64,
    /// Somebody resets or preempts right after a command was sent.
    pub(super) spite: u64,
    /// An initiator whose abort is not answered resets before it gives up the path.
    pub(super) resets_first: bool,
    /// An initiator sends FIN when it closes.
    pub(super) fin: u64,
    /// A WRITE's data comes after an R2T.
    pub(super) solicited: u64,
    /// Longest time until a lost path is tried again.
    pub(super) reconnect_ms: Ms,
    /// An initiator aborts a command after this much of its time.
    pub(super) command_timeout: Duration,
    /// Longest time between two faults.
    pub(super) longest_calm_ms: Ms,
    /// Longest stall.
    pub(super) longest_stall_ms: Ms,
    /// Longest time between two commands of one slot.
    pub(super) idle_ms: Ms,
    /// An initiator sends the commands of a failed path on another after this much of its time.
    pub(super) replacement_timeout: Duration,
}

impl Habits {
    pub(super) fn new(random: &mut Random) -> Self {
        Self {
            stalls: random.pick(&[0, 2, 8, 25]),
            favourite: random.pick(&STEPS),
            slow_tcp: random.pick(&[10, 10, 200]),
            slow_queue: random.pick(&[30, 30, 300]),
            restless: random.pick(&[0, 5, 20]),
            nervous: random.pick(&[0, 0, 20]),
            malice: random.pick(&[0, 200, 600]),
            late_news: random.pick(&[0, 50, 400]),
            records: random.pick(&[0, 100, 500]),
            spite: random.pick(&[0, 0, 20]),
            resets_first: random.permille(500),
            fin: random.pick(&[0, 500, 1000]),
            solicited: random.pick(&[0, 300, 700]),
            reconnect_ms: random.pick(&[5, 5, 12_000]),
            command_timeout: Duration::from_secs(random.pick(&[30, 5, 2])),
            longest_calm_ms: 4_000,
            longest_stall_ms: 60_000,
            idle_ms: random.pick(&[50, 400, 2000]),
            replacement_timeout: Duration::from_secs(5),
        }
    }

    /// The same for a short run, in which all has to come sooner.
    pub(super) fn hurry(&mut self, random: &mut Random) {
        self.command_timeout = Duration::from_secs(random.pick(&[1, 2, 5]));
        self.idle_ms = random.pick(&[5, 50, 400]);
        self.reconnect_ms = random.pick(&[5, 5, 7_000]);
        self.longest_calm_ms = 2_000;
        self.longest_stall_ms = 8_000;
    }

    /// The time before a step: mostly none, sometimes a stall.
    pub(super) fn stall(&self, step: Step, random: &mut Random) -> Ms {
        let is_favourite = self.favourite == Some(step);
        if !random.permille(if is_favourite { FAVOURITE_STALLS } else { self.stalls }) {
            return random.below(2);
        }
        let longest = if is_favourite { [700, 2_500, 12_000, 12_000] } else { [700, 2_500, 8_000, 60_000] };
        let longest: Ms = random.pick(&longest);
        random.below(longest.min(self.longest_stall_ms))
    }
}
