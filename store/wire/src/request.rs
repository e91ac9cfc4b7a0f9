//! What a gateway asks of a store, and what the store replies.

use std::ops::Range;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::{BLOCK_SIZE_BYTES, OBJECT_SIZE_BYTES, Oid, Partition, Pepoch};

/// Bytes in order, in as many pieces as they arrived in. Nothing is copied to join them.
pub type Segments = SmallVec<[Bytes; 2]>;

/// One request to a store.
#[derive(Debug, Clone)]
pub enum Request {
    /// An operation on one object, for the primary of its partition.
    Object(ObjectRequest),
    /// Everything this store acknowledged before goes to stable storage (SBC-3 §5.22 SYNCHRONIZE CACHE).
    Flush,
    /// Tells what space there is: [`Reply::Space`].
    Space {
        /// The disks are asked; otherwise it is told at once what they said last, less what was promised since.
        exact: bool,
    },
}

/// An operation on one object.
#[derive(Debug, Clone)]
pub struct ObjectRequest {
    /// The object's partition.
    pub partition: Partition,
    /// The partition's pepoch as the sender knows it; the store refuses a stale one.
    pub pepoch: Pepoch,
    /// The object.
    pub oid: Oid,
    /// What to do with it.
    pub operation: Operation,
}

/// A read of part of one object; see [`Operation::Read`].
#[derive(Debug, Clone, Copy)]
pub struct Read {
    /// The object's partition.
    pub partition: Partition,
    /// The partition's pepoch as the sender knows it.
    pub pepoch: Pepoch,
    /// The object.
    pub oid: Oid,
    /// What to read; any alignment.
    pub range: ByteRange,
}

/// What to do with an object. Ranges are in bytes within the object and may begin and end anywhere.
#[derive(Debug, Clone)]
pub enum Operation {
    /// Answered by [`Reply::Data`]. What was never written reads as zeroes.
    Read {
        /// What to read.
        range: ByteRange,
    },
    /// Answered by [`Reply::Done`] when it is as durable as asked.
    Write {
        /// What to write.
        range: ByteRange,
        /// `range.length` bytes.
        data: Segments,
        /// CRC32C of each piece of `data`, cut at multiples of [`BLOCK_SIZE_BYTES`] of the object: see [`crate::pieces`].
        /// They are right: computed by the caller, or verified by whoever took the request from a network.
        crcs: SmallVec<[u32; 4]>,
        /// When it counts as done.
        durability: Durability,
    },
    /// Writes if the range holds what is expected; no other request comes between comparing and writing. Answered by
    /// [`Reply::Done`] when it is as durable as asked, or by [`Reply::Miscompare`] when nothing was written.
    CompareAndWrite {
        /// What to compare and write.
        range: ByteRange,
        /// `range.length` bytes that must be there.
        expected: Segments,
        /// `range.length` bytes to be there afterwards.
        data: Segments,
        /// CRC32C of each piece of `data`, as in [`Operation::Write`].
        crcs: SmallVec<[u32; 4]>,
        /// When it counts as done.
        durability: Durability,
    },
    /// Sets every bit of the range that is set in `data`, and leaves the others; no other request comes between reading
    /// and writing. Answered by [`Reply::Done`] when it is as durable as asked.
    Or {
        /// What to change.
        range: ByteRange,
        /// `range.length` bytes.
        data: Segments,
        /// CRC32C of each piece of `data`, as in [`Operation::Write`].
        crcs: SmallVec<[u32; 4]>,
        /// When it counts as done.
        durability: Durability,
    },
    /// The range reads as zeroes from now on, and its whole blocks give up their space unless the object is
    /// reserved. Answered by [`Reply::Done`].
    Discard {
        /// What to discard.
        range: ByteRange,
        /// When it counts as done.
        durability: Durability,
    },
    /// Sets space aside for the whole object, so that later writes to it cannot run out of space: thick disks.
    /// Answered by [`Reply::Done`]; the object still reads as zeroes.
    Reserve,
    /// Removes the object and frees its space, reserved or not. Answered by [`Reply::Done`], also when there is none.
    Remove {
        /// When it counts as done.
        durability: Durability,
    },
    /// Tells which blocks hold data. Answered by [`Reply::Map`] with runs that cover `range`, widened to whole blocks.
    Map {
        /// What to describe.
        range: ByteRange,
    },
}

/// When a write is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Durability {
    /// In the log of every in-sync replica: it survives the process (promise P2).
    Logged,
    /// On stable storage of every in-sync replica: it survives power loss (promise P3; FUA).
    Stable,
}

/// Consecutive bytes of one object; never empty, never past its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ByteRange {
    offset: u32,
    length: u32,
}

impl ByteRange {
    /// The `length` bytes at `offset`, or `None` when that is empty or not within [`OBJECT_SIZE_BYTES`].
    pub fn new(offset: u32, length: u32) -> Option<Self> {
        let end = offset.checked_add(length)?;
        (length > 0 && end <= OBJECT_SIZE_BYTES).then_some(Self { offset, length })
    }

    /// First byte.
    pub fn offset(self) -> u32 {
        self.offset
    }

    /// Number of bytes, at least 1.
    pub fn length(self) -> u32 {
        self.length
    }

    /// One past the last byte.
    pub fn end(self) -> u32 {
        self.offset + self.length
    }

    /// The blocks it touches, whole or in part.
    pub fn blocks(self) -> Range<u32> {
        self.offset / BLOCK_SIZE_BYTES..self.end().div_ceil(BLOCK_SIZE_BYTES)
    }
}

/// A store's answer to a request that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The bytes asked for.
    Data(Segments),
    /// It is done, and as durable as was asked.
    Done,
    /// The range does not hold what was expected, and was left as it is.
    Miscompare {
        /// The first byte that differs, counted from the beginning of the range.
        offset: u32,
    },
    /// Runs of blocks, in order, without gaps.
    Map(Vec<MappedRun>),
    /// Space of the store's disks.
    Space(Space),
}

/// Space of a store's disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Space {
    /// Bytes that can be allocated, evenly spread over the store's partitions, before the first of its disks is full.
    pub available_bytes: u64,
    /// Bytes of all its disks, used or not.
    pub total_bytes: u64,
}

/// Consecutive blocks of one state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MappedRun {
    /// First block within the object.
    pub first_block: u32,
    /// Number of blocks.
    pub blocks: u32,
    /// Their state.
    pub provisioning: Provisioning,
}

/// Whether a block holds data (SBC-3 §4.7: mapped or deallocated).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provisioning {
    /// Holds data, or has space set aside.
    Mapped,
    /// Holds nothing and reads as zeroes.
    Deallocated,
}
