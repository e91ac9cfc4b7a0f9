//! What is told of a cluster, on the control socket and by `-o json`.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// How the cluster is, as one of its nodes knows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ClusterStatus {
    /// Its name.
    pub(crate) cluster: String,
    /// In a word.
    pub(crate) health: Health,
    /// The epoch in force.
    pub(crate) epoch: u64,
    /// The last record of the ledger that the node knows.
    pub(crate) record: u64,
    /// The node that tells this.
    pub(crate) told_by: String,
    /// Whether it has a lease of the ledger. Without one it serves nothing, and what it tells may be past.
    pub(crate) has_ledger_lease: bool,
    /// Copies that each partition shall have.
    pub(crate) copies: usize,
    /// Copies that have to be in sync for writes to be taken.
    pub(crate) min_copies: usize,
    /// The members.
    pub(crate) nodes: Vec<NodeStatus>,
    /// Gateways that keep no data, running or not: nobody has to know.
    pub(crate) gateways: Vec<String>,
    /// How many partitions are in which state.
    pub(crate) partitions: PartitionCounts,
    /// What recovery may take.
    pub(crate) recovery_policy: PolicyStatus,
    /// What the node that tells this still has to copy to others; none if it is alone.
    pub(crate) recovery: Option<RecoveryStatus>,
    /// What all nodes have; none if this one does not keep data with others.
    #[serde(default)]
    pub(crate) recovery_of_all: Option<RecoveryOfAll>,
    /// What initiators are shown by that node.
    pub(crate) luns: Vec<LunStatus>,
}

/// How the cluster is, by the agreed in-sync sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Health {
    /// Everything has its copies.
    Ok,
    /// All is served, and some has fewer copies than it shall have.
    Degraded,
    /// Some cannot be read, or not written.
    PartitionsDown,
    /// Nothing is served, as far as the node knows that tells this.
    Unavailable,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::PartitionsDown => "partitions down",
            Self::Unavailable => "unavailable",
        })
    }
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeStatus {
    /// Its name.
    pub(crate) name: String,
    /// Its uuid.
    pub(crate) uuid: String,
    /// Its zone.
    pub(crate) zone: String,
    /// Where others reach it.
    pub(crate) addresses: Vec<String>,
    /// Its share of the data; 0: it is to keep none.
    pub(crate) weight: u32,
    /// Whether it takes part.
    pub(crate) is_up: bool,
    /// The number of its process; 0: it never ran.
    pub(crate) incarnation: u64,
    /// For how long it is down, in seconds, if the node that tells this saw it go.
    pub(crate) down_seconds: Option<u64>,
    /// Partitions that it serves.
    pub(crate) led: usize,
    /// Partitions of which it has everything.
    pub(crate) kept: usize,
    /// Partitions that it is to keep.
    pub(crate) wanted: usize,
    /// Bytes free on its disks, if the node that tells this is the one.
    pub(crate) free_bytes: Option<u64>,
    /// Bytes of its disks.
    pub(crate) total_bytes: Option<u64>,
}

/// How many partitions are in which state, each in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct PartitionCounts {
    /// All that are to keep it have everything.
    pub(crate) whole: usize,
    /// It has its copies, and some of them are to be elsewhere.
    pub(crate) moving: usize,
    /// It has fewer copies than it shall have.
    pub(crate) degraded: usize,
    /// It has fewer than writes are taken with.
    pub(crate) below_min_copies: usize,
    /// Nobody is there who has everything: it is neither read nor written.
    pub(crate) down: usize,
}

impl PartitionCounts {
    /// All of them.
    pub(crate) fn all(&self) -> usize {
        let Self { whole, moving, degraded, below_min_copies, down } = self;
        whole + moving + degraded + below_min_copies + down
    }
}

/// What a node has to copy to others, of the partitions that it serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecoveryStatus {
    /// Partitions in which somebody learns.
    pub(crate) partitions_left: usize,
    /// What is to be compared at most, and copied where it differs, in bytes.
    pub(crate) bytes_left: u64,
    /// What was copied since the node started.
    pub(crate) bytes_copied: u64,
    /// What was copied of late.
    pub(crate) bytes_per_second: u64,
    /// How long that takes at this pace; none while nothing is copied.
    pub(crate) seconds_left: Option<u64>,
}

/// What all nodes have to copy to others, as far as they tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecoveryOfAll {
    /// What they tell, added up; the time is that of the slowest.
    #[serde(flatten)]
    pub(crate) told: RecoveryStatus,
    /// Nodes that are up and did not answer: what they have to copy is not in it.
    pub(crate) silent: usize,
}

/// A LUN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LunStatus {
    /// The target's IQN.
    pub(crate) target: String,
    /// The LUN.
    pub(crate) lun: u16,
    /// The VDI that it shows.
    pub(crate) vdi: String,
    /// Its size in bytes.
    pub(crate) size_bytes: u64,
}

/// Why the cluster is as it is, and what may yet come.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Explanation {
    /// What is not as it should be, and why, in sentences.
    pub(crate) reasons: Vec<String>,
    /// VDIs that may have data in partitions without all copies.
    pub(crate) vdis: Vec<VdiAtRisk>,
    /// What losing each node that is up would mean now.
    pub(crate) losses: Vec<Loss>,
}

/// A VDI that may have data in partitions without all copies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VdiAtRisk {
    /// Its name.
    pub(crate) name: String,
    /// Such partitions.
    pub(crate) partitions: usize,
    /// Those of them that are down, or take no writes.
    pub(crate) down: usize,
    /// Partitions that it can have data in.
    pub(crate) of: usize,
}

