//! Placement: which nodes keep a copy of each partition in an epoch.
//!
//! A pure function of the epoch's members and the number of copies: nodes that have the same record need not ask each
//! other. What a node really holds, and whether it is up to date, is not known here.
//!
//! ```text
//! members ── ring ──► for each partition all nodes, nearest first
//!         ── zones ─► `copies` of them: one of each zone, then a second of each, ...
//!         ── level ─► nobody keeps a tenth more or less than its due
//! ```
//!
//! A node's state has no say. One that is down keeps its place, so that a restart moves no data; whoever decides that
//! it has been away for too long agrees on an epoch that gives it the weight 0, or leaves it out. That epoch is the
//! earliest moment at which other nodes begin to copy what it held.

mod changes;
mod due;
mod level;
mod ring;
mod zones;

use huntaway_wire::{NodeId, PARTITIONS, Partition};

use crate::{EpochRecord, MAX_WEIGHT, Member, Name};
pub use changes::{Change, Changes};
use ring::Ring;

/// The table of one epoch: the nodes that are to keep each partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Those of the first partition, of the second, and so on: `copies` each.
    nodes: Vec<NodeId>,
    copies: usize,
}

impl Placement {
    /// The table for `copies` copies of each partition on the members of `epoch` that have a weight, or for as many
    /// copies as there are such members. Each copy is on another node, and no zone has two while another has none. A weight over [`MAX_WEIGHT`], which no agreed record has, counts as that.
    pub fn new(epoch: &EpochRecord, copies: usize) -> Self {
        Self::of(epoch, copies, PARTITIONS)
    }

    /// The same for the first so many partitions.
    pub(crate) fn of(epoch: &EpochRecord, copies: usize, partitions: u16) -> Self {
        let keepers = keepers(&epoch.members);
        let copies = copies.min(keepers.len());
        let kept = kept(&keepers, copies, partitions);
        Self { nodes: kept.iter().flatten().map(|&keeper| keepers[keeper].node).collect(), copies }
    }

    /// The nodes that are to keep `partition`, in ring order: the first of them that is in sync is its primary.
    pub fn nodes(&self, partition: Partition) -> &[NodeId] {
        &self.nodes[partition.index() * self.copies..][..self.copies]
    }

    /// What `next`, the table of a later epoch, takes from nodes and gives to others.
    pub fn changes_to(&self, next: &Self) -> Changes {
        Changes::between(self, next)
    }
}

/// A member that keeps data. In this module a node is mostly known by its place in the list of keepers.
struct Keeper {
    node: NodeId,
    /// The place of its zone among the zones.
    zone: usize,
    /// 1 to [`MAX_WEIGHT`].
    weight: u32,
}

/// The keepers of every partition, each `copies` in ring order.
fn kept(keepers: &[Keeper], copies: usize, partitions: u16) -> Vec<Vec<usize>> {
    if keepers.len() == 1 {
        return vec![vec![0; copies]; partitions.into()];
    }
    let ring = Ring::new(keepers);
    let partitions = Partition::all().take(partitions.into());
    let nearest: Vec<Vec<usize>> = partitions.map(|partition| ring.nearest(partition)).collect();
    let mut kept: Vec<Vec<usize>> =
        nearest.iter().map(|order| zones::choose(keepers, order, copies)).collect();
    level::level(keepers, &nearest, &mut kept, &due::dues(keepers, copies, nearest.len() as u64));
    for (order, kept) in nearest.iter().zip(&mut kept) {
        *kept = order.iter().filter(|keeper| kept.contains(keeper)).copied().collect();
    }
    kept
}

/// The members that keep data, by their ids: in which order the record lists them does not matter.
fn keepers(members: &[Member]) -> Vec<Keeper> {
    let mut members: Vec<&Member> = members.iter().filter(|member| member.weight > 0).collect();
    members.sort_by_key(|member| member.node);
    let mut zones: Vec<&Name> = members.iter().map(|member| &member.zone).collect();
    zones.sort();
    zones.dedup();
    let keeper = |member: &&Member| Keeper {
        node: member.node,
        zone: zones.partition_point(|zone| *zone < &member.zone),
        weight: member.weight.min(MAX_WEIGHT),
    };
    members.iter().map(keeper).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, prop, prop_assert, prop_assert_eq, proptest};
    use proptest::test_runner::RngSeed;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 32,
            rng_seed: RngSeed::Fixed(4096),
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn nobody_is_more_than_a_tenth_off_its_due(
            nodes in prop::collection::vec((any::<[u8; 16]>(), 0..5usize, 1..=16u32), 1..=12),
            copies in 1..=4usize,
        ) {
            let keeper = |&(node, zone, weight)| Keeper { node: NodeId(node), zone, weight };
            let keepers: Vec<Keeper> = nodes.iter().map(keeper).collect();
            let copies = copies.min(keepers.len());
            let (kept, dues) = (kept(&keepers, copies, PARTITIONS), due::dues(&keepers, copies, PARTITIONS.into()));
            prop_assert_eq!(dues.iter().sum::<u64>(), kept.iter().map(|kept| kept.len() as u64).sum::<u64>());
            for (keeper, due) in dues.iter().enumerate() {
                let held = kept.iter().filter(|kept| kept.contains(&keeper)).count() as u64;
                prop_assert!(held * 10 >= due * 9 && held * 10 <= due * 11, "{held} of {due}: {nodes:?}");
            }
        }
    }
}
