//! A node of several disks when one of them fails, is not mounted, or is not in the configuration: the others go on, nothing
//! that was acknowledged is lost, and whoever looks is told which disk it is.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use support::http::get;
use support::initiator::Login;
use support::needs::{Need, available};
use support::node::{Node, refused_start};
use support::script::{Running, Script, break_log};
use support::wait;
use tempfile::TempDir;

const TARGET: &str = "iqn.2026-11.net.example:vm";
const DISKS: [&str; 3] = ["disk1", "disk2", "disk3"];
const NEEDS: &[Need] = &[Need::Program("qemu-io"), Need::QemuIscsi];

/// Objects of the LUN. Each is on one of the disks, by chance; that one of three has none of so many does not happen.
const OBJECTS: u64 = 64;
const OBJECT_BYTES: u64 = 4 << 20;
/// What is written to and read from each object.
const PIECE_BYTES: u64 = 64 << 10;

/// No object was answered by an error.
const NONE: [u64; 0] = [];

/// Time for small things.
const LIMIT: Duration = Duration::from_secs(30);

/// A place for a node of three disks, whose table is on none of them.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory can be made"))
    }

    /// The node with its three disks.
    fn start(&self) -> Node {
        Node::start_in(self.0.path(), &config(&DISKS))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// What `/readyz` has to say of these disks.
    fn degraded(&self, names: &[&str]) -> String {
        let lines = names.iter().map(|name| {
            format!("degraded: disk {} has failed or is missing: see the log\n", self.path(name).display())
        });
        lines.fold("ready\n".to_owned(), |text, line| text + &line)
    }

    /// Asserts that of the three disks exactly these are shown as not served, by metrics and by `/readyz`.
    fn assert_failed(&self, node: &Node, names: &[&str]) {
        for name in DISKS {
            let metric = format!("huntaway_store_disk_failed{{disk=\"{}\"}}", self.path(name).display());
            let expected = if names.contains(&name) { 1.0 } else { 0.0 };
            assert_eq!(node.metric(&metric), Some(expected), "{metric}");
        }
        let ready = get(&format!("{}/readyz", node.admin()));
        assert_eq!((ready.status, ready.body), (200, self.degraded(names)));
    }
}

