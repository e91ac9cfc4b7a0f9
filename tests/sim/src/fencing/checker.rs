//! The checker: writes take effect at one place, so their true order is the only possible linearisation.

use std::collections::BTreeMap;
use std::fmt;

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
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ghost => {
                "ghost: it changes the block after its write was acknowledged through another attempt"
            }
            Self::Twice => "ghost: it changes the block for the second time",
            Self::Late => "late: its initiator had sent the command again",
            Self::Overtaken => "overtaken: a later write of the session was before it",
        })
    }
}

/// A write that an initiator wants done, however often it has to send it.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) block: usize,
    /// Unlike that of any other.
    pub(super) value: u64,
    acknowledged_at: Option<Ms>,
    last_attempt: Option<usize>,
}

/// One command for an operation.
#[derive(Debug)]
struct Attempt {
    operation: usize,
    connection: usize,
    effects: u32,
    path_failed_at: Option<Ms>,
    sent_again_at: Option<Ms>,
}

/// All that was asked for, and what became of it.
#[derive(Debug, Default)]
pub(super) struct Checker {
    operations: Vec<Operation>,
    attempts: Vec<Attempt>,
    blocks: [u64; BLOCKS],
    /// The last attempt that took effect, by connection and block.
    last_effects: BTreeMap<(usize, usize), usize>,
    pub(super) violations: Vec<Violation>,
    pub(super) acknowledged: u64,
    pub(super) retries: u64,
    /// Longest time from a path's failure to an effect of what was sent on it, by the fastest clock.
    pub(super) worst_us: u64,
}

impl Checker {
    pub(super) fn begin(&mut self, block: usize) -> usize {
        let value = self.operations.len() as u64 + 1;
        self.operations.push(Operation { block, value, acknowledged_at: None, last_attempt: None });
        self.operations.len() - 1
    }

    /// The operation is sent, perhaps again.
    pub(super) fn attempt(&mut self, operation: usize, connection: usize, now: Ms) -> usize {
        let number = self.attempts.len();
        if let Some(before) = self.operations[operation].last_attempt.replace(number) {
            self.attempts[before].sent_again_at = Some(now);
            self.retries += 1;
        }
        self.attempts.push(Attempt {
            operation,
            connection,
            effects: 0,
            path_failed_at: None,
            sent_again_at: None,
        });
        number
    }

    pub(super) fn path_failed(&mut self, attempt: usize, now: Ms) {
        self.attempts[attempt].path_failed_at = Some(now);
    }

    pub(super) fn acknowledge(&mut self, operation: usize, now: Ms) {
        self.operations[operation].acknowledged_at = Some(now);
        self.acknowledged += 1;
    }

    pub(super) fn operation(&self, attempt: usize) -> &Operation {
        &self.operations[self.attempts[attempt].operation]
    }

    /// An attempt takes effect. Returns what is wrong with that.
    pub(super) fn effect(&mut self, number: usize, now: Ms) -> Vec<Violation> {
        let attempt = &mut self.attempts[number];
        let operation = &self.operations[attempt.operation];
        if let Some(failed_at) = attempt.path_failed_at {
            self.worst_us = self.worst_us.max((now - failed_at) * FASTEST);
        }
        let content = &mut self.blocks[operation.block];
        let changes = *content != operation.value;
        *content = operation.value;
        attempt.effects += 1;
        let is_first = attempt.effects == 1;
        let last = self.last_effects.entry((attempt.connection, operation.block)).or_default();
        let is_overtaken = is_first && *last > number;
        *last = (*last).max(number);
        let is_before = |at: Option<Ms>| at.is_some_and(|at| at < now);
        let found = [
            (changes && is_before(operation.acknowledged_at), Violation::Ghost),
            (changes && !is_first, Violation::Twice),
            (is_before(attempt.sent_again_at), Violation::Late),
            (is_overtaken, Violation::Overtaken),
        ];
        let found: Vec<_> =
            found.into_iter().filter_map(|(is_wrong, what)| is_wrong.then_some(what)).collect();
        self.violations.extend(&found);
        found
    }
}
