//! What the ledger of a small cluster says.

#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use huntaway_ledger::{
    Cluster, EpochRecord, Incarnation, Member, MemberState, Memory, Name, Record, SetRecord, StartId, State,
    VdiOptions,
};
use huntaway_wire::{Epoch, NodeId, Vid};

/// The nodes.
pub const NODES: [NodeId; 2] = [NodeId([1; 16]), NodeId([2; 16])];

/// The disk.
pub fn disk() -> Vid {
    Vid::new(1).unwrap()
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// Two nodes, each in its first process, with two copies of everything, and a disk.
pub fn first_state() -> State {
    let member = |node: NodeId| Member {
        node,
        name: name(&format!("node-{}", node.0[0])),
        incarnation: Incarnation(0),
        addresses: Vec::new(),
        zone: name(&format!("zone-{}", node.0[0])),
        weight: 1,
        state: MemberState::Up,
    };
    let epoch = EpochRecord {
        number: Epoch(1),
        cluster: Cluster { uuid: [7; 16], name: name("cluster") },
        members: NODES.map(member).to_vec(),
        voters: NODES.to_vec(),
    };
    let options = VdiOptions { size_bytes: 8 << 20, block_size: 512, physical_block_size: 4096, thin: true };
    let mut state = State::default();
    let begun = [Record::Copies { copies: 2, min_copies: 1 }, Record::Epoch(epoch)];
    let create = Record::CreateVdi { vid: disk(), name: name("disk"), uuid: [3; 16], options };
    let records = begun.into_iter().chain(NODES.map(|node| started(node, 1))).chain([create]);
    records.for_each(|record| state.apply(&record).unwrap());
    state
}

/// A process of the node started, on the disk that it had.
pub fn started(node: NodeId, incarnation: u64) -> Record {
    let (start, before) = (StartId(incarnation << 8), StartId(incarnation.saturating_sub(1) << 8));
    let after = vec![StartId::FIRST, before];
    let incarnation = Incarnation(incarnation);
    Record::Sets(SetRecord::NodeStarted { node, incarnation, memory: Memory::Kept, start, after })
}
