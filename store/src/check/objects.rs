//! Verifying the partitions' directories: indexes, object files, tables and blocks.

use std::collections::BTreeSet;
use std::io;

use huntaway_wire::{BLOCK_SIZE_BYTES, BLOCKS_PER_OBJECT, Epoch, Oid, Partition};

use super::{Logged, Problem, Report};
use crate::disk::Disk;
use crate::error::OpenError;
use crate::index::{Index, IndexError, IndexPlace, Item, Loading, SET_ASIDE, oid_of};
use crate::known::{self, KnownError, KnownPartitions};
use crate::object::{Entry, ObjectFile, ObjectPath, data_offset, entry_offset};
use crate::partition::{OBJECTS, directory_name, parse_directory_name};
use crate::superblock::Superblock;

/// Verifies all that is in the directory of objects.
pub(super) fn check_objects<D: Disk>(
    disk: &D,
    superblock: &Superblock,
    logged: &Logged,
    report: &mut Report,
) -> Result<(), OpenError> {
    let names = match disk.list(OBJECTS) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Otherwise a store that was begun but not finished.
            if superblock.is_complete() {
                report.add(OBJECTS, None, Problem::Missing);
            }
            return Ok(());
        }
        names => names.map_err(OpenError::io("list", OBJECTS))?,
    };
    let directories: BTreeSet<(Partition, Epoch)> =
        names.iter().filter_map(|name| parse_directory_name(name)).collect();
    let known = check_known(disk, superblock, report);
    let is_gone = |(partition, epoch): &&(Partition, Epoch)| {
        directories.range((*partition, *epoch)..=(*partition, Epoch(u64::MAX))).next().is_none()
    };
    for (partition, epoch) in known.iter().filter(is_gone) {
        report.add(&directory_name(*partition, *epoch), None, Problem::Missing);
    }
    for name in names {
        let directory = format!("{OBJECTS}/{name}");
        match parse_directory_name(&name) {
            None => report.add(&directory, None, Problem::Unknown),
            Some((partition, epoch)) if is_old(&directories, partition, epoch) => {
                report.add(&directory, None, Problem::OldDirectory);
            }
            Some((partition, epoch)) => {
                let must_exist = known.contains(&(partition, epoch));
                let place = IndexPlace { partition, epoch, directory, must_exist };
                check_partition(disk, place, logged, report)?;
            }
        }
    }
    Ok(())
}

/// The partitions that must have a directory.
fn check_known<D: Disk>(
    disk: &D,
    superblock: &Superblock,
    report: &mut Report,
) -> BTreeSet<(Partition, Epoch)> {
    let (offset, problem) = match KnownPartitions::load(disk, superblock.disk) {
        Ok(known) => return known.all().collect(),
        // A store that was begun but not finished.
        Err(_) if !superblock.is_complete() => return BTreeSet::new(),
        Err(KnownError::Io(error)) if error.kind() == io::ErrorKind::NotFound => (None, Problem::Missing),
        Err(KnownError::Io(error)) => (None, Problem::Unreadable { reason: error.to_string() }),
        Err(KnownError::Damaged { offset_bytes }) => (Some(offset_bytes), Problem::DamagedPartitions),
    };
    report.add(known::PATH, offset, problem);
    BTreeSet::new()
}

fn is_old(directories: &BTreeSet<(Partition, Epoch)>, partition: Partition, epoch: Epoch) -> bool {
    directories.range((partition, Epoch(epoch.0 + 1))..=(partition, Epoch(u64::MAX))).next().is_some()
}

fn check_partition<D: Disk>(
    disk: &D,
    place: IndexPlace,
    logged: &Logged,
    report: &mut Report,
) -> Result<(), OpenError> {
    let IndexPlace { partition, directory, .. } = place.clone();
    report.partitions += 1;
    let replayed = |oid| logged.first_version(partition, oid);
    let is_replayed =
        logged.forgotten.contains(&partition) || logged.objects.keys().any(|(of, _)| *of == partition);
    let loading = if is_replayed { Loading::Looking(&replayed) } else { Loading::Quiet };
    let index = match Index::load(disk, place, &loading) {
        Ok(index) => index,
        Err(error) => {
            let offset = match error {
                IndexError::Damaged { offset_bytes } => Some(offset_bytes),
                _ => None,
            };
            let problem = Problem::DamagedIndex { reason: error.to_string() };
            report.add(&format!("{directory}/index"), offset, problem);
            return Ok(());
        }
    };
    for item in index.items() {
        check_object(disk, partition, &directory, item, logged, report);
    }
    let names = disk.list(&directory).map_err(OpenError::io("list", &directory))?;
    for name in names.iter().filter(|name| *name != "index") {
        let path = format!("{directory}/{name}");
        match oid_of(name) {
            Some(oid) if index.contains(oid) => {}
            Some(oid) => {
                check_leftover(disk, &directory, oid, &index, logged.removes(partition, oid), report)
            }
            None if name == "index.new" => report.add(&path, None, Problem::LeftOver),
            None if name.starts_with(SET_ASIDE) => report.add(&path, None, Problem::OldIndex),
            None => report.add(&path, None, Problem::Unknown),
        }
    }
    Ok(())
}

/// A file that is not in the index: left by a crash, or lost by the index.
fn check_leftover<D: Disk>(
    disk: &D,
    directory: &str,
    oid: Oid,
    index: &Index,
    is_removed: bool,
    report: &mut Report,
) {
    let path = ObjectPath::new(directory, oid);
    let checked = index.leftover(oid).map(|leftover| ObjectFile::check_leftover(disk, &path, oid, leftover));
    let problem = match checked {
        Some(Err(error)) if !is_removed => Problem::DamagedObject { oid, reason: error.to_string() },
        Some(_) | None => Problem::LeftOver,
    };
    report.add(path.as_str(), None, problem);
}

fn check_object<D: Disk>(
    disk: &D,
    partition: Partition,
    directory: &str,
    Item { oid, version, .. }: Item,
    logged: &Logged,
    report: &mut Report,
) {
    let path = ObjectPath::new(directory, oid);
    let is_redone = |block| logged.replaces(partition, oid, block);
    let object = match ObjectFile::open_indexed(disk, &path, oid, version, &is_redone) {
        Ok(object) => object,
        Err(error) => {
            if !logged.removes(partition, oid) {
                let reason = error.to_string();
                report.add(path.as_str(), None, Problem::DamagedObject { oid, reason });
            }
            return;
        }
    };
    report.objects += 1;
    let content = object.content();
    let mut data = [0; BLOCK_SIZE_BYTES as usize];
    for block in (0..BLOCKS_PER_OBJECT).filter(|block| !logged.replaces(partition, oid, *block)) {
        match content.table.entry(block) {
            Entry::Inherit | Entry::Hole { .. } => {}
            Entry::Lost { .. } | Entry::Damaged => {
                report.add(path.as_str(), Some(entry_offset(block)), Problem::DamagedEntry { block });
            }
            Entry::Data { crc: expected, .. } => {
                report.data_blocks += 1;
                let problem = match object.read(disk, block, &mut data) {
                    Ok(()) if crc32c::crc32c(&data) == expected => continue,
                    Ok(()) => Problem::CorruptBlock { block, expected },
                    Err(error) => Problem::Unreadable { reason: error.to_string() },
                };
                report.add(path.as_str(), Some(data_offset(block)), problem);
            }
        }
    }
}
