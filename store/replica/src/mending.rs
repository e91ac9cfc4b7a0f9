//! Putting damaged blocks right, as the primary does it: one object at a time, from whichever in-sync replica has its blocks.
//!
//! The object is locked against writes, so all in-sync replicas have the same versions of its blocks, but for what their disks
//! did to them. Each of them reads the object again; what is damaged or missing somewhere is read where it is not, and put
//! in place. A block whose newest version is whole nowhere is *lost*: it reads as damaged everywhere until it is written again. An
//! older version is no substitute.

mod found;
mod repair;

use std::collections::{BTreeMap, VecDeque};

use huntaway_wire::{Oid, Version};

use crate::configuration::SetChange;
use crate::member::reply_of;
use crate::message::{Body, Lesson, Reply};
use crate::order::OpId;
use crate::planted::PlantedBug;
use crate::primary::Primary;
use crate::process::{Process, SILENCE_US};
use crate::record::Entry;
use crate::resend::Resend;
use crate::scrub::Scrub;
use crate::site::{Pending, Site};
use crate::teaching::Teaching;
pub use found::Found;
use repair::{Repair, Report};

/// Most objects that wait to be mended. Others are found again by who reads them next.
const MOST_WAITING: usize = 1024;

/// Most lost blocks that are remembered, those of a thousand objects: see [`Mending::is_lost`]. A replica is not taught what is
/// damaged and not known to be lost, so with more of them there would be no second copy any more.
const MOST_LOST: usize = 1 << 20;

/// What came of mending since the pepoch began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mended {
    /// Objects that were read again on all in-sync replicas.
    pub objects: u64,
    /// Blocks that such objects have.
    pub verified_blocks: u64,
    /// Blocks of one replica that were put in place.
    pub blocks: u64,
    /// Blocks that no replica had whole.
    pub lost_blocks: u64,
    /// Objects that could not be read or written just then.
    pub failed_objects: u64,
    /// How often all objects of the partition were read again.
    pub passes: u64,
}

/// The primary's work of mending.
#[derive(Debug, Default)]
pub(crate) struct Mending {
    waiting: VecDeque<Oid>,
    object: Option<Object>,
    lost: BTreeMap<(Oid, u32), Version>,
    scrub: Scrub,
    counts: Mended,
    found: Found,
}

/// The object at hand.
#[derive(Debug)]
struct Object {
    oid: Oid,
    op: OpId,
    step: Step,
    /// Names what is asked.
    number: u64,
    /// What is not answered.
    asked: Vec<(Process, Lesson)>,
    resend: Resend,
}

#[derive(Debug)]
enum Step {
    Locking,
    Verifying(BTreeMap<Process, Report>),
    Reading(Repair),
    Writing(Repair),
}

impl Mending {
    /// Has the object mended, when its turn comes.
    pub(crate) fn suspect(&mut self, oid: Oid) {
        let is_at_hand = self.object.as_ref().is_some_and(|object| object.oid == oid);
        if !is_at_hand && self.waiting.len() < MOST_WAITING && !self.waiting.contains(&oid) {
            self.waiting.push_back(oid);
        }
    }

    /// What came of it so far.
    pub(crate) fn counts(&self) -> Mended {
        Mended { passes: self.scrub.passes, ..self.counts }
    }

    /// What was found since [`Self::begin_anew`].
    pub(crate) fn found(&self) -> &Found {
        &self.found
    }

    /// The next pass begins with the first object.
    pub(crate) fn begin_anew(&mut self) {
        self.scrub.begin_anew();
        self.found = Found::default();
    }

    /// Whether no in-sync replica has this version of the block whole, as far as is remembered.
    pub(crate) fn is_lost(&self, oid: Oid, block: u32, version: Version) -> bool {
        self.lost.get(&(oid, block)) == Some(&version)
    }

    /// The lock that it has or waits for.
    pub(crate) fn lock(&self) -> Option<OpId> {
        self.object.as_ref().map(|object| object.op)
    }

    /// Whether there is nothing to mend, and nothing is scrubbed.
    pub(crate) fn rests(&self, site: &Site) -> bool {
        let has_nothing = self.object.is_none() && self.waiting.is_empty();
        has_nothing && site.scrub_bytes_per_second == 0 && self.scrub.is_between_objects()
    }

