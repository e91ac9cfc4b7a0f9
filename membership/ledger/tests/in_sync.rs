//! In-sync sets: who may leave and enter, and what raises the pepoch.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use huntaway_ledger::{
    AtStake, InSyncChange, InSyncSet, InSyncSets, Incarnation, Memory, SetRecord, StartId, Void,
};
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
        after: vec![StartId(incarnation - 1)],
    }
}

fn change(sets: &mut InSyncSets, change: InSyncChange) -> Result<(), Void> {
    let pepoch = set(sets).pepoch;
    sets.apply(&SetRecord::Changed { partition: partition(), pepoch, change })
}

fn down(nodes: &[NodeId]) -> SetRecord {
    SetRecord::NodesDown { nodes: nodes.to_vec() }
}

/// The record of a person who was told what is at stake now.
fn force(sets: &InSyncSets) -> SetRecord {
    let nothing = AtStake { absent: Vec::new(), present: Vec::new(), flushed: false };
    let shown = sets.at_stake(partition()).unwrap_or(nothing);
    SetRecord::Forced { partition: partition(), pepoch: set(sets).pepoch, shown }
}

fn nodes(present: &[(NodeId, Incarnation)]) -> Vec<NodeId> {
    present.iter().map(|(node, _)| *node).collect()
}

fn drop_of(node: NodeId) -> InSyncChange {
    InSyncChange::Drop { node, incarnation: Incarnation(1) }
}

#[test]
fn a_node_that_fails_leaves_its_sets_but_never_as_the_last() {
    let mut sets = sets();
    sets.apply(&down(&[A])).unwrap();
    assert_eq!((set(&sets).in_sync, set(&sets).pepoch), (vec![B], Pepoch(2)));
    sets.apply(&down(&[B])).unwrap();
    assert_eq!((set(&sets).in_sync, set(&sets).pepoch), (vec![B], Pepoch(2)));
}

#[test]
fn a_process_that_starts_ends_the_pepochs_it_was_in() {
    let mut sets = sets();
    sets.apply(&restarted(B, 2)).unwrap();
    assert_eq!((set(&sets).in_sync, set(&sets).pepoch), (vec![A, B], Pepoch(2)));
    sets.apply(&restarted(C, 2)).unwrap();
    assert_eq!(set(&sets).pepoch, Pepoch(2), "it is not in the set");
    assert_eq!(sets.apply(&restarted(B, 2)), Err(Void::Past));
}

#[test]
fn who_may_have_lost_writes_is_never_left_alone() {
    let mut sets = sets();
    sets.apply(&lost_power(A, 2)).unwrap();
    assert_eq!(set(&sets).primary(), Some(B), "A comes first in the ring");
    sets.apply(&down(&[B])).unwrap();
    assert_eq!(set(&sets).in_sync, [A, B]);
    assert_eq!(change(&mut sets, drop_of(B)), Err(Void::Needed { node: B }));
}

#[test]
fn who_may_have_lost_writes_leaves_whatever_the_number_of_copies() {
    let mut sets = InSyncSets::new(2, 2, &[A, B], [(partition(), vec![A, B])]);
    assert_eq!(change(&mut sets, drop_of(A)), Err(Void::Needed { node: A }), "two copies are the least");
    sets.apply(&lost_power(A, 2)).unwrap();
    change(&mut sets, InSyncChange::Drop { node: A, incarnation: Incarnation(2) }).unwrap();
    assert_eq!(set(&sets).in_sync, [B]);
}

