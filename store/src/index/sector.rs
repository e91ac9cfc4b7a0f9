//! The sectors an index file consists of.

use huntaway_wire::{Epoch, Oid, Partition, Version};

use crate::layout::{SECTOR_BYTES, Sector, is_sealed, put, seal, u16_at, u32_at, u64_at};

/// Items in one sector.
pub(super) const ITEMS_PER_SECTOR: usize = 30;

const MAGIC: [u8; 8] = *b"HNTWINDX";
const FORMAT: u32 = 1;
const ITEMS_OFFSET: usize = 20;
const ITEM_BYTES: usize = 16;
const STATE_SHIFT: u32 = 30;

/// Whether an object is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It has a file.
    Present,
    /// It had one: a tombstone.
    Removed,
}

/// One object of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) oid: Oid,
    /// The newest write to the object when the item was made.
    pub(crate) version: Version,
    pub(crate) state: State,
}

impl Item {
    fn encode(&self) -> [u8; ITEM_BYTES] {
        let state: u32 = match self.state {
            State::Present => 1,
            State::Removed => 2,
        };
        let mut bytes = [0; ITEM_BYTES];
        put(&mut bytes, 0, &self.oid.value().to_le_bytes());
        put(&mut bytes, 8, &self.version.pepoch.to_le_bytes());
        put(&mut bytes, 12, &(self.version.seq & Version::MAX_SEQ | state << STATE_SHIFT).to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let word = u32_at(bytes, 12);
        let state = match word >> STATE_SHIFT {
            1 => State::Present,
            2 => State::Removed,
            _ => return None,
        };
        let version = Version { pepoch: u32_at(bytes, 8), seq: word & Version::MAX_SEQ };
        Some(Self { oid: Oid::from_value(u64_at(bytes, 0)).ok()?, version, state })
    }
}

/// The first sector of the file.
pub(super) fn encode_header(partition: Partition, epoch: Epoch) -> Sector {
    let mut sector = [0; SECTOR_BYTES];
    put(&mut sector, 0, &MAGIC);
    put(&mut sector, 8, &FORMAT.to_le_bytes());
    put(&mut sector, 12, &partition.value().to_le_bytes());
    put(&mut sector, 16, &epoch.0.to_le_bytes());
    seal(&mut sector);
    sector
}

/// Whether `sector` is the first of an index of `partition`. (The epoch in it is for people: a directory is renamed
/// when its partition comes back.)
pub(super) fn is_header(sector: &Sector, partition: Partition) -> bool {
    sector[..8] == MAGIC
        && is_sealed(sector)
        && u32_at(sector, 8) == FORMAT
        && u16_at(sector, 12) == partition.value()
}

/// One sector of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BatchSector {
    /// Number of the batch in the file, from 1.
    pub(super) batch: u64,
    /// Which sector of the batch, from 0.
    pub(super) number: u32,
    /// How many sectors the batch has.
    pub(super) sectors: u32,
    pub(super) items: Vec<Item>,
}

impl BatchSector {
    pub(super) fn encode(&self, partition: Partition) -> Sector {
        let mut sector = [0; SECTOR_BYTES];
        put(&mut sector, 0, &self.batch.to_le_bytes());
        put(&mut sector, 8, &self.number.to_le_bytes());
        put(&mut sector, 12, &self.sectors.to_le_bytes());
        put(&mut sector, 16, &partition.value().to_le_bytes());
        put(&mut sector, 18, &(self.items.len() as u16).to_le_bytes());
        for (place, item) in self.items.iter().take(ITEMS_PER_SECTOR).enumerate() {
            put(&mut sector, ITEMS_OFFSET + place * ITEM_BYTES, &item.encode());
        }
        seal(&mut sector);
        sector
    }

    /// `None` when the sector is not one of a batch of this partition's index, whole.
    pub(super) fn decode(sector: &Sector, partition: Partition) -> Option<Self> {
        let count = usize::from(u16_at(sector, 18));
        if !is_sealed(sector) || u16_at(sector, 16) != partition.value() || count > ITEMS_PER_SECTOR {
            return None;
        }
        let bytes = &sector[ITEMS_OFFSET..ITEMS_OFFSET + count * ITEM_BYTES];
        Some(Self {
            batch: u64_at(sector, 0),
            number: u32_at(sector, 8),
            sectors: u32_at(sector, 12),
            items: bytes.chunks_exact(ITEM_BYTES).map(Item::decode).collect::<Option<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_never_change() {
        let partition = Partition::new(0xabc).unwrap();
        let header = encode_header(partition, Epoch(7));
        assert_eq!(header[..24], *b"HNTWINDX\x01\0\0\0\xbc\x0a\0\0\x07\0\0\0\0\0\0\0");
        assert!(is_header(&header, partition) && !is_header(&header, Partition::new(1).unwrap()));

        let item = |oid, state| Item {
            oid: Oid::from_value(oid).unwrap(),
            version: Version { pepoch: 0x0102_0304, seq: 0x0506_0708 },
            state,
        };
        let items = vec![item(0x00ab_cdef_0000_0012, State::Present), item(0x1_0000_0000, State::Removed)];
        let batch = BatchSector { batch: 9, number: 1, sectors: 2, items };
        let sector = batch.encode(partition);
        let mut expected = b"\x09\0\0\0\0\0\0\0\x01\0\0\0\x02\0\0\0\xbc\x0a\x02\0".to_vec();
        expected.extend(*b"\x12\0\0\0\xef\xcd\xab\0\x04\x03\x02\x01\x08\x07\x06\x45");
        expected.extend(*b"\0\0\0\0\x01\0\0\0\x04\x03\x02\x01\x08\x07\x06\x85");
        assert_eq!(sector[..52], expected);
        assert!(sector[52..508].iter().all(|&byte| byte == 0));
        assert_eq!(BatchSector::decode(&sector, partition), Some(batch));
        assert_eq!(BatchSector::decode(&sector, Partition::new(1).unwrap()), None);
    }
}
