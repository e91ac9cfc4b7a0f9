//! What goes into logs and from replica to replica: the outcome of a request, never what it asked for.

use std::ops::Range;
use std::sync::Arc;

pub use huntaway_wire::replicated::{Block, Content, RequestId};
use huntaway_wire::{BLOCKS_PER_OBJECT, Durability, Oid, Version};

use crate::requests::Requests;

/// A block as it is stored: data, a hole, or never written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stored {
    /// The write that last touched it; [`Version::NEVER`] with no content if there was none. A hole has the version of what
    /// made it: it is no less a state of the block than data is.
    pub version: Version,
    /// What it holds.
    pub content: Content,
}

impl Stored {
    /// Whether what it holds is what its checksum says.
    pub fn is_sound(&self) -> bool {
        self.content.as_ref().is_none_or(Block::is_sound)
    }
}

/// A request with its outcome: what every in-sync replica logs. The primary alone resolves what a request comes to, so
/// replicas cannot differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The version of every block that it touches.
    pub version: Version,
    /// The object.
    pub oid: Oid,
    /// What becomes of the object.
    pub change: Change,
    /// What the request is answered by, also when it comes again.
    pub completion: Completion,
    /// The request, which is not to be carried out again; `None` if the primary does it by itself.
    pub request: Option<RequestId>,
    /// Its gateway has all answers to requests with lower numbers.
    pub unanswered_from: u64,
    /// Whether it is to be on stable storage before it is acknowledged.
    pub durability: Durability,
}

/// Stands among the blocks of an object for the space that is set aside for all of it: where blocks with their versions are
/// listed, compared, read and put in place. It is as a hole with the version [`SET_ASIDE_VERSION`], or never written.
pub const SET_ASIDE_BLOCK: u32 = BLOCKS_PER_OBJECT;

/// That of [`SET_ASIDE_BLOCK`], whoever set the space aside: there is nothing newer.
pub const SET_ASIDE_VERSION: Version = Version { pepoch: 0, seq: 1 };

/// What becomes of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Blocks hold something else, or become holes.
    Write {
        /// The first block.
        first_block: u32,
        /// What this block and those after it hold from now on.
        blocks: Vec<Content>,
    },
    /// The object is gone, as if it had never been written.
    Remove,
    /// Space is set aside for all of the object, until it is removed. What it holds stays as it is.
    Reserve,
    /// Blocks of a deleted VDI are gone, as if they had never been written: nothing shows them any more.
    Free {
        /// The blocks, in order; [`SET_ASIDE_BLOCK`] may be among them.
        runs: Vec<Range<u32>>,
    },
    /// It stays as it is: COMPARE AND WRITE found something else than was expected.
    Nothing,
}

/// How a request that is logged was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completion {
    /// It is done.
    Done,
    /// COMPARE AND WRITE left everything as it is.
    Miscompare {
        /// The first byte that differs from what was expected, counted from the beginning of the range.
        offset: u32,
    },
}

impl Record {
    /// The blocks that it touches.
    pub fn extent(&self) -> Range<u32> {
        match &self.change {
            Change::Write { first_block, blocks } => {
                *first_block..first_block.saturating_add(blocks.len() as u32)
            }
            Change::Remove => 0..BLOCKS_PER_OBJECT,
            Change::Reserve => 0..SET_ASIDE_BLOCK + 1,
            Change::Free { runs } => {
                let first = runs.first().map_or(0, |run| run.start);
                first..runs.last().map_or(first, |run| run.end)
            }
            Change::Nothing => 0..0,
        }
    }

    /// What it writes.
    pub fn contents(&self) -> &[Content] {
        match &self.change {
            Change::Write { blocks, .. } => blocks,
            Change::Remove | Change::Reserve | Change::Free { .. } | Change::Nothing => &[],
        }
    }

    /// Whether both touch the same block.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let (one, other_extent) = (self.extent(), other.extent());
        self.oid == other.oid && one.start < other_extent.end && other_extent.start < one.end
    }

    /// Whether all blocks are what their checksums say.
    pub fn is_sound(&self) -> bool {
        self.contents().iter().flatten().all(Block::is_sound)
    }
}

/// A block that is put in place as another replica has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopiedBlock {
    /// The block within the object.
    pub block: u32,
    /// What the other replica has.
    pub stored: Stored,
    /// Nobody has what the version stands for any more: from here on the block reads as damaged, whatever `stored` holds.
    pub is_lost: bool,
}

impl CopiedBlock {
    /// A block as it was read.
    pub(crate) fn new(block: u32, stored: Stored) -> Self {
        Self { block, stored, is_lost: false }
    }

    /// A block of which only the version is left.
    pub(crate) fn lost(block: u32, version: Version) -> Self {
        Self { block, stored: Stored { version, content: None }, is_lost: true }
    }
}

/// One entry of a partition's log. The last one that names a block says what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A write.
    Write {
        /// The write.
        record: Arc<Record>,
        /// Every in-sync replica had all writes up to this version when the entry was made.
        settled: Version,
    },
    /// Blocks are replaced, whatever versions they have here.
    Copy {
        /// The object.
        oid: Oid,
        /// The blocks.
        blocks: Arc<Vec<CopiedBlock>>,
    },
    /// The object holds these blocks and no others, whatever was left of it here. A process finds all of that or nothing.
    Replace {
        /// The object.
        oid: Oid,
        /// The blocks.
        blocks: Arc<Vec<CopiedBlock>>,
    },
    /// The object is gone, as if it had never been written.
    Remove {
        /// The object.
        oid: Oid,
    },
    /// What was known of requests and of writes in doubt is replaced: for that, nothing before this entry is needed any more.
    Known {
        /// The requests that are known from here on.
        requests: Arc<Requests>,
        /// As in [`Entry::Write`].
        settled: Version,
        /// The writes that are in doubt from here on. What they write is in the objects, or in the log before this.
        in_doubt: Vec<Arc<Record>>,
    },
    /// Nothing of the partition is kept here any more: no object, and nothing that was known of requests.
    Forget,
}
