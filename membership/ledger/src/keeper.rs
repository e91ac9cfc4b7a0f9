//! The rules of whoever keeps the ledger of several nodes in one place, without sockets, files or a clock.
//!
//! It is told what comes ([`Input`]), by whom and when, and says what is to be done ([`Output`]), in order: a record is on stable
//! storage before anything that follows it leaves. `now` is a clock of its own that never goes back and goes on in pauses.
//!
//! ```text
//! Started    ──► NodeStarted, once the process before it has no lease any more
//! AskedLease ──► a lease, to a node that is there and knows the record that says so
//! silence    ──► no more leases; when the last ones have run out by any clock, one NodesDown for all of those
//! Proposed   ──► a record, or none: answered by number; what is sent again is not agreed on again
//! ```
//!
//! A keeper remembers records only. The next one on the same ledger waits until what this one may have promised is over.

mod holding;
mod planted;
mod presence;
mod proposals;

use core::time::Duration;
use std::collections::BTreeMap;

use huntaway_wire::{NodeId, Process, Vid, outlasting};

use self::holding::Holding;
pub use self::planted::KeeperBug;
use self::presence::Presence;
use self::proposals::Proposals;
use crate::{FollowError, Ledger, Memory, Record, RecordHash, StartId};

/// How long a node may count on its lease of the ledger, from when it asked for it, by its own clock.
pub const LEDGER_LEASE: Duration = Duration::from_millis(600);

/// A hold that is not over by then comes to nothing.
pub const HOLD_PATIENCE: Duration = Duration::from_secs(1);

/// So much of the time between two steps counts as silence of the nodes, at most: for the rest of it the keeper was held up itself, by a
/// disk or a scheduler, and what they said waits.
pub const MOST_BETWEEN_STEPS: Duration = Duration::from_millis(100);

/// Most followers that are remembered. Of those that are not connected the one that left first is forgotten for another.
pub const MAX_FOLLOWERS: usize = 512;

/// Most proposals of one follower whose answers it does not know of.
pub const MAX_UNANSWERED: usize = 256;

/// Most holds at a time.
pub const MAX_HOLDS: usize = 64;

/// A process that follows the ledger, a node's or not, by a number that it drew at random when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Follower(pub u64);

/// The start of a node's process, as that says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The process: its number follows the last one that is recorded.
    pub process: Process,
    /// What is left of what the one before it acknowledged.
    pub memory: Memory,
    /// Its name on the disk.
    pub start: StartId,
    /// What its disk says of earlier ones.
    pub after: Vec<StartId>,
}

/// What a follower wants the ledger to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proposal {
    /// A record. What is new in it gets the next vid, whatever it says; what only the keeper knows is not proposed.
    Record(Record),
    /// Writes to these disks are to be held, and when all are, something is to happen at one moment.
    Hold {
        /// The disks, by their first versions.
        disks: Vec<Vid>,
        /// What.
        then: HoldEnd,
    },
}

/// What is done when all writes are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldEnd {
    /// What is there is frozen: a snapshot.
    Freeze,
    /// The disk goes back to a snapshot. Reads are held as well.
    RollBack {
        /// The version that it froze.
        to: Vid,
    },
}

