//! What the records so far add up to: the cluster, its members, who serves which partition, and the VDIs.

use std::collections::BTreeMap;

use huntaway_wire::{Epoch, NodeId, Partition, Pepoch, Vid};

use crate::{
    Cluster, EpochRecord, Incarnation, InvalidVdi, MAX_ADDRESSES, MAX_MEMBERS, MAX_VOTERS, MAX_WEIGHT,
    Member, MemberState, Name, Operation, Record, Sanitize, Vdi, VdiOptions,
};

/// Most VDIs a cluster has at one time.
pub const MAX_VDIS: usize = 65_536;

/// The agreed state of the cluster after some record. Pure: the same records give the same state everywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    number: u64,
    epoch: Option<EpochRecord>,
    /// How often an in-sync set, or the incarnation of a process in it, changed. With one node all partitions
    /// have the same in-sync set, so one counter serves them all.
    pepoch: u32,
    last_vid: u32,
    vdis: BTreeMap<Vid, Vdi>,
    vids: BTreeMap<Name, Vid>,
}

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
    /// An epoch without a node that holds the data.
    #[error("node {node} holds the only copy of the data and cannot be left out")]
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
    /// The pepochs have run out (after four thousand million restarts).
    #[error("the partitions' pepochs are used up")]
    PepochsUsedUp,
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

impl State {
    /// The number of the last record applied; 0 = none. Of two states the one with the higher number is newer.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The cluster; `None` before the first epoch.
    pub fn cluster(&self) -> Option<&Cluster> {
        self.epoch.as_ref().map(|epoch| &epoch.cluster)
    }

    /// The epoch in force; 0 before the first.
    pub fn epoch(&self) -> Epoch {
        self.epoch.as_ref().map_or(Epoch(0), |epoch| epoch.number)
    }

    /// The members of the epoch, each with the incarnation last recorded.
    pub fn members(&self) -> &[Member] {
        self.epoch.as_ref().map_or(&[], |epoch| &epoch.members)
    }

    /// The nodes that decide about the next record.
    pub fn voters(&self) -> &[NodeId] {
        self.epoch.as_ref().map_or(&[], |epoch| &epoch.voters)
    }

