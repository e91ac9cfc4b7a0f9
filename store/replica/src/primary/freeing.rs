//! Freeing the space of deleted VDIs, as the primary does it: one object after the other, whenever it has nothing of that to do.
//!
//! A block of a deleted version can go if no version that is not deleted shows it: each of those that were made from it has
//! something of its own there, or, if it is deleted itself, all that were made from it in turn have. That stays so, for a block
//! that was written is never again as if it had not been, and nothing is made from what is deleted. It is looked for under
//! locks, so what hides the block is in the log of every in-sync replica before the block goes. What goes is told to the
//! replicas as a result, like any write. Nothing of this has to survive: the next primary looks again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use huntaway_wire::{Durability, ObjectKind, Oid, Version, Vid};

use super::Primary;
use super::change::WHOLE_OBJECT;
use super::operation::Operation;
use crate::event::Outcome;
use crate::order::{Access, Input, OpId};
use crate::planted::PlantedBug;
use crate::process::Moment;
use crate::record::{Change, Completion, Record, SET_ASIDE_BLOCK};
use crate::room::Cost;
use crate::site::{Pending, Site};
use crate::teaching::PAGE_OBJECTS;
use crate::vdi::Vdis;

/// From one pass over all that is deleted to the next, in microseconds: it is doubled while nothing is found.
const FIRST_PAUSE_US: u64 = 1_000_000;

/// The longest such pause.
const LONGEST_PAUSE_US: u64 = 8_000_000;

/// What stores are asked from one tick to the next: they may answer at once, and all partitions of a node ask at the same time.
const MOST_BETWEEN_TICKS: u32 = 16;

const KINDS: [ObjectKind; 4] =
    [ObjectKind::Data, ObjectKind::Vdi, ObjectKind::Attribute, ObjectKind::VmState];

/// What is under way of it.
#[derive(Debug, Default)]
pub(super) struct Freeing {
    /// Deleted VDIs of which there are no such objects here, and will not be any more.
    empty: BTreeSet<(ObjectKind, Vid)>,
    /// Those still to be looked at in this pass.
    waiting: VecDeque<(ObjectKind, Vid)>,
    /// The deleted VDI at hand, with what was made from it.
    family: Family,
    /// Objects of it still to be looked at.
    objects: VecDeque<Oid>,
    /// Where the next page of objects begins, if there is one.
    next_page: Option<Oid>,
    step: Step,
    /// Names what the store was asked last.
    asked: u64,
    due: Moment,
    pause_us: u64,
    /// So much may be asked until the next tick.
    turns: u32,
    /// The VDIs as they were when the pepoch began, for who looks at those, which is wrong.
    first_vdis: Arc<Vdis>,
}

#[derive(Debug, Default)]
enum Step {
    #[default]
    Idle,
    /// It goes on at the next tick: with the object at hand, or with what comes next.
    Resting(Option<Looked>),
    /// Which objects of the deleted VDI are here?
    Listing { kind: ObjectKind, vid: Vid, is_first: bool },
    /// What do the versions have that were made from it, where the object is? The first of `rest` is at hand.
    Looking { oid: Oid, rest: VecDeque<Vid>, own: Own, op: OpId },
    /// Nobody else has the object. What of `hidden` is there? `None` stands for all blocks.
    Locking { oid: Oid, hidden: Option<BTreeSet<u32>>, op: OpId },
    /// Blocks go.
    Going { op: OpId },
}

/// An object of a deleted version, those made from it that are still to be asked for, and what others have.
type Looked = (Oid, VecDeque<Vid>, Own);

/// The blocks that versions have of their own.
type Own = BTreeMap<Vid, BTreeSet<u32>>;

/// A deleted version, and those made from it down to the first that are not deleted. It may be out of date: nothing is made from
/// what is deleted.
#[derive(Debug, Default)]
struct Family {
    children: BTreeMap<Vid, Vec<Vid>>,
    deleted: BTreeSet<Vid>,
}

impl Family {
    fn of(vdis: &Vdis, deleted: &Vdis, vid: Vid) -> Self {
        let mut family = Self { children: BTreeMap::new(), deleted: BTreeSet::from([vid]) };
        // Whoever was made from another one has a higher vid.
        for (child, parent) in vdis.made_from() {
            if family.deleted.contains(&parent) {
                family.children.entry(parent).or_default().push(child);
                if deleted.vdi(child).is_some_and(|vdi| vdi.is_deleted) {
                    family.deleted.insert(child);
                }
            }
        }
        family
    }

    fn descendants(&self) -> VecDeque<Vid> {
        self.children.values().flatten().copied().collect()
    }

