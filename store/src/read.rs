//! Reading: what was written lately from the log, else from the object file, every block verified before it counts.

mod at_hand;

use std::io;
use std::ops::Range;
use std::sync::Arc;

use huntaway_wire::{
    Answer, BLOCK_SIZE_BYTES, Broken, ByteRange, Error, MappedRun, Oid, Provisioning, Read, Refusal, Reply,
    Segments, ZERO_BLOCK_CRC, pieces,
};
use smallvec::SmallVec;

use crate::disk::Disk;
use crate::memory::Recent;
use crate::object::{Entry, LoadError, ObjectFile, ObjectPath, data_offset};
use crate::partition::PartitionState;
use crate::store::Store;
use crate::wal::{LogFiles, Lsn};

pub(crate) use at_hand::{Beginning, Begun};

/// Bytes of one block.
pub(crate) type Block = [u8; BLOCK_SIZE_BYTES as usize];

/// Pieces of a read that come from the file, kept without allocating.
const INLINE_PIECES: usize = 8;

/// Part of a read that must come from the log or the object file.
#[derive(Debug, Clone)]
struct FilePiece {
    /// Bytes within the object; within one block.
    bytes: Range<u32>,
    /// Where its block begins: in the log, if it comes from there, or in the file.
    position: u64,
    /// CRC32C of the whole block.
    crc: u32,
}

type FilePieces = SmallVec<[FilePiece; INLINE_PIECES]>;

/// What of a read must come from the log.
type FromLog<D> = (Arc<LogFiles<<D as Disk>::File>>, FilePieces);

/// What of a read must come from which file.
type FromFile<D> = (Arc<ObjectFile<D>>, FilePieces);

/// What a read lacks. It may be overwritten when the partition's lock is not held any more.
struct Missing<D: Disk> {
    from_log: Option<FromLog<D>>,
    from_file: Option<FromFile<D>>,
}

/// Where the content of a block is.
enum Source {
    Zero,
    Log { at: Lsn, crc: u32 },
    File { crc: u32 },
}

impl Source {
    /// CRC32C of the whole block.
    fn crc(&self) -> u32 {
        match self {
            Self::Zero => ZERO_BLOCK_CRC,
            Self::Log { crc, .. } | Self::File { crc } => *crc,
        }
    }
}

impl FilePiece {
    fn block(&self) -> u32 {
        self.bytes.start / BLOCK_SIZE_BYTES
    }

    fn is_whole(&self) -> bool {
        self.bytes.len() == BLOCK_SIZE_BYTES as usize
    }

    /// The piece within its block.
    fn in_block(&self) -> Range<usize> {
        let start = self.bytes.start % BLOCK_SIZE_BYTES;
        start as usize..start as usize + self.bytes.len()
    }

    /// The piece within a buffer that begins at `origin` of the object.
    fn in_buffer(&self, origin: u32) -> Range<usize> {
        (self.bytes.start - origin) as usize..(self.bytes.end - origin) as usize
    }
}

/// Pieces that are read at once: whole blocks that are neighbours.
fn runs(pieces: &FilePieces) -> impl Iterator<Item = &[FilePiece]> {
    let block_size = u64::from(BLOCK_SIZE_BYTES);
    pieces.chunk_by(move |a, b| {
        let are_neighbours = a.bytes.end == b.bytes.start && a.position + block_size == b.position;
        are_neighbours && a.is_whole() && b.is_whole()
    })
}

/// What is asked for must fit: that it does not is the caller's mistake, and there is nothing true to put there.
fn check_room(read: &Read, into: &[u8], crcs: Option<&[u32]>) -> Result<(), Refusal> {
    let lacks_crcs = crcs.is_some_and(|crcs| crcs.len() != read.range.blocks().len());
    if into.len() != read.range.length() as usize || lacks_crcs { Err(Refusal::NotServing) } else { Ok(()) }
}

