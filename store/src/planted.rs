//! Bugs put in on purpose, to see that the simulation finds them. Only with the feature `planted-bugs`.

use std::io::IoSlice;
use std::sync::Mutex;

use huntaway_wire::{Oid, Partition, Version};

use crate::disk::Disk;
use crate::locking::lock;
use crate::wal::{Change, Lsn, RecordHeader, Wal, WalError};

/// What is done wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlantedBug {
    /// A write is acknowledged before its record is in the log: the record follows with the next one.
    AcknowledgeBeforeLogging,
    /// Blocks go to the object files before their records are on stable storage.
    ApplyBeforeDurable,
    /// Writes that ask for stable storage, and flushes, are answered without a sync.
    StableWithoutSync,
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
        payload: &[u8],
    ) -> Option<Lsn> {
        let Change::Write { first_block, crcs } = header.change else { return None };
        let record = OwnedRecord {
            partition: header.partition,
            oid: header.oid,
            version: header.version,
            first_block,
            crcs: crcs.to_vec(),
            payload: payload.to_vec(),
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
