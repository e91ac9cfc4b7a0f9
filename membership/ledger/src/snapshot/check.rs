//! What is so in every state that records make. A snapshot of another one is none: what goes on from it might never end, or count
//! past the end of a number.

use std::collections::BTreeMap;

use huntaway_wire::{NodeId, Partition, Vid};

use crate::gateways::are_gateways;
use crate::state::{ALL_PARTITIONS, check_members};
use crate::{
    DiskVersion, Disks, EpochRecord, InSyncSet, InSyncSets, MAX_ANCESTORS, MAX_COPIES, MemberState,
    RecoveryPolicy, State, Vdi,
};

/// What is counted by ones comes nowhere near it.
const MAX_COUNT: u64 = u64::MAX >> 1;

/// Whether records can make that state.
pub(super) fn is_sound(state: &State) -> bool {
    let are_partitions = state.partitions == ALL_PARTITIONS
        || cfg!(feature = "planted-bugs") && (1..ALL_PARTITIONS).contains(&state.partitions);
    let is_number = state.number <= MAX_COUNT && state.epoch().0 <= state.number;
    let is_sound = match &state.epoch {
        Some(epoch) => are_members(epoch, &state.sets) && are_all_sets(state, epoch),
        None => is_empty(state),
    };
    are_partitions
        && is_number
        && is_sound
        && are_copies(&state.sets)
        && are_disks(state)
        && are_gateways(&state.gateways, state)
        && state.recovery.bytes_per_second > 0
}

/// Nothing can be recorded before the first epoch but how many copies there are to be.
fn is_empty(state: &State) -> bool {
    let InSyncSets { nodes, sets, dismissed, .. } = &*state.sets;
    nodes.is_empty()
        && sets.is_empty()
        && dismissed.is_empty()
        && state.disks == Disks::default()
        && state.gateways.is_empty()
        && state.recovery == RecoveryPolicy::default()
}

fn are_copies(sets: &InSyncSets) -> bool {
    (1..=MAX_COPIES).contains(&sets.copies) && (1..=sets.copies).contains(&sets.min_copies)
}

/// The nodes are the members, as they were recorded last.
fn are_members(epoch: &EpochRecord, sets: &InSyncSets) -> bool {
    let is_known = |member: &crate::Member| {
        let is_up = member.state == MemberState::Up;
        sets.nodes
            .get(&member.node)
            .is_some_and(|node| (node.incarnation, node.is_up) == (member.incarnation, is_up))
    };
    epoch.number.0 > 0
        && check_members(epoch).is_ok()
        && epoch.members.len() == sets.nodes.len()
        && epoch.members.iter().all(is_known)
        && sets.dismissed.iter().all(|node| !sets.nodes.contains_key(node))
}

/// There is a set of each partition as soon as somebody keeps data.
fn are_all_sets(state: &State, epoch: &EpochRecord) -> bool {
    let sets = &*state.sets;
    let keepers = epoch.members.iter().filter(|member| member.weight > 0).count();
    let partitions = if keepers > 0 { state.partitions } else { 0 };
    sets.sets.iter().map(|(partition, _)| partition).eq(Partition::all().take(partitions.into()))
        && sets.sets.values().all(|set| is_set(set, sets))
}

fn is_set(set: &InSyncSet, sets: &InSyncSets) -> bool {
    let InSyncSet { pepoch, target, in_sync, former, doubtful, damaged, failed, lost: _, is_forced } = set;
    let is_known = |node: &NodeId| sets.nodes.contains_key(node);
    let are_nodes = [target, in_sync, former].iter().all(|nodes| nodes.iter().all(is_known));
    let are_different =
        [target, in_sync, former, doubtful, damaged, failed].iter().all(|nodes| !has_twice(nodes));
    let place = |node: &NodeId| target.iter().position(|other| other == node).unwrap_or(usize::MAX);
    pepoch.0 > 0
        && are_nodes
        && are_different
        && (1..=sets.copies).contains(&target.len())
        && !in_sync.is_empty()
        && in_sync.is_sorted_by_key(place)
        && former.iter().all(|node| !in_sync.contains(node))
        && doubtful.iter().all(|node| in_sync.contains(node))
        && damaged.iter().all(|node| doubtful.contains(node))
        && failed.iter().all(|node| set.keepers().contains(node))
        && failed.iter().all(|node| !in_sync.contains(node) || set.is_lost() || set.is_all_doubtful())
        && (!is_forced || set.is_all_doubtful())
}

fn has_twice(nodes: &[NodeId]) -> bool {
    nodes.iter().enumerate().any(|(i, node)| nodes[..i].contains(node))
}

