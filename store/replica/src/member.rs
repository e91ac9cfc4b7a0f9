//! A replica that is not primary: in sync, learning, doubtful or none of these. It does what the primary of its pepoch says.

mod missing;

use std::sync::Arc;

use huntaway_wire::Version;

use crate::event::Outcome;
use crate::in_doubt::{InDoubt, Receipt};
use crate::message::{Attempt, Body, Lesson, Reply};
use crate::planted::PlantedBug;
use crate::process::{GRANT_US, Grant, Moment, Process};
use crate::record::{CopiedBlock, Entry, Record};
use crate::requests::Requests;
use crate::resend::Resend;
use crate::site::{Pending, Site};
use missing::Missing;

/// What it did in its pepoch.
#[derive(Debug)]
pub(crate) struct Member {
    missing: Missing,
    rolled_forward: Progress,
    /// When it said last what is in doubt, which may be much: it is asked for that at each tick.
    gathered: Option<Resend>,
    /// Its primary asked for that when an old one could still count on this replica.
    is_asked: bool,
    /// The attempt to teach it that it takes part in; 0 = none.
    attempt: Attempt,
    /// The last lesson that it was given.
    step: u64,
    /// What came of it, once something did.
    reply: Option<Reply>,
    /// The last time that blocks were to be put in place here, and what came of it, once something did. If there was no room, what
    /// comes again comes too late.
    mended: (u64, Option<Reply>),
    /// Writes that were not taken.
    beyond_credit: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Progress {
    NotAsked,
    UnderWay,
    Done,
}

impl Member {
    /// A pepoch begins.
    pub(crate) fn new(now: Moment) -> Self {
        Self {
            missing: Missing::new(now),
            rolled_forward: Progress::NotAsked,
            gathered: None,
            is_asked: false,
            attempt: 0,
            step: 0,
            reply: None,
            mended: (0, None),
            beyond_credit: 0,
        }
    }

    pub(crate) fn tick(&mut self, site: &mut Site) {
        self.missing.tick(site);
    }

    pub(crate) fn rests(&self, site: &Site) -> bool {
        self.missing.rests(site)
    }

    pub(crate) fn receive(&mut self, site: &mut Site, from: Process, body: Body) {
        if matches!(body, Body::Misses) {
            return self.missing.told(site, from);
        }
        if site.configuration.primary() != Some(from) {
            return;
        }
        match body {
            // Whoever has the store's word that it has room takes that in first.
            Body::Beacon { sent, settled, attempt, is_missed, wants_room: _ } => {
                if !is_missed {
                    self.missing.is_heard(site.now);
                }
                self.beacon(site, from, sent, settled, attempt);
            }
            Body::Forward { record, settled, attempt } => {
                self.forward(site, from, &record, settled, attempt);
            }
            Body::Flush { number } => {
                site.sync(Pending::Flush { to: from, number });
            }
            Body::Gather => self.gather(site, from),
            Body::RollForward { records } => self.roll_forward(site, from, &records),
            Body::Ask { attempt, step, lesson } => self.lesson(site, from, attempt, step, lesson),
            Body::Inspect { number, lesson } => self.inspect(site, from, number, lesson),
            Body::Mend { number, lesson } => self.mend(site, from, number, lesson),
            Body::Misses
            | Body::Released
            | Body::Suspect { .. }
            | Body::Granted { .. }
            | Body::Forwarded { .. }
            | Body::Flushed { .. }
            | Body::Gathered { .. }
            | Body::RolledForward
            | Body::Inspected { .. }
            | Body::Mended { .. }
            | Body::Reply { .. } => {}
        }
    }

    /// Whether a primary teaches it, or did so in this pepoch.
    pub(crate) fn is_learning(&self) -> bool {
        self.attempt > 0
    }

    /// Whether what is meant for `attempt` (0: a replica in sync) is meant for this one.
    fn is(&self, site: &Site, attempt: Attempt) -> bool {
        if attempt == 0 { site.configuration.has(site.me) } else { attempt == self.attempt }
    }

    fn beacon(&mut self, site: &mut Site, from: Process, sent: Moment, settled: Version, attempt: Attempt) {
        if !self.is(site, attempt) {
            return;
        }
        site.doubt.settle(settled);
        if !site.is_bound_against(from) {
            site.grant = Grant { to: Some(from), pepoch: site.pepoch(), until: site.now.after(GRANT_US) };
            site.send(from, Body::Granted { sent, credit: site.room.credit(), attempt });
        }
    }

