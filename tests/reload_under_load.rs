//! A hundred changes of the configuration, wrong ones among them, while initiators write and verify: no I/O error, no
//! dropped session, every good one in force, every wrong one refused.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use support::needs::{Need, available};
use support::node::{Node, with_targets};
use support::requests::Requests;
use support::{guest, load, wait};

const TARGET: &str = "iqn.2026-11.net.example:vm";
/// The name of the guest's initiator.
const GUEST: &str = "iqn.2026-11.dev.huntaway:test-guest";
/// Rounds of ten changes.
const ROUNDS: u64 = 10;

/// Time for the guest to start, to see all changes, and to end.
const LIMIT: Duration = Duration::from_secs(260);
/// Time in which one change has to be looked at.
const CHANGE_LIMIT: Duration = Duration::from_secs(30);

/// What the configuration says; each good change changes one of these.
#[derive(Clone, Debug)]
struct Wanted {
    /// Size of the guest's LUN.
    first_mib: u64,
    /// Size of the load generator's LUN.
    second_mib: u64,
    /// Whether there is another LUN.
    third: bool,
    /// Which initiator may use the other target.
    host: u64,
}

impl Wanted {
    fn config(&self) -> String {
        let Self { first_mib, second_mib, third, host } = self;
        let third = if *third { ", {lun: 2, vdi: third, size: 16MiB}" } else { "" };
        with_targets(&format!(
            "
  - iqn: {TARGET}
    initiators: [\"iqn.2026-11.dev.huntaway:*\"]
    luns: [{{lun: 0, vdi: first, size: {first_mib}MiB}}, {{lun: 1, vdi: second, size: {second_mib}MiB}}{third}]
  - iqn: iqn.2026-11.net.example:other
    initiators: [iqn.2026-11.net.example:host-{host}]
    chap: {{user: other, secret_file: secret}}
    luns: [{{lun: 0, vdi: other, size: 16MiB}}]"
        ))
    }
}

/// A node whose configuration changes again and again.
struct Changes {
    node: Node,
    wanted: Wanted,
    good: u64,
    bad: u64,
}

impl Changes {
    fn start(directory: &Path) -> Self {
        write_secret(directory, 0);
        let wanted = Wanted { first_mib: 32, second_mib: 32, third: false, host: 0 };
        let node = Node::start_in(directory, &wanted.config());
        Self { node, wanted, good: 0, bad: 0 }
    }

    /// Six good changes and four wrong ones.
    fn round(&mut self, number: u64) {
        self.good(|wanted| wanted.third = true);
        let in_force = self.wanted.config();
        self.bad(&in_force.replace("luns: [", "luns: [["), "huntaway.yaml:");
        self.good(|wanted| wanted.third = false);
        let (applied, _) = self.node.reloads();
        self.wanted.host += 1;
        self.node.write_config(&self.wanted.config());
        self.seen("another initiator", |node| node.reloads().0 > applied);
        self.good += 1;

        let (_, refused) = self.node.reloads();
        fs::remove_file(self.node.config()).expect("there is a configuration");
        self.seen("the loss of the file", |node| node.reloads().1 > refused);
        self.bad += 1;

        write_secret(self.node.directory(), number + 1);
        self.good(|_| ());
        self.good(|wanted| wanted.second_mib += 4);
        let in_force = self.wanted.config();
        self.bad(&in_force.replace("initiators:", "initiator:"), "unknown key");
        self.good(|wanted| wanted.first_mib += 4);
        let smaller = Wanted { first_mib: self.wanted.first_mib - 4, ..self.wanted.clone() };
        self.bad(&smaller.config(), "allow_shrink");
    }

    fn good(&mut self, change: impl FnOnce(&mut Wanted)) {
        change(&mut self.wanted);
        self.node.write_config(&self.wanted.config());
        let (status, answer) = control(&self.node, "POST /v1/reload");
        assert_eq!(status, 200, "{answer}");
        self.good += 1;
    }

    fn bad(&mut self, config: &str, reason: &str) {
        self.node.write_config(config);
        let (status, answer) = control(&self.node, "POST /v1/reload");
        assert!(status >= 400 && answer.contains(reason), "{status}: {answer}");
        self.bad += 1;
    }

