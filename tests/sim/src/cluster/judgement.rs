//! Whether a run kept the promises: what clients saw can be explained, and in the end all copies are the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use huntaway_ledger::InSyncSet;
use huntaway_replica::{Mended, Process, Stored};
use huntaway_wire::{ObjectKind, Oid, Partition, Pepoch, Vid};

use super::block::Seen;
use super::cut::{Snapshot, Torn};
use super::node::Node;
use super::operation::{clone_of, on_disk};
use super::space::SetAside;
use super::{Cluster, endpoint_of, partition};
use crate::Loss;
use crate::clock::Time;
use crate::storage::{Objects, ReplicaStorage};
use crate::{Attempt, Effect, History, Violation};

/// Partition, object, block, and what of the block: half, or bit from 2 on.
pub(crate) type Place = (u16, u32, u32, u32);

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    /// What clients saw of a block cannot be explained.
    History {
        /// Partition, object, block, and what of the block: half, or bit from 2 on.
        place: (u16, u32, u32, u32),
        /// How not.
        violation: Violation,
    },
    /// Replicas that are in sync differ.
    Unequal {
        /// The partition.
        partition: u16,
        /// Two nodes.
        nodes: (usize, usize),
        /// The first object that differs.
        oid: Oid,
    },
    /// A client was told that a block is damaged, and a replica in sync has it.
    Damaged {
        /// The partition.
        partition: u16,
        /// The object.
        oid: Oid,
    },
    /// Replicas that are in sync differed, or held damage, in a run in which disks have no faults.
    LetIn {
        /// The partition.
        partition: u16,
    },
    /// A partition is told to be whole, and is not.
    FalseHealth {
        /// The partition.
        partition: u16,
    },
    /// A node's disk was taken for another one, although it never had another.
    Disowned {
        /// The partition.
        partition: u16,
        /// The node.
        node: usize,
    },
    /// A node was left out for good that alone had something of a partition which nobody serves.
    LeftOut {
        /// The partition.
        partition: u16,
        /// The node.
        node: usize,
    },
    /// Who has everything left a set whose other members do not, for their disks failed a while ago.
    LeftForFailed {
        /// The partition.
        partition: u16,
    },
    /// A replica that rested, so that it need not have heard of the time, had something to say.
    Woken {
        /// The partition.
        partition: u16,
        /// The node.
        node: usize,
    },
    /// A store was given more than it had room for.
    Overdrawn {
        /// The partition.
        partition: u16,
        /// The node.
        node: usize,
    },
    /// A replica was dropped because it had no room for what it had promised to take, or was given more.
    DroppedForSpace {
        /// The partition.
        partition: u16,
        /// The node.
        node: usize,
    },
    /// A replica was dropped because the one that missed it had been paused.
    Blamed {
        /// The partition.
        partition: u16,
        /// The one that had been paused, and the other one.
        nodes: (usize, usize),
    },
    /// What was sent cannot be made of the bytes that it becomes on its way.
    NotCarried {
        /// The partition.
        partition: u16,
    },
    /// Something was refused for want of space that was there, or that needs none.
    RefusedForSpace {
        /// The partition.
        partition: u16,
    },
    /// A partition is not served although nothing keeps most of its replicas from that.
    Unserved {
        /// The partition.
        partition: u16,
    },
    /// Long after the last fault a replica has a block of a deleted disk that nothing shows.
    NotFreed {
        /// The partition.
        partition: u16,
        /// The object.
        oid: Oid,
    },
    /// A snapshot is no consistent cut.
    Torn {
        /// Partition, object, block, and what of the block: half, or bit from 2 on.
        place: (u16, u32, u32, u32),
        /// How not.
        torn: Torn,
    },
    /// A store cannot be opened after a crash.
    Unopened {
        /// The node.
        node: usize,
    },
    /// Long after the last fault something is not at rest.
    Stuck {
        /// What.
        what: String,
    },
}

