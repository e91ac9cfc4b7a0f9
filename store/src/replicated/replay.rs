//! What replicas find in the log when a store is opened.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use huntaway_replica::{Entry, Record, Recovered, Requests};
use huntaway_wire::{Partition, Version};

use super::meta::{self, Logged};
use super::trail::Trails;
use super::{Placed, effect};
use crate::memory::Effect;
use crate::wal::{Lsn, RecordHeader};

/// What each partition knew last, as far as the log was read.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    partitions: BTreeMap<Partition, Learned>,
    pub(crate) trails: Trails,
    /// What is known is not read again.
    #[cfg(feature = "planted-bugs")]
    pub(crate) forgets_known: bool,
}

/// What a record does to objects.
pub(crate) enum Consequence {
    /// Nothing.
    None,
    /// The record's object changes.
    Changed(Effect),
    /// All objects of the partition are gone.
    Forgotten,
}

#[derive(Debug, Default)]
struct Learned {
    recovered: Recovered,
    unfinished: Option<Unfinished>,
}

/// What is known, while some of its records are missing.
#[derive(Debug)]
struct Unfinished {
    begins: Lsn,
    requests: Requests,
    settled: Version,
    missing: u32,
    in_doubt: Vec<Arc<Record>>,
}

impl Unfinished {
    fn less_one(self) -> Self {
        Self { missing: self.missing.saturating_sub(1), ..self }
    }
}

impl Replay {
    /// Takes in the next record, which ends at `end`, and returns what it does to objects; `None` if it says nothing that is
    /// known here.
    pub(crate) fn take(
        &mut self,
        end: Lsn,
        header: &RecordHeader<'_>,
        (meta, crcs, payload): (&[u8], &[u32], &Bytes),
    ) -> Option<Consequence> {
        let (logged, states) = meta::decode((header.oid, header.version), meta, crcs, payload)?;
        let begins = Lsn(end.0 - header.logged_bytes());
        self.trails.begin(header.partition, begins);
        let forgets = logged == Logged::Forget;
        self.learn(header.partition, logged, (begins, end));
        Some(if forgets {
            Consequence::Forgotten
        } else if states.are_something() {
            Consequence::Changed(effect(states, Placed { end, payload: header.payload_at(end) }))
        } else {
            Consequence::None
        })
    }

    fn learn(&mut self, partition: Partition, logged: Logged, (begins, end): (Lsn, Lsn)) {
        let learned = self.partitions.entry(partition).or_default();
        let unfinished = learned.unfinished.take();
        match logged {
            Logged::Write { record, settled } => {
                learned.recovered.take(&Entry::Write { record: Arc::new(record), settled });
            }
            Logged::Known { requests, settled, following: missing } => {
                let in_doubt = Vec::new();
                learned.unfinished = Some(Unfinished { begins, requests, settled, missing, in_doubt });
            }
            Logged::Requests { requests } => {
                learned.unfinished = unfinished.map(Unfinished::less_one);
                learned.unfinished.iter_mut().for_each(|unfinished| unfinished.requests.merge(&requests));
            }
            Logged::InDoubt { record } => {
                learned.unfinished = unfinished.map(Unfinished::less_one);
                let record = Arc::new(record);
                learned.unfinished.iter_mut().for_each(|known| known.in_doubt.push(record.clone()));
            }
            Logged::Forget => {
                learned.recovered.take(&Entry::Forget);
                self.trails.known(partition, end, end);
            }
            Logged::Copy { .. } | Logged::Remove => {}
        }
        let is_complete = |unfinished: &mut Unfinished| unfinished.missing == 0;
        if let Some(known) = learned.unfinished.take_if(is_complete) {
            let Unfinished { begins, requests, settled, in_doubt, .. } = known;
            self.trails.known(partition, begins, end);
            #[cfg(feature = "planted-bugs")]
            if self.forgets_known {
                return;
            }
            learned.recovered.take(&Entry::Known { requests: Arc::new(requests), settled, in_doubt });
        }
    }

    /// What was found, by partition.
    pub(crate) fn recovered(self) -> (BTreeMap<Partition, Recovered>, Trails) {
        let of = |(partition, learned): (Partition, Learned)| (partition, learned.recovered);
        (self.partitions.into_iter().map(of).collect(), self.trails)
    }
}
