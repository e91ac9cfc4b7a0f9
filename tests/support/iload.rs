//! The load generator of `benches/load`, compiled once per target directory.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::needs::Need;
use super::script::Script;

/// What compiling it needs.
pub(crate) const NEEDS: &[Need] = &[Need::Program("cc")];

/// Returns the path of the compiled load generator.
///
/// # Panics
/// If it does not compile without warnings.
pub(crate) fn path() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("iload");
    fs::create_dir_all(&directory).expect("the target directory is writable");
    let lock = File::create(directory.join("lock")).expect("the target directory is writable");
    flock(&lock, FlockOperation::LockExclusive).expect("a file can be locked");

    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/load/iload.c");
    let program = directory.join("iload");
    let wanted = fs::read(&source).expect("the source is there");
    let stamp = directory.join("built-from");
    if fs::read(&stamp).ok().as_ref() != Some(&wanted) {
        Script::program("cc")
            .args(["-O2", "-msse4.2", "-pthread", "-Wall", "-Wextra", "-Werror", "-o"])
            .args([&program, &source])
            .args(["-lm"])
            .limit(Duration::from_secs(120))
            .run();
        fs::write(&stamp, wanted).expect("the target directory is writable");
    }
    program
}
