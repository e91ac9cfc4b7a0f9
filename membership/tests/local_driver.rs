//! The local driver keeps the guarantees of every driver.

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
