//! The ways of this process to others, and what comes on them and on theirs to it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, Weak};

use huntaway_ledger::State;
use huntaway_replica::{Body, Input, Message, Process};
use huntaway_wire::comparison::{Compare, Compared};
use huntaway_wire::encoding::Malformed;
use huntaway_wire::frame::{Frame, Framed, Kind, Outgoing};
use huntaway_wire::hello::Identity;
use huntaway_wire::progress::{AskProgress, TellProgress};

use huntaway_wire::link::{Inbox, Link, Outbox, Status};
use huntaway_wire::loops::Loops;
use huntaway_wire::replicated::{Answered, Answers, Relay, Relayed, Request, Store, SyncAll, Synced};
use huntaway_wire::tls::Credentials;
use huntaway_wire::{Incarnation, NodeId, Partition};

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::Shared;
use super::door::Comes;
use crate::locking::lock;

/// Calls every other process that has replicas.
pub(super) struct Links {
    ours: Identity,
    credentials: Credentials,
    /// The threads that serve them; without them it is those of the runtime.
    loops: Option<Arc<Loops>>,
    links: RwLock<Known>,
    /// Where answers go that are for the gateways of other nodes, which had requests handed on.
    handed_on: Mutex<BTreeMap<Process, Outbox>>,
}

/// The links to those that the ledger has.
#[derive(Default)]
struct Known {
    /// The last record that they are by.
    number: u64,
    links: BTreeMap<NodeId, (SocketAddr, Link)>,
}

impl Links {
    pub(super) fn new(ours: Identity, credentials: Credentials, loops: Option<Arc<Loops>>) -> Self {
        Self { ours, credentials, loops, links: RwLock::default(), handed_on: Mutex::default() }
    }

    /// Calls those that the ledger knows by now, and no others. Whoever comes with an older state is late.
    pub(super) fn follow(&self, state: &State, inbox: &Arc<dyn Inbox>) {
        let mut known = self.links.write().unwrap_or_else(PoisonError::into_inner);
        if state.number() < known.number {
            return;
        }
        let Known { number, links } = &mut *known;
        *number = state.number();
        links.retain(|node, _| state.member(*node).is_some());
        lock(&self.handed_on).retain(|gateway, _| state.processes().any(|known| known == *gateway));
        for member in state.members().iter().filter(|member| member.node != self.ours.process.node) {
            let incarnation =
                state.sets().node(member.node).map_or(Incarnation(0), |known| known.incarnation);
            let (to, address) = (Process { node: member.node, incarnation }, member.addresses.first());
            let Some(&address) = address.filter(|_| incarnation > Incarnation(0)) else { continue };
            if links.get(&to.node).is_none_or(|(known, link)| (*known, link.to()) != (address, to)) {
                let _entered = self.loops.as_ref().and_then(|loops| loops.next()).map(Handle::enter);
                let credentials = self.credentials.clone();
                let link = Link::new(self.ours, credentials, to, address, Arc::clone(inbox));
                links.insert(to.node, (address, link));
            }
        }
    }

    /// Sends it to that process, if it can be: what matters is sent again.
    pub(super) fn send(&self, to: Process, partition: Partition, message: &Message) {
        let known = self.known();
        let Some(link) = known.link_to(to) else { return };
        match Outgoing::new(partition, message) {
            Ok(frame) if is_urgent(&message.body) => _ = link.outbox().send_first(frame),
            Ok(frame) => _ = link.outbox().send(frame),
            Err(error) => tracing::error!(%partition, %error, "a message to another replica is too long"),
        }
    }

    /// Asks that process something of its own. What does not arrive is asked again, or not known.
    pub(super) fn ask(&self, to: Process, asked: &impl Framed) {
        if let Some(link) = self.known().link_to(to) {
            put_of_process(link.outbox(), asked);
        }
    }

    /// The way to that process for a gateway, whose answers come back on it.
    pub(super) fn way(&self, to: Process) -> Option<Arc<dyn Store>> {
        let known = self.known();
        let link = known.link_to(to)?;
        Some(Arc::new(Way { outbox: link.outbox().clone(), status: link.status() }))
    }

    /// Hands a request on, for a gateway that does not reach its primary.
    fn hand_on(&self, from: Process, partition: Partition, relay: Relay, back: &Outbox) {
        lock(&self.handed_on).insert(from, back.clone());
        if let Some(link) = self.known().link_to(relay.to) {
            put(link.outbox(), partition, &relay.request);
        }
    }

