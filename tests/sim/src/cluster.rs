//! A cluster that replicates a few partitions: stores with their logs, gateways, clients, the ledger, a network, and faults.
//!
//! What stores do is decided by `huntaway-replica`, what was agreed by `huntaway-ledger`; the rest is the simplest thing that
//! behaves, and fails, like what will be there. The ledger is an oracle: it is never wrong about the order of records, but
//! slow, out of reach, and wrong about who lives. A gateway here knows how old a command is, which a real one learns from
//! what initiators acknowledge.

mod agreement;
mod below;
mod blamed;
mod block;
mod branch;
mod bug;
mod carried;
mod client;
mod cut;
mod disk;
mod event;
mod fault;
mod gateway;
mod habits;
mod judgement;
mod ledger;
mod mood;
mod network;
mod node;
mod old_copies;
mod operation;
mod placing;
mod plot;
mod recovering;
mod shunned;
mod snapshot;
mod space;
mod syncing;
mod telling;

use std::collections::BTreeSet;

use huntaway_wire::{NodeId, Partition};

pub(crate) use below::{Report, Said};
pub use bug::Bug;
use client::Client;
use event::Event;
use gateway::Gateway;
use habits::Habits;
pub use judgement::Broken;
use judgement::Histories;
use ledger::Ledger;
use mood::Mood;
use network::Network;
use node::Node;
use plot::Trap;
use snapshot::{Holding, Reset};

use crate::Random;
use crate::clock::Time;
use crate::queue::Queue;

/// One second of the simulated time.
const SECOND: Time = 1_000_000;

/// One millisecond of it.
const MS: Time = 1_000;

/// Faults begin no later, and all is mended from here on.
const FAULTS_END: Time = 20 * SECOND;

/// By then everything has to be at rest.
const DEADLINE: Time = 90 * SECOND;

/// Most disks of a run: their first versions have the vids up to this one.
const MAX_DISKS: u32 = 2;

/// Most events of a run: more means that it goes round in circles.
const MAX_EVENTS: u64 = 400_000;

/// What a run is made of; drawn from its seed.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    nodes: usize,
    gateways: usize,
    copies: usize,
    min_copies: usize,
    partitions: u16,
    /// Each has as many families of objects as there are disks, or fewer.
    disks: usize,
    objects: u32,
    blocks: u32,
    /// The longest time between two changes of who is to keep partitions, in microseconds; 0: there are none.
    placement_every: Time,
    /// Of these changes, whether they are epochs whose table is computed: nodes are weighted, added, and removed for good.
    has_epochs: bool,
    /// Of these runs, whether one node is there before all others, and keeps no data then: all others are new.
    has_witness_first: bool,
    /// What copies of partitions that a node does not keep any more may take there.
    old_copies_bytes: u64,
    /// Whether snapshots are taken.
    has_snapshots: bool,
    /// Of what is done with snapshots, how much is not taking them.
    branch_percent: u64,
    /// How often a disk is reset when a node is about to be down.
    reset_percent: u64,
    /// Of what is written, how much is not just whole blocks.
    special_percent: u64,
    /// Clients set space aside.
    reserves: bool,
    /// The longest time between two faults of disks, in microseconds; 0: disks have none.
    disk_fault_every: Time,
    /// How fast primaries read objects again.
    scrub_bytes_per_second: u64,
}

/// What happened in a run, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Events.
    pub events: u64,
    /// Operations that clients got an answer to.
    pub answered: u64,
    /// Operations that they gave up.
    pub given_up: u64,
    /// Writes that were refused for want of space.
    pub without_space: u64,
    /// Faults.
    pub faults: u64,
    /// Changes of in-sync sets.
    pub pepochs: u64,
    /// Learners that were counted in.
    pub promotions: u64,
    /// Sets that lost power as a whole and went on with what was left.
    pub collections: u64,
    /// Reads of blocks that no replica had whole.
    pub damaged: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// How often a disk went back to a snapshot, one was made of a snapshot, or something was deleted.
    pub branches: u64,
    /// Resets of disks.
    pub resets: u64,
    /// Partitions that nobody had whole any more, and that were opened by force.
    pub forced: u64,
}

impl Summary {
    /// Adds another run's numbers.
    pub fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.answered += other.answered;
        self.given_up += other.given_up;
        self.without_space += other.without_space;
        self.faults += other.faults;
        self.pepochs += other.pepochs;
        self.promotions += other.promotions;
        self.collections += other.collections;
        self.damaged += other.damaged;
        self.snapshots += other.snapshots;
        self.branches += other.branches;
        self.resets += other.resets;
        self.forced += other.forced;
    }
}

