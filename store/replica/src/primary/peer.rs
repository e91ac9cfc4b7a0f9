//! Another in-sync replica, as the primary sees it.

use huntaway_wire::Version;

use crate::message::Body;
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
    /// When it was sent the first of the beacons since anything came from it last.
    pub(crate) asked: Option<Moment>,
}

impl Peer {
    pub(crate) fn new(process: Process) -> Self {
        Self { process, lease_until: Moment::default(), credit: Credit::NONE, asked: None }
    }

    /// For how long it did not answer.
    pub(crate) fn silent_us(&self, site: &Site) -> u64 {
        self.asked.map_or(0, |asked| site.waited_us(asked))
    }

    /// Asks whether it is there.
    pub(crate) fn send_beacon(&mut self, site: &mut Site, settled: Version, wants_room: bool) {
        let asked = *self.asked.get_or_insert(site.now);
        let is_missed = site.waited_us(asked) > LEASE_US;
        let beacon = Body::Beacon { sent: site.now, settled, attempt: 0, is_missed, wants_room };
        site.send(self.process, beacon);
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
