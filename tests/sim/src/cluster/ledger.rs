//! The ledger, as an oracle: one order of records, told to everybody sooner or later. It may be wrong about who lives.

use std::collections::BTreeSet;
use std::sync::Arc;

use huntaway_ledger::{Disks, InSyncChange, InSyncSets, Incarnation, Memory, Record, SetRecord};
use huntaway_replica::{Configuration, Process, Vdis};
use huntaway_store::host::agreed::configuration;
use huntaway_wire::{NodeId, Partition, Pepoch};

use super::branch::Named;
use super::event::{AtNode, Event};
use super::{
    Broken, Bug, Cluster, Endpoint, FAULTS_END, MS, Shape, agreement, endpoint_of, id_of, note, partition,
};
use crate::Random;
use crate::clock::Time;
use crate::storage::ReplicaStorage;

/// How often the ledger looks who lives.
const DETECT: Time = 500 * MS;

/// From the decision that a node is down to when that is acted on: its lease has run out by then.
pub(crate) const LEASE_RUNS_OUT: Time = 700 * MS;

/// What was agreed on.
pub(crate) struct Ledger {
    /// The records so far, each read from the bytes that it was written to.
    pub(crate) agreed: huntaway_ledger::Ledger,
    /// The disks, by the numbers that they have in a run; those that are made of snapshots come after the first [`MAX_DISKS`].
    pub(crate) named: Vec<Option<Named>>,
    /// How often something new was told.
    pub(crate) sequence: u64,
    /// What replicas are given, by partition.
    pub(crate) rows: Vec<Row>,
    /// The newest process of each gateway.
    pub(crate) gateways: Vec<Process>,
    /// How often in a row a node did not answer.
    silent: Vec<u32>,
    /// Nodes that get no lease any more, for they are about to be down.
    going_down: Vec<bool>,
    /// What a node must know to get a lease: all up to the record that says that it is there.
    there_since: Vec<u64>,
    /// All nodes in each partition's order of preference.
    pub(crate) rings: Vec<Vec<NodeId>>,
    /// Which nodes are to keep data at all.
    pub(crate) keeps_data: Vec<bool>,
    /// Nodes that were removed for good.
    pub(crate) removed: BTreeSet<NodeId>,
    /// Partitions that a person had opened although flushed writes may be lost, and that were not opened yet.
    forced: BTreeSet<Partition>,
    /// Partitions whose recovery failed and is told to be done, which is wrong.
    pub(crate) counted_as_done: BTreeSet<Partition>,
}

/// A partition's agreed state.
pub(crate) struct Row {
    /// Raised with every change.
    pub(crate) version: u64,
    pub(crate) configuration: Arc<Configuration>,
    /// When its primary took another one's place.
    pub(crate) primary_since: Time,
    /// When its pepoch began.
    pub(crate) began: Time,
}

impl Ledger {
    pub(crate) fn new(shape: &Shape, bug: Option<Bug>, random: &mut Random) -> Self {
        let nodes: Vec<NodeId> = (0..shape.nodes).map(id_of).collect();
        let ring = |_| {
            let mut ring = nodes.clone();
            ring.rotate_left(random.below(nodes.len() as u64) as usize);
            ring
        };
        let rings: Vec<Vec<NodeId>> = (0..shape.partitions).map(ring).collect();
        let gateways = (0..shape.gateways)
            .map(|gateway| Process { node: id_of(shape.nodes + gateway), incarnation: Incarnation(1) })
            .collect();
        let mut ledger = Self {
            agreed: agreement::first(shape, &rings, bug),
            named: Vec::new(),
            sequence: 0,
            rows: Vec::new(),
            gateways,
            silent: vec![0; shape.nodes],
            going_down: vec![false; shape.nodes],
            there_since: vec![0; shape.nodes],
            rings,
            keeps_data: vec![true; shape.nodes],
            removed: BTreeSet::new(),
            forced: BTreeSet::new(),
            counted_as_done: BTreeSet::new(),
        };
        ledger.create_disks(shape.disks);
        ledger.rows = (0..shape.partitions)
            .map(|number| {
                let configuration = ledger.configuration(number, &ledger.vdis());
                Row { version: 1, configuration: Arc::new(configuration), primary_since: 0, began: 0 }
            })
            .collect();
        ledger
    }

    fn configuration(&self, number: u16, vdis: &Arc<Vdis>) -> Configuration {
        let configuration = configuration(self.agreed.state(), partition(number), &self.gateways, vdis);
        configuration.expect("every partition has a set")
    }

    pub(crate) fn sets(&self) -> &InSyncSets {
        self.agreed.state().sets()
    }

    pub(crate) fn disks(&self) -> &Disks {
        self.agreed.state().disks()
    }

