//! What a gateway asks of the primary of a partition that is replicated, and what it is told.
//!
//! Unlike a [`Request`](crate::Request) to a store that has the only copy, such a request may be sent again, also to another
//! process: so it has a name, and says what it was sent under.

mod encoding;

use core::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::{ByteRange, Durability, MappedRun, Oid, Partition, Pepoch, Process, Stamp};

/// Names a request of a gateway. The same number stands for the same request, however often it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    /// The gateway's process.
    pub gateway: Process,
    /// Counted from 1 by that process; best for each partition by itself, so that one that is down keeps no other from forgetting.
    pub number: u64,
}

/// The bytes of one block with their checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// CRC32C of the bytes, computed where they entered the gateway or were merged.
    pub crc: u32,
    /// The bytes.
    pub bytes: Bytes,
}

impl Block {
    /// Takes in bytes that are known to be right.
    pub fn new(bytes: Bytes) -> Self {
        Self { crc: crc32c::crc32c(&bytes), bytes }
    }

    /// Whether the bytes are what the checksum says.
    pub fn is_sound(&self) -> bool {
        crc32c::crc32c(&self.bytes) == self.crc
    }
}

/// What a block holds: `None` is a hole, which reads as zeroes.
pub type Content = Option<Block>;

/// A gateway's request for the primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its name.
    pub id: RequestId,
    /// How often it was sent before. Its answer says which sending it answers.
    pub resend: u32,
    /// The gateway has the answers to all requests with lower numbers.
    pub unanswered_from: u64,
    /// The partition's pepoch as the gateway knows it.
    pub pepoch: Pepoch,
    /// The newest stamp that the gateway has of the store it sends this to.
    pub stamp: Stamp,
    /// The VDI's counter of that name, as the gateway knows it.
    pub layout: u64,
    /// The VDI's counter of that name when the gateway received the command; it stays so, however often this is sent.
    pub fence: u64,
    /// What to do.
    pub command: Command,
}

/// What a gateway wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Answered by [`Answer::Data`].
    Read {
        /// The object.
        oid: Oid,
        /// The blocks.
        blocks: Range<u32>,
    },
    /// Which blocks hold data, of the object or of what it inherits, or have space set aside? Answered by [`Answer::Map`].
    Map {
        /// The object.
        oid: Oid,
        /// The blocks.
        blocks: Range<u32>,
    },
    /// Answered by [`Answer::Done`].
    Write {
        /// The object.
        oid: Oid,
        /// The bytes within it.
        range: ByteRange,
        /// What they are to hold, cut at the borders of blocks, each with its checksum: see [`huntaway_wire::pieces`].
        pieces: Vec<Block>,
        /// When it counts as done.
        durability: Durability,
    },
    /// Writes if the range holds what is expected; nothing comes between comparing and writing. Answered by [`Answer::Done`],
    /// or by [`Answer::Miscompare`] when nothing was written.
    CompareAndWrite {
        /// The object.
        oid: Oid,
        /// The bytes within it.
        range: ByteRange,
        /// What they must hold: as many bytes, with one checksum.
        expected: Block,
        /// What they are to hold then, as in [`Command::Write`].
        pieces: Vec<Block>,
        /// When it counts as done.
        durability: Durability,
    },
    /// Sets every bit of the range that is set in the data, and leaves the others; nothing comes between reading and writing.
    /// Answered by [`Answer::Done`].
    Or {
        /// The object.
        oid: Oid,
        /// The bytes within it.
        range: ByteRange,
        /// The data, as in [`Command::Write`].
        pieces: Vec<Block>,
        /// When it counts as done.
        durability: Durability,
    },
    /// The range reads as zeroes from now on, and its whole blocks become holes. Answered by [`Answer::Done`].
    Discard {
        /// The object.
        oid: Oid,
        /// The bytes within it.
        range: ByteRange,
        /// When it counts as done.
        durability: Durability,
    },
    /// Sets space aside for all of the object, so that later writes to it are never refused for want of it, until it is removed;
    /// in a disk that was made from another one also after that: what was removed there hides what it inherits.
    /// Answered by [`Answer::Done`]; what it holds stays as it is.
    Reserve {
        /// The object.
        oid: Oid,
        /// When it counts as done.
        durability: Durability,
    },
    /// Removes the object, whether there is one or not. Answered by [`Answer::Done`].
    Remove {
        /// The object.
        oid: Oid,
        /// When it counts as done.
        durability: Durability,
    },
    /// Everything acknowledged before goes to stable storage. Answered by [`Answer::Done`].
    Flush,
}

