//! One object file: opening, reading and changing it. Who may do so when is the caller's business.

use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard};

use huntaway_wire::{BLOCK_SIZE_BYTES, BLOCKS_PER_OBJECT, Oid, Version};

use super::header::{DATA_OFFSET_BYTES, FILE_BYTES, Header};
use super::table::{
    ENTRIES_PER_SECTOR, ENTRY_BYTES, Entry, TABLE_BYTES, TABLE_OFFSET_BYTES, Table, TableSums, put_sums,
    sums_of,
};
use crate::disk::{Disk, Extent, Open};
use crate::index::Leftover;
use crate::layout::{SECTOR_BYTES, array_at, put};
use crate::locking::lock;
use crate::wal::{LogFiles, Lsn};

/// Changed sectors of the table with at most this many unchanged ones between them are written at once.
const MAX_TABLE_GAP: u32 = 1;

/// Where an object file is, relative to the disk's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ObjectPath(String);

impl ObjectPath {
    /// The file of `oid` in the partition's `directory`.
    pub(crate) fn new(directory: &str, oid: Oid) -> Self {
        if directory.is_empty() { Self(oid.to_string()) } else { Self(format!("{directory}/{oid}")) }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why an object file that should be there cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error(transparent)]
    Io(io::Error),
    #[error("there is no such file")]
    Missing,
    #[error("its header is damaged")]
    DamagedHeader,
    #[error("it is the file of object {0}")]
    OtherObject(Oid),
    #[error("it is cut short")]
    Short,
    #[error("it is an earlier one: the index says that {created} was written to it")]
    Stale { created: Version },
    #[error("it is not in the index, and no crash explains that: the index has lost it")]
    NotIndexed,
}

/// What a block becomes.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// It holds 4 KiB that lie in the log from `at` on.
    Data { at: Lsn, crc: u32, version: Version },
    /// It holds nothing.
    Hole { version: Version },
    /// Nobody has any more what that write put there.
    Lost { version: Version },
    /// It is as if it had never been written.
    Never,
}

impl Change {
    /// The write that made it so.
    pub(crate) fn version(&self) -> Version {
        match *self {
            Self::Data { version, .. } | Self::Hole { version } | Self::Lost { version } => version,
            Self::Never => Version::NEVER,
        }
    }

    pub(crate) fn entry(&self) -> Entry {
        match *self {
            Self::Data { crc, version, .. } => Entry::Data { crc, version },
            Self::Hole { version } => Entry::Hole { version },
            Self::Lost { version } => Entry::Lost { version },
            Self::Never => Entry::Inherit,
        }
    }
}

/// An open object file with its table in memory. The table says what is known to be in the file: it is changed (by
/// [`ObjectFile::publish`]) after the file was.
pub(crate) struct ObjectFile<D: Disk> {
    oid: Oid,
    file: Arc<D::File>,
    content: Mutex<Content>,
}

/// What an object file holds.
pub(crate) struct Content {
    pub(crate) table: Table,
    /// Its whole space is set aside.
    pub(crate) reserved: bool,
    /// What the header says, or should say, of the table.
    sums: TableSums,
}

