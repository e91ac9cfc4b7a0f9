//! The way to stores that replicate: takes operations on objects to the primaries of their partitions, and sends them again until
//! they are answered, or have settled.
//!
//! [`fencing`](crate::fencing) says what may be sent, and when a request has ended; this drives it. Each partition's requests have
//! a lock and numbers of their own ([`requests`]). A request is sent by whoever found that it is to be: the connection that has
//! it carried out, the thread that read a store's answer or an initiator's proof, or the one task that looks what is overdue.
//! So a command that is answered at once changes no thread, and has no task.
//!
//! ```text
//! Operation ─► command ─► Requests ─► Prepared::Send ─► Way ─► Store     in this process, or behind a connection
//!                            ▲  ▲                                │
//!      overdue, given up ────┘  └──────────── Answers ◄──────────┘
//! ```

mod asker;
mod command;
mod links;
mod path;
mod proof;
mod reach;
mod requests;
mod resets;
mod syncs;
mod table;
mod way;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::{BoxFuture, try_join_all};
use huntaway_ledger::State;
use huntaway_wire::replicated::{Answer, Answered, Answers, Command, Relay, Request, Synced};
use huntaway_wire::{
    Oid, Operation, PARTITIONS, Partition, Pepoch, Process, Refusal, Submission, Vid, clock,
};
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

pub(crate) use self::asker::Asker;
pub use self::links::Links;
pub(crate) use self::path::Path;
pub(crate) use self::proof::Proof;
pub use self::reach::IsFollowed;
use self::reach::Reach;
use self::requests::{Asked, Effects, Prepared, Requests};
use self::resets::Resets;
use self::syncs::{Rounds, Wanted};
use self::table::Table;
pub use self::way::Stores;
use self::way::Way;
use crate::fencing::{GivenUp, RequestNumber, SETTLE_TIME};
use crate::sessions::lock;

/// How often it is looked what is overdue, or has settled.
const TICK: Duration = Duration::from_millis(20);

/// How often ways are looked for that are lacking, in ticks.
const WAYS_TICKS: u32 = 10;

/// Partitions for which one word says whether they have requests.
const WORD: usize = u64::BITS as usize;

/// A number that nothing else in this process has.
fn number() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// It could not be recorded, as far as is known; whoever keeps the records has said why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the fence was not raised")]
pub struct NotRaised;

/// Whoever gives up the commands to a disk at all gateways at once.
pub trait Fences: Send + Sync {
    /// Raises the fence of the disk with this first version. Ready when no store takes anything of a lower one any more: each
    /// knows of the record, or is down.
    fn raise(&self, disk: Vid) -> BoxFuture<'static, Result<(), NotRaised>>;
}

/// Whose writes a flush covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flushes {
    /// Those of all gateways. Which partitions others wrote to is not known, so it goes to all in which the disk may have objects.
    OfAll,
    /// Those of this gateway, of this process and the one before it. That is right only where initiators use no other gateway
    /// until they have flushed.
    OfThisGateway,
}

/// What a cluster's gateway needs to know.
pub struct ClusterConfig {
    /// This process, as its start is recorded.
    pub process: Process,
    /// What the ledger says, as it is learned.
    pub states: watch::Receiver<Arc<State>>,
    /// How stores are reached.
    pub stores: Arc<dyn Stores>,
    /// How resets reach all gateways.
    pub fences: Arc<dyn Fences>,
    /// Whether what it learns of the ledger is what the ledger says: whoever keeps it is there, and a node has its lease.
    pub is_followed: IsFollowed,
    /// Whose writes a flush covers.
    pub flushes: Flushes,
}

/// A gateway's way to the stores of a cluster.
pub struct Cluster {
    gateway: Process,
    this: Weak<Self>,
    fences: Arc<dyn Fences>,
    reach: Reach,
    flushes: Flushes,
    resets: Resets,
    rounds: Rounds,
    table: ArcSwap<Table>,
    partitions: Vec<Mutex<Requests>>,
    /// A bit for each partition that has requests.
    busy: Vec<AtomicU64>,
    listens_from: Duration,
}

