//! The small Linux guest of `tests/clients/guest-build`, built once per target directory.

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

/// Returns the directory of the guest's kernel and initramfs; builds them if that script has changed since, or was never run.
///
/// # Panics
/// If they cannot be built.
pub(crate) fn directory() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest");
    fs::create_dir_all(&directory).expect("the target directory is writable");
    let lock = File::create(directory.join("lock")).expect("the target directory is writable");
    flock(&lock, FlockOperation::LockExclusive).expect("a file can be locked");

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/guest-build");
    let wanted = fs::read(&script).expect("the script is there");
    let stamp = directory.join("built-by");
    if fs::read(&stamp).ok().as_ref() != Some(&wanted) {
        Script::program(&script).args([&directory]).limit(Duration::from_secs(180)).run();
        fs::write(&stamp, wanted).expect("the target directory is writable");
    }
    directory
}
