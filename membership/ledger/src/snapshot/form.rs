//! The payload of a snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;

use huntaway_wire::{NodeId, PARTITIONS, Partition, Pepoch, Vid};
use rkyv::rancor::Failure;
use rkyv::util::AlignedVec;
use rkyv::vec::ArchivedVec;
use rkyv::{Archive, Serialize};

use crate::disks::Disk;
use crate::payload::{EpochForm, SANITIZE_STATES, epoch, epoch_form};
use crate::{
    DiskHold, DiskVersion, Disks, InSyncSet, InSyncSets, Incarnation, MAX_COPIES, MAX_MEMBERS, MAX_VDIS,
    MAX_VERSIONS, Name, NodeState, StartId, State, Vdi, VdiOptions,
};

#[derive(Archive, Serialize)]
struct StateForm {
    number: u64,
    epoch: Option<EpochForm>,
    nodes: Vec<NodeForm>,
    sets: Vec<SetForm>,
    disks: Vec<DiskForm>,
    versions: Vec<VersionForm>,
    vdis: Vec<VdiForm>,
    last_hold: u64,
    last_vid: u32,
    copies: u32,
    min_copies: u32,
    partitions: u16,
}

#[derive(Archive, Serialize)]
struct NodeForm {
    node: [u8; 16],
    incarnation: u64,
    start: u64,
    is_up: bool,
}

#[derive(Archive, Serialize)]
struct SetForm {
    target: Vec<[u8; 16]>,
    in_sync: Vec<[u8; 16]>,
    former: Vec<[u8; 16]>,
    doubtful: Vec<[u8; 16]>,
    damaged: Vec<[u8; 16]>,
    lost: Option<u64>,
    pepoch: u32,
    partition: u16,
}

#[derive(Archive, Serialize)]
struct DiskForm {
    /// 0 = none.
    hold: u64,
    first: u32,
    working: u32,
    holds_reads: bool,
}

#[derive(Archive, Serialize)]
struct OptionsForm {
    size_bytes: u64,
    block_size: u32,
    physical_block_size: u32,
    thin: bool,
}

#[derive(Archive, Serialize)]
struct VersionForm {
    layout: u64,
    fence: u64,
    options: OptionsForm,
    vid: u32,
    family: u32,
    disk: u32,
    /// 0 = none.
    parent: u32,
    is_frozen: bool,
    is_deleted: bool,
}

#[derive(Archive, Serialize)]
struct VdiForm {
    uuid: [u8; 16],
    options: OptionsForm,
    growing_to_bytes: Option<u64>,
    name: String,
    vid: u32,
    family: u32,
    /// 0 = none.
    parent: u32,
    provisioned: bool,
    /// One of [`SANITIZE_STATES`], by its place.
    sanitize: u8,
}

pub(super) fn encode(state: &State) -> Result<AlignedVec, Failure> {
    let (sets, disks) = (state.sets(), state.disks());
    let in_form = |count: usize| u32::try_from(count).map_err(|_| Failure);
    rkyv::to_bytes(&StateForm {
        number: state.number,
        epoch: state.epoch.as_ref().map(epoch_form),
        nodes: sets.nodes().map(|(node, state)| node_form(node, state)).collect(),
        sets: sets.sets().map(|(partition, set)| set_form(partition, set)).collect(),
        disks: disks.disks.iter().map(|(first, disk)| disk_form(*first, disk)).collect(),
        versions: disks.versions.iter().map(|(vid, version)| version_form(*vid, version)).collect(),
        vdis: state.vdis().map(vdi_form).collect(),
        last_hold: disks.last_hold,
        last_vid: disks.last_vid,
        copies: in_form(sets.copies())?,
        min_copies: in_form(sets.min_copies())?,
        partitions: state.partitions,
    })
}

fn node_form(node: NodeId, state: NodeState) -> NodeForm {
    let NodeState { incarnation, start, is_up } = state;
    NodeForm { node: node.0, incarnation: incarnation.0, start: start.0, is_up }
}

