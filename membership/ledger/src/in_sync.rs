//! Which replicas of each partition hold everything: what the records about nodes and in-sync sets add up to.
//!
//! It is part of the ledger, not of the replication core, because gateways need it as well, to find primaries, and because a
//! rule such as "never drop the last copy" must be judged where the order of records is known. A replica is given its
//! partition's row of the [`State`](crate::State).

mod members;
mod record;
mod set;
mod table;

use std::collections::{BTreeMap, BTreeSet};

use huntaway_wire::{NodeId, Partition, Pepoch};

pub use self::members::MAX_DISMISSED;
pub use self::record::{AtStake, InSyncChange, Memory, SetRecord, Void};
pub use self::set::InSyncSet;
pub(crate) use self::table::SetTable;
use crate::{Incarnation, StartId};

/// The nodes, and the in-sync set of every partition. Pure: the same records give the same state everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InSyncSets {
    pub(crate) copies: usize,
    pub(crate) min_copies: usize,
    pub(crate) nodes: BTreeMap<NodeId, NodeState>,
    pub(crate) sets: SetTable,
    /// Nodes that ran once, and belong to the cluster no more.
    pub(crate) dismissed: BTreeSet<NodeId>,
    #[cfg(feature = "planted-bugs")]
    pub(crate) same_pepoch_after_restart: bool,
    #[cfg(feature = "planted-bugs")]
    pub(crate) any_disk_will_do: bool,
    #[cfg(feature = "planted-bugs")]
    pub(crate) placed_at_once: bool,
    #[cfg(feature = "planted-bugs")]
    pub(crate) removed_early: bool,
    #[cfg(feature = "planted-bugs")]
    pub(crate) opens_damaged: bool,
    #[cfg(feature = "planted-bugs")]
    pub(crate) first_disk_is_another: bool,
    #[cfg(feature = "planted-bugs")]
    pub(crate) old_copies_left_out: bool,
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

/// No nodes, and one copy of everything that there will be.
impl Default for InSyncSets {
    fn default() -> Self {
        Self::new(1, 1, &[], [])
    }
}

