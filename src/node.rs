//! One node in this process: its ledger, its store, and the disks it serves.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use huntaway_gateway::{MAX_LUNS, Router, UnitConfig, Volume};
use huntaway_ledger::{Name, Operation, Vdi, VdiOptions};
use huntaway_membership::Driver;
use huntaway_membership::local::{LocalDriver, LocalOptions};
use huntaway_store::{DiskDirectory, DiskState, NodeStore, StoreOptions};
use huntaway_wire::{Partition, Peer};
use prometheus::Registry;

use crate::disk_option::{DiskOption, Mismatch};

/// The ledger and the store of a directory, open.
pub(crate) struct Node {
    directory: PathBuf,
    ledger: LocalDriver,
    store: Arc<NodeStore>,
    router: Arc<Router>,
}

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

/// The store's disk has failed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the disk that holds {} has failed and was stopped: look at the log above, and at the disk (kernel log, free \
     space); what was acknowledged is in the write-ahead log as far as the disk holds it, and read from there at the \
     next start; `huntaway store check {}` tells what is whole",
    directory.display(), directory.display()
)]
pub(crate) struct StoppedDisk {
    directory: PathBuf,
}

impl Node {
    /// Opens the directory, or makes it, and reads the store's log. The store keeps at most so many objects open.
    ///
    /// # Errors
    /// Whatever stands in the way, in words that say what to do.
    pub(crate) fn open(dir: &Path, open_objects: usize, registry: &Registry) -> Result<Self, Box<dyn Error>> {
        prepare(dir)?;
        let name = Name::new("demo")?;
        let options = LocalOptions { cluster_name: name.clone(), node_name: name.clone(), zone: name };
        let ledger = LocalDriver::open(dir, options)?;
        let state = ledger.state();
        let pepoch = Partition::all().map(|partition| state.pepoch(partition)).max();
        let options = StoreOptions {
            cluster: huntaway_store::ClusterId(ledger.cluster()),
            node: ledger.node(),
            epoch: state.epoch(),
            pepoch: pepoch.ok_or("the ledger names no partitions")?,
            open_objects,
            ..StoreOptions::default()
        };
        let disk = DiskDirectory { path: dir.to_owned(), weight: None };
        let store = Arc::new(NodeStore::open(dir, &[disk], options, registry)?);
        let peer = Arc::clone(&store) as Arc<dyn Peer>;
        let router = Arc::new(Router::to_one(peer, |partition| store.pepoch(partition)));
        Ok(Self { directory: dir.to_owned(), ledger, store, router })
    }

    /// Tells whether the disk has failed.
    pub(crate) fn has_failed(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let store = Arc::clone(&self.store);
        move || store.disks().iter().any(|disk| disk.state != DiskState::Serving)
    }

    /// Finds the disks of this directory by their LUNs, and makes those that are asked for and not there.
    /// Nothing asked for: whatever there is, or one disk of the default kind. Everything is checked before the first
    /// disk is made. Dropped before it is done, it leaves disks that the next start goes on with.
    ///
    /// # Errors
    /// Too many disks, or one that differs from what is asked for, or does not fit.
    pub(crate) async fn disks(&self, options: &[DiskOption]) -> Result<Vec<Disk>, Box<dyn Error>> {
        check_count(options.len())?;
        let existing = self.existing();
        let wanted: Vec<(u16, DiskOption)> = match options {
            [] if existing.is_empty() => vec![(0, DiskOption::default())],
            [] => existing.keys().map(|lun| (*lun, DiskOption::default())).collect(),
            options => (0..).zip(options.iter().cloned()).collect(),
        };
        check(&wanted, &existing, self.store.disks().iter().map(|disk| disk.free_bytes).sum())?;
        let mut disks = Vec::new();
        for (lun, option) in wanted {
            let place = |error: &dyn Error| format!("LUN {lun}: {error}");
            let vdi = match existing.get(&lun) {
                Some(vdi) => vdi.clone(),
                None => self.create(lun, option.for_new_disk()).map_err(|error| place(&*error))?,
            };
            self.provision(&vdi).await.map_err(|error| place(&*error))?;
            disks.push(Disk { lun, vdi, option });
        }
        Ok(disks)
    }

