//! The primary at work: it gives requests their turn and their versions, and answers when every in-sync replica is done.

mod change;
mod elsewhere;
mod freeing;
mod holding;
mod lookup;
mod operation;
mod peer;
mod resolving;
mod resting;
mod room;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use huntaway_wire::{Oid, Partition, Version};

use crate::configuration::SetChange;
use crate::event::{Answer, Command, Outcome, Refused, Request};
use crate::mending::Mending;
use crate::message::{Body, Reply};
use crate::order::{Access, Input, OpId, Order, Output};
use crate::planted::PlantedBug;
use crate::process::{Process, SILENCE_US};
use crate::record::{Completion, RequestId};
use crate::replica::is_change;
use crate::requests::{Known, has_ended};
use crate::resend::Resend;
use crate::site::{Pending, Site};
use crate::teaching::Teaching;
pub(crate) use change::cost;
use change::{WHOLE_OBJECT, extent, is_sound, lookup_of_all};
use freeing::Freeing;
use holding::Holding;
use operation::{Operation, State};
use peer::Peer;
pub(crate) use peer::lease_end;
use resolving::reads_early;
use resting::Rest;
use room::{Space, Spending};

/// Places among the operations that are kept for what the primary locks by itself: nobody asks for such a lock again.
const OWN_LOCKS: usize = 16;

/// Most requests of one gateway, from the first that it has no answer to: one more is not taken.
const MOST_UNANSWERED: u64 = 1 << 12;

/// A primary that serves.
#[derive(Debug)]
pub(crate) struct Primary {
    order: Order,
    operations: BTreeMap<OpId, Operation>,
    /// Changes under way, by the request that they carry out.
    changes: BTreeMap<RequestId, OpId>,
    last_op: u64,
    last_seq: u32,
    /// Writes that some replica may lack, by the number of their version.
    unfinished: BTreeMap<u32, OpId>,
    /// Locks of teachers that they were not told of.
    locked: Vec<OpId>,
    /// Locks that teachers have no use for any more.
    unlocked: Vec<OpId>,
    /// Operations that are done everywhere and not answered.
    whole: Vec<OpId>,
    peers: Vec<Peer>,
    holding: Holding,
    spending: Spending,
    freeing: Freeing,
    rest: Rest,
    pub(crate) teaching: Option<Teaching>,
    pub(crate) mending: Mending,
    attempts: u64,
}

impl Primary {
    pub(crate) fn new(site: &mut Site, partition: Partition) -> Self {
        let others = site.configuration.in_sync.iter().filter(|process| **process != site.me);
        let peers = others.map(|process| Peer::new(*process)).collect();
        site.doubt.settle(Version { pepoch: site.pepoch().0, seq: 0 });
        Self {
            order: Order::new(partition, site.pepoch()),
            operations: BTreeMap::new(),
            changes: BTreeMap::new(),
            last_op: 0,
            last_seq: 0,
            unfinished: BTreeMap::new(),
            locked: Vec::new(),
            unlocked: Vec::new(),
            whole: Vec::new(),
            peers,
            holding: Holding::new(site),
            spending: Spending::default(),
            freeing: Freeing::new(site),
            rest: Rest::new(site.now),
            teaching: None,
            mending: Mending::default(),
            attempts: 0,
        }
    }

    /// Whether nobody else can serve the partition now.
    pub(crate) fn has_leases(&self, site: &Site) -> bool {
        let granted =
            self.peers.iter().all(|peer| site.now < peer.lease_until) || site.has(PlantedBug::NoInSyncLease);
        let learner = self.teaching.as_ref().is_none_or(|teaching| teaching.has_lease(site))
            || site.has(PlantedBug::NoInSyncLease);
        let ledger = site.now < site.ledger_lease_until || site.has(PlantedBug::NoLedgerLease);
        granted && learner && ledger
    }

    /// All in-sync replicas have all writes up to this one.
    pub(crate) fn settled(&self, site: &Site) -> Version {
        let seq = self.unfinished.first_key_value().map_or(self.last_seq, |(seq, _)| seq - 1);
        Version { pepoch: site.pepoch().0, seq }
    }

    /// The last version that was given.
    pub(crate) fn last_version(&self, site: &Site) -> Version {
        Version { pepoch: site.pepoch().0, seq: self.last_seq }
    }

