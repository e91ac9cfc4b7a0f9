//! What replicas of a partition tell each other. Any of it may be lost, repeated or late.

use std::sync::Arc;

use huntaway_wire::{Oid, Pepoch, Version};

use crate::event::{Page, Verified};
use crate::process::Moment;
use crate::record::{CopiedBlock, Record, Stored};
use crate::requests::Requests;
use crate::room::Credit;

/// A message: what it says holds in one pepoch. A replica in another ignores it; the sender repeats what matters.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The sender's pepoch.
    pub pepoch: Pepoch,
    /// What it says.
    pub body: Body,
}

/// Numbers the attempts of one primary to bring a learner up to date; 0 = the receiver is in sync.
pub type Attempt = u64;

/// What a message says.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// The primary is alive and wants the receiver's word to stay out of newer pepochs.
    Beacon {
        /// The primary's clock.
        sent: Moment,
        /// All in-sync replicas have all writes up to this one.
        settled: Version,
        /// Of the receiver.
        attempt: Attempt,
        /// The primary has not heard of the receiver for as long as a lease lasts.
        is_missed: bool,
        /// Changes wait until the receiver promises to take more.
        wants_room: bool,
    },
    /// The sender, which is in sync, has not heard for a while that the primary is there and hears it.
    Misses,
    /// The sender serves no more in this pepoch or an earlier one: nobody has to wait until leases run out that it was given there.
    Released,
    /// The receiver has that word.
    Granted {
        /// The beacon's clock.
        sent: Moment,
        /// What it takes.
        credit: Credit,
        /// Of the sender: its credit counts from the beginning of that.
        attempt: Attempt,
    },
    /// A write to log.
    Forward {
        /// The write.
        record: Arc<Record>,
        /// The receiver has, or need not have, all writes up to this one.
        settled: Version,
        /// Of the receiver.
        attempt: Attempt,
    },
    /// The write is in the sender's log, and on stable storage if that was asked for.
    Forwarded {
        /// The write.
        version: Version,
        /// Of the sender.
        attempt: Attempt,
        /// What it takes by now.
        credit: Credit,
    },
    /// The sender, which is in sync, wants the object mended.
    Suspect {
        /// The object.
        oid: Oid,
    },
    /// Put on stable storage what was forwarded so far.
    Flush {
        /// To be given back.
        number: u64,
    },
    /// That is done.
    Flushed {
        /// The flush.
        number: u64,
    },
    /// A new primary asks what is in doubt.
    Gather,
    /// What the sender has that others may not have.
    Gathered {
        /// The writes. What they were requested by goes with them.
        records: Vec<Arc<Record>>,
    },
    /// What all in-sync replicas shall have before the pepoch begins.
    RollForward {
        /// All that was in doubt anywhere.
        records: Vec<Arc<Record>>,
    },
    /// The sender has it on stable storage.
    RolledForward,
    /// The primary asks what an in-sync replica has. It is answered as often as it is asked.
    Inspect {
        /// To be given back.
        number: u64,
        /// What: one that changes nothing.
        lesson: Lesson,
    },
    /// What the sender has.
    Inspected {
        /// As asked.
        number: u64,
        /// What came of it.
        reply: Reply,
    },
    /// An in-sync replica is to put blocks in place that are damaged there.
    Mend {
        /// Goes up with each that the primary sends. A receiver does each once, and none after a later one.
        number: u64,
        /// [`Lesson::Copy`] or [`Lesson::Replace`].
        lesson: Lesson,
    },
    /// They are in the sender's log.
    Mended {
        /// As asked.
        number: u64,
    },
    /// The primary asks something of a learner, or of a doubtful replica, one after the other.
    Ask {
        /// Of the primary to teach the receiver.
        attempt: Attempt,
        /// Counted from 1 in each attempt. A receiver does each once, in order.
        step: u64,
        /// What.
        lesson: Lesson,
    },
    /// The lesson is done.
    Reply {
        /// As asked.
        attempt: Attempt,
        /// As asked.
        step: u64,
        /// What came of it.
        reply: Reply,
    },
}

impl Body {
    /// What a receiver adds to its log at most, unless it says that it has no room; `None` if that is nothing.
    pub(crate) fn logged_bytes(&self) -> Option<u64> {
        let all = |records: &[Arc<Record>]| Some(records.iter().map(|record| record.size_bytes()).sum());
        match self {
            Self::Forward { record, .. } => Some(record.size_bytes()),
            Self::RollForward { records } | Self::Gathered { records } => all(records),
            Self::Ask { lesson: Lesson::Begin { .. } | Lesson::Remove { .. }, .. } => Some(0),
            _ => None,
        }
    }
}

/// What is asked of a replica that is compared with another one.
#[derive(Debug, Clone, PartialEq)]
pub enum Lesson {
    /// Forget what you knew of requests and of writes in doubt, and take part from here on.
    Begin {
        /// The requests to know.
        requests: Arc<Requests>,
        /// The last version given before you take part.
        settled: Version,
    },
    /// Which requests do you know of? Asked first in a set without certainty.
    Requests,
    /// Which objects do you have?
    Digests {
        /// Only those after this one.
        after: Option<Oid>,
        /// At most so many.
        most: usize,
    },
    /// Which versions do the blocks of the object have?
    Versions {
        /// The object.
        oid: Oid,
    },
    /// What do blocks hold?
    Read {
        /// The object.
        oid: Oid,
        /// The blocks.
        blocks: core::ops::Range<u32>,
    },
    /// Replace these blocks.
    Copy {
        /// The object.
        oid: Oid,
        /// The blocks.
        blocks: Arc<Vec<CopiedBlock>>,
    },
    /// Read the object again and tell the state of its blocks.
    Verify {
        /// The object.
        oid: Oid,
    },
    /// The object is to hold these blocks and no others.
    Replace {
        /// The object.
        oid: Oid,
        /// The blocks.
        blocks: Arc<Vec<CopiedBlock>>,
    },
    /// Remove the object.
    Remove {
        /// The object.
        oid: Oid,
    },
    /// Put all of it on stable storage.
    Sync,
}

impl Lesson {
    /// Whether it changes nothing where it is done.
    pub(crate) fn is_question(&self) -> bool {
        match self {
            Self::Requests
            | Self::Digests { .. }
            | Self::Versions { .. }
            | Self::Read { .. }
            | Self::Verify { .. } => true,
            Self::Begin { .. }
            | Self::Copy { .. }
            | Self::Replace { .. }
            | Self::Remove { .. }
            | Self::Sync => false,
        }
    }
}

/// What comes of a [`Lesson`].
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// It is done.
    Done,
    /// It could not be done.
    Failed,
    /// The object is in the index there, and cannot be read, but for these blocks, which were written since.
    Missing(Vec<Verified>),
    /// The blocks, but for those that are damaged there.
    Damaged(Vec<Option<Stored>>),
    /// The state of the blocks.
    Verified(Vec<Verified>),
    /// The objects.
    Digests(Page),
    /// The versions, by block.
    Versions(Vec<(u32, Version)>),
    /// The blocks.
    Blocks(Vec<Stored>),
    /// The requests that the sender knows of.
    Requests(Arc<Requests>),
}