    /// Waits for what the node notices by itself, looking once a second.
    fn seen(&self, what: &str, mut condition: impl FnMut(&Node) -> bool) {
        wait::until(what, CHANGE_LIMIT, || condition(&self.node).then_some(()));
    }

    /// Compares what is in force with what is wanted, and how many changes were counted with how many there were.
    fn check(&self) {
        let (_, vdis) = control(&self.node, "GET /v1/vdis");
        let vdis: Value = serde_json::from_str(&vdis).expect("the disks are JSON");
        let size_mib = |name: &str| {
            let vdi = vdis.as_array()?.iter().find(|vdi| vdi["name"] == name)?;
            Some(vdi["size_bytes"].as_u64()? >> 20)
        };
        assert_eq!(size_mib("first"), Some(self.wanted.first_mib), "{vdis}");
        assert_eq!(size_mib("second"), Some(self.wanted.second_mib), "{vdis}");
        // a file that was replaced just when the node looked for changes may have been read twice
        let (good, bad) = self.node.reloads();
        assert!(good >= self.good && bad >= self.bad, "{good} and {bad} of {} and {}", self.good, self.bad);
    }
}

fn write_secret(directory: &Path, version: u64) {
    let (file, new) = (directory.join("secret"), directory.join("secret.new"));
    fs::write(&new, format!("the secret of version {version}\n")).expect("the directory is writable");
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).expect("the directory is writable");
    fs::rename(new, file).expect("the directory is writable");
}

/// What the control socket answers to a request without a body: the status and the body.
fn control(node: &Node, request: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(&node.ready.control).expect("the node has a control socket");
    stream.set_read_timeout(Some(CHANGE_LIMIT)).expect("a socket takes a time limit");
    write!(stream, "{request} HTTP/1.1\r\nHost: node\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .expect("the node reads its control socket");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the node answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.expect("an answer has a status"), body.to_owned())
}

/// Does `work` while there is load on LUN 1: what the load verified, and the unit attentions that it had.
fn with_load(portal: &str, work: impl FnOnce()) -> (u64, u64) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let load = scope.spawn(|| load_until(&stop, portal));
        {
            // also if the work panics: the load has to end for that to be told
            let _stop = SetWhenDropped(&stop);
            work();
        }
        load.join().expect("the load goes well")
    })
}

struct SetWhenDropped<'a>(&'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One run of the load generator after the other.
fn load_until(stop: &AtomicBool, portal: &str) -> (u64, u64) {
    let journal = tempfile::tempdir().expect("a temporary directory can be made");
    let journal = journal.path().join("journal");
    let (mut verified, mut attentions) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let load = load::at(portal, TARGET, 1, "mode=randrw,reads=50,depth=8", 4.0).args(["--span", "16MiB"]);
        let report = load::run(load::journaled(load, &journal));
        assert_eq!((report.errors, report.wrong), (0, 0));
        assert!(!report.lost && !report.logout_requested, "{report:?}");
        verified += report.verified;
        attentions += report.attentions;
    }
    (verified, attentions)
}

#[test]
fn a_hundred_reloads_disturb_no_io_and_drop_no_session() {
    let needs = [guest::NEEDS, &[Need::Program("fio"), Need::Program("iscsiadm")]].concat();
    if !available(&needs) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let mut changes = Changes::start(scratch.path());
    let portal = changes.node.portal().to_owned();
    let requests = Requests::open();
    let job = guest::job("reload-load", &["fio"])
        .env("PORTALS", portal.replace("127.0.0.1", "10.0.2.2"))
        .env("IQN", TARGET)
        .env("ASK", requests.address_in_guest());
    let output = requests.serve(job.start(), LIMIT, |_| {
        let (verified, attentions) = with_load(&portal, || {
            for number in 0..ROUNDS {
                changes.round(number);
            }
        });
        assert!(verified > 0 && attentions > 0, "{verified} reads verified, {attentions} unit attentions");
        changes.check();
        let log = changes.node.log();
        let guest = |event: &str| log.matches(&format!("session {event} initiator=\"{GUEST}\"")).count();
        assert_eq!((guest("started"), guest("ended")), (1, 0), "the guest's session lasts");
        assert!(!log.contains("session closed") && !log.contains("session revoked"), "{log}");
    });
    assert!(output.contains("PASS"), "{output}");
    assert_eq!(changes.good + changes.bad, 100);
}
