//! A few nodes' replicas in one process, over loopback: a keeper of the ledger, hosts, and a client of their partitions.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use huntaway_ledger::{Incarnation, Member, MemberState, Name, Operation, State, VdiOptions};
use huntaway_membership::Driver as _;
use huntaway_membership::local::shared::{
    ClusterKey, KeeperOptions, KeeperServer, NewCluster, RemoteDriver, RemoteOptions,
};
use huntaway_replica::RecoveryLimits;
use huntaway_store::host::{Host, HostError, HostOptions};
use huntaway_store::{DiskDirectory, DiskStatus, NotAdded, NotRemoved, OpenError, StoreOptions};
use huntaway_wire::replicated::{
    Answer, Answered, Answers, Block, Command, Refused, Relay, Request, RequestId, SyncAll, Synced,
};
use huntaway_wire::{
    BLOCK_SIZE_BYTES, ByteRange, Durability, NodeId, ObjectKind, Oid, Partition, Process, Stamp, Vid,
};
use prometheus::Registry;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

/// Whatever is waited for comes within this: tests share a machine with others.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// So long an answer is waited for before it is asked again.
const PATIENCE: Duration = Duration::from_millis(500);

/// Nodes wait for their disks on them: enough for the keeper to have its turn meanwhile.
const THREADS: usize = 8;

/// A keeper and its nodes.
pub(crate) struct Flock {
    dir: TempDir,
    keeper: SocketAddr,
    nodes: BTreeMap<u8, Running>,
    /// Where each node is called, for ever.
    addresses: Vec<SocketAddr>,
    client: Client,
    /// What stores are opened with.
    store: StoreOptions,
    /// The directories of each node's disks.
    pub(crate) disks: &'static [&'static str],
    /// Requests go by way of another node than the primary.
    pub(crate) is_relayed: bool,
    runtime: Runtime,
}

struct Running {
    host: Arc<Host>,
    ledger: Arc<RemoteDriver>,
}

/// Who asks. What is answered comes here.
struct Client {
    answers: Arc<dyn Answers>,
    answered: Receiver<(Process, Answered)>,
    synced: Receiver<(Process, Synced)>,
    stamps: BTreeMap<NodeId, Stamp>,
    last_number: u64,
}

struct Told(Mutex<Sender<(Process, Answered)>>, Mutex<Sender<(Process, Synced)>>);

impl Answers for Told {
    fn answered(&self, from: Process, _: Partition, answered: Answered) {
        let sender = self.0.lock().expect("nobody panics with it");
        // The test may be over.
        let _ = sender.send((from, answered));
    }

    fn synced(&self, from: Process, synced: Synced) {
        let sender = self.1.lock().expect("nobody panics with it");
        let _ = sender.send((from, synced));
    }
}

pub(crate) fn id(number: u8) -> NodeId {
    NodeId([number; 16])
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a valid name")
}

fn key() -> ClusterKey {
    ClusterKey::new([7; 32])
}