    /// How a disk is served.
    pub(crate) fn unit(&self, disk: &Disk) -> UnitConfig {
        let Disk { lun, vdi, option } = disk;
        UnitConfig {
            lun: *lun,
            uuid: vdi.uuid,
            block_size: vdi.block_size,
            physical_block_size: vdi.physical_block_size,
            thin: vdi.thin,
            read_only: option.is_read_only(),
            write_cache: option.has_write_cache(),
            volume: Arc::new(self.volume(vdi)),
        }
    }

    /// Puts everything on stable storage and closes the store.
    ///
    /// # Errors
    /// What could not be written; it is still in the log, and read from there at the next start.
    pub(crate) fn close(&self) -> Result<(), StoppedDisk> {
        self.store.close().map_err(|_| StoppedDisk { directory: self.directory.clone() })
    }

    /// The demo's disks are named after their LUNs.
    fn existing(&self) -> BTreeMap<u16, Vdi> {
        let state = self.ledger.state();
        let numbered = |vdi: &Vdi| {
            let lun = vdi.name.as_str().strip_prefix(NAME_PREFIX)?.parse().ok()?;
            Some((lun, vdi.clone()))
        };
        state.vdis().filter_map(numbered).collect()
    }

    fn create(&self, lun: u16, options: VdiOptions) -> Result<Vdi, Box<dyn Error>> {
        let name = Name::new(format!("{NAME_PREFIX}{lun}"))?;
        let state = self.ledger.propose(Operation::CreateVdi { name: name.clone(), options })?;
        Ok(state.vdi(name.as_str()).ok_or("the new disk is not in the ledger")?.clone())
    }

    /// Sets a thick disk's space aside, unless that was done before. One that does not fit is removed again.
    async fn provision(&self, vdi: &Vdi) -> Result<(), Box<dyn Error>> {
        if vdi.provisioned {
            return Ok(());
        }
        if let Err(error) = self.reserve(vdi).await {
            self.ledger.propose(Operation::DeleteVdi { vid: vdi.vid })?;
            return Err(format!(
                "cannot set {} MiB aside: {error}; free space, or write thin=true or a smaller size",
                vdi.size_bytes >> 20
            )
            .into());
        }
        self.ledger.propose(Operation::ProvisionedVdi { vid: vdi.vid })?;
        Ok(())
    }

    async fn reserve(&self, vdi: &Vdi) -> Result<(), Box<dyn Error>> {
        let volume = self.volume(vdi);
        if let Err(error) = volume.reserve(0).await {
            volume.remove(0).await?;
            return Err(error.into());
        }
        Ok(())
    }

    fn volume(&self, vdi: &Vdi) -> Volume {
        Volume::new(vdi.vid, vdi.family, vdi.size_bytes, Arc::clone(&self.router))
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
fn check(
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
    for entry in std::fs::read_dir(dir).map_err(|error| format!("cannot list {place}: {error}"))? {
        let name = entry?.file_name();
        if name != "lost+found" {
            let name = name.display();
            return Err(
                format!("{place} holds something else ({name}): choose an empty or a new --dir").into()
            );
        }
    }
    Ok(())
}

/// What comes before the LUN in the name of a demo's disk.
const NAME_PREFIX: &str = "demo-";

fn options_of(vdi: &Vdi) -> VdiOptions {
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
        let node = Node::open(&scratch.path().join("data"), 64, &Registry::new()).unwrap();
        let first = node.disks(&[option("size=32MiB,cache=writethrough,read_only=true")]).await.unwrap();
        assert_eq!(
            first[0].to_string(),
            "LUN 0: 32 MiB, thin, blocks of 512 bytes, read-only, write-through"
        );
        let error = node.disks(&[option("size=64MiB"), option("size=32MiB")]).await.map(|_| ()).unwrap_err();
        assert!(error.to_string().starts_with("LUN 0: size is 67108864"), "{error}");
        let error = node.disks(&vec![DiskOption::default(); 257]).await.map(|_| ()).unwrap_err();
        assert!(error.to_string().starts_with("257 disks"), "{error}");
        let found: Vec<_> = node.disks(&[]).await.unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(found, ["LUN 0: 32 MiB, thin, blocks of 512 bytes, read-write, write-back"]);
        node.close().unwrap();
    }
}
