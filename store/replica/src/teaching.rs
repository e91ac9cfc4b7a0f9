//! Bringing a learner up to date, as the primary does it: compare, copy, delete, while new writes are forwarded to it.
//!
//! The learner takes part in all writes that begin after the attempt does. Once those that began before are done, it is told of
//! all requests so far: what one of those comes to may have been known only just now. Then objects are compared: sums first; where they differ the object is locked against writes, versions are compared, and blocks that
//! differ are overwritten, also when the learner's are newer. All that is put on stable storage while nobody waits for it. In the end
//! the learner becomes part of each acknowledgement and of the lease; then, when it has what was acknowledged without it, all is put on stable storage, and only then the ledger is
//! asked to count it in.

mod forwards;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use huntaway_wire::{Oid, Version};

use crate::compared::differing;
use crate::configuration::SetChange;
use crate::event::{Outcome, Page};
use crate::message::{Attempt, Body, Lesson, Reply};
use crate::order::{OpId, Order};
use crate::pace::Pace;
use crate::planted::PlantedBug;
use crate::primary::{Primary, lease_end};
use crate::process::{Moment, Process, SILENCE_US};
use crate::record::{CopiedBlock, Record, SET_ASIDE_BLOCK, Stored};
use crate::resend::Resend;
use crate::room::{Cost, Credit, Lack};
use crate::site::{Pending, Site};
use forwards::Forwards;

/// Most objects that are compared by one message.
pub(crate) const PAGE_OBJECTS: usize = 64;

/// Most writes that a learner does not have although they are done. One that does not keep up is taught another time.
const MOST_FORWARDS: usize = Order::MAX_OPERATIONS;

/// One attempt to teach one learner.
#[derive(Debug)]
pub(crate) struct Teaching {
    pub(crate) learner: Process,
    pub(crate) attempt: Attempt,
    /// The first write that the learner takes part in.
    takes_part_from: u32,
    step: u64,
    /// What the primary's own store was asked for, counted.
    own_count: u64,
    /// The lesson that is not answered.
    asked: Option<Lesson>,
    resend: Resend,
    heard: Moment,
    /// It left a write or a flush unanswered for too long.
    is_late: bool,
    lease_until: Moment,
    /// What it takes in this attempt.
    credit: Credit,
    forwards: Forwards,
    phase: Phase,
    /// Objects of this page that are still to be compared.
    queue: VecDeque<Oid>,
    /// Where the next page begins; `None` after the last one.
    next_page: Option<Option<Oid>>,
    has_failed: bool,
    bytes_per_second: u64,
    pace: Pace,
    /// Bytes that were copied and are not reckoned with.
    spent_bytes: u64,
}

#[derive(Debug)]
enum Phase {
    /// Writes that it does not take part in are not done yet: what they were requested by it is to know.
    Settling { before: BTreeSet<u32> },
    /// It is told where it takes part from, and of all requests until then.
    Beginning,
    /// Which objects are there, here and there?
    Listing { own: Option<Page>, theirs: Option<Page> },
    /// The next object waits until more may be copied.
    Pausing,
    /// Nobody may write to an object that is compared.
    Locking { oid: Oid, op: OpId },
    /// One object is compared; the learner's may be missing as a whole.
    Comparing { oid: Oid, op: OpId, own: Option<Versions>, theirs: Option<Option<Versions>> },
    /// What differs is on its way, with the versions that it has here.
    Copying { oid: Oid, op: OpId, blocks: BTreeMap<u32, Version>, is_whole: bool },
    /// What it was taught goes to stable storage there, which may take long.
    Storing,
    /// It has no room yet for what is under way.
    Crowded,
    /// It takes part in acknowledgements; these it took part in before that, and may have been flushed without it.
    Admitting { before: BTreeSet<u32> },
    /// The rest goes to stable storage there.
    Syncing,
    /// It has all that is needed but the lease.
    Synced,
    /// The ledger was asked.
    Proposed,
}

type Versions = Vec<(u32, Version)>;

impl Teaching {
    pub(crate) fn new(site: &mut Site, primary: &Primary, learner: Process, attempt: Attempt) -> Self {
        let takes_part_from = primary.last_version(site).seq + 1;
        let mut teaching = Self {
            learner,
            attempt,
            takes_part_from,
            step: 0,
            own_count: 0,
            asked: None,
            resend: Resend::new(site.now),
            heard: site.now,
            is_late: false,
            lease_until: Moment::default(),
            credit: Credit::NONE,
            forwards: Forwards::default(),
            phase: Phase::Settling { before: primary.unfinished_below(takes_part_from) },
            queue: VecDeque::new(),
            next_page: Some(None),
            has_failed: false,
            bytes_per_second: 0,
            pace: Pace::default(),
            spent_bytes: 0,
        };
        teaching.begin_if_settled(site, primary);
        teaching
    }

