//! Why a node's directories cannot be used together.

use crate::disk_table::{MAX_DISKS, TableError};
use crate::superblock::DiskId;

/// Directories that are not the node's disks. Nothing was changed; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DisksError {
    /// None, or too many.
    #[error("a node has 1 to {MAX_DISKS} data directories, not {given}")]
    Count {
        /// How many were given.
        given: usize,
    },
    /// Nothing would be placed anywhere.
    #[error("all data directories have weight 0: give at least one a weight")]
    NoWeight,
    /// Two paths, one directory.
    #[error("{first} and {second} are the same directory: give each disk once")]
    SameDirectory {
        /// One path.
        first: String,
        /// The other.
        second: String,
    },
    /// One is a copy of the other.
    #[error(
        "{first} and {second} both hold disk {id}: one is a copy of the other; give the one that was in use last"
    )]
    Copied {
        /// One directory.
        first: String,
        /// The other.
        second: String,
        /// The disk of both.
        id: DiskId,
    },
    /// A store that is not in the table.
    #[error(
        "{directory} holds disk {id}, which is none of this node's {disks} disks: check which directory was given; \
         `huntaway node disk add` adds an empty one to a node of a cluster that runs"
    )]
    Stranger {
        /// The directory.
        directory: String,
        /// Its disk.
        id: DiskId,
        /// How many disks the node has.
        disks: usize,
    },
    /// More directories than disks.
    #[error(
        "the node has {disks} disks, but {given} data directories are given: take {extra} out again; `huntaway node disk add` \
         adds one to a node of a cluster that runs"
    )]
    Added {
        /// How many disks the node has.
        disks: usize,
        /// How many directories were given.
        given: usize,
        /// Those that hold none of its disks.
        extra: String,
    },
    /// Fewer directories than disks.
    #[error(
        "the node has {disks} disks, but {given} data directories are given: name them all, also one whose disk is \
         broken; `huntaway node disk remove` empties one that is to be taken away"
    )]
    Removed {
        /// How many disks the node has.
        disks: usize,
        /// How many directories were given.
        given: usize,
    },
    /// Another weight than the disk's.
    #[error("{directory} has weight {weight}, not {given}: write that, for weights cannot be changed yet")]
    Weight {
        /// The directory.
        directory: String,
        /// The weight given.
        given: u32,
        /// The weight in the table.
        weight: u32,
    },
    /// There is a store of a node of several disks, and no table of them.
    #[error(
        "{directory} is one of {disks} disks of a node, but {table} is missing, which lists them: put it back from a \
         backup, or check state_directory"
    )]
    LostTable {
        /// A directory of the node.
        directory: String,
        /// How many disks the node has.
        disks: u32,
        /// The table.
        table: String,
    },
    /// There is no table of disks, and none was to be made.
    #[error(
        "the node has no disks: {table} is missing, which lists them; put it back from a backup if there were disks, or \
         check state_directory; if `huntaway init` was interrupted, run it again"
    )]
    NoTable {
        /// The table.
        table: String,
    },
    /// The disks were not all made, and were not to be.
    #[error("making the node's disks was interrupted ({table} is not complete): run `huntaway init` again")]
    Unfinished {
        /// The table.
        table: String,
    },
    /// A node of one disk is given others.
    #[error(
        "{directory} holds the only disk of a node: give no other data directories; `huntaway node disk add` adds one to a node of a \
         cluster that runs"
    )]
    Single {
        /// The directory.
        directory: String,
    },
    /// The table cannot be read.
    #[error("{table} cannot be used: {reason}; put it back from a backup")]
    Table {
        /// The file.
        table: String,
        /// What is wrong.
        reason: String,
    },
    /// No disk can be used.
    #[error("none of the node's disks can be used: {reasons}")]
    AllAbsent {
        /// Each with its reason.
        reasons: String,
    },
    /// There is nothing of the disk in its directory.
    #[error("the directory is not there, or empty: is the disk mounted?")]
    NotMounted,
}

impl DisksError {
    pub(super) fn table(table: &str) -> impl FnOnce(TableError) -> Self {
        let table = table.to_owned();
        move |error| Self::Table { table, reason: error.to_string() }
    }
}
