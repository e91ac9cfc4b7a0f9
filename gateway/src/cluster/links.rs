//! Connections to the processes that keep replicas, of a gateway that is alone in its process.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use huntaway_wire::encoding::Malformed;
use huntaway_wire::frame::{Frame, Outgoing};
use huntaway_wire::hello::Identity;
use huntaway_wire::link::{Inbox, Link, Outbox};
use huntaway_wire::replicated::{Answered, Answers, Request, Store};
use huntaway_wire::{ClusterKey, Partition, Process};
use tokio::runtime::Handle;

use super::Stores;

/// Makes a connection to each process.
pub struct Links {
    ours: Identity,
    key: ClusterKey,
    runtime: Handle,
}

impl Links {
    /// Connections of this process. `runtime` does the work.
    pub fn new(ours: Identity, key: ClusterKey, runtime: Handle) -> Self {
        Self { ours, key, runtime }
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
        Some(Arc::new(Remote(Link::new(self.ours, self.key.clone(), process, *address, inbox))))
    }
}

/// A process behind a connection.
#[derive(Debug)]
struct Remote(Link);

impl Store for Remote {
    /// The answers come by the connection's inbox.
    fn request(&self, partition: Partition, request: Request, _answers: &Arc<dyn Answers>) {
        match Outgoing::new(partition, &request) {
            // What finds no room is sent again when it is overdue.
            Ok(frame) => drop(self.0.outbox().send(frame)),
            Err(error) => tracing::error!(%partition, %error, "a request fits in no frame"),
        }
    }
}

struct ToAnswers(Weak<dyn Answers>);

impl Inbox for ToAnswers {
    fn take(&self, from: Process, frame: Frame, _back: &Outbox) -> Result<(), Malformed> {
        let (partition, answered) = frame.open::<Answered>()?;
        if let Some(answers) = self.0.upgrade() {
            answers.answered(from, partition, answered);
        }
        Ok(())
    }
}
