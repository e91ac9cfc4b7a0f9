//! In-sync sets: who may leave and enter, and what raises the pepoch.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use huntaway_ledger::{InSyncChange, InSyncSet, InSyncSets, Incarnation, Memory, SetRecord, StartId, Void};
use huntaway_wire::{NodeId, Partition, Pepoch};

const A: NodeId = NodeId([1; 16]);
const B: NodeId = NodeId([2; 16]);
const C: NodeId = NodeId([3; 16]);

fn partition() -> Partition {
    Partition::new(7).unwrap()
}

/// Three nodes, two copies on A and B.
fn sets() -> InSyncSets {
    InSyncSets::new(2, 1, &[A, B, C], [(partition(), vec![A, B, C])])
}

fn set(sets: &InSyncSets) -> InSyncSet {
    sets.set(partition()).unwrap().clone()
}

fn lost_power(node: NodeId, incarnation: u64) -> SetRecord {
    started_with(node, incarnation, Memory::Stable)
}

fn restarted(node: NodeId, incarnation: u64) -> SetRecord {
    started_with(node, incarnation, Memory::Kept)
}

fn started_with(node: NodeId, incarnation: u64, memory: Memory) -> SetRecord {
    SetRecord::NodeStarted {
        node,
        incarnation: Incarnation(incarnation),
        memory,
        start: StartId(incarnation),
        after: [StartId(incarnation - 1), StartId::NONE],
    }
}

fn change(sets: &mut InSyncSets, change: InSyncChange) -> Result<(), Void> {
    let pepoch = set(sets).pepoch;
    sets.apply(SetRecord::Changed { partition: partition(), pepoch, change })
}

fn drop_of(node: NodeId) -> InSyncChange {
    InSyncChange::Drop { node, incarnation: Incarnation(1) }
}

#[test]
fn a_node_that_fails_leaves_its_sets_but_never_as_the_last() {
    let mut sets = sets();
    sets.apply(SetRecord::NodeDown { node: A }).unwrap();
    assert_eq!((set(&sets).in_sync, set(&sets).pepoch), (vec![B], Pepoch(2)));
    sets.apply(SetRecord::NodeDown { node: B }).unwrap();
    assert_eq!((set(&sets).in_sync, set(&sets).pepoch), (vec![B], Pepoch(2)));
}

#[test]
fn a_process_that_starts_ends_the_pepochs_it_was_in() {
    let mut sets = sets();
    sets.apply(restarted(B, 2)).unwrap();
    assert_eq!((set(&sets).in_sync, set(&sets).pepoch), (vec![A, B], Pepoch(2)));
    sets.apply(restarted(C, 2)).unwrap();
    assert_eq!(set(&sets).pepoch, Pepoch(2), "it is not in the set");
    assert_eq!(sets.apply(restarted(B, 2)), Err(Void::Past));
}

#[test]
fn who_may_have_lost_writes_is_never_left_alone() {
    let mut sets = sets();
    sets.apply(lost_power(A, 2)).unwrap();
    assert_eq!(set(&sets).primary(), Some(B), "A comes first in the ring");
    sets.apply(SetRecord::NodeDown { node: B }).unwrap();
    assert_eq!(set(&sets).in_sync, [A, B]);
    assert_eq!(change(&mut sets, drop_of(B)), Err(Void::Needed { node: B }));
}

#[test]
fn who_may_have_lost_writes_leaves_whatever_the_number_of_copies() {
    let mut sets = InSyncSets::new(2, 2, &[A, B], [(partition(), vec![A, B])]);
    assert_eq!(change(&mut sets, drop_of(A)), Err(Void::Needed { node: A }), "two copies are the least");
    sets.apply(lost_power(A, 2)).unwrap();
    change(&mut sets, InSyncChange::Drop { node: A, incarnation: Incarnation(2) }).unwrap();
    assert_eq!(set(&sets).in_sync, [B]);
}

#[test]
fn a_set_without_certainty_goes_on_with_the_primary_that_collected() {
    let mut sets = sets();
    assert_eq!(change(&mut sets, InSyncChange::Collected), Err(Void::Past));
    sets.apply(lost_power(A, 2)).unwrap();
    sets.apply(lost_power(B, 2)).unwrap();
    assert_eq!(set(&sets).primary(), Some(A));
    change(&mut sets, InSyncChange::Collected).unwrap();
    assert_eq!((set(&sets).in_sync, set(&sets).doubtful), (vec![A], vec![]));
}

#[test]
fn what_was_on_stable_storage_counts_more_than_what_a_damaged_log_brings_back() {
    let mut sets = sets();
    let damaged = started_with(A, 2, Memory::Damaged);
    sets.apply(damaged).unwrap();
    sets.apply(lost_power(B, 2)).unwrap();
    assert_eq!((set(&sets).doubtful, set(&sets).damaged), (vec![A, B], vec![A]));
    assert_eq!(set(&sets).primary(), Some(B));
    change(&mut sets, InSyncChange::Collected).unwrap();
    assert_eq!((set(&sets).in_sync, set(&sets).damaged), (vec![B], vec![]));
}

