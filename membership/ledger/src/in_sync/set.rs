//! The replicas of one partition, and who of them counts.

use huntaway_wire::{NodeId, Pepoch};

use super::Void;
use crate::StartId;

/// The replicas of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InSyncSet {
    /// Raised with each change of the rest, and with each start of a process in the set.
    pub pepoch: Pepoch,
    /// The nodes that are to keep the partition, in ring order: see [`Placement`](crate::Placement).
    pub target: Vec<NodeId>,
    /// Those that hold every acknowledged write: first those that are to, in ring order.
    pub in_sync: Vec<NodeId>,
    /// Nodes that were in sync and keep what they had then, in the order in which they left, until the set is whole.
    pub former: Vec<NodeId>,
    /// Those in sync that may have lost some: they lost power, their log is damaged, or their disk failed.
    pub doubtful: Vec<NodeId>,
    /// Those of the doubtful whose log is damaged. What they have may be older than what they had on stable storage.
    pub damaged: Vec<NodeId>,
    /// Nodes of all these whose process does nothing for the partition any more, for its disk failed: until the next one starts.
    pub failed: Vec<NodeId>,
    /// The only node that held everything came back with another disk, or with an old copy of it: nobody opens the partition
    /// before the disk is back on which this start was the last, or a person says that it is to go on without.
    pub lost: Option<StartId>,
    /// A person had it opened although flushed writes may be gone: until the newest of its members' blocks are in one place, each of
    /// them may have some that nobody else has.
    pub is_forced: bool,
}

impl InSyncSet {
    /// The set of a partition with nothing in it.
    pub(crate) fn first(target: Vec<NodeId>) -> Self {
        let (in_sync, former, lost, is_forced) = (target.clone(), Vec::new(), None, false);
        let (doubtful, damaged, failed) = (Vec::new(), Vec::new(), Vec::new());
        Self { pepoch: Pepoch(1), target, in_sync, former, doubtful, damaged, failed, lost, is_forced }
    }

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

    /// Whether nobody opens the partition unless a person has it opened, for flushed writes may be gone: the only copy is on
    /// [another disk](Self::lost), or the logs of all members are damaged.
    pub fn is_lost(&self) -> bool {
        self.lost.is_some() || self.is_all_damaged()
    }

    pub(super) fn is_all_damaged(&self) -> bool {
        self.in_sync.iter().all(|node| self.damaged.contains(node))
    }

    /// Whether all that are to keep the partition hold everything for certain. Whoever else has a copy may remove it then.
    pub fn is_whole(&self) -> bool {
        !self.target.is_empty() && self.target.iter().all(|node| self.is_certain(node))
    }

    /// The nodes that keep what they have of the partition: in sync, learning, or with an old copy. Nobody begins or ceases to be
    /// one within a pepoch.
    pub fn keepers(&self) -> Vec<NodeId> {
        let mut keepers = self.in_sync.clone();
        for node in self.former.iter().rev().chain(&self.target) {
            if !keepers.contains(node) {
                keepers.push(*node);
            }
        }
        keepers
    }

    /// Whether the node holds everything for certain.
    pub(super) fn is_certain(&self, node: &NodeId) -> bool {
        !self.is_lost() && self.in_sync.contains(node) && !self.doubtful.contains(node)
    }

    /// Whether a node of the set holds everything for certain, and is one of those that are `up`.
    pub(super) fn is_served_by(&self, up: impl Fn(&NodeId) -> bool) -> bool {
        self.in_sync.iter().any(|node| self.is_certain(node) && up(node))
    }

    /// Whether nodes are to leave because they are down: one that is up holds everything.
    pub(super) fn is_left_by_who_is_down(&self, is_up: impl Fn(&NodeId) -> bool) -> bool {
        self.is_served_by(&is_up) && !self.in_sync.iter().all(is_up)
    }

