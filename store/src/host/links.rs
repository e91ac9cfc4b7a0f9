//! The ways of this process to others, and what comes on them and on theirs to it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, Weak};

use huntaway_ledger::State;
use huntaway_replica::{Body, Input, Message, Process};
use huntaway_wire::encoding::Malformed;
use huntaway_wire::frame::{Frame, Kind, Outgoing};
use huntaway_wire::hello::Identity;

use huntaway_wire::link::{Inbox, Link, Outbox};
use huntaway_wire::replicated::{Answered, Answers, Request, Store};
use huntaway_wire::{ClusterKey, Incarnation, Partition};

use super::Shared;

/// Calls every other process that has replicas.
pub(super) struct Links {
    ours: Identity,
    key: ClusterKey,
    links: RwLock<BTreeMap<huntaway_wire::NodeId, (SocketAddr, Link)>>,
}

impl Links {
    pub(super) fn new(ours: Identity, key: ClusterKey) -> Self {
        Self { ours, key, links: RwLock::default() }
    }

    /// Calls those that the ledger knows by now, and no others.
    pub(super) fn follow(&self, state: &State, inbox: &Arc<dyn Inbox>) {
        let mut links = self.links.write().unwrap_or_else(PoisonError::into_inner);
        links.retain(|node, _| state.member(*node).is_some());
        for member in state.members().iter().filter(|member| member.node != self.ours.process.node) {
            let incarnation =
                state.sets().node(member.node).map_or(Incarnation(0), |known| known.incarnation);
            let (to, address) = (Process { node: member.node, incarnation }, member.addresses.first());
            let Some(&address) = address.filter(|_| incarnation > Incarnation(0)) else { continue };
            if links.get(&to.node).is_none_or(|(known, link)| (*known, link.to()) != (address, to)) {
                let link = Link::new(self.ours, self.key.clone(), to, address, Arc::clone(inbox));
                links.insert(to.node, (address, link));
            }
        }
    }

    /// Sends it to that process, if it can be: what matters is sent again.
    pub(super) fn send(&self, to: Process, partition: Partition, message: &Message) {
        let links = self.links();
        let Some((_, link)) = links.get(&to.node).filter(|(_, link)| link.to() == to) else { return };
        match Outgoing::new(partition, message) {
            Ok(frame) if is_urgent(&message.body) => _ = link.outbox().send_first(frame),
            Ok(frame) => _ = link.outbox().send(frame),
            Err(error) => tracing::error!(%partition, %error, "a message to another replica is too long"),
        }
    }

    /// The way to that process for a gateway, whose answers come back on it.
    pub(super) fn way(&self, to: Process) -> Option<Arc<dyn Store>> {
        let links = self.links();
        let (_, link) = links.get(&to.node).filter(|(_, link)| link.to() == to)?;
        Some(Arc::new(Way(link.outbox().clone())))
    }

    fn links(&self) -> RwLockReadGuard<'_, BTreeMap<huntaway_wire::NodeId, (SocketAddr, Link)>> {
        self.links.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A process behind a connection.
struct Way(Outbox);

impl Store for Way {
    fn request(&self, partition: Partition, request: Request, _: &Arc<dyn Answers>) {
        match Outgoing::new(partition, &request) {
            // What finds no room is sent again when it is overdue.
            Ok(frame) => _ = self.0.send(frame),
            Err(error) => tracing::error!(%partition, %error, "a request fits in no frame"),
        }
    }
}

/// Whether leases hang on it.
fn is_urgent(body: &Body) -> bool {
    matches!(body, Body::Beacon { .. } | Body::Granted { .. })
}

/// What comes, on whichever connection.
pub(super) struct Socket(pub(super) Weak<Shared>);

impl Inbox for Socket {
    fn take(&self, from: Process, frame: Frame, back: &Outbox) -> Result<(), Malformed> {
        let Some(shared) = self.0.upgrade() else { return Ok(()) };
        match frame.kind {
            Kind::Message => {
                let (partition, message) = frame.open::<Message>()?;
                shared.step(partition, Input::Received { from, message });
            }
            Kind::Answer => {
                let (partition, answered) = frame.open::<Answered>()?;
                if let Some(answers) = shared.gateway.get().and_then(Weak::upgrade) {
                    answers.answered(from, partition, answered);
                }
            }
            _ => {
                let (partition, request) = frame.open::<Request>()?;
                if request.id.gateway != from {
                    return Err(Malformed::Unknown { what: "request of this gateway", code: 0 });
                }
                let answers: Arc<dyn Answers> = Arc::new(Back(back.clone()));
                shared.request(partition, request, &answers);
            }
        }
        Ok(())
    }
}

/// Answers go back on the connection on which the request came.
struct Back(Outbox);

impl Answers for Back {
    fn answered(&self, _: Process, partition: Partition, answered: Answered) {
        match Outgoing::new(partition, &answered) {
            Ok(frame) => _ = self.0.send(frame),
            Err(error) => tracing::error!(%partition, %error, "an answer is too long"),
        }
    }
}
