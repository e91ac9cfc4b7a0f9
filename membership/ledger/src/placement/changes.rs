//! The difference of two tables: what a change of the membership takes from nodes and gives to others.

use huntaway_wire::{NodeId, Partition};

use super::Placement;

/// What differs between the tables of two epochs: the plan of recovery, and the measure of its progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    partitions: Vec<Change>,
}

/// What changes for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The partition.
    pub partition: Partition,
    /// The nodes that keep it no more, in the old ring order.
    pub loses: Vec<NodeId>,
    /// The nodes that are to keep it now, in the new ring order. There may be more of them or fewer than lose it.
    pub gains: Vec<NodeId>,
}

impl Changes {
    pub(super) fn between(before: &Placement, after: &Placement) -> Self {
        let without = |nodes: &[NodeId], others: &[NodeId]| -> Vec<NodeId> {
            nodes.iter().filter(|node| !others.contains(node)).copied().collect()
        };
        let change = |partition| {
            let (old, new) = (before.nodes(partition), after.nodes(partition));
            Change { partition, loses: without(old, new), gains: without(new, old) }
        };
        let differs = |change: &Change| !change.loses.is_empty() || !change.gains.is_empty();
        Self { partitions: Partition::all().map(change).filter(differs).collect() }
    }

    /// The partitions that are to be kept by other nodes than before, in order. Those that merely have the same nodes
    /// in another order are not among them.
    pub fn partitions(&self) -> &[Change] {
        &self.partitions
    }

    /// How many copies of partitions are to be made.
    pub fn gained(&self) -> usize {
        self.partitions.iter().map(|change| change.gains.len()).sum()
    }

    /// How many copies of partitions `node` is to get.
    pub fn gained_by(&self, node: NodeId) -> usize {
        self.partitions.iter().filter(|change| change.gains.contains(&node)).count()
    }

    /// How many copies of partitions `node` may remove, once they are whole elsewhere.
    pub fn lost_by(&self, node: NodeId) -> usize {
        self.partitions.iter().filter(|change| change.loses.contains(&node)).count()
    }
}
