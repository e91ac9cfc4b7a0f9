//! The load generator (`huntaway bench`) as a checker: it verifies a load on one LUN, and what it reports.

use std::path::Path;

use serde::Deserialize;

use super::demo::Demo;
use super::script::{Outcome, Script};

/// A load that lasts until somebody ends it.
pub(crate) const ENDLESS: f64 = 3600.0;

/// What one run reports (a part of it).
#[derive(Debug, Deserialize)]
pub(crate) struct Report {
    /// I/Os in the measured time.
    pub(crate) ios: u64,
    /// I/Os that failed.
    pub(crate) errors: u64,
    /// Reads whose data was checked.
    pub(crate) verified: u64,
    /// Reads whose data was not what was written.
    pub(crate) wrong: u64,
    /// Places that were read again at the end.
    pub(crate) read_back: u64,
    /// Unit attentions: commands that were sent again.
    pub(crate) attentions: u64,
    /// Header digests were in use.
    pub(crate) header_digest: bool,
    /// Data digests were in use.
    pub(crate) data_digest: bool,
    /// A connection broke.
    pub(crate) lost: bool,
    /// The target asked for a logout.
    pub(crate) logout_requested: bool,
    /// What went wrong.
    pub(crate) error: Option<String>,
}

/// So many seconds of a load, such as `mode=randrw,depth=4`, on a LUN of a demo.
pub(crate) fn on(demo: &Demo, lun: u16, load: &str, seconds: f64) -> Script {
    at(demo.portal(), demo.target(), lun, load, seconds)
}

/// So many seconds of a load on a LUN of any target.
pub(crate) fn at(portal: &str, target: &str, lun: u16, load: &str, seconds: f64) -> Script {
    Script::program(env!("CARGO_BIN_EXE_huntaway")).args(arguments(portal, target, lun, load, seconds))
}

/// The arguments that make `huntaway` do that.
pub(crate) fn arguments(portal: &str, target: &str, lun: u16, load: &str, seconds: f64) -> Vec<String> {
    let target = format!("portal={portal},iqn={target},lun={lun}");
    let seconds = seconds.to_string();
    let options = ["--load", load, "--seconds", &seconds, "--warm", "0", "--rounds", "0", "--verify"];
    let all = ["bench", "--destroy-data", "--output", "json", "--target", &target].into_iter().chain(options);
    all.map(str::to_owned).collect()
}

/// Has it go on where an earlier run with the same journal stopped.
pub(crate) fn journaled(script: Script, journal: &Path) -> Script {
    script.args(["--journal"]).args([journal])
}

/// Runs it to its end and returns what it reports.
///
/// # Panics
/// If it reports an I/O error or wrong data, or nothing.
pub(crate) fn run(script: Script) -> Report {
    report(&script.run())
}

/// Runs it to its end, however it ends: its exit status, and what it printed.
///
/// # Panics
/// If it does not end in time, or by a signal.
pub(crate) fn finish(script: Script) -> (i32, String) {
    let Outcome { status, output } = script.finish();
    let code = status.and_then(|status| status.code());
    (code.unwrap_or_else(|| panic!("huntaway bench: {status:?}\n{output}")), output)
}

/// Reads the report among what it printed.
///
/// # Panics
/// If there is none.
pub(crate) fn report(output: &str) -> Report {
    let line = output.lines().find(|line| line.starts_with('{'));
    line.and_then(|line| serde_json::from_str(line).ok()).unwrap_or_else(|| panic!("no report in:\n{output}"))
}
