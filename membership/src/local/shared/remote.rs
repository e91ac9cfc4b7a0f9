//! What a process has that follows a ledger which another process keeps.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use huntaway_ledger::keeper::{Follower, NotLeased, NotStarted, Proposal, Start};
use huntaway_ledger::{
    FollowError, GatewayState, InSyncChange, Incarnation, Memory, Name, Operation, Record, RecordHash,
    SetRecord, StartId, State,
};
use huntaway_wire::encoding::Malformed;
use huntaway_wire::tls::Tls;
use huntaway_wire::{ClusterKey, NodeId, Partition, Process};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout_at};

use super::frame::Cut;
use super::message;
use super::session::Session;
use crate::local::random_uuid;
use crate::{Driver, ProposeError};
use huntaway_wire::clock;

/// How long an answer is waited for, over however many connections.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// How long it is tried to record a start: a few times as long as a lease that the process before may have.
const START_DEADLINE: Duration = Duration::from_secs(4);

/// Until a start is sent again.
const AGAIN: Duration = Duration::from_millis(100);

/// Most proposals of this process that wait for an answer.
const MOST_WAITING: usize = 128;

/// Most of them when one comes that nobody waits for, of which thousands are made when a node fails: the rest is for people.
const MOST_UNHEARD: usize = 96;

/// How often it is tried to record the start of a gateway, when others of its name start at the same time.
const MOST_TRIES: usize = 3;

/// How to find a keeper, and who follows it.
#[derive(Debug, Clone)]
pub struct RemoteOptions {
    /// Where it is.
    pub address: SocketAddr,
    /// The cluster's key.
    pub key: ClusterKey,
    /// What the keeper is shown, and has to show: `None`: nothing.
    pub tls: Option<Tls>,
    /// The cluster's uuid, if it is known: the keeper of another one is none.
    pub cluster: Option<[u8; 16]>,
    /// This node.
    pub node: NodeId,
    /// How long it is tried to connect at first.
    pub patience: Duration,
}

/// What a node's disk says of the process that starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStart {
    /// What is left of what the one before it acknowledged.
    pub memory: Memory,
    /// Its start, which is on the disk already.
    pub start: StartId,
    /// Earlier ones.
    pub after: Vec<StartId>,
}

/// A node that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Whoever keeps the ledger does not record it.
    #[error(transparent)]
    NotStarted(#[from] NotStarted),
    /// There was no answer.
    #[error("the keeper of the ledger did not answer within {} s: see that it runs", START_DEADLINE.as_secs())]
    Late,
}

/// What was not done, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotDone {
    /// Not all that lead partitions held writes in time. Nothing happened; it may be tried again.
    #[error("not all nodes held writes within a second: try again")]
    NotHeld,
    /// Only the keeper has such records. Nothing happened.
    #[error("only the keeper of the ledger makes such a record")]
    NotProposable,
    /// Too much is asked for at a time. Nothing happened; it may be tried again.
    #[error("the ledger is asked for too much at a time: try again")]
    TooMany,
    /// No keeper could read it. Nothing happened.
    #[error("no ledger can have this: {0}")]
    Unreadable(Malformed),
    /// The ledger's file is full. Nothing happened.
    #[error("the ledger has reached its limit")]
    Full,
    /// It may have happened, or not: look.
    #[error("the keeper of the ledger was restarted meanwhile: see whether it happened")]
    Unknown,
    /// It may have happened, may yet happen, or not.
    #[error(
        "the keeper of the ledger did not answer within {} s: see that it runs, and whether it happened",
        ANSWER_DEADLINE.as_secs()
    )]
    Late,
}

/// How the connection is doing.
#[derive(Debug, Clone, Default)]
pub enum KeeperStatus {
    /// It is being made.
    #[default]
    Calling,
    /// It is there, and all that the ledger had when it was made is known.
    Connected,
    /// It ended, or could not be made, and is made again after a pause.
    Cut(Arc<Cut>),
}

/// A ledger that another process keeps.
pub struct RemoteDriver {
    node: NodeId,
    cluster: [u8; 16],
    shared: Arc<Shared>,
    state: watch::Receiver<Arc<State>>,
    status: watch::Receiver<KeeperStatus>,
    task: AbortHandle,
}

/// What the driver and its connection have in common.
pub(super) struct Shared {
    /// What is to be sent.
    pub(super) wanted: Mutex<Wanted>,
    pub(super) filled: Notify,
    /// The last record that this node acts on.
    pub(super) applied: AtomicU64,
    pub(super) waits_to_ask: AtomicBool,
    pub(super) known_by_all: AtomicU64,
    /// By this machine's clock, in microseconds.
    pub(super) leased_until_us: AtomicU64,
    /// Told when there may be something new of a start or a lease.
    pub(super) told: Notify,
}

