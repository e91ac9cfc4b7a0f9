//! One record of the log and its bytes (`store/FORMAT.md`, "wal/").

use std::ops::Range;

use bytes::Bytes;
use huntaway_wire::{BLOCK_SIZE_BYTES, BLOCKS_PER_OBJECT, Oid, Partition, Version};

use super::Lsn;

/// Size of the fixed part of a record in bytes; the CRCs of its blocks follow, then the blocks.
pub(super) const HEADER_BYTES: usize = 56;

/// Records begin at multiples of this many bytes.
pub(super) const ALIGNMENT_BYTES: u64 = 8;

/// What every record begins with.
pub(super) const MAGIC: [u8; 4] = *b"HWrc";

/// What a record says, without the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordHeader<'a> {
    /// The object's partition.
    pub partition: Partition,
    /// The object.
    pub oid: Oid,
    /// Version of all that it changes.
    pub version: Version,
    /// What it changes.
    pub change: Change<'a>,
}

/// What a record changes. It names results, so that replaying it twice is the same as once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<'a> {
    /// Whole blocks have new content, which is the record's payload.
    Write {
        /// The first block within the object.
        first_block: u32,
        /// CRC32C of each block. A record whose data does not match them is unreadable.
        crcs: &'a [u32],
    },
    /// Blocks within the object become holes.
    Discard {
        /// Which.
        blocks: Range<u32>,
    },
    /// The object's space is set aside.
    Reserve,
    /// The object is gone, reserved or not.
    Remove,
}

/// A record as replay finds it.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    /// What it says.
    pub header: RecordHeader<'a>,
    /// For [`Change::Write`]: the blocks, 4 KiB each, verified against their CRCs; otherwise empty.
    pub payload: Bytes,
}

impl RecordHeader<'_> {
    /// Bytes of payload that go with it.
    pub fn payload_bytes(&self) -> u64 {
        match &self.change {
            Change::Write { crcs, .. } => crcs.len() as u64 * u64::from(BLOCK_SIZE_BYTES),
            Change::Discard { .. } | Change::Reserve | Change::Remove => 0,
        }
    }

    /// Bytes it takes in the log, payload and alignment included.
    pub fn logged_bytes(&self) -> u64 {
        (HEADER_BYTES as u64 + self.crcs_bytes() + self.payload_bytes()).next_multiple_of(ALIGNMENT_BYTES)
    }

    /// Where in the log its payload begins; `end`: where the record ends.
    pub fn payload_at(&self, end: Lsn) -> Lsn {
        Lsn(end.0 - self.logged_bytes() + HEADER_BYTES as u64 + self.crcs_bytes())
    }

    fn crcs_bytes(&self) -> u64 {
        match &self.change {
            Change::Write { crcs, .. } => crcs.len() as u64 * 4,
            Change::Discard { .. } | Change::Reserve | Change::Remove => 0,
        }
    }

    /// Whether it can be read back: blocks that exist, at least one where it names any.
    pub(super) fn is_well_formed(&self) -> bool {
        let blocks = self.blocks();
        let needs_blocks = matches!(self.change, Change::Write { .. } | Change::Discard { .. });
        needs_blocks != blocks.is_empty() && blocks.end <= BLOCKS_PER_OBJECT
    }

    fn kind(&self) -> u8 {
        match self.change {
            Change::Write { .. } => 1,
            Change::Discard { .. } => 2,
            Change::Reserve => 3,
            Change::Remove => 4,
        }
    }

    fn blocks(&self) -> Range<u32> {
        match &self.change {
            Change::Write { first_block, crcs } => {
                *first_block..first_block.saturating_add(crcs.len() as u32)
            }
            Change::Discard { blocks } => blocks.clone(),
            Change::Reserve | Change::Remove => 0..0,
        }
    }
}

/// Where a record stands, as its bytes say too: what tells it from a leftover of another life of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Where the record begins.
    pub(super) lsn: Lsn,
    /// What was known to be on stable storage when it was written.
    pub(super) durable_before: Lsn,
}

/// The fixed part of a record, read and found to be whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fixed {
    pub(super) place: Place,
    partition: Partition,
    oid: Oid,
    version: Version,
    kind: Kind,
    first_block: u32,
    blocks: u32,
    crcs_crc: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Write,
    Discard,
    Reserve,
    Remove,
}

