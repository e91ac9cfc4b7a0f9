//! The payload of a record: rkyv's form of its fields (version 1), read with checks only.
//!
//! rkyv proves that the bytes are well formed, not that they are right: the frame's checksums and the ledger's rules
//! see to that. The forms here are the disk's; [`Record`] is the program's. They never change: another form gets
//! another number in [`Kind`].

mod disks;
mod gateways;
mod recovery;
mod sets;

use core::net::SocketAddr;

pub(crate) use self::gateways::{GatewayForm, gateway, gateway_form};
pub(crate) use self::recovery::{RecoveryForm, recovery, recovery_form};
use huntaway_wire::{Epoch, NodeId, Vid};
use rkyv::rancor::Failure;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Serialize};

use crate::{
    Cluster, EpochRecord, GatewayState, Incarnation, MAX_ADDRESSES, MAX_MEMBERS, MAX_VOTERS, Member,
    MemberState, Name, Record, Sanitize, VdiOptions,
};

/// The number of a payload's form, kept in the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Kind {
    Epoch = 1,
    Incarnation = 2,
    CreateVdi = 3,
    ProvisionedVdi = 4,
    DeleteVdi = 5,
    ResizeVdi = 6,
    GrowVdi = 7,
    SanitizeVdi = 8,
    Copies = 9,
    CloneVdi = 10,
    NodeStarted = 11,
    NodesDown = 12,
    NodeUp = 13,
    SetChanged = 14,
    Forced = 15,
    Hold = 16,
    Commit = 17,
    Abort = 18,
    RollBack = 19,
    DeleteSnapshot = 20,
    DeleteDisk = 21,
    Fence = 22,
    GatewayStarted = 23,
    Recovery = 24,
}

impl Kind {
    pub(crate) fn from_number(number: u16) -> Option<Self> {
        let all = [
            Self::Epoch,
            Self::Incarnation,
            Self::CreateVdi,
            Self::ProvisionedVdi,
            Self::DeleteVdi,
            Self::ResizeVdi,
            Self::GrowVdi,
            Self::SanitizeVdi,
            Self::Copies,
            Self::CloneVdi,
            Self::NodeStarted,
            Self::NodesDown,
            Self::NodeUp,
            Self::SetChanged,
            Self::Forced,
            Self::Hold,
            Self::Commit,
            Self::Abort,
            Self::RollBack,
            Self::DeleteSnapshot,
            Self::DeleteDisk,
            Self::Fence,
            Self::GatewayStarted,
            Self::Recovery,
        ];
        all.into_iter().find(|kind| *kind as u16 == number)
    }
}

#[derive(Archive, Serialize)]
pub(crate) struct EpochForm {
    number: u64,
    cluster: [u8; 16],
    cluster_name: String,
    members: Vec<MemberForm>,
    voters: Vec<[u8; 16]>,
}

#[derive(Archive, Serialize)]
struct MemberForm {
    node: [u8; 16],
    name: String,
    incarnation: u64,
    addresses: Vec<String>,
    zone: String,
    weight: u32,
    up: bool,
}

#[derive(Archive, Serialize)]
struct IncarnationForm {
    node: [u8; 16],
    incarnation: u64,
}

#[derive(Archive, Serialize)]
struct CreateVdiForm {
    uuid: [u8; 16],
    size_bytes: u64,
    name: String,
    vid: u32,
    block_size: u32,
    physical_block_size: u32,
    thin: bool,
}

#[derive(Archive, Serialize)]
struct CloneVdiForm {
    uuid: [u8; 16],
    name: String,
    of: u32,
    vid: u32,
}

#[derive(Archive, Serialize)]
struct CopiesForm {
    copies: u32,
    min_copies: u32,
}

#[derive(Archive, Serialize)]
struct VidForm {
    vid: u32,
}

#[derive(Archive, Serialize)]
struct SizeForm {
    size_bytes: u64,
    vid: u32,
}

#[derive(Archive, Serialize)]
struct SanitizeVdiForm {
    vid: u32,
    /// One of [`SANITIZE_STATES`], by its place.
    state: u8,
}

/// What a sanitize operation may have come to, by the numbers that stand for it.
pub(crate) const SANITIZE_STATES: [Option<Sanitize>; 5] = [
    None,
    Some(Sanitize::Running { may_exit: false }),
    Some(Sanitize::Running { may_exit: true }),
    Some(Sanitize::Failed { may_exit: false }),
    Some(Sanitize::Failed { may_exit: true }),
];