impl Cluster {
    /// Begins. Must be called within a tokio runtime, which does what time brings.
    pub fn start(config: ClusterConfig) -> Arc<Self> {
        let ClusterConfig { process, mut states, stores, fences, is_followed, flushes } = config;
        let cluster = Arc::new_cyclic(|this| Self {
            gateway: process,
            this: Weak::clone(this),
            fences,
            reach: Reach::new(is_followed),
            flushes,
            resets: Resets::default(),
            rounds: Rounds::new(),
            table: ArcSwap::from_pointee(Table::nothing()),
            partitions: (0..PARTITIONS).map(|_| Mutex::default()).collect(),
            busy: (0..usize::from(PARTITIONS) / WORD).map(|_| AtomicU64::new(0)).collect(),
            listens_from: clock::now() + SETTLE_TIME,
        });
        let state = Arc::clone(&states.borrow_and_update());
        cluster.learn(state, &*stores);
        tokio::spawn(keep_time(Arc::downgrade(&cluster), states, stores));
        cluster
    }

    /// Gives up what all gateways have received for these disks, by their first versions.
    pub(crate) async fn raise(&self, disks: Vec<Vid>) -> Result<(), NotRaised> {
        let raise = async |disk| {
            self.resets.expect(disk);
            self.fences.raise(disk).await.inspect_err(|NotRaised| self.resets.expect_no_more(disk))
        };
        try_join_all(disks.into_iter().map(raise)).await.map(drop)
    }

    /// The next disks that other gateways have reset, by their first versions.
    pub(crate) async fn reset_elsewhere(&self) -> Vec<Vid> {
        self.resets.elsewhere().await
    }

    /// How long it is until initiators may be let in: what the process before this one had sent has settled by then.
    pub(crate) fn until_listening(&self) -> Duration {
        self.listens_from.saturating_sub(clock::now())
    }

    /// Whether the cluster cannot be reached, and that for a while: nobody gets in, whatever is asked for fails, and who was in is sent
    /// away.
    pub fn is_lost(&self) -> bool {
        self.reach.is_lost()
    }

    /// Returns when the cluster is lost.
    pub(crate) async fn until_lost(&self) {
        self.reach.until_lost().await;
    }

    /// A command of an initiator to the disk with this first version, which is being received. `proof` is that of its connection.
    pub(crate) fn asker(&self, proof: &Arc<Proof>, disk: Vid) -> Arc<Asker> {
        Arc::new(Asker::new(Some(Arc::clone(proof)), disk, self.fence(disk)))
    }

    fn fence(&self, disk: Vid) -> u64 {
        self.table.load().target(disk).map_or(0, |target| target.fence)
    }

    /// Has an operation on an object carried out, for a command or else for the gateway itself.
    pub(crate) fn submit(
        &self,
        partition: Partition,
        oid: Oid,
        operation: Operation,
        asker: Option<&Arc<Asker>>,
    ) -> Submission {
        let read = match &operation {
            Operation::Read { range } => Some(*range),
            _ => None,
        };
        let asker = asker.cloned().unwrap_or_else(|| self.own(oid.vid()));
        let (reply, receiver) = oneshot::channel();
        let asked = Asked { asker, command: command::command(oid, operation), read, reply };
        self.ask(partition, asked, receiver)
    }

    /// Has what was acknowledged by the partitions put on stable storage: in [`Flushes::OfThisGateway`], by those that may have
    /// something of this gateway. If there are more of them than processes, these are asked. Called within a tokio runtime.
    pub(crate) fn flush(
        &self,
        partitions: impl Iterator<Item = Partition>,
        disk: Vid,
        asker: Option<&Arc<Asker>>,
    ) -> Vec<Submission> {
        let asker = asker.cloned().unwrap_or_else(|| self.own(disk));
        let wanted = |partition| match self.flushes {
            Flushes::OfAll => Some((partition, 0)),
            Flushes::OfThisGateway => Some((partition, self.requests(partition).unflushed()?)),
        };
        let wanted: Vec<Wanted> = partitions.filter_map(wanted).collect();
        let table = self.table.load();
        match self.this.upgrade() {
            Some(this) if wanted.len() > table.ways().count() => {
                if is_fenced(&asker, &table) {
                    return vec![Submission::Done(Err(Refusal::GivenUp.into()))];
                }
                let (reply, receiver) = oneshot::channel();
                tokio::spawn(this.flush_by_round(wanted, asker, reply));
                vec![Submission::Waiting(receiver)]
            }
            _ => wanted.into_iter().map(|(partition, _)| self.flush_one(partition, &asker)).collect(),
        }
    }