/// What a keeper is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A node's process started.
    Started(Start),
    /// A node's process asks for a lease.
    AskedLease {
        /// The process.
        process: Process,
        /// What it calls this, to know which answer is to what.
        ask: u64,
        /// The last record that all its replicas act on.
        applied: u64,
    },
    /// The process has ceased to serve, and never will again.
    Left {
        /// The process.
        process: Process,
    },
    /// Somebody has reason to believe that these nodes have failed. Whether they have does not matter.
    Suspected {
        /// The nodes.
        nodes: Vec<NodeId>,
    },
    /// A follower is there. Nothing is taken of one that is not.
    Connected {
        /// The follower.
        by: Follower,
    },
    /// A connection of the follower ended.
    Disconnected {
        /// The follower.
        by: Follower,
    },
    /// A follower that has no lease wants to know what all that may serve know.
    AskedKnown,
    /// A follower wants something. It may send it again, until it has the answer.
    Proposed {
        /// The follower.
        by: Follower,
        /// What it calls this: never used for anything else.
        number: u64,
        /// It knows the answers to all before this one.
        unanswered_from: u64,
        /// What it wants.
        proposal: Proposal,
    },
    /// No write that a hold is for is under way in any partition that the node leads, and none begins.
    Holds {
        /// Its process.
        process: Process,
        /// The hold.
        hold: u64,
        /// Which partitions those are, and in which pepochs: [`State::leads`](crate::State::leads).
        leads: RecordHash,
    },
    /// Time goes by: to be told every few hundredths of a second.
    Tick,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// The bytes of the next record. Until they are on stable storage, nothing that comes after them leaves; if they cannot be put
    /// there, nothing leaves any more.
    Record(Vec<u8>),
    /// The start is recorded.
    Started {
        /// The process.
        process: Process,
        /// Its start.
        start: StartId,
    },
    /// The start is not recorded.
    NotStarted {
        /// The process.
        process: Process,
        /// Its start.
        start: StartId,
        /// Why.
        why: NotStarted,
    },
    /// The process has a lease, of [`LEDGER_LEASE`] from when it asked.
    Leased {
        /// The process.
        process: Process,
        /// What it asked.
        ask: u64,
        /// Nobody who may serve knows less than this record: what it gives up is given up everywhere.
        known_by_all: u64,
    },
    /// What was asked by [`Input::AskedKnown`].
    Known {
        /// As in [`Output::Leased`].
        known_by_all: u64,
    },
    /// The process has no lease.
    NotLeased {
        /// The process.
        process: Process,
        /// What it asked.
        ask: u64,
        /// Why.
        why: NotLeased,
    },
    /// The follower may propose.
    Connected {
        /// The follower.
        by: Follower,
        /// What it proposed before is known. Otherwise it has to find out from the records which of it was agreed on, before it
        /// sends any of it again.
        remembers: bool,
    },
    /// A proposal has come to something.
    Answered {
        /// The follower.
        by: Follower,
        /// The proposal.
        number: u64,
        /// What.
        answer: ProposalAnswer,
    },
}

/// Why a start is not recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotStarted {
    /// The process before it may still act. This is over soon after that one has ended.
    #[error(
        "a process of this node has the lease of the ledger, and may act: stop it, if it is not about to end"
    )]
    StillRuns,
    /// Another start has that number, or a later one.
    #[error("the last start of this node has the number {}: take the next one", last.0)]
    Past {
        /// The last one that is recorded.
        last: crate::Incarnation,
    },
    /// The node is no member.
    #[error("this node is no member of the cluster: add it first")]
    Stranger,
    /// The ledger cannot have it.
    #[error("the ledger cannot have the start of this node: see which record it refuses")]
    Refused,
}

/// Why there is no lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotLeased {
    /// The node is no member.
    #[error("this node is no member of the cluster")]
    Stranger,
    /// It is not the node's newest process.
    #[error("another process of this node has started since")]
    OtherProcess,
    /// It is about to be down, and can be up again after that.
    #[error("this node is about to count as down")]
    GoingDown,
    /// It does not know yet what it has to know.
    #[error("this node has not applied record {needed} yet")]
    Behind {
        /// The record that says that it is there, or that it is down.
        needed: u64,
    },
    /// It knows records that the ledger does not have.
    #[error(
        "the ledger ends with record {last}, this node knows later ones: an old copy of the ledger is in use; \
         put the newest one back"
    )]
    Ahead {
        /// The last record.
        last: u64,
    },
}

/// What became of a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProposalAnswer {
    /// It is in the ledger.
    Agreed {
        /// The number of the record that has it, or of the one that ends the hold.
        record: u64,
    },
    /// It cannot follow this record: whoever has the state after it finds out why.
    Refused {
        /// The last record then.
        at: u64,
    },
    /// Not everybody held in time.
    NotHeld {
        /// The record that ended the hold.
        record: u64,
    },
    /// Nobody proposes such a record.
    NotProposable,
    /// Too many proposals wait.
    TooMany,
    /// The follower is not known (any more): it is to connect anew.
    Forgotten,
    /// There is no room for it where the ledger is kept. It is for whoever keeps it there to say so.
    Full,
}

