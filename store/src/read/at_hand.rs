//! Reading without waiting: what can be had at once, and what can be begun at once and finished later.
//!
//! Neither waits for the disk, nor for a partition that somebody else works on, who may wait for the disk. Whatever cannot
//! be had so, or is not what it should be, is left to [`Store::read_into`], which waits, and tells what is wrong.

use std::sync::{Arc, TryLockError};

use bytes::Bytes;
use huntaway_wire::{Answer, BLOCK_SIZE_BYTES, ByteRange, Error, Oid, Read, Reply, Segments};

use super::{FilePiece, FilePieces, FromFile, Missing, check_room, runs};
use crate::disk::{Disk, Part};
use crate::object::{ObjectFile, data_offset};
use crate::partition::{PartitionState, Slot};
use crate::store::Store;
use crate::wal::Lsn;

/// Why a read cannot be had at once.
enum Obstacle {
    /// Something would have to be waited for.
    Wait,
    /// It fails.
    Error(Error),
}

impl From<Error> for Obstacle {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// How far a read came at once.
pub(crate) enum Beginning<D: Disk> {
    /// To the end.
    Answered(Answer),
    /// What it lacks is to be read from a file.
    Begun(Begun<D>, Vec<u8>),
    /// Nowhere: it has to be waited for.
    Waits,
}

/// A read that lacks parts of a buffer, and what must be in them.
pub(crate) struct Begun<D: Disk> {
    object: Arc<ObjectFile<D>>,
    /// Whole blocks.
    pieces: FilePieces,
    /// The blocks in the buffer.
    blocks: ByteRange,
    read: Read,
}

impl<D: Disk> Store<D> {
    /// As [`Store::read_into`], but `None` if something would have to be waited for, or is not what it should be.
    pub(crate) fn read_at_hand(
        &self,
        read: &Read,
        into: &mut [u8],
        crcs: Option<&mut [u32]>,
    ) -> Option<Result<(), Error>> {
        let from_file = match self.plan_at_hand(read, into, crcs) {
            Ok(from_file) => from_file,
            Err(Obstacle::Error(error)) => return Some(Err(error)),
            Err(Obstacle::Wait) => return None,
        };
        let is_read = from_file.is_none_or(|(object, pieces)| {
            let fill =
                |piece: &FilePiece, bytes: &mut [u8]| object.read_at_hand(&self.disk, piece.block(), bytes);
            self.read_pieces(&pieces, read.range.offset(), into, fill)
        });
        is_read.then_some(Ok(()))
    }

    /// Begins a read whose answer is to be a buffer of its own.
    pub(crate) fn begin_read(&self, read: &Read) -> Beginning<D> {
        let blocks = whole_blocks(read.range);
        let mut bytes = vec![0; blocks.length() as usize];
        match self.plan_at_hand(&Read { range: blocks, ..*read }, &mut bytes, None) {
            Ok(Some((object, pieces))) => {
                Beginning::Begun(Begun { object, pieces, blocks, read: *read }, bytes)
            }
            Ok(None) => Beginning::Answered(Ok(reply(bytes, blocks, read.range))),
            Err(Obstacle::Error(error)) => Beginning::Answered(Err(error)),
            Err(Obstacle::Wait) => Beginning::Waits,
        }
    }

    /// Verifies what was read into the buffer; `None` if it is not what it should be.
    pub(crate) fn finish_read(&self, begun: &Begun<D>, bytes: Vec<u8>) -> Option<Reply> {
        let Begun { pieces, blocks, read, .. } = begun;
        let mut is_sound = runs(pieces)
            .zip(begun.parts())
            .map(|(run, part)| bytes.get(part.bytes).is_some_and(|blocks| self.are_sound(run, blocks)));
        is_sound.all(|is_sound| is_sound).then(|| reply(bytes, *blocks, read.range))
    }

    /// Reads what is in the log, and says what must come from a file.
    fn plan_at_hand(
        &self,
        read: &Read,
        into: &mut [u8],
        crcs: Option<&mut [u32]>,
    ) -> Result<Option<FromFile<D>>, Obstacle> {
        check_room(read, into, crcs.as_deref()).map_err(Error::from)?;
        let Missing { from_log, from_file } = self.look_at_hand(read, into, crcs)?;
        let is_read = from_log.is_none_or(|(log, pieces)| {
            let fill = |piece: &FilePiece, bytes: &mut [u8]| {
                let place = log.find(Lsn(piece.position));
                place.is_some_and(|(file, offset)| self.disk.read_at_hand(file, bytes, offset))
            };
            self.read_pieces(&pieces, read.range.offset(), into, fill)
        });
        if is_read { Ok(from_file) } else { Err(Obstacle::Wait) }
    }

    fn look_at_hand(
        &self,
        read: &Read,
        into: &mut [u8],
        crcs: Option<&mut [u32]>,
    ) -> Result<Missing<D>, Obstacle> {
        let slot = match self.partitions[read.partition.index()].try_lock() {
            Ok(slot) => slot,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(Obstacle::Wait),
        };
        match &*slot {
            Slot::Loaded(state) => {
                self.plan_read(state, read, into, crcs, |state| self.find_at_hand(state, read.oid))
            }
            Slot::Untouched | Slot::Damaged => Err(Obstacle::Wait),
        }
    }

    /// The object's file if it is open, `None` if there is none.
    fn find_at_hand(&self, state: &PartitionState, oid: Oid) -> Result<Option<Arc<ObjectFile<D>>>, Obstacle> {
        match self.objects.find((state.order.partition(), oid)) {
            None if state.index.version(oid).is_some() || state.index.leftover(oid).is_some() => {
                Err(Obstacle::Wait)
            }
            object => Ok(object),
        }
    }
}

impl<D: Disk> Begun<D> {
    /// The file that the parts are in.
    pub(crate) fn file(&self) -> &Arc<D::File> {
        self.object.file()
    }

    /// What is to be read from where in the file to where in the buffer.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Part> {
        let origin = self.blocks.offset();
        runs(&self.pieces).filter_map(move |run| {
            let (first, last) = (run.first()?, run.last()?);
            let bytes = first.in_buffer(origin).start..last.in_buffer(origin).end;
            Some(Part { offset: data_offset(first.block()), bytes })
        })
    }
}

/// The blocks that a range touches. An object is a multiple of them.
fn whole_blocks(range: ByteRange) -> ByteRange {
    let start = range.offset() - range.offset() % BLOCK_SIZE_BYTES;
    let end = range.end().next_multiple_of(BLOCK_SIZE_BYTES);
    ByteRange::new(start, end - start).unwrap_or(range)
}

/// The part `range` of a buffer that holds `blocks`.
fn reply(bytes: Vec<u8>, blocks: ByteRange, range: ByteRange) -> Reply {
    let start = (range.offset() - blocks.offset()) as usize;
    let bytes = Bytes::from(bytes).slice(start..start + range.length() as usize);
    Reply::Data(Segments::from_iter([bytes]))
}
