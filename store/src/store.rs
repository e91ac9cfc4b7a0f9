//! The store of one disk: takes requests to what carries them out, and knows what is to be done later.
//!
//! It has no threads and reads no clock. Whoever runs it calls [`Store::sync`] and [`Store::apply`] when they are due.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, TryLockError};

use huntaway_replica::Recovered;
use huntaway_wire::{
    Answer, BLOCK_SIZE_BYTES, Broken, Error, ObjectRequest, Oid, Operation, Partition, Pepoch, Read, Refusal,
    Reply, Request, Submission,
};
use tokio::sync::oneshot;

use crate::backlog::Backlog;
use crate::dirty::DirtyPartitions;
use crate::disk::{Disk, Space};
use crate::known::KnownPartitions;
use crate::locking::lock;
use crate::memory::{Account, Memory};
use crate::metrics::Metrics;
use crate::object::ObjectCache;
use crate::options::StoreOptions;
use crate::partition::{Epochs, PartitionState, Slot};
use crate::reads::{Entered, Reads};
use crate::replicated::{LogDamage, Trails};
use crate::room::Room;
use crate::superblock::Superblock;
use crate::waiters::{Sender, Until, Waiters};
use crate::wal::{Lsn, Wal, WalError};

/// How often it is looked whether a partition is still busy, before it is taken to be so for long.
const LOOKS: u32 = 100;

/// Work that the store cannot do within a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Call [`Store::sync`]: somebody waits for stable storage.
    Sync,
    /// Call [`Store::apply`]: soon if [`Store::apply_is_due`], otherwise when there is nothing else to do.
    Apply,
    /// A read is there for the ring's thread, which sleeps.
    Read,
}

/// The store of one disk. All methods may be called from several threads at once.
pub struct Store<D: Disk> {
    pub(crate) disk: Arc<D>,
    pub(crate) options: StoreOptions,
    pub(crate) superblock: Superblock,
    pub(crate) wal: Wal<D>,
    pub(crate) partitions: Box<[Mutex<Slot>]>,
    /// What was known of each partition's directory when the store was opened.
    pub(crate) directories: Box<[Epochs]>,
    pub(crate) known: Mutex<KnownPartitions<D>>,
    pub(crate) objects: ObjectCache<D>,
    pub(crate) account: Arc<Account>,
    pub(crate) dirty: DirtyPartitions,
    /// From where on replicas need the log.
    pub(crate) trails: Trails,
    /// What the log lacks.
    pub(crate) damage: LogDamage,
    /// See [`Store::suspects`].
    pub(crate) suspects: Mutex<BTreeSet<(Partition, Oid)>>,
    /// Up to where all of the log was applied, as far as is known.
    pub(crate) applied: AtomicU64,
    /// What replicas are to learn from the log.
    pub(crate) recovered: Mutex<BTreeMap<Partition, Recovered>>,
    pub(crate) room: Room,
    pub(crate) waiters: Waiters,
    pub(crate) backlog: Backlog,
    pub(crate) reads: Reads,
    pub(crate) metrics: Metrics,
    /// Held by the one who applies.
    pub(crate) applying: Mutex<()>,
    /// Held by the one who carries out what waited for room: each request once, in their order.
    pub(crate) draining: Mutex<()>,
    pub(crate) failed: AtomicBool,
    pub(crate) stopping: AtomicBool,
    /// Nobody syncs or applies any more: whoever waits would wait for ever.
    pub(crate) ended: AtomicBool,
    pub(crate) rung: RungBell,
    #[cfg(feature = "planted-bugs")]
    pub(crate) kept_back: crate::planted::KeptBack,
    pub(crate) bell: OnceLock<Box<dyn Fn(Task) + Send + Sync>>,
    pub(crate) on_failure: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// Why the bell for application was rung last; higher is more urgent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Rung {
    /// There is something to apply.
    Unapplied = 1,
    /// It should be applied now.
    Due = 2,
}

/// Remembers what was rung since the last application, so that a write need not ring each time.
#[derive(Debug, Default)]
pub(crate) struct RungBell(AtomicU8);

impl RungBell {
    /// Whether the bell has to be rung for this.
    pub(crate) fn raise(&self, why: Rung) -> bool {
        // What it is rung for comes before: whoever clears this sees it, or this sees that it is clear.
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Acquire) < why as u8
            && self.0.fetch_max(why as u8, Ordering::AcqRel) < why as u8
    }

    /// All that was rung for is being taken care of.
    pub(crate) fn clear(&self) {
        self.0.store(0, Ordering::Release);
        fence(Ordering::SeqCst);
    }
}

