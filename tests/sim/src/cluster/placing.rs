//! Nodes that are added, removed and weighted: partitions are to be kept by others than before.
//!
//! In some runs that is what records say, and the table follows from them. In most it is drawn here which nodes keep a partition, not
//! computed as [`huntaway_ledger::Placement`] does: any table may follow any other.

use huntaway_ledger::{Member, MemberState};
use huntaway_wire::{NodeId, Partition};

use super::event::Event;
use super::{Cluster, Endpoint, FAULTS_END, MS, SECOND, agreement, endpoint_of, id_of, note, partition};
use crate::storage::Crash;

impl Cluster {
    pub(crate) fn place(&mut self) {
        if self.time > FAULTS_END {
            return;
        }
        let longest = if self.shape.has_epochs { 3 * SECOND } else { self.shape.placement_every };
        let next = 200 * MS + self.random.below(longest);
        self.at(next, Event::Place);
        if self.shape.has_epochs {
            return self.change_members();
        }
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

    /// The cluster gets another node, or one has another weight, or one that has none goes for good.
    fn change_members(&mut self) {
        let members = self.ledger.members().to_vec();
        let is_without_weight = |member: &&Member| member.weight == 0;
        let going = members.iter().find(is_without_weight).map(|member| (member.node, member.state));
        let stranger = (0..self.shape.nodes).map(id_of).find(|node| {
            !self.ledger.removed.contains(node) && members.iter().all(|member| member.node != *node)
        });
        match (going, stranger) {
            (Some((node, MemberState::Down)), _) => self.remove_node(node),
            (Some((node, MemberState::Up)), _) if self.random.percent(50) => self.stop_for_good(node),
            (_, Some(node)) if self.random.percent(50) => {
                note!(self, "node {} is added", endpoint_of(node));
                self.epoch(|members| members.push(agreement::member(node)));
            }
            _ => self.reweight(),
        }
    }

    /// Who is to be removed is stopped before, whether others have all that it has, or not.
    fn stop_for_good(&mut self, node: NodeId) {
        let endpoint = endpoint_of(node);
        if self.nodes[endpoint].is_alive() {
            self.crash_node(endpoint, Crash::Killed);
        }
    }

    /// The ledger lets it go only if it can do without.
    fn remove_node(&mut self, node: NodeId) {
        if self.epoch(|members| members.retain(|member| member.node != node)) {
            note!(self, "node {} is removed for good", endpoint_of(node));
            self.ledger.removed.insert(node);
            self.mind_left_out(endpoint_of(node));
            self.counted_on.iter_mut().for_each(|counted_on| {
                counted_on.remove(&endpoint_of(node));
            });
        } else if self.random.percent(50) {
            self.start_process(endpoint_of(node));
        }
    }

    fn reweight(&mut self) {
        let members = self.ledger.members();
        let keeping = members.iter().filter(|member| member.weight > 0).count();
        let (node, weight) = {
            let member = &members[self.random.index(members.len())];
            (member.node, member.weight)
        };
        let may_go = keeping > self.shape.copies || weight == 0;
        let weight = self.random.below(3) as u32;
        if may_go || weight > 0 {
            note!(self, "node {} has the weight {weight}", endpoint_of(node));
            let is_it = |member: &&mut Member| member.node == node;
            self.epoch(|members| members.iter_mut().filter(is_it).for_each(|member| member.weight = weight));
        }
    }

    /// Has an epoch recorded with other members.
    fn epoch(&mut self, change: impl FnOnce(&mut Vec<Member>)) -> bool {
        let mut members = self.ledger.members().to_vec();
        change(&mut members);
        let is_agreed = self.ledger.epoch(members).is_ok();
        if is_agreed {
            self.mind_counted_on(None);
            self.publish();
        }
        is_agreed
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