impl<D: Disk> ObjectFile<D> {
    /// Makes the file of an object that is not in the index; a leftover of that name is replaced.
    pub(crate) fn create(disk: &D, path: &ObjectPath, header: Header) -> io::Result<Self> {
        let file = match disk.open(path.as_str(), Open::New) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                disk.remove(path.as_str())?;
                disk.open(path.as_str(), Open::New)?
            }
            result => result?,
        };
        disk.set_length(&file, FILE_BYTES)?;
        if header.reserved {
            disk.allocate(&file, 0, FILE_BYTES)?;
        }
        disk.write_at(&file, &[IoSlice::new(&header.encode())], 0)?;
        let sums = sums_of(&[0; TABLE_BYTES]);
        let content = Content { table: Table::new(header.oid), reserved: header.reserved, sums };
        Ok(Self { oid: header.oid, file, content: Mutex::new(content) })
    }

    /// Opens the file of an object that is in the index. `is_redone`: whether changes of a block were begun and perhaps not
    /// finished, but will be made again.
    pub(crate) fn open(
        disk: &D,
        path: &ObjectPath,
        oid: Oid,
        is_redone: &dyn Fn(u32) -> bool,
    ) -> Result<Self, LoadError> {
        let (file, start) = Self::read_start(disk, path)?;
        let header = Header::decode(&array_at::<SECTOR_BYTES>(&start, 0)).ok_or(LoadError::DamagedHeader)?;
        if header.oid != oid {
            return Err(LoadError::OtherObject(header.oid));
        }
        let table = decode_table(&start, oid);
        let sums = sums_of(&array_at(&start, TABLE_OFFSET_BYTES as usize));
        let content = Mutex::new(Content { table, reserved: header.reserved, sums });
        let object = Self { oid, file, content };
        let expected = header.sums.unwrap_or(sums);
        for sector in (0..sums.len()).filter(|sector| expected[*sector] != sums[*sector]) {
            object.doubt(disk, sector, expected[sector], is_redone).map_err(LoadError::Io)?;
        }
        Ok(object)
    }

    /// A sector of the table does not go with the header: one of them was damaged, or written and never arrived; or a crash
    /// came between, and then what they tell of is about to be written again. Entries without data do not say themselves
    /// whether they are the newest. The data does: there is none where there should be none, unless space is set aside.
    fn doubt(
        &self,
        disk: &D,
        sector: usize,
        expected: u32,
        is_redone: &dyn Fn(u32) -> bool,
    ) -> io::Result<()> {
        let first = sector as u32 * ENTRIES_PER_SECTOR;
        let blocks = first..first + ENTRIES_PER_SECTOR;
        let is_after_crash = blocks.clone().any(is_redone);
        let mut content = self.content();
        for block in blocks.filter(|block| !is_redone(*block)) {
            let is_wrong = match (content.reserved, content.table.entry(block)) {
                (true, _) => !is_after_crash,
                (false, Entry::Inherit | Entry::Hole { .. }) => {
                    let mut data = [0; BLOCK_SIZE_BYTES as usize];
                    self.read(disk, block, &mut data)?;
                    data.iter().any(|byte| *byte != 0)
                }
                (false, Entry::Data { .. } | Entry::Lost { .. } | Entry::Damaged) => false,
            };
            if is_wrong {
                content.table.set(block, Entry::Damaged);
            }
        }
        if !is_after_crash {
            // Whoever looks next is to doubt it, too.
            content.sums[sector] = expected;
        }
        Ok(())
    }

    /// Opens a file and reads header and table.
    fn read_start(disk: &D, path: &ObjectPath) -> Result<(Arc<D::File>, Vec<u8>), LoadError> {
        let file = disk.open(path.as_str(), Open::Existing).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => LoadError::Missing,
            _ => LoadError::Io(error),
        })?;
        let mut start = vec![0; DATA_OFFSET_BYTES as usize];
        let found = disk.read_at(&file, &mut start, 0).map_err(LoadError::Io)?;
        if found < start.len() { Err(LoadError::Short) } else { Ok((file, start)) }
    }

    /// Opens the file of an object that the index has since `created` was written to it.
    pub(crate) fn open_indexed(
        disk: &D,
        path: &ObjectPath,
        oid: Oid,
        created: Version,
        is_redone: &dyn Fn(u32) -> bool,
    ) -> Result<Self, LoadError> {
        let object = Self::open(disk, path, oid, is_redone)?;
        let content = object.content();
        // An object may have been put in the index because its space was set aside: no entry tells of that.
        let is_stale = !content.reserved && !content.table.has_damage() && {
            content.table.versions().max().is_none_or(|newest| newest < created)
        };
        drop(content);
        if is_stale { Err(LoadError::Stale { created }) } else { Ok(object) }
    }

    /// Looks at the file of an object that is not in the index.
    ///
    /// # Errors
    /// `NotIndexed` unless it is one that a crash leaves, and what keeps it from being looked at.
    pub(crate) fn check_leftover(
        disk: &D,
        path: &ObjectPath,
        oid: Oid,
        leftover: Leftover,
    ) -> Result<(), LoadError> {
        // Whatever a crash made of the header: what was ever written is in the table.
        let (_, start) = match Self::read_start(disk, path) {
            Err(LoadError::Short | LoadError::Missing) => return Ok(()),
            read => read?,
        };
        let table = decode_table(&start, oid);
        let is_explained = !table.has_damage() && leftover.explains(table.versions());
        if is_explained { Ok(()) } else { Err(LoadError::NotIndexed) }
    }

    /// What it holds now.
    pub(crate) fn content(&self) -> MutexGuard<'_, Content> {
        lock(&self.content)
    }

    /// Reads whole blocks, unverified, into `buffer`. What lies beyond the end of the file is zeroes.
    pub(crate) fn read(&self, disk: &D, first_block: u32, buffer: &mut [u8]) -> io::Result<()> {
        read_file(disk, &self.file, first_block, buffer)
    }

    /// The same, if they can be had without waiting and the file does not end before.
    pub(crate) fn read_at_hand(&self, disk: &D, first_block: u32, buffer: &mut [u8]) -> bool {
        disk.read_at_hand(&self.file, buffer, data_offset(first_block))
    }

    /// The file.
    pub(crate) fn file(&self) -> &Arc<D::File> {
        &self.file
    }

    /// Sets aside the space of the whole file. Its header does not say so yet.
    pub(crate) fn reserve(&self, disk: &D) -> io::Result<()> {
        disk.allocate(&self.file, 0, FILE_BYTES)
    }

    /// Writes the data of `changes` (in order of their blocks, each block once), which are in `log`. Holes give up their
    /// space unless the whole file's is `reserved`. Nothing is on stable storage.
    pub(crate) fn write_data(
        &self,
        disk: &D,
        log: &LogFiles<D::File>,
        changes: &[(u32, Change)],
        reserved: bool,
    ) -> io::Result<()> {
        for run in changes.chunk_by(|(a, x), (b, y)| a + 1 == *b && is_data(x) == is_data(y)) {
            let Some((first_block, first)) = run.first() else { continue };
            if is_data(first) {
                disk.copy(&extents(run, log)?, &self.file, data_offset(*first_block))?;
            } else if !reserved {
                let length = run.len() as u64 * u64::from(BLOCK_SIZE_BYTES);
                disk.punch_hole(&self.file, data_offset(*first_block), length)?;
            }
        }
        Ok(())
    }

    /// What holds no data after `changes` gives up the space that was set aside for it. Nothing is on stable storage.
    pub(crate) fn give_back(&self, disk: &D, changes: &[(u32, Change)]) -> io::Result<()> {
        let table = self.table_after(changes);
        let is_hole = |block: &u32| matches!(table.entry(*block), Entry::Hole { .. } | Entry::Inherit);
        let holes: Vec<u32> = (0..BLOCKS_PER_OBJECT).filter(is_hole).collect();
        for run in holes.chunk_by(|a, b| a + 1 == *b) {
            let Some(first_block) = run.first() else { continue };
            let length = run.len() as u64 * u64::from(BLOCK_SIZE_BYTES);
            disk.punch_hole(&self.file, data_offset(*first_block), length)?;
        }
        Ok(())
    }

    /// Writes the table as it is after `changes`, and the header that goes with it. Nothing is on stable storage, nor seen in
    /// [`ObjectFile::content`].
    pub(crate) fn write_table(&self, disk: &D, changes: &[(u32, Change)], reserved: bool) -> io::Result<()> {
        let mut sums = self.content().sums;
        for run in changes.chunk_by(|(a, _), (b, _)| sector_of(*b) - sector_of(*a) <= 1 + MAX_TABLE_GAP) {
            self.write_entries(disk, run, &mut sums)?;
        }
        let header = Header { oid: self.oid, reserved, sums: Some(sums) };
        disk.write_at(&self.file, &[IoSlice::new(&header.encode())], 0)
    }

    /// Writes the sectors of the table from the first to the last block of `run`, all of each: what a write that never arrived
    /// left out is made good. Their sums go into `sums`.
    fn write_entries(&self, disk: &D, run: &[(u32, Change)], sums: &mut TableSums) -> io::Result<()> {
        let (Some((first, _)), Some((last, _))) = (run.first(), run.last()) else { return Ok(()) };
        let first = first - first % ENTRIES_PER_SECTOR;
        let end = (last + 1).next_multiple_of(ENTRIES_PER_SECTOR);
        let mut bytes = self.content().table.bytes(first..end).to_vec();
        for (block, change) in run {
            let entry = change.entry().encode(self.oid, *block);
            put(&mut bytes, (block - first) as usize * ENTRY_BYTES, &entry);
        }
        put_sums(sums, sector_of(first) as usize, &bytes);
        disk.write_at(&self.file, &[IoSlice::new(&bytes)], entry_offset(first))
    }

    /// Puts all that was written on stable storage.
    pub(crate) fn sync(&self, disk: &D) -> io::Result<()> {
        disk.sync_data(&self.file)
    }

    /// Makes `changes` that were written and synced, seen.
    pub(crate) fn publish(&self, changes: &[(u32, Change)], reserved: bool) {
        let Content { table, reserved: is_reserved, sums } = &mut *self.content();
        *is_reserved = reserved;
        for sector in changes.chunk_by(|(a, _), (b, _)| sector_of(*a) == sector_of(*b)) {
            sector.iter().for_each(|(block, change)| table.set(*block, change.entry()));
            let Some(number) = sector.first().map(|(block, _)| sector_of(*block)) else { continue };
            let first = number * ENTRIES_PER_SECTOR;
            put_sums(sums, number as usize, table.bytes(first..first + ENTRIES_PER_SECTOR));
        }
    }

    /// The table as it would be after `changes`.
    pub(crate) fn table_after(&self, changes: &[(u32, Change)]) -> Table {
        let mut table = self.content().table.clone();
        changes.iter().for_each(|(block, change)| table.set(*block, change.entry()));
        table
    }
}

