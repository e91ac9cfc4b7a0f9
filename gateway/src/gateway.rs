//! A gateway: what it serves, its portals, and all connections that come in through them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use huntaway_scsi::Sense;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::acceptor::Acceptor;
use crate::cluster::Cluster;
use crate::fencing::SETTLE_TIME;
use crate::guesses::Guesses;
use crate::metrics::Metrics;
use crate::nexus::Call;
use crate::places::Places;
use crate::portals::{PortalConfig, Portals};
use crate::sanitizer::SanitizeRecords;
use crate::served::{Served, TargetError};
use crate::session::LOGOUT_SECONDS;
use crate::sessions::{SessionInfo, Sessions, lock};
use crate::update;
use huntaway_wire::loops::Loops;

/// A good limit of TCP connections served at once, logged in or not, where there are file descriptors enough.
pub const DEFAULT_MAX_CONNECTIONS: usize = 12_000;

/// A good limit of the time from an initiator's connection to its session: stock initiators give up before.
pub const DEFAULT_LOGIN_TIME: Duration = Duration::from_secs(30);

/// How often a stopping gateway looks whether all sessions have logged out.
const LOGOUT_POLL: Duration = Duration::from_millis(20);

/// When the cluster is lost, what initiators wait for is answered in this time.
const ANSWER_TIME: Duration = Duration::from_secs(1);
const _: () = assert!(ANSWER_TIME.as_millis() > SETTLE_TIME.as_millis());

/// How often it is looked whether it is there again, and who got in just before it was lost.
const LOST_POLL: Duration = Duration::from_millis(100);

/// What all connections of a gateway share.
pub(crate) struct Shared {
    pub(crate) portals: Portals,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) metrics: Metrics,
    pub(crate) stopping: watch::Sender<bool>,
    pub(crate) places: Arc<Places>,
    pub(crate) guesses: Guesses,
    /// See [`GatewayConfig::login_time`].
    pub(crate) login_time: Duration,
    /// Where sanitize operations are recorded.
    pub(crate) records: Arc<dyn SanitizeRecords>,
    /// What goes on whatever becomes of the session that asked for it.
    pub(crate) background: Mutex<JoinSet<()>>,
    /// The stores, if they are a cluster's.
    pub(crate) cluster: Option<Arc<Cluster>>,
    /// What serves the connections.
    pub(crate) loops: Arc<Loops>,
    /// The origin of the protocol core's time.
    pub(crate) started: Instant,
}

impl Shared {
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether no command can be carried out, for the cluster is lost.
    pub(crate) fn has_lost_cluster(&self) -> bool {
        self.cluster.as_ref().is_some_and(|cluster| cluster.is_lost())
    }

    /// Whether no session is to begin any more.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }
}

/// A gateway that serves initiators until it is shut down.
pub struct Gateway {
    shared: Arc<Shared>,
    acceptors: Mutex<Acceptors>,
}

/// The tasks that accept connections.
#[derive(Default)]
struct Acceptors {
    /// Each ends by handing over the connections it accepted.
    running: JoinSet<JoinSet<()>>,
    /// Tells the acceptor of a portal to accept no longer, and where to put its listening socket.
    close: HashMap<String, oneshot::Sender<oneshot::Sender<TcpListener>>>,
}

/// What a gateway serves, and where.
pub struct GatewayConfig {
    /// Where initiators come in.
    pub portals: Vec<PortalConfig>,
    /// Targets, disks, and who may use them.
    pub served: Served,
    /// TCP connections served at once, logged in or not; each takes a file descriptor. When one more comes, the oldest that
    /// has no session (discovery sessions count as none) is closed. A quarter of them is not for sessions.
    pub max_connections: usize,
    /// Time from a connection to its session, whatever it sends meanwhile.
    pub login_time: Duration,
    /// Where sanitize operations are recorded.
    pub records: Arc<dyn SanitizeRecords>,
    /// The stores, if they are a cluster's. Initiators get in only after what an earlier process had sent to them has settled.
    pub cluster: Option<Arc<Cluster>>,
    /// The threads that serve; `None`: it starts its own.
    pub loops: Option<Arc<Loops>>,
    /// Where to count.
    pub metrics: Metrics,
}

impl Gateway {
    /// Starts serving. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`TargetError`] names what cannot be served.
    pub fn start(config: GatewayConfig) -> Result<Self, TargetError> {
        let GatewayConfig { portals, served, max_connections, login_time, records, cluster, loops, metrics } =
            config;
        let loops = match loops {
            Some(loops) => loops,
            None => {
                Arc::new(Loops::start("iscsi").map_err(|error| TargetError::NoThreads(error.to_string()))?)
            }
        };
        let sessions = Arc::new(Sessions::default());
        sessions.update(served, &metrics)?;
        let shared = Arc::new(Shared {
            portals: Portals::default(),
            sessions,
            metrics,
            stopping: watch::Sender::new(false),
            places: Arc::new(Places::new(max_connections)),
            guesses: Guesses::default(),
            login_time,
            records,
            background: Mutex::default(),
            cluster,
            loops,
            started: Instant::now(),
        });
        if let Some(cluster) = &shared.cluster {
            let told = tell_of_resets(Arc::clone(cluster), Arc::clone(&shared.sessions), stopping(&shared));
            let parted = part_when_lost(Arc::clone(cluster), Arc::clone(&shared.sessions), stopping(&shared));
            let mut background = lock(&shared.background);
            background.spawn(told);
            background.spawn(parted);
        }
        let gateway = Self { shared, acceptors: Mutex::default() };
        portals.into_iter().try_for_each(|portal| gateway.add_portal(portal))?;
        Ok(gateway)
    }

