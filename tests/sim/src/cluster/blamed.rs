//! Whoever was paused has not heard what others said meanwhile: none of them leaves its set for that.

use huntaway_ledger::{InSyncChange, SetRecord};
use huntaway_replica::{Proposal, Replica, SetChange};
use huntaway_wire::Partition;

use super::{Broken, Cluster, Endpoint, MS, endpoint_of, id_of};
use crate::clock::Time;

/// What is longer counts as a pause, by whichever clock.
const PAUSE: Time = 800 * MS;

/// For so long after a pause no replica has left anything unanswered for too long, by whichever clock.
const PATIENCE: Time = 2500 * MS;

/// For so long after a pause no primary is missed.
const PATIENCE_WITH_PRIMARY: Time = 1300 * MS;

impl Cluster {
    /// A node wants another one out of a set.
    pub(crate) fn mind_blame(&mut self, node: Endpoint, partition: Partition, proposal: Proposal) {
        let SetChange::Drop(other) = proposal.change else { return };
        let state = &self.nodes[node];
        let Some(known) = state.replica(partition.value()).map(Replica::configuration) else { return };
        let is_primary = known.primary == other.node;
        let patience = if is_primary { PATIENCE_WITH_PRIMARY } else { PATIENCE };
        let is_just_awake = state.paused_until > 0
            && self.time < state.paused_until + patience
            && state.paused_until >= state.paused_since + PAUSE;
        let counts = known.has(other) && !known.doubtful.contains(&other.node);
        if is_just_awake && counts && other.node != id_of(node) {
            self.nodes[node].blamed = Some((partition, proposal.pepoch, other));
        }
    }

    /// A node left a set.
    pub(crate) fn mind_blamed(&mut self, from: Endpoint, record: &SetRecord) {
        let SetRecord::Changed { change: InSyncChange::Drop { node, incarnation }, partition, pepoch } =
            record
        else {
            return;
        };
        let Some((of, then, other)) = self.nodes.get(from).and_then(|state| state.blamed) else { return };
        if (of, then, other.node, other.incarnation) == (*partition, *pepoch, *node, *incarnation) {
            self.broken =
                Some(Broken::Blamed { partition: partition.value(), nodes: (from, endpoint_of(*node)) });
        }
    }
}
