//! How each partition is, and how many are so.

use std::fmt;

use huntaway_ledger::{InSyncSet, InSyncSets};
use huntaway_wire::{NodeId, Partition};

use super::report::PartitionCounts;

/// How a partition is, by its in-sync set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    /// All that are to keep it have everything.
    Whole,
    /// It has its copies, and some of them are to be elsewhere.
    Moving,
    /// It has fewer copies than it shall have.
    Degraded,
    /// It has fewer than writes are taken with.
    BelowMinCopies,
    /// Nobody is there who has everything.
    Down,
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Whole => "whole",
            Self::Moving => "moving",
            Self::Degraded => "degraded",
            Self::BelowMinCopies => "below min_copies",
            Self::Down => "down",
        })
    }
}

impl Condition {
    /// Whether it is read and written.
    pub(super) fn is_served(self) -> bool {
        !matches!(self, Self::BelowMinCopies | Self::Down)
    }

    /// Whether it has as many copies as it shall have.
    pub(super) fn has_its_copies(self) -> bool {
        matches!(self, Self::Whole | Self::Moving)
    }
}

/// The nodes that are there and have everything for certain.
pub(super) fn certain<'a>(
    sets: &'a InSyncSets,
    set: &'a InSyncSet,
) -> impl Iterator<Item = NodeId> + Clone + 'a {
    let is_up = |node: &NodeId| sets.node(*node).is_some_and(|state| state.is_up);
    let is_lost = set.is_lost();
    let is_certain = move |node: &&NodeId| !is_lost && !set.doubtful.contains(node) && is_up(node);
    set.in_sync.iter().filter(is_certain).copied()
}

/// How the partition with that set is.
pub(super) fn condition(sets: &InSyncSets, set: &InSyncSet) -> Condition {
    let copies = certain(sets, set).count();
    if copies == 0 {
        Condition::Down
    } else if set.in_sync.len() < sets.min_copies() {
        Condition::BelowMinCopies
    } else if copies < sets.copies() {
        Condition::Degraded
    } else if set.is_whole() {
        Condition::Whole
    } else {
        Condition::Moving
    }
}

/// All partitions, with their sets and how they are.
pub(super) fn partitions(sets: &InSyncSets) -> impl Iterator<Item = (Partition, &InSyncSet, Condition)> {
    sets.sets().map(|(partition, set)| (partition, set, condition(sets, set)))
}

/// How many partitions are how.
pub(crate) fn counts(sets: &InSyncSets) -> PartitionCounts {
    let mut counts = PartitionCounts::default();
    for (_, _, condition) in partitions(sets) {
        *match condition {
            Condition::Whole => &mut counts.whole,
            Condition::Moving => &mut counts.moving,
            Condition::Degraded => &mut counts.degraded,
            Condition::BelowMinCopies => &mut counts.below_min_copies,
            Condition::Down => &mut counts.down,
        } += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use huntaway_ledger::{InSyncChange, Incarnation, Memory, SetRecord, StartId};

    use super::*;

    const NODES: [NodeId; 3] = [NodeId([1; 16]), NodeId([2; 16]), NodeId([3; 16])];

    /// One partition on three nodes, of which two have to be in sync.
    fn sets(records: &[SetRecord]) -> InSyncSets {
        let partition = Partition::new(7).unwrap();
        let mut sets = InSyncSets::new(3, 2, &NODES, [(partition, NODES.to_vec())]);
        records.iter().for_each(|record| sets.apply(record).unwrap());
        sets
    }

    fn only(sets: &InSyncSets) -> Condition {
        partitions(sets).map(|(_, _, condition)| condition).next().unwrap()
    }

    fn down(nodes: &[NodeId]) -> SetRecord {
        SetRecord::NodesDown { nodes: nodes.to_vec() }
    }

    #[test]
    fn each_node_that_goes_leaves_it_worse() {
        assert_eq!(only(&sets(&[])), Condition::Whole);
        assert_eq!(only(&sets(&[down(&NODES[..1])])), Condition::Degraded);
        assert_eq!(only(&sets(&[down(&NODES[..2])])), Condition::BelowMinCopies);
        assert_eq!(only(&sets(&[down(&NODES)])), Condition::Down);
    }

    #[test]
    fn who_came_back_does_not_count_before_it_is_in_sync() {
        let back = |start| SetRecord::NodeStarted {
            node: NODES[0],
            incarnation: Incarnation(2),
            memory: Memory::Kept,
            start: StartId(start),
            after: vec![StartId::FIRST],
        };
        let mut learned = sets(&[down(&NODES[..1]), back(9)]);
        assert_eq!(only(&learned), Condition::Degraded);
        let (partition, pepoch) =
            learned.sets().map(|(partition, set)| (partition, set.pepoch)).next().unwrap();
        let change = InSyncChange::Promote { node: NODES[0], incarnation: Incarnation(2) };
        learned.apply(&SetRecord::Changed { partition, pepoch, change }).unwrap();
        assert_eq!(only(&learned), Condition::Whole);
    }

    #[test]
    fn copies_that_are_to_be_elsewhere_are_copies() {
        let mut sets = InSyncSets::new(2, 1, &NODES, [(Partition::new(7).unwrap(), NODES[..2].to_vec())]);
        sets.place([(Partition::new(7).unwrap(), &NODES[1..])]).unwrap();
        assert_eq!(only(&sets), Condition::Moving);
        assert!(only(&sets).has_its_copies());
    }

    #[test]
    fn who_may_have_lost_something_is_no_copy() {
        let after_power_loss = SetRecord::NodeStarted {
            node: NODES[0],
            incarnation: Incarnation(2),
            memory: Memory::Stable,
            start: StartId(9),
            after: vec![StartId::FIRST],
        };
        assert_eq!(only(&sets(&[after_power_loss])), Condition::Degraded);
    }
}
