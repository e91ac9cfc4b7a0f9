//! Several things that go wrong at once, or just when something happens: what one rule of replication is there for. Faults that
//! know nothing of each other meet like this in one seed of thousands.

use std::sync::Arc;

use huntaway_replica::{Configuration, Record};
use huntaway_wire::Partition;

use super::disk::TOLD_WITHIN;
use super::event::Event;
use super::ledger::LEASE_RUNS_OUT;
use super::mood::Mood;
use super::{Cluster, Endpoint, MS, SECOND, endpoint_of, note, partition};
use crate::clock::Time;
use crate::storage::Crash;

/// What is waited for before something goes wrong.
#[derive(Debug, Clone)]
pub(crate) enum Trap {
    /// The primary forwards a write: it reaches only these.
    Forward { partition: Partition, primary: Endpoint, reaches: Vec<Endpoint> },
    /// The primary forwards a write that hides what a snapshot has.
    Hide { partition: Partition, primary: Endpoint },
    /// The primary answers.
    Answer { partition: Partition, primary: Endpoint },
}

/// A trap that has sprung.
#[derive(Debug)]
pub(crate) struct Sprung {
    partition: Partition,
    primary: Endpoint,
    /// Of the write.
    gateway: usize,
    /// The replicas that have it, and those that do not.
    reached: Vec<Endpoint>,
}

impl Cluster {
    pub(crate) fn plot(&mut self) {
        let number = self.random.below(self.shape.partitions.into()) as u16;
        match self.random.below(12) {
            0 if self.shape.disk_fault_every > 0 => match self.random.percent(60) {
                true => self.leave_old_copies(number),
                false => self.fails_unheard(number),
            },
            0..6 => self.depose_unawares(number),
            6..10 => self.set_trap(number),
            10 => self.depose_at_rest(number),
            _ => self.stall(),
        }
    }

    fn configuration(&self, number: u16) -> (Arc<Configuration>, Endpoint, Vec<Endpoint>) {
        let configuration = self.ledger.rows[usize::from(number)].configuration.clone();
        let primary = endpoint_of(configuration.primary);
        let in_sync = configuration.in_sync.iter().map(|process| endpoint_of(process.node));
        let others = in_sync.filter(|node| *node != primary).collect();
        (configuration, primary, others)
    }

    fn any_gateway(&mut self) -> usize {
        self.random.index(self.shape.gateways)
    }

    /// From `least` to `most`.
    fn after(&mut self, least: Time, most: Time) -> Time {
        self.random.between(least, most)
    }

    fn hears_late(&mut self, endpoint: Endpoint, by: Time) {
        self.network.late_news[endpoint] = self.time + by;
    }

    /// A primary is removed, and neither it nor a gateway hears of that, while clients use both it and its successor: its leases
    /// alone keep it from serving.
    fn depose_unawares(&mut self, number: u16) {
        let (_, primary, others) = self.configuration(number);
        let Some(other) = others.first().copied() else { return };
        let gateway = self.any_gateway();
        let late = self.after(1500 * MS, 3 * SECOND);
        self.hears_late(primary, late);
        self.hears_late(self.gateway_endpoint(gateway), late);
        let mut removed_after = self.after(MS, 250 * MS);
        let variant = self.random.below(6);
        note!(
            self,
            "plot {variant}: node {primary} leaves partition {number}, gateway {gateway} hears it late"
        );
        match variant {
            0 => {
                let by = self.after(150 * MS, 570 * MS);
                self.slows_down(&others, primary, by, late);
                removed_after += 700 * MS;
            }
            1 => others.iter().for_each(|other| self.crash(*other, Crash::Killed, 20 * MS)),
            2 => {
                let until = self.time + self.after(600 * MS, 1800 * MS);
                self.nodes[primary].pause_until(self.time, until);
                removed_after = self.after(MS, 100 * MS);
            }
            3 => {
                self.network.block(primary, other);
                self.at(late, Event::Reconnect);
            }
            4 => {
                self.nodes[primary].slow_disk = self.random.below(300 * MS);
                self.at(late, Event::Quicken { endpoint: primary });
            }
            _ => self.leave_in_order(primary, late),
        }
        let partition = usize::from(number);
        self.at(removed_after, Event::Overthrow { partition, primary });
        self.let_it_work(2 * SECOND);
        let rushes_after = removed_after.saturating_sub(100 * MS);
        self.at(rushes_after, Event::Rush { partition: number, stale_gateway: gateway });
    }

