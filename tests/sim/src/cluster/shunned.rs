//! A primary that is cut off from the other replicas for long, in one direction or both, while the ledger and gateways reach it:
//! the others have it removed, and the partition is served again while the cut lasts.

use huntaway_replica::{Replica, SILENCE_US};
use huntaway_wire::{Incarnation, NodeId};

use super::event::Event;
use super::{Broken, Cluster, Endpoint, FAULTS_END, SECOND, endpoint_of, id_of, note, partition};
use crate::clock::Time;

/// How long such a cut lasts.
const CUT: Time = 8 * SECOND;

/// So long after it began the partition is served, if nothing else goes wrong.
const SERVED_AFTER: Time = 7 * SECOND;

/// So long after it began the others have told one another, and whom the primary leaves out was silent since before it began.
const MISSED_BY: Time = SILENCE_US;

/// A cut that lasts.
#[derive(Debug)]
pub(crate) struct Shunned {
    partition: u16,
    primary: Endpoint,
    /// The replicas in sync, each with its process.
    replicas: Vec<(Endpoint, Incarnation)>,
    /// The nodes that were to keep it when the cut began.
    target: Vec<NodeId>,
    since: Time,
    /// How often the network had changed when it began.
    changes: u64,
}

impl Cluster {
    pub(crate) fn shun(&mut self) {
        let partition = self.random.below(self.shape.partitions.into()) as u16;
        let configuration = self.ledger.rows[usize::from(partition)].configuration.clone();
        let in_sync = configuration.in_sync.iter();
        let replicas: Vec<_> =
            in_sync.map(|process| (endpoint_of(process.node), process.incarnation)).collect();
        let is_going_down = replicas.iter().any(|(node, _)| self.ledger.is_going_down(*node));
        let is_calm = configuration.doubtful.is_empty() && !configuration.is_lost && !is_going_down;
        let primary = endpoint_of(configuration.primary);
        // What was not answered before the cut would have replicas dropped before they miss the primary.
        let is_settled = |replica: &Replica| replica.is_open() && replica.is_settled();
        let is_idle = self.nodes[primary].replica(partition).is_some_and(is_settled);
        // With one other replica nobody could tell whose link it is.
        if replicas.len() < 3 || !is_calm || !is_idle || self.time + CUT > FAULTS_END {
            return;
        }
        let (is_mute, is_deaf) = self.random.pick(&[(true, false), (false, true), (true, true)]);
        note!(self, "node {primary} is cut off from {replicas:?}: mute {is_mute}, deaf {is_deaf}");
        for (other, _) in replicas.iter().copied().filter(|(other, _)| *other != primary) {
            if is_mute {
                self.network.block(primary, other);
            }
            if is_deaf {
                self.network.block(other, primary);
            }
        }
        self.undisturbed_until = self.time + CUT;
        let target = self.target_of(partition);
        let (since, changes) = (self.time, self.network.changes);
        let shunned = Shunned { partition, primary, replicas, target, since, changes };
        // With each change of placement a pepoch begins, and whoever misses somebody begins to wait.
        if self.shape.placement_every == 0 {
            self.at(SERVED_AFTER, Event::Shunned(shunned));
        }
        self.at(CUT, Event::Reconnect);
    }

    fn target_of(&self, number: u16) -> Vec<NodeId> {
        self.ledger.sets().set(partition(number)).map_or_else(Vec::new, |set| set.target.clone())
    }

    /// Whether the partition is served by now, unless something else went wrong.
    pub(crate) fn mind_shunned(&mut self, shunned: &Shunned) {
        let Shunned { partition, primary: shunned, replicas, target, since, changes } = shunned;
        let is_slow = self.network.slow.iter().any(|slow| *slow > 0)
            || self.network.late_news.iter().any(|until| until > since);
        let is_well = |(node, incarnation): &(Endpoint, Incarnation)| {
            let state = &self.nodes[*node];
            state.is_alive()
                && state.incarnation == *incarnation
                && state.paused_until <= *since
                && state.slow_disk == 0
                && !state.disk_failed
                && !self.ledger.is_going_down(*node)
                && self.ledger.sets().node(id_of(*node)).is_some_and(|known| known.is_up)
        };
        // With another placement a pepoch began, and the waiting anew.
        let is_as_placed = self.target_of(*partition) == *target;
        if is_slow || self.network.changes != *changes || !is_as_placed || !replicas.iter().all(is_well) {
            return;
        }
        let row = &self.ledger.rows[usize::from(*partition)];
        let primary = endpoint_of(row.configuration.primary);
        // One that had left may be back by the one whom it reaches, and finds out about the others anew. So it does if one of those
        // was left out for something else before they missed it: then there may be too few to tell whose link it is.
        if row.primary_since > *since || (*since..*since + MISSED_BY).contains(&row.began) {
            return;
        }
        // It may rest, but not with replicas that it does not reach.
        let in_sync = &row.configuration.in_sync;
        let is_cut_off = |node: Endpoint| replicas.iter().any(|(other, _)| *other == node) && node != primary;
        let is_in_vain = in_sync.iter().any(|process| is_cut_off(endpoint_of(process.node)));
        let is_open = self.nodes[primary].replica(*partition).is_some_and(Replica::is_open);
        // Another one may have become primary only now.
        let is_served = primary != *shunned || is_open && !is_in_vain;
        note!(self, "partition {partition} is served by node {primary}: {is_served}");
        if !is_served {
            self.broken = Some(Broken::Unserved { partition: *partition });
        }
    }
}
