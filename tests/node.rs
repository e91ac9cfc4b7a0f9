//! `huntaway node` serves what its configuration says, and follows it when it changes; what is wrong changes nothing.

mod support;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use support::demo::{Demo, huntaway, lun, refused};
use support::discovery::LoggedIn;
use support::http::get;
use support::needs::{Need, available};
use support::node::{NODE, Node, refused_start, with_targets};
use support::wait;

/// Time for small things.
const LIMIT: Duration = Duration::from_secs(30);
const ISCSI_LS: &[Need] = &[Need::Program("iscsi-ls")];
const TARGET: &str = "iqn.2026-11.net.example:vm";
/// An initiator that `iscsi-ls` and the tests' own sessions are.
const INITIATORS: &str = "[\"iqn.*\"]";

/// One target with these LUNs.
fn target(luns: &str) -> String {
    with_targets(&format!("[{{iqn: \"{TARGET}\", initiators: {INITIATORS}, luns: [{luns}]}}]"))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn it_serves_the_luns_of_its_configuration_and_follows_changes() {
    if !available(ISCSI_LS) {
        return;
    }
    let node = Node::start(&target("{lun: 0, vdi: root, size: 32MiB}"));
    assert_eq!(node.luns().len(), 1);

    node.follows(&target("{lun: 0, vdi: root, size: 64MiB}, {lun: 3, vdi: data, size: 1GiB}"));
    let served = node.luns();
    assert_eq!(served.len(), 2, "{served:?}");
    assert!(served[0].contains("Size:63M") && served[1].starts_with("Lun:3"), "{served:?}");

    node.reload(&target("{lun: 3, vdi: data, size: 512MiB, allow_shrink: true}"));
    let served = node.luns();
    assert!(served.len() == 1 && served[0].contains("Size:511M"), "{served:?}");
    let vdis = json(&node.run(["vdi", "list", "-o", "json"]));
    let sizes: Vec<_> =
        vdis.as_array().unwrap().iter().map(|vdi| vdi["size_bytes"].as_u64().unwrap()).collect();
    assert_eq!(sizes, [64 << 20, 512 << 20], "what is not mapped any more is still there");
}

#[test]
fn a_wrong_configuration_changes_nothing_and_is_told_once() {
    let good = target("{lun: 0, vdi: root, size: 32MiB}");
    let node = Node::start(&good);
    let session = LoggedIn::to(node.portal(), TARGET);
    let successful = || node.metric("huntaway_config_last_reload_successful");
    let timestamp = node.metric("huntaway_config_last_reload_success_timestamp_seconds");
    assert_eq!(successful(), Some(1.0));

    node.does_not_follow(&target("{lun: 0, vdi: root, sise: 32MiB}"));
    assert_eq!(successful(), Some(0.0));
    assert_eq!(node.metric("huntaway_config_last_reload_success_timestamp_seconds"), timestamp);
    assert!(node.log().contains("unknown key `sise`"), "{}", node.log());
    // it is looked at again each second for as long as it is new, but that is no news
    let mentions = |text: &str| node.log().matches(text).count();
    assert_eq!(mentions("configuration refused"), 1);

    for (config, reason) in [
        (target("{lun: 0, vdi: root, size: 16MiB}"), "allow_shrink"),
        (target("{lun: 0, vdi: root, block_size: 4096}"), "which cannot change"),
        (target("{lun: 0, vdi: root, thin: false}"), "which cannot change"),
        (target("{lun: 0, vdi: other}"), "how large it is to be"),
        (target("{lun: 0, vdi: thick, size: 64TiB, thin: false}"), "are free"),
        (good.replace("name: test\n", "name: another\n"), "cannot change while the node runs"),
        (good.replace("disk1", "disk2"), "cannot change while the node runs"),
    ] {
        node.reload_refused(&config);
        assert!(node.log().contains(reason), "{reason} is not in:\n{}", node.log());
    }
    node.reload(&good);
    assert_eq!(json(&node.run(["vdi", "list", "-o", "json"])).as_array().map(Vec::len), Some(1));
    assert_eq!(successful(), Some(1.0));
    assert_eq!(node.metric("huntaway_gateway_sessions"), Some(1.0), "{}", node.log());
    drop(session);
}

#[test]
fn a_configuration_that_is_wrong_at_the_start_touches_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let error = refused_start(scratch.path(), &target("{lun: 0, vdi: root, sise: 32MiB}"));
    assert!(error.contains("unknown key `sise`") && error.contains("huntaway.yaml:"), "{error}");
    assert!(!scratch.path().join("disk1").exists());

    let error = refused_start(scratch.path(), &target("{lun: 0, vdi: root, size: 64TiB, thin: false}"));
    assert!(error.contains("are free") && error.contains('^'), "{error}");
    let node = Node::start_in(scratch.path(), &with_targets("[]"));
    assert_eq!(node.run(["vdi", "list", "-o", "json"]).trim(), "[]");
}

