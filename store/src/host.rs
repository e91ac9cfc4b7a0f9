//! The replicas of a node, at work: one of each partition, above the node's disks, between the ledger and the network.
//!
//! Whoever has something for a replica takes it there itself: a connection's task, the thread that syncs, a timer. It holds the
//! replica's lock while it carries out what that leads to; nothing waits for the network with it held, nor
//! for stable storage, unless the log has no room for what was promised some.
//!
//! ```text
//!  Socket (messages, requests) ─┐             ┌─► Store::log_entry, reads   at once
//!  Follow (ledger)             ─┼─► step() ───┼─► Links (other nodes)       queued
//!  Timer, Syncs (disk)         ─┘             ├─► Syncs (stable storage)    queued
//!                                             └─► answers, proposals        when the lock is free
//! ```

pub mod agreed;
mod comparing;
mod disks;
mod door;
mod follow;
mod links;
mod progress;
mod rehoming;
mod room;
mod scrubbing;
mod starts;
mod step;
mod syncs;
mod timer;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use huntaway_membership::Driver as _;
use huntaway_membership::local::shared::{NodeStart, RemoteDriver, StartError};
use huntaway_replica::{
    Credit, Input, Moment, Process, Progress, Recovered, Recovery, RecoveryLimits, Replica,
};
use huntaway_wire::hello::{ClusterId, Identity};
use huntaway_wire::link::{Acceptor, Inbox};
use huntaway_wire::loops::Loops;
use huntaway_wire::replicated::{Answers, Request, Store, SyncAll};
use huntaway_wire::tls::Credentials;
use huntaway_wire::{Partition, clock};
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use self::comparing::Comparing;
use self::disks::Disks;
use self::door::{Comes, Door};
use self::follow::Holding;
use self::links::{Links, Socket};
use self::progress::Asking;
use self::scrubbing::Scrubbing;
use self::step::{Place, WholeOrNothing};
use self::syncs::Syncs;
use crate::disk_table::MAX_DISKS;
use crate::locking::lock;
use crate::{DiskDirectory, DiskStatus, DisksStopped, NotAdded, NotRemoved, OpenError, StoreOptions};

/// What a node's replicas are started with.
#[derive(Debug)]
pub struct HostOptions {
    /// What every process of the cluster has, and nobody else.
    pub credentials: Credentials,
    /// Where the table of the node's disks is.
    pub state: PathBuf,
    /// The disks.
    pub disks: Vec<DiskDirectory>,
    /// Their limits. Whose they are is filled in, and that a damaged log is opened: replicas know what to do.
    pub store: StoreOptions,
    /// How much is copied to others at a time.
    pub recovery: RecoveryLimits,
    /// Bytes of each copy that this node has read again in a second where it is primary, to see whether they are what they should be;
    /// 0: none.
    pub scrub_bytes_per_second: u64,
    /// The threads that serve the gateway in the same process: what it asks others for, and what they answer, then wakes no other
    /// thread. What others ask this node for has threads of its own, for it waits for disks, and leases hang on it. `None`: all
    /// that is done by the runtime.
    pub loops: Option<Arc<Loops>>,
}

