//! The directory a node keeps its ledger in, beside its store's files.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::error::OpenError;

/// Names that show that a store's data is there, or a node's table of disks (`store/FORMAT.md`).
const STORE_NAMES: [&str; 4] = ["superblock", "objects", "wal", "disks"];

/// `dir/epoch`, where the ledger is.
pub(super) fn epoch(dir: &Path) -> PathBuf {
    dir.join("epoch")
}

/// Makes `dir/epoch`, and what is missing above it, so that it survives a power loss.
pub(super) fn make(dir: &Path) -> Result<(), OpenError> {
    make_durably(&epoch(dir))
}

fn make_durably(path: &Path) -> Result<(), OpenError> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    make_durably(parent)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(OpenError::io("make", path)(error));
        }
        _ => {}
    }
    sync(parent).map_err(OpenError::io("fsync", parent))
}

/// Puts the names in a directory on stable storage.
pub(super) fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes sure that no store's data would be orphaned by a new ledger in `dir`.
pub(super) fn check_unused(dir: &Path) -> Result<(), OpenError> {
    for name in STORE_NAMES {
        if dir.join(name).try_exists().map_err(OpenError::io("look at", dir))? {
            return Err(OpenError::Missing { dir: dir.into(), found: name.to_owned() });
        }
    }
    Ok(())
}