impl Broken {
    /// Whether something wrong was seen, not only nothing for too long.
    pub fn is_seen(&self) -> bool {
        !matches!(self, Self::Stuck { .. })
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::History { place: (partition, object, block, cell), violation } => {
                write!(
                    f,
                    "cell {cell} of block {block} of object {object} of partition {partition}: {violation}"
                )
            }
            Self::Unequal { partition, nodes: (one, other), oid } => {
                write!(f, "nodes {one} and {other} are in sync in partition {partition} and differ in {oid}")
            }
            Self::Damaged { partition, oid } => {
                write!(f, "{oid} of partition {partition} was called damaged, and is not everywhere")
            }
            Self::LetIn { partition } => {
                write!(
                    f,
                    "replicas of partition {partition} differed, or let damage in, without a fault of a disk"
                )
            }
            Self::FalseHealth { partition } => {
                write!(f, "partition {partition} is told to be whole, and its stores are not")
            }
            Self::Disowned { partition, node } => {
                write!(f, "what node {node} has of partition {partition} is taken to be on another disk")
            }
            Self::LeftOut { partition, node } => {
                write!(f, "node {node} was left out, and with it the last of partition {partition}")
            }
            Self::LeftForFailed { partition } => {
                write!(f, "partition {partition} is left by who has everything, for a disk that failed")
            }
            Self::Woken { partition, node } => {
                write!(f, "node {node} rested in partition {partition}, and had something to say")
            }
            Self::Overdrawn { partition, node } => {
                write!(f, "node {node} was given more of partition {partition} than it had room for")
            }
            Self::DroppedForSpace { partition, node } => {
                write!(f, "node {node} was dropped from partition {partition} for want of space")
            }
            Self::Blamed { partition, nodes: (one, other) } => {
                write!(f, "node {other} was dropped from partition {partition} for a pause of node {one}")
            }
            Self::RefusedForSpace { partition } => {
                write!(
                    f,
                    "something was refused in partition {partition} for want of space that it had, or needed not"
                )
            }
            Self::NotCarried { partition } => {
                write!(f, "something of partition {partition} cannot be read where it arrives")
            }
            Self::Unserved { partition } => {
                write!(f, "partition {partition} is not served, for its primary does not reach the others")
            }
            Self::NotFreed { partition, oid } => {
                write!(f, "nothing shows all of {oid} of partition {partition}, and it is there")
            }
            Self::Torn { place: (partition, object, block, cell), torn } => {
                write!(
                    f,
                    "cell {cell} of block {block} of object {object} of partition {partition} in a snapshot: {torn}"
                )
            }
            Self::Unopened { node } => write!(f, "the store of node {node} cannot be opened"),
            Self::Stuck { what } => write!(f, "not at rest long after the last fault: {what}"),
        }
    }
}

/// A pepoch in which writes were lost.
struct LostIn {
    pepoch: Pepoch,
    at: Time,
    kept: Kept,
}

/// What is left when no replica of a partition is sure to have everything.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// Whether what was flushed is there.
    has_stable: bool,
    /// What some replica still has of each place, as far as it is not zeroes.
    values: BTreeMap<Place, u64>,
}

/// From some moment on a disk showed what a snapshot has: it was made of it, or went back to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown {
    pub(crate) disk: usize,
    pub(crate) at: Time,
    pub(crate) snapshot: usize,
    /// The disk whose snapshot it was.
    pub(crate) of: usize,
}

/// What clients saw.
#[derive(Default)]
pub(crate) struct Histories {
    /// How many disks there were at first.
    disks: usize,
    blocks: BTreeMap<Place, History>,
    /// Comparisons that found something else.
    failed: BTreeMap<Place, Vec<Attempt>>,
    pub(crate) snapshots: Vec<Snapshot>,
    pub(crate) set_aside: SetAside,
    /// In the order in which it happened.
    pub(crate) shown: Vec<Shown>,
    /// When a partition went on although none of its replicas was sure to have everything.
    losses: BTreeMap<u16, Vec<LostIn>>,
    /// The number that was written or seen last, as far as is known.
    known: BTreeMap<Place, u64>,
    /// When flushes of a partition were sent and answered.
    flushes: BTreeMap<u16, Vec<(Time, Time)>>,
}

