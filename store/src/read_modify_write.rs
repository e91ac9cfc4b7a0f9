//! Writes that depend on what is there: COMPARE AND WRITE and ORWRITE. The old blocks are read and verified, and the
//! new ones written, under one hold of the partition's lock: no other request comes between.

use huntaway_wire::{
    BLOCK_SIZE_BYTES, Broken, ByteRange, Durability, Error, ObjectRequest, Oid, Reply, Segments, pieces,
};

use crate::disk::Disk;
use crate::partition::PartitionState;
use crate::read::Block;
use crate::store::{Step, Store};

impl<D: Disk> Store<D> {
    /// Writes if the range holds what is expected; durable as asked once what it returns has come about.
    pub(crate) fn compare_and_write(
        &self,
        request: &ObjectRequest,
        range: ByteRange,
        expected: &Segments,
        (data, crcs): (&Segments, &[u32]),
        durability: Durability,
    ) -> Result<Step, Error> {
        let oid = request.oid;
        let blocks = self.gather(oid, range, data, crcs)?;
        let compare_and_write = |state: &mut PartitionState| {
            state.check_pepoch(request.pepoch)?;
            match self.first_difference(state, oid, range, expected)? {
                Some(offset) => Ok(Step::Done(Reply::Miscompare { offset })),
                None => self.write_locked(state, request, blocks, durability),
            }
        };
        self.with_partition(request.partition, compare_and_write, || Broken::DamagedObject { oid })
    }

    /// Sets bits; durable as asked once what it returns has come about.
    pub(crate) fn or(
        &self,
        request: &ObjectRequest,
        range: ByteRange,
        (data, crcs): (&Segments, &[u32]),
        durability: Durability,
    ) -> Result<Step, Error> {
        let oid = request.oid;
        let mut blocks = self.gather(oid, range, data, crcs)?;
        blocks.verify_all(range).map_err(|block| self.mismatch(oid, block))?;
        let or = |state: &mut PartitionState| {
            state.check_pepoch(request.pepoch)?;
            for block in range.blocks() {
                let mut old: Block = [0; BLOCK_SIZE_BYTES as usize];
                self.read_block(state, oid, block, &mut old)?;
                blocks.or(block, &old);
            }
            self.write_locked(state, request, blocks, durability)
        };
        self.with_partition(request.partition, or, || Broken::DamagedObject { oid })
    }

    /// Where the range first holds something else than `expected`, counted from the range's beginning. With the
    /// partition's lock held.
    fn first_difference(
        &self,
        state: &PartitionState,
        oid: Oid,
        range: ByteRange,
        expected: &Segments,
    ) -> Result<Option<u32>, Error> {
        let mut expected = expected.iter().flat_map(|segment| segment.iter());
        for piece in pieces(range) {
            let mut old: Block = [0; BLOCK_SIZE_BYTES as usize];
            self.read_block(state, oid, piece.start / BLOCK_SIZE_BYTES, &mut old)?;
            let start = (piece.start % BLOCK_SIZE_BYTES) as usize;
            let found = &old[start..start + piece.len()];
            // Where nothing is expected any more, nothing is equal.
            if let Some(place) = found.iter().position(|byte| expected.next() != Some(byte)) {
                return Ok(Some(piece.start - range.offset() + place as u32));
            }
        }
        Ok(None)
    }
}
