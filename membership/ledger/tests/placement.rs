//! Where partitions go: on different nodes and zones, by weight, always the same way, and with few moves.

mod fixture;

use std::collections::{BTreeMap, BTreeSet};

use fixture::{epoch, member, name};
use huntaway_ledger::{EpochRecord, Incarnation, MAX_WEIGHT, Member, MemberState, Placement};
use huntaway_wire::{NodeId, PARTITIONS, Partition};
use proptest::prelude::{ProptestConfig, prop, prop_assert, prop_assert_eq, proptest};
use proptest::test_runner::RngSeed;
use sha2::{Digest, Sha256};

const COPIES: usize = 3;
const MOST_NODES: usize = 16;

/// Different uuids for each seed, as good as random.
fn node(seed: u64, index: usize) -> NodeId {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update((index as u64).to_le_bytes());
    NodeId(hash.finalize()[..16].try_into().expect("16 of 32 bytes"))
}

/// An epoch with a member for each zone and weight.
fn epoch_of(seed: u64, nodes: &[(usize, u32)]) -> EpochRecord {
    let member = |(index, &(zone, weight)): (usize, &(usize, u32))| Member {
        node: node(seed, index),
        zone: name(&format!("zone-{zone}")),
        weight,
        ..member()
    };
    EpochRecord { members: nodes.iter().enumerate().map(member).collect(), ..epoch(1) }
}

/// `count` nodes of the same weight, each in a zone of its own.
fn equal_nodes(count: usize) -> Vec<(usize, u32)> {
    (0..count).map(|zone| (zone, 1)).collect()
}

/// How many partitions each node keeps.
fn held(placement: &Placement) -> BTreeMap<NodeId, usize> {
    let mut held = BTreeMap::new();
    for node in Partition::all().flat_map(|partition| placement.nodes(partition)) {
        *held.entry(*node).or_default() += 1;
    }
    held
}

fn assert_within_a_tenth(epoch: &EpochRecord, copies: usize, due: impl Fn(u32) -> f64) {
    let held = held(&Placement::new(epoch, copies));
    for member in &epoch.members {
        let (held, due) = (held[&member.node] as f64, due(member.weight));
        assert!((0.9..=1.1).contains(&(held / due)), "{} has {held}, is due {due}", member.node);
    }
}

/// If these change, a cluster that is updated moves its data, and nodes of both kinds disagree about where it is.
const GOLDEN: [(u16, [u8; COPIES]); 6] =
    [(0, [5, 1, 4]), (1, [1, 4, 5]), (2, [4, 5, 2]), (1000, [4, 2, 5]), (2048, [2, 4, 5]), (4095, [5, 1, 4])];

/// SHA-256 over the node ids of the tables of one, two and three copies.
const GOLDEN_TABLES: &str = "be29eaedbe9a3029fac19e2f24eb1bf8dab081f6fac10eb9c2ff0e54d694ea09";

/// Nodes in three zones, whose ids are their numbers, from 1.
fn golden_epoch() -> EpochRecord {
    let mut epoch = epoch_of(0, &[(0, 1), (0, 2), (1, 1), (1, 1), (2, 3)]);
    for (member, number) in epoch.members.iter_mut().zip(1..) {
        member.node = NodeId([number; 16]);
    }
    epoch
}

#[test]
fn partitions_are_placed_as_they_always_were() {
    let placement = Placement::new(&golden_epoch(), COPIES);
    let numbers = |partition| {
        let nodes = placement.nodes(Partition::new(partition).expect("a valid partition"));
        <[u8; COPIES]>::try_from(nodes.iter().map(|node| node.0[0]).collect::<Vec<_>>()).expect("all copies")
    };
    assert_eq!(GOLDEN.map(|(partition, _)| (partition, numbers(partition))), GOLDEN);
}

#[test]
fn tables_are_what_they_always_were() {
    let mut hash = Sha256::new();
    for copies in 1..=COPIES {
        let placement = Placement::new(&golden_epoch(), copies);
        Partition::all()
            .flat_map(|partition| placement.nodes(partition))
            .for_each(|node| hash.update(node.0));
    }
    let tables: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(tables, GOLDEN_TABLES);
}

