//! Being called by other processes.

use core::time::Duration;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::connection::{next_frame, run, write_frame};
use super::{Cut, HELLO_DEADLINE, Inbox, Outbox, SharedInbox, prepare};
use crate::frame::Decoder;
use crate::hello::{Agreed, Hello, Identity, Rejection, Why};
use crate::{NodeId, Process};

/// Most connections of others.
pub const MAX_CONNECTIONS: usize = 512;

/// A socket that takes no connection, for want of file descriptors mostly, is asked again after this.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes connections that are meant for one process, and what comes on them.
pub struct Acceptor {
    ours: Identity,
    inbox: SharedInbox,
    /// There is one connection from each node: the last one of its newest start.
    callers: Mutex<HashMap<NodeId, Caller>>,
}

struct Caller {
    process: Process,
    /// Told when another connection takes the place of this one.
    replaced: Arc<Notify>,
}

impl Acceptor {
    /// Takes connections that are meant for `ours`.
    pub fn new(ours: Identity, inbox: Arc<dyn Inbox>) -> Self {
        Self { ours, inbox, callers: Mutex::default() }
    }

    /// Takes connections until it is dropped, which ends those that there are.
    pub async fn serve(self, listener: TcpListener) {
        let acceptor = Arc::new(self);
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut tasks = JoinSet::new();
        loop {
            while tasks.try_join_next().is_some() {}
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be taken");
                    sleep(PAUSE).await;
                    continue;
                }
            };
            if let Ok(place) = places.clone().try_acquire_owned() {
                let acceptor = acceptor.clone();
                tasks.spawn(async move {
                    acceptor.host(stream).await;
                    drop(place);
                });
            } else {
                let full = Rejection { why: Why::Full, by: acceptor.ours };
                // Whoever does not hear of it is closed on all the same.
                let _ = stream.try_write(&full.frame().head);
            }
        }
    }

    async fn host(&self, mut stream: TcpStream) {
        let address = stream.peer_addr().ok();
        let cut = match self.connected(&stream).await {
            Ok(cut) | Err(cut) => cut,
        };
        match cut {
            Cut::Closed | Cut::Io(_) | Cut::Replaced => {
                tracing::debug!(?address, why = %cut, "a connection ended");
            }
            _ => tracing::warn!(?address, why = %cut, "a connection is cut"),
        }
        if matches!(cut, Cut::Rejected(_)) {
            // Were it closed with something unread, the other side might never read why.
            let _ = stream.shutdown().await;
            let mut rest = Decoder::default();
            let _ = timeout(HELLO_DEADLINE, next_frame(&stream, &mut rest)).await;
        }
    }

    /// Why the connection ended, or was not taken.
    async fn connected(&self, stream: &TcpStream) -> Result<Cut, Cut> {
        prepare(stream)?;
        let mut decoder = Decoder::default();
        let first = timeout(HELLO_DEADLINE, next_frame(stream, &mut decoder));
        let hello = Hello::of(&first.await.map_err(|_| Cut::NO_HELLO)??)?;
        let entered = hello.answer(self.ours).and_then(|agreed| self.enter(agreed));
        let connection = match entered {
            Ok(connection) => connection,
            Err(rejection) => {
                write_frame(stream, rejection.frame()).await?;
                return Err(rejection.into());
            }
        };
        write_frame(stream, self.ours.welcome()).await?;
        let Connection { agreed, outbox, replaced, .. } = &connection;
        decoder.agreed(agreed.version);
        tokio::select! {
            cut = run(stream, &mut decoder, agreed.peer, outbox, &*self.inbox) => Ok(cut),
            () = replaced.notified() => Err(Cut::Replaced),
        }
    }

    /// The connection takes the place of an earlier one, but not of one from a later start.
    fn enter(&self, agreed: Agreed) -> Result<Connection<'_>, Rejection> {
        let mut callers = self.callers();
        let process = agreed.peer;
        if let Some(earlier) = callers.get(&process.node) {
            if earlier.process.incarnation > process.incarnation {
                return Err(Rejection { why: Why::Superseded, by: self.ours });
            }
            earlier.replaced.notify_one();
        }
        let replaced = Arc::new(Notify::new());
        callers.insert(process.node, Caller { process, replaced: replaced.clone() });
        Ok(Connection { acceptor: self, agreed, outbox: Outbox::default(), replaced })
    }

    fn callers(&self) -> MutexGuard<'_, HashMap<NodeId, Caller>> {
        // Nothing that is done with the lock held leaves it half done.
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that is entered, until it is dropped.
struct Connection<'a> {
    acceptor: &'a Acceptor,
    agreed: Agreed,
    outbox: Outbox,
    replaced: Arc<Notify>,
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        self.outbox.end();
        let mut callers = self.acceptor.callers();
        let node = self.agreed.peer.node;
        if callers.get(&node).is_some_and(|caller| Arc::ptr_eq(&caller.replaced, &self.replaced)) {
            callers.remove(&node);
        }
    }
}
