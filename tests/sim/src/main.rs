//! Runs simulations: many seeds, one seed with all that happens, or every planted bug.

use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};
use huntaway_sim::{Bug, Cluster, Summary, fencing};

#[derive(Debug, Parser)]
#[command(about, version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run clusters that replicate; fails at the first seed that breaks a promise
    Run {
        /// How many seeds
        #[arg(long, default_value_t = 1000)]
        seeds: u64,
        /// The first of them
        #[arg(long, default_value_t = 0)]
        from: u64,
    },
    /// Tell step by step what happens in one such run, with a bug or without
    Replay {
        /// Its seed
        seed: u64,
        /// What is done wrong
        #[arg(value_parser = bug)]
        bug: Option<Bug>,
    },
    /// Look for a seed that finds each planted bug
    Mutants {
        /// How many seeds are tried
        #[arg(long, default_value_t = 5000)]
        seeds: u64,
        /// The first of them
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// The bugs; by default all that are known to be found
        #[arg(value_parser = bug)]
        bugs: Vec<Bug>,
    },
    /// Run many active gateways: does a command that was given up take effect later?
    #[command(subcommand)]
    Fencing(fencing::Command),
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run { seeds, from } => run(from, seeds),
        Command::Replay { seed, bug } => replay(seed, bug),
        Command::Mutants { seeds, from, bugs } => mutants(from, seeds, bugs),
        Command::Fencing(command) => command.carry_out(),
    }
}

fn bug(name: &str) -> Result<Bug, String> {
    Bug::named(name).ok_or_else(|| format!("there is no planted bug named {name}"))
}

fn run(from: u64, seeds: u64) -> ExitCode {
    let started = Instant::now();
    let mut all = Summary::default();
    for seed in from..from.saturating_add(seeds) {
        match Cluster::run(seed, None, false) {
            Ok(summary) => all.add(&summary),
            Err(failure) => {
                println!("seed {seed}: {}", failure.broken);
                println!("to see how: cargo run --release -p huntaway-sim -- replay {seed}");
                return ExitCode::FAILURE;
            }
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("{seeds} seeds from {from}, none broke a promise: {:.0} seeds/s", seeds as f64 / seconds);
    println!(
        "{} events, {} operations answered, {} given up, {} without space, {} faults, {} pepochs, {} promotions, {} sets that lost all power, {} reads of damaged blocks, {} snapshots, {} clones, deletions and returns to a snapshot, {} resets, {} partitions opened by force",
        all.events,
        all.answered,
        all.given_up,
        all.without_space,
        all.faults,
        all.pepochs,
        all.promotions,
        all.collections,
        all.damaged,
        all.snapshots,
        all.branches,
        all.resets,
        all.forced
    );
    ExitCode::SUCCESS
}

fn replay(seed: u64, bug: Option<Bug>) -> ExitCode {
    let (_, broken, trace) = Cluster::run_traced(seed, bug, true);
    trace.iter().for_each(|line| println!("{line}"));
    match broken {
        Some(broken) => {
            println!("broken: {broken}");
            ExitCode::FAILURE
        }
        None => {
            println!("kept every promise");
            ExitCode::SUCCESS
        }
    }
}

fn mutants(from: u64, seeds: u64, bugs: Vec<Bug>) -> ExitCode {
    let bugs = if bugs.is_empty() { Bug::ALL.to_vec() } else { bugs };
    let mut survived = 0;
    for bug in bugs {
        let run = |seed| Cluster::run(seed, Some(bug), false).err().map(|failure| (seed, failure));
        match (from..from.saturating_add(seeds)).filter_map(run).find(|(_, failure)| failure.broken.is_seen())
        {
            Some((seed, failure)) => {
                println!("{:<32} {:>5}  {}", bug.to_string(), seed - from + 1, failure.broken);
            }
            None => {
                survived += 1;
                println!("{:<32} {:>5}  SURVIVED", bug.to_string(), "-");
            }
        }
    }
    if survived == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
