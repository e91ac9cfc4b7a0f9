//! The stores: one replicated state of which one of them is primary at a time. How it is replicated is not simulated here: a
//! change of primary hands it over whole.

use std::collections::{BTreeMap, BTreeSet};

use huntaway_gateway::fencing::RequestNumber;
use huntaway_wire::{Incarnation, NodeId, Stamp};

use super::bug::Bug;
use super::event::{Answer, Early, Event, Request, Work};
use super::world::World;
use crate::clock::{Clock, Ms};

/// One store's process.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) id: NodeId,
    pub(super) clock: Clock,
    pub(super) incarnation: Incarnation,
    pub(super) paused_until: Ms,
    /// How many of the ledger's records it knows.
    pub(super) records: usize,
}

/// A gateway and its incarnation.
type Sender = (usize, u64);

/// All stores.
#[derive(Debug)]
pub(super) struct Stores {
    pub(super) all: Vec<Store>,
    pub(super) primary: Option<usize>,
    /// Requests that took effect, from each sender's trim mark on.
    pub(super) done: BTreeSet<(Sender, RequestNumber)>,
    trimmed: BTreeMap<Sender, RequestNumber>,
    /// That of the version of the disk that is worked with. All stores hold writes until they know of it.
    pub(super) layout: u64,
}

impl Stores {
    pub(super) fn new(clocks: impl IntoIterator<Item = Clock>) -> Self {
        let store = |(number, clock)| Store {
            id: NodeId([number; 16]),
            clock,
            incarnation: Incarnation(1),
            paused_until: 0,
            records: 0,
        };
        let all = (0..).zip(clocks).map(store).collect();
        Self { all, primary: Some(0), done: BTreeSet::new(), trimmed: BTreeMap::new(), layout: 1 }
    }

    fn place(&self, id: NodeId) -> usize {
        self.all.iter().position(|store| store.id == id).expect("requests go to stores that there are")
    }

    fn is_fresh(&self, store: usize, stamp: Stamp, now: Ms) -> bool {
        let Store { incarnation, clock, .. } = self.all[store];
        stamp.is_fresh(incarnation, clock.read(now))
    }

    /// Forgets what is below a sender's lowest request, and returns the mark below which nothing is executed.
    fn trim(&mut self, sender: Sender, lowest: RequestNumber) -> RequestNumber {
        let mark = self.trimmed.entry(sender).or_insert(lowest);
        if lowest > *mark {
            let old = (sender, *mark)..(sender, lowest);
            let old: Vec<_> = self.done.range(old).copied().collect();
            for key in old {
                self.done.remove(&key);
            }
            *mark = lowest;
        }
        *mark
    }
}

impl World {
    /// Time that a message between a gateway and a store takes.
    pub(super) fn store_delay(&mut self) -> Ms {
        let is_slow = self.slow_network_until > self.now && self.random.permille(500);
        let slow = if is_slow { self.random.below(1_000) } else { 0 };
        let late = if self.random.permille(20) { self.random.below(700) } else { 0 };
        slow + late + self.random.below(2)
    }

    /// A request reaches its store, and waits for its turn.
    pub(super) fn arrive(&mut self, request: Request) {
        let store = self.stores.place(request.sending.store);
        let is_fresh = self.stores.is_fresh(store, request.sending.stamp, self.now);
        let early = Early { is_fresh, is_fenced: self.is_fenced(store, &request) };
        let delay = if self.slow_stores_until > self.now && self.random.permille(400) {
            self.random.below(10_000)
        } else if self.random.permille(self.habits.slow_queue) {
            self.random.below(700)
        } else {
            0
        };
        self.after(delay, Event::Execute(request, early));
    }

    /// Whether the store knows that what the gateway received before some record was given up.
    fn is_fenced(&self, store: usize, request: &Request) -> bool {
        request.sending.fence < self.ledger.after(self.stores.all[store].records).fence
    }

    /// It has its turn: this is the step in which a write gets its version.
    pub(super) fn execute(&mut self, request: Request, early: Early) {
        let store = self.stores.place(request.sending.store);
        let paused_until = self.stores.all[store].paused_until;
        if paused_until > self.now {
            let delay = paused_until - self.now + self.random.below(50);
            return self.after(delay, Event::Execute(request, early));
        }
        let Some(answer) = self.answer(store, &request, early) else { return };
        let Store { incarnation, clock, .. } = self.stores.all[store];
        let stamp = Stamp { incarnation, clock: clock.read(self.now) };
        let mut delay = self.store_delay();
        if answer == Answer::Done && self.random.permille(self.habits.restless) {
            delay += self.random.below(2_000);
            let next = self.random.index(self.stores.all.len());
            self.hand_over(next);
        }
        let (gateway, incarnation) = (request.gateway, request.incarnation);
        let work = Work::Reply(request, answer, stamp);
        self.after(delay, Event::Gateway { gateway, incarnation, work });
    }

    /// What becomes of a request; `None` if nobody waits for an answer any more.
    fn answer(&mut self, store: usize, request: &Request, early: Early) -> Option<Answer> {
        if self.stores.primary != Some(store) {
            return Some(Answer::NotPrimary);
        }
        let Request { gateway, incarnation, sending, .. } = request;
        let key = ((*gateway, *incarnation), sending.number);
        let mark = self.stores.trim(key.0, sending.lowest);
        let is_fresh = match self.bug {
            Some(Bug::AgeAtArrival) => early.is_fresh,
            _ => self.stores.is_fresh(store, sending.stamp, self.now),
        };
        let unit = self.ledger.after(self.stores.all[store].records);
        let is_fenced = match self.bug {
            Some(Bug::FenceNotChecked) => false,
            Some(Bug::FenceAtArrival) => early.is_fenced,
            _ => self.is_fenced(store, request),
        };
        let is_old = request.layout < self.stores.layout && self.bug != Some(Bug::LayoutNotChecked);
        if self.stores.done.contains(&key) {
            Some(Answer::Done)
        } else if sending.number < mark && self.bug != Some(Bug::TrimmedExecuted) {
            None
        } else if !is_fresh {
            Some(Answer::Stale)
        } else if is_fenced {
            Some(Answer::Fenced)
        } else if is_old {
            Some(Answer::OldLayout)
        } else if sending.fence > unit.fence || request.layout > self.stores.layout {
            // The gateway has heard of something that this store has not.
            Some(Answer::NotPrimary)
        } else {
            self.stores.done.insert(key);
            self.take_effect(request);
            Some(Answer::Done)
        }
    }

    fn take_effect(&mut self, request: &Request) {
        let Request { gateway, owner, sending, .. } = request;
        let operation = self.checker.operation(owner.attempt);
        let (block, value) = (operation.block, operation.value);
        let is_frozen = request.layout < self.stores.layout;
        let violations = self.checker.effect(owner.attempt, is_frozen, self.now);
        let (attempt, number, send) = (owner.attempt, sending.number.0, sending.send);
        self.note(|| {
            format!(
                "EFFECT block {block} = {value}: attempt {attempt}, request {number} of gateway {gateway}, send {send}"
            )
        });
        for violation in violations {
            self.note(|| format!("VIOLATION by attempt {attempt}: {violation}"));
        }
    }

    pub(super) fn become_primary(&mut self, store: usize) {
        self.stores.primary = Some(store);
        if self.bug == Some(Bug::NoDedupeAtHandover) {
            self.stores.done.clear();
        }
        self.note(|| format!("store {store} is primary"));
    }
}