    pub(crate) fn tick(&mut self, site: &mut Site, primary: &mut Primary) {
        if let Some(object) = &mut self.object
            && object.resend.is_due(site.now)
        {
            object.asked.iter().for_each(|(process, lesson)| send(site, *process, object.number, lesson));
            if object.resend.waited_us(site) > SILENCE_US && object.is_given_up(site) {
                self.failed();
                self.finish(site, primary);
            }
        }
        self.begin_next(site, primary);
        if self.object.is_none() && self.waiting.is_empty() {
            self.scrub(site, primary);
        }
    }

    /// Looks for what else there is to be read again.
    fn scrub(&mut self, site: &mut Site, primary: &mut Primary) {
        let next = self.scrub.next(site, self.counts.verified_blocks, || primary.next_op().0);
        let Some((number, asked, lesson)) = next else { return };
        for process in asked {
            if process == site.me {
                ask_own(site, number, lesson.clone());
            } else {
                send(site, process, number, &lesson);
            }
        }
    }

    /// Begins with the next object. A learner that is proposed may be in sync any moment, and nothing is changed without it then.
    fn begin_next(&mut self, site: &mut Site, primary: &mut Primary) {
        if self.object.is_some() || primary.has_proposed() {
            return;
        }
        let Some(oid) = self.waiting.pop_front() else { return };
        let op = if site.has(PlantedBug::MendedWithoutLock) {
            primary.next_op()
        } else {
            primary.lock_object(site, oid)
        };
        let (step, asked, resend) = (Step::Locking, Vec::new(), Resend::new(site.now));
        self.object = Some(Object { oid, op, step, number: 0, asked, resend });
        if site.has(PlantedBug::MendedWithoutLock) {
            self.locked(site, primary, op);
        }
    }

    /// Nobody writes to the object from here on.
    pub(crate) fn locked(&mut self, site: &mut Site, primary: &mut Primary, op: OpId) {
        let Some(object) = self.object.as_mut().filter(|object| object.op == op) else { return };
        object.step = Step::Verifying(BTreeMap::new());
        let (oid, mut all) = (object.oid, site.configuration.in_sync.clone());
        if site.has(PlantedBug::ScrubOfThePrimaryAlone) {
            all.retain(|process| *process == site.me);
        }
        object.ask(site, primary, all.into_iter().map(|process| (process, Lesson::Verify { oid })).collect());
    }

    /// What a replica says, this one among them.
    pub(crate) fn answered(
        &mut self,
        site: &mut Site,
        primary: &mut Primary,
        (from, number): (Process, u64),
        reply: Reply,
    ) {
        let Some(object) = self.object.as_mut().filter(|object| object.number == number) else {
            match reply {
                Reply::Digests(page) => {
                    self.scrub.listed(from, number, page).into_iter().for_each(|oid| self.suspect(oid));
                }
                _ => self.scrub.failed(number),
            }
            return;
        };
        let Some(place) = object.asked.iter().position(|(process, _)| *process == from) else { return };
        object.asked.swap_remove(place);
        let step = match (&mut object.step, reply) {
            (Step::Verifying(reports), Reply::Verified(blocks)) => {
                reports.insert(from, Report { blocks, is_missing: false });
                Ok(())
            }
            (Step::Verifying(reports), Reply::Missing(blocks)) => {
                reports.insert(from, Report { blocks, is_missing: true });
                Ok(())
            }
            (Step::Reading(repair), Reply::Blocks(blocks)) => {
                repair.take(blocks.into_iter().map(Some).collect())
            }
            (Step::Reading(repair), Reply::Damaged(blocks)) => repair.take(blocks),
            (Step::Writing(_), Reply::Done) => Ok(()),
            _ => Err(repair::Failed),
        };
        if step.is_err() {
            self.failed();
            return self.finish(site, primary);
        }
        if object.asked.is_empty() {
            self.go_on(site, primary);
        }
    }

    fn failed(&mut self) {
        self.counts.failed_objects += 1;
        self.found.failed_objects += 1;
    }