#[test]
fn equal_nodes_keep_the_same_within_a_tenth() {
    for (seed, copies) in [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (6, 3)] {
        for count in [copies, 4, 7, 11, MOST_NODES] {
            let due = f64::from(PARTITIONS) * copies as f64 / count as f64;
            assert_within_a_tenth(&epoch_of(seed, &equal_nodes(count)), copies, |_| due);
        }
    }
}

#[test]
fn nodes_keep_what_their_weights_ask_for_within_a_tenth() {
    let weights = [1, 2, 3, 4, 4, 3, 2, 1, 2, 4];
    let total: u32 = weights.iter().sum();
    let nodes: Vec<(usize, u32)> = weights.into_iter().enumerate().collect();
    for copies in 1..=COPIES {
        let all = f64::from(PARTITIONS) * copies as f64;
        let due = |weight| all * f64::from(weight) / f64::from(total);
        assert_within_a_tenth(&epoch_of(copies as u64, &nodes), copies, due);
    }
}

#[test]
fn another_node_moves_at_most_a_fifth_more_than_its_share() {
    for (seed, copies) in [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (6, 3)] {
        let mut before = Placement::new(&epoch_of(seed, &equal_nodes(1)), copies);
        for count in 2..=MOST_NODES {
            let after = Placement::new(&epoch_of(seed, &equal_nodes(count)), copies);
            let changes = before.changes_to(&after);
            let share = f64::from(PARTITIONS) * copies.min(count) as f64 / count as f64;
            let moved = changes.gained() as f64 / share;
            assert!(moved <= 1.2, "{copies} copies, seed {seed}, to {count} nodes: {moved} of its share");
            assert!(changes.gained_by(node(seed, count - 1)) as f64 >= 0.9 * share);
            before = after;
        }
    }
}

#[test]
fn a_node_that_is_down_keeps_its_place() {
    let up = epoch_of(7, &equal_nodes(5));
    let mut down = up.clone();
    down.members[2].state = MemberState::Down;
    assert_eq!(Placement::new(&down, COPIES), Placement::new(&up, COPIES));
}

#[test]
fn only_ids_zones_and_weights_decide() {
    let one = epoch_of(8, &[(0, 1), (1, 2), (2, 1), (0, 1)]);
    let mut other = one.clone();
    other.members.reverse();
    other.number = huntaway_wire::Epoch(9);
    other.voters.clear();
    for member in &mut other.members {
        member.incarnation = Incarnation(5);
        member.addresses.clear();
        member.name = name("another");
    }
    assert_eq!(Placement::new(&other, COPIES), Placement::new(&one, COPIES));
}

#[test]
fn a_node_of_weight_0_keeps_nothing_and_its_partitions_go_to_others() {
    let before = epoch_of(9, &equal_nodes(5));
    let mut after = before.clone();
    after.members[3].weight = 0;
    let gone = before.members[3].node;
    let (old, new) = (Placement::new(&before, COPIES), Placement::new(&after, COPIES));
    assert_eq!(held(&new).get(&gone), None);
    let changes = old.changes_to(&new);
    assert_eq!(changes.lost_by(gone), held(&old)[&gone]);
    assert!(Partition::all().all(|partition| new.nodes(partition).len() == COPIES));

    let mut left_out = before;
    left_out.members.remove(3);
    assert_eq!(Placement::new(&left_out, COPIES), new);
}

#[test]
fn without_nodes_or_copies_nothing_is_kept() {
    let nobody = Placement::new(&epoch_of(1, &[(0, 0)]), COPIES);
    let no_copies = Placement::new(&epoch_of(1, &equal_nodes(2)), 0);
    for partition in Partition::all() {
        assert!(nobody.nodes(partition).is_empty() && no_copies.nodes(partition).is_empty());
    }
}

#[test]
fn weights_beyond_the_largest_count_as_that() {
    let (most, more) = (epoch_of(1, &[(0, MAX_WEIGHT), (1, 50)]), epoch_of(1, &[(0, u32::MAX), (1, 50)]));
    assert_eq!(Placement::new(&more, 1), Placement::new(&most, 1));
}

