//! A node: one process at a time that drives its replicas, and what its disk keeps from one process to the next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use huntaway_ledger::{InSyncChange, Incarnation, Memory, SetRecord, StartId, Starts};
use huntaway_replica::{
    Answer, Block, Body, Change, Credit, Entry, Input, LEASE_US, Message, Moment, Outcome, Output, Process,
    Proposal, Record, Recovery, Replica, SetChange, Ticket,
};
use huntaway_wire::replicated::Answered;
use huntaway_wire::{Oid, Partition, Pepoch, Stamp};

use super::event::{AtGateway, AtNode, Event};
use super::habits::Habits;
use super::judgement::Broken;
use super::network::damaged;
use super::old_copies::Copies;
use super::telling::{answered, described, told};
use super::{Bug, Cluster, Endpoint, FAULTS_END, MS, SECOND, Shape, endpoint_of, id_of, note, partition};
use crate::Random;
use crate::clock::{Clock, Time};
use crate::storage::{Crash, ReplicaStorage, Storage};

/// How often replicas are told the time.
const TICK: Time = 150 * MS;

/// A node of the cluster.
pub(crate) struct Node {
    pub(crate) clock: Clock,
    pub(crate) incarnation: Incarnation,
    pub(crate) paused_until: Time,
    /// When that pause began.
    pub(crate) paused_since: Time,
    /// Whom it took to the ledger last because of its own pause, and for which set.
    pub(crate) blamed: Option<(Partition, Pepoch, Process)>,
    /// What it does not read, of whom, and until when: the thread that should is paused.
    pub(crate) stalled: Vec<(Endpoint, Time)>,
    /// What the disk takes more, in microseconds.
    pub(crate) slow_disk: Time,
    /// Reads fail now and then until that time.
    pub(crate) reads_fail_until: Time,
    /// When its disk was full last.
    pub(crate) last_full: Time,
    /// When its replicas were told last what it has room for.
    pub(crate) told_room_at: Time,
    /// Its process ends in order, and is about to be gone.
    pub(crate) has_left: bool,
    /// When a primary wanted it to be in sync last.
    pub(crate) last_proposed: Time,
    /// When an object of a partition was damaged last.
    pub(crate) damaged_at: BTreeMap<(u16, Oid), Time>,
    /// The disk failed, under the process that runs.
    pub(crate) disk_failed: bool,
    /// When it did last, and its process had heard of its own start.
    pub(crate) failed_at: Time,
    /// What is left of what was acknowledged, since the ledger last heard of it.
    pub(crate) memory: Memory,
    pub(crate) storage: Vec<ReplicaStorage>,
    pub(crate) copies: Vec<Copies>,
    pub(crate) recovery: Recovery,
    /// What the disk says of starts of processes on it.
    pub(crate) starts: Starts,
    /// What it said before the last one.
    after: Vec<StartId>,
    /// A copy of the disk from some time ago, with what it says.
    pub(crate) image: Option<(Vec<ReplicaStorage>, Starts)>,
    /// The disk that was taken out, with what it says, and what is left there of what was acknowledged.
    pub(crate) taken_out: Option<(Vec<ReplicaStorage>, Starts, Memory)>,
    /// It never had another disk.
    pub(crate) is_original: bool,
    /// The process during or after which it got its last other disk, which was not that process's.
    pub(crate) other_disk_after: Incarnation,
    /// When the log of each partition has written all it was given.
    pub(super) log_free_at: Vec<Time>,
    /// The replicas of the process, if one runs.
    replicas: Option<Vec<Replica>>,
    /// Until when the process has the ledger's lease.
    pub(crate) leased_until: Moment,
    /// How much of what the ledger said the process knows: see [`super::ledger::Ledger::sequence`].
    pub(crate) applied: u64,
    /// What the ledger said last of each partition: see [`super::ledger::Row`].
    configured: Vec<u64>,
}

