//! One run: the machines, the time, and what happens next.

use std::collections::BTreeMap;
use std::time::Duration;

use huntaway_gateway::fencing::RequestNumber;

use super::bug::Bug;
use super::checker::Checker;
use super::connection::{Connection, Direction};
use super::event::{Event, Owner, Request, Work};
use super::gateway::Gateway;
use super::habits::{Habits, Step};
use super::initiator::Initiator;
use super::ledger::Ledger;
use super::store::Stores;
use super::{Outcome, Setting};
use crate::Random;
use crate::clock::{Clock, FASTEST, Ms, SLOWEST};
use crate::cluster::Cluster;
use crate::queue::Queue;

/// Length of a run.
const END_MS: Ms = 150_000;

/// The same if there is a cluster, which has no faults in the end.
const END_WITH_CLUSTER_MS: Ms = 26_000;

/// A stall that outlasts a path proof.
const LONG_STALL_MS: Ms = 2_000;

/// Everything there is.
pub(super) struct World {
    pub(super) now: Ms,
    queue: Queue<Event>,
    pub(super) random: Random,
    pub(super) habits: Habits,
    pub(super) bug: Option<Bug>,
    pub(super) initiators: Vec<Initiator>,
    pub(super) gateways: Vec<Gateway>,
    pub(super) stores: Stores,
    pub(super) ledger: Ledger,
    pub(super) connections: Vec<Connection>,
    /// The stores, if they are a cluster.
    pub(super) cluster: Option<Box<Cluster>>,
    /// What went to the cluster: by gateway, its incarnation, number and send.
    pub(super) sent: BTreeMap<(usize, u64, u64, u32), Request>,
    /// Whose a request is that went there.
    pub(super) owners: BTreeMap<(usize, u64, RequestNumber), Owner>,
    /// What stores of the cluster have to have heard to know of a record, by the number of records.
    pub(super) sequences: BTreeMap<usize, u64>,
    /// Nothing arrives before that time.
    pub(super) cuts: BTreeMap<(usize, usize, Direction), Ms>,
    pub(super) slow_network_until: Ms,
    pub(super) slow_stores_until: Ms,
    pub(super) checker: Checker,
    pub(super) outcome: Outcome,
    is_traced: bool,
}

impl World {
    pub(super) fn new(seed: u64, bug: Option<Bug>, setting: &Setting, is_traced: bool) -> Self {
        let mut random = Random::new(seed);
        let mut habits = Habits::new(&mut random);
        habits.replacement_timeout = setting.replacement_timeout;
        let gateways = 2 + random.index(2);
        let mut clocks = |count| (0..count).map(|_| Clock::new(&mut random)).collect::<Vec<_>>();
        let (of_initiators, of_gateways, of_stores) = (clocks(3), clocks(gateways), clocks(2));
        let (initiators, stores, slots) = (1 + random.index(3), 1 + random.index(2), 1 + random.index(3));
        let ledger = Ledger::new(initiators);
        let initiators = of_initiators.into_iter().take(initiators);
        let initiators =
            initiators.map(|clock| Initiator::new(clock, random.permille(500), gateways, slots)).collect();
        let mut world = Self {
            now: 0,
            queue: Queue::default(),
            habits,
            bug,
            initiators,
            gateways: of_gateways.into_iter().map(|clock| Gateway::new(clock, bug)).collect(),
            stores: Stores::new(of_stores.into_iter().take(stores)),
            ledger,
            connections: Vec::new(),
            cluster: None,
            sent: BTreeMap::new(),
            owners: BTreeMap::new(),
            sequences: BTreeMap::new(),
            cuts: BTreeMap::new(),
            slow_network_until: 0,
            slow_stores_until: 0,
            checker: Checker::default(),
            outcome: Outcome::default(),
            is_traced,
            random,
        };
        if setting.has_cluster {
            world.habits.hurry(&mut world.random);
            world.stores.all.clear();
            let (seed, bug) = (world.random.draw(), bug.and_then(Bug::in_cluster));
            let cluster = Cluster::below(seed, world.gateways.len(), bug, is_traced);
            world.cluster = Some(Box::new(cluster));
        }
        if setting.is_tight {
            world.tighten();
        }
        world
    }

    /// The habits and clocks that come closest to the bound: initiators whose clocks are fast fail over right after they
    /// sent a command, and what they sent stalls on its way.
    fn tighten(&mut self) {
        let favourites = [Step::Read, Step::TakeStamp, Step::CheckProof, Step::Send];
        let habits = &mut self.habits;
        habits.favourite = Some(self.random.pick(&favourites));
        (habits.slow_tcp, habits.slow_queue, habits.nervous) = (300, 500, 70);
        (habits.malice, habits.fin, habits.solicited, habits.reconnect_ms) = (0, 0, 0, 12_000);
        self.initiators.iter_mut().for_each(|initiator| initiator.clock.rate = FASTEST);
        self.gateways.iter_mut().for_each(|gateway| gateway.clock.rate = SLOWEST);
        self.stores.all.iter_mut().for_each(|store| store.clock.rate = SLOWEST);
    }

