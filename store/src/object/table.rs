//! The table of an object file: checksum, version and state of each of its 1024 blocks.
//!
//! In memory it is kept as the bytes that belong in the file: a sector is written, and summed, each time one of its
//! entries changes, and encoding the others anew would cost a checksum for each.

use std::ops::Range;

use huntaway_wire::{BLOCKS_PER_OBJECT, Oid, Version};

use crate::layout::{SECTOR_BYTES, put, u32_at};

/// Size of one entry in bytes. Entries are aligned to it, so that none lies across two sectors.
pub(crate) const ENTRY_BYTES: usize = 16;

/// Size of the table in bytes.
pub(crate) const TABLE_BYTES: usize = ENTRY_BYTES * BLOCKS_PER_OBJECT as usize;

/// Where it begins in the object file, in bytes.
pub(crate) const TABLE_OFFSET_BYTES: u64 = 4096;

/// Sectors of the table.
pub(crate) const TABLE_SECTORS: usize = TABLE_BYTES / SECTOR_BYTES;

/// Entries in one sector of the table.
pub(crate) const ENTRIES_PER_SECTOR: u32 = (SECTOR_BYTES / ENTRY_BYTES) as u32;

/// CRC32C of each sector of a table.
pub(crate) type TableSums = [u32; TABLE_SECTORS];

/// The sums of a table's bytes.
pub(crate) fn sums_of(bytes: &[u8; TABLE_BYTES]) -> TableSums {
    let mut sums = [0; TABLE_SECTORS];
    put_sums(&mut sums, 0, bytes);
    sums
}

/// Replaces the sums of the sectors from `first_sector` on by those of `bytes`.
pub(crate) fn put_sums(sums: &mut TableSums, first_sector: usize, bytes: &[u8]) {
    let sectors = bytes.as_chunks::<SECTOR_BYTES>().0;
    let sums = sums.iter_mut().skip(first_sector);
    sums.zip(sectors).for_each(|(sum, sector)| *sum = crc32c::crc32c(sector));
}

const STATE_SHIFT: u32 = 30;
const DATA: u32 = 1;
const HOLE: u32 = 2;
const DAMAGED: u32 = 3;

/// What is known of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Never written: it shows what an ancestor has there, or zeroes.
    Inherit,
    /// It holds data with this CRC32C.
    Data { crc: u32, version: Version },
    /// It was discarded and reads as zeroes.
    Hole { version: Version },
    /// No replica has any more what that write put there.
    Lost { version: Version },
    /// The entry does not match its own check: what the block holds is not known.
    Damaged,
}

impl Entry {
    /// The write that last touched the block, if there was one and it is known.
    pub(crate) fn version(self) -> Option<Version> {
        match self {
            Self::Data { version, .. } | Self::Hole { version } | Self::Lost { version } => Some(version),
            Self::Inherit | Self::Damaged => None,
        }
    }

    /// The bytes of the entry of `block` of `oid`.
    pub(crate) fn encode(self, oid: Oid, block: u32) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        let (crc, version, state) = match self {
            Self::Inherit => return bytes,
            Self::Data { crc, version } => (crc, version, DATA),
            Self::Hole { version } => (0, version, HOLE),
            Self::Lost { version } => (0, version, DAMAGED),
            Self::Damaged => (0, Version::NEVER, DAMAGED),
        };
        put(&mut bytes, 0, &crc.to_le_bytes());
        put(&mut bytes, 4, &version.pepoch.to_le_bytes());
        put(&mut bytes, 8, &(version.seq & Version::MAX_SEQ | state << STATE_SHIFT).to_le_bytes());
        let check = check(&bytes, oid, block);
        put(&mut bytes, 12, &check.to_le_bytes());
        bytes
    }

    /// Reads the entry of `block` of `oid`.
    pub(crate) fn decode(bytes: &[u8; ENTRY_BYTES], oid: Oid, block: u32) -> Self {
        if *bytes == [0; ENTRY_BYTES] {
            return Self::Inherit;
        }
        if u32_at(bytes, 12) != check(bytes, oid, block) {
            return Self::Damaged;
        }
        match Self::decode_checked(bytes) {
            Self::Inherit => Self::Damaged,
            entry => entry,
        }
    }

    /// Reads an entry that [`Entry::encode`] made.
    fn decode_checked(bytes: &[u8; ENTRY_BYTES]) -> Self {
        let word = u32_at(bytes, 8);
        let version = Version { pepoch: u32_at(bytes, 4), seq: word & Version::MAX_SEQ };
        match word >> STATE_SHIFT {
            0 => Self::Inherit,
            DATA => Self::Data { crc: u32_at(bytes, 0), version },
            HOLE => Self::Hole { version },
            _ if version != Version::NEVER => Self::Lost { version },
            _ => Self::Damaged,
        }
    }
}