#[derive(Default)]
pub(super) struct Wanted {
    /// In the order in which they came.
    pub(super) proposals: Vec<(Proposal, SyncSender<Answer>)>,
    /// How many of them, and of those that were sent, wait, but for failures.
    pub(super) waiting: usize,
    /// Of which partitions it is to be said that their disk failed. As long as it is not, others leave sets for this node: all of a
    /// disk are said at once.
    pub(super) failures: BTreeSet<Partition>,
    pub(super) start: Option<Start>,
    pub(super) not_started: Option<(StartId, NotStarted)>,
    pub(super) not_leased: Option<NotLeased>,
    /// The process that asks for leases.
    pub(super) process: Option<Process>,
    /// What it holds, for each hold that is not over.
    pub(super) holds: BTreeMap<u64, RecordHash>,
    pub(super) leaves: bool,
}

/// What became of a proposal: the state that has it, or why there is none.
pub(super) type Answer = Result<Arc<State>, ProposeError>;

impl RemoteDriver {
    /// Follows the ledger that is kept at the address. To be called within a runtime, which does the work.
    ///
    /// # Errors
    /// [`Cut`]: what was in the way of the last try, and what to do.
    pub async fn connect(options: RemoteOptions) -> Result<Self, Cut> {
        let mut follower = [0; 8];
        getrandom::fill(&mut follower).map_err(|error| Cut::Io(std::io::Error::other(error.to_string())))?;
        let shared = Arc::new(Shared::new());
        let (states, state) = watch::channel(Arc::new(State::default()));
        let (statuses, mut status) = watch::channel(KeeperStatus::default());
        let deadline = Instant::now() + options.patience;
        let follower = Follower(u64::from_le_bytes(follower));
        let (node, session) =
            (options.node, Session::new(options, follower, shared.clone(), states, statuses));
        let task = tokio::spawn(session.run()).abort_handle();
        let mut driver = Self { node, cluster: [0; 16], shared, state, status: status.clone(), task };
        let mut last = Cut::Silent;
        loop {
            match timeout_at(deadline, status.changed()).await {
                Ok(Ok(())) => {}
                _ => return Err(last),
            }
            let now = status.borrow_and_update().clone();
            match now {
                KeeperStatus::Calling => {}
                KeeperStatus::Connected => break,
                KeeperStatus::Cut(cut) => {
                    last = cut.again();
                    if matches!(&last, Cut::Rejected(_)) {
                        return Err(last);
                    }
                }
            }
        }
        driver.cluster = driver.state().cluster().map_or([0; 16], |cluster| cluster.uuid);
        Ok(driver)
    }

    /// Records that this process of the node started: from there on it asks for leases.
    ///
    /// # Errors
    /// [`StartError`]: the process does not act.
    pub async fn start(&self, started: NodeStart) -> Result<Process, StartError> {
        let deadline = Instant::now() + START_DEADLINE;
        let NodeStart { memory, start, after } = started;
        let mut state = self.state.clone();
        let mut refused = None;
        loop {
            let known = state.borrow_and_update().sets().node(self.node);
            let last = known.map_or(Incarnation(0), |known| known.incarnation);
            if known.is_some_and(|known| known.start == start && known.incarnation > Incarnation(0)) {
                let process = Process { node: self.node, incarnation: last };
                self.wanted().process = Some(process);
                self.wanted().start = None;
                self.shared.filled.notify_one();
                return Ok(process);
            }
            let process = Process { node: self.node, incarnation: Incarnation(last.0.saturating_add(1)) };
            self.wanted().start = Some(Start { process, memory, start, after: after.clone() });
            self.shared.filled.notify_one();
            tokio::select! {
                _ = state.changed() => {}
                () = sleep(AGAIN) => {}
            }
            let not_started = self.wanted().not_started.take();
            if let Some((_, why)) = not_started.filter(|(of, _)| *of == start) {
                if matches!(why, NotStarted::Stranger | NotStarted::Refused) {
                    return Err(why.into());
                }
                refused = Some(why);
            }
            if Instant::now() >= deadline {
                self.wanted().start = None;
                return Err(refused.map_or(StartError::Late, StartError::NotStarted));
            }
        }
    }