    pub(super) fn run(mut self) -> Outcome {
        for initiator in 0..self.initiators.len() {
            self.after(100, Event::Tick(initiator));
            for slot in 0..self.initiators[initiator].slots.len() {
                self.after(50, Event::NextOperation { initiator, slot });
            }
            for gateway in 0..self.gateways.len() {
                self.after(0, Event::Reconnect { initiator, gateway, failures: 0 });
            }
        }
        self.after(1_000, Event::Fault);
        let end = if self.cluster.is_some() { END_WITH_CLUSTER_MS } else { END_MS };
        while let Some(at) = self.queue.next_at().filter(|at| *at <= end) {
            if self.cluster_goes_on(at) {
                continue;
            }
            let Some((at, event)) = self.queue.pop() else { break };
            self.now = at;
            self.step(event);
        }
        self.judge_cluster();
        let Checker { violations, acknowledged, retries, worst_us, .. } = self.checker;
        Outcome { violations, acknowledged, retries, worst: Duration::from_micros(worst_us), ..self.outcome }
    }

    pub(super) fn after(&mut self, delay: Ms, event: Event) {
        self.queue.push(self.now + delay, event);
    }

    /// A thread of a gateway's process as it runs now does this after so much true time.
    pub(super) fn work_after(&mut self, delay: Ms, gateway: usize, work: Work) {
        let incarnation = self.gateways[gateway].incarnation;
        self.after(delay, Event::Gateway { gateway, incarnation, work });
    }

    /// The same for what is done for a connection, after a stall if it comes to one. If that is long the path may die
    /// meanwhile: then it matters.
    pub(super) fn work_after_stall(&mut self, connection: usize, step: Step, work: Work) {
        let Connection { initiator, gateway, .. } = self.connections[connection];
        let delay = self.habits.stall(step, &mut self.random);
        self.work_after(delay, gateway, work);
        if delay >= LONG_STALL_MS && self.random.permille(self.habits.malice) {
            let long = delay + self.random.below(2_000);
            self.path_dies(initiator, gateway, long);
        }
    }

    /// Tells what happens, if somebody wants to know.
    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        if self.is_traced {
            let (seconds, ms) = (self.now / 1000, self.now % 1000);
            self.outcome.trace.push(format!("{seconds:>4}.{ms:03} {}", what()));
        }
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::ToGateway(connection, exp_stat_sn, pdu) => self.on_bytes(connection, exp_stat_sn, pdu),
            Event::ToInitiator(connection, numbered) => self.on_response(connection, numbered),
            Event::Gateway { gateway, incarnation, work } => self.wake(gateway, incarnation, work),
            Event::Listen(gateway, incarnation) => {
                let state = &mut self.gateways[gateway];
                state.is_listening |= state.incarnation == incarnation;
            }
            Event::Arrive(request) => self.arrive(request),
            Event::Execute(request, early) => self.execute(request, early),
            Event::NewPrimary(store) => self.become_primary(store),
            Event::Record(record, waiter) => self.record(record, waiter),
            Event::StoreLearns { store, records } => self.store_learns(store, records),
            Event::Await { records, waiter } => self.await_stores(records, waiter),
            Event::NextOperation { initiator, slot } => self.next_operation(initiator, slot),
            Event::Tick(initiator) => self.tick(initiator),
            Event::ReplacementTimeout { initiator, gateway, downs } => {
                self.replace(initiator, gateway, downs)
            }
            Event::Reconnect { initiator, gateway, failures } => self.reconnect(initiator, gateway, failures),
            Event::Reset { initiator, gateway, failures } => self.reset(initiator, gateway, failures),
            Event::Fault => self.fault(),
        }
    }

    /// A thread of a gateway goes on, unless its process is gone or paused.
    fn wake(&mut self, gateway: usize, incarnation: u64, work: Work) {
        let Gateway { incarnation: current, mut paused_until, .. } = self.gateways[gateway];
        if let Some(cluster) = &self.cluster {
            paused_until = paused_until.max(cluster.paused_until(gateway));
        }
        if incarnation != current {
            return;
        }
        if paused_until > self.now {
            let delay = paused_until - self.now + self.random.below(2);
            return self.work_after(delay, gateway, work);
        }
        match work {
            Work::Read(connection) => self.read(connection),
            Work::TakeStamp(number, owner, early) => self.take_stamp(number, owner, early),
            Work::CheckProof(stamped, owner) => self.check_proof(stamped, owner),
            Work::Send(request) => self.send(request),
            Work::Overdue(number, send) => self.overdue(gateway, number, send),
            Work::OutOfPatience(connection, attempt) => self.out_of_patience(connection, attempt),
            Work::Die => {
                self.note(|| format!("FAULT gateway {gateway} restarts"));
                self.restart_gateway(gateway);
            }
            Work::Settle => self.settle(gateway),
            Work::Number(connection) => self.number(connection),
            Work::Write(connection, batch) => self.write(connection, batch),
            Work::Written(connection, batch) => self.written(connection, &batch),
            Work::Ping(connection) => self.tick_connection(connection),
            Work::Reply(request, answer, stamp) => self.on_reply(&request, answer, stamp),
            Work::Learn(records) => self.learn(gateway, records),
            Work::InForce(records, waiter) => self.in_force(gateway, records, waiter),
        }
    }
}
