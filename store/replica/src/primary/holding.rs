//! Requests that are out of date, and requests that wait for the end of a hold.
//!
//! While a hold of the ledger covers a VDI, no write to it begins, and no read if it is to go back to a snapshot. The primary tells the ledger once those that had begun are
//! everywhere. Only a record ends the hold: what was written before it is in the snapshot, what is written after it is not,
//! in all partitions alike.

use std::collections::BTreeSet;

use super::Primary;
use super::change::extent;
use super::operation::State;
use crate::event::{Answer, Output, Refused, Request};
use crate::order::Order;
use crate::planted::PlantedBug;
use crate::process::Moment;
use crate::replica::is_change;
use crate::site::Site;
use crate::vdi::Hold;

/// Writes that wait, and the holds that were told of.
#[derive(Debug, Default)]
pub(super) struct Holding {
    waiting: Vec<Request>,
    told: BTreeSet<Hold>,
    /// Holds that are not kept to, which is wrong.
    ignored: BTreeSet<Hold>,
    since: Option<Moment>,
}

impl Holding {
    /// Whether nothing is held, and nobody waits.
    pub(super) fn rests(&self, site: &Site) -> bool {
        self.waiting.is_empty() && site.configuration.vdis.holds().is_empty()
    }

    pub(super) fn new(site: &Site) -> Self {
        let mut holding = Self::default();
        if site.has(PlantedBug::NewPrimaryDoesNotHold) {
            holding.ignored.extend(site.configuration.vdis.holds());
        }
        holding
    }
}

impl Primary {
    /// Whether what the ledger says of the VDI by now lets the request go on.
    pub(super) fn refused_by_vdi(site: &Site, request: &Request) -> Option<Refused> {
        let (_, oid, _) = extent(&request.command)?;
        let Some(vdi) = site.configuration.vdis.vdi(oid.vid()) else { return Some(Refused::NotServing) };
        let may_not = vdi.is_deleted || is_change(&request.command) && vdi.is_frozen;
        let minds_layout = !site.has(PlantedBug::LayoutNotChecked);
        if request.fence < vdi.fence && !site.has(PlantedBug::FenceNotChecked) {
            Some(Refused::Fenced)
        } else if (request.layout < vdi.layout || may_not) && minds_layout {
            Some(Refused::OldLayout)
        } else {
            // A gateway that is ahead has heard of something that this replica has not.
            let is_ahead = request.layout > vdi.layout || request.fence > vdi.fence;
            is_ahead.then_some(Refused::NotServing)
        }
    }

    /// Whether the VDI that a read looked at was deleted meanwhile.
    pub(super) fn refused_by_deletion(site: &Site, request: &Request) -> Option<Refused> {
        let (_, oid, _) = extent(&request.command)?;
        let vdi = site.configuration.vdis.vdi(oid.vid()).filter(|vdi| vdi.is_deleted);
        vdi.map(|_| Refused::OldLayout)
    }

    /// Takes a request that may not begin now.
    pub(super) fn is_held(&mut self, site: &mut Site, request: &Request) -> bool {
        let hold = hold_of(site, request);
        if hold.is_none_or(|hold| self.holding.ignored.contains(&hold)) {
            return false;
        }
        self.holding.waiting.retain(|waiting| waiting.id != request.id);
        if self.holding.waiting.len() < Order::MAX_OPERATIONS {
            self.holding.waiting.push(request.clone());
        } else {
            site.answer(request, Answer::Refused(Refused::NotServing));
        }
        true
    }

    /// Tells the ledger of holds that nothing is under way against any more, and looks at what waits again.
    pub(super) fn go_on_holding(&mut self, site: &mut Site, again: bool) {
        let vdis = site.configuration.vdis.clone();
        let holds = vdis.holds();
        self.holding.told.retain(|hold| holds.contains(hold));
        self.holding.since = self.holding.since.filter(|_| !holds.is_empty()).or(Some(site.now));
        let has_waited = self.holding.since.is_some_and(|since| site.now.since(since) > 1_000_000);
        if has_waited && site.has(PlantedBug::HoldEndedByTimeout) {
            self.holding.ignored.extend(holds);
        }
        for hold in holds.iter().copied() {
            if (again || !self.holding.told.contains(&hold)) && self.is_quiet(site, hold) {
                self.holding.told.insert(hold);
                site.outputs.push(Output::Held { pepoch: site.pepoch(), hold });
            }
        }
        if again {
            let waiting = std::mem::take(&mut self.holding.waiting);
            waiting.into_iter().for_each(|request| self.take_up(site, request));
        }
    }

    /// Whether every write to what is held that began is everywhere, and every read that is held is answered.
    fn is_quiet(&self, site: &Site, hold: Hold) -> bool {
        if site.has(PlantedBug::HeldWithWritesUnderWay) {
            return true;
        }
        !self.operations.values().any(|operation| {
            let is_done = matches!(operation.state, State::Whole { .. });
            !is_done && operation.request.as_ref().and_then(|request| hold_of(site, request)) == Some(hold)
        })
    }

    /// What waited is not for this primary any more.
    pub(super) fn refuse_waiting(&mut self, site: &mut Site, refused: Refused) {
        for request in std::mem::take(&mut self.holding.waiting) {
            site.answer(&request, Answer::Refused(refused));
        }
    }
}

/// The hold that the request waits for, if it has not begun.
fn hold_of(site: &Site, request: &Request) -> Option<Hold> {
    let (_, oid, _) = extent(&request.command)?;
    let vdi = site.configuration.vdis.vdi(oid.vid())?;
    let holds_reads = vdi.holds_reads && !site.has(PlantedBug::ReadsNotHeld);
    vdi.hold.filter(|_| is_change(&request.command) || holds_reads)
}
