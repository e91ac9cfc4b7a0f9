//! Which replicas of each partition hold everything: what the records about nodes and in-sync sets add up to.
//!
//! It is part of the ledger, not of the replication core, because gateways need it as well, to find primaries, and because a
//! rule such as "never drop the last copy" must be judged where the order of records is known. A replica is given its
//! partition's row. [`State`](crate::State) does not hold it yet: it knows one node, whose in-sync sets are all alike.

use std::collections::BTreeMap;

use huntaway_wire::{NodeId, Partition, Pepoch};

use crate::Incarnation;

/// The nodes, and the in-sync set of every partition. Pure: the same records give the same state everywhere.
#[derive(Debug, Clone)]
pub struct InSyncSets {
    copies: usize,
    min_copies: usize,
    nodes: BTreeMap<NodeId, NodeState>,
    sets: BTreeMap<Partition, InSyncSet>,
    #[cfg(feature = "planted-bugs")]
    same_pepoch_after_restart: bool,
    #[cfg(feature = "planted-bugs")]
    any_disk_will_do: bool,
}

/// Names one start of a process on one disk. It is drawn at random and written to the disk before anybody is told of it, so a copy
/// of the disk that was made before does not have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StartId(pub u64);

impl StartId {
    /// No start: what a new disk knows of. The first processes of a cluster have [`StartId::FIRST`].
    pub const NONE: Self = Self(0);

    /// The start of every node's first process, by which its disk was made.
    pub const FIRST: Self = Self(1);
}

/// A node, as recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeState {
    /// The process that runs there, or ran there last.
    pub incarnation: Incarnation,
    /// Its start.
    pub start: StartId,
    /// Whether it takes part. It may be wrong to say that it does not, but never unsafe.
    pub is_up: bool,
}

/// The replicas of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InSyncSet {
    /// Raised with each change of the rest but `ring`, and with each start of a process in the set.
    pub pepoch: Pepoch,
    /// All nodes in the partition's order of preference.
    pub ring: Vec<NodeId>,
    /// Those that hold every acknowledged write, in that order.
    pub in_sync: Vec<NodeId>,
    /// Those of them that may have lost some: they lost power, or their log is damaged.
    pub doubtful: Vec<NodeId>,
    /// Those of the doubtful whose log is damaged. What they have may be older than what they had on stable storage.
    pub damaged: Vec<NodeId>,
    /// The only node that held everything came back with another disk, or with an old copy of it: nobody opens the partition
    /// before the disk is back, or a person says that it is to go on without.
    pub is_lost: bool,
}

/// What a partition goes on without, if it is opened by force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AtStake {
    /// Nodes that will not be asked. What only they have is lost: with several, writes that were acknowledged and not flushed;
    /// with all that were in sync, any write.
    pub absent: Vec<NodeId>,
    /// Nodes whose newest blocks it goes on with.
    pub present: Vec<NodeId>,
    /// Whether flushed writes can be among what is lost: none of those present was in sync, and kept its disk and its log.
    pub flushed: bool,
}

/// A record about nodes and in-sync sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetRecord {
    /// A process started. It goes on in none of the pepochs of the one before it.
    NodeStarted {
        /// The node.
        node: NodeId,
        /// The number of its process.
        incarnation: Incarnation,
        /// What is left of what the one before it acknowledged.
        memory: Memory,
        /// The process, by a number that no other has, on whichever disk.
        start: StartId,
        /// What its disk says of earlier ones: the last that was recorded, and the last that was not known to be. If the last
        /// recorded one is neither, it ran on another disk: this one is a new one, or an old copy, and holds nothing that counts.
        after: [StartId; 2],
    },
    /// A person has the partition opened with the nodes that are there, and gives up what is [`AtStake`].
    Forced {
        /// The partition.
        partition: Partition,
        /// Its pepoch, as that person knows it.
        pepoch: Pepoch,
    },
    /// The node is taken to have failed. It leaves every set that can do without it. Not before its ledger lease ran out.
    NodeDown {
        /// The node.
        node: NodeId,
    },
    /// The node was taken to have failed wrongly, or can be reached again.
    NodeUp {
        /// The node.
        node: NodeId,
    },
    /// A primary asked for a change of its set.
    Changed {
        /// The partition.
        partition: Partition,
        /// The pepoch in which it asked.
        pepoch: Pepoch,
        /// The change.
        change: InSyncChange,
    },
}

/// What a process finds of what the one before it acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// All of it.
    Kept,
    /// What was on stable storage: the machine lost power.
    Stable,
    /// Some earlier state: the log cannot be read to its end.
    Damaged,
}

/// What a primary can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InSyncChange {
    /// The node is to leave the set. If it is not in it, promotions of it that are under way come to nothing.
    Drop {
        /// The node.
        node: NodeId,
        /// Its process.
        incarnation: Incarnation,
    },
    /// The node is to enter the set.
    Promote {
        /// The node.
        node: NodeId,
        /// Its process.
        incarnation: Incarnation,
    },
    /// In a set of doubtful nodes only, the primary has the newest of everything.
    Collected,
}