    /// The blocks of `vid` that no version shows which is not deleted; `None` if that are all.
    fn hidden(&self, vid: Vid, own: &Own) -> Option<BTreeSet<u32>> {
        let mut hidden: BTreeMap<Vid, Option<BTreeSet<u32>>> = BTreeMap::new();
        let all: BTreeSet<Vid> = self.descendants().into_iter().chain([vid]).collect();
        for at in all.into_iter().rev() {
            let mut below = (!self.deleted.contains(&at)).then(BTreeSet::new);
            for child in self.children.get(&at).into_iter().flatten() {
                let by_child = hidden.get(child).cloned().unwrap_or_default();
                below = match (below, by_child) {
                    (Some(below), Some(by_child)) => Some(&below & &by_child),
                    (below, by_child) => below.or(by_child),
                };
            }
            if at == vid {
                return below;
            }
            let blocks = own.get(&at).cloned().unwrap_or_default();
            hidden.insert(at, below.map(|below| &below | &blocks));
        }
        None
    }
}

impl Freeing {
    pub(super) fn new(site: &Site) -> Self {
        let first_vdis = site.configuration.vdis.clone();
        Self { first_vdis, pause_us: FIRST_PAUSE_US, due: site.now.after(FIRST_PAUSE_US), ..Self::default() }
    }

    /// The lock that it has or waits for.
    pub(super) fn lock(&self) -> Option<OpId> {
        match self.step {
            Step::Looking { op, .. } | Step::Locking { op, .. } => Some(op),
            _ => None,
        }
    }

    /// Something became of a VDI: it may be time to look.
    pub(super) fn hurry(&mut self, now: Moment) {
        (self.pause_us, self.due) = (FIRST_PAUSE_US, self.due.min(now));
    }

    /// Whether it is not yet time to look.
    pub(super) fn rests(&self, now: Moment) -> bool {
        matches!(self.step, Step::Idle) && now < self.due
    }

    pub(super) fn tick(&mut self, site: &mut Site, primary: &mut Primary) {
        self.turns = MOST_BETWEEN_TICKS;
        if let Step::Resting(at) = &mut self.step {
            return match at.take() {
                Some((oid, rest, own)) => self.look(site, primary, oid, rest, own),
                None => self.go_on(site, primary),
            };
        }
        if !matches!(self.step, Step::Idle) || site.now < self.due || site.has(PlantedBug::NothingFreed) {
            return;
        }
        let deleted = site.configuration.vdis.deleted();
        let all = deleted.flat_map(|vid| KINDS.into_iter().map(move |kind| (kind, vid)));
        // What was deleted long ago is mostly gone, and stays in the tree.
        let mut waiting: Vec<_> = all.filter(|place| !self.empty.contains(place)).collect();
        waiting.sort_by_key(|(_, vid)| std::cmp::Reverse(*vid));
        self.waiting = waiting.into();
        self.pause_us = (2 * self.pause_us).min(LONGEST_PAUSE_US);
        self.go_on(site, primary);
    }

    /// The next object, or page of objects, or VDI.
    fn go_on(&mut self, site: &mut Site, primary: &mut Primary) {
        if self.turns == 0 {
            self.step = Step::Resting(None);
            return;
        }
        if let Some(oid) = self.objects.pop_front() {
            return self.look(site, primary, oid, self.family.descendants(), Own::new());
        }
        if let Some(after) = self.next_page.take() {
            return self.list(site, after.kind(), after.vid(), Some(after));
        }
        let Some((kind, vid)) = self.waiting.pop_front() else {
            self.step = Step::Idle;
            self.due = site.now.after(self.pause_us);
            return;
        };
        let vdis = site.configuration.vdis.clone();
        let known = if site.has(PlantedBug::FreedByOldTree) { &self.first_vdis } else { &vdis };
        self.family = Family::of(known, &vdis, vid);
        self.list(site, kind, vid, None);
    }

    fn ask(&mut self) -> Pending {
        self.asked += 1;
        self.turns = self.turns.saturating_sub(1);
        Pending::Freeing { number: self.asked }
    }

    fn list(&mut self, site: &mut Site, kind: ObjectKind, vid: Vid, after: Option<Oid>) {
        let is_first = after.is_none();
        self.step = Step::Listing { kind, vid, is_first };
        let pending = self.ask();
        // Mostly there are none, and to tell of those of others takes time.
        let most = if is_first { 1 } else { PAGE_OBJECTS };
        let first = Oid::new(kind, vid, 0).value().checked_sub(1);
        let after = after.or_else(|| Oid::from_value(first?).ok());
        site.digests(after, most, pending);
    }

