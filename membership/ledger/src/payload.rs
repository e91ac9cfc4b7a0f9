//! The payload of a record: rkyv's form of its fields (version 1), read with checks only.
//!
//! rkyv proves that the bytes are well formed, not that they are right: the frame's checksums and the ledger's rules
//! see to that. The forms here are the disk's; [`Record`] is the program's. They never change: another form gets
//! another number in [`Kind`].

use core::net::SocketAddr;

use huntaway_wire::{Epoch, NodeId, Vid};
use rkyv::rancor::Failure;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Serialize};

use crate::{
    Cluster, EpochRecord, Incarnation, MAX_ADDRESSES, MAX_MEMBERS, MAX_VOTERS, Member, MemberState, Name,
    Record, Sanitize, VdiOptions,
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
        ];
        all.into_iter().find(|kind| *kind as u16 == number)
    }
}

#[derive(Archive, Serialize)]
struct EpochForm {
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

const SANITIZE_STATES: [Option<Sanitize>; 5] = [
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
    })
}

fn size_form(vid: Vid, size_bytes: u64) -> Result<AlignedVec, Failure> {
    rkyv::to_bytes(&SizeForm { size_bytes, vid: vid.value() })
}

fn epoch_form(epoch: &EpochRecord) -> EpochForm {
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
        Kind::Epoch => epoch(rkyv::access::<_, Failure>(payload).ok()?),
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
    }
}

fn epoch(form: &ArchivedEpochForm) -> Option<Record> {
    if form.members.len() > MAX_MEMBERS || form.voters.len() > MAX_VOTERS {
        return None;
    }
    let members: Option<Vec<Member>> = form.members.iter().map(member).collect();
    Some(Record::Epoch(EpochRecord {
        number: Epoch(form.number.to_native()),
        cluster: Cluster { uuid: form.cluster, name: Name::new(form.cluster_name.as_str()).ok()? },
        members: members?,
        voters: form.voters.iter().map(|voter| NodeId(*voter)).collect(),
    }))
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

fn vid(payload: &[u8]) -> Option<Vid> {
    let form: &ArchivedVidForm = rkyv::access::<_, Failure>(payload).ok()?;
    Vid::new(form.vid.to_native()).ok()
}

fn size(payload: &[u8]) -> Option<(Vid, u64)> {
    let form: &ArchivedSizeForm = rkyv::access::<_, Failure>(payload).ok()?;
    Some((Vid::new(form.vid.to_native()).ok()?, form.size_bytes.to_native()))
}
