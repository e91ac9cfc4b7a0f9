//! The file `disks` in a node's state directory: which disks the node has (`store/FORMAT.md`, "disks").
//!
//! Without it, an empty mount point could not be told from a new disk, nor a partition that never was written from one
//! whose disk is not there.

use std::io::{self, IoSlice};

use huntaway_wire::{NodeId, PARTITIONS, Partition};

use crate::disk::{Disk, Open};
use crate::layout::{array_at, put, u16_at, u32_at};
use crate::placement::{self, WeightedDisk};
use crate::superblock::{BootId, DiskId};

/// The file's name.
pub(crate) const PATH: &str = "disks";

/// The name under which a new one is written.
const NEW_PATH: &str = "disks.new";

/// Most disks of a node.
pub const MAX_DISKS: usize = 64;

/// What the file begins with.
const MAGIC: [u8; 8] = *b"HNTWDSKS";

/// The file's layout, while all partitions are where placement has them.
const FORMAT: u32 = 1;

/// The file's layout that says where they are.
const FORMAT_WITH_ROUTES: u32 = 2;

const HEADER_BYTES: usize = 48;
const ENTRY_BYTES: usize = 32;
const CRC_BYTES: usize = 4;

/// Bits of an entry's flags: see [`DiskEntry`].
const MAY_OWE: u32 = 1;
const LEAVES: u32 = 2;
const FILLS: u32 = 4;

const ROUTES_BYTES: usize = PARTITIONS as usize;

/// The disks of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DiskTable {
    /// The node.
    pub(crate) node: NodeId,
    /// The kernel's boot in which it was written; zeroes if not known.
    pub(crate) boot: BootId,
    /// All disks have been made. Until then none was ever served.
    pub(crate) is_complete: bool,
    /// The disks, in the order in which they were given.
    pub(crate) disks: Vec<DiskEntry>,
    /// For each partition the place of its disk in `disks`; `None` while that is what placement says.
    pub(crate) routes: Option<Box<[u8]>>,
}

/// One disk of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DiskEntry {
    /// The disk.
    pub(crate) id: DiskId,
    /// Its share of the partitions, relative to the others'.
    pub(crate) weight: u32,
    /// It was opened in this boot of the kernel and not closed since: writes may be on it that were acknowledged and are
    /// not on stable storage.
    pub(crate) may_owe: bool,
    /// What it has is to go to the others: it is to be taken away.
    pub(crate) leaves: bool,
    /// It was added: partitions that placement would have on it come to it.
    pub(crate) fills: bool,
}

impl DiskEntry {
    /// A disk that is in use from now on.
    pub(crate) fn new(id: DiskId, weight: u32) -> Self {
        Self { id, weight, may_owe: true, leaves: false, fills: false }
    }

    pub(crate) fn weighted(&self) -> WeightedDisk {
        WeightedDisk { disk: self.id, weight: self.weight }
    }

    fn flags(&self) -> u32 {
        let bits = [(self.may_owe, MAY_OWE), (self.leaves, LEAVES), (self.fills, FILLS)];
        bits.iter().filter(|(is_set, _)| *is_set).map(|(_, bit)| bit).sum()
    }
}

/// Why the table cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TableError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it is damaged")]
    Damaged,
    #[error("it has format {0}")]
    Format(u32),
}

impl DiskTable {
    /// Reads it; `None` when there is none.
    pub(crate) fn load<D: Disk>(state: &D) -> Result<Option<Self>, TableError> {
        let file = match state.open(PATH, Open::Existing) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut bytes = vec![0; length(MAX_DISKS) + ROUTES_BYTES + 1];
        let found = state.read_at(&file, &mut bytes, 0)?;
        bytes.truncate(found);
        Self::decode(&bytes).map(Some)
    }

    /// Writes it, whole or not at all, to stable storage.
    pub(crate) fn store<D: Disk>(&self, state: &D) -> io::Result<()> {
        match state.remove(NEW_PATH) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = state.open(NEW_PATH, Open::New)?;
        state.write_at(&file, &[IoSlice::new(&self.encode())], 0)?;
        state.sync_data(&file)?;
        state.rename(NEW_PATH, PATH)?;
        state.sync_dir("")
    }