    fn begin_if_settled(&mut self, site: &mut Site, primary: &Primary) {
        let Phase::Settling { before } = &mut self.phase else { return };
        before.retain(|seq| primary.is_unfinished(*seq));
        // Nobody asked it for anything so far.
        self.heard = site.now;
        if before.is_empty() {
            self.phase = Phase::Beginning;
            let requests = Arc::new(site.requests.clone());
            let settled = Version { pepoch: site.pepoch().0, seq: self.takes_part_from - 1 };
            self.ask(site, Lesson::Begin { requests, settled });
            // So that the lease is not what is waited for in the end.
            self.send_beacon(site, primary.settled(site), false);
        }
    }

    /// Copies at most so many bytes in a second from now on; 0: none for now.
    pub(crate) fn copy_at(&mut self, bytes_per_second: u64) {
        self.bytes_per_second = bytes_per_second;
    }

    /// The learner, if no write is whole without it.
    pub(crate) fn required(&self) -> Option<Process> {
        let is_required =
            matches!(self.phase, Phase::Admitting { .. } | Phase::Syncing | Phase::Synced | Phase::Proposed);
        is_required.then_some(self.learner)
    }

    /// It left something unanswered for too long that others wait for.
    pub(crate) fn is_waited_for(&mut self) {
        self.is_late = true;
    }

    pub(crate) fn is_proposed(&self) -> bool {
        matches!(self.phase, Phase::Proposed)
    }

    /// Whether the primary may serve as far as the learner is concerned: once it is proposed, it may be in sync any moment.
    pub(crate) fn has_lease(&self, site: &Site) -> bool {
        !self.is_proposed()
            || site.now < self.lease_until
            || site.has(PlantedBug::ProposedLearnerWithoutLease)
    }

    /// Whether it came to nothing. A learner that is proposed is given up by the ledger alone.
    pub(crate) fn is_given_up(&self, site: &Site) -> bool {
        let patience_us = match self.phase {
            // All that was copied goes to the disk, and nobody waits for that.
            Phase::Storing => 10 * SILENCE_US,
            // Writes may wait for the object that this is about.
            _ => SILENCE_US,
        };
        let is_silent = site.waited_us(self.heard) > SILENCE_US
            || self.asked.is_some() && self.resend.waited_us(site) > patience_us;
        !self.is_proposed() && (self.has_failed || self.is_late || is_silent)
    }

    /// The lock that it has or waits for.
    pub(crate) fn lock(&self) -> Option<OpId> {
        match self.phase {
            Phase::Locking { op, .. } | Phase::Comparing { op, .. } | Phase::Copying { op, .. } => Some(op),
            _ => None,
        }
    }

    fn ask(&mut self, site: &mut Site, lesson: Lesson) {
        self.step += 1;
        self.asked = Some(lesson);
        self.resend = Resend::new(site.now);
        self.send_lesson(site);
    }

    fn send_lesson(&mut self, site: &mut Site) {
        if let Some(lesson) = self.asked.clone() {
            site.send(self.learner, Body::Ask { attempt: self.attempt, step: self.step, lesson });
        }
    }

    /// What the learner has, of what it takes part in.
    fn settled(&self, settled: Version) -> Version {
        let seq = self.forwards.first().map_or(settled.seq, |seq| settled.seq.min(seq - 1));
        Version { seq, ..settled }
    }

    pub(crate) fn forward(&mut self, site: &mut Site, record: Arc<Record>, settled: Version) {
        // A write with a lower version had its blocks before the learner took part; what it wrote is copied.
        if record.version.seq < self.takes_part_from {
            return;
        }
        self.forwards.add(record);
        self.has_failed |= self.forwards.len() > MOST_FORWARDS;
        self.send_due(site, settled);
    }

    fn send_due(&mut self, site: &mut Site, settled: Version) {
        if matches!(self.phase, Phase::Settling { .. } | Phase::Beginning) {
            return;
        }
        let at_once = site.has(PlantedBug::ForwardsOvertake);
        let was_held_back = self.forwards.is_held_back();
        let due = self.forwards.due(site.now, self.credit, at_once);
        if self.forwards.is_held_back() && !was_held_back {
            self.send_beacon(site, settled, true);
        }
        self.send_forwards(site, settled, due);
    }

    fn send_forwards(&self, site: &mut Site, settled: Version, records: Vec<Arc<Record>>) {
        let (settled, attempt) = (self.settled(settled), self.attempt);
        for record in records {
            site.send(self.learner, Body::Forward { record, settled, attempt });
        }
    }