/// How far a request was carried out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// To the end.
    Done(Reply),
    /// All but the waiting.
    Wait(Until),
    /// Not at all: there is no room among the recent writes or in the log until something is applied.
    Full,
}

/// The disk has failed: everything is answered by [`Broken::DiskFailed`] from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the disk has failed and was stopped")]
pub struct DiskStopped;

impl<D: Disk> Store<D> {
    /// The pepoch that all partitions are served in: never one that an earlier opening served.
    pub fn pepoch(&self) -> Pepoch {
        self.superblock.pepoch
    }

    /// Whose store it is.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// The disk below.
    pub(crate) fn disk(&self) -> &D {
        &self.disk
    }

    /// Its directory, as it is called in messages.
    pub(crate) fn name(&self) -> &str {
        &self.options.directory
    }

    /// How many objects the partition has, or may have soon; 0 if that is not known. Whoever asks does not wait for its disk.
    pub(crate) fn objects_of(&self, partition: Partition) -> usize {
        let slot = &self.partitions[partition.index()];
        let is_busy = |_| {
            let is_busy = matches!(slot.try_lock(), Err(TryLockError::WouldBlock));
            std::thread::yield_now();
            is_busy
        };
        if (0..LOOKS).all(is_busy) {
            return 0;
        }
        let damaged = || Broken::DiskFailed { disk: self.options.directory.clone() };
        let count =
            |state: &mut PartitionState| Ok(state.index.len() + usize::from(!state.memory.is_empty()));
        self.with_partition(partition, count, damaged).unwrap_or(0)
    }

    /// Calls `bell` whenever there is work, from the thread that made it. To be set once, before the first request.
    pub fn on_work(&self, bell: impl Fn(Task) + Send + Sync + 'static) {
        // A second bell would be a mistake without consequences: the first one goes on ringing.
        let _ = self.bell.set(Box::new(bell));
    }

    /// Calls `note` once the disk has failed, before anybody is told. To be set once.
    pub(crate) fn on_failure(&self, note: impl Fn() + Send + Sync + 'static) {
        let _ = self.on_failure.set(Box::new(note));
    }

    /// Hands over a request; see [`huntaway_wire::Peer::submit`].
    pub fn submit(&self, request: Request) -> Submission {
        if let Err(error) = self.check_open() {
            return Submission::Done(Err(error));
        }
        match request {
            Request::Flush => match self.flush() {
                Ok(None) => Submission::Done(Ok(Reply::Done)),
                Ok(Some(until)) => self.wait(until),
                Err(error) => Submission::Done(Err(error)),
            },
            Request::Space { exact } => Submission::Done(Ok(Reply::Space(self.available(exact)))),
            Request::Object(request) => self.submit_object(request),
        }
    }

    /// What can be written to blocks that have no space yet. If `exact` the disk is asked; when it does not answer, and
    /// otherwise: as far as it said last.
    pub(crate) fn available(&self, exact: bool) -> huntaway_wire::Space {
        if exact {
            self.room.refresh(&*self.disk);
        }
        self.room.available()
    }

    /// Reads straight into `into`; see [`huntaway_wire::Peer::read_now`].
    pub fn read_now(
        &self,
        read: &Read,
        into: &mut [u8],
        crcs: Option<&mut [u32]>,
    ) -> Option<Result<(), Error>> {
        if self.backlog.concerns(read.oid) {
            return None;
        }
        if let Err(error) = self.check_open() {
            return Some(Err(error));
        }
        if self.disk.is_memory() {
            Some(self.read_into(read, into, crcs))
        } else {
            self.read_at_hand(read, into, crcs)
        }
    }

    /// Bytes of recent writes: data that is not applied, and what is kept in memory of where it is.
    pub fn memory_bytes(&self) -> u64 {
        self.account.held_bytes()
    }

    /// Bytes of the log that are not applied.
    pub fn wal_bytes(&self) -> u64 {
        self.wal.live_bytes()
    }

    /// Requests that wait for room.
    pub fn waiting_requests(&self) -> usize {
        self.backlog.len()
    }

    /// Reads that wait for the disk.
    pub fn waiting_reads(&self) -> usize {
        self.reads.len()
    }