    /// Records that a process of the gateway of that name started, which keeps no data. It asks for no leases; what it had asked stores
    /// for before is refused from there on.
    ///
    /// # Errors
    /// [`ProposeError`].
    pub async fn start_gateway(self: &Arc<Self>, name: &Name) -> Result<Process, ProposeError> {
        let mut tries = 1;
        loop {
            let node = random_uuid().map_err(ProposeError::Entropy)?;
            let mut start = [0; 8];
            getrandom::fill(&mut start).map_err(ProposeError::Entropy)?;
            let start = StartId(u64::from_le_bytes(start));
            let known = self.state.borrow().gateway(name.as_str()).copied();
            let new = GatewayState { node: NodeId(node), incarnation: Incarnation(1), start };
            let next = |known: GatewayState| GatewayState {
                incarnation: Incarnation(known.incarnation.0.saturating_add(1)),
                start,
                ..known
            };
            let started = known.map_or(new, next);
            let GatewayState { node, incarnation, start } = started;
            let record = Record::GatewayStarted { name: name.clone(), node, incarnation, start };
            let driver = Arc::clone(self);
            let proposed =
                tokio::task::spawn_blocking(move || driver.propose_any(Proposal::Record(record))).await;
            match proposed {
                Ok(Ok(_)) => return Ok(started.process()),
                // Another one was faster: what follows that is another record.
                Ok(Err(ProposeError::Refused(_))) if tries < MOST_TRIES => tries += 1,
                Ok(Err(error)) => return Err(error),
                // The runtime ends: nobody waits any more.
                Err(_) => return std::future::pending().await,
            }
        }
    }

    /// All replicas of this node act on this record, and those before it.
    pub fn applied(&self, record: u64) {
        self.shared.applied.fetch_max(record, Ordering::AcqRel);
    }

    /// Whether the process asks for no lease, and so does not ask to be up, for the ledger is to hear something of it first.
    pub fn wait_to_ask(&self, waits_to_ask: bool) {
        self.shared.waits_to_ask.store(waits_to_ask, Ordering::Release);
    }

    /// Until when this node's process may count on its lease of the ledger, by [`clock::now`]. It may be over.
    pub fn leased_until(&self) -> Duration {
        Duration::from_micros(self.shared.leased_until_us.load(Ordering::Acquire))
    }

    /// Whether this node's process has a lease of the ledger.
    pub fn has_lease(&self) -> bool {
        clock::now() < self.leased_until()
    }

    /// Why it got none when it asked last.
    pub fn not_leased(&self) -> Option<NotLeased> {
        self.wanted().not_leased
    }

    /// Nobody who may serve knows less than this record.
    pub fn known_by_all(&self) -> u64 {
        self.shared.known_by_all.load(Ordering::Acquire)
    }

    /// In all partitions that the node leads, by `leads`, what the hold is for is held. Said again until the hold is over.
    pub fn holds(&self, hold: u64, leads: RecordHash) {
        self.wanted().holds.insert(hold, leads);
        self.shared.filled.notify_one();
    }

    /// The process has ceased to serve, and never will again: nobody has to wait for its lease to run out.
    pub async fn leave(&self) {
        self.shared.leased_until_us.store(0, Ordering::Release);
        self.wanted().leaves = true;
        self.shared.filled.notify_one();
        // If it cannot be said, leases run out.
        let _ = tokio::time::timeout(AGAIN, self.shared.told.notified()).await;
    }

    /// The state, to be waited for.
    pub fn states(&self) -> watch::Receiver<Arc<State>> {
        self.state.clone()
    }

    /// How the connection is doing, to be waited for.
    pub fn status(&self) -> watch::Receiver<KeeperStatus> {
        self.status.clone()
    }