    pub(crate) fn forwarded(
        &mut self,
        site: &mut Site,
        primary: &Primary,
        from: Process,
        (version, attempt): (Version, Attempt),
        credit: Credit,
    ) {
        if from != self.learner || attempt != self.attempt {
            return;
        }
        self.heard = site.now;
        self.credit.hear(credit);
        self.forwards.acknowledged(version.seq);
        self.send_due(site, primary.settled(site));
        if let Phase::Admitting { before } = &mut self.phase {
            before.remove(&version.seq);
            self.sync_if_whole(site);
        }
    }

    pub(crate) fn granted(
        &mut self,
        site: &mut Site,
        primary: &Primary,
        (from, attempt): (Process, Attempt),
        sent: Moment,
        credit: Credit,
    ) {
        if from == self.learner && attempt == self.attempt {
            self.heard = if self.grants_show_life() { site.now } else { self.heard };
            self.credit.hear(credit);
            self.send_due(site, primary.settled(site));
            self.lease_until = self.lease_until.max(lease_end(site, sent));
            self.propose_if_leased(site);
        }
    }

    fn send_beacon(&self, site: &mut Site, settled: Version, wants_room: bool) {
        let (settled, attempt) = (self.settled(settled), self.attempt);
        let beacon = Body::Beacon { sent: site.now, settled, attempt, is_missed: false, wants_room };
        site.send(self.learner, beacon);
    }

    fn propose_if_leased(&mut self, site: &mut Site) {
        if matches!(self.phase, Phase::Synced) && site.now < self.lease_until {
            self.phase = Phase::Proposed;
            site.propose(SetChange::Promote(self.learner));
            if site.has(PlantedBug::ReleasedBeforeTheRecord) {
                site.release(&Arc::clone(&site.configuration));
            }
        }
    }

    pub(crate) fn tick(&mut self, site: &mut Site, primary: &mut Primary) {
        let settled = primary.settled(site);
        self.begin_if_settled(site, primary);
        if self.resend.is_due(site.now) {
            self.send_lesson(site);
        }
        if self.is_asked_for_nothing() {
            self.heard = site.now;
        }
        if matches!(self.phase, Phase::Pausing) {
            self.next_object(site, primary);
        }
        let late = self.forwards.late(site.now);
        self.send_forwards(site, settled, late);
        self.is_late |= self.forwards.is_late(site, SILENCE_US);
        let wants_room = primary.wants_room() || self.forwards.is_held_back() || self.is_crowded(primary);
        self.send_beacon(site, settled, wants_room);
        if matches!(self.phase, Phase::Crowded) {
            self.admit(site, primary);
        }
        // It is tried again later.
        self.has_failed |= self.credit.is_full && self.is_crowded(primary);
        if self.is_proposed() {
            let is_silent = self.is_late || site.waited_us(self.heard) > SILENCE_US;
            let learner = self.learner;
            site.propose(if is_silent { SetChange::Drop(learner) } else { SetChange::Promote(learner) });
        }
    }

    pub(crate) fn reply(
        &mut self,
        site: &mut Site,
        primary: &mut Primary,
        from: Process,
        place: (Attempt, u64),
        reply: Reply,
    ) {
        if from != self.learner || place != (self.attempt, self.step) || self.asked.is_none() {
            return;
        }
        self.heard = site.now;
        self.asked = None;
        if reply == Reply::Failed && !site.has(PlantedBug::FailedLessonCountsAsDone) {
            self.has_failed = true;
            return;
        }
        match &mut self.phase {
            Phase::Beginning if site.has(PlantedBug::LearnerAdmittedEarly) => self.admit(site, primary),
            Phase::Beginning => {
                self.list(site, primary);
                self.send_due(site, primary.settled(site));
            }
            Phase::Listing { theirs, .. } => {
                if let Reply::Digests(page) = reply {
                    *theirs = Some(page);
                }
                self.compare_pages(site, primary);
            }
            Phase::Comparing { theirs, .. } => {
                match reply {
                    Reply::Versions(versions) => *theirs = Some(Some(versions)),
                    Reply::Missing(_) => *theirs = Some(None),
                    _ => {}
                }
                self.compare_object(site, primary);
            }
            Phase::Copying { op, .. } => {
                let op = *op;
                self.next_object(site, primary);
                primary.unlock_object(op);
            }
            Phase::Storing => self.admit(site, primary),
            Phase::Syncing => self.synced(site),
            Phase::Settling { .. }
            | Phase::Pausing
            | Phase::Locking { .. }
            | Phase::Crowded
            | Phase::Admitting { .. }
            | Phase::Synced
            | Phase::Proposed => {}
        }
    }

