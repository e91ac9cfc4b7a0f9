//! The file `superblock`: whose directory this is, and which pepochs it has served.
//!
//! Two slots are written one after the other, so that one of them is always whole, and each stands for the other
//! (`store/FORMAT.md`, "superblock").

use std::fmt;
use std::io::{self, IoSlice};

use huntaway_wire::{NodeId, Pepoch};

use crate::disk::{Disk, Open};
use crate::layout::{SECTOR_BYTES, Sector, array_at, is_sealed, put, seal, u32_at, u64_at};

/// The file's name.
pub(crate) const PATH: &str = "superblock";

/// The name under which a new one is made.
const NEW_PATH: &str = "superblock.new";

/// What it begins with.
const MAGIC: [u8; 8] = *b"HNTWDISK";

/// The layout of everything in the directory.
pub(crate) const FORMAT: u32 = 1;

/// Distance of the two slots, in bytes.
const SLOT_BYTES: u64 = 4096;

/// Names a cluster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub [u8; 16]);

/// Names a disk: one directory of a store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiskId(pub [u8; 16]);

/// Names one boot of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootId(pub [u8; 16]);

macro_rules! shown_like_a_uuid {
    ($($id:ident),*) => {$(
        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                NodeId(self.0).fmt(f)
            }
        }

        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($id), "({})"), self)
            }
        }
    )*};
}

shown_like_a_uuid!(ClusterId, DiskId, BootId);

/// Whose directory this is, and how far it got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Superblock {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// This directory.
    pub disk: DiskId,
    /// The kernel's boot in which it was last opened.
    pub boot: BootId,
    /// How often it was opened, from 1; 0 while it is being made. Slot `incarnation % 2` is written first.
    pub incarnation: u64,
    /// The highest pepoch it was opened to serve.
    pub pepoch: Pepoch,
    /// How many disks its node had when it was made; 0 if the store is older than that was written.
    pub disks: u32,
}

/// Why there is no superblock to be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SuperblockError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("neither of its slots is whole")]
    Damaged,
    #[error("it has format {0}")]
    Format(u32),
}

impl Superblock {
    /// Whether the store was made to the end: its directories and its log are there, on stable storage.
    pub(crate) fn is_complete(&self) -> bool {
        self.incarnation > 0
    }

    fn encode(&self) -> Sector {
        let mut sector = [0; SECTOR_BYTES];
        put(&mut sector, 0, &MAGIC);
        put(&mut sector, 8, &FORMAT.to_le_bytes());
        put(&mut sector, 16, &self.incarnation.to_le_bytes());
        put(&mut sector, 24, &self.cluster.0);
        put(&mut sector, 40, &self.node.0);
        put(&mut sector, 56, &self.disk.0);
        put(&mut sector, 72, &self.boot.0);
        put(&mut sector, 88, &self.pepoch.0.to_le_bytes());
        put(&mut sector, 92, &self.disks.to_le_bytes());
        seal(&mut sector);
        sector
    }

    fn decode(sector: &Sector) -> Result<Self, SuperblockError> {
        if sector[..8] != MAGIC || !is_sealed(sector) {
            return Err(SuperblockError::Damaged);
        }
        let format = u32_at(sector, 8);
        if format != FORMAT {
            return Err(SuperblockError::Format(format));
        }
        Ok(Self {
            incarnation: u64_at(sector, 16),
            cluster: ClusterId(array_at(sector, 24)),
            node: NodeId(array_at(sector, 40)),
            disk: DiskId(array_at(sector, 56)),
            boot: BootId(array_at(sector, 72)),
            pepoch: Pepoch(u32_at(sector, 88)),
            disks: u32_at(sector, 92),
        })
    }

    /// Reads the newer whole slot; `None` when there is no such file.
    pub(crate) fn load<D: Disk>(disk: &D) -> Result<Option<Self>, SuperblockError> {
        let file = match disk.open(PATH, Open::Existing) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut newest: Option<Self> = None;
        let mut problem = SuperblockError::Damaged;
        let mut is_other_blank = false;
        for sector in read_slots(disk, &file)? {
            match Self::decode(&sector) {
                Ok(found) if newest.is_none_or(|old| old.incarnation < found.incarnation) => {
                    newest = Some(found)
                }
                Ok(_) => {}
                Err(SuperblockError::Damaged) => is_other_blank |= sector == [0; SECTOR_BYTES],
                Err(other) => problem = other,
            }
        }
        match (newest, problem) {
            // A slot of another format is newer than what we can read: do not go back behind it.
            (_, SuperblockError::Format(format)) => Err(SuperblockError::Format(format)),
            // A store that was opened again is complete, whatever a slot says that was written before.
            (Some(found), _) if found.is_complete() || is_other_blank => Ok(Some(found)),
            (Some(_), _) => Err(SuperblockError::Damaged),
            (None, problem) => Err(problem),
        }
    }

    /// How many slots are damaged.
    pub(crate) fn damaged_slots<D: Disk>(disk: &D) -> io::Result<usize> {
        let slots = read_slots(disk, &*disk.open(PATH, Open::Existing)?)?;
        let is_damaged = |sector: &&Sector| **sector != [0; SECTOR_BYTES] && Self::decode(sector).is_err();
        Ok(slots.iter().filter(is_damaged).count())
    }

    /// Writes it into both slots of the existing file. If one is destroyed later, the other says the same: no pepoch that
    /// was served is forgotten.
    pub(crate) fn store<D: Disk>(&self, disk: &D) -> io::Result<()> {
        let file = disk.open(PATH, Open::Existing)?;
        self.write(disk, &file, self.incarnation % 2)?;
        self.write(disk, &file, (self.incarnation + 1) % 2)
    }

