//! A node of several: its replicas, the ledger that another process keeps, and its gateway's way to all stores. Or the gateway alone.

use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use huntaway_gateway::cluster::{Cluster, ClusterConfig, Fences, Flushes, Links, NotRaised, Stores};
use huntaway_ledger::keeper::Proposal;
use huntaway_ledger::{DiskRecord, Name, Record, State};
use huntaway_membership::local::shared::{KeeperStatus, RemoteDriver, RemoteOptions};
use huntaway_membership::{Driver, ProposeError};
use huntaway_replica::RecoveryLimits;
use huntaway_store::host::{Host, HostError, HostOptions, Ways};
use huntaway_store::{
    DiskDirectory, DiskStatus, DisksError, DisksStopped, NodeStore, OpenError, StoreOptions,
};
use huntaway_wire::hello::{ClusterId, Identity};
use huntaway_wire::loops::Loops;
use huntaway_wire::replicated::{Answers, Store};
use huntaway_wire::{NodeId, Process, Vid};
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::absent::Absent;
use super::portals::cannot_listen;
use super::storage::StorageOptions;
use super::trust::Trust;
use crate::cluster::{Comparison, RecoveryOfAll, Sight};

/// How long a node that starts waits for whoever keeps the ledger.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is looked whether all stores know of a reset.
const KNOWN_POLL: Duration = Duration::from_millis(5);

/// Bytes of each copy that are read again in a second, to see whether they are what they should be: 1 TiB takes 18 hours.
const SCRUB_BYTES_PER_SECOND: u64 = 16 << 20;

/// What a node of several has at work, or a gateway that is no node.
pub(crate) struct Clustered {
    ledger: Arc<RemoteDriver>,
    /// `None`: a gateway keeps no data.
    host: Option<Host>,
    process: Process,
    cluster: Arc<Cluster>,
    absent: Arc<Absent>,
    loops: Arc<Loops>,
}

impl Clustered {
    /// Follows the ledger, opens the disks, and takes part.
    ///
    /// # Errors
    /// Whatever stands in the way, in words that say what to do.
    pub(super) async fn start(
        options: StorageOptions,
        trust: Trust,
        registry: &Registry,
    ) -> Result<Self, Box<dyn Error>> {
        let StorageOptions { state, disks, cluster: name, node, open_objects, .. } = options;
        let ledger = Arc::new(follow(&trust, &name, &node).await?);
        let known = ledger.state();
        let address = known.member(ledger.node()).and_then(|member| member.addresses.first().copied());
        let has_run = known.sets().node(ledger.node()).is_some_and(|node| node.incarnation.0 > 0);
        let address = address.ok_or_else(|| format!("the ledger has no address of node {node}"))?;
        let listener = TcpListener::bind(address).await;
        let listener =
            listener.map_err(|error| format!("node {node}: {}", cannot_listen(address, &error)))?;
        let loops = Arc::new(Loops::start("connections")?);
        let options = HostOptions {
            credentials: trust.credentials(ledger.states()),
            state,
            disks,
            // A directory of a node that ran before and is empty is most likely a disk that is not mounted.
            store: StoreOptions { open_objects, make: !has_run, ..StoreOptions::default() },
            recovery: RecoveryLimits::default(),
            scrub_bytes_per_second: SCRUB_BYTES_PER_SECOND,
            loops: Some(Arc::clone(&loops)),
        };
        let (state, directories) = (options.state.clone(), options.disks.clone());
        let host = Host::start(options, Arc::clone(&ledger), listener, registry).await;
        let host = host.map_err(|error| cannot_open(error, &state, &directories))?;
        let stores = Arc::new(Reached(host.ways()));
        let process = host.process();
        Ok(Self::with(ledger, Some(host), process, stores, loops))
    }

    /// Makes the disks of a node that the ledger has, and that has nothing any more. Returns how they are.
    ///
    /// # Errors
    /// Whatever stands in the way, in words that say what to do.
    pub(super) async fn make(
        options: StorageOptions,
        trust: Trust,
    ) -> Result<Vec<DiskStatus>, Box<dyn Error>> {
        let StorageOptions { state, disks, cluster: name, node, open_objects, .. } = options;
        let ledger = follow(&trust, &name, &node).await?;
        let options = StoreOptions {
            cluster: huntaway_store::ClusterId(ledger.cluster()),
            node: ledger.node(),
            epoch: ledger.state().epoch(),
            open_objects,
            make: true,
            ..StoreOptions::default()
        };
        let store = NodeStore::open(&state, &disks, options, &Registry::new())?;
        let disks = store.disks();
        store.close()?;
        Ok(disks)
    }

