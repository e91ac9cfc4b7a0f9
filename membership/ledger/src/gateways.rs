//! Gateways that keep no data. They are no members: nobody waits for them, and nobody counts on what they know. The ledger has their
//! processes for the sake of stores, which know requests by them: no two have the same number, and what an older one had asked
//! for is forgotten when it cannot come any more.

use std::collections::BTreeMap;

use huntaway_wire::{NodeId, Process};

use crate::{ApplyError, Incarnation, Name, StartId, State};

/// Most gateways of a cluster, in all its life: each name is remembered.
pub const MAX_GATEWAYS: usize = 256;

/// A gateway, as it was recorded last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatewayState {
    /// What its processes are called by. No node has it.
    pub node: NodeId,
    /// The newest process.
    pub incarnation: Incarnation,
    /// Its start, which was drawn at random: of two that start at the same time, it tells which one was recorded.
    pub start: StartId,
}

impl GatewayState {
    /// The newest process.
    pub fn process(&self) -> Process {
        Process { node: self.node, incarnation: self.incarnation }
    }
}

impl State {
    /// The gateways that keep no data, by name.
    pub fn gateways(&self) -> impl Iterator<Item = (&Name, &GatewayState)> {
        self.gateways.iter()
    }

    /// The gateway of that name.
    pub fn gateway(&self, name: &str) -> Option<&GatewayState> {
        self.gateways.get(name)
    }

    /// What that node is called, or that gateway which is none.
    pub fn name_of(&self, node: NodeId) -> Option<&Name> {
        let gateways = || self.gateways.iter().find(|(_, known)| known.node == node);
        self.member(node).map(|member| &member.name).or_else(|| gateways().map(|(name, _)| name))
    }

    /// The newest process of each node, and of each gateway that is none: what older ones asked for is refused.
    pub fn processes(&self) -> impl Iterator<Item = Process> {
        let nodes = self.sets().nodes().map(|(node, known)| Process { node, incarnation: known.incarnation });
        nodes.chain(self.gateways.values().map(GatewayState::process))
    }

    pub(crate) fn start_gateway(&mut self, name: &Name, started: GatewayState) -> Result<(), ApplyError> {
        if self.members().iter().any(|member| member.name == *name) {
            return Err(ApplyError::NameOfNode { name: name.clone() });
        }
        let follows = match self.gateways.get(name) {
            Some(known) => {
                known.node == started.node
                    && known.incarnation.0.checked_add(1) == Some(started.incarnation.0)
            }
            None => started.incarnation == Incarnation(1) && self.is_unknown(started.node),
        };
        if !follows {
            return Err(ApplyError::OtherGateway { name: name.clone() });
        }
        if self.gateways.len() >= MAX_GATEWAYS && !self.gateways.contains_key(name) {
            return Err(ApplyError::TooManyGateways);
        }
        self.gateways.insert(name.clone(), started);
        Ok(())
    }

    /// Whether nobody has had that id.
    fn is_unknown(&self, node: NodeId) -> bool {
        !self.is_gateway(node) && self.sets.node(node).is_none() && !self.sets.dismissed.contains(&node)
    }

    pub(crate) fn is_gateway(&self, node: NodeId) -> bool {
        self.gateways.values().any(|known| known.node == node)
    }
}

/// Whether records can have made them.
pub(crate) fn are_gateways(gateways: &BTreeMap<Name, GatewayState>, state: &State) -> bool {
    let is_sound = |(place, (_, known)): (usize, (&Name, &GatewayState))| {
        let is_other = |other: &GatewayState| other.node != known.node;
        known.incarnation > Incarnation(0)
            && state.sets.node(known.node).is_none()
            && gateways.values().take(place).all(is_other)
    };
    gateways.len() <= MAX_GATEWAYS && gateways.iter().enumerate().all(is_sound)
}
