//! Blocks that a read found damaged here: the other in-sync replicas are asked for them, one after the other. They have the same
//! versions, for the read has its lock.

use std::collections::VecDeque;
use std::ops::Range;

use huntaway_wire::Oid;

use super::Primary;
use super::operation::State;
use crate::event::Answer;
use crate::message::{Body, Lesson, Reply};
use crate::order::OpId;
use crate::planted::PlantedBug;
use crate::process::{Moment, Process, SILENCE_US};
use crate::record::{Block, Stored};
use crate::resend::Resend;
use crate::site::Site;

/// A read that goes on elsewhere.
#[derive(Debug)]
pub(crate) struct Elsewhere {
    pub(crate) oid: Oid,
    /// Names what is asked: an operation may ask for several things, and answers come late and twice.
    number: u64,
    first: u32,
    blocks: Vec<Option<Stored>>,
    /// All that told so far say that the object is missing.
    is_missing: bool,
    /// Those that did not say what they have. The first is asked.
    sources: VecDeque<Process>,
    /// Of the first of them.
    resend: Resend,
}

/// How far it got.
#[derive(Debug)]
pub(crate) enum Progress {
    /// Another replica is asked.
    Asking,
    /// All blocks are there.
    Whole(Vec<Stored>),
    /// Nobody has all of them.
    Lost,
}

impl Elsewhere {
    /// `stored` is what is whole here of the blocks.
    pub(crate) fn new(
        number: u64,
        oid: Oid,
        blocks: Range<u32>,
        mut stored: Vec<Option<Stored>>,
        is_missing: bool,
        sources: impl Iterator<Item = Process>,
    ) -> Self {
        stored.resize(blocks.len(), None);
        let (first, sources) = (blocks.start, sources.collect());
        let resend = Resend::new(Moment::default());
        Self { oid, number, first, blocks: stored, is_missing, sources, resend }
    }

    /// Asks the next replica, unless it is known what comes of the read.
    pub(crate) fn go_on(&mut self, site: &mut Site) -> Progress {
        self.resend = Resend::new(site.now);
        self.ask(site)
    }

    fn ask(&mut self, site: &mut Site) -> Progress {
        if self.blocks.iter().all(Option::is_some) {
            return Progress::Whole(self.blocks.drain(..).flatten().collect());
        }
        let Some(source) = self.sources.front() else { return Progress::Lost };
        let blocks = self.first..self.first + self.blocks.len() as u32;
        let lesson = Lesson::Read { oid: self.oid, blocks };
        site.send(*source, Body::Inspect { number: self.number, lesson });
        Progress::Asking
    }

    /// Asks again; another one, when this one was silent for too long.
    pub(crate) fn send_again(&mut self, site: &mut Site) {
        if self.resend.waited_us(site) > SILENCE_US {
            self.sources.rotate_left(1);
            self.go_on(site);
        } else if self.resend.is_due(site.now) {
            self.ask(site);
        }
    }

    /// Takes in what a replica has; one that cannot tell just now is asked again when the others were.
    pub(crate) fn take(&mut self, from: Process, reply: Reply) -> bool {
        if self.sources.front() != Some(&from) {
            return false;
        }
        self.is_missing &= matches!(reply, Reply::Missing(_) | Reply::Failed);
        let found = match reply {
            Reply::Blocks(blocks) => blocks.into_iter().map(Some).collect(),
            Reply::Damaged(blocks) => blocks,
            Reply::Failed => {
                self.sources.rotate_left(1);
                return self.sources.front() != Some(&from);
            }
            _ => Vec::new(),
        };
        for (block, found) in self.blocks.iter_mut().zip(found) {
            let is_sound = |stored: &Stored| stored.content.as_ref().is_none_or(Block::is_sound);
            *block = block.take().or(found.filter(is_sound));
        }
        self.sources.pop_front();
        true
    }
}

impl Primary {
    /// Some of what the operation has to know is damaged here, or the object is missing; `stored` is what is whole of it.
    pub(super) fn look_elsewhere(
        &mut self,
        site: &mut Site,
        op: OpId,
        stored: Vec<Option<Stored>>,
        is_missing: bool,
    ) {
        let number = self.next_op().0;
        let Some(operation) = self.operations.get_mut(&op) else { return };
        let Some((oid, blocks)) = operation.lookup.next() else { return };
        self.mending.suspect(oid);
        if site.has(PlantedBug::DamageNotReadElsewhere) {
            return self.has_found(site, op, None);
        }
        let sources = self.peers.iter().map(|peer| peer.process);
        operation.state =
            State::ReadingElsewhere(Elsewhere::new(number, oid, blocks, stored, is_missing, sources));
        self.read_elsewhere(site, op);
    }

    fn read_elsewhere(&mut self, site: &mut Site, op: OpId) {
        let Some(operation) = self.operations.get_mut(&op) else { return };
        let State::ReadingElsewhere(elsewhere) = &mut operation.state else { return };
        match elsewhere.go_on(site) {
            Progress::Asking => {}
            Progress::Whole(stored) => self.has_found(site, op, Some(stored)),
            Progress::Lost if operation.has_looked_elsewhere => {
                let is_missing = elsewhere.is_missing;
                self.has_not_found(site, op, is_missing);
            }
            // Meanwhile it may have been mended here.
            Progress::Lost => {
                operation.has_looked_elsewhere = true;
                if let Err(refused) = self.look_up(site, op) {
                    self.fail(site, op, Answer::Refused(refused));
                }
            }
        }
    }

    /// Another replica says what it has: to an operation, or to the mender.
    pub(crate) fn inspected(&mut self, site: &mut Site, from: Process, number: u64, reply: Reply) {
        let asked = self.operations.iter_mut().find_map(|(op, operation)| match &mut operation.state {
            State::ReadingElsewhere(elsewhere) if elsewhere.number == number => Some((*op, elsewhere)),
            _ => None,
        });
        let Some((op, elsewhere)) = asked else {
            return self.mend(site, |mending, site, primary| {
                mending.answered(site, primary, (from, number), reply);
            });
        };
        if elsewhere.take(from, reply) {
            self.read_elsewhere(site, op);
        }
    }
}