impl InSyncSets {
    /// A cluster whose `nodes` are up, in their first process. Each partition is kept by the first `copies` of its ring.
    pub fn new(
        copies: usize,
        min_copies: usize,
        nodes: &[NodeId],
        rings: impl IntoIterator<Item = (Partition, Vec<NodeId>)>,
    ) -> Self {
        let first = NodeState { incarnation: Incarnation(1), start: StartId::FIRST, is_up: true };
        let set = |(partition, ring): (Partition, Vec<NodeId>)| {
            (partition, InSyncSet::first(ring.into_iter().take(copies).collect()))
        };
        Self {
            copies,
            min_copies,
            nodes: nodes.iter().map(|node| (*node, first)).collect(),
            sets: rings.into_iter().map(set).collect(),
            dismissed: BTreeSet::new(),
            #[cfg(feature = "planted-bugs")]
            same_pepoch_after_restart: false,
            #[cfg(feature = "planted-bugs")]
            any_disk_will_do: false,
            #[cfg(feature = "planted-bugs")]
            placed_at_once: false,
            #[cfg(feature = "planted-bugs")]
            removed_early: false,
            #[cfg(feature = "planted-bugs")]
            opens_damaged: false,
            #[cfg(feature = "planted-bugs")]
            first_disk_is_another: false,
            #[cfg(feature = "planted-bugs")]
            old_copies_left_out: false,
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

    /// Counts who is to keep a partition as in sync from now on, which is wrong.
    #[cfg(feature = "planted-bugs")]
    pub fn plant_placed_at_once(&mut self) {
        self.placed_at_once = true;
    }

    /// Lets nodes go that have what nobody else has from now on, which is wrong.
    #[cfg(feature = "planted-bugs")]
    pub fn plant_removed_early(&mut self) {
        self.removed_early = true;
    }

    /// Opens partitions whose members' logs are all damaged from now on, which is wrong.
    #[cfg(feature = "planted-bugs")]
    pub fn plant_opens_damaged(&mut self) {
        self.opens_damaged = true;
    }

    /// Takes the first disk of a node for another one from now on, which is wrong.
    #[cfg(feature = "planted-bugs")]
    pub fn plant_first_disk_is_another(&mut self) {
        self.first_disk_is_another = true;
    }

    /// Lets nodes go with old copies of what nobody serves from now on, which is wrong.
    #[cfg(feature = "planted-bugs")]
    pub fn plant_old_copies_left_out(&mut self) {
        self.old_copies_left_out = true;
    }

    /// Forgets who may have lost something, which is wrong.
    #[cfg(feature = "planted-bugs")]
    pub fn plant_doubt_forgotten(&mut self) {
        for (_, set) in self.sets.filter_mut(|_, _| true) {
            set.doubtful.clear();
            set.damaged.clear();
            set.is_forced = false;
        }
    }

    /// Has old copies of the partition given up although it is not whole, which is wrong.
    #[cfg(feature = "planted-bugs")]
    pub fn plant_recovered(&mut self, partition: Partition) {
        if let Some(set) = self.sets.get_mut(partition) {
            set.former.clear();
            set.pepoch = Pepoch(set.pepoch.0.saturating_add(1));
        }
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
        self.sets.get(partition)
    }

    /// The nodes that shall become replicas of `partition`, the most wanted first, of those that are up and whose disks work: all that are to keep it,
    /// and, while too few of these are there, nodes that kept an old copy of it.
    pub fn candidates(&self, partition: Partition) -> Vec<NodeId> {
        let Some(set) = self.sets.get(partition) else { return Vec::new() };
        let is_there = |node: &NodeId| self.is_up(node) && !set.failed.contains(node);
        let is_wanted = |node: &&NodeId| is_there(node) && !set.in_sync.contains(node);
        let mut candidates: Vec<NodeId> = set.target.iter().filter(is_wanted).copied().collect();
        let lacking = self.copies.saturating_sub(set.in_sync.len() + candidates.len());
        let stand_ins = set.former.iter().rev().filter(|node| is_wanted(node) && !set.target.contains(node));
        candidates.extend(stand_ins.take(lacking));
        candidates
    }

    fn is_up(&self, node: &NodeId) -> bool {
        self.nodes.get(node).is_some_and(|state| state.is_up)
    }

    /// What is given up when the partition is opened by force; `None` if that is not needed, for a node is up that holds
    /// everything.
    pub fn at_stake(&self, partition: Partition) -> Option<AtStake> {
        let set = self.sets.get(partition).filter(|set| !set.is_served_by(|node| self.is_up(node)))?;
        let is_there = |node: &NodeId| self.is_up(node) && !set.failed.contains(node);
        // If no node that counted is there, what others have from earlier times is better than nothing.
        let is_any = set.lost.is_some() || !set.in_sync.iter().any(is_there);
        let mut wanted = if is_any { set.keepers() } else { set.in_sync.clone() };
        if !wanted.iter().any(is_there) {
            wanted = self.nodes.keys().copied().collect();
        }
        let process = |node: &NodeId| {
            let state = self.nodes.get(node).filter(|_| is_there(node))?;
            Some((*node, state.incarnation))
        };
        let present: Vec<(NodeId, Incarnation)> = wanted.iter().filter_map(process).collect();
        let is_absent = |node: &&NodeId| is_any || !is_there(node);
        let absent = set.in_sync.iter().filter(is_absent).copied().collect();
        let flushed = is_any || set.is_forced || present.iter().all(|(node, _)| set.damaged.contains(node));
        Some(AtStake { absent, present, flushed })
    }

    /// The nodes, in order of their ids.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, NodeState)> {
        self.nodes.iter().map(|(node, state)| (*node, *state))
    }

    /// The sets, in order of their partitions.
    pub fn sets(&self) -> impl Iterator<Item = (Partition, &InSyncSet)> {
        self.sets.iter()
    }

    /// The partitions whose sets are not what they were `before`, in order. It costs next to nothing if one state was made from the
    /// other by a few records.
    pub fn changed_since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = Partition> + 'a {
        self.sets.changed_since(&before.sets)
    }

