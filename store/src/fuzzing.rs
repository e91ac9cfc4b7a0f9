//! What a fuzzer reaches of the layouts on disk (`store/FORMAT.md`): each reads bytes as one of them, and panics if it does
//! not hold that what was read is written, and read again, as the same. Only with the feature `fuzzing`.

use std::io::IoSlice;

use huntaway_wire::{Epoch, Oid, Partition, Version};

use crate::disk::{Disk, Open, SimulatedDisk};
use crate::disk_table::{self, DiskTable};
use crate::index::{Index, IndexPlace, Item, Loading};
use crate::known::{self, KnownPartitions};
use crate::layout::{SECTOR_BYTES, seal};
use crate::object::{Entry, Header, Table};
use crate::superblock::{self, DiskId, Superblock};

/// A disk with one file.
fn disk(path: &str, bytes: &[u8]) -> SimulatedDisk {
    let disk = SimulatedDisk::new(1 << 24);
    let file = disk.open(path, Open::New).expect("an empty disk has room for a file");
    disk.write_at(&file, &[IoSlice::new(bytes)], 0).expect("the disk has room");
    disk
}

/// The bytes with the checksum of each whole sector made right.
pub fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for sector in bytes.as_chunks_mut::<SECTOR_BYTES>().0 {
        seal(sector);
    }
    bytes
}

/// The first sector of an object file.
pub fn object_header(bytes: &[u8]) {
    let Some(sector) = bytes.first_chunk::<SECTOR_BYTES>() else { return };
    if let Some(header) = Header::decode(sector) {
        assert_eq!(Header::decode(&header.encode()), Some(header));
    }
}

/// The table of an object. Whatever is not exactly what is written for an entry is damage.
pub fn object_table(bytes: &[u8], oid: u64) {
    let Ok(oid) = Oid::from_value(oid) else { return };
    let table = Table::decode(bytes, oid);
    let mut is_empty = true;
    for (block, bytes) in (0..).zip(bytes.as_chunks::<16>().0.iter().take(1024)) {
        let entry = table.entry(block);
        is_empty &= matches!(entry, Entry::Inherit | Entry::Hole { .. });
        match entry {
            Entry::Damaged => assert_ne!(*bytes, [0; 16]),
            Entry::Data { .. } => assert_eq!(entry.encode(oid, block), *bytes),
            entry => assert_eq!(Entry::decode(&entry.encode(oid, block), oid, block), entry),
        }
    }
    assert!(!table.is_empty() || (is_empty && bytes.len() >= 16 * 1024));
}

/// The index of a partition: as it is, and after a crash of whose objects the log knows.
pub fn index(bytes: &[u8], partition: u16, log_knows: bool) {
    let Ok(partition) = Partition::new(partition) else { return };
    let disk = SimulatedDisk::new(1 << 24);
    disk.create_dir("objects").expect("an empty disk has room");
    let file = disk.open("objects/index", Open::New).expect("an empty disk has room for a file");
    disk.write_at(&file, &[IoSlice::new(bytes)], 0).expect("the disk has room");
    let load = |loading: &Loading<'_>| {
        let directory = "objects".to_owned();
        Index::load(&disk, IndexPlace { partition, epoch: Epoch(1), directory, must_exist: true }, loading)
    };
    let looked = load(&Loading::Looking(&|_| log_knows.then_some(Version::NEVER)))
        .map(|index| index.items().collect::<Vec<Item>>());
    let loaded = load(&Loading::AfterCrash(&|_| log_knows.then_some(Version::NEVER)))
        .map(|index| index.items().collect::<Vec<Item>>());
    match (looked, loaded) {
        (Ok(looked), Ok(loaded)) => {
            assert_eq!(looked, loaded, "looking shows what will be there");
            let again = load(&Loading::Quiet).map(|index| index.items().collect::<Vec<Item>>());
            assert_eq!(again.expect("what was mended is whole"), loaded);
        }
        (Err(_), Err(_)) => assert!(load(&Loading::Quiet).is_err()),
        (looked, loaded) => panic!("{looked:?} but {loaded:?}"),
    }
}

/// A superblock.
pub fn superblock(bytes: &[u8]) {
    let disk = disk(superblock::PATH, bytes);
    if let Ok(Some(found)) = Superblock::load(&disk) {
        let next = Superblock { incarnation: found.incarnation.saturating_add(1), ..found };
        next.store(&disk).expect("the disk works");
        let read = Superblock::load(&disk).expect("what was written is whole");
        assert!(read == Some(next) || found.incarnation == u64::MAX);
    }
}

/// The table of a node's disks.
pub fn disk_table(bytes: &[u8]) {
    if let Ok(Some(table)) = DiskTable::load(&disk(disk_table::PATH, bytes)) {
        let disk = SimulatedDisk::new(1 << 20);
        table.store(&disk).expect("the disk works");
        assert_eq!(DiskTable::load(&disk).expect("what was written is whole"), Some(table));
    }
}

/// Which partitions have an index.
pub fn known_partitions(bytes: &[u8], disk_id: [u8; 16]) {
    let disk = disk(known::PATH, bytes);
    if let Ok(found) = KnownPartitions::load(&disk, DiskId(disk_id)) {
        let partitions: Vec<_> = found.all().collect();
        let again = KnownPartitions::load(&disk, DiskId(disk_id)).expect("it was read before");
        assert_eq!(again.all().collect::<Vec<_>>(), partitions);
    }
}
