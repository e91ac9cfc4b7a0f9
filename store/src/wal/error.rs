//! What can go wrong with the log.

use std::io;

/// Why the log did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// All segments the log may have hold records that are not released. Apply and release, then try again.
    #[error("the write-ahead log is full: {live_bytes} bytes wait to be applied")]
    Full {
        /// Bytes of records that are not released.
        live_bytes: u64,
    },
    /// The disk has no room for another segment. Nothing was written; the log goes on with the segments it has.
    #[error("no space on the disk for another segment of {needed_bytes} bytes of the write-ahead log")]
    NoSpace {
        /// Size of a segment.
        needed_bytes: u64,
    },
    /// The operating system is short of file descriptors or memory for another segment. Nothing was written; the same may
    /// succeed later.
    #[error("write-ahead log: another segment cannot be opened now")]
    Shortage {
        /// What the operating system said.
        source: io::Error,
    },
    /// The record does not fit into a segment however empty. The caller must cut it.
    #[error("a record of {bytes} bytes does not fit into a segment of the write-ahead log")]
    TooLarge {
        /// Size of the record.
        bytes: u64,
    },
    /// The log's positions are used up. No disk writes that much: somebody, or damage, has set the log's position.
    #[error(
        "the positions of the write-ahead log are used up: its files say that it is 2^62 bytes long; restore the disk"
    )]
    Exhausted,
    /// The record names no blocks, blocks past the object's end, or comes with data of another size. Nothing was written.
    #[error("a record names blocks that its object or its data does not have")]
    Malformed,
    /// A write or sync failed earlier, so nothing can be promised any more: the disk is to be stopped.
    #[error("the write-ahead log stopped after a failed write or sync")]
    Poisoned,
    /// The operating system refused. When writing or syncing, the log is poisoned by it.
    #[error("write-ahead log: cannot {operation} {path}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file, relative to the disk's directory.
        path: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// A record that was on stable storage cannot be read: acknowledged writes may be lost.
    #[error(
        "write-ahead log segment {segment:016x} is damaged at byte {offset}: a record that was on stable storage is unreadable"
    )]
    Damaged {
        /// Number of the segment.
        segment: u64,
        /// Where in the segment's file, in bytes.
        offset: u64,
    },
    /// Segments that must be there are not, or `wal/released` does not say from where to replay: acknowledged writes may
    /// be lost.
    #[error("the write-ahead log is incomplete: {what}")]
    Incomplete {
        /// What is missing.
        what: &'static str,
    },
}
