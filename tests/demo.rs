//! `huntaway demo` does what its help says: ports, disks, data that stays, a clean end, CHAP, clear errors.

mod support;

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::cluster::process_with;
use support::demo::{Demo, huntaway, lun, refused, write_secret};
use support::discovery::{LoggedIn, send_targets};
use support::http::get;
use support::needs::{Need, available};
use support::script::Script;
use support::{load, wait};

/// Time for small things.
const LIMIT: Duration = Duration::from_secs(30);
/// Time for what a cluster does by itself.
const WHOLE_LIMIT: Duration = Duration::from_secs(240);
const ISCSI_INQ: &[Need] = &[Need::Program("iscsi-inq")];

#[test]
fn the_ready_line_has_exactly_the_documented_keys() {
    let demo = Demo::start([lun("size=32MiB"), lun("size=48MiB,block_size=4096")].concat());
    let line: Value = serde_json::from_str(&demo.ready_line).unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(keys(&line), BTreeSet::from(["portals", "target", "luns", "admin", "pid"].map(String::from)));
    assert_eq!(
        keys(&line["luns"][0]),
        BTreeSet::from(["lun", "vdi", "bytes", "block_size"].map(String::from))
    );

    let ready = &demo.ready;
    assert_eq!(ready.target, "iqn.2026-11.dev.huntaway:demo");
    assert_eq!(ready.portals.len(), 1);
    assert!(demo.port() > 0);
    assert_eq!(ready.pid, demo.pid());
    let luns: Vec<_> = ready.luns.iter().map(|lun| (lun.lun, lun.bytes, lun.block_size)).collect();
    assert_eq!(luns, [(0, 32 << 20, 512), (1, 48 << 20, 4096)]);
    assert!(ready.luns.iter().all(|lun| !lun.vdi.is_empty()));
    assert_ne!(ready.luns[0].vdi, ready.luns[1].vdi);
}

#[test]
fn help_shows_the_options_and_their_defaults() {
    let output = huntaway().args(["demo", "--help"]).output().unwrap();
    assert!(output.status.success());
    let help = String::from_utf8(output.stdout).unwrap();
    for option in
        ["--dir", "--listen", "--admin", "--json", "--lun", "--chap", "--mutual-chap", "--advertise"]
    {
        assert!(help.contains(option), "{option} is not in:\n{help}");
    }
    for default in
        ["./huntaway-demo", "127.0.0.1:3260", "size=1GiB", "thin=true", "block_size=512", "cache=writeback"]
    {
        assert!(help.contains(default), "{default} is not in:\n{help}");
    }
}

#[test]
fn without_listen_it_takes_the_next_free_port() {
    // if something else has the port already, that is as good
    let _taken = TcpListener::bind("127.0.0.1:3260");
    let demo = Demo::builder().args(lun("size=32MiB")).portals(0).start();
    assert!((3261..=3360).contains(&demo.port()), "{}", demo.ready_line);
}

#[test]
fn a_port_that_is_asked_for_but_taken_is_an_error() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = refused_demo(&["--listen", &address]);
    assert!(error.contains(&address), "{error}");
}

#[test]
fn several_portals_and_ipv6() {
    let mut addresses = vec!["127.0.0.1:0"];
    if TcpListener::bind("[::1]:0").is_ok() {
        addresses.push("[::1]:0");
    }
    let listen = addresses.iter().flat_map(|address| ["--listen", address]);
    let demo = Demo::builder().args(lun("size=32MiB")).args(listen).portals(1).start();
    assert_eq!(demo.ready.portals.len(), addresses.len() + 1, "{}", demo.ready_line);
    let ports: BTreeSet<_> = demo.ready.portals.iter().collect();
    assert_eq!(ports.len(), addresses.len() + 1, "{}", demo.ready_line);
    if available(ISCSI_INQ) {
        for portal in 0..demo.ready.portals.len() {
            inquiry(&demo.url_through(portal, 0));
        }
    }
}

