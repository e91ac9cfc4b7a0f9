//! Nodes that are added, removed and weighted: partitions are to be kept by others than before.
//!
//! Which nodes keep a partition is drawn here, not computed as [`huntaway_ledger::Placement`] does: any table may follow any other.

use huntaway_wire::{NodeId, Partition};

use super::event::Event;
use super::{Cluster, Endpoint, FAULTS_END, MS, endpoint_of, note, partition};

impl Cluster {
    pub(crate) fn place(&mut self) {
        if self.time > FAULTS_END {
            return;
        }
        let next = 200 * MS + self.random.below(self.shape.placement_every);
        self.at(next, Event::Place);
        let node = self.random.index(self.shape.nodes);
        let keeping = (0..self.shape.nodes).filter(|other| self.ledger.keeps_data[*other]).count();
        if self.ledger.keeps_data[node] && keeping == self.shape.copies {
            return;
        }
        if self.random.percent(50) {
            self.ledger.keeps_data[node] ^= true;
            note!(self, "node {node} keeps data: {}", self.ledger.keeps_data[node]);
        }
        let mut targets: Vec<(Partition, Vec<NodeId>)> = Vec::new();
        for number in 0..self.shape.partitions {
            targets.push((partition(number), self.wanted_keepers(number)));
        }
        if self.ledger.place(targets.clone()).is_err() {
            return;
        }
        self.mind_counted_on(None);
        for (partition, target) in targets {
            let nodes: Vec<Endpoint> = target.into_iter().map(endpoint_of).collect();
            note!(self, "{partition} is to be kept by nodes {nodes:?}");
        }
        self.publish();
    }

    /// The nodes that are to keep a partition, in ring order: mostly those that are to by now, as far as they keep data.
    fn wanted_keepers(&mut self, number: u16) -> Vec<NodeId> {
        let ring = &self.ledger.rings[usize::from(number)];
        let keeps_data = |node: &NodeId| self.ledger.keeps_data[endpoint_of(*node)];
        let set = self.ledger.sets().set(partition(number));
        let mut target: Vec<NodeId> = set.map_or_else(Vec::new, |set| set.target.clone());
        target.retain(keeps_data);
        if target.len() == self.shape.copies && self.random.percent(40) {
            target.remove(self.random.index(self.shape.copies));
        }
        let mut others: Vec<NodeId> =
            ring.iter().filter(|node| keeps_data(node) && !target.contains(node)).copied().collect();
        while target.len() < self.shape.copies && !others.is_empty() {
            target.push(others.remove(self.random.index(others.len())));
        }
        ring.iter().filter(|node| target.contains(node)).copied().collect()
    }
}
