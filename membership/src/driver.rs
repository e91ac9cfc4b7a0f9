//! What every membership driver is, and promises.

use std::sync::Arc;

use huntaway_ledger::{FollowError, Operation, State};
use huntaway_wire::NodeId;

use crate::local::LogError;
use crate::local::shared::NotDone;

/// A node's access to the ledger of its cluster.
///
/// Every driver guarantees, and `tests/driver_suite` checks of every driver:
///
/// - **G1** There is at most one record of each number.
/// - **G2** Records are numbered without gaps, each names the hash of the one before it, and a record is on stable
///   storage before anyone is told of it. They survive restarts.
/// - **G3** A record is durable on a majority of the voters of the previous one, and of its own, before anyone acts on
///   it. Where no majority can be reached nothing is agreed.
/// - **G4** Placement is a pure function of the records: equal ledgers name the same primaries and pepochs.
/// - **G5** Every node gets every record in order, or a state that stands for them: [`Driver::state`] never goes back.
/// - **G6** A node that holds the ledger lease knows that no epoch without it is in force.
/// - **G7** Operations and epochs are one sequence.
/// - **G8** Detection of failed nodes may be wrong, but is never unsafe: each start of a process is recorded before it
///   serves, so that it never goes on in a pepoch of the process before it.
pub trait Driver: Send + Sync {
    /// This node.
    fn node(&self) -> NodeId;

    /// The cluster's uuid.
    fn cluster(&self) -> [u8; 16];

    /// The newest agreed state. Never blocks for long; [`State::number`] tells whether it is newer than another.
    fn state(&self) -> Arc<State>;

    /// Puts an operation into the ledger and returns a state that has it. Blocks until the record is agreed and on
    /// stable storage: not to be called from a task that must not block.
    ///
    /// # Errors
    /// [`ProposeError`]; see there whether the operation may have happened all the same.
    fn propose(&self, operation: Operation) -> Result<Arc<State>, ProposeError>;
}

/// An operation that was not put into the ledger, as far as is known.
#[derive(Debug, thiserror::Error)]
pub enum ProposeError {
    /// It cannot be done in the agreed state. Nothing happened.
    #[error(transparent)]
    Refused(#[from] FollowError),
    /// The system has no random numbers for the new VDI's uuid. Nothing happened.
    #[error("no random numbers from the operating system: {0}")]
    Entropy(getrandom::Error),
    /// The ledger could not be written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Whoever keeps the ledger did not do it.
    #[error(transparent)]
    Kept(#[from] NotDone),
}