#[test]
fn discovery_lists_the_portals_or_what_is_advertised() {
    let plain = Demo::builder().args(lun("size=32MiB")).portals(2).start();
    let found = send_targets(plain.portal());
    assert_eq!(found[0], format!("TargetName={}", plain.target()));
    for portal in &plain.ready.portals {
        let address = format!("TargetAddress={portal},1");
        assert!(found.contains(&address), "{address} is not in {found:?}");
    }

    let advertised = ["--advertise".to_owned(), "192.0.2.7:3260".to_owned()];
    let elsewhere = Demo::start([&lun("size=32MiB")[..], &advertised].concat());
    let found = send_targets(elsewhere.portal());
    assert_eq!(
        found,
        [format!("TargetName={}", elsewhere.target()), "TargetAddress=192.0.2.7:3260,1".to_owned()]
    );
}

#[test]
fn a_bad_lun_option_is_refused_with_the_reason() {
    for (option, reason) in [
        ("size=", "size"),
        ("size=banana", "size"),
        ("size=0", "size"),
        ("size=1000", "size"),
        ("size=99999999TiB", "size"),
        ("size=1GiB,size=2GiB", "size"),
        ("thin=perhaps", "thin"),
        ("read_only=", "read_only"),
        ("block_size=513", "block_size"),
        ("physical_block_size=3", "physical_block_size"),
        ("block_size=4096,physical_block_size=512", "physical_block_size"),
        ("cache=none", "cache"),
        ("colour=blue", "colour"),
        ("nonsense", "nonsense"),
    ] {
        let error = refused_demo(&["--lun", option]);
        assert!(error.contains(reason), "--lun {option}: {error}");
        assert!(!error.contains("panicked"), "--lun {option}: {error}");
    }
}

#[test]
fn a_thick_disk_that_does_not_fit_is_refused() {
    let error = refused_demo(&["--lun", "size=64TiB,thin=false"]);
    assert!(error.contains("space"), "{error}");
}

#[test]
fn too_many_disks_are_refused_and_nothing_is_made() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("data");
    let error = refused_in(&directory, &["--lun", "size=1MiB"].repeat(257));
    assert!(error.contains("257") && error.contains("256"), "{error}");
    assert!(!directory.exists());
}

#[test]
fn a_file_is_no_directory() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = refused_in(file.path(), &[]);
    assert!(error.contains("is not a directory"), "{error}");
}

#[test]
fn a_mistake_in_the_choice_of_log_lines_is_told() {
    let output = huntaway().args(["store", "check", "/nonexistent"]).env("HUNTAWAY_LOG", "a=b=c").output();
    let told = String::from_utf8(output.unwrap().stderr).unwrap();
    assert!(told.contains("WARN") && told.contains("HUNTAWAY_LOG"), "{told}");
}

#[test]
fn a_directory_serves_one_process_and_keeps_its_disks_as_they_are() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("data");
    let start = |options: &str| Demo::builder().directory(&directory).args(lun(options)).start();
    let mut demo = start("size=32MiB");
    let error = refused_in(&directory, &["--lun", "size=32MiB"]);
    assert!(error.contains(&directory.display().to_string()), "{error}");
    demo.stop();

    let error = refused_in(&directory, &["--lun", "size=64MiB"]);
    assert!(error.contains("size"), "{error}");
    let again = start("size=32MiB");
    assert_eq!(again.ready.luns[0].vdi, demo.ready.luns[0].vdi);
}

#[test]
fn started_again_it_finds_the_data() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("data");
    let journal = scratch.path().join("journal");
    let start = || Demo::builder().directory(&directory).args(lun("size=32MiB")).start();
    let load = |demo: &Demo, load: &str| load::run(load::journaled(load::on(demo, 0, load, 1.0), &journal));

    let mut demo = start();
    load(&demo, "mode=randwrite,depth=8");
    assert!(demo.stop().success(), "{}", demo.log());
    let demo = start();
    let report = load(&demo, "mode=check,depth=8");
    assert!(report.verified > 0, "{report:?}");
}

#[test]
fn sigterm_asks_initiators_to_log_out_and_ends_well() {
    end_under_load(Signal::TERM);
}

#[test]
fn ctrl_c_does_the_same() {
    end_under_load(Signal::INT);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut demo = Demo::start(lun("size=32MiB"));
    let _session = LoggedIn::to(demo.portal(), demo.target());
    demo.signal(Signal::TERM);
    wait::until("the first signal to be heard", LIMIT, || demo.log().contains("stopping").then_some(()));
    demo.signal(Signal::INT);
    let status = demo.wait_for_exit();
    assert_eq!(status.code(), Some(1), "{}", demo.log());
    assert!(demo.log().contains("second signal"), "{}", demo.log());
}