    /// A primary that nobody asked for anything, and that renews no leases, is removed without hearing of it; then it is asked.
    fn depose_at_rest(&mut self, number: u16) {
        let (_, primary, others) = self.configuration(number);
        if others.is_empty() {
            return;
        }
        let gateway = self.any_gateway();
        let (still, before, late) = (
            self.after(2 * SECOND, 2800 * MS),
            self.after(300 * MS, 900 * MS),
            self.after(500 * MS, 1500 * MS),
        );
        note!(
            self,
            "node {primary} is to leave partition {number} while it rests, gateway {gateway} hears it late"
        );
        self.mood = Mood::Still { until: self.time + still };
        self.hears_late(primary, still + late);
        self.hears_late(self.gateway_endpoint(gateway), still + late);
        self.at(still - before, Event::Overthrow { partition: usize::from(number), primary });
        self.at(still, Event::Rush { partition: number, stale_gateway: gateway });
        self.let_it_work(still + SECOND);
    }

    /// All replicas but the primary drop out, and then the primary loses its disk: what they had is all that is left. Perhaps
    /// it tries to teach them before that, to no avail.
    fn leave_old_copies(&mut self, number: u16) {
        let (_, primary, others) = self.configuration(number);
        note!(self, "old copies of partition {number} are to be all that is left");
        let mut after = LEASE_RUNS_OUT + self.random.below(300 * MS);
        if self.random.percent(50) {
            others.iter().for_each(|other| self.network.block(primary, *other));
            after += self.after(3500 * MS, 5 * SECOND);
            self.at(after, Event::Reconnect);
        }
        self.take_down(others);
        self.at(after, Event::OtherDisk { node: primary });
        self.let_it_work(after + 5 * SECOND);
    }

    /// The ledger loses all replicas. The first of which it hears again has lost its disk meanwhile.
    fn fails_unheard(&mut self, number: u16) {
        let (_, primary, mut members) = self.configuration(number);
        members.push(primary);
        let first = self.random.pick(&members);
        let fails = LEASE_RUNS_OUT + self.after(10 * MS, 300 * MS);
        let heard = fails + TOLD_WITHIN + self.random.below(500 * MS);
        let late = heard + self.after(SECOND, 2 * SECOND);
        note!(self, "the ledger is to hear first of node {first} of partition {number}, whose disk fails");
        for member in members.iter().copied() {
            self.network.block(member, self.ledger_endpoint());
            if member != first {
                self.nodes[member].pause_until(self.time, self.time + late);
            }
        }
        self.take_down(members);
        self.at(fails, Event::FailDisk { node: first });
        self.at(heard, Event::Reconnect);
        self.let_it_work(late + SECOND);
    }

    /// What these nodes send to `to` takes longer for a while.
    fn slows_down(&mut self, nodes: &[Endpoint], to: Endpoint, by: Time, for_us: Time) {
        for node in nodes.iter().copied() {
            self.network.slow_link(node, to, by);
            self.at(for_us, Event::Quicken { endpoint: node });
        }
    }

    /// A primary that had a learner counted in is removed before it hears that this was done.
    pub(crate) fn depose_after_promotion(&mut self, primary: Endpoint, partition: Partition) {
        let (late, gateway) = (self.after(SECOND, 3 * SECOND), self.any_gateway());
        self.hears_late(primary, late);
        self.hears_late(self.gateway_endpoint(gateway), late);
        let after = self.after(10 * MS, 700 * MS);
        note!(self, "node {primary} is to leave {partition} before it hears of the promotion");
        self.at(after, Event::Overthrow { partition: partition.index(), primary });
        self.at(after, Event::Rush { partition: partition.value(), stale_gateway: gateway });
    }

