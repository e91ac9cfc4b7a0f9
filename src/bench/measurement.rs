//! What is known of one load on one target: a line of JSON each.

use std::fmt;

use serde::Serialize;

use super::conditions::Conditions;
use super::histogram::Latency;
use super::initiator::{LogicalUnit, Negotiated};
use super::load::Load;

/// One load on one target, once. Its fields are those of the JSON.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Measurement {
    pub(super) target: String,
    #[serde(flatten)]
    pub(super) load: Load,
    /// From 1; 0 is the pass that verifies.
    pub(super) round: u32,
    /// All data was checked, which costs the initiator CPU time: not for the table.
    pub(super) verify: bool,
    /// Of the measured time.
    pub(super) seconds: f64,
    pub(super) ios: u64,
    pub(super) iops: f64,
    pub(super) mb_per_s: f64,
    pub(super) latency_us: Latency,
    /// The longest time between two I/Os of a connection that ended.
    pub(super) longest_gap_ms: f64,
    #[serde(flatten)]
    pub(super) costs: Costs,
    /// I/Os that failed.
    pub(super) errors: u64,
    /// Reads whose data was checked, and was wrong.
    pub(super) verified: u64,
    pub(super) wrong: u64,
    /// Units that were read again after the load.
    pub(super) read_back: u64,
    /// Unit attentions: commands that were sent again.
    pub(super) attentions: u64,
    /// A connection broke.
    pub(super) lost: bool,
    /// The target asked us to log out.
    pub(super) logout_requested: bool,
    /// Why this measurement is not to be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    pub(super) portal: String,
    pub(super) iqn: String,
    pub(super) lun: u16,
    #[serde(flatten)]
    pub(super) place: Place,
    #[serde(flatten)]
    pub(super) conditions: Conditions,
}

/// What I/Os cost. CPU times are in microseconds for each I/O, and unknown if no processes are named.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Costs {
    /// CPU time of the target's processes in the measured time, for each I/O in it.
    pub(super) cpu_us_per_io: Option<f64>,
    /// CPU time of the target's processes from the first I/O on until they are idle again, after a flush, for each I/O of all:
    /// with what writing to the end costs. Of a load that only reads, the same as `cpu_us_per_io`.
    pub(super) cpu_us_per_io_through_drain: Option<f64>,
    /// How long they worked on after the last I/O.
    pub(super) drain_seconds: f64,
    /// They were idle then; otherwise they still worked when we waited no longer.
    pub(super) drained: bool,
    pub(super) initiator_cpu_us_per_io: f64,
}

/// What is at the other end, and what was agreed with it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Place {
    #[serde(flatten)]
    pub(super) unit: LogicalUnit,
    /// How much of the LUN is used.
    pub(super) span_bytes: u64,
    #[serde(flatten)]
    pub(super) negotiated: Negotiated,
}

impl Measurement {
    /// What went wrong, and where.
    pub(crate) fn failure(&self) -> Option<String> {
        let Self { target, load, error, .. } = self;
        error.as_ref().map(|error| format!("{target}: {}: {error}", load.name))
    }

    /// Why its CPU time is not all that it should be.
    pub(crate) fn doubt(&self) -> Option<String> {
        let Self { target, load, costs: Costs { drained, .. }, .. } = self;
        let doubt =
            || format!("{target}: {}: its processes did not become idle: do others use it?", load.name);
        (!drained).then(doubt)
    }
}

/// A measurement that could not begin.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Failure {
    pub(super) target: String,
    pub(super) load: String,
    pub(super) round: u32,
    pub(super) verify: bool,
    pub(super) error: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.target, self.load, self.error)
    }
}
