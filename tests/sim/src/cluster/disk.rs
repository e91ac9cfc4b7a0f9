//! What goes wrong with disks: blocks rot, objects are lost, reads fail for a while, and whole disks fail for good.
//!
//! Mostly another replica in sync has what is damaged, for what is damaged everywhere proves nothing but that it is called so.

use huntaway_ledger::Memory;
use huntaway_replica::{Input, Outcome, PlantedBug};
use huntaway_wire::{Oid, Version};

use super::event::{AtNode, Event};
use super::{Bug, Cluster, FAULTS_END, MS, SECOND, endpoint_of, note, partition};
use crate::clock::Time;
use crate::storage::Crash;

/// How long what was read while reads failed can take to become an answer.
const ANSWERED_WITHIN: Time = 4 * SECOND;

impl Cluster {
    pub(crate) fn disk_fault(&mut self) {
        if self.time > FAULTS_END {
            return;
        }
        let next = 20 * MS + self.random.below(self.shape.disk_fault_every);
        self.at(next, Event::DiskFault);
        self.summary.faults += 1;
        let node = self.victim();
        match self.random.below(100) {
            0..60 => self.damage(node, false),
            60..75 => self.damage(node, true),
            75..92 => self.fail_reads(node),
            _ => self.fail_disk(node),
        }
    }

    /// A block, or a whole object, of a replica is damaged; mostly one that is elsewhere, too.
    fn damage(&mut self, node: usize, whole_object: bool) {
        let number = self.random.below(self.shape.partitions.into()) as u16;
        let mut places = self.nodes[node].storage[usize::from(number)].places_to_rot();
        if self.random.percent(97) {
            places.retain(|(oid, block)| self.others_have(node, number, *oid, *block));
        }
        if places.is_empty() {
            return;
        }
        let (oid, block) = self.random.pick(&places);
        self.nodes[node].damaged_at.insert((number, oid), self.time);
        let storage = &mut self.nodes[node].storage[usize::from(number)];
        if whole_object {
            storage.lose(oid);
            note!(self, "node {node} loses {oid} of partition {number}");
        } else {
            storage.rot(oid, block);
            note!(self, "block {block} of {oid} of partition {number} rots on node {node}");
        }
    }

    /// Whether another replica that is in sync for certain has the same version.
    fn others_have(&self, node: usize, number: u16, oid: Oid, block: u32) -> bool {
        let configuration = &self.ledger.rows[usize::from(number)].configuration;
        let whole = |node: usize| self.nodes[node].storage[usize::from(number)].objects().whole(oid, block);
        let own = whole(node).map(|stored| stored.version);
        configuration.in_sync.iter().any(|process| {
            let other = endpoint_of(process.node);
            let is_sound =
                !configuration.doubtful.contains(&process.node) && self.nodes[other].memory == Memory::Kept;
            other != node && is_sound && whole(other).map(|stored| stored.version) == own
        })
    }

    fn fail_reads(&mut self, node: usize) {
        let longest = [300 * MS, 3 * SECOND][self.random.below(2) as usize];
        let until = self.time + MS + self.random.below(longest);
        note!(self, "reads fail on node {node} until {} ms", until / MS);
        self.nodes[node].reads_fail_until = until;
    }

    /// What a read finds, unless it fails.
    pub(crate) fn perhaps_failed(&mut self, node: usize, outcome: Outcome) -> Outcome {
        if self.nodes[node].reads_fail_until <= self.time || self.random.percent(60) {
            return outcome;
        }
        match outcome {
            Outcome::Blocks(blocks) => Outcome::Damaged(vec![None; blocks.len()]),
            Outcome::Damaged(blocks) => Outcome::Damaged(vec![None; blocks.len()]),
            _ => Outcome::Failed,
        }
    }

