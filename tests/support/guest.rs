//! The small Linux guest of `tests/clients/guest-build`, and the jobs it does; built once per target directory.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::needs::Need;
use super::script::Script;

/// What building and running the guest needs.
pub(crate) const NEEDS: &[Need] = &[
    Need::Program("qemu-system-x86_64"),
    Need::Program("iscsid"),
    Need::Program("busybox"),
    Need::Program("cpio"),
    Need::Program("socat"),
    Need::Program("mkfs.xfs"),
    Need::Program("sg_inq"),
    Need::Program("udevadm"),
    Need::Program("apt-get"),
];

/// The guest's directory, with its kernel and its initramfs; they are built if the scripts that do so have changed since, or
/// were never run.
///
/// # Panics
/// If they cannot be built.
pub(crate) fn directory() -> PathBuf {
    directory_with(&[])
}

/// The same, with the archives of these parts (`tests/clients/guest-part` names them).
///
/// # Panics
/// If they cannot be built.
pub(crate) fn directory_with(parts: &[&str]) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest");
    fs::create_dir_all(&directory).expect("the target directory is writable");
    let lock = File::create(directory.join("lock")).expect("the target directory is writable");
    flock(&lock, FlockOperation::LockExclusive).expect("a file can be locked");

    build(&directory, "guest-build", None);
    for part in parts {
        build(&directory, "guest-part", Some(part));
    }
    directory
}

/// Runs a script of `tests/clients` on the guest's directory, unless it was already run as it is now.
fn build(directory: &Path, script: &str, part: Option<&str>) {
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    let sources =
        [script, "guest-files"].map(|name| fs::read(clients.join(name)).expect("the script is there"));
    let wanted = sources.concat();
    let stamp = directory.join(format!("{}-built-by", part.unwrap_or("base")));
    if fs::read(&stamp).ok().as_ref() != Some(&wanted) {
        let arguments = [Some(directory.as_os_str()), part.map(OsStr::new)];
        let script = Script::program(clients.join(script)).args(arguments.into_iter().flatten());
        script.limit(Duration::from_secs(180)).run();
        fs::write(&stamp, wanted).expect("the target directory is writable");
    }
}

/// Runs a job of `tests/clients/jobs` in the guest, which has these parts; further settings are variables of its environment
/// (`tests/clients/guest-run` lists them). The guest's own time limit is a little below that of the script.
pub(crate) fn job(name: &str, parts: &[&str]) -> Script {
    let job = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/jobs").join(name);
    Script::new("clients/guest-run")
        .args([directory_with(parts), job])
        .env("PARTS", parts.join(" "))
        .env("LIMIT", "240")
        .limit(Duration::from_secs(260))
}