#[test]
fn sighup_reads_it_again_at_once() {
    let node = Node::serving("[]");
    let (good, bad) = node.reloads();
    node.signal(Signal::HUP);
    wait::until("a reload", LIMIT, || (node.reloads() == (good + 1, bad)).then_some(()));
    assert!(node.log().contains("SIGHUP"), "{}", node.log());
}

#[test]
fn a_file_that_is_gone_is_told_once_and_followed_when_it_is_back() {
    let node = Node::serving("[]");
    let (_, bad) = node.reloads();
    fs::remove_file(node.config()).unwrap();
    wait::until("the loss to be seen", LIMIT, || (node.reloads().1 == bad + 1).then_some(()));
    node.reload(&target("{lun: 0, vdi: root, size: 32MiB}"));
    assert_eq!(node.log().matches("configuration refused").count(), 1, "{}", node.log());
}

#[test]
fn a_swapped_symbolic_link_is_a_change() {
    let scratch = tempfile::tempdir().unwrap();
    let place = |name: &str| scratch.path().join(name);
    for (version, config) in [("v1", with_targets("[]")), ("v2", target("{lun: 0, vdi: root, size: 32MiB}"))]
    {
        fs::create_dir(place(version)).unwrap();
        fs::write(place(version).join("huntaway.yaml"), config).unwrap();
    }
    symlink("v1", place("current")).unwrap();
    symlink("current/huntaway.yaml", place("huntaway.yaml")).unwrap();
    let node = Node::start_on(scratch.path());
    let (good, _) = node.reloads();
    symlink("v2", place("next")).unwrap();
    fs::rename(place("next"), place("current")).unwrap();
    wait::until("the other version", LIMIT, || (node.reloads().0 > good).then_some(()));
    assert!(node.run(["vdi", "list"]).contains("root"));
}

#[test]
fn a_secret_rotates_and_one_that_others_may_read_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let secret = scratch.path().join("secret");
    let write = |text: &str, mode: u32| {
        fs::write(&secret, text).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(mode)).unwrap();
    };
    write("correct-horse-battery\n", 0o600);
    let chap = format!(
        "[{{iqn: \"{TARGET}\", initiators: {INITIATORS}, chap: {{user: vm, secret_file: secret}}, luns: []}}]"
    );
    let node = Node::start_in(scratch.path(), &with_targets(&chap));
    let (good, bad) = node.reloads();
    write("wrong-horse-battery\n", 0o600);
    wait::until("the other secret", LIMIT, || (node.reloads().0 > good).then_some(()));
    assert!(node.log().contains("another secret"), "{}", node.log());
    write("wrong-horse-battery\n", 0o644);
    wait::until("the refusal", LIMIT, || (node.reloads().1 > bad).then_some(()));
    assert!(node.log().contains("chmod"), "{}", node.log());
    assert!(!node.log().contains("horse"), "{}", node.log());
}

#[test]
fn portals_come_and_go() {
    let node = Node::serving("[]");
    let more = NODE.replace("  admin:", "    - {name: second, listen: \"127.0.0.2:0\"}\n  admin:");
    let status = |node: &Node| node.status()["portals"].as_array().unwrap().len();
    node.reload(&format!("{more}targets: []\n"));
    assert_eq!(status(&node), 2);
    node.reload(&format!("{NODE}targets: []\n"));
    assert_eq!(status(&node), 1);

    // taken: refused before anything is changed
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    node.reload_refused(&format!("{}targets: []\n", more.replace("127.0.0.2:0", &taken)));
    assert!(node.log().contains(&format!("cannot listen on {taken}")), "{}", node.log());
    assert_eq!(status(&node), 1);
}

/// [`target`]'s configuration with the portal `san` elsewhere.
fn moved(config: &str, listen: &str) -> String {
    config.replace("127.0.0.1:0\"}", &format!("{listen}\"}}"))
}

