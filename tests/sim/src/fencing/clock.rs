//! Time: the true one, which nobody in the simulation can see, and what each machine's clock shows.

use std::time::Duration;

use crate::Random;

/// True time since the run began, in milliseconds.
pub(super) type Ms = u64;

/// Least that a clock advances in a true millisecond, in microseconds.
pub(super) const SLOWEST: u64 = 1000;

/// Most that it advances: two clocks differ by a tenth at most.
pub(super) const FASTEST: u64 = 1100;

/// One machine's clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    offset_us: u64,
    /// Microseconds it advances in a true millisecond.
    pub(super) rate: u64,
}

impl Clock {
    pub(super) fn new(random: &mut Random) -> Self {
        let between = SLOWEST + random.below(FASTEST - SLOWEST + 1);
        Self { offset_us: offset(random), rate: random.pick(&[SLOWEST, FASTEST, between]) }
    }

    /// Shows another time from now on: that of another process.
    pub(super) fn restart(&mut self, random: &mut Random) {
        self.offset_us = offset(random);
    }

    pub(super) fn read(&self, now: Ms) -> Duration {
        Duration::from_micros(self.offset_us + now * self.rate)
    }

    /// True time until it has advanced by that.
    pub(super) fn ms_until(&self, advanced: Duration) -> Ms {
        (advanced.as_micros() as u64).div_ceil(self.rate)
    }
}

/// What a clock shows as the run begins: some years, so that it is never near its beginning.
fn offset(random: &mut Random) -> u64 {
    (1 << 46) + random.below(1 << 46)
}
