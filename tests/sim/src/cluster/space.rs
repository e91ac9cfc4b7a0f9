//! Disks that are full for a while, logs that are full until they are applied, and what clients are told of that.

use std::collections::{BTreeMap, BTreeSet};

use huntaway_ledger::{InSyncChange, SetRecord};
use huntaway_replica::{Answer, Entry, Input, Outcome, Process, Refused, Replica, Ticket};
use huntaway_wire::{Oid, Partition};

use super::event::{AtNode, Event};
use super::node::Node;
use super::operation::What;
use super::{Broken, Cluster, FAULTS_END, MS, SECOND, endpoint_of, note, partition};
use crate::clock::Time;
use crate::storage::Storage;

/// A primary hears within this time that a disk is not full any more, or does not serve.
const HEARD_WITHIN: Time = 4 * SECOND;

/// A request has no effect so long after it was sent last.
const LATE_BY: Time = 10 * SECOND;

/// The objects that space was set aside for, as clients were told.
#[derive(Default)]
pub(crate) struct SetAside {
    objects: BTreeSet<(u16, Oid)>,
    /// When somebody wanted them to be removed last.
    removed_at: BTreeMap<(u16, Oid), Time>,
}

impl SetAside {
    /// Space is set aside for the object, unless it may be removed at the same time.
    pub(crate) fn is_there(&mut self, partition: u16, oid: Oid, now: Time) {
        let place = (partition, oid);
        if self.removed_at.get(&place).is_none_or(|at| at + LATE_BY < now) {
            self.objects.insert(place);
        }
    }

    /// The object is to be removed.
    pub(crate) fn removed(&mut self, partition: u16, oid: Oid, now: Time) {
        self.removed_at.insert((partition, oid), now);
        self.objects.remove(&(partition, oid));
    }

    /// What was not on stable storage may be gone.
    pub(crate) fn lost(&mut self, partition: u16) {
        self.objects.retain(|(number, _)| *number != partition);
    }

    fn has(&self, partition: u16, oid: Oid) -> bool {
        self.objects.contains(&(partition, oid))
    }
}

impl Cluster {
    /// A replica takes something in, and before it what its store has room for, if it wants to know.
    pub(crate) fn step_with_room(&mut self, node: usize, partition: Partition, input: Input) {
        let state = &mut self.nodes[node];
        if matches!(input, Input::Tick) {
            if state.told_room_at + SECOND <= self.time {
                // What it said before its timers stopped stands until others hear of it again.
                state.last_full = self.time;
            }
            state.told_room_at = self.time;
        }
        let wants_room =
            state.replica(partition.value()).is_some_and(|replica| replica.wants_room_for(&input));
        if wants_room && let Some(promised) = state.storage[partition.index()].promise() {
            if promised.is_full {
                state.last_full = self.time;
            }
            self.step(node, partition, Input::Room(promised));
        }
        self.step(node, partition, input);
    }

    /// Whether there is room for an entry. For a write there always is, and if not, somebody was mistaken.
    pub(crate) fn has_room(&mut self, node: usize, partition: Partition, entry: &Entry) -> bool {
        let storage = &self.nodes[node].storage[partition.index()];
        if storage.is_overdrawn_by(entry) {
            self.broken = Some(Broken::Overdrawn { partition: partition.value(), node });
        }
        !storage.refuses(entry)
    }

    /// The store says that there is no room for blocks that were to be put in place.
    pub(crate) fn has_no_room(&mut self, node: usize, partition: Partition, ticket: Ticket) {
        note!(self, "node {node} {partition} has no room for that");
        let (outcome, number, synced) = (Outcome::NoRoom, 0, false);
        let after = self.disk_delay(node);
        self.at_process(node, after, AtNode::Stored { partition, ticket, outcome, number, synced });
    }

    /// What is in the logs is applied.
    pub(crate) fn apply_logs(&mut self, node: usize) {
        let next = 10 * MS + self.random.below(self.habits.applied_every);
        self.at_process(node, next, AtNode::Apply);
        for number in 0..self.shape.partitions {
            if self.nodes[node].storage[usize::from(number)].is_applied() {
                continue;
            }
            self.nodes[node].log_what_is_known(number, 1);
            let last = self.nodes[node].storage[usize::from(number)].last();
            self.store(node, partition(number), Ticket(0), Outcome::Done, last, true);
        }
    }

