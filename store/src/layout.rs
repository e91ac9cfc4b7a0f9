//! Little-endian numbers at fixed places in a buffer, as `store/FORMAT.md` draws them.
//!
//! Offsets are constants of the structure being read or written; its buffer's length is fixed by its type.

/// Size of what a disk writes whole or not at all, in bytes.
pub(crate) const SECTOR_BYTES: usize = 512;

/// The bytes of one sector.
pub(crate) type Sector = [u8; SECTOR_BYTES];

/// Where a sector that checks itself keeps the CRC32C of all bytes before it.
const SECTOR_CRC: usize = SECTOR_BYTES - 4;

/// The `N` bytes at `offset`.
pub(crate) fn array_at<const N: usize>(buffer: &[u8], offset: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&buffer[offset..offset + N]);
    array
}

/// The 16-bit number at `offset`.
pub(crate) fn u16_at(buffer: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(array_at(buffer, offset))
}

/// The 32-bit number at `offset`.
pub(crate) fn u32_at(buffer: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(array_at(buffer, offset))
}

/// The 64-bit number at `offset`.
pub(crate) fn u64_at(buffer: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(array_at(buffer, offset))
}

/// Puts `bytes` at `offset`.
pub(crate) fn put(buffer: &mut [u8], offset: usize, bytes: &[u8]) {
    buffer[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// Writes the sector's CRC32C into its last four bytes.
pub(crate) fn seal(sector: &mut Sector) {
    let crc = crc32c::crc32c(&sector[..SECTOR_CRC]);
    put(sector, SECTOR_CRC, &crc.to_le_bytes());
}

/// Whether the sector's last four bytes are the CRC32C of the others.
pub(crate) fn is_sealed(sector: &Sector) -> bool {
    u32_at(sector, SECTOR_CRC) == crc32c::crc32c(&sector[..SECTOR_CRC])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_sector_notices_a_flipped_bit() {
        let mut sector = [7; SECTOR_BYTES];
        seal(&mut sector);
        assert!(is_sealed(&sector));
        sector[100] ^= 1;
        assert!(!is_sealed(&sector));
    }
}
