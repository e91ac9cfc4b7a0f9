//! One step of a replica, and all that follows from it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use huntaway_ledger::keeper::Proposal as Proposed;
use huntaway_ledger::{InSyncChange, Record, SetRecord};
use huntaway_replica::{Hold, Input, Outcome, Output, Process, Proposal, Replica, SetChange, Ticket};
use huntaway_wire::replicated::{Answered, Answers};
use huntaway_wire::{Partition, Pepoch};

use super::door::{Comes, Door};
use super::room::PAUSE;
use super::syncs::Waits;
use super::{Shared, now};
use crate::disk::FileDisk;
use crate::locking::lock;
use crate::store::Store;

/// A partition's replica here.
pub(super) struct Place {
    pub(super) replica: Replica,
    /// Its disk does nothing any more, or did not take what it had to, and the replica knows.
    pub(super) has_failed: bool,
    /// Since when, if it is for want of room alone.
    pub(super) lacks_room: Option<Instant>,
    /// What is left of a step, an entry of which waits for room. Nothing else is taken in before that is done.
    rest: Option<Rest>,
    /// Since when, and when it was tried last.
    pub(super) waits: Option<(Instant, Instant)>,
    /// Since when its store cannot tell what it has.
    pub(super) unreadable: Option<(Instant, Instant)>,
    /// How often in a row it was not told what it knows, for too much of that is in doubt.
    pub(super) put_off: u8,
    /// How often it began anew, on another disk. What came of something before that is nothing to it.
    pub(super) life: u32,
    /// Where each gateway wants its answers.
    answers: Vec<(Process, Arc<dyn Answers>)>,
}

/// What follows from a step.
#[derive(Default)]
struct Rest {
    outputs: VecDeque<Output>,
    /// What came of earlier ones.
    stored: VecDeque<(Ticket, Outcome)>,
}

/// What is done when the replica's lock is free.
pub(super) enum After {
    Answer(Arc<dyn Answers>, Answered),
    Propose(Proposal),
    Held(Pepoch, Hold),
    /// Somebody may have come while this replica's lock was taken.
    GoOn(Partition),
}

/// A thread takes in so much for a replica, one after the other, before it goes on with what it came for.
const MOST_AT_ONCE: usize = 128;

/// Held by what must not end by a panic while the process goes on: it ends then, and the next one begins with what is in the logs. A
/// replica that takes something in would know of it in part; and without one of the threads or tasks that look after all replicas
/// the process would keep its leases, and serve nobody.
pub(super) struct WholeOrNothing(pub(super) &'static str);

impl Drop for WholeOrNothing {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("{} panicked: the process ends, and can be started again", self.0);
            std::process::abort();
        }
    }
}

impl Place {
    pub(super) fn new(replica: Replica, has_failed: bool) -> Self {
        Self {
            replica,
            has_failed,
            lacks_room: None,
            rest: None,
            waits: None,
            unreadable: None,
            put_off: 0,
            life: 0,
            answers: Vec::new(),
        }
    }

    /// Another replica takes its place, as if another process had started.
    pub(super) fn begins_anew(&mut self, replica: Replica) {
        let (life, answers) = (self.life + 1, std::mem::take(&mut self.answers));
        *self = Self { life, answers, ..Self::new(replica, false) };
    }

    /// Whether all that followed from what it took in was carried out.
    pub(super) fn is_through(&self) -> bool {
        self.rest.is_none()
    }

    /// Whether neither its replica nor its store has anything to do before something comes.
    pub(super) fn rests(&mut self, partition: Partition, store: &Store<FileDisk>) -> bool {
        let has_work = self.has_failed || !self.is_through() || store.wants_checkpoint(partition);
        !has_work && self.replica.rests(now())
    }