#[test]
fn nobody_counts_on_a_disk_that_failed_however_few_are_left() {
    let failed = |node, incarnation| InSyncChange::Failed { node, incarnation: Incarnation(incarnation) };
    let mut sets = InSyncSets::new(2, 2, &[A, B], [(partition(), vec![A, B])]);
    assert_eq!(change(&mut sets, failed(A, 2)), Err(Void::Past), "that process never was");
    let late = SetRecord::Changed { partition: partition(), pepoch: Pepoch(7), change: failed(A, 1) };
    sets.apply(&late).unwrap();
    assert_eq!(set(&sets).in_sync, [B]);
    assert_eq!(change(&mut sets, failed(A, 1)), Err(Void::Past));
    assert_eq!(sets.candidates(partition()), [], "there is nothing to teach it on");
    let promotion = InSyncChange::Promote { node: A, incarnation: Incarnation(1) };
    assert_eq!(change(&mut sets, promotion), Err(Void::Past));
    // B is what counts, also when it is away and A is back.
    sets.apply(&down(&[B])).unwrap();
    sets.apply(&lost_power(A, 2)).unwrap();
    assert_eq!(set(&sets).in_sync, [B]);
    sets.apply(&SetRecord::NodeUp { node: B }).unwrap();
    assert_eq!((set(&sets).primary(), sets.candidates(partition())), (Some(B), vec![A]));
}

#[test]
fn a_disk_that_failed_in_a_set_without_certainty_is_not_there_to_go_on_with_by_force() {
    let failed = |node, incarnation| InSyncChange::Failed { node, incarnation: Incarnation(incarnation) };
    let mut sets = sets();
    sets.apply(&lost_power(B, 2)).unwrap();
    change(&mut sets, failed(A, 1)).unwrap();
    assert_eq!((set(&sets).in_sync, set(&sets).doubtful), (vec![A, B], vec![B, A]));
    assert_eq!(change(&mut sets, failed(A, 1)), Err(Void::Past), "it is known");
    let at_stake = sets.at_stake(partition()).unwrap();
    assert_eq!((nodes(&at_stake.present), at_stake.absent, at_stake.flushed), (vec![B], vec![A], false));
    // Its next process may have all that it had on stable storage.
    let mut restarted = sets.clone();
    restarted.apply(&lost_power(A, 2)).unwrap();
    assert_eq!(nodes(&restarted.at_stake(partition()).unwrap().present), [A, B]);
    sets.apply(&force(&sets)).unwrap();
    change(&mut sets, InSyncChange::Collected).unwrap();
    assert_eq!((set(&sets).in_sync, set(&sets).doubtful), (vec![B], vec![]));
    // The last one stays, and is not certain any more.
    change(&mut sets, failed(B, 2)).unwrap();
    assert_eq!((set(&sets).in_sync, set(&sets).doubtful, set(&sets).failed), (vec![B], vec![B], vec![A, B]));
}

#[test]
fn a_disk_that_fails_before_its_blocks_were_taken_closes_what_was_opened_by_force() {
    let mut sets = sets();
    for node in [A, B] {
        sets.apply(&started_with(node, 2, Memory::Damaged)).unwrap();
    }
    sets.apply(&force(&sets)).unwrap();
    assert!(set(&sets).is_forced && !set(&sets).is_lost());
    change(&mut sets, InSyncChange::Failed { node: B, incarnation: Incarnation(2) }).unwrap();
    assert!(set(&sets).is_lost());
}

#[test]
fn a_set_without_certainty_goes_on_with_the_primary_that_collected() {
    let mut sets = sets();
    assert_eq!(change(&mut sets, InSyncChange::Collected), Err(Void::Past));
    sets.apply(&lost_power(A, 2)).unwrap();
    sets.apply(&lost_power(B, 2)).unwrap();
    assert_eq!(set(&sets).primary(), Some(A));
    change(&mut sets, InSyncChange::Collected).unwrap();
    assert_eq!((set(&sets).in_sync, set(&sets).doubtful), (vec![A], vec![]));
}

