//! A primary that nobody asks for anything rests: it renews no leases, and only looks now and then whether the others are there.
//! A node has thousands of partitions, of which few are busy. Whoever asks wakes it, and waits for as long as a beacon takes.

use super::Primary;
use super::peer::Peer;
use crate::event::{Answer, Refused, Request};
use crate::order::Order;
use crate::planted::PlantedBug;
use crate::process::{Moment, SILENCE_US};
use crate::resend::FIRST_PAUSE_US;
use crate::site::Site;

/// Nobody asked for anything for so long.
const RESTS_AFTER_US: u64 = 1_000_000;

/// A primary that rests asks the others when their leases ran out so long ago: whether they are there, and what they take.
const RENEWS_AFTER_US: u64 = 400_000;

/// Whether it rests, and what waits until it is awake.
#[derive(Debug)]
pub(super) struct Rest {
    begins: Moment,
    /// In order.
    waking: Vec<Request>,
    /// When the first of them came.
    since: Moment,
}

impl Rest {
    pub(super) fn new(now: Moment) -> Self {
        Self { begins: now.after(RESTS_AFTER_US), waking: Vec::new(), since: now }
    }
}

impl Primary {
    /// Whether it rests, and nothing else is due.
    pub(crate) fn rests(&self, site: &Site) -> bool {
        let is_there = |peer: &Peer| peer.silent_us(site) <= SILENCE_US && !Self::is_to_be_asked(site, peer);
        self.is_resting(site)
            && self.rest.waking.is_empty()
            && self.whole.is_empty()
            && self.last_seq < site.renews_after
            && self.peers.iter().all(is_there)
            && self.holding.rests(site)
            && self.freeing.rests(site.now)
            && self.mending.rests(site)
    }

    fn is_to_be_asked(site: &Site, peer: &Peer) -> bool {
        site.now >= peer.lease_until.after(RENEWS_AFTER_US)
    }

    /// Renews the leases that it may need.
    pub(super) fn send_beacons(&mut self, site: &mut Site) {
        let settled = self.settled(site);
        let (is_awake, wants_room) = (!self.is_resting(site), self.wants_room());
        for peer in &mut self.peers {
            if is_awake || Self::is_to_be_asked(site, peer) {
                peer.send_beacon(site, settled, wants_room);
            }
        }
    }

    fn is_resting(&self, site: &Site) -> bool {
        let is_busy = !self.operations.is_empty() || self.wants_room() || self.teaching.is_some();
        self.rest.begins <= site.now && !is_busy
    }

    /// Somebody asks for something. Whether that waits until the primary is awake.
    pub(super) fn wakes_up_for(&mut self, site: &mut Site, request: &Request) -> bool {
        let rested = self.is_resting(site);
        self.rest.begins = site.now.after(RESTS_AFTER_US);
        if rested {
            self.send_beacons(site);
            if site.has(PlantedBug::RestingServes) {
                self.peers.iter_mut().for_each(|peer| peer.granted(site, site.now));
            }
        }
        self.wake_up(site);
        if self.has_leases(site) || !rested && self.rest.waking.is_empty() {
            return false;
        }
        if self.rest.waking.is_empty() {
            self.rest.since = site.now;
        }
        if let Some(waking) = self.rest.waking.iter_mut().find(|waking| waking.id == request.id) {
            // The last sending is what is answered.
            if waking.resend <= request.resend {
                waking.clone_from(request);
            }
        } else if self.rest.waking.len() < Order::MAX_OPERATIONS {
            self.rest.waking.push(request.clone());
        } else {
            site.answer(request, Answer::Refused(Refused::NotServing));
        }
        true
    }

    /// Takes what waited, with the leases, or when they do not come: then it is answered as always.
    pub(crate) fn wake_up(&mut self, site: &mut Site) {
        let is_late = site.now.since(self.rest.since) >= FIRST_PAUSE_US;
        if !self.rest.waking.is_empty() && (is_late || self.has_leases(site)) {
            for request in std::mem::take(&mut self.rest.waking) {
                self.take_up(site, request);
            }
        }
    }

    /// What waits is not for this primary any more.
    pub(super) fn refuse_waking(&mut self, site: &mut Site, refused: Refused) {
        for request in std::mem::take(&mut self.rest.waking) {
            site.answer(&request, Answer::Refused(refused));
        }
    }
}
