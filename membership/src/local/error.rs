//! Why a ledger could not be opened, read or written.
//!
//! [`OpenError`] is for people: what is in the way, and what to do. [`Damage`] tells what is wrong with a file.
//! [`LogError`] is what can become of an append.

use std::io;
use std::path::{Path, PathBuf};

use huntaway_ledger::{FollowError, Name, ReadError};

use super::log_file::MAX_LOG_BYTES;

/// A ledger that could not be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "{} is in use by {}: stop that one, or choose another directory",
        dir.display(),
        pid.map_or("another process".to_owned(), |pid| format!("process {pid}"))
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The process that holds it, if it said so.
        pid: Option<u32>,
    },
    /// There is no ledger, and none was to be made.
    #[error(
        "there is no node in {} (no ledger epoch/log): if there was one, see that its disk is mounted and that \
         state_directory is right; to make a new one, run `huntaway init`",
        dir.display()
    )]
    None {
        /// The directory, as it was.
        dir: PathBuf,
    },
    /// The directory holds a store's data but no ledger.
    #[error(
        "{} holds data ({found}) but its ledger epoch/log is missing: put the file back from a copy, \
         or choose an empty directory; nothing was changed",
        dir.display()
    )]
    Missing {
        /// The directory.
        dir: PathBuf,
        /// A name in it that shows that it is not empty.
        found: String,
    },
    /// The ledger's file is damaged.
    #[error(
        "the ledger {} is damaged at byte {offset_bytes}: {damage}. Put the file back from a copy; \
         do not delete it, the disks cannot be found without it. Nothing was changed",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        offset_bytes: u64,
        /// What is wrong.
        damage: Damage,
    },
    /// The ledger was written by a newer version.
    #[error(
        "the ledger {} was written by a newer version of Huntaway (at byte {offset_bytes}: {reason}): \
         use that version",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Where.
        offset_bytes: u64,
        /// What is not known.
        reason: ReadError,
    },
    /// The file is larger than a ledger can be.
    #[error("{} is larger than a ledger can be ({MAX_LOG_BYTES} bytes): it is none", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The ledger has no epoch: no cluster was ever made of it.
    #[error("the ledger has no epoch: it was not made by this driver")]
    Empty,
    /// The ledger is that of another cluster.
    #[error(
        "{} belongs to the cluster {found}, not to {wanted}: choose another directory or use that name",
        dir.display()
    )]
    OtherCluster {
        /// The directory.
        dir: PathBuf,
        /// The cluster it belongs to.
        found: Name,
        /// The cluster asked for.
        wanted: Name,
    },
    /// The start of this process cannot be recorded.
    #[error("the start of this process cannot be recorded: {0}")]
    Refused(#[from] FollowError),
    /// The system has no random numbers.
    #[error("no random numbers from the operating system: {0}")]
    Entropy(getrandom::Error),
    /// The ledger could not be written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The operating system refused something.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried ("open", "lock", ..).
        doing: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl OpenError {
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.into(), source }
    }
}

/// What is wrong with a ledger's file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The file's first sector is not a ledger's, or does not match its checksum.
    #[error("the header is not that of a ledger of this version, or was changed")]
    Header,
    /// A record that was agreed is unreadable.
    #[error("record {number} is unreadable: {reason}")]
    Record {
        /// The record's number.
        number: u64,
        /// Why.
        reason: ReadError,
    },
    /// What stands for the records before it was cut is unreadable.
    #[error("the state that stands for its first records is unreadable")]
    Snapshot,
    /// Records are missing at the end.
    #[error("it ends with record {last}, but record {marked} was agreed")]
    CutOff {
        /// The last record there is.
        last: u64,
        /// The last one that was agreed.
        marked: u64,
    },
    /// The records are in order, but are not those that the header speaks of.
    #[error("its records are not those that were agreed")]
    OtherRecords,
}

/// A record that could not be appended.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file has reached its limit ([`MAX_LOG_BYTES`], less for operations than for starts). Nothing happened.
    #[error("the ledger {} has reached its limit of {MAX_LOG_BYTES} bytes", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// It could not be written, most likely for want of space. Nothing happened; it may be tried again.
    #[error("cannot write the ledger {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// It could not be brought to stable storage. Whether it happened shows after a restart; until then nothing
    /// more is written.
    #[error("cannot fsync the ledger {}: {source}; look at that disk, then restart", path.display())]
    Sync {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// An earlier append failed in a way that leaves the file unknown. Nothing happened.
    #[error("the ledger {} failed before and is not written any more; look at that disk, then restart", path.display())]
    Poisoned {
        /// The file.
        path: PathBuf,
    },
    /// What was written cannot be read again: this program is wrong. Nobody was told of it, nor of anything after it.
    #[error("a record that was written to the ledger {} cannot be read: {source}; use another version", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ReadError,
    },
}
