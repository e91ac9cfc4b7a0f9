//! Many active gateways, and initiators that fail over between them: does a command that was given up take effect later?
//!
//! What is simulated: initiators with multipath failover, TCP with cuts, silent death and late retransmission, gateways whose
//! threads stall between any two steps, clocks that differ by a tenth, stores as one replicated state with a changing
//! primary. What the gateways rest on is not simulated: it is `huntaway_gateway::fencing` and `order` as they are.
//!
//! The disk may be reset, initiators may lose their registrations (PREEMPT, with AND ABORT or without) or their LUN, and snapshots
//! make requests out of date: all of these are records of a ledger that gateways and stores hear of late.
//!
//! With [`Setting::has_cluster`] the stores are a [`Cluster`](crate::Cluster), initiators read as well, and what they saw is
//! judged block by block. Without, it is not here how the state is replicated, nor reads: they return what the effects say.

mod bug;
mod checker;
mod cluster;
mod command;
mod connection;
mod event;
mod faults;
mod gateway;
mod habits;
mod initiator;
mod ledger;
mod regulating;
mod responding;
mod sending;
mod store;
mod world;

use std::fmt;
use std::time::Duration;

pub use bug::Bug;
pub use checker::Violation;
pub use command::{Command, Conditions, Seeds};
use world::World;

/// What all runs have in common.
#[derive(Debug, Clone)]
pub struct Setting {
    /// How long initiators wait for a lost path before they send its commands on another, by their clocks.
    pub replacement_timeout: Duration,
    /// Clocks and habits are those that come closest to the bound on that.
    pub is_tight: bool,
    /// The stores are a cluster that replicates, not one that hands its state over whole.
    pub has_cluster: bool,
}

impl Default for Setting {
    fn default() -> Self {
        Self { replacement_timeout: Duration::from_secs(5), is_tight: false, has_cluster: false }
    }
}

/// What happened in a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Promises that were not kept, in order.
    pub violations: Vec<Violation>,
    /// PDUs that gateways took for errors of the protocol: there are none.
    pub protocol_errors: u64,
    /// Writes acknowledged.
    pub acknowledged: u64,
    /// Commands sent again.
    pub retries: u64,
    /// Aborts asked for.
    pub aborts: u64,
    /// Logouts asked for.
    pub logouts: u64,
    /// Gateways restarted.
    pub restarts: u64,
    /// Sends that waited for a newer proof.
    pub unproven: u64,
    /// Sends refused.
    pub refusals: u64,
    /// Sends refused since a record had come before them.
    pub out_of_date: u64,
    /// Resets, preemptions and registrations answered.
    pub records: u64,
    /// Requests that ended without a store's answer.
    pub settled: u64,
    /// Longest time from the failure of a path to an effect of what was sent on it, by the fastest clock.
    pub worst: Duration,
    /// What happened, if that was asked for.
    pub trace: Vec<String>,
}

impl Outcome {
    /// Whether every promise was kept.
    pub fn is_sound(&self) -> bool {
        self.violations.is_empty() && self.protocol_errors == 0
    }

    /// What is wrong, in words.
    pub fn verdict(&self) -> String {
        match self.violations.first() {
            Some(violation) => violation.to_string(),
            None if self.protocol_errors > 0 => "a gateway saw an error of the protocol".to_owned(),
            None => "sound".to_owned(),
        }
    }

    /// Adds what happened in another run.
    pub fn add(&mut self, other: Self) {
        self.violations.extend(other.violations);
        self.protocol_errors += other.protocol_errors;
        self.acknowledged += other.acknowledged;
        self.retries += other.retries;
        self.aborts += other.aborts;
        self.logouts += other.logouts;
        self.restarts += other.restarts;
        self.unproven += other.unproven;
        self.refusals += other.refusals;
        self.out_of_date += other.out_of_date;
        self.records += other.records;
        self.settled += other.settled;
        self.worst = self.worst.max(other.worst);
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acknowledged, retries, aborts, logouts, restarts, .. } = self;
        let Self { unproven, refusals, out_of_date, records, settled, worst, .. } = self;
        write!(
            f,
            "{acknowledged} writes acknowledged, {retries} commands sent again, {aborts} aborts, {logouts} logouts, \
             {restarts} restarts, {records} resets and preemptions; {unproven} sends waited for a proof, {refusals} were refused, \
             {out_of_date} of them as out of date, {settled} requests settled unanswered; last effect {:.3} s after its path failed",
            worst.as_secs_f64()
        )
    }
}

/// Runs a seed, with a bug or without.
pub fn run(seed: u64, bug: Option<Bug>, setting: &Setting) -> Outcome {
    World::new(seed, bug, setting, false).run()
}

/// Runs a seed and tells what happens.
pub fn replay(seed: u64, bug: Option<Bug>, setting: &Setting) -> Outcome {
    World::new(seed, bug, setting, true).run()
}
