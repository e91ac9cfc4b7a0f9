//! The file of an index: reading it, appending a batch, writing it anew when too much of it is out of date.

use std::io::{self, IoSlice};

use huntaway_wire::Epoch;

use super::sector::{BatchSector, ITEMS_PER_SECTOR, Item, encode_header, is_header};
use super::{IndexError, IndexPlace};
use crate::disk::{Disk, Open};
use crate::error::is_out_of_files;
use crate::layout::{SECTOR_BYTES, Sector, array_at};

/// Files of fewer sectors than this are not worth writing anew (32 KiB). The simulation, whose partitions have few objects,
/// is to see it happen.
const MIN_COMPACTED_SECTORS: u64 = if cfg!(feature = "planted-bugs") { 4 } else { 64 };

/// How the names of those begin that could not be used. The store's incarnation follows: none takes the place of another.
pub(crate) const SET_ASIDE: &str = "index.damaged.";

/// Longest file that can be one of ours: more than 60 million objects in one partition (1 GiB).
const MAX_FILE_BYTES: u64 = 1 << 30;

/// The file is written anew when that would make it this many times smaller.
const MAX_WASTE: u64 = if cfg!(feature = "planted-bugs") { 2 } else { 4 };

/// The file of an index and where its next batch goes.
#[derive(Debug)]
pub(crate) struct IndexLog {
    place: IndexPlace,
    /// The file's name, relative to the disk's directory.
    path: String,
    exists: bool,
    /// Something lies behind the last whole batch.
    torn: bool,
    /// The file was put in the place of another, and after a crash it may be that one again: both say the same.
    name_is_unsynced: bool,
    next_batch: u64,
    next_sector: u64,
    /// What the file was found to hold, if that may not be on stable storage.
    content: Vec<u8>,
}

/// The file's name.
fn path_in(directory: &str) -> String {
    format!("{directory}/index")
}

/// Gives an index that cannot be used, if it is there, a name under which nobody looks for it but people. Whoever syncs the name
/// of the next one has synced that, too.
pub(crate) fn set_aside<D: Disk>(disk: &D, directory: &str, incarnation: u64) -> io::Result<()> {
    match disk.rename(&path_in(directory), &format!("{directory}/{SET_ASIDE}{incarnation}")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        renamed => renamed,
    }
}

