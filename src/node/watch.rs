//! Looking after the configuration file, once a second and at SIGHUP, and after what other processes of a cluster do with VDIs.

use std::sync::Arc;
use std::time::Duration;

use huntaway_ledger::State;
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::engine::Engine;

/// Time between two looks at the files.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Has `engine` follow its file, and the ledger, until the task is dropped.
pub(crate) async fn watch(engine: &Engine, mut hangup: Signal) {
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut states = engine.states();
    loop {
        tokio::select! {
            () = changed(&mut states) => engine.show_what_others_changed().await,
            _ = look.tick() => engine.reload_if_changed().await,
            _ = hangup.recv() => {
                tracing::info!("SIGHUP: reading the configuration again");
                // it is logged how it went
                drop(engine.reload().await);
            }
        }
    }
}

/// Ready when the ledger says something else; never if nobody else has one.
async fn changed(states: &mut Option<watch::Receiver<Arc<State>>>) {
    let has_changed = match states {
        Some(states) => states.changed().await.is_ok(),
        None => false,
    };
    if !has_changed {
        std::future::pending().await
    }
}