    /// By its primary.
    fn flush_one(&self, partition: Partition, asker: &Arc<Asker>) -> Submission {
        let (reply, receiver) = oneshot::channel();
        let asked = Asked { asker: Arc::clone(asker), command: Command::Flush, read: None, reply };
        self.ask(partition, asked, receiver)
    }

    /// The gateway itself, as it asks for one thing.
    fn own(&self, disk: Vid) -> Arc<Asker> {
        Arc::new(Asker::new(None, disk, self.fence(disk)))
    }

    fn ask(
        &self,
        partition: Partition,
        asked: Asked,
        mut receiver: oneshot::Receiver<huntaway_wire::Answer>,
    ) -> Submission {
        let table = self.table.load();
        let asker = Arc::clone(&asked.asker);
        if is_fenced(&asker, &table) {
            return Submission::Done(Err(Refusal::GivenUp.into()));
        }
        let prepared = asker.ask(partition, || {
            let mut requests = self.requests(partition);
            self.note_busy(partition);
            let number = requests.enter(asked, asker.fence());
            requests.prepare(number, self.gateway, to(&table, partition), &table)
        });
        let Some(prepared) = prepared else { return Submission::Done(Err(Refusal::NotServing.into())) };
        self.carry_out(partition, prepared);
        match receiver.try_recv() {
            Ok(answer) => Submission::Done(answer),
            Err(TryRecvError::Empty) => Submission::Waiting(receiver),
            Err(TryRecvError::Closed) => Submission::Done(Err(Refusal::NotServing.into())),
        }
    }

    /// The command is never sent again. Its requests end when they can take no effect any more: then whoever waits for them is
    /// answered.
    pub(crate) fn give_up(&self, asker: &Asker, why: GivenUp) {
        for partition in asker.give_up() {
            let mut effects = Effects::default();
            self.requests(partition).give_up(asker.owner(), why, &mut effects);
            self.take(partition, effects);
        }
    }

    /// The initiator of a connection has proved something newer.
    fn proof_is_newer(&self, proof: &Proof) {
        for partition in proof.take_waiting() {
            let due = self.requests(partition).proof_is_newer(proof.number);
            due.into_iter().for_each(|number| self.send(partition, number));
        }
    }

