//! The threads that serve connections: one for each core, with an event loop of its own.
//!
//! A connection stays with its thread. So its commands wake nobody else, and what it uses stays in that core's cache;
//! a runtime that moves tasks between threads spends more on that than a small command costs.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// The threads. They end when this is dropped, whatever still runs on them.
pub(crate) struct Loops {
    loops: Vec<Loop>,
}

struct Loop {
    handle: Handle,
    /// Connections it serves.
    load: Arc<AtomicUsize>,
    /// Ends the thread when it is dropped.
    _end: oneshot::Sender<()>,
}

/// A connection's part of a thread's load.
struct Share(Arc<AtomicUsize>);

impl Drop for Share {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Loops {
    /// Starts as many threads as the process may use cores.
    ///
    /// # Errors
    /// The operating system refuses a thread or a descriptor.
    pub(crate) fn start() -> io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let loops = (0..cores).map(Loop::start).collect::<io::Result<_>>()?;
        Ok(Self { loops })
    }

    /// Runs `serve` on the thread with the fewest connections, as one of `connections`.
    pub(crate) fn spawn(
        &self,
        connections: &mut JoinSet<()>,
        serve: impl Future<Output = ()> + Send + 'static,
    ) {
        let Some(chosen) = self.loops.iter().min_by_key(|one| one.load.load(Ordering::Relaxed)) else {
            return;
        };
        chosen.load.fetch_add(1, Ordering::Relaxed);
        let share = Share(Arc::clone(&chosen.load));
        connections.spawn_on(
            async move {
                serve.await;
                drop(share);
            },
            &chosen.handle,
        );
    }
}

impl Loop {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        thread::Builder::new().name(format!("iscsi-{number}")).spawn(move || {
            // An error, since nothing is ever sent.
            drop(runtime.block_on(ended));
        })?;
        Ok(Self { handle, load: Arc::default(), _end: end })
    }
}
