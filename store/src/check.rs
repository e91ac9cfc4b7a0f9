//! Offline verification of a store: everything is read, nothing is changed.

mod objects;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::Bytes;
use huntaway_wire::{BLOCKS_PER_OBJECT, Oid, Partition, Version};

pub use report::{Finding, Problem, Report};

use crate::disk::{Disk, FileDisk};
use crate::error::OpenError;
use crate::replicated::{self, States};
use crate::service::lock_directory;
use crate::superblock::{self, Superblock, SuperblockError};
use crate::wal::{self, Change, Record, RecordHeader, WalError};

/// Words of a bit set with one bit for each block of an object.
const WORDS: usize = BLOCKS_PER_OBJECT as usize / 64;

/// Verifies the store in `directory`: superblock, log, indexes, object files, every table entry and every block.
///
/// # Errors
/// When the directory cannot be read, or another process uses it. Damage is no error: it is in the [`Report`].
pub fn check(directory: &Path) -> Result<Report, OpenError> {
    let name = directory.display().to_string();
    let disk = FileDisk::new(directory).map_err(OpenError::io("open", &name))?;
    let names = disk.list("").map_err(OpenError::io("list", &name))?;
    // Without a superblock it may be no store, and we leave no lock there.
    let _lock = match names.iter().any(|name| name == superblock::PATH) {
        true => Some(lock_directory(directory)?),
        false => None,
    };
    check_disk(&disk)
}

/// As [`check`], for any disk that nobody uses.
///
/// # Errors
/// When names cannot be listed.
pub fn check_disk<D: Disk>(disk: &D) -> Result<Report, OpenError> {
    let mut report = Report::default();
    let superblock = match Superblock::load(disk) {
        Ok(Some(superblock)) => superblock,
        Ok(None) => {
            report.add(superblock::PATH, None, Problem::NoStore);
            return Ok(report);
        }
        Err(error) => {
            let problem = match error {
                SuperblockError::Io(error) => Problem::Unreadable { reason: error.to_string() },
                SuperblockError::Damaged => Problem::DamagedSuperblock,
                SuperblockError::Format(found) => Problem::OtherFormat { found },
            };
            report.add(superblock::PATH, None, problem);
            return Ok(report);
        }
    };
    report.disks = superblock.disks;
    if Superblock::damaged_slots(disk).is_ok_and(|damaged| damaged > 0) {
        report.add(superblock::PATH, None, Problem::OneCopyDamaged);
    }
    let logged = check_log(disk, &superblock, &mut report);
    objects::check_objects(disk, &superblock, &logged, &mut report)?;
    Ok(report)
}

/// What the log will do to objects when it is replayed.
#[derive(Debug, Default)]
struct Logged {
    objects: BTreeMap<(Partition, Oid), LoggedObject>,
    /// Partitions of which nothing is left.
    forgotten: BTreeSet<Partition>,
    /// Records that are whole and say nothing known.
    unknown_records: u64,
}

/// What the log will do to one object.
#[derive(Debug)]
struct LoggedObject {
    first_version: Version,
    blocks: [u64; WORDS],
    /// It is removed first, so that its file does not matter.
    is_removed: bool,
}

impl LoggedObject {
    fn cover(&mut self, blocks: std::ops::Range<u32>) {
        for block in blocks.start..blocks.end.min(BLOCKS_PER_OBJECT) {
            self.blocks[block as usize / 64] |= 1 << (block % 64);
        }
    }
}

impl Logged {
    fn add(&mut self, record: &Record<'_>) {
        if let Change::Replicated { meta, crcs } = record.header.change {
            if !self.add_replicated(&record.header, meta, crcs) {
                self.unknown_records += 1;
            }
            return;
        }
        let new =
            || LoggedObject { first_version: record.header.version, blocks: [0; WORDS], is_removed: false };
        let object = self.objects.entry((record.header.partition, record.header.oid)).or_insert_with(new);
        match &record.header.change {
            Change::Write { first_block, crcs } => {
                object.cover(*first_block..first_block.saturating_add(crcs.len() as u32));
            }
            Change::Discard { blocks } => object.cover(blocks.clone()),
            Change::Reserve | Change::Replicated { .. } => {}
            Change::Remove => {
                object.cover(0..BLOCKS_PER_OBJECT);
                object.is_removed = true;
            }
        }
    }

    /// False if it is nothing known.
    fn add_replicated(&mut self, header: &RecordHeader<'_>, meta: &[u8], crcs: &[u32]) -> bool {
        let read = replicated::decode((header.oid, header.version), meta, crcs, &Bytes::new());
        let Some((logged, states)) = read else { return false };
        if logged == replicated::Logged::Forget {
            self.forgotten.insert(header.partition);
        }
        if !states.are_something() {
            return true;
        }
        let States { replaces, blocks, .. } = states;
        let versions = blocks.iter().map(|(_, state)| state.version().unwrap_or_default());
        let least = if replaces { Version::NEVER } else { versions.min().unwrap_or_default() };
        let new = || LoggedObject { first_version: least, blocks: [0; WORDS], is_removed: false };
        let object = self.objects.entry((header.partition, header.oid)).or_insert_with(new);
        object.first_version = object.first_version.min(least);
        if replaces {
            object.cover(0..BLOCKS_PER_OBJECT);
            object.is_removed = true;
        }
        blocks.iter().for_each(|(block, _)| object.cover(*block..block + 1));
        true
    }

    /// The first version of the object that the log has, if it says anything about it.
    fn first_version(&self, partition: Partition, oid: Oid) -> Option<Version> {
        let of_object = self.objects.get(&(partition, oid)).map(|object| object.first_version);
        if self.forgotten.contains(&partition) { Some(Version::NEVER) } else { of_object }
    }

    /// Whether the object's file does not matter, because the log removes the object.
    fn removes(&self, partition: Partition, oid: Oid) -> bool {
        self.forgotten.contains(&partition)
            || self.objects.get(&(partition, oid)).is_some_and(|object| object.is_removed)
    }

    /// Whether the block's content in the file does not matter, because the log replaces it.
    fn replaces(&self, partition: Partition, oid: Oid, block: u32) -> bool {
        let object = self.objects.get(&(partition, oid));
        self.forgotten.contains(&partition)
            || object.is_some_and(|object| object.blocks[block as usize / 64] >> (block % 64) & 1 != 0)
    }
}

fn check_log<D: Disk>(disk: &D, superblock: &Superblock, report: &mut Report) -> Logged {
    let mut logged = Logged::default();
    let mut records = 0;
    let may_be_new = !superblock.is_complete();
    let end = wal::inspect(disk, superblock.disk.0, may_be_new, &mut |_, record| -> Result<(), WalError> {
        records += 1;
        logged.add(&record);
        Ok(())
    });
    report.log_records = records;
    if logged.unknown_records > 0 {
        let reason = format!("{} of its records are of no known kind", logged.unknown_records);
        report.add("wal", None, Problem::DamagedLog { reason, cause: None });
    }
    if let Err(error) = end {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        report.add("wal", None, Problem::DamagedLog { reason: error.to_string(), cause });
    }
    logged
}
