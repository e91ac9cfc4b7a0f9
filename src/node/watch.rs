//! Looking after the configuration file: once a second, and at SIGHUP.

use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::time::{MissedTickBehavior, interval};

use super::engine::Engine;

/// Time between two looks at the files.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Has `engine` follow its file until the task is dropped.
pub(crate) async fn watch(engine: &Engine, mut hangup: Signal) {
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = look.tick() => engine.reload_if_changed().await,
            _ = hangup.recv() => {
                tracing::info!("SIGHUP: reading the configuration again");
                // it is logged how it went
                drop(engine.reload().await);
            }
        }
    }
}
