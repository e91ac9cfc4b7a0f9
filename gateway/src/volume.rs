//! A VDI as a range of bytes: cuts a range into slices of objects and sends them to their primaries.
//!
//! Nothing here knows SCSI. Writes are submitted at once and in order; what a store does not answer at once is waited
//! for as [`Pending`].

use std::sync::Arc;

use bytes::Bytes;
use huntaway_wire::{
    Answer, BLOCK_SIZE_BYTES, Broken, ByteRange, Durability, Error, MappedRun, OBJECT_SIZE_BYTES, ObjectKind,
    Oid, Operation, PARTITIONS, Partition, Provisioning, Refusal, Reply, Segments, Space, Submission, Vid,
    piece_crcs, pieces,
};
use iscsi_target::{PIECE_BYTES, Payload, RunningCrc};
use smallvec::{SmallVec, smallvec};
use tokio::sync::oneshot;

use crate::cluster::Asker;
use crate::router::Router;

/// Longest run of bytes written by one request when a pattern is repeated over a range.
const PATTERN_CHUNK_BYTES: u64 = 1 << 20;

/// Most objects asked for one map (16 GiB of volume).
const MAX_MAPPED_OBJECTS: usize = 4096;

/// Most objects that are removed or set aside at the same time.
const OBJECTS_AT_ONCE: usize = 64;

/// Objects after which a run over a whole disk lets others have the thread: a large thin disk has millions that do not
/// exist, each answered at once.
const OBJECTS_BETWEEN_YIELDS: u64 = 256;

/// Blocks of a read whose CRCs are kept without allocating.
const INLINE_CRCS: usize = 64;

/// A piece that connections sum is a block.
const _: () = assert!(PIECE_BYTES == BLOCK_SIZE_BYTES as usize);

/// Bytes of one volume, mapped or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MappedBytes {
    /// Where the run begins.
    pub(crate) offset: u64,
    /// Its length.
    pub(crate) length: u64,
    /// Its state.
    pub(crate) provisioning: Provisioning,
}

impl MappedBytes {
    fn of(object: u32, run: MappedRun) -> Self {
        let block_size = u64::from(BLOCK_SIZE_BYTES);
        let object_start = u64::from(object) * u64::from(OBJECT_SIZE_BYTES);
        Self {
            offset: object_start + u64::from(run.first_block) * block_size,
            length: u64::from(run.blocks) * block_size,
            provisioning: run.provisioning,
        }
    }
}

/// One VDI as its gateway sees it.
pub struct Volume {
    vid: Vid,
    family: Vid,
    size_bytes: u64,
    router: Arc<Router>,
    /// The command that it is used for, if that has to be known.
    asker: Option<Arc<Asker>>,
}

/// The part of a byte range that lies in one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) partition: Partition,
    pub(crate) oid: Oid,
    pub(crate) range: ByteRange,
}

/// What a compare-and-write found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    /// What was expected; the data is written.
    Equal,
    /// Something else; nothing is written.
    Differs {
        /// The first byte that differs, counted from where the comparison began.
        offset: u32,
    },
}

/// What became of an operation on a volume.
pub(crate) enum Progress {
    /// Finished already.
    Done(Result<(), Error>),
    /// Some stores have yet to answer.
    Waiting(Pending),
}

/// Answers that are still to come.
#[derive(Default)]
pub(crate) struct Pending {
    waiting: SmallVec<[oneshot::Receiver<Answer>; 2]>,
    failed: Option<Error>,
}

impl Volume {
    /// The working version `vid` of the family `family`, `size_bytes` long.
    pub fn new(vid: Vid, family: Vid, size_bytes: u64, router: Arc<Router>) -> Self {
        Self { vid, family, size_bytes, router, asker: None }
    }

    /// The same, as it is used for a command.
    pub(crate) fn asked_by(&self, asker: &Arc<Asker>) -> Self {
        let Self { vid, family, size_bytes, ref router, .. } = *self;
        Self { vid, family, size_bytes, router: Arc::clone(router), asker: Some(Arc::clone(asker)) }
    }