    /// Waits for a primary to do something, to strike at the worst moment.
    fn set_trap(&mut self, number: u16) {
        let (_, primary, others) = self.configuration(number);
        if others.is_empty() {
            return;
        }
        let partition = partition(number);
        if self.random.percent(30) {
            for node in others {
                self.nodes[node].slow_disk = self.random.below(200 * MS);
                self.at(2 * SECOND, Event::Quicken { endpoint: node });
            }
            self.trap = Some(Trap::Answer { partition, primary });
        } else {
            let lacking = self.random.pick(&others);
            let reaches_others = self.random.percent(75) && others.len() > 1;
            let reaches = others.into_iter().filter(|node| reaches_others && *node != lacking).collect();
            self.trap = Some(Trap::Forward { partition, primary, reaches });
        }
        note!(self, "a trap is set: {:?}", self.trap);
    }

    /// A primary sends a write.
    pub(crate) fn forwards(&mut self, node: Endpoint, in_partition: Partition, record: &Record) {
        self.hides(node, in_partition, record);
        let Some(Trap::Forward { partition, primary, .. }) = &self.trap else { return };
        let Some(request) = record.request.filter(|_| (*partition, *primary) == (in_partition, node)) else {
            return;
        };
        let Some(Trap::Forward { partition, primary, reaches: reached }) = self.trap.take() else { return };
        let (_, _, others) = self.configuration(partition.value());
        let lacking = others.into_iter().filter(|node| !reached.contains(node));
        lacking.for_each(|node| self.network.block(primary, node));
        let gateway = endpoint_of(request.gateway.node) - self.shape.nodes;
        let latest = self.random.pick(&[100, 1500]);
        let after = self.after(1, latest);
        note!(self, "the trap springs: only nodes {reached:?} get the write {}", record.version);
        self.at(after, Event::Sprung(Sprung { partition, primary, gateway, reached }));
    }

    /// A primary answers that something is done.
    pub(crate) fn answers(&mut self, node: Endpoint, in_partition: Partition) {
        let Some(Trap::Answer { partition, primary }) = self.trap else { return };
        if (partition, primary) != (in_partition, node) {
            return;
        }
        self.trap = None;
        if self.random.percent(40) {
            note!(self, "the trap springs: the answer of node {primary} is lost, and all start again");
            let gateways = (0..self.shape.gateways).map(|gateway| self.shape.nodes + gateway);
            gateways.for_each(|gateway| self.network.block(primary, gateway));
            self.at(300 * MS, Event::Reconnect);
            self.at(1, Event::StartAnew { partition });
            return self.let_it_work(3 * SECOND);
        }
        note!(self, "the trap springs: node {primary} and all others die");
        let (_, _, others) = self.configuration(partition.value());
        others.iter().for_each(|other| self.crash(*other, Crash::Killed, 10 * MS));
        self.leaves_for_good(primary);
        self.let_it_work(3 * SECOND);
        self.lull(5 * SECOND);
    }

    /// The processes of a set are killed just when their logs were told again what is known, and start at once.
    pub(crate) fn start_anew(&mut self, partition: Partition) {
        let (_, primary, others) = self.configuration(partition.value());
        for node in others.into_iter().chain([primary]) {
            self.nodes[node].log_what_is_known(partition.value(), 1);
            self.crash(node, Crash::Killed, 10 * MS);
        }
        let stale_gateway = self.any_gateway();
        self.rush(partition.value(), stale_gateway, 3 * SECOND);
    }

    /// Mostly nothing else goes wrong for so long.
    pub(crate) fn let_it_work(&mut self, longest: Time) {
        if self.random.percent(70) {
            self.undisturbed_until = self.time + longest;
        }
    }

