//! What one node knows of its cluster.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use huntaway_ledger::{RecoveryPolicy, State};
use huntaway_replica::Progress;
use huntaway_store::{DiskState, DiskStatus};
use huntaway_wire::{NodeId, OBJECT_SIZE_BYTES, ObjectKind, Oid, Partition};

use super::counts::{condition, counts};
use super::report::{
    ClusterStatus, Health, LunStatus, NodeStatus, ObjectPlace, PartitionCounts, PolicyStatus, RecoveryOfAll,
    RecoveryStatus,
};

/// What one node knows of its cluster at a moment.
pub(crate) struct Sight {
    /// The node.
    pub(crate) node: NodeId,
    /// What is agreed, as far as it knows.
    pub(crate) state: Arc<State>,
    /// Whether it has a lease of the ledger; of a gateway that keeps no data, whether it hears from the keeper.
    pub(crate) has_ledger_lease: bool,
    /// What it has to copy to others; none if it is alone.
    pub(crate) recovery: Option<Progress>,
    /// For how long nodes are down that it saw go.
    pub(crate) down: BTreeMap<NodeId, Duration>,
    /// Its disks.
    pub(crate) disks: Vec<DiskStatus>,
}

impl From<Progress> for RecoveryStatus {
    fn from(progress: Progress) -> Self {
        Self {
            partitions_left: progress.partitions_left,
            bytes_left: progress.bytes_left,
            bytes_copied: progress.bytes_copied,
            bytes_per_second: progress.bytes_per_second,
            seconds_left: progress.time_left.map(|left| left.as_secs()),
        }
    }
}

impl RecoveryOfAll {
    /// What processes tell of what each of them leads.
    pub(crate) fn of(told: Vec<Progress>, silent: usize) -> Self {
        let at_work = |progress: &&Progress| progress.partitions_left > 0;
        // Who copies nothing does not know when it is done, so nobody does.
        let times: Option<Vec<Duration>> =
            told.iter().filter(at_work).map(|progress| progress.time_left).collect();
        let mut all =
            Progress { time_left: times.and_then(|times| times.into_iter().max()), ..Progress::default() };
        for progress in told {
            all.partitions_left = all.partitions_left.saturating_add(progress.partitions_left);
            all.bytes_left = all.bytes_left.saturating_add(progress.bytes_left);
            all.bytes_copied = all.bytes_copied.saturating_add(progress.bytes_copied);
            all.bytes_per_second = all.bytes_per_second.saturating_add(progress.bytes_per_second);
        }
        Self { told: all.into(), silent }
    }
}

impl Sight {
    /// How the cluster is, with what the node shows to initiators.
    pub(crate) fn status(&self, luns: Vec<LunStatus>) -> ClusterStatus {
        let (state, sets) = (&self.state, self.state.sets());
        let partitions = counts(sets);
        let cluster = state.cluster().map(|cluster| cluster.name.to_string());
        ClusterStatus {
            cluster: cluster.unwrap_or_default(),
            health: self.health(&partitions),
            epoch: state.epoch().0,
            record: state.number(),
            told_by: self.name(self.node),
            has_ledger_lease: self.has_ledger_lease,
            copies: sets.copies(),
            min_copies: sets.min_copies(),
            nodes: self.nodes(),
            gateways: self.state.gateways().map(|(name, _)| name.to_string()).collect(),
            partitions,
            recovery_policy: self.policy(),
            recovery: self.recovery.map(RecoveryStatus::from),
            recovery_of_all: None,
            luns,
        }
    }

    /// What recovery may take.
    pub(crate) fn policy(&self) -> PolicyStatus {
        let RecoveryPolicy { is_paused, bytes_per_second, move_after_seconds } = self.state.recovery();
        PolicyStatus { is_paused, bytes_per_second, delay_seconds: move_after_seconds }
    }

    fn health(&self, partitions: &PartitionCounts) -> Health {
        // Who is alone has no copies elsewhere, so what is on a disk that failed is down, whatever the ledger says.
        let alone = self.state.members().len() <= 1;
        let serving = self.disks.iter().filter(|disk| matches!(disk.state, DiskState::Serving)).count();
        let failed_alone = alone && serving < self.disks.len();
        if !self.has_ledger_lease || partitions.down == partitions.all() || failed_alone && serving == 0 {
            Health::Unavailable
        } else if partitions.down + partitions.below_min_copies > 0 || failed_alone {
            Health::PartitionsDown
        } else if partitions.degraded > 0 {
            Health::Degraded
        } else {
            Health::Ok
        }
    }

