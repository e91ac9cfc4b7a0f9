//! A ledger's file that was cut, torn or changed: what was agreed is never lost or altered silently.

mod node;

use huntaway_membership::local::{self, Damage, OpenError};
use huntaway_membership::{Driver, local::LedgerFile};
use node::{Node, create};

/// Where the records begin: after the header and the mark.
const RECORDS_OFFSET: usize = 1024;
const MARK: std::ops::Range<usize> = 512..1024;

/// The file before and after one more disk was made.
fn before_and_after() -> (Vec<u8>, Vec<u8>) {
    let node = Node::new();
    let driver = node.open().expect("a new ledger");
    driver.propose(create("reported")).expect("room");
    let before = node.log();
    driver.propose(create("interrupted")).expect("room");
    (before, node.log())
}

/// The file as a crash before the second disk's mark leaves it, its record cut after `length` bytes of the file.
fn interrupted(before: &[u8], after: &[u8], length: usize) -> Vec<u8> {
    [&before[..RECORDS_OFFSET], &after[RECORDS_OFFSET..length]].concat()
}

fn read_log(log: &[u8]) -> Result<LedgerFile, OpenError> {
    local::read(Node::with_log(log).dir.path())
}

/// The log must be refused as damaged, both ways, and not be touched.
fn damaged(log: &[u8], context: &str) -> Damage {
    let node = Node::with_log(log);
    let read = local::read(node.dir.path());
    assert!(matches!(read, Err(OpenError::Damaged { .. })), "{context}: {read:?}");
    let damage = match node.open() {
        Err(OpenError::Damaged { damage, .. }) => damage,
        opened => panic!("{context}: {opened:?}"),
    };
    assert!(node.log() == log, "{context}: the file was changed");
    damage
}

#[test]
fn a_record_cut_before_it_was_fsynced_is_dropped_and_the_rest_goes_on() {
    let (before, after) = before_and_after();
    for length in before.len()..=after.len() {
        let node = Node::with_log(&interrupted(&before, &after, length));
        let driver = node.open().unwrap();
        let state = driver.state();
        assert!(state.vdi("reported").is_some());
        assert_eq!(state.vdi("interrupted").is_some(), length == after.len(), "{length} bytes");
        let state = driver.propose(create("next")).unwrap();
        assert_eq!(local::read(node.dir.path()).unwrap().state, state);
    }
}

#[test]
fn a_record_whose_sectors_never_arrived_is_dropped() {
    let (before, after) = before_and_after();
    for length in before.len()..after.len() {
        let mut log = interrupted(&before, &after, length);
        log.resize(after.len(), 0);
        if log[RECORDS_OFFSET..] == after[RECORDS_OFFSET..] {
            continue;
        }
        let state = Node::with_log(&log).open().unwrap().state();
        assert!(state.vdi("reported").is_some() && state.vdi("interrupted").is_none(), "{length} bytes");
    }
}

#[test]
fn a_ledger_cut_below_what_was_agreed_is_damage() {
    let (_, after) = before_and_after();
    for length in 0..after.len() {
        damaged(&after[..length], &format!("{length} bytes"));
    }
}

#[test]
fn a_changed_byte_is_noticed_unless_it_changes_no_record() {
    let (_, log) = before_and_after();
    let original = read_log(&log).unwrap();
    for offset in 0..log.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut changed = log.clone();
            changed[offset] ^= flip;
            if MARK.contains(&offset) {
                let read = read_log(&changed).unwrap();
                assert_eq!((read.node, read.records), (original.node, original.records.clone()));
            } else {
                damaged(&changed, &format!("byte {offset}"));
            }
        }
    }
}

#[test]
fn without_a_mark_the_records_are_kept_and_a_bad_tail_is_damage() {
    let (_, mut log) = before_and_after();
    log[MARK.start + 8] ^= 1;
    let node = Node::with_log(&log);
    let state = node.open().unwrap().state();
    assert!(state.vdi("interrupted").is_some());
    assert!(local::read(node.dir.path()).is_ok());
    log.truncate(log.len() - 1);
    damaged(&log, "neither mark nor tail");
}

#[test]
fn records_of_another_history_are_not_taken_for_the_agreed_ones() {
    let (_, one) = before_and_after();
    let (_, other) = before_and_after();
    let mixed = [&one[..RECORDS_OFFSET], &other[RECORDS_OFFSET..]].concat();
    assert_eq!(damaged(&mixed, "mixed"), Damage::OtherRecords);
}

#[test]
fn what_is_not_a_ledger_is_not_taken_for_one() {
    for log in [&b""[..], b"not a ledger", &[0; 4096], &[0xff; 4096]] {
        assert_eq!(damaged(log, "not a ledger"), Damage::Header);
    }
}

#[test]
fn a_ledger_of_a_newer_version_is_not_taken_for_damage() {
    let (_, mut log) = before_and_after();
    let preamble = &mut log[RECORDS_OFFSET..RECORDS_OFFSET + 64];
    preamble[4] = 2;
    let crc = crc32c::crc32c(&preamble[..60]);
    preamble[60..].copy_from_slice(&crc.to_le_bytes());
    let node = Node::with_log(&log);
    assert!(matches!(local::read(node.dir.path()), Err(OpenError::Newer { offset_bytes: 1024, .. })));
    assert!(matches!(node.open(), Err(OpenError::Newer { .. })));
    assert_eq!(node.log(), log);
}