    /// Where a gateway wants its answers.
    pub(super) fn answers_of(&self, gateway: Process) -> Option<Arc<dyn Answers>> {
        let found = self.answers.iter().find(|(known, _)| *known == gateway);
        found.map(|(_, answers)| Arc::clone(answers))
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
    pub(super) fn door(&self, partition: Partition) -> &Door {
        &self.doors[partition.index()]
    }

    /// Has the replica take that in, and does what it says: now, or whoever is at it does.
    pub(super) fn step(&self, partition: Partition, input: Input) {
        self.comes(partition, Comes::Input(input), 0);
    }

    /// The same, of something that takes so many bytes of memory while it waits.
    pub(super) fn comes(&self, partition: Partition, comes: Comes, bytes: usize) {
        self.door(partition).put(comes, bytes);
        self.go_on(partition);
    }

    /// Has the replica take in what waits for it, unless somebody is at it, who does that then.
    pub(super) fn go_on(&self, partition: Partition) {
        let door = self.door(partition);
        // Others come as well. If nobody does, the timer takes up what is left.
        for _ in 0..MOST_AT_ONCE {
            let Some(mut place) = door.try_place() else { return };
            let mut after = Vec::new();
            let is_through = self.get_through(partition, &mut place, &mut after);
            if is_through && let Some(comes) = door.next() {
                self.take_in(partition, &mut place, comes, &mut after);
            }
            drop(place);
            after.into_iter().for_each(|after| self.carry_out_after(partition, after));
            // Who came before the lock was free has left it to us.
            if !is_through || !door.is_anybody_waiting() {
                return;
            }
        }
    }

    /// Looks at the replica when nobody else is at it, and when it has taken in what waited.
    pub(super) fn at<R>(&self, partition: Partition, look: impl FnOnce(&mut Place) -> R) -> R {
        let (door, mut after) = (self.door(partition), Vec::new());
        let mut place = door.place();
        while self.get_through(partition, &mut place, &mut after)
            && let Some(comes) = door.next()
        {
            self.take_in(partition, &mut place, comes, &mut after);
        }
        let seen = look(&mut place);
        drop(place);
        after.into_iter().for_each(|after| self.carry_out_after(partition, after));
        self.go_on(partition);
        seen
    }

    /// Looks at the replica unless somebody is at it.
    pub(super) fn try_at<R>(&self, partition: Partition, look: impl FnOnce(&mut Place) -> R) -> Option<R> {
        let seen = self.door(partition).try_place().map(|mut place| look(&mut place));
        self.go_on(partition);
        seen
    }

    fn take_in(&self, partition: Partition, place: &mut Place, comes: Comes, after: &mut Vec<After>) {
        if self.has_ended.load(Ordering::Acquire) {
            return;
        }
        match comes {
            Comes::Input(Input::Tick) => self.tick_place(partition, place, after),
            Comes::Input(input) => self.step_at(partition, place, input, after),
            Comes::Synced { life, .. } if life != place.life => {}
            Comes::Synced { ticket, outcome, .. } => {
                self.step_at(partition, place, Input::Stored { ticket, outcome }, after);
            }
            Comes::Request(request, answers) => {
                place.answers_go_to(request.id.gateway, &answers);
                let configuration = place.replica.configuration();
                if configuration.primary() == Some(self.me)
                    && configuration.in_sync.len() < configuration.min_copies
                {
                    lock(&self.recovery).asked_for(partition);
                }
                self.step_at(partition, place, Input::Requested(request), after);
            }
            Comes::Configured(configuration, number) => {
                self.step_at(partition, place, Input::Configured(configuration), after);
                self.door(partition).is_configured(number);
                self.configured.notify_one();
            }
        }
    }

    /// One step, and those that follow from it.
    pub(super) fn step_at(
        &self,
        partition: Partition,
        place: &mut Place,
        input: Input,
        after: &mut Vec<After>,
    ) {
        if let Some(instead) = self.is_put_off(partition, place, &input) {
            return after.extend(instead);
        }
        let whole = WholeOrNothing("a replica");
        let rest = Rest { outputs: self.outputs(partition, place, input), ..Rest::default() };
        self.carry_out_all(partition, place, rest, after);
        drop(whole);
    }

    /// What the replica says to that.
    fn outputs(&self, partition: Partition, place: &mut Place, input: Input) -> VecDeque<Output> {
        if let Some(store) = self.disks.store(partition)
            && store.wants_checkpoint(partition)
        {
            place.tell_what_is_known(partition, store);
        }
        let mut outputs = self.tell_room(partition, place, &input);
        outputs.extend(place.replica.step(now(), input));
        outputs.into()
    }

    /// Carries out what is left of a step that waits for room, if it is time. Whether there is nothing left.
    fn get_through(&self, partition: Partition, place: &mut Place, after: &mut Vec<After>) -> bool {
        let may_try = place.waits.is_none_or(|(_, tried)| tried.elapsed() >= PAUSE);
        if may_try
            && !self.has_ended.load(Ordering::Acquire)
            && let Some(rest) = place.rest.take()
        {
            let whole = WholeOrNothing("a replica");
            self.carry_out_all(partition, place, rest, after);
            drop(whole);
        }
        place.is_through()
    }

    /// As far as there is room.
    fn carry_out_all(&self, partition: Partition, place: &mut Place, mut rest: Rest, after: &mut Vec<After>) {
        loop {
            while let Some(output) = rest.outputs.pop_front() {
                if let Some(waits) = self.carry_out(partition, place, output, &mut rest.stored, after) {
                    rest.outputs.push_front(waits);
                    place.rest = Some(rest);
                    return;
                }
            }
            let Some((ticket, outcome)) = rest.stored.pop_front() else { return };
            if !place.has_failed && self.disks.store(partition).is_none() {
                // The disk failed just now. A replica that only hears of a read that failed looks for the blocks elsewhere, and if it is
                // alone, it calls them damaged.
                place.has_failed = true;
                rest.outputs = self.outputs(partition, place, Input::DiskFailed);
                continue;
            }
            rest.outputs = self.outputs(partition, place, Input::Stored { ticket, outcome });
        }
    }

    /// Returns it if there is no room for it now.
    fn carry_out(
        &self,
        partition: Partition,
        place: &mut Place,
        output: Output,
        stored: &mut VecDeque<(Ticket, Outcome)>,
        after: &mut Vec<After>,
    ) -> Option<Output> {
        let store = || self.disks.store(partition);
        let failed = || Outcome::Failed;
        match output {
            Output::Log { ticket, entry } => match self.log(partition, place, &entry, after) {
                Some(outcome) => stored.push_back((ticket, outcome)),
                None => return Some(Output::Log { ticket, entry }),
            },
            Output::Sync { ticket } => {
                let waits = Waits { partition, life: place.life, ticket };
                self.syncs.want(self.disks.number(partition), waits);
            }
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
                if let Some(answers) = place.answers_of(id.gateway) {
                    after.push(After::Answer(answers, Answered { id, resend, answer, stamp }));
                }
            }
            Output::Propose(proposal) => after.push(After::Propose(proposal)),
            Output::GaveUp { learner } => lock(&self.recovery).gave_up(now(), partition, learner),
            Output::Held { pepoch, hold } => after.push(After::Held(pepoch, hold)),
        }
        None
    }