/// As [`ObjectFile::read`], for those who have the file only.
pub(crate) fn read_file<D: Disk>(
    disk: &D,
    file: &D::File,
    first_block: u32,
    buffer: &mut [u8],
) -> io::Result<()> {
    let found = disk.read_at(file, buffer, data_offset(first_block))?;
    buffer[found..].fill(0);
    Ok(())
}

/// Which sector of the table has a block's entry.
fn sector_of(block: u32) -> u32 {
    block / ENTRIES_PER_SECTOR
}

/// Where a block's table entry is in the file, in bytes.
pub(crate) fn entry_offset(block: u32) -> u64 {
    TABLE_OFFSET_BYTES + u64::from(block) * ENTRY_BYTES as u64
}

/// Where a block's data is in the file, in bytes.
pub(crate) fn data_offset(block: u32) -> u64 {
    debug_assert!(block < BLOCKS_PER_OBJECT, "blocks are within the object");
    DATA_OFFSET_BYTES + u64::from(block) * u64::from(BLOCK_SIZE_BYTES)
}

/// The table, from the bytes before the data.
fn decode_table(start: &[u8], oid: Oid) -> Table {
    Table::decode(&start[TABLE_OFFSET_BYTES as usize..][..TABLE_BYTES], oid)
}

fn is_data(change: &Change) -> bool {
    matches!(change, Change::Data { .. })
}

