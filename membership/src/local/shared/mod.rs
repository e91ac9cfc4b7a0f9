//! The `local` driver for several processes: one of them keeps the ledger, the others follow it over TCP.
//!
//! [`KeeperServer`] holds the directory that [`LocalDriver`](super::LocalDriver) would hold, with the same file, and goes by the rules
//! of [`huntaway_ledger::keeper`]. [`RemoteDriver`] is what a process has that follows. All of them are meant to be on one host, or
//! on a network that nobody listens to: connections are authenticated by the cluster's key, and encrypted with TLS only.
//!
//! - G1, G7: the lock admits one keeper, one thread of it decides.
//! - G2: a record is written and fsynced before it leaves the thread.
//! - G3: who keeps the ledger is the only one that is asked. G5: records are sent in order, or a snapshot; a follower that knows more
//!   than the keeper takes nothing of it.
//! - G6: leases are the keeper's; see there. G8: a start is recorded before its process has one.

mod core;
mod frame;
mod handshake;
mod history;
mod message;
mod rejection;
mod remote;
mod server;
mod session;

pub use frame::Cut;
pub use huntaway_wire::{ClusterKey, InvalidKey};
pub use rejection::Rejection;
pub use remote::{KeeperStatus, NodeStart, NotDone, RemoteDriver, RemoteOptions, StartError};
pub use server::{
    CUT_BYTES, HISTORY_BYTES, KeeperOptions, KeeperServer, MAX_CONNECTIONS, NewCluster, SILENCE,
};