    /// Makes the file, whole or not at all.
    pub(crate) fn create<D: Disk>(&self, disk: &D) -> io::Result<()> {
        match disk.remove(NEW_PATH) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = disk.open(NEW_PATH, Open::New)?;
        disk.set_length(&file, 2 * SLOT_BYTES)?;
        self.write(disk, &file, 0)?;
        disk.rename(NEW_PATH, PATH)?;
        disk.sync_dir("")
    }

    fn write<D: Disk>(&self, disk: &D, file: &D::File, slot: u64) -> io::Result<()> {
        disk.write_at(file, &[IoSlice::new(&self.encode())], slot * SLOT_BYTES)?;
        disk.sync_data(file)
    }
}

fn read_slots<D: Disk>(disk: &D, file: &D::File) -> io::Result<[Sector; 2]> {
    let mut slots = [[0; SECTOR_BYTES]; 2];
    for (slot, sector) in (0..).zip(&mut slots) {
        disk.read_at(file, sector, slot * SLOT_BYTES)?;
    }
    Ok(slots)
}

/// Names that may lie in a directory in which a store is made: of one that was begun but not finished, of the node's state
/// (`store/FORMAT.md`, "disks"), and of the file system itself. Directories of a store ([`DATA_NAMES`]) must be empty.
pub(crate) const HARMLESS_NAMES: [&str; 9] =
    [NEW_PATH, "control.sock", "disks", "disks.new", "epoch", "lock", "lost+found", "objects", "wal"];

/// What a store with data has. It is made after the superblock.
pub(crate) const DATA_NAMES: [&str; 2] = ["objects", "wal"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::FileDisk;

    fn superblock(incarnation: u64) -> Superblock {
        Superblock {
            cluster: ClusterId([1; 16]),
            node: NodeId([2; 16]),
            disk: DiskId([3; 16]),
            boot: BootId([4; 16]),
            incarnation,
            pepoch: Pepoch(5),
            disks: 6,
        }
    }

    #[test]
    fn the_bytes_never_change() {
        let sector = superblock(0x0102_0304).encode();
        let mut expected = b"HNTWDISK\x01\0\0\0\0\0\0\0\x04\x03\x02\x01\0\0\0\0".to_vec();
        for id in 1..=4 {
            expected.extend([id; 16]);
        }
        expected.extend([5, 0, 0, 0, 6, 0, 0, 0]);
        assert_eq!(sector[..96], expected);
        assert!(sector[96..508].iter().all(|&byte| byte == 0));
        assert!(is_sealed(&sector));
    }

    #[test]
    fn the_newer_whole_slot_counts() {
        let directory = tempfile::tempdir().unwrap();
        let disk = FileDisk::new(directory.path()).unwrap();
        assert!(Superblock::load(&disk).unwrap().is_none());
        superblock(1).create(&disk).unwrap();
        let file = disk.open(PATH, Open::Existing).unwrap();
        superblock(2).write(&disk, &file, 0).unwrap();
        superblock(1).write(&disk, &file, 1).unwrap();
        assert_eq!(Superblock::load(&disk).unwrap(), Some(superblock(2)));
        disk.write_at(&file, &[IoSlice::new(b"x")], 30).unwrap();
        assert_eq!(Superblock::load(&disk).unwrap(), Some(superblock(1)));
        disk.write_at(&file, &[IoSlice::new(b"x")], SLOT_BYTES + 30).unwrap();
        assert!(matches!(Superblock::load(&disk), Err(SuperblockError::Damaged)));
    }

    #[test]
    fn whichever_slot_is_destroyed_the_newest_is_not_forgotten() {
        for destroyed in 0..2 {
            let directory = tempfile::tempdir().unwrap();
            let disk = FileDisk::new(directory.path()).unwrap();
            superblock(0).create(&disk).unwrap();
            for incarnation in 1..4 {
                superblock(incarnation).store(&disk).unwrap();
                assert_eq!(Superblock::damaged_slots(&disk).unwrap(), 0);
                let file = disk.open(PATH, Open::Existing).unwrap();
                disk.write_at(&file, &[IoSlice::new(b"x")], destroyed * SLOT_BYTES + 30).unwrap();
                assert_eq!(Superblock::load(&disk).unwrap(), Some(superblock(incarnation)));
                assert_eq!(Superblock::damaged_slots(&disk).unwrap(), 1);
            }
        }
    }

    #[test]
    fn a_slot_of_the_beginning_does_not_stand_for_one_that_was_destroyed() {
        let directory = tempfile::tempdir().unwrap();
        let disk = FileDisk::new(directory.path()).unwrap();
        superblock(0).create(&disk).unwrap();
        assert!(!Superblock::load(&disk).unwrap().unwrap().is_complete());
        let file = disk.open(PATH, Open::Existing).unwrap();
        superblock(1).write(&disk, &file, 1).unwrap();
        assert!(Superblock::load(&disk).unwrap().unwrap().is_complete());
        disk.write_at(&file, &[IoSlice::new(b"x")], SLOT_BYTES + 30).unwrap();
        assert!(matches!(Superblock::load(&disk), Err(SuperblockError::Damaged)));
    }

    #[test]
    fn a_later_format_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let disk = FileDisk::new(directory.path()).unwrap();
        superblock(1).create(&disk).unwrap();
        let mut sector = superblock(2).encode();
        sector[8] = 9;
        seal(&mut sector);
        let file = disk.open(PATH, Open::Existing).unwrap();
        disk.write_at(&file, &[IoSlice::new(&sector)], 0).unwrap();
        assert!(matches!(Superblock::load(&disk), Err(SuperblockError::Format(9))));
    }
}
