//! Connections to the processes that keep replicas, of a gateway that is alone in its process.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use huntaway_wire::encoding::Malformed;
use huntaway_wire::frame::{Frame, Framed, Kind, Outgoing};
use huntaway_wire::hello::Identity;
use huntaway_wire::link::{Inbox, Link, Outbox, Status};
use huntaway_wire::replicated::{Answered, Answers, Relay, Relayed, Request, Store, SyncAll, Synced};
use huntaway_wire::tls::Credentials;
use huntaway_wire::{Partition, Process};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::Stores;

/// Makes a connection to each process.
pub struct Links {
    ours: Identity,
    credentials: Credentials,
    runtime: Handle,
}

impl Links {
    /// Connections of this process. `runtime` does the work.
    pub fn new(ours: Identity, credentials: impl Into<Credentials>, runtime: Handle) -> Self {
        Self { ours, credentials: credentials.into(), runtime }
    }
}

impl Stores for Links {
    fn reach(
        &self,
        process: Process,
        addresses: &[SocketAddr],
        answers: &Weak<dyn Answers>,
    ) -> Option<Arc<dyn Store>> {
        let address = addresses.first()?;
        let _entered = self.runtime.enter();
        let inbox = Arc::new(ToAnswers(answers.clone()));
        let link = Link::new(self.ours, self.credentials.clone(), process, *address, inbox);
        Some(Arc::new(Remote { status: link.status(), link }))
    }
}

/// A process behind a connection.
#[derive(Debug)]
struct Remote {
    link: Link,
    status: watch::Receiver<Status>,
}

impl Remote {
    /// What finds no room is sent again when it is overdue.
    fn send(&self, partition: Partition, what: &impl Framed) {
        match Outgoing::new(partition, what) {
            Ok(frame) => drop(self.link.outbox().send(frame)),
            Err(error) => tracing::error!(%partition, %error, "a request fits in no frame"),
        }
    }
}

/// The answers come by the connection's inbox.
impl Store for Remote {
    fn request(&self, partition: Partition, request: Request, _answers: &Arc<dyn Answers>) {
        self.send(partition, &request);
    }

    fn is_reachable(&self) -> bool {
        matches!(*self.status.borrow(), Status::Connected(_))
    }

    fn relay(&self, partition: Partition, relay: Relay, _answers: &Arc<dyn Answers>) {
        self.send(partition, &relay);
    }

    fn sync_all(&self, asked: SyncAll, _answers: &Arc<dyn Answers>) -> bool {
        Outgoing::of_process(&asked).is_ok_and(|frame| self.link.outbox().send(frame))
    }
}

struct ToAnswers(Weak<dyn Answers>);

impl Inbox for ToAnswers {
    fn take(&self, from: Process, frame: Frame, _back: &Outbox) -> Result<(), Malformed> {
        if frame.kind == Kind::Synced {
            let synced = frame.open_of_process::<Synced>()?;
            if let Some(answers) = self.0.upgrade() {
                answers.synced(from, synced);
            }
            return Ok(());
        }
        let (from, partition, answered) = if frame.kind == Kind::Relayed {
            let (partition, Relayed { from, answered }) = frame.open()?;
            (from, partition, answered)
        } else {
            let (partition, answered) = frame.open::<Answered>()?;
            (from, partition, answered)
        };
        if let Some(answers) = self.0.upgrade() {
            answers.answered(from, partition, answered);
        }
        Ok(())
    }
}