/// The fixed part's bytes. `seed` is the segment's own CRC, so that no record is taken for one of another segment.
pub(super) fn encode(header: &RecordHeader<'_>, place: Place, seed: u32, crcs: &[u8]) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    let blocks = header.blocks();
    bytes[0..4].copy_from_slice(&MAGIC);
    bytes[8..16].copy_from_slice(&place.lsn.0.to_le_bytes());
    bytes[16..24].copy_from_slice(&place.durable_before.0.to_le_bytes());
    bytes[24..32].copy_from_slice(&header.oid.value().to_le_bytes());
    bytes[32..36].copy_from_slice(&header.version.pepoch.to_le_bytes());
    bytes[36..40].copy_from_slice(&header.version.seq.to_le_bytes());
    bytes[40..42].copy_from_slice(&header.partition.value().to_le_bytes());
    bytes[42] = header.kind();
    bytes[44..46].copy_from_slice(&(blocks.start as u16).to_le_bytes());
    bytes[46..48].copy_from_slice(&(blocks.len() as u16).to_le_bytes());
    bytes[48..52].copy_from_slice(&crc32c::crc32c(crcs).to_le_bytes());
    let crc = crc32c::crc32c_append(seed, &bytes[8..]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    bytes
}

impl Fixed {
    /// Reads the fixed part; `None` when it is not one, or damaged, or of another segment.
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES], seed: u32) -> Option<Self> {
        if bytes[0..4] != MAGIC || u32_at(bytes, 4) != crc32c::crc32c_append(seed, &bytes[8..]) {
            return None;
        }
        let kind = match bytes[42] {
            1 => Kind::Write,
            2 => Kind::Discard,
            3 => Kind::Reserve,
            4 => Kind::Remove,
            _ => return None,
        };
        let first_block = u32_at(bytes, 44) & 0xffff;
        let blocks = u32_at(bytes, 44) >> 16;
        let has_blocks = matches!(kind, Kind::Write | Kind::Discard);
        if has_blocks != (blocks > 0) || first_block + blocks > BLOCKS_PER_OBJECT {
            return None;
        }
        Some(Self {
            place: Place { lsn: Lsn(u64_at(bytes, 8)), durable_before: Lsn(u64_at(bytes, 16)) },
            partition: Partition::new((u32_at(bytes, 40) & 0xffff) as u16).ok()?,
            oid: Oid::from_value(u64_at(bytes, 24)).ok()?,
            version: Version { pepoch: u32_at(bytes, 32), seq: u32_at(bytes, 36) },
            kind,
            first_block,
            blocks,
            crcs_crc: u32_at(bytes, 48),
        })
    }

    /// Blocks whose CRCs and content follow the fixed part.
    fn payload_blocks(&self) -> usize {
        if self.kind == Kind::Write { self.blocks as usize } else { 0 }
    }

    /// Bytes of CRCs and blocks that follow.
    pub(super) fn rest_bytes(&self) -> usize {
        self.payload_blocks() * (4 + BLOCK_SIZE_BYTES as usize)
    }

    /// Bytes of the whole record, alignment included.
    pub(super) fn logged_bytes(&self) -> u64 {
        ((HEADER_BYTES + self.rest_bytes()) as u64).next_multiple_of(ALIGNMENT_BYTES)
    }

    /// The record, given all that follows the fixed part; `None` when that does not match its CRCs. `crcs` is room for
    /// those of the blocks.
    pub(super) fn complete<'a>(&self, rest: Bytes, crcs: &'a mut Vec<u32>) -> Option<Record<'a>> {
        let table_bytes = self.payload_blocks() * 4;
        if rest.len() != self.rest_bytes() || crc32c::crc32c(&rest[..table_bytes]) != self.crcs_crc {
            return None;
        }
        crcs.clear();
        crcs.extend(rest[..table_bytes].chunks_exact(4).map(|bytes| u32_at(bytes, 0)));
        let payload = rest.slice(table_bytes..);
        let intact = |(block, crc): (&[u8], &u32)| crc32c::crc32c(block) == *crc;
        if !payload.chunks_exact(BLOCK_SIZE_BYTES as usize).zip(&*crcs).all(intact) {
            return None;
        }
        let change = match self.kind {
            Kind::Write => Change::Write { first_block: self.first_block, crcs },
            Kind::Discard => Change::Discard { blocks: self.first_block..self.first_block + self.blocks },
            Kind::Reserve => Change::Reserve,
            Kind::Remove => Change::Remove,
        };
        let header = RecordHeader { partition: self.partition, oid: self.oid, version: self.version, change };
        Some(Record { header, payload })
    }
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    bytes[offset..offset + 4].try_into().map(u32::from_le_bytes).expect("the slice has four bytes")
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    bytes[offset..offset + 8].try_into().map(u64::from_le_bytes).expect("the slice has eight bytes")
}
