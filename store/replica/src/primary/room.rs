//! Changes that wait until all replicas have room for them, before they have a version: one that has one is never refused for
//! space, since somebody may have seen it.

use std::collections::VecDeque;

use super::Primary;
use super::change::{cost, lookup_of_space};
use super::operation::Operation;
use crate::event::{Answer, Refused, Request};
use crate::order::{OpId, Order};
use crate::planted::PlantedBug;
use crate::record::{Change, Record};
use crate::room::{Cost, Lack, NEW_OBJECT_BYTES};
use crate::site::Site;

/// What this pepoch's changes take, and those that wait.
#[derive(Debug, Default)]
pub(super) struct Spending {
    /// By records.
    spent: Cost,
    /// By changes that have no record yet, at most.
    reserved: Cost,
    /// In order, but those that take no space first.
    waiting: VecDeque<Request>,
    /// There was no room to free something since the last tick. It is tried again.
    lacked: bool,
}

/// What room there is for a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Space {
    /// As much as it takes, at most.
    Enough,
    /// A disk is full: it may go on only if it takes the place of what is there.
    Taken,
}

/// What a change is taken to cost.
fn counted(site: &Site, cost: Cost) -> Cost {
    let is_free = site.has(PlantedBug::SetAsideNotCounted) && cost == Cost::of_whole_object();
    let less_bytes = match site.has(PlantedBug::NewObjectsNotCounted) {
        _ if is_free => cost.space_bytes,
        true => NEW_OBJECT_BYTES,
        false => 0,
    };
    Cost { space_bytes: cost.space_bytes.saturating_sub(less_bytes), ..cost }
}

impl Spending {
    /// A change begins.
    pub(super) fn reserve(&mut self, cost: Cost) {
        self.reserved = self.reserved.plus(cost);
    }

    /// A change has its record, or comes to nothing.
    pub(super) fn give_back(&mut self, reserved: Cost) {
        self.reserved = self.reserved.minus(reserved);
    }

    /// A record is sent to all replicas.
    pub(super) fn spend(&mut self, site: &Site, cost: Cost) {
        if !site.has(PlantedBug::CreditSpentTwice) {
            self.spent = self.spent.plus(counted(site, cost));
        }
    }
}

impl Primary {
    /// What changes that began and have no record yet take, at most.
    pub(crate) fn reserved(&self) -> Cost {
        self.spending.reserved
    }

    /// Whether changes wait for room.
    pub(crate) fn wants_room(&self) -> bool {
        self.spending.lacked || !self.spending.waiting.is_empty()
    }

    /// Whether there is room to free something. If not, the others are asked for some.
    pub(super) fn has_room_to_free(&mut self, site: &mut Site, cost: Cost) -> bool {
        let wanted = self.wants_room();
        let lacks = self.lack(site, cost).is_some();
        self.spending.lacked |= lacks;
        if lacks && !wanted {
            self.send_beacons(site);
        }
        !lacks
    }

    /// What keeps all replicas from taking it.
    pub(super) fn lack(&self, site: &Site, cost: Cost) -> Option<Lack> {
        self.lack_beside(site, cost, self.spending.reserved)
    }

    /// The same, when so much is kept for changes that began.
    fn lack_beside(&self, site: &Site, cost: Cost, reserved: Cost) -> Option<Lack> {
        let cost = counted(site, cost);
        let spent = self.spending.spent.plus(reserved);
        let peers = self.peers.iter().map(|peer| peer.credit);
        let lack = peers.chain([site.room.credit()]).filter_map(|credit| credit.lack(cost, spent));
        let learner = self.teaching.as_ref().and_then(|teaching| teaching.lack(cost, reserved));
        lack.chain(learner).max()
    }

    /// What room there is for a request; `None` if it has to wait for some, or for others that do.
    pub(super) fn room_for(&self, site: &Site, request: &Request) -> Option<Space> {
        let Some(cost) = cost(&request.command) else { return Some(Space::Enough) };
        let is_first = self.spending.waiting.front().is_none_or(|first| first.id == request.id);
        match self.lack(site, cost) {
            None if is_first || !cost.takes_space() => Some(Space::Enough),
            Some(Lack::ForGood) => Some(Space::Taken),
            _ => None,
        }
    }

