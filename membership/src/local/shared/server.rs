//! A keeper's socket: takes followers, and brings the core what they say.

use core::time::Duration;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use huntaway_ledger::keeper::Keeper;
use huntaway_ledger::{Cluster, EpochRecord, Ledger, Member, Name, Next, Record, State};
use huntaway_wire::link::{self, Guest, Reader, Threshold, Writer};
use huntaway_wire::tls::Tls;
use huntaway_wire::{ClusterKey, Epoch, NodeId};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::core::{Core, Cutting, Event, Sent, Shown};
use super::frame::{Cut, Messages, SIGN_OF_LIFE, framed, send};
use super::handshake::{self, Called};
use super::history::History;
use super::message::{FromKeeper, PART_BYTES};
use super::rejection::Rejection;
use crate::local::error::{LogError, OpenError};
use crate::local::log_file::Visited;
use crate::local::{Opened, cluster_of, directory, log_file, open_to_keep, random_uuid};
use huntaway_wire::clock;

/// Most connections of those that have the key.
pub const MAX_CONNECTIONS: usize = 256;

/// Bytes of records that are kept for followers which know those before them; others get the state as a whole.
pub const HISTORY_BYTES: usize = 4 << 20;

/// A file of so many bytes is cut: a snapshot stands for its records, unless that would take more than half as much.
pub const CUT_BYTES: u64 = 16 << 20;

/// Nodes that are silent for so long count as failed.
pub const SILENCE: Duration = Duration::from_secs(1);

/// What connections bring and is not looked at yet: then they wait.
const MOST_EVENTS: usize = 1024;

/// What waits to be sent on one connection: whoever has more is cut off.
const MOST_SENT: usize = 4096;

/// What waits is sent together up to about so many bytes.
const TOGETHER_BYTES: usize = 64 << 10;

/// How often the core hears that time goes by.
const TICK: Duration = Duration::from_millis(20);

/// A socket that takes no connection, for want of file descriptors mostly, is asked again after this.
const PAUSE: Duration = Duration::from_millis(100);

/// How a ledger is kept for several processes.
#[derive(Debug, Clone)]
pub struct KeeperOptions {
    /// What followers have to have.
    pub key: ClusterKey,
    /// What followers are shown, and have to show; `None`: nothing.
    pub tls: Option<Tls>,
    /// The cluster to make where there is no ledger. Without one that is an error: it may lie on a disk that is not mounted.
    pub make: Option<NewCluster>,
    /// See [`SILENCE`].
    pub silence: Duration,
    /// See [`HISTORY_BYTES`].
    pub history_bytes: usize,
    /// See [`CUT_BYTES`].
    pub cut_bytes: u64,
}

impl KeeperOptions {
    /// Of a cluster that exists.
    pub fn new(key: ClusterKey) -> Self {
        let (silence, history_bytes, cut_bytes) = (SILENCE, HISTORY_BYTES, CUT_BYTES);
        Self { key, tls: None, make: None, silence, history_bytes, cut_bytes }
    }
}

/// A cluster as it is made.
#[derive(Debug, Clone)]
pub struct NewCluster {
    /// Its name.
    pub name: Name,
    /// Its nodes.
    pub members: Vec<Member>,
    /// How many replicas partitions have.
    pub copies: usize,
    /// How many have to be in sync for writes to be taken.
    pub min_copies: usize,
}

/// The ledger of one directory, kept by this process for those that follow it.
#[derive(Debug)]
pub struct KeeperServer {
    dir: PathBuf,
    opened: Opened,
    history: History,
    options: KeeperOptions,
    cluster: [u8; 16],
}

