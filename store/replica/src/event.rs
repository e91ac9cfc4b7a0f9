//! What a replica is told, and what it wants done.

use std::ops::Range;
use std::sync::Arc;

pub use huntaway_wire::replicated::{Answer, Command, Refused, Request};
use huntaway_wire::{Oid, Pepoch, Stamp, Version};

use crate::configuration::{Configuration, Proposal};
use crate::message::Message;
use crate::process::{Moment, Process};
use crate::record::{Completion, Entry, RequestId, Stored};
use crate::room::Credit;
use crate::vdi::Hold;

/// Names something that a replica wants of its store, until the store says that it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// The agreed state of the partition is this one by now. An older one than known is ignored.
    Configured(Arc<Configuration>),
    /// No epoch without this node is active before that moment.
    LedgerLease {
        /// On this node's clock, counted from when the lease was asked for.
        until: Moment,
    },
    /// Time went by. To be said a few times in each lease.
    Tick,
    /// A replica sent something. Messages may be lost, repeated and overtake one another.
    Received {
        /// Who sent it.
        from: Process,
        /// What.
        message: Message,
    },
    /// A gateway asks for something.
    Requested(Request),
    /// A primary may teach the learner, unless it teaches another one: see [`Recovery`](crate::Recovery). Said again, it changes
    /// the pace.
    Teach {
        /// One of the candidates, or nothing comes of it.
        learner: Process,
        /// How much to copy; 0: nothing, while the learner takes part in writes nevertheless.
        bytes_per_second: u64,
    },
    /// The node wants room: what this replica has is to be removed, unless it may be needed. See [`OldCopy`](crate::OldCopy).
    Forget,
    /// The store has room for so many bytes of writes ([`Record::size_bytes`](crate::Record::size_bytes), and
    /// [`Record::space_bytes`](crate::Record::space_bytes) on the disk), counted since the process began, and keeps it for them,
    /// whatever else it is given. The limits only grow. When what it took is applied,
    /// they let the largest write there is begin, unless the disk is full: then they let it if it takes no space. Until a store says
    /// this it has room for everything. One that says that it has none yet is asked when there is need: see
    /// [`Replica::wants_room_for`](crate::Replica::wants_room_for).
    Room(Credit),
    /// What was written to the object cannot be put in place, for its file is missing or damaged: it keeps the log from being used
    /// again until it is mended. To be said again while that is so.
    Suspect {
        /// The object.
        oid: Oid,
    },
    /// The process ends, and serves no more: whoever waits for its leases to run out is told that this is over.
    Leave,
    /// The disk failed: what the store was asked for will not be done, and what was logged may be lost.
    DiskFailed,
    /// The store did what it was asked for.
    Stored {
        /// Which of it.
        ticket: Ticket,
        /// What it found.
        outcome: Outcome,
    },
}

/// What a store answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the log, or on stable storage, as asked.
    Done,
    /// The blocks, in order.
    Blocks(Vec<Stored>),
    /// The blocks, in order, but for those that are damaged or could not be read.
    Damaged(Vec<Option<Stored>>),
    /// The object is in the index, and its file is missing or damaged: of its blocks, only these are known, those among them
    /// that were never written ([`Version::NEVER`]).
    Missing(Vec<Verified>),
    /// It could not be told. It may be another time.
    Failed,
    /// There is no room to put blocks in place, and none was. There may be another time.
    NoRoom,
    /// The page of digests.
    Digests(Page),
    /// The versions of all blocks of the object that were ever written, by block.
    Versions(Vec<(u32, Version)>),
    /// The state of all blocks of the object that were ever written, by block.
    Verified(Vec<Verified>),
}

/// A block that was read again, to see whether it is what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// The block within the object.
    pub block: u32,
    /// The write that last touched it.
    pub version: Version,
    /// CRC32C of what it holds, 0 for what reads as zeroes; `None` if it is damaged.
    pub crc: Option<u32>,
}

/// Some objects of a replica, in order of their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Each with a sum of the numbers and versions of its blocks; `None` if they are not known.
    pub objects: Vec<(Oid, Option<u64>)>,
    /// Whether there are no more after them.
    pub is_last: bool,
}

impl From<Completion> for Answer {
    fn from(completion: Completion) -> Self {
        match completion {
            Completion::Done => Self::Done,
            Completion::Miscompare { offset } => Self::Miscompare { offset },
        }
    }
}

/// What to do about it, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Add the entry to the log; reads that come later find it. Done when it survives the process. Of entries that are in
    /// the log, all earlier ones are. Only for [`Entry::Copy`] and
    /// [`Entry::Replace`] may there be no room.
    Log {
        /// To be given back.
        ticket: Ticket,
        /// The entry.
        entry: Entry,
    },
    /// Done when everything logged before is on stable storage.
    Sync {
        /// To be given back.
        ticket: Ticket,
    },
    /// Read blocks, as they are by what was logged before.
    Read {
        /// To be given back.
        ticket: Ticket,
        /// The object.
        oid: Oid,
        /// The blocks.
        blocks: Range<u32>,
    },
    /// Tell which objects there are.
    Digests {
        /// To be given back.
        ticket: Ticket,
        /// Only those after this one.
        after: Option<Oid>,
        /// At most so many.
        most: usize,
    },
    /// Tell the versions of an object's blocks.
    Versions {
        /// To be given back.
        ticket: Ticket,
        /// The object.
        oid: Oid,
    },
    /// Read the object again from the disk and tell the state of its blocks.
    Verify {
        /// To be given back.
        ticket: Ticket,
        /// The object.
        oid: Oid,
    },
    /// Send a message to a replica. It may be lost: what matters is sent again.
    Send {
        /// To whom.
        to: Process,
        /// What.
        message: Message,
    },
    /// Answer a gateway.
    Answer {
        /// Its request.
        id: RequestId,
        /// Which sending is answered.
        resend: u32,
        /// The answer.
        answer: Answer,
        /// The store's clock now.
        stamp: Stamp,
    },
    /// Ask the ledger.
    Propose(Proposal),
    /// A learner does not learn, at least not now. That another one is in sync is told by the ledger alone.
    GaveUp {
        /// The learner.
        learner: Process,
    },
    /// Tell the ledger that no write to what is held is under way in the partition, and none begins before the hold ends.
    Held {
        /// The pepoch of the primary that says so: in another one this says nothing.
        pepoch: Pepoch,
        /// The hold.
        hold: Hold,
    },
}