    /// Serves this from now on. Sessions that nothing concerns do not notice; the others are told by unit attentions, and
    /// those whose initiator may no longer use its target see no LUN any more, are asked to log out, and are closed
    /// after a few seconds.
    ///
    /// When this returns, no command can touch a disk any more that is not served, nor the part of one that was cut
    /// off. That takes as long as the stores do, and no more than some seconds for the sake of an initiator: write data
    /// that it owes to such a disk is waited for 3 seconds, then the command fails; a session that does not take what was
    /// read from such a disk is closed 3 seconds later.
    ///
    /// # Errors
    /// [`TargetError`] names what cannot be served. Nothing has changed then.
    pub async fn update(&self, served: Served) -> Result<(), TargetError> {
        let aftermath = self.shared.sessions.update(served, &self.shared.metrics)?;
        if !aftermath.revoked.is_empty() {
            tokio::spawn(update::expel(aftermath.revoked));
        }
        update::drain(&self.shared.sessions, aftermath.retired).await;
        Ok(())
    }

    /// Opens a portal. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`TargetError::PortalTwice`], [`TargetError::TooManyPortals`] or [`TargetError::PortalWithoutAddress`].
    pub fn add_portal(&self, config: PortalConfig) -> Result<(), TargetError> {
        let name = self.shared.portals.add(&config)?;
        let (close, closed) = oneshot::channel();
        let acceptor = Acceptor::new(Arc::clone(&self.shared), name, config.listener, closed);
        let mut acceptors = lock(&self.acceptors);
        // Those of portals that were removed and have no connection any more.
        while acceptors.running.try_join_next().is_some() {}
        acceptors.close.insert(config.name, close);
        acceptors.running.spawn(acceptor.run());
        Ok(())
    }

    /// Closes a portal; sessions that came in by it stay. Returns its listening socket, by which nobody gets in any more:
    /// another portal may go on with it. The address is free when it is dropped. None if there is no such portal, or
    /// the gateway stops.
    pub async fn remove_portal(&self, name: &str) -> Option<TcpListener> {
        self.shared.portals.remove(name);
        let close = lock(&self.acceptors).close.remove(name);
        let (taker, listener) = oneshot::channel();
        close?.send(taker).ok()?;
        listener.await.ok()
    }

    /// The portals by name, in the order they were opened, with the addresses they listen on.
    pub fn portals(&self) -> Vec<(String, SocketAddr)> {
        let portals = self.shared.portals.all().into_iter();
        portals.map(|portal| (portal.name.to_string(), portal.address)).collect()
    }

    /// The sessions there are, discovery sessions excepted.
    pub fn sessions(&self) -> Vec<SessionInfo> {
        self.shared.sessions.infos()
    }

    /// Stops: asks initiators to log out, waits a few seconds for them, then closes what is left. When this returns, no
    /// command can take effect any more.
    pub async fn shut_down(&self) {
        self.shared.stopping.send_replace(true);
        let mut acceptors = std::mem::take(&mut *lock(&self.acceptors));
        let mut connections = Vec::new();
        while let Some(accepted) = acceptors.running.join_next().await {
            connections.extend(accepted);
        }
        let sessions = self.shared.sessions.all();
        join_all(sessions.iter().map(|session| session.call(Call::RequestLogout))).await;
        let deadline = Instant::now() + Duration::from_secs(LOGOUT_SECONDS.into());
        while self.shared.sessions.len() > 0 && Instant::now() < deadline {
            tokio::time::sleep(LOGOUT_POLL).await;
        }
        let sessions = self.shared.sessions.all();
        join_all(sessions.iter().map(|session| session.close())).await;
        for mut connections in connections {
            connections.shutdown().await;
        }
        let mut background = std::mem::take(&mut *lock(&self.shared.background));
        while background.join_next().await.is_some() {}
    }
}

/// Has the initiators told whose disks another gateway of the cluster has reset.
async fn tell_of_resets(cluster: Arc<Cluster>, sessions: Arc<Sessions>, stopped: impl Future<Output = ()>) {
    let tell = async {
        loop {
            for disk in cluster.reset_elsewhere().await {
                for nexus in sessions.all() {
                    let luns = nexus.luns_where(|unit| unit.volume.vid() == disk);
                    nexus.establish(&luns, Sense::logical_unit_reset());
                }
            }
        }
    };
    tokio::select! {
        () = tell => {}
        () = stopped => {}
    }
}

/// Has initiators use other paths while the cluster is lost: what they wait for here is answered as soon as it has settled, and then
/// their connections are closed.
async fn part_when_lost(cluster: Arc<Cluster>, sessions: Arc<Sessions>, stopped: impl Future<Output = ()>) {
    let part = async {
        loop {
            cluster.until_lost().await;
            tracing::error!(
                sessions = sessions.len(),
                "the cluster is lost: the keeper of its ledger is not heard of, or no store is reached, and none serves. Initiators are \
                 sent away until it is there again; look at the network"
            );
            tokio::time::sleep(ANSWER_TIME).await;
            while cluster.is_lost() {
                join_all(sessions.all().iter().map(|session| session.close())).await;
                tokio::time::sleep(LOST_POLL).await;
            }
            tracing::info!("the cluster is there again: initiators get in");
        }
    };
    tokio::select! {
        () = part => {}
        () = stopped => {}
    }
}

/// Ready when the gateway stops.
fn stopping(shared: &Shared) -> impl Future<Output = ()> + use<> {
    let mut stopping = shared.stopping.subscribe();
    async move {
        // An error says that there is no gateway any more.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }
}