impl Node {
    pub(crate) fn new(shape: &Shape, habits: &Habits, bug: Option<Bug>, random: &mut Random) -> Self {
        let partitions = usize::from(shape.partitions);
        Self {
            clock: Clock::new(random),
            incarnation: Incarnation(0),
            paused_until: 0,
            paused_since: 0,
            blamed: None,
            stalled: Vec::new(),
            slow_disk: 0,
            reads_fail_until: 0,
            last_full: 0,
            told_room_at: 0,
            has_left: false,
            last_proposed: 0,
            damaged_at: BTreeMap::new(),
            disk_failed: false,
            failed_at: 0,
            memory: Memory::Kept,
            storage: habits.new_disk(shape.partitions, bug, random),
            copies: vec![Copies::default(); partitions],
            recovery: Recovery::new(habits.recovery),
            starts: Starts::first(),
            after: Vec::new(),
            image: None,
            taken_out: None,
            is_original: true,
            other_disk_after: Incarnation(0),
            log_free_at: vec![0; partitions],
            replicas: None,
            leased_until: Moment(0),
            applied: 0,
            configured: vec![0; partitions],
        }
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.replicas.is_some()
    }

    /// How long the node does not take in what reaches it.
    pub(crate) fn waits(&self, now: Time, what: &AtNode) -> Time {
        let of = |endpoint: Endpoint| self.stalled.iter().filter(move |(from, _)| *from == endpoint);
        let stalled_until = match what {
            AtNode::Request { from, .. } => of(*from).map(|(_, until)| *until).max().unwrap_or(0),
            _ => 0,
        };
        self.paused_until.max(stalled_until).saturating_sub(now)
    }

    pub(crate) fn replica(&self, partition: u16) -> Option<&Replica> {
        self.replicas.as_ref()?.get(usize::from(partition))
    }
}

impl Node {
    /// Its process stops. A pause never ends one that lasts longer: timers that run out wait until the end that was known then.
    pub(crate) fn pause_until(&mut self, now: Time, until: Time) {
        if self.paused_until <= now {
            self.paused_since = now;
        }
        self.paused_until = self.paused_until.max(until);
    }

    /// When it is time, has the log begin anew with what it has to keep.
    pub(crate) fn log_what_is_known(&mut self, partition: u16, every: u64) {
        let number = usize::from(partition);
        if self.storage[number].since_checkpoint() >= every
            && let Some(known) = self.replica(partition).map(Replica::checkpoint)
        {
            self.storage[number].log(known);
        }
    }

    pub(crate) fn replica_mut(&mut self, partition: u16) -> Option<&mut Replica> {
        self.replicas.as_mut()?.get_mut(usize::from(partition))
    }
}

impl Cluster {
    pub(crate) fn start_process(&mut self, node: usize) {
        let planted = match self.bug {
            Some(Bug::Replica(bug)) => Some(bug),
            _ => None,
        };
        let scrub_bytes_per_second = self.scrub_bytes_per_second();
        let renew_after = self.habits.renew_after;
        let state = &mut self.nodes[node];
        if state.is_alive() {
            return;
        }
        state.incarnation.0 += 1;
        if state.incarnation > Incarnation(1) {
            state.after = state.starts.begin(StartId(self.random.draw()));
            if self.bug == Some(Bug::StartsForgotten) && state.after.len() > 2 {
                state.after = vec![state.after[0], state.after[state.after.len() - 1]];
            }
        }
        let me = Process { node: id_of(node), incarnation: state.incarnation };
        let now = state.clock.moment(self.time);
        let replicas = state.storage.iter_mut().zip(0..).map(|(storage, number)| {
            let mut replica = Replica::new(partition(number), me, now, storage.recover());
            planted.into_iter().for_each(|bug| replica.plant(bug));
            replica.scrub_at(scrub_bytes_per_second);
            if storage.promise().is_some() {
                let _ = replica.step(now, Input::Room(Credit::NONE));
            }
            renew_after.into_iter().for_each(|versions| replica.renew_after(versions));
            replica
        });
        state.replicas = Some(replicas.collect());
        state.recovery = Recovery::new(self.habits.recovery);
        (state.applied, state.leased_until, state.has_left) = (0, Moment(0), false);
        state.configured.fill(0);
        state.log_free_at.fill(self.time);
        note!(self, "node {node} starts as process {}", me.incarnation.0);
        self.at_process(node, 1, AtNode::Announce);
        self.at_process(node, 2, AtNode::AskForLease);
        let first = self.random.below(TICK);
        self.at_process(node, first, AtNode::Tick);
        if self.habits.room.is_some() {
            self.at_process(node, first, AtNode::Apply);
        }
    }