/// A run that broke a promise.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Which, and how.
    pub broken: Broken,
    /// What happened, line by line, if that was asked for.
    pub trace: Vec<String>,
}

/// Someone who sends or receives: nodes first, then gateways, then the ledger.
type Endpoint = usize;

/// One run.
pub struct Cluster {
    shape: Shape,
    habits: Habits,
    mood: Mood,
    trap: Option<Trap>,
    /// No fault begins before.
    undisturbed_until: Time,
    /// When it was looked at last whether all is freed that can be.
    freed_looked_at: Time,
    bug: Option<Bug>,
    random: Random,
    time: Time,
    queue: Queue<Event>,
    network: Network,
    nodes: Vec<Node>,
    gateways: Vec<Gateway>,
    clients: Vec<Client>,
    ledger: Ledger,
    histories: Histories,
    /// The last number that a client wrote.
    last_number: u64,
    holding: Option<Holding>,
    resets: Vec<Reset>,
    /// Nodes that have an old copy of each partition that is not to be removed.
    counted_on: Vec<BTreeSet<Endpoint>>,
    /// How many bits were set in each partition.
    bits: Vec<u32>,
    summary: Summary,
    trace: Option<Vec<String>>,
    broken: Option<Broken>,
    /// For each partition, when all was written: the pepoch, and how often its objects had been read again in it.
    passes: Option<Vec<judgement::Passes>>,
    /// What there is to tell to those above it, if its gateways are simulated elsewhere.
    told: Option<Vec<Report>>,
}

/// Adds a line to the trace, if there is one: the line is made only then.
macro_rules! note {
    ($cluster:expr, $($what:tt)*) => {
        if $cluster.trace.is_some() {
            let line = format!($($what)*);
            $cluster.note(&line);
        }
    };
}
pub(crate) use note;

impl Cluster {
    /// Runs `seed`, with a bug or without.
    ///
    /// # Errors
    /// [`Failure`] when a promise is broken.
    pub fn run(seed: u64, bug: Option<Bug>, traced: bool) -> Result<Summary, Failure> {
        let (summary, broken, trace) = Self::run_traced(seed, bug, traced);
        match broken {
            Some(broken) => Err(Failure { broken, trace }),
            None => Ok(summary),
        }
    }

    /// Runs `seed`, and says what happened whatever came of it.
    pub fn run_traced(seed: u64, bug: Option<Bug>, traced: bool) -> (Summary, Option<Broken>, Vec<String>) {
        let mut cluster = Self::new(seed, bug, traced);
        cluster.begin();
        while cluster.broken.is_none() && !cluster.is_over() {
            let Some((at, event)) = cluster.queue.pop() else { break };
            cluster.time = at;
            cluster.summary.events += 1;
            cluster.happen(event);
            if cluster.time > DEADLINE || cluster.summary.events > MAX_EVENTS {
                cluster.broken = Some(cluster.judge_histories().err().unwrap_or_else(|| cluster.stuck()));
            }
        }
        if cluster.broken.is_none() {
            cluster.broken = cluster.judge().err();
        }
        (cluster.summary, cluster.broken, cluster.trace.unwrap_or_default())
    }

    fn new(seed: u64, bug: Option<Bug>, traced: bool) -> Self {
        let mut random = Random::new(seed);
        let shape = Shape::draw(&mut random);
        let habits = Habits::draw(shape.reserves, &mut random);
        Self::of(shape, habits, usize::MAX, random, bug, traced)
    }

    fn of(
        shape: Shape,
        habits: Habits,
        most_clients: usize,
        mut random: Random,
        bug: Option<Bug>,
        traced: bool,
    ) -> Self {
        let nodes: Vec<Node> =
            (0..shape.nodes).map(|_| Node::new(&shape, &habits, bug, &mut random)).collect();
        let gateways = (0..shape.gateways).map(|_| Gateway::new(&shape, &mut random)).collect();
        let clients = (0..random.between(2, 4)).map(|_| Client::new(&shape, &mut random));
        let clients = clients.take(most_clients).collect();
        Self {
            clients,
            ledger: Ledger::new(&shape, bug, &mut random),
            network: Network::new(shape.nodes + shape.gateways + 1, &mut random),
            histories: Histories::new(shape.disks),
            bug,
            random,
            time: 0,
            queue: Queue::default(),
            nodes,
            gateways,
            last_number: 0,
            holding: None,
            resets: Vec::new(),
            counted_on: vec![BTreeSet::new(); usize::from(shape.partitions)],
            bits: vec![0; usize::from(shape.partitions)],
            summary: Summary::default(),
            trace: traced.then(Vec::new),
            broken: None,
            passes: None,
            shape,
            habits,
            mood: Mood::default(),
            trap: None,
            undisturbed_until: 0,
            freed_looked_at: 0,
            told: None,
        }
    }