#[test]
fn what_was_on_stable_storage_counts_more_than_what_a_damaged_log_brings_back() {
    let mut sets = sets();
    let damaged = started_with(A, 2, Memory::Damaged);
    sets.apply(&damaged).unwrap();
    sets.apply(&lost_power(B, 2)).unwrap();
    assert_eq!((set(&sets).doubtful, set(&sets).damaged), (vec![A, B], vec![A]));
    assert_eq!(set(&sets).primary(), Some(B));
    change(&mut sets, InSyncChange::Collected).unwrap();
    assert_eq!((set(&sets).in_sync, set(&sets).damaged), (vec![B], vec![]));
}

#[test]
fn a_learner_enters_in_the_order_of_the_ring_and_only_in_the_pepoch_it_learned_in() {
    let mut sets = sets();
    sets.apply(&down(&[A])).unwrap();
    sets.apply(&SetRecord::NodeUp { node: A }).unwrap();
    assert_eq!(sets.candidates(partition()), [A]);
    let promotion = InSyncChange::Promote { node: A, incarnation: Incarnation(1) };
    let past = SetRecord::Changed { partition: partition(), pepoch: Pepoch(1), change: promotion };
    assert_eq!(sets.apply(&past), Err(Void::Past));
    change(&mut sets, promotion).unwrap();
    assert_eq!((set(&sets).in_sync, set(&sets).primary()), (vec![A, B], Some(A)));
    assert_eq!(sets.candidates(partition()), []);
}

#[test]
fn a_learner_that_is_dropped_is_not_promoted_by_what_was_asked_before() {
    let mut sets = sets();
    sets.apply(&down(&[B])).unwrap();
    let pepoch = set(&sets).pepoch;
    change(&mut sets, drop_of(C)).unwrap();
    let promotion = InSyncChange::Promote { node: C, incarnation: Incarnation(1) };
    let late = SetRecord::Changed { partition: partition(), pepoch, change: promotion };
    assert_eq!(sets.apply(&late), Err(Void::Past));
}

fn started_after(node: NodeId, incarnation: u64, after: &[u64]) -> SetRecord {
    let (incarnation, start) = (Incarnation(incarnation), StartId(incarnation));
    let after = after.iter().copied().map(StartId).collect();
    SetRecord::NodeStarted { node, incarnation, memory: Memory::Kept, start, after }
}

#[test]
fn who_comes_back_with_another_disk_has_nothing() {
    for after in [&[][..], &[1, 7], &[7]] {
        let mut sets = sets();
        sets.apply(&restarted(A, 2)).unwrap();
        sets.apply(&started_after(A, 3, after)).unwrap();
        assert_eq!((set(&sets).in_sync, set(&sets).is_lost()), (vec![B], false), "after {after:?}");
        assert_eq!(sets.candidates(partition()), [A]);
    }
}

#[test]
fn a_process_that_was_never_recorded_is_not_missed() {
    let mut sets = sets();
    sets.apply(&started_after(A, 4, &[1, 2, 3])).unwrap();
    assert_eq!(set(&sets).in_sync, [A, B]);
    sets.apply(&started_after(A, 5, &[1, 2, 3, 4])).unwrap();
    assert_eq!(set(&sets).in_sync, [A, B], "it ended before it knew that it was recorded");
}

#[test]
fn who_may_have_lost_writes_is_better_than_another_disk() {
    let mut sets = sets();
    sets.apply(&lost_power(B, 2)).unwrap();
    sets.apply(&started_after(A, 2, &[])).unwrap();
    assert_eq!((set(&sets).in_sync, set(&sets).doubtful), (vec![B], vec![B]));
}

/// B alone was in sync, and came back with a new disk.
fn lost() -> InSyncSets {
    let mut sets = sets();
    sets.apply(&down(&[A])).unwrap();
    sets.apply(&started_after(B, 2, &[])).unwrap();
    assert!(set(&sets).is_lost());
    sets
}

