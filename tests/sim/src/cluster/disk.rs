//! What goes wrong with disks: blocks rot, objects are lost, reads fail for a while, and whole disks fail for good.
//!
//! Mostly another replica in sync has what is damaged, for what is damaged everywhere proves nothing but that it is called so.

use huntaway_ledger::{Memory, SetRecord, StartId, Starts};
use huntaway_replica::{Input, Outcome, PlantedBug, Process};
use huntaway_wire::{NodeId, Oid, Partition, Version};

use super::event::{AtNode, Event};
use super::old_copies::Copies;
use super::{Broken, Bug, Cluster, FAULTS_END, MS, SECOND, endpoint_of, id_of, note, partition};
use crate::clock::Time;
use crate::storage::{Crash, ReplicaStorage};

/// How long what was read while reads failed can take to become an answer.
const ANSWERED_WITHIN: Time = 4 * SECOND;

/// How long after its disk failed the ledger knows of it.
pub(crate) const TOLD_WITHIN: Time = 3 * SECOND;

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
            75..88 => self.fail_reads(node),
            88..92 => self.swap_disk(node),
            _ => self.perhaps_corner(node),
        }
    }

    /// The disk of a node fails; now and then when a set of it can do without nobody any more.
    fn perhaps_corner(&mut self, node: usize) {
        let min_copies = self.ledger.sets().min_copies();
        let in_sync = |number: u16| self.ledger.rows[usize::from(number)].configuration.in_sync.clone();
        let is_in = |number: &u16| in_sync(*number).iter().any(|process| endpoint_of(process.node) == node);
        let Some(number) = (0..self.shape.partitions).find(is_in).filter(|_| self.random.percent(50)) else {
            return self.fail_disk(node);
        };
        let others = in_sync(number).into_iter().map(|process| endpoint_of(process.node));
        let spared = others.filter(|other| *other != node).skip(min_copies.saturating_sub(1));
        for other in spared.collect::<Vec<_>>() {
            self.crash(other, Crash::Killed, 8 * SECOND);
        }
        self.at(1500 * MS, Event::FailDisk { node });
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
            self.histories.set_aside.lost(number);
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

    /// Now and then a store tries to put in place what was written to an object whose file is missing.
    pub(crate) fn tell_suspects(&mut self, node: usize, partition: Partition) {
        for oid in self.nodes[node].storage[partition.index()].suspects() {
            if self.random.percent(10) {
                self.step(node, partition, Input::Suspect { oid });
            }
        }
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
    pub(crate) fn fail_disk(&mut self, node: usize) {
        if !self.nodes[node].is_alive() || self.nodes[node].disk_failed || self.time > FAULTS_END {
            return;
        }
        note!(self, "the disk of node {node} fails");
        let is_heeded = self.bug != Some(Bug::Replica(PlantedBug::FailedDiskGoesOn));
        let state = &mut self.nodes[node];
        (state.disk_failed, state.failed_at) = (true, self.time);
        if is_heeded && state.memory == Memory::Kept {
            state.memory = Memory::Stable;
        }
        state.storage.iter_mut().for_each(ReplicaStorage::fail);
        self.at_process(node, 1, AtNode::DiskFailed);
        let longest = [SECOND, 6 * SECOND][self.random.below(2) as usize];
        let mut after = 300 * MS + self.random.below(longest);
        // The set can do without no other of its members: they die when it has long been known which of them has everything.
        let min_copies = self.ledger.sets().min_copies();
        let needs_all = |number: &u16| {
            let in_sync = &self.ledger.rows[usize::from(*number)].configuration.in_sync;
            in_sync.len() == min_copies && in_sync.iter().any(|process| endpoint_of(process.node) == node)
        };
        let needing: Option<u16> = (0..self.shape.partitions).find(needs_all);
        if let Some(partition) = needing.filter(|_| self.random.percent(70)) {
            let known = TOLD_WITHIN + self.random.below(2 * SECOND);
            self.at(known, Event::KillOthers { partition, node });
            after = after.max(known + SECOND);
        }
        self.at(after, Event::ReplaceDisk { node });
    }

    /// The other members of the set are killed.
    pub(crate) fn kill_others(&mut self, partition: u16, node: usize) {
        let in_sync = self.ledger.rows[usize::from(partition)].configuration.in_sync.clone();
        for other in in_sync.iter().map(|process| endpoint_of(process.node)).filter(|other| *other != node) {
            self.crash(other, Crash::Killed, 2 * SECOND);
        }
    }

    /// A node comes back with a new disk, or with an old copy of its own; before that, perhaps, such a copy is made. Mostly
    /// others have all that it had.
    fn swap_disk(&mut self, node: usize) {
        let state = &mut self.nodes[node];
        if state.image.is_none() && !state.disk_failed && self.random.percent(60) {
            state.image = Some((state.storage.clone(), state.starts.clone()));
            return note!(self, "the disk of node {node} is copied");
        }
        if self.random.percent(20) || self.can_do_without(node) {
            self.other_disk(node);
        }
    }

    /// A node comes back with a new disk, or with an old copy of its own.
    pub(crate) fn other_disk(&mut self, node: usize) {
        if self.nodes[node].disk_failed || self.time > FAULTS_END {
            return;
        }
        let is_kept = self.random.percent(50);
        if self.nodes[node].is_alive() {
            self.crash_node(node, if is_kept { Crash::PowerLost } else { Crash::Killed });
        }
        // A copy that was made since the last start cannot be told from the disk itself, nor can one that was made since the
        // last start on a disk that is waited for.
        let sets = (0..self.shape.partitions).filter_map(|number| self.ledger.sets().set(partition(number)));
        let mut counting: Vec<StartId> = sets.filter_map(|set| set.lost).collect();
        counting.extend(self.ledger.sets().node(id_of(node)).map(|known| known.start));
        let is_old = |image: &mut (Vec<ReplicaStorage>, Starts)| {
            !counting.iter().any(|start| image.1.ids().contains(start))
        };
        let mut new = || self.habits.new_disk(self.shape.partitions, self.bug, &mut self.random);
        let state = &mut self.nodes[node];
        let image = state.image.take_if(is_old);
        let kind = if image.is_some() { "an old copy of its disk" } else { "a new disk" };
        let (storage, starts) = image.unwrap_or_else(|| (new(), Starts::default()));
        let storage = std::mem::replace(&mut state.storage, storage);
        let starts = std::mem::replace(&mut state.starts, starts);
        state.copies.fill(Copies::default());
        // What was damaged when the copy was made still is.
        state.storage.iter_mut().for_each(ReplicaStorage::put_in);
        let is_damaged = state.storage.iter().any(|storage| storage.tells_damage(Crash::Killed));
        let memory = if is_damaged { Memory::Damaged } else { Memory::Kept };
        let memory = std::mem::replace(&mut state.memory, memory);
        (state.is_original, state.other_disk_after) = (false, state.incarnation);
        if is_kept {
            state.taken_out = Some((storage, starts, memory));
            let back = SECOND + self.random.below(8 * SECOND);
            self.at(back, Event::PutDiskBack { node });
        }
        note!(self, "node {node} gets {kind}");
        let back = MS + self.random.below(2 * SECOND);
        self.at(back, Event::StartNode { node });
    }

    /// The disk that was taken out is found again.
    pub(crate) fn put_disk_back(&mut self, node: usize) {
        if self.nodes[node].disk_failed || self.time > FAULTS_END {
            return;
        }
        let Some((storage, starts, memory)) = self.nodes[node].taken_out.take() else { return };
        if self.nodes[node].is_alive() {
            self.crash_node(node, Crash::Killed);
        }
        let state = &mut self.nodes[node];
        (state.storage, state.starts, state.memory) = (storage, starts, memory);
        state.copies.fill(Copies::default());
        note!(self, "node {node} has its disk back");
        self.start_process(node);
    }

    /// Whether nobody who has everything leaves a set for one whose disk failed a while ago: that one has said so.
    pub(crate) fn mind_left(&mut self, record: &SetRecord) {
        if matches!(record, SetRecord::Forced { .. }) {
            return;
        }
        for number in 0..self.shape.partitions {
            let before = &self.ledger.rows[usize::from(number)].configuration;
            let Some(set) = self.ledger.sets().set(partition(number)) else { continue };
            let has_everything = |process: &&Process| {
                let state = &self.nodes[endpoint_of(process.node)];
                state.incarnation == process.incarnation
                    && state.other_disk_after != process.incarnation
                    && state.memory == Memory::Kept
                    && !state.disk_failed
                    && !before.doubtful.contains(&process.node)
            };
            let said_so = |node: &&NodeId| {
                let state = &self.nodes[endpoint_of(**node)];
                let is_awake = state.is_alive() && state.paused_until <= state.failed_at;
                // Whoever has not heard of its own start yet has nobody to tell it of.
                state.disk_failed
                    && is_awake
                    && state.applied > 0
                    && state.failed_at + TOLD_WITHIN <= self.time
                    && !set.doubtful.contains(node)
            };
            let stays = |process: &&Process| set.in_sync.contains(&process.node);
            let (stay, leave): (Vec<&Process>, Vec<&Process>) = before.in_sync.iter().partition(stays);
            if leave.iter().any(has_everything)
                && !stay.iter().any(has_everything)
                && set.in_sync.iter().any(|node| said_so(&node))
            {
                self.broken = Some(Broken::LeftForFailed { partition: number });
            }
        }
    }

    /// Whether all that the node has in sync, another one has as well, for certain.
    fn can_do_without(&self, node: usize) -> bool {
        self.ledger.rows.iter().all(|row| {
            let is_sound = |process: &&Process| {
                let other = endpoint_of(process.node);
                let is_doubtful = row.configuration.doubtful.contains(&process.node);
                other != node && !is_doubtful && self.nodes[other].memory == Memory::Kept
            };
            let in_sync = &row.configuration.in_sync;
            !in_sync.iter().any(|process| endpoint_of(process.node) == node)
                || in_sync.iter().any(|process| is_sound(&process))
        })
    }

    /// A person has partitions opened that nobody has whole any more, or that wait for who does not come back soon.
    pub(crate) fn force_open(&mut self) {
        for number in 0..self.shape.partitions {
            let configuration = &self.ledger.rows[usize::from(number)].configuration;
            let (partition, pepoch, is_lost) =
                (partition(number), configuration.pepoch, configuration.is_lost);
            let Some(shown) = self.ledger.sets().at_stake(partition) else { continue };
            let percent = if is_lost { 15 } else { self.habits.forced_percent };
            if self.random.percent(percent) {
                note!(self, "partition {number} is to be opened by force: {shown:?}");
                let after = 1 + self.random.below(SECOND);
                let record = SetRecord::Forced { partition, pepoch, shown };
                self.at(after, Event::Record { from: self.ledger_endpoint(), record });
            }
        }
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

    /// Whether the node is down, and the ledger has not heard of all that failed meanwhile: it does not ask to be up before.
    pub(crate) fn has_failure_to_tell(&self, node: usize) -> bool {
        let is_down = self.ledger.sets().node(id_of(node)).is_some_and(|known| !known.is_up);
        let is_untold = |number: u16| {
            let set = self.ledger.sets().set(partition(number));
            set.is_some_and(|set| set.keepers().contains(&id_of(node)) && !set.failed.contains(&id_of(node)))
        };
        is_down
            && self.knows_of_failed_disk(node)
            && self.bug != Some(Bug::UpBeforeFailureIsTold)
            && (0..self.shape.partitions).any(is_untold)
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
        self.nodes[node].storage.iter_mut().for_each(ReplicaStorage::enlarge);
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
        // Who was started anew meanwhile may have another disk than the one that was asked, and who was left out, nothing any more.
        let agreed = &self.ledger.rows[usize::from(number)].configuration;
        let is_the_same = |process: &&Process| {
            let state = &self.nodes[endpoint_of(process.node)];
            state.is_alive() && state.incarnation == process.incarnation && agreed.has(**process)
        };
        let in_sync = replica.configuration().in_sync.iter().filter(is_the_same);
        let in_sync: Vec<usize> = in_sync.map(|process| endpoint_of(process.node)).collect();
        let reads_failed = |node: &usize| self.nodes[*node].reads_fail_until + ANSWERED_WITHIN > self.time;
        // One may have been damaged after another one was asked, and before that one was mended.
        let crossed = |oid: &Oid| {
            let damaged = in_sync.iter().filter_map(|node| self.nodes[*node].damaged_at.get(&(number, *oid)));
            let (count, last) = damaged.fold((0, 0), |(count, last), at| (count + 1, last.max(*at)));
            count > 1 && last + ANSWERED_WITHIN > self.time
        };
        // What was deleted since it was asked for is freed, of what it inherits as well: nothing is there that could be damaged.
        let version = |oid: &Oid| self.ledger.disks().version(oid.vid());
        let is_deleted = oids.first().and_then(version).is_none_or(|version| version.is_deleted);
        if oids.iter().any(crossed) || in_sync.iter().any(reads_failed) || is_deleted {
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
