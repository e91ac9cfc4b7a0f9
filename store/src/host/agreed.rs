//! What the ledger agreed on, as the replicas of a partition are told.

use std::sync::Arc;

use huntaway_ledger::{DiskHold, DiskVersion, Disks, State};
use huntaway_replica::{Configuration, Hold, Process, Vdi, Vdis};
use huntaway_wire::{Incarnation, NodeId, Partition};

/// The versions of all VDIs.
pub fn vdis(disks: &Disks) -> Arc<Vdis> {
    let vdi = |(vid, version, hold): (_, &DiskVersion, Option<DiskHold>)| {
        let DiskVersion { parent, layout, fence, is_frozen, is_deleted, .. } = *version;
        let (holds_reads, hold) = (hold.is_some_and(|hold| hold.reads), hold.map(|hold| Hold(hold.number)));
        (vid, Vdi { parent, layout, fence, is_frozen, is_deleted, hold, holds_reads })
    };
    Arc::new(disks.versions().map(vdi).collect())
}

/// The newest process of each node, each of which may be a gateway, and of each gateway that is no node.
pub fn processes(state: &State) -> Vec<Process> {
    state.processes().collect()
}

/// Who keeps the partition; `None` if there is no such partition. What it inherits from what, and who its gateways are, is the same
/// for all partitions.
pub fn configuration(
    state: &State,
    partition: Partition,
    gateways: &[Process],
    vdis: &Arc<Vdis>,
) -> Option<Configuration> {
    let sets = state.sets();
    let set = sets.set(partition)?;
    let process = |node: &NodeId| Process {
        node: *node,
        incarnation: sets.node(*node).map_or(Incarnation(0), |known| known.incarnation),
    };
    Some(Configuration {
        pepoch: set.pepoch,
        in_sync: set.in_sync.iter().map(process).collect(),
        doubtful: set.doubtful.clone(),
        damaged: set.damaged.clone(),
        failed: set.failed.clone(),
        is_lost: set.is_lost(),
        primary: set.primary()?,
        candidates: sets.candidates(partition).iter().map(process).collect(),
        keepers: set.keepers(),
        copies: sets.copies(),
        min_copies: sets.min_copies(),
        gateways: gateways.to_vec(),
        vdis: Arc::clone(vdis),
    })
}
