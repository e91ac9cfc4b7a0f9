//! Clusters for the tests of what is told of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use huntaway_ledger::{
    Cluster, EpochRecord, Incarnation, Member, MemberState, Name, Record, State, VdiOptions,
};
use huntaway_wire::{Epoch, NodeId, Vid};

use super::Sight;

/// `node-1`, and so on.
pub(crate) fn node(number: u8) -> NodeId {
    NodeId([number; 16])
}

/// So many nodes that are up, with a VDI `root` of 1 GiB.
pub(crate) fn state(nodes: u8, copies: usize, min_copies: usize) -> State {
    let name = |text: String| Name::new(text).expect("a name");
    let member = |number| Member {
        node: node(number),
        name: name(format!("node-{number}")),
        incarnation: Incarnation(1),
        addresses: Vec::new(),
        zone: name(format!("zone-{number}")),
        weight: 1,
        state: MemberState::Up,
    };
    let epoch = EpochRecord {
        number: Epoch(1),
        cluster: Cluster { uuid: [9; 16], name: name("demo".into()) },
        members: (1..=nodes).map(member).collect(),
        voters: vec![node(1)],
    };
    let options = VdiOptions { size_bytes: 1 << 30, block_size: 512, physical_block_size: 4096, thin: true };
    let vid = Vid::new(1).expect("a vid");
    let mut state = State::default();
    for record in [
        Record::Copies { copies, min_copies },
        Record::Epoch(epoch),
        Record::CreateVdi { vid, name: name("root".into()), uuid: [7; 16], options },
    ] {
        state.apply(&record).expect("the record follows");
    }
    state
}

/// As node 1 sees it.
pub(crate) fn sight(state: State) -> Sight {
    Sight {
        node: node(1),
        state: Arc::new(state),
        has_ledger_lease: true,
        recovery: None,
        down: BTreeMap::new(),
        disks: Vec::new(),
    }
}
