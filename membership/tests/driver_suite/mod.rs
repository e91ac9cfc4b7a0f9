//! What every driver must show (G1 to G8 of [`Driver`]), written against the trait alone.
//!
//! A driver's own test file implements [`Cluster`] and has each function here as a test of its own by [`driver_suite`]. G3, and G6 with
//! more than one voter, need a cluster that can be cut apart: they come with the first driver of several nodes.

use std::sync::Arc;
use std::thread;

use huntaway_ledger::{
    ApplyError, FollowError, Incarnation, Ledger, Name, Operation, Record, SetRecord, State, VdiOptions,
};
use huntaway_membership::{Driver, ProposeError};
use huntaway_wire::Partition;

const PROPOSERS: usize = 4;
const PROPOSALS_EACH: usize = 5;

/// Each test of the suite, on a cluster of its own, which the expression makes.
macro_rules! driver_suite {
    ($cluster:expr) => {
        driver_suite!($cluster; g1_one_record_per_number, g2_records_are_durable_before_they_are_reported,
            g4_placement_follows_from_the_records, g5_the_state_only_moves_on, g6_a_node_runs_once,
            g7_epochs_and_operations_are_one_sequence, g8_no_process_goes_on_in_the_pepoch_of_another,
            a_refused_operation_leaves_no_trace);
    };
    ($cluster:expr; $($test:ident),*) => { $(
        #[test]
        fn $test() {
            driver_suite::$test(&mut $cluster);
        }
    )* };
}

/// A cluster under test, seen from one of its nodes.
pub(crate) trait Cluster {
    /// Starts the node's process; `None` when the cluster does not let it (it runs already).
    fn start(&mut self) -> Option<Box<dyn Driver>>;

    /// The records on the node's stable storage, as a reader that is not the driver sees them.
    fn records(&self) -> Vec<Record>;
}

fn create(name: &str) -> Operation {
    let options = VdiOptions { size_bytes: 1 << 20, block_size: 512, physical_block_size: 512, thin: true };
    Operation::CreateVdi { name: Name::new(name).expect("a valid name"), options }
}

fn started(cluster: &mut dyn Cluster) -> Box<dyn Driver> {
    cluster.start().expect("a node that does not run yet")
}

/// The state that `records` add up to.
fn replayed(records: &[Record]) -> State {
    let mut state = State::default();
    for record in records {
        state.apply(record).expect("agreed records apply");
    }
    state
}

fn propose_from_many_threads(driver: &dyn Driver) -> Vec<Arc<State>> {
    thread::scope(|scope| {
        let proposers: Vec<_> = (0..PROPOSERS)
            .map(|proposer| {
                scope.spawn(move || {
                    let name = |n| create(&format!("disk-{proposer}-{n}"));
                    (0..PROPOSALS_EACH).map(|n| driver.propose(name(n)).expect("room")).collect::<Vec<_>>()
                })
            })
            .collect();
        proposers.into_iter().flat_map(|proposer| proposer.join().expect("no panic")).collect()
    })
}

/// G1: proposals of many threads each get a number of their own, and none is lost.
pub(crate) fn g1_one_record_per_number(cluster: &mut dyn Cluster) {
    let driver = started(cluster);
    let before = driver.state().number();
    let mut numbers: Vec<u64> =
        propose_from_many_threads(&*driver).iter().map(|state| state.number()).collect();
    numbers.sort_unstable();
    let count = (PROPOSERS * PROPOSALS_EACH) as u64;
    assert_eq!(numbers, (before + 1..=before + count).collect::<Vec<_>>());
    assert_eq!(cluster.records().len() as u64, before + count);
}

/// G2: a record is on stable storage when it is reported, chained to those before it, and still there after restarts.
pub(crate) fn g2_records_are_durable_before_they_are_reported(cluster: &mut dyn Cluster) {
    let mut known = Vec::new();
    for round in 0..3 {
        let driver = started(cluster);
        for n in 0..3 {
            let state = driver.propose(create(&format!("disk-{round}-{n}"))).expect("room");
            let records = cluster.records();
            assert_eq!(records.len() as u64, state.number());
            assert_eq!(records[..known.len()], known[..]);
            assert_eq!(replayed(&records), *state);
            known = records;
        }
    }
    let mut ledger = Ledger::default();
    for record in &known {
        let next = ledger.follow(record).expect("agreed records follow");
        assert_eq!(ledger.read(&next.bytes).expect("what was written is read").0, *record);
        assert_eq!(ledger.hash(), next.ledger.hash());
    }
}