fn set_form(partition: Partition, set: &InSyncSet) -> SetForm {
    let nodes = |nodes: &[NodeId]| nodes.iter().map(|node| node.0).collect();
    SetForm {
        target: nodes(&set.target),
        in_sync: nodes(&set.in_sync),
        former: nodes(&set.former),
        doubtful: nodes(&set.doubtful),
        damaged: nodes(&set.damaged),
        lost: set.lost.map(|start| start.0),
        pepoch: set.pepoch.0,
        partition: partition.value(),
    }
}

fn disk_form(first: Vid, disk: &Disk) -> DiskForm {
    DiskForm {
        hold: disk.hold.map_or(0, |hold| hold.number),
        first: first.value(),
        working: disk.working.value(),
        holds_reads: disk.hold.is_some_and(|hold| hold.reads),
    }
}

fn options_form(options: &VdiOptions) -> OptionsForm {
    let VdiOptions { size_bytes, block_size, physical_block_size, thin } = *options;
    OptionsForm { size_bytes, block_size, physical_block_size, thin }
}

fn version_form(vid: Vid, version: &DiskVersion) -> VersionForm {
    VersionForm {
        layout: version.layout,
        fence: version.fence,
        options: options_form(&version.options),
        vid: vid.value(),
        family: version.family.value(),
        disk: version.disk.value(),
        parent: version.parent.map_or(0, Vid::value),
        is_frozen: version.is_frozen,
        is_deleted: version.is_deleted,
    }
}

fn vdi_form(vdi: &Vdi) -> VdiForm {
    let place = SANITIZE_STATES.iter().zip(0..).find(|(state, _)| *state == &vdi.sanitize);
    VdiForm {
        uuid: vdi.uuid,
        options: options_form(&vdi.options()),
        growing_to_bytes: vdi.growing_to_bytes,
        name: vdi.name.as_str().to_owned(),
        vid: vdi.vid.value(),
        family: vdi.family.value(),
        parent: vdi.parent.map_or(0, Vid::value),
        provisioned: vdi.provisioned,
        sanitize: place.map_or(u8::MAX, |(_, place)| place),
    }
}

/// Reads a payload; `None` when it is not what [`encode`] writes, or holds what no state can.
pub(super) fn decode(payload: &[u8]) -> Option<State> {
    let form: &ArchivedStateForm = rkyv::access::<_, Failure>(payload).ok()?;
    let partitions = form.partitions.to_native();
    let is_too_much = form.nodes.len() > MAX_MEMBERS
        || form.sets.len() > usize::from(partitions.min(PARTITIONS))
        || form.versions.len() > MAX_VERSIONS
        || form.vdis.len() > MAX_VDIS;
    if is_too_much {
        return None;
    }
    let epoch = match form.epoch.as_ref() {
        Some(form) => Some(epoch(form)?),
        None => None,
    };
    let disks = disks(form)?;
    let vdis: BTreeMap<Vid, Vdi> = form.vdis.iter().map(vdi).collect::<Option<_>>()?;
    let is_known = |(vid, vdi): (&Vid, &Vdi)| *vid == vdi.vid && disks.disks.contains_key(vid);
    let vids: BTreeMap<Name, Vid> = vdis.iter().map(|(vid, vdi)| (vdi.name.clone(), *vid)).collect();
    if !vdis.iter().all(is_known) || vids.len() != vdis.len() || vdis.len() != disks.disks.len() {
        return None;
    }
    let sets = Arc::new(sets(form)?);
    let number = form.number.to_native();
    Some(State {
        number,
        epoch,
        sets,
        disks,
        vdis,
        vids,
        partitions,
        #[cfg(feature = "planted-bugs")]
        table: None,
    })
}