    /// The writes under way below `seq`.
    pub(crate) fn unfinished_below(&self, seq: u32) -> BTreeSet<u32> {
        self.unfinished.range(..seq).map(|(seq, _)| *seq).collect()
    }

    /// Whether some replica may lack the write.
    pub(crate) fn is_unfinished(&self, seq: u32) -> bool {
        self.unfinished.contains_key(&seq)
    }

    pub(crate) fn request(&mut self, site: &mut Site, request: Request) {
        // With a version, the other replicas would have to take it, and do not take what is damaged.
        let is_trusted = site.has(PlantedBug::GatewaysNotVerified)
            || site.has(PlantedBug::ExpectedNotVerified)
                && matches!(request.command, Command::CompareAndWrite { .. });
        if !is_sound(&request.command) && !is_trusted {
            return site.answer(&request, Answer::Refused(Refused::Unsound));
        }
        self.take_up(site, request);
    }

    /// The request is what was sent.
    fn take_up(&mut self, site: &mut Site, request: Request) {
        if self.wakes_up_for(site, &request)
            || self.is_waiting_for_room(&request)
            || !self.is_to_begin(site, &request)
        {
            return;
        }
        match self.room_for(site, &request) {
            Some(room) => self.begin_request(site, request, room),
            None => self.wait_for_room(site, request),
        }
    }

    /// Whether the request is one that begins now, if there is room for it. If not, it is answered, or will be.
    fn is_to_begin(&mut self, site: &mut Site, request: &Request) -> bool {
        let is_late = request.id.number < request.unanswered_from;
        let has_ended = has_ended(request.id.gateway, &site.configuration.gateways)
            && !site.has(PlantedBug::EndedGatewayServed);
        if is_late || has_ended {
            site.answer(request, Answer::Refused(Refused::Late));
            return false;
        }
        // What its gateway has no answers to is remembered here and on all replicas.
        if request.id.number - request.unanswered_from >= MOST_UNANSWERED {
            site.answer(request, Answer::Refused(Refused::NotServing));
            return false;
        }
        if is_change(&request.command) {
            if let Some(op) = self.changes.get(&request.id) {
                if let Some(operation) = self.operations.get_mut(op) {
                    operation.sent_again(request);
                }
                return false;
            }
            if let Some(answer) = self.answer_known(site, request) {
                site.answer(request, answer);
                return false;
            }
        }
        if let Some(refused) = Self::refused_by_vdi(site, request) {
            site.answer(request, Answer::Refused(refused));
            return false;
        }
        !self.is_held(site, request)
    }

    fn begin_request(&mut self, site: &mut Site, request: Request, room: Space) {
        if self.order.operations() + OWN_LOCKS >= Order::MAX_OPERATIONS {
            return site.answer(&request, Answer::Refused(Refused::NotServing));
        }
        if matches!(request.command, Command::Flush) {
            return self.flush(site, request);
        }
        let op = self.next_op();
        if is_change(&request.command) {
            self.changes.insert(request.id, op);
        }
        let reserved = cost(&request.command).unwrap_or_default();
        self.spending.reserve(reserved);
        let is_early = reads_early(site, &request.command);
        let all = (room == Space::Taken).then(|| lookup_of_all(site, &request.command));
        let mut operation = Operation::new(site, request, State::Waiting);
        (operation.reserved, operation.is_to_replace) = (reserved, all.is_some());
        operation.looks_at_all = all.is_some();
        operation.lookup = all.unwrap_or(operation.lookup);
        operation.is_early = is_early && operation.lookup.next().is_some();
        let looks_now = operation.is_early || !operation.is_change() && site.has(PlantedBug::DirtyRead);
        self.operations.insert(op, operation);
        if looks_now {
            let _ = self.look_up(site, op);
        } else {
            self.begin_operation(site, op);
        }
    }

    fn begin_operation(&mut self, site: &mut Site, op: OpId) {
        let request = self.operations.get(&op).and_then(|operation| operation.request.as_ref());
        if let Some((access, oid, blocks)) = request.and_then(|request| extent(&request.command)) {
            self.begin(site, op, access, oid, blocks);
        }
    }

    fn answer_known(&self, site: &Site, request: &Request) -> Option<Answer> {
        match site.requests.known(request.id) {
            Known::New => None,
            Known::Done(_) if site.has(PlantedBug::RequestsForgotten) => None,
            Known::Answered if site.has(PlantedBug::AnsweredCarriedOut) => None,
            Known::Done(_) if self.has_leases(site) && site.has(PlantedBug::ResultForgotten) => {
                Some(Answer::Done)
            }
            Known::Done(completion) if self.has_leases(site) => Some(completion.into()),
            Known::Done(_) => Some(Answer::Refused(Refused::NotServing)),
            Known::Answered => Some(Answer::Refused(Refused::Late)),
        }
    }