/// Replicas that cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The disks cannot be used.
    #[error(transparent)]
    Disks(#[from] OpenError),
    /// The ledger does not record the start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// There is no randomness, or no thread.
    #[error("the system does not give what it takes: {0}")]
    Io(#[from] std::io::Error),
}

/// A node's replicas, at work until they are closed.
pub struct Host {
    shared: Arc<Shared>,
    tasks: Mutex<JoinSet<()>>,
    address: Option<SocketAddr>,
}

/// What all that works on replicas has in common.
struct Shared {
    me: Process,
    /// One of each partition, by number.
    doors: Box<[Door]>,
    disks: Arc<Disks>,
    ledger: Arc<RemoteDriver>,
    links: Links,
    syncs: Syncs,
    recovery: Mutex<Recovery>,
    waits: timer::Waits,
    holding: Mutex<Holding>,
    scrubbing: Mutex<Scrubbing>,
    comparing: Mutex<Comparing>,
    asking: Mutex<Asking>,
    /// How many partitions are to go from each disk, as of late.
    moving: Mutex<BTreeMap<usize, u16>>,
    /// What waits for all replicas of each disk, in bytes.
    waiting_bytes: Box<[Arc<AtomicUsize>]>,
    /// A replica knows of what the ledger agreed on.
    configured: Notify,
    /// Somebody is taught no more, as the ledger has it.
    may_teach_others: AtomicBool,
    /// It does nothing any more.
    has_ended: AtomicBool,
    /// Its logs are as if they were full.
    #[cfg(feature = "planted-bugs")]
    has_no_room: AtomicBool,
    inbox: OnceLock<Arc<dyn Inbox>>,
    /// Who takes what other processes answer to requests of this one.
    gateway: OnceLock<Weak<dyn Answers>>,
}

impl Host {
    /// Opens the node's disks, has the ledger record that its process started, and takes part from there on. Others call at
    /// `listener`, which is at the address that the ledger has of the node.
    ///
    /// # Errors
    /// [`HostError`] says what is in the way.
    pub async fn start(
        options: HostOptions,
        ledger: Arc<RemoteDriver>,
        listener: TcpListener,
        registry: &Registry,
    ) -> Result<Self, HostError> {
        let HostOptions { credentials, state, disks, store, recovery, scrub_bytes_per_second, loops } =
            options;
        let disks = Disks::open(&state, &disks, store, &ledger, registry)?;
        let agreed = huntaway_membership::Driver::state(&*ledger);
        let node = huntaway_membership::Driver::node(&*ledger);
        let last = agreed.sets().node(node).map(|known| known.start);
        let counts_on = |at| agreed.sets().set(at).is_some_and(|set| set.in_sync.contains(&node));
        let remembered = disks.begin(last, counts_on)?;
        let NodeStart { memory, ref start, ref after } = remembered;
        tracing::info!(?memory, ?start, after = after.len(), "the process starts");
        let me = ledger.start(remembered.clone()).await?;
        disks.recorded()?;
        let cluster = ClusterId(huntaway_membership::Driver::cluster(&*ledger));
        let ours = Identity::new(cluster, me);
        let address = listener.local_addr().ok();
        let waiting_bytes: Box<[Arc<AtomicUsize>]> = (0..MAX_DISKS).map(|_| Arc::default()).collect();
        let door = |at| Door::new(place(&disks, at, me), Arc::clone(&waiting_bytes[disks.number(at)]));
        let shared = Arc::new(Shared {
            me,
            doors: Partition::all().map(door).collect(),
            syncs: Syncs::new(MAX_DISKS),
            disks,
            ledger,
            links: Links::new(ours, credentials.clone(), loops.clone()),
            recovery: Mutex::new(Recovery::new(recovery)),
            waits: timer::Waits::default(),
            holding: Mutex::default(),
            scrubbing: Mutex::new(Scrubbing::new(scrub_bytes_per_second)),
            comparing: Mutex::default(),
            asking: Mutex::default(),
            moving: Mutex::default(),
            waiting_bytes,
            configured: Notify::new(),
            may_teach_others: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            #[cfg(feature = "planted-bugs")]
            has_no_room: AtomicBool::new(false),
            inbox: OnceLock::new(),
            gateway: OnceLock::new(),
        });
        let inbox: Arc<dyn Inbox> = Arc::new(Socket(Arc::downgrade(&shared)));
        let inbox = Arc::clone(shared.inbox.get_or_init(|| inbox));
        shared.start_syncing(shared.disks.count())?;
        shared.start_rehoming()?;
        let mut tasks = JoinSet::new();
        let acceptor = loops.into_iter().fold(Acceptor::new(ours, credentials, inbox), Acceptor::on);
        tasks.spawn(vital("who takes connections", acceptor.serve(listener)));
        tasks.spawn(vital("who follows the ledger", follow::follow(Arc::clone(&shared))));
        tasks.spawn(vital("the timer of replicas", timer::tick(Arc::clone(&shared))));
        Ok(Self { shared, tasks: Mutex::new(tasks), address })
    }

    /// The process that it is, as the ledger has it.
    pub fn process(&self) -> Process {
        self.shared.me
    }

    /// Where others call.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// How a gateway in the same process reaches stores: there is one connection for each pair of processes and direction.
    pub fn ways(&self) -> Ways {
        Ways(Arc::clone(&self.shared))
    }

    /// How the disks are.
    pub fn disks(&self) -> Vec<DiskStatus> {
        let mut disks = self.shared.disks.status();
        for (disk, partitions) in lock(&self.shared.moving).iter() {
            disks[*disk].moving = *partitions;
        }
        disks
    }

    /// Makes one more disk, and has the partitions come to it that are its share. Returns how it is. This may take as long as disks take.
    ///
    /// # Errors
    /// [`NotAdded`]: the disks are as before.
    pub fn add_disk(&self, given: &DiskDirectory) -> Result<DiskStatus, NotAdded> {
        // Who syncs it is there before anything is on it.
        let started = self.shared.start_syncing(self.shared.disks.count() + 1);
        started.map_err(|error| NotAdded::Open(OpenError::io("start", "a thread")(error)))?;
        let disk = self.shared.disks.add(given, self.copies())?;
        Ok(self.disks().swap_remove(disk))
    }

    /// How many copies there are of everything, and are needed.
    fn copies(&self) -> (usize, usize) {
        let state = self.shared.ledger.state();
        (state.sets().copies(), state.sets().min_copies())
    }

    /// What the disk in that directory has goes to the others from now on, so that it can be taken away. Returns how it is.
    ///
    /// # Errors
    /// [`NotRemoved`]: nothing has changed.
    pub fn remove_disk(&self, directory: &Path) -> Result<DiskStatus, NotRemoved> {
        let disk = self.shared.disks.remove(directory, self.copies())?;
        Ok(self.disks().swap_remove(disk))
    }

    /// What the disk in that directory still has stays there, though it was to go to the others. Returns how it is.
    ///
    /// # Errors
    /// [`NotRemoved`]: nothing has changed.
    pub fn keep_disk(&self, directory: &Path) -> Result<DiskStatus, NotRemoved> {
        let disk = self.shared.disks.keep(directory)?;
        Ok(self.disks().swap_remove(disk))
    }

    /// Whether the partition is served here at once.
    pub fn is_serving(&self, partition: Partition) -> bool {
        self.shared.at(partition, |place| place.replica.is_serving())
    }

    /// Keeps the replica of a partition busy while `work` goes on, as a disk does that does not answer.
    #[cfg(feature = "planted-bugs")]
    pub fn keep_busy(&self, partition: Partition, work: impl FnOnce()) {
        self.shared.at(partition, |_| work());
    }

    /// Nothing more is logged, as if the disks were full, until it is said otherwise.
    #[cfg(feature = "planted-bugs")]
    pub fn is_full(&self, is_full: bool) {
        self.shared.has_no_room.store(is_full, Ordering::Release);
    }

    /// A disk fails, as one does of which a sync fails.
    #[cfg(feature = "planted-bugs")]
    pub fn fail_disk(&self, disk: usize) {
        if let Some(store) = self.shared.disks.by_number(disk) {
            let disk = store.name().to_owned();
            store.fail(&huntaway_wire::Broken::DiskFailed { disk });
        }
    }

    /// How far bringing others up to date is, of the partitions that are served here. It says nothing of health.
    pub fn progress(&self) -> Progress {
        lock(&self.shared.recovery).progress()
    }

    /// Ceases to serve, for ever, and says so to the other replicas and to the ledger: nobody has to find out, or to wait for leases.
    pub async fn leave(&self) {
        for partition in Partition::all() {
            self.shared.door(partition).put(Comes::Input(Input::Leave), 0);
            // It is said when it is so.
            self.shared.at(partition, |_| {});
        }
        self.end();
        self.shared.ledger.leave().await;
    }

    fn end(&self) {
        self.shared.has_ended.store(true, Ordering::Release);
        lock(&self.tasks).abort_all();
        self.shared.syncs.stop();
        // Whoever was within a step is done when its lock is free.
        Partition::all().for_each(|partition| drop(self.shared.door(partition).place()));
    }

    /// Takes part no more, and closes the disks: what is in their logs is applied.
    ///
    /// # Errors
    /// Disks have failed.
    pub fn close(&self) -> Result<(), DisksStopped> {
        self.end();
        self.shared.disks.close()
    }
}

/// The ways from a node's process to those that have replicas, for its gateway.
pub struct Ways(Arc<Shared>);

impl Ways {
    /// The way to that process, if the ledger has it: in this one it is a call. What others answer is told to `answers` from the first
    /// time on.
    pub fn to(&self, process: Process, answers: &Weak<dyn Answers>) -> Option<Arc<dyn Store>> {
        self.0.gateway.get_or_init(|| Weak::clone(answers));
        if process == self.0.me {
            return Some(Arc::clone(&self.0) as Arc<dyn Store>);
        }
        // A gateway may have heard of it before the replicas did.
        self.0.links_follow(&huntaway_membership::Driver::state(&*self.0.ledger));
        self.0.links.way(process)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.shared.syncs.stop();
    }
}

/// The replica of a partition, with what the log says of it. Without a disk it does nothing but to say so.
fn place(disks: &Disks, partition: Partition, me: Process) -> Place {
    let store = disks.store(partition);
    let recovered = store.map(|store| store.recovered(partition)).unwrap_or_default();
    let mut replica = new_replica(partition, me, recovered);
    if store.is_none() {
        // Until the ledger is known there is nothing to be said.
        let _ = replica.step(now(), Input::DiskFailed);
    }
    Place::new(replica, store.is_none())
}

/// A replica that was promised no room yet.
fn new_replica(partition: Partition, me: Process, recovered: Recovered) -> Replica {
    let mut replica = Replica::new(partition, me, now(), recovered);
    // It has nothing to say before it knows the ledger.
    let _ = replica.step(now(), Input::Room(Credit::NONE));
    replica
}

/// The process does not outlive a panic of the task.
async fn vital<R>(name: &'static str, task: impl Future<Output = R>) -> R {
    let _whole = WholeOrNothing(name);
    task.await
}

/// By the clock of replicas: it goes on in pauses.
fn now() -> Moment {
    Moment(clock::now().as_micros().try_into().unwrap_or(u64::MAX))
}

impl Shared {
    /// A gateway asks for something, which takes so many bytes of memory while it waits.
    fn requested(&self, partition: Partition, request: Request, answers: Arc<dyn Answers>, bytes: usize) {
        self.waits.asked(partition, request.id);
        self.comes(partition, Comes::Request(request, answers), bytes);
    }
}

impl Store for Shared {
    fn request(&self, partition: Partition, request: Request, answers: &Arc<dyn Answers>) {
        // What it is to write is the gateway's, and stays there until it is answered.
        self.requested(partition, request, Arc::clone(answers), 0);
    }

    fn sync_all(&self, asked: SyncAll, answers: &Arc<dyn Answers>) -> bool {
        self.wants_all(asked, answers)
    }
}