/// A record that changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Void {
    /// What it was decided on is the past.
    #[error("the record rests on a state that is past")]
    Past,
    /// The set would be left without a replica that is known to hold everything, or with fewer than it may have.
    #[error("the set cannot do without node {node}")]
    Needed {
        /// The node that was to leave.
        node: NodeId,
    },
    /// There is no node to go on with.
    #[error("no node is up that could open the partition")]
    NobodyUp,
}

impl InSyncSet {
    /// The node that orders writes: the first in the ring that holds everything for certain, or what was on stable storage, or
    /// the first.
    pub fn primary(&self) -> Option<NodeId> {
        let first_without =
            |without: &[NodeId]| self.in_sync.iter().find(|node| !without.contains(node)).copied();
        first_without(&self.doubtful).or_else(|| first_without(&self.damaged)).or_else(|| first_without(&[]))
    }

    /// Whether no node of the set is known to hold everything.
    pub fn is_all_doubtful(&self) -> bool {
        self.in_sync.iter().all(|node| self.doubtful.contains(node))
    }

    /// Whether the set has a node that holds everything for certain, other than `node`.
    fn can_do_without(&self, node: NodeId) -> bool {
        !self.is_lost && self.in_sync.iter().any(|other| *other != node && !self.doubtful.contains(other))
    }

    fn raise(&mut self) {
        self.pepoch = Pepoch(self.pepoch.0.saturating_add(1));
    }

    fn remove(&mut self, node: NodeId) {
        self.in_sync.retain(|other| *other != node);
        self.doubtful.retain(|other| *other != node);
        self.damaged.retain(|other| *other != node);
        self.raise();
    }
}

impl InSyncSets {
    /// A cluster whose `nodes` are up, in their first process. Each partition's set is the first `copies` of its ring.
    pub fn new(
        copies: usize,
        min_copies: usize,
        nodes: &[NodeId],
        rings: impl IntoIterator<Item = (Partition, Vec<NodeId>)>,
    ) -> Self {
        let first = NodeState { incarnation: Incarnation(1), start: StartId::FIRST, is_up: true };
        let set = |(partition, ring): (Partition, Vec<NodeId>)| {
            let in_sync = ring.iter().take(copies).copied().collect();
            let (doubtful, damaged) = (Vec::new(), Vec::new());
            (partition, InSyncSet { pepoch: Pepoch(1), ring, in_sync, doubtful, damaged, is_lost: false })
        };
        Self {
            copies,
            min_copies,
            nodes: nodes.iter().map(|node| (*node, first)).collect(),
            sets: rings.into_iter().map(set).collect(),
            #[cfg(feature = "planted-bugs")]
            same_pepoch_after_restart: false,
            #[cfg(feature = "planted-bugs")]
            any_disk_will_do: false,
        }
    }

    /// Lets processes go on in the pepochs of their predecessors from now on, which is wrong.
    #[cfg(feature = "planted-bugs")]
    pub fn plant_same_pepoch_after_restart(&mut self) {
        self.same_pepoch_after_restart = true;
    }

    /// Takes whatever disk a node comes back with from now on, which is wrong.
    #[cfg(feature = "planted-bugs")]
    pub fn plant_any_disk_will_do(&mut self) {
        self.any_disk_will_do = true;
    }

    /// Replicas that each partition shall have.
    pub fn copies(&self) -> usize {
        self.copies
    }

    /// Replicas that have to be in sync for writes to be taken.
    pub fn min_copies(&self) -> usize {
        self.min_copies
    }

    /// The node, if it is known.
    pub fn node(&self, node: NodeId) -> Option<NodeState> {
        self.nodes.get(&node).copied()
    }

    /// The set of `partition`, if it is known.
    pub fn set(&self, partition: Partition) -> Option<&InSyncSet> {
        self.sets.get(&partition)
    }

    /// The nodes that shall become replicas of `partition`, the most wanted first: as many as it lacks, of those that are up.
    pub fn candidates(&self, partition: Partition) -> Vec<NodeId> {
        let Some(set) = self.sets.get(&partition) else { return Vec::new() };
        let is_up = |node: &NodeId| self.nodes.get(node).is_some_and(|node| node.is_up);
        let lacking = self.copies.saturating_sub(set.in_sync.len());
        let wanted = set.ring.iter().filter(|node| is_up(node) && !set.in_sync.contains(node));
        wanted.take(lacking).copied().collect()
    }