#[test]
fn nodes_in_another_order_are_no_change() {
    let epoch = epoch_of(10, &equal_nodes(2));
    let mut heavier = epoch.clone();
    heavier.members[0].weight = 5;
    let (old, new) = (Placement::new(&epoch, 2), Placement::new(&heavier, 2));
    assert_ne!(old, new);
    assert_eq!(old.changes_to(&new).partitions(), []);
}

#[test]
fn more_copies_are_gained_and_none_lost() {
    let epoch = epoch_of(11, &equal_nodes(4));
    let changes = Placement::new(&epoch, 2).changes_to(&Placement::new(&epoch, 4));
    assert_eq!(changes.partitions().len(), usize::from(PARTITIONS));
    assert_eq!(changes.gained(), 2 * usize::from(PARTITIONS));
    assert!(epoch.members.iter().all(|member| changes.lost_by(member.node) == 0));
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 32,
        rng_seed: RngSeed::Fixed(4096),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn copies_are_on_different_nodes_and_zones_while_there_are_enough(
        seed in 0..1000u64,
        nodes in prop::collection::vec((0..6usize, 0..4u32), 1..=10),
        copies in 1..=4usize,
    ) {
        let epoch = epoch_of(seed, &nodes);
        let placement = Placement::new(&epoch, copies);
        let zones: BTreeMap<NodeId, usize> =
            nodes.iter().enumerate().filter(|(_, (_, weight))| *weight > 0).map(|(i, (zone, _))| (node(seed, i), *zone)).collect();
        let nodes_in = |zone: usize| zones.values().filter(|of| **of == zone).count();
        let all_zones: BTreeSet<usize> = zones.values().copied().collect();
        for partition in Partition::all() {
            let kept: BTreeSet<NodeId> = placement.nodes(partition).iter().copied().collect();
            prop_assert_eq!(kept.len(), placement.nodes(partition).len());
            prop_assert_eq!(kept.len(), copies.min(zones.len()));
            prop_assert!(kept.iter().all(|node| zones.contains_key(node)));
            let copies_in = |zone| kept.iter().filter(|node| zones[node] == zone).count();
            let most = all_zones.iter().map(|zone| copies_in(*zone)).max().unwrap_or(0);
            for &zone in &all_zones {
                prop_assert!(copies_in(zone) + 1 >= most || copies_in(zone) == nodes_in(zone));
            }
            prop_assert!(all_zones.len() < copies || most <= 1);
        }
    }

    #[test]
    fn changes_turn_one_table_into_the_other(
        seed in 0..1000u64,
        before in prop::collection::vec((0..4usize, 0..4u32), 1..=8),
        after in prop::collection::vec((0..4usize, 0..4u32), 1..=8),
        copies in (1..=3usize, 1..=3usize),
    ) {
        let old = Placement::new(&epoch_of(seed, &before), copies.0);
        let new = Placement::new(&epoch_of(seed, &after), copies.1);
        let changes = old.changes_to(&new);
        let changed: BTreeMap<Partition, _> =
            changes.partitions().iter().map(|change| (change.partition, change)).collect();
        let (mut gained, mut lost) = (BTreeMap::new(), BTreeMap::new());
        for partition in Partition::all() {
            let mut nodes: BTreeSet<NodeId> = old.nodes(partition).iter().copied().collect();
            if let Some(change) = changed.get(&partition) {
                for node in &change.loses {
                    prop_assert!(nodes.remove(node));
                    *lost.entry(*node).or_insert(0) += 1;
                }
                for node in &change.gains {
                    prop_assert!(nodes.insert(*node));
                    *gained.entry(*node).or_insert(0) += 1;
                }
            }
            prop_assert_eq!(nodes, new.nodes(partition).iter().copied().collect());
        }
        prop_assert_eq!(gained.values().sum::<usize>(), changes.gained());
        for index in 0..8 {
            let node = node(seed, index);
            prop_assert_eq!(gained.get(&node).copied().unwrap_or(0), changes.gained_by(node));
            prop_assert_eq!(lost.get(&node).copied().unwrap_or(0), changes.lost_by(node));
        }
    }
}
