//! A gateway: its targets, its portals, and all connections that come in through them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use iscsi_target::{Connection, ConnectionConfig, Limits};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::driver::Driver;
use crate::metrics::Metrics;
use crate::session::{LOGOUT_SECONDS, close};
use crate::sessions::{Call, Sessions};
use crate::target::{PORTAL_GROUP_TAG, PortalView, Target, TargetConfig, TargetError, Targets};

/// TCP connections served at once, logged in or not; more are closed at once.
const MAX_CONNECTIONS: usize = 12_000;

/// Connections the kernel may hold that were not accepted yet.
const LISTEN_BACKLOG: i32 = 1024;

/// How long an accept that failed (out of file descriptors) waits before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all connections of a gateway share.
pub(crate) struct Shared {
    pub(crate) targets: Arc<Targets>,
    pub(crate) sessions: Sessions,
    pub(crate) metrics: Metrics,
    /// The origin of the protocol core's time.
    pub(crate) started: Instant,
}

impl Shared {
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }
}

/// A gateway that serves initiators until it is shut down.
pub struct Gateway {
    shared: Arc<Shared>,
    acceptors: JoinSet<()>,
    portals: Vec<SocketAddr>,
}

/// What a gateway serves, and where.
pub struct GatewayConfig {
    /// The targets.
    pub targets: Vec<TargetConfig>,
    /// Listening sockets: see [`listen`].
    pub portals: Vec<TcpListener>,
    /// The addresses that discovery shows, as `ADDR:PORT`; empty: the one each initiator came in by.
    pub advertised: Vec<String>,
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
        let shared = Arc::new(Shared {
            targets: Arc::new(Targets::new(targets?, config.advertised)),
            sessions: Sessions::default(),
            metrics: config.metrics,
            started: Instant::now(),
        });
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut acceptors = JoinSet::new();
        let mut portals = Vec::new();
        for portal in config.portals {
            portals.extend(portal.local_addr());
            acceptors.spawn(accept(Arc::clone(&shared), portal, Arc::clone(&permits)));
        }
        Ok(Self { shared, acceptors, portals })
    }

    /// The addresses it listens on.
    pub fn portals(&self) -> &[SocketAddr] {
        &self.portals
    }

    /// Stops: asks initiators to log out, waits a few seconds for them, then closes what is left. When this returns,
    /// no command can take effect any more.
    pub async fn shut_down(mut self) {
        self.acceptors.abort_all();
        while self.acceptors.join_next().await.is_some() {}
        for session in self.shared.sessions.mailboxes(None, None) {
            let _ = session.send(Call::RequestLogout).await;
        }
        let deadline = Instant::now() + Duration::from_secs(LOGOUT_SECONDS.into());
        while self.shared.sessions.len() > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for session in self.shared.sessions.mailboxes(None, None) {
            close(session).await;
        }
    }
}

/// Accepts connections through one portal until its task is aborted.
async fn accept(shared: Arc<Shared>, portal: TcpListener, permits: Arc<Semaphore>) {
    loop {
        let (stream, peer) = match portal.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; raise the limit of open files if it is reached");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            shared.metrics.refused_connections.inc();
            tracing::warn!(%peer, MAX_CONNECTIONS, "connection closed: there are too many");
            continue;
        };
        let shared = Arc::clone(&shared);
        let span = tracing::info_span!("connection", %peer);
        let serve = async move {
            let _permit = permit;
            shared.metrics.connections.inc();
            if let Err(error) = serve(&shared, stream).await {
                tracing::debug!(%error, "connection lost before it was served");
            }
            shared.metrics.connections.dec();
        };
        tokio::spawn(serve.instrument(span));
    }
}

/// Serves one connection to its end.
async fn serve(shared: &Arc<Shared>, stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(30));
    socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    let local = stream.local_addr()?;
    let view = PortalView { targets: Arc::clone(&shared.targets), local };
    let config = ConnectionConfig {
        portal_group_tag: PORTAL_GROUP_TAG,
        portal: local.to_string(),
        directory: Arc::new(view),
        entropy: fill_random,
        limits: Limits::default(),
    };
    let connection = Connection::new(config, shared.now());
    Driver::new(Arc::clone(shared), connection).run(stream).await;
    Ok(())
}

/// Fills a CHAP challenge.
fn fill_random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the kernel's random numbers are always available after boot");
}
