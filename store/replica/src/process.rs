//! Who takes part, and the clock that each reads for itself.

use std::time::Duration;

pub use huntaway_wire::Process;
use huntaway_wire::{Pepoch, outlasting};

/// A moment on one node's own clock, which goes on in pauses (CLOCK_BOOTTIME), in microseconds. Moments of different
/// nodes are never compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(pub u64);

impl Moment {
    /// The moment `us` microseconds later.
    pub fn after(self, us: u64) -> Self {
        Self(self.0.saturating_add(us))
    }

    /// Microseconds from `earlier` to this moment; 0 when it is not earlier.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// As stamps show it.
    pub(crate) fn clock(self) -> Duration {
        Duration::from_micros(self.0)
    }
}

/// How long a primary may count on a replica's grant, on the primary's clock, from when it asked.
pub const LEASE_US: u64 = 600_000;

/// How long a replica keeps to its grant, on its own clock, from when it gave it: no lease that rests on the grant is left
/// after that.
pub const GRANT_US: u64 = outlasting(Duration::from_micros(LEASE_US)).as_micros() as u64;

/// The ledger is asked to drop a replica that left something unanswered for so long.
pub const SILENCE_US: u64 = 3_000_000;

/// A replica's promise to stay out of any newer pepoch for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grant {
    /// Who may count on it; a process that has just started does not know whom its predecessor gave its word.
    pub(crate) to: Option<Process>,
    /// When it was asked for last.
    pub(crate) pepoch: Pepoch,
    /// Until then.
    pub(crate) until: Moment,
}
