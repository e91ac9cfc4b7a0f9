//! What lies on a disk beside the log: headers and tables of objects, indexes, superblock, table of disks, partitions.

use huntaway_store::fuzzing;

/// Bytes before the file's: which layout, whether checksums are made right, and whose file it is.
const CHOICE_BYTES: usize = 4;

/// Takes the bytes of a file.
pub fn run(bytes: &[u8]) {
    let Some((&[layout, seal, low, high], bytes)) = bytes.split_first_chunk::<CHOICE_BYTES>() else { return };
    let number = u16::from_le_bytes([low, high]);
    // Of the first VDI there can be.
    let oid = 1 << 32 | u64::from(number);
    let sealed = if seal & 1 == 0 { fuzzing::sealed(bytes) } else { bytes.to_vec() };
    match layout % 6 {
        0 => fuzzing::object_header(&sealed),
        1 => fuzzing::object_table(&table(bytes, oid), oid),
        2 => fuzzing::index(&sealed, number, seal & 2 != 0),
        3 => fuzzing::superblock(&superblock(&sealed)),
        4 => fuzzing::disk_table(&with_crc(bytes, seal & 1 == 0)),
        _ => fuzzing::known_partitions(&sealed, [low; 16]),
    }
}

/// The table with the checksum of every second entry made right: of its first twelve bytes, object and block.
fn table(bytes: &[u8], oid: u64) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (block, entry) in (0_u32..).zip(bytes.as_chunks_mut::<16>().0).step_by(2) {
        let covered = [&entry[..12], &oid.to_le_bytes(), &block.to_le_bytes()].concat();
        entry[12..].copy_from_slice(&crc32c::crc32c(&covered).to_le_bytes());
    }
    bytes
}

/// Two sectors at the places of the two slots.
fn superblock(sectors: &[u8]) -> Vec<u8> {
    let mut file = vec![0; 8192];
    for (slot, sector) in sectors.chunks_exact(512).take(2).enumerate() {
        file[slot * 4096..slot * 4096 + 512].copy_from_slice(sector);
    }
    file
}

fn with_crc(bytes: &[u8], is_right: bool) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if is_right {
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    }
    bytes
}