impl<D: Disk> Store<D> {
    /// Fills `into` with the bytes asked for, all as they were at one moment. Writes are carried out whole under the
    /// partition's lock, so a read never meets one that is under way; what it finds in the log or the file may be overwritten
    /// while it reads, by other records or by application, which the checksum tells: then everything is read again. `crcs`:
    /// see [`huntaway_wire::Peer::read_now`].
    pub(crate) fn read_into(
        &self,
        read: &Read,
        into: &mut [u8],
        mut crcs: Option<&mut [u32]>,
    ) -> Result<(), Error> {
        check_room(read, into, crcs.as_deref())?;
        let damaged = || Broken::DamagedObject { oid: read.oid };
        let find = |state: &PartitionState| self.object(state, read.oid);
        let plan = |state: &mut PartitionState| self.plan_read(state, read, into, crcs.as_deref_mut(), find);
        let missing = self.with_partition(read.partition, plan, damaged)?;
        let origin = read.range.offset();
        let is_read = missing.from_log.is_none_or(|(log, pieces)| {
            let fill =
                |piece: &FilePiece, bytes: &mut [u8]| self.read_log(&log, piece.position, bytes).is_ok();
            self.read_pieces(&pieces, origin, into, fill)
        }) && missing.from_file.is_none_or(|(object, pieces)| {
            let fill =
                |piece: &FilePiece, bytes: &mut [u8]| object.read(&self.disk, piece.block(), bytes).is_ok();
            self.read_pieces(&pieces, origin, into, fill)
        });
        if is_read {
            return Ok(());
        }
        self.with_partition(read.partition, |state| self.read_again(state, read, into, crcs), damaged)
    }

    /// As [`Store::read_into`], for an answer.
    pub(crate) fn read_whole(&self, read: &Read) -> Answer {
        let mut bytes = vec![0; read.range.length() as usize];
        self.read_into(read, &mut bytes, None)?;
        Ok(Reply::Data(Segments::from_iter([bytes.into()])))
    }

    /// Fills in what is zero, and says what must come from the log, and from the file, which `find` finds.
    fn plan_read<E: From<Error>>(
        &self,
        state: &PartitionState,
        read: &Read,
        into: &mut [u8],
        crcs: Option<&mut [u32]>,
        find: impl FnOnce(&PartitionState) -> Result<Option<Arc<ObjectFile<D>>>, E>,
    ) -> Result<Missing<D>, E> {
        state.check_pepoch(read.pepoch).map_err(Error::from)?;
        let recent = state.memory.object(read.oid);
        let is_unknown = |block| recent.is_none_or(|recent| matches!(recent.block(block), Recent::Unknown));
        // What is in the log is as good as ever, whatever became of the file.
        let object = if read.range.blocks().any(is_unknown) { find(state)? } else { None };
        let content = object.as_ref().map(|object| object.content());
        let (mut from_log, mut from_file) = (FilePieces::new(), FilePieces::new());
        let mut crcs = crcs.into_iter().flatten();
        for bytes in pieces(read.range) {
            let mut piece = FilePiece { bytes, position: 0, crc: 0 };
            let known = recent.map_or(Recent::Unknown, |recent| recent.block(piece.block()));
            let target = &mut into[piece.in_buffer(read.range.offset())];
            let entry = |block| content.as_ref().map_or(Entry::Inherit, |content| content.table.entry(block));
            let source = self.source(known, read.oid, piece.block(), entry)?;
            crcs.next().into_iter().for_each(|crc| *crc = source.crc());
            piece.crc = source.crc();
            match source {
                Source::Zero => target.fill(0),
                Source::Log { at, .. } => {
                    piece.position = at.0;
                    from_log.push(piece);
                }
                Source::File { .. } => {
                    piece.position = data_offset(piece.block());
                    from_file.push(piece);
                }
            }
        }
        drop(content);
        let from_file = object.filter(|_| !from_file.is_empty()).map(|object| (object, from_file));
        let from_log = (!from_log.is_empty()).then(|| (self.log_files(), from_log));
        Ok(Missing { from_log, from_file })
    }

    fn source(
        &self,
        known: Recent,
        oid: Oid,
        block: u32,
        entry: impl FnOnce(u32) -> Entry,
    ) -> Result<Source, Error> {
        #[cfg(feature = "planted-bugs")]
        let known = match known {
            Recent::Zero if self.options.has(crate::PlantedBug::HoleReadFromFile) => Recent::Unknown,
            known => known,
        };
        match known {
            Recent::Data { at, crc } => Ok(Source::Log { at, crc }),
            Recent::Zero => Ok(Source::Zero),
            Recent::Lost => Err(self.corrupt(oid, block, "no replica has what it held")),
            Recent::Unknown => match entry(block) {
                Entry::Inherit | Entry::Hole { .. } => Ok(Source::Zero),
                Entry::Data { crc, .. } => Ok(Source::File { crc }),
                Entry::Lost { .. } => Err(self.corrupt(oid, block, "no replica has what it held")),
                Entry::Damaged => Err(self.corrupt(oid, block, "its table entry is damaged")),
            },
        }
    }