    /// Follows the ledger, and keeps nothing: the ledger has its process for the stores alone, which know requests by it.
    ///
    /// # Errors
    /// Whatever stands in the way, in words that say what to do.
    pub(super) async fn without_data(options: StorageOptions, trust: Trust) -> Result<Self, Box<dyn Error>> {
        let StorageOptions { state, cluster: name, node: gateway, .. } = options;
        // For the control socket.
        std::fs::create_dir_all(&state)
            .map_err(|error| format!("cannot make the directory {}: {error}", state.display()))?;
        let ledger = Arc::new(connect(&trust, STRANGER).await?);
        check_cluster(&ledger.state(), &name)?;
        let started = ledger.start_gateway(&gateway).await;
        let process = started.map_err(|error| format!("gateway {gateway} cannot start: {error}"))?;
        let loops = Arc::new(Loops::start("connections")?);
        let ours = Identity::new(ClusterId(ledger.cluster()), process);
        let stores = Arc::new(Links::new(ours, trust.credentials(ledger.states()), Handle::current()));
        Ok(Self::with(ledger, None, process, stores, loops))
    }

    fn with(
        ledger: Arc<RemoteDriver>,
        host: Option<Host>,
        process: Process,
        stores: Arc<dyn Stores>,
        loops: Arc<Loops>,
    ) -> Self {
        let (states, fences) = (ledger.states(), Arc::new(Resets(Arc::clone(&ledger))));
        let (followed, keeps_data) = (Arc::clone(&ledger), host.is_some());
        let is_followed = Box::new(move || is_followed(&followed, keeps_data));
        let flushes = Flushes::OfAll;
        let cluster = Cluster::start(ClusterConfig { process, states, stores, fences, is_followed, flushes });
        let absent = Absent::of(ledger.states());
        Self { ledger, host, process, cluster, absent, loops }
    }

    /// What it knows of the cluster now.
    pub(super) fn sight(&self) -> Sight {
        Sight {
            node: self.process.node,
            state: self.ledger.state(),
            has_ledger_lease: is_followed(&self.ledger, self.keeps_data()),
            recovery: self.host.as_ref().map(Host::progress),
            down: self.absent.times(),
            disks: self.disks(),
        }
    }

    /// Has the ledger have something, which takes as long as its disk takes.
    ///
    /// # Errors
    /// [`ProposeError`].
    pub(super) async fn propose(&self, record: Record) -> Result<Arc<State>, ProposeError> {
        let ledger = Arc::clone(&self.ledger);
        let proposed = tokio::task::spawn_blocking(move || ledger.propose_any(Proposal::Record(record)));
        // The runtime ends: nobody waits any more.
        let Ok(proposed) = proposed.await else { return std::future::pending().await };
        proposed
    }

    /// Has all copies compared, or goes on with that; `None` if no data is kept here.
    pub(super) async fn compare(&self, round: u64, is_over: bool) -> Option<Comparison> {
        let told = self.host.as_ref()?.compare(round, is_over).await;
        Some(self.sight().comparison(&told))
    }

    /// What all nodes have to copy to others; `None` if no data is kept here.
    pub(super) async fn recovery_of_all(&self) -> Option<RecoveryOfAll> {
        let (told, silent) = self.host.as_ref()?.progress_of_all().await;
        Some(RecoveryOfAll::of(told, silent))
    }

    pub(super) fn ledger(&self) -> Arc<dyn Driver> {
        Arc::clone(&self.ledger) as Arc<dyn Driver>
    }

    /// What the ledger says, as it is learned.
    pub(super) fn states(&self) -> watch::Receiver<Arc<State>> {
        self.ledger.states()
    }

    pub(super) fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// The threads that serve connections.
    pub(super) fn loops(&self) -> &Arc<Loops> {
        &self.loops
    }

    pub(super) fn disks(&self) -> Vec<DiskStatus> {
        self.host.as_ref().map(Host::disks).unwrap_or_default()
    }

    pub(super) fn add_disk(&self, given: &DiskDirectory) -> Result<DiskStatus, String> {
        let host = self.host.as_ref().ok_or("this is a gateway without data")?;
        host.add_disk(given).map_err(|error| error.to_string())
    }

    pub(super) fn remove_disk(&self, directory: &Path) -> Result<DiskStatus, String> {
        let host = self.host.as_ref().ok_or("this is a gateway without data")?;
        host.remove_disk(directory).map_err(|error| error.to_string())
    }

    pub(super) fn keep_disk(&self, directory: &Path) -> Result<DiskStatus, String> {
        let host = self.host.as_ref().ok_or("this is a gateway without data")?;
        host.keep_disk(directory).map_err(|error| error.to_string())
    }

    pub(super) fn keeps_data(&self) -> bool {
        self.host.is_some()
    }

    pub(super) async fn leave(&self) {
        if let Some(host) = &self.host {
            host.leave().await;
        }
    }

    pub(super) fn close(&self) -> Result<(), DisksStopped> {
        self.host.as_ref().map_or(Ok(()), Host::close)
    }

