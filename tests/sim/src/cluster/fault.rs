//! What goes wrong, drawn with a bias towards what is rare and hurts: primaries, whole sets, and several things at once.

use huntaway_ledger::{InSyncChange, Incarnation, SetRecord};

use huntaway_replica::{Input, Process};
use huntaway_wire::Partition;

use super::event::Event;
use super::habits::Kind;
use super::ledger::LEASE_RUNS_OUT;
use super::{Cluster, Endpoint, FAULTS_END, MS, SECOND, endpoint_of, note, partition};
use crate::clock::Time;
use crate::storage::Crash;

impl Cluster {
    pub(crate) fn fault(&mut self) {
        if self.time > FAULTS_END {
            return self.mend();
        }
        if self.time < self.undisturbed_until {
            let rest = self.undisturbed_until - self.time;
            return self.at(rest, Event::Fault);
        }
        let longest = self.random.pick(&self.habits.longest_calms);
        let next = 50 * MS + self.random.below(longest);
        self.at(next, Event::Fault);
        self.summary.faults += 1;
        let node = self.victim();
        match self.habits.next(&mut self.random) {
            Kind::Kill => self.crash(node, Crash::Killed, 8 * SECOND),
            Kind::LosePower => self.lose_power(node, 8 * SECOND),
            Kind::Restart => self.restart(node),
            Kind::CrashSet => self.crash_set(),
            Kind::Overthrow => self.overthrow(),
            Kind::Pause => self.pause(node),
            Kind::PauseWithGateway => self.pause_with_gateway(node),
            Kind::PauseGateway => self.pause_gateway(),
            Kind::Split => self.split(),
            Kind::Isolate => self.isolate(node),
            Kind::Block => self.block(node),
            Kind::Slow => self.slow(node),
            Kind::KillGateway => self.kill_gateway(),
            Kind::Estrange => self.estrange(),
            Kind::Shun => self.shun(),
            Kind::Suspect => self.suspect(node),
            Kind::PauseAndDrop => self.pause_and_drop(node),
            Kind::Stall => self.stall(),
            Kind::Plot => self.plot(),
        }
    }

    /// A node, often a primary.
    pub(crate) fn victim(&mut self) -> usize {
        if self.random.percent(60) {
            let partition = self.random.below(self.shape.partitions.into()) as usize;
            self.ledger.primary(partition).1
        } else {
            self.random.below(self.shape.nodes as u64) as usize
        }
    }

    pub(crate) fn crash(&mut self, node: usize, crash: Crash, longest: Time) {
        if self.nodes[node].is_alive() {
            self.crash_node(node, crash);
            let back = MS + self.random.below(longest);
            self.at(back, Event::StartNode { node });
        }
    }

    /// The process of a node is killed and starts again soon, or ends in order: its replicas serve no more, and say so.
    fn restart(&mut self, node: usize) {
        if self.random.percent(40) {
            return self.crash(node, Crash::Killed, 50 * MS);
        }
        let longest = self.random.pick(&[50 * MS, SECOND]);
        let after = self.random.below(longest);
        self.leave_in_order(node, after);
    }

    /// The process is gone after so long.
    pub(crate) fn leave_in_order(&mut self, node: usize, after: Time) {
        let state = &self.nodes[node];
        if !state.is_alive() || state.has_left || state.paused_until > self.time {
            return self.crash(node, Crash::Killed, 50 * MS);
        }
        let incarnation = state.incarnation;
        note!(self, "node {node} leaves");
        self.nodes[node].has_left = true;
        self.says_that_it_leaves(node);
        self.leaves(node);
        self.at(after, Event::HasLeft { node, incarnation });
    }

    fn says_that_it_leaves(&mut self, node: usize) {
        (0..self.shape.partitions).for_each(|number| self.step(node, partition(number), Input::Leave));
    }

    pub(crate) fn has_left(&mut self, node: usize, incarnation: Incarnation) {
        if self.nodes[node].incarnation == incarnation && self.nodes[node].is_alive() {
            // What it said may come late, and twice.
            self.says_that_it_leaves(node);
            let longest = self.random.pick(&[50 * MS, 8 * SECOND]);
            self.crash(node, Crash::Killed, longest);
        }
    }

    fn lose_power(&mut self, node: usize, longest: Time) {
        let is_damaged = self.random.percent(self.habits.damaged_logs_percent);
        self.crash(node, if is_damaged { Crash::Damaged } else { Crash::PowerLost }, longest);
    }

    /// A whole in-sync set dies: some lose power, others only their process.
    fn crash_set(&mut self) {
        let partition = self.random.below(self.shape.partitions.into()) as usize;
        let in_sync = self.ledger.rows[partition].configuration.in_sync.clone();
        if self.habits.damaged_logs_percent > 0 && self.random.percent(50) {
            let damaged = endpoint_of(self.random.pick(&in_sync).node);
            return self.lose_power_of_set(partition, damaged);
        }
        let power_percent = [0, 50, 100][self.random.below(3) as usize];
        let longest = [300 * MS, 6 * SECOND][self.random.below(2) as usize];
        for process in in_sync {
            let node = endpoint_of(process.node);
            if self.random.percent(power_percent) {
                self.lose_power(node, longest);
            } else {
                self.crash(node, Crash::Killed, longest);
            }
        }
    }