impl Histories {
    pub(crate) fn new(disks: usize) -> Self {
        Self { disks, ..Self::default() }
    }

    pub(crate) fn add(&mut self, place: Place, attempt: Attempt) {
        if let Effect::Write(number) | Effect::Read(number) | Effect::Swap(_, number) = attempt.effect
            && attempt.answered
        {
            self.known.insert(place, number);
        }
        self.blocks.entry(place).or_default().add(attempt);
    }

    /// What a client expects to find.
    pub(crate) fn known(&self, place: Place) -> u64 {
        self.known.get(&place).copied().unwrap_or(0)
    }

    pub(crate) fn flushed(&mut self, partition: u16, sent: Time, answered: Time) {
        self.flushes.entry(partition).or_default().push((sent, answered));
    }

    /// Writes may be gone from here on, but for what is `kept`.
    pub(crate) fn lost(&mut self, partition: Partition, pepoch: Pepoch, at: Time, kept: Kept) {
        self.set_aside.lost(partition.value());
        let losses = self.losses.entry(partition.value()).or_default();
        if losses.last().is_none_or(|last| last.pepoch != pepoch) {
            losses.push(LostIn { pepoch, at, kept });
        }
    }

    /// A comparison was told to have failed. It may have been carried out before, and that was lost, or is in the log of a
    /// replica that has nothing any more which tells that it is void: if the partition loses writes, its data may be seen.
    pub(crate) fn failed(&mut self, place: Place, attempt: Attempt) {
        self.failed.entry(place).or_default().push(attempt);
    }

    /// What is known of a place, whose partition lost writes at these moments.
    fn history(&self, place: &Place, history: &History, losses: &[Loss<'_>]) -> History {
        let mut history = history.clone();
        let failed = self.failed.get(place).into_iter().flatten();
        let is_possible = |attempt: &&Attempt| losses.iter().any(|loss| loss.at >= attempt.start);
        failed.filter(is_possible).for_each(|attempt| history.add(*attempt));
        history
    }

    fn check(&self) -> Result<(), Broken> {
        for (place, history) in &self.blocks {
            let flushes = self.flushes.get(&place.0).map_or(&[][..], Vec::as_slice);
            let losses = self.losses.get(&place.0).into_iter().flatten();
            let losses: Vec<Loss> = losses
                .map(|LostIn { at, kept, .. }| Loss {
                    at: *at,
                    keeps_stable: kept.has_stable,
                    kept: kept.values.get(place).copied(),
                    flushes,
                    is_shown: false,
                })
                .collect();
            let history = self.history(place, history, &losses);
            history
                .check_with_losses(&self.with_shown(place, losses))
                .map_err(|violation| Broken::History { place: *place, violation })?;
        }
        let losses: Vec<Time> = self.losses.values().flatten().map(|loss| loss.at).collect();
        // What is told to have failed may be in a log that counts again, and then in a snapshot.
        let mut blocks = self.blocks.clone();
        for (place, failed) in &self.failed {
            let history = blocks.entry(*place).or_default();
            failed.iter().for_each(|attempt| history.add(*attempt));
        }
        for snapshot in self.with_sightings() {
            let shown = self.shown.iter().filter(|shown| snapshot.frozen.contains_key(&shown.disk));
            let shown: Vec<Time> = shown.map(|shown| shown.at).collect();
            let torn = snapshot.check(&blocks, &losses, &shown);
            torn.map_err(|(place, torn)| Broken::Torn { place, torn })?;
        }
        Ok(())
    }
}

impl Histories {
    fn disk_of(&self, place: &Place) -> usize {
        clone_of(place).unwrap_or(place.1 as usize % self.disks)
    }