    pub(crate) fn leaves_for_good(&mut self, node: Endpoint) {
        self.crash(node, Crash::Killed, 8 * SECOND);
        self.take_down(vec![node]);
    }

    /// Some replicas have a write, and others do not: the primary goes, and often the gateway that would send it again.
    pub(crate) fn sprung(&mut self, sprung: &Sprung) {
        let Sprung { partition, primary, gateway, reached } = sprung;
        let (partition, primary, gateway) = (*partition, *primary, *gateway);
        let number = partition.index();
        let mut reconnects_after = self.after(2 * SECOND, 3 * SECOND);
        let mut dethroned_after = self.after(SECOND, 3 * SECOND);
        let variants: &[u64] = if reached.is_empty() { &[0, 1, 2, 3] } else { &[0, 0, 1, 2] };
        match self.random.pick(variants) {
            0 => {
                self.crash(primary, Crash::Killed, 10 * MS);
                let by = self.after(200 * MS, 1200 * MS);
                self.slows_down(reached, primary, by, reconnects_after);
                reconnects_after = 500 * MS;
                dethroned_after += 2 * SECOND;
            }
            1 => self.leaves_for_good(primary),
            2 => {
                let (late, after) = (self.after(SECOND, 3 * SECOND), self.after(MS, 300 * MS));
                self.hears_late(primary, late);
                self.at(after, Event::Overthrow { partition: number, primary });
            }
            _ => return self.rolls_back_soon(partition, primary, gateway),
        }
        self.at(reconnects_after, Event::Reconnect);
        if self.random.percent(60) {
            self.crash_gateway(gateway);
            let back = self.after(2500 * MS, 5 * SECOND);
            self.at(back, Event::StartGateway { gateway });
            self.let_it_work(7 * SECOND);
            self.lull(7 * SECOND);
        } else {
            let late = self.after(300 * MS, 1700 * MS);
            self.hears_late(self.gateway_endpoint(gateway), late);
            self.let_it_work(3 * SECOND);
            self.rush(partition.value(), gateway, 2 * SECOND);
        }
        let heirs = reached.clone();
        self.at(dethroned_after, Event::Dethrone { partition: number, heirs, times: 4 });
    }

    /// The only one that has the write learns from others, and becomes primary again, before the gateway sends it again.
    fn rolls_back_soon(&mut self, partition: Partition, primary: Endpoint, gateway: usize) {
        let (late, back, removed) =
            (self.after(1200 * MS, 1900 * MS), self.after(200 * MS, 800 * MS), self.after(MS, 30 * MS));
        self.hears_late(self.gateway_endpoint(gateway), late);
        self.hears_late(primary, back);
        self.at(removed, Event::Overthrow { partition: partition.index(), primary });
        self.at(back, Event::Reconnect);
        self.rush(partition.value(), gateway, 2 * SECOND);
    }

    /// Whoever is primary is removed, and whoever is after that, until it is one of the heirs.
    pub(crate) fn dethrone(&mut self, partition: usize, heirs: Vec<Endpoint>, times: u32) {
        let (_, primary) = self.ledger.primary(partition);
        if !heirs.contains(&primary) {
            self.overthrow_now(partition, primary);
        }
        if times > 1 {
            let after = self.after(300 * MS, 1500 * MS);
            self.at(after, Event::Dethrone { partition, heirs, times: times - 1 });
        }
    }

    /// A thread of a node stops reading what one gateway sends, while others go on.
    pub(crate) fn stall(&mut self) {
        let (node, gateway) = (self.victim(), self.any_gateway());
        let for_us = self.after(500 * MS, 4500 * MS);
        note!(self, "node {node} does not read from gateway {gateway} for {} ms", for_us / MS);
        let from = self.gateway_endpoint(gateway);
        self.nodes[node].stalled.push((from, self.time + for_us));
        let partition = self.random.below(self.shape.partitions.into()) as u16;
        let other = (gateway + 1) % self.shape.gateways;
        self.rush(partition, other, for_us);
    }
}