    /// An answer came that is for another gateway.
    fn hand_back(&self, from: Process, partition: Partition, answered: Answered) {
        if let Some(back) = lock(&self.handed_on).get(&answered.id.gateway) {
            put(back, partition, &Relayed { from, answered });
        }
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.links.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn link_to(&self, to: Process) -> Option<&Link> {
        self.links.get(&to.node).map(|(_, link)| link).filter(|link| link.to() == to)
    }
}

/// A process behind a connection.
struct Way {
    outbox: Outbox,
    status: watch::Receiver<Status>,
}

impl Store for Way {
    fn request(&self, partition: Partition, request: Request, _: &Arc<dyn Answers>) {
        put(&self.outbox, partition, &request);
    }

    fn is_reachable(&self) -> bool {
        matches!(&*self.status.borrow(), Status::Connected(_))
    }

    fn relay(&self, partition: Partition, relay: Relay, _: &Arc<dyn Answers>) {
        put(&self.outbox, partition, &relay);
    }

    fn sync_all(&self, asked: SyncAll, _: &Arc<dyn Answers>) -> bool {
        put_of_process(&self.outbox, &asked)
    }
}

/// What finds no room is sent again by whoever needs it.
fn put<T: Framed>(outbox: &Outbox, partition: Partition, body: &T) {
    match Outgoing::new(partition, body) {
        Ok(frame) => _ = outbox.send(frame),
        Err(error) => tracing::error!(%partition, %error, "what is to be sent fits in no frame"),
    }
}

/// `false`: it found no room.
fn put_of_process<T: Framed>(outbox: &Outbox, body: &T) -> bool {
    Outgoing::of_process(body).is_ok_and(|frame| outbox.send(frame))
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
                let comes = Comes::Input(Input::Received { from, message });
                shared.comes(partition, comes, frame.size_bytes());
            }
            Kind::Answer => {
                let (partition, answered) = frame.open::<Answered>()?;
                if answered.id.gateway == shared.me {
                    shared.answered(from, partition, answered);
                } else {
                    shared.links.hand_back(from, partition, answered);
                }
            }
            Kind::Relayed => {
                let (partition, Relayed { from: of, answered }) = frame.open::<Relayed>()?;
                if shared.is_member(from) {
                    shared.answered(of, partition, answered);
                }
            }
            Kind::Relay => {
                let (partition, relay) = frame.open::<Relay>()?;
                if relay.to != shared.me {
                    shared.links.hand_on(from, partition, relay, back);
                }
            }
            Kind::SyncAll => {
                let asked = frame.open_of_process::<SyncAll>()?;
                let answers: Arc<dyn Answers> = Arc::new(Back(back.clone()));
                if asked.gateway == from && !shared.wants_all(asked, &answers) {
                    answers.synced(shared.me, Synced { asked, known: None });
                }
            }
            Kind::Compare => {
                let asked = frame.open_of_process::<Compare>()?;
                if asked.asker == from {
                    put_of_process(back, &shared.compared(asked));
                }
            }
            Kind::Compared => shared.was_compared(from, frame.open_of_process::<Compared>()?),
            Kind::AskProgress => {
                let asked = frame.open_of_process::<AskProgress>()?;
                if asked.asker == from {
                    put_of_process(back, &shared.tell_progress(asked));
                }
            }
            Kind::TellProgress => shared.progress_was_told(from, frame.open_of_process::<TellProgress>()?),
            Kind::Synced => {
                let synced = frame.open_of_process::<Synced>()?;
                if let Some(answers) = shared.gateway.get().and_then(Weak::upgrade) {
                    answers.synced(from, synced);
                }
            }
            _ => {
                let (partition, request) = frame.open::<Request>()?;
                let answers: Arc<dyn Answers> = Arc::new(Back(back.clone()));
                // Its gateway is another one, if it was handed on, which members do alone.
                if request.id.gateway == from || shared.is_member(from) {
                    shared.requested(partition, request, answers, frame.size_bytes());
                }
            }
        }
        Ok(())
    }
}

impl Shared {
    fn is_member(&self, process: Process) -> bool {
        huntaway_membership::Driver::state(&*self.ledger).member(process.node).is_some()
    }

    fn answered(&self, from: Process, partition: Partition, answered: Answered) {
        if let Some(answers) = self.gateway.get().and_then(Weak::upgrade) {
            answers.answered(from, partition, answered);
        }
    }
}

/// Answers go back on the connection on which the request came.
struct Back(Outbox);

impl Answers for Back {
    fn answered(&self, _: Process, partition: Partition, answered: Answered) {
        put(&self.0, partition, &answered);
    }

    fn synced(&self, _: Process, synced: Synced) {
        // Who waits for it asks partition by partition, if it does not come.
        put_of_process(&self.0, &synced);
    }
}
