//! The writes of which a replica does not know whether all in-sync replicas have them.

use std::collections::BTreeMap;
use std::sync::Arc;

use huntaway_wire::Version;

use crate::event::Ticket;
use crate::record::Record;

/// Writes above a version up to which every in-sync replica has all of them. Few: those under way, and those that the
/// primary has not told of yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct InDoubt {
    settled: Version,
    records: BTreeMap<Version, Doubtful>,
    /// Those that are on their way to the log, by what the log says when they are there.
    logging: BTreeMap<Ticket, Version>,
}

#[derive(Debug, Clone)]
struct Doubtful {
    record: Arc<Record>,
    logged: bool,
}

/// What a replica did with a write that reaches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Receipt {
    /// It has not seen it.
    New,
    /// It has given it to the log.
    Logging,
    /// It has it in the log.
    Logged,
    /// It knows that nobody waits for it any more.
    Settled,
}

impl InDoubt {
    /// What a process finds in its log.
    pub(crate) fn recovered(settled: Version, records: impl IntoIterator<Item = Arc<Record>>) -> Self {
        let records = records.into_iter().map(|record| (record.version, Doubtful { record, logged: true }));
        Self { settled, records: records.collect(), logging: BTreeMap::new() }
    }

    pub(crate) fn settled(&self) -> Version {
        self.settled
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.records.values().map(|doubtful| &doubtful.record)
    }

    pub(crate) fn receipt(&self, version: Version) -> Receipt {
        match self.records.get(&version) {
            Some(doubtful) if doubtful.logged => Receipt::Logged,
            Some(_) => Receipt::Logging,
            None if version <= self.settled => Receipt::Settled,
            None => Receipt::New,
        }
    }

    /// The write is on its way to the log, and is there when that says so of `ticket`.
    pub(crate) fn add(&mut self, record: Arc<Record>, ticket: Ticket) {
        self.logging.insert(ticket, record.version);
        self.records.insert(record.version, Doubtful { record, logged: false });
    }

    /// What was given to the log or the disk as `ticket` is done, in whichever pepoch it was given.
    pub(crate) fn stored(&mut self, ticket: Ticket) {
        if let Some(version) = self.logging.remove(&ticket)
            && let Some(doubtful) = self.records.get_mut(&version)
        {
            doubtful.logged = true;
        }
    }

    /// The next write that a process finds in its log, and what was settled by then.
    pub(crate) fn recover(&mut self, record: Arc<Record>, settled: Version) {
        self.records.insert(record.version, Doubtful { record, logged: true });
        self.settle(settled);
    }

    /// Every in-sync replica has all writes up to `settled`. Those that are on their way to the log here stay until they
    /// are there, for their primary waits for that.
    pub(crate) fn settle(&mut self, settled: Version) {
        if settled > self.settled {
            self.settled = settled;
            self.records.retain(|version, doubtful| *version > settled || !doubtful.logged);
        }
    }
}