#[test]
fn the_last_copy_on_another_disk_is_opened_by_force_alone() {
    let mut sets = lost();
    sets.apply(&restarted(B, 3)).unwrap();
    assert!(set(&sets).is_lost(), "the new disk does not become the old one by being used");
    assert_eq!(change(&mut sets, InSyncChange::Collected), Err(Void::Past));
    sets.apply(&SetRecord::NodeUp { node: A }).unwrap();
    let promotion = InSyncChange::Promote { node: A, incarnation: Incarnation(1) };
    assert_eq!(change(&mut sets, promotion), Err(Void::Past));
    let at_stake = sets.at_stake(partition()).unwrap();
    assert_eq!((at_stake.absent, at_stake.flushed), (vec![B], true));
    assert_eq!(nodes(&at_stake.present), [B, A], "C never had it");
    sets.apply(&force(&sets)).unwrap();
    assert_eq!((set(&sets).in_sync, set(&sets).doubtful), (vec![A, B], vec![B, A]));
    assert!(!set(&sets).is_lost());
}

#[test]
fn a_partition_that_was_lost_is_there_again_with_the_disk_that_has_it() {
    let mut sets = lost();
    sets.apply(&started_with(B, 3, Memory::Stable)).unwrap();
    assert_eq!(set(&sets).doubtful, [], "what another disk lost is nothing to this partition");
    sets.apply(&started_after(B, 4, &[1, 9])).unwrap();
    let found = set(&sets);
    assert_eq!(
        (found.is_lost(), found.primary(), found.in_sync, found.doubtful),
        (false, Some(B), vec![B], vec![])
    );
    sets.apply(&started_after(B, 5, &[3])).unwrap();
    assert!(set(&sets).is_lost(), "now the other one is in it again");
}

#[test]
fn a_set_without_certainty_is_forced_to_go_on_without_who_is_down() {
    let mut sets = sets();
    assert_eq!(sets.apply(&force(&sets)), Err(Void::Past), "nothing is wrong");
    sets.apply(&lost_power(A, 2)).unwrap();
    sets.apply(&lost_power(B, 2)).unwrap();
    sets.apply(&down(&[A, B, C])).unwrap();
    assert_eq!(sets.apply(&force(&sets)), Err(Void::NobodyUp));
    sets.apply(&SetRecord::NodeUp { node: C }).unwrap();
    let at_stake = sets.at_stake(partition()).unwrap();
    assert_eq!((at_stake.absent, nodes(&at_stake.present), at_stake.flushed), (vec![A, B], vec![C], true));
    sets.apply(&SetRecord::NodeUp { node: B }).unwrap();
    let at_stake = sets.at_stake(partition()).unwrap();
    assert_eq!((at_stake.absent, nodes(&at_stake.present), at_stake.flushed), (vec![A], vec![B], false));
    sets.apply(&force(&sets)).unwrap();
    assert_eq!((set(&sets).in_sync, set(&sets).doubtful), (vec![B], vec![B]));
}

#[test]
fn who_holds_everything_and_is_down_for_good_is_given_up_by_force() {
    let mut sets = sets();
    sets.apply(&lost_power(B, 2)).unwrap();
    sets.apply(&down(&[A])).unwrap();
    let at_stake = sets.at_stake(partition()).unwrap();
    assert_eq!((at_stake.absent, nodes(&at_stake.present), at_stake.flushed), (vec![A], vec![B], false));
    sets.apply(&force(&sets)).unwrap();
    assert_eq!((set(&sets).in_sync, set(&sets).doubtful), (vec![B], vec![B]));

    sets.apply(&down(&[B])).unwrap();
    let at_stake = sets.at_stake(partition()).unwrap();
    assert_eq!((at_stake.absent, nodes(&at_stake.present), at_stake.flushed), (vec![B], vec![C], true));
    let shown = force(&sets);
    sets.apply(&SetRecord::NodeUp { node: A }).unwrap();
    assert_eq!(
        sets.apply(&shown),
        Err(Void::Past),
        "A keeps an old copy, C was to be asked for want of that"
    );
    sets.apply(&force(&sets)).unwrap();
    assert!(set(&sets).is_forced, "what it has is from earlier times");
    assert!(sets.at_stake(partition()).unwrap().flushed, "and is so until it is collected");
    change(&mut sets, InSyncChange::Collected).unwrap();
    assert_eq!((set(&sets).in_sync, set(&sets).is_forced), (vec![A], false));
}

