//! What the ledger says, as requests need it: who is primary, how that process is reached, and which version a disk has.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use huntaway_ledger::State;
use huntaway_wire::replicated::Answers;
use huntaway_wire::{NodeId, Partition, Pepoch, Process, Vid};

use super::way::{Stores, Way};

/// At one moment. Never changed: another state is another table.
pub(super) struct Table {
    state: Arc<State>,
    ways: HashMap<NodeId, Arc<Way>>,
    routes: Vec<Route>,
}

/// Where a partition's requests go.
#[derive(Clone)]
pub(super) struct Route {
    pub(super) pepoch: Pepoch,
    /// Nobody serves it now, or there is no way to who does.
    pub(super) way: Option<Arc<Way>>,
}

/// A disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    /// The version that is worked with.
    pub(super) vid: Vid,
    pub(super) layout: u64,
    pub(super) fence: u64,
}

impl Table {
    /// Before anything is known.
    pub(super) fn nothing() -> Self {
        Self { state: Arc::default(), ways: HashMap::new(), routes: Vec::new() }
    }

    /// The table that follows this one. Ways to processes that are still there stay.
    pub(super) fn next(&self, state: Arc<State>, stores: &dyn Stores, answers: &Weak<dyn Answers>) -> Self {
        let mut ways = HashMap::new();
        for (node, known) in state.sets().nodes().filter(|(_, known)| known.is_up) {
            let process = Process { node, incarnation: known.incarnation };
            let there = self.ways.get(&node).filter(|way| way.process == process).cloned();
            let made = || {
                let addresses = state.member(node).map_or(&[][..], |member| &member.addresses);
                let store = stores.reach(process, addresses, answers)?;
                Some(Arc::new(Way::new(process, store)))
            };
            if let Some(way) = there.or_else(made) {
                ways.insert(node, way);
            }
        }
        let route = |partition| {
            let way = state.primary(partition).and_then(|primary| ways.get(&primary).cloned());
            Route { pepoch: state.pepoch(partition), way }
        };
        let routes = Partition::all().map(route).collect();
        Self { state, ways, routes }
    }

    /// Of two tables the one with the higher number is newer.
    pub(super) fn number(&self) -> u64 {
        self.state.number()
    }

    pub(super) fn route(&self, partition: Partition) -> Option<&Route> {
        self.routes.get(partition.index())
    }

    /// The way to the process, if it is the newest of its node.
    pub(super) fn way(&self, process: Process) -> Option<&Arc<Way>> {
        self.ways.get(&process.node).filter(|way| way.process == process)
    }

    /// The disk with this first version, if there is one.
    pub(super) fn target(&self, disk: Vid) -> Option<Target> {
        let vid = self.state.disks().working(disk)?;
        let version = self.state.disks().version(vid)?;
        Some(Target { vid, layout: version.layout, fence: version.fence })
    }
}
