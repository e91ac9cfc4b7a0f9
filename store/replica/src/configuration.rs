//! The agreed state of one partition, as the ledger's records add up to it, and what a replica may ask the ledger for.

use std::sync::Arc;

use huntaway_wire::{NodeId, Pepoch};

use crate::process::Process;
use crate::vdi::Vdis;

/// Who keeps a partition. A replica acts on the newest one it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// Raised whenever `in_sync`, `doubtful` or `keepers` changes.
    pub pepoch: Pepoch,
    /// The replicas that hold every acknowledged write, in ring order.
    pub in_sync: Vec<Process>,
    /// Those of them that may have lost acknowledged writes: their machine lost power, or their log is damaged.
    pub doubtful: Vec<NodeId>,
    /// Those of the doubtful that may lack also what they had on stable storage, or have again what was replaced there.
    pub damaged: Vec<NodeId>,
    /// Nodes whose process does nothing for the partition any more, as the ledger knows: their disks failed.
    pub failed: Vec<NodeId>,
    /// Nobody opens the partition, for nobody has what was on stable storage for certain: the only copy is on another disk, or the
    /// logs of all members are damaged.
    pub is_lost: bool,
    /// The one of them that orders writes: the first that is not doubtful, or not damaged, or the first.
    pub primary: NodeId,
    /// Nodes that shall become replicas, are up and not in sync.
    pub candidates: Vec<Process>,
    /// Nodes that keep what they have of the partition, in sync or not. All others may remove it. The same throughout a pepoch.
    pub keepers: Vec<NodeId>,
    /// Replicas that it shall have.
    pub copies: usize,
    /// Writes are taken only while so many replicas are in sync.
    pub min_copies: usize,
    /// The newest process of each gateway: what older ones sent is refused.
    pub gateways: Vec<Process>,
    /// The VDIs.
    pub vdis: Arc<Vdis>,
}

impl Configuration {
    /// The process that is to be primary.
    pub fn primary(&self) -> Option<Process> {
        self.in_sync.iter().find(|process| process.node == self.primary).copied()
    }

    /// Whether `process` is in the in-sync set.
    pub fn has(&self, process: Process) -> bool {
        self.in_sync.contains(&process)
    }

    /// The replicas whose blocks count when no replica is known to hold every acknowledged write: those with what was on stable
    /// storage.
    pub(crate) fn sources(&self) -> impl Iterator<Item = Process> {
        self.in_sync.iter().copied().filter(|process| !self.damaged.contains(&process.node))
    }

    /// Whether no replica is left that is known to hold every acknowledged write.
    pub fn is_all_doubtful(&self) -> bool {
        self.in_sync.iter().all(|process| self.doubtful.contains(&process.node))
    }
}

/// What a primary asks the ledger for. It is granted only while `pepoch` is the partition's: whatever was agreed since
/// makes it void.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proposal {
    /// The pepoch in which the primary asks.
    pub pepoch: Pepoch,
    /// What is to change.
    pub change: SetChange,
}

/// A change of an in-sync set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetChange {
    /// The process does not answer, or may have lost writes that others have. A process that is not in the set is not
    /// promoted by what was asked for before.
    Drop(Process),
    /// The process holds everything, and takes part in everything.
    Promote(Process),
    /// Most versions of the pepoch are given: the same replicas go on in the next one.
    Renew,
    /// The primary has the newest version of every block that any replica of a set without certainty has: it alone is in
    /// sync from now on.
    Collected,
    /// The disk of the process failed: whatever it acknowledged may be lost, and it does nothing any more.
    Failed(Process),
}