#[test]
fn damaged_logs_alone_open_nothing_unless_a_person_says_so() {
    let mut sets = sets();
    sets.apply(&started_with(A, 2, Memory::Damaged)).unwrap();
    assert!(!set(&sets).is_lost(), "B has everything");
    sets.apply(&started_after(B, 2, &[])).unwrap();
    assert_eq!((set(&sets).in_sync, set(&sets).is_lost()), (vec![A], true), "B's disk is gone");
    assert!(!set(&sets).is_whole());
    assert_eq!(change(&mut sets, InSyncChange::Collected), Err(Void::Past));
    let promotion = InSyncChange::Promote { node: B, incarnation: Incarnation(2) };
    assert_eq!(change(&mut sets, promotion), Err(Void::Past));
    sets.apply(&restarted(A, 3)).unwrap();
    assert!(set(&sets).is_lost(), "what it lost does not come back by starting again");
    let at_stake = sets.at_stake(partition()).unwrap();
    assert_eq!((at_stake.absent, nodes(&at_stake.present), at_stake.flushed), (vec![], vec![A], true));
    sets.apply(&force(&sets)).unwrap();
    assert_eq!((set(&sets).is_lost(), set(&sets).is_forced), (false, true));
    sets.apply(&started_with(A, 4, Memory::Damaged)).unwrap();
    assert!(set(&sets).is_lost(), "more is lost than what was said");
    sets.apply(&force(&sets)).unwrap();
    assert_eq!(change(&mut sets, promotion), Err(Void::Past), "nobody is sure to have what B is to learn");
    change(&mut sets, InSyncChange::Collected).unwrap();
    assert_eq!((set(&sets).is_forced, set(&sets).doubtful), (false, vec![]));
}

#[test]
fn what_is_lost_after_a_person_said_so_is_told_to_a_person() {
    for starts in [started_with(A, 3, Memory::Damaged), started_after(A, 3, &[])] {
        let mut sets = sets();
        sets.apply(&started_with(A, 2, Memory::Damaged)).unwrap();
        sets.apply(&started_with(B, 2, Memory::Damaged)).unwrap();
        sets.apply(&force(&sets)).unwrap();
        sets.apply(&lost_power(B, 3)).unwrap();
        assert!(!set(&sets).is_lost());
        sets.apply(&starts).unwrap();
        assert!(set(&sets).is_lost(), "A may be the one that had something");
        sets.apply(&force(&sets)).unwrap();
        assert!(!set(&sets).is_lost() && set(&sets).damaged.is_empty());
    }
}

#[test]
fn one_that_has_what_was_flushed_opens_it_and_no_other() {
    let mut sets = sets();
    sets.apply(&started_with(A, 2, Memory::Damaged)).unwrap();
    sets.apply(&lost_power(B, 2)).unwrap();
    assert_eq!((set(&sets).is_lost(), set(&sets).primary()), (false, Some(B)));
    sets.apply(&started_with(B, 3, Memory::Damaged)).unwrap();
    assert!(set(&sets).is_lost());
}

#[test]
fn what_is_given_up_is_no_more_than_what_was_shown() {
    let mut sets = lost();
    sets.apply(&SetRecord::NodeUp { node: A }).unwrap();
    let shown = force(&sets);
    sets.apply(&down(&[A])).unwrap();
    assert_eq!(sets.apply(&shown), Err(Void::Past), "A was to be asked");
    sets.apply(&SetRecord::NodeUp { node: A }).unwrap();
    sets.apply(&started_after(A, 2, &[])).unwrap();
    assert_eq!(sets.apply(&shown), Err(Void::Past), "another process of A may find nothing");
    sets.apply(&force(&sets)).unwrap();
}