    /// The first version of the disk.
    pub(crate) fn vid(&self) -> Vid {
        self.vid
    }

    /// Its length.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Number of objects it is cut into.
    pub fn objects(&self) -> u32 {
        self.size_bytes.div_ceil(u64::from(OBJECT_SIZE_BYTES)) as u32
    }

    /// Cuts the `length` bytes at `offset` at object boundaries.
    pub(crate) fn slices(&self, offset: u64, length: u64) -> impl Iterator<Item = Slice> {
        let object_size = u64::from(OBJECT_SIZE_BYTES);
        let (vid, family) = (self.vid, self.family);
        let end = offset + length;
        let mut at = offset;
        std::iter::from_fn(move || {
            let within = at % object_size;
            let taken = (object_size - within).min(end.saturating_sub(at));
            let index = (at / object_size) as u32;
            let range = ByteRange::new(within as u32, taken as u32)?;
            at += taken;
            let oid = Oid::new(ObjectKind::Data, vid, index);
            Some(Slice { partition: Partition::of(family, index), oid, range })
        })
    }

    /// Reads into `into` if every store involved can answer at once, and adds to `sum` what the stores say that `into` holds.
    pub(crate) fn read_now(
        &self,
        offset: u64,
        into: &mut [u8],
        mut sum: Option<&mut RunningCrc>,
    ) -> Option<Result<(), Error>> {
        let mut rest = into;
        for slice in self.slices(offset, rest.len() as u64) {
            let (part, after) = rest.split_at_mut(slice.range.length() as usize);
            let read = match &mut sum {
                None => self.router.read_now(&slice, part, None)?,
                Some(sum) => {
                    let mut crcs: SmallVec<[u32; INLINE_CRCS]> = smallvec![0; slice.range.blocks().len()];
                    let read = self.router.read_now(&slice, part, Some(&mut crcs))?;
                    add_blocks(sum, slice.range, part, &crcs);
                    read
                }
            };
            if let Err(error) = read {
                return Some(Err(error));
            }
            rest = after;
        }
        Some(Ok(()))
    }

    /// Reads `length` bytes at `offset`, waiting as long as it takes.
    pub(crate) async fn read(&self, offset: u64, length: u64) -> Result<Segments, Error> {
        let submit = |slice: Slice| self.submit(slice, Operation::Read { range: slice.range });
        let submissions: Vec<Submission> = self.slices(offset, length).map(submit).collect();
        let mut data = Segments::new();
        for submission in submissions {
            if let Reply::Data(segments) = submission.answer().await? {
                data.extend(segments);
            }
        }
        Ok(data)
    }

    /// Writes `data` at `offset`.
    pub(crate) fn write(&self, offset: u64, data: &Payload, durability: Durability) -> Progress {
        self.each_slice_with_data(offset, data, |range, data, crcs| Operation::Write {
            range,
            data,
            crcs,
            durability,
        })
    }

    /// Compares the `length` bytes at `offset` with as many at the beginning of `data`, and if they are equal writes the
    /// rest of `data` there. The range must lie within one object, as its primary does both.
    pub(crate) async fn compare_and_write(
        &self,
        offset: u64,
        length: u64,
        data: &Payload,
        durability: Durability,
    ) -> Result<Comparison, Error> {
        let Some(slice) = self.slices(offset, length).next() else { return Ok(Comparison::Equal) };
        let range = slice.range;
        let mut rest = SegmentReader { segments: data.segments(), segment: 0, offset: 0 };
        let expected = rest.take(length as usize);
        let data = rest.take(length as usize);
        let crcs = piece_crcs(range, &data);
        let operation = Operation::CompareAndWrite { range, expected, data, crcs, durability };
        match self.submit(slice, operation).answer().await? {
            Reply::Done => Ok(Comparison::Equal),
            Reply::Miscompare { offset } => Ok(Comparison::Differs { offset }),
            Reply::Data(_) | Reply::Map(_) | Reply::Space(_) => Err(Refusal::NotServing.into()),
        }
    }

