//! Time: the true one, which nobody in a simulation can see, and what each machine's clock shows.

use std::time::Duration;

use huntaway_replica::Moment;

use crate::Random;

/// True time since the run began, in microseconds.
pub(crate) type Time = u64;

/// The same in milliseconds, for a world in which nothing is faster.
pub(crate) type Ms = u64;

/// Least that a clock advances in a true millisecond, in microseconds.
pub(crate) const SLOWEST: u64 = 1000;

/// Most that it advances: two clocks differ by a tenth at most.
pub(crate) const FASTEST: u64 = 1100;

/// One machine's clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    offset_us: u64,
    /// Microseconds it advances in a true millisecond.
    pub(crate) rate: u64,
}

impl Clock {
    pub(crate) fn new(random: &mut Random) -> Self {
        let between = random.between(SLOWEST, FASTEST);
        Self { offset_us: offset(random), rate: random.pick(&[SLOWEST, FASTEST, between]) }
    }

    /// Shows another time from now on: that of another process.
    pub(crate) fn restart(&mut self, random: &mut Random) {
        self.offset_us = offset(random);
    }

    pub(crate) fn read(&self, now: Ms) -> Duration {
        Duration::from_micros(self.offset_us + now * self.rate)
    }

    /// What it shows at `time`, for a replica.
    pub(crate) fn moment(&self, time: Time) -> Moment {
        Moment(self.offset_us + time * self.rate / 1000)
    }

    /// True time until it has advanced by that.
    pub(crate) fn ms_until(&self, advanced: Duration) -> Ms {
        (advanced.as_micros() as u64).div_ceil(self.rate)
    }
}

/// What a clock shows as the run begins: some years, so that it is never near its beginning.
fn offset(random: &mut Random) -> u64 {
    (1 << 46) + random.below(1 << 46)
}