#[test]
fn of_those_who_fail_together_whoever_is_back_first_goes_on() {
    let mut sets = sets();
    sets.apply(&down(&[A, B])).unwrap();
    assert_eq!((set(&sets).in_sync, set(&sets).pepoch), (vec![A, B], Pepoch(1)));
    sets.apply(&restarted(B, 2)).unwrap();
    assert_eq!((set(&sets).in_sync, set(&sets).pepoch), (vec![B], Pepoch(2)));
    assert_eq!(sets.apply(&down(&[A])), Err(Void::Past));
    place(&mut sets, &[B, C]);
    sets.apply(&down(&[B])).unwrap();
    let promotion = InSyncChange::Promote { node: C, incarnation: Incarnation(1) };
    change(&mut sets, promotion).unwrap();
    assert_eq!(set(&sets).in_sync, [C], "it was asked for before B went down");
}

#[test]
fn who_is_up_does_not_leave_for_one_that_is_down() {
    let mut sets = InSyncSets::new(3, 1, &[A, B, C], [(partition(), vec![A, B, C])]);
    sets.apply(&lost_power(C, 2)).unwrap();
    sets.apply(&down(&[A, B])).unwrap();
    let drop_of_c = InSyncChange::Drop { node: C, incarnation: Incarnation(2) };
    assert_eq!(change(&mut sets, drop_of_c), Err(Void::Needed { node: C }));
    sets.apply(&SetRecord::NodeUp { node: B }).unwrap();
    assert_eq!((set(&sets).in_sync, set(&sets).primary()), (vec![B, C], Some(B)));
    change(&mut sets, drop_of_c).unwrap();
}

fn place(sets: &mut InSyncSets, target: &[NodeId]) {
    sets.place([(partition(), target)]).unwrap();
}

fn promotion_of(node: NodeId) -> InSyncChange {
    InSyncChange::Promote { node, incarnation: Incarnation(1) }
}

const D: NodeId = NodeId([4; 16]);

/// Four nodes, two copies on A and B.
fn sets_of_four() -> InSyncSets {
    InSyncSets::new(2, 1, &[A, B, C, D], [(partition(), vec![A, B])])
}

#[test]
fn who_is_to_keep_it_no_more_leaves_when_another_is_in_its_place() {
    let mut sets = sets_of_four();
    place(&mut sets, &[C, D]);
    assert_eq!((set(&sets).in_sync, set(&sets).pepoch), (vec![A, B], Pepoch(2)));
    assert_eq!(sets.candidates(partition()), [C, D]);
    change(&mut sets, promotion_of(C)).unwrap();
    assert_eq!((set(&sets).in_sync, set(&sets).primary()), (vec![C, A], Some(C)));
    assert_eq!((set(&sets).former, set(&sets).is_whole()), (vec![B], false));
    change(&mut sets, promotion_of(D)).unwrap();
    assert_eq!((set(&sets).in_sync, set(&sets).is_whole()), (vec![C, D], true));
    assert_eq!(set(&sets).keepers(), [C, D], "old copies are not needed any more");
}

#[test]
fn a_node_that_is_to_keep_it_and_may_have_lost_writes_does_not_make_it_whole() {
    let mut sets = sets_of_four();
    place(&mut sets, &[A, C]);
    sets.apply(&lost_power(A, 2)).unwrap();
    change(&mut sets, promotion_of(C)).unwrap();
    assert_eq!((set(&sets).in_sync, set(&sets).is_whole()), (vec![A, C, B], false));
    change(&mut sets, InSyncChange::Drop { node: A, incarnation: Incarnation(2) }).unwrap();
    assert_eq!((set(&sets).in_sync, set(&sets).former), (vec![C, B], vec![A]));
    change(&mut sets, InSyncChange::Promote { node: A, incarnation: Incarnation(2) }).unwrap();
    assert_eq!((set(&sets).in_sync, set(&sets).keepers()), (vec![A, C], vec![A, C]));
}