/// Where the data of `run` is. What lies together in the log is one part.
fn extents<F>(run: &[(u32, Change)], log: &LogFiles<F>) -> io::Result<Vec<Extent<F>>> {
    let places = run.iter().filter_map(|(_, change)| match change {
        Change::Data { at, .. } => Some(at.0),
        Change::Hole { .. } | Change::Lost { .. } | Change::Never => None,
    });
    let places: Vec<u64> = places.collect();
    let together = places.chunk_by(|a, b| a + u64::from(BLOCK_SIZE_BYTES) == *b);
    let extent = |places: &[u64]| {
        let (file, offset) = log.find(Lsn(places[0])).ok_or(io::ErrorKind::NotFound)?;
        Ok(Extent { file: Arc::clone(file), offset, length: places.len() * BLOCK_SIZE_BYTES as usize })
    };
    together.map(extent).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{FileDisk, MappableFile};

    const VERSION: Version = Version { pepoch: 1, seq: 9 };

    fn oid() -> Oid {
        Oid::from_value(0x0000_0001_0000_0002).unwrap()
    }

    /// A log of blocks, each of one byte: its number.
    fn log(disk: &FileDisk) -> LogFiles<MappableFile> {
        let file = disk.open("log", Open::New).unwrap();
        let blocks: Vec<u8> = (0..8).flat_map(|byte| [byte; BLOCK_SIZE_BYTES as usize]).collect();
        let log = LogFiles::of_one(file);
        let (file, offset) = log.find(Lsn(0)).unwrap();
        disk.write_at(file, &[IoSlice::new(&blocks)], offset).unwrap();
        log
    }

    fn written(block: u32, byte: u8) -> (u32, Change) {
        let crc = crc32c::crc32c(&[byte; BLOCK_SIZE_BYTES as usize]);
        let at = Lsn(u64::from(byte) * u64::from(BLOCK_SIZE_BYTES));
        (block, Change::Data { at, crc, version: VERSION })
    }

    #[test]
    fn what_was_written_is_found_when_opened_again() {
        let directory = tempfile::tempdir().unwrap();
        let disk = FileDisk::new(directory.path()).unwrap();
        let path = ObjectPath::new("", oid());
        let object =
            ObjectFile::create(&disk, &path, Header { oid: oid(), reserved: false, sums: None }).unwrap();
        let mut changes = vec![written(0, 1), written(1, 2), written(40, 3)];
        changes.extend([(41, Change::Hole { version: VERSION }), written(1023, 4)]);
        object.write_data(&disk, &log(&disk), &changes, false).unwrap();
        object.write_table(&disk, &changes, false).unwrap();
        assert_eq!(object.content().table.entry(0), Entry::Inherit, "not published yet");
        object.publish(&changes, false);
        object.sync(&disk).unwrap();

        let again = ObjectFile::open(&disk, &path, oid(), &|_| false).unwrap();
        assert_eq!(again.content().sums, object.content().sums);
        for block in 0..BLOCKS_PER_OBJECT {
            assert_eq!(again.content().table.entry(block), object.content().table.entry(block));
        }
        let mut block = vec![0; 8192];
        again.read(&disk, 0, &mut block).unwrap();
        assert_eq!((block[4095], block[4096]), (1, 2));
        again.reserve(&disk).unwrap();
        again.write_table(&disk, &[], true).unwrap();
        assert!(ObjectFile::open(&disk, &path, oid(), &|_| false).unwrap().content().reserved);
        let other = Oid::from_value(0x0000_0001_0000_0003).unwrap();
        assert!(matches!(ObjectFile::open(&disk, &path, other, &|_| false), Err(LoadError::OtherObject(_))));
    }

    #[test]
    fn a_leftover_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let disk = FileDisk::new(directory.path()).unwrap();
        let path = ObjectPath::new("", oid());
        let header = Header { oid: oid(), reserved: false, sums: None };
        let old = ObjectFile::create(&disk, &path, header).unwrap();
        old.write_data(&disk, &log(&disk), &[written(0, 1)], false).unwrap();
        old.write_table(&disk, &[written(0, 1)], false).unwrap();
        let new = ObjectFile::create(&disk, &path, header).unwrap();
        let mut block = vec![9; 4096];
        new.read(&disk, 0, &mut block).unwrap();
        assert_eq!(block, [0; 4096]);
        assert!(ObjectFile::open(&disk, &path, oid(), &|_| false).unwrap().content().table.is_empty());
    }
}
