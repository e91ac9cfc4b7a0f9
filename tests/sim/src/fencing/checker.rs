//! The checker: writes take effect at one place, so their true order is the only possible linearisation.

use std::collections::BTreeMap;
use std::fmt;

use super::ledger::Record;
use crate::Effect;
use crate::clock::{FASTEST, Ms};

/// Blocks of the one disk: few, so that writes meet.
pub(super) const BLOCKS: usize = 2;

/// A promise that was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// An effect changes the block after its write was acknowledged, by a retry.
    Ghost,
    /// An attempt changes the block for the second time.
    Twice,
    /// An attempt takes effect after its initiator sent the command again.
    Late,
    /// A write takes effect after one of the same session that was sent later and overlaps it.
    Overtaken,
    /// A write takes effect after a reset, a preemption or an unmapping was answered that concerns it.
    Banned,
    /// A write takes effect on what a snapshot froze.
    Frozen,
    /// What initiators saw of a block of a cluster cannot be explained.
    Unexplained,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ghost => {
                "ghost: it changes the block after its write was acknowledged through another attempt"
            }
            Self::Twice => "ghost: it changes the block for the second time",
            Self::Late => "late: its initiator had sent the command again",
            Self::Banned => "banned: a reset, a preemption or an unmapping that gave it up had been answered",
            Self::Frozen => "frozen: it changes what a snapshot had frozen",
            Self::Unexplained => "what was seen of a block cannot be explained",
            Self::Overtaken => "overtaken: a later write of the session was before it",
        })
    }
}

/// A write that an initiator wants done, however often it has to send it.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) block: usize,
    pub(super) is_read: bool,
    /// Unlike that of any other.
    pub(super) value: u64,
    acknowledged_at: Option<Ms>,
    last_attempt: Option<usize>,
}

/// One command for an operation.
#[derive(Debug)]
struct Attempt {
    operation: usize,
    initiator: usize,
    connection: usize,
    /// When a gateway had it.
    received_at: Option<Ms>,
    effects: u32,
    sent_at: Ms,
    path_failed_at: Option<Ms>,
    sent_again_at: Option<Ms>,
    answered_at: Option<Ms>,
    /// What a read found.
    found: Option<u64>,
}

/// What is not to be any more once something was answered.
#[derive(Debug)]
pub(super) struct Ban {
    /// All, or one.
    initiator: Option<usize>,
    /// What was received before is given up for good.
    gives_up: bool,
    /// The initiator may not use the disk until the ban is lifted.
    excludes: bool,
    wanted_at: Ms,
    answered_at: Option<Ms>,
    lifted_at: Option<Ms>,
}

impl Ban {
    pub(super) fn new(record: Record, now: Ms) -> Self {
        let (initiator, gives_up, excludes) = match record {
            Record::Preempt { of, aborts } => (Some(of), aborts, true),
            Record::Unmap { of } => (Some(of), true, true),
            _ => (None, true, false),
        };
        Self { initiator, gives_up, excludes, wanted_at: now, answered_at: None, lifted_at: None }
    }

    /// When it was answered, if it gave up the attempt for good.
    fn gave_up(&self, attempt: &Attempt) -> Option<Ms> {
        let concerns = self.initiator.is_none_or(|one| one == attempt.initiator);
        let is_before = attempt.received_at.is_some_and(|at| at < self.wanted_at);
        self.answered_at.filter(|_| self.gives_up && concerns && is_before)
    }

    /// Whether what a gateway had at that time must not take effect now.
    fn forbids(&self, initiator: usize, received_at: Ms, now: Ms) -> bool {
        let is_answered = self.answered_at.is_some_and(|at| at < now);
        if !is_answered || self.initiator.is_some_and(|one| one != initiator) {
            return false;
        }
        let is_excluded = match self.lifted_at {
            // What nobody gave up may be carried out when it is lifted.
            Some(lifted_at) => self.gives_up && received_at < lifted_at,
            None => true,
        };
        self.gives_up && received_at < self.wanted_at || self.excludes && is_excluded
    }
}

/// All that was asked for, and what became of it.
#[derive(Debug, Default)]
pub(super) struct Checker {
    operations: Vec<Operation>,
    attempts: Vec<Attempt>,
    blocks: [u64; BLOCKS],
    /// The last attempt that took effect, by connection and block.
    last_effects: BTreeMap<(usize, usize), usize>,
    bans: Vec<Ban>,
    pub(super) violations: Vec<Violation>,
    pub(super) acknowledged: u64,
    pub(super) retries: u64,
    /// Longest time from a path's failure to an effect of what was sent on it, by the fastest clock.
    pub(super) worst_us: u64,
}

impl Checker {
    pub(super) fn begin(&mut self, block: usize, is_read: bool) -> usize {
        let value = self.operations.len() as u64 + 1;
        self.operations.push(Operation { block, is_read, value, acknowledged_at: None, last_attempt: None });
        self.operations.len() - 1
    }

    /// The operation is sent, perhaps again.
    pub(super) fn attempt(&mut self, operation: usize, from: (usize, usize), now: Ms) -> usize {
        let number = self.attempts.len();
        if let Some(before) = self.operations[operation].last_attempt.replace(number) {
            self.attempts[before].sent_again_at = Some(now);
            self.retries += 1;
        }
        self.attempts.push(Attempt {
            operation,
            initiator: from.0,
            connection: from.1,
            received_at: None,
            effects: 0,
            sent_at: now,
            path_failed_at: None,
            sent_again_at: None,
            answered_at: None,
            found: None,
        });
        number
    }