fn sets(form: &ArchivedStateForm) -> Option<InSyncSets> {
    let copies = usize::try_from(form.copies.to_native()).ok()?;
    let min_copies = usize::try_from(form.min_copies.to_native()).ok()?;
    if !(1..=MAX_COPIES).contains(&copies) || !(1..=copies).contains(&min_copies) {
        return None;
    }
    let mut sets = InSyncSets::new(copies, min_copies, &[], []);
    let node = |form: &ArchivedNodeForm| {
        let (incarnation, start) = (form.incarnation.to_native(), form.start.to_native());
        let state =
            NodeState { incarnation: Incarnation(incarnation), start: StartId(start), is_up: form.is_up };
        (NodeId(form.node), state)
    };
    sets.nodes = form.nodes.iter().map(node).collect();
    let set = |form: &ArchivedSetForm| {
        let nodes = |nodes: &ArchivedVec<[u8; 16]>| -> Option<Vec<NodeId>> {
            let known = |node: &[u8; 16]| Some(NodeId(*node)).filter(|node| sets.nodes.contains_key(node));
            nodes.iter().map(known).collect()
        };
        let set = InSyncSet {
            pepoch: Pepoch(form.pepoch.to_native()),
            target: nodes(&form.target)?,
            in_sync: nodes(&form.in_sync)?,
            former: nodes(&form.former)?,
            doubtful: nodes(&form.doubtful)?,
            damaged: nodes(&form.damaged)?,
            lost: form.lost.as_ref().map(|start| StartId(start.to_native())),
        };
        let partition = Partition::new(form.partition.to_native()).ok()?;
        (!set.in_sync.is_empty()).then_some((partition, set))
    };
    sets.sets = form.sets.iter().map(set).collect::<Option<_>>()?;
    Some(sets)
}

fn disks(form: &ArchivedStateForm) -> Option<Disks> {
    let (last_hold, last_vid) = (form.last_hold.to_native(), form.last_vid.to_native());
    let versions: BTreeMap<Vid, DiskVersion> = form.versions.iter().map(version).collect::<Option<_>>()?;
    let disk = |form: &ArchivedDiskForm| {
        let (first, working) = (vid(form.first.to_native())?, vid(form.working.to_native())?);
        let number = form.hold.to_native();
        let hold = (number > 0).then_some(DiskHold { number, reads: form.holds_reads });
        versions.get(&working).filter(|version| version.disk == first)?;
        Some((first, Disk { working, hold }))
    };
    let disks = form.disks.iter().map(disk).collect::<Option<_>>()?;
    let is_sound = |(vid, version): (&Vid, &DiskVersion)| {
        let is_there = |parent: Vid| parent < *vid && versions.contains_key(&parent);
        vid.value() <= last_vid && version.parent.is_none_or(is_there)
    };
    let is_sound = versions.iter().all(is_sound) && last_vid <= Vid::MAX.value();
    is_sound.then_some(Disks { disks, versions, last_vid, last_hold })
}

fn vid(value: u32) -> Option<Vid> {
    Vid::new(value).ok()
}

/// The vid, if it is none, nothing.
fn perhaps_vid(value: u32) -> Option<Option<Vid>> {
    if value == 0 { Some(None) } else { vid(value).map(Some) }
}

fn options(form: &ArchivedOptionsForm) -> Option<VdiOptions> {
    let options = VdiOptions {
        size_bytes: form.size_bytes.to_native(),
        block_size: form.block_size.to_native(),
        physical_block_size: form.physical_block_size.to_native(),
        thin: form.thin,
    };
    options.check().ok().map(|()| options)
}

fn version(form: &ArchivedVersionForm) -> Option<(Vid, DiskVersion)> {
    let version = DiskVersion {
        family: vid(form.family.to_native())?,
        disk: vid(form.disk.to_native())?,
        parent: perhaps_vid(form.parent.to_native())?,
        options: options(&form.options)?,
        layout: form.layout.to_native(),
        fence: form.fence.to_native(),
        is_frozen: form.is_frozen,
        is_deleted: form.is_deleted,
    };
    Some((vid(form.vid.to_native())?, version))
}

fn vdi(form: &ArchivedVdiForm) -> Option<(Vid, Vdi)> {
    let VdiOptions { size_bytes, block_size, physical_block_size, thin } = options(&form.options)?;
    let id = vid(form.vid.to_native())?;
    let vdi = Vdi {
        vid: id,
        name: Name::new(form.name.as_str()).ok()?,
        uuid: form.uuid,
        family: vid(form.family.to_native())?,
        parent: perhaps_vid(form.parent.to_native())?,
        size_bytes,
        block_size,
        physical_block_size,
        thin,
        provisioned: form.provisioned,
        growing_to_bytes: form.growing_to_bytes.as_ref().map(|size_bytes| size_bytes.to_native()),
        sanitize: *SANITIZE_STATES.get(usize::from(form.sanitize))?,
    };
    Some((id, vdi))
}
