//! Where a node keeps things: its ledger, the stores of its disks, and the way from a VDI to them.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use huntaway_config::Config;
use huntaway_gateway::cluster::Cluster;
use huntaway_gateway::{Router, UnitConfig, Volume};
use huntaway_ledger::{InvalidName, Name, Operation, Record, State, Vdi};
use huntaway_membership::local::{LocalDriver, LocalOptions};
use huntaway_membership::{Driver, ProposeError};
use huntaway_store::{ClusterId, DiskDirectory, DiskState, DiskStatus, NodeStore, StoreOptions};
use huntaway_wire::loops::Loops;
use huntaway_wire::{Partition, Peer};
use prometheus::Registry;
use tokio::sync::watch;

use super::clustered::Clustered;
use super::sanitize::{fail_interrupted, sanitization};
use super::trust::Trust;
use crate::cluster::{Comparison, RecoveryOfAll, Sight};

/// What is opened.
#[derive(Debug)]
pub(crate) struct StorageOptions {
    /// Where the ledger is, and which disks there are.
    pub(crate) state: PathBuf,
    /// The disks.
    pub(crate) disks: Vec<DiskDirectory>,
    /// The cluster's name: an existing ledger must be of that name.
    pub(crate) cluster: Name,
    /// The node's name.
    pub(crate) node: Name,
    /// The node's zone.
    pub(crate) zone: Name,
    /// Most object files kept open.
    pub(crate) open_objects: usize,
    /// Make what is not there, rather than refuse: see [`LocalOptions::make`].
    pub(crate) make: bool,
}

impl StorageOptions {
    /// What a configuration says; relative paths in it begin at `base`. Nothing is to be made.
    ///
    /// # Errors
    /// It has names that a ledger does not take.
    pub(crate) fn of(config: &Config, base: &Path, open_objects: usize) -> Result<Self, InvalidName> {
        let node = &config.node;
        let disks = node.data_directories(base).into_iter();
        Ok(Self {
            state: node.state_directory(base),
            disks: disks.map(|(path, weight)| DiskDirectory { path, weight }).collect(),
            cluster: Name::new(config.cluster.name.as_str())?,
            node: Name::new(node.name.as_str())?,
            zone: Name::new(node.zone.as_str())?,
            open_objects,
            make: false,
        })
    }
}

/// Whether a directory may become a new node's: it is not there, or empty but for what a file system of its own has.
///
/// # Errors
/// It holds something else, or cannot be looked at.
pub(crate) fn check_empty(directory: &Path) -> Result<(), String> {
    let place = directory.display();
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|error| format!("cannot list {place}: {error}"))?,
    };
    for entry in entries {
        let name = entry.map_err(|error| format!("cannot list {place}: {error}"))?.file_name();
        if name != "lost+found" {
            return Err(format!("{place} holds something ({}): choose an empty directory", name.display()));
        }
    }
    Ok(())
}

/// The ledger and the stores, open.
pub(crate) struct Storage {
    ledger: Arc<dyn Driver>,
    stores: Stores,
    router: Arc<Router>,
    soft_threshold_bytes: u64,
}

enum Stores {
    /// This node has the only copy of everything.
    Alone(Arc<NodeStore>),
    /// There are others.
    Clustered(Box<Clustered>),
}

/// Initiators of thin disks are told when no more than this part of the disks' space can be allocated.
const SOFT_THRESHOLD_PART: u64 = 10;

/// Disks have failed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the disk that holds {directories} has failed and was stopped: look at the log above, and at the disk (kernel log, \
     free space); what was acknowledged is in the write-ahead log as far as the disk holds it, and read from there at \
     the next start; `huntaway store check {directories}` tells what is whole"
)]
pub(crate) struct StoppedDisks {
    directories: String,
}

impl Storage {
    /// Opens everything, and reads the stores' logs.
    ///
    /// # Errors
    /// Whatever stands in the way, in words that say what to do.
    pub(crate) fn open(options: StorageOptions, registry: &Registry) -> Result<Self, Box<dyn Error>> {
        let StorageOptions { state: directory, disks, cluster, node, zone, open_objects, make } = options;
        let names = LocalOptions { cluster_name: cluster, node_name: node, zone, make };
        let ledger = LocalDriver::open(&directory, names)?;
        fail_interrupted(&ledger)?;
        let state = ledger.state();
        let pepoch = Partition::all().map(|partition| state.pepoch(partition)).max();
        let options = StoreOptions {
            cluster: ClusterId(ledger.cluster()),
            node: ledger.node(),
            epoch: state.epoch(),
            pepoch: pepoch.ok_or("the ledger names no partitions")?,
            open_objects,
            make,
            ..StoreOptions::default()
        };
        let store = Arc::new(NodeStore::open(&directory, &disks, options, registry)?);
        let served = Arc::clone(&store);
        let peer = Arc::clone(&store) as Arc<dyn Peer>;
        let router = Arc::new(Router::to_one(peer, |partition| served.pepoch(partition)));
        Ok(Self::new(Arc::new(ledger), Stores::Alone(store), router))
    }

