//! Calling another process, again and again.

use core::time::Duration;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use super::connection::{Never, Socket};
use super::socket::call;
use super::{Cut, HELLO_DEADLINE, Inbox, Outbox, SharedInbox, nonce};
use crate::Process;
use crate::hello::{Agreed, Hello, Identity, Why, welcomed};
use crate::tls::{Credentials, Untrusted};

/// The first pause after a connection ended, or could not be made; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A connection that lasted so long was a good one.
const GOOD_AFTER: Duration = Duration::from_secs(5);

/// How a link is doing.
#[derive(Debug, Clone, Default)]
pub enum Status {
    /// It is being made.
    #[default]
    Calling,
    /// It is there.
    Connected(Agreed),
    /// It is made again after a pause.
    Cut(Arc<Cut>),
}

/// This process' way to another one. It calls until it is dropped. What is sent while it calls waits; what is sent
/// while it pauses is lost.
#[derive(Debug)]
pub struct Link {
    to: Process,
    outbox: Outbox,
    status: watch::Receiver<Status>,
    task: AbortHandle,
}

impl Link {
    /// Calls `to`, and no other process, at `address`. To be called within a runtime, which does the work.
    pub fn new(
        ours: Identity,
        credentials: impl Into<Credentials>,
        to: Process,
        address: SocketAddr,
        inbox: Arc<dyn Inbox>,
    ) -> Self {
        let outbox = Outbox::default();
        let (sender, status) = watch::channel(Status::default());
        let credentials = credentials.into();
        let caller = Caller { ours, credentials, to, address, inbox, outbox: outbox.clone() };
        let task = tokio::spawn(caller.run(sender)).abort_handle();
        Self { to, outbox, status, task }
    }

    /// Whom it calls.
    pub fn to(&self) -> Process {
        self.to
    }

    /// What is to be sent goes there.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// How it is doing; to be looked at, or waited for.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.outbox.end();
        self.task.abort();
    }
}

struct Caller {
    ours: Identity,
    credentials: Credentials,
    to: Process,
    address: SocketAddr,
    inbox: SharedInbox,
    outbox: Outbox,
}

impl Caller {
    async fn run(self, status: watch::Sender<Status>) {
        let mut pause = FIRST_PAUSE;
        let mut told = String::new();
        loop {
            let begun = Instant::now();
            let cut = match self.call(&status).await {
                Ok(never) => match never {},
                Err(cut) => cut,
            };
            self.outbox.close();
            if begun.elapsed() > GOOD_AFTER {
                pause = FIRST_PAUSE;
            }
            if matches!(&cut, Cut::Rejected(rejection) if rejection.why != Why::Full) {
                pause = LONGEST_PAUSE;
            }
            let why = cut.to_string();
            if why != told {
                tracing::warn!(node = %self.to.node, address = %self.address, why, "not connected to node");
                told = why;
            }
            status.send_replace(Status::Cut(Arc::new(cut)));
            sleep(pause).await;
            pause = LONGEST_PAUSE.min(pause * 2);
            self.outbox.open();
            status.send_replace(Status::Calling);
        }
    }

    async fn call(&self, status: &watch::Sender<Status>) -> Result<Never, Cut> {
        let (mut socket, agreed) =
            timeout(HELLO_DEADLINE, self.greet()).await.map_err(|_| Cut::NO_HELLO)??;
        status.send_replace(Status::Connected(agreed));
        Err(socket.run(agreed.peer, &self.outbox, &*self.inbox).await)
    }

    async fn greet(&self) -> Result<(Socket, Agreed), Cut> {
        let mut socket = self.connect().await?;
        let hello = Hello { from: self.ours, to: self.to, nonce: nonce()? };
        socket.write_frame(hello.frame()).await?;
        let (proof, agreed) = hello.challenged(&self.credentials.key, &socket.next_frame().await?)?;
        socket.write_frame(proof).await?;
        welcomed(&socket.next_frame().await?)?;
        socket.agreed(agreed.version);
        Ok((socket, agreed))
    }

    async fn connect(&self) -> Result<Socket, Cut> {
        let ends = match &self.credentials.tls {
            None => call(self.address, None).await?,
            Some((tls, names)) => {
                let name = names(self.to.node).ok_or(Untrusted::Nobody)?;
                call(self.address, Some((tls, &name))).await?
            }
        };
        Ok(Socket::new(ends))
    }
}
