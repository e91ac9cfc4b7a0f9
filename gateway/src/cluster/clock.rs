//! The clock of everything here: it never goes back, and goes on while the machine is suspended.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Time since this machine's boot (CLOCK_BOOTTIME).
pub(crate) fn now() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    // It does not show anything before the boot.
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}
