//! With many active gateways no command takes effect after it was given up; and the checker finds whoever breaks a rule that
//! this rests on. Once more over clusters that replicate, with seeds that nobody has run: the command that repeats a run which
//! broke a promise is told with it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use huntaway_gateway::fencing::PlantedBug;
use huntaway_sim::fencing::{Bug, Outcome, Setting, replay, run};

/// Runs without a bug.
const SEEDS: u64 = 2000;

/// Runs over clusters: those below this one, and as many others that nobody has run.
const SEEDS_OF_CLUSTERS: u64 = 3000;

/// Seeds within which each planted bug must be found.
const SEEDS_FOR_A_BUG: u64 = 5000;

/// Runs a seed without a bug, which must be sound.
fn run_sound(seed: u64, setting: &Setting) -> Outcome {
    let outcome = run(seed, None, setting);
    if !outcome.is_sound() {
        let trace = replay(seed, None, setting).trace.join("\n");
        panic!(
            "{trace}\nseed {seed}: {}\nto repeat: cargo run --release -p huntaway-sim -- fencing replay {seed}{}",
            outcome.verdict(),
            if setting.has_cluster { " --cluster" } else { "" }
        );
    }
    outcome
}

#[test]
fn no_command_takes_effect_after_it_was_given_up() {
    let mut all = Outcome::default();
    for seed in 0..SEEDS {
        all.add(run_sound(seed, &Setting::default()));
    }
    println!("{SEEDS} seeds: {all}");
    let asked = [all.acknowledged, all.retries, all.aborts, all.logouts, all.restarts];
    let fenced = [all.unproven, all.refusals, all.settled, all.records, all.out_of_date];
    assert!(asked.iter().chain(&fenced).all(|count| *count >= SEEDS), "the runs are all alike: {all}");
}

/// A seed from which on nobody has run any.
fn fresh() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("it is after 1970").as_millis() as u64 * 1000
}

fn over_cluster() -> Setting {
    Setting { has_cluster: true, ..Setting::default() }
}

#[test]
fn clusters_below_active_gateways_keep_every_promise() {
    let (mut all, from) = (Outcome::default(), fresh());
    let seeds = (0..SEEDS_OF_CLUSTERS).chain(from..from + SEEDS_OF_CLUSTERS);
    seeds.for_each(|seed| all.add(run_sound(seed, &over_cluster())));
    println!("{SEEDS_OF_CLUSTERS} seeds from 0 and from {from}: {all}");
    let happened = [all.acknowledged, all.retries, all.aborts, all.restarts, all.records, all.unproven];
    assert!(happened.iter().all(|count| *count >= SEEDS_OF_CLUSTERS), "the runs are all alike: {all}");
}

#[test]
fn the_same_seed_is_the_same_run() {
    for setting in [Setting::default(), over_cluster()] {
        for seed in 0..10 {
            let (one, other) = (replay(seed, None, &setting), replay(seed, None, &setting));
            assert!(one == other, "seed {seed}");
            assert_eq!(run(seed, None, &setting), Outcome { trace: Vec::new(), ..one });
        }
    }
}

/// 2.86 s is (2 s of path proof + 0.6 s of stamp) by a clock that is a tenth faster.
#[test]
fn an_initiator_may_fail_over_after_2_86_seconds_and_not_much_sooner() {
    let after =
        |ms| Setting { replacement_timeout: Duration::from_millis(ms), is_tight: true, has_cluster: false };
    let mut worst = Duration::ZERO;
    for seed in 0..SEEDS / 4 {
        worst = worst.max(run_sound(seed, &after(2_860)).worst);
    }
    println!("worst effect {worst:?} after its path failed");
    assert!(worst <= Duration::from_millis(2_860));
    let too_soon = (0..SEEDS_FOR_A_BUG).find(|seed| !run(*seed, None, &after(2_000)).is_sound());
    assert!(too_soon.is_some(), "2 s are as good: the runs do not come near the bound");
}

/// Looks for a seed that finds the bug, and is sound without it.
fn is_found(bug: Bug, setting: &Setting) {
    for seed in 0..SEEDS_FOR_A_BUG {
        if let [first, ..] = run(seed, Some(bug), setting).violations[..] {
            println!("{bug} is found after {} seeds: {first}", seed + 1);
            run_sound(seed, setting);
            return;
        }
    }
    panic!("{bug} is not found within {SEEDS_FOR_A_BUG} seeds");
}