/// CRC32C of an entry's first three words, the object and the block: an entry read at another's place does not match.
fn check(bytes: &[u8; ENTRY_BYTES], oid: Oid, block: u32) -> u32 {
    let mut covered = [0; 24];
    covered[..12].copy_from_slice(&bytes[..12]);
    put(&mut covered, 12, &oid.value().to_le_bytes());
    put(&mut covered, 20, &block.to_le_bytes());
    crc32c::crc32c(&covered)
}

/// The table of one object, in memory.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    oid: Oid,
    /// Each entry as [`Entry::encode`] makes it.
    entries: Box<[[u8; ENTRY_BYTES]]>,
    data_blocks: u32,
}

impl Table {
    /// The table of an object that was never written.
    pub(crate) fn new(oid: Oid) -> Self {
        let entries = vec![[0; ENTRY_BYTES]; BLOCKS_PER_OBJECT as usize].into();
        Self { oid, entries, data_blocks: 0 }
    }

    /// Reads the table of `oid` from its bytes; entries that are missing count as damaged.
    pub(crate) fn decode(bytes: &[u8], oid: Oid) -> Self {
        let mut table = Self::new(oid);
        let (whole, _) = bytes.as_chunks::<ENTRY_BYTES>();
        for block in 0..BLOCKS_PER_OBJECT {
            let entry =
                whole.get(block as usize).map_or(Entry::Damaged, |bytes| Entry::decode(bytes, oid, block));
            table.set(block, entry);
        }
        table
    }

    /// The entry of `block`, which must be below [`BLOCKS_PER_OBJECT`].
    pub(crate) fn entry(&self, block: u32) -> Entry {
        Entry::decode_checked(&self.entries[block as usize])
    }

    /// Replaces the entry of `block`, which must be below [`BLOCKS_PER_OBJECT`].
    pub(crate) fn set(&mut self, block: u32, entry: Entry) {
        let old = self.entry(block);
        self.entries[block as usize] = entry.encode(self.oid, block);
        self.data_blocks =
            self.data_blocks + u32::from(holds_something(entry)) - u32::from(holds_something(old));
    }

    /// The entries of `blocks`, which must be below [`BLOCKS_PER_OBJECT`], as they belong in the file.
    pub(crate) fn bytes(&self, blocks: Range<u32>) -> &[u8] {
        self.entries[blocks.start as usize..blocks.end as usize].as_flattened()
    }

    /// The versions of the entries that have one.
    pub(crate) fn versions(&self) -> impl Iterator<Item = Version> {
        self.decoded().filter_map(Entry::version)
    }

    /// Whether an entry is damaged.
    pub(crate) fn has_damage(&self) -> bool {
        self.decoded().any(|entry| entry == Entry::Damaged)
    }

    pub(crate) fn decoded(&self) -> impl Iterator<Item = Entry> {
        self.entries.iter().map(Entry::decode_checked)
    }

    /// Whether every block reads as zeroes for certain.
    pub(crate) fn is_empty(&self) -> bool {
        self.data_blocks == 0
    }

    /// Whether no block was ever written, for certain.
    pub(crate) fn is_unwritten(&self) -> bool {
        self.is_empty() && self.decoded().all(|entry| entry == Entry::Inherit)
    }
}