#[test]
fn a_learner_enters_in_the_order_of_the_ring_and_only_in_the_pepoch_it_learned_in() {
    let mut sets = sets();
    sets.apply(SetRecord::NodeDown { node: A }).unwrap();
    sets.apply(SetRecord::NodeUp { node: A }).unwrap();
    assert_eq!(sets.candidates(partition()), [A]);
    let promotion = InSyncChange::Promote { node: A, incarnation: Incarnation(1) };
    let past = SetRecord::Changed { partition: partition(), pepoch: Pepoch(1), change: promotion };
    assert_eq!(sets.apply(past), Err(Void::Past));
    change(&mut sets, promotion).unwrap();
    assert_eq!((set(&sets).in_sync, set(&sets).primary()), (vec![A, B], Some(A)));
    assert_eq!(sets.candidates(partition()), []);
}

#[test]
fn a_learner_that_is_dropped_is_not_promoted_by_what_was_asked_before() {
    let mut sets = sets();
    sets.apply(SetRecord::NodeDown { node: B }).unwrap();
    let pepoch = set(&sets).pepoch;
    change(&mut sets, drop_of(C)).unwrap();
    let promotion = InSyncChange::Promote { node: C, incarnation: Incarnation(1) };
    let late = SetRecord::Changed { partition: partition(), pepoch, change: promotion };
    assert_eq!(sets.apply(late), Err(Void::Past));
}

fn started_after(node: NodeId, incarnation: u64, after: [u64; 2]) -> SetRecord {
    let (incarnation, start) = (Incarnation(incarnation), StartId(incarnation));
    SetRecord::NodeStarted { node, incarnation, memory: Memory::Kept, start, after: after.map(StartId) }
}

#[test]
fn who_comes_back_with_another_disk_has_nothing() {
    for after in [[0, 0], [1, 7], [0, 7]] {
        let mut sets = sets();
        sets.apply(restarted(A, 2)).unwrap();
        sets.apply(started_after(A, 3, after)).unwrap();
        assert_eq!((set(&sets).in_sync, set(&sets).is_lost), (vec![B], false), "after {after:?}");
        assert_eq!(sets.candidates(partition()), [A]);
    }
}

#[test]
fn a_process_that_was_never_recorded_is_not_missed() {
    let mut sets = sets();
    sets.apply(started_after(A, 4, [1, 3])).unwrap();
    assert_eq!(set(&sets).in_sync, [A, B]);
    sets.apply(started_after(A, 5, [1, 4])).unwrap();
    assert_eq!(set(&sets).in_sync, [A, B], "it ended before it knew that it was recorded");
}

#[test]
fn who_may_have_lost_writes_is_better_than_another_disk() {
    let mut sets = sets();
    sets.apply(lost_power(B, 2)).unwrap();
    sets.apply(started_after(A, 2, [0, 0])).unwrap();
    assert_eq!((set(&sets).in_sync, set(&sets).doubtful), (vec![B], vec![B]));
}

#[test]
fn the_last_copy_on_another_disk_is_opened_by_force_alone() {
    let mut sets = sets();
    sets.apply(SetRecord::NodeDown { node: A }).unwrap();
    sets.apply(started_after(B, 2, [0, 0])).unwrap();
    assert!(set(&sets).is_lost);
    sets.apply(restarted(B, 3)).unwrap();
    assert!(set(&sets).is_lost, "the new disk does not become the old one by being used");
    assert_eq!(change(&mut sets, InSyncChange::Collected), Err(Void::Past));
    sets.apply(SetRecord::NodeUp { node: A }).unwrap();
    let promotion = InSyncChange::Promote { node: A, incarnation: Incarnation(1) };
    assert_eq!(change(&mut sets, promotion), Err(Void::Past));
    let at_stake = sets.at_stake(partition()).unwrap();
    assert_eq!((at_stake.absent, at_stake.present, at_stake.flushed), (vec![B], vec![A, B, C], true));
    sets.apply(SetRecord::Forced { partition: partition(), pepoch: set(&sets).pepoch }).unwrap();
    assert_eq!((set(&sets).in_sync, set(&sets).doubtful), (vec![A, B, C], vec![A, B, C]));
    assert!(!set(&sets).is_lost);
}

#[test]
fn a_set_without_certainty_is_forced_to_go_on_without_who_is_down() {
    let mut sets = sets();
    let force = |sets: &mut InSyncSets| {
        let pepoch = set(sets).pepoch;
        sets.apply(SetRecord::Forced { partition: partition(), pepoch })
    };
    assert_eq!(force(&mut sets), Err(Void::Past), "nothing is wrong");
    sets.apply(lost_power(A, 2)).unwrap();
    sets.apply(lost_power(B, 2)).unwrap();
    sets.apply(SetRecord::NodeDown { node: A }).unwrap();
    sets.apply(SetRecord::NodeDown { node: B }).unwrap();
    assert_eq!(force(&mut sets), Err(Void::NobodyUp));
    sets.apply(SetRecord::NodeUp { node: B }).unwrap();
    let at_stake = sets.at_stake(partition()).unwrap();
    assert_eq!((at_stake.absent, at_stake.present, at_stake.flushed), (vec![A], vec![B], false));
    force(&mut sets).unwrap();
    assert_eq!((set(&sets).in_sync, set(&sets).doubtful), (vec![B], vec![B]));
}