    pub(crate) fn next_op(&mut self) -> OpId {
        self.last_op += 1;
        OpId(self.last_op)
    }

    /// Has the teacher wait for its turn on an object.
    pub(crate) fn lock_object(&mut self, site: &mut Site, oid: Oid) -> OpId {
        let op = self.next_op();
        self.begin(site, op, Access::Read, oid, WHOLE_OBJECT);
        op
    }

    /// The teacher is done with the object. What waits for it starts when the teacher is back in its place: the learner is to
    /// have it, too.
    pub(crate) fn unlock_object(&mut self, op: OpId) {
        self.unlocked.push(op);
    }

    fn begin(&mut self, site: &mut Site, op: OpId, access: Access, oid: Oid, blocks: Range<u32>) {
        let begin = Input::Begin { op, pepoch: site.pepoch(), access, oid, blocks };
        let outputs = self.order.step(begin);
        self.run(site, outputs);
    }

    fn run(&mut self, site: &mut Site, outputs: crate::order::Outputs) {
        let mut queue: VecDeque<Output> = outputs.into_iter().collect();
        while let Some(output) = queue.pop_front() {
            let refused = match output {
                Output::Start { op, version } => match self.start(site, op, version) {
                    Ok(()) => continue,
                    Err(refused) => {
                        queue.extend(self.order.step(Input::Failed { op }));
                        (op, refused)
                    }
                },
                Output::Refuse { op, .. } => (op, Refused::NotServing),
                Output::Acknowledge { .. } => continue,
            };
            self.refuse(site, refused.0, Answer::Refused(refused.1));
        }
    }

    /// Answers an operation that came to nothing.
    fn refuse(&mut self, site: &mut Site, op: OpId, answer: Answer) {
        if let Some(operation) = self.take(op) {
            self.unfinished.remove(&operation.version.seq);
            operation.answer(site, answer);
        }
    }

    fn take(&mut self, op: OpId) -> Option<Operation> {
        let operation = self.operations.remove(&op)?;
        if let Some(request) = &operation.request {
            self.changes.remove(&request.id);
        }
        self.spending.give_back(operation.reserved);
        Some(operation)
    }

    fn flush(&mut self, site: &mut Site, request: Request) {
        let op = self.next_op();
        let mut missing: Vec<Process> = self.peers.iter().map(|peer| peer.process).collect();
        missing.extend(self.teaching.as_ref().and_then(Teaching::required));
        if site.has(PlantedBug::FlushOfThePrimaryAlone) {
            missing.clear();
        }
        missing.iter().for_each(|process| site.send(*process, Body::Flush { number: op.0 }));
        site.sync(Pending::Operation(op));
        let state = State::Flushing { logged: false, missing, resend: Resend::new(site.now) };
        self.operations.insert(op, Operation::new(site, request, state));
    }

    pub(crate) fn stored(&mut self, site: &mut Site, pending: Pending, outcome: Outcome) {
        match (pending, outcome) {
            (Pending::Operation(op), Outcome::Done) => {
                if let Some(operation) = self.operations.get_mut(&op) {
                    operation.logged();
                    self.finish_if_whole(site, op);
                }
            }
            (Pending::Operation(op), outcome) => self.has_read(site, op, outcome),
            (Pending::Mending { number }, outcome) => self.mend(site, |mending, site, primary| {
                mending.own_side(site, primary, number, outcome);
            }),
            (Pending::Freeing { number }, outcome) => self.free(site, |freeing, site, primary| {
                freeing.own_side(site, primary, number, outcome);
            }),
            (Pending::OwnSide { attempt, count }, outcome) => {
                self.teach(site, |teaching, site, primary| {
                    teaching.own_side(site, primary, (attempt, count), outcome);
                });
            }
            _ => {}
        }
    }

