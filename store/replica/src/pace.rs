//! So many bytes per second, on the clock of whoever counts them.

use crate::process::Moment;

/// Bytes that may be moved by now.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// In millionths of a byte; negative: that were moved ahead of time.
    budget: i128,
    reckoned_at: Moment,
}

impl Pace {
    /// Reckons up to `now`, after `spent_bytes` more were moved; at most what a second allows is saved up. Returns whether any
    /// may be moved.
    pub(crate) fn is_open(&mut self, now: Moment, bytes_per_second: u64, spent_bytes: u64) -> bool {
        let second = i128::from(bytes_per_second) * 1_000_000;
        let earned = i128::from(bytes_per_second) * i128::from(now.since(self.reckoned_at));
        self.budget = (self.budget + earned).min(second) - i128::from(spent_bytes) * 1_000_000;
        self.reckoned_at = now;
        self.budget > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_moved_at_once_is_waited_for() {
        let mut pace = Pace { budget: 0, reckoned_at: Moment(0) };
        assert!(!pace.is_open(Moment(0), 1000, 0));
        assert!(pace.is_open(Moment(1000), 1000, 0));
        assert!(!pace.is_open(Moment(1000), 1000, 3000));
        assert!(!pace.is_open(Moment(2_999_000), 1000, 0));
        assert!(pace.is_open(Moment(3_000_001), 1000, 0));
        assert!(!pace.is_open(Moment(90_000_000), 1000, 1000), "a second is saved up, no more");
        assert!(!pace.is_open(Moment(99_000_000), 0, 0), "nothing is not a little");
    }
}
