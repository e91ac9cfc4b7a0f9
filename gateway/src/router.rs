//! Which store answers for which partition.
//!
//! Where one store has the only copy of everything, the router knows it, and the pepoch to stamp requests with. Where stores
//! replicate, the [`Cluster`] knows where primaries are, and what has to be known of whoever asks.

use std::sync::Arc;

use huntaway_wire::{ObjectRequest, Oid, Operation, Partition, Peer, Pepoch, Read, Request, Submission, Vid};

use crate::cluster::{Asker, Cluster};
use crate::volume::Slice;

/// Where one partition's requests go.
#[derive(Clone)]
struct Route {
    primary: Arc<dyn Peer>,
    pepoch: Pepoch,
}

/// The way from operations on objects to stores.
pub struct Router(To);

enum To {
    /// Partitions to primaries, each of which has the only copy.
    Only {
        routes: Vec<Route>,
        /// Every store once, for requests that concern them all.
        peers: Vec<Arc<dyn Peer>>,
    },
    Cluster(Arc<Cluster>),
}

impl Router {
    /// Routes every partition to `peer`; `pepoch` tells the pepoch of each.
    pub fn to_one(peer: Arc<dyn Peer>, pepoch: impl Fn(Partition) -> Pepoch) -> Self {
        let route = |partition| Route { primary: Arc::clone(&peer), pepoch: pepoch(partition) };
        let routes = Partition::all().map(route).collect();
        Self(To::Only { routes, peers: vec![Arc::clone(&peer)] })
    }

    /// Routes everything to the stores of a cluster. [`GatewayConfig::cluster`](crate::GatewayConfig::cluster) has to be the same one.
    pub fn to_cluster(cluster: Arc<Cluster>) -> Self {
        Self(To::Cluster(cluster))
    }

    /// Hands `operation` on one object to its primary, for a command if there is one.
    pub(crate) fn submit(
        &self,
        partition: Partition,
        oid: Oid,
        operation: Operation,
        asker: Option<&Arc<Asker>>,
    ) -> Submission {
        match &self.0 {
            To::Only { routes, .. } => {
                let Route { primary, pepoch } = &routes[partition.index()];
                primary.submit(Request::Object(ObjectRequest { partition, pepoch: *pepoch, oid, operation }))
            }
            To::Cluster(cluster) => cluster.submit(partition, oid, operation, asker),
        }
    }

    /// Reads a slice straight into `into` if its primary can do so at once.
    pub(crate) fn read_now(
        &self,
        slice: &Slice,
        into: &mut [u8],
        crcs: Option<&mut [u32]>,
    ) -> Option<Result<(), huntaway_wire::Error>> {
        let To::Only { routes, .. } = &self.0 else { return None };
        let Route { primary, pepoch } = &routes[slice.partition.index()];
        let Slice { partition, oid, range } = *slice;
        primary.read_now(&Read { partition, pepoch: *pepoch, oid, range }, into, crcs)
    }

    /// Asks every store what space there is. `None`: nobody knows.
    pub(crate) fn space(&self, exact: bool) -> Option<impl Iterator<Item = Submission>> {
        let To::Only { peers, .. } = &self.0 else { return None };
        Some(peers.iter().map(move |peer| peer.submit(Request::Space { exact })))
    }

    /// Has everything put on stable storage that was acknowledged to the disk with this first version, which has objects in
    /// these partitions.
    pub(crate) fn flush(
        &self,
        disk: Vid,
        partitions: impl FnOnce() -> Vec<Partition>,
        asker: Option<&Arc<Asker>>,
    ) -> Vec<Submission> {
        match &self.0 {
            To::Only { peers, .. } => peers.iter().map(|peer| peer.submit(Request::Flush)).collect(),
            To::Cluster(cluster) => cluster.flush(partitions().into_iter(), disk, asker),
        }
    }
}