    fn finish_if_whole(&mut self, site: &mut Site, op: OpId) {
        let Some(operation) = self.operations.get_mut(&op) else { return };
        let tolerated = usize::from(site.has(PlantedBug::AcknowledgedBeforeAll));
        if operation.is_whole(tolerated) {
            let mut completion = Completion::Done;
            if let State::Writing { record, .. } = &operation.state {
                self.unfinished.remove(&record.version.seq);
                completion = record.completion;
            }
            operation.state = State::Whole { completion };
            self.whole.push(op);
            let settled = self.settled(site);
            site.doubt.settle(settled);
            self.answer_whole(site);
        }
    }

    /// Answers what is done, if nobody else can serve by now.
    pub(crate) fn answer_whole(&mut self, site: &mut Site) {
        if self.whole.is_empty() || !self.has_leases(site) {
            return;
        }
        for op in std::mem::take(&mut self.whole) {
            if let Some(operation) = self.take(op)
                && let State::Whole { completion } = operation.state
            {
                operation.answer(site, completion.into());
            }
            let outputs = self.order.step(Input::Logged { op });
            self.run(site, outputs);
        }
    }

    pub(crate) fn receive(&mut self, site: &mut Site, from: Process, body: Body) {
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.process == from) {
            peer.asked = None;
        }
        match body {
            Body::Granted { sent, credit, attempt } => {
                if let Some(peer) = self.peers.iter_mut().find(|peer| peer.process == from) {
                    peer.granted(site, sent);
                    peer.credit.hear(credit);
                }
                self.teach(site, |teaching, site, primary| {
                    teaching.granted(site, primary, (from, attempt), sent, credit);
                });
                self.answer_whole(site);
                self.wake_up(site);
            }
            Body::Forwarded { version, attempt, credit } => {
                if let Some(peer) = self.peers.iter_mut().find(|peer| peer.process == from) {
                    peer.credit.hear(credit);
                }
                self.teach(site, |teaching, site, primary| {
                    teaching.forwarded(site, primary, from, (version, attempt), credit);
                });
                self.forwarded(site, from, version);
            }
            Body::Flushed { number } => {
                let operation = self.operations.get_mut(&OpId(number));
                if let Some(operation) = operation.filter(|operation| operation.is_flush()) {
                    operation.done_by(from);
                    self.finish_if_whole(site, OpId(number));
                }
            }
            Body::Suspect { oid } if site.configuration.has(from) => self.mending.suspect(oid),
            Body::Inspected { number, reply } => self.inspected(site, from, number, reply),
            Body::Mended { number } => self.inspected(site, from, number, Reply::Done),
            Body::Reply { attempt, step, reply } => self.teach(site, |teaching, site, primary| {
                teaching.reply(site, primary, from, (attempt, step), reply);
            }),
            _ => {}
        }
    }

    fn forwarded(&mut self, site: &mut Site, from: Process, version: Version) {
        let Some(op) = self.unfinished.get(&version.seq).copied() else { return };
        if let Some(operation) = self.operations.get_mut(&op) {
            operation.done_by(from);
        }
        self.finish_if_whole(site, op);
    }

    /// Takes away locks that are not needed any more, and tells the teacher of one that it got.
    fn go_on_teaching(&mut self, site: &mut Site) {
        loop {
            if let Some(op) = self.unlocked.pop() {
                let outputs = self.order.step(Input::Done { op });
                self.run(site, outputs);
            } else if let Some(op) = self.locked.pop() {
                if self.teaching.as_ref().and_then(Teaching::lock) == Some(op) {
                    self.teach(site, |teaching, site, _| teaching.locked(site, op));
                    if site.has(PlantedBug::CopiedWithoutLock) {
                        self.unlock_object(op);
                    }
                } else if self.mending.lock() == Some(op) {
                    self.mend(site, |mending, site, primary| mending.locked(site, primary, op));
                } else if self.freeing.lock() == Some(op) {
                    self.free(site, |freeing, site, _| freeing.locked(site));
                } else {
                    self.unlock_object(op);
                }
            } else {
                return;
            }
        }
    }

    fn teach(&mut self, site: &mut Site, lesson: impl FnOnce(&mut Teaching, &mut Site, &mut Self)) {
        if let Some(mut teaching) = self.teaching.take() {
            lesson(&mut teaching, site, self);
            self.teaching = Some(teaching);
        }
    }
}