impl Flock {
    /// A new cluster of so many nodes with so many copies.
    pub(crate) fn new(count: u8, copies: usize) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        Self::in_directory(dir, (count, copies), StoreOptions::default())
    }

    /// The same, with the directory `node-N` in a given one for each node.
    pub(crate) fn in_directory(dir: TempDir, size: (u8, usize), store: StoreOptions) -> Self {
        Self::with_disks(dir, size, store, &["disk"])
    }

    /// The same, with a directory for each disk of each node.
    pub(crate) fn with_disks(
        dir: TempDir,
        (count, copies): (u8, usize),
        store: StoreOptions,
        disks: &'static [&'static str],
    ) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
        let runtime = runtime.expect("threads");
        let (keeper, addresses) = runtime.block_on(begin(&dir, count, copies));
        let (sender, answered) = channel();
        let (synced_sender, synced) = channel();
        let answers: Arc<dyn Answers> = Arc::new(Told(Mutex::new(sender), Mutex::new(synced_sender)));
        let client = Client { answers, answered, synced, stamps: BTreeMap::new(), last_number: 0 };
        let mut flock = Self {
            dir,
            keeper,
            nodes: BTreeMap::new(),
            addresses,
            client,
            store,
            disks,
            is_relayed: false,
            runtime,
        };
        (1..=count).for_each(|node| flock.start(node));
        flock
    }

    /// Starts a node.
    pub(crate) fn start(&mut self, node: u8) {
        let began = Instant::now();
        let running = loop {
            match self.runtime.block_on(self.try_to_start(node)) {
                Ok(running) => break running,
                // The one before it has not let go of its disk yet.
                Err(HostError::Disks(error)) if is_in_use(&error) && began.elapsed() < DEADLINE => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(error) => panic!("node {node} does not start: {error}"),
            }
        };
        self.nodes.insert(node, running);
    }

    async fn try_to_start(&self, node: u8) -> Result<Running, HostError> {
        let options = RemoteOptions {
            address: self.keeper,
            key: key(),
            tls: None,
            cluster: None,
            node: id(node),
            patience: DEADLINE,
        };
        let ledger = Arc::new(RemoteDriver::connect(options).await.expect("a keeper"));
        let state = self.dir.path().join(format!("node-{node}"));
        let options = HostOptions {
            credentials: key().into(),
            disks: self
                .disks
                .iter()
                .map(|disk| DiskDirectory { path: state.join(disk), weight: Some(1) })
                .collect(),
            store: StoreOptions { make: true, ..self.store.clone() },
            recovery: RecoveryLimits {
                first_pause_us: 100_000,
                move_after_us: 0,
                ..RecoveryLimits::default()
            },
            scrub_bytes_per_second: 0,
            loops: None,
            state,
        };
        let address = self.addresses[usize::from(node) - 1];
        let listener = TcpListener::bind(address).await.expect("the node's port");
        let host = Host::start(options, Arc::clone(&ledger), listener, &Registry::new()).await?;
        Ok(Running { host: Arc::new(host), ledger })
    }

    /// The node's process ends, without a word to anybody.
    pub(crate) fn kill(&mut self, node: u8) {
        let Running { host, ledger } = self.nodes.remove(&node).expect("a node that runs");
        let _runtime = self.runtime.enter();
        drop(host);
        drop(ledger);
    }

    /// Writes while the replica of a partition on a node is as busy as it is when its disk does not answer.
    pub(crate) fn while_busy(&mut self, node: u8, partition: Partition, write: impl FnOnce(&mut Self)) {
        let (begun, is_begun) = channel();
        let (end, is_over) = channel::<()>();
        let host = Arc::clone(&self.nodes[&node].host);
        let keeps = std::thread::spawn(move || {
            host.keep_busy(partition, || {
                let _ = begun.send(());
                // Whoever writes may have failed.
                let _ = is_over.recv();
            });
        });
        is_begun.recv().expect("it is busy");
        write(self);
        drop(end);
        keeps.join().expect("it is not busy any more");
    }

    /// Whether a node's logs are as if its disks were full.
    pub(crate) fn is_full(&self, node: u8, is_full: bool) {
        self.nodes[&node].host.is_full(is_full);
    }

    /// The process of the node that the partition is led by.
    pub(crate) fn primary(&self, partition: Partition) -> u8 {
        self.state().primary(partition).expect("a primary").0[0]
    }

    /// How the node's disks are.
    pub(crate) fn disks(&self, node: u8) -> Vec<DiskStatus> {
        self.nodes[&node].host.disks()
    }

    /// Where the node's state and disks are.
    pub(crate) fn directory(&self, node: u8) -> PathBuf {
        self.dir.path().join(format!("node-{node}"))
    }

    /// What a disk of the node has is to go to the others.
    pub(crate) fn remove_disk(&self, node: u8, disk: &str) -> Result<DiskStatus, NotRemoved> {
        self.nodes[&node].host.remove_disk(&self.directory(node).join(disk))
    }

    /// One more disk is made for it.
    pub(crate) fn add_disk(&self, node: u8, disk: &str) -> Result<DiskStatus, NotAdded> {
        let given = DiskDirectory { path: self.directory(node).join(disk), weight: Some(1) };
        self.nodes[&node].host.add_disk(&given)
    }

    /// It is to stay after all.
    pub(crate) fn keep_disk(&self, node: u8, disk: &str) -> Result<DiskStatus, NotRemoved> {
        self.nodes[&node].host.keep_disk(&self.directory(node).join(disk))
    }

    /// The files of the node's state directory, without its disks.
    pub(crate) fn state_files(&self, node: u8) -> Vec<(PathBuf, Vec<u8>)> {
        let entries = std::fs::read_dir(self.directory(node)).expect("it is there");
        let files = entries.map(|entry| entry.expect("it is there").path()).filter(|path| path.is_file());
        files.map(|path| (path.clone(), std::fs::read(path).expect("it is readable"))).collect()
    }

    /// A disk of the node fails.
    pub(crate) fn fail_disk(&self, node: u8, disk: usize) {
        self.nodes[&node].host.fail_disk(disk);
    }

    /// What every node that may serve knows, as the node's process has heard.
    pub(crate) fn known_by_all(&self, node: u8) -> u64 {
        self.nodes[&node].ledger.known_by_all()
    }

    /// The node's process ceases to serve, and says so.
    pub(crate) fn leave(&self, node: u8) {
        self.runtime.block_on(self.nodes[&node].host.leave());
    }

    /// Has a node's process sync all that it has, for the gateway of another one. Returns what it knew then.
    pub(crate) fn sync_all(&mut self, asks: u8, asked: u8) -> Option<u64> {
        let (asks, process) = (&self.nodes[&asks], self.nodes[&asked].host.process());
        let answers = Arc::downgrade(&self.client.answers);
        self.client.last_number += 1;
        let asked = SyncAll { gateway: asks.host.process(), round: self.client.last_number };
        let began = Instant::now();
        let _runtime = self.runtime.enter();
        let way = loop {
            // It may not be connected yet.
            match asks.host.ways().to(process, &answers).filter(|way| way.is_reachable()) {
                Some(way) => break way,
                None => std::thread::sleep(Duration::from_millis(10)),
            }
            if began.elapsed() > DEADLINE / 6 {
                return None;
            }
        };
        if !way.sync_all(asked, &self.client.answers) {
            return None;
        }
        loop {
            let (from, synced) = self.client.synced.recv_timeout(Duration::from_secs(5)).ok()?;
            if synced.asked == asked {
                assert_eq!(from, process);
                return synced.known;
            }
        }
    }

    /// What is agreed, as the first node knows it.
    pub(crate) fn state(&self) -> Arc<State> {
        self.nodes.values().next().expect("a node").ledger.state()
    }

    /// Makes a VDI.
    pub(crate) fn create(&self, text: &str) -> Vid {
        let options =
            VdiOptions { size_bytes: 1 << 30, block_size: 512, physical_block_size: 4096, thin: true };
        let ledger = &self.nodes.values().next().expect("a node").ledger;
        let state = ledger.propose(Operation::CreateVdi { name: name(text), options }).expect("it is made");
        state.vdi(text).expect("it was made").vid
    }

    /// Waits until it is so.
    pub(crate) fn until(&self, what: &str, is: impl Fn(&State) -> bool) {
        let began = Instant::now();
        while !is(&self.state()) {
            assert!(began.elapsed() < DEADLINE, "in time: {what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The partitions have all of their copies.
    pub(crate) fn until_whole(&self, partitions: &[Partition]) {
        self.until("partitions are whole", |state| {
            partitions.iter().all(|at| state.sets().set(*at).is_some_and(|set| set.is_whole()))
        });
    }

    /// Has the primary do it, whoever that is, however often that takes, unless there is no space.
    pub(crate) fn ask(&mut self, partition: Partition, command: &Command) -> Answer {
        self.client.last_number += 1;
        let number = self.client.last_number;
        let began = Instant::now();
        let mut refused = None;
        for resend in 0.. {
            assert!(began.elapsed() < DEADLINE, "answered in time, and not by {refused:?}");
            match self.ask_once(partition, (number, resend), command, PATIENCE) {
                Some(Answer::Refused(why)) if why != Refused::NoSpace => refused = Some(why),
                Some(answer) => return answer,
                None => {}
            }
        }
        unreachable!("it is asked again and again")
    }

    /// Has the primary do it, and says what it answers before it lets go of who asks.
    pub(crate) fn answers_at_once(&mut self, partition: Partition, command: &Command) -> Option<Answer> {
        self.client.last_number += 1;
        self.ask_once(partition, (self.client.last_number, 0), command, Duration::ZERO)
    }

    fn ask_once(
        &mut self,
        partition: Partition,
        (number, resend): (u64, u32),
        command: &Command,
        patience: Duration,
    ) -> Option<Answer> {
        let state = self.state();
        let Some((node, running)) =
            self.nodes.iter().find(|(node, _)| state.primary(partition) == Some(id(**node)))
        else {
            std::thread::sleep(Duration::from_millis(10));
            return None;
        };
        let (node, gateway) = (id(*node), running.host.process());
        let version = state.disks().versions().last().map(|(_, version, _)| *version);
        let (layout, fence) = version.map_or((0, 0), |version| (version.layout, version.fence));
        let request = Request {
            id: RequestId { gateway, number },
            resend,
            unanswered_from: number,
            pepoch: state.pepoch(partition),
            stamp: self.client.stamps.get(&node).copied().unwrap_or(Stamp::NONE),
            layout,
            fence,
            command: command.clone(),
        };
        let answers = Arc::downgrade(&self.client.answers);
        if self.is_relayed {
            // From one that is not primary, by way of the third.
            let mut others = self.nodes.iter().filter(|(other, _)| id(**other) != node);
            let (asks, by) = (others.next()?.1, others.next()?.1.host.process());
            let request = Request { id: RequestId { gateway: asks.host.process(), number }, ..request };
            // It is made, if its replicas have not heard of that process yet.
            let _runtime = self.runtime.enter();
            let way = asks.host.ways().to(by, &answers)?;
            way.relay(partition, Relay { to: gateway, request }, &self.client.answers);
        } else {
            let store = running.host.ways().to(gateway, &answers).expect("it is this one");
            store.request(partition, request, &self.client.answers);
        }
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok((from, answered)) = self.client.answered.recv_timeout(left) else { break };
            self.client.stamps.insert(from.node, answered.stamp);
            if answered.id.number == number {
                if matches!(answered.answer, Answer::Refused(_)) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                return Some(answered.answer);
            }
        }
        None
    }
}

fn is_in_use(error: &OpenError) -> bool {
    match error {
        OpenError::InUse { .. } => true,
        OpenError::InDirectory { source, .. } => is_in_use(source),
        _ => false,
    }
}

async fn begin(dir: &TempDir, count: u8, copies: usize) -> (SocketAddr, Vec<SocketAddr>) {
    let mut addresses = Vec::new();
    // All at once, so that the kernel gives each another one.
    let mut listeners = Vec::new();
    for _ in 0..count {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        addresses.push(listener.local_addr().expect("an address"));
        listeners.push(listener);
    }
    let member = |number: u8| Member {
        node: id(number),
        name: name(&format!("node-{number}")),
        incarnation: Incarnation(0),
        addresses: vec![addresses[usize::from(number) - 1]],
        zone: name(&format!("zone-{number}")),
        weight: 1,
        state: MemberState::Up,
    };
    let members = (1..=count).map(member).collect();
    let make = NewCluster { name: name("flock"), members, copies, min_copies: copies.div_ceil(2) };
    let options = KeeperOptions { make: Some(make), ..KeeperOptions::new(key()) };
    let server = KeeperServer::open(&dir.path().join("ledger"), options).expect("a ledger");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let keeper = listener.local_addr().expect("an address");
    tokio::spawn(
        async move { server.serve(listener, std::future::pending()).await.expect("it can be written") },
    );
    (keeper, addresses)
}

/// An object of the VDI, with its partition.
pub(crate) fn object(vid: Vid, index: u32) -> (Partition, Oid) {
    (Partition::of(vid, index), Oid::new(ObjectKind::Data, vid, index))
}

/// Writes one block of the byte.
pub(crate) fn write(oid: Oid, block: u32, byte: u8, durability: Durability) -> Command {
    let range = ByteRange::new(block * BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES).expect("a range of an object");
    let pieces = vec![Block::new(Bytes::from(vec![byte; BLOCK_SIZE_BYTES as usize]))];
    Command::Write { oid, range, pieces, durability }
}

/// The byte that each of the first so many blocks holds; `None` if it was never written.
pub(crate) fn read(flock: &mut Flock, vid: Vid, index: u32, blocks: u32) -> Vec<Option<u8>> {
    let (partition, oid) = object(vid, index);
    match flock.ask(partition, &Command::Read { oid, blocks: 0..blocks }) {
        Answer::Data(blocks) => {
            blocks.iter().map(|block| block.as_ref().map(|block| block.bytes[0])).collect()
        }
        other => panic!("a read is answered by {other:?}"),
    }
}