    /// What was asked is answered.
    fn go_on(&mut self, site: &mut Site, primary: &mut Primary) {
        let Some(object) = &mut self.object else { return };
        let mut repair = match std::mem::replace(&mut object.step, Step::Locking) {
            Step::Verifying(reports) => {
                let settled = primary.last_version(site);
                let repair = Repair::new(object.oid, &reports, site.me, settled);
                self.counts.objects += 1;
                self.counts.verified_blocks += repair.states().count() as u64;
                self.counts.blocks += repair.blocks();
                self.found.take(&repair);
                for (block, version, is_lost) in repair.states() {
                    if is_lost && self.lost.len() < MOST_LOST {
                        let known = self.lost.insert((object.oid, block), version);
                        self.counts.lost_blocks += u64::from(known != Some(version));
                    } else {
                        self.lost.remove(&(object.oid, block));
                    }
                }
                repair
            }
            Step::Reading(repair) | Step::Writing(repair) => repair,
            Step::Locking => return,
        };
        if let Some((source, lesson)) = repair.next_read() {
            object.step = Step::Reading(repair);
            object.ask(site, primary, vec![(source, lesson)]);
        } else if let Some((target, lesson)) = repair.next_write() {
            if target == site.me && !primary.may_change_unseen(site) {
                return self.finish(site, primary);
            }
            object.step = Step::Writing(repair);
            object.ask(site, primary, vec![(target, lesson)]);
        } else {
            self.finish(site, primary);
        }
    }

    fn finish(&mut self, site: &mut Site, primary: &mut Primary) {
        if let Some(object) = self.object.take()
            && !site.has(PlantedBug::MendedWithoutLock)
        {
            primary.unlock_object(object.op);
        }
        self.begin_next(site, primary);
    }

    /// The primary's own store did what it was asked for.
    pub(crate) fn own_side(
        &mut self,
        site: &mut Site,
        primary: &mut Primary,
        number: u64,
        outcome: crate::Outcome,
    ) {
        let me = site.me;
        self.answered(site, primary, (me, number), reply_of(outcome));
    }
}

impl Object {
    /// Somebody left it unanswered for too long. What is only read is left for another time. But what is to be put in place may
    /// come late, when the blocks hold something newer: whoever does not say that it did that is taken to the ledger.
    fn is_given_up(&self, site: &mut Site) -> bool {
        let is_writing = matches!(self.step, Step::Writing(_));
        let me = site.me;
        let mut silent =
            self.asked.iter().map(|(process, _)| *process).filter(|process| *process != me).peekable();
        if !is_writing {
            return silent.peek().is_some();
        }
        silent.for_each(|process| site.propose(SetChange::Drop(process)));
        false
    }

    fn ask(&mut self, site: &mut Site, primary: &mut Primary, asked: Vec<(Process, Lesson)>) {
        self.number = primary.next_op().0;
        self.resend = Resend::new(site.now);
        for (process, lesson) in &asked {
            if *process == site.me {
                ask_own(site, self.number, lesson.clone());
            } else {
                send(site, *process, self.number, lesson);
            }
        }
        self.asked = asked;
    }
}

/// Asks another replica. The own store is asked once: it answers.
fn send(site: &mut Site, to: Process, number: u64, lesson: &Lesson) {
    if to == site.me {
        return;
    }
    let lesson = lesson.clone();
    let is_question = lesson.is_question();
    site.send(to, if is_question { Body::Inspect { number, lesson } } else { Body::Mend { number, lesson } });
}

fn ask_own(site: &mut Site, number: u64, lesson: Lesson) {
    let pending = Pending::Mending { number };
    match lesson {
        Lesson::Digests { after, most } => site.digests(after, most, pending),
        Lesson::Verify { oid } => site.verify(oid, pending),
        Lesson::Read { oid, blocks } => site.read(oid, blocks, pending),
        Lesson::Copy { oid, blocks } => {
            site.log(Entry::Copy { oid, blocks }, pending);
        }
        Lesson::Replace { oid, blocks } => {
            site.log(Entry::Replace { oid, blocks }, pending);
        }
        _ => {}
    }
}

impl Primary {
    pub(crate) fn mend(&mut self, site: &mut Site, mend: impl FnOnce(&mut Mending, &mut Site, &mut Self)) {
        let mut mending = std::mem::take(&mut self.mending);
        mend(&mut mending, site, self);
        self.mending = mending;
    }

    /// Whether a learner may be counted in any moment.
    pub(crate) fn has_proposed(&self) -> bool {
        self.teaching.as_ref().is_some_and(Teaching::is_proposed)
    }

    /// Whether blocks here may be replaced by something else than writes. A learner that was compared with them is given up.
    pub(crate) fn may_change_unseen(&mut self, site: &mut Site) -> bool {
        if self.has_proposed() {
            return false;
        }
        self.give_up_learner(site);
        true
    }
}