    /// What is given up when the partition is opened by force; `None` if that is not needed.
    pub fn at_stake(&self, partition: Partition) -> Option<AtStake> {
        let set = self.sets.get(&partition).filter(|set| set.is_lost || set.is_all_doubtful())?;
        let is_up = |node: &&NodeId| self.nodes.get(node).is_some_and(|state| state.is_up);
        let wanted = if set.is_lost { &set.ring } else { &set.in_sync };
        let present: Vec<NodeId> = wanted.iter().filter(is_up).copied().collect();
        let absent =
            set.in_sync.iter().filter(|node| set.is_lost || !present.contains(node)).copied().collect();
        let flushed = set.is_lost || present.iter().all(|node| set.damaged.contains(node));
        Some(AtStake { absent, present, flushed })
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// [`Void`]: the state is unchanged. For whoever proposed it, this is an answer like any other.
    pub fn apply(&mut self, record: SetRecord) -> Result<(), Void> {
        match record {
            SetRecord::NodeStarted { node, incarnation, memory, start, after } => {
                self.started(node, NodeState { incarnation, start, is_up: true }, memory, after)
            }
            SetRecord::Forced { partition, pepoch } => self.forced(partition, pepoch),
            SetRecord::NodeDown { node } => self.down(node),
            SetRecord::NodeUp { node } => {
                let state = self.nodes.get_mut(&node).filter(|state| !state.is_up).ok_or(Void::Past)?;
                state.is_up = true;
                Ok(())
            }
            SetRecord::Changed { partition, pepoch, change } => self.changed(partition, pepoch, change),
        }
    }

    fn started(
        &mut self,
        node: NodeId,
        started: NodeState,
        memory: Memory,
        after: [StartId; 2],
    ) -> Result<(), Void> {
        let state = self.nodes.get_mut(&node).filter(|state| state.incarnation < started.incarnation);
        let last = std::mem::replace(state.ok_or(Void::Past)?, started).start;
        let is_other_disk = !after.contains(&last);
        #[cfg(feature = "planted-bugs")]
        let is_other_disk = is_other_disk && !self.any_disk_will_do;
        #[cfg(feature = "planted-bugs")]
        if self.same_pepoch_after_restart && memory == Memory::Kept {
            return Ok(());
        }
        for set in self.sets.values_mut().filter(|set| set.in_sync.contains(&node)) {
            if is_other_disk && set.in_sync.len() > 1 {
                set.remove(node);
                continue;
            }
            set.is_lost |= is_other_disk;
            if memory != Memory::Kept && !set.doubtful.contains(&node) {
                set.doubtful.push(node);
            }
            if memory == Memory::Damaged && !set.damaged.contains(&node) {
                set.damaged.push(node);
            }
            set.raise();
        }
        Ok(())
    }

    /// The partition goes on with those that are there: none of them is sure to have everything.
    fn forced(&mut self, partition: Partition, pepoch: Pepoch) -> Result<(), Void> {
        let at_stake = self.at_stake(partition).ok_or(Void::Past)?;
        let set = self.sets.get_mut(&partition).filter(|set| set.pepoch == pepoch).ok_or(Void::Past)?;
        if at_stake.present.is_empty() {
            return Err(Void::NobodyUp);
        }
        set.in_sync = at_stake.present.clone();
        set.damaged.retain(|node| at_stake.present.contains(node));
        if set.is_lost {
            set.damaged = at_stake.present.clone();
        }
        set.doubtful = at_stake.present;
        set.is_lost = false;
        set.raise();
        Ok(())
    }

    fn down(&mut self, node: NodeId) -> Result<(), Void> {
        let state = self.nodes.get_mut(&node).filter(|state| state.is_up).ok_or(Void::Past)?;
        state.is_up = false;
        let leaves = |set: &&mut InSyncSet| set.in_sync.contains(&node) && set.can_do_without(node);
        self.sets.values_mut().filter(leaves).for_each(|set| set.remove(node));
        Ok(())
    }

    fn changed(&mut self, partition: Partition, pepoch: Pepoch, change: InSyncChange) -> Result<(), Void> {
        let (copies, min_copies) = (self.copies, self.min_copies);
        let set = self.sets.get_mut(&partition).filter(|set| set.pepoch == pepoch).ok_or(Void::Past)?;
        let state_of = |node, incarnation| {
            let state = self.nodes.get(&node).copied();
            state.filter(|state: &NodeState| state.incarnation == incarnation).ok_or(Void::Past)
        };
        match change {
            InSyncChange::Drop { node, .. } if !set.in_sync.contains(&node) => set.raise(),
            InSyncChange::Drop { node, incarnation } => {
                let is_down = !state_of(node, incarnation)?.is_up;
                let spared = set.in_sync.len() > min_copies || is_down || set.doubtful.contains(&node);
                if !spared || !set.can_do_without(node) {
                    return Err(Void::Needed { node });
                }
                set.remove(node);
            }
            InSyncChange::Promote { node, incarnation } => {
                let is_up = state_of(node, incarnation)?.is_up;
                let is_wanted = set.ring.contains(&node) && !set.in_sync.contains(&node);
                if !is_up || !is_wanted || set.is_lost || set.in_sync.len() >= copies {
                    return Err(Void::Past);
                }
                let enters = |other: &&NodeId| **other == node || set.in_sync.contains(other);
                set.in_sync = set.ring.iter().filter(enters).copied().collect();
                set.raise();
            }
            InSyncChange::Collected => {
                if !set.is_all_doubtful() || set.is_lost {
                    return Err(Void::Past);
                }
                set.in_sync = set.primary().into_iter().collect();
                set.doubtful.clear();
                set.damaged.clear();
                set.raise();
            }
        }
        Ok(())
    }
}
