//! A gateway: its targets, its portals, and all connections that come in through them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use iscsi_target::{Connection, ConnectionConfig, Limits};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::driver::{Driver, MAX_OUTPUT_BYTES};
use crate::metrics::Metrics;
use crate::session::LOGOUT_SECONDS;
use crate::sessions::{Call, Sessions};
use crate::target::{PORTAL_GROUP_TAG, PortalView, Target, TargetConfig, TargetError, Targets};

/// A good limit of TCP connections served at once, logged in or not, where there are file descriptors enough.
pub const DEFAULT_MAX_CONNECTIONS: usize = 12_000;

/// Connections the kernel may hold that were not accepted yet.
const LISTEN_BACKLOG: i32 = 1024;

/// How long an accept that failed (out of file descriptors) waits before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Silence after which the kernel probes whether a peer is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// How often a stopping gateway looks whether all sessions have logged out.
const LOGOUT_POLL: Duration = Duration::from_millis(20);

/// What all connections of a gateway share.
pub(crate) struct Shared {
    pub(crate) targets: Arc<Targets>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) metrics: Metrics,
    stopping: watch::Sender<bool>,
    /// The origin of the protocol core's time.
    pub(crate) started: Instant,
}

impl Shared {
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether no session is to begin any more.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }
}

/// A gateway that serves initiators until it is shut down.
pub struct Gateway {
    shared: Arc<Shared>,
    /// Each ends by handing over the connections it accepted.
    acceptors: JoinSet<JoinSet<()>>,
    portals: Vec<SocketAddr>,
}

/// What a gateway serves, and where.
pub struct GatewayConfig {
    /// The targets.
    pub targets: Vec<TargetConfig>,
    /// Listening sockets: see [`listen`].
    pub portals: Vec<TcpListener>,
    /// The addresses that discovery shows, as `ADDR:PORT`; empty: those of the portals.
    pub advertised: Vec<String>,
    /// TCP connections served at once, logged in or not; more are closed at once. Each takes a file descriptor.
    pub max_connections: usize,
    /// Where to count.
    pub metrics: Metrics,
}

/// Opens a portal's listening socket.
///
/// # Errors
/// The operating system's, such as `AddrInUse`.
pub fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    TcpListener::from_std(socket.into())
}

impl Gateway {
    /// Starts serving. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`TargetError`] names the disk that cannot be served.
    pub fn start(config: GatewayConfig) -> Result<Self, TargetError> {
        let target = |target| Target::new(target, &config.metrics);
        let targets: Result<Vec<_>, _> = config.targets.into_iter().map(target).collect();
        let portals: Vec<SocketAddr> =
            config.portals.iter().filter_map(|portal| portal.local_addr().ok()).collect();
        let shared = Arc::new(Shared {
            targets: Arc::new(Targets::new(targets?, portals.clone(), config.advertised)),
            sessions: Arc::default(),
            metrics: config.metrics,
            stopping: watch::Sender::new(false),
            started: Instant::now(),
        });
        let permits = Arc::new(Semaphore::new(config.max_connections));
        let mut acceptors = JoinSet::new();
        for portal in config.portals {
            acceptors.spawn(accept(Arc::clone(&shared), portal, Arc::clone(&permits)));
        }
        Ok(Self { shared, acceptors, portals })
    }

    /// The addresses it listens on.
    pub fn portals(&self) -> &[SocketAddr] {
        &self.portals
    }

    /// Stops: asks initiators to log out, waits [`LOGOUT_SECONDS`] for them, then closes what is left. When this returns, no
    /// command can take effect any more.
    pub async fn shut_down(mut self) {
        self.shared.stopping.send_replace(true);
        let mut connections = Vec::new();
        while let Some(accepted) = self.acceptors.join_next().await {
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
    }
}

/// Accepts connections through one portal until the gateway stops; returns those that are left then.
async fn accept(shared: Arc<Shared>, portal: TcpListener, permits: Arc<Semaphore>) -> JoinSet<()> {
    let mut stopping = shared.stopping.subscribe();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = portal.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            _ = stopping.wait_for(|stopping| *stopping) => return connections,
        };
        match accepted {
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            Ok((stream, peer)) => match Arc::clone(&permits).try_acquire_owned() {
                Err(_) => {
                    shared.metrics.refused_connections.inc();
                    tracing::debug!(%peer, "connection closed: there are too many");
                }
                Ok(permit) => {
                    let span = tracing::info_span!("connection", %peer);
                    connections.spawn(serve(Arc::clone(&shared), stream, permit).instrument(span));
                }
            },
        }
    }
}

/// Serves one connection to its end.
async fn serve(shared: Arc<Shared>, stream: TcpStream, _permit: OwnedSemaphorePermit) {
    shared.metrics.connections.inc();
    match prepare(&shared, &stream) {
        Ok(connection) => Driver::new(Arc::clone(&shared), connection).run(stream).await,
        Err(error) => tracing::debug!(%error, "connection lost before it was served"),
    }
    shared.metrics.connections.dec();
}

fn prepare(shared: &Shared, stream: &TcpStream) -> std::io::Result<Connection> {
    stream.set_nodelay(true)?;
    socket2::SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    let local = stream.local_addr()?;
    let view = PortalView { targets: Arc::clone(&shared.targets), local };
    let config = ConnectionConfig {
        portal_group_tag: PORTAL_GROUP_TAG,
        portal: local.to_string(),
        directory: Arc::new(view),
        entropy: fill_random,
        limits: Limits { pending_output: MAX_OUTPUT_BYTES, ..Limits::default() },
    };
    Ok(Connection::new(config, shared.now()))
}

/// Fills a CHAP challenge.
fn fill_random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the kernel's random numbers are always available after boot");
}
