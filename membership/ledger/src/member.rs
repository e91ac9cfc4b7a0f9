//! Membership: who belongs to the cluster, as one epoch records it.

use core::net::SocketAddr;

use huntaway_wire::{Epoch, Incarnation, NodeId};

use crate::Name;

/// Most members of a cluster: their epoch fits into a record, however long their names are.
pub const MAX_MEMBERS: usize = 32;

/// Most copies of a partition.
pub const MAX_COPIES: usize = 8;

/// Most voters of a cluster: every member at most.
pub const MAX_VOTERS: usize = MAX_MEMBERS;

/// Most addresses one member can be reached at.
pub const MAX_ADDRESSES: usize = 8;

/// The largest weight: every unit of it costs 256 points on the ring.
pub const MAX_WEIGHT: u32 = 100;

/// Which cluster a ledger belongs to; the same in all its epochs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Made once, when the cluster is made.
    pub uuid: [u8; 16],
    /// What people call it.
    pub name: Name,
}

/// One agreed list of members: in force until the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochRecord {
    /// The epoch's number: 1 for the first, then one more each.
    pub number: Epoch,
    /// The cluster.
    pub cluster: Cluster,
    /// Its members, at most [`MAX_MEMBERS`].
    pub members: Vec<Member>,
    /// The members that decide about the next record, at most [`MAX_VOTERS`].
    pub voters: Vec<NodeId>,
}

/// One node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The node.
    pub node: NodeId,
    /// What people call it.
    pub name: Name,
    /// The process that runs there.
    pub incarnation: Incarnation,
    /// Where other nodes reach it, at most [`MAX_ADDRESSES`]; none when it is alone.
    pub addresses: Vec<SocketAddr>,
    /// Nodes of one zone may fail together (a rack, a room): copies are spread over zones.
    pub zone: Name,
    /// Its share of the data, in relation to the others', at most [`MAX_WEIGHT`]. 0 = it keeps none.
    pub weight: u32,
    /// Whether it takes part.
    pub state: MemberState,
}

/// Whether a member takes part in an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MemberState {
    /// It serves.
    Up,
    /// It is taken to have failed. It keeps its place: what it holds is not copied elsewhere on that account.
    Down,
}