/// Writes a record's payload.
pub(crate) fn encode(record: &Record) -> Result<(Kind, AlignedVec), Failure> {
    Ok(match record {
        Record::Epoch(epoch) => (Kind::Epoch, rkyv::to_bytes(&epoch_form(epoch))?),
        Record::Incarnation { node, incarnation } => {
            let form = IncarnationForm { node: node.0, incarnation: incarnation.0 };
            (Kind::Incarnation, rkyv::to_bytes(&form)?)
        }
        Record::CreateVdi { vid, name, uuid, options } => {
            let form = CreateVdiForm {
                uuid: *uuid,
                size_bytes: options.size_bytes,
                name: name.as_str().to_owned(),
                vid: vid.value(),
                block_size: options.block_size,
                physical_block_size: options.physical_block_size,
                thin: options.thin,
            };
            (Kind::CreateVdi, rkyv::to_bytes(&form)?)
        }
        Record::ProvisionedVdi { vid } => {
            (Kind::ProvisionedVdi, rkyv::to_bytes(&VidForm { vid: vid.value() })?)
        }
        Record::DeleteVdi { vid } => (Kind::DeleteVdi, rkyv::to_bytes(&VidForm { vid: vid.value() })?),
        Record::ResizeVdi { vid, size_bytes } => (Kind::ResizeVdi, size_form(*vid, *size_bytes)?),
        Record::GrowVdi { vid, size_bytes } => (Kind::GrowVdi, size_form(*vid, *size_bytes)?),
        Record::SanitizeVdi { vid, sanitize } => {
            let state = SANITIZE_STATES.iter().zip(0..).find(|(state, _)| *state == sanitize);
            let form = SanitizeVdiForm { vid: vid.value(), state: state.map_or(0, |(_, place)| place) };
            (Kind::SanitizeVdi, rkyv::to_bytes(&form)?)
        }
        Record::Copies { copies, min_copies } => {
            let in_form = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
            let form = CopiesForm { copies: in_form(*copies), min_copies: in_form(*min_copies) };
            (Kind::Copies, rkyv::to_bytes(&form)?)
        }
        Record::CloneVdi { of, vid, name, uuid } => {
            let name = name.as_str().to_owned();
            let form = CloneVdiForm { uuid: *uuid, name, of: of.value(), vid: vid.value() };
            (Kind::CloneVdi, rkyv::to_bytes(&form)?)
        }
        Record::Recovery(policy) => (Kind::Recovery, rkyv::to_bytes(&recovery_form(policy))?),
        Record::GatewayStarted { name, node, incarnation, start } => {
            let started = GatewayState { node: *node, incarnation: *incarnation, start: *start };
            (Kind::GatewayStarted, rkyv::to_bytes(&gateway_form(name, &started))?)
        }
        Record::Sets(record) => sets::encode(record)?,
        Record::Disks(record) => disks::encode(record)?,
    })
}

fn size_form(vid: Vid, size_bytes: u64) -> Result<AlignedVec, Failure> {
    rkyv::to_bytes(&SizeForm { size_bytes, vid: vid.value() })
}

pub(crate) fn epoch_form(epoch: &EpochRecord) -> EpochForm {
    let member = |member: &Member| MemberForm {
        node: member.node.0,
        name: member.name.as_str().to_owned(),
        incarnation: member.incarnation.0,
        addresses: member.addresses.iter().map(SocketAddr::to_string).collect(),
        zone: member.zone.as_str().to_owned(),
        weight: member.weight,
        up: member.state == MemberState::Up,
    };
    EpochForm {
        number: epoch.number.0,
        cluster: epoch.cluster.uuid,
        cluster_name: epoch.cluster.name.as_str().to_owned(),
        members: epoch.members.iter().map(member).collect(),
        voters: epoch.voters.iter().map(|voter| voter.0).collect(),
    }
}