    /// The node's process dies, perhaps with its machine.
    pub(crate) fn crash_node(&mut self, node: usize, crash: Crash) {
        note!(self, "node {node} dies: {crash:?}");
        let state = &mut self.nodes[node];
        state.replicas = None;
        state.paused_until = 0;
        state.disk_failed = false;
        state.stalled.clear();
        state.storage.iter_mut().for_each(|storage| storage.crash(crash, &mut self.random));
        state.memory = match crash {
            _ if state.storage.iter().any(|storage| storage.tells_damage(crash)) => Memory::Damaged,
            Crash::Damaged | Crash::PowerLost if state.memory == Memory::Kept => Memory::Stable,
            Crash::Damaged | Crash::PowerLost | Crash::Killed => state.memory,
        };
        // The ledger hears of processes: what one partition lost is doubted of all.
        if state.memory == Memory::Damaged {
            state.storage.iter_mut().for_each(ReplicaStorage::is_doubted);
        }
    }

    pub(crate) fn at_process(&mut self, node: usize, after: Time, what: AtNode) {
        let incarnation = self.nodes[node].incarnation;
        self.at(after, Event::Node { node, incarnation, what });
    }

    /// What reaches the node's process is taken in later. Timers come in no particular order with the rest.
    pub(crate) fn waits_at_node(&mut self, node: usize, mut what: AtNode, rest: Time) {
        let is_paused = self.nodes[node].paused_until > self.time;
        let mut after = rest;
        match &mut what {
            AtNode::Request { request, is_checked, .. } => {
                let now = self.stamp_of(node);
                let is_fresh = request.stamp.is_fresh(now.incarnation, now.clock);
                *is_checked |= self.bug == Some(Bug::StampCheckedOnArrival) && !is_paused && is_fresh;
            }
            AtNode::Tick => after += self.random.below(2 * MS),
            _ => {}
        }
        self.at_process(node, after, what);
    }

    fn stamp_of(&self, node: usize) -> Stamp {
        let Node { incarnation, clock, .. } = &self.nodes[node];
        Stamp { incarnation: *incarnation, clock: Duration::from_micros(clock.moment(self.time).0) }
    }

    pub(crate) fn at_node(&mut self, node: usize, what: AtNode) {
        match what {
            AtNode::Message { from, incarnation, partition, message } => {
                let from = Process { node: id_of(from), incarnation };
                self.step_with_room(node, partition, Input::Received { from, message });
            }
            AtNode::Request { partition, mut request, is_checked, .. } => {
                if is_checked {
                    request.stamp = self.stamp_of(node);
                }
                self.nodes[node].recovery.asked_for(partition);
                self.step_with_room(node, partition, Input::Requested(request));
            }
            AtNode::SyncAll { round } => self.sync_all(node, round),
            AtNode::SyncedAll { round, numbers } => self.synced_all(node, round, &numbers),
            AtNode::Apply => self.apply_logs(node),
            AtNode::DiskFailed => self.disk_failed(node),
            AtNode::Stored { .. } if self.knows_of_failed_disk(node) => {}
            AtNode::Stored { partition, ticket, outcome, number, synced } => {
                let storage = &mut self.nodes[node].storage[partition.index()];
                storage.written(number);
                if synced {
                    storage.synced(number);
                }
                self.step_with_room(node, partition, Input::Stored { ticket, outcome });
            }
            AtNode::Tick => {
                self.at_process(node, TICK, AtNode::Tick);
                for number in 0..self.shape.partitions {
                    self.tell_suspects(node, partition(number));
                    self.step_with_room(node, partition(number), Input::Tick);
                }
                self.teach(node);
                self.mind_mended(node);
            }
            AtNode::AskForLease => {
                self.at_process(node, 200 * MS, AtNode::AskForLease);
                let until = self.nodes[node].clock.moment(self.time).after(LEASE_US);
                let delay = 200 + self.random.below(2 * MS);
                if self.ledger_grants(node) {
                    self.at_process(node, delay, AtNode::LedgerLease { until });
                }
            }
            AtNode::LedgerLease { until } => {
                self.nodes[node].leased_until = until;
                for number in 0..self.shape.partitions {
                    self.step(node, partition(number), Input::LedgerLease { until });
                }
            }
            // Whoever leaves follows the ledger no more.
            AtNode::News if self.nodes[node].has_left => {}
            AtNode::News => self.news_for_node(node),
            AtNode::Announce => self.announce(node),
        }
    }

