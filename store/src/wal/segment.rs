//! One file of the log: its name, its header, and the file it is.

use std::io::{self, IoSlice};
use std::sync::Arc;

use super::{Lsn, MAX_LSN};
use crate::disk::Disk;

/// Where records begin in a segment, in bytes.
pub(super) const RECORDS_OFFSET: u64 = 4096;

const MAGIC: [u8; 8] = *b"HWwalseg";
const FORMAT_VERSION: u32 = 1;
const HEADER_BYTES: usize = 48;

/// A segment that is in use. Its name is its number.
#[derive(Debug)]
pub(super) struct Segment<F> {
    pub(super) number: u64,
    /// The log position of its first record.
    pub(super) base: Lsn,
    /// Its header's CRC, from which the CRCs of its records go on.
    pub(super) seed: u32,
    pub(super) file: Arc<F>,
    /// Up to here, in bytes of the file, something was written before, as far as is known; records may be beyond.
    pub(super) written_bytes: u64,
}

impl<F> Segment<F> {
    /// Where the record at `lsn` lies in the file; `lsn` is not before the base.
    pub(super) fn offset(&self, lsn: Lsn) -> u64 {
        offset(self.base, lsn)
    }

    /// Writes the header of a segment that begins at `base` into `file`, and takes the file as that segment. The file was written
    /// up to `written_bytes`.
    pub(super) fn begin<D: Disk<File = F>>(
        disk: &D,
        file: Arc<F>,
        uuid: &[u8; 16],
        (number, base): (u64, Lsn),
        written_bytes: u64,
    ) -> io::Result<Self> {
        let seed = seed(&encode(uuid, number, base));
        let segment = Self { number, base, seed, file, written_bytes };
        segment.write_header(disk, uuid)?;
        Ok(segment)
    }

    /// Writes the header.
    pub(super) fn write_header<D: Disk<File = F>>(&self, disk: &D, uuid: &[u8; 16]) -> io::Result<()> {
        disk.write_at(&self.file, &[IoSlice::new(&encode(uuid, self.number, self.base))], 0)
    }
}

/// Where the position `lsn` of the log lies in the file of the segment that begins at `base`.
pub(super) fn offset(base: Lsn, lsn: Lsn) -> u64 {
    RECORDS_OFFSET + (lsn.0 - base.0)
}

/// What a file's first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Header {
    /// It is the segment that its name says.
    Valid { base: Lsn, seed: u32 },
    /// It was about to become that segment when it was interrupted: it holds nothing of it.
    Unfinished,
    /// Neither: the header was destroyed.
    Damaged,
}

impl Header {
    pub(super) fn read<D: Disk>(disk: &D, file: &D::File, uuid: &[u8; 16], number: u64) -> io::Result<Self> {
        let mut bytes = [0; HEADER_BYTES];
        let length = disk.read_at(file, &mut bytes, 0)?;
        Ok(if length < HEADER_BYTES { Self::Unfinished } else { Self::decode(&bytes, uuid, number) })
    }

    fn decode(bytes: &[u8; HEADER_BYTES], uuid: &[u8; 16], number: u64) -> Self {
        if bytes.iter().all(|byte| *byte == 0) {
            return Self::Unfinished;
        }
        let base = Lsn(u64_at(bytes, 40));
        let named = u64_at(bytes, 32);
        if *bytes != encode(uuid, named, base) || base > MAX_LSN {
            return Self::Damaged;
        }
        // A recycled file bears its new name before its new header.
        if named == number { Self::Valid { base, seed: seed(bytes) } } else { Self::Unfinished }
    }
}

fn encode(uuid: &[u8; 16], number: u64, base: Lsn) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[0..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes[16..32].copy_from_slice(uuid);
    bytes[32..40].copy_from_slice(&number.to_le_bytes());
    bytes[40..48].copy_from_slice(&base.0.to_le_bytes());
    let crc = crc32c::crc32c(&bytes);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn seed(header: &[u8; HEADER_BYTES]) -> u32 {
    u32::from_le_bytes([header[12], header[13], header[14], header[15]])
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    bytes[offset..offset + 8].try_into().map(u64::from_le_bytes).expect("the slice has eight bytes")
}

/// The file of segment `number`, relative to the disk.
pub(super) fn path(number: u64) -> String {
    format!("{}/{number:016x}", super::DIRECTORY)
}

/// The number in a file's name, if it is a segment's.
pub(super) fn number(name: &str) -> Option<u64> {
    let number = u64::from_str_radix(name, 16).ok()?;
    (format!("{number:016x}") == name).then_some(number)
}
