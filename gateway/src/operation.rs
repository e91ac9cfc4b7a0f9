//! Block operations that wait for stores: everything but the plain READ or WRITE that is answered at once.
//!
//! Also here: what a store's error means to an initiator.

use std::sync::Arc;

use bytes::Bytes;
use huntaway_scsi::{BlockOperation, Compare, Extent, LogicalUnit, Pattern, Sense, lba_status, limits};
use huntaway_wire::{
    BLOCK_SIZE_BYTES, BLOCKS_PER_OBJECT, Broken, Durability, Error, OBJECT_SIZE_BYTES, Provisioning, Refusal,
    Segments,
};
use iscsi_target::Payload;
use tokio::sync::Semaphore;

use crate::driver::MAX_READING_BYTES;
use crate::metrics::OperationKind;
use crate::order::Footprint;
use crate::unit::Unit;
use crate::volume::{Comparison, Volume};

/// An atomic write lies in one object, so that one store takes it, as one write.
const _: () = assert!((OBJECT_SIZE_BYTES as u64).is_multiple_of(limits::MAXIMUM_ATOMIC_BYTES));

/// Bytes compared at a time by VERIFY, so that a large one does not hold all its blocks in memory twice.
const VERIFY_CHUNK_BYTES: u64 = 1 << 20;

/// How a command ended.
pub(crate) enum Outcome {
    /// GOOD without data.
    Good,
    /// GOOD with this data for the initiator.
    Data(Segments),
    /// CHECK CONDITION.
    Failed(Sense),
}

impl From<Result<(), Sense>> for Outcome {
    fn from(result: Result<(), Sense>) -> Self {
        result.map_or_else(Self::Failed, |()| Self::Good)
    }
}

/// The family an operation counts under.
pub(crate) fn kind(operation: &BlockOperation) -> OperationKind {
    match operation {
        BlockOperation::Read { .. } => OperationKind::Read,
        BlockOperation::Write { .. }
        | BlockOperation::WriteAtomic { .. }
        | BlockOperation::WriteAndVerify { .. }
        | BlockOperation::OrWrite { .. } => OperationKind::Write,
        BlockOperation::CompareAndWrite { .. } => OperationKind::CompareAndWrite,
        BlockOperation::Verify { .. } => OperationKind::Verify,
        BlockOperation::WriteSame { .. } => OperationKind::WriteSame,
        BlockOperation::Unmap { .. } => OperationKind::Unmap,
        BlockOperation::Flush { .. } => OperationKind::Flush,
        BlockOperation::Prefetch { .. } | BlockOperation::LbaStatus { .. } => OperationKind::Other,
    }
}

/// Whether an operation ends in [`Outcome::Data`] if all is well.
pub(crate) fn has_data_in(operation: &BlockOperation) -> bool {
    matches!(operation, BlockOperation::Read { .. } | BlockOperation::LbaStatus { .. })
}

/// Whether an operation changes blocks.
pub(crate) fn writes(operation: &BlockOperation) -> bool {
    footprint(operation, 0, false).writes
}

/// What an operation touches, for its place in the order of commands.
pub(crate) fn footprint(operation: &BlockOperation, lun: u16, ordered: bool) -> Footprint {
    let (extent, writes) = match operation {
        BlockOperation::Write { extent, .. }
        | BlockOperation::WriteAtomic { extent, .. }
        | BlockOperation::WriteAndVerify { extent }
        | BlockOperation::CompareAndWrite { extent, .. }
        | BlockOperation::OrWrite { extent, .. }
        | BlockOperation::WriteSame { extent, .. } => (*extent, true),
        BlockOperation::Unmap { extents, .. } => (hull(extents), true),
        BlockOperation::Read { extent, .. }
        | BlockOperation::Verify { extent, .. }
        | BlockOperation::Prefetch { extent, .. }
        | BlockOperation::LbaStatus { extent, .. } => (*extent, false),
        // A flush covers what was acknowledged before it, not what is under way.
        BlockOperation::Flush { .. } => (Extent { lba: 0, blocks: 0 }, false),
    };
    Footprint { lba: extent.lba, blocks: extent.blocks, lun, writes, ordered }
}

/// The smallest extent that covers all of `extents`.
fn hull(extents: &[Extent]) -> Extent {
    let lba = extents.iter().map(|extent| extent.lba).min().unwrap_or(0);
    let end = extents.iter().map(Extent::end).max().unwrap_or(0);
    Extent { lba, blocks: end - lba }
}

