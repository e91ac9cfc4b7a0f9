//! Whether initiators can work, as `/readyz` tells it.

use std::sync::Arc;

use huntaway_store::{DiskState, DiskStatus};

use crate::admin::Readiness;
use crate::node::Storage;

/// What `/readyz` says, by whether logins are accepted, by the disks, and by the cluster.
pub(crate) fn readiness(
    storage: Arc<Storage>,
    accepts: impl Fn() -> bool + Send + Sync + 'static,
) -> impl Fn() -> Readiness + Send + Sync + 'static {
    move || {
        let disks = storage.disks();
        let serves = |disk: &DiskStatus| matches!(disk.state, DiskState::Serving);
        // A gateway that keeps no data has none.
        if !disks.is_empty() && !disks.iter().any(serves) {
            return Readiness::DisksFailed;
        }
        if storage.cluster().is_some_and(|cluster| cluster.is_lost()) {
            return Readiness::NoCluster;
        }
        if !accepts() {
            return Readiness::NoLogins;
        }
        let failed = disks.iter().filter(|disk| !serves(disk));
        Readiness::Ready { failed_disks: failed.map(|disk| disk.directory.display().to_string()).collect() }
    }
}