    /// Tells the ledger of the node's process, until it is known there.
    fn announce(&mut self, node: usize) {
        let state = &self.nodes[node];
        let known = self.ledger.sets().node(id_of(node)).map_or(Incarnation(0), |known| known.incarnation);
        if known >= state.incarnation {
            let state = &mut self.nodes[node];
            state.starts.recorded();
            self.at_process(node, 1, AtNode::News);
            return;
        }
        let state = &mut self.nodes[node];
        state.starts.proposed();
        let incarnation = state.incarnation;
        let record = SetRecord::NodeStarted {
            node: id_of(node),
            incarnation,
            memory: state.memory,
            start: state.starts.ids().last().copied().unwrap_or(StartId::FIRST),
            after: state.after.clone(),
        };
        self.send_record(node, record);
        self.at_process(node, 100 * MS, AtNode::Announce);
        if self.time < FAULTS_END && self.random.percent(self.habits.stutters_percent) {
            // It does not hear whether that was recorded.
            self.crash(node, Crash::Killed, 20 * MS);
        }
    }

    /// The node learns what the ledger says of its partitions by now. Until its own process is known, that is for another one.
    fn news_for_node(&mut self, node: usize) {
        if !self.network.reaches(self.ledger_endpoint(), node) {
            return self.at_process(node, 300 * MS, AtNode::News);
        }
        if let Some(late) = self.network.late_news[node].checked_sub(self.time).filter(|late| *late > 0) {
            return self.at_process(node, late, AtNode::News);
        }
        let known = self.ledger.sets().node(id_of(node)).map_or(Incarnation(0), |known| known.incarnation);
        if known < self.nodes[node].incarnation {
            return;
        }
        for number in 0..self.shape.partitions {
            let row = &self.ledger.rows[usize::from(number)];
            if row.version == self.nodes[node].configured[usize::from(number)] {
                continue;
            }
            let (version, configuration) = (row.version, row.configuration.clone());
            self.nodes[node].configured[usize::from(number)] = version;
            self.step(node, partition(number), Input::Configured(configuration));
            self.recovery_configured(node, partition(number));
        }
        self.teach(node);
        let state = &mut self.nodes[node];
        state.failed_at = if state.applied == 0 { self.time } else { state.failed_at };
        state.applied = self.ledger.sequence;
        self.make_room(node);
    }

    pub(crate) fn step(&mut self, node: usize, partition: Partition, input: Input) {
        let state = &mut self.nodes[node];
        let now = state.clock.moment(self.time);
        let Some(replicas) = &mut state.replicas else { return };
        let replica = &mut replicas[partition.index()];
        let rests = matches!(input, Input::Tick) && replica.rests(now);
        let outputs = replica.step(now, input);
        if rests && !outputs.is_empty() {
            self.broken = Some(Broken::Woken { partition: partition.value(), node });
        }
        outputs.into_iter().for_each(|output| self.carry_out(node, partition, output));
        self.nodes[node].log_what_is_known(partition.value(), self.habits.checkpoint_every);
    }