    /// Object files that are open.
    pub fn open_objects(&self) -> usize {
        self.objects.len()
    }

    /// Space on the disk. When the disk does not answer: as it was before.
    pub fn space(&self) -> Space {
        self.room.refresh(&*self.disk);
        self.room.space()
    }

    /// Whether the disk has failed.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Takes no more requests: they are answered by [`Refusal::NotServing`].
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Says that nobody will sync or apply any more: whoever waits still, or will wait, is answered by
    /// [`Refusal::NotServing`].
    pub fn end(&self) {
        self.stop();
        self.ended.store(true, Ordering::Release);
        let error = Refusal::NotServing.into();
        self.waiters.fail(&error);
        self.fail_backlog(&error);
        self.reads.fail(&error);
    }

    fn submit_object(&self, request: ObjectRequest) -> Submission {
        let frees = self.room.frees();
        if !self.must_queue(&request) {
            if let Some(read) = as_read(&request)
                && self.reads.is_served()
            {
                return self.read_later(read);
            }
            match self.execute(&request, frees) {
                Ok(Step::Done(reply)) => return Submission::Done(Ok(reply)),
                Ok(Step::Wait(until)) => return self.wait(until),
                Ok(Step::Full) => {}
                Err(error) => return Submission::Done(Err(error)),
            }
        }
        let (sender, receiver) = oneshot::channel();
        if self.backlog.push(request, frees, Sender::One(sender)).is_err() {
            return Submission::Done(Err(Refusal::NotServing.into()));
        }
        self.ring(Task::Apply);
        // Whoever stopped the disk may have looked for requests before this one was there.
        if let Err(error) = self.check_at_work() {
            self.fail_backlog(&error);
        }
        Submission::Waiting(receiver)
    }

    fn read_later(&self, read: Read) -> Submission {
        let Some(Entered { answer, wakes_ring }) = self.reads.enter(read) else {
            return Submission::Done(Err(Refusal::NotServing.into()));
        };
        if wakes_ring {
            self.ring(Task::Read);
        }
        // Whoever stopped the disk may have looked for reads before this one was there.
        if let Err(error) = self.check_at_work() {
            self.reads.fail(&error);
        }
        Submission::Waiting(answer)
    }

    /// Whether others have to be served first: those that came before it for the same object and, if it takes memory,
    /// all that wait for room. Otherwise small writes would take the room that a large one waits for, again and again.
    fn must_queue(&self, request: &ObjectRequest) -> bool {
        self.backlog.concerns(request.oid) || (self.backlog.len() > 0 && takes_memory(&request.operation))
    }

    /// Carries a request out as far as that can be done at once. Up to `frees` the log may give back the space that it
    /// lacks.
    fn execute(&self, request: &ObjectRequest, frees: Lsn) -> Result<Step, Error> {
        self.try_to_execute(request).or_else(|error| self.no_space(error, frees))
    }

    fn try_to_execute(&self, request: &ObjectRequest) -> Result<Step, Error> {
        let ObjectRequest { partition, pepoch, oid, .. } = *request;
        match &request.operation {
            Operation::Read { range } => {
                self.read_whole(&Read { partition, pepoch, oid, range: *range }).map(Step::Done)
            }
            Operation::Map { range } => {
                Ok(Step::Done(Reply::Map(self.map(&Read { partition, pepoch, oid, range: *range })?)))
            }
            Operation::Write { range, data, crcs, durability } => {
                self.write(request, *range, data, crcs, *durability)
            }
            Operation::CompareAndWrite { range, expected, data, crcs, durability } => {
                self.compare_and_write(request, *range, expected, (data, crcs), *durability)
            }
            Operation::Or { range, data, crcs, durability } => {
                self.or(request, *range, (data, crcs), *durability)
            }
            Operation::Discard { range, durability } => self.discard(request, *range, *durability),
            Operation::Reserve => self.reserve(request),
            Operation::Remove { durability } => self.remove(request, *durability),
        }
    }

    /// Carries out what waited for room, as far as there is room now.
    pub(crate) fn drain_backlog(&self) {
        if self.backlog.len() == 0 {
            return;
        }
        let _draining = lock(&self.draining);
        while let Some((number, request, frees)) = self.backlog.first() {
            let answer = match self.check_not_failed().and_then(|()| self.execute(&request, frees)) {
                Ok(Step::Full) => return,
                Ok(Step::Done(reply)) => Ok(Ok(reply)),
                Ok(Step::Wait(until)) => Err(until),
                Err(error) => Ok(Err(error)),
            };
            // Gone if the disk was stopped meanwhile.
            let Some(sender) = self.backlog.take(number) else { return };
            match answer {
                Ok(answer) => sender.send(answer),
                Err(until) => self.answer_later(until, sender),
            }
        }
    }