    /// Takes part in a cluster of several nodes, whose ledger another process keeps.
    ///
    /// # Errors
    /// Whatever stands in the way, in words that say what to do.
    pub(crate) async fn join(
        options: StorageOptions,
        trust: Trust,
        registry: &Registry,
    ) -> Result<Self, Box<dyn Error>> {
        let clustered = Clustered::start(options, trust, registry).await?;
        Ok(Self::of(clustered))
    }

    /// Makes the disks of a node of a cluster of several, before it takes part: it has nothing. Returns how they are.
    ///
    /// # Errors
    /// Whatever stands in the way, in words that say what to do.
    pub(crate) async fn make_disks(
        options: StorageOptions,
        trust: Trust,
    ) -> Result<Vec<DiskStatus>, Box<dyn Error>> {
        Clustered::make(options, trust).await
    }

    /// Serves what the nodes of a cluster keep, and keeps none of it.
    ///
    /// # Errors
    /// Whatever stands in the way, in words that say what to do.
    pub(crate) async fn elsewhere(options: StorageOptions, trust: Trust) -> Result<Self, Box<dyn Error>> {
        let clustered = Clustered::without_data(options, trust).await?;
        Ok(Self::of(clustered))
    }

    fn of(clustered: Clustered) -> Self {
        let router = Arc::new(Router::to_cluster(Arc::clone(clustered.cluster())));
        Self::new(clustered.ledger(), Stores::Clustered(Box::new(clustered)), router)
    }

    fn new(ledger: Arc<dyn Driver>, stores: Stores, router: Arc<Router>) -> Self {
        let total_bytes: u64 = stores.disks().iter().map(|disk| disk.total_bytes).sum();
        Self { ledger, stores, router, soft_threshold_bytes: total_bytes / SOFT_THRESHOLD_PART }
    }

    /// The threads that serve connections between nodes, if there are others: the gateway's are served by the same.
    pub(crate) fn loops(&self) -> Option<Arc<Loops>> {
        match &self.stores {
            Stores::Alone(_) => None,
            Stores::Clustered(clustered) => Some(Arc::clone(clustered.loops())),
        }
    }

    /// The gateway's way to the stores of several nodes, if there are several.
    pub(crate) fn cluster(&self) -> Option<Arc<Cluster>> {
        match &self.stores {
            Stores::Alone(_) => None,
            Stores::Clustered(clustered) => Some(Arc::clone(clustered.cluster())),
        }
    }

    /// What this node knows of the cluster.
    pub(crate) fn sight(&self) -> Sight {
        match &self.stores {
            Stores::Clustered(clustered) => clustered.sight(),
            Stores::Alone(_) => Sight {
                node: self.ledger.node(),
                state: self.ledger.state(),
                has_ledger_lease: true,
                recovery: None,
                down: BTreeMap::new(),
                disks: self.disks(),
            },
        }
    }

    /// Puts a record into the ledger of several nodes; `None` if there is one node alone.
    ///
    /// # Errors
    /// [`ProposeError`].
    pub(crate) async fn propose_record(&self, record: Record) -> Option<Result<Arc<State>, ProposeError>> {
        match &self.stores {
            Stores::Alone(_) => None,
            Stores::Clustered(clustered) => Some(clustered.propose(record).await),
        }
    }

    /// Has all copies compared in a round of that number, or goes on with it; `None` if this is no node of several.
    pub(crate) async fn compare(&self, round: u64, is_over: bool) -> Option<Comparison> {
        match &self.stores {
            Stores::Alone(_) => None,
            Stores::Clustered(clustered) => clustered.compare(round, is_over).await,
        }
    }

    /// What all nodes have to copy to others; `None` if this is no node of several.
    pub(crate) async fn recovery_of_all(&self) -> Option<RecoveryOfAll> {
        match &self.stores {
            Stores::Alone(_) => None,
            Stores::Clustered(clustered) => clustered.recovery_of_all().await,
        }
    }

    /// What the ledger says, as others change it; `None` if this node is alone.
    pub(crate) fn states(&self) -> Option<watch::Receiver<Arc<State>>> {
        match &self.stores {
            Stores::Alone(_) => None,
            Stores::Clustered(clustered) => Some(clustered.states()),
        }
    }

    /// The VDIs that exist, and all else that is agreed.
    pub(crate) fn state(&self) -> Arc<State> {
        self.ledger.state()
    }

    /// The data of a VDI.
    pub(crate) fn volume(&self, vdi: &Vdi) -> Volume {
        Volume::new(vdi.vid, vdi.family, vdi.size_bytes, Arc::clone(&self.router))
    }

