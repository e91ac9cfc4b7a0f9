//! Membership drivers: who belongs to the cluster, kept in an agreed, durable ledger.
//!
//! What the records mean is `huntaway-ledger`'s business; a [`Driver`] agrees on their order and keeps them. There is
//! one driver so far: [`local`], for a cluster of one process, or of several that follow one that keeps the ledger
//! ([`local::shared`]).

mod driver;
pub mod local;

pub use driver::{Driver, ProposeError};
