//! What each node is due: as many partitions as its weight asks for, within what zones and nodes can take.
//!
//! A node keeps at most one copy of a partition, and a zone as many as [`zones::choose`](super::zones::choose) gives
//! it: with three zones and three copies each zone has one of every partition, whatever the weights.

use super::Keeper;

/// A share of something, in proportion to `weight`, and between two bounds.
struct Share {
    weight: u64,
    least: u64,
    most: u64,
}

/// How many of so many partitions each keeper is due; together `copies` of each.
pub(super) fn dues(keepers: &[Keeper], copies: usize, partitions: u64) -> Vec<u64> {
    let mut dues = vec![0; keepers.len()];
    let zones = zones(keepers);
    for (members, due) in zones.iter().zip(zone_dues(keepers, &zones, copies, partitions)) {
        let share =
            |&keeper: &usize| Share { weight: keepers[keeper].weight.into(), least: 0, most: partitions };
        let shares: Vec<Share> = members.iter().map(share).collect();
        for (&keeper, due) in members.iter().zip(share_out(due, &shares)) {
            dues[keeper] = due;
        }
    }
    dues
}

/// The keepers of each zone.
fn zones(keepers: &[Keeper]) -> Vec<Vec<usize>> {
    let mut zones = Vec::new();
    for (index, keeper) in keepers.iter().enumerate() {
        if zones.len() <= keeper.zone {
            zones.resize(keeper.zone + 1, Vec::new());
        }
        zones[keeper.zone].push(index);
    }
    zones
}

fn zone_dues(keepers: &[Keeper], zones: &[Vec<usize>], copies: usize, partitions: u64) -> Vec<u64> {
    // rounds in which every zone that has a node left gives one
    let (mut full_rounds, mut left) = (0, copies);
    loop {
        let giving = zones.iter().filter(|members| members.len() > full_rounds).count();
        if giving == 0 || giving > left {
            break;
        }
        full_rounds += 1;
        left -= giving;
    }
    let copies_after = |members: &[usize], rounds: usize| members.len().min(rounds) as u64 * partitions;
    let share = |members: &Vec<usize>| Share {
        weight: members.iter().map(|&keeper| u64::from(keepers[keeper].weight)).sum(),
        least: copies_after(members, full_rounds),
        most: copies_after(members, full_rounds + 1),
    };
    let shares: Vec<Share> = zones.iter().map(share).collect();
    share_out(copies as u64 * partitions, &shares)
}

/// Shares `total` out, one after another to whoever is furthest below its proportion (rounded: the method of
/// Webster). `total` lies between the sums of the bounds.
fn share_out(total: u64, shares: &[Share]) -> Vec<u64> {
    let mut given: Vec<u64> = shares.iter().map(|share| share.least).collect();
    for _ in given.iter().sum()..total {
        let open = (0..shares.len()).filter(|&i| given[i] < shares[i].most);
        // (2a + 1) / weight, compared without dividing
        let next = open.min_by(|&a, &b| {
            let (a_asks, b_asks) =
                ((2 * given[a] + 1) * shares[b].weight, (2 * given[b] + 1) * shares[a].weight);
            a_asks.cmp(&b_asks)
        });
        if let Some(next) = next {
            given[next] += 1;
        }
    }
    given
}

#[cfg(test)]
mod tests {
    use huntaway_wire::{NodeId, PARTITIONS};

    use super::*;

    /// The dues of nodes with these zones and weights.
    fn dues_of(nodes: &[(usize, u32)], copies: usize) -> Vec<u64> {
        let keeper = |&(zone, weight)| Keeper { node: NodeId([0; 16]), zone, weight };
        dues(&nodes.iter().map(keeper).collect::<Vec<_>>(), copies, PARTITIONS.into())
    }

    #[test]
    fn dues_are_in_proportion_to_weights() {
        assert_eq!(dues_of(&[(0, 1), (1, 2), (2, 5)], 1), [512, 1024, 2560]);
        assert_eq!(dues_of(&[(0, 1), (1, 1), (2, 1)], 1), [1366, 1365, 1365]);
    }

    #[test]
    fn a_node_is_due_each_partition_once_at_most() {
        assert_eq!(dues_of(&[(0, 1), (1, 1), (2, 100)], 2), [2048, 2048, 4096]);
        assert_eq!(dues_of(&[(0, 7), (1, 1)], 2), [4096, 4096]);
    }

    #[test]
    fn a_zone_is_due_a_second_copy_only_after_all_others_have_one() {
        assert_eq!(dues_of(&[(0, 1), (0, 1), (1, 1)], 2), [2048, 2048, 4096]);
        assert_eq!(dues_of(&[(0, 1), (0, 3), (1, 1), (1, 1)], 3), [4096, 4096, 2048, 2048]);
        assert_eq!(dues_of(&[(0, 1), (0, 1), (1, 1), (1, 1)], 4), [4096; 4]);
    }

    #[test]
    fn a_zone_without_enough_nodes_leaves_its_share_to_others() {
        assert_eq!(dues_of(&[(0, 1), (1, 1), (1, 1), (1, 2)], 3), [4096, 2048, 2048, 4096]);
    }

    #[test]
    fn nobody_is_due_anything_of_nothing() {
        assert!(dues_of(&[], 3).is_empty());
        assert_eq!(dues_of(&[(0, 1)], 0), [0]);
    }
}
