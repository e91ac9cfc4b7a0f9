//! `huntaway status` and the commands beside it tell what becomes of a cluster whose nodes come and go.

mod support;

use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use support::demo::{Demo, huntaway, lun};
use support::http::get;
use support::wait;

/// Time for what a cluster does by itself.
const LIMIT: Duration = Duration::from_secs(120);

/// A demo of three nodes.
fn three(directory: &Path) -> Demo {
    let nodes = ["--nodes".to_owned(), "3".to_owned()];
    Demo::builder().args(nodes).args(lun("size=32MiB")).portals(3).directory(directory).start()
}

fn ask(directory: &Path, words: &[&str]) -> Output {
    huntaway().args(words).arg("--dir").arg(directory).output().expect("huntaway can be started")
}

/// What the command says, which has to go well.
fn said(directory: &Path, words: &[&str]) -> String {
    let output = ask(directory, words);
    let (said, complaint) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{words:?}: {said}{complaint}");
    said.into_owned()
}

/// What the command complains of.
fn refused(directory: &Path, words: &[&str]) -> String {
    let output = ask(directory, words);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success(), "{words:?}: {told}");
    // Some say what is wrong where they say what was asked for.
    String::from_utf8_lossy(&output.stderr).into_owned() + &told
}

fn status(directory: &Path) -> Value {
    serde_json::from_str(&said(directory, &["status", "--explain", "-o", "json"])).expect("JSON")
}

fn until_health(directory: &Path, health: &str) -> Value {
    wait::until(&format!("the cluster to be {health}"), LIMIT, || {
        Some(status(directory)).filter(|status| status["health"] == health)
    })
}

#[test]
fn a_cluster_is_as_well_as_its_nodes() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("data");
    let demo = three(&directory);
    let well = until_health(&directory, "ok");
    assert_eq!(
        (&well["partitions"]["whole"], &well["copies"], &well["epoch"]),
        (&4096.into(), &3.into(), &1.into())
    );
    assert_eq!(well["luns"][0]["vdi"], "demo-0");

    said(&directory, &["demo", "kill", "2"]);
    let degraded = until_health(&directory, "degraded");
    assert_eq!(degraded["nodes"][1]["is_up"], false, "{degraded}");
    assert_eq!(degraded["partitions"]["degraded"], 4096);
    let explanation = &degraded["explanation"];
    assert!(explanation["reasons"][0].as_str().unwrap().starts_with("node-2 is down for "), "{explanation}");
    assert_eq!(explanation["losses"][0]["below_min_copies"], 4096, "{explanation}");
    assert_eq!(explanation["vdis"][0]["name"], "demo-0", "{explanation}");
    let metrics = get(&format!("{}/metrics", demo.ready.admin)).body;
    for line in [
        "huntaway_cluster_epoch 1",
        r#"huntaway_cluster_nodes{state="down"} 1"#,
        r#"huntaway_cluster_partitions{state="degraded"} 4096"#,
        "huntaway_cluster_has_ledger_lease 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }

    let place: Value =
        serde_json::from_str(&said(&directory, &["object", "where", "demo-0", "4MiB", "-o", "json"]))
            .unwrap();
    assert_eq!((&place["index"], &place["in_sync"].as_array().unwrap().len()), (&1.into(), &2), "{place}");
    assert!(refused(&directory, &["object", "where", "demo-0", "1GiB"]).contains("has 33554432 bytes"));

    said(&directory, &["demo", "kill", "3"]);
    let down = until_health(&directory, "partitions-down");
    assert_eq!(down["partitions"]["below_min_copies"], 4096, "{down}");
    assert!(said(&directory, &["cluster", "force", "--yes"]).contains("nothing to force"));
    said(&directory, &["demo", "start", "3"]);
    wait::until("copies to be made", LIMIT, || {
        Some(status(&directory)).filter(|status| status["partitions"]["degraded"].as_u64() > Some(0))
    });
}