impl KeeperServer {
    /// Opens the ledger in `dir`, or makes both if `options` says so. What the last process was about to write when it died is kept
    /// if it is whole, else cut off.
    ///
    /// # Errors
    /// [`OpenError`] says what is in the way and what to do; the ledger is then as it was.
    pub fn open(dir: &Path, options: KeeperOptions) -> Result<Self, OpenError> {
        if options.make.is_some() {
            directory::make(dir)?;
        } else if !log_file::exists(dir)? {
            directory::check_unused(dir)?;
            return Err(OpenError::None { dir: dir.into() });
        }
        let mut history = History::new(options.history_bytes);
        let make = |dir: &Path| match &options.make {
            Some(new) => make_cluster(dir, new),
            None => Err(OpenError::None { dir: dir.into() }),
        };
        let opened = open_to_keep(dir, make, |visited| match visited {
            Visited::Cut(ledger, hashes) => history.cut(ledger, hashes),
            Visited::Record(_, ledger, record) => history.add(ledger, Bytes::copy_from_slice(record)),
        })?;
        let cluster = cluster_of(opened.ledger.state())?;
        if let Some(NewCluster { name: wanted, .. }) =
            options.make.as_ref().filter(|new| new.name != cluster.name)
        {
            let (found, wanted) = (cluster.name.clone(), wanted.clone());
            return Err(OpenError::OtherCluster { dir: dir.into(), found, wanted });
        }
        let cluster = cluster.uuid;
        Ok(Self { dir: dir.into(), opened, history, options, cluster })
    }

    /// The cluster's uuid.
    pub fn cluster(&self) -> [u8; 16] {
        self.cluster
    }

    /// What the ledger says as it is opened.
    pub fn state(&self) -> &State {
        self.opened.ledger.state()
    }

    /// Takes followers until `stop` ends. The directory is free when this returns.
    ///
    /// # Errors
    /// [`LogError`]: the ledger cannot be written. Nobody has a lease any more soon.
    pub async fn serve(self, listener: TcpListener, stop: impl Future<Output = ()>) -> Result<(), LogError> {
        let Self { dir, opened: Opened { ledger, log, node, lock }, history, options, cluster } = self;
        let (events, received) = mpsc::channel(MOST_EVENTS);
        let cutting = Cutting { dir, node, cut_bytes: options.cut_bytes };
        let core = Core::new(Keeper::new(clock::now(), ledger, options.silence), log, history, cutting);
        let mut core = tokio::task::spawn_blocking(move || {
            let ended = core.run(received);
            drop(lock);
            ended
        });
        let places = Semaphore::new(MAX_CONNECTIONS);
        let host = Arc::new(Host { key: options.key, tls: options.tls, cluster, events, places });
        let ended = tokio::select! {
            ended = &mut core => Some(ended),
            () = accept(host, listener) => None,
            () = stop => None,
        };
        // With the connections the last sender is gone, so the core ends.
        let ended = match ended {
            Some(ended) => ended,
            None => core.await,
        };
        // It does not panic, and nobody aborts it.
        ended.unwrap_or(Ok(()))
    }
}

fn make_cluster(dir: &Path, new: &NewCluster) -> Result<(), OpenError> {
    let NewCluster { name, members, copies, min_copies } = new.clone();
    let node = NodeId(random_uuid().map_err(OpenError::Entropy)?);
    let cluster = Cluster { uuid: random_uuid().map_err(OpenError::Entropy)?, name };
    let voters = members.iter().map(|member| member.node).collect();
    let copies = Ledger::default().follow(&Record::Copies { copies, min_copies })?;
    let epoch = EpochRecord { number: Epoch(1), cluster, members, voters };
    let epoch = copies.ledger.follow(&Record::Epoch(epoch))?;
    let bytes = [copies.bytes, epoch.bytes].concat();
    log_file::create(dir, node, &Next { bytes, ledger: epoch.ledger })
}

struct Host {
    key: ClusterKey,
    tls: Option<Tls>,
    cluster: [u8; 16],
    events: mpsc::Sender<Event>,
    /// For those that have the key.
    places: Semaphore,
}

/// A follower, and its connection.
struct Taken {
    called: Called,
    shown: Shown,
    messages: Messages<Reader>,
    writer: Writer,
}

/// Does not end by itself; connections end with it.
async fn accept(host: Arc<Host>, listener: TcpListener) {
    let threshold = Threshold::default();
    let mut tasks = JoinSet::new();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Ticks have the number 0.
    let mut connection = 0;
    loop {
        while tasks.try_join_next().is_some() {}
        let accepted = tokio::select! {
            _ = tick.tick() => {
                // If it is full, there is enough to wake it.
                let _ = host.events.try_send(Event::Tick);
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a follower of the ledger cannot be taken");
                sleep(PAUSE).await;
                continue;
            }
        };
        connection += 1;
        let (host, guest) = (host.clone(), threshold.enter());
        tasks.spawn(async move { host.host(connection, stream, guest).await });
    }
}

