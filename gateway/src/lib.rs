//! The stateless iSCSI layer: terminates sessions, executes SCSI commands against volumes, and routes their slices to
//! the stores that are primary for them.
//!
//! The path of a WRITE: [`gateway`] accepts the connection, `driver` reads its bytes and asks the protocol core
//! (`iscsi-target-rs`) what they mean, `commands` has the command planned (`huntaway-scsi`) and `order` gives it its turn,
//! `volume` cuts it into slices of objects, `router` hands each to its primary's [`Peer`](huntaway_wire::Peer).
//!
//! A gateway holds nothing that matters: what is acknowledged is in the stores.

mod commands;
mod driver;
mod gateway;
mod metrics;
mod operation;
mod order;
mod router;
mod session;
mod sessions;
mod target;
mod task_management;
mod tasks;
mod unit;
mod volume;

pub use iscsi_target::Authentication;
pub use iscsi_target::chap::{Chap, ChapAccount, Secret};

pub use gateway::{DEFAULT_MAX_CONNECTIONS, Gateway, GatewayConfig, listen};
pub use metrics::Metrics;
pub use router::Router;
pub use target::{MAX_LUNS, TargetConfig, TargetError, UnitConfig};
pub use volume::Volume;