    /// What keeps it from taking a change, if no write is whole without it. While it can be given up, a full disk does not.
    pub(crate) fn lack(&self, cost: Cost, reserved: Cost) -> Option<Lack> {
        self.required()?;
        let lack = self.credit.lack(cost, self.forwards.cost().plus(reserved));
        lack.filter(|lack| self.is_proposed() || *lack == Lack::ForNow)
    }

    /// Whether it has no room for some of the writes that began.
    fn is_crowded(&self, primary: &Primary) -> bool {
        let begun = self.forwards.cost().plus(primary.reserved());
        self.credit.limit_bytes < begun.bytes || self.credit.space_limit_bytes < begun.space_bytes
    }

    /// All that it was taught goes to stable storage before anybody waits for it.
    fn store(&mut self, site: &mut Site, primary: &Primary) {
        if site.has(PlantedBug::UnsyncedPromotion) {
            return self.admit(site, primary);
        }
        self.phase = Phase::Storing;
        self.ask(site, Lesson::Sync);
    }

    /// Whether it has no short lessons to do. If it has, who does not do them is not alive.
    fn grants_show_life(&self) -> bool {
        self.required().is_some()
            || matches!(self.phase, Phase::Storing | Phase::Crowded)
            || self.forwards.is_held_back()
    }

    /// Whether it waits for others: for writes that have an object, for the pace, or for the primary's own store.
    fn is_asked_for_nothing(&self) -> bool {
        !self.grants_show_life() && self.asked.is_none() && !self.forwards.is_sent_some()
    }

    /// From here on writes wait for its room, so it has to have some.
    fn admit(&mut self, site: &mut Site, primary: &Primary) {
        if self.is_crowded(primary) {
            self.phase = Phase::Crowded;
            return;
        }
        self.phase = Phase::Admitting { before: self.forwards.all() };
        self.sync_if_whole(site);
    }

    /// What it has by now was copied, or acknowledged without it and perhaps flushed: from here on whoever flushes waits for it.
    fn sync_if_whole(&mut self, site: &mut Site) {
        let Phase::Admitting { before } = &self.phase else { return };
        if !before.is_empty() && !site.has(PlantedBug::LearnerAdmittedWithoutForwards) {
            return;
        }
        if site.has(PlantedBug::UnsyncedPromotion) {
            return self.synced(site);
        }
        self.phase = Phase::Syncing;
        self.ask(site, Lesson::Sync);
    }

    fn synced(&mut self, site: &mut Site) {
        self.phase = Phase::Synced;
        self.propose_if_leased(site);
    }

    fn list(&mut self, site: &mut Site, primary: &Primary) {
        let Some(after) = self.next_page else { return self.store(site, primary) };
        self.phase = Phase::Listing { own: None, theirs: None };
        let pending = self.ask_own();
        site.digests(after, PAGE_OBJECTS, pending);
        self.ask(site, Lesson::Digests { after, most: PAGE_OBJECTS });
    }

    fn compare_pages(&mut self, site: &mut Site, primary: &mut Primary) {
        let Phase::Listing { own: Some(own), theirs: Some(theirs) } = &self.phase else { return };
        let (queue, next) = differing(own, theirs);
        self.queue = queue;
        self.next_page = next.map(Some);
        self.next_object(site, primary);
    }

    fn next_object(&mut self, site: &mut Site, primary: &mut Primary) {
        let may_copy =
            self.pace.is_open(site.now, self.bytes_per_second, std::mem::take(&mut self.spent_bytes));
        if !may_copy && !self.queue.is_empty() {
            self.phase = Phase::Pausing;
            return;
        }
        let Some(oid) = self.queue.pop_front() else { return self.list(site, primary) };
        let op = primary.lock_object(site, oid);
        self.phase = Phase::Locking { oid, op };
    }

    /// Nobody writes to the object from here on. Writes to it that are still on their way may reach the learner after what is
    /// copied: they come in order, and the last one to a block is what was copied.
    pub(crate) fn locked(&mut self, site: &mut Site, locked: OpId) {
        let Phase::Locking { oid, op } = self.phase else { return };
        if op != locked {
            return;
        }
        self.phase = Phase::Comparing { oid, op, own: None, theirs: None };
        let pending = self.ask_own();
        site.versions(oid, pending);
        self.ask(site, Lesson::Versions { oid });
    }

    fn ask_own(&mut self) -> Pending {
        self.own_count += 1;
        Pending::OwnSide { attempt: self.attempt, count: self.own_count }
    }

