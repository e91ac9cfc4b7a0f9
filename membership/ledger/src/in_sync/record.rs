//! Records about nodes and in-sync sets, and what they may come to.

use huntaway_wire::{NodeId, Partition, Pepoch};

use super::MAX_DISMISSED;
use crate::{Incarnation, MAX_MEMBERS, MAX_STARTS, StartId};

/// What a partition goes on without, if it is opened by force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AtStake {
    /// Nodes that will not be asked. What only they have is lost: with several, writes that were acknowledged and not flushed;
    /// with all that were in sync, any write.
    pub absent: Vec<NodeId>,
    /// Nodes whose newest blocks it goes on with, each with its process: the next one may find less there.
    pub present: Vec<(NodeId, Incarnation)>,
    /// Whether flushed writes can be among what is lost, or blocks can be there that were replaced or removed long ago: none of
    /// those present was in sync, and kept its disk and its log.
    pub flushed: bool,
}

impl AtStake {
    /// Whether what is lost is no more than what was `shown`.
    pub(super) fn is_within(&self, shown: &Self) -> bool {
        self.absent.iter().all(|node| shown.absent.contains(node))
            && shown.present.iter().all(|process| self.present.contains(process))
            && self.flushed <= shown.flushed
    }
}

/// A record about nodes and in-sync sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetRecord {
    /// A process started. It goes on in none of the pepochs of the one before it.
    NodeStarted {
        /// The node.
        node: NodeId,
        /// The number of its process.
        incarnation: Incarnation,
        /// What is left of what the one before it acknowledged.
        memory: Memory,
        /// The process, by a number that no other has, on whichever disk.
        start: StartId,
        /// What its disk says of earlier ones: see [`Starts`](crate::Starts). If the last recorded one is none of them, it ran on
        /// another disk: this one is a new one, or an old copy, and holds nothing that counts.
        after: Vec<StartId>,
    },
    /// A person has the partition opened with the nodes that are there, and gives up what is [`AtStake`].
    Forced {
        /// The partition.
        partition: Partition,
        /// Its pepoch, as that person knows it.
        pepoch: Pepoch,
        /// What that person was told. If it is more by now, the record is void.
        shown: AtStake,
    },
    /// The nodes are taken to have failed, all together: they leave every set that has a member which is up and holds everything.
    /// Of sets without one nobody leaves, for whoever comes back first is to go on. Not before their ledger leases ran out.
    NodesDown {
        /// The nodes.
        nodes: Vec<NodeId>,
    },
    /// The node was taken to have failed wrongly, or can be reached again.
    NodeUp {
        /// The node.
        node: NodeId,
    },
    /// A primary asked for a change of its set.
    Changed {
        /// The partition.
        partition: Partition,
        /// The pepoch in which it asked.
        pepoch: Pepoch,
        /// The change.
        change: InSyncChange,
    },
}

/// What a process finds of what the one before it acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// All of it.
    Kept,
    /// What was on stable storage: the machine lost power.
    Stable,
    /// Some earlier state: the log cannot be read to its end.
    Damaged,
}

/// What a primary can ask for, and what a replica says of its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InSyncChange {
    /// The node is to leave the set. If it is not in it, promotions of it that are under way come to nothing.
    Drop {
        /// The node.
        node: NodeId,
        /// Its process.
        incarnation: Incarnation,
    },
    /// The set is to stay as it is, in another pepoch.
    Renew,
    /// The node is to enter the set.
    Promote {
        /// The node.
        node: NodeId,
        /// Its process.
        incarnation: Incarnation,
    },
    /// In a set of doubtful nodes only, the primary has the newest of everything.
    Collected,
    /// The node says that its disk failed: it does nothing any more for the partition, and may have lost what it acknowledged. That
    /// holds in any pepoch.
    Failed {
        /// The node.
        node: NodeId,
        /// Its process.
        incarnation: Incarnation,
    },
    /// The node is about to keep the partition on another of its disks, on which nothing of it is: from here on it has nothing. It
    /// leaves the set, unless that needs it, and is no old copy either. Nobody teaches it, as if its disk had failed, before it says
    /// that it is [`Ready`](Self::Ready), or another process of it starts: so whichever of both disks it is on meanwhile, it is
    /// counted on for neither.
    Emptied {
        /// The node.
        node: NodeId,
        /// Its process.
        incarnation: Incarnation,
    },
    /// The node, which has nothing of the partition, has a disk for it, for good: it may be taught.
    Ready {
        /// The node.
        node: NodeId,
        /// Its process.
        incarnation: Incarnation,
    },
}

/// A record that changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Void {
    /// What it was decided on is the past.
    #[error("the record rests on a state that is past")]
    Past,
    /// The set would be left without a replica that is known to hold everything, or with fewer than it may have, or nobody serves it,
    /// and an old copy would be gone.
    #[error("the set cannot do without node {node}")]
    Needed {
        /// The node that was to leave.
        node: NodeId,
    },
    /// A node that belonged to the cluster, ran, and was left out comes back as another one only: what was sent by a process, and
    /// is still under way, would else be that of another process with its number.
    #[error("node {node} was left out for good: its machine comes back as another node")]
    Dismissed {
        /// The node.
        node: NodeId,
    },
    /// So many nodes were left out that no other can be remembered.
    #[error("the cluster left out {MAX_DISMISSED} nodes, the most it can")]
    TooManyDismissed,
    /// A node that is up, and may act, cannot be left out.
    #[error("node {node} is up, and may act")]
    StillUp {
        /// The node.
        node: NodeId,
    },
    /// There is no node to go on with.
    #[error("no node is up that could open the partition")]
    NobodyUp,
    /// It names more nodes, or more starts, than there can be.
    #[error("the record names more than there can be")]
    TooMuch,
    /// A partition had four thousand million pepochs.
    #[error("the pepochs of a partition are used up")]
    PepochsUsedUp,
}

impl SetRecord {
    /// Whether it names no more than a record may.
    pub(crate) fn is_in_bounds(&self) -> bool {
        match self {
            Self::NodeStarted { after, .. } => after.len() <= MAX_STARTS,
            Self::Forced { shown, .. } => {
                shown.absent.len() <= MAX_MEMBERS && shown.present.len() <= MAX_MEMBERS
            }
            Self::NodesDown { nodes } => nodes.len() <= MAX_MEMBERS,
            Self::NodeUp { .. } | Self::Changed { .. } => true,
        }
    }
}
