//! Which store answers for which partition.
//!
//! The router knows where each partition's primary is and the pepoch to stamp requests with. Stores refuse a stale
//! stamp, so a router that is behind does no harm.

use std::sync::Arc;

use huntaway_wire::{ObjectRequest, Oid, Operation, Partition, Peer, Pepoch, Read, Request, Submission};

use crate::volume::Slice;

/// Where one partition's requests go.
#[derive(Clone)]
struct Route {
    primary: Arc<dyn Peer>,
    pepoch: Pepoch,
}

/// The table from partition to primary.
pub struct Router {
    routes: Vec<Route>,
    /// Every store once, for requests that concern them all.
    peers: Vec<Arc<dyn Peer>>,
}

impl Router {
    /// Routes every partition to `peer`; `pepoch` tells the pepoch of each.
    pub fn to_one(peer: Arc<dyn Peer>, pepoch: impl Fn(Partition) -> Pepoch) -> Self {
        let route = |partition| Route { primary: Arc::clone(&peer), pepoch: pepoch(partition) };
        Self { routes: Partition::all().map(route).collect(), peers: vec![Arc::clone(&peer)] }
    }

    /// Hands `operation` on one object to its primary.
    pub(crate) fn submit(&self, partition: Partition, oid: Oid, operation: Operation) -> Submission {
        let Route { primary, pepoch } = &self.routes[partition.index()];
        primary.submit(Request::Object(ObjectRequest { partition, pepoch: *pepoch, oid, operation }))
    }

    /// Reads a slice straight into `into` if its primary can do so at once.
    pub(crate) fn read_now(
        &self,
        slice: &Slice,
        into: &mut [u8],
        crcs: Option<&mut [u32]>,
    ) -> Option<Result<(), huntaway_wire::Error>> {
        let Route { primary, pepoch } = &self.routes[slice.partition.index()];
        let Slice { partition, oid, range } = *slice;
        primary.read_now(&Read { partition, pepoch: *pepoch, oid, range }, into, crcs)
    }

    /// Asks every store what space there is.
    pub(crate) fn space(&self, exact: bool) -> impl Iterator<Item = Submission> {
        self.peers.iter().map(move |peer| peer.submit(Request::Space { exact }))
    }

    /// Asks every store to put what it acknowledged on stable storage.
    pub(crate) fn flush(&self) -> Vec<Submission> {
        self.peers.iter().map(|peer| peer.submit(Request::Flush)).collect()
    }
}
