//! Writing: whole blocks are logged as they came, fragments merged into the blocks they are part of.

use std::io::IoSlice;
use std::ops::Range;

use bytes::Bytes;
use huntaway_replica::order::{Access, Input, OpId, Output};
use huntaway_wire::{
    BLOCK_SIZE_BYTES, Broken, ByteRange, Durability, Error, ObjectRequest, Oid, Refusal, Reply, Segments,
    Version, pieces,
};
use smallvec::SmallVec;

use crate::disk::Disk;
use crate::memory::{Recent, RecentObject, Stamp};
use crate::object::{Entry, NEW_OBJECT_BYTES, ObjectFile};
use crate::partition::PartitionState;
use crate::read::Block;
use crate::store::{Step, Store};
use crate::waiters::Until;
use crate::wal::{Change, Lsn, RecordHeader, WalError};

/// The only operation under way in a partition: it is over before the partition's lock is let go.
const THE_OPERATION: OpId = OpId(0);

/// Blocks of a write whose CRCs are kept without allocating.
const INLINE_BLOCKS: usize = 16;

/// Whole blocks to be written: all but the rest of the blocks that fragments are part of, which is zeroes here.
pub(crate) struct Blocks {
    first_block: u32,
    content: Content,
    crcs: SmallVec<[u32; INLINE_BLOCKS]>,
    /// The pieces of the write that are fragments: at most the first and the last.
    fragments: SmallVec<[Range<u32>; 2]>,
}

/// Where a change is in the log.
pub(crate) struct Logged {
    pub(crate) stamp: Stamp,
    /// Where its data begins.
    pub(crate) payload: Lsn,
}

/// The bytes of whole blocks.
enum Content {
    /// In one piece, which may be changed.
    Owned(Vec<u8>),
    /// As they were received.
    Shared(Segments),
}

impl Content {
    /// The bytes of `range` in `data`, with zeroes around them up to the borders of blocks.
    fn copy(range: ByteRange, data: &Segments) -> Vec<u8> {
        let blocks = range.blocks();
        let mut bytes = Vec::with_capacity(blocks.len() * BLOCK_SIZE_BYTES as usize);
        bytes.resize((range.offset() - blocks.start * BLOCK_SIZE_BYTES) as usize, 0);
        data.iter().for_each(|segment| bytes.extend_from_slice(segment));
        bytes.resize(blocks.len() * BLOCK_SIZE_BYTES as usize, 0);
        bytes
    }

    fn len(&self) -> usize {
        match self {
            Self::Owned(bytes) => bytes.len(),
            Self::Shared(segments) => length_of(segments),
        }
    }

    /// The block at `place`, to be changed.
    fn block(&mut self, place: usize) -> &mut [u8] {
        if let Self::Shared(segments) = self {
            *self = Self::Owned(segments.concat());
        }
        match self {
            Self::Owned(bytes) => {
                &mut bytes[place * BLOCK_SIZE_BYTES as usize..][..BLOCK_SIZE_BYTES as usize]
            }
            Self::Shared(_) => unreachable!("it was made owned"),
        }
    }

    fn parts(&self) -> SmallVec<[IoSlice<'_>; 4]> {
        match self {
            Self::Owned(bytes) => SmallVec::from_iter([IoSlice::new(bytes)]),
            Self::Shared(segments) => segments.iter().map(|segment| IoSlice::new(segment)).collect(),
        }
    }
}

impl Blocks {
    /// Takes in the data, and verifies the CRCs of its fragments, since the blocks that these become part of get others.
    /// Whole blocks keep theirs, which whoever reads them verifies.
    fn gather(range: ByteRange, data: &Segments, crcs: &[u32]) -> Result<Self, u32> {
        let blocks = range.blocks();
        let length = length_of(data);
        if length != range.length() as usize || crcs.len() != blocks.len() {
            return Err(blocks.start);
        }
        let borders = [range.offset(), range.end()];
        let content = match borders.iter().all(|border| border.is_multiple_of(BLOCK_SIZE_BYTES)) {
            true => Content::Shared(data.clone()),
            false => Content::Owned(Content::copy(range, data)),
        };
        let crcs = SmallVec::from_slice(crcs);
        let mut gathered = Self { first_block: blocks.start, content, crcs, fragments: SmallVec::new() };
        let is_fragment = |piece: &Range<u32>| piece.len() < BLOCK_SIZE_BYTES as usize;
        for piece in pieces(range).filter(is_fragment) {
            gathered.verify(&piece)?;
            gathered.fragments.push(piece);
        }
        Ok(gathered)
    }