impl Primary {
    pub(crate) fn tick(&mut self, site: &mut Site) {
        if site.has(PlantedBug::RequestsTrimmedByTime) && (site.now.0 / 1_000_000).is_multiple_of(4) {
            site.requests.forget();
        }
        self.wake_up(site);
        self.send_beacons(site);
        self.has_asked_for_room();
        for peer in &self.peers {
            if peer.silent_us(site) > SILENCE_US {
                site.propose(SetChange::Drop(peer.process));
            }
        }
        if self.last_seq >= site.renews_after && site.has(PlantedBug::VersionsGivenAgain) {
            self.order.give_again();
            self.last_seq = 0;
        } else if self.last_seq >= site.renews_after {
            site.propose(SetChange::Renew);
        }
        let settled = self.settled(site);
        self.send_again(site, settled);
        self.mend(site, Mending::tick);
        self.free(site, Freeing::tick);
        self.teach(site, |teaching, site, primary| teaching.tick(site, primary));
        if self.teaching.as_ref().is_some_and(|teaching| teaching.is_given_up(site)) {
            self.give_up_learner(site);
        }
        self.answer_whole(site);
        self.go_on_holding(site, true);
    }

    fn send_again(&mut self, site: &mut Site, settled: Version) {
        for (op, operation) in &mut self.operations {
            if let State::ReadingElsewhere(elsewhere) = &mut operation.state {
                elsewhere.send_again(site);
            }
            let Some(late) = operation.late(site) else { continue };
            let learner = self.teaching.as_ref().map(|teaching| teaching.learner);
            for process in late.missing {
                match &late.record {
                    // The teacher does that.
                    Some(_) if Some(process) == learner => {}
                    Some(record) => {
                        let record = record.clone();
                        site.send(process, Body::Forward { record, settled, attempt: 0 });
                    }
                    None => site.send(process, Body::Flush { number: op.0 }),
                }
                match &mut self.teaching {
                    _ if late.since_us <= SILENCE_US => {}
                    Some(teaching) if Some(process) == learner => teaching.is_waited_for(),
                    _ => site.propose(SetChange::Drop(process)),
                }
            }
        }
    }

    /// Begins to teach the learner, or goes on at another pace.
    pub(crate) fn teach_at(&mut self, site: &mut Site, learner: Process, bytes_per_second: u64) {
        if self.teaching.is_none() && site.configuration.candidates.contains(&learner) {
            self.attempts += 1;
            self.teaching = Some(Teaching::new(site, self, learner, self.attempts));
        }
        if let Some(teaching) = self.teaching.as_mut().filter(|teaching| teaching.learner == learner) {
            teaching.copy_at(bytes_per_second);
        }
    }

    pub(crate) fn give_up_learner(&mut self, site: &mut Site) {
        let Some(teaching) = self.teaching.take() else { return };
        site.gave_up(teaching.learner);
        if let Some(op) = teaching.lock() {
            self.unlock_object(op);
        }
        let ops: Vec<OpId> = self.operations.keys().copied().collect();
        for op in ops {
            if let Some(operation) = self.operations.get_mut(&op) {
                operation.done_by(teaching.learner);
            }
            self.finish_if_whole(site, op);
        }
    }

    /// Who may learn is another by now.
    pub(crate) fn candidates_changed(&mut self, site: &mut Site) {
        let gone = |teaching: &Teaching| {
            !teaching.is_proposed() && !site.configuration.candidates.contains(&teaching.learner)
        };
        if self.teaching.as_ref().is_some_and(gone) {
            self.give_up_learner(site);
        }
    }

    /// A hold began or ended, or something else became of a VDI.
    pub(crate) fn vdis_changed(&mut self, site: &mut Site) {
        self.freeing.hurry(site.now);
        self.go_on_holding(site, true);
    }

    /// After each step.
    pub(crate) fn go_on(&mut self, site: &mut Site) {
        self.go_on_freeing(site);
        self.go_on_teaching(site);
        self.go_on_with_room(site);
        self.go_on_holding(site, false);
    }

    /// Another pepoch begins: what is under way is not answered by this primary.
    pub(crate) fn resign(&mut self, site: &mut Site) {
        let newest = site.pepoch();
        self.refuse_waiting(site, Refused::OtherPepoch { newest });
        self.refuse_waiting_for_room(site, Refused::OtherPepoch { newest });
        self.refuse_waking(site, Refused::OtherPepoch { newest });
        for operation in std::mem::take(&mut self.operations).into_values() {
            operation.answer(site, Answer::Refused(Refused::OtherPepoch { newest }));
        }
    }
}

fn has_fresh_stamp(site: &Site, request: &Request) -> bool {
    request.stamp.is_fresh(site.me.incarnation, site.now.clock())
}
