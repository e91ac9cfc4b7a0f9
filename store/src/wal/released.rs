//! `wal/released`: from where the log is to be replayed, and how far it was known to reach.
//!
//! Two sectors are written in turn and each synced before the next is begun: whatever a crash does to one, the other holds.
//! Two more stand behind them, each for itself (`store/FORMAT.md`, "wal/released").

use std::io::{self, IoSlice};
use std::sync::Arc;

use super::{DIRECTORY, Lsn, MAX_LSN};
use crate::disk::{Disk, Open};

const NAME: &str = "released";
const MAGIC: [u8; 8] = *b"HWwalrel";
const DURABLE_MAGIC: [u8; 8] = *b"HWwaldur";
const CUTTING_MAGIC: [u8; 8] = *b"HWwalcut";
const FORMAT_VERSION: u32 = 1;
const SECTOR_BYTES: usize = 512;
const MARK_BYTES: usize = 48;

/// Sector that says how far the log reaches at least.
const DURABLE_SECTOR: u64 = 2;

/// Sector that says that what lies beyond the log's end is being destroyed.
const CUTTING_SECTOR: u64 = 3;

/// The open file and what it says.
#[derive(Debug)]
pub(super) struct Released<F> {
    file: Arc<F>,
    uuid: [u8; 16],
    count: u64,
    lsn: Lsn,
    durable: Lsn,
    is_cutting: bool,
    /// This process made it.
    is_new: bool,
}

/// Where it is noted how far the log reaches.
#[derive(Debug)]
pub(super) struct DurableMark<F> {
    file: Arc<F>,
    uuid: [u8; 16],
}

impl<F> DurableMark<F> {
    /// Notes that everything before `lsn` is on stable storage. The note itself is not yet: it is true whenever it gets there,
    /// and until then the records of the log that come after say so, too.
    pub(super) fn note<D: Disk<File = F>>(&self, disk: &D, lsn: Lsn) -> io::Result<()> {
        let mark = encode(DURABLE_MAGIC, &self.uuid, 0, lsn);
        disk.write_at(&self.file, &[IoSlice::new(&mark)], DURABLE_SECTOR * SECTOR_BYTES as u64)
    }
}

impl<F> Released<F> {
    /// Everything before is applied and on stable storage in the object files.
    pub(super) fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// The log reaches at least to here.
    pub(super) fn durable(&self) -> Lsn {
        self.durable
    }

    /// Whether somebody began to destroy what lies beyond the log's end, and perhaps did not finish.
    pub(super) fn is_cutting(&self) -> bool {
        self.is_cutting
    }

    /// Where to note how far the log reaches.
    pub(super) fn durable_mark(&self) -> DurableMark<F> {
        DurableMark { file: self.file.clone(), uuid: self.uuid }
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
        let mut released =
            Self { file, uuid, count: 0, lsn: Lsn(0), durable: Lsn(0), is_cutting: false, is_new: true };
        disk.set_length(&released.file, (CUTTING_SECTOR + 1) * SECTOR_BYTES as u64)?;
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
        let mark = |magic, sector| read_mark(disk, &file, magic, &uuid, sector);
        let newest = mark(MAGIC, 0)?.max(mark(MAGIC, 1)?);
        let durable = mark(DURABLE_MAGIC, DURABLE_SECTOR)?.map_or(Lsn(0), |(_, lsn)| lsn);
        let is_cutting = mark(CUTTING_MAGIC, CUTTING_SECTOR)?.is_some();
        Ok(newest.map(|(count, lsn)| Self { file, uuid, count, lsn, durable, is_cutting, is_new: false }))
    }

    /// Notes, on stable storage, that what lies beyond the log's end is about to be destroyed. Until that is on stable storage,
    /// too, it is done again by whoever opens the log: after a sync that failed, leftovers are on the disk and cannot be seen.
    pub(super) fn begin_cutting<D: Disk<File = F>>(&mut self, disk: &D) -> io::Result<()> {
        self.is_cutting = true;
        let mark = encode(CUTTING_MAGIC, &self.uuid, 0, self.lsn);
        disk.write_at(&self.file, &[IoSlice::new(&mark)], CUTTING_SECTOR * SECTOR_BYTES as u64)?;
        disk.sync_data(&self.file)
    }

    /// Nothing is left beyond the log's end. The next [`Released::advance`] makes that note durable.
    pub(super) fn end_cutting<D: Disk<File = F>>(&mut self, disk: &D) -> io::Result<()> {
        self.is_cutting = false;
        disk.write_at(&self.file, &[IoSlice::new(&[0; MARK_BYTES])], CUTTING_SECTOR * SECTOR_BYTES as u64)
    }

    /// Puts the notes, and what was read, on stable storage: a process that died may have left it in memory only. It is
    /// written again: after a sync that failed, another one does nothing.
    pub(super) fn renew<D: Disk<File = F>>(&mut self, disk: &D) -> io::Result<()> {
        if self.is_new { disk.sync_data(&self.file) } else { self.advance(disk, self.lsn) }
    }

    /// Puts a new position on stable storage.
    pub(super) fn advance<D: Disk<File = F>>(&mut self, disk: &D, lsn: Lsn) -> io::Result<()> {
        let count = self.count + 1;
        let offset = (count % 2) * SECTOR_BYTES as u64;
        disk.write_at(&self.file, &[IoSlice::new(&encode(MAGIC, &self.uuid, count, lsn))], offset)?;
        disk.sync_data(&self.file)?;
        (self.count, self.lsn) = (count, lsn);
        Ok(())
    }
}

pub(super) fn path() -> String {
    format!("{DIRECTORY}/{NAME}")
}

/// Count and position of a mark; `None` if there is none, or it is not whole.
fn read_mark<D: Disk>(
    disk: &D,
    file: &D::File,
    magic: [u8; 8],
    uuid: &[u8; 16],
    sector: u64,
) -> io::Result<Option<(u64, Lsn)>> {
    let mut bytes = [0; MARK_BYTES];
    let length = disk.read_at(file, &mut bytes, sector * SECTOR_BYTES as u64)?;
    Ok(if length == MARK_BYTES { decode(&bytes, magic, uuid) } else { None })
}

fn encode(magic: [u8; 8], uuid: &[u8; 16], count: u64, lsn: Lsn) -> [u8; MARK_BYTES] {
    let mut bytes = [0; MARK_BYTES];
    bytes[0..8].copy_from_slice(&magic);
    bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes[16..32].copy_from_slice(uuid);
    bytes[32..40].copy_from_slice(&count.to_le_bytes());
    bytes[40..48].copy_from_slice(&lsn.0.to_le_bytes());
    let crc = crc32c::crc32c(&bytes);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; MARK_BYTES], magic: [u8; 8], uuid: &[u8; 16]) -> Option<(u64, Lsn)> {
    let (_, numbers) = bytes.split_at(32);
    let (count, lsn) = numbers.split_at(8);
    let count = count.try_into().map(u64::from_le_bytes).ok()?;
    let lsn = Lsn(lsn.try_into().map(u64::from_le_bytes).ok()?);
    (*bytes == encode(magic, uuid, count, lsn) && lsn <= MAX_LSN).then_some((count, lsn))
}
