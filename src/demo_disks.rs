//! The demo's disks: named after their LUNs, found again by them, made by what the command line says.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::path::Path;

use huntaway_gateway::{MAX_LUNS, UnitConfig};
use huntaway_ledger::{Name, State, Vdi, VdiOptions};
use huntaway_store::DiskDirectory;
use prometheus::Registry;

use crate::disk_option::{DiskOption, Mismatch};
use crate::node::{Storage, StorageOptions, VdiError, check_empty};

/// What the demo calls its cluster, its node and its zone.
const NAME: &str = "demo";

/// What comes before the LUN in the name of a demo's disk.
pub(crate) const NAME_PREFIX: &str = "demo-";

/// A disk that is ready to be served.
pub(crate) struct Disk {
    /// Its LUN.
    pub(crate) lun: u16,
    /// What the ledger says of it.
    pub(crate) vdi: Vdi,
    /// What was asked for.
    pub(crate) option: DiskOption,
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lun, vdi, option } = self;
        let kind = if vdi.thin { "thin" } else { "thick" };
        write!(f, "LUN {lun}: {} MiB, {kind}, blocks of {} bytes", vdi.size_bytes >> 20, vdi.block_size)?;
        let access = if option.is_read_only() { "read-only" } else { "read-write" };
        let cache = if option.has_write_cache() { "write-back" } else { "write-through" };
        write!(f, ", {access}, {cache}")
    }
}

/// What was asked for cannot be had. Nothing was made.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unsuitable {
    /// More disks than a target can have.
    #[error("{0} disks are asked for, but the target has at most {MAX_LUNS} LUNs: give fewer --lun options")]
    TooMany(usize),
    /// A disk is there already, and is another one.
    #[error("LUN {lun}: {mismatch}")]
    Mismatch {
        /// Its LUN.
        lun: u16,
        /// How it differs.
        mismatch: Mismatch,
    },
    /// The new thick disks do not fit.
    #[error(
        "the new thick disks take {} MiB of space, but {} MiB are free: free space, or write thin=true or \
         smaller sizes", needed_bytes.div_ceil(1 << 20), free_bytes >> 20
    )]
    NoSpace {
        /// Sizes of the new thick disks.
        needed_bytes: u64,
        /// What the file system has.
        free_bytes: u64,
    },
}

/// Opens the directory, or makes it, and reads the store's log. The store keeps at most so many objects open.
///
/// # Errors
/// Whatever stands in the way, in words that say what to do.
pub(crate) fn open(dir: &Path, open_objects: usize, registry: &Registry) -> Result<Storage, Box<dyn Error>> {
    prepare(dir)?;
    let name = Name::new(NAME)?;
    let options = StorageOptions {
        state: dir.to_owned(),
        disks: vec![DiskDirectory { path: dir.to_owned(), weight: None }],
        cluster: name.clone(),
        node: name.clone(),
        zone: name,
        open_objects,
        make: true,
    };
    Storage::open(options, registry)
}

/// Finds the disks of the directory by their LUNs, and makes those that are asked for and not there.
/// Nothing asked for: whatever there is, or one disk of the default kind. Everything is checked before the first
/// disk is made. Dropped before it is done, it leaves disks that the next start goes on with.
///
/// # Errors
/// Too many disks, or one that differs from what is asked for, or does not fit.
pub(crate) async fn disks(storage: &Storage, options: &[DiskOption]) -> Result<Vec<Disk>, Box<dyn Error>> {
    check_count(options.len())?;
    storage.settle_all(|_| None).await;
    let existing = existing(&storage.state());
    let wanted = wanted(options, &existing);
    check(&wanted, &existing, storage.free_bytes())?;
    let mut disks = Vec::new();
    for (lun, option) in wanted {
        let made = match existing.get(&lun) {
            Some(vdi) => provision(storage, vdi).await,
            None => {
                let name = Name::new(format!("{NAME_PREFIX}{lun}"))?;
                storage.create(&name, option.for_new_disk()).await
            }
        };
        let vdi = made.map_err(|error| format!("LUN {lun}: {error}"))?;
        disks.push(Disk { lun, vdi, option });
    }
    Ok(disks)
}

/// Sets a thick disk's space aside, unless that was done before. One that does not fit is removed again: the next start
/// may ask for a smaller one.
async fn provision(storage: &Storage, vdi: &Vdi) -> Result<Vdi, VdiError> {
    match storage.provision(vdi).await {
        Ok(provisioned) => Ok(provisioned),
        Err(error) => {
            storage.delete_after(vdi, &error).await;
            Err(error)
        }
    }
}

/// How a disk is served.
pub(crate) fn unit(storage: &Storage, disk: &Disk) -> UnitConfig {
    let Disk { lun, vdi, option } = disk;
    storage.unit(*lun, vdi, option.is_read_only(), option.has_write_cache())
}