    /// A sync fails. What is not on the disk will never be, and the process knows; it is started again in a while.
    fn fail_disk(&mut self, node: usize) {
        if !self.nodes[node].is_alive() || self.nodes[node].disk_failed {
            return;
        }
        note!(self, "the disk of node {node} fails");
        let is_heeded = self.bug != Some(Bug::Replica(PlantedBug::FailedDiskGoesOn));
        let state = &mut self.nodes[node];
        state.disk_failed = true;
        if is_heeded && state.memory == Memory::Kept {
            state.memory = Memory::Stable;
        }
        state.storage.iter_mut().for_each(crate::storage::ModelStorage::fail);
        self.at_process(node, 1, AtNode::DiskFailed);
        let longest = [SECOND, 6 * SECOND][self.random.below(2) as usize];
        let after = 300 * MS + self.random.below(longest);
        self.at(after, Event::ReplaceDisk { node });
    }

    /// The replicas hear that their disk failed.
    pub(crate) fn disk_failed(&mut self, node: usize) {
        for number in 0..self.shape.partitions {
            self.step(node, partition(number), Input::DiskFailed);
        }
    }

    /// Whether the process knows that what it waits for from its disk will not be done.
    pub(crate) fn knows_of_failed_disk(&self, node: usize) -> bool {
        self.nodes[node].disk_failed && self.bug != Some(Bug::Replica(PlantedBug::FailedDiskGoesOn))
    }

    /// A process is started anew on a disk that failed: it works again.
    pub(crate) fn replace_disk(&mut self, node: usize) {
        if self.nodes[node].disk_failed {
            if self.nodes[node].is_alive() {
                self.crash_node(node, Crash::Killed);
            }
            self.start_process(node);
        }
    }

    /// Faults are over.
    pub(crate) fn mend_disk(&mut self, node: usize) {
        self.nodes[node].reads_fail_until = self.nodes[node].reads_fail_until.min(self.time);
        self.replace_disk(node);
        for number in 0..self.shape.partitions {
            let rate = self.scrub_bytes_per_second();
            self.nodes[node].replica_mut(number).into_iter().for_each(|replica| replica.scrub_at(rate));
        }
    }

    /// How fast primaries read objects again: fast, when it is time to come to rest.
    pub(crate) fn scrub_bytes_per_second(&self) -> u64 {
        if self.time < FAULTS_END { self.shape.scrub_bytes_per_second } else { 1 << 24 }
    }

    /// Whether a primary may say that a block is damaged: no replica that is in sync has all of what it was asked for.
    /// `oids` are the object and those that it inherits from.
    pub(crate) fn mind_damage(
        &mut self,
        node: usize,
        number: u16,
        oids: &[Oid],
        blocks: std::ops::Range<u32>,
    ) {
        self.summary.damaged += 1;
        let Some(replica) = self.nodes[node].replica(number) else { return };
        let in_sync: Vec<usize> =
            replica.configuration().in_sync.iter().map(|process| endpoint_of(process.node)).collect();
        let reads_failed = |node: &usize| self.nodes[*node].reads_fail_until + ANSWERED_WITHIN > self.time;
        // One may have been damaged after another one was asked, and before that one was mended.
        let crossed = |oid: &Oid| {
            let damaged = in_sync.iter().filter_map(|node| self.nodes[*node].damaged_at.get(&(number, *oid)));
            let (count, last) = damaged.fold((0, 0), |(count, last), at| (count + 1, last.max(*at)));
            count > 1 && last + ANSWERED_WITHIN > self.time
        };
        if oids.iter().any(crossed) || in_sync.iter().any(reads_failed) {
            return;
        }
        let whole = |oid: &Oid, block: u32| {
            let mut replicas = in_sync.iter().map(|node| &self.nodes[*node].storage[usize::from(number)]);
            replicas.find_map(|storage| storage.objects().whole(*oid, block))
        };
        let is_whole = |block: u32| {
            for oid in oids {
                match whole(oid, block) {
                    Some(stored) if stored.version == Version::NEVER => {}
                    found => return found.is_some(),
                }
            }
            true
        };
        if blocks.into_iter().all(is_whole)
            && let Some(oid) = oids.first().copied()
        {
            self.broken = Some(super::Broken::Damaged { partition: number, oid });
        }
    }
}
