//! What is to go wrong on a simulated disk, and when.

use std::io;

/// Kinds of operations that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Reading content, lengths and names.
    Read,
    /// Changing content or length.
    Write,
    /// Putting content on stable storage.
    SyncData,
    /// Changing names.
    Name,
    /// Putting names on stable storage.
    SyncDir,
    /// Setting space aside.
    Allocate,
}

/// One operation that fails. A failed sync loses what it was to make durable: no later sync brings that back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// What fails.
    pub operation: Operation,
    /// How many operations of that kind succeed first.
    pub after: u64,
    /// What the caller is told, for example `StorageFull`.
    pub error: io::ErrorKind,
}

/// Counts operations, and decides which fail.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) operations: u64,
    /// Syncs since one failed.
    pub(super) syncs_after_a_failed_one: u64,
    pub(super) a_sync_failed: bool,
    planned: Vec<Fault>,
    die_at: Option<u64>,
}

/// Why an operation is not carried out.
#[derive(Debug)]
pub(super) enum Failure {
    /// It fails; the process goes on.
    Fault(io::Error),
    /// The process is dead; its last operation may be done in part.
    Dead {
        /// Whether this is the operation during which it died.
        last: bool,
    },
}

impl Faults {
    pub(super) fn plan(&mut self, fault: Fault) {
        self.planned.push(fault);
    }

    pub(super) fn die_at(&mut self, operation: u64) {
        self.die_at = Some(operation);
    }

    pub(super) fn is_dead(&self) -> bool {
        self.die_at.is_some_and(|at| self.operations >= at)
    }

    /// A new process has no plans.
    pub(super) fn clear(&mut self) {
        *self = Self { operations: self.operations, ..Self::default() };
    }

    pub(super) fn check(&mut self, operation: Operation) -> Result<(), Failure> {
        if self.is_dead() {
            return Err(Failure::Dead { last: false });
        }
        self.operations += 1;
        if self.is_dead() {
            return Err(Failure::Dead { last: true });
        }
        let is_sync = matches!(operation, Operation::SyncData | Operation::SyncDir);
        self.syncs_after_a_failed_one += u64::from(is_sync && self.a_sync_failed);
        let mut failed = None;
        self.planned.retain_mut(|fault| {
            if fault.operation != operation {
                return true;
            }
            let fails = fault.after == 0;
            fault.after = fault.after.saturating_sub(1);
            if fails {
                failed = Some(fault.error);
            }
            !fails
        });
        self.a_sync_failed |= is_sync && failed.is_some();
        failed.map_or(Ok(()), |error| Err(Failure::Fault(error.into())))
    }
}