    /// Verifies the CRC of one piece; its block if it is wrong.
    fn verify(&mut self, piece: &Range<u32>) -> Result<(), u32> {
        let block = piece.start / BLOCK_SIZE_BYTES;
        let place = (block - self.first_block) as usize;
        let start = (piece.start % BLOCK_SIZE_BYTES) as usize;
        let bytes = &self.content.block(place)[start..start + piece.len()];
        if crc32c::crc32c(bytes) == self.crcs[place] { Ok(()) } else { Err(block) }
    }

    /// Puts the rest of `fragment`'s block, as it is in `old`, around it.
    fn merge(&mut self, fragment: &Range<u32>, old: &Block) {
        let place = (fragment.start / BLOCK_SIZE_BYTES - self.first_block) as usize;
        let block = self.content.block(place);
        let start = (fragment.start % BLOCK_SIZE_BYTES) as usize;
        let end = start + fragment.len();
        block[..start].copy_from_slice(&old[..start]);
        block[end..].copy_from_slice(&old[end..]);
        self.crcs[place] = crc32c::crc32c(block);
    }

    /// Verifies all pieces that are not verified yet.
    pub(crate) fn verify_all(&mut self, range: ByteRange) -> Result<(), u32> {
        pieces(range).try_for_each(|piece| self.verify(&piece))
    }

    /// Sets the bits that are set in `old`, which is what `block` holds. No fragment is left of it then.
    pub(crate) fn or(&mut self, block: u32, old: &Block) {
        let place = (block - self.first_block) as usize;
        let bytes = self.content.block(place);
        bytes.iter_mut().zip(old).for_each(|(byte, old)| *byte |= old);
        self.crcs[place] = crc32c::crc32c(bytes);
        self.fragments.retain(|fragment| fragment.start / BLOCK_SIZE_BYTES != block);
    }

    fn range(&self) -> Range<u32> {
        self.first_block..self.first_block + self.crcs.len() as u32
    }
}

fn length_of(data: &Segments) -> usize {
    data.iter().map(Bytes::len).sum()
}

impl<D: Disk> Store<D> {
    /// Writes; durable as asked once what it returns has come about.
    pub(crate) fn write(
        &self,
        request: &ObjectRequest,
        range: ByteRange,
        data: &Segments,
        crcs: &[u32],
        durability: Durability,
    ) -> Result<Step, Error> {
        let oid = request.oid;
        let blocks = self.gather(oid, range, data, crcs)?;
        let damaged = || Broken::DamagedObject { oid };
        self.with_partition(
            request.partition,
            |state| self.write_locked(state, request, blocks, durability),
            damaged,
        )
    }

    /// Takes in the data of a write.
    pub(crate) fn gather(
        &self,
        oid: Oid,
        range: ByteRange,
        data: &Segments,
        crcs: &[u32],
    ) -> Result<Blocks, Error> {
        Blocks::gather(range, data, crcs).map_err(|block| self.mismatch(oid, block))
    }

    /// The data of a block that was to be written is not what its CRC says.
    pub(crate) fn mismatch(&self, oid: Oid, block: u32) -> Error {
        self.metrics.corrupt_blocks.inc();
        tracing::error!(%oid, block, "a write does not match its checksums");
        Broken::CorruptBlock { oid, block }.into()
    }

    /// Writes with the partition's lock held.
    pub(crate) fn write_locked(
        &self,
        state: &mut PartitionState,
        request: &ObjectRequest,
        mut blocks: Blocks,
        durability: Durability,
    ) -> Result<Step, Error> {
        state.check_pepoch(request.pepoch)?;
        if !self.has_memory_for(blocks.content.len() as u64) {
            return Ok(Step::Full);
        }
        for fragment in std::mem::take(&mut blocks.fragments) {
            let mut old: Block = [0; BLOCK_SIZE_BYTES as usize];
            let read = self.read_block(state, request.oid, fragment.start / BLOCK_SIZE_BYTES, &mut old);
            #[cfg(feature = "planted-bugs")]
            let read = read.or_else(|error| {
                self.options.has(crate::PlantedBug::MergedOverCorrupt).then_some(0).ok_or(error)
            });
            read?;
            blocks.merge(&fragment, &old);
        }
        let promised_bytes = self.promise(state, request.oid, blocks.range())?;
        let range = blocks.range();
        let step = self.change(state, request, range, durability, |version, state| {
            let Logged { stamp, payload } = self.log_blocks(state, request, version, &blocks)?;
            state.memory.write(request.oid, blocks.first_block, payload, &blocks.crcs, stamp);
            state.memory.promise(request.oid, promised_bytes);
            Ok(stamp.lsn)
        });
        if !matches!(step, Ok(Step::Done(_) | Step::Wait(_))) {
            self.room.give_back(promised_bytes);
        }
        step
    }

    fn log_blocks(
        &self,
        state: &PartitionState,
        request: &ObjectRequest,
        version: Version,
        blocks: &Blocks,
    ) -> Result<Logged, WalError> {
        let change = Change::Write { first_block: blocks.first_block, crcs: &blocks.crcs };
        self.log(state, request.oid, version, change, &blocks.content.parts())
    }

