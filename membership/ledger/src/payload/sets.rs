//! The payloads of records about nodes and in-sync sets.

use huntaway_wire::{NodeId, Partition, Pepoch};
use rkyv::rancor::Failure;
use rkyv::util::AlignedVec;
use rkyv::vec::ArchivedVec;
use rkyv::{Archive, Serialize};

use super::Kind;
use crate::{AtStake, InSyncChange, Incarnation, MAX_MEMBERS, MAX_STARTS, Memory, SetRecord, StartId};

#[derive(Archive, Serialize)]
struct StartedForm {
    node: [u8; 16],
    incarnation: u64,
    start: u64,
    after: Vec<u64>,
    /// One of [`MEMORIES`], by its place.
    memory: u8,
}

const MEMORIES: [Memory; 3] = [Memory::Kept, Memory::Stable, Memory::Damaged];

#[derive(Archive, Serialize)]
struct NodesForm {
    nodes: Vec<[u8; 16]>,
}

/// A node with its process. Where there is none, all of it is zero.
#[derive(Archive, Serialize)]
struct ProcessForm {
    node: [u8; 16],
    incarnation: u64,
}

#[derive(Archive, Serialize)]
struct ChangedForm {
    process: ProcessForm,
    pepoch: u32,
    partition: u16,
    /// 0 = drop, 1 = promote, 2 = renew, 3 = collected.
    change: u8,
}

#[derive(Archive, Serialize)]
struct ForcedForm {
    absent: Vec<[u8; 16]>,
    present: Vec<ProcessForm>,
    pepoch: u32,
    partition: u16,
    flushed: bool,
}

fn process(node: NodeId, incarnation: Incarnation) -> ProcessForm {
    ProcessForm { node: node.0, incarnation: incarnation.0 }
}

fn nodes(nodes: &[NodeId]) -> Vec<[u8; 16]> {
    nodes.iter().map(|node| node.0).collect()
}

pub(super) fn encode(record: &SetRecord) -> Result<(Kind, AlignedVec), Failure> {
    Ok(match record {
        SetRecord::NodeStarted { node, incarnation, memory, start, after } => {
            let place = MEMORIES.iter().zip(0..).find(|(known, _)| *known == memory);
            let form = StartedForm {
                node: node.0,
                incarnation: incarnation.0,
                start: start.0,
                after: after.iter().map(|start| start.0).collect(),
                memory: place.map_or(u8::MAX, |(_, place)| place),
            };
            (Kind::NodeStarted, rkyv::to_bytes(&form)?)
        }
        SetRecord::NodesDown { nodes: down } => {
            (Kind::NodesDown, rkyv::to_bytes(&NodesForm { nodes: nodes(down) })?)
        }
        SetRecord::NodeUp { node } => (Kind::NodeUp, rkyv::to_bytes(&NodesForm { nodes: vec![node.0] })?),
        SetRecord::Changed { partition, pepoch, change } => {
            (Kind::SetChanged, rkyv::to_bytes(&changed_form(*partition, *pepoch, *change))?)
        }
        SetRecord::Forced { partition, pepoch, shown } => {
            let present = shown.present.iter().map(|(node, incarnation)| process(*node, *incarnation));
            let form = ForcedForm {
                absent: nodes(&shown.absent),
                present: present.collect(),
                pepoch: pepoch.0,
                partition: partition.value(),
                flushed: shown.flushed,
            };
            (Kind::Forced, rkyv::to_bytes(&form)?)
        }
    })
}

fn changed_form(partition: Partition, pepoch: Pepoch, change: InSyncChange) -> ChangedForm {
    let nobody = process(NodeId([0; 16]), Incarnation(0));
    let (change, process) = match change {
        InSyncChange::Drop { node, incarnation } => (0, process(node, incarnation)),
        InSyncChange::Promote { node, incarnation } => (1, process(node, incarnation)),
        InSyncChange::Renew => (2, nobody),
        InSyncChange::Collected => (3, nobody),
        InSyncChange::Failed { node, incarnation } => (4, process(node, incarnation)),
        InSyncChange::Emptied { node, incarnation } => (5, process(node, incarnation)),
        InSyncChange::Ready { node, incarnation } => (6, process(node, incarnation)),
    };
    ChangedForm { process, pepoch: pepoch.0, partition: partition.value(), change }
}

pub(super) fn decode(kind: Kind, payload: &[u8]) -> Option<SetRecord> {
    match kind {
        Kind::NodeStarted => {
            let form: &ArchivedStartedForm = rkyv::access::<_, Failure>(payload).ok()?;
            if form.after.len() > MAX_STARTS {
                return None;
            }
            Some(SetRecord::NodeStarted {
                node: NodeId(form.node),
                incarnation: Incarnation(form.incarnation.to_native()),
                memory: *MEMORIES.get(usize::from(form.memory))?,
                start: StartId(form.start.to_native()),
                after: form.after.iter().map(|start| StartId(start.to_native())).collect(),
            })
        }
        Kind::NodesDown => Some(SetRecord::NodesDown { nodes: read_nodes(payload)? }),
        Kind::NodeUp => match read_nodes(payload)?[..] {
            [node] => Some(SetRecord::NodeUp { node }),
            _ => None,
        },
        Kind::SetChanged => changed(rkyv::access::<_, Failure>(payload).ok()?),
        Kind::Forced => forced(rkyv::access::<_, Failure>(payload).ok()?),
        _ => None,
    }
}

fn read_nodes(payload: &[u8]) -> Option<Vec<NodeId>> {
    let form: &ArchivedNodesForm = rkyv::access::<_, Failure>(payload).ok()?;
    in_bounds(&form.nodes)
}

fn in_bounds(nodes: &ArchivedVec<[u8; 16]>) -> Option<Vec<NodeId>> {
    let nodes = Some(nodes).filter(|nodes| nodes.len() <= MAX_MEMBERS)?;
    Some(nodes.iter().map(|node| NodeId(*node)).collect())
}

fn changed(form: &ArchivedChangedForm) -> Option<SetRecord> {
    let node = NodeId(form.process.node);
    let incarnation = Incarnation(form.process.incarnation.to_native());
    let change = match form.change {
        0 => InSyncChange::Drop { node, incarnation },
        1 => InSyncChange::Promote { node, incarnation },
        2 => InSyncChange::Renew,
        3 => InSyncChange::Collected,
        4 => InSyncChange::Failed { node, incarnation },
        5 => InSyncChange::Emptied { node, incarnation },
        6 => InSyncChange::Ready { node, incarnation },
        _ => return None,
    };
    let partition = Partition::new(form.partition.to_native()).ok()?;
    Some(SetRecord::Changed { partition, pepoch: Pepoch(form.pepoch.to_native()), change })
}

fn forced(form: &ArchivedForcedForm) -> Option<SetRecord> {
    if form.present.len() > MAX_MEMBERS {
        return None;
    }
    let process = |form: &ArchivedProcessForm| (NodeId(form.node), Incarnation(form.incarnation.to_native()));
    Some(SetRecord::Forced {
        partition: Partition::new(form.partition.to_native()).ok()?,
        pepoch: Pepoch(form.pepoch.to_native()),
        shown: AtStake {
            absent: in_bounds(&form.absent)?,
            present: form.present.iter().map(process).collect(),
            flushed: form.flushed,
        },
    })
}
