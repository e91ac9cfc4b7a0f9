//! Looking at a data directory before a store in it is opened: whose disk it is, or why there is none.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{DiskDirectory, DisksError};
use crate::disk::{Disk, FileDisk};
use crate::error::OpenError;
use crate::options::StoreOptions;
use crate::recover::check_unused;
use crate::service::lock_directory;
use crate::superblock::{self, Superblock};

/// What was found in a directory.
pub(super) struct Probed<'a> {
    pub(super) given: &'a DiskDirectory,
    pub(super) found: Found,
}

/// What a directory holds.
pub(super) enum Found {
    /// A store, kept from other processes by the lock.
    Store { lock: File, superblock: Superblock },
    /// Nothing, so a store may be made; kept from other processes by the lock.
    Nothing { lock: File },
    /// Nothing that can be used.
    Unusable(OpenError),
}

impl Probed<'_> {
    pub(super) fn name(&self) -> String {
        self.given.path.display().to_string()
    }

    pub(super) fn superblock(&self) -> Option<&Superblock> {
        match &self.found {
            Found::Store { superblock, .. } => Some(superblock),
            Found::Nothing { .. } | Found::Unusable(_) => None,
        }
    }
}

/// Looks at a directory in which a store may be made: makes the directory if need be, and locks it.
///
/// # Errors
/// It can be used neither as it is nor for a new store.
pub(super) fn probe_for_new<'a>(
    given: &'a DiskDirectory,
    options: &StoreOptions,
) -> Result<Probed<'a>, OpenError> {
    let name = given.path.display().to_string();
    fs::create_dir_all(&given.path).map_err(OpenError::io("create", &name))?;
    let disk = FileDisk::new(&given.path).map_err(OpenError::io("open", &name))?;
    let superblock = Superblock::load(&disk)?;
    match &superblock {
        Some(superblock) => check_owner(superblock, options)?,
        None => check_unused(&disk)?,
    }
    let lock = lock_directory(&given.path)?;
    // Another process may have made it, or gone on with it, before we had the lock.
    let found = match Superblock::load(&disk)? {
        Some(superblock) => Found::Store { lock, superblock },
        None => Found::Nothing { lock },
    };
    Ok(Probed { given, found })
}

/// Looks at a directory that should hold a store. Leaves nothing in one that does not: it may be a mount point whose disk
/// is not there.
///
/// # Errors
/// What is no matter of one disk: another process uses it, it is another node's, or of another format, or the process is
/// short of something.
pub(super) fn probe_existing<'a>(
    given: &'a DiskDirectory,
    options: &StoreOptions,
) -> Result<Probed<'a>, OpenError> {
    let found = match find(&given.path, options) {
        Err(
            error @ (OpenError::InUse { .. }
            | OpenError::OtherNode { .. }
            | OpenError::OtherCluster { .. }
            | OpenError::Format { .. }),
        ) => return Err(error),
        Err(error) if error.is_shortage() => return Err(error),
        Err(error) => Found::Unusable(error),
        Ok((lock, superblock)) => Found::Store { lock, superblock },
    };
    Ok(Probed { given, found })
}

fn find(path: &Path, options: &StoreOptions) -> Result<(File, Superblock), OpenError> {
    let name = path.display().to_string();
    let disk = match FileDisk::new(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(DisksError::NotMounted.into());
        }
        disk => disk.map_err(OpenError::io("open", &name))?,
    };
    let names = disk.list("").map_err(OpenError::io("list", &name))?;
    if !names.iter().any(|name| name == superblock::PATH) {
        check_unused(&disk)?;
        return Err(DisksError::NotMounted.into());
    }
    let lock = lock_directory(path)?;
    let superblock = Superblock::load(&disk)?.ok_or(DisksError::NotMounted)?;
    check_owner(&superblock, options)?;
    // All stores of a table that is complete have been made to the end.
    if superblock.is_complete() { Ok((lock, superblock)) } else { Err(OpenError::DamagedSuperblock) }
}

/// Whether it is this node's.
///
/// # Errors
/// It is another cluster's or node's.
pub(super) fn check_owner(superblock: &Superblock, options: &StoreOptions) -> Result<(), OpenError> {
    if superblock.cluster != options.cluster {
        return Err(OpenError::OtherCluster { found: superblock.cluster, expected: options.cluster });
    }
    if superblock.node != options.node {
        return Err(OpenError::OtherNode { found: superblock.node, expected: options.node });
    }
    Ok(())
}

/// Whether no two of `probed` are one disk.
///
/// # Errors
/// One directory is a copy of another.
pub(super) fn check_distinct(probed: &[Probed<'_>]) -> Result<(), DisksError> {
    for (place, second) in probed.iter().enumerate() {
        let Some(superblock) = second.superblock() else { continue };
        let id = superblock.disk;
        let holds_it = |first: &&Probed<'_>| first.superblock().is_some_and(|found| found.disk == id);
        if let Some(first) = probed[..place].iter().find(holds_it) {
            return Err(DisksError::Copied { first: first.name(), second: second.name(), id });
        }
    }
    Ok(())
}

/// Whether no directory is given twice. To be asked before any is locked, for the second lock would be refused.
///
/// # Errors
/// One is.
pub(super) fn check_paths(given: &[DiskDirectory]) -> Result<(), DisksError> {
    for (place, second) in given.iter().enumerate() {
        for first in &given[..place] {
            let same = match (identity(&first.path), identity(&second.path)) {
                (Some(first), Some(second)) => first == second,
                _ => first.path == second.path,
            };
            if same {
                let (first, second) = (first.path.display().to_string(), second.path.display().to_string());
                return Err(DisksError::SameDirectory { first, second });
            }
        }
    }
    Ok(())
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}
