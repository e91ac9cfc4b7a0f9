//! Another in-sync replica, as the primary sees it.

use crate::planted::PlantedBug;
use crate::process::{LEASE_US, Moment, Process};
use crate::room::Credit;
use crate::site::Site;

#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) process: Process,
    /// The in-sync lease that it granted.
    pub(crate) lease_until: Moment,
    /// What it takes in this pepoch.
    pub(crate) credit: Credit,
    /// When anything came from it last.
    pub(crate) heard: Moment,
}

impl Peer {
    pub(crate) fn new(process: Process, now: Moment) -> Self {
        Self { process, lease_until: Moment::default(), credit: Credit::NONE, heard: now }
    }

    pub(crate) fn granted(&mut self, site: &Site, sent: Moment) {
        self.lease_until = self.lease_until.max(lease_end(site, sent));
    }
}

/// Until when a grant counts that was asked for at `sent`.
pub(crate) fn lease_end(site: &Site, sent: Moment) -> Moment {
    let from = if site.has(PlantedBug::LeaseFromReceipt) { site.now } else { sent };
    from.after(LEASE_US)
}
