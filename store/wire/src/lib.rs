//! Ids, requests and replies shared by gateways and stores, and the [`Peer`] they meet through.
//!
//! A gateway never sees a store, nor a store a gateway: both know this crate only. A [`Request`] names one object
//! (or asks for a flush), a [`Peer`] answers it with a [`Reply`] or an [`Error`]. The peer may be in this process
//! (a direct call, no socket, no copy) or behind a connection: [`link`] keeps those, [`frame`] and [`encoding`] say what
//! is on them, `PROTOCOL.md` draws it.
//!
//! Sizes and layouts here are part of the cluster's contract: `store/FORMAT.md` draws them.

pub mod clock;
pub mod comparison;
mod crc;
pub mod encoding;
mod error;
pub mod frame;
pub mod hello;
mod ids;
mod key;
pub mod link;
pub mod loops;
mod object;
mod peer;
pub mod progress;
pub mod replicated;
mod request;
mod stamp;
pub mod tls;

pub use crc::{ZERO_BLOCK_CRC, piece_crcs, pieces};
pub use error::{Broken, Error, Refusal};
pub use ids::{Epoch, Incarnation, InvalidId, NodeId, Partition, Pepoch, Process, Version, Vid};
pub use key::{ClusterKey, InvalidKey, KEY_BYTES};
pub use object::{ObjectKind, Oid};
pub use peer::{Answer, Peer, Submission};
pub use request::{
    ByteRange, Durability, MappedRun, ObjectRequest, Operation, Provisioning, Read, Reply, Request, Segments,
    Space,
};
pub use stamp::{Stamp, outlasting};

/// Size of an object in bytes (4 MiB). A VDI is cut into objects of this size; the last may be partly used.
pub const OBJECT_SIZE_BYTES: u32 = 4 << 20;

/// Size in bytes of the block that carries one checksum and one version (4 KiB).
pub const BLOCK_SIZE_BYTES: u32 = 4096;

/// Checksummed blocks in one object (1024).
pub const BLOCKS_PER_OBJECT: u32 = OBJECT_SIZE_BYTES / BLOCK_SIZE_BYTES;

/// Partitions of a cluster (4096), fixed when the cluster is made.
pub const PARTITIONS: u16 = 4096;
