//! `huntaway keeper` makes a ledger and keeps it, and nodes that are declared in YAML are a cluster.

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::Value;
use support::demo::huntaway;
use support::kept::{free_addresses, has_key, keeper, node, status};
use support::wait;

/// Time for what a cluster does by itself.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn nodes_from_yaml_are_a_cluster_and_know_when_its_keeper_is_away() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path();
    let [listen, a, b] = free_addresses();
    let new =
        ["--new", "lab", "--node", &format!("a={a},zone=r1"), "--node", &format!("b={b},zone=r2,weight=2")];
    let first = keeper(directory, listen, &new.map(str::to_owned));
    has_key(directory);
    let _nodes = ["a", "b"].map(|name| node(directory, name, listen));
    let is = |health: &str| status(directory, "a").filter(|status| status["health"] == health);
    let well = wait::until("both nodes to serve", LIMIT, || {
        is("ok").filter(|status| status["luns"][0]["vdi"] == "root")
    });
    assert_eq!(
        (&well["cluster"], &well["copies"], &well["nodes"][1]["weight"]),
        (&"lab".into(), &2.into(), &2.into())
    );
    drop(first);
    let away = wait::until("the lease to run out", LIMIT, || is("unavailable"));
    assert_eq!(away["has_ledger_lease"], false, "{away}");
    let _second = keeper(directory, listen, &[]);
    wait::until("the keeper to be found again", LIMIT, || is("ok"));
}

#[test]
fn a_ledger_that_is_not_there_is_not_made_unless_asked_for() {
    let scratch = tempfile::tempdir().unwrap();
    let key = scratch.path().join("key");
    fs::write(&key, "00".repeat(32) + "\n").unwrap();
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    let mut refused = keeper(scratch.path(), "127.0.0.1:0".parse().unwrap(), &[]);
    let status = refused.wait(LIMIT);
    assert!(status.is_some_and(|status| !status.success()), "{}", refused.output());
    assert!(refused.output().contains("ledger"), "{}", refused.output());
    assert!(!scratch.path().join("ledger").exists());
}

#[test]
fn a_node_is_added_by_one_command_and_removed_when_it_keeps_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path();
    let [listen, a, b, c] = free_addresses();
    let new = ["--new", "lab", "--copies", "2", "--node", &format!("a={a}"), "--node", &format!("b={b}")];
    let _keeper = keeper(directory, listen, &new.map(str::to_owned));
    has_key(directory);
    let _nodes = ["a", "b"].map(|name| node(directory, name, listen));
    let is = |health: &str| status(directory, "a").filter(|status| status["health"] == health);
    wait::until("both nodes to serve", LIMIT, || {
        is("ok").filter(|status| status["luns"][0]["vdi"] == "root")
    });
    let ask = |words: &[&str]| {
        let config = directory.join("a/huntaway.yaml");
        let output = huntaway().args(words).arg("--config").arg(config).output().expect("it can be started");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        if output.status.success() { Ok(said) } else { Err(said) }
    };

    // A node that nobody added is told so, and what is wrong with a new one is told before anything changes.
    let mut stranger = node(directory, "c", listen);
    assert!(stranger.wait(LIMIT).is_some_and(|status| !status.success()), "{}", stranger.output());
    assert!(stranger.output().contains("huntaway node add"), "{}", stranger.output());
    drop(stranger);
    fs::remove_dir_all(directory.join("c")).unwrap();
    for (wrong, word) in [(format!("b={c}"), "has a node `b`"), (format!("c={b}"), "b has the address")] {
        assert!(ask(&["node", "add", &wrong]).unwrap_err().contains(word));
    }

    ask(&["recovery", "delay", "0"]).unwrap();
    let said = ask(&["node", "add", &format!("c={c},zone=r3")]).unwrap();
    assert!(said.contains("huntaway node --config"), "{said}");
    let mut third = node(directory, "c", listen);
    ask(&["recovery", "wait", "--timeout", "120"]).unwrap();
    let whole = is("ok").expect("it answers");
    assert!(whole["nodes"][2]["kept"].as_u64() > Some(2000), "{whole}");

    assert!(ask(&["node", "remove", "c"]).unwrap_err().contains("node drain c"));
    ask(&["node", "drain", "c"]).unwrap();
    ask(&["recovery", "wait", "--timeout", "120"]).unwrap();
    assert!(ask(&["node", "remove", "c"]).unwrap_err().contains("stop it first"));
    third.signal_group(rustix::process::Signal::TERM);
    assert!(third.wait(LIMIT).is_some(), "{}", third.output());
    let removed =
        wait::until("its end to be known", LIMIT, || ask(&["node", "remove", "c", "-o", "json"]).ok());
    assert_eq!(serde_json::from_str::<Value>(&removed).unwrap(), serde_json::json!({ "removed": "c" }));
    let left = wait::until("both to go on", LIMIT, || is("ok"));
    assert_eq!(left["nodes"].as_array().map(Vec::len), Some(2), "{left}");
}
