//! What a check found, in words.

use std::fmt;

use huntaway_wire::Oid;

/// Most findings that are kept; more are counted.
const MAX_FINDINGS: usize = 10_000;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// What is not as it should be, in order of the files.
    pub findings: Vec<Finding>,
    /// Findings beyond those that are kept.
    pub more_findings: u64,
    /// Findings that mean lost or unreadable data.
    pub damages: u64,
    /// How many disks its node had when this one was made; 0 if that is not known.
    pub disks: u32,
    /// Records in the log that are not applied yet.
    pub log_records: u64,
    /// Partitions that have a directory.
    pub partitions: u64,
    /// Objects verified.
    pub objects: u64,
    /// Blocks that hold data, each verified.
    pub data_blocks: u64,
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file, relative to the store's directory.
    pub file: String,
    /// Where in the file, in bytes.
    pub offset_bytes: Option<u64>,
    /// What it is.
    pub problem: Problem,
}

/// What can be wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// There is no superblock.
    #[error("there is no superblock: this is no store, or it lost the file")]
    NoStore,
    /// Neither slot is whole.
    #[error("neither slot of the superblock is whole: the store cannot be opened")]
    DamagedSuperblock,
    /// One of two copies is no good.
    #[error("one of its two copies is damaged; the other one stands for it")]
    OneCopyDamaged,
    /// Another version wrote it.
    #[error("format {found} is not known to this version: nothing else was checked")]
    OtherFormat {
        /// The format's number.
        found: u32,
    },
    /// Something that was there is gone.
    #[error("is missing, and what was in it is lost (is everything mounted?)")]
    Missing,
    /// The record of partitions is no good.
    #[error("both copies of the record of partitions are damaged: the store cannot be opened")]
    DamagedPartitions,
    /// The log cannot be read to its end.
    #[error("{reason}{}: acknowledged writes may be lost", cause.as_ref().map(|c| format!(": {c}")).unwrap_or_default())]
    DamagedLog {
        /// What the log says.
        reason: String,
        /// What the operating system says.
        cause: Option<String>,
    },
    /// The operating system refused.
    #[error("cannot be read: {reason}")]
    Unreadable {
        /// What it said.
        reason: String,
    },
    /// An index is no good.
    #[error("the index of a partition cannot be used ({reason}): its objects are not served")]
    DamagedIndex {
        /// Why.
        reason: String,
    },
    /// An object has no sound file that goes with the index.
    #[error("the file of object {oid} cannot be used ({reason}): it is lost")]
    DamagedObject {
        /// The object.
        oid: Oid,
        /// Why.
        reason: String,
    },
    /// A table entry is no good.
    #[error("the table entry of block {block} is damaged: the block is lost")]
    DamagedEntry {
        /// The block within the object.
        block: u32,
    },
    /// A block is no good.
    #[error("block {block} does not match its checksum {expected:08x}: it is lost")]
    CorruptBlock {
        /// The block within the object.
        block: u32,
        /// The CRC32C of what it should hold.
        expected: u32,
    },
    /// A file that is not in the index.
    #[error("is not in the index: left by a crash, it counts for nothing")]
    LeftOver,
    /// An index that another one has taken the place of.
    #[error("is an index that could not be used: it was kept, and counts for nothing")]
    OldIndex,
    /// A directory that a newer one stands for.
    #[error("is older than another directory of the same partition: it counts for nothing")]
    OldDirectory,
    /// Not one of ours.
    #[error("is none of the store's files")]
    Unknown,
}

impl Problem {
    /// Whether data is lost or cannot be read; otherwise it is only worth knowing.
    pub fn is_damage(&self) -> bool {
        !matches!(
            self,
            Self::OneCopyDamaged | Self::LeftOver | Self::OldIndex | Self::OldDirectory | Self::Unknown
        )
    }
}

impl Report {
    /// Whether nothing is damaged.
    pub fn is_sound(&self) -> bool {
        self.damages == 0
    }

    pub(super) fn add(&mut self, file: &str, offset_bytes: Option<u64>, problem: Problem) {
        self.damages += u64::from(problem.is_damage());
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(Finding { file: file.to_owned(), offset_bytes, problem });
        } else {
            self.more_findings += 1;
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.problem.is_damage() { "DAMAGE" } else { "note" };
        write!(f, "{kind}: {}", self.file)?;
        if let Some(offset) = self.offset_bytes {
            write!(f, " at byte {offset}")?;
        }
        write!(f, ": {}", self.problem)
    }
}

/// One line for each finding, and one that sums up.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        if self.more_findings > 0 {
            writeln!(f, "... and {} findings more", self.more_findings)?;
        }
        if self.disks > 1 {
            writeln!(f, "note: this is one of {} disks of its node: check the others, too", self.disks)?;
        }
        write!(
            f,
            "{} partitions, {} objects, {} blocks verified, {} log records to be replayed: ",
            self.partitions, self.objects, self.data_blocks, self.log_records
        )?;
        match self.damages {
            0 => f.write_str("sound"),
            1 => f.write_str("1 damage"),
            damages => write!(f, "{damages} damages"),
        }
    }
}