#[test]
fn old_copies_are_kept_until_the_set_is_whole() {
    let mut sets = sets_of_four();
    sets.apply(&down(&[B])).unwrap();
    place(&mut sets, &[A, C]);
    assert_eq!((set(&sets).former, sets.candidates(partition())), (vec![B], vec![C]));
    change(&mut sets, promotion_of(C)).unwrap();
    assert_eq!((set(&sets).former, set(&sets).keepers()), (vec![], vec![A, C]));
}

#[test]
fn a_node_with_an_old_copy_stands_in_for_one_that_is_down() {
    let mut sets = sets_of_four();
    sets.apply(&down(&[B])).unwrap();
    place(&mut sets, &[A, C]);
    sets.apply(&down(&[C])).unwrap();
    assert_eq!(sets.candidates(partition()), []);
    assert_eq!(change(&mut sets, promotion_of(D)), Err(Void::Past), "it never had anything");
    sets.apply(&SetRecord::NodeUp { node: B }).unwrap();
    assert_eq!(sets.candidates(partition()), [B]);
    change(&mut sets, promotion_of(B)).unwrap();
    assert_eq!((set(&sets).in_sync, set(&sets).is_whole()), (vec![A, B], false));
    sets.apply(&SetRecord::NodeUp { node: C }).unwrap();
    change(&mut sets, promotion_of(C)).unwrap();
    assert_eq!((set(&sets).in_sync, set(&sets).keepers()), (vec![A, C], vec![A, C]));
}

#[test]
fn who_is_to_keep_it_no_more_stays_while_nobody_else_is_up() {
    let mut sets = sets_of_four();
    place(&mut sets, &[C, D]);
    change(&mut sets, promotion_of(C)).unwrap();
    sets.apply(&down(&[A, C])).unwrap();
    place(&mut sets, &[C]);
    assert_eq!(set(&sets).in_sync, [C, A], "whoever is back first goes on");
    sets.apply(&SetRecord::NodeUp { node: A }).unwrap();
    assert_eq!((set(&sets).in_sync, set(&sets).keepers()), (vec![A], vec![A, C]));
}

#[test]
fn old_copies_are_what_a_lost_partition_is_opened_with() {
    let mut sets = sets_of_four();
    sets.apply(&down(&[A])).unwrap();
    place(&mut sets, &[C, D]);
    sets.apply(&started_after(B, 2, &[])).unwrap();
    assert!(set(&sets).is_lost());
    sets.apply(&started_after(A, 2, &[1])).unwrap();
    let at_stake = sets.at_stake(partition()).unwrap();
    assert_eq!((at_stake.absent, nodes(&at_stake.present)), (vec![B], vec![B, A, C, D]));
}

#[test]
fn another_disk_has_no_old_copy() {
    let mut sets = sets_of_four();
    sets.apply(&down(&[B])).unwrap();
    place(&mut sets, &[A, C]);
    let pepoch = set(&sets).pepoch;
    sets.apply(&started_after(B, 2, &[])).unwrap();
    assert_eq!((set(&sets).former, set(&sets).pepoch.0), (vec![], pepoch.0 + 1));
}

fn emptied(node: NodeId) -> InSyncChange {
    InSyncChange::Emptied { node, incarnation: Incarnation(1) }
}

fn ready(node: NodeId) -> InSyncChange {
    InSyncChange::Ready { node, incarnation: Incarnation(1) }
}