    /// The others were asked for room to free something, and will be again if it is wanted.
    pub(super) fn has_asked_for_room(&mut self) {
        self.spending.lacked = false;
    }

    pub(super) fn wait_for_room(&mut self, site: &mut Site, request: Request) {
        if self.spending.waiting.len() >= Order::MAX_OPERATIONS {
            return site.answer(&request, Answer::Refused(Refused::NotServing));
        }
        let is_first = !self.wants_room();
        let takes_space = |request: &Request| cost(&request.command).is_some_and(Cost::takes_space);
        let waiting = &self.spending.waiting;
        let first_of_these = waiting.partition_point(|waiting| !takes_space(waiting));
        let place = if takes_space(&request) { waiting.len() } else { first_of_these };
        self.spending.waiting.insert(place, request);
        if is_first {
            self.send_beacons(site);
        }
    }

    /// What keeps a record from being written, if there was no space for it before and it does not only take the place of what is
    /// there.
    pub(super) fn lack_of_space(&self, site: &Site, operation: &Operation, record: &Record) -> Option<Lack> {
        let blocks = record.extent().zip(record.contents()).filter(|(_, content)| content.is_some());
        let reserved = self.spending.reserved.minus(operation.reserved);
        let takes_nothing = operation.lookup.is_set_aside() && !site.has(PlantedBug::SetAsideNotHeeded);
        let replaces = record.change != Change::Reserve
            && blocks.map(|(block, _)| block).all(|block| operation.lookup.own().contains(&block));
        let is_free = !operation.is_to_replace
            || takes_nothing
            || replaces
            || site.has(PlantedBug::AnyWriteReplaces)
            || site.has(PlantedBug::RefusedAfterVersioning);
        if is_free { None } else { self.lack_beside(site, record.cost(), reserved) }
    }

    /// What others said of their disks holds as long as their leases. What is lacking only for now is waited for when the request
    /// comes again.
    pub(super) fn without_space(&self, site: &Site, lack: Lack) -> Refused {
        let is_full = lack == Lack::ForGood && self.has_leases(site);
        if is_full { Refused::NoSpace } else { Refused::NotServing }
    }

    /// Whether the request waits already; the last sending is what is answered.
    pub(super) fn is_waiting_for_room(&mut self, request: &Request) -> bool {
        let Some(waiting) = self.spending.waiting.iter_mut().find(|waiting| waiting.id == request.id) else {
            return false;
        };
        if waiting.resend <= request.resend {
            waiting.clone_from(request);
        }
        true
    }

    /// Begins what there is room for by now.
    pub(super) fn go_on_with_room(&mut self, site: &mut Site) {
        while let Some(next) = self.spending.waiting.front() {
            let Some(room) = self.room_for(site, next) else { return };
            let Some(request) = self.spending.waiting.pop_front() else { return };
            if self.is_to_begin(site, &request) {
                self.begin_request(site, request, room);
            }
        }
    }

    /// What waits is not for this primary any more.
    pub(super) fn refuse_waiting_for_room(&mut self, site: &mut Site, refused: Refused) {
        for request in std::mem::take(&mut self.spending.waiting) {
            site.answer(&request, Answer::Refused(refused));
        }
    }

    /// What an operation looked at, to see whether it only replaces what is there, is damaged everywhere: it goes on as one that
    /// does not, and looks at what it has to know. `None` if it did that before.
    pub(super) fn look_at_less(&mut self, site: &Site, op: OpId) -> Option<()> {
        let operation = self.operations.get_mut(&op)?;
        if !std::mem::take(&mut operation.looks_at_all) || site.has(PlantedBug::DamageNotReplaced) {
            return None;
        }
        operation.lookup = lookup_of_space(site, &operation.request.as_ref()?.command);
        operation.has_looked_elsewhere = false;
        Some(())
    }

    /// Refuses a write when it has a version and others have it, which is wrong.
    pub(super) fn is_refused_late(&self, site: &Site, op: OpId) -> bool {
        site.has(PlantedBug::RefusedAfterVersioning)
            && self.operations.get(&op).is_some_and(|operation| operation.is_to_replace)
            && self.has_leases(site)
    }
}
