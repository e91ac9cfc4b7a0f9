//! One step of a replica, and all that follows from it.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};

use huntaway_ledger::keeper::Proposal as Proposed;
use huntaway_ledger::{InSyncChange, Record, SetRecord};
use huntaway_replica::{Entry, Hold, Input, Outcome, Output, Process, Proposal, Replica, SetChange, Ticket};
use huntaway_wire::replicated::{Answered, Answers, Request};
use huntaway_wire::{Error, Partition, Pepoch};

use super::{Shared, now};
use crate::LogError;
use crate::disk::FileDisk;
use crate::locking::lock;
use crate::store::Store;

/// How often room is made for an entry that was promised some.
const MOST_TRIES: usize = 3;

/// A partition's replica here.
pub(super) struct Place {
    pub(super) replica: Replica,
    /// Whether this process is to be its primary, as far as is known.
    pub(super) leads: bool,
    /// Its disk does nothing any more, or did not take what it had to, and the replica knows.
    pub(super) has_failed: bool,
    /// Where each gateway wants its answers.
    answers: Vec<(Process, Arc<dyn Answers>)>,
}

/// What is done when the replica's lock is free.
enum After {
    Answer(Arc<dyn Answers>, Answered),
    Propose(Proposal),
    Held(Pepoch, Hold),
}

/// Held while a replica takes something in. If a panic ends that, the replica knows of it in part, and so the process ends before
/// anybody is told more: the next one begins with what is in the log.
struct WholeOrNothing;

impl Drop for WholeOrNothing {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(
                "a replica is half way through a step: the process ends, and can be started again"
            );
            std::process::abort();
        }
    }
}

impl Place {
    pub(super) fn new(replica: Replica) -> Self {
        Self { replica, leads: false, has_failed: false, answers: Vec::new() }
    }

    fn answers_go_to(&mut self, gateway: Process, answers: &Arc<dyn Answers>) {
        match self.answers.iter_mut().find(|(known, _)| known.node == gateway.node) {
            Some((known, _)) if known.incarnation > gateway.incarnation => {}
            Some(known) => *known = (gateway, Arc::clone(answers)),
            None => self.answers.push((gateway, Arc::clone(answers))),
        }
    }
}

