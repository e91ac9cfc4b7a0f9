//! A driver that follows a ledger which another process keeps has the guarantees of every driver.

#[macro_use]
mod driver_suite;
mod kept;

use std::path::Path;
use std::sync::Arc;

use driver_suite::Cluster;
use huntaway_ledger::{Operation, Record, State};
use huntaway_membership::local::{self, shared::RemoteDriver};
use huntaway_membership::{Driver, ProposeError};
use huntaway_wire::NodeId;
use kept::{Disk, Kept, follower, options};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// A keeper, and one node.
struct Node {
    runtime: Runtime,
    dir: TempDir,
    kept: Kept,
    disk: Disk,
}

impl Node {
    fn new() -> Self {
        let runtime = Runtime::new().expect("threads");
        let dir = TempDir::new().expect("a temporary directory");
        let kept = runtime.block_on(Kept::new(dir.path(), options(1)));
        Self { runtime, dir, kept, disk: Disk::new() }
    }
}

struct Following(Arc<RemoteDriver>);

impl Driver for Following {
    fn node(&self) -> NodeId {
        self.0.node()
    }

    fn cluster(&self) -> [u8; 16] {
        self.0.cluster()
    }

    fn state(&self) -> Arc<State> {
        self.0.state()
    }

    fn propose(&self, operation: Operation) -> Result<Arc<State>, ProposeError> {
        self.0.propose(operation)
    }
}

impl Cluster for Node {
    fn start(&mut self) -> Option<Box<dyn Driver>> {
        let address = self.kept.address;
        self.runtime.block_on(async {
            let driver = Arc::new(RemoteDriver::connect(follower(address, 1)).await.expect("a keeper"));
            self.disk.start(&driver).await.ok()?;
            Some(Box::new(Following(driver)) as Box<dyn Driver>)
        })
    }

    fn records(&self) -> Vec<Record> {
        records(self.dir.path())
    }
}

fn records(dir: &Path) -> Vec<Record> {
    local::read(dir).expect("a ledger").records
}

driver_suite!(Node::new());
