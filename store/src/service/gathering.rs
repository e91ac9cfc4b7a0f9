//! How long to wait for more writes before a sync, so that they share it.
//!
//! Writers that wait for each of their writes are answered together, and come back together a moment later. Who syncs for the
//! first of them lets the others wait for the sync after that: half of the syncs are for one write. So the next sync waits until
//! as many are there as there were before. One writer alone is never waited for, and who is waited for in vain less and less.

use std::time::Duration;

/// The longest wait.
const MOST: Duration = Duration::from_micros(200);

/// Syncs without a wait after many waits in vain.
const MOST_PASSED: u32 = 64;

/// What is known of those who ask for syncs.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    /// How many waited at the end of the last sync, with those that it answered.
    crowd: usize,
    /// How long that sync took.
    sync: Duration,
    /// Syncs that are to begin without a wait.
    to_pass: u32,
    /// How many those were after the last wait, if it was in vain.
    passed: u32,
}

/// A wait that pays: until so many are there, but no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) crowd: usize,
    pub(super) longest: Duration,
}

impl Gathering {
    /// Whether the sync that is due should wait. A wait longer than a sync would cost more than it saves.
    pub(super) fn wait(&mut self) -> Option<Wait> {
        if self.crowd < 2 {
            return None;
        }
        if let Some(rest) = self.to_pass.checked_sub(1) {
            self.to_pass = rest;
            return None;
        }
        Some(Wait { crowd: self.crowd, longest: self.sync.min(MOST) })
    }

    /// The wait ended: with all there, or not.
    pub(super) fn waited(&mut self, all_came: bool) {
        self.passed = if all_came { 0 } else { (self.passed * 2).clamp(1, MOST_PASSED) };
        self.to_pass = self.passed;
    }

    /// A sync ended: it took so long, and so many had asked for it or for the next one.
    pub(super) fn synced(&mut self, crowd: usize, took: Duration) {
        (self.crowd, self.sync) = (crowd, took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYNC: Duration = Duration::from_micros(100);

    #[test]
    fn a_writer_alone_is_never_waited_for() {
        let mut gathering = Gathering::default();
        for _ in 0..100 {
            assert_eq!(gathering.wait(), None);
            gathering.synced(1, SYNC);
        }
    }

    #[test]
    fn writers_that_were_there_are_waited_for_no_longer_than_a_sync() {
        let mut gathering = Gathering::default();
        // Three came while the first one's sync went on.
        gathering.synced(4, SYNC);
        for _ in 0..100 {
            assert_eq!(gathering.wait(), Some(Wait { crowd: 4, longest: SYNC }));
            gathering.waited(true);
            gathering.synced(4, SYNC);
        }
        gathering.synced(4, Duration::from_secs(1));
        assert_eq!(gathering.wait(), Some(Wait { crowd: 4, longest: MOST }));
    }

    #[test]
    fn writers_that_do_not_come_are_waited_for_less_and_less() {
        let mut gathering = Gathering::default();
        let mut waits = |syncs: usize, come: bool| {
            let mut count = 0;
            for _ in 0..syncs {
                gathering.synced(2, SYNC);
                if gathering.wait().is_some() {
                    gathering.waited(come);
                    count += 1;
                }
            }
            count
        };
        assert_eq!(waits(1 + 2 + 4 + 8, false), 4, "after waits in vain one, two and four syncs have none");
        assert!(waits(6500, false) <= 105, "and never more than 64");
        waits(65, true);
        assert_eq!(waits(100, true), 100, "one that paid makes up for all");
    }
}
