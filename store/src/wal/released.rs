//! `wal/released`: from where the log is to be replayed.
//!
//! Two sectors, written in turn and each synced before the next is begun: whatever a crash does to one, the other holds.

use std::io::{self, IoSlice};
use std::sync::Arc;

use super::{DIRECTORY, Lsn, MAX_LSN};
use crate::disk::{Disk, Open};

const NAME: &str = "released";
const MAGIC: [u8; 8] = *b"HWwalrel";
const FORMAT_VERSION: u32 = 1;
const SECTOR_BYTES: usize = 512;
const MARK_BYTES: usize = 48;

/// The open file and what it says.
#[derive(Debug)]
pub(super) struct Released<F> {
    file: Arc<F>,
    uuid: [u8; 16],
    count: u64,
    lsn: Lsn,
}

impl<F> Released<F> {
    /// Everything before is applied and on stable storage in the object files.
    pub(super) fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// Makes the file of a new log, which begins at 0.
    pub(super) fn create<D: Disk<File = F>>(disk: &D, uuid: [u8; 16]) -> io::Result<Self> {
        let file = match disk.open(&path(), Open::New) {
            // One was begun but never finished.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                disk.open(&path(), Open::Existing)?
            }
            result => result?,
        };
        let mut released = Self { file, uuid, count: 0, lsn: Lsn(0) };
        disk.set_length(&released.file, 2 * SECTOR_BYTES as u64)?;
        released.advance(disk, Lsn(0))?;
        disk.sync_dir(DIRECTORY)?;
        Ok(released)
    }

    /// Reads the file; `None` when there is none or neither sector is whole.
    pub(super) fn read<D: Disk<File = F>>(disk: &D, uuid: [u8; 16]) -> io::Result<Option<Self>> {
        let file = match disk.open(&path(), Open::Existing) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            result => result?,
        };
        let mut newest = None;
        for sector in 0..2 {
            let mut bytes = [0; MARK_BYTES];
            let length = disk.read_at(&file, &mut bytes, sector * SECTOR_BYTES as u64)?;
            if length == MARK_BYTES {
                newest = newest.max(decode(&bytes, &uuid));
            }
        }
        Ok(newest.map(|(count, lsn)| Self { file, uuid, count, lsn }))
    }

    /// Puts what was read on stable storage: a process that died may have left it in memory only. It is written again:
    /// after a sync that failed, another one does nothing.
    pub(super) fn renew<D: Disk<File = F>>(&mut self, disk: &D) -> io::Result<()> {
        self.advance(disk, self.lsn)
    }

    /// Puts a new position on stable storage.
    pub(super) fn advance<D: Disk<File = F>>(&mut self, disk: &D, lsn: Lsn) -> io::Result<()> {
        let count = self.count + 1;
        let offset = (count % 2) * SECTOR_BYTES as u64;
        disk.write_at(&self.file, &[IoSlice::new(&encode(&self.uuid, count, lsn))], offset)?;
        disk.sync_data(&self.file)?;
        (self.count, self.lsn) = (count, lsn);
        Ok(())
    }
}

pub(super) fn path() -> String {
    format!("{DIRECTORY}/{NAME}")
}

fn encode(uuid: &[u8; 16], count: u64, lsn: Lsn) -> [u8; MARK_BYTES] {
    let mut bytes = [0; MARK_BYTES];
    bytes[0..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes[16..32].copy_from_slice(uuid);
    bytes[32..40].copy_from_slice(&count.to_le_bytes());
    bytes[40..48].copy_from_slice(&lsn.0.to_le_bytes());
    let crc = crc32c::crc32c(&bytes);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; MARK_BYTES], uuid: &[u8; 16]) -> Option<(u64, Lsn)> {
    let (_, numbers) = bytes.split_at(32);
    let (count, lsn) = numbers.split_at(8);
    let count = count.try_into().map(u64::from_le_bytes).ok()?;
    let lsn = Lsn(lsn.try_into().map(u64::from_le_bytes).ok()?);
    (*bytes == encode(uuid, count, lsn) && lsn <= MAX_LSN).then_some((count, lsn))
}