/// Damaged entries count: what they stood for is not known to be nothing.
fn holds_something(entry: Entry) -> bool {
    matches!(entry, Entry::Data { .. } | Entry::Lost { .. } | Entry::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oid() -> Oid {
        Oid::from_value(0x00ab_cdef_0000_0012).unwrap()
    }

    #[test]
    fn the_bytes_never_change() {
        let version = Version { pepoch: 0x0102_0304, seq: 0x0506_0708 };
        let data = Entry::Data { crc: 0xa1a2_a3a4, version };
        let bytes = data.encode(oid(), 5);
        assert_eq!(bytes[..12], [0xa4, 0xa3, 0xa2, 0xa1, 4, 3, 2, 1, 8, 7, 6, 0x45]);
        let hole = Entry::Hole { version };
        assert_eq!(hole.encode(oid(), 5)[..12], [0, 0, 0, 0, 4, 3, 2, 1, 8, 7, 6, 0x85]);
        let mut covered = bytes[..12].to_vec();
        covered.extend([0x12, 0, 0, 0, 0xef, 0xcd, 0xab, 0, 5, 0, 0, 0]);
        assert_eq!(u32_at(&bytes, 12), crc32c::crc32c(&covered));
        let lost = Entry::Lost { version };
        assert_eq!(lost.encode(oid(), 5)[..12], [0, 0, 0, 0, 4, 3, 2, 1, 8, 7, 6, 0xc5]);
        for entry in [Entry::Inherit, data, hole, lost, Entry::Damaged] {
            assert_eq!(Entry::decode(&entry.encode(oid(), 5), oid(), 5), entry);
        }
    }

    #[test]
    fn an_entry_at_anothers_place_is_damaged() {
        let hole = Entry::Hole { version: Version { pepoch: 1, seq: 1 } }.encode(oid(), 5);
        assert_eq!(Entry::decode(&hole, oid(), 6), Entry::Damaged);
        assert_eq!(Entry::decode(&hole, Oid::from_value(0x0000_0001_0000_0000).unwrap(), 5), Entry::Damaged);
    }

    #[test]
    fn a_table_knows_when_nothing_is_left_in_it() {
        let mut table = Table::new(oid());
        assert!(table.is_empty());
        table.set(3, Entry::Data { crc: 1, version: Version { pepoch: 1, seq: 1 } });
        table.set(3, Entry::Data { crc: 2, version: Version { pepoch: 1, seq: 2 } });
        assert!(!table.is_empty());
        table.set(3, Entry::Hole { version: Version { pepoch: 1, seq: 3 } });
        assert!(table.is_empty());
        assert!(!Table::decode(&[0; 20], oid()).is_empty());
    }

    #[test]
    fn a_table_in_memory_is_what_belongs_in_the_file() {
        let version = Version { pepoch: 7, seq: 9 };
        let entries =
            [Entry::Inherit, Entry::Data { crc: 0, version }, Entry::Hole { version }, Entry::Damaged];
        let mut table = Table::new(oid());
        let mut bytes = Vec::new();
        for block in 0..BLOCKS_PER_OBJECT {
            let entry = entries[block as usize * 7 % 4];
            table.set(block, entry);
            bytes.extend_from_slice(&entry.encode(oid(), block));
            assert_eq!(table.entry(block), entry);
        }
        assert!(
            table.bytes(0..BLOCKS_PER_OBJECT) == bytes && table.bytes(33..34) == &bytes[33 * 16..34 * 16]
        );
        assert!(Table::decode(&bytes, oid()).bytes(0..BLOCKS_PER_OBJECT) == bytes);
        bytes[16] ^= 1;
        assert_eq!(Table::decode(&bytes, oid()).entry(1), Entry::Damaged);
    }

    #[test]
    fn an_entry_that_says_that_it_says_nothing_is_damaged() {
        let mut bytes = [0; ENTRY_BYTES];
        put(&mut bytes, 0, &5_u32.to_le_bytes());
        let check = check(&bytes, oid(), 5);
        put(&mut bytes, 12, &check.to_le_bytes());
        assert_eq!(Entry::decode(&bytes, oid(), 5), Entry::Damaged);
    }
}