    fn forward(
        &mut self,
        site: &mut Site,
        from: Process,
        record: &Arc<Record>,
        settled: Version,
        attempt: Attempt,
    ) {
        let is_sound = record.is_sound() || site.has(PlantedBug::CrcNotVerified);
        if !self.is(site, attempt) || !is_sound {
            return;
        }
        site.doubt.settle(settled);
        let version = record.version;
        let again = site.has(PlantedBug::DuplicateForwardLogged);
        match site.doubt.receipt(version) {
            Receipt::Logged if !again => forwarded(site, from, version, attempt),
            Receipt::Logging | Receipt::Settled if !again => {}
            // It is sent again.
            Receipt::New if !has_room(site, record, attempt) => self.beyond_credit += u64::from(attempt == 0),
            _ => {
                site.log_write(record, Pending::Forward { to: from, version, attempt });
                if site.has(PlantedBug::AcknowledgedFromMemory) {
                    forwarded(site, from, version, attempt);
                }
            }
        }
    }

    /// Answers a new primary, unless an old one may still count on this replica, or the answer is on its way.
    fn gather(&mut self, site: &mut Site, from: Process) {
        if !site.configuration.has(site.me) {
            return;
        }
        self.is_asked = site.is_bound_against(from);
        if self.is_asked {
            return;
        }
        if !self.gathered.get_or_insert_with(|| Resend::due(site.now)).is_due(site.now) {
            return;
        }
        let records = site.doubt.records().cloned().collect();
        site.send(from, Body::Gathered { records });
    }

    /// The old primary does not count on this replica any more.
    pub(crate) fn released(&mut self, site: &mut Site) {
        if let Some(primary) = site.configuration.primary().filter(|_| self.is_asked) {
            self.gather(site, primary);
        }
    }

    /// See [`crate::Replica::beyond_credit`].
    pub(crate) fn beyond_credit(&self) -> u64 {
        self.beyond_credit
    }

    fn roll_forward(&mut self, site: &mut Site, from: Process, records: &[Arc<Record>]) {
        if !self.is(site, 0) || site.is_bound_against(from) || !records.iter().all(|record| record.is_sound())
        {
            return;
        }
        match self.rolled_forward {
            Progress::NotAsked => {
                self.rolled_forward = Progress::UnderWay;
                site.roll_forward(records);
            }
            Progress::UnderWay => {}
            Progress::Done => site.send(from, Body::RolledForward),
        }
    }

    /// Does the next lesson, and says again what came of the last one. Earlier ones come late, and later ones too early.
    fn lesson(&mut self, site: &mut Site, from: Process, attempt: Attempt, step: u64, lesson: Lesson) {
        let begins = match lesson {
            Lesson::Begin { .. } => !site.configuration.has(site.me),
            Lesson::Requests => site.configuration.has(site.me) && !site.is_bound_against(from),
            _ => false,
        };
        if attempt > self.attempt && begins {
            *self = Self { attempt, ..Self::new(site.now) };
        }
        if attempt == 0 || attempt != self.attempt {
            return;
        }
        let again = site.has(PlantedBug::DuplicateLessonDone) && matches!(lesson, Lesson::Copy { .. });
        if step == self.step + 1 || again {
            self.step = self.step.max(step);
            self.reply = None;
            self.do_lesson(site, Pending::Lesson { to: from, attempt, step }, lesson);
        } else if step == self.step
            && let Some(reply) = self.reply.clone()
        {
            site.send(from, Body::Reply { attempt, step, reply });
        }
    }

    fn inspect(&mut self, site: &mut Site, from: Process, number: u64, lesson: Lesson) {
        if self.is(site, 0) && lesson.is_question() {
            self.do_lesson(site, Pending::Inspect { to: from, number }, lesson);
        }
    }

    /// Puts blocks in place. The primary sends nothing else that touches them before it knows that this is done, so what comes
    /// late is what was done.
    fn mend(&mut self, site: &mut Site, from: Process, number: u64, lesson: Lesson) {
        let entry = match lesson {
            Lesson::Copy { oid, blocks } if are_sound(&blocks) => Entry::Copy { oid, blocks },
            Lesson::Replace { oid, blocks } if are_sound(&blocks) => Entry::Replace { oid, blocks },
            _ => return,
        };
        if !self.is(site, 0) {
            return;
        }
        let (last, reply) = &self.mended;
        if number > *last {
            self.mended = (number, None);
            site.log(entry, Pending::Mend { to: from, number });
        } else if number == *last
            && let Some(reply) = reply
        {
            mended(site, from, number, reply.clone());
        }
    }