/// Keeps a ledger.
#[derive(Debug, Clone)]
pub struct Keeper {
    ledger: Ledger,
    /// After so long without a word from its process, a node counts as failed.
    silence: Duration,
    nodes: BTreeMap<NodeId, Presence>,
    followers: BTreeMap<Follower, Proposals>,
    holds: BTreeMap<u64, Holding>,
    /// Counts what followers do, to tell who left first.
    left: u64,
    /// When it took its last step.
    stepped: Duration,
    outputs: Vec<Output>,
    #[cfg(feature = "planted-bugs")]
    planted: Option<KeeperBug>,
}

impl Keeper {
    /// Goes on with what another one may have kept until now. Nodes that are silent for `silence` count as failed: a few times
    /// as long as they take to ask for a lease again. They have three times as long to find this one.
    pub fn new(now: Duration, ledger: Ledger, silence: Duration) -> Self {
        let mut keeper = Self {
            ledger,
            silence,
            nodes: BTreeMap::new(),
            followers: BTreeMap::new(),
            holds: BTreeMap::new(),
            left: 0,
            stepped: now,
            outputs: Vec::new(),
            #[cfg(feature = "planted-bugs")]
            planted: None,
        };
        let last = keeper.ledger.state().number();
        let found = Presence::found(now + 2 * silence, now + outlasting(LEDGER_LEASE), last);
        keeper.nodes = keeper.ledger.state().sets().nodes().map(|(node, _)| (node, found)).collect();
        keeper.adopt_holds(now);
        keeper
    }

    /// Makes it break a rule.
    #[cfg(feature = "planted-bugs")]
    pub fn plant(&mut self, bug: KeeperBug) {
        self.planted = Some(bug);
        let (stepped, nodes) = (self.stepped, self.nodes.values_mut());
        match bug {
            KeeperBug::NoWaitAfterRestart => {
                nodes.for_each(|presence| presence.leased_until = Duration::ZERO);
            }
            KeeperBug::FoundAtOnce => nodes.for_each(|presence| presence.heard = stepped),
            _ => {}
        }
    }

    /// The records so far.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Takes in what comes, and says what is to be done.
    pub fn step(&mut self, now: Duration, input: Input) -> Vec<Output> {
        self.was_held_up(now);
        let last = self.ledger.state().number();
        let is_report = matches!(input, Input::Holds { .. });
        match input {
            Input::Started(start) => self.started(now, start),
            Input::AskedLease { process, ask, applied } => self.asked_lease(now, process, ask, applied),
            Input::Left { process } => self.left(now, process),
            Input::Suspected { nodes } => self.suspected(now, &nodes),
            Input::AskedKnown => {
                let known_by_all = self.known_by_all(now);
                self.outputs.push(Output::Known { known_by_all });
            }
            Input::Connected { by } => self.connected(by),
            Input::Disconnected { by } => self.disconnected(by),
            Input::Proposed { by, number, unanswered_from, proposal } => {
                self.proposed(now, (by, number), unanswered_from, proposal);
            }
            Input::Holds { process, hold, leads } => self.reported(process, hold, leads),
            Input::Tick => {}
        }
        self.take_down(now);
        if is_report || self.ledger.state().number() != last {
            self.end_holds();
        }
        self.abort_holds(now);
        std::mem::take(&mut self.outputs)
    }

    /// Has the ledger have a record. Returns its number.
    fn agree(&mut self, record: &Record) -> Result<u64, FollowError> {
        let next = self.ledger.follow(record)?;
        self.ledger = next.ledger;
        self.outputs.push(Output::Record(next.bytes));
        Ok(self.ledger.state().number())
    }

    /// Whether the rule is broken; never outside of tests.
    fn has(&self, bug: KeeperBug) -> bool {
        #[cfg(feature = "planted-bugs")]
        return self.planted == Some(bug);
        #[cfg(not(feature = "planted-bugs"))]
        {
            let _ = bug;
            false
        }
    }
}