    /// Adds a record to the log. What is in the log must be put in memory before the partition's lock is let go.
    pub(crate) fn log(
        &self,
        state: &PartitionState,
        oid: Oid,
        version: Version,
        change: Change<'_>,
        payload: &[IoSlice<'_>],
    ) -> Result<Logged, WalError> {
        let partition = state.order.partition();
        self.dirty.insert(partition);
        let header = RecordHeader { partition, oid, version, change };
        #[cfg(feature = "planted-bugs")]
        if self.options.has(crate::PlantedBug::AcknowledgeBeforeLogging) {
            self.kept_back.log(&self.wal)?;
            if let Some(lsn) = self.kept_back.keep(&self.wal, &header, payload) {
                return Ok(Logged { stamp: Stamp { lsn, version }, payload: header.payload_at(lsn) });
            }
        }
        let lsn = self.wal.append(&header, payload)?;
        Ok(Logged { stamp: Stamp { lsn, version }, payload: header.payload_at(lsn) })
    }

    /// Takes a change through the order: `log` puts it in the log and in memory under the version it gets, and says
    /// where its record ends.
    pub(crate) fn change(
        &self,
        state: &mut PartitionState,
        request: &ObjectRequest,
        blocks: Range<u32>,
        durability: Durability,
        log: impl FnOnce(Version, &mut PartitionState) -> Result<Lsn, WalError>,
    ) -> Result<Step, Error> {
        let (op, access) = (THE_OPERATION, Access::Write);
        let begin = Input::Begin { op, pepoch: request.pepoch, access, oid: request.oid, blocks };
        let version = match state.order.step(begin).first() {
            Some(Output::Start { version: Some(version), .. }) => *version,
            Some(Output::Refuse { refusal, .. }) => return Err((*refusal).into()),
            // Nothing else is under way, so it need not wait.
            Some(Output::Start { version: None, .. } | Output::Acknowledge { .. }) | None => {
                return Err(Refusal::NotServing.into());
            }
        };
        let lsn = match log(version, state) {
            Ok(lsn) => lsn,
            Err(error) => {
                state.order.step(Input::Failed { op });
                return self.wal_failed(error);
            }
        };
        state.order.step(Input::Logged { op });
        self.ring_unapplied();
        #[cfg(feature = "planted-bugs")]
        if self.options.has(crate::PlantedBug::StableWithoutSync) {
            return Ok(Step::Done(Reply::Done));
        }
        Ok(match durability {
            Durability::Logged => Step::Done(Reply::Done),
            Durability::Stable => Step::Wait(Until::Durable(lsn)),
        })
    }

    /// Whether memory has room for `bytes` more. A write larger than all of it goes when there is nothing else.
    pub(crate) fn has_memory_for(&self, bytes: u64) -> bool {
        let held = self.account.held_bytes();
        held == 0 || held.saturating_add(bytes) <= self.options.memory_bytes
    }

    /// Makes sure that the blocks can be applied: promises what they will take of the disk. Also finds out whether the
    /// object is sound, for nothing is acknowledged that cannot be applied.
    pub(crate) fn promise(&self, state: &PartitionState, oid: Oid, blocks: Range<u32>) -> Result<u64, Error> {
        let object = self.file_behind(state, oid)?;
        let bytes = new_bytes(state, oid, object.as_deref(), blocks);
        self.room.promise(&*self.disk, bytes)?;
        Ok(bytes)
    }
}

/// What data in these blocks takes of the disk that was not taken or promised before, when `object` has what is not among the
/// recent writes.
pub(crate) fn new_bytes<D: Disk>(
    state: &PartitionState,
    oid: Oid,
    object: Option<&ObjectFile<D>>,
    blocks: impl Iterator<Item = u32>,
) -> u64 {
    let recent = state.memory.object(oid);
    let content = object.map(ObjectFile::content);
    let was_reserved = content.as_ref().is_some_and(|content| content.reserved);
    if recent.and_then(RecentObject::reservation).unwrap_or(was_reserved) {
        return 0;
    }
    let takes_space = |block: &u32| match recent.map_or(Recent::Unknown, |recent| recent.block(*block)) {
        Recent::Data { .. } => false,
        Recent::Zero | Recent::Lost => true,
        Recent::Unknown => {
            !content.as_ref().is_some_and(|content| matches!(content.table.entry(*block), Entry::Data { .. }))
        }
    };
    let new_blocks = blocks.filter(takes_space).count() as u64;
    let is_new = object.is_none() && recent.is_none();
    new_blocks * u64::from(BLOCK_SIZE_BYTES) + if is_new { NEW_OBJECT_BYTES } else { 0 }
}