macro_rules! each_is_found {
    ($($name:ident: $bug:expr,)*) => {
        $(
            #[test]
            fn $name() {
                is_found($bug, &Setting::default());
            }
        )*

        #[test]
        fn every_bug_is_looked_for() {
            let looked_for = [$($bug),*];
            assert!(Bug::ALL.iter().all(|bug| looked_for.contains(bug)));
        }
    };
}

each_is_found! {
    sending_without_a_path_proof_is_found: Bug::Gateway(PlantedBug::NoPathProof),
    sending_again_without_a_new_proof_is_found: Bug::Gateway(PlantedBug::SentAgainWithoutProof),
    an_error_before_it_is_settled_is_found: Bug::Gateway(PlantedBug::ErrorBeforeSettled),
    an_abort_before_it_is_settled_is_found: Bug::Gateway(PlantedBug::AbortBeforeSettled),
    forgetting_what_a_closed_session_sent_is_found: Bug::Gateway(PlantedBug::DroppedAndForgotten),
    settling_without_a_margin_for_clocks_is_found: Bug::Gateway(PlantedBug::SettledWithoutMargin),
    settling_by_the_refusal_of_the_last_send_is_found: Bug::Gateway(PlantedBug::SettledByLastRefusal),
    sending_again_what_was_given_up_is_found: Bug::Gateway(PlantedBug::GivenUpSentAgain),
    checking_the_proof_before_the_stamp_is_found: Bug::ProofBeforeStamp,
    taking_the_time_of_statuses_after_they_were_written_is_found: Bug::StatusTimeAfterWrite,
    taking_the_number_of_an_r2t_for_a_proof_is_found: Bug::ShownNumberProves,
    reading_the_clock_before_the_socket_is_found: Bug::ClockBeforeSocket,
    a_login_before_the_old_session_is_settled_is_found: Bug::LoginBeforeSettled,
    a_logout_before_it_is_settled_is_found: Bug::LogoutBeforeSettled,
    a_restarted_gateway_that_listens_at_once_is_found: Bug::RestartListensAtOnce,
    a_refused_command_that_loses_its_turn_is_found: Bug::RefusedLosesTurn,
    a_stamp_that_is_checked_on_arrival_is_found: Bug::AgeAtArrival,
    a_primary_that_forgets_what_was_done_is_found: Bug::NoDedupeAtHandover,
    executing_what_was_trimmed_is_found: Bug::TrimmedExecuted,
    sending_again_what_may_not_be_sent_any_more_is_found: Bug::Gateway(PlantedBug::NotJudgedAgain),
    sending_again_what_was_aborted_before_its_fence_was_old_is_found: Bug::Gateway(PlantedBug::GivenUpJudgedToStand),
    settling_by_the_refusal_of_one_store_is_found: Bug::Gateway(PlantedBug::SettledByFenceRefusal),
    answering_a_reset_before_stores_know_of_it_is_found: Bug::AnsweredBeforeStoresKnow,
    settling_by_the_record_of_a_reset_is_found: Bug::SettledByTheRecord,
    a_fence_that_is_taken_when_a_command_is_sent_is_found: Bug::FenceAtSending,
    a_store_that_takes_what_was_given_up_is_found: Bug::FenceNotChecked,
    a_fence_that_is_checked_on_arrival_is_found: Bug::FenceAtArrival,
    a_command_that_loses_its_turn_by_its_fence_is_found: Bug::FencedLosesTurn,
    a_command_that_loses_its_turn_by_a_snapshot_is_found: Bug::OldLayoutLosesTurn,
    a_store_that_writes_to_what_is_frozen_is_found: Bug::LayoutNotChecked,
}

/// In four parts, which run at the same time.
fn are_found_over_clusters(part: usize) {
    for bug in Bug::with_cluster().into_iter().skip(part).step_by(4) {
        is_found(bug, &over_cluster());
    }
}

#[test]
fn what_breaks_a_rule_over_a_cluster_is_found_1() {
    are_found_over_clusters(0);
}

#[test]
fn what_breaks_a_rule_over_a_cluster_is_found_2() {
    are_found_over_clusters(1);
}

#[test]
fn what_breaks_a_rule_over_a_cluster_is_found_3() {
    are_found_over_clusters(2);
}

#[test]
fn what_breaks_a_rule_over_a_cluster_is_found_4() {
    are_found_over_clusters(3);
}
