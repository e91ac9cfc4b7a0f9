//! The payload of a snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;

use huntaway_wire::{NodeId, PARTITIONS, Partition, Pepoch, Vid};
use rkyv::rancor::Failure;
use rkyv::util::AlignedVec;
use rkyv::vec::ArchivedVec;
use rkyv::{Archive, Serialize};

use super::check;
use crate::disks::Disk;
use crate::payload::{
    EpochForm, GatewayForm, RecoveryForm, SANITIZE_STATES, epoch, epoch_form, gateway, gateway_form,
    recovery, recovery_form,
};
use crate::{
    DiskHold, DiskVersion, Disks, InSyncSet, InSyncSets, Incarnation, MAX_DISMISSED, MAX_GATEWAYS,
    MAX_MEMBERS, MAX_VDIS, MAX_VERSIONS, Name, NodeState, StartId, State, Vdi, VdiOptions,
};

#[derive(Archive, Serialize)]
struct StateForm {
    number: u64,
    epoch: Option<EpochForm>,
    nodes: Vec<NodeForm>,
    dismissed: Vec<[u8; 16]>,
    sets: Vec<SetForm>,
    disks: Vec<DiskForm>,
    versions: Vec<VersionForm>,
    vdis: Vec<VdiForm>,
    gateways: Vec<GatewayForm>,
    recovery: RecoveryForm,
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
    failed: Vec<[u8; 16]>,
    lost: Option<u64>,
    pepoch: u32,
    partition: u16,
    is_forced: bool,
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

/// Nothing of a state is left out by mistake: here and below, whatever has a field more does not compile.
pub(super) fn encode(state: &State) -> Result<AlignedVec, Failure> {
    let State {
        number,
        epoch,
        sets,
        disks,
        vdis,
        vids: _, // That is what the VDIs are called.
        gateways,
        recovery,
        partitions,
        #[cfg(feature = "planted-bugs")]
            table: _,
    } = state;
    let InSyncSets {
        copies,
        min_copies,
        nodes,
        sets,
        dismissed,
        #[cfg(feature = "planted-bugs")]
            same_pepoch_after_restart: _,
        #[cfg(feature = "planted-bugs")]
            any_disk_will_do: _,
        #[cfg(feature = "planted-bugs")]
            placed_at_once: _,
        #[cfg(feature = "planted-bugs")]
            removed_early: _,
        #[cfg(feature = "planted-bugs")]
            opens_damaged: _,
        #[cfg(feature = "planted-bugs")]
            first_disk_is_another: _,
        #[cfg(feature = "planted-bugs")]
            old_copies_left_out: _,
    } = &**sets;
    let Disks { disks, versions, last_vid, last_hold } = disks;
    let in_form = |count: usize| u32::try_from(count).map_err(|_| Failure);
    rkyv::to_bytes(&StateForm {
        number: *number,
        epoch: epoch.as_ref().map(epoch_form),
        nodes: nodes.iter().map(|(node, state)| node_form(*node, *state)).collect(),
        dismissed: dismissed.iter().map(|node| node.0).collect(),
        sets: sets.iter().map(|(partition, set)| set_form(partition, set)).collect(),
        disks: disks.iter().map(|(first, disk)| disk_form(*first, disk)).collect(),
        versions: versions.iter().map(|(vid, version)| version_form(*vid, version)).collect(),
        vdis: vdis.values().map(vdi_form).collect(),
        gateways: gateways.iter().map(|(name, known)| gateway_form(name, known)).collect(),
        recovery: recovery_form(recovery),
        last_hold: *last_hold,
        last_vid: *last_vid,
        copies: in_form(*copies)?,
        min_copies: in_form(*min_copies)?,
        partitions: *partitions,
    })
}

fn node_form(node: NodeId, state: NodeState) -> NodeForm {
    let NodeState { incarnation, start, is_up } = state;
    NodeForm { node: node.0, incarnation: incarnation.0, start: start.0, is_up }
}

fn set_form(partition: Partition, set: &InSyncSet) -> SetForm {
    let InSyncSet { pepoch, target, in_sync, former, doubtful, damaged, failed, lost, is_forced } = set;
    let nodes = |nodes: &[NodeId]| nodes.iter().map(|node| node.0).collect();
    SetForm {
        target: nodes(target),
        in_sync: nodes(in_sync),
        former: nodes(former),
        doubtful: nodes(doubtful),
        damaged: nodes(damaged),
        failed: nodes(failed),
        lost: lost.map(|start| start.0),
        pepoch: pepoch.0,
        partition: partition.value(),
        is_forced: *is_forced,
    }
}

fn disk_form(first: Vid, disk: &Disk) -> DiskForm {
    let Disk { working, hold } = *disk;
    let (hold, holds_reads) = hold.map_or((0, false), |DiskHold { number, reads }| (number, reads));
    DiskForm { hold, first: first.value(), working: working.value(), holds_reads }
}

fn options_form(options: &VdiOptions) -> OptionsForm {
    let VdiOptions { size_bytes, block_size, physical_block_size, thin } = *options;
    OptionsForm { size_bytes, block_size, physical_block_size, thin }
}

fn version_form(vid: Vid, version: &DiskVersion) -> VersionForm {
    let DiskVersion { family, disk, parent, options, layout, fence, is_frozen, is_deleted } = *version;
    VersionForm {
        layout,
        fence,
        options: options_form(&options),
        vid: vid.value(),
        family: family.value(),
        disk: disk.value(),
        parent: parent.map_or(0, Vid::value),
        is_frozen,
        is_deleted,
    }
}

fn vdi_form(vdi: &Vdi) -> VdiForm {
    let Vdi {
        vid,
        name,
        uuid,
        family,
        parent,
        size_bytes,
        block_size,
        physical_block_size,
        thin,
        provisioned,
        growing_to_bytes,
        sanitize,
    } = vdi;
    let (size_bytes, thin) = (*size_bytes, *thin);
    let (block_size, physical_block_size) = (*block_size, *physical_block_size);
    let place = SANITIZE_STATES.iter().zip(0..).find(|(state, _)| *state == sanitize);
    VdiForm {
        uuid: *uuid,
        options: OptionsForm { size_bytes, block_size, physical_block_size, thin },
        growing_to_bytes: *growing_to_bytes,
        name: name.as_str().to_owned(),
        vid: vid.value(),
        family: family.value(),
        parent: parent.map_or(0, Vid::value),
        provisioned: *provisioned,
        sanitize: place.map_or(u8::MAX, |(_, place)| place),
    }
}

/// Reads a payload; `None` when it is not what [`encode`] writes, or holds what no state can.
pub(super) fn decode(payload: &[u8]) -> Option<State> {
    let form: &ArchivedStateForm = rkyv::access::<_, Failure>(payload).ok()?;
    let is_too_much = form.nodes.len() > MAX_MEMBERS
        || form.dismissed.len() > MAX_DISMISSED
        || form.sets.len() > usize::from(PARTITIONS)
        || form.versions.len() > MAX_VERSIONS
        || form.vdis.len() > MAX_VDIS
        || form.gateways.len() > MAX_GATEWAYS
        || form.disks.len() > MAX_VDIS;
    if is_too_much {
        return None;
    }
    let epoch = match form.epoch.as_ref() {
        Some(form) => Some(epoch(form)?),
        None => None,
    };
    let vdis: BTreeMap<Vid, Vdi> = form.vdis.iter().map(vdi).collect::<Option<_>>()?;
    let state = State {
        number: form.number.to_native(),
        epoch,
        sets: Arc::new(sets(form)?),
        disks: disks(form)?,
        vids: vdis.iter().map(|(vid, vdi)| (vdi.name.clone(), *vid)).collect(),
        vdis,
        gateways: form.gateways.iter().map(gateway).collect::<Option<_>>()?,
        recovery: recovery(&form.recovery),
        partitions: form.partitions.to_native(),
        #[cfg(feature = "planted-bugs")]
        table: None,
    };
    // Whatever is there twice, or in another order, is not written like that.
    let is_written_so = check::is_sound(&state) && encode(&state).is_ok_and(|bytes| *bytes == *payload);
    is_written_so.then_some(state)
}

fn sets(form: &ArchivedStateForm) -> Option<InSyncSets> {
    let copies = usize::try_from(form.copies.to_native()).ok()?;
    let min_copies = usize::try_from(form.min_copies.to_native()).ok()?;
    let mut sets = InSyncSets::new(copies, min_copies, &[], []);
    let node = |form: &ArchivedNodeForm| {
        let (incarnation, start) = (form.incarnation.to_native(), form.start.to_native());
        let state =
            NodeState { incarnation: Incarnation(incarnation), start: StartId(start), is_up: form.is_up };
        (NodeId(form.node), state)
    };
    sets.nodes = form.nodes.iter().map(node).collect();
    sets.dismissed = form.dismissed.iter().map(|node| NodeId(*node)).collect();
    let set = |form: &ArchivedSetForm| {
        let nodes = |nodes: &ArchivedVec<[u8; 16]>| -> Option<Vec<NodeId>> {
            let nodes = Some(nodes).filter(|nodes| nodes.len() <= MAX_MEMBERS)?;
            Some(nodes.iter().map(|node| NodeId(*node)).collect())
        };
        let set = InSyncSet {
            pepoch: Pepoch(form.pepoch.to_native()),
            target: nodes(&form.target)?,
            in_sync: nodes(&form.in_sync)?,
            former: nodes(&form.former)?,
            doubtful: nodes(&form.doubtful)?,
            damaged: nodes(&form.damaged)?,
            failed: nodes(&form.failed)?,
            lost: form.lost.as_ref().map(|start| StartId(start.to_native())),
            is_forced: form.is_forced,
        };
        Some((Partition::new(form.partition.to_native()).ok()?, set))
    };
    sets.sets = form.sets.iter().map(set).collect::<Option<_>>()?;
    Some(sets)
}

fn disks(form: &ArchivedStateForm) -> Option<Disks> {
    let disk = |form: &ArchivedDiskForm| {
        let (first, working) = (vid(form.first.to_native())?, vid(form.working.to_native())?);
        let number = form.hold.to_native();
        let hold = (number > 0).then_some(DiskHold { number, reads: form.holds_reads });
        Some((first, Disk { working, hold }))
    };
    Some(Disks {
        disks: form.disks.iter().map(disk).collect::<Option<_>>()?,
        versions: form.versions.iter().map(version).collect::<Option<_>>()?,
        last_vid: form.last_vid.to_native(),
        last_hold: form.last_hold.to_native(),
    })
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
