//! Which operation on a partition may go on, and under which version. Whether it may at all is not judged here.

#[cfg(test)]
mod tests;

use std::ops::Range;

use huntaway_wire::{Oid, Partition, Pepoch, Refusal, Version};
use smallvec::SmallVec;

use crate::locks::{Locks, Operation};

/// Names one operation from its `Begin` to its end; chosen by the caller, unique among those under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

/// What an operation does to the blocks it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It looks at them; others may look at the same time.
    Read,
    /// It changes them; nobody else may touch them meanwhile.
    Write,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// An operation arrived.
    Begin {
        /// Its name.
        op: OpId,
        /// The pepoch its sender believes in.
        pepoch: Pepoch,
        /// Whether it changes the blocks.
        access: Access,
        /// The object.
        oid: Oid,
        /// The blocks it touches within the object, in blocks of 4 KiB.
        blocks: Range<u32>,
    },
    /// A write that was started is in the log, and visible to reads.
    Logged {
        /// The write.
        op: OpId,
    },
    /// A read that was started is over.
    Done {
        /// The read.
        op: OpId,
    },
    /// An operation that was started came to nothing: it changed nothing and its version is never used.
    Failed {
        /// The operation.
        op: OpId,
    },
}

/// What to do about it, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// The operation's blocks are its own now: carry it out.
    Start {
        /// The operation.
        op: OpId,
        /// For a write: the version of every block it touches.
        version: Option<Version>,
    },
    /// Every replica has the write: answer its sender (who asked for stable storage waits for that, too).
    Acknowledge {
        /// The write.
        op: OpId,
    },
    /// The operation is not taken; nothing was changed.
    Refuse {
        /// The operation.
        op: OpId,
        /// Why, and what its sender can do.
        refusal: Refusal,
    },
}

/// Outputs of one step: two or fewer unless operations had to wait.
pub type Outputs = SmallVec<[Output; 2]>;

/// Order, versions and block locks of one partition.
#[derive(Debug)]
pub struct Order {
    partition: Partition,
    pepoch: Pepoch,
    last_seq: u32,
    locks: Locks,
}

impl Order {
    /// Most operations that run or wait at a time; more are refused with [`Refusal::NotServing`].
    pub const MAX_OPERATIONS: usize = 4096;

    /// The order of `pepoch`, in which nothing was written yet.
    pub fn new(partition: Partition, pepoch: Pepoch) -> Self {
        Self { partition, pepoch, last_seq: 0, locks: Locks::default() }
    }

    /// The partition.
    pub fn partition(&self) -> Partition {
        self.partition
    }

    /// The pepoch it serves.
    pub fn pepoch(&self) -> Pepoch {
        self.pepoch
    }

    /// Operations that run or wait.
    pub fn operations(&self) -> usize {
        self.locks.len()
    }

    /// Whether the versions of this pepoch are used up: writes are refused until the partition has a new one.
    pub fn is_exhausted(&self) -> bool {
        self.last_seq == Version::MAX_SEQ
    }

    /// Gives the versions of the pepoch again, from the first one on, which is wrong.
    pub(crate) fn give_again(&mut self) {
        self.last_seq = 0;
    }

    /// Takes in what happened and says what to do. An input about an operation that is not running is ignored.
    pub fn step(&mut self, input: Input) -> Outputs {
        let mut outputs = Outputs::new();
        match input {
            Input::Begin { op, pepoch, access, oid, blocks } => match self.refusal(pepoch, access) {
                Some(refusal) => outputs.push(Output::Refuse { op, refusal }),
                None => {
                    if self.locks.arrive(Operation { op, access, oid, blocks, running: false }) {
                        self.start(op, access, &mut outputs);
                    }
                }
            },
            Input::Logged { op } => self.finish(op, Some(Output::Acknowledge { op }), &mut outputs),
            Input::Done { op } | Input::Failed { op } => self.finish(op, None, &mut outputs),
        }
        outputs
    }

    fn refusal(&self, pepoch: Pepoch, access: Access) -> Option<Refusal> {
        if pepoch < self.pepoch {
            return Some(Refusal::StaleEpoch { newest: self.pepoch });
        }
        let full = self.locks.len() >= Self::MAX_OPERATIONS;
        let exhausted = access == Access::Write && self.is_exhausted();
        // A sender ahead of us has heard of a pepoch that we do not serve yet.
        (full || exhausted || pepoch > self.pepoch).then_some(Refusal::NotServing)
    }

    fn start(&mut self, op: OpId, access: Access, outputs: &mut Outputs) {
        match access {
            Access::Read => outputs.push(Output::Start { op, version: None }),
            Access::Write if self.is_exhausted() => {
                self.locks.leave(op);
                outputs.push(Output::Refuse { op, refusal: Refusal::NotServing });
            }
            Access::Write => {
                self.last_seq += 1;
                let version = Version { pepoch: self.pepoch.0, seq: self.last_seq };
                outputs.push(Output::Start { op, version: Some(version) });
            }
        }
    }

    fn finish(&mut self, op: OpId, answer: Option<Output>, outputs: &mut Outputs) {
        if self.locks.leave(op).is_none() {
            return;
        }
        outputs.extend(answer);
        while let Some(next) = self.locks.start_next() {
            let (op, access) = (next.op, next.access);
            self.start(op, access, outputs);
        }
    }
}
