//! One record of the log and its bytes (`store/FORMAT.md`, "wal/").

use std::ops::Range;

use bytes::Bytes;
use huntaway_wire::{BLOCK_SIZE_BYTES, BLOCKS_PER_OBJECT, Oid, Partition, Version};

use super::Lsn;

/// Size of the fixed part of a record in bytes; the CRCs of its blocks follow, then the blocks.
pub(super) const HEADER_BYTES: usize = 56;

/// Records begin at multiples of this many bytes.
pub(super) const ALIGNMENT_BYTES: u64 = 8;

/// Most bytes of what an entry of a replica says, without data: with the blocks of a whole object it fits in a segment.
const MAX_META_BYTES: usize = 1 << 19;

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
    /// An entry of a replica's log. The payload is the blocks of data that belong to it.
    Replicated {
        /// What it says: see `store/FORMAT.md`, "Entries of replicas".
        meta: &'a [u8],
        /// CRC32C of each block of the payload, as with [`Change::Write`].
        crcs: &'a [u32],
    },
}

/// A record as replay finds it.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    /// What it says.
    pub header: RecordHeader<'a>,
    /// The blocks, 4 KiB each, verified against their CRCs, if the change has any; otherwise empty.
    pub payload: Bytes,
}

impl RecordHeader<'_> {
    /// Bytes of payload that go with it.
    pub fn payload_bytes(&self) -> u64 {
        self.crcs().len() as u64 * u64::from(BLOCK_SIZE_BYTES)
    }

    /// Bytes it takes in the log, payload and alignment included.
    pub fn logged_bytes(&self) -> u64 {
        (HEADER_BYTES as u64 + self.table_bytes() + self.payload_bytes()).next_multiple_of(ALIGNMENT_BYTES)
    }

    /// Where in the log its payload begins; `end`: where the record ends.
    pub fn payload_at(&self, end: Lsn) -> Lsn {
        Lsn(end.0 - self.logged_bytes() + HEADER_BYTES as u64 + self.table_bytes())
    }

    /// The CRCs of the payload's blocks.
    pub(super) fn crcs(&self) -> &[u32] {
        match self.change {
            Change::Write { crcs, .. } | Change::Replicated { crcs, .. } => crcs,
            Change::Discard { .. } | Change::Reserve | Change::Remove => &[],
        }
    }

    /// What follows the CRCs.
    pub(super) fn meta(&self) -> &[u8] {
        match self.change {
            Change::Replicated { meta, .. } => meta,
            _ => &[],
        }
    }

    /// Bytes between the fixed part and the payload.
    fn table_bytes(&self) -> u64 {
        self.crcs().len() as u64 * 4 + self.meta().len() as u64
    }

    /// Whether it can be read back: blocks that exist, at least one where it names any.
    pub(super) fn is_well_formed(&self) -> bool {
        let blocks = self.blocks();
        let has_blocks = match self.change {
            Change::Write { .. } | Change::Discard { .. } => !blocks.is_empty(),
            Change::Reserve | Change::Remove => blocks.is_empty(),
            Change::Replicated { meta, .. } => meta.len() <= MAX_META_BYTES,
        };
        has_blocks && blocks.end <= BLOCKS_PER_OBJECT
    }

    fn kind(&self) -> u8 {
        match self.change {
            Change::Write { .. } => 1,
            Change::Discard { .. } => 2,
            Change::Reserve => 3,
            Change::Remove => 4,
            Change::Replicated { .. } => 5,
        }
    }

    fn blocks(&self) -> Range<u32> {
        match &self.change {
            Change::Write { first_block, crcs } => {
                *first_block..first_block.saturating_add(crcs.len() as u32)
            }
            Change::Discard { blocks } => blocks.clone(),
            Change::Reserve | Change::Remove => 0..0,
            Change::Replicated { crcs, .. } => 0..crcs.len() as u32,
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
    meta_bytes: usize,
    table_crc: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Write,
    Discard,
    Reserve,
    Remove,
    Replicated,
}

/// What follows a record's fixed part, but for its payload.
#[derive(Debug, Default)]
pub(super) struct Table {
    crcs: Vec<u32>,
    meta: Vec<u8>,
}

/// The fixed part's bytes; `table` is what follows it. `seed` is the segment's own CRC, so that no record is taken for one of
/// another segment.
pub(super) fn encode(header: &RecordHeader<'_>, place: Place, seed: u32, table: &[u8]) -> [u8; HEADER_BYTES] {
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
    bytes[48..52].copy_from_slice(&crc32c::crc32c(table).to_le_bytes());
    bytes[52..56].copy_from_slice(&(header.meta().len() as u32).to_le_bytes());
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
            5 => Kind::Replicated,
            _ => return None,
        };
        let first_block = u32_at(bytes, 44) & 0xffff;
        let blocks = u32_at(bytes, 44) >> 16;
        let meta_bytes = if kind == Kind::Replicated { u32_at(bytes, 52) as usize } else { 0 };
        let has_blocks = match kind {
            Kind::Write | Kind::Discard => blocks > 0,
            Kind::Reserve | Kind::Remove => blocks == 0,
            Kind::Replicated => meta_bytes <= MAX_META_BYTES,
        };
        if !has_blocks || first_block + blocks > BLOCKS_PER_OBJECT {
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
            meta_bytes,
            table_crc: u32_at(bytes, 48),
        })
    }

    /// Whose it is.
    pub(super) fn partition(&self) -> Partition {
        self.partition
    }

    /// Blocks whose CRCs and content follow the fixed part.
    fn payload_blocks(&self) -> usize {
        if matches!(self.kind, Kind::Write | Kind::Replicated) { self.blocks as usize } else { 0 }
    }

    /// Bytes of all that follows: the table and the blocks.
    pub(super) fn rest_bytes(&self) -> usize {
        self.payload_blocks() * (4 + BLOCK_SIZE_BYTES as usize) + self.meta_bytes
    }

    /// Bytes of the whole record, alignment included.
    pub(super) fn logged_bytes(&self) -> u64 {
        ((HEADER_BYTES + self.rest_bytes()) as u64).next_multiple_of(ALIGNMENT_BYTES)
    }

    /// The record, given all that follows the fixed part; `None` when that does not match its CRCs. `table` is room for what
    /// precedes the payload.
    pub(super) fn complete<'a>(&self, rest: Bytes, table: &'a mut Table) -> Option<Record<'a>> {
        let crcs_bytes = self.payload_blocks() * 4;
        let table_bytes = crcs_bytes + self.meta_bytes;
        if rest.len() != self.rest_bytes() || crc32c::crc32c(&rest[..table_bytes]) != self.table_crc {
            return None;
        }
        let Table { crcs, meta } = table;
        crcs.clear();
        crcs.extend(rest[..crcs_bytes].chunks_exact(4).map(|bytes| u32_at(bytes, 0)));
        meta.clear();
        meta.extend_from_slice(&rest[crcs_bytes..table_bytes]);
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
            Kind::Replicated => Change::Replicated { meta, crcs },
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
