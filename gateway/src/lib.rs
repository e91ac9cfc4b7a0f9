//! The stateless iSCSI layer: terminates sessions, executes SCSI commands against volumes, and routes their slices to
//! the stores that are primary for them.
//!
//! The path of a WRITE: `acceptor` takes the connection, `driver` reads its bytes and asks the protocol core
//! (`iscsi-target-rs`) what they mean, `commands` has the command planned (`huntaway-scsi`) and `order` gives it its turn,
//! `volume` cuts it into slices of objects, `router` hands each to its primary's [`Peer`](huntaway_wire::Peer), or has [`cluster`]
//! send it to whoever is primary, under the rules of [`fencing`].
//!
//! A gateway holds nothing that matters: what is acknowledged is in the stores.

mod acceptor;
mod catalog;
pub mod cluster;
mod commands;
mod disk;
mod driver;
pub mod fencing;
mod gateway;
mod guesses;
mod metrics;
mod modes;
mod nexus;
mod operation;
pub mod order;
mod places;
mod portals;
mod router;
mod sanitizer;
mod served;
mod session;
mod sessions;
mod space;
mod target;
mod task_management;
mod tasks;
mod unit;
mod unit_metrics;
mod update;
mod view;
mod volume;

pub use huntaway_scsi::Sanitization;
pub use iscsi_target::chap::{Chap, ChapAccount, Secret};
pub use iscsi_target::{Authentication, DigestPolicy};

pub use acceptor::listen;
pub use gateway::{DEFAULT_LOGIN_TIME, DEFAULT_MAX_CONNECTIONS, Gateway, GatewayConfig};
pub use metrics::Metrics;
pub use portals::{MAX_PORTALS, PortalConfig};
pub use router::Router;
pub use sanitizer::{NotRecorded, SanitizeRecord, SanitizeRecords};
pub use served::{InitiatorConfig, MAX_LUNS, Served, TargetConfig, TargetError, UnitConfig};
pub use sessions::SessionInfo;
pub use target::PRODUCT;
pub use volume::Volume;
