//! Why a record cannot follow.

use huntaway_wire::{Epoch, NodeId, Vid};

use super::MAX_VDIS;
use crate::{
    Incarnation, InvalidVdi, MAX_ADDRESSES, MAX_COPIES, MAX_GATEWAYS, MAX_MEMBERS, MAX_VOTERS, MAX_WEIGHT,
    Name, Over, Void,
};

/// A record that cannot follow the ones before it. Nothing was changed; what was asked for cannot be had as long as
/// the state is what it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// An operation before the first epoch.
    #[error("the ledger has no epoch yet")]
    NoEpoch,
    /// An epoch that is not the next one.
    #[error("epoch {} cannot follow epoch {}", found.0, current.0)]
    EpochOutOfOrder {
        /// The record's number.
        found: Epoch,
        /// The epoch in force; 0 before the first.
        current: Epoch,
    },
    /// An epoch of another cluster.
    #[error("the record belongs to another cluster ({name})")]
    OtherCluster {
        /// That cluster's name.
        name: Name,
    },
    /// An epoch with no member or too many, with a member twice, or with too many addresses.
    #[error(
        "an epoch lists 1 to {MAX_MEMBERS} different members with at most {MAX_ADDRESSES} addresses each, \
         not {members}"
    )]
    Members {
        /// How many it lists.
        members: usize,
    },
    /// An epoch with a member of too large a weight.
    #[error("a weight is at most {MAX_WEIGHT}, that of node {node} would be {weight}")]
    Weight {
        /// The node.
        node: NodeId,
        /// The weight.
        weight: u32,
    },
    /// An epoch with no voter or too many, or whose voters are not different members.
    #[error("an epoch has 1 to {MAX_VOTERS} voters, all different and members")]
    Voters,
    /// An epoch without a node that holds data, or that would leave nobody to hold it.
    #[error("node {node} holds data, and cannot be left out before others have it")]
    LastCopy {
        /// The node.
        node: NodeId,
    },
    /// The node is not a member.
    #[error("node {node} is not a member")]
    UnknownNode {
        /// The node.
        node: NodeId,
    },
    /// An epoch with another process of a node than the one that was recorded last.
    #[error("the process of node {node} is {}, not {}", current.0, found.0)]
    OtherIncarnation {
        /// The node.
        node: NodeId,
        /// The record's.
        found: Incarnation,
        /// The one in force.
        current: Incarnation,
    },
    /// An incarnation that is not newer than the one in force.
    #[error("incarnation {} of node {node} cannot follow {}", found.0, current.0)]
    OldIncarnation {
        /// The node.
        node: NodeId,
        /// The record's.
        found: Incarnation,
        /// The one in force.
        current: Incarnation,
    },
    /// An epoch with a node that has the id of a gateway.
    #[error("{node} is what a gateway is called by, and no node can be")]
    IsGateway {
        /// The id.
        node: NodeId,
    },
    /// The start of a gateway with the name of a node.
    #[error("a node is called {name}: give the gateway another name")]
    NameOfNode {
        /// The name.
        name: Name,
    },
    /// The start of a gateway that does not follow the last one: another process of that name has started meanwhile.
    #[error("another process of gateway {name} has started at the same time")]
    OtherGateway {
        /// The name.
        name: Name,
    },
    /// Too many gateways.
    #[error(
        "the cluster has had {MAX_GATEWAYS} gateways, the most it can have: use the names of those that are gone"
    )]
    TooManyGateways,
    /// A record about nodes and in-sync sets that changes nothing.
    #[error(transparent)]
    Void(#[from] Void),
    /// A record about disks that changes nothing.
    #[error(transparent)]
    Over(#[from] Over),
    /// Recovery that copies nothing in a second.
    #[error("recovery copies one byte in a second at least: it can be paused")]
    NoPace,
    /// What recovery may take is so already.
    #[error("what recovery may take is recorded already")]
    SameRecovery,
    /// Another number of copies than there can be.
    #[error(
        "a partition has 1 to {MAX_COPIES} copies, and needs at least 1 and at most all of them, not {min_copies} of {copies}"
    )]
    Copies {
        /// How many it is to have.
        copies: usize,
        /// How many it needs.
        min_copies: usize,
    },
    /// Fewer members keep data than have to be in sync for writes to be taken.
    #[error("{min_copies} copies have to be in sync, but only {keepers} of the members would keep data")]
    TooFewKeepers {
        /// The members that keep data.
        keepers: usize,
        /// The copies that are needed.
        min_copies: usize,
    },
    /// The start of a process, in a form that says nothing of its disk. That will do for one node alone.
    #[error(
        "the start of node {node} has to be recorded with what is on its disk, for there are several nodes"
    )]
    BareStart {
        /// The node.
        node: NodeId,
    },
    /// A record about a VDI that is held for a snapshot, or that something was made from.
    #[error("VDI {name} has snapshots, or one is being taken")]
    InUse {
        /// The VDI.
        name: Name,
    },
    /// A new VDI's id was used before.
    #[error("vid {vid} was used before (the last one is {last:06x})")]
    VidUsed {
        /// The id.
        vid: Vid,
        /// The highest id used so far; 0 = none.
        last: u32,
    },
    /// Every vid was used once.
    #[error("the cluster's {} vids are used up", Vid::MAX.value())]
    VidsUsedUp,
    /// Another VDI has the name.
    #[error("there is a VDI named {name} already")]
    NameTaken {
        /// The name.
        name: Name,
    },
    /// Too many VDIs.
    #[error("the cluster has {MAX_VDIS} VDIs, the most it can have")]
    TooManyVdis,
    /// The VDI's options are invalid.
    #[error(transparent)]
    InvalidVdi(#[from] InvalidVdi),
    /// There is no such VDI.
    #[error("there is no VDI with vid {vid}")]
    UnknownVdi {
        /// The id.
        vid: Vid,
    },
    /// The VDI has that size.
    #[error("VDI {name} has {size_bytes} bytes already")]
    SameSize {
        /// The VDI.
        name: Name,
        /// Its size, in bytes.
        size_bytes: u64,
    },
    /// The VDI is thin, not smaller, or growing already.
    #[error("VDI {name} cannot begin to grow to {size_bytes} bytes")]
    CannotGrow {
        /// The VDI.
        name: Name,
        /// The size that it was to have, in bytes.
        size_bytes: u64,
    },
    /// Sanitizing the VDI stands so already.
    #[error("how sanitizing VDI {name} stands is recorded already")]
    SameSanitize {
        /// The VDI.
        name: Name,
    },
    /// The VDI's space is set aside already.
    #[error("VDI {name} is provisioned already")]
    AlreadyProvisioned {
        /// The VDI.
        name: Name,
    },
}