    /// Ready when this is a gateway that keeps no data, and another process of its name has started.
    pub(super) async fn superseded(&self) {
        let Process { node, incarnation } = self.process;
        let is_newer = |other: Process| other.node == node && other.incarnation > incarnation;
        let mut states = self.ledger.states();
        let waited = states.wait_for(|state| state.processes().any(is_newer)).await;
        if self.keeps_data() || waited.is_err() {
            // That of a node is for the keeper to decide.
            std::future::pending().await
        }
    }
}

/// Whether a node has its lease of the ledger, or a gateway without data hears of its keeper.
fn is_followed(ledger: &RemoteDriver, keeps_data: bool) -> bool {
    if keeps_data { ledger.has_lease() } else { matches!(*ledger.status().borrow(), KeeperStatus::Connected) }
}

/// The ways that the node's replicas have to others are its gateway's as well.
struct Reached(Ways);

impl Stores for Reached {
    fn reach(
        &self,
        process: Process,
        _: &[SocketAddr],
        answers: &Weak<dyn Answers>,
    ) -> Option<Arc<dyn Store>> {
        self.0.to(process, answers)
    }
}

/// Resets are records, and count when nobody who may serve knows less.
struct Resets(Arc<RemoteDriver>);

impl Fences for Resets {
    fn raise(&self, disk: Vid) -> BoxFuture<'static, Result<(), NotRaised>> {
        let (ledger, asked) = (Arc::clone(&self.0), Arc::clone(&self.0));
        let proposal = Proposal::Record(Record::Disks(DiskRecord::Fence { disk }));
        let proposed = tokio::task::spawn_blocking(move || asked.propose_any(proposal));
        let known = async move {
            let state =
                proposed.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
            while ledger.known_by_all() < state.number() {
                tokio::time::sleep(KNOWN_POLL).await;
            }
            Ok::<_, String>(())
        };
        tokio::time::timeout(PATIENCE, known)
            .map(move |raised| {
                let raised = raised.unwrap_or_else(|_| Err("not all stores heard of it".to_owned()));
                raised.map_err(|why| {
                    tracing::warn!(%disk, why, "a reset is not known to have reached all gateways");
                    NotRaised
                })
            })
            .boxed()
    }
}

/// Follows the ledger as the node of that name, which has to be a member.
async fn follow(trust: &Trust, name: &Name, node: &Name) -> Result<RemoteDriver, Box<dyn Error>> {
    // Who one is is in the ledger, by one's name.
    let stranger = connect(trust, STRANGER).await?;
    let state = stranger.state();
    check_cluster(&state, name)?;
    let uuid = member_named(&state, node)?;
    drop(stranger);
    Ok(connect(trust, uuid).await?)
}

/// A node that has lost its disks can begin with nothing, for others have all that it had.
fn cannot_open(error: HostError, state: &Path, disks: &[DiskDirectory]) -> Box<dyn Error> {
    let none_is_there = matches!(
        error,
        HostError::Disks(OpenError::Disks(
            DisksError::NotMounted | DisksError::AllAbsent { .. } | DisksError::NoTable { .. }
        ))
    );
    if !none_is_there {
        return error.into();
    }
    let disks: Vec<String> = disks.iter().map(|disk| disk.path.display().to_string()).collect();
    format!(
        "{}: {error}. If the disks of this node are lost: with all of them and {} empty, `huntaway init` makes it anew, and all \
         that it keeps is copied to it",
        disks.join(", "),
        state.display()
    )
    .into()
}

/// Who is no node.
const STRANGER: NodeId = NodeId([0; 16]);

async fn connect(trust: &Trust, node: NodeId) -> Result<RemoteDriver, String> {
    let Trust { keeper: address, key, tls } = trust.clone();
    let options = RemoteOptions { address, key, tls, cluster: None, node, patience: PATIENCE };
    let connected = RemoteDriver::connect(options).await;
    connected.map_err(|cut| format!("cannot follow the ledger at {address}: {cut}"))
}

fn check_cluster(state: &State, name: &Name) -> Result<(), String> {
    let cluster = state.cluster().map(|cluster| cluster.name.clone());
    if cluster.as_ref() != Some(name) {
        let found = cluster.map_or_else(String::new, |cluster| cluster.to_string());
        return Err(format!(
            "the keeper has the ledger of cluster `{found}`, not of `{name}`: see `cluster: name` and `keeper`"
        ));
    }
    Ok(())
}

fn member_named(state: &State, node: &Name) -> Result<NodeId, String> {
    let member = state.members().iter().find(|member| member.name == *node);
    member.map(|member| member.node).ok_or_else(|| {
        let known: Vec<&str> = state.members().iter().map(|member| member.name.as_str()).collect();
        format!(
            "the cluster has no node `{node}`, but {}: see `node: name`, or add it by `huntaway node add` on one of them",
            known.join(", ")
        )
    })
}