#[test]
fn who_changes_a_disk_is_counted_on_and_taught_only_when_it_says_that_it_has_the_other_one() {
    let mut sets = sets();
    assert_eq!(change(&mut sets, ready(A)), Err(Void::Past), "it has all that it had");
    change(&mut sets, emptied(A)).unwrap();
    assert_eq!((set(&sets).in_sync, set(&sets).former, set(&sets).failed), (vec![B], vec![], vec![A]));
    assert_eq!(change(&mut sets, promotion_of(A)), Err(Void::Past));
    assert_eq!((change(&mut sets, emptied(A)), sets.candidates(partition())), (Err(Void::Past), vec![]));
    // What it said in an earlier pepoch is past, and so is what a process says that never was.
    let earlier = Pepoch(set(&sets).pepoch.0 - 1);
    let late = |change| SetRecord::Changed { partition: partition(), pepoch: earlier, change };
    assert_eq!(sets.apply(&late(ready(A))), Err(Void::Past));
    let other = InSyncChange::Ready { node: A, incarnation: Incarnation(2) };
    assert_eq!(change(&mut sets, other), Err(Void::Past));
    change(&mut sets, ready(A)).unwrap();
    assert_eq!((set(&sets).failed, sets.candidates(partition())), (vec![], vec![A]));
    assert_eq!(change(&mut sets, ready(A)), Err(Void::Past));
    change(&mut sets, promotion_of(A)).unwrap();
    assert_eq!(sets.apply(&late(emptied(A))), Err(Void::Past));
    assert_eq!(set(&sets).in_sync, [A, B]);
}

#[test]
fn the_next_process_of_who_changed_a_disk_has_nothing_whichever_it_finds() {
    let mut sets = sets();
    change(&mut sets, emptied(A)).unwrap();
    sets.apply(&down(&[B])).unwrap();
    sets.apply(&restarted(A, 2)).unwrap();
    assert_eq!((set(&sets).in_sync, set(&sets).failed), (vec![B], vec![]));
    assert_eq!(nodes(&sets.at_stake(partition()).unwrap().present), [A], "if a person will have it");
    assert_eq!(set(&sets).former, []);
}

#[test]
fn nobody_gives_up_a_copy_that_the_set_needs() {
    let mut sets = InSyncSets::new(2, 2, &[A, B], [(partition(), vec![A, B])]);
    assert_eq!(change(&mut sets, emptied(A)), Err(Void::Needed { node: A }), "two copies are the least");
    let mut sets = self::sets();
    sets.apply(&lost_power(B, 2)).unwrap();
    assert_eq!(change(&mut sets, emptied(A)), Err(Void::Needed { node: A }), "B may have lost some");
    let mut sets = self::sets();
    sets.apply(&down(&[B])).unwrap();
    assert_eq!(change(&mut sets, emptied(A)), Err(Void::Needed { node: A }), "it is the last");
    // An old copy stays while nobody that is up has everything.
    sets.apply(&down(&[A])).unwrap();
    assert_eq!(change(&mut sets, emptied(B)), Err(Void::Needed { node: B }));
    assert_eq!(set(&sets).former, [B]);
}

#[test]
fn what_is_on_a_disk_that_failed_is_given_up_when_another_one_takes_its_place() {
    let mut sets = InSyncSets::new(2, 2, &[A, B], [(partition(), vec![A, B])]);
    change(&mut sets, InSyncChange::Failed { node: A, incarnation: Incarnation(1) }).unwrap();
    assert_eq!((set(&sets).in_sync, set(&sets).former, set(&sets).failed), (vec![B], vec![A], vec![A]));
    assert_eq!(change(&mut sets, ready(A)), Err(Void::Past), "it may be taken for an old copy");
    change(&mut sets, emptied(A)).unwrap();
    assert_eq!((set(&sets).former, set(&sets).failed), (vec![], vec![A]));
    change(&mut sets, ready(A)).unwrap();
    assert_eq!((set(&sets).in_sync, sets.candidates(partition())), (vec![B], vec![A]));
}