impl Shared {
    pub(super) fn place(&self, partition: Partition) -> MutexGuard<'_, Place> {
        lock(&self.places[partition.index()])
    }

    /// Has the replica take that in, and does what it says.
    pub(super) fn step(&self, partition: Partition, input: Input) {
        let place = self.place(partition);
        self.step_locked(partition, place, input);
    }

    pub(super) fn take_request(&self, partition: Partition, request: Request, answers: &Arc<dyn Answers>) {
        let mut place = self.place(partition);
        place.answers_go_to(request.id.gateway, answers);
        if place.leads
            && place.replica.configuration().in_sync.len() < place.replica.configuration().min_copies
        {
            lock(&self.recovery).asked_for(partition);
        }
        self.step_locked(partition, place, Input::Requested(request));
    }

    fn step_locked(&self, partition: Partition, mut place: MutexGuard<'_, Place>, input: Input) {
        if self.has_ended.load(Ordering::Acquire) {
            return;
        }
        let mut after = Vec::new();
        let mut stored = VecDeque::new();
        let mut next = Some(input);
        let whole = WholeOrNothing;
        while let Some(input) = next {
            let is_late = |store: &&Store<FileDisk>| !place.has_failed && store.wants_checkpoint(partition);
            if let Some(store) = self.disks.store(partition).filter(is_late) {
                // If there is no room for that either, whoever has to log something finds out.
                let _ = store.log_entry(partition, &place.replica.checkpoint());
            }
            let mut outputs = self.tell_room(partition, &mut place, &input);
            outputs.extend(place.replica.step(now(), input));
            for output in outputs {
                self.carry_out(partition, &mut place, output, &mut stored, &mut after);
            }
            next = stored.pop_front().map(|(ticket, outcome)| Input::Stored { ticket, outcome });
        }
        drop(whole);
        drop(place);
        after.into_iter().for_each(|after| self.carry_out_after(partition, after));
    }

    /// What the store has room for, if the replica wants to know before it takes that in.
    fn tell_room(&self, partition: Partition, place: &mut Place, input: &Input) -> Vec<Output> {
        let is_wanted = !place.has_failed && place.replica.wants_room_for(input);
        let Some(store) = self.disks.store(partition).filter(|_| is_wanted) else { return Vec::new() };
        match store.credit(partition) {
            Ok(credit) => place.replica.step(now(), Input::Room(credit)),
            // It is told of room for what it could not log; without that the others would wait for it.
            Err(error @ Error::Broken(_)) => {
                tracing::error!(%partition, %error, "a replica has nowhere to log to");
                place.has_failed = true;
                place.replica.step(now(), Input::DiskFailed)
            }
            Err(Error::Refused(_)) => Vec::new(),
        }
    }

    fn carry_out(
        &self,
        partition: Partition,
        place: &mut Place,
        output: Output,
        stored: &mut VecDeque<(Ticket, Outcome)>,
        after: &mut Vec<After>,
    ) {
        let store = || self.disks.store(partition);
        let failed = || Outcome::Failed;
        match output {
            Output::Log { ticket, entry } => {
                // Of entries in the log all earlier ones are: after one that is not there nothing is added.
                let outcome = if place.has_failed { Outcome::Failed } else { self.log(partition, &entry) };
                place.has_failed |= outcome == Outcome::Failed;
                stored.push_back((ticket, outcome));
            }
            Output::Sync { ticket } => self.syncs.want(self.disks.number(partition), partition, ticket),
            Output::Read { ticket, oid, blocks } => {
                let read = store().map_or_else(failed, |store| store.read_blocks(partition, oid, blocks));
                stored.push_back((ticket, read));
            }
            Output::Digests { ticket, after, most } => {
                let page = store().map_or_else(failed, |store| store.digests(partition, after, most));
                stored.push_back((ticket, page));
            }
            Output::Versions { ticket, oid } => {
                let versions = store().map_or_else(failed, |store| store.versions(partition, oid));
                stored.push_back((ticket, versions));
            }
            Output::Verify { ticket, oid } => {
                let verified = store().map_or_else(failed, |store| store.verify(partition, oid));
                stored.push_back((ticket, verified));
            }
            Output::Send { to, message } => self.links.send(to, partition, &message),
            Output::Answer { id, resend, answer, stamp } => {
                if let Some((_, answers)) = place.answers.iter().find(|(gateway, _)| *gateway == id.gateway) {
                    let answered = Answered { id, resend, answer, stamp };
                    after.push(After::Answer(Arc::clone(answers), answered));
                }
            }
            Output::Propose(proposal) => after.push(After::Propose(proposal)),
            Output::GaveUp { learner } => lock(&self.recovery).gave_up(now(), partition, learner),
            Output::Held { pepoch, hold } => after.push(After::Held(pepoch, hold)),
        }
    }

    fn log(&self, partition: Partition, entry: &Entry) -> Outcome {
        let Some(store) = self.disks.store(partition) else { return Outcome::Failed };
        let may_wait = matches!(entry, Entry::Copy { .. } | Entry::Replace { .. });
        let mut logged = store.log_entry(partition, entry);
        for _ in 0..MOST_TRIES {
            if may_wait || !matches!(logged, Err(LogError::Full | LogError::NotNow)) {
                break;
            }
            // It was promised room: what is in its way goes to its place now.
            self.make_room(store);
            logged = store.log_entry(partition, entry);
        }
        match logged {
            Ok(_) => Outcome::Done,
            Err(LogError::Full | LogError::NoSpace { .. } | LogError::NotNow) if may_wait => Outcome::NoRoom,
            Err(error) => {
                tracing::error!(%partition, %error, "a replica's entry cannot be logged");
                Outcome::Failed
            }
        }
    }

    /// Has the log be used again, as far as that can be without waiting for other replicas.
    fn make_room(&self, store: &Store<FileDisk>) {
        for partition in store.checkpoints_due() {
            if let Ok(place) = self.places[partition.index()].try_lock()
                && !place.has_failed
            {
                // If there is no room for that either, whoever tries again finds out.
                let _ = store.log_entry(partition, &place.replica.checkpoint());
            }
        }
        // A disk that fails is noticed by whoever uses it next.
        let _ = store.sync().and_then(|_| store.apply());
    }

    /// What the replica knows goes to the log again, where it holds up the rest.
    pub(super) fn checkpoint(&self, partition: Partition) {
        let place = self.place(partition);
        // What it knows by now may name what the log does not have.
        if !place.has_failed {
            self.log(partition, &place.replica.checkpoint());
        }
    }

    fn carry_out_after(&self, partition: Partition, after: After) {
        match after {
            After::Answer(answers, answered) => answers.answered(self.me, partition, answered),
            After::Propose(proposal) => {
                let record = record(partition, &proposal);
                // It is proposed again while it is wanted.
                self.ledger.propose_unheard(Proposed::Record(record));
            }
            After::Held(pepoch, hold) => self.held(partition, pepoch, hold),
        }
    }
}

/// What the ledger is asked for.
fn record(partition: Partition, proposal: &Proposal) -> Record {
    let change = match proposal.change {
        SetChange::Drop(Process { node, incarnation }) => InSyncChange::Drop { node, incarnation },
        SetChange::Promote(Process { node, incarnation }) => InSyncChange::Promote { node, incarnation },
        SetChange::Renew => InSyncChange::Renew,
        SetChange::Collected => InSyncChange::Collected,
        SetChange::Failed(Process { node, incarnation }) => InSyncChange::Failed { node, incarnation },
    };
    Record::Sets(SetRecord::Changed { partition, pepoch: proposal.pepoch, change })
}
