//! A driver that follows a ledger which another process keeps has the guarantees of every driver.

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

#[test]
fn g1_one_record_per_number() {
    driver_suite::g1_one_record_per_number(&mut Node::new());
}

#[test]
fn g2_records_are_durable_before_they_are_reported() {
    driver_suite::g2_records_are_durable_before_they_are_reported(&mut Node::new());
}

#[test]
fn g4_placement_follows_from_the_records() {
    driver_suite::g4_placement_follows_from_the_records(&mut Node::new());
}

#[test]
fn g5_the_state_only_moves_on() {
    driver_suite::g5_the_state_only_moves_on(&mut Node::new());
}

#[test]
fn g6_a_node_runs_once() {
    driver_suite::g6_a_node_runs_once(&mut Node::new());
}

#[test]
fn g7_epochs_and_operations_are_one_sequence() {
    driver_suite::g7_epochs_and_operations_are_one_sequence(&mut Node::new());
}

#[test]
fn g8_no_process_goes_on_in_the_pepoch_of_another() {
    driver_suite::g8_no_process_goes_on_in_the_pepoch_of_another(&mut Node::new());
}

#[test]
fn a_refused_operation_leaves_no_trace() {
    driver_suite::a_refused_operation_leaves_no_trace(&mut Node::new());
}
