//! What a replica has whatever its part: its clock, the agreed state, its word to others, what it knows of writes, and what it
//! wants done.

use std::collections::BTreeMap;
use std::sync::Arc;

use huntaway_wire::{Durability, Oid, Pepoch, Stamp, Version};

use crate::configuration::{Configuration, Proposal, SetChange};
use crate::event::{Answer, Output, Request, Ticket};
use crate::in_doubt::InDoubt;
use crate::message::{Attempt, Body, Message};
use crate::order::OpId;
use crate::planted::PlantedBug;
use crate::process::{Grant, LEASE_US, Moment, Process};
use crate::record::{Entry, Record};
use crate::requests::Requests;
use crate::room::Room;

/// Why the store was asked for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pending {
    /// Nobody waits for it by itself.
    Nothing,
    /// An operation of the primary.
    Operation(OpId),
    /// A write that was forwarded.
    Forward { to: Process, version: Version, attempt: Attempt },
    /// A flush of the primary's.
    Flush { to: Process, number: u64 },
    /// What was in doubt.
    RollForward,
    /// A question about what an in-sync replica has.
    Inspect { to: Process, number: u64 },
    /// Blocks that an in-sync replica puts in place.
    Mend { to: Process, number: u64 },
    /// The primary's own side of mending an object.
    Mending { number: u64 },
    /// What the primary asks to free what nothing shows any more.
    Freeing { number: u64 },
    /// A lesson.
    Lesson { to: Process, attempt: Attempt, step: u64 },
    /// The primary's own side of a lesson, counted in each attempt.
    OwnSide { attempt: Attempt, count: u64 },
}

/// What a replica learns from its log, and adds to it: the requests that were carried out, and the writes in doubt.
#[derive(Debug, Clone, Default)]
pub struct Recovered {
    pub(crate) requests: Requests,
    pub(crate) doubt: InDoubt,
}

impl Recovered {
    /// Takes in the next entry of a log that is read again.
    pub fn take(&mut self, entry: &Entry) {
        match entry {
            Entry::Write { record, settled } => {
                self.requests.add(record);
                self.doubt.recover(record.clone(), *settled);
            }
            Entry::Known { requests, settled, in_doubt } => {
                self.requests = (**requests).clone();
                self.doubt = InDoubt::recovered(*settled, in_doubt.iter().cloned());
            }
            Entry::Forget => *self = Self::default(),
            Entry::Copy { .. } | Entry::Replace { .. } | Entry::Remove { .. } => {}
        }
    }
}

#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) me: Process,
    pub(crate) now: Moment,
    /// When it was paused last, if that was for longer than a lease lasts: the end of the pause.
    pub(crate) awake_since: Moment,
    pub(crate) configuration: Arc<Configuration>,
    pub(crate) grant: Grant,
    pub(crate) ledger_lease_until: Moment,
    /// Bytes that learners were given since the process started.
    pub(crate) copied_bytes: u64,
    /// How fast a primary reads objects again, in bytes of one replica; 0: not at all.
    pub(crate) scrub_bytes_per_second: u64,
    /// After this many versions a primary asks for another pepoch.
    pub(crate) renews_after: u32,
    pub(crate) requests: Requests,
    pub(crate) doubt: InDoubt,
    pub(crate) room: Room,
    pub(crate) pending: BTreeMap<Ticket, Pending>,
    /// What was given to the log or the disk, in whichever pepoch, and whether there may be no room for it.
    pub(crate) storing: BTreeMap<Ticket, bool>,
    pub(crate) last_ticket: u64,
    pub(crate) outputs: Vec<Output>,
    #[cfg(feature = "planted-bugs")]
    pub(crate) planted: Option<PlantedBug>,
}

impl Site {
    /// Whether the bug was put in; never outside of tests.
    pub(crate) fn has(&self, bug: PlantedBug) -> bool {
        #[cfg(feature = "planted-bugs")]
        return self.planted == Some(bug);
        #[cfg(not(feature = "planted-bugs"))]
        {
            let _ = bug;
            false
        }
    }

    /// It is told the time a few times in each lease, so after a longer gap it was paused.
    pub(crate) fn reads_clock(&mut self, now: Moment) {
        if now.since(self.now) > LEASE_US && !self.has(PlantedBug::OwnPauseNotHeeded) {
            self.awake_since = now;
        }
        self.now = self.now.max(now);
    }

    /// For how long somebody else has left something unanswered that was asked at `asked`. What came during a pause of this process
    /// is taken in after it, so nobody else is to blame for the time before its end.
    pub(crate) fn waited_us(&self, asked: Moment) -> u64 {
        self.now.since(asked.max(self.awake_since))
    }

    pub(crate) fn pepoch(&self) -> Pepoch {
        self.configuration.pepoch
    }