/// Reads a record's payload; `None` when the bytes are not what [`encode`] writes, or hold a value out of range.
pub(crate) fn decode(kind: Kind, payload: &[u8]) -> Option<Record> {
    match kind {
        Kind::Epoch => epoch(rkyv::access::<_, Failure>(payload).ok()?).map(Record::Epoch),
        Kind::Incarnation => {
            let form: &ArchivedIncarnationForm = rkyv::access::<_, Failure>(payload).ok()?;
            let incarnation = Incarnation(form.incarnation.to_native());
            Some(Record::Incarnation { node: NodeId(form.node), incarnation })
        }
        Kind::CreateVdi => create_vdi(rkyv::access::<_, Failure>(payload).ok()?),
        Kind::ProvisionedVdi => Some(Record::ProvisionedVdi { vid: vid(payload)? }),
        Kind::DeleteVdi => Some(Record::DeleteVdi { vid: vid(payload)? }),
        Kind::ResizeVdi => size(payload).map(|(vid, size_bytes)| Record::ResizeVdi { vid, size_bytes }),
        Kind::GrowVdi => size(payload).map(|(vid, size_bytes)| Record::GrowVdi { vid, size_bytes }),
        Kind::SanitizeVdi => {
            let form: &ArchivedSanitizeVdiForm = rkyv::access::<_, Failure>(payload).ok()?;
            let sanitize = *SANITIZE_STATES.get(usize::from(form.state))?;
            Some(Record::SanitizeVdi { vid: Vid::new(form.vid.to_native()).ok()?, sanitize })
        }
        Kind::Copies => {
            let form: &ArchivedCopiesForm = rkyv::access::<_, Failure>(payload).ok()?;
            let (copies, min_copies) = (form.copies.to_native(), form.min_copies.to_native());
            Some(Record::Copies { copies: copies.try_into().ok()?, min_copies: min_copies.try_into().ok()? })
        }
        Kind::CloneVdi => clone_vdi(rkyv::access::<_, Failure>(payload).ok()?),
        Kind::GatewayStarted => gateways::decode(payload),
        Kind::Recovery => Some(Record::Recovery(recovery(rkyv::access::<_, Failure>(payload).ok()?))),
        Kind::NodeStarted | Kind::NodesDown | Kind::NodeUp | Kind::SetChanged | Kind::Forced => {
            sets::decode(kind, payload).map(Record::Sets)
        }
        Kind::Hold
        | Kind::Commit
        | Kind::Abort
        | Kind::RollBack
        | Kind::DeleteSnapshot
        | Kind::DeleteDisk
        | Kind::Fence => disks::decode(kind, payload).map(Record::Disks),
    }
}

pub(crate) fn epoch(form: &ArchivedEpochForm) -> Option<EpochRecord> {
    if form.members.len() > MAX_MEMBERS || form.voters.len() > MAX_VOTERS {
        return None;
    }
    let members: Option<Vec<Member>> = form.members.iter().map(member).collect();
    Some(EpochRecord {
        number: Epoch(form.number.to_native()),
        cluster: Cluster { uuid: form.cluster, name: Name::new(form.cluster_name.as_str()).ok()? },
        members: members?,
        voters: form.voters.iter().map(|voter| NodeId(*voter)).collect(),
    })
}

fn member(form: &ArchivedMemberForm) -> Option<Member> {
    if form.addresses.len() > MAX_ADDRESSES {
        return None;
    }
    let addresses: Result<Vec<SocketAddr>, _> =
        form.addresses.iter().map(|address| address.as_str().parse()).collect();
    Some(Member {
        node: NodeId(form.node),
        name: Name::new(form.name.as_str()).ok()?,
        incarnation: Incarnation(form.incarnation.to_native()),
        addresses: addresses.ok()?,
        zone: Name::new(form.zone.as_str()).ok()?,
        weight: form.weight.to_native(),
        state: if form.up { MemberState::Up } else { MemberState::Down },
    })
}

fn create_vdi(form: &ArchivedCreateVdiForm) -> Option<Record> {
    Some(Record::CreateVdi {
        vid: Vid::new(form.vid.to_native()).ok()?,
        name: Name::new(form.name.as_str()).ok()?,
        uuid: form.uuid,
        options: VdiOptions {
            size_bytes: form.size_bytes.to_native(),
            block_size: form.block_size.to_native(),
            physical_block_size: form.physical_block_size.to_native(),
            thin: form.thin,
        },
    })
}

fn clone_vdi(form: &ArchivedCloneVdiForm) -> Option<Record> {
    Some(Record::CloneVdi {
        of: Vid::new(form.of.to_native()).ok()?,
        vid: Vid::new(form.vid.to_native()).ok()?,
        name: Name::new(form.name.as_str()).ok()?,
        uuid: form.uuid,
    })
}

fn vid(payload: &[u8]) -> Option<Vid> {
    let form: &ArchivedVidForm = rkyv::access::<_, Failure>(payload).ok()?;
    Vid::new(form.vid.to_native()).ok()
}

fn size(payload: &[u8]) -> Option<(Vid, u64)> {
    let form: &ArchivedSizeForm = rkyv::access::<_, Failure>(payload).ok()?;
    Some((Vid::new(form.vid.to_native()).ok()?, form.size_bytes.to_native()))
}