    /// A process started, of which nothing is known but its number: it has the disk and all that the one before it had.
    pub(crate) fn restarted(&mut self, node: NodeId, incarnation: Incarnation) -> Result<(), Void> {
        let start = self.node(node).ok_or(Void::Past)?.start;
        let started = NodeState { incarnation, start, is_up: true };
        self.started(node, started, Memory::Kept, &[start])
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// [`Void`]: the state is unchanged. For whoever proposed it, this is an answer like any other.
    pub fn apply(&mut self, record: &SetRecord) -> Result<(), Void> {
        if !record.is_in_bounds() {
            return Err(Void::TooMuch);
        }
        match record {
            SetRecord::NodeStarted { node, incarnation, memory, start, after } => {
                let started = NodeState { incarnation: *incarnation, start: *start, is_up: true };
                self.started(*node, started, *memory, after)
            }
            SetRecord::Forced { partition, pepoch, shown } => self.forced(*partition, *pepoch, shown),
            SetRecord::NodesDown { nodes } => self.down(nodes),
            SetRecord::NodeUp { node } => self.up(*node),
            SetRecord::Changed { partition, pepoch, change } => self.changed(*partition, *pepoch, *change),
        }
    }

    /// # Errors
    /// [`Void::PepochsUsedUp`]: one of the sets that are concerned cannot change any more, so none of them does.
    fn pepochs_are_left(&self, is_concerned: impl Fn(&InSyncSet) -> bool) -> Result<(), Void> {
        let is_last = |set: &InSyncSet| set.pepoch.0 == u32::MAX;
        let is_stuck = self.sets.values().any(|set| is_last(set) && is_concerned(set));
        if is_stuck { Err(Void::PepochsUsedUp) } else { Ok(()) }
    }

    fn started(
        &mut self,
        node: NodeId,
        started: NodeState,
        memory: Memory,
        after: &[StartId],
    ) -> Result<(), Void> {
        let known = self.nodes.get(&node).filter(|state| state.incarnation < started.incarnation);
        let known = *known.ok_or(Void::Past)?;
        let (last, is_first) = (known.start, known.incarnation == Incarnation(0));
        let is_concerned = |set: &InSyncSet| {
            [&set.in_sync, &set.former, &set.failed].iter().any(|nodes| nodes.contains(&node))
        };
        #[cfg(feature = "planted-bugs")]
        let is_first = is_first && !self.first_disk_is_another;
        self.pepochs_are_left(is_concerned)?;
        self.nodes.insert(node, started);
        #[cfg(feature = "planted-bugs")]
        if self.same_pepoch_after_restart && memory == Memory::Kept {
            return Ok(());
        }
        for (_, set) in self.sets.filter_mut(|_, set| is_concerned(set)) {
            // What the only node held is on the disk that it had then, whatever other disks it had since. Who never ran was given
            // partitions with nothing in them, which any disk has.
            let is_former = set.former.contains(&node);
            set.failed.retain(|other| *other != node);
            if !is_former && !set.in_sync.contains(&node) {
                continue;
            }
            let is_other_disk =
                !is_first && !after.contains(&set.lost.filter(|_| !is_former).unwrap_or(last));
            #[cfg(feature = "planted-bugs")]
            let is_other_disk = is_other_disk && !self.any_disk_will_do;
            if is_former && !is_other_disk {
                continue;
            }
            if is_former || is_other_disk && set.in_sync.len() > 1 {
                set.keep(|other| *other != node);
                set.former.retain(|other| *other != node);
            } else if is_other_disk {
                set.lost = set.lost.or(Some(last));
            } else {
                set.lost = None;
                if memory != Memory::Kept && !set.doubtful.contains(&node) {
                    set.doubtful.push(node);
                }
                if memory == Memory::Damaged && !set.damaged.contains(&node) {
                    set.damaged.push(node);
                }
            }
            let has_lost_more = !is_former && (is_other_disk || memory == Memory::Damaged);
            if set.is_forced && set.lost.is_none() && has_lost_more {
                set.lost_more();
            }
            #[cfg(feature = "planted-bugs")]
            if self.opens_damaged && set.is_all_damaged() {
                set.damaged.clear();
            }
            let is_up = |node: &NodeId| self.nodes.get(node).is_some_and(|state| state.is_up);
            set.settle(self.copies, self.min_copies, is_up);
        }
        Ok(())
    }

    fn up(&mut self, node: NodeId) -> Result<(), Void> {
        let has_started = |state: &&NodeState| state.incarnation > Incarnation(0);
        self.nodes.get(&node).filter(|state| !state.is_up).filter(has_started).ok_or(Void::Past)?;
        self.pepochs_are_left(|set| set.in_sync.contains(&node))?;
        self.nodes.entry(node).and_modify(|state| state.is_up = true);
        self.leave_who_is_down();
        Ok(())
    }

    fn down(&mut self, nodes: &[NodeId]) -> Result<(), Void> {
        if !nodes.iter().any(|node| self.is_up(node)) {
            return Err(Void::Past);
        }
        self.pepochs_are_left(|set| nodes.iter().any(|node| set.in_sync.contains(node)))?;
        for node in nodes {
            self.nodes.entry(*node).and_modify(|state| state.is_up = false);
        }
        self.leave_who_is_down();
        Ok(())
    }

    fn leave_who_is_down(&mut self) {
        let is_up = |node: &NodeId| self.nodes.get(node).is_some_and(|state| state.is_up);
        for (_, set) in self.sets.filter_mut(|_, set| set.is_left_by_who_is_down(is_up)) {
            set.settle(self.copies, self.min_copies, is_up);
        }
    }

    /// The partition goes on with those that are there: none of them is sure to have everything.
    fn forced(&mut self, partition: Partition, pepoch: Pepoch, shown: &AtStake) -> Result<(), Void> {
        let at_stake = self.at_stake(partition).filter(|now| now.is_within(shown)).ok_or(Void::Past)?;
        self.pepochs_are_left(|set| set.pepoch == pepoch)?;
        let set = self.sets.get_mut(partition).filter(|set| set.pepoch == pepoch).ok_or(Void::Past)?;
        if at_stake.present.is_empty() {
            return Err(Void::NobodyUp);
        }
        let present: Vec<NodeId> = at_stake.present.iter().map(|(node, _)| *node).collect();
        set.keep(|node| present.contains(node));
        if at_stake.flushed {
            // What they have counts from now on, for there is nothing better.
            set.damaged.clear();
            set.is_forced = true;
        }
        set.in_sync = present.clone();
        set.doubtful = present;
        set.lost = None;
        let is_up = |node: &NodeId| self.nodes.get(node).is_some_and(|state| state.is_up);
        set.settle(self.copies, self.min_copies, is_up);
        Ok(())
    }

    fn changed(&mut self, partition: Partition, pepoch: Pepoch, change: InSyncChange) -> Result<(), Void> {
        let (copies, min_copies) = (self.copies, self.min_copies);
        // What a process says of its disk holds whatever it knows of the set.
        let is_meant =
            |set: &InSyncSet| set.pepoch == pepoch || matches!(change, InSyncChange::Failed { .. });
        if self.sets.get(partition).is_some_and(|set| set.pepoch.0 == u32::MAX && is_meant(set)) {
            return Err(Void::PepochsUsedUp);
        }
        let set = self.sets.get_mut(partition).filter(|set| is_meant(set)).ok_or(Void::Past)?;
        let state_of = |node, incarnation| {
            let state = self.nodes.get(&node).copied();
            state.filter(|state: &NodeState| state.incarnation == incarnation).ok_or(Void::Past)
        };
        let is_up = |node: &NodeId| self.nodes.get(node).is_some_and(|state| state.is_up);
        match change {
            InSyncChange::Drop { node, .. } if !set.in_sync.contains(&node) => {}
            InSyncChange::Drop { node, incarnation } => {
                let is_down = !state_of(node, incarnation)?.is_up;
                let spared = set.in_sync.len() > min_copies || is_down || set.doubtful.contains(&node);
                if !spared || !set.is_served_by(|other| *other != node && is_up(other)) {
                    return Err(Void::Needed { node });
                }
                set.keep(|other| *other != node);
            }
            InSyncChange::Emptied { node, incarnation } => {
                state_of(node, incarnation)?;
                set.empty(node, min_copies, is_up)?;
            }
            InSyncChange::Ready { node, incarnation } => {
                state_of(node, incarnation)?;
                let has_nothing = !set.in_sync.contains(&node) && !set.former.contains(&node);
                if !has_nothing || !set.failed.contains(&node) {
                    return Err(Void::Past);
                }
                set.failed.retain(|other| *other != node);
            }
            InSyncChange::Promote { node, incarnation } => {
                let is_up = state_of(node, incarnation)?.is_up;
                let is_target = set.target.contains(&node);
                let stands_in = set.former.contains(&node) && set.in_sync.len() < copies;
                let is_wanted = !set.in_sync.contains(&node) && (is_target || stands_in);
                // Of those who are in doubt nobody teaches.
                let has_failed = set.failed.contains(&node);
                if !is_up || !is_wanted || has_failed || set.is_lost() || set.is_all_doubtful() {
                    return Err(Void::Past);
                }
                set.in_sync.push(node);
            }
            InSyncChange::Renew => {}
            InSyncChange::Collected => {
                if !set.is_all_doubtful() || set.is_lost() {
                    return Err(Void::Past);
                }
                let primary = set.primary();
                set.keep(|node| Some(*node) == primary);
                set.doubtful.clear();
                set.damaged.clear();
                set.is_forced = false;
            }
            InSyncChange::Failed { node, incarnation } => {
                state_of(node, incarnation)?;
                set.fail(node)?;
            }
        }
        set.settle(copies, min_copies, is_up);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pepoch_is_never_used_twice() {
        let (a, b) = (NodeId([1; 16]), NodeId([2; 16]));
        let partition = Partition::new(7).unwrap();
        let mut sets = InSyncSets::new(2, 1, &[a, b], [(partition, vec![a, b])]);
        let last = Pepoch(u32::MAX);
        sets.sets.get_mut(partition).unwrap().pepoch = last;
        let before = sets.set(partition).cloned();
        let (incarnation, memory) = (Incarnation(2), Memory::Kept);
        let (start, after) = (StartId(7), vec![StartId::FIRST]);
        let change = InSyncChange::Drop { node: a, incarnation: Incarnation(1) };
        for record in [
            SetRecord::NodeStarted { node: a, incarnation, memory, start, after },
            SetRecord::NodesDown { nodes: vec![b] },
            SetRecord::Changed { partition, pepoch: last, change },
        ] {
            assert_eq!(sets.apply(&record), Err(Void::PepochsUsedUp));
        }
        assert_eq!(sets.set(partition).cloned(), before);
        assert_eq!(sets.node(a).map(|state| state.incarnation), Some(Incarnation(1)));
    }
}
