//! Writes on their way to a learner.
//!
//! Writes are acknowledged without the learner until it is about to be admitted, so several writes to one block can be on
//! their way to it at a time. It logs them in the order in which they come: those that overlap are sent one after another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use huntaway_wire::Oid;

use crate::process::Moment;
use crate::record::Record;
use crate::resend::Resend;
use crate::room::{Cost, Credit};
use crate::site::Site;

/// Writes that the learner did not acknowledge.
#[derive(Debug, Default)]
pub(crate) struct Forwards {
    /// By the number of their version.
    all: BTreeMap<u32, Forward>,
    /// The same, by object.
    objects: BTreeMap<Oid, BTreeSet<u32>>,
    /// Those that may be sent for the first time by now.
    fresh: BTreeSet<u32>,
    /// What all that were there take.
    cost: Cost,
    /// What those of them take that were sent. That goes by version, and records do not come in that order.
    sent_cost: Cost,
    /// The learner has no room for the next ones.
    is_held_back: bool,
}

#[derive(Debug)]
struct Forward {
    record: Arc<Record>,
    /// `None` while an earlier one is in its way, or the learner has no room.
    sent: Option<Resend>,
}

impl Forwards {
    pub(crate) fn add(&mut self, record: Arc<Record>) {
        let seq = record.version.seq;
        self.cost = self.cost.plus(record.cost());
        self.objects.entry(record.oid).or_default().insert(seq);
        self.all.insert(seq, Forward { record, sent: None });
        self.fresh.insert(seq);
    }

    pub(crate) fn acknowledged(&mut self, seq: u32) {
        let Some(forward) = self.all.remove(&seq) else { return };
        let oid = forward.record.oid;
        if let Some(others) = self.objects.get_mut(&oid) {
            others.remove(&seq);
            self.fresh.extend(others.range(seq..));
            if others.is_empty() {
                self.objects.remove(&oid);
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// What the learner was given since it takes part, acknowledged or not.
    pub(crate) fn cost(&self) -> Cost {
        self.cost
    }

    /// The first one that is not acknowledged.
    pub(crate) fn first(&self) -> Option<u32> {
        self.all.keys().next().copied()
    }

    pub(crate) fn all(&self) -> BTreeSet<u32> {
        self.all.keys().copied().collect()
    }

    /// Whether the learner takes no more for now.
    pub(crate) fn is_held_back(&self) -> bool {
        self.is_held_back
    }

    /// Whether one was sent.
    pub(crate) fn is_sent_some(&self) -> bool {
        self.all.values().any(|forward| forward.sent.is_some())
    }

    /// Those to be sent now for the first time, which count as sent: the learner takes them. With `at_once`, none waits for
    /// earlier ones.
    pub(crate) fn due(&mut self, now: Moment, credit: Credit, at_once: bool) -> Vec<Arc<Record>> {
        let mut due = Vec::new();
        self.is_held_back = false;
        while let Some(seq) = self.fresh.first().copied() {
            let is_blocked = self.is_blocked(seq) && !at_once;
            if let Some(forward) = self.all.get_mut(&seq)
                && forward.sent.is_none()
                && !is_blocked
            {
                let sent_cost = self.sent_cost.plus(forward.record.cost());
                self.is_held_back = !credit.covers(sent_cost);
                if self.is_held_back {
                    break;
                }
                self.sent_cost = sent_cost;
                forward.sent = Some(Resend::new(now));
                due.push(forward.record.clone());
            }
            self.fresh.remove(&seq);
        }
        due
    }

    /// Whether an earlier one that overlaps it is not acknowledged. If not, it is looked at again when that is.
    fn is_blocked(&self, seq: u32) -> bool {
        let Some(forward) = self.all.get(&seq) else { return false };
        let earlier = self.objects.get(&forward.record.oid).into_iter().flat_map(|all| all.range(..seq));
        earlier.filter_map(|seq| self.all.get(seq)).any(|earlier| earlier.record.overlaps(&forward.record))
    }

    /// Those that are to be sent again, which count as sent now.
    pub(crate) fn late(&mut self, now: Moment) -> Vec<Arc<Record>> {
        let all = self.all.values_mut();
        let late = all.filter_map(|forward| forward.sent.as_mut()?.is_due(now).then_some(&forward.record));
        late.cloned().collect()
    }

    /// Whether one was sent first so long ago.
    pub(crate) fn is_late(&self, site: &Site, us: u64) -> bool {
        self.all.values().filter_map(|forward| forward.sent).any(|sent| sent.waited_us(site) > us)
    }
}
