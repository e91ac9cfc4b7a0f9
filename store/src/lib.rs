//! The storage process: object directory, write-ahead log, recovery.

mod apply;
mod backlog;
pub mod check;
mod dirty;
mod discard;
pub mod disk;
mod disk_table;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod host;
mod index;
mod known;
mod layout;
mod locking;
mod memory;
mod metrics;
mod node_store;
mod object;
mod options;
mod partition;
pub mod placement;
#[cfg(feature = "planted-bugs")]
mod planted;
mod read;
mod read_modify_write;
mod reads;
mod recover;
mod replicated;
mod room;
mod service;
mod store;
mod superblock;
mod waiters;
pub mod wal;
mod write;

pub use apply::Applied;
pub use disk_table::MAX_DISKS;
pub use error::OpenError;
pub use metrics::Metrics;
pub use node_store::{
    DiskDirectory, DiskState, DiskStatus, DisksError, DisksStopped, NodeStore, NotAdded, NotRemoved,
};
pub use options::{ReadEngine, StoreOptions};
#[cfg(feature = "planted-bugs")]
pub use planted::PlantedBug;
pub use replicated::LogError;
pub use service::LocalStore;
pub use store::{DiskStopped, Store, Task};
pub use superblock::{BootId, ClusterId, DiskId, Superblock};

#[cfg(test)]
mod tests;
