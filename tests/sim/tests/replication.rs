//! Clusters under faults keep every promise, and a simulator that says so finds every planted bug.
//!
//! One seed is one run. Ten thousand are run that nobody has run before.
//! The command that repeats a run which broke a promise is told with it. `HUNTAWAY_SIM_SEEDS` runs that many instead, from
//! `HUNTAWAY_SIM_FROM` on. `huntaway-sim mutants` tells how many seeds each bug takes.

use std::env;
use std::time::{SystemTime, UNIX_EPOCH};

use huntaway_replica::PlantedBug;
use huntaway_sim::{Bug, Cluster, Summary};
use huntaway_store::PlantedBug as StoreBug;

/// So many seeds are run, when nothing else is asked for.
const FRESH_SEEDS: u64 = 10_000;

/// Seeds within which each planted bug must be found.
const SEEDS_FOR_A_BUG: u64 = 5000;

fn setting(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().expect("the setting is a number"))
}

/// A seed from which on nobody has run any.
fn fresh() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("it is after 1970").as_millis() as u64 * 1000
}

fn run_sound(seed: u64) -> Summary {
    Cluster::run(seed, None, false).unwrap_or_else(|failure| {
        panic!(
            "seed {seed}: {}\nto repeat: cargo run --release -p huntaway-sim -- replay {seed}",
            failure.broken
        )
    })
}

#[test]
fn every_promise_is_kept_for_every_seed() {
    let (from, seeds) = (setting("HUNTAWAY_SIM_FROM", fresh()), setting("HUNTAWAY_SIM_SEEDS", FRESH_SEEDS));
    println!("{seeds} seeds from {from}");
    let mut all = Summary::default();
    (from..from.saturating_add(seeds)).for_each(|seed| all.add(&run_sound(seed)));
    println!("{seeds} seeds: {all:?}");
    let happened = [all.answered, all.given_up, all.faults, all.pepochs, all.promotions, all.collections];
    assert!(seeds < 100 || happened.iter().all(|count| *count > seeds / 10), "too little happens: {all:?}");
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..10 {
        assert_eq!(run_sound(seed), run_sound(seed), "seed {seed}");
        let traces = [(); 2].map(|()| Cluster::run_traced(seed, None, true).2);
        assert_eq!(traces[0], traces[1], "seed {seed}");
    }
}

/// Looks for a seed that finds the bug, and is sound without it.
fn is_found(bug: Bug, from: u64) {
    for seed in from..from + SEEDS_FOR_A_BUG {
        if let Err(failure) = Cluster::run(seed, Some(bug), false)
            && failure.broken.is_seen()
        {
            println!("{bug} was found by seed {seed}: {}", failure.broken);
            run_sound(seed);
            return;
        }
    }
    panic!("{bug} was not found within {SEEDS_FOR_A_BUG} seeds from {from}");
}

/// The tests of the bugs. A rare one is looked for from where it was found once: as long as runs stay what they are that takes
/// no time, and after that as long as from anywhere.
macro_rules! each_is_found {
    ($($name:ident: $bug:expr $(, from $from:literal)?;)*) => {
        $(
            #[test]
            fn $name() {
                is_found($bug, 0 $(+ $from)?);
            }
        )*

        #[test]
        fn every_bug_that_can_be_planted_is_looked_for() {
            let tested = [$($bug),*];
            let missing: Vec<&Bug> = Bug::ALL.iter().filter(|bug| !tested.contains(bug)).collect();
            assert!(missing.is_empty(), "{missing:?}");
        }
    };
}