    fn begin(&mut self) {
        for node in 0..self.shape.nodes {
            self.start_process(node);
        }
        for client in 0..self.clients.len() {
            let first = 100 * MS + self.random.below(SECOND);
            self.client_goes_on_in(client, first);
        }
        let first = SECOND + self.random.below(2 * SECOND);
        self.at(first, Event::Fault);
        if self.shape.disk_fault_every > 0 {
            self.at(SECOND, Event::DiskFault);
        }
        self.at(500 * MS, Event::Detect);
        if self.shape.placement_every > 0 || self.shape.has_epochs {
            let first = 500 * MS + self.random.below(2 * SECOND);
            self.at(first, Event::Place);
        }
        if self.habits.fills_disks {
            self.at(SECOND, Event::FillDisks);
        }
        if self.shape.has_snapshots {
            let first = 300 * MS + self.random.below(SECOND);
            self.at(first, Event::Snapshot);
        }
        (0..self.shape.gateways).for_each(|gateway| self.start_gateway(gateway));
    }

    /// Has `event` happen in `after` microseconds.
    fn at(&mut self, after: Time, event: Event) {
        self.queue.push(self.time + after, event);
    }

    fn note(&mut self, line: &str) {
        let line = format!("{:>9.3} ms  {line}", self.time as f64 / 1000.0);
        if let Some(trace) = &mut self.trace {
            trace.push(line);
        }
    }

    /// Whether faults are over and the cluster has come to rest.
    fn is_over(&mut self) -> bool {
        self.time > FAULTS_END
            && self.clients.iter().all(Client::is_done)
            && self.is_at_rest()
            && self.is_read_again()
            && self.is_freed()
    }

    /// Whether what nothing shows any more is freed; it takes a moment to see, and so it is looked at now and then.
    fn is_freed(&mut self) -> bool {
        if self.time < self.freed_looked_at + 100 * MS {
            return false;
        }
        self.freed_looked_at = self.time;
        self.not_freed().is_none()
    }

    fn ledger_endpoint(&self) -> Endpoint {
        self.shape.nodes + self.shape.gateways
    }

    fn gateway_endpoint(&self, gateway: usize) -> Endpoint {
        self.shape.nodes + gateway
    }
}

impl Shape {
    fn draw(random: &mut Random) -> Self {
        let copies = random.between(2, 3) as usize;
        let is_large = random.percent(10);
        let has_epochs = random.percent(15);
        Self {
            nodes: copies + random.below(if is_large { 5 } else { 3 }) as usize,
            gateways: random.between(2, 3) as usize,
            copies,
            min_copies: if random.percent(50) { copies.div_ceil(2) } else { 1 },
            partitions: if is_large { random.between(2, 5) } else { random.between(1, 2) } as u16,
            disks: random.between(1, u64::from(MAX_DISKS)) as usize,
            objects: random.between(1, 2) as u32,
            blocks: random.between(1, 2) as u32,
            placement_every: random.pick(&[0, 6 * SECOND, 2 * SECOND]),
            has_epochs,
            has_witness_first: has_epochs && random.percent(20),
            old_copies_bytes: random.pick(&[0, 0, 8192, 1 << 30]),
            has_snapshots: random.percent(60),
            branch_percent: random.pick(&[0, 0, 60]),
            reset_percent: [0, 40][random.below(2) as usize],
            reserves: random.percent(20),
            special_percent: [0, 40, 90][random.below(3) as usize],
            disk_fault_every: [0, 0, 4 * SECOND, SECOND][random.below(4) as usize],
            scrub_bytes_per_second: [0, 4096, 65536][random.below(3) as usize],
        }
    }
}

/// The id of the node, or of the gateway, at an endpoint.
fn id_of(endpoint: Endpoint) -> NodeId {
    NodeId([endpoint as u8 + 1; 16])
}

/// The endpoint of a node or gateway.
fn endpoint_of(node: NodeId) -> Endpoint {
    usize::from(node.0[0]) - 1
}

fn partition(number: u16) -> Partition {
    Partition::new(number).expect("there are few")
}