    fn requests(&self, partition: Partition) -> std::sync::MutexGuard<'_, Requests> {
        lock(&self.partitions[partition.index()])
    }

    /// With the lock on the partition's requests.
    fn note_busy(&self, partition: Partition) {
        let (word, bit) = (partition.index() / WORD, partition.index() % WORD);
        if self.busy[word].load(Ordering::Relaxed) & 1 << bit == 0 {
            self.busy[word].fetch_or(1 << bit, Ordering::Relaxed);
        }
    }

    fn send(&self, partition: Partition, number: RequestNumber) {
        let table = self.table.load();
        let prepared = self.requests(partition).prepare(number, self.gateway, to(&table, partition), &table);
        self.carry_out(partition, prepared);
    }

    /// Without any lock.
    fn carry_out(&self, partition: Partition, prepared: Prepared) {
        match prepared {
            Prepared::Send(way, request) => {
                if let Some(this) = self.this.upgrade() {
                    let answers: Arc<dyn Answers> = this;
                    self.hand_over(partition, &way, request, &answers);
                }
            }
            Prepared::Wait(proof, than) => {
                if proof.wait(partition, than) {
                    self.proof_is_newer(&proof);
                }
            }
            Prepared::Nothing => {}
        }
    }

    /// Hands a request to its primary, or else to another process that may have a way there.
    fn hand_over(&self, partition: Partition, way: &Way, request: Request, answers: &Arc<dyn Answers>) {
        if way.store.is_reachable() {
            return way.store.request(partition, request, answers);
        }
        match self.table.load().relay(self.gateway, way.process, request.resend) {
            Some(other) => {
                let relay = Relay { to: way.process, request };
                other.store.relay(partition, relay, answers);
            }
            // It may be there a moment later: what is sent while a connection is made waits for that.
            None => way.store.request(partition, request, answers),
        }
    }

    fn take(&self, partition: Partition, effects: Effects) {
        let Effects { finished, due } = effects;
        finished.into_iter().for_each(requests::Finished::tell);
        due.into_iter().for_each(|number| self.send(partition, number));
    }

    /// The ledger says this by now.
    fn learn(&self, state: Arc<State>, stores: &dyn Stores) {
        let answers: Weak<dyn Answers> = self.this.clone();
        let before = self.table.load_full();
        let next = Arc::new(before.next(state, stores, &answers));
        self.table.store(Arc::clone(&next));
        self.rounds.learned(next.number());
        next.raised_since(&before).for_each(|(disk, by)| self.resets.note(disk, by));
    }

    /// Sends what is overdue, and ends what has settled.
    fn tick(&self) {
        let table = self.table.load();
        let has_way = || table.ways().any(|way| way.store.is_reachable());
        let is_lost = self.reach.look(clock::now(), has_way);
        for partition in Partition::all() {
            let (word, bit) = (partition.index() / WORD, partition.index() % WORD);
            if self.busy[word].load(Ordering::Relaxed) & 1 << bit == 0 {
                continue;
            }
            let mut requests = self.requests(partition);
            let effects = requests.tick(to(&table, partition), &table, is_lost);
            if requests.is_empty() {
                self.busy[word].fetch_and(!(1 << bit), Ordering::Relaxed);
            }
            drop(requests);
            self.take(partition, effects);
        }
    }
}

impl Answers for Cluster {
    fn answered(&self, from: Process, partition: Partition, answered: Answered) {
        let Answered { id, resend, answer, stamp } = answered;
        let table = self.table.load();
        if let Some(way) = table.way(from) {
            way.note(stamp);
        }
        if id.gateway == self.gateway {
            if !matches!(answer, Answer::Refused(_)) {
                self.reach.served();
            }
            let effects = self.requests(partition).answered(RequestNumber(id.number), resend, answer, &table);
            self.take(partition, effects);
        }
    }

    fn synced(&self, from: Process, synced: Synced) {
        self.rounds.answered(from, synced);
    }
}

/// Whether its disk was reset since the command was received.
fn is_fenced(asker: &Asker, table: &Table) -> bool {
    let newest = table.target(asker.disk()).map(|target| target.fence);
    asker.proof().is_some() && newest.is_some_and(|newest| asker.fence() < newest)
}

/// Where the partition's requests go.
fn to(table: &Table, partition: Partition) -> Option<(&Arc<Way>, Pepoch)> {
    let route = table.route(partition)?;
    Some((route.way.as_ref()?, route.pepoch))
}

/// Does what time and the ledger bring, as long as the cluster is used.
async fn keep_time(cluster: Weak<Cluster>, mut states: watch::Receiver<Arc<State>>, stores: Arc<dyn Stores>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut may_change, mut count) = (true, 0_u32);
    loop {
        let state = tokio::select! {
            changed = states.changed(), if may_change => match changed {
                Ok(()) => Some(Arc::clone(&states.borrow_and_update())),
                Err(_) => {
                    may_change = false;
                    None
                }
            },
            _ = ticks.tick() => None,
        };
        let Some(cluster) = cluster.upgrade() else { return };
        count = count.wrapping_add(1);
        let lacking = || cluster.table.load().lacking().filter(|_| count.is_multiple_of(WAYS_TICKS));
        if let Some(state) = state.or_else(lacking) {
            cluster.learn(state, &*stores);
        }
        cluster.tick();
    }
}

#[cfg(test)]
mod tests;