each_is_found! {
    acknowledging_before_all_replicas_have_a_write_is_found: Bug::Replica(PlantedBug::AcknowledgedBeforeAll);
    acknowledging_what_is_not_in_the_log_is_found: Bug::Replica(PlantedBug::AcknowledgedFromMemory);
    serving_without_the_in_sync_lease_is_found: Bug::Replica(PlantedBug::NoInSyncLease);
    a_lease_that_counts_from_its_receipt_is_found: Bug::Replica(PlantedBug::LeaseFromReceipt);
    a_new_pepoch_before_old_leases_ran_out_is_found: Bug::Replica(PlantedBug::NoGraceWait);
    a_wait_that_is_shortened_by_what_is_observed_is_found: Bug::Replica(PlantedBug::WaitEndsWithMembership);
    a_primary_that_others_miss_and_that_stays_is_found: Bug::Replica(PlantedBug::PrimaryNotMissed), from 1627;
    a_process_that_starts_and_does_not_wait_is_found: Bug::Replica(PlantedBug::RestartedTakesPartAtOnce);
    carrying_out_a_request_twice_is_found: Bug::Replica(PlantedBug::RequestsForgotten);
    forgetting_requests_when_time_has_gone_by_is_found: Bug::Replica(PlantedBug::RequestsTrimmedByTime);
    knowing_of_requests_whose_data_was_rolled_back_is_found: Bug::Replica(PlantedBug::RequestsKeptAtRollback);
    rolling_data_forward_without_its_requests_is_found: Bug::Replica(PlantedBug::RequestsNotRolledForward), from 400;
    carrying_out_a_request_that_was_answered_is_found: Bug::Replica(PlantedBug::AnsweredCarriedOut);
    a_dirty_read_is_found: Bug::Replica(PlantedBug::DirtyRead);
    a_lease_that_is_checked_by_an_old_clock_is_found: Bug::Replica(PlantedBug::ClockReadOnTicks);
    opening_without_what_is_in_doubt_is_found: Bug::Replica(PlantedBug::NoRollForward);
    opening_without_having_heard_of_all_is_found: Bug::Replica(PlantedBug::RollForwardOverMajority);
    a_learner_that_keeps_higher_versions_is_found: Bug::Replica(PlantedBug::RejoinByMaxVersion);
    opening_with_lost_writes_without_the_others_is_found: Bug::Replica(PlantedBug::DoubtfulOpensAlone);
    merging_only_what_is_in_doubt_after_power_loss_is_found: Bug::Replica(PlantedBug::OnlyInDoubtCollected);
    what_a_damaged_log_brings_back_is_found: Bug::Replica(PlantedBug::DamagedCollected), from 2051;
    objects_that_are_missing_and_count_as_never_written_are_found: Bug::Replica(PlantedBug::MissingIsNeverWritten);
    a_write_that_overtakes_another_on_its_way_to_a_learner_is_found: Bug::Replica(PlantedBug::ForwardsOvertake);
    an_object_that_is_written_to_while_it_is_copied_is_found: Bug::Replica(PlantedBug::CopiedWithoutLock);
    a_learner_that_is_admitted_before_it_was_compared_is_found: Bug::Replica(PlantedBug::LearnerAdmittedEarly);
    a_learner_that_is_admitted_without_all_writes_is_found: Bug::Replica(PlantedBug::LearnerAdmittedWithoutForwards);
    a_learner_that_is_admitted_before_a_sync_is_found: Bug::Replica(PlantedBug::UnsyncedPromotion);
    blaming_others_for_an_own_pause_is_found: Bug::Replica(PlantedBug::OwnPauseNotHeeded), from 754;
    serving_without_leases_after_a_rest_is_found: Bug::Replica(PlantedBug::RestingServes);
    serving_without_the_lease_of_a_learner_that_is_proposed_is_found: Bug::Replica(PlantedBug::ProposedLearnerWithoutLease);
    a_lesson_that_failed_and_counts_as_done_is_found: Bug::Replica(PlantedBug::FailedLessonCountsAsDone);
    a_write_that_is_logged_twice_is_found: Bug::Replica(PlantedBug::DuplicateForwardLogged);
    a_lesson_that_is_done_twice_is_found: Bug::Replica(PlantedBug::DuplicateLessonDone), from 1977;
    damage_on_the_way_that_nobody_notices_is_found: Bug::Replica(PlantedBug::CrcNotVerified);
    damage_on_the_way_from_a_gateway_is_found: Bug::Replica(PlantedBug::GatewaysNotVerified);
    damage_of_what_is_expected_is_found: Bug::Replica(PlantedBug::ExpectedNotVerified);
    giving_versions_again_is_found: Bug::Replica(PlantedBug::VersionsGivenAgain);
    refusing_what_was_promised_to_be_taken_is_found: Bug::Replica(PlantedBug::ForwardRefusedForSpace);
    sending_more_than_was_promised_to_be_taken_is_found: Bug::Replica(PlantedBug::CreditSpentTwice);
    credit_that_outlives_its_pepoch_is_found: Bug::Replica(PlantedBug::CreditOutlivesPepoch);
    refusing_a_write_that_others_have_is_found: Bug::Replica(PlantedBug::RefusedAfterVersioning);
    writes_that_take_space_of_a_full_disk_are_found: Bug::Replica(PlantedBug::AnyWriteReplaces);
    objects_that_are_made_and_not_counted_are_found: Bug::Replica(PlantedBug::NewObjectsNotCounted);
    telling_of_damage_that_a_write_replaces_is_found: Bug::Replica(PlantedBug::DamageNotReplaced);
    refusing_a_write_that_space_was_set_aside_for_is_found: Bug::Replica(PlantedBug::SetAsideNotHeeded), from 802;
    setting_space_aside_that_nobody_promised_is_found: Bug::Replica(PlantedBug::SetAsideNotCounted), from 535;
    a_learner_that_does_not_hear_of_space_set_aside_is_found: Bug::Replica(PlantedBug::SetAsideNotTaught);
    a_flush_of_one_replica_is_found: Bug::Replica(PlantedBug::FlushOfThePrimaryAlone);
    stable_writes_without_a_sync_are_found: Bug::Replica(PlantedBug::StableWithoutSync);
    comparing_before_the_blocks_are_locked_is_found: Bug::Replica(PlantedBug::ComparedBeforeLock);
    merging_before_the_blocks_are_locked_is_found: Bug::Replica(PlantedBug::MergedBeforeLock);
    forgetting_what_a_request_came_to_is_found: Bug::Replica(PlantedBug::ResultForgotten), from 480;
    merging_over_what_is_damaged_is_found: Bug::Replica(PlantedBug::MergedOverDamaged);
    damage_that_is_read_as_zeroes_is_found: Bug::Replica(PlantedBug::DamagedReadAsZero);
    damage_that_another_replica_could_have_healed_is_found: Bug::Replica(PlantedBug::DamageNotReadElsewhere);
    damage_that_a_learner_gets_as_zeroes_is_found: Bug::Replica(PlantedBug::DamageTaughtAsZero);
    mending_what_is_being_written_to_is_found: Bug::Replica(PlantedBug::MendedWithoutLock);
    a_scrub_of_one_replica_is_found: Bug::Replica(PlantedBug::ScrubOfThePrimaryAlone);
    going_on_with_a_disk_that_failed_is_found: Bug::Replica(PlantedBug::FailedDiskGoesOn);
    a_failed_disk_that_asks_to_be_left_out_is_found: Bug::Replica(PlantedBug::FailedAsksToBeDropped), from 1588;
    a_node_that_is_up_before_it_told_what_failed_is_found: Bug::UpBeforeFailureIsTold;
    serving_on_after_others_were_released_is_found: Bug::Replica(PlantedBug::ReleasedServes);
    releasing_others_when_a_promotion_is_asked_for_is_found: Bug::Replica(PlantedBug::ReleasedBeforeTheRecord);
    serving_without_the_lease_of_the_ledger_is_found: Bug::Replica(PlantedBug::NoLedgerLease);
    reading_what_is_inherited_as_zeroes_is_found: Bug::Replica(PlantedBug::InheritedReadAsZeroes);
    a_map_without_what_is_inherited_is_found: Bug::Replica(PlantedBug::MappedWithoutAncestors);
    merging_without_what_is_inherited_is_found: Bug::Replica(PlantedBug::MergedWithoutAncestors);
    taking_requests_of_an_old_layout_is_found: Bug::Replica(PlantedBug::LayoutNotChecked);
    taking_requests_that_a_reset_gave_up_is_found: Bug::Replica(PlantedBug::FenceNotChecked);
    a_hold_that_ends_by_itself_is_found: Bug::Replica(PlantedBug::HoldEndedByTimeout), from 2383;
    a_new_primary_that_does_not_hold_is_found: Bug::Replica(PlantedBug::NewPrimaryDoesNotHold);
    a_hold_that_is_told_of_before_writes_are_done_is_found: Bug::Replica(PlantedBug::HeldWithWritesUnderWay), from 745;
    an_old_copy_that_is_removed_early_is_found: Bug::Replica(PlantedBug::OldCopyRemovedEarly);
    a_checkpoint_without_requests_is_found: Bug::Replica(PlantedBug::RequestsNotInCheckpoint);
    a_checkpoint_without_what_is_in_doubt_is_found: Bug::Replica(PlantedBug::DoubtNotInCheckpoint), from 498;
    going_back_to_a_snapshot_while_others_read_is_found: Bug::Replica(PlantedBug::ReadsNotHeld), from 930;
    freeing_what_versions_made_from_it_show_is_found: Bug::Replica(PlantedBug::FreedWhatChildrenShow);
    freeing_by_an_old_tree_is_found: Bug::Replica(PlantedBug::FreedByOldTree);
    freeing_nothing_is_found: Bug::Replica(PlantedBug::NothingFreed);
    freeing_without_locks_is_found: Bug::Replica(PlantedBug::FreedWithoutLocks);
    going_on_in_the_pepoch_of_the_last_process_is_found: Bug::SamePepochAfterRestart;
    a_stamp_that_is_checked_on_arrival_is_found: Bug::StampCheckedOnArrival, from 532;
    sending_again_what_a_reset_gave_up_is_found: Bug::AbortedSentAgain;
    a_snapshot_that_is_taken_before_all_hold_is_found: Bug::CommittedBeforeAllHold;
    a_hole_without_a_version_is_found: Bug::HoleWithoutVersion;
    a_hole_that_is_not_kept_is_found: Bug::HoleNotKept;
    replicas_that_resolve_by_themselves_are_found: Bug::ReplicaResolves;
    taking_whatever_disk_a_node_comes_back_with_is_found: Bug::AnyDiskWillDo;
    a_disk_that_does_not_remember_all_starts_is_found: Bug::StartsForgotten;
    a_snapshot_of_the_ledger_that_does_not_say_who_is_doubtful_is_found: Bug::DoubtNotInSnapshot;
    counting_who_is_to_keep_a_partition_as_in_sync_is_found: Bug::PlacedAtOnce;
    leaving_out_a_node_that_alone_has_something_is_found: Bug::RemovedTooEarly;
    taking_the_first_disk_of_a_node_for_another_one_is_found: Bug::FirstDiskIsAnother;
    leaving_out_an_old_copy_of_what_nobody_serves_is_found: Bug::OldCopyLeftOut;
    opening_what_damaged_logs_alone_have_is_found: Bug::DamagedOpens;
    taught_blocks_that_get_another_version_are_found: Bug::Store(StoreBug::CopiedWithoutVersion);
    a_log_that_is_read_without_what_is_known_is_found: Bug::Store(StoreBug::KnownNotReplayed), from 1812;
    a_log_that_is_released_before_what_is_known_is_logged_is_found: Bug::Store(StoreBug::ReleasedBeforeKnown);
    lost_blocks_that_read_as_zeroes_are_found: Bug::Store(StoreBug::LostReadAsZeroes);
    an_index_that_keeps_a_version_that_went_down_is_found: Bug::Store(StoreBug::IndexNotLowered);
    a_file_that_does_not_tell_of_space_set_aside_is_found: Bug::Store(StoreBug::SetAsideForgotten);
    a_damaged_log_that_nobody_is_told_of_is_found: Bug::Store(StoreBug::LogDamageNotTold);
    a_flush_where_a_node_has_not_synced_is_found: Bug::SyncAllIgnoresUnansweredMembers, from 1496;
    health_that_is_told_from_progress_is_found: Bug::HealthFromProgress;
    a_recovery_that_failed_and_counts_as_done_is_found: Bug::FailedRecoveryCountsAsDone;
    a_torn_tail_after_a_kill_is_found: Bug::Store(StoreBug::TornTailAfterKill), from 2733;
    granting_what_was_granted_is_found: Bug::Store(StoreBug::GrantsCountedTwice);
    an_index_that_stays_damaged_is_found: Bug::Store(StoreBug::DamagedIndexStays);
    an_index_that_is_damaged_and_not_told_of_is_found: Bug::Store(StoreBug::DamagedIndexNotTold);
    going_back_to_a_snapshot_before_all_hold_is_found: Bug::RolledBackBeforeAllHold;
    a_result_that_does_not_travel_with_the_write_is_found: Bug::ResultNotCarried, from 1008;
}
