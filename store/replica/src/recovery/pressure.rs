//! How much of its pace recovery takes while clients wait longer than they should.

use crate::process::Moment;

/// All of the pace, in the parts in which it is counted.
pub(super) const FULL: u64 = 16;

/// How long a pace stays, at least.
const SETTLES_US: u64 = 1_000_000;

/// The pace halves while clients wait too long, down to one part, and doubles again when they do not.
#[derive(Debug)]
pub(super) struct Pressure {
    share: u64,
    changed_at: Moment,
}

impl Default for Pressure {
    fn default() -> Self {
        Self { share: FULL, changed_at: Moment::default() }
    }
}

impl Pressure {
    /// Never 0.
    pub(super) fn share(&self) -> u64 {
        self.share
    }

    pub(super) fn latency(&mut self, now: Moment, is_high: bool) {
        if now.since(self.changed_at) >= SETTLES_US {
            self.share = if is_high { (self.share / 2).max(1) } else { (self.share * 2).min(FULL) };
            self.changed_at = now;
        }
    }
}