    /// The members, by their names.
    fn nodes(&self) -> Vec<NodeStatus> {
        let sets = self.state.sets();
        let mut kept: BTreeMap<NodeId, [usize; 3]> = BTreeMap::new();
        for (partition, set) in sets.sets() {
            let led = self.state.primary(partition);
            let places = [led.as_slice(), &set.in_sync, &set.target];
            for (place, nodes) in places.into_iter().enumerate() {
                nodes.iter().for_each(|node| kept.entry(*node).or_default()[place] += 1);
            }
        }
        let node = |member: &huntaway_ledger::Member| {
            let state = sets.node(member.node);
            let [led, kept, wanted] = kept.get(&member.node).copied().unwrap_or_default();
            let disks = Some(&self.disks).filter(|_| member.node == self.node);
            let sum = |bytes: fn(&DiskStatus) -> u64| disks.map(|disks| disks.iter().map(bytes).sum());
            NodeStatus {
                name: member.name.to_string(),
                uuid: member.node.to_string(),
                zone: member.zone.to_string(),
                addresses: member.addresses.iter().map(ToString::to_string).collect(),
                weight: member.weight,
                is_up: state.is_some_and(|state| state.is_up),
                incarnation: member.incarnation.0,
                down_seconds: self.down.get(&member.node).map(Duration::as_secs),
                led,
                kept,
                wanted,
                free_bytes: sum(|disk| disk.free_bytes),
                total_bytes: sum(|disk| disk.total_bytes),
            }
        };
        let mut nodes: Vec<NodeStatus> = self.state.members().iter().map(node).collect();
        nodes.sort_by(|one, other| one.name.cmp(&other.name));
        nodes
    }

    /// What people call the node.
    pub(super) fn name(&self, node: NodeId) -> String {
        let gateway = || self.state.gateways().find(|(_, known)| known.node == node).map(|(name, _)| name);
        let name = self.state.member(node).map(|member| &member.name).or_else(gateway);
        name.map_or_else(|| node.to_string(), ToString::to_string)
    }

    pub(super) fn names(&self, nodes: &[NodeId]) -> Vec<String> {
        nodes.iter().map(|node| self.name(*node)).collect()
    }

    /// Where the object at that place of a VDI is.
    ///
    /// # Errors
    /// There is no such VDI, or no such place in it.
    pub(crate) fn object(&self, vdi: &str, offset_bytes: u64) -> Result<ObjectPlace, String> {
        let found = self.state.vdi(vdi);
        let found = found
            .ok_or_else(|| format!("there is no VDI `{vdi}`: `huntaway vdi list` shows those that exist"))?;
        if offset_bytes >= found.size_bytes {
            return Err(format!("VDI {vdi} has {} bytes, none at {offset_bytes}", found.size_bytes));
        }
        let index = u32::try_from(offset_bytes / u64::from(OBJECT_SIZE_BYTES));
        let index = index.map_err(|_| format!("no VDI has a byte {offset_bytes}"))?;
        let partition = Partition::of(found.family, index);
        let set = self.state.sets().set(partition);
        let set = set.ok_or_else(|| format!("nobody keeps partition {}", partition.value()))?;
        Ok(ObjectPlace {
            vdi: vdi.to_owned(),
            offset_bytes,
            object: Oid::new(ObjectKind::Data, found.vid, index).to_string(),
            index,
            partition: partition.value(),
            condition: condition(self.state.sets(), set).to_string(),
            pepoch: set.pepoch.0,
            primary: self.state.primary(partition).map(|node| self.name(node)),
            in_sync: self.names(&set.in_sync),
            doubtful: self.names(&set.doubtful),
            old_copies: self.names(&set.former),
            targets: self.names(&set.target),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_have_to_copy_is_done_when_the_slowest_is() {
        let progress = |partitions_left, bytes_left, seconds: Option<u64>| Progress {
            partitions_left,
            bytes_left,
            bytes_copied: 7,
            bytes_per_second: 10,
            time_left: seconds.map(Duration::from_secs),
        };
        let nothing = progress(0, 0, None);
        let all = RecoveryOfAll::of(vec![nothing, progress(3, 20, Some(2)), progress(4, 50, Some(5))], 1);
        let told = RecoveryStatus {
            partitions_left: 7,
            bytes_left: 70,
            bytes_copied: 21,
            bytes_per_second: 30,
            seconds_left: Some(5),
        };
        assert_eq!(all, RecoveryOfAll { told, silent: 1 });
        let stuck = RecoveryOfAll::of(vec![progress(3, 20, Some(2)), progress(4, 50, None)], 0);
        assert_eq!(stuck.told.seconds_left, None);
        assert_eq!(RecoveryOfAll::of(vec![nothing], 0).told.seconds_left, None);
    }
}