    /// The place of each partition's disk in the table; `None` if no disk has a weight.
    pub(crate) fn routes(&self) -> Option<Box<[u8]>> {
        if let Some(routes) = &self.routes {
            return Some(routes.clone());
        }
        let weighted: Vec<WeightedDisk> = self.disks.iter().map(DiskEntry::weighted).collect();
        let route =
            |partition| placement::place(partition, &weighted).and_then(|disk| u8::try_from(disk).ok());
        Partition::all().map(route).collect()
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; length(self.disks.len()) - CRC_BYTES];
        let format = if self.routes.is_some() { FORMAT_WITH_ROUTES } else { FORMAT };
        put(&mut bytes, 0, &MAGIC);
        put(&mut bytes, 8, &format.to_le_bytes());
        put(&mut bytes, 12, &(if self.is_complete { 2_u16 } else { 1 }).to_le_bytes());
        put(&mut bytes, 14, &(self.disks.len() as u16).to_le_bytes());
        put(&mut bytes, 16, &self.node.0);
        put(&mut bytes, 32, &self.boot.0);
        for (disk, place) in self.disks.iter().zip((HEADER_BYTES..).step_by(ENTRY_BYTES)) {
            put(&mut bytes, place, &disk.id.0);
            put(&mut bytes, place + 16, &disk.weight.to_le_bytes());
            put(&mut bytes, place + 20, &disk.flags().to_le_bytes());
        }
        bytes.extend(self.routes.iter().flatten());
        let crc = crc32c::crc32c(&bytes);
        bytes.extend(crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, TableError> {
        let Some((covered, crc)) = bytes.split_last_chunk::<CRC_BYTES>() else {
            return Err(TableError::Damaged);
        };
        let is_whole = covered.len() >= HEADER_BYTES && crc32c::crc32c(covered) == u32::from_le_bytes(*crc);
        if !is_whole || covered[..8] != MAGIC {
            return Err(TableError::Damaged);
        }
        let format = u32_at(covered, 8);
        let routes_bytes = match format {
            FORMAT => 0,
            FORMAT_WITH_ROUTES => ROUTES_BYTES,
            other => return Err(TableError::Format(other)),
        };
        let (phase, count) = (u16_at(covered, 12), usize::from(u16_at(covered, 14)));
        if !(1..=2).contains(&phase)
            || !(1..=MAX_DISKS).contains(&count)
            || bytes.len() != length(count) + routes_bytes
        {
            return Err(TableError::Damaged);
        }
        let (entries, routes) = covered[HEADER_BYTES..].split_at(count * ENTRY_BYTES);
        if routes.iter().any(|disk| usize::from(*disk) >= count) {
            return Err(TableError::Damaged);
        }
        let entry = |entry: &[u8]| DiskEntry {
            id: DiskId(array_at(entry, 0)),
            weight: u32_at(entry, 16),
            may_owe: u32_at(entry, 20) & MAY_OWE != 0,
            leaves: u32_at(entry, 20) & LEAVES != 0,
            fills: u32_at(entry, 20) & FILLS != 0,
        };
        Ok(Self {
            node: NodeId(array_at(covered, 16)),
            boot: BootId(array_at(covered, 32)),
            is_complete: phase == 2,
            disks: entries.chunks_exact(ENTRY_BYTES).map(entry).collect(),
            routes: (format == FORMAT_WITH_ROUTES).then(|| routes.into()),
        })
    }
}

/// Length of a table of so many disks without routes, in bytes.
const fn length(disks: usize) -> usize {
    HEADER_BYTES + disks * ENTRY_BYTES + CRC_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Crash, SimulatedDisk};

    fn table(disks: u8, is_complete: bool) -> DiskTable {
        let entry = |id: u8| DiskEntry {
            may_owe: id.is_multiple_of(2),
            ..DiskEntry::new(DiskId([id; 16]), 256 + u32::from(id))
        };
        let (node, boot) = (NodeId([9; 16]), BootId([8; 16]));
        DiskTable { node, boot, is_complete, disks: (1..=disks).map(entry).collect(), routes: None }
    }

    /// The same, where a partition went to another disk, and one disk is to go.
    fn moved(disks: u8) -> DiskTable {
        let mut table = table(disks, true);
        let mut routes = table.routes().unwrap();
        routes[7] = (routes[7] + 1) % disks;
        table.disks[0].leaves = true;
        DiskTable { routes: Some(routes), ..table }
    }

    #[test]
    fn the_bytes_never_change() {
        let bytes = table(2, true).encode();
        let mut expected = b"HNTWDSKS\x01\0\0\0\x02\0\x02\0".to_vec();
        expected.extend([9; 16]);
        expected.extend([8; 16]);
        for (id, flags) in [(1, 0), (2, 1)] {
            expected.extend([id; 16]);
            expected.extend([id, 1, 0, 0, flags, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        }
        expected.extend([0xb1, 0x4c, 0x9e, 0xd7]);
        assert_eq!(bytes, expected);
    }

    #[test]
    fn where_partitions_are_that_moved_is_in_bytes_that_never_change() {
        let (usual, table) = (table(2, true).encode(), moved(2));
        let bytes = table.encode();
        assert_eq!((bytes[8], bytes[48 + 20], bytes[80 + 20]), (2, 2, 1));
        assert_eq!(bytes[112..112 + 4096], table.routes.clone().unwrap()[..]);
        assert_eq!(bytes.len(), usual.len() + 4096);
        // A disk that is not there has nothing.
        let mut wrong = bytes[..bytes.len() - CRC_BYTES].to_vec();
        wrong[112] = 2;
        let crc = crc32c::crc32c(&wrong);
        wrong.extend(crc.to_le_bytes());
        assert!(DiskTable::decode(&wrong).is_err());
    }

    #[test]
    fn every_table_is_read_back_and_any_flipped_bit_or_cut_is_noticed() {
        for disks in [1, 3, MAX_DISKS as u8] {
            for is_complete in [false, true] {
                let table = table(disks, is_complete);
                assert_eq!(DiskTable::decode(&table.encode()).unwrap(), table);
            }
        }
        assert_eq!(DiskTable::decode(&moved(64).encode()).unwrap(), moved(64));
        let bytes = table(2, true).encode();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(DiskTable::decode(&flipped).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(DiskTable::decode(&bytes[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn after_a_power_loss_there_is_the_old_table_or_the_new_one() {
        let (old, new) = (table(2, true), moved(2));
        let mut seen = [false; 2];
        for (seed, operations) in (0..64).flat_map(|seed| (0..8).map(move |operations| (seed, operations))) {
            let disk = SimulatedDisk::new(1 << 20);
            old.store(&disk).unwrap();
            disk.die_after(operations);
            let finished = new.store(&disk).is_ok();
            disk.crash(Crash::Power, seed);
            let found = DiskTable::load(&disk).unwrap().unwrap();
            assert!(found == new || (found == old && !finished), "seed {seed}, {operations} operations");
            seen[usize::from(finished)] = true;
            found.store(&disk).unwrap();
        }
        assert_eq!(seen, [true; 2]);
    }
}
