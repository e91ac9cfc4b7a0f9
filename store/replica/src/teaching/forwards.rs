//! Writes on their way to a learner.
//!
//! Writes are acknowledged without the learner until it is about to be admitted, so several writes to one block can be on
//! their way to it at a time. It logs them in the order in which they come: those that overlap are sent one after another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::process::Moment;
use crate::record::Record;

/// Writes that the learner did not acknowledge, by the number of their version.
#[derive(Debug, Default)]
pub(crate) struct Forwards(BTreeMap<u32, Forward>);

#[derive(Debug)]
struct Forward {
    record: Arc<Record>,
    /// `None` while an earlier one is in its way.
    sent: Option<Moment>,
}

impl Forwards {
    pub(crate) fn add(&mut self, record: Arc<Record>) {
        self.0.insert(record.version.seq, Forward { record, sent: None });
    }

    pub(crate) fn acknowledged(&mut self, seq: u32) {
        self.0.remove(&seq);
    }

    /// The first one that is not acknowledged.
    pub(crate) fn first(&self) -> Option<u32> {
        self.0.keys().next().copied()
    }

    pub(crate) fn all(&self) -> BTreeSet<u32> {
        self.0.keys().copied().collect()
    }

    /// Those to be sent now, which count as sent: for the first time, or again after so long. With `at_once`, none is held
    /// back.
    pub(crate) fn due(&mut self, now: Moment, again_after_us: u64, at_once: bool) -> Vec<Arc<Record>> {
        let mut due = Vec::new();
        let mut earlier: Vec<Arc<Record>> = Vec::new();
        for forward in self.0.values_mut() {
            let is_late = forward.sent.is_none_or(|sent| now.since(sent) >= again_after_us);
            let is_blocked = earlier.iter().any(|earlier| earlier.overlaps(&forward.record));
            if is_late && (at_once || !is_blocked) {
                forward.sent = Some(now);
                due.push(forward.record.clone());
            }
            earlier.push(forward.record.clone());
        }
        due
    }
}
