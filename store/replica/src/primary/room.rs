//! Changes that wait until all replicas have room for them, before they have a version: one that has one is never refused for
//! space, since somebody may have seen it.

use std::collections::VecDeque;

use super::Primary;
use super::change::cost;
use super::operation::Operation;
use crate::event::{Answer, Refused, Request};
use crate::order::{OpId, Order};
use crate::planted::PlantedBug;
use crate::record::Record;
use crate::room::{Cost, Lack};
use crate::site::Site;

/// What this pepoch's changes take, and those that wait.
#[derive(Debug, Default)]
pub(super) struct Spending {
    /// By records.
    spent_bytes: u64,
    /// By changes that have no record yet, at most.
    reserved_bytes: u64,
    /// In order, but those that take no space first.
    waiting: VecDeque<Request>,
}

/// What room there is for a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Space {
    /// As much as it takes, at most.
    Enough,
    /// A disk is full: it may go on only if it takes the place of what is there.
    Taken,
}

impl Spending {
    /// A change begins.
    pub(super) fn reserve(&mut self, cost: Option<Cost>) -> u64 {
        let bytes = cost.map_or(0, |cost| cost.bytes);
        self.reserved_bytes += bytes;
        bytes
    }

    /// A change has its record, or comes to nothing.
    pub(super) fn give_back(&mut self, reserved_bytes: u64) {
        self.reserved_bytes = self.reserved_bytes.saturating_sub(reserved_bytes);
    }

    /// A record is sent to all replicas.
    pub(super) fn spend(&mut self, site: &Site, bytes: u64) {
        if !site.has(PlantedBug::CreditSpentTwice) {
            self.spent_bytes = self.spent_bytes.saturating_add(bytes);
        }
    }
}

impl Primary {
    /// What changes that began and have no record yet take, at most.
    pub(crate) fn reserved_bytes(&self) -> u64 {
        self.spending.reserved_bytes
    }

    /// What keeps all replicas from taking it.
    pub(super) fn lack(&self, site: &Site, cost: Cost) -> Option<Lack> {
        let reserved_bytes = self.spending.reserved_bytes;
        let spent_bytes = self.spending.spent_bytes.saturating_add(reserved_bytes);
        let peers = self.peers.iter().map(|peer| peer.credit);
        let lack = peers.chain([site.room.credit()]).filter_map(|credit| credit.lack(cost, spent_bytes));
        let learner = self.teaching.as_ref().and_then(|teaching| teaching.lack(cost, reserved_bytes));
        lack.chain(learner).max()
    }

    /// What room there is for a request; `None` if it has to wait for some, or for others that do.
    pub(super) fn room_for(&self, site: &Site, request: &Request) -> Option<Space> {
        let Some(cost) = cost(&request.command) else { return Some(Space::Enough) };
        let is_first = self.spending.waiting.front().is_none_or(|first| first.id == request.id);
        match self.lack(site, cost) {
            None if is_first || !cost.takes_space => Some(Space::Enough),
            Some(Lack::ForGood) => Some(Space::Taken),
            _ => None,
        }
    }

    pub(super) fn wait_for_room(&mut self, site: &mut Site, request: Request) {
        if self.spending.waiting.len() >= Order::MAX_OPERATIONS {
            return site.answer(&request, Answer::Refused(Refused::NotServing));
        }
        let takes_space = |request: &Request| cost(&request.command).is_some_and(|cost| cost.takes_space);
        let waiting = &self.spending.waiting;
        let first_of_these = waiting.partition_point(|waiting| !takes_space(waiting));
        let place = if takes_space(&request) { waiting.len() } else { first_of_these };
        self.spending.waiting.insert(place, request);
    }

    /// Whether there is space for a record by now, if it was not known before, or it only takes the place of what is there.
    pub(super) fn has_space(&self, site: &Site, operation: &Operation, record: &Record) -> bool {
        let blocks = record.extent().zip(record.contents()).filter(|(_, content)| content.is_some());
        let replaces = blocks.map(|(block, _)| block).all(|block| operation.lookup.own().contains(&block));
        let cost = Cost { bytes: 0, takes_space: true };
        !operation.is_to_replace
            || replaces
            || site.has(PlantedBug::AnyWriteReplaces)
            || site.has(PlantedBug::RefusedAfterVersioning)
            || self.lack(site, cost).is_none()
    }

    /// What others said of their disks holds as long as their leases.
    pub(super) fn without_space(&self, site: &Site) -> Refused {
        if self.has_leases(site) { Refused::NoSpace } else { Refused::NotServing }
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

    /// Refuses a write when it has a version and others have it, which is wrong.
    pub(super) fn is_refused_late(&self, site: &Site, op: OpId) -> bool {
        site.has(PlantedBug::RefusedAfterVersioning)
            && self.operations.get(&op).is_some_and(|operation| operation.is_to_replace)
            && self.has_leases(site)
    }
}