#[test]
fn a_node_is_drained_and_the_last_ones_are_not() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("data");
    let _demo = three(&directory);
    until_health(&directory, "ok");
    said(&directory, &["node", "drain", "node-2"]);
    let status = status(&directory);
    assert_eq!((&status["epoch"], &status["nodes"][1]["weight"]), (&2.into(), &0.into()), "{status}");
    assert_eq!(status["nodes"][1]["wanted"], 0, "{status}");
    let too_few = refused(&directory, &["node", "drain", "node-1"]);
    assert!(too_few.contains("2 copies have to be in sync"), "{too_few}");
    let stranger = refused(&directory, &["node", "drain", "node-7"]);
    assert!(stranger.contains("no node `node-7`, but node-1, node-2, node-3"), "{stranger}");
    said(&directory, &["node", "undrain", "node-2"]);
    assert!(said(&directory, &["node", "show", "node-2"]).contains("to keep    4096 partitions"));
    assert!(said(&directory, &["node", "list"]).contains("node-3"));
    assert!(said(&directory, &["cluster", "show"]).contains("epoch       3"));
}

#[test]
fn there_are_as_many_copies_as_are_asked_for() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("data");
    let demo = three(&directory);
    until_health(&directory, "ok");
    let in_sync = || -> usize {
        let place = said(&directory, &["object", "where", "demo-0", "0", "-o", "json"]);
        serde_json::from_str::<Value>(&place).unwrap()["in_sync"].as_array().unwrap().len()
    };
    // Somebody writes, reads and compares meanwhile.
    let target = format!("portal={},iqn={},lun=0", demo.portal(), demo.target());
    let mut load = huntaway();
    load.args(["bench", "--destroy-data", "--verify", "--rounds", "0", "--warm", "0", "--seconds", "10"]);
    let load = load.args(["--loads", "write 4k q1,read 4k q32", "--target", &target]);
    let load = load.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    assert!(refused(&directory, &["cluster", "set", "--copies", "2"]).contains("--yes"));
    let set = said(&directory, &["cluster", "set", "--copies", "2", "--yes"]);
    assert!(set.contains("2 copies, and writes need 1 of them"), "{set}");
    wait::until("the third copy to go", LIMIT, || (in_sync() == 2).then_some(()));
    assert!(refused(&directory, &["cluster", "set"]).contains("--copies"));
    assert!(refused(&directory, &["cluster", "set", "--copies", "4"]).contains("node add"));
    assert!(
        refused(&directory, &["cluster", "set", "--copies", "3", "--min-copies", "3"])
            .contains("recovery wait")
    );
    said(&directory, &["cluster", "set", "--copies", "3"]);
    said(&directory, &["recovery", "wait", "--timeout", "120"]);
    assert_eq!(in_sync(), 3);
    assert!(said(&directory, &["cluster", "show"]).contains("copies      3\nmin_copies  1\n"));
    said(&directory, &["cluster", "set", "--min-copies", "2"]);
    let verified = said(&directory, &["cluster", "verify"]);
    assert!(verified.contains("all copies are the same"), "{verified}");
    let second = while_others_compare(&directory, || refused(&directory, &["cluster", "verify"]));
    assert!(second.contains("another comparison of all copies is under way"), "{second}");
    let load = load.wait_with_output().unwrap();
    assert!(load.status.success(), "{}", String::from_utf8_lossy(&load.stderr));
}

/// What comes of it while somebody asks node 3 again and again how far comparing is.
fn while_others_compare<T>(directory: &Path, happens: impl FnOnce() -> T) -> T {
    let socket = directory.join("node-3/state/control.sock");
    let ask = move || {
        let mut stream = UnixStream::connect(&socket).expect("the node has a socket");
        let body = r#"{"round": 7, "is_over": false}"#;
        let head = "POST /v1/cluster/comparison HTTP/1.1\r\nhost: node\r\n";
        write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()).expect("it is asked");
        io::read_to_string(stream).expect("it answers");
    };
    ask();
    let (over, is_over) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let _over = over;
        scope.spawn(move || {
            while is_over.recv_timeout(Duration::from_millis(500)) == Err(RecvTimeoutError::Timeout) {
                ask();
            }
        });
        happens()
    })
}