/// Carries out an operation on the unit's `volume`, however long the stores take.
/// What a READ brings takes its part of `room` before it is asked for.
pub(crate) async fn run(
    unit: Arc<Unit>,
    volume: Arc<Volume>,
    operation: BlockOperation,
    data: Payload,
    room: Arc<Semaphore>,
) -> Outcome {
    let result = match operation {
        BlockOperation::Read { extent, fua } => return read(&unit, &volume, extent, fua, &room).await,
        BlockOperation::LbaStatus { extent, maximum_descriptors, allocation_length } => {
            return provisioning(&unit, &volume, extent, maximum_descriptors, allocation_length).await;
        }
        BlockOperation::Write { extent, fua } | BlockOperation::WriteAtomic { extent, fua } => {
            write(&unit, &volume, extent, &data, unit.durability(fua)).await
        }
        BlockOperation::WriteAndVerify { extent } => write_and_verify(&unit, &volume, extent, &data).await,
        BlockOperation::CompareAndWrite { extent, fua } => {
            compare_and_write(&unit, &volume, extent, &data, unit.durability(fua)).await
        }
        BlockOperation::OrWrite { extent, fua } => {
            or_write(&unit, &volume, extent, &data, unit.durability(fua)).await
        }
        BlockOperation::Verify { extent, compare } => verify(&unit, &volume, extent, compare, &data).await,
        BlockOperation::WriteSame { extent, unmap, pattern, fua } => {
            write_same(&unit, &volume, extent, unmap, pattern, &data, unit.durability(fua)).await
        }
        BlockOperation::Unmap { extents, fua } => unmap(&unit, &volume, &extents, unit.durability(fua)).await,
        BlockOperation::Flush { extent, immediate } => flush(&unit, &volume, extent, immediate).await,
        BlockOperation::Prefetch { .. } => Ok(()),
    };
    result.into()
}

async fn read(unit: &Unit, volume: &Volume, extent: Extent, fua: bool, room: &Semaphore) -> Outcome {
    if fua && let Err(sense) = flush(unit, volume, extent, false).await {
        return Outcome::Failed(sense);
    }
    let (offset, length) = unit.bytes(extent);
    let blocks = length.min(MAX_READING_BYTES).div_ceil(BLOCK_SIZE_BYTES.into());
    // Nobody closes it.
    let _room = room.acquire_many(blocks as u32).await;
    match volume.read(offset, length).await {
        Ok(data) => Outcome::Data(data),
        Err(error) => Outcome::Failed(sense_of(&error, &unit.scsi, extent.lba)),
    }
}

async fn write(
    unit: &Unit,
    volume: &Volume,
    extent: Extent,
    data: &Payload,
    durability: Durability,
) -> Result<(), Sense> {
    let (offset, _) = unit.bytes(extent);
    let written = volume.write(offset, data, durability).finish().await;
    written.map_err(|error| sense_of(&error, &unit.scsi, extent.lba))
}

/// What is read back is not compared with the data: another session may have written since, and whether the blocks
/// are what was written last, their checksums tell.
async fn write_and_verify(unit: &Unit, volume: &Volume, extent: Extent, data: &Payload) -> Result<(), Sense> {
    write(unit, volume, extent, data, Durability::Stable).await?;
    verify(unit, volume, extent, Compare::None, &Payload::new()).await
}

async fn compare_and_write(
    unit: &Unit,
    volume: &Volume,
    extent: Extent,
    data: &Payload,
    durability: Durability,
) -> Result<(), Sense> {
    let (offset, length) = unit.bytes(extent);
    match volume.compare_and_write(offset, length, data, durability).await {
        Ok(Comparison::Equal) => Ok(()),
        Ok(Comparison::Differs { offset }) => Err(Sense::miscompare(offset.into())),
        Err(error) => Err(sense_of(&error, &unit.scsi, extent.lba)),
    }
}

async fn or_write(
    unit: &Unit,
    volume: &Volume,
    extent: Extent,
    data: &Payload,
    durability: Durability,
) -> Result<(), Sense> {
    let (offset, _) = unit.bytes(extent);
    let written = volume.or(offset, data, durability).finish().await;
    written.map_err(|error| sense_of(&error, &unit.scsi, extent.lba))
}

async fn verify(
    unit: &Unit,
    volume: &Volume,
    extent: Extent,
    compare: Compare,
    data: &Payload,
) -> Result<(), Sense> {
    let (start, length) = unit.bytes(extent);
    let expected = data.to_vec();
    let mut done = 0;
    while done < length {
        let chunk = VERIFY_CHUNK_BYTES.min(length - done);
        let found = volume.read(start + done, chunk).await;
        let found = found.map_err(|error| sense_of(&error, &unit.scsi, extent.lba))?.concat();
        let expected = match compare {
            Compare::None => found.as_slice(),
            Compare::Full => expected.get(done as usize..(done + chunk) as usize).unwrap_or(&[]),
            Compare::SameBlock => &expected.repeat(found.len() / expected.len().max(1)),
        };
        if let Some(offset) = first_difference(&found, expected) {
            return Err(Sense::miscompare(done + offset as u64));
        }
        done += chunk;
    }
    Ok(())
}