fn are_disks(state: &State) -> bool {
    let Disks { disks, versions, last_vid, last_hold } = &state.disks;
    let is_disk = |(first, disk): (&Vid, &crate::disks::Disk)| {
        let is_hold = disk.hold.is_none_or(|hold| (1..=*last_hold).contains(&hold.number));
        let working = versions.get(&disk.working);
        is_hold && working.is_some_and(|version| version.disk == *first && !version.is_frozen)
    };
    let in_use = versions.values().filter(|version| !version.is_frozen).count();
    let is_last = |vid: &Vid| vid.value() <= *last_vid;
    *last_vid <= Vid::MAX.value()
        && *last_hold <= MAX_COUNT
        && disks.iter().all(is_disk)
        && in_use == disks.len()
        && versions.keys().all(is_last)
        && are_versions(versions)
        && state.vids.len() == disks.len()
        && state.vdis.iter().all(|(vid, vdi)| is_vdi(*vid, vdi, &state.disks))
        && state.vdis.len() == disks.len()
}

/// Each version was made from an older one of its family, or begins one.
fn are_versions(versions: &BTreeMap<Vid, DiskVersion>) -> bool {
    let mut ancestors: BTreeMap<Vid, usize> = BTreeMap::new();
    versions.iter().all(|(vid, version)| {
        let count = match version.parent {
            None => Some(0).filter(|_| (version.family, version.disk) == (*vid, *vid)),
            Some(parent) => {
                let is_kin = versions.get(&parent).is_some_and(|kin| kin.family == version.family);
                let is_disk = version.disk <= *vid && versions.contains_key(&version.disk);
                // Those before it were looked at before.
                ancestors.get(&parent).map(|count| count + 1).filter(|_| is_kin && is_disk)
            }
        };
        ancestors.extend(count.map(|count| (*vid, count)));
        let are_counts = [version.layout, version.fence].iter().all(|at| (1..=MAX_COUNT).contains(at));
        count.is_some_and(|count| count <= MAX_ANCESTORS)
            && are_counts
            && (version.is_frozen || !version.is_deleted)
    })
}