impl IndexLog {
    /// Reads the file; no file is an empty index. Returns the items in the order they were appended.
    pub(super) fn load<D: Disk>(disk: &D, place: IndexPlace) -> Result<(Self, Vec<Item>), IndexError> {
        let path = path_in(&place.directory);
        let mut log = Self {
            place,
            path,
            exists: false,
            torn: false,
            name_is_unsynced: false,
            next_batch: 1,
            next_sector: 1,
            content: Vec::new(),
        };
        let file = match disk.open(&log.path, Open::Existing) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((log, Vec::new())),
            Err(error) => return Err(error.into()),
        };
        let length = disk.length(&file)?;
        if length > MAX_FILE_BYTES {
            return Err(IndexError::Damaged { offset_bytes: MAX_FILE_BYTES });
        }
        let mut bytes = vec![0; length as usize];
        let found = disk.read_at(&file, &mut bytes, 0)?;
        let sectors = bytes[..found].as_chunks::<SECTOR_BYTES>().0;
        if !sectors.first().is_some_and(|sector| is_header(sector, log.place.partition)) {
            return Err(IndexError::DamagedHeader);
        }
        log.exists = true;
        let mut items = Vec::new();
        while let Some(batch) = log.next_whole_batch(sectors) {
            log.next_sector += batch.len() as u64;
            log.next_batch += 1;
            items.extend(batch.into_iter().flat_map(|sector| sector.items));
        }
        let rest = sectors.get(log.next_sector as usize..).unwrap_or_default();
        let is_later = |sector: BatchSector| sector.batch > log.next_batch;
        if rest.iter().any(|sector| BatchSector::decode(sector, log.place.partition).is_some_and(is_later)) {
            return Err(IndexError::Damaged { offset_bytes: log.next_sector * SECTOR_BYTES as u64 });
        }
        let end = log.next_sector as usize * SECTOR_BYTES;
        log.torn = bytes.len() != end;
        bytes.truncate(end);
        log.content = bytes;
        Ok((log, items))
    }

    /// In which epoch the partition's directory was made.
    pub(crate) fn epoch(&self) -> Epoch {
        self.place.epoch
    }

    /// Whether there is a file.
    pub(crate) fn exists(&self) -> bool {
        self.exists
    }

    /// Where the last whole batch ends in bytes, if the file does not end there.
    pub(super) fn torn_at(&self) -> Option<u64> {
        self.torn.then_some(self.next_sector * SECTOR_BYTES as u64)
    }

    /// Makes a missing file, and cuts off what lies behind the last whole batch.
    pub(super) fn mend<D: Disk>(&mut self, disk: &D) -> io::Result<()> {
        if !self.exists {
            self.create(disk)?;
        }
        if self.torn {
            let file = disk.open(&self.path, Open::Existing)?;
            disk.set_length(&file, self.next_sector * SECTOR_BYTES as u64)?;
            disk.sync_data(&file)?;
            self.torn = false;
        }
        Ok(())
    }

    /// The batch at `next_sector`, if all of it is there.
    fn next_whole_batch(&self, sectors: &[Sector]) -> Option<Vec<BatchSector>> {
        let rest = sectors.get(self.next_sector as usize..)?;
        let first = BatchSector::decode(rest.first()?, self.place.partition)?;
        let expected = |found: &BatchSector, number: usize| {
            (found.batch, found.number as usize, found.sectors) == (self.next_batch, number, first.sectors)
        };
        let batch = rest.get(..first.sectors as usize)?;
        batch
            .iter()
            .enumerate()
            .map(|(number, sector)| {
                BatchSector::decode(sector, self.place.partition).filter(|found| expected(found, number))
            })
            .collect::<Option<Vec<_>>>()
            .filter(|batch| !batch.is_empty())
    }

    /// What was read is on stable storage, because nothing that the log says came after it.
    pub(super) fn forget_content(&mut self) {
        self.content = Vec::new();
    }

    /// Puts what was read on stable storage, before anything is appended. It is written again: after a sync that failed,
    /// another one does nothing.
    pub(crate) fn make_sure<D: Disk>(&mut self, disk: &D) -> io::Result<()> {
        let file = disk.open(&self.path, Open::Existing)?;
        disk.write_at(&file, &[IoSlice::new(&self.content)], 0)?;
        disk.sync_data(&file).map_err(io::Error::other)?;
        self.content = Vec::new();
        Ok(())
    }

    /// Puts the names in the directory on stable storage: before objects are put in the index. The index's own, if it
    /// has to be made, is one of them. Errors as in [`IndexLog::append`].
    pub(crate) fn sync_names<D: Disk>(&mut self, disk: &D) -> io::Result<()> {
        if !self.exists {
            self.write_new(disk, &[])?;
            self.exists = true;
        }
        self.name_is_unsynced = true;
        self.sync_name(disk)
    }

    /// Appends `items` as one batch and puts it on stable storage. An error means that the file's content is not known
    /// any more: the disk must be stopped, except for `StorageFull` and shortages, after which the same may be tried
    /// again.
    pub(crate) fn append<D: Disk>(&mut self, disk: &D, items: &[Item]) -> io::Result<()> {
        if !self.exists {
            self.create(disk)?;
        }
        self.sync_name(disk)?;
        let bytes = self.batch(self.next_batch, items);
        let file = disk.open(&self.path, Open::Existing)?;
        let end = self.next_sector * SECTOR_BYTES as u64;
        if let Err(error) = disk.write_at(&file, &[IoSlice::new(&bytes)], end) {
            // Half a batch must not be found by a later start that knows of no crash.
            disk.set_length(&file, end).and_then(|()| disk.sync_data(&file)).map_err(io::Error::other)?;
            return Err(error);
        }
        // A sync that failed for want of room has failed like any other.
        disk.sync_data(&file).map_err(io::Error::other)?;
        self.next_batch += 1;
        self.next_sector += (bytes.len() / SECTOR_BYTES) as u64;
        Ok(())
    }

    /// Whether writing it anew, with `live` items, is worth it.
    pub(crate) fn is_wasteful(&self, live: usize) -> bool {
        let needed = 1 + live.div_ceil(ITEMS_PER_SECTOR) as u64;
        self.next_sector >= MIN_COMPACTED_SECTORS.max(needed * MAX_WASTE)
    }

    /// Writes the file anew with `items` only: all that it has to say. Errors as in [`IndexLog::append`].
    pub(crate) fn compact<D: Disk>(&mut self, disk: &D, items: &[Item]) -> io::Result<()> {
        let bytes = self.batch(1, items);
        self.write_new(disk, &bytes)?;
        self.next_batch = 2;
        self.next_sector = 1 + (bytes.len() / SECTOR_BYTES) as u64;
        self.sync_name(disk)
    }

    fn create<D: Disk>(&mut self, disk: &D) -> io::Result<()> {
        self.write_new(disk, &[])?;
        self.exists = true;
        self.sync_name(disk)
    }

    /// Replaces the file by one of a header and `batch`, whole or not at all. Its name is not synced then.
    fn write_new<D: Disk>(&mut self, disk: &D, batch: &[u8]) -> io::Result<()> {
        let new_path = format!("{}.new", self.path);
        match disk.remove(&new_path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = disk.open(&new_path, Open::New)?;
        let header = encode_header(self.place.partition, self.place.epoch);
        disk.write_at(&file, &[IoSlice::new(&header), IoSlice::new(batch)], 0)?;
        disk.sync_data(&file).map_err(io::Error::other)?;
        disk.rename(&new_path, &self.path)?;
        self.name_is_unsynced = true;
        Ok(())
    }

    /// Makes sure that the file is found under its name. Without a file descriptor nothing was tried, and it may be
    /// tried again.
    fn sync_name<D: Disk>(&mut self, disk: &D) -> io::Result<()> {
        if self.name_is_unsynced {
            disk.sync_dir(&self.place.directory).map_err(|error| match is_out_of_files(&error) {
                true => error,
                false => io::Error::other(error),
            })?;
            self.name_is_unsynced = false;
        }
        Ok(())
    }

    /// The bytes of a batch of `items`; at least one sector.
    fn batch(&self, batch: u64, items: &[Item]) -> Vec<u8> {
        let sectors = items.len().div_ceil(ITEMS_PER_SECTOR).max(1);
        let mut bytes = Vec::with_capacity(sectors * SECTOR_BYTES);
        for number in 0..sectors {
            let items: Vec<_> =
                items.iter().skip(number * ITEMS_PER_SECTOR).take(ITEMS_PER_SECTOR).copied().collect();
            let sector = BatchSector { batch, number: number as u32, sectors: sectors as u32, items };
            bytes.extend_from_slice(&sector.encode(self.place.partition));
        }
        debug_assert_eq!(array_at::<8>(&bytes, 0), batch.to_le_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use huntaway_wire::{Epoch, Oid, Partition, Version};

    use super::super::{Index, Loading, State};
    use super::*;
    use crate::disk::FileDisk;

    fn place() -> IndexPlace {
        IndexPlace {
            partition: Partition::new(5).unwrap(),
            epoch: Epoch(1),
            directory: "p".into(),
            must_exist: false,
        }
    }

    fn item(index: u64, state: State) -> Item {
        let oid = Oid::from_value(1 << 32 | index).unwrap();
        Item { oid, version: Version { pepoch: 1, seq: 1 + index as u32 }, state }
    }

    fn present(range: std::ops::Range<u64>) -> Vec<Item> {
        range.map(|index| item(index, State::Present)).collect()
    }

    fn disk() -> (tempfile::TempDir, FileDisk) {
        let directory = tempfile::tempdir().unwrap();
        let disk = FileDisk::new(directory.path()).unwrap();
        disk.create_dir("p").unwrap();
        (directory, disk)
    }

    fn all(_: Oid) -> Option<Version> {
        Some(Version { pepoch: 1, seq: 1 })
    }

    fn objects(disk: &FileDisk) -> Result<Vec<Item>, IndexError> {
        Ok(Index::load(disk, place(), &Loading::AfterCrash(&all))?.items().collect())
    }

    #[test]
    fn what_was_appended_is_found_again_without_what_was_removed() {
        let (_directory, disk) = disk();
        assert!(objects(&disk).unwrap().is_empty());
        let (mut log, _) = IndexLog::load(&disk, place()).unwrap();
        log.append(&disk, &present(0..70)).unwrap();
        log.append(&disk, &[item(3, State::Removed)]).unwrap();
        let expected: Vec<_> =
            present(0..70).into_iter().filter(|found| *found != item(3, State::Present)).collect();
        assert_eq!(objects(&disk).unwrap(), expected);
        log.compact(&disk, &expected).unwrap();
        log.append(&disk, &present(100..101)).unwrap();
        assert_eq!(objects(&disk).unwrap(), [expected, present(100..101)].concat());
    }

    #[test]
    fn a_torn_last_batch_is_left_out_and_overwritten() {
        let (_directory, disk) = disk();
        let (mut log, _) = IndexLog::load(&disk, place()).unwrap();
        log.append(&disk, &present(0..10)).unwrap();
        log.append(&disk, &present(10..100)).unwrap();
        let file = disk.open("p/index", Open::Existing).unwrap();
        disk.write_at(&file, &[IoSlice::new(&[0; 512])], 3 * 512).unwrap();
        assert!(matches!(
            Index::load(&disk, place(), &Loading::Quiet),
            Err(IndexError::Damaged { offset_bytes: 1024 })
        ));
        assert_eq!(objects(&disk).unwrap(), present(0..10));
        let (mut log, _) = IndexLog::load(&disk, place()).unwrap();
        log.append(&disk, &present(10..20)).unwrap();
        assert_eq!(objects(&disk).unwrap(), present(0..20));
        log.append(&disk, &present(20..30)).unwrap();
        assert_eq!(objects(&disk).unwrap(), present(0..30));
    }

    #[test]
    fn a_bad_batch_before_a_good_one_is_damage() {
        let (_directory, disk) = disk();
        let (mut log, _) = IndexLog::load(&disk, place()).unwrap();
        log.append(&disk, &present(0..10)).unwrap();
        log.append(&disk, &present(10..20)).unwrap();
        let file = disk.open("p/index", Open::Existing).unwrap();
        disk.write_at(&file, &[IoSlice::new(&[0xff])], 600).unwrap();
        assert!(matches!(objects(&disk), Err(IndexError::Damaged { offset_bytes: 512 })));
        disk.write_at(&file, &[IoSlice::new(&[0xff])], 0).unwrap();
        assert!(matches!(objects(&disk), Err(IndexError::DamagedHeader)));
    }

    #[test]
    fn a_missing_index_is_damage_unless_the_log_explains_it() {
        let (_directory, disk) = disk();
        drop(disk.open("p/0000000100000000", Open::New).unwrap());
        assert!(matches!(Index::load(&disk, place(), &Loading::Quiet), Err(IndexError::Missing)));
        let none = |_| None;
        assert!(matches!(Index::load(&disk, place(), &Loading::AfterCrash(&none)), Err(IndexError::Missing)));
        assert!(objects(&disk).unwrap().is_empty());
        assert_eq!(Index::load(&disk, place(), &Loading::Quiet).unwrap().len(), 0);
    }

    #[test]
    fn a_missing_index_is_made_anew_if_the_log_may_have_explained_it() {
        let (_directory, disk) = disk();
        drop(disk.open("p/0000000100000000", Open::New).unwrap());
        let none = |_| None;
        let known = IndexPlace { must_exist: true, ..place() };
        assert!(matches!(Index::load(&disk, known, &Loading::AfterDamage(&none)), Err(IndexError::Missing)));
        let index = Index::load(&disk, place(), &Loading::AfterDamage(&none)).unwrap();
        assert!(index.leftover(item(0, State::Present).oid).is_some());
        assert_eq!(Index::load(&disk, place(), &Loading::Quiet).unwrap().len(), 0);
    }

    #[test]
    fn a_missing_index_that_was_there_is_damage_whatever_the_log_explains() {
        let (_directory, disk) = disk();
        let known = IndexPlace { must_exist: true, ..place() };
        assert!(matches!(
            Index::load(&disk, known.clone(), &Loading::AfterCrash(&all)),
            Err(IndexError::Missing)
        ));
        assert!(matches!(Index::load(&disk, known, &Loading::Quiet), Err(IndexError::Missing)));
    }

    #[test]
    fn a_file_of_many_small_batches_is_wasteful() {
        let (_directory, disk) = disk();
        let (mut log, _) = IndexLog::load(&disk, place()).unwrap();
        for index in 1..MIN_COMPACTED_SECTORS {
            assert!(!log.is_wasteful(1));
            log.append(&disk, &present(index..index + 1)).unwrap();
        }
        let batches = MIN_COMPACTED_SECTORS as usize - 1;
        assert!(log.is_wasteful(batches) && !log.is_wasteful(batches * ITEMS_PER_SECTOR));
    }
}
