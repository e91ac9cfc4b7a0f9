//! The Linux kernel's initiator with dm-multipath over two of a cluster's nodes, in a small guest: what it writes is read again, and
//! no command fails, while one node is killed and comes back, and the other one hangs and goes on.

mod support;

use std::thread;
use std::time::{Duration, Instant};

use support::cluster::Nodes;
use support::demo::huntaway;
use support::guest;
use support::needs::{Need, available};
use support::requests::Requests;

/// Time for the guest's commands.
const LIMIT: Duration = Duration::from_secs(400);
/// How long a gateway hangs.
const HANGS_FOR: Duration = Duration::from_secs(20);
/// A path that says nothing for 4 s is given up 5 s later, and is tried again soon.
const SETTINGS: &str = "node.session.timeo.replacement_timeout=5;\
                        node.conn[0].timeo.noop_out_interval=2;node.conn[0].timeo.noop_out_timeout=2;\
                        node.conn[0].timeo.login_timeout=5;node.conn[0].timeo.logout_timeout=5";

#[test]
fn dm_multipath_goes_on_while_gateways_die_and_hang() {
    let needs =
        [guest::NEEDS, &["iscsiadm", "multipathd", "kpartx", "dmsetup", "fio"].map(Need::Program)].concat();
    if !available(&needs) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let mut nodes = Nodes::start(3, &scratch.path().join("data"));
    nodes.until_healthy();
    let requests = Requests::open();
    let job = guest::job("multipath", &["fio", "multipath"])
        .env("PORTALS", [1, 2].map(|node| nodes.portal(node).replace("127.0.0.1", "10.0.2.2")).join(" "))
        .env("IQN", nodes.demo().target())
        .env("LIMIT", (LIMIT.as_secs() - 20).to_string())
        .env("ISCSI_CONF", SETTINGS)
        .env("ASK", requests.address_in_guest())
        .env("JOB_ARGS", format!("RECIPE='{}'", recipe(&nodes)));
    let mut paused = Instant::now();
    let output = requests.serve(job.start(), LIMIT, |request| match request {
        "kill the first gateway" => nodes.have("kill", 1),
        "start the first gateway" => nodes.have("start", 1),
        "pause the second gateway" => {
            nodes.have("pause", 2);
            paused = Instant::now();
        }
        "let the second gateway go on" => {
            thread::sleep(HANGS_FOR.saturating_sub(paused.elapsed()));
            nodes.have("start", 2);
        }
        other => panic!("it asks for {other:?}"),
    });
    assert!(output.contains("PASS"), "{output}");
    nodes.until_healthy();
    let copies = nodes.copies();
    nodes.stop();
    nodes.compare(&copies);
}

/// What an admin is to put into multipath.conf.
fn recipe(nodes: &Nodes) -> String {
    let config = nodes.directory(1).join("huntaway.yaml");
    let output =
        huntaway().args(["export", "multipath", nodes.demo().target(), "--config"]).arg(config).output();
    let output = output.expect("huntaway can be started");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("it prints text")
}
