//! What the ledger says of a partition, unless a test wants something else.

use std::sync::Arc;

use huntaway_replica::{Configuration, Process, Vdi, Vdis};
use huntaway_wire::{Incarnation, NodeId, Pepoch, Vid};

/// The only gateway.
pub(crate) const GATEWAY: Process = Process { node: NodeId([9; 16]), incarnation: Incarnation(1) };

/// A VDI with nothing under way.
pub(crate) const VDI: Vdi = Vdi {
    parent: None,
    layout: 1,
    fence: 1,
    is_frozen: false,
    is_deleted: false,
    hold: None,
    holds_reads: false,
};

/// The vid of the only VDI.
pub(crate) fn vid() -> Vid {
    Vid::new(1).expect("1 is a vid")
}

/// A partition of two copies; the first that is in sync is primary.
pub(crate) fn configuration(pepoch: Pepoch, in_sync: &[Process]) -> Configuration {
    Configuration {
        pepoch,
        in_sync: in_sync.to_vec(),
        doubtful: Vec::new(),
        damaged: Vec::new(),
        failed: Vec::new(),
        is_lost: false,
        primary: in_sync[0].node,
        candidates: Vec::new(),
        keepers: in_sync.iter().map(|process| process.node).collect(),
        copies: 2,
        min_copies: 1,
        gateways: vec![GATEWAY],
        vdis: Arc::new(Vdis::from_iter([(vid(), VDI)])),
    }
}