    /// Where the log is, once all that it is to hold is there.
    fn log_files(&self) -> Arc<LogFiles<D::File>> {
        #[cfg(feature = "planted-bugs")]
        if let Err(error) = self.kept_back.log(&self.wal) {
            tracing::error!(%error, "what was kept back cannot be logged");
        }
        self.wal.files()
    }

    /// Fills `bytes` with what is in the log from `position` on.
    pub(crate) fn read_log(
        &self,
        log: &LogFiles<D::File>,
        position: u64,
        bytes: &mut [u8],
    ) -> io::Result<()> {
        let (file, offset) = log.find(Lsn(position)).ok_or(io::ErrorKind::NotFound)?;
        match self.disk.read_at(file, bytes, offset)? {
            count if count < bytes.len() => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Has `fill` read pieces, from one on, neighbours at once; false if it does not, or if one of them is not what it should
    /// be.
    fn read_pieces(
        &self,
        pieces: &FilePieces,
        origin: u32,
        into: &mut [u8],
        fill: impl Fn(&FilePiece, &mut [u8]) -> bool,
    ) -> bool {
        runs(pieces).all(|run| {
            let (Some(first), Some(last)) = (run.first(), run.last()) else { return true };
            if !first.is_whole() {
                return self.read_fragment(first, &mut into[first.in_buffer(origin)], &fill);
            }
            let target = &mut into[first.in_buffer(origin).start..last.in_buffer(origin).end];
            fill(first, target) && self.are_sound(run, target)
        })
    }

    /// Whether the blocks of a run are what was written.
    fn are_sound(&self, run: &[FilePiece], blocks: &[u8]) -> bool {
        let blocks = blocks.chunks_exact(BLOCK_SIZE_BYTES as usize);
        run.iter().zip(blocks).all(|(piece, bytes)| self.is_sound(bytes, piece.crc))
    }

    /// Reads and verifies the block of a piece and copies the piece out of it.
    fn read_fragment(
        &self,
        piece: &FilePiece,
        target: &mut [u8],
        fill: impl Fn(&FilePiece, &mut [u8]) -> bool,
    ) -> bool {
        let mut block: Block = [0; BLOCK_SIZE_BYTES as usize];
        let is_right = fill(piece, &mut block) && self.is_sound(&block, piece.crc);
        if is_right {
            target.copy_from_slice(&block[piece.in_block()]);
        }
        is_right
    }

    /// Reads everything again with the partition's lock held, when neither application nor the log's reuse can interfere: what
    /// is wrong now is wrong.
    fn read_again(
        &self,
        state: &PartitionState,
        read: &Read,
        into: &mut [u8],
        crcs: Option<&mut [u32]>,
    ) -> Result<(), Error> {
        let mut crcs = crcs.into_iter().flatten();
        state.check_pepoch(read.pepoch)?;
        let mut block: Block = [0; BLOCK_SIZE_BYTES as usize];
        for bytes in pieces(read.range) {
            let piece = FilePiece { bytes, position: 0, crc: 0 };
            let crc = self.read_block(state, read.oid, piece.block(), &mut block)?;
            crcs.next().into_iter().for_each(|entry| *entry = crc);
            into[piece.in_buffer(read.range.offset())].copy_from_slice(&block[piece.in_block()]);
        }
        Ok(())
    }

    /// Reads one block with the partition's lock held; its CRC32C.
    pub(crate) fn read_block(
        &self,
        state: &PartitionState,
        oid: Oid,
        block: u32,
        into: &mut Block,
    ) -> Result<u32, Error> {
        let recent = state.memory.object(oid);
        let known = recent.map_or(Recent::Unknown, |recent| recent.block(block));
        let object = match known {
            Recent::Unknown => self.object(state, oid)?,
            Recent::Data { .. } | Recent::Zero | Recent::Lost => None,
        };
        let entry =
            |block| object.as_ref().map_or(Entry::Inherit, |object| object.content().table.entry(block));
        let source = self.source(known, oid, block, entry)?;
        let crc = source.crc();
        let read = match (source, &object) {
            (Source::Log { at, .. }, _) => self.read_log(&self.log_files(), at.0, into),
            (Source::File { .. }, Some(object)) => object.read(&self.disk, block, into),
            (Source::Zero | Source::File { .. }, _) => {
                into.fill(0);
                return Ok(crc);
            }
        };
        if let Err(error) = read {
            tracing::error!(%oid, block, %error, "a block cannot be read");
            return Err(self.corrupt(oid, block, "it cannot be read"));
        }
        if !self.is_sound(into, crc) {
            return Err(self.corrupt(oid, block, "it does not match its checksum"));
        }
        Ok(crc)
    }

    /// Whether a block is what was written.
    fn is_sound(&self, block: &[u8], crc: u32) -> bool {
        #[cfg(feature = "planted-bugs")]
        if self.options.has(crate::PlantedBug::CrcNotChecked) {
            return true;
        }
        crc32c::crc32c(block) == crc
    }

    /// The object's file, if the partition has the object. With the partition's lock held.
    pub(crate) fn object(
        &self,
        state: &PartitionState,
        oid: Oid,
    ) -> Result<Option<Arc<ObjectFile<D>>>, Error> {
        self.find_object(state, oid).map_err(|error| match error {
            LoadError::Io(error) if crate::error::is_shortage(&error) => {
                tracing::warn!(%oid, %error, "an object cannot be opened now");
                Refusal::NotServing.into()
            }
            error => {
                self.metrics.damaged_objects.inc();
                tracing::error!(%oid, %error, "the file of an object cannot be used");
                Broken::DamagedObject { oid }.into()
            }
        })
    }

    /// As [`Store::object`], with the reason why it cannot be used.
    pub(crate) fn find_object(
        &self,
        state: &PartitionState,
        oid: Oid,
    ) -> Result<Option<Arc<ObjectFile<D>>>, LoadError> {
        let key = (state.order.partition(), oid);
        if let Some(object) = self.objects.find(key) {
            return Ok(Some(object));
        }
        let path = || ObjectPath::new(&state.directory, oid);
        let Some(created) = state.index.version(oid) else {
            if let Some(leftover) = state.index.leftover(oid) {
                ObjectFile::check_leftover(&*self.disk, &path(), oid, leftover)?;
            }
            return Ok(None);
        };
        let recent = state.memory.object(oid);
        let is_redone = |block| recent.is_some_and(|recent| recent.is_in_doubt(block));
        let object = Arc::new(ObjectFile::open_indexed(&*self.disk, &path(), oid, created, &is_redone)?);
        self.objects.insert(key, object.clone());
        Ok(Some(object))
    }

    /// The object's file, unless what happened lately leaves nothing of it to look at.
    pub(crate) fn file_behind(
        &self,
        state: &PartitionState,
        oid: Oid,
    ) -> Result<Option<Arc<ObjectFile<D>>>, Error> {
        match state.memory.object(oid) {
            Some(recent) if recent.starts_anew() => Ok(None),
            _ => self.object(state, oid),
        }
    }

    fn corrupt(&self, oid: Oid, block: u32, reason: &'static str) -> Error {
        self.metrics.corrupt_blocks.inc();
        tracing::error!(%oid, block, reason, "a block is corrupt");
        Broken::CorruptBlock { oid, block }.into()
    }

    /// Which blocks of the range hold data, or have space set aside.
    pub(crate) fn map(&self, read: &Read) -> Result<Vec<MappedRun>, Error> {
        let damaged = || Broken::DamagedObject { oid: read.oid };
        self.with_partition(
            read.partition,
            |state| self.map_locked(state, read.oid, read.pepoch, read.range),
            damaged,
        )
    }

    fn map_locked(
        &self,
        state: &PartitionState,
        oid: Oid,
        pepoch: huntaway_wire::Pepoch,
        range: ByteRange,
    ) -> Result<Vec<MappedRun>, Error> {
        state.check_pepoch(pepoch)?;
        let recent = state.memory.object(oid);
        let object = self.file_behind(state, oid)?;
        let content = object.as_ref().map(|object| object.content());
        let was_reserved = content.as_ref().is_some_and(|content| content.reserved);
        let reserved = recent.and_then(|recent| recent.reservation()).unwrap_or(was_reserved);
        let is_mapped = |block| {
            reserved
                || match recent.map_or(Recent::Unknown, |recent| recent.block(block)) {
                    Recent::Data { .. } | Recent::Lost => true,
                    Recent::Zero => false,
                    Recent::Unknown => content.as_ref().is_some_and(|content| {
                        !matches!(content.table.entry(block), Entry::Inherit | Entry::Hole { .. })
                    }),
                }
        };
        let mut runs: Vec<MappedRun> = Vec::new();
        for block in range.blocks() {
            let provisioning =
                if is_mapped(block) { Provisioning::Mapped } else { Provisioning::Deallocated };
            match runs.last_mut() {
                Some(run) if run.provisioning == provisioning => run.blocks += 1,
                _ => runs.push(MappedRun { first_block: block, blocks: 1, provisioning }),
            }
        }
        Ok(runs)
    }
}
