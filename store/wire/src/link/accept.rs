//! Being called by other processes.

use core::time::Duration;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::connection::Socket;
use super::socket::answer;
use super::{Cut, Guest, HELLO_DEADLINE, Inbox, Outbox, SharedInbox, Threshold, nonce};
use crate::hello::{Agreed, Caller, Identity, NotTaken, Rejection, Why};
use crate::loops::Loops;
use crate::tls::{Certificate, Credentials, Untrusted};
use crate::{NodeId, Process};

/// Most connections of others that have the key.
pub const MAX_CONNECTIONS: usize = 512;

/// A socket that takes no connection, for want of file descriptors mostly, is asked again after this.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes connections that are meant for one process, and what comes on them.
pub struct Acceptor {
    ours: Identity,
    credentials: Credentials,
    inbox: SharedInbox,
    /// For those that have the key.
    places: Arc<Semaphore>,
    /// There is one connection from each node: the last one of its newest start.
    callers: Mutex<HashMap<NodeId, Entered>>,
    /// The threads that serve; without them it is those of the runtime.
    loops: Option<Arc<Loops>>,
}

struct Entered {
    process: Process,
    /// Told when another connection takes the place of this one.
    replaced: Arc<Notify>,
}

impl Acceptor {
    /// Takes connections that are meant for `ours`, of whoever has the key.
    pub fn new(ours: Identity, credentials: impl Into<Credentials>, inbox: Arc<dyn Inbox>) -> Self {
        let (credentials, places) = (credentials.into(), Arc::new(Semaphore::new(MAX_CONNECTIONS)));
        Self { ours, credentials, inbox, places, callers: Mutex::default(), loops: None }
    }

    /// Has connections served by these threads.
    #[must_use]
    pub fn on(self, loops: Arc<Loops>) -> Self {
        Self { loops: Some(loops), ..self }
    }

    /// Takes connections until it is dropped, which ends those that there are.
    pub async fn serve(self, listener: TcpListener) {
        let acceptor = Arc::new(self);
        let threshold = Threshold::default();
        let mut tasks = JoinSet::new();
        loop {
            while tasks.try_join_next().is_some() {}
            match listener.accept().await {
                Ok((stream, _)) => acceptor.clone().begin(stream, threshold.enter(), &mut tasks),
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be taken");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    fn begin(self: Arc<Self>, stream: TcpStream, guest: Guest, tasks: &mut JoinSet<()>) {
        let Some(loops) = self.loops.clone() else {
            tasks.spawn(async move { self.host(stream, guest).await });
            return;
        };
        // It belongs to the thread on which it is made.
        if let Ok(stream) = stream.into_std() {
            let host = async move {
                if let Ok(stream) = TcpStream::from_std(stream) {
                    self.host(stream, guest).await;
                }
            };
            loops.spawn(tasks, host);
        }
    }

    async fn host(&self, stream: TcpStream, guest: Guest) {
        let address = stream.peer_addr().ok();
        let mut socket = None;
        let cut = match self.connected(stream, &mut socket, guest).await {
            Ok(cut) | Err(cut) => cut,
        };
        match cut {
            Cut::Closed | Cut::Io(_) | Cut::Replaced | Cut::Displaced => {
                tracing::debug!(?address, why = %cut, "a connection ended");
            }
            _ => tracing::warn!(?address, why = %cut, "a connection is cut"),
        }
        if let (Cut::Rejected(_) | Cut::Untrusted(_), Some(mut socket)) = (cut, socket) {
            socket.end().await;
        }
    }

    /// Why the connection ended, or was not taken.
    async fn connected(
        &self,
        stream: TcpStream,
        socket: &mut Option<Socket>,
        guest: Guest,
    ) -> Result<Cut, Cut> {
        let tls = self.credentials.tls.as_ref().map(|(tls, _)| tls);
        let greeted = async move {
            let (ends, shown) = answer(stream, tls).await?;
            let socket = socket.insert(Socket::new(ends));
            Ok::<_, Cut>((self.greet(socket, shown.as_ref()).await?, socket))
        };
        let greeted = tokio::select! {
            greeted = timeout(HELLO_DEADLINE, greeted) => greeted,
            () = guest.displaced() => return Err(Cut::Displaced),
        };
        let (agreed, socket) = greeted.map_err(|_| Cut::NO_HELLO)??;
        drop(guest);
        let connection = match self.enter(agreed) {
            Ok(connection) => connection,
            Err(rejection) => return Err(reject(socket, rejection).await),
        };
        socket.write_frame(self.ours.welcome()).await?;
        let Connection { agreed, outbox, replaced, .. } = &connection;
        socket.agreed(agreed.version);
        tokio::select! {
            cut = socket.run(agreed.peer, outbox, &*self.inbox) => Ok(cut),
            () = replaced.notified() => Err(Cut::Replaced),
        }
    }

    /// Who calls, and has shown that it has the key, and a certificate for its name.
    async fn greet(&self, socket: &mut Socket, shown: Option<&Certificate>) -> Result<Agreed, Cut> {
        let caller = Caller::of(&socket.next_frame().await?)?;
        let challenged = match caller.challenge(self.ours, &self.credentials.key, nonce()?) {
            Ok(challenged) => challenged,
            Err(rejection) => return Err(reject(socket, rejection).await),
        };
        socket.write_frame(challenged.challenge.clone()).await?;
        let agreed = match challenged.proved(self.ours, &socket.next_frame().await?) {
            Err(NotTaken::Rejected(rejection)) => return Err(reject(socket, rejection).await),
            proved => proved?,
        };
        if let (Some((_, names)), Some(shown)) = (&self.credentials.tls, shown) {
            let name = names(agreed.peer.node).ok_or(Untrusted::Nobody)?;
            if let Err(untrusted) = shown.is_for(&name) {
                let rejection = Rejection { why: Why::Certificate, by: self.ours };
                socket.write_frame(rejection.frame()).await?;
                return Err(untrusted.into());
            }
        }
        Ok(agreed)
    }

    /// The connection takes the place of an earlier one, but not of one from a later start.
    fn enter(&self, agreed: Agreed) -> Result<Connection<'_>, Rejection> {
        let full = Rejection { why: Why::Full, by: self.ours };
        let place = self.places.clone().try_acquire_owned().map_err(|_| full)?;
        let mut callers = self.callers();
        let process = agreed.peer;
        if let Some(earlier) = callers.get(&process.node) {
            if earlier.process.incarnation > process.incarnation {
                return Err(Rejection { why: Why::Superseded, by: self.ours });
            }
            earlier.replaced.notify_one();
        }
        let replaced = Arc::new(Notify::new());
        callers.insert(process.node, Entered { process, replaced: replaced.clone() });
        Ok(Connection { acceptor: self, agreed, outbox: Outbox::default(), replaced, _place: place })
    }

    fn callers(&self) -> MutexGuard<'_, HashMap<NodeId, Entered>> {
        // Nothing that is done with the lock held leaves it half done.
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says why, and returns that.
async fn reject(socket: &mut Socket, rejection: Rejection) -> Cut {
    match socket.write_frame(rejection.frame()).await {
        Ok(()) => rejection.into(),
        Err(cut) => cut,
    }
}

/// A connection that is entered, until it is dropped.
struct Connection<'a> {
    acceptor: &'a Acceptor,
    agreed: Agreed,
    outbox: Outbox,
    replaced: Arc<Notify>,
    _place: OwnedSemaphorePermit,
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