impl Host {
    async fn host(&self, connection: u64, stream: TcpStream, guest: Guest) {
        let address = stream.peer_addr().ok();
        let taken = tokio::select! {
            taken = self.taken(stream, address) => taken,
            () = guest.displaced() => Err(Cut::Displaced),
        };
        drop(guest);
        let cut = match taken {
            Ok(taken) => self.connected(connection, taken).await,
            Err(cut) => cut,
        };
        match cut {
            Cut::Closed | Cut::Io(_) | Cut::Displaced => {
                tracing::debug!(?address, why = %cut, "a follower of the ledger is gone")
            }
            cut => tracing::warn!(?address, why = %cut, "a follower of the ledger is cut off"),
        }
    }

    /// Whoever has the key.
    async fn taken(&self, stream: TcpStream, address: Option<SocketAddr>) -> Result<Taken, Cut> {
        let answered = timeout(handshake::DEADLINE, link::answer(stream, self.tls.as_ref()));
        let ((reader, mut writer), certificate) = answered.await.map_err(|_| Cut::Silent)??;
        let mut messages = Messages::new(reader);
        let called = handshake::answer(&mut messages, &mut writer, &self.key, self.cluster).await?;
        Ok(Taken { called, shown: Shown { address, certificate }, messages, writer })
    }

    async fn connected(&self, connection: u64, taken: Taken) -> Cut {
        let Taken { called, shown, mut messages, mut writer } = taken;
        let Ok(_place) = self.places.try_acquire() else {
            let full = framed(&FromKeeper::Rejected(Rejection::Full));
            return send(&mut writer, &full).await.err().unwrap_or(Rejection::Full.into());
        };
        let (outbox, sent) = mpsc::channel(MOST_SENT);
        let connected = Event::Connected { connection, called, shown, outbox };
        if self.events.send(connected).await.is_err() {
            return Cut::Closed;
        }
        let cut = self.carry(connection, &mut messages, &mut writer, sent).await;
        // If that cannot be sent, there is no core any more.
        let _ = self.events.send(Event::Gone { connection }).await;
        cut.map_or_else(|cut| cut, |()| Cut::Closed)
    }

    /// Both directions, until one of them ends.
    async fn carry(
        &self,
        connection: u64,
        messages: &mut Messages<Reader>,
        writer: &mut Writer,
        mut sent: mpsc::Receiver<Sent>,
    ) -> Result<(), Cut> {
        let mut alive = interval(SIGN_OF_LIFE);
        loop {
            tokio::select! {
                message = messages.next() => {
                    let message = message?;
                    if self.events.send(Event::Came { connection, message }).await.is_err() {
                        return Ok(());
                    }
                }
                next = sent.recv() => match next {
                    Some(next) => send_waiting(writer, next, &mut sent).await?,
                    None => return Ok(()),
                },
                _ = alive.tick() => send(writer, &framed(&FromKeeper::Alive)).await?,
            }
        }
    }
}

/// Sends that, and what waits behind it, in few writes.
async fn send_waiting(
    writer: &mut Writer,
    first: Sent,
    waiting: &mut mpsc::Receiver<Sent>,
) -> Result<(), Cut> {
    let mut together = Vec::new();
    let mut next = Some(first);
    while let Some(sent) = next {
        match sent {
            Sent::Framed(framed) => together.extend_from_slice(&framed),
            Sent::Snapshot(snapshot) => {
                send(writer, &std::mem::take(&mut together)).await?;
                send_snapshot(writer, &snapshot).await?;
            }
        }
        next = if together.len() < TOGETHER_BYTES { waiting.try_recv().ok() } else { None };
    }
    send(writer, &together).await
}

async fn send_snapshot(writer: &mut Writer, snapshot: &Bytes) -> Result<(), Cut> {
    let parts = snapshot.chunks(PART_BYTES);
    let last = parts.len().saturating_sub(1);
    for (place, part) in parts.enumerate() {
        let part = FromKeeper::Snapshot { is_last: place == last, part: snapshot.slice_ref(part) };
        send(writer, &framed(&part)).await?;
    }
    Ok(())
}