    fn do_lesson(&mut self, site: &mut Site, pending: Pending, lesson: Lesson) {
        match lesson {
            Lesson::Begin { requests, settled } => begin(site, &requests, settled, pending),
            Lesson::Requests => {
                let requests = Arc::new(site.requests.clone());
                self.replied(site, pending, Reply::Requests(requests));
            }
            Lesson::Digests { after, most } => site.digests(after, most, pending),
            Lesson::Versions { oid } => site.versions(oid, pending),
            Lesson::Read { oid, blocks } => site.read(oid, blocks, pending),
            Lesson::Verify { oid } => site.verify(oid, pending),
            Lesson::Copy { blocks, .. } | Lesson::Replace { blocks, .. } if !are_sound(&blocks) => {
                self.replied(site, pending, Reply::Failed);
            }
            Lesson::Replace { oid, blocks } => {
                site.log(Entry::Replace { oid, blocks }, pending);
            }
            Lesson::Copy { oid, blocks } => {
                site.log(Entry::Copy { oid, blocks }, pending);
            }
            Lesson::Remove { oid } => {
                site.log(Entry::Remove { oid }, pending);
            }
            Lesson::Sync => {
                site.sync(pending);
            }
        }
    }

    fn replied(&mut self, site: &mut Site, pending: Pending, reply: Reply) {
        if let Pending::Inspect { to, number } = pending {
            return site.send(to, Body::Inspected { number, reply });
        }
        let Pending::Lesson { to, attempt, step } = pending else { return };
        if (attempt, step) == (self.attempt, self.step) {
            self.reply = Some(reply.clone());
            site.send(to, Body::Reply { attempt, step, reply });
        }
    }

    pub(crate) fn stored(&mut self, site: &mut Site, pending: Pending, outcome: Outcome) {
        match pending {
            Pending::Forward { to, version, attempt } => {
                forwarded(site, to, version, attempt);
            }
            Pending::Flush { to, number } => site.send(to, Body::Flushed { number }),
            Pending::RollForward => {
                self.rolled_forward = Progress::Done;
                if let Some(primary) = site.configuration.primary() {
                    site.send(primary, Body::RolledForward);
                }
            }
            Pending::Mend { to, number } => {
                let reply = reply_of(outcome);
                if self.mended.0 == number {
                    self.mended.1 = Some(reply.clone());
                }
                mended(site, to, number, reply);
            }
            Pending::Lesson { .. } | Pending::Inspect { .. } => {
                self.replied(site, pending, reply_of(outcome));
            }
            Pending::Nothing
            | Pending::Freeing { .. }
            | Pending::Operation(_)
            | Pending::OwnSide { .. }
            | Pending::Mending { .. } => {}
        }
    }
}

/// Blocks are in place, or there was no room for them.
fn mended(site: &mut Site, to: Process, number: u64, reply: Reply) {
    let is_done = reply == Reply::Done;
    site.send(to, if is_done { Body::Mended { number } } else { Body::Inspected { number, reply } });
}

/// A write is in the log.
fn forwarded(site: &mut Site, to: Process, version: Version, attempt: Attempt) {
    let credit = site.room.credit();
    site.send(to, Body::Forwarded { version, attempt, credit });
}

/// Whether the write was promised to be taken.
fn has_room(site: &Site, record: &Record, attempt: Attempt) -> bool {
    if site.has(PlantedBug::ForwardRefusedForSpace) && site.room.credit().is_full {
        return false;
    }
    site.room.fits(record, attempt != 0)
}

/// Whether all blocks are what their checksums say.
fn are_sound(blocks: &[CopiedBlock]) -> bool {
    blocks.iter().all(|copied| copied.stored.is_sound())
}

/// What the outcome is to whoever asked.
pub(crate) fn reply_of(outcome: Outcome) -> Reply {
    match outcome {
        Outcome::Done => Reply::Done,
        Outcome::Failed | Outcome::NoRoom => Reply::Failed,
        Outcome::Missing(known) => Reply::Missing(known),
        Outcome::Damaged(blocks) => Reply::Damaged(blocks),
        Outcome::Verified(blocks) => Reply::Verified(blocks),
        Outcome::Blocks(blocks) => Reply::Blocks(blocks),
        Outcome::Digests(page) => Reply::Digests(page),
        Outcome::Versions(versions) => Reply::Versions(versions),
    }
}

/// Forgets what it knew, for what it has is to become what the primary has.
fn begin(site: &mut Site, requests: &Arc<Requests>, settled: Version, pending: Pending) {
    let mut requests = requests.clone();
    if site.has(PlantedBug::RequestsKeptAtRollback) {
        Arc::make_mut(&mut requests).merge(&site.requests);
    }
    site.requests = (*requests).clone();
    site.doubt = InDoubt::recovered(settled, []);
    site.begin_credit();
    site.log(Entry::Known { requests, settled, in_doubt: Vec::new() }, pending);
}
