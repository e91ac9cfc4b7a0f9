//! Promise: whoever keeps the ledger gives no lease that outlives the record which ends it, whatever is lost, late, repeated or
//! restarted; nothing is agreed on twice; a snapshot is taken when all hold. Random histories, and bugs that they find.

mod histories;

use histories::{History, Violation};
use huntaway_ledger::keeper::KeeperBug;

const HISTORIES: u64 = 500;

/// So many histories are to be enough for each bug.
const UNTIL_FOUND: u64 = 1_000;

#[test]
fn no_history_breaks_a_rule() {
    for seed in 0..HISTORIES {
        if let Err(violation) = History::new(seed, None).run() {
            panic!("history {seed}: {violation:?}");
        }
    }
}

#[test]
fn every_planted_bug_is_found() {
    let mut missed = Vec::new();
    for bug in KeeperBug::ALL {
        let found: Option<(u64, Violation)> = (0..UNTIL_FOUND)
            .find_map(|seed| History::new(seed, Some(bug)).run().err().map(|found| (seed, found)));
        match found {
            Some((seed, violation)) => println!("{bug:?}: history {seed}: {violation:?}"),
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
