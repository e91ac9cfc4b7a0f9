//! Bugs put in on purpose, to see that the simulation finds them. Only with the feature `planted-bugs`.

use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex};

use huntaway_replica::Entry as ReplicaEntry;
use huntaway_wire::{Oid, Partition, Version};

use crate::disk::Disk;
use crate::index::{Item, State};
use crate::locking::lock;
use crate::object::{Change as ObjectChange, ObjectFile};
use crate::store::{DiskStopped, Store};
use crate::wal::{Change, LogFiles, Lsn, RecordHeader, Wal, WalError};

/// What is done wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlantedBug {
    /// The file of an object does not tell that its space is set aside.
    SetAsideForgotten,
    /// A write is acknowledged before its record is in the log: the record follows with the next one.
    AcknowledgeBeforeLogging,
    /// Blocks go to the object files before their records are on stable storage.
    ApplyBeforeDurable,
    /// Writes that ask for stable storage, and flushes, are answered without a sync.
    StableWithoutSync,
    /// The table of an object is on stable storage before the data that it tells of.
    TableBeforeData,
    /// The log is released as it is replayed: a second replay finds nothing.
    ReplayedOnce,
    /// What was read from an object file is not compared with its checksum.
    CrcNotChecked,
    /// An object file whose sync failed is taken for synced.
    SyncErrorIgnored,
    /// A sync of an object file that failed is tried again.
    SyncRetried,
    /// The last entry of each batch does not get into the index.
    IndexEntryLost,
    /// A block that was discarded and not applied is read from the file.
    HoleReadFromFile,
    /// Removals do not get into the index.
    TombstoneDropped,
    /// A fragment is merged into a block that does not match its checksum.
    MergedOverCorrupt,
    /// The log is released before what it says is applied.
    ReleasedBeforeApplied,
    /// The names of new object files are not synced before the index has them.
    NamesNotSynced,
    /// Blocks that a replica is taught get one version for all.
    CopiedWithoutVersion,
    /// What a replica's log was told that is known counts for nothing when it is read again.
    KnownNotReplayed,
    /// The log is released without regard to what replicas need of it.
    ReleasedBeforeKnown,
    /// A block that nobody has any more reads as zeroes.
    LostReadAsZeroes,
    /// The index keeps the version of a replica's object when it goes down.
    IndexNotLowered,
    /// Nobody is told that records are missing from the log.
    LogDamageNotTold,
    /// What cannot be read ends the log also when no power was lost.
    TornTailAfterKill,
    /// A partition whose index cannot be used stays so.
    DamagedIndexStays,
    /// A partition whose index cannot be used is begun anew before anybody is told.
    DamagedIndexNotTold,
    /// What one partition was granted of the disk is granted to others, too.
    GrantsCountedTwice,
}

impl<D: Disk> Store<D> {
    /// Does what is planted when a file is brought to what it should be; `None` to do it right.
    pub(crate) fn change_wrongly(
        &self,
        object: &ObjectFile<D>,
        log: &LogFiles<D::File>,
        changes: &[(u32, ObjectChange)],
        reserved: bool,
    ) -> Option<io::Result<()>> {
        let disk = &*self.disk;
        let write = || {
            object.write_data(disk, log, changes, reserved)?;
            object.write_table(disk, changes, reserved)
        };
        match self.options.planted? {
            PlantedBug::TableBeforeData => Some(
                object
                    .write_table(disk, changes, reserved)
                    .and_then(|()| object.sync(disk))
                    .and_then(|()| object.write_data(disk, log, changes, reserved)),
            ),
            PlantedBug::SyncErrorIgnored => Some(write().map(|()| drop(object.sync(disk)))),
            PlantedBug::SyncRetried => {
                Some(write().and_then(|()| object.sync(disk).or_else(|_| object.sync(disk))))
            }
            PlantedBug::SetAsideForgotten => Some(
                object
                    .write_data(disk, log, changes, reserved)
                    .and_then(|()| object.write_table(disk, changes, false))
                    .and_then(|()| object.sync(disk)),
            ),
            _ => None,
        }
    }

    /// What a replica logs in place of an entry, if anything.
    pub(crate) fn log_wrongly(&self, entry: &ReplicaEntry) -> Option<ReplicaEntry> {
        let ReplicaEntry::Copy { oid, blocks } = entry else { return None };
        if !self.options.has(PlantedBug::CopiedWithoutVersion) {
            return None;
        }
        let mut blocks = Vec::clone(blocks);
        let newest = blocks.iter().map(|copied| copied.stored.version).max()?;
        let written = blocks.iter_mut().filter(|copied| copied.stored.version != Version::NEVER);
        written.for_each(|copied| copied.stored.version = newest);
        Some(ReplicaEntry::Copy { oid: *oid, blocks: Arc::new(blocks) })
    }

    /// What gets into the index of `items`.
    pub(crate) fn indexed_items(&self, items: &[Item]) -> Vec<Item> {
        let mut items = items.to_vec();
        match self.options.planted {
            Some(PlantedBug::IndexEntryLost) => drop(items.pop()),
            Some(PlantedBug::TombstoneDropped) => items.retain(|item| item.state == State::Present),
            _ => {}
        }
        items
    }

    /// Releases the log up to `cut` although that is not applied.
    pub(crate) fn release_early(&self, cut: Lsn) -> Result<(), DiskStopped> {
        self.sync()?;
        self.wal.release(cut).and_then(|()| self.wal.checkpoint()).map_err(|_| DiskStopped)
    }
}

/// The record that [`PlantedBug::AcknowledgeBeforeLogging`] keeps back.
#[derive(Debug, Default)]
pub(crate) struct KeptBack(Mutex<Option<OwnedRecord>>);

#[derive(Debug)]
struct OwnedRecord {
    partition: Partition,
    oid: Oid,
    version: Version,
    first_block: u32,
    crcs: Vec<u32>,
    payload: Vec<u8>,
}

impl KeptBack {
    /// Keeps a write back and returns where its record will end; `None` if it is no write.
    pub(crate) fn keep<D: Disk>(
        &self,
        wal: &Wal<D>,
        header: &RecordHeader<'_>,
        payload: &[IoSlice<'_>],
    ) -> Option<Lsn> {
        let Change::Write { first_block, crcs } = header.change else { return None };
        let record = OwnedRecord {
            partition: header.partition,
            oid: header.oid,
            version: header.version,
            first_block,
            crcs: crcs.to_vec(),
            payload: payload.iter().flat_map(|part| part.iter().copied()).collect(),
        };
        *lock(&self.0) = Some(record);
        Some(Lsn(wal.written().0 + header.logged_bytes()))
    }

    /// Logs what was kept back.
    pub(crate) fn log<D: Disk>(&self, wal: &Wal<D>) -> Result<(), WalError> {
        let Some(record) = lock(&self.0).take() else { return Ok(()) };
        let OwnedRecord { partition, oid, version, first_block, crcs, payload } = &record;
        let change = Change::Write { first_block: *first_block, crcs };
        let header = RecordHeader { partition: *partition, oid: *oid, version: *version, change };
        wal.append(&header, &[IoSlice::new(payload)])?;
        Ok(())
    }
}
