//! Flushes that ask nodes, not partitions: each is asked once to sync all that it has, as `huntaway-gateway` does for many partitions.
//! What the ledger says by then tells whether that is enough, else the partition's primary is asked.

use huntaway_replica::Process;
use huntaway_wire::Incarnation;

use super::event::{AtGateway, AtNode, Event};
use super::{Bug, Cluster, Endpoint, FAULTS_END, MS, SECOND, endpoint_of, id_of, note, partition};
use crate::clock::Time;
use crate::storage::Storage;

/// Nodes have so long to answer, and the gateway to learn what they knew.
const PATIENCE: Time = SECOND;

/// What a gateway knows of the ledger, but for primaries.
#[derive(Default)]
pub(crate) struct Knowledge {
    /// How often something new had been told.
    sequence: u64,
    up: Vec<Process>,
    /// The in-sync set of each partition; none where somebody is in doubt.
    sets: Vec<Vec<Process>>,
}

/// A gateway's rounds of questions.
#[derive(Default)]
pub(crate) struct Rounds {
    last: u64,
    current: Option<Round>,
    /// The commands that need the next one.
    waiting: Vec<u64>,
}

struct Round {
    began: Time,
    flushes: Vec<u64>,
    asked: Vec<Process>,
    synced: Vec<Process>,
    known: u64,
}

/// Which round of which gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RoundId {
    gateway: usize,
    incarnation: Incarnation,
    number: u64,
}

impl Cluster {
    /// What the ledger says now, for a gateway that hears it.
    pub(super) fn knowledge(&self) -> Knowledge {
        let sets = self.ledger.sets();
        let up = sets.nodes().filter(|(_, known)| known.is_up);
        let of = |number: u16| {
            let configuration = &self.ledger.rows[usize::from(number)].configuration;
            let is_sure = configuration.doubtful.is_empty() && configuration.damaged.is_empty();
            if is_sure && !configuration.is_lost { configuration.in_sync.clone() } else { Vec::new() }
        };
        Knowledge {
            sequence: self.ledger.sequence,
            up: up.map(|(node, known)| Process { node, incarnation: known.incarnation }).collect(),
            sets: (0..self.shape.partitions).map(of).collect(),
        }
    }

    /// A flush has come to the gateway.
    pub(super) fn flush_by_round(&mut self, gateway: usize, number: u64) {
        let rounds = &mut self.gateways[gateway].rounds;
        if rounds.current.is_some() {
            rounds.waiting.push(number);
        } else {
            self.begin_round(gateway, vec![number]);
        }
    }

    fn begin_round(&mut self, gateway: usize, flushes: Vec<u64>) {
        let endpoint = self.gateway_endpoint(gateway);
        let (began, incarnation) = (self.time, self.gateways[gateway].incarnation);
        let asked = self.gateways[gateway].knows.up.clone();
        let rounds = &mut self.gateways[gateway].rounds;
        rounds.last += 1;
        let id = RoundId { gateway, incarnation, number: rounds.last };
        rounds.current = Some(Round { began, flushes, asked: asked.clone(), synced: Vec::new(), known: 0 });
        for process in asked {
            let node = endpoint_of(process.node);
            for after in self.network.pass(endpoint, node, &mut self.random).after {
                let what = AtNode::SyncAll { round: id };
                self.at(after, Event::Node { node, incarnation: process.incarnation, what });
            }
        }
    }

    /// The node syncs all that its partitions have logged by now.
    pub(super) fn sync_all(&mut self, node: usize, round: RoundId) {
        let numbers = self.nodes[node].storage.iter().map(|storage| storage.last()).collect();
        let delay = self.disk_delay(node) * 4;
        let free_at = self.nodes[node].log_free_at.iter().copied().max().unwrap_or(0);
        let after = free_at.saturating_sub(self.time) + delay;
        self.at_process(node, after, AtNode::SyncedAll { round, numbers });
    }

    /// That is done: it says what it knows, if it has its lease of the ledger.
    pub(super) fn synced_all(&mut self, node: usize, round: RoundId, numbers: &[u64]) {
        let state = &mut self.nodes[node];
        let now = state.clock.moment(self.time);
        let is_sure = !state.disk_failed && now < state.leased_until;
        if !state.disk_failed {
            for (storage, number) in state.storage.iter_mut().zip(numbers) {
                storage.written(*number);
                storage.synced(*number);
            }
        }
        let known = is_sure.then_some(state.applied);
        let (from, to) = (Process { node: id_of(node), incarnation: state.incarnation }, round.gateway);
        note!(self, "node {node} has synced all for gateway {to}: {known:?}");
        let endpoint = self.gateway_endpoint(to);
        for after in self.network.pass(node, endpoint, &mut self.random).after {
            let what = AtGateway::SyncedAll { from, round, known };
            self.at(after, Event::Gateway { gateway: to, incarnation: round.incarnation, what });
        }
    }

    /// A node answered.
    pub(super) fn round_answered(&mut self, gateway: usize, from: Process, id: RoundId, known: Option<u64>) {
        let rounds = &mut self.gateways[gateway].rounds;
        let Some(round) = rounds.current.as_mut().filter(|_| rounds.last == id.number) else { return };
        let Some(known) = known else { return self.end_round(gateway) };
        if !round.synced.contains(&from) {
            round.synced.push(from);
            round.known = round.known.max(known);
        }
        self.mind_round(gateway);
    }

    /// Whether the round has come to an end.
    pub(super) fn mind_round(&mut self, gateway: usize) {
        let state = &self.gateways[gateway];
        let Some(round) = &state.rounds.current else { return };
        let are_all = round.asked.iter().all(|process| round.synced.contains(process));
        let is_known = state.knows.sequence >= round.known;
        if are_all && is_known || self.time >= round.began + PATIENCE {
            self.end_round(gateway);
        }
    }

    /// The flushes whose partitions are held by who has synced are done, the others go to primaries.
    fn end_round(&mut self, gateway: usize) {
        let state = &mut self.gateways[gateway];
        let Some(round) = state.rounds.current.take() else { return };
        let waiting = std::mem::take(&mut state.rounds.waiting);
        let has = |process: &Process| round.synced.contains(process);
        let is_old = state.knows.sequence < round.known;
        let ignores = self.bug == Some(Bug::SyncAllIgnoresUnansweredMembers) && !round.synced.is_empty();
        let are_all_up = ignores || self.shape.copies > 1 && state.knows.up.iter().all(has);
        let is_silent = !round.asked.iter().all(has);
        let mut flushed = None;
        for number in round.flushes {
            let Some(of) = self.gateways[gateway].partition_of(number) else { continue };
            let set = self.gateways[gateway].knows.sets.get(usize::from(of));
            let is_held = set.is_some_and(|set| !set.is_empty() && (ignores || set.iter().all(has)));
            flushed = flushed.or(Some(of));
            note!(self, "gateway {gateway} flushes {}: {is_held} {are_all_up} {is_old}", partition(of));
            if is_held && are_all_up && !is_old {
                self.is_flushed(gateway, number);
            } else {
                self.send_command(gateway, number);
            }
        }
        // Somebody may lack what he was to sync: it shows when all lose power.
        let is_over = self.time > FAULTS_END;
        if let Some(of) = flushed.filter(|_| is_silent && !is_over && self.random.percent(30)) {
            let after = MS + self.random.below(300 * MS);
            let nobody = Endpoint::MAX;
            self.at(after, Event::LosePowerOfSet { partition: of.into(), damaged: nobody });
        }
        if !waiting.is_empty() {
            self.begin_round(gateway, waiting);
        }
    }
}
