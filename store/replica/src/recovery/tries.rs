//! How often in a row a learner did not make it, and how long nobody tries again.

use super::RecoveryLimits;
use crate::process::Moment;

/// What became of one learner of one partition.
#[derive(Debug, Default)]
pub(super) struct Tries {
    failures: u32,
    not_before: Moment,
    in_sync_since: Option<Moment>,
}

impl Tries {
    pub(super) fn is_due(&self, now: Moment) -> bool {
        self.not_before <= now
    }

    pub(super) fn succeeded(&mut self, now: Moment) {
        self.in_sync_since = Some(now);
    }

    /// It did not learn, or it dropped out.
    pub(super) fn failed(&mut self, now: Moment, limits: &RecoveryLimits) {
        let was_in_sync = self.in_sync_since.take();
        if was_in_sync.is_some_and(|since| now.since(since) > limits.longest_pause_us) {
            self.failures = 0;
        }
        let doubled =
            limits.first_pause_us.saturating_mul(1_u64.checked_shl(self.failures).unwrap_or(u64::MAX));
        self.not_before = now.after(doubled.min(limits.longest_pause_us));
        self.failures = self.failures.saturating_add(1);
    }
}