    /// Whether the node is about to be down.
    pub(crate) fn is_going_down(&self, node: Endpoint) -> bool {
        self.going_down[node]
    }

    /// Where gateways find the partition, as the ledger knows it.
    pub(crate) fn primary(&self, number: usize) -> (Pepoch, Endpoint) {
        let configuration = &self.rows[number].configuration;
        (configuration.pepoch, endpoint_of(configuration.primary))
    }
}

impl Cluster {
    /// Whether the ledger gives the node a lease now.
    pub(crate) fn ledger_grants(&self, node: usize) -> bool {
        let state = self.ledger.sets().node(id_of(node));
        self.is_near_ledger(node)
            && !self.ledger.going_down[node]
            && self.nodes[node].applied >= self.ledger.there_since[node]
            && state.is_some_and(|known| known.is_up && known.incarnation == self.nodes[node].incarnation)
    }

    fn is_near_ledger(&self, endpoint: Endpoint) -> bool {
        let ledger = self.ledger_endpoint();
        self.network.reaches(endpoint, ledger) && self.network.reaches(ledger, endpoint)
    }

    pub(crate) fn record_arrives(&mut self, from: Endpoint, record: &SetRecord) {
        if self.ledger.agree(&Record::Sets(record.clone())).is_err() {
            return;
        }
        self.perhaps_join();
        note!(self, "the ledger has {record:?} of {from}");
        self.mind_drop(record);
        self.mind_blamed(from, record);
        // Nobody waits for a node that is down: what it did not hear meanwhile, it has to know before it serves. And that it is
        // down it has to know before it is up again.
        let concerned = match record {
            SetRecord::NodeStarted { node, .. } | SetRecord::NodeUp { node } => core::slice::from_ref(node),
            SetRecord::NodesDown { nodes } => nodes,
            _ => &[],
        };
        for node in concerned {
            self.ledger.there_since[endpoint_of(*node)] = self.ledger.sequence + 1;
        }
        self.mind_disowned(record);
        self.mind_left(record);
        self.mind_counted_on(Some(record));
        match *record {
            SetRecord::NodeStarted { node, incarnation, memory, .. } => {
                // Power may have gone again since the process said so.
                let state = &mut self.nodes[endpoint_of(node)];
                if state.incarnation == incarnation && state.is_alive() && !state.disk_failed {
                    state.memory = Memory::Kept;
                    if memory == Memory::Damaged {
                        state.storage.iter_mut().for_each(ReplicaStorage::damage_is_known);
                    }
                }
            }
            SetRecord::Changed { change: InSyncChange::Promote { node, incarnation }, partition, .. } => {
                self.summary.promotions += 1;
                let learner = endpoint_of(node);
                self.has_all_again(Process { node, incarnation }, partition);
                self.promoted(from, learner, partition);
            }
            SetRecord::Changed { change: InSyncChange::Collected, partition, pepoch } => {
                self.summary.collections += 1;
                let is_forced = self.ledger.forced.remove(&partition);
                let kept = self.kept(partition, is_forced);
                self.histories.lost(partition, pepoch, self.time, kept);
                let primary = self.ledger.rows[partition.index()].configuration.primary();
                primary.into_iter().for_each(|primary| self.has_all_again(primary, partition));
            }
            SetRecord::Forced { partition, .. } => {
                // It may be less than what was shown.
                if self.ledger.sets().set(partition).is_some_and(|set| set.is_forced) {
                    self.ledger.forced.insert(partition);
                }
                self.summary.forced += 1;
            }
            _ => {}
        }
        self.publish();
    }

    /// What is on the only disk that a node ever had counts.
    fn mind_disowned(&mut self, record: &SetRecord) {
        let SetRecord::NodeStarted { node, .. } = record else { return };
        for number in 0..self.shape.partitions {
            let before = &self.ledger.rows[usize::from(number)].configuration;
            let was_in = before.in_sync.iter().any(|process| process.node == *node);
            let set = self.ledger.sets().set(partition(number));
            let is_in = set.is_some_and(|set| set.in_sync.contains(node) && set.lost.is_none());
            if was_in && !is_in && self.nodes[endpoint_of(*node)].is_original {
                self.broken = Some(Broken::Disowned { partition: number, node: endpoint_of(*node) });
            }
        }
    }

    /// Whatever the log of the process had lost, it has what it is to have, unless it has died since.
    fn has_all_again(&mut self, process: Process, partition: Partition) {
        let state = &mut self.nodes[endpoint_of(process.node)];
        if state.is_alive() && state.incarnation == process.incarnation {
            state.storage[partition.index()].is_taught();
            state.copies[partition.index()].removed = None;
        }
    }

