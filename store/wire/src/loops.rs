//! The threads that serve connections, those of initiators and those between nodes: one for each core, with an event loop of its own.
//!
//! A connection stays with its thread. So its commands wake nobody else, and what it uses stays in that core's cache;
//! a runtime that moves tasks between threads spends more on that than a small command costs.

use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Turns of connections until a thread looks for what has happened to the others. A turn of a busy one takes as long as it may
/// (see `Driver::run`), so there are few; but not a single one, for then a thread looks once more before it sleeps.
const POLLS_BETWEEN_EVENTS: u32 = 2;

/// The threads. They end when this is dropped, whatever still runs on them.
#[derive(Debug)]
pub struct Loops {
    loops: Vec<Loop>,
    turn: AtomicUsize,
}

#[derive(Debug)]
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
    /// Starts as many threads of this name as the process may use cores.
    ///
    /// # Errors
    /// The operating system refuses a thread or a descriptor.
    pub fn start(name: &str) -> io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let loops =
            (0..cores).map(|number| Loop::start(format!("{name}-{number}"))).collect::<io::Result<_>>()?;
        Ok(Self { loops, turn: AtomicUsize::new(0) })
    }

    /// Runs `serve` on the thread with the fewest connections, as one of `connections`.
    pub fn spawn(&self, connections: &mut JoinSet<()>, serve: impl Future<Output = ()> + Send + 'static) {
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

    /// One thread after the other, for what stays as long as the process.
    pub fn next(&self) -> Option<&Handle> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        self.loops.get(turn % self.loops.len().max(1)).map(|one| &one.handle)
    }
}

impl Loop {
    fn start(name: String) -> io::Result<Self> {
        let (end, ended) = oneshot::channel::<()>();
        let (ready, is_ready) = mpsc::sync_channel(1);
        // A runtime must not be dropped where another one is at work: it is made, and ends, in its thread.
        thread::Builder::new().name(name).spawn(move || {
            let built =
                Builder::new_current_thread().enable_all().event_interval(POLLS_BETWEEN_EVENTS).build();
            match built {
                Ok(runtime) => {
                    // Whoever waits for it is there until then.
                    let _ = ready.send(Ok(runtime.handle().clone()));
                    // An error, since nothing is ever sent.
                    drop(runtime.block_on(ended));
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        })?;
        let handle = is_ready.recv().map_err(io::Error::other)??;
        Ok(Self { handle, load: Arc::default(), _end: end })
    }
}