    /// Sets the bits that are set in `data` in the bytes at `offset`.
    pub(crate) fn or(&self, offset: u64, data: &Payload, durability: Durability) -> Progress {
        self.each_slice_with_data(offset, data, |range, data, crcs| Operation::Or {
            range,
            data,
            crcs,
            durability,
        })
    }

    /// Makes the range read as zeroes and gives its space back where the disk is thin.
    pub(crate) fn discard(&self, offset: u64, length: u64, durability: Durability) -> Progress {
        self.each_slice(offset, length, |range| Operation::Discard { range, durability })
    }

    /// Writes `pattern` over and over. `length` is a multiple of the pattern's length, which divides 4 KiB.
    pub(crate) async fn write_pattern(
        &self,
        offset: u64,
        length: u64,
        pattern: &[u8],
        durability: Durability,
    ) -> Result<(), Error> {
        let chunk = Bytes::from(pattern.repeat((PATTERN_CHUNK_BYTES as usize / pattern.len()).max(1)));
        let mut done = 0;
        while done < length {
            let taken = (length - done).min(chunk.len() as u64);
            let data = Payload::from(chunk.slice(..taken as usize));
            self.write(offset + done, &data, durability).finish().await?;
            done += taken;
        }
        Ok(())
    }

    /// Tells which bytes of the range hold data, in runs without gaps from its beginning on, widened to blocks of
    /// 4 KiB: at most `maximum_runs`, and of at most [`MAX_MAPPED_OBJECTS`] objects, and only up to one whose store
    /// cannot tell.
    ///
    /// # Errors
    /// The store of the first object cannot tell.
    pub(crate) async fn map(
        &self,
        offset: u64,
        length: u64,
        maximum_runs: usize,
    ) -> Result<Vec<MappedBytes>, Error> {
        let mut map: Vec<MappedBytes> = Vec::new();
        for slice in self.slices(offset, length).take(MAX_MAPPED_OBJECTS) {
            let operation = Operation::Map { range: slice.range };
            let runs = match self.submit(slice, operation).answer().await {
                Ok(Reply::Map(runs)) => runs,
                Err(error) if map.is_empty() => return Err(error),
                Ok(_) | Err(_) => break,
            };
            for run in runs {
                let run = MappedBytes::of(slice.oid.index(), run);
                match map.last_mut() {
                    Some(last) if last.provisioning == run.provisioning => last.length += run.length,
                    _ => map.push(run),
                }
            }
            if map.len() > maximum_runs {
                map.truncate(maximum_runs);
                break;
            }
        }
        Ok(map)
    }

    /// What space the stores have, after they have asked their disks.
    pub(crate) async fn space(&self) -> Result<Space, Error> {
        let mut space = Space::default();
        let submissions = self.router.space(true).map(Iterator::collect::<Vec<_>>);
        let submissions = submissions.ok_or(Refusal::NotServing)?;
        for submission in submissions {
            space = sum(space, submission.answer().await?);
        }
        Ok(space)
    }

    /// The same, as far as it is known at once; `None` if it is not.
    pub(crate) fn space_at_hand(&self) -> Option<Space> {
        self.router.space(false)?.try_fold(Space::default(), |space, submission| match submission {
            Submission::Done(Ok(reply)) => Some(sum(space, reply)),
            Submission::Done(Err(_)) | Submission::Waiting(_) => None,
        })
    }

    /// Puts everything that was acknowledged on stable storage, on every store.
    pub(crate) fn flush(&self) -> Progress {
        Pending::of(self.router.flush(self.vid, || self.partitions(), self.asker.as_ref()))
    }

