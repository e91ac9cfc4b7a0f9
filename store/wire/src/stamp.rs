//! Stamps: how a store tells whether a request was sent a short while ago, whatever became of it and its sender since.
//!
//! A store puts its stamp on every reply. A gateway sends the newest one it has of that store along with its next
//! request, and the store compares it with its own clock: no two clocks are ever compared.

use std::time::Duration;

use crate::Incarnation;

/// What a store's clock showed when it replied. Of two stamps of one store the greater is the newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// The start of the process whose clock it is: what was sent to an earlier one is not for this one.
    pub incarnation: Incarnation,
    /// Time since a moment of that process's choice.
    pub clock: Duration,
}

impl Stamp {
    /// The stamp of a gateway that has none of that store yet. It is never fresh, so that the refusal brings one.
    pub const NONE: Self = Self { incarnation: Incarnation(0), clock: Duration::ZERO };

    /// At this age a stamp is no longer fresh. Long enough for requests to be sent, queued and ordered, and for replies to
    /// come; whatever an initiator gives up cannot take effect for as long as this.
    pub const MAX_AGE: Duration = Duration::from_millis(600);

    /// Whether a request that carries it may take effect at the store of this incarnation, whose clock shows `now`.
    ///
    /// To be asked in the step in which the request gets its version: whatever it waited for before that is part of its age.
    pub fn is_fresh(&self, incarnation: Incarnation, now: Duration) -> bool {
        // One of the future was not given by that process.
        let age = now.checked_sub(self.clock);
        self.incarnation == incarnation && age.is_some_and(|age| age < Self::MAX_AGE)
    }
}

/// How long to wait by one's own clock until so much time is over by any other: rates of clocks differ by a tenth at most.
pub const fn outlasting(other: Duration) -> Duration {
    Duration::from_micros((other.as_micros() as u64).div_ceil(10) * 11)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_fresh_for_its_time_and_its_process() {
        let stamp = Stamp { incarnation: Incarnation(3), clock: Duration::from_secs(50) };
        let last = stamp.clock + Stamp::MAX_AGE - Duration::from_nanos(1);
        assert!(stamp.is_fresh(Incarnation(3), last));
        assert!(!stamp.is_fresh(Incarnation(3), stamp.clock + Stamp::MAX_AGE));
        assert!(!stamp.is_fresh(Incarnation(4), stamp.clock));
        assert!(!stamp.is_fresh(Incarnation(3), stamp.clock - Duration::from_nanos(1)));
        let last = Stamp { clock: Duration::MAX, ..stamp };
        assert!(!last.is_fresh(Incarnation(3), Duration::ZERO));
        assert!(!Stamp::NONE.is_fresh(Incarnation(1), Duration::ZERO));
    }

    #[test]
    fn the_stamp_of_a_later_start_is_newer() {
        let before = Stamp { incarnation: Incarnation(3), clock: Duration::from_secs(50) };
        let after = Stamp { incarnation: Incarnation(4), clock: Duration::ZERO };
        assert!(after > before && before > Stamp::NONE);
    }

    #[test]
    fn a_stamp_has_run_out_by_a_clock_that_is_a_tenth_faster() {
        assert_eq!(outlasting(Stamp::MAX_AGE), Stamp::MAX_AGE * 11 / 10);
    }
}
