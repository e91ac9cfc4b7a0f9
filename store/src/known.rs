//! The file `partitions`: which partitions have an index, so that one that is gone is not taken for one that never was.
//!
//! It is changed after a partition's first index is on stable storage, and before the log that could make the index again
//! is released. Two equal copies make good for a sector that is destroyed (`store/FORMAT.md`, "partitions").

use std::collections::BTreeSet;
use std::io::{self, IoSlice};
use std::sync::Arc;

use huntaway_wire::{Epoch, PARTITIONS, Partition};

use crate::disk::{Disk, Open};
use crate::error::DiskError;
use crate::layout::{SECTOR_BYTES, Sector, array_at, is_sealed, put, seal, u16_at, u32_at, u64_at};
use crate::superblock::DiskId;

/// The file's name.
pub(crate) const PATH: &str = "partitions";

const MAGIC: [u8; 8] = *b"HNTWPART";

const FORMAT: u32 = 1;

/// Partitions in one sector.
const ENTRIES_PER_SECTOR: usize = 32;

/// Where the first entry is in a sector, in bytes.
const ENTRIES_OFFSET: usize = 32;

/// Sectors of one copy.
const SECTORS: usize = PARTITIONS as usize / ENTRIES_PER_SECTOR;

/// Size of one copy, in bytes.
const COPY_BYTES: u64 = (SECTORS * SECTOR_BYTES) as u64;

/// What stands for no partition in an entry.
const NONE: Epoch = Epoch(0);

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KnownError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("both copies are damaged at byte {offset_bytes} of each")]
    Damaged { offset_bytes: u64 },
}

/// The partitions that have an index, and the open file that says so.
pub(crate) struct KnownPartitions<D: Disk> {
    file: Arc<D::File>,
    disk_id: DiskId,
    /// By partition, in which epoch its directory was made.
    epochs: Box<[Epoch]>,
    /// Sectors that differ from the file.
    changed: BTreeSet<usize>,
}

impl<D: Disk> KnownPartitions<D> {
    /// Makes the file of a store that has no partitions yet. Its name is not synced then.
    pub(crate) fn create(disk: &D, disk_id: DiskId) -> io::Result<Self> {
        match disk.remove(PATH) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = disk.open(PATH, Open::New)?;
        disk.allocate(&file, 0, 2 * COPY_BYTES)?;
        disk.sync_data(&file)?;
        Ok(Self { file, disk_id, epochs: vec![NONE; PARTITIONS.into()].into(), changed: BTreeSet::new() })
    }

    /// Reads the file.
    pub(crate) fn load(disk: &D, disk_id: DiskId) -> Result<Self, KnownError> {
        let file = disk.open(PATH, Open::Existing)?;
        let mut epochs = Vec::with_capacity(PARTITIONS.into());
        for sector in 0..SECTORS {
            let offset_bytes = (sector * SECTOR_BYTES) as u64;
            let mut copies = [[0; SECTOR_BYTES]; 2];
            for (number, copy) in (0..).zip(&mut copies) {
                if disk.read_at(&file, copy, offset_bytes + number * COPY_BYTES)? < SECTOR_BYTES {
                    // A file that was cut is not one in which nothing was ever written.
                    *copy = [0xff; SECTOR_BYTES];
                }
            }
            epochs.extend(merge(&copies, sector, disk_id).ok_or(KnownError::Damaged { offset_bytes })?);
        }
        Ok(Self { file, disk_id, epochs: epochs.into(), changed: BTreeSet::new() })
    }

    /// In which epoch the partition's directory was made, if it has an index.
    pub(crate) fn epoch(&self, partition: Partition) -> Option<Epoch> {
        self.epochs.get(partition.index()).copied().filter(|epoch| *epoch != NONE)
    }

    /// The partitions that have an index, and in which epochs they got their directories.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Partition, Epoch)> {
        (0..PARTITIONS).filter_map(|number| {
            let partition = Partition::new(number).ok()?;
            Some((partition, self.epoch(partition)?))
        })
    }

    /// The partition has an index. To be saved.
    pub(crate) fn add(&mut self, partition: Partition, epoch: Epoch) {
        if self.epoch(partition) != Some(epoch) {
            self.renew(partition, epoch);
        }
    }

    /// As [`KnownPartitions::add`], where the file may say so, but perhaps not on stable storage.
    pub(crate) fn renew(&mut self, partition: Partition, epoch: Epoch) {
        self.epochs[partition.index()] = epoch;
        self.changed.insert(partition.index() / ENTRIES_PER_SECTOR);
    }

    /// Puts what was added on stable storage. Its space is set aside, but not every file system keeps to that.
    pub(crate) fn save(&mut self, disk: &D) -> Result<(), DiskError> {
        if self.changed.is_empty() {
            return Ok(());
        }
        for &sector in &self.changed {
            let bytes = encode(&self.epochs, sector, self.disk_id);
            for copy in 0..2 {
                let offset = copy * COPY_BYTES + (sector * SECTOR_BYTES) as u64;
                disk.write_at(&self.file, &[IoSlice::new(&bytes)], offset)
                    .map_err(DiskError::new("write", PATH))?;
            }
        }
        disk.sync_data(&self.file).map_err(DiskError::new("sync", PATH))?;
        self.changed.clear();
        Ok(())
    }
}

