//! The file `starts` on each disk: what it remembers of the processes that used it, and what is left of what they acknowledged.
//!
//! `store/FORMAT.md` draws it. It is replaced as a whole, before the ledger is told of a start and after the ledger has it.

use std::io::{self, IoSlice};

use huntaway_ledger::{MAX_STARTS, Memory, StartId, Starts};

use crate::disk::{Disk, Open};
use crate::layout::{array_at, put, u16_at, u32_at, u64_at};
use crate::superblock::{BootId, DiskId};

/// The file's name.
pub(crate) const PATH: &str = "starts";

const NEW_PATH: &str = "starts.new";
const MAGIC: [u8; 8] = *b"HNTWSTRT";
const FORMAT: u16 = 1;
const HEADER_BYTES: usize = 32;
const MOST_BYTES: usize = HEADER_BYTES + 8 * MAX_STARTS + 4;

/// What a disk remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remembered {
    /// The boot in which this was written.
    pub(crate) boot: BootId,
    /// What is left of what was acknowledged when the ledger last heard of a start.
    pub(crate) memory: Memory,
    /// The starts.
    pub(crate) starts: Starts,
}

impl Remembered {
    /// What a disk says that nobody used yet.
    pub(crate) fn nothing(boot: BootId) -> Self {
        Self { boot, memory: Memory::Kept, starts: Starts::default() }
    }

    /// Reads the file; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub(crate) fn load<D: Disk>(disk: &D) -> io::Result<Option<Self>> {
        Self::load_from(disk, PATH)
    }

    fn load_from<D: Disk>(disk: &D, path: &str) -> io::Result<Option<Self>> {
        let file = match disk.open(path, Open::Existing) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut bytes = vec![0; MOST_BYTES + 1];
        let found = disk.read_at(&file, &mut bytes, 0)?;
        bytes.truncate(found);
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the file is damaged");
        Self::decode(&bytes).map(Some).ok_or_else(damaged)
    }

    /// Writes it, whole or not at all, to stable storage.
    pub(crate) fn store<D: Disk>(&self, disk: &D) -> io::Result<()> {
        self.store_as(disk, PATH)
    }

    /// What was noted of a disk when that was given the same.
    pub(crate) fn of_disk<D: Disk>(state: &D, of: DiskId) -> Option<Self> {
        // Whatever is wrong with it: then there is none.
        Self::load_from(state, &note_path(of)).ok().flatten()
    }

    /// Notes that this was given to a disk: if that is absent at the next start, it is known by it when it comes back.
    pub(crate) fn note<D: Disk>(&self, state: &D, of: DiskId) -> io::Result<()> {
        self.store_as(state, &note_path(of))
    }

    fn store_as<D: Disk>(&self, disk: &D, path: &str) -> io::Result<()> {
        match disk.remove(NEW_PATH) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = disk.open(NEW_PATH, Open::New)?;
        disk.write_at(&file, &[IoSlice::new(&self.encode())], 0)?;
        disk.sync_data(&file)?;
        disk.rename(NEW_PATH, path)?;
        disk.sync_dir("")
    }

    fn encode(&self) -> Vec<u8> {
        let ids = self.starts.ids();
        let mut bytes = vec![0; HEADER_BYTES + 8 * ids.len()];
        put(&mut bytes, 0, &MAGIC);
        put(&mut bytes, 8, &FORMAT.to_le_bytes());
        put(&mut bytes, 10, &[code(self.memory), self.starts.is_proposed().into()]);
        put(&mut bytes, 12, &(ids.len() as u16).to_le_bytes());
        put(&mut bytes, 16, &self.boot.0);
        for (id, place) in ids.iter().zip((HEADER_BYTES..).step_by(8)) {
            put(&mut bytes, place, &id.0.to_le_bytes());
        }
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let summed = bytes.get(..bytes.len().checked_sub(4)?)?;
        let is_whole = summed.len() >= HEADER_BYTES
            && u32_at(bytes, summed.len()) == crc32c::crc32c(summed)
            && summed[..8] == MAGIC
            && u16_at(summed, 8) == FORMAT
            && summed.len() == HEADER_BYTES + 8 * usize::from(u16_at(summed, 12));
        if !is_whole {
            return None;
        }
        let memory = match summed[10] {
            0 => Memory::Kept,
            1 => Memory::Stable,
            2 => Memory::Damaged,
            _ => return None,
        };
        let ids = (HEADER_BYTES..summed.len()).step_by(8).map(|at| StartId(u64_at(summed, at))).collect();
        let starts = Starts::remembered(ids, summed[11] != 0);
        Some(Self { boot: BootId(array_at(summed, 16)), memory, starts })
    }
}

fn note_path(of: DiskId) -> String {
    format!("{PATH}-{of}")
}

fn code(memory: Memory) -> u8 {
    match memory {
        Memory::Kept => 0,
        Memory::Stable => 1,
        Memory::Damaged => 2,
    }
}

/// The worse of both.
pub(crate) fn worse(one: Memory, other: Memory) -> Memory {
    if code(one) >= code(other) { one } else { other }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SimulatedDisk;

    #[test]
    fn what_is_remembered_is_read_again_and_damage_is_told() {
        let disk = SimulatedDisk::new(1 << 20);
        assert_eq!(Remembered::load(&disk).unwrap(), None);
        let mut remembered = Remembered::nothing(BootId([7; 16]));
        for (id, memory) in [(3, Memory::Kept), (4, Memory::Stable), (5, Memory::Damaged)] {
            remembered.starts.begin(StartId(id));
            remembered.memory = memory;
            remembered.store(&disk).unwrap();
            assert_eq!(Remembered::load(&disk).unwrap().as_ref(), Some(&remembered));
            remembered.starts.proposed();
        }
        let bytes = remembered.encode();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(Remembered::decode(&damaged), None, "{at}");
            assert_eq!(Remembered::decode(&bytes[..at]), None, "{at}");
        }
    }
}
