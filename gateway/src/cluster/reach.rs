//! Whether there is a cluster to be reached. It is lost when for a while no store served anything, and either the ledger was not
//! followed or there was no way to any store: then initiators are better off with other gateways.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// So long it is waited: whoever keeps the ledger may be started again meanwhile, and stores have their leases back.
const LOST_AFTER: Duration = Duration::from_secs(10);

/// A look that comes later than this after the one before it comes after a pause of this process, which says nothing of others.
const LONGEST_BREAK: Duration = Duration::from_millis(200);

/// Whether a gateway of several nodes follows the ledger of its cluster, as far as it knows.
pub type IsFollowed = Box<dyn Fn() -> bool + Send + Sync>;

/// What is known of that.
pub(super) struct Reach {
    is_followed: IsFollowed,
    /// A store served something since it was looked last.
    was_served: AtomicBool,
    last: Mutex<Last>,
    is_lost: watch::Sender<bool>,
}

/// The last look: when that was, and for how long there had been no cluster.
#[derive(Default)]
struct Last {
    at: Duration,
    without: Duration,
}

impl Reach {
    pub(super) fn new(is_followed: IsFollowed) -> Self {
        let (was_served, last) = (AtomicBool::new(false), Mutex::default());
        Self { is_followed, was_served, last, is_lost: watch::Sender::new(false) }
    }

    /// A store did what it was asked for.
    pub(super) fn served(&self) {
        // Mostly it is known.
        if !self.was_served.load(Ordering::Relaxed) {
            self.was_served.store(true, Ordering::Relaxed);
        }
    }

    /// Looks: `has_way` says whether there is a way to a store. Whether the cluster is lost.
    pub(super) fn look(&self, now: Duration, has_way: impl FnOnce() -> bool) -> bool {
        let was_served = self.was_served.swap(false, Ordering::Relaxed);
        let is_there = was_served || (self.is_followed)() && has_way();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_sub(last.at).min(LONGEST_BREAK);
        last.at = now;
        last.without = if is_there { Duration::ZERO } else { last.without + passed };
        let is_lost = last.without >= LOST_AFTER;
        self.is_lost.send_if_modified(|before| std::mem::replace(before, is_lost) != is_lost);
        is_lost
    }

    pub(super) fn is_lost(&self) -> bool {
        *self.is_lost.borrow()
    }

    /// Returns when the cluster is lost.
    pub(super) async fn until_lost(&self) {
        // It does not fail: the sender is here.
        let _ = self.is_lost.subscribe().wait_for(|is_lost| *is_lost).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Looks for so long, as often as a gateway does. Whether the cluster is lost then.
    fn looks(reach: &Reach, now: &mut Duration, time: Duration, has_way: bool) -> bool {
        let end = *now + time;
        while *now < end {
            *now += Duration::from_millis(20);
            reach.look(*now, || has_way);
        }
        reach.is_lost()
    }

    #[test]
    fn it_is_lost_after_a_while_without_a_ledger_or_a_way_unless_somebody_serves() {
        let follows = Arc::new(AtomicBool::new(true));
        let told = Arc::clone(&follows);
        let reach = Reach::new(Box::new(move || told.load(Ordering::Relaxed)));
        let mut now = Duration::from_secs(1000);
        let almost = LOST_AFTER - LONGEST_BREAK;
        assert!(!looks(&reach, &mut now, 2 * LOST_AFTER, true));
        assert!(!looks(&reach, &mut now, almost, false));
        assert!(looks(&reach, &mut now, 2 * LONGEST_BREAK, false), "there is no way to anybody");
        assert!(!looks(&reach, &mut now, LONGEST_BREAK, true));
        follows.store(false, Ordering::Relaxed);
        assert!(!looks(&reach, &mut now, almost, true));
        assert!(looks(&reach, &mut now, 2 * LONGEST_BREAK, true), "the ledger is not followed");
        reach.served();
        assert!(!looks(&reach, &mut now, almost, true));
        reach.served();
        assert!(!looks(&reach, &mut now, almost, true), "stores serve");
    }

    #[test]
    fn a_pause_of_the_process_is_no_silence_of_the_cluster() {
        let reach = Reach::new(Box::new(|| false));
        let mut now = Duration::from_secs(1000);
        assert!(!looks(&reach, &mut now, LOST_AFTER / 2, true));
        now += 10 * LOST_AFTER;
        assert!(!looks(&reach, &mut now, LOST_AFTER / 4, true));
        assert!(looks(&reach, &mut now, LOST_AFTER, true));
    }
}
