//! The load generator of `benches/load`, compiled once per target directory, and what it reports.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use serde::Deserialize;

use super::demo::Demo;
use super::needs::Need;
use super::script::{Outcome, Script};

/// What compiling it needs.
pub(crate) const NEEDS: &[Need] = &[Need::Program("cc")];

/// Its parts, in `benches/load`.
const SOURCES: [&str; 4] = ["iload.c", "worker.c", "session.c", "journal.c"];
const HEADERS: [&str; 5] = ["worker.h", "session.h", "journal.h", "histogram.h", "crc32c.h"];

/// The connection broke before the load was done: its exit status.
pub(crate) const LOST: i32 = 3;

/// What one run reports (a part of it).
#[derive(Debug, Deserialize)]
pub(crate) struct Report {
    /// I/Os in the measured time.
    pub(crate) ios: u64,
    /// I/Os that failed.
    pub(crate) errs: u64,
    /// Reads whose data was checked.
    pub(crate) verified: u64,
    /// Reads whose data was not what was written.
    pub(crate) wrong: u64,
    /// Places that were read again at the end.
    pub(crate) read_back: u64,
    /// Unit attentions: commands that were sent again.
    pub(crate) attentions: u64,
    /// 1 if header digests were in use.
    pub(crate) hd: u8,
    /// 1 if data digests were in use.
    pub(crate) dd: u8,
    /// 1 if the connection broke.
    pub(crate) lost: u8,
    /// 1 if the target asked for a logout.
    pub(crate) logout_requested: u8,
}

/// Compiles it if its sources have changed, and returns its path.
///
/// # Panics
/// If it does not compile without warnings.
pub(crate) fn path() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("iload");
    fs::create_dir_all(&directory).expect("the target directory is writable");
    let lock = File::create(directory.join("lock")).expect("the target directory is writable");
    flock(&lock, FlockOperation::LockExclusive).expect("a file can be locked");

    let source = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/load").join(name);
    let program = directory.join("iload");
    let contents =
        SOURCES.iter().chain(&HEADERS).map(|name| fs::read(source(name)).expect("the source is there"));
    let wanted = contents.collect::<Vec<_>>().concat();
    let stamp = directory.join("built-from");
    if fs::read(&stamp).ok().as_ref() != Some(&wanted) {
        Script::program("cc")
            .args(["-O2", "-msse4.2", "-pthread", "-Wall", "-Wextra", "-Werror", "-o"])
            .args([&program])
            .args(SOURCES.map(source))
            .limit(Duration::from_secs(120))
            .run();
        fs::write(&stamp, wanted).expect("the target directory is writable");
    }
    program
}

/// The load generator on a LUN of a demo, with further options.
pub(crate) fn on(demo: &Demo, lun: u16, options: &str) -> Script {
    at(demo.portal(), demo.target(), lun, options)
}

/// The load generator on a LUN of any target, with further options.
pub(crate) fn at(portal: &str, target: &str, lun: u16, options: &str) -> Script {
    Script::program(path())
        .args(["-p", portal, "-t", target, "-l", &lun.to_string()])
        .args(options.split_whitespace())
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
    (code.unwrap_or_else(|| panic!("iload: {status:?}\n{output}")), output)
}

/// Reads the report among what it printed.
///
/// # Panics
/// If there is none.
pub(crate) fn report(output: &str) -> Report {
    let line = output.lines().find(|line| line.starts_with('{'));
    line.and_then(|line| serde_json::from_str(line).ok()).unwrap_or_else(|| panic!("no report in:\n{output}"))
}
