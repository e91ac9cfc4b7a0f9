//! The ring: each node has points on a circle of 2^64 places, as many as its weight asks for, and each partition one.
//!
//! Points of nodes are hashed (SipHash-2-4 with the key 0, over fixed bytes), so a node's points are where they are
//! whoever else is on the ring. Partitions are spread evenly: hashed as well, they would add their own unevenness.

use std::hash::{BuildHasher, Hash, Hasher};

use hashring::{DefaultHashBuilder, HashRing};
use huntaway_wire::{NodeId, PARTITIONS, Partition};

use super::Keeper;

/// Points of a node for each unit of its weight.
const POINTS_PER_WEIGHT: u32 = 256;

/// All points of an epoch.
pub(super) struct Ring {
    /// By their positions.
    points: Vec<(u64, usize)>,
    keepers: usize,
}

/// One point of a node.
struct Point {
    node: NodeId,
    /// Counts the node's points from 0.
    number: u32,
    keeper: usize,
}

impl Hash for Point {
    /// The node's uuid, then the number in four bytes, lowest first: these bytes decide where data is.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut bytes = [0; 20];
        bytes[..16].copy_from_slice(&self.node.0);
        bytes[16..].copy_from_slice(&self.number.to_le_bytes());
        state.write(&bytes);
    }
}

impl Ring {
    /// The ring of `keepers`.
    pub(super) fn new(keepers: &[Keeper]) -> Self {
        let points = |(index, keeper): (usize, &Keeper)| {
            let (node, count) = (keeper.node, keeper.weight * POINTS_PER_WEIGHT);
            (0..count).map(move |number| Point { node, number, keeper: index })
        };
        let mut ring = HashRing::with_hasher(DefaultHashBuilder);
        ring.batch_add(keepers.iter().enumerate().flat_map(points).collect());
        let with_position = |point: Point| (DefaultHashBuilder.hash_one(&point), point.keeper);
        Self { points: ring.into_iter().map(with_position).collect(), keepers: keepers.len() }
    }

    /// All keepers in the order in which their first points follow the partition's, going around once.
    pub(super) fn nearest(&self, partition: Partition) -> Vec<usize> {
        let start = u64::from(partition.value()) << (u64::BITS - PARTITIONS.trailing_zeros());
        let first = self.points.partition_point(|(position, _)| *position < start);
        let (before, from_here) = self.points.split_at(first);
        let mut seen = vec![false; self.keepers];
        let mut order = Vec::with_capacity(self.keepers);
        for &(_, keeper) in from_here.iter().chain(before) {
            if order.len() == self.keepers {
                break;
            }
            if !std::mem::replace(&mut seen[keeper], true) {
                order.push(keeper);
            }
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN_POSITIONS: [u64; 4] =
        [11454725322775098999, 17044586290227270452, 13402813559981213586, 15894491824857484176];

    #[test]
    fn points_never_move() {
        let position = |node, number| DefaultHashBuilder.hash_one(&Point { node, number, keeper: 0 });
        let (low, high) = (NodeId([0; 16]), NodeId(*b"node-uuid-16byte"));
        let golden = [position(low, 0), position(low, 1), position(high, 0), position(high, u32::MAX)];
        assert_eq!(golden, GOLDEN_POSITIONS);
    }

    #[test]
    fn a_node_has_256_points_for_each_unit_of_weight() {
        let keeper = |node, weight| Keeper { node: NodeId([node; 16]), zone: 0, weight };
        let ring = Ring::new(&[keeper(1, 1), keeper(2, 3)]);
        let points_of = |keeper| ring.points.iter().filter(|(_, of)| *of == keeper).count();
        assert_eq!((points_of(0), points_of(1)), (256, 768));
        assert!(ring.points.is_sorted());
    }

    #[test]
    fn the_last_points_are_followed_by_the_first() {
        let last = Partition::new(PARTITIONS - 1).unwrap();
        let ring = Ring { points: vec![(5, 1), (9, 0), (1 << 62, 2)], keepers: 3 };
        assert_eq!(ring.nearest(last), [1, 0, 2]);
        assert_eq!(ring.nearest(Partition::new(1).unwrap()), [2, 1, 0]);
    }
}