    /// The primary's own store answers, perhaps to an attempt that was given up.
    pub(crate) fn own_side(
        &mut self,
        site: &mut Site,
        primary: &mut Primary,
        asked: (Attempt, u64),
        outcome: Outcome,
    ) {
        if asked != (self.attempt, self.own_count) {
            return;
        }
        match (&mut self.phase, outcome) {
            (Phase::Listing { own, .. }, Outcome::Digests(page)) => {
                *own = Some(page);
                self.compare_pages(site, primary);
            }
            (Phase::Comparing { own, .. }, Outcome::Versions(versions)) => {
                *own = Some(versions);
                self.compare_object(site, primary);
            }
            (Phase::Copying { .. }, Outcome::Blocks(stored)) => {
                self.copy(site, primary, stored.into_iter().map(Some).collect());
            }
            (Phase::Copying { .. }, Outcome::Damaged(stored)) => self.copy(site, primary, stored),
            (Phase::Comparing { oid, .. }, Outcome::Missing(_)) => {
                primary.mending.suspect(*oid);
                self.has_failed = true;
            }
            _ => self.has_failed = true,
        }
    }

    /// Has the learner put blocks in place. What is damaged here is mended first; if it is lost, it is so for the learner, too.
    fn copy(&mut self, site: &mut Site, primary: &mut Primary, stored: Vec<Option<Stored>>) {
        let Phase::Copying { oid, blocks, is_whole, .. } = &self.phase else { return };
        let (oid, is_whole) = (*oid, *is_whole);
        let first = blocks.keys().next().copied().unwrap_or(0);
        let copied = blocks.iter().map(|(block, version)| {
            let stored = stored.get((block - first) as usize).cloned().flatten();
            match stored {
                Some(stored) => Some(CopiedBlock::new(*block, stored)),
                None if site.has(PlantedBug::DamageTaughtAsZero) => {
                    let stored = Stored { version: *version, content: None };
                    Some(CopiedBlock::new(*block, stored))
                }
                None if primary.mending.is_lost(oid, *block, *version) => {
                    Some(CopiedBlock::lost(*block, *version))
                }
                None => None,
            }
        });
        let Some(blocks) = copied.collect::<Option<Vec<CopiedBlock>>>() else {
            primary.mending.suspect(oid);
            self.has_failed = true;
            return;
        };
        let bytes =
            |copied: &CopiedBlock| copied.stored.content.as_ref().map_or(0, |block| block.bytes.len());
        let bytes = blocks.iter().map(bytes).sum::<usize>() as u64;
        self.spent_bytes += bytes;
        site.copied_bytes += bytes;
        let blocks = Arc::new(blocks);
        let lesson = if is_whole { Lesson::Replace { oid, blocks } } else { Lesson::Copy { oid, blocks } };
        self.ask(site, lesson);
    }

    fn compare_object(&mut self, site: &mut Site, primary: &mut Primary) {
        let Phase::Comparing { oid, op, own: Some(own), theirs: Some(theirs) } = &self.phase else { return };
        let (oid, op, ours_only) = (*oid, *op, site.has(PlantedBug::RejoinByMaxVersion));
        let is_whole = theirs.is_none();
        let theirs = theirs.as_deref().unwrap_or_default();
        if own.is_empty() && (is_whole || !theirs.is_empty()) && !ours_only {
            self.phase = Phase::Copying { oid, op, blocks: BTreeMap::new(), is_whole };
            return self.ask(site, Lesson::Remove { oid });
        }
        let (own, theirs): (BTreeMap<_, _>, BTreeMap<_, _>) =
            (own.iter().copied().collect(), theirs.iter().copied().collect());
        let differs = |block: &u32| match (own.get(block), theirs.get(block)) {
            (own, theirs) if ours_only => own > theirs,
            (own, theirs) => own != theirs,
        };
        let all: BTreeSet<u32> = own.keys().chain(theirs.keys()).copied().collect();
        let is_heeded = |block: &u32| *block != SET_ASIDE_BLOCK || !site.has(PlantedBug::SetAsideNotTaught);
        let version = |block: u32| (block, own.get(&block).copied().unwrap_or(Version::NEVER));
        let blocks: BTreeMap<u32, Version> =
            all.into_iter().filter(differs).filter(is_heeded).map(version).collect();
        let (Some(first), Some(last)) = (blocks.keys().next().copied(), blocks.keys().last().copied()) else {
            self.next_object(site, primary);
            return primary.unlock_object(op);
        };
        self.phase = Phase::Copying { oid, op, blocks, is_whole };
        let pending = self.ask_own();
        site.read(oid, first..last + 1, pending);
    }
}