    fn look(&mut self, site: &mut Site, primary: &mut Primary, oid: Oid, mut rest: VecDeque<Vid>, own: Own) {
        if site.has(PlantedBug::FreedWhatChildrenShow) {
            rest.clear();
            self.family.children.clear();
        }
        if self.turns == 0 {
            self.step = Step::Resting(Some((oid, rest, own)));
            return;
        }
        let Some(vid) = rest.front().copied() else {
            let hidden = self.family.hidden(oid.vid(), &own);
            let op = primary.lock_alone(site, oid);
            self.step = Step::Locking { oid, hidden, op };
            return;
        };
        let place = Oid::new(oid.kind(), vid, oid.index());
        if site.has(PlantedBug::FreedWithoutLocks) {
            self.step = Step::Looking { oid, rest, own, op: primary.next_op() };
            return self.locked(site);
        }
        let op = primary.lock_object(site, place);
        self.step = Step::Looking { oid, rest, own, op };
    }

    /// Nobody writes to the object at hand from here on.
    pub(super) fn locked(&mut self, site: &mut Site) {
        let place = match &self.step {
            Step::Looking { oid, rest, .. } => {
                rest.front().map(|vid| Oid::new(oid.kind(), *vid, oid.index())).unwrap_or(*oid)
            }
            Step::Locking { oid, .. } => *oid,
            _ => return,
        };
        let pending = self.ask();
        site.versions(place, pending);
    }

    pub(super) fn own_side(&mut self, site: &mut Site, primary: &mut Primary, number: u64, outcome: Outcome) {
        if number != self.asked {
            return;
        }
        match (std::mem::take(&mut self.step), outcome) {
            (Step::Listing { kind, vid, is_first }, Outcome::Digests(page)) => {
                let is_of_it = |oid: &Oid| oid.kind() == kind && oid.vid() == vid;
                let all = page.objects.iter().map(|(oid, _)| *oid);
                self.objects = all.filter(is_of_it).collect();
                self.next_page = page.objects.last().map(|(oid, _)| *oid).filter(is_of_it);
                self.next_page.take_if(|_| page.is_last);
                if is_first && self.objects.is_empty() {
                    self.empty.insert((kind, vid));
                }
                self.go_on(site, primary);
            }
            (Step::Looking { oid, mut rest, mut own, op }, outcome) => {
                primary.unlock_object(op);
                let Some(vid) = rest.pop_front() else { return self.go_on(site, primary) };
                // What cannot be told counts as nothing, and space hides nothing.
                let mut blocks = written(outcome).unwrap_or_default();
                blocks.remove(&SET_ASIDE_BLOCK);
                own.insert(vid, blocks);
                self.look(site, primary, oid, rest, own);
            }
            (Step::Locking { oid, hidden, op }, outcome) => {
                if outcome == Outcome::Failed || matches!(outcome, Outcome::Missing(_)) {
                    primary.mending.suspect(oid);
                }
                let mut blocks = written(outcome).unwrap_or_default();
                // Nobody writes to what is deleted: it needs no space set aside.
                let is_to_go = |block: &u32| {
                    hidden.as_ref().is_none_or(|hidden| hidden.contains(block)) || *block == SET_ASIDE_BLOCK
                };
                blocks.retain(is_to_go);
                if primary.free_blocks(site, op, oid, runs(&blocks)) {
                    self.pause_us = FIRST_PAUSE_US;
                    self.step = Step::Going { op };
                } else {
                    self.go_on(site, primary);
                }
            }
            // It could not be told which objects there are.
            (_, _) => self.go_on(site, primary),
        }
    }
}

/// The blocks that were written; `None` if that is not known.
fn written(outcome: Outcome) -> Option<BTreeSet<u32>> {
    let Outcome::Versions(versions) = outcome else { return None };
    let written = versions.into_iter().filter(|(_, version)| *version != Version::NEVER);
    Some(written.map(|(block, _)| block).collect())
}

fn runs(blocks: &BTreeSet<u32>) -> Vec<Range<u32>> {
    let mut runs: Vec<Range<u32>> = Vec::new();
    for block in blocks {
        match runs.last_mut() {
            Some(run) if run.end == *block => run.end += 1,
            _ => runs.push(*block..block + 1),
        }
    }
    runs
}

impl Primary {
    pub(super) fn free(&mut self, site: &mut Site, free: impl FnOnce(&mut Freeing, &mut Site, &mut Self)) {
        let mut freeing = std::mem::take(&mut self.freeing);
        free(&mut freeing, site, self);
        self.freeing = freeing;
    }

