//! Discarding parts of objects, setting their space aside, and removing them.

use std::io::IoSlice;
use std::ops::Range;

use huntaway_wire::{
    BLOCK_SIZE_BYTES, BLOCKS_PER_OBJECT, Broken, ByteRange, Durability, Error, ObjectRequest, Reply, Version,
    pieces,
};
use smallvec::SmallVec;

use crate::disk::Disk;
use crate::object::FILE_BYTES;
use crate::partition::PartitionState;
use crate::read::Block;
use crate::store::{Step, Store};
use crate::waiters::Until;
use crate::wal::{Change, Lsn, WalError};
use crate::write::Logged;

/// What discarding does to the object's blocks.
struct Discard {
    /// Blocks that become holes.
    holes: Range<u32>,
    /// Blocks discarded in part, as they are afterwards, that were not zeroes there already.
    merged: SmallVec<[(u32, Vec<u8>); 2]>,
}

impl<D: Disk> Store<D> {
    /// Discards; durable as asked once what it returns has come about.
    pub(crate) fn discard(
        &self,
        request: &ObjectRequest,
        range: ByteRange,
        durability: Durability,
    ) -> Result<Step, Error> {
        let damaged = || Broken::DamagedObject { oid: request.oid };
        self.with_partition(
            request.partition,
            |state| self.discard_locked(state, request, range, durability),
            damaged,
        )
    }

    fn discard_locked(
        &self,
        state: &mut PartitionState,
        request: &ObjectRequest,
        range: ByteRange,
        durability: Durability,
    ) -> Result<Step, Error> {
        state.check_pepoch(request.pepoch)?;
        if state.memory.object(request.oid).is_none() && self.object(state, request.oid)?.is_none() {
            return Ok(Step::Done(Reply::Done));
        }
        if !self.has_memory_for(u64::from(BLOCK_SIZE_BYTES) * 4) {
            return Ok(Step::Full);
        }
        let plan = self.plan_discard(state, request, range)?;
        if plan.holes.is_empty() && plan.merged.is_empty() {
            return Ok(self.already_so(durability));
        }
        self.change(state, request, range.blocks(), durability, |version, state| {
            self.log_discard(state, request, version, plan)
        })
    }

    /// The answer when the range reads as zeroes already: what made it so may not be on stable storage yet.
    fn already_so(&self, durability: Durability) -> Step {
        let written = self.wal.written();
        match durability {
            Durability::Stable if self.wal.durable() < written => Step::Wait(Until::Durable(written)),
            Durability::Stable | Durability::Logged => Step::Done(Reply::Done),
        }
    }

    fn plan_discard(
        &self,
        state: &PartitionState,
        request: &ObjectRequest,
        range: ByteRange,
    ) -> Result<Discard, Error> {
        let first_whole = range.offset().div_ceil(BLOCK_SIZE_BYTES);
        let holes = first_whole..(range.end() / BLOCK_SIZE_BYTES).max(first_whole);
        let mut merged = SmallVec::new();
        for piece in pieces(range).filter(|piece| piece.len() < BLOCK_SIZE_BYTES as usize) {
            let block = piece.start / BLOCK_SIZE_BYTES;
            let mut content: Block = [0; BLOCK_SIZE_BYTES as usize];
            self.read_block(state, request.oid, block, &mut content)?;
            let start = (piece.start % BLOCK_SIZE_BYTES) as usize;
            let part = &mut content[start..start + piece.len()];
            if part.iter().any(|&byte| byte != 0) {
                part.fill(0);
                merged.push((block, content.to_vec()));
            }
        }
        Ok(Discard { holes, merged })
    }

    /// Several records for one change: they are about different blocks, so it does not matter which of them a crash
    /// spares, and doing it again after running out of room is the same as doing it once.
    fn log_discard(
        &self,
        state: &mut PartitionState,
        request: &ObjectRequest,
        version: Version,
        plan: Discard,
    ) -> Result<Lsn, WalError> {
        let oid = request.oid;
        let mut end = Lsn(0);
        for (block, content) in plan.merged {
            let crcs = [crc32c::crc32c(&content)];
            let change = Change::Write { first_block: block, crcs: &crcs };
            let Logged { stamp, payload } =
                self.log(state, oid, version, change, &[IoSlice::new(&content)])?;
            state.memory.write(oid, block, payload, &crcs, stamp);
            end = stamp.lsn;
        }
        if !plan.holes.is_empty() {
            let change = Change::Discard { blocks: plan.holes.clone() };
            let stamp = self.log(state, oid, version, change, &[])?.stamp;
            state.memory.discard(oid, plan.holes, stamp);
            self.room.will_free(stamp.lsn);
            end = stamp.lsn;
        }
        Ok(end)
    }

    /// Sets the object's space aside. It is answered when the space is there.
    pub(crate) fn reserve(&self, request: &ObjectRequest) -> Result<Step, Error> {
        let damaged = || Broken::DamagedObject { oid: request.oid };
        self.with_partition(request.partition, |state| self.reserve_locked(state, request), damaged)
    }

    fn reserve_locked(&self, state: &mut PartitionState, request: &ObjectRequest) -> Result<Step, Error> {
        state.check_pepoch(request.pepoch)?;
        let oid = request.oid;
        let recent = state.memory.object(oid).and_then(|recent| recent.reservation());
        let was_reserved = self.file_behind(state, oid)?.is_some_and(|object| object.content().reserved);
        if was_reserved && recent.is_none() {
            return Ok(Step::Done(Reply::Done));
        }
        if !self.has_memory_for(0) {
            return Ok(Step::Full);
        }
        self.room.promise(&*self.disk, FILE_BYTES)?;
        let mut end = Lsn(0);
        let step = self.change(state, request, 0..BLOCKS_PER_OBJECT, Durability::Logged, |version, state| {
            let stamp = self.log(state, oid, version, Change::Reserve, &[])?.stamp;
            state.memory.reserve(oid, stamp);
            state.memory.promise(oid, FILE_BYTES);
            end = stamp.lsn;
            Ok(stamp.lsn)
        });
        match step {
            Ok(Step::Done(_)) => Ok(Step::Wait(Until::Applied(end))),
            other => {
                self.room.give_back(FILE_BYTES);
                other
            }
        }
    }

    /// Removes the object; durable as asked once what it returns has come about.
    pub(crate) fn remove(&self, request: &ObjectRequest, durability: Durability) -> Result<Step, Error> {
        let damaged = || Broken::DamagedObject { oid: request.oid };
        self.with_partition(
            request.partition,
            |state| self.remove_locked(state, request, durability),
            damaged,
        )
    }

    fn remove_locked(
        &self,
        state: &mut PartitionState,
        request: &ObjectRequest,
        durability: Durability,
    ) -> Result<Step, Error> {
        state.check_pepoch(request.pepoch)?;
        let oid = request.oid;
        let has_file = state.index.contains(oid) || state.index.leftover(oid).is_some();
        if state.memory.object(oid).is_none() && !has_file {
            return Ok(Step::Done(Reply::Done));
        }
        if !self.has_memory_for(0) {
            return Ok(Step::Full);
        }
        self.change(state, request, 0..BLOCKS_PER_OBJECT, durability, |version, state| {
            let stamp = self.log(state, oid, version, Change::Remove, &[])?.stamp;
            state.memory.remove(oid, stamp);
            self.room.will_free(stamp.lsn);
            Ok(stamp.lsn)
        })
    }
}
