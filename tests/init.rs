//! A node is made once, when told so. What is empty afterwards is a disk that is not mounted, never a new node.

mod support;

use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::demo::{huntaway, refused};
use support::needs::{Need, available};
use support::node::{NODE, Node};
use tempfile::TempDir;

/// A place for a node, its configuration in it.
struct Place(TempDir);

impl Place {
    fn with(config: &str) -> Self {
        let scratch = tempfile::tempdir().expect("a temporary directory can be made");
        fs::write(scratch.path().join("huntaway.yaml"), config).expect("the directory is writable");
        Self(scratch)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn config(&self) -> String {
        self.path("huntaway.yaml").display().to_string()
    }

    fn init(&self) -> Output {
        huntaway()
            .args(["init", "--config", &self.config()])
            .output()
            .expect("the built huntaway can be started")
    }

    /// What `huntaway node` says when it does not start.
    fn refuses(&self) -> String {
        refused(["node", "--config", &self.config()])
    }

    fn names(&self) -> Vec<String> {
        names(self.0.path())
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("it is a directory");
    let name =
        |entry: io::Result<DirEntry>| entry.expect("it can be listed").file_name().display().to_string();
    let mut names: Vec<_> = entries.map(name).collect();
    names.sort();
    names
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn with_state_directory() -> String {
    NODE.replace("data_directories: [disk1]", "data_directories: [disk1, disk2]\n  state_directory: state")
}

#[test]
fn a_node_that_was_never_made_is_refused_and_nothing_is_made() {
    let place = Place::with(NODE);
    let told = place.refuses();
    assert!(told.contains("there is no node in"), "{told}");
    assert!(told.contains("huntaway init"), "{told}");
    assert!(told.contains("mounted"), "{told}");
    assert_eq!(place.names(), ["huntaway.yaml"]);
}

#[test]
fn a_node_is_made_once_and_then_starts() {
    let place = Place::with(&with_state_directory());
    let made = place.init();
    assert!(made.status.success(), "{}", stderr(&made));
    let told = String::from_utf8_lossy(&made.stdout).into_owned();
    assert!(told.starts_with("node test of cluster test is made:\n"), "{told}");
    let disk2 = told.lines().find(|line| line.contains("/disk2,")).unwrap();
    assert!(disk2.contains("on the file system of") && disk2.contains("/disk1"), "{told}");
    let ledger = fs::read(place.path("state/epoch/log")).unwrap();

    let again = place.init();
    assert!(!again.status.success());
    assert!(stderr(&again).contains("there is a node in"), "{}", stderr(&again));
    assert_eq!(fs::read(place.path("state/epoch/log")).unwrap(), ledger, "nothing was changed");

    let mut node = Node::start_on(place.0.path());
    assert!(node.stop().success());
}

#[test]
fn a_disk_with_the_ledger_that_is_not_mounted_is_not_a_new_node() {
    let place = Place::with(NODE);
    assert!(place.init().status.success());
    fs::rename(place.path("disk1"), place.path("unmounted")).unwrap();
    fs::create_dir(place.path("disk1")).unwrap();

    let told = place.refuses();
    assert!(told.contains("see that its disk is mounted"), "{told}");
    assert_eq!(names(&place.path("disk1")), [] as [&str; 0]);

    fs::remove_dir(place.path("disk1")).unwrap();
    assert!(place.refuses().contains("see that its disk is mounted"));
    assert!(!place.path("disk1").exists());

    fs::rename(place.path("unmounted"), place.path("disk1")).unwrap();
    assert!(Node::start_on(place.0.path()).stop().success());
}

#[test]
fn a_node_none_of_whose_disks_is_mounted_does_not_start() {
    let place = Place::with(&with_state_directory());
    assert!(place.init().status.success());
    for name in ["disk1", "disk2"] {
        fs::rename(place.path(name), place.path(&format!("{name}-unmounted"))).unwrap();
        fs::create_dir(place.path(name)).unwrap();
    }
    let told = place.refuses();
    assert!(told.contains("none of the node's disks can be used"), "{told}");

    // without its table, it would not even know that it had any
    fs::remove_file(place.path("state/disks")).unwrap();
    let told = place.refuses();
    assert!(told.contains("the node has no disks") && told.contains("state/disks is missing"), "{told}");
    assert_eq!(names(&place.path("disk1")), [] as [&str; 0]);
    assert_eq!(names(&place.path("disk2")), [] as [&str; 0]);
}

#[test]
fn an_init_that_was_interrupted_is_ended_by_the_next() {
    let place = Place::with(&with_state_directory());
    assert!(place.init().status.success());
    // as it is when the ledger was made, and none of the disks
    fs::remove_file(place.path("state/disks")).unwrap();
    for name in ["disk1", "disk2"] {
        fs::remove_dir_all(place.path(name)).unwrap();
    }
    assert!(place.refuses().contains("the node has no disks"));
    let ended = place.init();
    assert!(ended.status.success(), "{}", stderr(&ended));
    assert!(Node::start_on(place.0.path()).stop().success());
}

#[test]
fn an_init_killed_while_it_makes_disks_leaves_no_node_that_starts() {
    if !available(&[Need::Program("strace")]) {
        return;
    }
    let place = Place::with(&with_state_directory());
    // when the table is there, and the stores are not
    let mut strace = Command::new("strace");
    strace.args([
        "-f",
        "-qqq",
        "-o",
        "/dev/null",
        "-e",
        "inject=rename,renameat,renameat2:signal=KILL:when=4",
        "--",
    ]);
    strace.arg(huntaway().get_program()).args(["init", "--config", &place.config()]);
    assert!(!strace.output().unwrap().status.success());
    assert!(place.path("state/disks").exists() && !place.path("disk2/objects").exists());

    fs::remove_dir_all(place.path("disk2")).unwrap();
    let told = place.refuses();
    assert!(told.contains("run `huntaway init` again"), "{told}");
    assert!(!place.path("disk2").exists());
    assert!(place.init().status.success());
    assert!(Node::start_on(place.0.path()).stop().success());
}

#[test]
fn an_init_that_is_refused_leaves_nothing_in_the_way_of_the_next() {
    let place = Place::with(&with_state_directory());
    fs::create_dir(place.path("disk2")).unwrap();
    fs::write(place.path("disk2/notes"), "mine").unwrap();
    let told = stderr(&place.init());
    assert!(told.contains("disk2 holds something (notes)"), "{told}");
    assert_eq!(place.names(), ["disk2", "huntaway.yaml"]);
    fs::remove_file(place.path("disk2/notes")).unwrap();
    assert!(place.init().status.success());
}

#[test]
fn what_a_node_keeps_is_for_its_user_alone() {
    let place = Place::with(&with_state_directory());
    assert!(place.init().status.success());
    assert!(Node::start_on(place.0.path()).stop().success());
    let mut find = Command::new("find");
    find.args(["state", "disk1", "disk2", "-perm", "/077"]).current_dir(&place.0);
    let found = String::from_utf8(find.output().unwrap().stdout).unwrap();
    assert_eq!(found, "");
}

#[test]
fn a_directory_that_holds_something_else_is_not_made_a_node() {
    let place = Place::with(NODE);
    fs::create_dir(place.path("disk1")).unwrap();
    fs::write(place.path("disk1/superblock"), "not one").unwrap();
    let told = stderr(&place.init());
    assert!(told.contains("disk1 holds something (superblock)"), "{told}");
    assert_eq!(fs::read_to_string(place.path("disk1/superblock")).unwrap(), "not one");
}

#[test]
fn a_wrong_configuration_is_told_and_nothing_is_made() {
    let place = Place::with(&NODE.replace("cluster:", "klaster:"));
    let told = stderr(&place.init());
    assert!(told.contains("unknown key `klaster`"), "{told}");
    assert_eq!(place.names(), ["huntaway.yaml"]);
}