    /// A VDI, served as a LUN.
    pub(crate) fn unit(&self, lun: u16, vdi: &Vdi, read_only: bool, write_cache: bool) -> UnitConfig {
        UnitConfig {
            lun,
            uuid: vdi.uuid,
            block_size: vdi.block_size,
            physical_block_size: vdi.physical_block_size,
            thin: vdi.thin,
            read_only,
            write_cache,
            modes_are_fixed: self.is_clustered(),
            soft_threshold_bytes: self.soft_threshold_bytes,
            sanitization: sanitization(vdi),
            volume: Arc::new(self.volume(vdi)),
        }
    }

    /// How the disks are.
    pub(crate) fn disks(&self) -> Vec<DiskStatus> {
        self.stores.disks()
    }

    /// Whether one of the disks is in that directory.
    pub(crate) fn has_disk(&self, directory: &Path) -> bool {
        let found = fs::canonicalize(directory).ok();
        let is_it = |disk: DiskStatus| {
            disk.directory == directory || found.is_some() && fs::canonicalize(disk.directory).ok() == found
        };
        self.disks().into_iter().any(is_it)
    }

    /// Takes one more disk into use, in a directory that is empty or not there.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn add_disk(&self, given: &DiskDirectory) -> Result<DiskStatus, String> {
        match &self.stores {
            Stores::Alone(_) => {
                Err("this node is alone, and has the only copy of what is there: only a node of a \
                                     cluster can have the others bring it to a disk that is new"
                    .into())
            }
            Stores::Clustered(clustered) => clustered.add_disk(given),
        }
    }

    /// What the disk in that directory has goes to the node's others, so that it can be taken away.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn remove_disk(&self, directory: &Path) -> Result<DiskStatus, String> {
        match &self.stores {
            Stores::Alone(_) => {
                Err("this node is alone, and has the only copy of what is there: only a node of a cluster \
                                     can have the others bring it to its other disks"
                    .into())
            }
            Stores::Clustered(clustered) => clustered.remove_disk(directory),
        }
    }

    /// What the disk in that directory still has stays there, though it was to go to the node's others.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn keep_disk(&self, directory: &Path) -> Result<DiskStatus, String> {
        match &self.stores {
            Stores::Alone(_) => Err("this node is alone: none of its disks is to be taken away".into()),
            Stores::Clustered(clustered) => clustered.keep_disk(directory),
        }
    }

    /// Whether other processes serve the same disks.
    pub(crate) fn is_clustered(&self) -> bool {
        matches!(self.stores, Stores::Clustered(_))
    }

    /// The directory of a disk that has failed or is missing. What concerns all of a VDI cannot be done without it.
    pub(crate) fn missing_disk(&self) -> Option<String> {
        if let Stores::Clustered(_) = self.stores {
            // Others have what is on it.
            return None;
        }
        let disks = self.disks();
        let missing = disks.iter().find(|disk| !matches!(disk.state, DiskState::Serving));
        missing.map(|disk| disk.directory.display().to_string())
    }

    /// What thick VDIs can still set aside on the disks that serve, in bytes.
    pub(crate) fn free_bytes(&self) -> u64 {
        match &self.stores {
            Stores::Alone(store) => store.space(true).available_bytes,
            // What others have is not known here.
            Stores::Clustered(clustered) if !clustered.keeps_data() => u64::MAX,
            // Only an estimate: stores refuse what does not fit.
            Stores::Clustered(_) => self.disks().iter().map(|disk| disk.free_bytes).sum(),
        }
    }

    /// Puts an operation into the ledger, which takes as long as its disk takes.
    ///
    /// # Errors
    /// [`ProposeError`].
    pub(super) async fn propose(&self, operation: Operation) -> Result<Arc<State>, ProposeError> {
        let ledger = Arc::clone(&self.ledger);
        match tokio::task::spawn_blocking(move || ledger.propose(operation)).await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // the runtime ends: nobody waits any more
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// Ready when this process is a gateway that keeps no data, and another one of its name has started: what this one asks stores for
    /// is refused by then.
    pub(crate) async fn superseded(&self) {
        match &self.stores {
            Stores::Clustered(clustered) => clustered.superseded().await,
            Stores::Alone(_) => std::future::pending().await,
        }
    }

    /// Ceases to serve: other nodes go on without finding out by themselves that this one is gone.
    pub(crate) async fn leave(&self) {
        if let Stores::Clustered(clustered) = &self.stores {
            clustered.leave().await;
        }
    }

    /// Puts everything on stable storage and closes the stores.
    ///
    /// # Errors
    /// What could not be written; it is still in the logs, and read from there at the next start.
    pub(crate) fn close(&self) -> Result<(), StoppedDisks> {
        let closed = match &self.stores {
            Stores::Alone(store) => store.close(),
            Stores::Clustered(clustered) => clustered.close(),
        };
        closed.map_err(|stopped| StoppedDisks { directories: stopped.to_string() })
    }
}

impl Stores {
    fn disks(&self) -> Vec<DiskStatus> {
        match self {
            Self::Alone(store) => store.disks(),
            Self::Clustered(clustered) => clustered.disks(),
        }
    }
}
