//! What can be asked for on the command line.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};

use super::{Bug, Outcome, Setting, replay, run};

/// What to run.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs many seeds, with a planted bug or without. Exit status 1 if a promise was not kept.
    Run {
        /// Which seeds.
        #[command(flatten)]
        seeds: Seeds,
        /// Under which conditions.
        #[command(flatten)]
        conditions: Conditions,
    },
    /// Runs one seed and tells all that happens. Exit status 1 if a promise was not kept.
    Replay {
        /// The seed.
        seed: u64,
        /// Under which conditions.
        #[command(flatten)]
        conditions: Conditions,
    },
    /// Plants each bug in turn, and tells after how many seeds it is found. Exit status 1 if one is not.
    Mutants {
        /// Which seeds.
        #[command(flatten)]
        seeds: Seeds,
        /// Under which conditions.
        #[command(flatten)]
        conditions: Conditions,
    },
}

/// Which seeds.
#[derive(Debug, Clone, Copy, Args)]
pub struct Seeds {
    /// How many seeds at most.
    #[arg(long, default_value_t = 5000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
}

/// Under which conditions.
#[derive(Debug, Clone, Args)]
pub struct Conditions {
    /// A bug to plant, or to look at alone, by its name.
    #[arg(long, value_parser = |name: &str| Bug::named(name).ok_or("there is no such bug"))]
    bug: Option<Bug>,
    /// How long initiators wait for a lost path.
    #[arg(long, default_value_t = 5000)]
    replacement_timeout_ms: u64,
    /// The clocks and habits that come closest to the bound on that.
    #[arg(long)]
    tight: bool,
    /// The stores are a cluster that replicates, with all its faults.
    #[arg(long)]
    cluster: bool,
}

impl Conditions {
    fn setting(&self) -> Setting {
        let replacement_timeout = Duration::from_millis(self.replacement_timeout_ms);
        Setting { replacement_timeout, is_tight: self.tight, has_cluster: self.cluster }
    }
}

impl Seeds {
    fn range(self) -> std::ops::Range<u64> {
        self.from..self.from.saturating_add(self.seeds)
    }
}

impl Command {
    /// Does it, and tells of it on standard output.
    pub fn carry_out(&self) -> ExitCode {
        let told = match self {
            Self::Run { seeds, conditions } => run_seeds(*seeds, conditions),
            Self::Replay { seed, conditions } => replay_seed(*seed, conditions),
            Self::Mutants { seeds, conditions } => run_mutants(*seeds, conditions),
        };
        match told {
            Ok(true) => ExitCode::SUCCESS,
            // Nobody listens any more is no reason to call it good either.
            Ok(false) | Err(_) => ExitCode::FAILURE,
        }
    }
}

fn run_seeds(seeds: Seeds, conditions: &Conditions) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    let (setting, began) = (conditions.setting(), Instant::now());
    let mut all = Outcome::default();
    let mut broken = 0u64;
    for seed in seeds.range() {
        let outcome = run(seed, conditions.bug, &setting);
        if !outcome.is_sound() {
            broken += 1;
            writeln!(out, "seed {seed}: {}", outcome.verdict())?;
        }
        all.add(outcome);
    }
    let rate = seeds.seeds as f64 / began.elapsed().as_secs_f64();
    writeln!(out, "{} seeds ({rate:.0}/s), {broken} not sound\n{all}", seeds.seeds)?;
    Ok(broken == 0)
}

fn replay_seed(seed: u64, conditions: &Conditions) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    let outcome = replay(seed, conditions.bug, &conditions.setting());
    for line in &outcome.trace {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "{}\n{outcome}", outcome.verdict())?;
    Ok(outcome.is_sound())
}

fn run_mutants(seeds: Seeds, conditions: &Conditions) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    let setting = conditions.setting();
    let mut all_found = true;
    writeln!(out, "{:<24} {:>6}  found by", "planted bug", "seeds")?;
    let bugs = match conditions.bug {
        Some(bug) => vec![bug],
        None if conditions.cluster => Bug::with_cluster(),
        None => Bug::ALL.to_vec(),
    };
    for bug in bugs {
        let found = seeds.range().find_map(|seed| {
            let outcome = run(seed, Some(bug), &setting);
            (!outcome.violations.is_empty()).then(|| (seed - seeds.from + 1, outcome.verdict()))
        });
        all_found &= found.is_some();
        let (count, by) = found.map_or(("-".to_owned(), "nothing".to_owned()), |(n, by)| (n.to_string(), by));
        writeln!(out, "{:<24} {count:>6}  {by}", bug.to_string())?;
    }
    Ok(all_found)
}
