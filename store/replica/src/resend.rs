//! When what is not answered is sent again: seldom, and ever less often. A connection loses nothing while it holds, so what is sent
//! once more within it only adds to what the other side has to take in.

use crate::process::Moment;
use crate::site::Site;

/// What is not answered is sent again after so long at first, in microseconds; each time after that it takes twice as long.
pub(crate) const FIRST_PAUSE_US: u64 = 300_000;

/// The longest pause.
const LONGEST_PAUSE_US: u64 = 1_000_000;

/// When something was sent, and how long nobody sends it again. What is sent anew, or to another process, begins anew.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resend {
    first: Moment,
    last: Moment,
    pause_us: u64,
}

impl Resend {
    /// It is sent now.
    pub(crate) fn new(now: Moment) -> Self {
        Self { first: now, last: now, pause_us: FIRST_PAUSE_US }
    }

    /// It is to be sent for the first time.
    pub(crate) fn due(now: Moment) -> Self {
        Self { first: now, last: now, pause_us: 0 }
    }

    /// Whether it is to be sent again, which counts as now.
    pub(crate) fn is_due(&mut self, now: Moment) -> bool {
        let is_due = now.since(self.last) >= self.pause_us;
        if is_due {
            self.last = now;
            self.pause_us = (2 * self.pause_us).clamp(FIRST_PAUSE_US, LONGEST_PAUSE_US);
        }
        is_due
    }

    /// For how long it was not answered, in microseconds, as far as it is not this process that was paused.
    pub(crate) fn waited_us(&self, site: &Site) -> u64 {
        site.waited_us(self.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_answered_is_sent_ever_less_often() {
        let mut resend = Resend::new(Moment(0));
        let sent: Vec<u64> =
            (0..100).map(|tick| tick * 50_000).filter(|us| resend.is_due(Moment(*us))).collect();
        assert_eq!(sent, [300_000, 900_000, 1_900_000, 2_900_000, 3_900_000, 4_900_000]);
    }
}