    fn carry_out(&mut self, node: usize, partition: Partition, output: Output) {
        let storage = &mut self.nodes[node].storage[partition.index()];
        match output {
            Output::Log { ticket, entry } => self.log(node, partition, ticket, entry),
            Output::Sync { ticket } => {
                let number = storage.last();
                self.store(node, partition, ticket, Outcome::Done, number, true);
            }
            Output::Read { ticket, oid, blocks } => {
                let outcome = storage.read(oid, blocks);
                self.look_up(node, partition, ticket, outcome);
            }
            Output::Digests { ticket, after, most } => {
                let outcome = storage.digests(after, most);
                self.look_up(node, partition, ticket, outcome);
            }
            Output::Versions { ticket, oid } => {
                let outcome = storage.versions(oid);
                self.look_up(node, partition, ticket, outcome);
            }
            Output::Verify { ticket, oid } => {
                let outcome = storage.verify(oid);
                self.look_up(node, partition, ticket, outcome);
            }
            Output::Send { to, message } => self.send_message(node, to, partition, message),
            Output::Answer { id, resend, answer, stamp } => {
                let to = endpoint_of(id.gateway.node);
                let gateway = to - self.shape.nodes;
                note!(self, "node {node} {partition} answers {}#{resend}: {}", id.number, answered(&answer));
                self.mind_loss(node, partition, &answer);
                self.mind_refusal(node, partition, &answer, self.changed_by(gateway, id, resend));
                if answer == Answer::Damaged
                    && let Some((oids, blocks)) = self.read_of(gateway, id, resend)
                {
                    self.mind_damage(node, partition.value(), &oids, blocks);
                }
                if answer == Answer::Done {
                    self.answers(node, partition);
                }
                let passage = self.network.pass(node, to, &mut self.random);
                let answered = Answered { id, resend, answer, stamp };
                for after in passage.after {
                    let Answered { id, resend, answer, stamp } = self.carried(partition, answered.clone());
                    let what = AtGateway::Answer { from: node, id, resend, answer, stamp };
                    let incarnation = id.gateway.incarnation;
                    self.at(after, Event::Gateway { gateway, incarnation, what });
                }
            }
            Output::GaveUp { learner } => self.recovery_failed(node, partition, learner),
            Output::Propose(proposal) => self.propose(node, partition, proposal),
            Output::Held { pepoch, hold } => {
                let passage = self.network.pass(node, self.ledger_endpoint(), &mut self.random);
                for after in passage.after {
                    self.at(after, Event::Held { partition, pepoch, hold });
                }
            }
        }
    }

    fn log(&mut self, node: usize, partition: Partition, ticket: Ticket, entry: Entry) {
        let entry = if self.bug == Some(Bug::ReplicaResolves) {
            self.resolved_alone(node, partition, entry)
        } else {
            entry
        };
        if entry == Entry::Forget {
            self.mind_removed(node, partition);
        }
        note!(self, "node {node} {partition} logs {}", described(&entry));
        if !self.has_room(node, partition, &entry) {
            return self.has_no_room(node, partition, ticket);
        }
        let number = self.nodes[node].storage[partition.index()].log(entry.clone());
        if self.nodes[node].storage[partition.index()].has_refused() {
            return self.has_no_room(node, partition, ticket);
        }
        if self.told.is_some() {
            self.tell_if_versioned(node, partition.value(), &entry);
        }
        self.store(node, partition, ticket, Outcome::Done, number, false);
    }

    /// The entry as it would be if replicas merged halves of blocks with what they have themselves.
    fn resolved_alone(&self, node: usize, partition: Partition, entry: Entry) -> Entry {
        let Entry::Write { record, settled } = &entry else { return entry };
        let (first, Some(request)) = (record.extent().start, record.request) else { return entry };
        let gateway = endpoint_of(request.gateway.node) - self.shape.nodes;
        let Some(half) = self.gateways[gateway].half_of(request.number) else { return entry };
        let stored = self.nodes[node].storage[partition.index()].read(record.oid, first..first + 1);
        let (Outcome::Blocks(own), Some(Some(merged))) = (stored, record.contents().first()) else {
            return entry;
        };
        let own =
            own[0].content.as_ref().map_or_else(|| vec![0; merged.bytes.len()], |block| block.bytes.to_vec());
        let middle = merged.bytes.len() / 2;
        let bytes = if half == 0 {
            [&merged.bytes[..middle], &own[middle..]].concat()
        } else {
            [&own[..middle], &merged.bytes[middle..]].concat()
        };
        let blocks = vec![Some(Block::new(Bytes::from(bytes)))];
        let change = Change::Write { first_block: first, blocks };
        Entry::Write { record: Arc::new(Record { change, ..Record::clone(record) }), settled: *settled }
    }

