//! The first sector of an object file: which object it is, and whether its space is set aside.

use huntaway_wire::{OBJECT_SIZE_BYTES, Oid};

use super::table::{TABLE_BYTES, TABLE_OFFSET_BYTES, TABLE_SECTORS, TableSums};
use crate::layout::{SECTOR_BYTES, Sector, is_sealed, put, seal, u32_at, u64_at};

/// Where the object's data begins in its file, in bytes.
pub(crate) const DATA_OFFSET_BYTES: u64 = TABLE_OFFSET_BYTES + TABLE_BYTES as u64;

/// Length of an object file in bytes; it is sparse unless the object is reserved.
pub(crate) const FILE_BYTES: u64 = DATA_OFFSET_BYTES + OBJECT_SIZE_BYTES as u64;

/// What a new object costs beside its data, in bytes of disk: header, table, and its share of directory and index.
pub(crate) const NEW_OBJECT_BYTES: u64 = DATA_OFFSET_BYTES + 4096;

const MAGIC: [u8; 8] = *b"HNTWOBJT";
const FORMAT: u32 = 1;
const RESERVED: u32 = 1;
const SUMMED: u32 = 2;

/// Where the sums of the table are, in bytes.
const SUMS_OFFSET: usize = 24;

/// What the first sector says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) oid: Oid,
    /// The whole file has space set aside.
    pub(crate) reserved: bool,
    /// CRC32C of each sector of the table. Old files have none.
    pub(crate) sums: Option<TableSums>,
}

impl Header {
    pub(crate) fn encode(&self) -> Sector {
        let mut sector = [0; SECTOR_BYTES];
        put(&mut sector, 0, &MAGIC);
        put(&mut sector, 8, &FORMAT.to_le_bytes());
        let reserved = if self.reserved { RESERVED } else { 0 };
        let summed = if self.sums.is_some() { SUMMED } else { 0 };
        put(&mut sector, 12, &(reserved | summed).to_le_bytes());
        put(&mut sector, 16, &self.oid.value().to_le_bytes());
        for (place, sum) in self.sums.iter().flatten().enumerate() {
            put(&mut sector, SUMS_OFFSET + place * 4, &sum.to_le_bytes());
        }
        seal(&mut sector);
        sector
    }

    /// `None` when the sector is damaged, of another format, or has a flag we do not know.
    pub(crate) fn decode(sector: &Sector) -> Option<Self> {
        let known = sector[..8] == MAGIC && is_sealed(sector) && u32_at(sector, 8) == FORMAT;
        let flags = u32_at(sector, 12);
        if !known || flags & !(RESERVED | SUMMED) != 0 {
            return None;
        }
        let oid = Oid::from_value(u64_at(sector, 16)).ok()?;
        let mut sums = [0; TABLE_SECTORS];
        sums.iter_mut().enumerate().for_each(|(place, sum)| *sum = u32_at(sector, SUMS_OFFSET + place * 4));
        Some(Self { oid, reserved: flags & RESERVED != 0, sums: (flags & SUMMED != 0).then_some(sums) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_never_change() {
        let header =
            Header { oid: Oid::from_value(0x00ab_cdef_0000_0012).unwrap(), reserved: true, sums: None };
        let sector = header.encode();
        assert_eq!(sector[..24], *b"HNTWOBJT\x01\0\0\0\x01\0\0\0\x12\0\0\0\xef\xcd\xab\0");
        assert!(sector[24..508].iter().all(|&byte| byte == 0));
        assert_eq!(Header::decode(&sector), Some(header));
        let sums = std::array::from_fn(|place| 0x0102_0300 + place as u32);
        let summed = Header { sums: Some(sums), ..header };
        let sector = summed.encode();
        assert_eq!(sector[12..16], [3, 0, 0, 0]);
        assert_eq!(sector[24..32], [0, 3, 2, 1, 1, 3, 2, 1]);
        assert!(sector[24 + 32 * 4..508].iter().all(|&byte| byte == 0));
        assert_eq!(Header::decode(&sector), Some(summed));
        assert_eq!((DATA_OFFSET_BYTES, FILE_BYTES), (20480, 4_214_784));
    }

    #[test]
    fn damage_and_unknown_flags_are_noticed() {
        let mut sector =
            Header { oid: Oid::from_value(0x0000_0001_0000_0000).unwrap(), reserved: false, sums: None }
                .encode();
        sector[12] = 4;
        assert_eq!(Header::decode(&sector), None);
        seal(&mut sector);
        assert_eq!(Header::decode(&sector), None);
    }
}