    /// Those in which it may have objects.
    fn partitions(&self) -> Vec<Partition> {
        let mut is_in = vec![false; usize::from(PARTITIONS)];
        let mut partitions = Vec::new();
        for index in 0..self.objects() {
            let partition = Partition::of(self.family, index);
            if !std::mem::replace(&mut is_in[partition.index()], true) {
                partitions.push(partition);
            }
            if partitions.len() == is_in.len() {
                break;
            }
        }
        partitions
    }

    fn submit(&self, slice: Slice, operation: Operation) -> Submission {
        self.router.submit(slice.partition, slice.oid, operation, self.asker.as_ref())
    }

    /// Sets space aside for everything at and beyond `from_bytes` (a thick disk). May be repeated after an interruption.
    ///
    /// # Errors
    /// [`huntaway_wire::Refusal::NoSpace`] when it does not fit; what was set aside by then is kept: see [`Volume::remove`].
    pub async fn reserve(&self, from_bytes: u64) -> Result<(), Error> {
        self.each_object(from_bytes, |_| Operation::Reserve).await
    }

    /// Removes everything at and beyond `from_bytes`, for good: it reads as zeroes from now on, also after a power loss
    /// and when the disk has grown again. Whole objects are removed; of the one in which it begins, the rest is
    /// discarded, and stays set aside if it is. May be repeated after an interruption, and costs little where nothing is.
    ///
    /// # Errors
    /// The first store's that failed; any part may be removed by then.
    pub async fn remove(&self, from_bytes: u64) -> Result<(), Error> {
        self.each_object(from_bytes, |range| match range.offset() {
            0 => Operation::Remove { durability: Durability::Stable },
            _ => Operation::Discard { range, durability: Durability::Stable },
        })
        .await
    }

    /// Carries out an operation on each object from `from_bytes` on, the first time on what lies beyond it, a few objects
    /// at a time; gives way to others now and then.
    async fn each_object(
        &self,
        from_bytes: u64,
        operation: impl Fn(ByteRange) -> Operation,
    ) -> Result<(), Error> {
        let end_bytes = self.size_bytes.next_multiple_of(OBJECT_SIZE_BYTES.into());
        let mut waiting = Pending::default();
        for (count, slice) in (1_u64..).zip(self.slices(from_bytes, end_bytes.saturating_sub(from_bytes))) {
            match self.submit(slice, operation(slice.range)) {
                Submission::Done(Ok(_)) => {}
                Submission::Done(Err(error)) => waiting.fail(error),
                Submission::Waiting(receiver) => waiting.waiting.push(receiver),
            }
            if waiting.waiting.len() >= OBJECTS_AT_ONCE || waiting.failed.is_some() {
                std::mem::take(&mut waiting).finish().await?;
            }
            if count.is_multiple_of(OBJECTS_BETWEEN_YIELDS) {
                tokio::task::yield_now().await;
            }
        }
        waiting.finish().await
    }

    /// As `each_slice`, with each slice's part of `data` and the CRCs of its pieces: those that the data came with, if its
    /// pieces are those of the objects.
    fn each_slice_with_data(
        &self,
        offset: u64,
        data: &Payload,
        operation: impl Fn(ByteRange, Segments, SmallVec<[u32; 4]>) -> Operation,
    ) -> Progress {
        let mut rest = SegmentReader { segments: data.segments(), segment: 0, offset: 0 };
        let mut known = if has_pieces_of_objects(offset, data) { data.piece_crcs() } else { &[] };
        self.each_slice(offset, data.len() as u64, |range| {
            let data = rest.take(range.length() as usize);
            let (crcs, others) = known.split_at(range.blocks().len().min(known.len()));
            known = others;
            let crcs = match crcs.len() == range.blocks().len() {
                true => SmallVec::from_slice(crcs),
                false => piece_crcs(range, &data),
            };
            debug_assert_eq!(crcs, piece_crcs(range, &data), "the pieces of {range:?}");
            operation(range, data, crcs)
        })
    }