/// What losing a node would mean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Loss {
    /// The node.
    pub(crate) node: String,
    /// Partitions that nobody else has everything of.
    pub(crate) last_copies: usize,
    /// Partitions that would take no writes any more, though others have everything.
    pub(crate) below_min_copies: usize,
    /// Partitions that another node would have to serve.
    pub(crate) led: usize,
}

/// The weight that a node is to have.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewWeight {
    /// 0: it is to keep nothing.
    pub(crate) weight: u32,
}

/// A node that is to belong to the cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewMember {
    /// Its name.
    pub(crate) name: String,
    /// Where others reach it.
    pub(crate) address: SocketAddr,
    /// Its zone.
    pub(crate) zone: String,
    /// Its share of the data.
    pub(crate) weight: u32,
}

/// How many copies there are to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CopiesStatus {
    /// Copies that each partition shall have.
    pub(crate) copies: usize,
    /// Copies that have to be in sync for writes to be taken.
    pub(crate) min_copies: usize,
}

/// What is to be different about it.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct NewCopies {
    /// Copies that each partition shall have.
    pub(crate) copies: Option<usize>,
    /// Copies that have to be in sync for writes to be taken.
    pub(crate) min_copies: Option<usize>,
}

/// What recovery may take, in the whole cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PolicyStatus {
    /// Nothing is copied.
    pub(crate) is_paused: bool,
    /// What each node copies in a second at most.
    pub(crate) bytes_per_second: u64,
    /// How long copies wait that merely move.
    pub(crate) delay_seconds: u32,
}

/// What is to be different about it.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct NewPolicy {
    /// Whether nothing is copied.
    pub(crate) is_paused: Option<bool>,
    /// What each node copies in a second at most.
    pub(crate) bytes_per_second: Option<u64>,
    /// How long copies wait that merely move.
    pub(crate) delay_seconds: Option<u32>,
}

/// A comparison of all copies: whoever asks again with the same number goes on with it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Round {
    /// Drawn at random.
    pub(crate) round: u64,
    /// Whether nobody asks about it any more.
    pub(crate) is_over: bool,
}

/// How far comparing all copies is, and what was found so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Comparison {
    /// Some process compares for somebody else first.
    #[serde(default)]
    pub(crate) waits: bool,
    /// Partitions that there are.
    pub(crate) partitions: usize,
    /// Those whose in-sync copies were compared from their beginning to their end.
    pub(crate) compared: usize,
    /// Those that nobody serves now: there is nothing to compare.
    pub(crate) not_served: usize,
    /// Objects that were read on all nodes that have them.
    pub(crate) objects: u64,
    /// Blocks that they have.
    pub(crate) blocks: u64,
    /// Objects that could not be read just then on some node.
    pub(crate) failed_objects: u64,
    /// Blocks of one copy that were not what they should be, and blocks that no copy has whole.
    pub(crate) differing_blocks: u64,
    /// The first of them.
    pub(crate) differences: Vec<DifferenceFound>,
}

/// A block that was not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct DifferenceFound {
    /// The VDI that has it.
    pub(crate) vdi: String,
    /// Its place there, in bytes.
    pub(crate) offset_bytes: u64,
    /// Its object, as its file is called.
    pub(crate) object: String,
    /// Whose copy was put right; none: nobody has it whole, and it reads as an error until it is written again.
    pub(crate) node: Option<String>,
}

/// Where an object is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ObjectPlace {
    /// The VDI.
    pub(crate) vdi: String,
    /// The place in it, in bytes, that was asked for.
    pub(crate) offset_bytes: u64,
    /// The object, as its file is called.
    pub(crate) object: String,
    /// Its place in the VDI, in objects.
    pub(crate) index: u32,
    /// Its partition.
    pub(crate) partition: u16,
    /// How that is.
    pub(crate) condition: String,
    /// The partition's pepoch.
    pub(crate) pepoch: u32,
    /// Who serves it.
    pub(crate) primary: Option<String>,
    /// Who has everything, the first to serve first.
    pub(crate) in_sync: Vec<String>,
    /// Those of them that may have lost something.
    pub(crate) doubtful: Vec<String>,
    /// Who has something from earlier times.
    pub(crate) old_copies: Vec<String>,
    /// Who is to keep it.
    pub(crate) targets: Vec<String>,
}

/// A partition that stays closed until somebody comes back, or a person has it opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Closed {
    /// The partition.
    pub(crate) partition: u16,
    /// Its pepoch.
    pub(crate) pepoch: u32,
    /// Nodes that would not be asked.
    pub(crate) absent: Vec<Party>,
    /// Nodes with which it would go on; none: it cannot be opened.
    pub(crate) present: Vec<Party>,
    /// Whether flushed writes may be lost as well.
    pub(crate) flushed: bool,
}

/// A node, and its process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Party {
    /// Its name.
    pub(crate) name: String,
    /// Its uuid.
    pub(crate) uuid: String,
    /// The number of its process.
    pub(crate) incarnation: u64,
}

/// Partitions to be opened by force.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Force {
    /// They, and what was shown to whoever wants that.
    pub(crate) closed: Vec<Closed>,
}

/// What became of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Forced {
    /// How many were opened.
    pub(crate) opened: usize,
    /// Those that were not, and why.
    pub(crate) refused: Vec<String>,
}