/// What a VDI is, the version that is worked with is as well.
fn is_vdi(vid: Vid, vdi: &Vdi, disks: &Disks) -> bool {
    let working = disks.working(vid).and_then(|working| disks.version(working));
    let is_right = |version: &DiskVersion| (version.family, version.options) == (vdi.family, vdi.options());
    let is_first = disks.version(vid).is_some_and(|first| first.parent == vdi.parent);
    let may_grow = |size_bytes| {
        let larger = crate::VdiOptions { size_bytes, ..vdi.options() };
        !vdi.thin && size_bytes > vdi.size_bytes && larger.check().is_ok()
    };
    vid == vdi.vid
        && working.is_some_and(is_right)
        && is_first
        && (vdi.provisioned || !vdi.thin)
        && vdi.growing_to_bytes.is_none_or(may_grow)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use huntaway_wire::{Epoch, Incarnation, Pepoch};

    use super::*;
    use crate::in_sync::SetTable;
    use crate::{
        Cluster, DiskRecord, EpochRecord, Ledger, Member, Name, Record, RecordHash, SnapshotError, VdiOptions,
    };

    const A: NodeId = NodeId([1; 16]);
    const B: NodeId = NodeId([2; 16]);
    const STRANGER: NodeId = NodeId([9; 16]);

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn vid(number: u32) -> Vid {
        Vid::new(number).unwrap()
    }

    /// Two nodes with everything, a disk with a snapshot, and one of which a snapshot is taken.
    fn state() -> State {
        let member = |node| Member {
            node,
            name: name("node"),
            incarnation: Incarnation(1),
            addresses: vec!["[fd00::1]:7000".parse().unwrap()],
            zone: name("zone"),
            weight: 1,
            state: MemberState::Up,
        };
        let epoch = EpochRecord {
            number: Epoch(1),
            cluster: Cluster { uuid: [1; 16], name: name("cluster") },
            members: vec![member(A), member(B)],
            voters: vec![A],
        };
        let options =
            VdiOptions { size_bytes: 1 << 30, block_size: 512, physical_block_size: 4096, thin: true };
        let create =
            |number, text| Record::CreateVdi { vid: vid(number), name: name(text), uuid: [1; 16], options };
        let hold = |number| Record::Disks(DiskRecord::Hold { disks: vec![vid(number)], reads: false });
        let (node, incarnation, start) = (NodeId([7; 16]), Incarnation(1), crate::StartId(5));
        let gateway = Record::GatewayStarted { name: name("gateway"), node, incarnation, start };
        let mut state = State::default();
        for record in [
            Record::Copies { copies: 2, min_copies: 1 },
            Record::Epoch(epoch),
            create(1, "one"),
            hold(1),
            Record::Disks(DiskRecord::Commit { hold: 1 }),
            create(3, "three"),
            hold(3),
            gateway,
        ] {
            state.apply(&record).unwrap();
        }
        state
    }

    fn read(state: State) -> Result<Ledger, SnapshotError> {
        Ledger::of_snapshot(&Ledger::at(state, RecordHash([7; 32])).snapshot().unwrap())
    }

    fn epoch(state: &mut State) -> &mut EpochRecord {
        state.epoch.as_mut().unwrap()
    }

    fn sets(state: &mut State) -> &mut InSyncSets {
        Arc::make_mut(&mut state.sets)
    }

    fn set(state: &mut State) -> &mut InSyncSet {
        sets(state).sets.get_mut(Partition::new(7).unwrap()).unwrap()
    }

    fn version(state: &mut State, number: u32) -> &mut DiskVersion {
        state.disks.versions.get_mut(&vid(number)).unwrap()
    }

    fn gateway(state: &mut State) -> &mut crate::GatewayState {
        state.gateways.get_mut("gateway").unwrap()
    }

    fn first(state: &mut State) -> &mut Vdi {
        state.vdis.get_mut(&vid(1)).unwrap()
    }

    #[test]
    fn what_no_records_make_is_no_snapshot() {
        assert_eq!(**read(state()).unwrap().state(), state());
        let wrong: [fn(&mut State); 52] = [
            |state| state.number = u64::MAX,
            |state| state.number = 0,
            |state| state.partitions = 0,
            |state| state.partitions = ALL_PARTITIONS + 1,
            |state| state.epoch = None,
            |state| epoch(state).number = Epoch(0),
            |state| epoch(state).number = Epoch(u64::MAX),
            |state| epoch(state).voters.clear(),
            |state| epoch(state).members[1].weight = u32::MAX,
            |state| epoch(state).members[1].node = A,
            |state| epoch(state).members[1].node = STRANGER,
            |state| epoch(state).members[1].incarnation = Incarnation(2),
            |state| epoch(state).members[1].state = MemberState::Down,
            |state| drop(epoch(state).members.pop()),
            |state| epoch(state).members.iter_mut().for_each(|member| member.weight = 0),
            |state| assert!(sets(state).nodes.remove(&B).is_some()),
            |state| assert!(sets(state).dismissed.insert(B)),
            |state| sets(state).copies = 0,
            |state| sets(state).min_copies = 3,
            |state| sets(state).copies = 1,
            |state| sets(state).sets.remove(Partition::new(7).unwrap()),
            |state| sets(state).sets = SetTable::default(),
            |state| set(state).pepoch = Pepoch(0),
            |state| set(state).target.clear(),
            |state| set(state).target[0] = STRANGER,
            |state| set(state).in_sync.clear(),
            |state| set(state).in_sync.reverse(),
            |state| set(state).in_sync = vec![A, A],
            |state| set(state).former = vec![A],
            |state| set(state).former = vec![STRANGER],
            |state| set(state).doubtful = vec![STRANGER],
            |state| set(state).damaged = vec![A],
            |state| set(state).failed = vec![A],
            |state| set(state).failed = vec![STRANGER],
            |state| set(state).is_forced = true,
            |state| state.disks.last_hold = u64::MAX,
            |state| state.disks.last_hold = 1,
            |state| state.disks.last_vid = 2,
            |state| state.disks.last_vid = u32::MAX,
            |state| assert!(state.disks.disks.remove(&vid(3)).is_some()),
            |state| assert!(state.disks.versions.remove(&vid(1)).is_some()),
            |state| version(state, 1).is_frozen = false,
            |state| version(state, 2).is_frozen = true,
            |state| version(state, 2).is_deleted = true,
            |state| version(state, 2).family = vid(3),
            |state| version(state, 2).layout = u64::MAX,
            |state| version(state, 3).fence = u64::MAX,
            |state| gateway(state).incarnation = Incarnation(0),
            |state| gateway(state).node = A,
            |state| state.recovery.bytes_per_second = 0,
            |state| first(state).size_bytes = 512,
            |state| first(state).growing_to_bytes = Some(2 << 30),
        ];
        for (place, wrong) in wrong.iter().enumerate() {
            let mut state = state();
            wrong(&mut state);
            let error = read(state).map(|ledger| ledger.state().number());
            assert_eq!(error, Err(SnapshotError::Payload), "the one at {place}");
        }
    }
}