    /// What was there before a disk showed a snapshot is gone: what is there then is the snapshot's to judge.
    fn with_shown<'a>(&self, place: &Place, mut losses: Vec<Loss<'a>>) -> Vec<Loss<'a>> {
        let disk = self.disk_of(place);
        let shown = self.shown.iter().filter(|shown| shown.disk == disk);
        losses.extend(shown.map(|shown| Loss {
            at: shown.at,
            keeps_stable: false,
            kept: None,
            flushes: &[],
            is_shown: true,
        }));
        losses.sort_by_key(|loss| loss.at);
        losses
    }

    /// The snapshots, with what was seen of them through disks that showed them.
    fn with_sightings(&self) -> Vec<Snapshot> {
        let mut snapshots = self.snapshots.clone();
        for (number, shown) in self.shown.iter().enumerate() {
            let next = self.shown[number + 1..].iter().find(|next| next.disk == shown.disk);
            let until = next.map_or(Time::MAX, |next| next.at);
            for (place, history) in &self.blocks {
                if self.disk_of(place) != shown.disk {
                    continue;
                }
                let attempts = history.attempts();
                let is_in = |read: &&Attempt| read.answered && read.start >= shown.at && read.end <= until;
                for read in attempts.iter().filter(is_in) {
                    let Effect::Read(value) = read.effect else { continue };
                    let wrote_it = |write: &Attempt| {
                        write.effect == Effect::Write(value) && write.end > shown.at && write.start < read.end
                    };
                    if !attempts.iter().any(wrote_it) {
                        let place = on_disk(*place, shown.of);
                        snapshots[shown.snapshot].seen(place, shown.of, value, read.end);
                    }
                }
            }
        }
        snapshots
    }
}

/// How often the objects of a partition were read again in a pepoch, and how many could not be mended just then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Passes {
    pepoch: Pepoch,
    passes: u64,
    failed_objects: u64,
}

impl Cluster {
    /// Whether every partition has its copies and serves.
    pub(crate) fn is_at_rest(&self) -> bool {
        (0..self.shape.partitions).all(|number| self.unrest(number).is_none())
    }

    /// Whether all that is there was read again since all was written: what is damaged was mended by now.
    pub(crate) fn is_read_again(&mut self) -> bool {
        let partitions = 0..self.shape.partitions;
        let now: Vec<Passes> = partitions.map(|number| self.passes_of(number)).collect();
        let before = self.passes.get_or_insert_with(|| now.clone());
        for (now, before) in now.iter().zip(before.iter_mut()) {
            // There was no room, perhaps.
            let known = if now.pepoch == before.pepoch { before.failed_objects } else { 0 };
            if now.failed_objects > known {
                *before = *now;
            }
        }
        let is_enough = |(now, before): (&Passes, &Passes)| {
            // One of them may have begun before.
            now.passes >= if now.pepoch == before.pepoch { before.passes + 2 } else { 1 }
        };
        now.iter().zip(before.iter()).all(is_enough)
    }

    /// Whether disks have no faults, nor stores whose logs are damaged: what had begun to be applied may be damaged then.
    pub(crate) fn has_sound_disks(&self) -> bool {
        let mut storages = self.nodes.iter().flat_map(|node| &node.storage);
        let has_damaged_logs = self.habits.damaged_logs_percent > 0;
        self.shape.disk_fault_every == 0 && !(has_damaged_logs && storages.any(ReplicaStorage::is_real))
    }

    /// While disks have no faults, there is nothing to mend.
    pub(crate) fn mind_mended(&mut self, node: usize) {
        for number in 0..self.shape.partitions {
            let mended = self.nodes[node].replica(number).and_then(huntaway_replica::Replica::mended);
            let Some(mended) = mended else { continue };
            if mended.blocks > 0 && self.has_sound_disks() {
                self.broken = Some(Broken::LetIn { partition: number });
            }
        }
    }

