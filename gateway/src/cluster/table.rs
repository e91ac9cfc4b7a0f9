//! What the ledger says, as requests need it: who is primary, how that process is reached, and which version a disk has.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use huntaway_ledger::{InSyncSet, NodeState, State};
use huntaway_wire::replicated::Answers;
use huntaway_wire::{NodeId, Partition, Pepoch, Process, Vid};
use smallvec::SmallVec;

use super::way::{Stores, Way};

/// At one moment. Never changed: another state is another table.
pub(super) struct Table {
    state: Arc<State>,
    ways: BTreeMap<NodeId, Arc<Way>>,
    routes: Vec<Route>,
    /// There is a process to which there is no way yet.
    lacks: bool,
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
        Self { state: Arc::default(), ways: BTreeMap::new(), routes: Vec::new(), lacks: false }
    }

    /// The table that follows this one. Ways to processes that are still there stay.
    pub(super) fn next(&self, state: Arc<State>, stores: &dyn Stores, answers: &Weak<dyn Answers>) -> Self {
        let (mut ways, mut lacks) = (BTreeMap::new(), false);
        for (node, known) in state.sets().nodes().filter(|(_, known)| known.is_up) {
            let process = Process { node, incarnation: known.incarnation };
            let there = self.ways.get(&node).filter(|way| way.process == process).cloned();
            let made = || {
                let addresses = state.member(node).map_or(&[][..], |member| &member.addresses);
                let store = stores.reach(process, addresses, answers)?;
                Some(Arc::new(Way::new(process, store)))
            };
            match there.or_else(made) {
                Some(way) => _ = ways.insert(node, way),
                None => lacks = true,
            }
        }
        let route = |partition| {
            let way = state.primary(partition).and_then(|primary| ways.get(&primary).cloned());
            Route { pepoch: state.pepoch(partition), way }
        };
        let is_same = |one: &Arc<Way>, other: &Arc<Way>| Arc::ptr_eq(one, other);
        let are_same = self.ways.len() == ways.len()
            && self.ways.values().zip(ways.values()).all(|(one, other)| is_same(one, other))
            && !self.routes.is_empty();
        let routes = if are_same {
            let mut routes = self.routes.clone();
            let changed = state.sets().changed_since(self.state.sets());
            changed.for_each(|partition| routes[partition.index()] = route(partition));
            routes
        } else {
            Partition::all().map(route).collect()
        };
        Self { state, ways, routes, lacks }
    }

    /// What it was made from, if it is to be made again: there may be a way by now that is lacking.
    pub(super) fn lacking(&self) -> Option<Arc<State>> {
        self.lacks.then(|| Arc::clone(&self.state))
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

    /// The ways to all processes that are up, as far as there are some.
    pub(super) fn ways(&self) -> impl Iterator<Item = &Arc<Way>> {
        self.ways.values()
    }

    /// Whether no process is up but these.
    pub(super) fn are_all_up(&self, processes: &[Process]) -> bool {
        let mut up = self.state.sets().nodes().filter(|(_, known)| known.is_up);
        up.all(|(node, NodeState { incarnation, .. })| processes.contains(&Process { node, incarnation }))
    }

    /// Whether the partition's in-sync set is of these processes alone, and nobody doubts that they have everything. Never if there is
    /// to be one copy: who is promoted then takes the place of the only one that would have to know of it.
    pub(super) fn is_held_by(&self, partition: Partition, processes: &[Process]) -> bool {
        let sets = self.state.sets();
        let is_one = |node: &NodeId| {
            let process =
                sets.node(*node).map(|known| Process { node: *node, incarnation: known.incarnation });
            process.is_some_and(|process| processes.contains(&process))
        };
        let is_sure = |set: &&InSyncSet| sets.copies() > 1 && !set.in_sync.is_empty() && !set.is_lost();
        let set = sets.set(partition).filter(is_sure);
        set.is_some_and(|set| {
            set.doubtful.is_empty() && set.damaged.is_empty() && set.in_sync.iter().all(is_one)
        })
    }

    /// The disks whose fences were raised since, by their first versions, and by how much.
    pub(super) fn raised_since(&self, before: &Self) -> impl Iterator<Item = (Vid, u64)> {
        self.state.disks().disks().filter_map(|(disk, _)| {
            let (fence, earlier) = (self.target(disk)?.fence, before.target(disk)?.fence);
            fence.checked_sub(earlier).filter(|by| *by > 0).map(|by| (disk, by))
        })
    }

    /// A process other than this `gateway`'s that can be reached and may reach this one, which cannot: another one at each `attempt`, if
    /// there are several.
    pub(super) fn relay(&self, gateway: Process, to: Process, attempt: u32) -> Option<&Arc<Way>> {
        let can_relay = |way: &&Arc<Way>| ![gateway, to].contains(&way.process) && way.store.is_reachable();
        let ways: SmallVec<[&Arc<Way>; 8]> = self.ways.values().filter(can_relay).collect();
        let chosen = (attempt as usize).checked_rem(ways.len())?;
        ways.get(chosen).copied()
    }

    /// The disk with this first version, if there is one.
    pub(super) fn target(&self, disk: Vid) -> Option<Target> {
        let vid = self.state.disks().working(disk)?;
        let version = self.state.disks().version(vid)?;
        Some(Target { vid, layout: version.layout, fence: version.fence })
    }
}
