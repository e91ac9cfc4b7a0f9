//! Telling the service manager how we are (sd_notify(3)): started, reloading, stopping, alive, and a line of status.
//!
//! Without a service manager (no `NOTIFY_SOCKET`) all of it does nothing.

use std::io;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

/// Signs of life in the time after which the manager takes us for dead.
const BEATS_PER_WATCHDOG: u32 = 2;

/// The service manager that started us, if one did and wants to hear of us.
#[derive(Debug)]
pub(crate) struct ServiceManager {
    beat: Option<Interval>,
}

impl ServiceManager {
    /// Finds it by the environment. Must be called within a tokio runtime.
    pub(crate) fn find() -> Self {
        Self::with_watchdog(sd_notify::watchdog_enabled())
    }

    fn with_watchdog(watchdog: Option<Duration>) -> Self {
        let period =
            watchdog.map(|watchdog| watchdog / BEATS_PER_WATCHDOG).filter(|period| !period.is_zero());
        let beat = period.map(|period| {
            let mut beat = interval_at(Instant::now(), period);
            beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
            beat
        });
        Self { beat }
    }

    /// We serve. `status` is the line that `systemctl status` shows; the start, or a reload, is over.
    pub(crate) fn ready(&self, status: &str) {
        tell(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
    }

    /// A reload has begun; [`ready`](Self::ready) ends it, however it went.
    pub(crate) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(error) => complain(&error),
        }
    }

    /// Another line of status.
    pub(crate) fn status(&self, status: &str) {
        tell(&[NotifyState::Status(&one_line(status))]);
    }

    /// We were told to stop and are about to.
    pub(crate) fn stopping(&self, status: &str) {
        tell(&[NotifyState::Stopping, NotifyState::Status(&one_line(status))]);
    }

    /// Waits until a sign of life is due; for ever if nobody waits for one. May be dropped and called again.
    pub(crate) async fn beat_due(&mut self) {
        match &mut self.beat {
            Some(beat) => {
                beat.tick().await;
            }
            None => std::future::pending().await,
        }
    }

    /// A sign of life: only from the loop that does the work, lest it say more than it knows.
    pub(crate) fn beat(&self) {
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        complain(&error);
    }
}

/// After a line feed the manager would read the next variable.
fn one_line(status: &str) -> String {
    status.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn complain(error: &io::Error) {
    tracing::warn!(%error, "the service manager cannot be told");
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[test]
    fn a_status_is_one_line() {
        assert_eq!(one_line("serving\nWATCHDOG=trigger\n"), "serving WATCHDOG=trigger");
    }

    #[tokio::test]
    async fn signs_of_life_are_due_twice_in_the_watchdogs_time() {
        let watchdog = Duration::from_millis(200);
        let mut manager = ServiceManager::with_watchdog(Some(watchdog));
        let start = Instant::now();
        for _ in 0..5 {
            manager.beat_due().await;
        }
        // the first one at once
        assert!(start.elapsed() >= watchdog * 2, "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn without_a_watchdog_none_is_ever_due() {
        for watchdog in [None, Some(Duration::ZERO)] {
            let mut manager = ServiceManager::with_watchdog(watchdog);
            assert!(timeout(Duration::from_millis(20), manager.beat_due()).await.is_err());
        }
    }
}