    /// Others fill disks: one, those of whoever learns, or many.
    pub(crate) fn fill_disks(&mut self) {
        if self.time > FAULTS_END {
            return;
        }
        let next = 200 * MS + self.random.below(4 * SECOND);
        self.at(next, Event::FillDisks);
        let longest = self.random.pick(&[SECOND, 7 * SECOND]);
        let until = 300 * MS + self.random.below(longest);
        let partition = self.random.below(self.shape.partitions.into()) as usize;
        let learners = self.ledger.rows[partition].configuration.candidates.clone();
        let nodes = match self.random.below(10) {
            0..5 => vec![self.victim()],
            5..8 => learners.iter().map(|process| endpoint_of(process.node)).collect(),
            _ => (0..self.shape.nodes).filter(|_| self.random.percent(60)).collect(),
        };
        self.summary.faults += 1;
        nodes.into_iter().for_each(|node| self.fill_disk(node, until));
    }

    fn fill_disk(&mut self, node: usize, until: Time) {
        let left_bytes = self.random.pick(&[0, 0, 5000, 40000]);
        note!(self, "the disk of node {node} is filled for {} ms, but for {left_bytes} bytes", until / MS);
        self.nodes[node].storage.iter_mut().for_each(|storage| storage.fill(left_bytes));
        self.at(until, Event::EmptyDisk { node });
    }

    pub(crate) fn empty_disk(&mut self, node: usize) {
        note!(self, "there is space again on the disk of node {node}");
        self.nodes[node].storage.iter_mut().for_each(crate::storage::ReplicaStorage::empty);
    }

    /// A client is told that there is no space: the disk of a replica that is in sync, or may be any moment, is full.
    /// What space was set aside for is not refused for want of it.
    pub(crate) fn mind_refusal(
        &mut self,
        node: usize,
        partition: Partition,
        answer: &Answer,
        changed: Option<Oid>,
    ) {
        // One that was paused tells what it knew before that.
        let is_awake = self.nodes[node].told_room_at + SECOND > self.time;
        if *answer != Answer::Refused(Refused::NoSpace) || !is_awake {
            return;
        }
        if changed.is_some_and(|oid| self.histories.set_aside.has(partition.value(), oid)) {
            self.broken = Some(Broken::RefusedForSpace { partition: partition.value() });
        }
        let is_recent = |at: Time| at + HEARD_WITHIN > self.time;
        let replica = self.nodes[node].replica(partition.value());
        let is_full = |(endpoint, state): (usize, &Node)| {
            let is_in_sync = |process: &Process| endpoint_of(process.node) == endpoint;
            let counts = replica.is_some_and(|it| it.configuration().in_sync.iter().any(is_in_sync));
            // Its timers still wait for the end of a pause.
            let is_silent = state.told_room_at + SECOND <= self.time;
            (is_silent || is_recent(state.last_full)) && (counts || is_recent(state.last_proposed))
        };
        if !self.nodes.iter().enumerate().any(is_full) {
            self.broken = Some(Broken::RefusedForSpace { partition: partition.value() });
        }
    }

    /// What frees space is not refused for want of it.
    pub(crate) fn mind_told_of_no_space(&mut self, what: &What) {
        if let What::Discard { at, .. } | What::Remove { at, .. } = what {
            self.broken = Some(Broken::RefusedForSpace { partition: at.partition });
        }
    }

    /// A replica that keeps what it promised is not dropped for want of space.
    pub(crate) fn mind_drop(&mut self, record: &SetRecord) {
        let SetRecord::Changed { change: InSyncChange::Drop { node, incarnation }, partition, .. } = record
        else {
            return;
        };
        let endpoint = endpoint_of(*node);
        let is_it = self.nodes[endpoint].incarnation == *incarnation;
        let beyond_credit = self.nodes[endpoint].replica(partition.value()).map_or(0, Replica::beyond_credit);
        if is_it && beyond_credit > 0 {
            self.broken = Some(Broken::DroppedForSpace { partition: partition.value(), node: endpoint });
        }
    }
}
