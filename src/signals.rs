//! Being told to stop: SIGTERM and SIGINT (Ctrl-C); and to read the configuration again: SIGHUP.

use std::io;
use std::process::exit;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Exit status when a second signal does not let us stop in order.
const STOPPED_AT_ONCE: i32 = 1;

/// The signals that stop us, heard from now on.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

/// SIGHUP, heard from now on: before, it ends the process. Must be called within a tokio runtime.
///
/// # Errors
/// When the system does not let us hear it.
pub(crate) fn hangups() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}

impl Signals {
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the system does not let us hear them.
    pub(crate) fn listen() -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next one and returns its name.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// From now on the next one ends the process, as long as the runtime lives. Nothing is lost: what was acknowledged
    /// is in the store's log.
    pub(crate) fn end_at_the_next(mut self) {
        tokio::spawn(async move {
            let name = self.next().await;
            eprintln!(
                "huntaway: stopped at once by a second signal ({name}); what was acknowledged is in the log, and read \
                 from there at the next start"
            );
            exit(STOPPED_AT_ONCE);
        });
    }
}
