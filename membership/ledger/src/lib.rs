//! The ledger: agreed, totally ordered records and the state they add up to, without I/O.
//!
//! A cluster agrees on one sequence of [`Record`]s: epochs (who belongs to it) and operations (which disks exist).
//! They are numbered without gaps from 1, and each carries the SHA-256 of the one before it: [`Ledger`] keeps the
//! end of that chain, [`State`] is what the records so far add up to. Everything here is a pure function of the
//! records: two nodes that applied the same ones hold the same state. Files, sockets and randomness are a driver's
//! business (`huntaway-membership`).
//!
//! ```text
//! Operation --State::record_for--> Record --Ledger::follow--> bytes, next Ledger     (who decides)
//! bytes --Ledger::read--> Record, the Ledger moved on                                  (who learns)
//! ```
//!
//! [`Placement`] says which nodes are to keep each partition in an epoch, [`InSyncSets`] which ones do, and [`Disks`] which
//! versions of VDIs there are. Gateways that keep no data are known by their [`GatewayState`]. A node that joins is given [`Ledger::snapshot`] in place of the records before it.
//! [`keeper`] has the rules of a process that keeps the ledger for several nodes.

mod disks;
mod frame;
mod gateways;
mod in_sync;
pub mod keeper;
mod ledger;
mod member;
mod name;
mod payload;
mod placement;
mod record;
mod recovery;
mod snapshot;
mod starts;
mod state;
mod vdi;

pub use disks::{DiskHold, DiskRecord, DiskVersion, Disks, MAX_ANCESTORS, MAX_HELD, MAX_VERSIONS, Over};
pub use frame::{DecodeError, EncodeError, MAX_RECORD_BYTES, PREAMBLE_BYTES, RecordHash};
pub use gateways::{GatewayState, MAX_GATEWAYS};
pub use huntaway_wire::Incarnation;
pub use in_sync::{
    AtStake, InSyncChange, InSyncSet, InSyncSets, MAX_DISMISSED, Memory, NodeState, SetRecord, Void,
};
pub use ledger::{FollowError, Ledger, Next, ReadError};
pub use member::{
    Cluster, EpochRecord, MAX_ADDRESSES, MAX_COPIES, MAX_MEMBERS, MAX_VOTERS, MAX_WEIGHT, Member, MemberState,
};
pub use name::{InvalidName, MAX_NAME_BYTES, Name};
pub use placement::{Change, Changes, Placement};
pub use record::{Operation, Record};
pub use recovery::RecoveryPolicy;
pub use snapshot::{NoMemory, SnapshotError};
pub use starts::{MAX_STARTS, StartId, Starts};
pub use state::{ApplyError, MAX_VDIS, State};
pub use vdi::{InvalidVdi, MAX_PHYSICAL_BLOCK_SIZE_BYTES, MAX_VDI_OBJECTS, Sanitize, Vdi, VdiOptions};
