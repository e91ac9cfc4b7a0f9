//! Records about who belongs to the cluster, and how many copies there are: they have partitions placed anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use huntaway_wire::{NodeId, PARTITIONS, Partition};

use super::{ApplyError, State};
use crate::in_sync::InSyncSet;
use crate::{
    EpochRecord, InSyncSets, Incarnation, MAX_ADDRESSES, MAX_COPIES, MAX_MEMBERS, MAX_VOTERS, MAX_WEIGHT,
    Member, MemberState, Placement, SetRecord, Void,
};

impl State {
    pub(super) fn apply_epoch(&mut self, next: &EpochRecord) -> Result<(), ApplyError> {
        let current = self.epoch();
        if Some(next.number.0) != current.0.checked_add(1) {
            return Err(ApplyError::EpochOutOfOrder { found: next.number, current });
        }
        check_members(next)?;
        if self.cluster().is_some_and(|cluster| *cluster != next.cluster) {
            return Err(ApplyError::OtherCluster { name: next.cluster.name.clone() });
        }
        for member in &next.members {
            if self.is_gateway(member.node) {
                return Err(ApplyError::IsGateway { node: member.node });
            }
            let known = self.member(member.node).map(|known| known.incarnation);
            // Nothing is known of a new node before its start is recorded.
            let known = known.or(self.epoch.as_ref().map(|_| Incarnation(0)));
            if let Some(current) = known.filter(|known| *known != member.incarnation) {
                let (node, found) = (member.node, member.incarnation);
                return Err(ApplyError::OtherIncarnation { node, found, current });
            }
        }
        if let Some(keeper) = self.members().iter().find(|member| member.weight > 0)
            && next.members.iter().all(|member| member.weight == 0)
        {
            return Err(ApplyError::LastCopy { node: keeper.node });
        }
        check_kept(&next.members, self.sets.min_copies())?;
        let sets = self.sets_of(next)?;
        self.sets = Arc::new(sets);
        self.epoch = Some(next.clone());
        self.update_members();
        Ok(())
    }

    /// The sets under another epoch. Whether nodes that are known already are up is not its business: it may have been proposed
    /// before one of them went, or came back.
    fn sets_of(&self, next: &EpochRecord) -> Result<InSyncSets, ApplyError> {
        let mut sets = (*self.sets).clone();
        for member in self.members() {
            let stays = next.members.iter().any(|other| other.node == member.node);
            if !stays {
                sets.dismiss(member.node).map_err(|error| match error {
                    Void::Needed { node } => ApplyError::LastCopy { node },
                    error => error.into(),
                })?;
            }
        }
        for member in &next.members {
            let is_up = self.epoch.is_none() && member.state == MemberState::Up;
            sets.admit(member.node, member.incarnation, is_up)?;
        }
        if self.is_placed_by(next) {
            self.place(&mut sets, next)?;
        }
        Ok(sets)
    }

    /// Whether who keeps what is another question in that epoch.
    fn is_placed_by(&self, next: &EpochRecord) -> bool {
        #[cfg(feature = "planted-bugs")]
        if self.table.is_some() {
            return true;
        }
        let keepers = |members: &[Member]| -> BTreeMap<NodeId, (crate::Name, u32)> {
            let keepers = members.iter().filter(|member| member.weight > 0);
            keepers.map(|member| (member.node, (member.zone.clone(), member.weight))).collect()
        };
        keepers(self.members()) != keepers(&next.members)
    }

    /// Has partitions kept by whom the epoch says: those that there are not yet have nothing in them.
    fn place(&self, sets: &mut InSyncSets, epoch: &EpochRecord) -> Result<(), ApplyError> {
        let table = self.table(epoch, sets.copies());
        if sets.sets.is_empty() {
            let first = |(partition, target): &(Partition, Vec<NodeId>)| {
                (*partition, InSyncSet::first(target.clone()))
            };
            sets.sets = table.iter().filter(|(_, target)| !target.is_empty()).map(first).collect();
            return Ok(());
        }
        sets.place(table.iter().map(|(partition, target)| (*partition, target.as_slice())))?;
        Ok(())
    }

    fn table(&self, epoch: &EpochRecord, copies: usize) -> Vec<(Partition, Vec<NodeId>)> {
        #[cfg(feature = "planted-bugs")]
        if let Some(table) = &self.table {
            return table.clone();
        }
        let placement = Placement::of(epoch, copies, self.partitions);
        let partitions = Partition::all().take(self.partitions.into());
        partitions.map(|partition| (partition, placement.nodes(partition).to_vec())).collect()
    }

    pub(super) fn apply_copies(&mut self, copies: usize, min_copies: usize) -> Result<(), ApplyError> {
        if !(1..=MAX_COPIES).contains(&copies) || !(1..=copies).contains(&min_copies) {
            return Err(ApplyError::Copies { copies, min_copies });
        }
        let mut sets = (*self.sets).clone();
        (sets.copies, sets.min_copies) = (copies, min_copies);
        if let Some(epoch) = &self.epoch {
            check_kept(&epoch.members, min_copies)?;
            self.place(&mut sets, epoch)?;
            sets.settle()?;
        }
        self.sets = Arc::new(sets);
        Ok(())
    }

    pub(super) fn apply_incarnation(&mut self, node: NodeId, found: Incarnation) -> Result<(), ApplyError> {
        let current = self.member(node).ok_or(ApplyError::UnknownNode { node })?.incarnation;
        if found <= current {
            return Err(ApplyError::OldIncarnation { node, found, current });
        }
        self.check_bare_start(node)?;
        Arc::make_mut(&mut self.sets).restarted(node, found)?;
        self.update_members();
        Ok(())
    }

    /// Whose start is recorded in a bare form is alone, and so can have no other disk than the only one.
    fn check_bare_start(&self, node: NodeId) -> Result<(), ApplyError> {
        if self.members().len() > 1 { Err(ApplyError::BareStart { node }) } else { Ok(()) }
    }

    pub(super) fn apply_to_sets(&mut self, record: &SetRecord) -> Result<(), ApplyError> {
        Arc::make_mut(&mut self.sets).apply(record)?;
        self.update_members();
        Ok(())
    }

    /// The members of the epoch are as they were recorded last.
    fn update_members(&mut self) {
        for member in self.epoch.iter_mut().flat_map(|epoch| &mut epoch.members) {
            if let Some(state) = self.sets.node(member.node) {
                member.incarnation = state.incarnation;
                member.state = if state.is_up { MemberState::Up } else { MemberState::Down };
            }
        }
    }
}

/// All partitions that a cluster has.
pub(crate) const ALL_PARTITIONS: u16 = PARTITIONS;

/// As many members keep data as have to be in sync, or none: a cluster may begin with a witness.
fn check_kept(members: &[Member], min_copies: usize) -> Result<(), ApplyError> {
    let keepers = members.iter().filter(|member| member.weight > 0).count();
    if (1..min_copies).contains(&keepers) {
        return Err(ApplyError::TooFewKeepers { keepers, min_copies });
    }
    Ok(())
}

pub(crate) fn check_members(epoch: &EpochRecord) -> Result<(), ApplyError> {
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