/// G4: whoever has the records has the placement.
pub(crate) fn g4_placement_follows_from_the_records(cluster: &mut dyn Cluster) {
    let driver = started(cluster);
    let (state, derived) = (driver.state(), replayed(&cluster.records()));
    for partition in Partition::all() {
        assert_eq!(state.primary(partition), Some(driver.node()));
        assert_eq!(state.primary(partition), derived.primary(partition));
        assert_eq!(state.pepoch(partition), derived.pepoch(partition));
    }
}

/// G5: the state never goes back, and a proposal's answer has the operation.
pub(crate) fn g5_the_state_only_moves_on(cluster: &mut dyn Cluster) {
    let driver = started(cluster);
    thread::scope(|scope| {
        let proposer = scope.spawn(|| {
            for n in 0..20 {
                let name = format!("disk-{n}");
                let state = driver.propose(create(&name)).expect("room");
                assert!(state.vdi(&name).is_some());
                assert!(driver.state().number() >= state.number());
            }
        });
        let mut newest = 0;
        while !proposer.is_finished() {
            let number = driver.state().number();
            assert!(number >= newest, "record {number} after {newest}");
            newest = number;
        }
    });
}

/// G6: a node has one process that may act; a second one is not let in, the next one is.
pub(crate) fn g6_a_node_runs_once(cluster: &mut dyn Cluster) {
    let driver = started(cluster);
    assert!(cluster.start().is_none());
    drop(driver);
    assert!(cluster.start().is_some());
}

/// G7: epochs, incarnations and operations are counted together.
pub(crate) fn g7_epochs_and_operations_are_one_sequence(cluster: &mut dyn Cluster) {
    let driver = started(cluster);
    driver.propose(create("disk")).expect("room");
    drop(driver);
    let driver = started(cluster);
    let records = cluster.records();
    let position = |wanted: fn(&Record) -> bool| records.iter().rposition(wanted);
    let epoch = position(|record| matches!(record, Record::Epoch(_)));
    let operation = position(|record| matches!(record, Record::CreateVdi { .. }));
    let start = position(|record| {
        matches!(record, Record::Incarnation { .. } | Record::Sets(SetRecord::NodeStarted { .. }))
    });
    assert!(epoch.is_some() && epoch < operation && operation < start, "{records:?}");
    assert_eq!(driver.state().number(), records.len() as u64);
}

/// G8: each start has a pepoch and an incarnation that no process before it had.
pub(crate) fn g8_no_process_goes_on_in_the_pepoch_of_another(cluster: &mut dyn Cluster) {
    let mut last = (Incarnation(0), vec![0; Partition::all().count()]);
    let mut identity = None;
    for _ in 0..3 {
        let driver = started(cluster);
        let same = (driver.node(), driver.cluster());
        assert_eq!(*identity.get_or_insert(same), same);
        let state = driver.state();
        let incarnation = state.member(driver.node()).expect("a member").incarnation;
        let pepochs: Vec<u32> = Partition::all().map(|partition| state.pepoch(partition).0).collect();
        assert!(incarnation > last.0);
        assert!(pepochs.iter().zip(&last.1).all(|(now, before)| now > before));
        last = (incarnation, pepochs);
    }
}

/// An operation that cannot be done is refused and leaves no record.
pub(crate) fn a_refused_operation_leaves_no_trace(cluster: &mut dyn Cluster) {
    let driver = started(cluster);
    let before = driver.propose(create("disk")).expect("room");
    let refused = driver.propose(create("disk"));
    let taken = FollowError::Refused(ApplyError::NameTaken { name: Name::new("disk").expect("valid") });
    assert!(matches!(refused, Err(ProposeError::Refused(error)) if error == taken));
    assert_eq!(driver.state(), before);
    assert_eq!(cluster.records().len() as u64, before.number());
}
