//! The clock by which leases and proofs are counted: it never goes back, and goes on in pauses, also of the machine.

use core::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Time since this machine's boot (CLOCK_BOOTTIME). Never compared with another machine's.
pub fn now() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    // It does not show anything before the boot.
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}