    /// How many attempts there were.
    pub(super) fn attempts(&self) -> usize {
        self.attempts.len()
    }

    /// A gateway has it.
    pub(super) fn received(&mut self, attempt: usize, now: Ms) {
        self.attempts[attempt].received_at = Some(now);
    }

    /// Something is to be given up, or somebody excluded.
    pub(super) fn ban(&mut self, ban: Ban) -> usize {
        self.bans.push(ban);
        self.bans.len() - 1
    }

    /// That was answered: from here on it holds.
    pub(super) fn answer_ban(&mut self, ban: usize, now: Ms) {
        self.bans[ban].answered_at = Some(now);
    }

    /// An initiator may use the disk again.
    pub(super) fn lift_bans(&mut self, initiator: usize, now: Ms) {
        for ban in self.bans.iter_mut().filter(|ban| ban.initiator == Some(initiator)) {
            ban.lifted_at = ban.lifted_at.or(Some(now));
        }
    }

    pub(super) fn path_failed(&mut self, attempt: usize, now: Ms) {
        self.attempts[attempt].path_failed_at = Some(now);
    }

    pub(super) fn acknowledge(&mut self, attempt: usize, now: Ms) {
        let attempt = &mut self.attempts[attempt];
        attempt.answered_at = Some(now);
        let operation = attempt.operation;
        self.operations[operation].acknowledged_at = Some(now);
        self.acknowledged += 1;
    }

    /// A store says what a read found.
    pub(super) fn found(&mut self, attempt: usize, value: u64) {
        self.attempts[attempt].found = Some(value);
    }

    pub(super) fn operation(&self, attempt: usize) -> &Operation {
        &self.operations[self.attempts[attempt].operation]
    }

    /// An attempt takes effect, perhaps on what a snapshot froze. Returns what is wrong with that.
    pub(super) fn effect(&mut self, number: usize, is_frozen: bool, now: Ms) -> Vec<Violation> {
        let attempt = &self.attempts[number];
        let operation = &self.operations[attempt.operation];
        let content = &mut self.blocks[operation.block];
        let changes = *content != operation.value;
        *content = operation.value;
        let is_acknowledged = operation.acknowledged_at.is_some_and(|at| at < now);
        let found = [
            (changes && is_acknowledged, Violation::Ghost),
            (changes && attempt.effects > 0, Violation::Twice),
            (is_frozen, Violation::Frozen),
        ];
        let mut found = self.violated(&found);
        found.extend(self.version(number, now));
        found
    }

    /// An attempt gets a version, under which it may be seen from here on. Returns what is wrong with that, whatever becomes
    /// of it.
    pub(super) fn version(&mut self, number: usize, now: Ms) -> Vec<Violation> {
        let attempt = &mut self.attempts[number];
        let block = self.operations[attempt.operation].block;
        if let Some(failed_at) = attempt.path_failed_at {
            self.worst_us = self.worst_us.max((now - failed_at) * FASTEST);
        }
        attempt.effects += 1;
        let last = self.last_effects.entry((attempt.connection, block)).or_default();
        let is_overtaken = attempt.effects == 1 && *last > number;
        *last = (*last).max(number);
        let received_at = attempt.received_at.unwrap_or(now);
        let is_banned = self.bans.iter().any(|ban| ban.forbids(attempt.initiator, received_at, now));
        let is_late = attempt.sent_again_at.is_some_and(|at| at < now);
        let found = [
            (is_late, Violation::Late),
            (is_overtaken, Violation::Overtaken),
            (is_banned, Violation::Banned),
        ];
        self.violated(&found)
    }

    fn violated(&mut self, found: &[(bool, Violation)]) -> Vec<Violation> {
        let found: Vec<_> = found.iter().filter_map(|(is_wrong, what)| is_wrong.then_some(*what)).collect();
        self.violations.extend(&found);
        found
    }

    /// What initiators know of each attempt, by block: when it took effect, if it did. A write that was not acknowledged has no
    /// effect after it was sent again, or was given up by a reset that was answered.
    pub(super) fn observations(&self) -> impl Iterator<Item = (usize, crate::Attempt)> {
        let us = |ms: Ms| ms * 1000;
        (1..).zip(&self.attempts).filter_map(move |(value, attempt)| {
            let operation = &self.operations[attempt.operation];
            let effect = match attempt.found.filter(|_| operation.is_read) {
                Some(found) => Effect::Read(found),
                None if operation.is_read => return None,
                None => Effect::Write(value),
            };
            let given_up = self.bans.iter().filter_map(|ban| ban.gave_up(attempt));
            let ends = [attempt.answered_at, attempt.sent_again_at].into_iter().flatten().chain(given_up);
            let end = ends.min().map_or(u64::MAX, |end| us(end) + 999);
            let answered = attempt.answered_at.is_some();
            let start = us(attempt.sent_at);
            Some((operation.block, crate::Attempt { effect, start, end, answered, stable: false }))
        })
    }
}