    fn each_slice(
        &self,
        offset: u64,
        length: u64,
        mut operation: impl FnMut(ByteRange) -> Operation,
    ) -> Progress {
        let submit = |slice: Slice| self.submit(slice, operation(slice.range));
        Pending::of(self.slices(offset, length).map(submit))
    }
}

/// Whether the pieces of data that is to be written at `offset` are cut where objects cut it into blocks.
fn has_pieces_of_objects(offset: u64, data: &Payload) -> bool {
    let in_block = (offset % u64::from(BLOCK_SIZE_BYTES)) as usize;
    in_block == 0 || in_block + data.len() <= PIECE_BYTES
}

/// Adds the bytes of `range` to a sum: whole blocks by their CRCs, without a look at them.
fn add_blocks(sum: &mut RunningCrc, range: ByteRange, mut bytes: &[u8], crcs: &[u32]) {
    for (piece, crc) in pieces(range).zip(crcs) {
        let (piece, rest) = bytes.split_at(piece.len());
        match piece.len() {
            PIECE_BYTES => sum.add_known(piece, *crc),
            _ => sum.add(piece),
        }
        bytes = rest;
    }
}

fn sum(space: Space, reply: Reply) -> Space {
    let Reply::Space(more) = reply else { return space };
    Space {
        available_bytes: space.available_bytes.saturating_add(more.available_bytes),
        total_bytes: space.total_bytes.saturating_add(more.total_bytes),
    }
}

impl Pending {
    /// Collects submissions; finished when all of them are.
    fn of(submissions: impl IntoIterator<Item = Submission>) -> Progress {
        let mut pending = Self::default();
        for submission in submissions {
            match submission {
                Submission::Done(Ok(_)) => {}
                Submission::Done(Err(error)) => pending.fail(error),
                Submission::Waiting(receiver) => pending.waiting.push(receiver),
            }
        }
        if pending.waiting.is_empty() {
            return Progress::Done(pending.failed.map_or(Ok(()), Err));
        }
        Progress::Waiting(pending)
    }

    /// Keeps the gravest error: what is broken comes before what was refused.
    fn fail(&mut self, error: Error) {
        let gravity = |error: &Error| match error {
            Error::Refused(_) => 0,
            Error::Broken(Broken::CorruptBlock { .. } | Broken::DamagedObject { .. }) => 1,
            Error::Broken(Broken::DiskFailed { .. }) => 2,
        };
        if self.failed.as_ref().is_none_or(|kept| gravity(kept) < gravity(&error)) {
            self.failed = Some(error);
        }
    }

    /// Waits for every answer, also after one failed, so that nothing of this operation is still under way afterwards.
    pub(crate) async fn finish(mut self) -> Result<(), Error> {
        for receiver in std::mem::take(&mut self.waiting) {
            if let Err(error) = Submission::Waiting(receiver).answer().await {
                self.fail(error);
            }
        }
        self.failed.map_or(Ok(()), Err)
    }
}

impl Progress {
    /// Waits until it is finished.
    pub(crate) async fn finish(self) -> Result<(), Error> {
        match self {
            Self::Done(result) => result,
            Self::Waiting(pending) => pending.finish().await,
        }
    }
}

/// Hands out segments piece by piece without copying.
struct SegmentReader<'a> {
    segments: &'a [Bytes],
    segment: usize,
    offset: usize,
}

impl SegmentReader<'_> {
    fn take(&mut self, mut length: usize) -> Segments {
        let mut taken = Segments::new();
        while length > 0 {
            let Some(segment) = self.segments.get(self.segment) else { break };
            let part = length.min(segment.len() - self.offset);
            if part > 0 {
                taken.push(segment.slice(self.offset..self.offset + part));
            }
            length -= part;
            self.offset += part;
            if self.offset == segment.len() {
                self.segment += 1;
                self.offset = 0;
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests;