#[test]
fn data_that_nobody_serves_is_opened_by_force_alone() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("data");
    let _demo = three(&directory);
    until_health(&directory, "ok");
    said(&directory, &["demo", "kill", "2"]);
    until_health(&directory, "degraded");
    said(&directory, &["demo", "kill", "1"]);
    said(&directory, &["demo", "kill", "3"]);
    said(&directory, &["demo", "start", "2"]);
    wait::until("the keeper to miss all others", LIMIT, || {
        Some(status(&directory)).filter(|status| status["partitions"]["down"] == 4096)
    });
    assert_eq!(status(&directory)["health"], "unavailable");
    assert!(refused(&directory, &["cluster", "force"]).contains("--yes"));
    let forced = ask(&directory, &["cluster", "force", "--yes", "-o", "json"]);
    let shown = String::from_utf8_lossy(&forced.stderr);
    assert!(shown.contains("without node-1, node-3: any write may be lost, flushed or not"), "{shown}");
    let forced: Value = serde_json::from_slice(&forced.stdout).expect("JSON");
    assert_eq!((&forced["opened"], &forced["refused"]), (&4096.into(), &Value::Array(Vec::new())));
    until_health(&directory, "partitions-down");
}

#[test]
fn a_directory_without_a_demo_is_told() {
    let scratch = tempfile::tempdir().unwrap();
    assert!(refused(scratch.path(), &["status"]).contains("no demo of several nodes"));
}

#[test]
fn recovery_stands_still_while_it_is_paused() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("data");
    let demo = three(&directory);
    until_health(&directory, "ok");
    assert!(said(&directory, &["recovery", "limit", "50MiB"]).contains("50.0MiB/s at most"));
    said(&directory, &["demo", "kill", "2"]);
    until_health(&directory, "degraded");
    let late = refused(&directory, &["recovery", "wait", "--timeout", "3"]);
    assert!(late.contains("status --explain"), "{late}");
    said(&directory, &["recovery", "pause"]);
    said(&directory, &["demo", "start", "2"]);
    // Waiting for what does not come, it says so at once.
    let waited = refused(&directory, &["recovery", "wait"]);
    assert!(waited.contains("recovery resume"), "{waited}");
    let paused = status(&directory);
    assert_eq!((&paused["health"], &paused["partitions"]["degraded"]), (&"degraded".into(), &4096.into()));
    let reasons = &paused["explanation"]["reasons"];
    assert!(
        reasons.as_array().unwrap().iter().any(|why| why.as_str().unwrap().contains("recovery resume")),
        "{reasons}"
    );
    assert!(said(&directory, &["status"]).contains("recovery is paused"));
    // Node 2, which leads nothing, knows what the others have to copy.
    let config = directory.join("node-2/huntaway.yaml");
    wait::until("node 2 to tell of all", LIMIT, || {
        let told = huntaway().args(["status", "-o", "json", "--config"]).arg(&config).output().unwrap();
        let told: Value = serde_json::from_slice(&told.stdout).ok()?;
        let left = |of: &str| told[of]["partitions_left"].as_u64();
        (left("recovery") == Some(0) && left("recovery_of_all") == Some(4096)).then_some(())
    });
    let metrics = get(&format!("{}/metrics", demo.ready.admin)).body;
    assert!(metrics.contains("huntaway_cluster_recovery_paused 1"), "{metrics}");
    said(&directory, &["recovery", "resume"]);
    let waited = said(&directory, &["recovery", "wait", "--timeout", "100", "-o", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&waited).unwrap()["partitions"]["whole"], 4096, "{waited}");
    let policy: Value = serde_json::from_str(&said(&directory, &["recovery", "show", "-o", "json"])).unwrap();
    assert_eq!((&policy["is_paused"], &policy["bytes_per_second"]), (&false.into(), &(50 << 20).into()));
}
