//! Why a store cannot be opened.

use std::io;

use rustix::io::Errno;

use crate::index::IndexError;
use crate::known::{self, KnownError};
use crate::node_store::DisksError;
use crate::superblock::{ClusterId, FORMAT, SuperblockError};
use crate::wal::WalError;

/// A store that cannot be opened. Nothing was lost by trying; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operating system refused.
    #[error("cannot {operation} {path}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file or directory.
        path: String,
        /// What it said.
        source: io::Error,
    },
    /// Another process has the directory open.
    #[error("{directory} is in use by another process: stop that one first, or choose another directory")]
    InUse {
        /// The directory.
        directory: String,
    },
    /// There is something in the directory, but no store.
    #[error("the directory holds something ({name}) but no store: choose an empty or a new directory")]
    NotAStore {
        /// A name found in it.
        name: String,
    },
    /// Something is gone that was there when the store was made.
    #[error(
        "{name} of the store is missing, which holds data: is everything mounted? Put it back; nothing was changed"
    )]
    Missing {
        /// The file or directory.
        name: &'static str,
    },
    /// There is a store's data, but nothing says whose.
    #[error(
        "the superblock is missing, but {name} holds the data of a store: put the file back, or choose an empty directory for a new store; nothing was changed"
    )]
    LostSuperblock {
        /// The directory that is not empty.
        name: &'static str,
    },
    /// Neither slot of the superblock can be read.
    #[error("the superblock is damaged: restore the file from a backup, or run `huntaway store check`")]
    DamagedSuperblock,
    /// The directory was written by another version.
    #[error("the directory has format {found}, this version reads {FORMAT}: use the version that wrote it")]
    Format {
        /// The format's number.
        found: u32,
    },
    /// The directory is another cluster's.
    #[error("the directory belongs to cluster {found}, not to {expected}: check which directory was given")]
    OtherCluster {
        /// Whose it is.
        found: ClusterId,
        /// Whose it should be.
        expected: ClusterId,
    },
    /// The directory is another node's.
    #[error("the directory belongs to node {found}, not to {expected}: check which directory was given")]
    OtherNode {
        /// Whose it is.
        found: huntaway_wire::NodeId,
        /// Whose it should be.
        expected: huntaway_wire::NodeId,
    },
    /// All pepochs are used up.
    #[error("the store was opened 2^32 times: make a new one")]
    NoPepochLeft,
    /// The record of which partitions there are cannot be read.
    #[error(
        "the file partitions is damaged at byte {offset_bytes}: restore it from a backup; nothing was changed"
    )]
    DamagedPartitions {
        /// Where in each of its two copies, in bytes.
        offset_bytes: u64,
    },
    /// The node's disks do not fit together.
    #[error(transparent)]
    Disks(#[from] DisksError),
    /// One of several directories cannot be used.
    #[error("{directory}")]
    InDirectory {
        /// The directory.
        directory: String,
        /// Why.
        source: Box<OpenError>,
    },
    /// The write-ahead log cannot be used.
    #[error("{0}; nothing was changed: `huntaway store check` tells more")]
    Wal(#[from] WalError),
    /// The log has a record that says nothing known here, although it is whole.
    #[error(
        "the write-ahead log has a record, which ends at {end}, that this version does not know: use the version that wrote it"
    )]
    UnknownRecord {
        /// Where it ends in the log.
        end: u64,
    },
    /// The index of a partition cannot be read or mended now, and writes to the partition wait in the log.
    #[error(
        "the index of objects in {directory} cannot be used: {reason}; `huntaway store check` tells more"
    )]
    DamagedIndex {
        /// The partition's directory.
        directory: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl OpenError {
    /// In words, with what the operating system says.
    pub(crate) fn in_full(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }

    /// Whether it may succeed the next time, and nothing is wrong with the disk: too many open files, no memory.
    pub(crate) fn is_shortage(&self) -> bool {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if error.downcast_ref::<io::Error>().is_some_and(is_shortage) {
                return true;
            }
            cause = error.source();
        }
        false
    }

    /// For `map_err` on what the operating system says about `path`.
    pub(crate) fn io(operation: &'static str, path: &str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { operation, path, source }
    }

    pub(crate) fn index(directory: &str) -> impl FnOnce(IndexError) -> Self {
        let directory = directory.to_owned();
        move |error| Self::DamagedIndex { directory, reason: error.to_string() }
    }
}

impl From<KnownError> for OpenError {
    fn from(error: KnownError) -> Self {
        match error {
            KnownError::Io(error) if error.kind() == io::ErrorKind::NotFound => {
                Self::Missing { name: known::PATH }
            }
            KnownError::Io(source) => Self::io("read", known::PATH)(source),
            KnownError::Damaged { offset_bytes } => Self::DamagedPartitions { offset_bytes },
        }
    }
}

impl From<SuperblockError> for OpenError {
    fn from(error: SuperblockError) -> Self {
        match error {
            SuperblockError::Io(source) => Self::io("read or write", crate::superblock::PATH)(source),
            SuperblockError::Damaged => Self::DamagedSuperblock,
            SuperblockError::Format(found) => Self::Format { found },
        }
    }
}

/// What the disk refused while the store was at work.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {path}")]
pub(crate) struct DiskError {
    operation: &'static str,
    path: String,
    source: io::Error,
}

impl DiskError {
    /// For `map_err` on what the operating system says about `path`.
    pub(crate) fn new(operation: &'static str, path: &str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { operation, path, source }
    }

    /// Whether there was no room, or a shortage of something else, and nothing is wrong with the disk: the same may
    /// succeed later. (A sync that fails for want of room or memory is a failed sync; for want of a file descriptor
    /// nothing was tried.)
    pub(crate) fn may_pass(&self) -> bool {
        match self.operation {
            "sync" => is_out_of_files(&self.source),
            _ => is_shortage(&self.source) || is_full(&self.source),
        }
    }
}

/// Whether the operating system had no room for something.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether the operating system was short of something that may be there again later (ENFILE, EMFILE, ENOMEM).
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    is_out_of_files(error) || is_errno(error, Errno::NOMEM)
}

/// Whether the disk could not read what is stored there (EIO).
pub(crate) fn is_unreadable(error: &io::Error) -> bool {
    is_errno(error, Errno::IO)
}

/// Whether no file could be opened, because the process or the system has too many open (ENFILE, EMFILE).
pub(crate) fn is_out_of_files(error: &io::Error) -> bool {
    is_errno(error, Errno::NFILE) || is_errno(error, Errno::MFILE)
}

fn is_errno(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}
