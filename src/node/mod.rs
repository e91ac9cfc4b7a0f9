//! A node at work: what its configuration says, carried out; at the start, and again whenever it changes.
//!
//! ```text
//! file, secrets ─ Loaded ─► plan ─► apply ─► gateway (targets, portals), ledger (VDIs), store (space)
//! ```
//!
//! Nothing is changed before the plan stands, which has found everything that can be found wrong by then.

mod absent;
mod apply;
mod cluster_metrics;
mod clustered;
mod engine;
mod files_seen;
mod loaded;
mod metrics;
mod open_portals;
mod operations;
mod plan;
mod portals;
mod reload;
mod sanitize;
mod served;
mod storage;
mod trust;
mod vdis;
mod watch;

pub(crate) use cluster_metrics::ClusterMetrics;
pub(crate) use engine::{Engine, EngineOptions, Phase};
pub(crate) use loaded::{Loaded, directory_of, read_regular, read_text};
pub(crate) use operations::{MappedVdi, OperationError};
pub(crate) use plan::{DEFAULT_BLOCK_SIZE_BYTES, DEFAULT_PHYSICAL_BLOCK_SIZE_BYTES, size};
pub(crate) use portals::cannot_listen;
pub(crate) use reload::{Planned, ReloadError};
pub(crate) use sanitize::LedgerRecords;
pub(crate) use storage::{Storage, StorageOptions, check_empty};
pub(crate) use trust::{Trust, keeper_tls, read_key, read_tls};
pub(crate) use vdis::VdiError;
pub(crate) use watch::watch;
