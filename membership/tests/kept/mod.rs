//! A ledger that is kept for others, and those that follow it, over loopback with ports that the kernel picks.

#![allow(dead_code, reason = "each test uses the part it needs")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use huntaway_ledger::{
    Incarnation, Member, MemberState, Memory, Name, Operation, StartId, Starts, VdiOptions,
};
use huntaway_membership::local::shared::{
    ClusterKey, KeeperOptions, KeeperServer, NewCluster, NodeStart, RemoteDriver, RemoteOptions, StartError,
};
use huntaway_wire::NodeId;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).expect("a valid name")
}

pub(crate) fn key() -> ClusterKey {
    ClusterKey::new([7; 32])
}

pub(crate) fn node(number: u8) -> NodeId {
    NodeId([number; 16])
}

pub(crate) fn create(text: &str) -> Operation {
    let options = VdiOptions { size_bytes: 1 << 30, block_size: 512, physical_block_size: 4096, thin: true };
    Operation::CreateVdi { name: name(text), options }
}

/// A cluster of so many nodes, kept in a directory that may be new.
pub(crate) fn options(nodes: u8) -> KeeperOptions {
    let member = |number| Member {
        node: node(number),
        name: name(&format!("node-{number}")),
        incarnation: Incarnation(0),
        addresses: Vec::new(),
        zone: name("here"),
        weight: 1,
        state: MemberState::Up,
    };
    let members = (1..=nodes).map(member).collect();
    let make = NewCluster { name: name("test"), members, copies: usize::from(nodes).min(2), min_copies: 1 };
    // Tests share a machine with others.
    KeeperOptions { make: Some(make), silence: Duration::from_secs(20), ..KeeperOptions::new(key()) }
}

/// A keeper that runs.
pub(crate) struct Kept {
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Kept {
    pub(crate) async fn new(dir: &Path, options: KeeperOptions) -> Self {
        Self::at(dir, options, "127.0.0.1:0".parse().expect("an address")).await
    }

    /// At the address that an earlier one had.
    pub(crate) async fn at(dir: &Path, options: KeeperOptions, address: SocketAddr) -> Self {
        let server = KeeperServer::open(dir, options).expect("a ledger");
        let listener = TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let ended = server.serve(listener, async { drop(stopped.await) }).await;
            ended.expect("it can be written");
        });
        Self { address, stop, task }
    }

    /// Returns when the directory is free.
    pub(crate) async fn stop(self) {
        drop(self.stop);
        self.task.await.expect("no panic");
    }
}

pub(crate) fn follower(address: SocketAddr, number: u8) -> RemoteOptions {
    RemoteOptions {
        address,
        key: key(),
        tls: None,
        cluster: None,
        node: node(number),
        patience: Duration::from_secs(10),
    }
}

/// Waits until it is so.
pub(crate) async fn until(what: &str, is: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is() {
        assert!(Instant::now() < deadline, "in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What a node's disk has of starts.
pub(crate) struct Disk {
    starts: Starts,
    last: u64,
}

impl Disk {
    pub(crate) fn new() -> Self {
        Self { starts: Starts::first(), last: 100 }
    }

    /// A process starts, and acts on all that it knows from there on. It has a lease when this returns.
    pub(crate) async fn start(&mut self, driver: &Arc<RemoteDriver>) -> Result<(), StartError> {
        self.last += 1;
        let start = StartId(self.last);
        let after = self.starts.begin(start);
        self.starts.proposed();
        driver.start(NodeStart { memory: Memory::Kept, start, after }).await?;
        self.starts.recorded();
        acts(driver);
        until("a lease", || driver.has_lease()).await;
        Ok(())
    }
}

/// The node acts on what it knows, at once.
pub(crate) fn acts(driver: &Arc<RemoteDriver>) {
    let weak = Arc::downgrade(driver);
    let mut states = driver.states();
    tokio::spawn(async move {
        loop {
            let number = states.borrow_and_update().number();
            match weak.upgrade() {
                Some(driver) => driver.applied(number),
                None => return,
            }
            if states.changed().await.is_err() {
                return;
            }
        }
    });
}
