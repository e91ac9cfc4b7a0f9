//! Simulated clusters: one seed is one run, in one thread. What is simulated is the world around our code, with every fault we
//! know of; the code is what the binary has. Checkers look for broken promises, and planted bugs show that they find them.
//!
//! There are two worlds. [`Cluster`] replicates: nodes, disks, networks and clocks below gateways that are made up.
//! [`fencing`] gives up commands: initiators and gateways above a store that is made up, or above a [`Cluster`] without its
//! gateways: then both are one world.
//!
//! Everything random is drawn from one [`Random`], everything that happens is in one queue ordered by time. Nothing here does
//! I/O but the binary, which prints.

mod clock;
mod cluster;
pub mod fencing;
#[cfg(test)]
mod lessons;
mod queue;
mod room;
mod storage;

pub use cluster::{Broken, Bug, Cluster, Failure, Summary};
pub use huntaway_judge::{Attempt, Effect, History, Loss, Random, Violation};

/// A run is millions of small messages that are made and dropped: a tenth of its time is saved.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