#[test]
fn a_signal_is_heard_while_disks_are_made() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("data");
    let objects = directory.join("objects");
    let mut command = huntaway();
    command.args(["demo", "--json", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    command.args(lun("size=1GiB,thin=false")).arg("--dir").arg(&directory);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let _ = wait::until("an object", LIMIT, || fs::read_dir(&objects).ok()?.next());
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let status = wait::until("the end", LIMIT, || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}

fn end_under_load(signal: Signal) {
    let mut demo = Demo::start(lun("size=32MiB"));
    let mut load = load::on(&demo, 0, "mode=randrw,depth=4", load::ENDLESS).start();
    wait::until("the load to begin", LIMIT, || metric_is_positive(&demo, "huntaway_gateway_sessions"));
    demo.signal(signal);
    let status = demo.wait_for_exit();
    assert_eq!(status.code(), Some(0), "{}", demo.log());
    load.wait(LIMIT);
    let report = load::report(&load.output());
    assert_eq!((report.errors, report.wrong, report.logout_requested), (0, 0, true), "{}", load.output());
}

fn metric_is_positive(demo: &Demo, name: &str) -> Option<()> {
    let metrics = get(&format!("{}/metrics", demo.ready.admin)).body;
    let value =
        metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<f64>().ok());
    value.filter(|value| *value > 0.0).map(|_| ())
}

#[test]
fn health_and_readiness_are_told() {
    let demo = Demo::start(lun("size=32MiB"));
    for page in ["healthz", "readyz"] {
        assert_eq!(get(&format!("{}/{page}", demo.ready.admin)).status, 200, "{page}");
    }
    assert_eq!(get(&format!("{}/nothing", demo.ready.admin)).status, 404);
}

#[test]
fn chap_admits_who_knows_the_secret_and_nobody_else() {
    if !available(ISCSI_INQ) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("secret");
    write_secret(&file, "correct-horse-battery\n");
    let account = format!("alice:{}", file.display());
    let demo = Demo::start([&lun("size=32MiB")[..], &["--chap".into(), account]].concat());
    let url = |login: &str| demo.url(0).replacen("iscsi://", &format!("iscsi://{login}"), 1);
    inquiry(&url("alice%correct-horse-battery@"));
    for login in ["", "alice%wrong-horse-battery@", "bob%correct-horse-battery@"] {
        let outcome = Script::program("iscsi-inq").args([url(login)]).limit(LIMIT).finish();
        assert!(outcome.status.is_some_and(|status| !status.success()), "{login:?}: {}", outcome.output);
    }
}

#[test]
fn a_bad_secret_file_is_refused_with_its_name() {
    let scratch = tempfile::tempdir().unwrap();
    let missing = scratch.path().join("missing").display().to_string();
    let empty = scratch.path().join("empty").display().to_string();
    fs::write(&empty, "").unwrap();
    let open = scratch.path().join("open").display().to_string();
    fs::write(&open, "correct-horse-battery\n").unwrap();
    fs::set_permissions(&open, Permissions::from_mode(0o644)).unwrap();
    let short = scratch.path().join("short");
    write_secret(&short, "eleven byte\n");
    let short = short.display().to_string();
    for file in [&missing, &empty, &open, &short] {
        let error = refused_demo(&["--chap", &format!("alice:{file}")]);
        assert!(error.contains(file), "{error}");
    }
    let error = refused_demo(&["--chap", "alice"]);
    assert!(error.contains("SECRETFILE"), "{error}");
}

#[test]
fn a_person_gets_lines_to_copy() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("data").display().to_string();
    let options = [
        "demo",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--lun",
        "size=32MiB",
        "--dir",
        &directory,
    ];
    let demo = Script::program(huntaway().get_program()).args(options).start();
    let text =
        wait::until("the last line", LIMIT, || Some(demo.output()).filter(|text| text.contains("Ctrl-C")));
    for word in ["iscsiadm", "qemu-img", "iscsi-direct", "curl"] {
        assert!(text.contains(word), "{word} is not in:\n{text}");
    }
}