    pub(super) fn carry_out_after(&self, partition: Partition, after: After) {
        match after {
            After::Answer(answers, answered) => {
                self.waits.answered(partition, answered.id);
                answers.answered(self.me, partition, answered);
            }
            After::Propose(proposal) => {
                let record = record(partition, &proposal);
                // It is proposed again while it is wanted.
                self.ledger.propose_unheard(Proposed::Record(record));
            }
            After::Held(pepoch, hold) => self.held(partition, pepoch, hold),
            After::GoOn(other) => self.go_on(other),
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

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::panic::catch_unwind;
    use std::process::Command;

    use super::*;

    const IS_CHILD: &str = "HUNTAWAY_TEST_PANICS_IN_A_STEP";
    const NAME: &str = "host::step::tests::a_panic_within_a_step_ends_the_process";
    const SIGABRT: i32 = 6;

    #[test]
    fn a_panic_within_a_step_ends_the_process() {
        if std::env::var_os(IS_CHILD).is_some() {
            // Whoever catches it, as those do that run tasks, does not get to it.
            let caught = catch_unwind(|| {
                let _whole = WholeOrNothing("a test");
                panic!("half way through");
            });
            return assert!(caught.is_ok(), "it goes on");
        }
        let mut child = Command::new(std::env::current_exe().unwrap());
        let ended = child.args(["--exact", NAME]).env(IS_CHILD, "1").output().unwrap();
        assert_eq!(ended.status.signal(), Some(SIGABRT), "{ended:?}");
    }
}