fn encode(epochs: &[Epoch], sector: usize, disk_id: DiskId) -> Sector {
    let first = sector * ENTRIES_PER_SECTOR;
    let mut bytes = [0; SECTOR_BYTES];
    put(&mut bytes, 0, &MAGIC);
    put(&mut bytes, 8, &FORMAT.to_le_bytes());
    put(&mut bytes, 12, &(first as u16).to_le_bytes());
    put(&mut bytes, 16, &disk_id.0);
    for (entry, epoch) in epochs.iter().skip(first).take(ENTRIES_PER_SECTOR).enumerate() {
        put(&mut bytes, ENTRIES_OFFSET + entry * 8, &epoch.0.to_le_bytes());
    }
    seal(&mut bytes);
    bytes
}

/// What the two copies of a sector say: a crash may have left one behind the other. `None` when both are destroyed.
fn merge(copies: &[Sector; 2], sector: usize, disk_id: DiskId) -> Option<[Epoch; ENTRIES_PER_SECTOR]> {
    let first = (sector * ENTRIES_PER_SECTOR) as u16;
    let decode = |bytes: &Sector| {
        let is_ours = bytes[..8] == MAGIC && u32_at(bytes, 8) == FORMAT && u16_at(bytes, 12) == first;
        (is_ours && is_sealed(bytes) && array_at(bytes, 16) == disk_id.0)
            .then(|| std::array::from_fn(|entry| Epoch(u64_at(bytes, ENTRIES_OFFSET + entry * 8))))
    };
    let is_blank = |bytes: &Sector| *bytes == [0; SECTOR_BYTES];
    match (copies.each_ref().map(decode), copies.each_ref().map(is_blank)) {
        ([Some(one), Some(other)], _) => Some(std::array::from_fn(|entry| one[entry].max(other[entry]))),
        ([Some(one), None], _) | ([None, Some(one)], _) => Some(one),
        ([None, None], [true, true]) => Some([NONE; ENTRIES_PER_SECTOR]),
        ([None, None], _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::FileDisk;

    const DISK: DiskId = DiskId([3; 16]);

    fn partition(number: u16) -> Partition {
        Partition::new(number).unwrap()
    }

    fn all(disk: &FileDisk) -> Option<Vec<(u16, u64)>> {
        let known = KnownPartitions::load(disk, DISK).ok()?;
        Some(known.all().map(|(partition, epoch)| (partition.index() as u16, epoch.0)).collect())
    }

    #[test]
    fn the_bytes_never_change() {
        let mut epochs = vec![NONE; PARTITIONS.into()];
        epochs[65] = Epoch(0x0102);
        let sector = encode(&epochs, 2, DISK);
        let mut expected = b"HNTWPART\x01\0\0\0\x40\0\0\0".to_vec();
        expected.extend([3; 16]);
        expected.extend([0; 8]);
        expected.extend([2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(sector[..48], expected);
        assert!(sector[48..508].iter().all(|byte| *byte == 0) && is_sealed(&sector));
        assert_eq!(sector[508..], [158, 179, 14, 251]);
    }

    #[test]
    fn what_was_saved_is_found_again_even_if_one_copy_is_destroyed() {
        let directory = tempfile::tempdir().unwrap();
        let disk = FileDisk::new(directory.path()).unwrap();
        let mut known = KnownPartitions::create(&disk, DISK).unwrap();
        assert_eq!(all(&disk), Some(vec![]));
        known.add(partition(0), Epoch(1));
        known.add(partition(4095), Epoch(7));
        assert_eq!(all(&disk), Some(vec![]), "not before it is saved");
        known.save(&disk).unwrap();
        let expected = Some(vec![(0, 1), (4095, 7)]);
        assert_eq!(all(&disk), expected);
        assert!(KnownPartitions::load(&disk, DiskId([4; 16])).is_err(), "another disk's");

        let file = disk.open(PATH, Open::Existing).unwrap();
        disk.write_at(&file, &[IoSlice::new(b"x")], 40).unwrap();
        assert_eq!(all(&disk), expected);
        disk.write_at(&file, &[IoSlice::new(b"x")], COPY_BYTES + 40).unwrap();
        assert_eq!(all(&disk), None);
        disk.set_length(&file, 100).unwrap();
        assert_eq!(all(&disk), None);
    }
}
