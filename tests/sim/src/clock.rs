//! Clocks of machines: none is right, and each goes at its own rate.

use huntaway_replica::Moment;

use crate::Random;

/// True time, in microseconds from the beginning of the run. Nothing in the cluster knows it.
pub(crate) type Time = u64;

/// A machine's clock. Rates lie between 1 and 1.1, so any two differ by a tenth at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    offset_us: u64,
    /// What it gains in a million microseconds, less a million.
    gain: u64,
}

impl Clock {
    pub(crate) fn new(random: &mut Random) -> Self {
        let extremes = [0, 100_000, random.below(100_001)];
        let gain = extremes[random.below(3) as usize];
        Self { offset_us: 10_000_000 + random.below(1_000_000_000), gain }
    }

    /// What it shows at `time`.
    pub(crate) fn read(&self, time: Time) -> Moment {
        Moment(self.offset_us + time + time * self.gain / 1_000_000)
    }
}
