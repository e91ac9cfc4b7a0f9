//! What is said on the control socket.
//!
//! | request | body | answer |
//! | --- | --- | --- |
//! | `GET /v1/status` | | [`Status`] |
//! | `GET /v1/vdis`, `GET /v1/vdis/NAME` | | [`VdiStatus`], a list or one |
//! | `POST /v1/vdis` | [`NewVdi`] | [`VdiStatus`] |
//! | `PATCH /v1/vdis/NAME` | [`NewSize`] | [`VdiStatus`] |
//! | `DELETE /v1/vdis/NAME` | | nothing |
//! | `POST /v1/plan` | YAML | [`PlanAnswer`] |
//! | `POST /v1/reload` | | [`PlanAnswer`] |
//! | `GET /v1/cluster` | | [`ClusterStatus`](crate::cluster::ClusterStatus) |
//! | `PATCH /v1/cluster` | [`NewCopies`](crate::cluster::NewCopies) | [`CopiesStatus`](crate::cluster::CopiesStatus) |
//! | `GET /v1/cluster/explanation` | | [`Explanation`](crate::cluster::Explanation) |
//! | `GET /v1/cluster/closed` | | a list of [`Closed`](crate::cluster::Closed) |
//! | `POST /v1/cluster/force` | [`Force`](crate::cluster::Force) | [`Forced`](crate::cluster::Forced) |
//! | `PATCH /v1/cluster/nodes/NAME` | [`NewWeight`](crate::cluster::NewWeight) | [`NodeStatus`](crate::cluster::NodeStatus) |
//! | `POST /v1/cluster/comparison` | [`Round`](crate::cluster::Round) | [`Comparison`](crate::cluster::Comparison) |
//! | `POST /v1/cluster/nodes` | [`NewMember`](crate::cluster::NewMember) | [`NodeStatus`](crate::cluster::NodeStatus) |
//! | `DELETE /v1/cluster/nodes/NAME` | | nothing |
//! | `PATCH /v1/cluster/recovery` | [`NewPolicy`](crate::cluster::NewPolicy) | [`PolicyStatus`](crate::cluster::PolicyStatus) |
//! | `POST /v1/cluster/disk` | [`NewDisk`] | [`DiskStatus`] |
//! | `DELETE /v1/cluster/disk` | [`DiskPlace`] | [`DiskStatus`] |
//! | `PUT /v1/cluster/disk` | [`DiskPlace`] | [`DiskStatus`]: it is not to be taken away |
//! | `GET /v1/objects/VDI/OFFSET` | | [`ObjectPlace`](crate::cluster::ObjectPlace) |
//!
//! What is below `/v1/cluster` and `/v1/objects` is answered also while the node does not serve yet.
//!
//! Whatever is not done is answered by a status of 400 and above, with a [`Failure`].

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The header by which a plan's client calls the file, for reports.
pub(crate) const NAME_HEADER: &str = "huntaway-file-name";

/// Longest body of a request, in bytes: as long as a configuration may be.
pub(crate) const MAX_BODY_BYTES: usize = 4 << 20;

/// How the node is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Status {
    /// The program's version.
    pub(crate) version: String,
    /// The node's name.
    pub(crate) node: String,
    /// The cluster's name.
    pub(crate) cluster: String,
    /// The configuration file.
    pub(crate) config: String,
    /// Where initiators log in.
    pub(crate) portals: Vec<PortalStatus>,
    /// The IQNs of the targets.
    pub(crate) targets: Vec<String>,
    /// Who is logged in.
    pub(crate) sessions: Vec<SessionStatus>,
    /// The disks that keep the data.
    pub(crate) disks: Vec<DiskStatus>,
}

/// One portal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PortalStatus {
    /// Its name.
    pub(crate) name: String,
    /// What it listens on.
    pub(crate) address: String,
}

/// One session.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SessionStatus {
    /// The initiator's name.
    pub(crate) initiator: String,
    /// The target's.
    pub(crate) target: String,
}

/// One disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DiskStatus {
    /// Its directory.
    pub(crate) directory: String,
    /// `serving`, or why it does not; `filling` while it was added and does not have its share; `leaving` while what it has
    /// goes to the others, `empty` when it may be taken away.
    pub(crate) state: String,
    /// How many partitions are on it.
    pub(crate) partitions: u16,
    /// How many of these are about to go to another disk of the node.
    pub(crate) moving: u16,
    /// What is free, in bytes.
    pub(crate) free_bytes: u64,
    /// What its file system has, in bytes.
    pub(crate) total_bytes: u64,
}

/// Which disk is meant.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DiskPlace {
    /// Its directory.
    pub(crate) directory: PathBuf,
}

/// One disk more.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewDisk {
    /// Its directory, which is empty or not there.
    pub(crate) directory: PathBuf,
    /// Its share of the partitions, relative to the others'; if there is none, its size in GiB.
    pub(crate) weight: Option<u32>,
}

/// One VDI.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VdiStatus {
    /// Its name.
    pub(crate) name: String,
    /// Its identity towards initiators, in hexadecimal.
    pub(crate) uuid: String,
    /// Its size in bytes.
    pub(crate) size_bytes: u64,
    /// Its logical block size in bytes.
    pub(crate) block_size: u32,
    /// Its physical block size in bytes.
    pub(crate) physical_block_size: u32,
    /// Whether it takes space only when it is written to.
    pub(crate) thin: bool,
    /// False for a thick one whose space is not all set aside.
    pub(crate) provisioned: bool,
    /// While a thick one grows, the size that it is to have, in bytes.
    pub(crate) growing_to_bytes: Option<u64>,
    /// A sanitize operation that goes on, or did not come to its end.
    pub(crate) sanitize: Option<SanitizeStatus>,
    /// Where it is served.
    pub(crate) luns: Vec<LunOfVdi>,
}

/// How sanitizing a VDI stands that has not ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SanitizeStatus {
    /// It goes on.
    Running,
    /// It failed: initiators are refused until another one succeeds, or they leave the failure where that is allowed.
    Failed,
}

/// A LUN that shows a VDI.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LunOfVdi {
    /// The target's IQN.
    pub(crate) target: String,
    /// The LUN.
    pub(crate) lun: u16,
}

/// A VDI to be made. What is missing has its default.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewVdi {
    /// Its name.
    pub(crate) name: String,
    /// Its size in bytes.
    pub(crate) size_bytes: u64,
    /// Its logical block size in bytes.
    pub(crate) block_size: Option<u32>,
    /// Its physical block size in bytes.
    pub(crate) physical_block_size: Option<u32>,
    /// Whether it takes space only when it is written to.
    pub(crate) thin: Option<bool>,
}

/// What a VDI is resized to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewSize {
    /// Its new size in bytes.
    pub(crate) size_bytes: u64,
    /// Whether data beyond a smaller size may go.
    #[serde(default)]
    pub(crate) allow_shrink: bool,
}

/// What a configuration changes, or has changed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PlanAnswer {
    /// Its lines, for people.
    pub(crate) text: String,
    /// How many they are.
    pub(crate) changes: usize,
    /// What may not be meant in the configuration; empty if there is nothing.
    pub(crate) warnings: String,
}

/// Why something was not done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// For people: what is wrong, where, and what to do.
    pub(crate) report: String,
}