    /// Goes on with the next object, once what was to go from the last one is gone everywhere.
    pub(super) fn go_on_freeing(&mut self, site: &mut Site) {
        if let Step::Going { op } = self.freeing.step
            && !self.operations.contains_key(&op)
        {
            self.free(site, Freeing::go_on);
        }
    }

    /// Has the freeing wait for its turn to change an object.
    fn lock_alone(&mut self, site: &mut Site, oid: Oid) -> OpId {
        let op = self.next_op();
        self.begin(site, op, Access::Write, oid, WHOLE_OBJECT);
        op
    }

    /// Has blocks go, on all replicas, or gives the lock back and returns that none do.
    fn free_blocks(&mut self, site: &mut Site, op: OpId, oid: Oid, runs: Vec<Range<u32>>) -> bool {
        let seq = self.unfinished.iter().find(|(_, locked)| **locked == op).map(|(seq, _)| *seq);
        let Some(seq) = seq else { return false };
        let has_copies = site.configuration.in_sync.len() >= site.configuration.min_copies;
        let cost = Cost::new(runs.iter().map(ExactSizeIterator::len).sum(), 0);
        if runs.is_empty() || !has_copies || !self.has_room_to_free(site, cost) {
            self.unfinished.remove(&seq);
            let outputs = self.order.step(Input::Failed { op });
            self.run(site, outputs);
            return false;
        }
        let record = Record {
            version: Version { pepoch: site.pepoch().0, seq },
            oid,
            change: Change::Free { runs },
            completion: Completion::Done,
            request: None,
            unanswered_from: 0,
            durability: Durability::Logged,
        };
        self.operations.insert(op, Operation::unasked(record.version));
        self.write(site, op, record);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vdi::Vdi;

    fn vid(number: u32) -> Vid {
        Vid::new(number).unwrap()
    }

    /// The vids with those that they were made from; those in `deleted` are deleted.
    fn vdis(made: &[(u32, u32)], deleted: &[u32]) -> Vdis {
        let vdi = |(number, parent): &(u32, u32)| {
            let (parent, is_deleted) = (Vid::new(*parent).ok(), deleted.contains(number));
            let (layout, fence, hold, holds_reads) = (1, 1, None, false);
            (
                vid(*number),
                Vdi { parent, layout, fence, is_frozen: is_deleted, is_deleted, hold, holds_reads },
            )
        };
        made.iter().map(vdi).collect()
    }

    /// What is hidden of version 1, while versions have blocks of their own.
    fn hidden(vdis: &Vdis, own: &[(u32, &[u32])]) -> Option<Vec<u32>> {
        let own = own.iter().map(|(number, blocks)| (vid(*number), blocks.iter().copied().collect()));
        let hidden = Family::of(vdis, vdis, vid(1)).hidden(vid(1), &own.collect());
        hidden.map(|blocks| blocks.into_iter().collect())
    }

    #[test]
    fn what_nothing_was_made_from_is_hidden_as_a_whole() {
        assert_eq!(hidden(&vdis(&[(1, 0), (2, 0)], &[1]), &[]), None);
        assert_eq!(hidden(&vdis(&[(1, 0), (2, 1), (3, 2)], &[1, 2, 3]), &[]), None);
    }

    #[test]
    fn a_block_is_hidden_if_all_that_was_made_from_it_has_its_own() {
        let vdis = vdis(&[(1, 0), (2, 1), (3, 1)], &[1]);
        assert_eq!(hidden(&vdis, &[(2, &[0, 1]), (3, &[1, 2])]), Some(vec![1]));
        assert_eq!(hidden(&vdis, &[(2, &[0, 1])]), Some(vec![]));
    }

    #[test]
    fn what_is_deleted_hides_by_itself_or_by_what_was_made_from_it() {
        let vdis = vdis(&[(1, 0), (2, 1), (3, 2), (4, 2), (5, 3)], &[1, 2]);
        assert_eq!(hidden(&vdis, &[(2, &[7]), (3, &[0, 1]), (4, &[1, 2])]), Some(vec![1, 7]));
        assert_eq!(hidden(&vdis, &[(3, &[]), (4, &[1]), (5, &[1])]), Some(vec![]), "3 shows it, not 5 alone");
    }

    #[test]
    fn blocks_that_follow_one_another_are_one_run() {
        assert_eq!(runs(&BTreeSet::from([0, 1, 2, 5, 7, 8])), [0..3, 5..6, 7..9]);
        assert_eq!(runs(&BTreeSet::new()), []);
    }
}