    /// The member `node`, if it is one.
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members().iter().find(|member| member.node == node)
    }

    /// The partition's pepoch: never lowered, raised by every epoch or start of a process that concerns it.
    pub fn pepoch(&self, _partition: Partition) -> Pepoch {
        Pepoch(self.pepoch)
    }

    /// The node that serves the partition; `None` while it is down or there is none.
    pub fn primary(&self, _partition: Partition) -> Option<NodeId> {
        let keeper = in_sync(self.members())?;
        (keeper.state == MemberState::Up).then_some(keeper.node)
    }

    /// All VDIs, oldest first.
    pub fn vdis(&self) -> impl Iterator<Item = &Vdi> {
        self.vdis.values()
    }

    /// The VDI named `name`.
    pub fn vdi(&self, name: &str) -> Option<&Vdi> {
        self.vdi_by_vid(*self.vids.get(name)?)
    }

    /// The VDI `vid`.
    pub fn vdi_by_vid(&self, vid: Vid) -> Option<&Vdi> {
        self.vdis.get(&vid)
    }

    /// The record that carries out `operation` in this state. A new VDI gets the next vid, and `uuid`, which the
    /// caller makes at random. The record is not applied; whether it can be is [`State::apply`]'s to say.
    ///
    /// # Errors
    /// [`ApplyError::VidsUsedUp`].
    pub fn record_for(&self, operation: Operation, uuid: [u8; 16]) -> Result<Record, ApplyError> {
        Ok(match operation {
            Operation::CreateVdi { name, options } => {
                let vid = Vid::new(self.last_vid + 1).map_err(|_| ApplyError::VidsUsedUp)?;
                Record::CreateVdi { vid, name, uuid, options }
            }
            Operation::ProvisionedVdi { vid } => Record::ProvisionedVdi { vid },
            Operation::ResizeVdi { vid, size_bytes } => Record::ResizeVdi { vid, size_bytes },
            Operation::GrowVdi { vid, size_bytes } => Record::GrowVdi { vid, size_bytes },
            Operation::SanitizeVdi { vid, sanitize } => Record::SanitizeVdi { vid, sanitize },
            Operation::DeleteVdi { vid } => Record::DeleteVdi { vid },
        })
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// [`ApplyError`] when it cannot follow; the state is then unchanged. From a ledger that was read back, this
    /// means that the ledger is damaged or was written by other rules.
    pub fn apply(&mut self, record: &Record) -> Result<(), ApplyError> {
        match record {
            Record::Epoch(epoch) => self.apply_epoch(epoch)?,
            Record::Incarnation { node, incarnation } => self.apply_incarnation(*node, *incarnation)?,
            _ if self.epoch.is_none() => return Err(ApplyError::NoEpoch),
            Record::CreateVdi { vid, name, uuid, options } => self.create_vdi(*vid, name, *uuid, options)?,
            Record::ProvisionedVdi { vid } => self.provisioned_vdi(*vid)?,
            Record::ResizeVdi { vid, size_bytes } => self.resize_vdi(*vid, *size_bytes)?,
            Record::GrowVdi { vid, size_bytes } => self.grow_vdi(*vid, *size_bytes)?,
            Record::SanitizeVdi { vid, sanitize } => self.sanitize_vdi(*vid, *sanitize)?,
            Record::DeleteVdi { vid } => self.delete_vdi(*vid)?,
        }
        self.number += 1;
        Ok(())
    }

    fn apply_epoch(&mut self, next: &EpochRecord) -> Result<(), ApplyError> {
        let current = self.epoch();
        if Some(next.number.0) != current.0.checked_add(1) {
            return Err(ApplyError::EpochOutOfOrder { found: next.number, current });
        }
        check_members(next)?;
        if self.cluster().is_some_and(|cluster| *cluster != next.cluster) {
            return Err(ApplyError::OtherCluster { name: next.cluster.name.clone() });
        }
        for member in &next.members {
            let known = self.member(member.node).map_or(Incarnation(0), |known| known.incarnation);
            if member.incarnation < known {
                let (node, found) = (member.node, member.incarnation);
                return Err(ApplyError::OldIncarnation { node, found, current: known });
            }
        }
        let keeper = |members| in_sync(members).map(|member: &Member| (member.node, member.incarnation));
        let (before, after) = (keeper(self.members()), keeper(&next.members));
        if let Some((node, _)) = before
            && after.is_none_or(|(kept, _)| kept != node)
        {
            return Err(ApplyError::LastCopy { node });
        }
        if before != after {
            self.raise_pepoch()?;
        }
        self.epoch = Some(next.clone());
        Ok(())
    }

    fn apply_incarnation(&mut self, node: NodeId, found: Incarnation) -> Result<(), ApplyError> {
        let current = self.member(node).ok_or(ApplyError::UnknownNode { node })?.incarnation;
        if found <= current {
            return Err(ApplyError::OldIncarnation { node, found, current });
        }
        if in_sync(self.members()).is_some_and(|keeper| keeper.node == node) {
            self.raise_pepoch()?;
        }
        let members = self.epoch.iter_mut().flat_map(|epoch| &mut epoch.members);
        for member in members.filter(|member| member.node == node) {
            member.incarnation = found;
        }
        Ok(())
    }

    fn raise_pepoch(&mut self) -> Result<(), ApplyError> {
        self.pepoch = self.pepoch.checked_add(1).ok_or(ApplyError::PepochsUsedUp)?;
        Ok(())
    }

    fn create_vdi(
        &mut self,
        vid: Vid,
        name: &Name,
        uuid: [u8; 16],
        options: &VdiOptions,
    ) -> Result<(), ApplyError> {
        options.check()?;
        if vid.value() <= self.last_vid {
            return Err(ApplyError::VidUsed { vid, last: self.last_vid });
        }
        if self.vids.contains_key(name) {
            return Err(ApplyError::NameTaken { name: name.clone() });
        }
        if self.vdis.len() >= MAX_VDIS {
            return Err(ApplyError::TooManyVdis);
        }
        let vdi = Vdi {
            vid,
            name: name.clone(),
            uuid,
            family: vid,
            parent: None,
            size_bytes: options.size_bytes,
            block_size: options.block_size,
            physical_block_size: options.physical_block_size,
            thin: options.thin,
            provisioned: options.thin,
            growing_to_bytes: None,
            sanitize: None,
        };
        self.vdis.insert(vid, vdi);
        self.vids.insert(name.clone(), vid);
        self.last_vid = vid.value();
        Ok(())
    }

    fn provisioned_vdi(&mut self, vid: Vid) -> Result<(), ApplyError> {
        let vdi = self.vdis.get_mut(&vid).ok_or(ApplyError::UnknownVdi { vid })?;
        if vdi.provisioned {
            return Err(ApplyError::AlreadyProvisioned { name: vdi.name.clone() });
        }
        vdi.provisioned = true;
        Ok(())
    }

    fn resize_vdi(&mut self, vid: Vid, size_bytes: u64) -> Result<(), ApplyError> {
        let vdi = self.vdis.get_mut(&vid).ok_or(ApplyError::UnknownVdi { vid })?;
        VdiOptions { size_bytes, ..vdi.options() }.check()?;
        if vdi.size_bytes == size_bytes && vdi.growing_to_bytes.is_none() {
            return Err(ApplyError::SameSize { name: vdi.name.clone(), size_bytes });
        }
        vdi.size_bytes = size_bytes;
        vdi.growing_to_bytes = None;
        Ok(())
    }

    fn grow_vdi(&mut self, vid: Vid, size_bytes: u64) -> Result<(), ApplyError> {
        let vdi = self.vdis.get_mut(&vid).ok_or(ApplyError::UnknownVdi { vid })?;
        VdiOptions { size_bytes, ..vdi.options() }.check()?;
        if vdi.thin || size_bytes <= vdi.size_bytes || vdi.growing_to_bytes.is_some() {
            return Err(ApplyError::CannotGrow { name: vdi.name.clone(), size_bytes });
        }
        vdi.growing_to_bytes = Some(size_bytes);
        Ok(())
    }

    fn sanitize_vdi(&mut self, vid: Vid, sanitize: Option<Sanitize>) -> Result<(), ApplyError> {
        let vdi = self.vdis.get_mut(&vid).ok_or(ApplyError::UnknownVdi { vid })?;
        if vdi.sanitize == sanitize {
            return Err(ApplyError::SameSanitize { name: vdi.name.clone() });
        }
        vdi.sanitize = sanitize;
        Ok(())
    }

    fn delete_vdi(&mut self, vid: Vid) -> Result<(), ApplyError> {
        let vdi = self.vdis.remove(&vid).ok_or(ApplyError::UnknownVdi { vid })?;
        self.vids.remove(&vdi.name);
        Ok(())
    }
}