    /// Tells everybody what is new.
    pub(crate) fn publish(&mut self) {
        self.ledger.sequence += 1;
        let vdis = self.ledger.vdis();
        for number in 0..self.shape.partitions {
            let configuration = self.ledger.configuration(number, &vdis);
            let row = &mut self.ledger.rows[usize::from(number)];
            if *row.configuration == configuration {
                continue;
            }
            self.summary.pepochs += u64::from(row.configuration.pepoch != configuration.pepoch);
            row.version += 1;
            if row.configuration.primary != configuration.primary {
                row.primary_since = self.time;
            }
            if row.configuration.pepoch != configuration.pepoch {
                row.began = self.time;
            }
            row.configuration = Arc::new(configuration);
            let line = self.trace.is_some().then(|| {
                let configuration = &self.ledger.rows[usize::from(number)].configuration;
                let name =
                    |process: &Process| format!("{}.{}", endpoint_of(process.node), process.incarnation.0);
                let in_sync: Vec<String> = configuration.in_sync.iter().map(name).collect();
                let doubtful: Vec<Endpoint> =
                    configuration.doubtful.iter().copied().map(endpoint_of).collect();
                let pepoch = configuration.pepoch.0;
                format!("partition {number}: pepoch {pepoch}, in sync {in_sync:?}, doubtful {doubtful:?}")
            });
            line.into_iter().for_each(|line| self.note(&line));
        }
        for node in 0..self.shape.nodes {
            let delay = self.news_delay();
            self.at_process(node, delay, AtNode::News);
        }
        for gateway in 0..self.shape.gateways {
            let delay = self.news_delay();
            if self.time < FAULTS_END && self.random.percent(self.habits.deaf_gateways_percent) {
                let endpoint = self.gateway_endpoint(gateway);
                let until = self.time + self.random.below(6_000 * MS);
                self.network.late_news[endpoint] = self.network.late_news[endpoint].max(until);
            }
            self.news_for_gateway_in(gateway, delay);
        }
    }

    fn news_delay(&mut self) -> Time {
        let late = if self.random.percent(15) { self.random.below(500 * MS) } else { 0 };
        500 + self.random.below(5 * MS) + late
    }

    pub(crate) fn detect(&mut self) {
        self.at(DETECT, Event::Detect);
        self.force_open();
        self.mind_health();
        let patience = 2 + self.random.below(5);
        let mut silent_nodes = Vec::new();
        for node in 0..self.shape.nodes {
            let state = &self.nodes[node];
            let answers = state.is_alive()
                && !state.has_left
                && state.paused_until <= self.time
                && self.is_near_ledger(node);
            let silent = if answers { 0 } else { self.ledger.silent[node] + 1 };
            self.ledger.silent[node] = silent;
            let is_up = self.ledger.sets().node(id_of(node)).is_some_and(|known| known.is_up);
            if is_up && u64::from(silent) > patience {
                silent_nodes.push(node);
            } else if answers
                && !is_up
                && !self.ledger.going_down[node]
                && self.nodes[node].applied >= self.ledger.there_since[node]
                && !self.has_failure_to_tell(node)
            {
                self.record_arrives(node, &SetRecord::NodeUp { node: id_of(node) });
            }
        }
        self.take_down(silent_nodes);
    }

    /// The nodes are to be down, rightly or wrongly.
    pub(crate) fn take_down(&mut self, mut nodes: Vec<usize>) {
        nodes.retain(|node| !self.ledger.going_down[*node]);
        if !nodes.is_empty() {
            nodes.iter().for_each(|node| self.ledger.going_down[*node] = true);
            self.at(LEASE_RUNS_OUT, Event::DownActive { nodes });
            if self.time < FAULTS_END && self.random.percent(self.shape.reset_percent) {
                // While it may still serve, if nothing but the other stores keeps it from that.
                let after = self.random.below(LEASE_RUNS_OUT + 100 * MS);
                self.at(after, Event::Reset);
            }
        }
    }

    /// The node says that it serves no more: nobody waits for its lease.
    pub(crate) fn leaves(&mut self, node: usize) {
        if self.is_near_ledger(node) && !self.ledger.going_down[node] {
            self.ledger.going_down[node] = true;
            let after = 500 + self.random.below(20 * MS);
            self.at(after, Event::DownActive { nodes: vec![node] });
        }
    }

    pub(crate) fn down_active(&mut self, nodes: &[usize]) {
        nodes.iter().for_each(|node| self.ledger.going_down[*node] = false);
        let nodes = nodes.iter().copied().map(id_of).collect();
        self.record_arrives(self.ledger_endpoint(), &SetRecord::NodesDown { nodes });
    }
}