/// The disks that there are, by their LUNs.
pub(crate) fn existing(state: &State) -> BTreeMap<u16, Vdi> {
    let numbered = |vdi: &Vdi| {
        let lun = vdi.name.as_str().strip_prefix(NAME_PREFIX)?.parse().ok()?;
        Some((lun, vdi.clone()))
    };
    state.vdis().filter_map(numbered).collect()
}

/// What is asked for; if nothing is, whatever there is, or one disk of the default kind.
pub(crate) fn wanted(options: &[DiskOption], existing: &BTreeMap<u16, Vdi>) -> Vec<(u16, DiskOption)> {
    match options {
        [] if existing.is_empty() => vec![(0, DiskOption::default())],
        [] => existing.keys().map(|lun| (*lun, DiskOption::default())).collect(),
        options => (0..).zip(options.iter().cloned()).collect(),
    }
}

/// Whether a target can have that many disks.
///
/// # Errors
/// [`Unsuitable::TooMany`].
pub(crate) fn check_count(disks: usize) -> Result<(), Unsuitable> {
    if disks > MAX_LUNS.into() { Err(Unsuitable::TooMany(disks)) } else { Ok(()) }
}

/// Whether all wanted disks can be had: those that exist as they are, and those that do not as new ones.
///
/// # Errors
/// [`Unsuitable`].
pub(crate) fn check(
    wanted: &[(u16, DiskOption)],
    existing: &BTreeMap<u16, Vdi>,
    free_bytes: u64,
) -> Result<(), Unsuitable> {
    let mut needed_bytes = 0_u64;
    for (lun, option) in wanted {
        match existing.get(lun) {
            Some(vdi) => option
                .check_existing(&options_of(vdi))
                .map_err(|mismatch| Unsuitable::Mismatch { lun: *lun, mismatch })?,
            None => {
                let new = option.for_new_disk();
                needed_bytes = needed_bytes.saturating_add(if new.thin { 0 } else { new.size_bytes });
            }
        }
    }
    if needed_bytes > free_bytes { Err(Unsuitable::NoSpace { needed_bytes, free_bytes }) } else { Ok(()) }
}

/// Makes the directory if it does not exist; refuses one that holds something but no ledger, before anything is put
/// there. It may be a file system of its own.
fn prepare(dir: &Path) -> Result<(), Box<dyn Error>> {
    let place = dir.display();
    if dir.exists() && !dir.is_dir() {
        return Err(format!("{place} is not a directory: give another --dir").into());
    }
    std::fs::create_dir_all(dir).map_err(|error| format!("cannot make {place}: {error}"))?;
    if dir.join("epoch").exists() {
        return Ok(());
    }
    Ok(check_empty(dir).map_err(|reason| format!("{reason}, or a new --dir"))?)
}

/// What a disk was made with, and has grown to.
pub(crate) fn options_of(vdi: &Vdi) -> VdiOptions {
    VdiOptions {
        size_bytes: vdi.size_bytes,
        block_size: vdi.block_size,
        physical_block_size: vdi.physical_block_size,
        thin: vdi.thin,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option(text: &str) -> DiskOption {
        text.parse().unwrap()
    }

    #[test]
    fn a_target_has_at_most_256_disks() {
        assert_eq!(check_count(256), Ok(()));
        let error = check_count(257).unwrap_err().to_string();
        assert!(error.contains("257") && error.contains("256"), "{error}");
    }

    #[test]
    fn new_thick_disks_must_fit_together() {
        let thick = || option("size=64MiB,thin=false");
        let wanted = [(0, thick()), (1, option("size=1TiB")), (2, thick())];
        let none = BTreeMap::new();
        assert_eq!(check(&wanted, &none, 128 << 20), Ok(()));
        let error = Unsuitable::NoSpace { needed_bytes: 128 << 20, free_bytes: 127 << 20 };
        assert_eq!(check(&wanted, &none, 127 << 20), Err(error));
    }

    #[tokio::test]
    async fn nothing_is_made_when_one_disk_is_another_one() {
        let scratch = tempfile::tempdir().unwrap();
        let storage = open(&scratch.path().join("data"), 64, &Registry::new()).unwrap();
        let first = disks(&storage, &[option("size=32MiB,cache=writethrough,read_only=true")]).await.unwrap();
        assert_eq!(
            first[0].to_string(),
            "LUN 0: 32 MiB, thin, blocks of 512 bytes, read-only, write-through"
        );
        let error =
            disks(&storage, &[option("size=64MiB"), option("size=32MiB")]).await.map(|_| ()).unwrap_err();
        assert!(error.to_string().starts_with("LUN 0: size is 67108864"), "{error}");
        let error = disks(&storage, &vec![DiskOption::default(); 257]).await.map(|_| ()).unwrap_err();
        assert!(error.to_string().starts_with("257 disks"), "{error}");
        let found: Vec<_> = disks(&storage, &[]).await.unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(found, ["LUN 0: 32 MiB, thin, blocks of 512 bytes, read-write, write-back"]);
        storage.close().unwrap();
    }
}
