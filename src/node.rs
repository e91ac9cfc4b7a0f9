//! One node in this process: its ledger, its store, and the disks it serves.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use huntaway_gateway::{Router, UnitConfig, Volume};
use huntaway_ledger::{Name, Operation, Vdi, VdiOptions};
use huntaway_membership::Driver;
use huntaway_membership::local::{LocalDriver, LocalOptions};
use huntaway_store::{LocalStore, StoreOptions};
use huntaway_wire::{Partition, Peer};
use prometheus::Registry;

use crate::disk_option::{Cache, DiskOption};

/// The ledger and the store of a directory, open.
pub(crate) struct Node {
    ledger: LocalDriver,
    store: Arc<LocalStore>,
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

impl Node {
    /// Opens the directory, or makes it, and reads the store's log.
    ///
    /// # Errors
    /// Whatever stands in the way, in words that say what to do.
    pub(crate) fn open(dir: &Path, registry: &Registry) -> Result<Self, Box<dyn Error>> {
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
            ..StoreOptions::default()
        };
        let store = Arc::new(LocalStore::open(dir, options, registry)?);
        let served = store.pepoch();
        let router = Arc::new(Router::to_one(Arc::clone(&store) as Arc<dyn Peer>, |_| served));
        Ok(Self { ledger, store, router })
    }

    /// Finds the disks of this directory by their LUNs, and makes those that are asked for and not there.
    /// Nothing asked for: whatever there is, or one disk of the default kind.
    ///
    /// # Errors
    /// A disk that differs from what is asked for, or does not fit.
    pub(crate) async fn disks(&self, options: &[DiskOption]) -> Result<Vec<Disk>, Box<dyn Error>> {
        let existing = self.existing();
        let wanted: Vec<(u16, DiskOption)> = match options {
            [] if existing.is_empty() => vec![(0, DiskOption::default())],
            [] => existing.keys().map(|lun| (*lun, DiskOption::default())).collect(),
            options => (0..).zip(options.iter().cloned()).collect(),
        };
        let mut disks = Vec::new();
        for (lun, option) in wanted {
            let place = |error: &dyn Error| format!("LUN {lun}: {error}");
            let vdi = match existing.get(&lun) {
                Some(vdi) => {
                    option.check_existing(&options_of(vdi)).map_err(|error| place(&error))?;
                    vdi.clone()
                }
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
            read_only: option.read_only.unwrap_or(false),
            write_cache: option.cache != Some(Cache::Writethrough),
            volume: Arc::new(self.volume(vdi)),
        }
    }

    /// Puts everything on stable storage and closes the store.
    ///
    /// # Errors
    /// What could not be written; it is still in the log, and read from there at the next start.
    pub(crate) fn close(&self) -> Result<(), Box<dyn Error>> {
        Ok(self.store.close()?)
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
        let free_bytes = self.store.store().space().free_bytes;
        // Asked first, so that a disk that cannot fit does not take what is left from everybody else.
        if vdi.size_bytes > free_bytes {
            return Err(format!("{} MiB are free", free_bytes >> 20).into());
        }
        let volume = self.volume(vdi);
        if let Err(error) = volume.reserve().await {
            volume.remove().await?;
            return Err(error.into());
        }
        Ok(())
    }

    fn volume(&self, vdi: &Vdi) -> Volume {
        Volume::new(vdi.vid, vdi.family, vdi.size_bytes, Arc::clone(&self.router))
    }
}

/// Makes the directory if it does not exist; refuses one that holds anything but ours, before anything is put there.
fn prepare(dir: &Path) -> Result<(), Box<dyn Error>> {
    let place = dir.display();
    std::fs::create_dir_all(dir).map_err(|error| format!("cannot make {place}: {error}"))?;
    for entry in std::fs::read_dir(dir).map_err(|error| format!("cannot list {place}: {error}"))? {
        let name = entry?.file_name();
        if !OWN_NAMES.iter().any(|own| name == **own) {
            let name = name.display();
            return Err(
                format!("{place} holds something else ({name}): choose an empty or a new --dir").into()
            );
        }
    }
    Ok(())
}

/// What may lie in a node's directory, which may be a file system of its own.
const OWN_NAMES: [&str; 7] =
    ["epoch", "lock", "lost+found", "objects", "superblock", "superblock.new", "wal"];

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
