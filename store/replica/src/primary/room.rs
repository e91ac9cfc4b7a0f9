//! Changes that wait until all replicas have room for them, before they have a version: one that has one is never refused for
//! space, since somebody may have seen it.

use std::collections::VecDeque;

use super::Primary;
use super::change::cost;
use crate::event::{Answer, Refused, Request};
use crate::order::Order;
use crate::planted::PlantedBug;
use crate::room::{Cost, Lack};
use crate::site::Site;

/// What this pepoch's changes take, and those that wait.
#[derive(Debug, Default)]
pub(super) struct Spending {
    /// By records.
    spent_bytes: u64,
    /// By changes that have no record yet, at most.
    reserved_bytes: u64,
    /// In order, but those that free space first: they do not wait for a disk that is full.
    waiting: VecDeque<Request>,
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
        let learner = self.teaching.as_ref().and_then(|teaching| teaching.lack(site, cost, reserved_bytes));
        lack.chain(learner).max()
    }

    /// Takes a request for which there is no room, or for which others wait.
    pub(super) fn waits_for_room(&mut self, site: &mut Site, request: &Request) -> bool {
        let Some(cost) = cost(site, &request.command) else { return false };
        let freeing = self.waiting_to_free(site);
        let is_behind = !cost.is_freeing && self.spending.waiting.len() > freeing;
        let Some(lack) = self.lack(site, cost).or(is_behind.then_some(Lack::ForNow)) else { return false };
        if lack == Lack::ForGood && site.has(PlantedBug::RefusedAfterVersioning) {
            return false;
        }
        if lack == Lack::ForGood {
            self.refuse_for_space(site, request);
        } else if self.spending.waiting.len() < Order::MAX_OPERATIONS {
            let place = if cost.is_freeing { freeing } else { self.spending.waiting.len() };
            self.spending.waiting.insert(place, request.clone());
        } else {
            site.answer(request, Answer::Refused(Refused::NotServing));
        }
        true
    }

    /// What others said of their disks holds as long as their leases.
    fn refuse_for_space(&self, site: &mut Site, request: &Request) {
        let refused = if self.has_leases(site) { Refused::NoSpace } else { Refused::NotServing };
        site.answer(request, Answer::Refused(refused));
    }

    /// How many of those that wait free space.
    fn waiting_to_free(&self, site: &Site) -> usize {
        let is_freeing = |request: &Request| cost(site, &request.command).is_some_and(|cost| cost.is_freeing);
        self.spending.waiting.partition_point(is_freeing)
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
            let lack = cost(site, &next.command).and_then(|cost| self.lack(site, cost));
            if lack == Some(Lack::ForNow) {
                return;
            }
            let Some(request) = self.spending.waiting.pop_front() else { return };
            if !self.is_to_begin(site, &request) {
                continue;
            }
            if lack.is_some() {
                self.refuse_for_space(site, &request);
            } else {
                self.begin_request(site, request);
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
    pub(super) fn is_refused_late(&self, site: &Site) -> bool {
        site.has(PlantedBug::RefusedAfterVersioning)
            && self.has_leases(site)
            && self.lack(site, Cost::new(0, 1)) == Some(Lack::ForGood)
    }
}
