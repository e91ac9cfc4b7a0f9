//! Accepts connections through one portal, and keeps them until they end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use iscsi_target::{Connection, ConnectionConfig, Limits};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::catalog::PortalView;
use crate::cluster::Cluster;
use crate::driver::{Driver, MAX_OUTPUT_BYTES};
use crate::gateway::Shared;
use crate::nexus::Origin;
use crate::places::Place;
use crate::target::PORTAL_GROUP_TAG;

/// Connections the kernel may hold that were not accepted yet.
const LISTEN_BACKLOG: i32 = 1024;

/// How long an accept that failed (out of file descriptors) waits before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Silence after which the kernel probes whether a peer is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);

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

/// The task of one portal.
pub(crate) struct Acceptor {
    shared: Arc<Shared>,
    portal: Arc<str>,
    listener: TcpListener,
    close: oneshot::Receiver<oneshot::Sender<TcpListener>>,
    connections: JoinSet<()>,
}

impl Acceptor {
    /// `close` brings the way to whoever gets the listening socket; it is closed if nobody takes it.
    pub(crate) fn new(
        shared: Arc<Shared>,
        portal: Arc<str>,
        listener: TcpListener,
        close: oneshot::Receiver<oneshot::Sender<TcpListener>>,
    ) -> Self {
        Self { shared, portal, listener, close, connections: JoinSet::new() }
    }

    /// Accepts connections until the portal is closed or the gateway stops. Ends when the gateway stops, with the
    /// connections that are left, or once the portal is closed and there are none.
    pub(crate) async fn run(mut self) -> JoinSet<()> {
        let mut stopping = self.shared.stopping.subscribe();
        let mut is_open = self.shared.cluster.is_none();
        let closed = loop {
            let accepted = tokio::select! {
                () = may_open(&self.shared), if !is_open => {
                    is_open = true;
                    continue;
                }
                accepted = self.listener.accept(), if is_open => accepted,
                Some(_) = self.connections.join_next() => continue,
                closed = &mut self.close => break closed,
                _ = stopping.wait_for(|stopping| *stopping) => return self.connections,
            };
            match accepted {
                Ok((stream, peer)) => self.accept(stream, peer).await,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        };
        match closed {
            // nobody may want it: then it is closed
            Ok(taker) => drop(taker.send(self.listener)),
            Err(_) => drop(self.listener),
        }
        loop {
            tokio::select! {
                ended = self.connections.join_next() => if ended.is_none() { return self.connections },
                _ = stopping.wait_for(|stopping| *stopping) => return self.connections,
            }
        }
    }

    async fn accept(&mut self, stream: TcpStream, peer: SocketAddr) {
        let Some(place) = self.shared.places.take().await else {
            self.shared.metrics.refused_connections.inc();
            tracing::debug!(%peer, "connection closed: there are too many sessions");
            return;
        };
        let origin = Origin { peer, portal: Arc::clone(&self.portal) };
        match stream.into_std() {
            Ok(stream) => {
                let serve = serve(Arc::clone(&self.shared), stream, origin, place);
                self.shared.loops.spawn(&mut self.connections, serve);
            }
            Err(error) => tracing::debug!(%peer, %error, "connection lost before it was served"),
        }
    }
}

/// Waits until what an earlier process of this gateway had sent to the stores can take no effect any more.
async fn may_open(shared: &Shared) {
    let until = |cluster: &Arc<Cluster>| cluster.until_listening();
    while let Some(rest) = shared.cluster.as_ref().map(until).filter(|rest| !rest.is_zero()) {
        tokio::time::sleep(rest).await;
    }
}

/// Serves one connection to its end.
async fn serve(shared: Arc<Shared>, stream: std::net::TcpStream, origin: Origin, place: Place) {
    shared.metrics.connections.inc();
    let stream = TcpStream::from_std(stream);
    match stream.and_then(|stream| Ok((prepare(&shared, &stream, &origin)?, stream))) {
        Ok((connection, stream)) => {
            Driver::new(Arc::clone(&shared), connection, origin, place).run(stream).await
        }
        Err(error) => tracing::debug!(peer = %origin.peer, %error, "connection lost before it was served"),
    }
    shared.metrics.connections.dec();
}

fn prepare(shared: &Arc<Shared>, stream: &TcpStream, origin: &Origin) -> std::io::Result<Connection> {
    stream.set_nodelay(true)?;
    socket2::SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    let local = stream.local_addr()?;
    let view = PortalView { shared: Arc::clone(shared), portal: Arc::clone(&origin.portal), local };
    let config = ConnectionConfig {
        portal_group_tag: PORTAL_GROUP_TAG,
        portal: local.to_string(),
        directory: Arc::new(view),
        entropy: fill_random,
        limits: Limits {
            pending_output: MAX_OUTPUT_BYTES,
            login_time: shared.login_time,
            ..Limits::default()
        },
    };
    Ok(Connection::new(config, shared.now()))
}

/// Fills a CHAP challenge.
fn fill_random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the kernel's random numbers are always available after boot");
}