    /// Has the ledger have something. Blocks until the state has it: not to be called from a task that must not block.
    ///
    /// # Errors
    /// [`ProposeError`]; see there whether it may have happened all the same.
    pub fn propose_any(&self, proposal: Proposal) -> Result<Arc<State>, ProposeError> {
        let answer = self.shared.asked(proposal, MOST_WAITING, false)?.ok_or(NotDone::TooMany)?;
        match answer.recv_timeout(ANSWER_DEADLINE) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Err(NotDone::Late.into()),
        }
    }

    /// Has the ledger have something, perhaps: nobody hears whether it does, but by the state.
    pub fn propose_unheard(&self, proposal: Proposal) {
        // What is too much at a time is not wanted enough.
        let _ = self.shared.asked(proposal, MOST_UNHEARD, true);
    }

    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.shared.wanted()
    }
}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            wanted: Mutex::default(),
            filled: Notify::new(),
            applied: AtomicU64::new(0),
            waits_to_ask: AtomicBool::new(false),
            known_by_all: AtomicU64::new(0),
            leased_until_us: AtomicU64::new(0),
            told: Notify::new(),
        }
    }

    /// Puts it among those that wait to be sent, if there are fewer than `most`. `None`: the same waits already, and `once` is enough.
    fn asked(
        &self,
        proposal: Proposal,
        most: usize,
        once: bool,
    ) -> Result<Option<Receiver<Answer>>, ProposeError> {
        if let Proposal::Record(record) = &proposal {
            record.to_bytes().map_err(FollowError::from)?;
        }
        message::check(&proposal).map_err(NotDone::Unreadable)?;
        let (sender, answer) = sync_channel(1);
        let mut wanted = self.wanted();
        if let Some(partition) = failure_in(&proposal) {
            if !wanted.failures.insert(partition) {
                return Ok(None);
            }
        } else if once && wanted.proposals.iter().any(|(waiting, _)| *waiting == proposal) {
            return Ok(None);
        } else if wanted.waiting >= most {
            return Err(NotDone::TooMany.into());
        } else {
            wanted.waiting += 1;
        }
        wanted.proposals.push((proposal, sender));
        drop(wanted);
        self.filled.notify_one();
        Ok(Some(answer))
    }

    /// It waits no more.
    pub(super) fn has_ended(&self, proposal: &Proposal) {
        let mut wanted = self.wanted();
        match failure_in(proposal) {
            Some(partition) => _ = wanted.failures.remove(&partition),
            None => wanted.waiting = wanted.waiting.saturating_sub(1),
        }
    }

    pub(super) fn wanted(&self) -> MutexGuard<'_, Wanted> {
        // Nothing that is done with the lock held leaves it half done.
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The partition, if it says that a disk failed.
fn failure_in(proposal: &Proposal) -> Option<Partition> {
    match proposal {
        Proposal::Record(Record::Sets(SetRecord::Changed { partition, change, .. })) => {
            matches!(change, InSyncChange::Failed { .. }).then_some(*partition)
        }
        _ => None,
    }
}

impl Driver for RemoteDriver {
    fn node(&self) -> NodeId {
        self.node
    }

    fn cluster(&self) -> [u8; 16] {
        self.cluster
    }

    fn state(&self) -> Arc<State> {
        self.state.borrow().clone()
    }

    fn propose(&self, operation: Operation) -> Result<Arc<State>, ProposeError> {
        let uuid = random_uuid().map_err(ProposeError::Entropy)?;
        let record = self.state().record_for(operation, uuid).map_err(FollowError::from)?;
        self.propose_any(Proposal::Record(record))
    }
}

impl fmt::Debug for RemoteDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteDriver").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Drop for RemoteDriver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use huntaway_wire::Pepoch;

    use super::*;

    fn proposal(pepoch: u32) -> Proposal {
        let (partition, pepoch) = (Partition::new(1).unwrap(), Pepoch(pepoch));
        Proposal::Record(Record::Sets(SetRecord::Changed { partition, pepoch, change: InSyncChange::Renew }))
    }

    #[test]
    fn what_nobody_waits_for_is_queued_once_whoever_proposes_it_at_the_same_time() {
        let shared = Shared::new();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    (1..50).for_each(|pepoch| drop(shared.asked(proposal(pepoch), MOST_UNHEARD, true)));
                });
            }
        });
        let wanted = shared.wanted();
        assert_eq!((wanted.proposals.len(), wanted.waiting), (49, 49));
    }

    #[test]
    fn that_a_disk_failed_is_said_of_all_partitions_at_once_and_once_at_a_time() {
        let shared = Shared::new();
        let failed = |partition| {
            let change = InSyncChange::Failed { node: NodeId([1; 16]), incarnation: Incarnation(1) };
            let pepoch = Pepoch(1);
            Proposal::Record(Record::Sets(SetRecord::Changed { partition, pepoch, change }))
        };
        (1..200).for_each(|pepoch| drop(shared.asked(proposal(pepoch), MOST_UNHEARD, true)));
        for partition in Partition::all().chain(Partition::all()) {
            shared.asked(failed(partition), MOST_UNHEARD, true).expect("there is room");
        }
        let all = Partition::all().count();
        assert_eq!(shared.wanted().proposals.len(), MOST_UNHEARD + all);
        let first = Partition::all().next().expect("there are some");
        shared.has_ended(&failed(first));
        assert!(matches!(shared.asked(failed(first), MOST_UNHEARD, true), Ok(Some(_))), "it is said again");
        assert_eq!(shared.wanted().waiting, MOST_UNHEARD);
    }

    #[test]
    fn some_room_is_left_for_what_somebody_waits_for() {
        let shared = Shared::new();
        (1..200).for_each(|pepoch| drop(shared.asked(proposal(pepoch), MOST_UNHEARD, true)));
        assert_eq!(shared.wanted().proposals.len(), MOST_UNHEARD);
        assert!(matches!(shared.asked(proposal(1), MOST_WAITING, false), Ok(Some(_))));
    }
}
