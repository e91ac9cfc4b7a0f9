//! What was agreed on about the one disk: who may use it, and the counters by which requests are known to be out of date. It is
//! an oracle: one order of records, told to gateways and stores sooner or later.

use huntaway_gateway::fencing::{GivenUp, Verdict};

use super::bug::Bug;
use super::event::{Event, ToInitiator, Work};
use super::world::World;
use crate::clock::Ms;

/// A record about the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Record {
    /// Everything that gateways received before is given up.
    Reset,
    /// An initiator has no registration any more; perhaps all that it sent is given up, too.
    Preempt { of: usize, aborts: bool },
    /// It registers again.
    Register { of: usize },
    /// It has the LUN no more.
    Unmap { of: usize },
    /// It has it again.
    Map { of: usize },
    /// Requests are for another version of the disk from here on.
    Snapshot,
}

impl Record {
    /// Whether requests are given up that may be on their way.
    pub(super) fn raises_fence(self) -> bool {
        matches!(self, Self::Reset | Self::Preempt { .. } | Self::Unmap { .. })
    }
}

/// The disk after some of the records.
#[derive(Debug, Clone)]
pub(super) struct Unit {
    pub(super) fence: u64,
    pub(super) layout: u64,
    /// Of each initiator, commands that were received under a lower fence are given up.
    given_up_below: Vec<u64>,
    is_mapped: Vec<bool>,
    is_registered: Vec<bool>,
}

impl Unit {
    fn apply(&mut self, record: Record) {
        self.fence += u64::from(record.raises_fence());
        match record {
            Record::Reset => self.given_up_below.fill(self.fence),
            Record::Preempt { of, aborts } => {
                self.is_registered[of] = false;
                if aborts {
                    self.given_up_below[of] = self.fence;
                }
            }
            Record::Register { of } => self.is_registered[of] = true,
            Record::Unmap { of } => {
                self.is_mapped[of] = false;
                self.given_up_below[of] = self.fence;
            }
            Record::Map { of } => self.is_mapped[of] = true,
            Record::Snapshot => self.layout += 1,
        }
    }

    pub(super) fn is_mapped(&self, initiator: usize) -> bool {
        self.is_mapped[initiator]
    }

    /// Whether what the initiator sends now is to be carried out.
    pub(super) fn admits(&self, initiator: usize) -> bool {
        self.is_mapped[initiator] && self.is_registered[initiator]
    }

    /// What becomes of what an initiator had sent, and what was received under this fence.
    pub(super) fn verdict(&self, initiator: usize, fence: u64) -> Verdict {
        if self.admits(initiator) && fence >= self.given_up_below[initiator] {
            Verdict::Stands
        } else {
            Verdict::GivenUp(GivenUp::Failed)
        }
    }
}

/// The disk after each record, from none of them on.
#[derive(Debug)]
pub(super) struct Ledger(Vec<Unit>);

impl Ledger {
    pub(super) fn new(initiators: usize) -> Self {
        let unit = Unit {
            fence: 1,
            layout: 1,
            given_up_below: vec![0; initiators],
            is_mapped: vec![true; initiators],
            is_registered: vec![true; initiators],
        };
        Self(vec![unit])
    }

    /// How many records there are.
    pub(super) fn records(&self) -> usize {
        self.0.len() - 1
    }

    /// The disk as it is after so many records.
    pub(super) fn after(&self, records: usize) -> &Unit {
        &self.0[records]
    }

    pub(super) fn newest(&self) -> &Unit {
        &self.0[self.records()]
    }

    fn append(&mut self, record: Record) {
        let mut unit = self.newest().clone();
        unit.apply(record);
        self.0.push(unit);
    }
}

/// Somebody who waits for a record.
#[derive(Debug, Clone)]
pub(super) struct Waiter {
    pub(super) gateway: usize,
    pub(super) incarnation: u64,
    /// The connection that it was asked for on, if it was an initiator who asked.
    pub(super) connection: Option<usize>,
    pub(super) answer: ToInitiator,
    /// What is not to be any more once that is answered.
    pub(super) ban: Option<usize>,
}

impl World {
    /// A record is there.
    pub(super) fn record(&mut self, record: Record, waiter: Option<Waiter>) {
        if let Some(cluster) = self.cluster.as_mut().filter(|_| record == Record::Snapshot) {
            return cluster.at_time(self.now).wish_snapshot();
        }
        self.ledger.append(record);
        let records = self.ledger.records();
        let fence = self.ledger.newest().fence;
        self.note(|| format!("RECORD {records}: {record:?}, fence {fence}"));
        if let Record::Register { of } | Record::Map { of } = record {
            self.checker.lift_bans(of, self.now);
        }
        for gateway in 0..self.gateways.len() {
            let delay = self.news_delay();
            self.work_after(delay, gateway, Work::Learn(records));
        }
        if let Some(cluster) = self.cluster.as_mut().filter(|_| record.raises_fence()) {
            let sequence = cluster.at_time(self.now).raise_fence();
            self.sequences.insert(records, sequence);
            self.hear_cluster();
        }
        for store in 0..self.stores.all.len() {
            let delay = self.news_delay();
            self.after(delay, Event::StoreLearns { store, records });
        }
        self.after(1, Event::Await { records, waiter });
    }

    fn news_delay(&mut self) -> Ms {
        let is_late = self.random.permille(self.habits.late_news);
        self.random.below(4) + if is_late { self.random.below(4_000) } else { 0 }
    }

    pub(super) fn store_learns(&mut self, store: usize, records: usize) {
        let known = &mut self.stores.all[store];
        if known.paused_until > self.now {
            let delay = known.paused_until - self.now;
            return self.after(delay, Event::StoreLearns { store, records });
        }
        known.records = known.records.max(records);
        let layout = self.ledger.after(records).layout;
        self.stores.layout = self.stores.layout.max(layout);
    }

    /// Whether every store knows of a record: then it is in force.
    pub(super) fn await_stores(&mut self, records: usize, waiter: Option<Waiter>) {
        let is_known = match &self.cluster {
            Some(cluster) => self
                .sequences
                .range(..=records)
                .next_back()
                .is_none_or(|(_, sequence)| cluster.is_known(*sequence)),
            None => self.stores.all.iter().all(|store| store.records >= records),
        };
        if !is_known && self.bug != Some(Bug::AnsweredBeforeStoresKnow) {
            return self.after(5, Event::Await { records, waiter });
        }
        for gateway in 0..self.gateways.len() {
            let delay = self.news_delay();
            self.work_after(delay, gateway, Work::InForce(records, None));
        }
        let Some(waiter) = waiter else { return };
        let delay = self.random.below(3);
        let (gateway, incarnation) = (waiter.gateway, waiter.incarnation);
        let work = Work::InForce(records, Some(waiter));
        self.after(delay, Event::Gateway { gateway, incarnation, work });
    }
}