/// An answer on its way to the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The request.
    pub id: RequestId,
    /// Which sending is answered.
    pub resend: u32,
    /// The answer.
    pub answer: Answer,
    /// The store's clock when it answered.
    pub stamp: Stamp,
}

/// A request that its gateway cannot hand to the primary itself: another process is to do that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay {
    /// The primary.
    pub to: Process,
    /// The request, as the primary is to get it.
    pub request: Request,
}

/// An answer to a request that was relayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relayed {
    /// Who answered.
    pub from: Process,
    /// The answer.
    pub answered: Answered,
}

/// A gateway wants all that a process has in its logs on stable storage, whoever wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncAll {
    /// The gateway's process.
    pub gateway: Process,
    /// What it calls this; never used for anything else by that process.
    pub round: u64,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Synced {
    /// What was asked.
    pub asked: SyncAll,
    /// The last record that the process knew of, after all that it had in its logs when it was asked was on stable storage, and while
    /// it had its lease of the ledger. `None`: that was not so, and nothing is known.
    pub known: Option<u64>,
}

/// What a gateway is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is done, now or by an earlier sending.
    Done,
    /// What the blocks hold.
    Data(Vec<Content>),
    /// Which of the blocks hold data, or have space set aside: runs in order, without gaps.
    Map(Vec<MappedRun>),
    /// The range does not hold what was expected, and was left as it is.
    Miscompare {
        /// The first byte that differs, counted from the beginning of the range.
        offset: u32,
    },
    /// A block is damaged, and no in-sync replica has it whole.
    Damaged,
    /// This sending came to nothing.
    Refused(Refused),
}

/// Why a request was not carried out, and what its gateway may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// This replica does not serve the partition, or not yet: ask again, perhaps elsewhere.
    NotServing,
    /// The partition's pepoch is another: look up its primary again.
    OtherPepoch {
        /// The newest that this replica knows.
        newest: Pepoch,
    },
    /// The stamp is too old: prove again that the request is wanted, and send it under the stamp of this answer.
    OldStamp,
    /// The gateway had the answer before, or its process is not the newest of its node.
    Late,
    /// A snapshot or a resize came before it: look up what the VDI is by now, and send it again.
    OldLayout,
    /// A reset, a preemption or an unmapping came after the gateway received the command, which is perhaps not to be carried
    /// out any more: never send it again unless it is found to be.
    Fenced,
    /// There is no room on a disk for what it writes, and none to come before something is freed. Nobody saw it.
    NoSpace,
    /// The data is not what its checksums or its range say: it was damaged on its way. Send it again.
    Unsound,
}

/// A process that keeps replicas, as its gateways see it: this one by a direct call, or another one behind a connection.
pub trait Store: Send + Sync {
    /// Hands over a request; never blocks for the network or for stable storage. Whatever becomes of it is told to `answers`: in this
    /// call, later, more than once, or never. So the caller holds no lock that [`Answers::answered`] needs.
    fn request(&self, partition: Partition, request: Request, answers: &Arc<dyn Answers>);

    /// Whether there is a way to it now, as far as is known.
    fn is_reachable(&self) -> bool {
        true
    }

    /// Hands over a request that it is to hand on; like [`Store::request`] otherwise. Whoever does not do that drops it.
    fn relay(&self, partition: Partition, relay: Relay, answers: &Arc<dyn Answers>) {
        let _ = (partition, relay, answers);
    }

    /// Has it put all on stable storage that it has in its logs; like [`Store::request`] otherwise. `false`: it will not be answered.
    fn sync_all(&self, asked: SyncAll, answers: &Arc<dyn Answers>) -> bool {
        let _ = (asked, answers);
        false
    }
}

/// Takes what stores answer to a gateway.
pub trait Answers: Send + Sync {
    /// The process answered a request for the partition. Returns soon, and may be called from any thread.
    fn answered(&self, from: Process, partition: Partition, answered: Answered);

    /// The process answered [`Store::sync_all`]. As [`Answers::answered`]. Whoever asks for none drops it.
    fn synced(&self, from: Process, synced: Synced) {
        let _ = (from, synced);
    }
}