    /// Whether this replica gave its word to someone else than `to`, who may count on it.
    pub(crate) fn is_bound_against(&self, to: Process) -> bool {
        let forgets = self.has(PlantedBug::NoGraceWait)
            || self.has(PlantedBug::RestartedTakesPartAtOnce) && self.grant.to.is_none()
            || self.has(PlantedBug::WaitEndsWithMembership)
                && self.grant.to.is_some_and(|to| !self.configuration.has(to));
        self.grant.to != Some(to) && self.now < self.grant.until && !forgets
    }

    pub(crate) fn send(&mut self, to: Process, body: Body) {
        let message = Message { pepoch: self.pepoch(), body };
        self.outputs.push(Output::Send { to, message });
    }

    /// Tells all that may have granted this primary a lease in `configuration` that it does not count on any, then or before.
    pub(crate) fn release(&mut self, configuration: &Configuration) {
        let pepoch = configuration.pepoch;
        // Who was to come in sync may be by now.
        let others = configuration.in_sync.iter().chain(&configuration.candidates);
        for to in others.filter(|other| **other != self.me) {
            let message = Message { pepoch, body: Body::Released };
            self.outputs.push(Output::Send { to: *to, message });
        }
    }

    pub(crate) fn answer(&mut self, request: &Request, answer: Answer) {
        let stamp = Stamp { incarnation: self.me.incarnation, clock: self.now.clock() };
        self.outputs.push(Output::Answer { id: request.id, resend: request.resend, answer, stamp });
    }

    pub(crate) fn propose(&mut self, change: SetChange) {
        let pepoch = self.pepoch();
        self.outputs.push(Output::Propose(Proposal { pepoch, change }));
    }

    pub(crate) fn gave_up(&mut self, learner: Process) {
        self.outputs.push(Output::GaveUp { learner });
    }

    fn ticket(&mut self, pending: Pending) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        if pending != Pending::Nothing {
            self.pending.insert(ticket, pending);
        }
        ticket
    }

    pub(crate) fn log(&mut self, entry: Entry, pending: Pending) -> Ticket {
        let ticket = self.ticket(pending);
        self.storing.insert(ticket, matches!(entry, Entry::Copy { .. } | Entry::Replace { .. }));
        self.outputs.push(Output::Log { ticket, entry });
        ticket
    }

    pub(crate) fn sync(&mut self, pending: Pending) -> Ticket {
        let ticket = self.ticket(pending);
        self.storing.insert(ticket, false);
        self.outputs.push(Output::Sync { ticket });
        ticket
    }

    pub(crate) fn read(&mut self, oid: Oid, blocks: core::ops::Range<u32>, pending: Pending) {
        let ticket = self.ticket(pending);
        self.outputs.push(Output::Read { ticket, oid, blocks });
    }

    pub(crate) fn digests(&mut self, after: Option<Oid>, most: usize, pending: Pending) {
        let ticket = self.ticket(pending);
        self.outputs.push(Output::Digests { ticket, after, most });
    }

    pub(crate) fn versions(&mut self, oid: Oid, pending: Pending) {
        let ticket = self.ticket(pending);
        self.outputs.push(Output::Versions { ticket, oid });
    }

    pub(crate) fn verify(&mut self, oid: Oid, pending: Pending) {
        let ticket = self.ticket(pending);
        self.outputs.push(Output::Verify { ticket, oid });
    }

    /// Logs a write; `pending` is over when it is as durable as it has to be.
    pub(crate) fn log_write(&mut self, record: &Arc<Record>, pending: Pending) {
        self.requests.add(record);
        self.room.take(record);
        let entry = Entry::Write { record: record.clone(), settled: self.doubt.settled() };
        let ticket = if record.durability == Durability::Stable && !self.has(PlantedBug::StableWithoutSync) {
            self.log(entry, Pending::Nothing);
            self.sync(pending)
        } else {
            self.log(entry, pending)
        };
        self.doubt.add(record.clone(), ticket);
    }

    /// What is promised is counted anew, for another primary.
    pub(crate) fn begin_credit(&mut self) {
        if !self.has(PlantedBug::CreditOutlivesPepoch) {
            self.room.begin();
        }
    }

    /// Logs what was in doubt and is not here. There was room for it in the pepoch in which it got its version; a process that
    /// started since has a reserve for that.
    pub(crate) fn roll_forward(&mut self, records: &[Arc<Record>]) {
        for record in records {
            if self.doubt.receipt(record.version) != crate::in_doubt::Receipt::New {
                continue;
            }
            let known = self.has(PlantedBug::RequestsNotRolledForward).then(|| self.requests.clone());
            self.log_write(record, Pending::Nothing);
            if let Some(known) = known {
                self.requests = known;
            }
        }
        self.begin_credit();
        self.sync(Pending::RollForward);
    }
}