    fn passes_of(&self, number: u16) -> Passes {
        let configuration = &self.ledger.rows[usize::from(number)].configuration;
        let primary = self.nodes[endpoint_of(configuration.primary)].replica(number);
        // One that has not heard of its pepoch yet counts the passes of the one before.
        let primary = primary.filter(|primary| primary.configuration().pepoch == configuration.pepoch);
        let mended = primary.and_then(huntaway_replica::Replica::mended).unwrap_or_default();
        let Mended { passes, failed_objects, .. } = mended;
        Passes { pepoch: configuration.pepoch, passes, failed_objects }
    }

    /// What the replicas of a partition have together, but for those whose logs are damaged. If it is opened by force, these count,
    /// too, and what was removed that was to be kept.
    pub(crate) fn kept(&self, partition: Partition, is_forced: bool) -> Kept {
        let in_sync = &self.ledger.rows[partition.index()].configuration.in_sync;
        // Who was started anew meanwhile, or is about to be, may have another disk than the one that was asked.
        let asked = |process: &Process| {
            let node = &self.nodes[endpoint_of(process.node)];
            let is_that = node.incarnation == process.incarnation;
            (is_that && node.other_disk_after != process.incarnation).then_some(node)
        };
        let nodes: Vec<&Node> = in_sync.iter().filter_map(asked).collect();
        let storages = nodes.iter().map(|node| &node.storage[partition.index()]);
        let sound = storages.filter(|storage| is_forced || !storage.is_damaged());
        let sound: Vec<_> = sound.map(ReplicaStorage::objects).collect();
        let removed = nodes.iter().filter_map(|node| node.copies[partition.index()].removed.as_ref());
        let removed = removed.filter(|_| is_forced).flat_map(Objects::all);
        let mut newest: BTreeMap<(Oid, u32), &Stored> = BTreeMap::new();
        for (oid, block, stored) in sound.iter().flat_map(|objects| objects.all()).chain(removed) {
            let known = newest.entry((oid, block)).or_insert(stored);
            if known.version < stored.version {
                *known = stored;
            }
        }
        let shown = |object: u32, block: u32| {
            let working = self.ledger.targets()[self.shape.at(0, object, block).disk]?.vid;
            let lineage = self.ledger.vdis().lineage(working);
            let mut oids = lineage.into_iter().map(|vid| Oid::new(ObjectKind::Data, vid, object));
            oids.find_map(|oid| newest.get(&(oid, block)).copied())
        };
        let mut values = BTreeMap::new();
        let places: BTreeSet<(u32, u32)> = newest.keys().map(|(oid, block)| (oid.index(), *block)).collect();
        for (object, block) in places {
            let at = self.shape.at(partition.value(), object, block);
            let Some(stored) = shown(object, block).filter(|stored| stored.is_sound()) else { continue };
            let halves = (0..).zip(Seen::of(&stored.content).halves);
            values.extend(
                halves.filter(|(_, number)| *number > 0).map(|(half, number)| (at.cell(half), number)),
            );
        }
        Kept { has_stable: !is_forced, values }
    }

    fn unrest(&self, number: u16) -> Option<String> {
        let configuration = &self.ledger.rows[usize::from(number)].configuration;
        let is_whole = self.ledger.sets().set(partition(number)).is_some_and(InSyncSet::is_whole);
        if !is_whole || configuration.in_sync.len() != self.shape.copies {
            let (in_sync, doubtful) = (&configuration.in_sync, &configuration.doubtful);
            let nodes: Vec<_> = in_sync.iter().map(|process| endpoint_of(process.node)).collect();
            return Some(format!("partition {number} has {nodes:?}, {} of them doubtful", doubtful.len()));
        }
        // A store that nobody has opened since its process died is not judged.
        let mut nodes = configuration.in_sync.iter().map(|process| endpoint_of(process.node));
        if let Some(dead) = nodes.find(|node| !self.nodes[*node].is_alive()) {
            return Some(format!("node {dead} of partition {number} is not there"));
        }
        let node = endpoint_of(configuration.primary);
        match self.nodes[node].replica(number).filter(|primary| primary.is_open()) {
            Some(primary) if primary.is_settled() => None,
            Some(_) => Some(format!("not all replicas of partition {number} have what node {node} logged")),
            None => Some(format!("partition {number} is not served by node {node}")),
        }
    }