#[test]
fn a_portal_is_not_given_up_for_an_address_that_cannot_be_had() {
    let node = Node::start(&target("{lun: 0, vdi: root, size: 32MiB}"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let wanted = target("{lun: 0, vdi: root, size: 32MiB}, {lun: 1, vdi: spare, size: 32MiB}");
    node.reload_refused(&moved(&wanted, &taken));
    assert!(node.log().contains(&format!("cannot listen on {taken}")), "{}", node.log());
    let _session = LoggedIn::to(node.portal(), TARGET);
    assert!(!node.run(["vdi", "list"]).contains("spare"), "nothing is changed");
    assert_eq!(get(&format!("{}/readyz", node.admin())).body, "ready\n");
}

#[test]
fn an_address_that_our_own_portal_is_in_the_way_of_is_taken_or_the_portal_is_back() {
    let at_first = target("{lun: 0, vdi: root, size: 32MiB}");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let narrow = moved(&at_first, &format!("127.0.0.1:{port}"));
    let node = Node::start(&narrow);
    let wide = moved(&at_first, &format!("0.0.0.0:{port}")).replace("vdi: root", "vdi: other");

    let taken = std::net::TcpListener::bind(("127.0.0.2", port)).unwrap();
    node.reload_refused(&wide);
    assert!(node.log().contains("carried out in part"), "{}", node.log());
    let _session = LoggedIn::to(node.portal(), TARGET);
    assert!(node.run(["vdi", "list"]).contains(&format!("{TARGET}/0")));

    // it is tried again without being asked
    let (good, _) = node.reloads();
    drop(taken);
    wait::until("the next try", LIMIT, || (node.reloads().0 > good).then_some(()));
    let _session = LoggedIn::to(&format!("127.0.0.2:{port}"), TARGET);
    node.reload(&narrow);
    assert!(std::net::TcpStream::connect(("127.0.0.2", port)).is_err());
    node.reload(&narrow.replace("name: san", "name: lan"));
    let _session = LoggedIn::to(node.portal(), TARGET);
}

#[test]
fn a_file_that_the_node_refuses_does_not_take_the_old_ones_place() {
    let config = target("{lun: 0, vdi: root, size: 32MiB}");
    let node = Node::start(&config);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let file = node.directory().join("next.yaml").display().to_string();
    fs::write(&file, moved(&config, &taken)).unwrap();
    for args in [vec!["apply", "--diff", "-f", &file], vec!["apply", "-f", &file]] {
        let refused = node.refuses(args);
        assert!(refused.contains("next.yaml:") && refused.contains("cannot listen on"), "{refused}");
    }
    assert_eq!(fs::read_to_string(node.config()).unwrap(), config);
}

#[test]
fn apply_shows_the_difference_and_puts_it_in_force() {
    let config = target("{lun: 0, vdi: root, size: 32MiB}");
    let node = Node::start(&config);
    let diff = |name: &str| {
        let file = node.directory().join(name).display().to_string();
        node.run(["apply", "--diff", "-f", &file])
    };
    assert_eq!(diff("huntaway.yaml").trim(), "no changes");

    let next = target("{lun: 0, vdi: root, size: 64MiB, read_only: true}, {lun: 1, vdi: new, size: 1GiB}");
    fs::write(node.directory().join("next.yaml"), &next).unwrap();
    let shown = diff("next.yaml");
    for line in [
        "+ VDI new: 1GiB, thin, blocks of 512 bytes",
        "~ VDI root: 32MiB -> 64MiB",
        &format!("~ target {TARGET}"),
        "~   LUN 0: read-write -> read-only",
        "+   LUN 1: VDI new, read-write, write-back",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line} is not in:\n{shown}");
    }
    assert_eq!(fs::read_to_string(node.config()).unwrap(), config, "--diff changes nothing");
    assert!(!node.run(["vdi", "list"]).contains("new"));

    fs::set_permissions(node.config(), fs::Permissions::from_mode(0o640)).unwrap();
    let file = node.directory().join("next.yaml").display().to_string();
    assert!(node.run(["apply", "-f", &file]).contains("is in force"));
    assert_eq!(fs::read_to_string(node.config()).unwrap(), next);
    assert_eq!(fs::metadata(node.config()).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(node.run(["vdi", "list"]).contains("new"));

    fs::write(&file, target("{lun: 0, vdi: root, size: 1MiB}")).unwrap();
    let refused = node.refuses(["apply", "-f", &file]);
    assert!(refused.contains("next.yaml:") && refused.contains("allow_shrink"), "{refused}");
    assert_eq!(fs::read_to_string(node.config()).unwrap(), next);
}

#[test]
fn a_file_that_was_spoilt_is_mended_by_apply() {
    let config = target("{lun: 0, vdi: root, size: 32MiB}");
    let node = Node::start(&config);
    node.reload_refused("nonsense");
    let file = node.directory().join("mended.yaml").display().to_string();
    fs::write(&file, &config).unwrap();
    node.run(["apply", "-f", &file]);
    assert_eq!(node.metric("huntaway_config_last_reload_successful"), Some(1.0));
    // a comment is no change, but the file is in force
    node.reload(&format!("# a note\n{config}"));
}

#[test]
fn vdis_are_made_resized_and_deleted_but_not_while_they_are_mapped() {
    let node = Node::start(
        &target("{lun: 0, vdi: root, size: 32MiB}, {lun: 7, vdi: free}").replace(", {lun: 7, vdi: free}", ""),
    );
    node.run(["vdi", "create", "free", "--size", "64MiB", "--thick"]);
    let refused = node.refuses(["vdi", "create", "free", "--size", "64MiB"]);
    assert!(refused.contains("already"), "{refused}");
    let shown = json(&node.run(["vdi", "show", "free", "-o", "json"]));
    assert_eq!(shown["size_bytes"], 64 << 20);
    assert_eq!((&shown["thin"], &shown["provisioned"]), (&Value::Bool(false), &Value::Bool(true)));

    node.run(["vdi", "resize", "free", "128MiB"]);
    let refused = node.refuses(["vdi", "resize", "free", "32MiB"]);
    assert!(refused.contains("--allow-shrink"), "{refused}");
    node.run(["vdi", "resize", "free", "32MiB", "--allow-shrink"]);
    let refused = node.refuses(["vdi", "resize", "root", "64MiB"]);
    assert!(refused.contains("says the size of VDI `root`"), "{refused}");

    node.reload(&target("{lun: 0, vdi: root, size: 32MiB}, {lun: 7, vdi: free}"));
    assert!(node.run(["vdi", "list"]).contains(&format!("{TARGET}/7")));
    let refused = node.refuses(["vdi", "delete", "free", "--yes"]);
    assert!(refused.contains(&format!("LUN 7 of {TARGET}")), "{refused}");
    node.run(["vdi", "resize", "free", "48MiB"]);

    node.reload(&target("{lun: 0, vdi: root, size: 32MiB}"));
    let refused = node.refuses(["vdi", "delete", "free"]);
    assert!(refused.contains("--yes"), "{refused}");
    node.run(["vdi", "delete", "free", "--yes"]);
    let refused = node.refuses(["vdi", "show", "free"]);
    assert!(refused.contains("no VDI `free`"), "{refused}");
    for words in [&["cluster", "set", "--copies", "2"][..], &["node", "add", "b=127.0.0.1:3271"]] {
        let refused = node.refuses(words.iter().copied());
        assert!(refused.contains("huntaway keeper --new"), "{words:?}: {refused}");
    }
}

#[test]
fn a_disk_resized_by_hand_is_seen_at_once() {
    if !available(ISCSI_LS) {
        return;
    }
    let node = Node::start(&target(""));
    node.run(["vdi", "create", "data", "--size", "32MiB"]);
    node.reload(&target("{lun: 0, vdi: data}"));
    node.run(["vdi", "resize", "data", "96MiB"]);
    assert!(node.luns()[0].contains("Size:95M"), "{:?}", node.luns());
}

#[test]
fn what_was_made_is_there_after_a_restart_and_after_being_killed() {
    let scratch = tempfile::tempdir().unwrap();
    let mut node = Node::start_in(scratch.path(), &target("{lun: 0, vdi: root, size: 32MiB}"));
    let before = node.run(["vdi", "list", "-o", "json"]);
    assert!(node.stop().success(), "{}", node.log());
    assert!(!scratch.path().join("disk1/control.sock").exists());

    let mut node = Node::start_on(scratch.path());
    assert_eq!(node.run(["vdi", "list", "-o", "json"]), before);
    node.kill();
    // it leaves its socket behind
    let node = Node::start_on(scratch.path());
    assert_eq!(node.run(["vdi", "list", "-o", "json"]), before);
}

#[test]
fn killed_while_a_disk_is_resized_or_deleted_it_goes_on() {
    let scratch = tempfile::tempdir().unwrap();
    let mut node = Node::start_in(scratch.path(), &target("{lun: 0, vdi: root, size: 32MiB}"));
    for round in 0..6 {
        let name = format!("thick{round}");
        node.run(["vdi", "create", &name, "--size", "16MiB", "--thick"]);
        let config = node.config().display().to_string();
        let args = match round % 3 {
            0 => vec!["vdi", "resize", &name, "2GiB", "--config", &config],
            1 => vec!["vdi", "resize", &name, "1MiB", "--allow-shrink", "--config", &config],
            _ => vec!["vdi", "delete", &name, "--yes", "--config", &config],
        };
        let mut running = support::demo::huntaway();
        let mut running = running.args(args).stdout(std::process::Stdio::null());
        running = running.stderr(std::process::Stdio::null());
        let mut running = running.spawn().unwrap();
        // wherever it is by the time that this took
        let _ = get(&format!("{}/healthz", node.admin()));
        node.kill();
        running.wait().unwrap();
        node = Node::start_on(scratch.path());
        let vdis = json(&node.run(["vdi", "list", "-o", "json"]));
        for vdi in vdis.as_array().unwrap().iter().filter(|vdi| vdi["name"] == name.as_str()) {
            let size = vdi["size_bytes"].as_u64().unwrap();
            assert!([16 << 20, 2 << 30, 1 << 20].contains(&size), "{vdi}");
            node.run(["vdi", "delete", &name, "--yes"]);
        }
    }
}

#[test]
fn several_disks_are_served() {
    let node = Node::start(
        &target("{lun: 0, vdi: root, size: 64MiB, thin: false}").replace("[disk1]", "[disk1, disk2, disk3]"),
    );
    for disk in ["disk1", "disk2", "disk3"] {
        let objects = fs::read_dir(node.directory().join(disk).join("objects"));
        assert!(objects.unwrap().count() > 0, "{disk} holds nothing");
    }
    let status = node.status();
    assert_eq!(status["disks"].as_array().map(Vec::len), Some(3), "{status}");
}

#[test]
fn the_control_socket_is_for_its_owner_alone() {
    let node = Node::serving("[]");
    let mode = fs::metadata(&node.ready.control).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(Path::new(&node.ready.control), node.directory().join("disk1/control.sock"));
}

#[test]
fn apply_replaces_only_a_file_that_its_user_has_named() {
    let node = Node::serving("[]");
    let next = node.directory().join("next.yaml");
    fs::write(&next, target("{lun: 0, vdi: root, size: 32MiB}")).unwrap();
    let before = fs::read(node.config()).unwrap();
    // as if the socket were somebody's who would like to have another file replaced
    let other = node.directory().join("other.yaml");
    fs::write(&other, &before).unwrap();
    let apply = |more: &[&str], config: &Path| {
        let mut command = huntaway();
        command.args(["apply", "-f"]).arg(&next).args(["--socket", &node.ready.control]).args(more);
        command.arg("--config").arg(config).output().unwrap()
    };
    let refused = apply(&[], &other);
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && told.contains("say --config"), "{told}");
    assert_eq!((fs::read(node.config()).unwrap(), fs::read(&other).unwrap()), (before.clone(), before));
    assert!(apply(&["--diff"], &other).status.success());
    assert!(apply(&[], node.config()).status.success());
    assert_eq!(node.status()["targets"][0], TARGET);
}

#[test]
fn a_configuration_in_a_pipe_is_refused_and_not_waited_for() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("huntaway.yaml");
    assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
    let told = refused([OsStr::new("node"), OsStr::new("--config"), file.as_os_str()]);
    assert!(told.contains("is not a regular file"), "{told}");
}

#[test]
fn the_admin_address_tells_but_changes_nothing() {
    let node = Node::serving("[]");
    assert_eq!(get(&format!("{}/readyz", node.admin())).body, "ready\n");
    assert_eq!(get(&format!("{}/v1/vdis", node.admin())).status, 404);
}

#[test]
fn it_serves_what_the_demo_made() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("disk1");
    let mut demo = Demo::builder().directory(&directory).args(lun("size=32MiB")).start();
    assert!(demo.stop().success());
    let config = target("{lun: 0, vdi: demo-0}").replace("cluster: {name: test", "cluster: {name: demo");
    let node = Node::start_in(scratch.path(), &config);
    assert!(node.run(["vdi", "list"]).contains("demo-0"));
    let _session = LoggedIn::to(node.portal(), TARGET);
}

#[test]
fn sigterm_ends_it_well() {
    let mut node = Node::start(&target("{lun: 0, vdi: root, size: 32MiB}"));
    assert!(node.stop().success(), "{}", node.log());
}