    /// As a flush that is submitted, but the answer goes to `sender`.
    pub(crate) fn flush_for(&self, sender: Sender) {
        match self.check_open().and_then(|()| self.flush()) {
            Ok(None) => sender.send(Ok(Reply::Done)),
            Ok(Some(until)) => self.answer_later(until, sender),
            Err(error) => sender.send(Err(error)),
        }
    }

    /// Whether something was acknowledged that is not on stable storage. Nothing will be there any more once the disk has
    /// failed.
    pub(crate) fn is_unflushed(&self) -> bool {
        self.wal.durable() < self.wal.written()
    }

    fn flush(&self) -> Result<Option<Until>, Error> {
        #[cfg(feature = "planted-bugs")]
        if self.options.has(crate::PlantedBug::StableWithoutSync) {
            return Ok(None);
        }
        let written = self.wal.written();
        Ok((self.wal.durable() < written).then_some(Until::Durable(written)))
    }

    fn wait(&self, until: Until) -> Submission {
        let (sender, receiver) = oneshot::channel();
        self.answer_later(until, Sender::One(sender));
        Submission::Waiting(receiver)
    }

    fn answer_later(&self, until: Until, sender: Sender) {
        self.waiters.add(until, sender);
        match until {
            Until::Durable(lsn) if self.wal.durable() >= lsn => self.waiters.durable(lsn),
            Until::Durable(_) => self.ring(Task::Sync),
            Until::Applied(lsn) if self.wal.released() >= lsn => self.waiters.applied(lsn),
            Until::Applied(_) => self.ring(Task::Apply),
        }
        // Whoever stopped the disk may have looked for waiters before this one was there.
        if let Err(error) = self.check_at_work() {
            self.waiters.fail(&error);
        }
    }

    pub(crate) fn ring(&self, task: Task) {
        if let Some(bell) = self.bell.get() {
            bell(task);
        }
    }

    /// Works on a partition with its lock held, loading it first if need be.
    pub(crate) fn with_partition<R>(
        &self,
        partition: Partition,
        work: impl FnOnce(&mut PartitionState) -> Result<R, Error>,
        damaged: impl FnOnce() -> Broken,
    ) -> Result<R, Error> {
        match &mut *self.look_up(partition)? {
            Slot::Loaded(state) => work(state),
            Slot::Untouched | Slot::Damaged => Err(damaged().into()),
        }
    }