/// A node with these data directories and one LUN.
fn config(disks: &[&str]) -> String {
    let size_mib = (OBJECTS * OBJECT_BYTES) >> 20;
    format!(
        "\
node:
  name: test
  state_directory: state
  data_directories: [{}]
  portals: [{{listen: \"127.0.0.1:0\"}}]
  admin: 127.0.0.1:0
cluster: {{name: test, copies: 1, membership: local}}
targets:
  - iqn: {TARGET}
    initiators: [\"iqn.*\"]
    luns: [{{lun: 0, vdi: root, size: {size_mib}MiB}}]
",
        disks.join(", ")
    )
}

/// Does `what`, such as `write -P 1`, to each of `objects`, in one session, and returns those that were answered by an
/// error.
///
/// # Panics
/// If something else was read than the pattern, or not every object was answered.
fn each(node: &Node, what: &str, objects: &[u64]) -> Vec<u64> {
    let commands = objects
        .iter()
        .flat_map(|object| ["-c".to_owned(), format!("{what} {} {PIECE_BYTES}", object * OBJECT_BYTES)]);
    let output = qemu_io(node).args(commands).finish().output;
    assert!(!output.contains("Pattern verification failed"), "{what}:\n{output}");
    let answers: Vec<bool> = output.lines().filter_map(answer).collect();
    assert_eq!(answers.len(), objects.len(), "{what}:\n{output}");
    let failed = objects.iter().zip(answers).filter(|(_, is_done)| !is_done);
    failed.map(|(object, _)| *object).collect()
}

/// Whether a command was done, if this is the line that tells it.
fn answer(line: &str) -> Option<bool> {
    let is_done = line.starts_with("wrote ") || line.starts_with("read 65536/");
    let is_failed = line.ends_with("failed: Input/output error");
    (is_done || is_failed).then_some(is_done)
}

/// A flush that has to succeed.
fn flush(node: &Node) {
    qemu_io(node).args(["-c", "flush"]).run();
}

/// `qemu-io` on the LUN. It writes whole lines: otherwise its answers are torn where its messages about errors come between.
fn qemu_io(node: &Node) -> Script {
    let qemu_io = ["-oL", "qemu-io", "-f", "raw", "-t", "none", &node.url(TARGET, 0)];
    Script::program("stdbuf").args(qemu_io).limit(LIMIT)
}

fn all() -> Vec<u64> {
    (0..OBJECTS).collect()
}

fn without(objects: &[u64]) -> Vec<u64> {
    all().into_iter().filter(|object| !objects.contains(object)).collect()
}

/// From now on the kernel answers each write to the log in this directory, and each sync of it, with EIO, until what is
/// returned is dropped. None if that is not allowed here, which has been said.
fn break_disk(node: &Node, directory: &Path) -> Option<Running> {
    let directory = fs::canonicalize(directory).expect("the disk is there");
    break_log(node.ready.pid, &directory)
}

#[test]
fn a_disk_that_fails_while_it_is_served_leaves_the_others_serving_and_comes_back_with_all_it_had() {
    if !available(&[NEEDS, &[Need::Program("strace")]].concat()) {
        return;
    }
    let place = Place::new();
    let mut node = place.start();
    assert_eq!(each(&node, "write -P 1", &all()), NONE);
    flush(&node);
    place.assert_failed(&node, &[]);

    let Some(strace) = break_disk(&node, &place.path("disk2")) else { return };
    let broken = each(&node, "write -P 2", &all());
    let sound = without(&broken);
    assert!(!broken.is_empty() && !sound.is_empty(), "{broken:?} are on the broken disk");
    drop(strace);

    // The kernel would let it work again. But what it lost meanwhile nobody knows, so it stays out.
    place.assert_failed(&node, &["disk2"]);
    assert_eq!(each(&node, "write -P 3", &broken), broken);
    assert_eq!(each(&node, "read", &broken), broken, "no zeroes and no old data");
    assert_eq!(each(&node, "read -P 2", &sound), NONE);
    assert_eq!(each(&node, "write -f -P 3", &sound), NONE);
    flush(&node);
    let metrics = node.metrics();
    let counted = metrics.lines().filter(|line| line.contains("failed_commands_total{"));
    assert_eq!(counted.filter(|line| line.contains("hardware_error")).count(), 1, "{metrics}");

    assert!(!node.stop().success(), "a disk failed: {}", node.log());
    let node = place.start();
    place.assert_failed(&node, &[]);
    assert_eq!(each(&node, "read -P 1", &broken), NONE);
    assert_eq!(each(&node, "read -P 3", &sound), NONE);
    assert_eq!(each(&node, "write -P 4", &all()), NONE);
    flush(&node);
}

#[test]
fn what_an_interrupted_change_has_brought_is_known_and_can_be_undone() {
    if !available(&[NEEDS, &[Need::Program("strace"), Need::Program("iscsi-ls")]].concat()) {
        return;
    }
    let place = Place::new();
    let node = place.start();
    assert_eq!(each(&node, "write -P 1", &all()), NONE);
    node.run(["vdi", "create", "spare", "--size", "32MiB"]);
    let before = fs::read_to_string(node.config()).expect("there is a configuration");
    let shrunk = before.replace(
        "vdi: root, size: 256MiB",
        "vdi: root, size: 32MiB, allow_shrink: true}, {lun: 1, vdi: spare",
    );

    let Some(strace) = break_disk(&node, &place.path("disk2")) else { return };
    node.reload_refused(&shrunk);
    drop(strace);
    assert!(node.log().contains("carried out in part"), "{}", node.log());
    let served = node.luns();
    assert!(served.len() == 2 && served[0].contains("Size:31M"), "{served:?}");
    let refused = node.refuses(["vdi", "delete", "spare", "--yes"]);
    assert!(refused.contains(&format!("LUN 1 of {TARGET}")), "{refused}");
    // another disk's resize does not bring the old targets back
    node.run(["vdi", "create", "third", "--size", "32MiB"]);
    node.run(["vdi", "resize", "third", "64MiB"]);
    assert_eq!(node.luns(), served);
    // what is left to do is refused for a reason, and is not the file's fault
    wait::until("the next try", LIMIT, || {
        node.log().contains("disk2 has failed or is missing").then_some(())
    });
    assert!(!node.log().contains("configuration refused"), "{}", node.log());

    let undo = place.path("undo.yaml");
    fs::write(&undo, &before).expect("the directory is writable");
    let undo = undo.display().to_string();
    let shown = node.run(["apply", "-f", &undo]);
    assert!(shown.contains("-   LUN 1: VDI spare") && shown.contains("interrupted"), "{shown}");
    let served = node.luns();
    assert!(served.len() == 1 && served[0].contains("Size:255M"), "{served:?}");
    assert!(node.run(["apply", "--diff", "-f", &undo]).contains("no changes"));
}

#[test]
fn without_a_disk_no_vdi_is_changed_that_has_a_part_on_it() {
    if !available(&[Need::Program("iscsi-ls")]) {
        return;
    }
    let place = Place::new();
    let mut node = place.start();
    node.run(["vdi", "create", "thin", "--size", "64MiB"]);
    node.run(["vdi", "create", "thick", "--size", "32MiB", "--thick"]);
    assert!(node.stop().success());
    fs::rename(place.path("disk2"), place.path("away")).expect("a directory can be renamed");

    let mut node = place.start();
    for args in [
        vec!["vdi", "create", "another", "--size", "32MiB", "--thick"],
        vec!["vdi", "resize", "thick", "64MiB"],
        vec!["vdi", "resize", "thin", "32MiB", "--allow-shrink"],
        vec!["vdi", "delete", "thin", "--yes"],
    ] {
        let refused = node.refuses(&args);
        assert!(refused.contains("disk2 has failed or is missing"), "{args:?}: {refused}");
    }
    let vdis = || node.run(["vdi", "list"]);
    let before = vdis();
    assert!(!before.contains("another") && before.contains("32MiB") && before.contains("64MiB"), "{before}");
    node.run(["vdi", "resize", "thick", "32MiB"]);
    assert_eq!(vdis(), before, "its own size is no change");
    node.run(["vdi", "resize", "thin", "128MiB"]);

    // at a start, what needs all disks waits, and all else is served
    assert!(node.stop().success());
    let shrunk = config(&DISKS).replace("size: 256MiB", "size: 128MiB, allow_shrink: true");
    let mut node = Node::start_in(place.0.path(), &shrunk);
    assert!(node.log().contains("some of the configuration must wait"), "{}", node.log());
    assert!(node.luns()[0].contains("Size:127M"), "{:?}", node.luns());
    assert!(node.run(["vdi", "show", "root"]).contains("256MiB"));
    assert!(node.stop().success());

    fs::rename(place.path("away"), place.path("disk2")).expect("a directory can be renamed");
    let node = place.start();
    node.run(["vdi", "resize", "thick", "64MiB"]);
    node.run(["vdi", "resize", "thin", "32MiB", "--allow-shrink"]);
    node.run(["vdi", "delete", "thin", "--yes"]);
    assert!(node.run(["vdi", "show", "root"]).contains("256MiB"));
}

#[test]
fn without_a_disk_no_vdi_is_sanitized_that_has_a_part_on_it() {
    let place = Place::new();
    let mut node = place.start();
    assert!(node.stop().success());
    fs::rename(place.path("disk2"), place.path("away")).expect("a directory can be renamed");
    let sanitized = |node: &Node| {
        let initiator = "iqn.2026-11.test:a";
        let portal = node.portal();
        let login = Login { portal, initiator, target: Some(TARGET), account: None, mutual: None };
        let mut initiator = login.log_in().expect("anyone may log in");
        assert_eq!(initiator.ask(0, &[0; 6], 0), Err((6, 0x29, 0)));
        let block_erase = [0x48, 0x02, 0, 0, 0, 0, 0, 0, 0, 0];
        let result = initiator.tell(0, &block_erase, &[]);
        assert_eq!(initiator.ask(0, &[0; 6], 0), Ok(Vec::new()), "the disk is served");
        result
    };
    let mut node = place.start();
    assert_eq!(sanitized(&node), Err((4, 0x44, 0)), "an internal failure, of which the log tells");
    assert!(node.log().contains("a disk that may have some of it does not serve"), "{}", node.log());
    assert!(node.stop().success());
    fs::rename(place.path("away"), place.path("disk2")).expect("a directory can be renamed");
    assert_eq!(sanitized(&place.start()), Ok(()));
}

#[test]
fn a_disk_that_is_not_mounted_leaves_the_others_serving_and_its_mount_point_empty() {
    if !available(NEEDS) {
        return;
    }
    let place = Place::new();
    let mut node = place.start();
    assert_eq!(each(&node, "write -P 1", &all()), NONE);
    assert!(node.stop().success(), "{}", node.log());

    let (mount_point, elsewhere) = (place.path("disk3"), place.path("elsewhere"));
    fs::rename(&mount_point, &elsewhere).unwrap();
    fs::create_dir(&mount_point).unwrap();
    let mut node = place.start();
    place.assert_failed(&node, &["disk3"]);
    assert!(node.log().contains("is the disk mounted?"), "{}", node.log());
    let absent = each(&node, "write -P 2", &all());
    let present = without(&absent);
    assert!(!absent.is_empty() && !present.is_empty(), "{absent:?} are on the absent disk");
    assert_eq!(each(&node, "read", &absent), absent, "never zeroes");
    assert_eq!(each(&node, "read -P 2", &present), NONE);
    flush(&node);
    assert!(node.stop().success(), "{}", node.log());
    assert_eq!(fs::read_dir(&mount_point).unwrap().count(), 0);

    fs::remove_dir(&mount_point).unwrap();
    fs::rename(&elsewhere, &mount_point).unwrap();
    let node = place.start();
    place.assert_failed(&node, &[]);
    assert_eq!(each(&node, "read -P 1", &absent), NONE);
    assert_eq!(each(&node, "read -P 2", &present), NONE);
}

#[test]
fn disks_more_or_fewer_than_the_node_has_are_refused_with_a_cure() {
    let place = Place::new();
    assert!(place.start().stop().success());

    let told = refused_start(place.0.path(), &config(&["disk1", "disk2", "disk3", "disk4"]));
    assert!(told.contains("the node has 3 disks, but 4 data directories are given"), "{told}");
    let cure = format!("take {} out again", place.path("disk4").display());
    assert!(told.contains(&cure), "{told}");
    assert!(!place.path("disk4").exists(), "nothing was made");

    let told = refused_start(place.0.path(), &config(&["disk1", "disk3"]));
    assert!(told.contains("the node has 3 disks, but 2 data directories are given"), "{told}");
    assert!(told.contains("name them all, also one whose disk is broken"), "{told}");

    let node = place.start();
    place.assert_failed(&node, &[]);
}
