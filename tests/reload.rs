//! A session does not notice a hundred changes of the configuration, good ones and bad ones, that do not concern it.

mod support;

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use support::demo::write_secret;
use support::node::{NODE, Node};
use support::{load, wait};

/// Time for small things.
const LIMIT: Duration = Duration::from_secs(30);

/// How often the configuration changes.
const RELOADS: usize = 100;

/// Every so many times the configuration is a bad one.
const BAD_EVERY: usize = 5;

const TARGET: &str = "iqn.2026-11.net.example:load";

/// A target that stays as it is, beside things that come, go and change.
fn config(round: usize) -> String {
    let portal = match round % 3 {
        0 => "\n    - {name: second, listen: \"127.0.0.1:0\"}",
        1 => "\n    - {name: second, listen: \"127.0.0.1:0\", advertise: \"192.0.2.1:3260\"}",
        _ => "",
    };
    let node = NODE.replace("\n  admin:", &format!("{portal}\n  admin:"));
    let size = 16 + 4 * (round % 4);
    let read_only = round.is_multiple_of(2);
    let more = if round % 4 == 3 { "" } else { "\n      - {lun: 1, vdi: second, size: 8MiB}" };
    let initiator = round % 7;
    let digests = ["allowed", "required", "off"][round % 3];
    let other = format!(
        "\n  - iqn: iqn.2026-11.net.example:other\n    initiators: [\"iqn.2026-11.net.example:{initiator}\"]\n    \
         digests: {digests}\n    chap: {{user: user{initiator}, secret_file: secret}}\n    luns:\n      \
         - {{lun: 0, vdi: changing, size: {size}MiB, allow_shrink: true, read_only: {read_only}}}{more}"
    );
    let other = if round % 6 == 5 { "" } else { &other };
    let bad = if round % BAD_EVERY == BAD_EVERY - 1 { "nonsense: 1\n" } else { "" };
    format!(
        "{node}targets:\n  - iqn: {TARGET}\n    initiators: [\"iqn.*\"]\n    \
         luns: [{{lun: 0, vdi: load, size: 32MiB}}]{other}\n{bad}"
    )
}

#[test]
fn a_hundred_reloads_lose_no_session_and_no_command() {
    let scratch = tempfile::tempdir().unwrap();
    write_secret(&scratch.path().join("secret"), "correct-horse-battery\n");
    let mut node = Node::start_in(scratch.path(), &config(0));
    let mut load = load::at(node.portal(), TARGET, 0, "mode=randrw,depth=4", load::ENDLESS).start();
    let sessions = || node.metric("huntaway_gateway_sessions");
    wait::until("the load to begin", LIMIT, || (sessions() == Some(1.0)).then_some(()));

    let file = scratch.path().join("next.yaml");
    let name = file.display().to_string();
    for round in 1..=RELOADS {
        fs::write(&file, config(round)).unwrap();
        if round % BAD_EVERY == BAD_EVERY - 1 {
            assert!(node.refuses(["apply", "-f", &name]).contains("nonsense"));
        } else {
            write_secret(&scratch.path().join("secret"), &format!("correct-horse-battery-{round}\n"));
            node.run(["apply", "-f", &name]);
        }
    }
    assert_eq!(sessions(), Some(1.0));
    assert!(load.is_running(), "{}", load.output());
    node.signal(Signal::TERM);
    assert!(node.wait_for_exit().success(), "{}", node.log());
    load.wait(LIMIT);
    let report = load::report(&load.output());
    assert_eq!((report.errors, report.wrong), (0, 0), "{report:?}");
    assert!(report.logout_requested && !report.lost, "{report:?}");
    assert!(report.ios > 0, "{report:?}");
}
