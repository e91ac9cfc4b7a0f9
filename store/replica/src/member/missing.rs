//! A primary that most of the others miss has to go: it cannot serve without their grants, and may not be able to leave so many
//! of them out. They tell one another, so that one whose own link is cut removes nobody.

use std::collections::BTreeMap;

use crate::configuration::SetChange;
use crate::message::Body;
use crate::planted::PlantedBug;
use crate::process::{LEASE_US, Moment, Process, SILENCE_US};
use crate::site::Site;

/// A primary is missed after so long, in microseconds: well before it would take those that it misses to the ledger, one after
/// the other, until there are too few.
const MISSED_US: u64 = SILENCE_US / 2;

/// What an in-sync replica knows of the others' ways to the primary, and of its own.
#[derive(Debug)]
pub(crate) struct Missing {
    /// When the primary last said that it hears this replica.
    heard: Moment,
    /// When others last said that they miss it.
    others: BTreeMap<Process, Moment>,
}

impl Missing {
    pub(crate) fn new(now: Moment) -> Self {
        Self { heard: now, others: BTreeMap::new() }
    }

    /// The primary is there, and hears this replica.
    pub(crate) fn is_heard(&mut self, now: Moment) {
        self.heard = now;
    }

    /// Another replica misses the primary.
    pub(crate) fn told(&mut self, site: &Site, from: Process) {
        if site.configuration.has(from) {
            self.others.insert(from, site.now);
        }
    }

    /// Whether the primary is there, or nothing is to be done about that.
    pub(crate) fn rests(&self, site: &Site) -> bool {
        let configuration = &site.configuration;
        // A set without certainty needs all of its members.
        let is_to_stay = configuration.is_lost || configuration.is_all_doubtful();
        let is_missed = site.waited_us(self.heard) > MISSED_US && configuration.has(site.me);
        is_to_stay || !is_missed || site.has(PlantedBug::PrimaryNotMissed)
    }

    pub(crate) fn tick(&mut self, site: &mut Site) {
        if self.rests(site) {
            return;
        }
        let (configuration, me) = (site.configuration.clone(), site.me);
        let Some(primary) = configuration.primary() else { return };
        let others = configuration.in_sync.iter().filter(|process| **process != me && **process != primary);
        others.clone().for_each(|other| site.send(*other, Body::Misses));
        let misses =
            |other: &&Process| self.others.get(other).is_some_and(|at| site.now.since(*at) <= LEASE_US);
        let (missing, all) = (1 + others.clone().filter(misses).count(), 1 + others.count());
        if missing > 1 && 2 * missing > all {
            site.propose(SetChange::Drop(primary));
        }
    }
}
