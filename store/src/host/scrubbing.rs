//! Which partitions are scrubbed now: a few at a time of those that this node leads, one after another, so that the whole node keeps
//! to a pace however many partitions there are.

use std::time::{Duration, Instant};

use huntaway_wire::{PARTITIONS, Partition};

use super::Shared;
use crate::locking::lock;

/// How many are scrubbed at a time.
const AT_A_TIME: usize = 8;

/// From the beginning of a round to that of the next it is at least so long: where there is little, there is little to do.
const ROUND: Duration = Duration::from_secs(3600);

/// Where it is.
pub(super) struct Scrubbing {
    bytes_per_second: u64,
    /// With the passes that each had been through when its turn came.
    under_way: Vec<(Partition, u64)>,
    /// Whose turn is next.
    next: u16,
    began: Instant,
}

impl Scrubbing {
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, under_way: Vec::new(), next: 0, began: Instant::now() }
    }
}

impl Shared {
    /// Ends the turns of those that were read through, or are led elsewhere, and begins others.
    pub(super) fn scrub(&self) {
        self.compare();
        let compared = self.compared_now();
        let mut scrubbing = lock(&self.scrubbing);
        if scrubbing.bytes_per_second == 0 {
            return;
        }
        let pace = scrubbing.bytes_per_second / AT_A_TIME as u64;
        scrubbing.under_way.retain(|(partition, passes)| {
            let goes_on = self.try_at(*partition, |place| {
                let goes_on = place.replica.mended().is_some_and(|mended| mended.passes == *passes);
                // One that was compared meanwhile stands still when nobody wants that any more.
                if !compared.contains(partition) {
                    place.replica.scrub_at(if goes_on { pace } else { 0 });
                }
                goes_on
            });
            // Who is busy is looked at the next time.
            goes_on.unwrap_or(true)
        });
        while scrubbing.under_way.len() < AT_A_TIME && scrubbing.next < PARTITIONS {
            let Ok(partition) = Partition::new(scrubbing.next) else { return };
            let passes = self.try_at(partition, |place| {
                let passes = place.replica.mended()?.passes;
                if !compared.contains(&partition) {
                    place.replica.scrub_at(pace);
                }
                Some(passes)
            });
            match passes {
                None => return,
                Some(passes) => {
                    scrubbing.next += 1;
                    scrubbing.under_way.extend(passes.map(|passes| (partition, passes)));
                }
            }
        }
        if scrubbing.next == PARTITIONS && scrubbing.under_way.is_empty() && scrubbing.began.elapsed() > ROUND
        {
            (scrubbing.next, scrubbing.began) = (0, Instant::now());
        }
    }
}