/// The in-sync set of every partition, while there is one node: the member that keeps data.
fn in_sync(members: &[Member]) -> Option<&Member> {
    members.iter().find(|member| member.weight > 0)
}

fn check_members(epoch: &EpochRecord) -> Result<(), ApplyError> {
    let members = epoch.members.len();
    let addresses_fit = epoch.members.iter().all(|member| member.addresses.len() <= MAX_ADDRESSES);
    let nodes: Vec<NodeId> = epoch.members.iter().map(|member| member.node).collect();
    if !(1..=MAX_MEMBERS).contains(&members) || !addresses_fit || has_twice(&nodes) {
        return Err(ApplyError::Members { members });
    }
    if let Some(&Member { node, weight, .. }) = epoch.members.iter().find(|member| member.weight > MAX_WEIGHT)
    {
        return Err(ApplyError::Weight { node, weight });
    }
    let voters = &epoch.voters;
    let all_members = voters.iter().all(|voter| nodes.contains(voter));
    if !(1..=MAX_VOTERS).contains(&voters.len()) || has_twice(voters) || !all_members {
        return Err(ApplyError::Voters);
    }
    Ok(())
}

fn has_twice(nodes: &[NodeId]) -> bool {
    nodes.iter().enumerate().any(|(i, node)| nodes[..i].contains(node))
}
