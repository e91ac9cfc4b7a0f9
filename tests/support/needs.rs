//! What a test needs of the machine. Without it the test says so aloud and passes, unless `HUNTAWAY_REQUIRE_TOOLS=1` asks
//! for every test to run: then it fails.

use std::env;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

/// Something a test needs of the machine.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Need {
    /// A program on the search path (or in `/usr/sbin`, `/sbin`).
    Program(&'static str),
    /// A file, for what no program stands for.
    File(&'static str),
    /// The right to capture packets, or to make mount namespaces.
    Root,
    /// QEMU with its iSCSI driver, of one version with `qemu-img`.
    QemuIscsi,
    /// `cargo deb`.
    CargoDeb,
}

impl Need {
    fn missing(self) -> Option<String> {
        match self {
            Self::Program(name) => {
                (!on_search_path(name)).then(|| format!("the program {name} is not installed"))
            }
            Self::File(path) => (!Path::new(path).exists()).then(|| format!("the file {path} is not there")),
            Self::Root => (!rustix::process::geteuid().is_root()).then(|| "needs to be root".to_owned()),
            Self::QemuIscsi => {
                (!qemu_speaks_iscsi()).then(|| "qemu-img has no iSCSI driver of its version".to_owned())
            }
            Self::CargoDeb => (!has_cargo_deb()).then(|| "cargo-deb is not installed".to_owned()),
        }
    }
}

fn on_search_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(Into::into);
    env::split_paths(&path).chain(system).any(|directory| directory.join(program).is_file())
}

/// A portal that cannot exist is refused by the driver itself; without the driver the protocol is unknown.
fn qemu_speaks_iscsi() -> bool {
    let Ok(output) =
        Command::new("qemu-img").args(["info", "iscsi://127.0.0.1:1/x/0"]).stdin(Stdio::null()).output()
    else {
        return false;
    };
    !String::from_utf8_lossy(&output.stderr).contains("Unknown protocol")
}

fn has_cargo_deb() -> bool {
    let output = Command::new(env!("CARGO")).args(["deb", "--version"]).stdin(Stdio::null()).output();
    output.is_ok_and(|output| output.status.success())
}

/// True if the machine has all of `needs`. Otherwise the line `SKIPPED: test: reason` goes to stderr, past the capture of
/// the test harness, and the test should return.
///
/// # Panics
/// Instead of returning false, if `HUNTAWAY_REQUIRE_TOOLS` is 1.
pub(crate) fn available(needs: &[Need]) -> bool {
    let reasons: Vec<String> = needs.iter().filter_map(|need| need.missing()).collect();
    if reasons.is_empty() {
        return true;
    }
    skip(&reasons.join("; "));
    false
}

/// Says aloud that the test cannot run here.
///
/// # Panics
/// If `HUNTAWAY_REQUIRE_TOOLS` is 1.
pub(crate) fn skip(reason: &str) {
    let test = test_name();
    assert!(!tools_are_required(), "{test} must run (HUNTAWAY_REQUIRE_TOOLS=1): {reason}");
    let line = format!("SKIPPED: {test}: {reason}\n");
    // `eprintln!` would be captured by the test harness
    io::stderr().write_all(line.as_bytes()).expect("stderr can be written");
}

fn tools_are_required() -> bool {
    env::var("HUNTAWAY_REQUIRE_TOOLS").is_ok_and(|value| value == "1")
}

/// The test harness names each test's thread after the test.
fn test_name() -> String {
    thread::current().name().unwrap_or("a test").to_owned()
}