    /// The partition, loaded if that can be done, with its lock held.
    pub(crate) fn look_up(&self, partition: Partition) -> Result<MutexGuard<'_, Slot>, Error> {
        let mut slot = lock(&self.partitions[partition.index()]);
        if let Slot::Untouched = *slot {
            *slot = self.load_partition(partition)?;
        }
        Ok(slot)
    }

    fn load_partition(&self, partition: Partition) -> Result<Slot, Error> {
        let epochs = self.directories[partition.index()];
        // What the log had of it may be missing: a process that died may have been applying that.
        let lacks_log = self.damage.concerns(partition);
        let mut memory = lacks_log.then(|| Memory::new(self.account.clone()));
        let left = (&mut memory, lacks_log);
        match PartitionState::load(&*self.disk, partition, epochs, self.pepoch(), left, &self.account) {
            Ok(state) => Ok(Slot::Loaded(Box::new(state))),
            Err(crate::index::IndexError::Io(error)) if crate::error::is_shortage(&error) => {
                tracing::warn!(%partition, %error, "cannot read the index of a partition now");
                Err(Refusal::NotServing.into())
            }
            // Nothing is given up for what may succeed the next time.
            Err(error @ crate::index::IndexError::Io(_)) => {
                tracing::warn!(%partition, %error, "the index of a partition cannot be read");
                Ok(Slot::Untouched)
            }
            Err(error) => {
                self.metrics.damaged_indexes.inc();
                tracing::error!(%partition, %error, "the index of a partition cannot be used");
                if !self.options.opens_damaged_log || self.damage.is_known() {
                    self.trails.give_up(partition);
                }
                Ok(Slot::Damaged)
            }
        }
    }

    pub(crate) fn check_not_failed(&self) -> Result<(), Error> {
        if self.has_failed() { Err(self.disk_failed()) } else { Ok(()) }
    }

    fn check_at_work(&self) -> Result<(), Error> {
        self.check_not_failed()?;
        if self.ended.load(Ordering::Acquire) { Err(Refusal::NotServing.into()) } else { Ok(()) }
    }

    fn check_open(&self) -> Result<(), Error> {
        self.check_not_failed()?;
        if self.stopping.load(Ordering::Acquire) { Err(Refusal::NotServing.into()) } else { Ok(()) }
    }

    fn disk_failed(&self) -> Error {
        Broken::DiskFailed { disk: self.options.directory.clone() }.into()
    }

    /// Stops the disk for good.
    pub(crate) fn fail(&self, reason: &(dyn std::error::Error + 'static)) -> Error {
        let error = self.disk_failed();
        if !self.failed.swap(true, Ordering::AcqRel) {
            let cause = reason.source().map(ToString::to_string).unwrap_or_default();
            tracing::error!(disk = self.options.directory, %reason, cause, "the disk has failed and was stopped");
            self.on_failure.get().into_iter().for_each(|note| note());
        }
        self.waiters.fail(&error);
        self.fail_backlog(&error);
        self.reads.fail(&error);
        error
    }

    fn fail_backlog(&self, error: &Error) {
        self.backlog.clear().into_iter().for_each(|sender| sender.send(Answer::Err(error.clone())));
    }

    /// What a lack of space means for the request that met it: if space is about to come back, it waits for that.
    fn no_space(&self, error: Error, frees: Lsn) -> Result<Step, Error> {
        if matches!(error, Error::Refused(Refusal::NoSpace { .. })) {
            if self.room.may_grow_for(frees) {
                return Ok(Step::Full);
            }
            self.metrics.refused_for_space.inc();
        }
        Err(error)
    }

    /// What an error of the log means for the request that met it.
    pub(crate) fn wal_failed(&self, error: WalError) -> Result<Step, Error> {
        match error {
            WalError::Full { .. } => Ok(Step::Full),
            // Once what it holds is applied, its segments can be used again.
            WalError::NoSpace { .. } | WalError::Shortage { .. } if self.wal.live_bytes() > 0 => {
                Ok(Step::Full)
            }
            WalError::NoSpace { needed_bytes } => Err(Refusal::NoSpace { needed_bytes }.into()),
            WalError::Shortage { source } => {
                tracing::warn!(error = %source, "the write-ahead log cannot open another segment now");
                Err(Refusal::NotServing.into())
            }
            error => Err(self.fail(&error)),
        }
    }

    /// Whether [`Store::sync`] has something to do that somebody waits for.
    pub fn sync_is_due(&self) -> bool {
        self.waiters.any_for_durable()
    }

    /// Puts all that was written to the log on stable storage, and answers those who waited for it.
    ///
    /// # Errors
    /// The disk has failed. There is no point in calling again.
    pub fn sync(&self) -> Result<Lsn, DiskStopped> {
        #[cfg(feature = "planted-bugs")]
        if self.kept_back.log(&self.wal).is_err() {
            return Err(DiskStopped);
        }
        match self.wal.sync() {
            Ok(durable) => {
                self.waiters.durable(durable);
                Ok(durable)
            }
            Err(error) => {
                self.fail(&error);
                Err(DiskStopped)
            }
        }
    }
}

/// The read that a request is, if it is one.
fn as_read(request: &ObjectRequest) -> Option<Read> {
    let ObjectRequest { partition, pepoch, oid, operation: Operation::Read { range } } = *request else {
        return None;
    };
    Some(Read { partition, pepoch, oid, range })
}

/// Whether an operation needs room for data among the recent writes.
fn takes_memory(operation: &Operation) -> bool {
    match operation {
        Operation::Write { .. } | Operation::CompareAndWrite { .. } | Operation::Or { .. } => true,
        // Parts of blocks are written.
        Operation::Discard { range, .. } => {
            !range.offset().is_multiple_of(BLOCK_SIZE_BYTES) || !range.end().is_multiple_of(BLOCK_SIZE_BYTES)
        }
        Operation::Read { .. } | Operation::Map { .. } | Operation::Reserve | Operation::Remove { .. } => {
            false
        }
    }
}
