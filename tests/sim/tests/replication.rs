//! Clusters under faults keep every promise, and a simulator that says so finds every planted bug.
//!
//! One seed is one run. `HUNTAWAY_SIM_SEEDS` runs that many, `HUNTAWAY_SIM_FROM` begins at that one; the command that repeats a
//! run which broke a promise is told with it. `huntaway-sim mutants` tells how many seeds each bug takes.

use std::env;

use huntaway_replica::PlantedBug;
use huntaway_sim::{Bug, Cluster, Summary};

/// Runs when nothing else is asked for.
const DEFAULT_SEEDS: u64 = 1000;

/// Seeds within which each planted bug must be found.
const SEEDS_FOR_A_BUG: u64 = 5000;

fn setting(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().expect("the setting is a number"))
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
    let (from, seeds) = (setting("HUNTAWAY_SIM_FROM", 0), setting("HUNTAWAY_SIM_SEEDS", DEFAULT_SEEDS));
    let mut all = Summary::default();
    (from..from.saturating_add(seeds)).for_each(|seed| all.add(&run_sound(seed)));
    println!("{seeds} seeds: {all:?}");
    let happened = [all.answered, all.given_up, all.faults, all.pepochs, all.promotions, all.collections];
    assert!(seeds < 100 || happened.iter().all(|count| *count > seeds / 10), "too little happens: {all:?}");
}

/// What they show is rare: flushed writes that a learner had not synced (the first two), and a disk that fell behind for good.
#[test]
fn seeds_that_once_broke_a_promise_keep_it() {
    for seed in [1_020_513, 1_031_053, 1_034_666] {
        run_sound(seed);
    }
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
        if let Err(failure) = Cluster::run(seed, Some(bug), false) {
            println!("{bug} was found by seed {seed}: {}", failure.broken);
            run_sound(seed);
            return;
        }
    }
    panic!("{bug} was not found within {SEEDS_FOR_A_BUG} seeds from {from} on");
}

/// The seed after each bug is where the search begins: not far before one that finds it, to save time.
macro_rules! each_is_found {
    ($($name:ident: $bug:ident from $seed:literal,)*) => {
        $(
            #[test]
            fn $name() {
                is_found(Bug::Replica(PlantedBug::$bug), $seed);
            }
        )*

        #[test]
        fn every_bug_that_can_be_planted_is_looked_for() {
            let tested = [$(Bug::Replica(PlantedBug::$bug)),*];
            let missing: Vec<Bug> = Bug::ALL.into_iter()
                .filter(|bug| !tested.contains(bug) && *bug != Bug::SamePepochAfterRestart)
                .collect();
            assert!(missing.is_empty(), "{missing:?}");
        }
    };
}

#[test]
fn going_on_in_the_pepoch_of_the_last_process_is_found() {
    is_found(Bug::SamePepochAfterRestart, 0);
}

each_is_found! {
    acknowledging_before_all_replicas_have_a_write_is_found: AcknowledgedBeforeAll from 0,
    acknowledging_what_is_not_in_the_log_is_found: AcknowledgedFromMemory from 150,
    serving_without_the_in_sync_lease_is_found: NoInSyncLease from 0,
    a_new_pepoch_before_old_leases_ran_out_is_found: NoGraceWait from 100,
    carrying_out_a_request_twice_is_found: RequestsForgotten from 0,
    forgetting_requests_when_time_has_gone_by_is_found: RequestsTrimmedByTime from 0,
    knowing_of_requests_whose_data_was_rolled_back_is_found: RequestsKeptAtRollback from 300,
    rolling_data_forward_without_its_requests_is_found: RequestsNotRolledForward from 600,
    carrying_out_a_request_that_was_answered_is_found: AnsweredCarriedOut from 0,
    a_dirty_read_is_found: DirtyRead from 100,
    a_learner_that_keeps_higher_versions_is_found: RejoinByMaxVersion from 80,
    opening_with_lost_writes_without_the_others_is_found: DoubtfulOpensAlone from 0,
    merging_only_what_is_in_doubt_after_power_loss_is_found: OnlyInDoubtCollected from 0,
    a_write_that_overtakes_another_on_its_way_to_a_learner_is_found: ForwardsOvertake from 0,
    a_learner_that_is_admitted_before_it_was_compared_is_found: LearnerAdmittedEarly from 0,
    a_learner_that_is_admitted_without_all_writes_is_found: LearnerAdmittedWithoutForwards from 80,
    a_learner_that_is_admitted_before_a_sync_is_found: UnsyncedPromotion from 0,
    a_write_that_is_logged_twice_is_found: DuplicateForwardLogged from 0,
    a_lesson_that_is_done_twice_is_found: DuplicateLessonDone from 1950,
    damage_on_the_way_that_nobody_notices_is_found: CrcNotVerified from 0,
    a_flush_of_one_replica_is_found: FlushOfThePrimaryAlone from 150,
    stable_writes_without_a_sync_are_found: StableWithoutSync from 0,
    comparing_before_the_blocks_are_locked_is_found: ComparedBeforeLock from 0,
    merging_before_the_blocks_are_locked_is_found: MergedBeforeLock from 0,
    forgetting_what_a_request_came_to_is_found: ResultForgotten from 0,
    merging_over_what_is_damaged_is_found: MergedOverDamaged from 0,
    damage_that_is_read_as_zeroes_is_found: DamagedReadAsZero from 0,
    damage_that_another_replica_could_have_healed_is_found: DamageNotReadElsewhere from 0,
    damage_that_a_learner_gets_as_zeroes_is_found: DamageTaughtAsZero from 0,
    mending_what_is_being_written_to_is_found: MendedWithoutLock from 0,
    a_scrub_of_one_replica_is_found: ScrubOfThePrimaryAlone from 0,
    going_on_with_a_disk_that_failed_is_found: FailedDiskGoesOn from 0,
}
