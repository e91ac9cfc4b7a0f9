//! A node at work: the parts that are open, and what is in force.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use huntaway_gateway::{Authentication, DEFAULT_LOGIN_TIME, Gateway, GatewayConfig, Metrics, Served};
use huntaway_ledger::State;
use huntaway_store::{DiskState, DiskStatus};
use prometheus::Registry;
use tokio::sync::{Mutex, watch};

use super::files_seen::FilesSeen;
use super::loaded::{Loaded, directory_of};
use super::metrics::ReloadMetrics;
use super::open_portals::OpenPortals;
use super::plan::{Current, plan};
use super::reload::LastReload;
use super::sanitize::LedgerRecords;
use super::storage::Storage;
use crate::logging::Logging;

/// What a node is started with.
pub(crate) struct EngineOptions {
    /// The configuration file.
    pub(crate) file: PathBuf,
    /// It, and the files that it names, as they were when it was read.
    pub(crate) seen: FilesSeen,
    /// Where the ledger and the stores are open.
    pub(crate) storage: Arc<Storage>,
    /// The log, whose level the file may change.
    pub(crate) logging: Logging,
    /// TCP connections of initiators served at once.
    pub(crate) max_connections: usize,
}

/// A node that serves what its configuration says.
pub(crate) struct Engine {
    pub(super) file: PathBuf,
    pub(super) storage: Arc<Storage>,
    pub(super) gateway: Gateway,
    pub(super) logging: Logging,
    pub(super) metrics: ReloadMetrics,
    /// The configuration in force: initiators see the targets and LUNs of this one, and of no other.
    pub(super) served: ArcSwap<Loaded>,
    /// The VDIs as initiators see them.
    pub(super) shown: ArcSwap<State>,
    /// Where initiators come in.
    pub(super) portals: OpenPortals,
    /// The last plan was not carried out to its end.
    pub(super) unfinished: AtomicBool,
    /// Held by whoever changes something: one at a time.
    pub(super) changing: Mutex<LastReload>,
    stopping: watch::Sender<bool>,
    phase: watch::Sender<Phase>,
}

/// What the node is doing, for a service manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It serves; the text says what.
    Serving(String),
    /// A changed configuration is looked at and carried out.
    Reloading,
}

/// The node stops, and begins nothing new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node is stopping")]
pub(crate) struct Stopping;

impl Engine {
    /// Begins to serve `loaded`. Dropped before it is done, it leaves VDIs that the next start goes on with.
    ///
    /// # Errors
    /// The lines of the configuration that cannot be followed, or what stopped it.
    pub(crate) async fn start(
        options: EngineOptions,
        loaded: Loaded,
        registry: &Registry,
    ) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let EngineOptions { file, seen, storage, logging, max_connections } = options;
        let (state, free_bytes) = (storage.state(), storage.free_bytes());
        let missing_disk = storage.missing_disk();
        let missing_disk = missing_disk.as_deref();
        let is_clustered = storage.is_clustered();
        let current = Current {
            served: None,
            state: &state,
            free_bytes,
            missing_disk,
            is_unfinished: false,
            is_clustered,
            has_disk: &|_| true,
            existed: &BTreeSet::new(),
        };
        let plan = plan(current, &loaded)?;
        let warnings = plan.warnings(&loaded);
        if !warnings.is_empty() {
            tracing::warn!("in the configuration:\n{warnings}");
        }
        if let Some(report) = plan.postponed(&loaded) {
            tracing::error!("some of the configuration must wait, all else is served:\n{report}");
        }
        let loaded = Arc::new(loaded);
        let gateway = Gateway::start(GatewayConfig {
            portals: Vec::new(),
            served: Served { targets: Vec::new(), discovery: Authentication::None },
            max_connections,
            login_time: DEFAULT_LOGIN_TIME,
            records: LedgerRecords::of(&storage),
            cluster: storage.cluster(),
            loops: storage.loops(),
            metrics: Metrics::new(registry)?,
        })?;
        let engine = Self {
            file,
            storage,
            gateway,
            logging,
            metrics: ReloadMetrics::new(registry)?,
            served: ArcSwap::new(Arc::clone(&loaded)),
            shown: ArcSwap::new(state),
            portals: OpenPortals::default(),
            unfinished: AtomicBool::new(false),
            changing: Mutex::new(LastReload::begin(seen, Arc::clone(&loaded.config.source))),
            stopping: watch::Sender::new(false),
            phase: watch::Sender::new(Phase::Reloading),
        };
        engine.carry_out(&plan, &loaded).await?;
        engine.remember_vdis(&mut *engine.changing.lock().await);
        engine.tell_what_is_served(true);
        Ok(engine)
    }

    /// The configuration in force.
    pub(crate) fn served(&self) -> Arc<Loaded> {
        self.served.load_full()
    }

    /// What the ledger says, as others change it.
    pub(super) fn states(&self) -> Option<watch::Receiver<Arc<State>>> {
        self.storage.states()
    }

    /// Whether the last plan was not carried out to its end.
    pub(super) fn is_unfinished(&self) -> bool {
        self.unfinished.load(Ordering::Acquire)
    }

    /// Whether initiators can come in.
    pub(crate) fn accepts_logins(&self) -> bool {
        !*self.stopping.borrow() && !self.gateway.portals().is_empty()
    }

    /// The configuration file.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// Where relative paths in the configuration begin.
    pub(crate) fn base(&self) -> &Path {
        directory_of(&self.file)
    }

    /// What initiators reach.
    pub(crate) fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// How the disks are.
    pub(crate) fn disks(&self) -> Vec<DiskStatus> {
        self.storage.disks()
    }

    /// Follows what the node is doing.
    pub(crate) fn phases(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Stops serving: ends what is being changed, then asks initiators to log out. The storage is still open.
    pub(crate) async fn stop(&self) {
        self.stopping.send_replace(true);
        let _changing = self.changing.lock().await;
        self.gateway.shut_down().await;
    }

    /// Ceases to serve others: nobody has to find out that this node is gone.
    pub(crate) async fn leave(&self) {
        self.storage.leave().await;
    }

    /// Does `work` unless the node stops first: each step of it can be the last one.
    pub(super) async fn unless_stopping<T>(&self, work: impl Future<Output = T>) -> Result<T, Stopping> {
        let mut stopping = self.stopping.subscribe();
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => Err(Stopping),
            done = work => Ok(done),
        }
    }

    /// A change is looked at.
    pub(super) fn tell_reloading(&self) {
        self.phase.send_replace(Phase::Reloading);
    }

    /// What is in force now, and whether that is what the file says.
    pub(super) fn tell_what_is_served(&self, file_is_in_force: bool) {
        let served = self.served();
        let targets = &served.config.targets;
        let luns: usize = targets.iter().map(|target| target.luns.len()).sum();
        let mut text = format!("serving {} with {}", count(targets.len(), "target"), count(luns, "LUN"));
        let failed = self.disks().iter().filter(|disk| !matches!(disk.state, DiskState::Serving)).count();
        if failed > 0 {
            text.push_str(&format!("; {} failed or missing", count(failed, "disk")));
        }
        if self.is_unfinished() {
            text.push_str("; a change of the configuration was interrupted and is tried again: see the log");
        } else if !file_is_in_force {
            text.push_str("; the configuration file was refused, an older one is in force: see the log");
        }
        let phase = Phase::Serving(text);
        self.phase.send_if_modified(|told| {
            let is_news = *told != phase;
            *told = phase;
            is_news
        });
    }
}

fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}