    /// A whole in-sync set loses power, and one of the logs is damaged.
    pub(crate) fn lose_power_of_set(&mut self, partition: usize, damaged: Endpoint) {
        for process in self.ledger.rows[partition].configuration.in_sync.clone() {
            let node = endpoint_of(process.node);
            self.crash(node, if node == damaged { Crash::Damaged } else { Crash::PowerLost }, SECOND);
        }
    }

    fn pause_time(&mut self) -> Time {
        let longest = [800 * MS, 2 * SECOND, 7 * SECOND][self.random.below(3) as usize];
        self.time + 50 * MS + self.random.below(longest)
    }

    fn pause(&mut self, node: usize) {
        let until = self.pause_time();
        note!(self, "node {node} pauses until {} ms", until / MS);
        self.nodes[node].pause_until(self.time, until);
    }

    fn pause_gateway(&mut self) {
        let gateway = self.random.below(self.shape.gateways as u64) as usize;
        let until = self.pause_time();
        note!(self, "gateway {gateway} pauses until {} ms", until / MS);
        let state = &mut self.gateways[gateway];
        state.paused_until = state.paused_until.max(until);
    }

    /// A machine with a gateway and a store stops for a while.
    fn pause_with_gateway(&mut self, node: usize) {
        let gateway = node % self.shape.gateways;
        let until = self.pause_time();
        note!(self, "node {node} and gateway {gateway} pause until {} ms", until / MS);
        self.nodes[node].pause_until(self.time, until);
        let state = &mut self.gateways[gateway];
        state.paused_until = state.paused_until.max(until);
        if self.random.percent(50) {
            self.take_down(vec![node]);
        }
    }

    /// A node is taken to be down while it is paused for about as long as its leases last.
    fn pause_and_drop(&mut self, node: usize) {
        let until = self.time + 300 * MS + self.random.below(1500 * MS);
        note!(self, "node {node} pauses until {} ms and is dropped", until / MS);
        self.nodes[node].pause_until(self.time, until);
        self.take_down(vec![node]);
    }

    fn reconnect_later(&mut self) {
        let longest = [SECOND, 8 * SECOND][self.random.below(2) as usize];
        let after = 100 * MS + self.random.below(longest);
        self.at(after, Event::Reconnect);
    }

    fn split(&mut self) {
        let ledger = self.ledger_endpoint();
        let sides: Vec<bool> = (0..=ledger).map(|_| self.random.percent(40)).collect();
        note!(self, "the network splits: {sides:?}");
        self.network.split(sides);
        self.reconnect_later();
    }

    /// A node, perhaps with its gateway, is cut off from everybody else.
    fn isolate(&mut self, node: usize) {
        let mut sides = vec![false; self.ledger_endpoint() + 1];
        sides[node] = true;
        if self.random.percent(70) {
            let gateway = self.gateway_endpoint(node % self.shape.gateways);
            sides[gateway] = true;
        }
        note!(self, "the network splits: {sides:?}");
        self.network.split(sides);
        self.reconnect_later();
    }

    /// A link fails, in one direction or both.
    fn block(&mut self, node: usize) {
        let other: Endpoint = self.random.below(self.ledger_endpoint() as u64 + 1) as usize;
        note!(self, "{node} does not reach {other}");
        self.network.block(node, other);
        if self.random.percent(40) {
            self.network.block(other, node);
        }
        self.reconnect_later();
    }

    pub(crate) fn reconnect(&mut self) {
        note!(self, "the network is whole");
        self.network.reconnect();
    }

    fn slow(&mut self, node: usize) {
        let until = 500 * MS + self.random.below(5 * SECOND);
        note!(self, "node {node} is slow for {} ms", until / MS);
        if self.random.percent(50) {
            self.nodes[node].slow_disk = self.random.below(500 * MS);
        } else {
            self.network.slow[node] = self.random.below(300 * MS);
        }
        self.at(until, Event::Quicken { endpoint: node });
    }

    pub(crate) fn quicken(&mut self, endpoint: Endpoint) {
        self.network.quicken(endpoint);
        if let Some(node) = self.nodes.get_mut(endpoint) {
            node.slow_disk = 0;
        }
    }

    fn kill_gateway(&mut self) {
        let gateway = self.random.below(self.shape.gateways as u64) as usize;
        if self.gateways[gateway].is_alive() {
            self.crash_gateway(gateway);
            let back = 100 * MS + self.random.below(4 * SECOND);
            self.at(back, Event::StartGateway { gateway });
        }
    }

    fn suspect(&mut self, node: usize) {
        note!(self, "node {node} is taken to be down");
        self.take_down(vec![node]);
    }