    /// An object of a deleted version with a block that no version shows which is not deleted.
    pub(crate) fn not_freed(&self) -> Option<(u16, Oid)> {
        let vdis = self.ledger.vdis();
        let versions: Vec<(Vid, bool)> =
            self.ledger.disks().versions().map(|(vid, version, _)| (vid, version.is_deleted)).collect();
        if versions.iter().all(|(_, is_deleted)| !is_deleted) {
            return None;
        }
        let living = versions.iter().filter(|(_, is_deleted)| !is_deleted);
        let lineages: Vec<Vec<Vid>> = living.map(|(vid, _)| vdis.lineage(*vid)).collect();
        let is_deleted = |vid: Vid| versions.contains(&(vid, true));
        for number in 0..self.shape.partitions {
            for process in &self.ledger.rows[usize::from(number)].configuration.in_sync {
                let storage = &self.nodes[endpoint_of(process.node)].storage[usize::from(number)];
                let there: BTreeSet<(Oid, u32)> =
                    storage.objects().all().map(|(oid, block, _)| (oid, block)).collect();
                let is_shown = |oid: Oid, block: u32| {
                    lineages.iter().any(|lineage| {
                        let mut oids = lineage.iter().map(|vid| Oid::new(oid.kind(), *vid, oid.index()));
                        oids.find(|oid| there.contains(&(*oid, block))) == Some(oid)
                    })
                };
                let hidden = |(oid, block): &&(Oid, u32)| is_deleted(oid.vid()) && !is_shown(*oid, *block);
                if let Some((oid, _)) = there.iter().find(hidden) {
                    return Some((number, *oid));
                }
            }
        }
        None
    }

    pub(crate) fn stuck(&self) -> Broken {
        let is_gone = |node: &Node| node.storage.iter().any(ReplicaStorage::is_gone);
        if let Some(node) = self.nodes.iter().position(is_gone) {
            return Broken::Unopened { node };
        }
        let unrest = (0..self.shape.partitions).find_map(|number| self.unrest(number));
        if let Some((partition, oid)) = self.not_freed().filter(|_| unrest.is_none()) {
            return Broken::NotFreed { partition, oid };
        }
        let what = unrest.unwrap_or_else(|| "a client has no answer".to_owned());
        Broken::Stuck { what: format!("{what}, after {} events", self.summary.events) }
    }

    /// Judges what clients saw so far.
    pub(crate) fn judge_histories(&self) -> Result<(), Broken> {
        self.histories.check()
    }

    /// Judges what clients saw, and the replicas, which are at rest.
    pub(crate) fn judge(&self) -> Result<(), Broken> {
        self.judge_histories()?;
        for number in 0..self.shape.partitions {
            let in_sync = &self.ledger.rows[usize::from(number)].configuration.in_sync;
            let nodes: Vec<usize> = in_sync.iter().map(|process| endpoint_of(process.node)).collect();
            for pair in nodes.windows(2) {
                let objects = |node: usize| self.nodes[node].storage[partition(number).index()].objects();
                if let Some(oid) = objects(pair[0]).difference(&objects(pair[1])) {
                    return Err(Broken::Unequal { partition: number, nodes: (pair[0], pair[1]), oid });
                }
            }
        }
        Ok(())
    }
}