    /// A partition whose replicas all lost power goes on with what is left when the ledger says so. Should one serve earlier, it
    /// is judged by what that leads to, not by having lost what was not flushed.
    fn mind_loss(&mut self, node: usize, partition: Partition, answer: &Answer) {
        let replica = self.nodes[node].replica(partition.value());
        let Some(configuration) = replica.map(Replica::configuration) else { return };
        let pepoch = configuration.pepoch;
        if configuration.is_all_doubtful()
            && matches!(answer, Answer::Done | Answer::Data(_) | Answer::Map(_))
        {
            let kept = self.kept(partition, false);
            self.histories.lost(partition, pepoch, self.time - 1, kept);
        }
    }

    pub(crate) fn disk_delay(&mut self, node: usize) -> Time {
        let slow = self.nodes[node].slow_disk;
        50 + self.random.below(300) + if slow > 0 { self.random.below(slow) } else { 0 }
    }

    /// The log works in order. What waits for it for a second is taken at once with what comes after it.
    pub(crate) fn store(
        &mut self,
        node: usize,
        partition: Partition,
        ticket: Ticket,
        outcome: Outcome,
        number: u64,
        synced: bool,
    ) {
        let delay = self.disk_delay(node) * if synced { 4 } else { 1 };
        let free_at = &mut self.nodes[node].log_free_at[partition.index()];
        let begins = (*free_at).max(self.time);
        *free_at = if begins > self.time + SECOND { begins + 1 } else { begins + delay };
        let after = *free_at - self.time;
        self.at_process(node, after, AtNode::Stored { partition, ticket, outcome, number, synced });
    }

    fn look_up(&mut self, node: usize, partition: Partition, ticket: Ticket, outcome: Outcome) {
        let delay = self.disk_delay(node);
        if matches!(outcome, Outcome::Damaged(_) | Outcome::Missing(_)) && self.has_sound_disks() {
            self.broken = Some(super::Broken::LetIn { partition: partition.value() });
        }
        let outcome = self.perhaps_failed(node, outcome);
        let what = AtNode::Stored { partition, ticket, outcome, number: 0, synced: false };
        self.at_process(node, delay, what);
    }

    fn send_message(&mut self, node: usize, to: Process, partition: Partition, message: Message) {
        let to_endpoint = endpoint_of(to.node);
        if !matches!(message.body, Body::Beacon { .. } | Body::Granted { .. }) {
            note!(self, "node {node} {partition} sends {to_endpoint}: {}", told(&message));
        }
        if let Body::Forward { record, attempt: 0, .. } = &message.body {
            self.forwards(node, partition, record);
        }
        let passage = self.network.pass(node, to_endpoint, &mut self.random);
        let incarnation = self.nodes[node].incarnation;
        for after in passage.after {
            let message = if passage.is_damaged { damaged(&message) } else { message.clone() };
            let message = self.carried_message(partition, message);
            let what = AtNode::Message { from: node, incarnation, partition, message };
            self.at(after, Event::Node { node: to_endpoint, incarnation: to.incarnation, what });
        }
    }

    fn propose(&mut self, node: usize, partition: Partition, proposal: Proposal) {
        note!(self, "node {node} {partition} proposes {:?} in {}", proposal.change, proposal.pepoch.0);
        if let SetChange::Promote(learner) = proposal.change {
            self.nodes[endpoint_of(learner.node)].last_proposed = self.time;
        }
        self.mind_blame(node, partition, proposal);
        let change = match proposal.change {
            SetChange::Drop(Process { node, incarnation }) => InSyncChange::Drop { node, incarnation },
            SetChange::Promote(Process { node, incarnation }) => InSyncChange::Promote { node, incarnation },
            SetChange::Renew => InSyncChange::Renew,
            SetChange::Collected => InSyncChange::Collected,
            SetChange::Failed(Process { node, incarnation }) => InSyncChange::Failed { node, incarnation },
        };
        let record = SetRecord::Changed { partition, pepoch: proposal.pepoch, change };
        self.send_record(node, record);
    }

    pub(crate) fn send_record(&mut self, from: Endpoint, record: SetRecord) {
        let passage = self.network.pass(from, self.ledger_endpoint(), &mut self.random);
        for after in passage.after {
            self.at(after, Event::Record { from, record: record.clone() });
        }
    }
}
