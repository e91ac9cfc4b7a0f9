//! The store on a disk that loses power, under random requests and crashes: acknowledged writes survive the process,
//! flushed ones survive power loss, nothing is torn, stale or back from the dead.
//!
//! One seed is one run. `HUNTAWAY_SIM_SEEDS` runs that many, `HUNTAWAY_SIM_FROM` begins at that one; a run that breaks a
//! promise is told step by step, with the command that repeats it.

mod cells;
mod model;
mod outstanding;
mod run;
mod summary;

use std::env;
use std::sync::{Mutex, PoisonError};

use huntaway_store::PlantedBug;
use run::run;
use summary::Summary;

/// Runs when nothing else is asked for.
const DEFAULT_SEEDS: u64 = 300;

/// Seeds within which each planted bug must be found.
const SEEDS_FOR_A_BUG: u64 = 5000;

fn setting(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().expect("the setting is a number"))
}

fn first_seed() -> u64 {
    setting("HUNTAWAY_SIM_FROM", 0)
}

/// Runs a seed without a bug, which must keep every promise.
fn run_sound(seed: u64) -> Summary {
    run(seed, None, false).unwrap_or_else(|broken| {
        let again = run(seed, None, true).err();
        panic!(
            "{}\nseed {seed}: {broken}\nto repeat: HUNTAWAY_SIM_FROM={seed} HUNTAWAY_SIM_SEEDS=1 \
             cargo test -p huntaway-store --test simulation",
            again.map(|broken| broken.trace.join("\n")).unwrap_or_default()
        )
    })
}

#[test]
fn every_promise_is_kept_for_every_seed() {
    let seeds = setting("HUNTAWAY_SIM_SEEDS", DEFAULT_SEEDS);
    let all = run_all_sound(seeds);
    println!("{seeds} seeds: {all}");
    assert!(seeds < 100 || all.is_varied(), "the runs are all alike: {all}");
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in first_seed()..first_seed().saturating_add(20) {
        assert_eq!(run_sound(seed), run_sound(seed), "seed {seed}");
    }
}

/// What happened in the seeds that were seen to be sound, from the first.
static SOUND: Mutex<Vec<Summary>> = Mutex::new(Vec::new());

/// Runs the first `seeds` without a bug, unless that was done for another test.
fn run_all_sound(seeds: u64) -> Summary {
    let mut sound = SOUND.lock().unwrap_or_else(PoisonError::into_inner);
    for seed in sound.len() as u64..seeds {
        sound.push(run_sound(first_seed().saturating_add(seed)));
    }
    let mut all = Summary::default();
    sound.iter().take(seeds as usize).for_each(|summary| all.add(summary.clone()));
    all
}

fn is_found(bug: PlantedBug) {
    for seed in 0..SEEDS_FOR_A_BUG {
        let Err(broken) = run(first_seed().saturating_add(seed), Some(bug), false) else { continue };
        println!("{bug:?} was found after {} seeds: {broken}", seed + 1);
        run_all_sound(seed + 1);
        return;
    }
    panic!("{bug:?} was not found within {SEEDS_FOR_A_BUG} seeds");
}

macro_rules! each_is_found {
    ($($name:ident: $bug:ident,)*) => {$(
        #[test]
        fn $name() {
            is_found(PlantedBug::$bug);
        }
    )*};
}

each_is_found! {
    acknowledging_before_logging_is_found: AcknowledgeBeforeLogging,
    applying_what_is_not_durable_is_found: ApplyBeforeDurable,
    stable_writes_without_a_sync_are_found: StableWithoutSync,
    a_table_before_its_data_is_found: TableBeforeData,
    a_replay_that_cannot_be_repeated_is_found: ReplayedOnce,
    reading_without_checking_is_found: CrcNotChecked,
    a_sync_error_that_is_ignored_is_found: SyncErrorIgnored,
    a_sync_that_is_tried_again_is_found: SyncRetried,
    a_lost_entry_of_an_index_is_found: IndexEntryLost,
    a_hole_read_as_what_was_there_is_found: HoleReadFromFile,
    a_dropped_tombstone_is_found: TombstoneDropped,
    a_fragment_merged_over_a_corrupt_block_is_found: MergedOverCorrupt,
    a_log_released_before_it_is_applied_is_found: ReleasedBeforeApplied,
    names_that_are_not_synced_are_found: NamesNotSynced,
}