fn first_difference(found: &[u8], expected: &[u8]) -> Option<usize> {
    if found == expected {
        return None;
    }
    let differing = found.iter().zip(expected).position(|(a, b)| a != b);
    Some(differing.unwrap_or(found.len().min(expected.len())))
}

async fn write_same(
    unit: &Unit,
    volume: &Volume,
    extent: Extent,
    unmap: bool,
    pattern: Pattern,
    data: &Payload,
    durability: Durability,
) -> Result<(), Sense> {
    let (offset, length) = unit.bytes(extent);
    let block = match pattern {
        Pattern::Zero => vec![0; unit.scsi.block_size() as usize],
        Pattern::Data => data.to_vec(),
    };
    let written = if unmap && block.iter().all(|byte| *byte == 0) {
        volume.discard(offset, length, durability).finish().await
    } else {
        volume.write_pattern(offset, length, &block, durability).await
    };
    written.map_err(|error| sense_of(&error, &unit.scsi, extent.lba))
}

async fn unmap(
    unit: &Unit,
    volume: &Volume,
    extents: &[Extent],
    durability: Durability,
) -> Result<(), Sense> {
    for extent in extents.iter().filter(|extent| !extent.is_empty()) {
        let (offset, length) = unit.bytes(*extent);
        let discarded = volume.discard(offset, length, durability).finish().await;
        discarded.map_err(|error| sense_of(&error, &unit.scsi, extent.lba))?;
    }
    Ok(())
}

async fn flush(unit: &Unit, volume: &Volume, extent: Extent, immediate: bool) -> Result<(), Sense> {
    let progress = volume.flush();
    if immediate {
        // The stores have the request: it goes on whether its answer is awaited or not.
        return Ok(());
    }
    progress.finish().await.map_err(|error| sense_of(&error, &unit.scsi, extent.lba))
}

async fn provisioning(
    unit: &Unit,
    volume: &Volume,
    extent: Extent,
    maximum: usize,
    allocation_length: u32,
) -> Outcome {
    let (start, length) = unit.bytes(extent);
    let block_size = u64::from(unit.scsi.block_size());
    match volume.map(start, length, maximum).await {
        Ok(map) => {
            let runs = map.into_iter().map(|run| {
                let from = run.offset.max(start);
                let to = (run.offset + run.length).min(start + length);
                let extent = Extent { lba: from / block_size, blocks: (to - from) / block_size };
                (extent, scsi_provisioning(run.provisioning))
            });
            let descriptors: Vec<_> = runs.collect();
            let data = lba_status(descriptors, allocation_length);
            Outcome::Data(Segments::from_iter([Bytes::from(data)]))
        }
        Err(error) => Outcome::Failed(sense_of(&error, &unit.scsi, extent.lba)),
    }
}

fn scsi_provisioning(provisioning: Provisioning) -> huntaway_scsi::Provisioning {
    match provisioning {
        Provisioning::Mapped => huntaway_scsi::Provisioning::Mapped,
        Provisioning::Deallocated => huntaway_scsi::Provisioning::Deallocated,
    }
}

/// The sense data that tells an initiator of a store's error. `lba` is where the command began.
pub(crate) fn sense_of(error: &Error, scsi: &LogicalUnit, lba: u64) -> Sense {
    match error {
        Error::Refused(Refusal::NoSpace { .. }) => Sense::space_allocation_failed(lba),
        Error::Refused(Refusal::GivenUp) => Sense::commands_cleared(),
        Error::Refused(Refusal::Unavailable) => Sense::port_unavailable(),
        Error::Refused(Refusal::StaleEpoch { .. } | Refusal::NotServing) => Sense::becoming_ready(),
        Error::Broken(Broken::CorruptBlock { oid, block }) => {
            let block = u64::from(oid.index()) * u64::from(BLOCKS_PER_OBJECT) + u64::from(*block);
            let damaged = block * (u64::from(BLOCK_SIZE_BYTES) / u64::from(scsi.block_size()));
            Sense::read_error(damaged.max(lba))
        }
        Error::Broken(Broken::DamagedObject { .. }) => Sense::read_error(lba),
        Error::Broken(Broken::DiskFailed { .. }) => Sense::internal_failure(),
    }
}