    /// Ends each change: `pepochs_are_left` was asked before. Nodes that are down leave, if one that is up holds everything; so
    /// does who is not to keep the partition, once the set can do without it. When it is whole, nobody needs old copies.
    pub(super) fn settle(&mut self, copies: usize, min_copies: usize, is_up: impl Fn(&NodeId) -> bool) {
        if self.is_left_by_who_is_down(&is_up) {
            self.keep(&is_up);
        }
        let place = |node: &NodeId| self.target.iter().position(|other| other == node);
        self.in_sync.sort_by_key(|node| place(node).unwrap_or(usize::MAX));
        while let Some(last) = self.in_sync.last().copied().filter(|last| !self.target.contains(last)) {
            let is_sure = |node: &&NodeId| **node != last && self.is_certain(node) && is_up(node);
            let sure = self.in_sync.iter().filter(is_sure).count();
            let is_enough = sure >= copies || sure > 0 && self.is_whole();
            if !is_enough || self.in_sync.len() <= min_copies {
                break;
            }
            self.keep(|node| *node != last);
        }
        self.former.retain(|node| !self.in_sync.contains(node));
        if self.is_whole() {
            self.former.clear();
        }
        let keepers = self.keepers();
        self.failed.retain(|node| keepers.contains(node));
        self.pepoch = Pepoch(self.pepoch.0.saturating_add(1));
    }

    /// The disk of a node failed. A member leaves if another one holds everything, also one that is down, however few are left. If
    /// none does, its next process is waited for. What another disk than the one that counts does says nothing of that.
    pub(super) fn fail(&mut self, node: NodeId) -> Result<(), Void> {
        if !self.keepers().contains(&node) || self.failed.contains(&node) {
            return Err(Void::Past);
        }
        self.failed.push(node);
        if !self.in_sync.contains(&node) || self.lost.is_some() {
            return Ok(());
        }
        if self.in_sync.iter().any(|other| *other != node && self.is_certain(other)) {
            self.keep(|other| *other != node);
            return Ok(());
        }
        if !self.doubtful.contains(&node) {
            self.doubtful.push(node);
        }
        if self.is_forced {
            self.lost_more();
        }
        Ok(())
    }

    /// A node gives up what it has, of which another one that is up holds everything: as it leaves when it is dropped, but with no old
    /// copy, and marked like one whose disk failed. Until that mark goes it cannot come in sync, so it may change its disk meanwhile.
    /// With the mark goes what rested on the other disk: its process says that when the change is on stable storage, and its next
    /// process, which clears all marks, finds either disk, on which it is counted on for nothing.
    pub(super) fn empty(
        &mut self,
        node: NodeId,
        min_copies: usize,
        is_up: impl Fn(&NodeId) -> bool,
    ) -> Result<(), Void> {
        let is_in_sync = self.in_sync.contains(&node);
        if !is_in_sync && !self.former.contains(&node) && self.failed.contains(&node) {
            return Err(Void::Past);
        }
        let is_spared = !is_in_sync || self.in_sync.len() > min_copies || self.doubtful.contains(&node);
        if !is_spared || !self.is_served_by(|other| *other != node && is_up(other)) {
            return Err(Void::Needed { node });
        }
        self.keep(|other| *other != node);
        self.former.retain(|other| *other != node);
        if !self.failed.contains(&node) {
            self.failed.push(node);
        }
        Ok(())
    }

    /// More is lost than what the person was told who had it opened.
    pub(super) fn lost_more(&mut self) {
        self.damaged.clone_from(&self.in_sync);
    }

    /// All others are not in sync any more, and keep what they have.
    pub(super) fn keep(&mut self, stays: impl Fn(&NodeId) -> bool) {
        self.former.retain(|node| !self.in_sync.contains(node));
        self.former.extend(self.in_sync.iter().filter(|node| !stays(node)));
        self.in_sync.retain(&stays);
        self.doubtful.retain(&stays);
        self.damaged.retain(&stays);
    }
}