    /// The ledger and a primary lose each other, while others reach it: it is taken to be down, a disk is reset before that
    /// holds, and neither gateways nor the other replicas hear of it soon. Only the ledger's lease tells the primary.
    fn estrange(&mut self) {
        let partition = self.random.below(self.shape.partitions.into()) as usize;
        let node = self.ledger.primary(partition).1;
        note!(self, "the ledger and node {node}, primary of partition {partition}, lose each other");
        self.network.block(self.ledger_endpoint(), node);
        self.take_down(vec![node]);
        let until_down = LEASE_RUNS_OUT;
        let reset = until_down - self.random.below(300 * MS);
        self.at(reset, Event::Reset);
        self.at(until_down - MS, Event::Deafen);
        let stale_gateway = self.random.index(self.shape.gateways);
        for gateway in 0..self.shape.gateways {
            let endpoint = self.gateway_endpoint(gateway);
            self.network.late_news[endpoint] = self.time + until_down + SECOND;
            // What is on its way when the disk is reset comes when that is over.
            if gateway != stale_gateway {
                self.network.slow[endpoint] = 200 * MS + self.random.below(380 * MS);
                self.at(until_down + SECOND, Event::Quicken { endpoint });
            }
        }
        self.let_it_work(until_down + SECOND);
        self.at(until_down - 600 * MS, Event::Rush { partition: partition as u16, stale_gateway });
        self.at(until_down + SECOND, Event::Reconnect);
    }

    /// Nobody hears of the next record soon.
    pub(crate) fn deafen(&mut self) {
        for endpoint in 0..self.shape.nodes {
            self.network.late_news[endpoint] = self.time + self.random.below(900 * MS);
        }
    }

    /// The replicas of a partition have their primary removed, wrongly: it, or a gateway, hears of that late. Perhaps the link
    /// to another replica failed, or that one was just restarted.
    fn overthrow(&mut self) {
        let partition = self.random.below(self.shape.partitions.into()) as usize;
        let configuration = self.ledger.rows[partition].configuration.clone();
        let primary = endpoint_of(configuration.primary);
        let gateway = self.random.below(self.shape.gateways as u64) as usize;
        let gateway = self.gateway_endpoint(gateway);
        for endpoint in [primary, gateway] {
            let late = 100 * MS + self.random.below(2 * SECOND);
            if self.random.percent(70) {
                self.network.late_news[endpoint] = self.time + late;
            }
        }
        let others = configuration.in_sync.iter().map(|process| endpoint_of(process.node));
        let others: Vec<Endpoint> = others.filter(|node| *node != primary).collect();
        if others.is_empty() {
            return;
        }
        let other = self.random.pick(&others);
        match self.random.below(3) {
            0 => {
                self.network.block(primary, other);
                let after = 50 * MS + self.random.below(SECOND);
                self.at(after, Event::Reconnect);
            }
            1 => self.crash(other, Crash::Killed, 20 * MS),
            _ => {
                self.nodes[primary].slow_disk = self.random.below(500 * MS);
                self.at(SECOND, Event::Quicken { endpoint: primary });
            }
        }
        note!(self, "the others want node {primary} out of partition {partition}");
        let after = MS + self.random.below(300 * MS);
        self.at(after, Event::Overthrow { partition, primary });
    }

    /// A primary had a learner counted in: now and then, it is removed before it hears of that, or all of them lose power.
    pub(crate) fn promoted(&mut self, primary: Endpoint, learner: Endpoint, partition: Partition) {
        if self.time > FAULTS_END {
            return;
        }
        if self.random.percent(12) {
            self.depose_after_promotion(primary, partition);
        } else if self.habits.damaged_logs_percent > 0 && self.random.percent(35) {
            let after = MS + self.random.below(SECOND);
            // What the learner has on stable storage may be all that counts.
            let damaged = self.random.pick(&[learner, primary]);
            self.at(after, Event::LosePowerOfSet { partition: partition.index(), damaged });
        }
    }

    pub(crate) fn overthrow_now(&mut self, partition: usize, primary: Endpoint) {
        let configuration = self.ledger.rows[partition].configuration.clone();
        let is_it = |process: &&Process| endpoint_of(process.node) == primary;
        let Some(process) = configuration.in_sync.iter().find(is_it) else { return };
        let change = InSyncChange::Drop { node: process.node, incarnation: process.incarnation };
        let (partition, pepoch) = (super::partition(partition as u16), configuration.pepoch);
        self.record_arrives(primary, &SetRecord::Changed { partition, pepoch, change });
    }

    /// Faults are over.
    fn mend(&mut self) {
        note!(self, "faults are over");
        self.network.mend();
        self.trap = None;
        (0..self.shape.nodes).for_each(|node| {
            self.nodes[node].slow_disk = 0;
            self.mend_disk(node);
            self.nodes[node].stalled.clear();
            self.nodes[node].paused_until = self.nodes[node].paused_until.min(self.time);
            self.start_process(node);
        });
        (0..self.shape.gateways).for_each(|gateway| {
            self.gateways[gateway].paused_until = self.gateways[gateway].paused_until.min(self.time);
            self.start_gateway(gateway);
        });
    }
}
