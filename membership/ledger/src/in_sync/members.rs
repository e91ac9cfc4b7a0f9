//! Nodes that come and go, and partitions that are to be kept by others than before.

use std::collections::BTreeMap;

#[cfg(feature = "planted-bugs")]
use huntaway_wire::Pepoch;
use huntaway_wire::{NodeId, Partition};

use super::{InSyncSet, InSyncSets, NodeState, Void};
use crate::{Incarnation, StartId};

/// Most nodes that leave a cluster in its life, of those that ran once: each of them is remembered.
pub const MAX_DISMISSED: usize = 1 << 16;

impl InSyncSets {
    /// Has partitions kept by other nodes from now on: by those that the table of a new epoch gives them. Nothing moves by that
    /// alone: who is to keep a partition no more is in sync until others are in its place.
    ///
    /// # Errors
    /// [`Void::PepochsUsedUp`]: nothing is changed.
    pub fn place<'a>(
        &mut self,
        targets: impl IntoIterator<Item = (Partition, &'a [NodeId])>,
    ) -> Result<(), Void> {
        let targets: BTreeMap<Partition, &[NodeId]> = targets.into_iter().collect();
        let is_new = |partition: Partition, set: &InSyncSet| {
            targets.get(&partition).is_some_and(|target| *target != set.target)
        };
        let is_last = |set: &InSyncSet| set.pepoch.0 == u32::MAX;
        if self.sets.iter().any(|(partition, set)| is_last(set) && is_new(partition, set)) {
            return Err(Void::PepochsUsedUp);
        }
        let is_up = |node: &NodeId| self.nodes.get(node).is_some_and(|state| state.is_up);
        for (partition, set) in self.sets.filter_mut(is_new) {
            set.target = targets[&partition].to_vec();
            #[cfg(feature = "planted-bugs")]
            if self.placed_at_once {
                set.in_sync = set.target.clone();
                set.is_forced = false;
            }
            set.settle(self.copies, self.min_copies, is_up);
        }
        Ok(())
    }

    /// With other numbers of copies, nodes may leave that were needed before.
    ///
    /// # Errors
    /// [`Void::PepochsUsedUp`]: nothing is changed.
    pub(crate) fn settle(&mut self) -> Result<(), Void> {
        let is_up = |node: &NodeId| self.is_up(node);
        let settled = |(partition, set): (Partition, &InSyncSet)| {
            let mut settled = set.clone();
            settled.settle(self.copies, self.min_copies, is_up);
            (settled.in_sync != set.in_sync).then_some((partition, settled))
        };
        let settled: Vec<_> = self.sets.iter().filter_map(settled).collect();
        // It is the next pepoch, or there is none.
        let pepoch = |partition| self.sets.get(partition).map(|set| set.pepoch);
        if settled.iter().any(|(partition, set)| pepoch(*partition) == Some(set.pepoch)) {
            return Err(Void::PepochsUsedUp);
        }
        settled.into_iter().for_each(|(partition, set)| self.sets.insert(partition, set));
        Ok(())
    }

    /// A node that was none of the cluster belongs to it. It is in no set yet, and down until its start is recorded, for that says
    /// which disk it has; only with the first nodes it is known.
    ///
    /// # Errors
    /// [`Void::Dismissed`]: it belonged to the cluster before. Its processes would get the numbers of earlier ones again.
    pub(crate) fn admit(&mut self, node: NodeId, incarnation: Incarnation, is_up: bool) -> Result<(), Void> {
        if self.dismissed.contains(&node) {
            return Err(Void::Dismissed { node });
        }
        let state = NodeState { incarnation, start: StartId::FIRST, is_up };
        self.nodes.entry(node).or_insert(state);
        Ok(())
    }

    /// A node belongs to the cluster no more. What it has is no old copy any more either.
    ///
    /// # Errors
    /// [`Void`]: it is up, so it may have a lease, or data may be lost without it: it is in a set, or has an old copy of what nobody
    /// serves; nothing is changed.
    pub(crate) fn dismiss(&mut self, node: NodeId) -> Result<(), Void> {
        if self.is_up(&node) {
            return Err(Void::StillUp { node });
        }
        #[cfg(feature = "planted-bugs")]
        if self.removed_early {
            for (_, set) in self.sets.filter_mut(|_, set| set.in_sync.contains(&node)) {
                set.keep(|other| *other != node);
                if set.in_sync.is_empty() {
                    set.in_sync = set.target.iter().filter(|other| **other != node).copied().collect();
                    set.is_forced = false;
                }
                set.pepoch = Pepoch(set.pepoch.0.saturating_add(1));
            }
        }
        let is_former = |set: &InSyncSet| set.former.contains(&node);
        let is_needed = |set: &InSyncSet| {
            set.in_sync.contains(&node) || is_former(set) && !set.is_served_by(|other| self.is_up(other))
        };
        #[cfg(feature = "planted-bugs")]
        let is_needed = |set: &InSyncSet| {
            if self.old_copies_left_out { set.in_sync.contains(&node) } else { is_needed(set) }
        };
        let is_needed = self.sets.values().any(is_needed);
        #[cfg(feature = "planted-bugs")]
        let is_needed = is_needed && !self.removed_early;
        if is_needed {
            return Err(Void::Needed { node });
        }
        self.pepochs_are_left(is_former)?;
        let has_run = self.nodes.get(&node).is_some_and(|state| state.incarnation > Incarnation(0));
        if has_run && self.dismissed.len() >= MAX_DISMISSED {
            return Err(Void::TooManyDismissed);
        }
        self.nodes.remove(&node);
        self.dismissed.extend(Some(node).filter(|_| has_run));
        let is_up = |node: &NodeId| self.nodes.get(node).is_some_and(|state| state.is_up);
        for (_, set) in self.sets.filter_mut(|_, set| is_former(set)) {
            set.former.retain(|other| *other != node);
            set.settle(self.copies, self.min_copies, is_up);
        }
        Ok(())
    }
}
