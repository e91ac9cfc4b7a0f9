//! Who may touch which blocks now: first come, first served, readers together.

use std::ops::Range;

use huntaway_wire::Oid;
use smallvec::SmallVec;

use crate::order::{Access, OpId};

/// Operations kept without allocating: more than one at a time happens only when they wait for one another.
const INLINE_OPERATIONS: usize = 4;

/// The operations of one partition that run or wait, in order of arrival.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    operations: SmallVec<[Operation; INLINE_OPERATIONS]>,
}

#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) op: OpId,
    pub(crate) access: Access,
    pub(crate) oid: Oid,
    pub(crate) blocks: Range<u32>,
    pub(crate) running: bool,
}

impl Operation {
    fn conflicts(&self, other: &Self) -> bool {
        let both_read = self.access == Access::Read && other.access == Access::Read;
        let overlap = self.blocks.start < other.blocks.end && other.blocks.start < self.blocks.end;
        !both_read && self.oid == other.oid && overlap
    }
}

impl Locks {
    pub(crate) fn len(&self) -> usize {
        self.operations.len()
    }

    #[cfg(test)]
    pub(crate) fn has_spilled(&self) -> bool {
        self.operations.spilled()
    }

    /// Takes in `operation`; it runs when nothing before it conflicts. Returns whether it runs.
    pub(crate) fn arrive(&mut self, mut operation: Operation) -> bool {
        operation.running = !self.operations.iter().any(|earlier| earlier.conflicts(&operation));
        let running = operation.running;
        self.operations.push(operation);
        running
    }

    /// Takes out the running operation `op`, if there is one.
    pub(crate) fn leave(&mut self, op: OpId) -> Option<Operation> {
        let place = self.operations.iter().position(|operation| operation.op == op && operation.running)?;
        Some(self.operations.remove(place))
    }

    /// Lets the first waiting operation run that nothing before it conflicts with any more.
    pub(crate) fn start_next(&mut self) -> Option<&Operation> {
        let place = (0..self.operations.len()).find(|&place| {
            let (earlier, rest) = self.operations.split_at(place);
            !rest[0].running && !earlier.iter().any(|earlier| earlier.conflicts(&rest[0]))
        })?;
        let operation = &mut self.operations[place];
        operation.running = true;
        Some(operation)
    }
}
