//! The local driver keeps the guarantees of every driver.

#[macro_use]
mod driver_suite;
mod node;

use driver_suite::Cluster;
use huntaway_ledger::Record;
use huntaway_membership::Driver;
use huntaway_membership::local;
use node::Node;

impl Cluster for Node {
    fn start(&mut self) -> Option<Box<dyn Driver>> {
        self.open().ok().map(|driver| Box::new(driver) as Box<dyn Driver>)
    }

    fn records(&self) -> Vec<Record> {
        local::read(self.dir.path()).expect("a ledger").records
    }
}

driver_suite!(Node::new());
