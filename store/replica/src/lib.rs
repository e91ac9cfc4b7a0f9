//! Order, versions and block locks of a partition's replica, without I/O.
//!
//! One [`Replica`] per partition decides when an operation may start: overlapping writes one after another in the order
//! they arrived, reads after the writes before them, everything that does not overlap at once. A write that starts gets
//! the next [`Version`](huntaway_wire::Version) of the partition. What was written, where and how, is the caller's business.

mod locks;
mod replica;

pub use replica::{Access, Input, OpId, Output, Outputs, Replica};
