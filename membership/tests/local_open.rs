//! Opening a directory: by whom, how often, and with which names.

mod node;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;

use huntaway_membership::Driver;
use huntaway_membership::local::{self, LocalDriver, LocalOptions, OpenError};
use huntaway_wire::Epoch;
use node::{Node, create, name, options};

/// Makes this test binary act as another process on the directory it names.
const ROLE: &str = "HUNTAWAY_TEST_LEDGER";

#[test]
fn what_was_proposed_is_there_after_a_restart() {
    let node = Node::new();
    let (first, state) = {
        let driver = node.open().unwrap();
        let state = driver.propose(create("disk")).unwrap();
        ((driver.node(), driver.cluster()), state)
    };
    let driver = node.open().unwrap();
    assert_eq!((driver.node(), driver.cluster()), first);
    assert_eq!(driver.state().vdi("disk"), state.vdi("disk"));
    assert_eq!(driver.state().number(), state.number() + 1);
}

#[test]
fn two_new_ledgers_have_nothing_in_common() {
    let (one, other) = (Node::new(), Node::new());
    let (one, other) = (one.open().unwrap(), other.open().unwrap());
    assert!(one.node() != other.node() && one.cluster() != other.cluster());
}

#[test]
fn of_many_opens_at_once_one_succeeds() {
    let node = Node::new();
    let opened: Vec<_> = thread::scope(|scope| {
        let openers: Vec<_> = (0..8).map(|_| scope.spawn(|| node.open())).collect();
        openers.into_iter().map(|opener| opener.join().unwrap()).collect()
    });
    let (drivers, refusals): (Vec<_>, Vec<_>) = opened.into_iter().partition(Result::is_ok);
    assert_eq!(drivers.len(), 1);
    assert!(refusals.iter().all(|refusal| matches!(refusal, Err(OpenError::InUse { .. }))));
}

#[test]
fn the_refusal_names_the_directory_the_holder_and_the_cure() {
    let node = Node::new();
    let _driver = node.open().unwrap();
    let text = node.open().unwrap_err().to_string();
    let (dir, pid) = (node.dir.path().display(), std::process::id());
    let expected = format!("{dir} is in use by process {pid}: stop that one, or choose another directory");
    assert_eq!(text, expected);
}

/// Another process makes disks and says so, until it is killed: nothing it said is lost, and its lock ends with it.
#[test]
fn a_killed_process_loses_nothing_it_reported() {
    if let Some(dir) = std::env::var_os(ROLE) {
        let driver = LocalDriver::open(dir.as_ref(), options()).unwrap();
        for n in 0.. {
            driver.propose(create(&format!("disk-{n}"))).unwrap();
            eprintln!("made disk-{n}");
        }
    }
    let node = Node::new();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_killed_process_loses_nothing_it_reported", "--nocapture"])
        .env(ROLE, node.dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut made = lines.filter_map(|line| line.strip_prefix("made ").map(str::to_owned));
    let mut reported: Vec<String> = made.by_ref().take(20).collect();
    assert!(matches!(node.open(), Err(OpenError::InUse { pid: Some(pid), .. }) if pid == child.id()));
    child.kill().unwrap();
    child.wait().unwrap();
    reported.extend(made);
    assert!(reported.len() >= 20);
    let state = node.open().unwrap().state();
    assert!(reported.iter().all(|name| state.vdi(name).is_some()));
}

#[test]
fn another_node_name_or_zone_is_a_new_epoch() {
    let node = Node::new();
    let before = node.open().unwrap().state();
    let renamed = LocalOptions { node_name: name("node-2"), zone: name("there"), ..options() };
    for _ in 0..2 {
        let driver = LocalDriver::open(node.dir.path(), renamed.clone()).unwrap();
        let state = driver.state();
        assert_eq!((before.epoch(), state.epoch()), (Epoch(1), Epoch(2)));
        let member = state.member(driver.node()).unwrap();
        assert_eq!((&member.name, &member.zone), (&renamed.node_name, &renamed.zone));
    }
}

#[test]
fn a_directory_of_another_cluster_is_refused() {
    let node = Node::new();
    drop(node.open().unwrap());
    let before = node.log();
    let other = LocalOptions { cluster_name: name("other"), ..options() };
    let refused = LocalDriver::open(node.dir.path(), other).unwrap_err();
    let text = refused.to_string();
    assert!(
        text.ends_with(
            "belongs to the cluster test, not to other: choose another directory or use that name"
        )
    );
    assert_eq!(node.log(), before);
}

#[test]
fn data_without_a_ledger_is_not_given_a_new_one() {
    for found in ["superblock", "objects", "wal", "disks"] {
        let node = Node::new();
        fs::create_dir(node.dir.path().join(found)).unwrap();
        assert!(matches!(node.open(), Err(OpenError::Missing { found: name, .. }) if name == found));
        assert!(!node.log_path().exists());
    }
}

#[test]
fn a_ledger_that_was_not_finished_is_begun_anew() {
    let node = Node::with_log(b"");
    fs::rename(node.log_path(), node.dir.path().join("epoch/log.new")).unwrap();
    assert!(node.open().is_ok());
    assert!(!node.dir.path().join("epoch/log.new").exists());
}

#[test]
fn directories_that_are_missing_are_made() {
    let node = Node::new();
    let dir = node.dir.path().join("a/b/c");
    drop(LocalDriver::open(&dir, options()).unwrap());
    assert!(local::read(&dir).is_ok());
}

#[test]
fn reading_changes_nothing_and_needs_no_lock() {
    let node = Node::new();
    assert!(matches!(local::read(node.dir.path()), Err(OpenError::Io { .. })));
    assert_eq!(fs::read_dir(node.dir.path()).unwrap().count(), 0);
    let driver = node.open().unwrap();
    let before = node.log();
    let read = local::read(node.dir.path()).unwrap();
    assert_eq!((read.node, read.state), (driver.node(), driver.state()));
    assert_eq!(node.log(), before);
}