#[test]
fn nodes_come_and_go_and_the_disks_stay() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("data");
    let start =
        |more: &[String]| Demo::builder().portals(0).directory(&directory).args(more.to_vec()).start();
    let luns = |demo: &Demo| -> Vec<_> {
        demo.ready.luns.iter().map(|lun| (lun.lun, lun.bytes, lun.block_size)).collect()
    };
    let listen =
        |nodes| ["--listen", "127.0.0.1:0"].repeat(nodes).into_iter().map(String::from).collect::<Vec<_>>();
    let three = ["--nodes".to_owned(), "3".to_owned()];
    let disks = [lun("size=64MiB"), lun("size=32MiB,block_size=4096,thin=false")].concat();
    let mut demo = start(&[&three[..], &disks, &listen(3)].concat());
    let made = luns(&demo);
    assert_eq!(made, [(0, 64 << 20, 512), (1, 32 << 20, 4096)]);
    let ask = |words: &[&str], place: &Path| {
        let output = huntaway().args(words).arg(place).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        if output.status.success() { Ok(said) } else { Err(said) }
    };
    let cluster = |words: &[&str]| ask(&[words, &["--dir"]].concat(), &directory);

    // One that hangs is not asked, and keeps nobody waiting.
    cluster(&["demo", "pause", "1"]).unwrap();
    let added = cluster(&["demo", "add"]).unwrap();
    assert!(added.contains("node 4 is added"), "{added}");
    cluster(&["demo", "start", "1"]).unwrap();
    cluster(&["demo", "kill", "2"]).unwrap();
    cluster(&["node", "drain", "node-2"]).unwrap();
    wait::until("node 2 to be no member", WHOLE_LIMIT, || cluster(&["node", "remove", "node-2"]).ok());
    // A signal is heard while a node starts that does not find its keeper.
    cluster(&["demo", "pause", "1"]).unwrap();
    cluster(&["demo", "kill", "3"]).unwrap();
    let third = directory.join("node-3/huntaway.yaml");
    let says = fs::read_to_string(&third).unwrap();
    let (before, (_, after)) =
        says.split_once("keeper: \"").map(|(a, b)| (a, b.split_once('"').unwrap())).unwrap();
    fs::write(&third, format!("{before}keeper: \"127.0.0.1:1\"{after}")).unwrap();
    let mut starting = huntaway().args(["demo", "start", "3", "--dir"]).arg(&directory).spawn().unwrap();
    wait::until("node 3 to start", LIMIT, || process_with(&third));
    assert!(demo.stop().success(), "{}", demo.log());
    assert!(!starting.wait().unwrap().success());

    let mut demo = start(&listen(3));
    assert_eq!((luns(&demo), demo.ready.portals.len()), (made.clone(), 3), "{}", demo.log());
    assert!(demo.log().contains("belongs to the cluster no more"), "{}", demo.log());
    let config = directory.join("node-1/huntaway.yaml");
    let vdis = ask(&["vdi", "list", "-o", "json", "--config"], &config).unwrap();
    let vdis: Value = serde_json::from_str(&vdis).unwrap();
    assert_eq!((&vdis[0]["size_bytes"], &vdis[1]["thin"]), (&(64 << 20).into(), &false.into()), "{vdis}");
    assert!(demo.stop().success(), "{}", demo.log());
    let refused =
        refused_in(&directory, &[&["--lun", "size=1GiB"], &*["--listen", "127.0.0.1:0"].repeat(3)].concat());
    assert!(refused.contains("LUN 0: size is 1073741824"), "{refused}");

    // Its disk is gone, the others serve.
    fs::remove_dir_all(directory.join("node-4/disk")).unwrap();
    fs::create_dir(directory.join("node-4/disk")).unwrap();
    let demo = start(&listen(3));
    assert_eq!((luns(&demo), demo.ready.portals.len()), (made, 2), "{}", demo.log());
}

/// What `huntaway demo` says when it refuses these arguments.
fn refused_demo(args: &[&str]) -> String {
    let scratch = tempfile::tempdir().expect("a temporary directory can be made");
    refused_in(&scratch.path().join("data"), args)
}

fn refused_in(directory: &Path, args: &[&str]) -> String {
    let directory = directory.display().to_string();
    let mut all = vec!["demo", "--json", "--admin", "127.0.0.1:0", "--dir", &directory];
    if !args.contains(&"--listen") {
        all.extend(["--listen", "127.0.0.1:0"]);
    }
    all.extend(args);
    refused(all)
}

fn inquiry(url: &str) {
    let output = Script::program("iscsi-inq").args([url]).limit(LIMIT).run();
    assert!(output.contains("DIRECT_ACCESS"), "{url}: {output}");
}
