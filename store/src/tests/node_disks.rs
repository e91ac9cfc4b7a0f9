//! A node on several disks: where partitions go, and what a disk does to the others when it is gone.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use huntaway_wire::{
    Answer, Broken, ByteRange, Durability, Error, NodeId, ObjectRequest, Oid, Operation, Partition, Peer,
    Read, Reply, Request,
};
use prometheus::{Registry, TextEncoder};
use tempfile::TempDir;

use super::harness::{oid, options, partition, wait, write};
use crate::disk::FileDisk;
use crate::disk_table::{DiskEntry, DiskTable};
use crate::placement::{WeightedDisk, place as place_of};
use crate::superblock::BootId;
use crate::{
    DiskDirectory, DiskId, DiskState, DiskStopped, DisksError, LocalStore, NodeStore, NotAdded, NotRemoved,
    OpenError, StoreOptions,
};

/// Objects that the tests write: enough that every disk has some.
const OBJECTS: u32 = 24;

/// Directories of a node, in one that goes when it is dropped.
struct Place {
    scratch: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { scratch: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn given(&self, names: &[&str]) -> Vec<DiskDirectory> {
        names.iter().map(|name| DiskDirectory { path: self.path(name), weight: None }).collect()
    }

    fn try_open(&self, names: &[&str]) -> Result<NodeStore, OpenError> {
        self.try_open_with(names, options())
    }

    fn try_open_with(&self, names: &[&str], options: StoreOptions) -> Result<NodeStore, OpenError> {
        NodeStore::open(&self.path("state"), &self.given(names), options, &Registry::new())
    }

    fn open(&self, names: &[&str]) -> NodeStore {
        self.try_open(names).unwrap()
    }

    /// Makes the disks a, b and c and writes something to all of them.
    fn made() -> Self {
        let place = Self::new();
        let node = place.open(&["a", "b", "c"]);
        write_all(&node, 1);
        node.close().unwrap();
        place
    }

    /// What opening comes to when it must not succeed.
    fn refused(&self, names: &[&str]) -> OpenError {
        self.try_open(names).err().expect("it is refused")
    }

    /// The disk of `name` goes, and leaves its mount point.
    fn unmount(&self, name: &str) {
        fs::rename(self.path(name), self.path(&format!("{name}.away"))).unwrap();
        fs::create_dir(self.path(name)).unwrap();
    }

    fn mount(&self, name: &str) {
        fs::remove_dir(self.path(name)).unwrap();
        fs::rename(self.path(&format!("{name}.away")), self.path(name)).unwrap();
    }

    fn table(&self) -> DiskTable {
        DiskTable::load(&self.state()).unwrap().unwrap()
    }

    fn state(&self) -> FileDisk {
        FileDisk::new(self.path("state")).unwrap()
    }
}

fn ask(node: &NodeStore, oid: Oid, operation: Operation) -> Answer {
    let (partition, pepoch) = (partition(oid), node.pepoch(partition(oid)));
    wait(node.submit(Request::Object(ObjectRequest { partition, pepoch, oid, operation })))
}

fn put(node: &NodeStore, index: u32, byte: u8, durability: Durability) -> Answer {
    ask(node, oid(index), write(0, &[byte; 4096], durability))
}

fn write_all(node: &NodeStore, byte: u8) {
    for index in 0..OBJECTS {
        assert_eq!(put(node, index, byte, Durability::Logged), Ok(Reply::Done));
    }
}

/// The first byte of the object, read both ways.
fn byte(node: &NodeStore, index: u32) -> Result<u8, Error> {
    let oid = oid(index);
    let (partition, range) = (partition(oid), ByteRange::new(0, 4096).unwrap());
    let mut bytes = vec![0xee; 4096];
    let read = Read { partition, pepoch: node.pepoch(partition), oid, range };
    let at_once = node.read_now(&read, &mut bytes, None).map(|read| read.map(|()| bytes[0]));
    let submitted = ask(node, oid, Operation::Read { range }).map(|reply| match reply {
        Reply::Data(segments) => segments.concat()[0],
        other => panic!("{other:?} is no data"),
    });
    assert!(at_once.is_none_or(|at_once| at_once == submitted));
    submitted
}

fn flush(node: &NodeStore) -> Answer {
    wait(node.submit(Request::Flush))
}

/// The directory that holds the object.
fn directory_of(node: &NodeStore, index: u32) -> PathBuf {
    let disks = node.disks();
    let weighted: Vec<_> =
        disks.iter().map(|disk| WeightedDisk { disk: disk.id, weight: disk.weight }).collect();
    disks[place_of(partition(oid(index)), &weighted).unwrap()].directory.clone()
}

/// Objects on `directory`, and those elsewhere.
fn split(node: &NodeStore, directory: &Path) -> (Vec<u32>, Vec<u32>) {
    let (here, elsewhere): (Vec<u32>, Vec<u32>) =
        (0..OBJECTS).partition(|index| directory_of(node, *index) == directory);
    assert!(!here.is_empty() && !elsewhere.is_empty());
    (here, elsewhere)
}

fn failed(directory: &Path) -> Error {
    Broken::DiskFailed { disk: directory.display().to_string() }.into()
}

fn fail(node: &NodeStore, directory: &Path) {
    let disk = node.disks().iter().position(|disk| disk.directory == directory).unwrap();
    node.local(disk).unwrap().store().fail(&DiskStopped);
}

fn states(node: &NodeStore) -> Vec<(PathBuf, DiskState)> {
    node.disks().into_iter().map(|disk| (disk.directory, disk.state)).collect()
}

fn is_absent(node: &NodeStore, directory: &Path, why: &str) -> bool {
    let reason = node.disks().into_iter().find(|disk| disk.directory == directory).map(|disk| disk.state);
    matches!(&reason, Some(DiskState::Absent { reason }) if reason.contains(why))
}

#[test]
fn each_partition_is_on_the_disk_that_placement_names_and_on_no_other() {
    let place = Place::made();
    let node = place.open(&["a", "b", "c"]);
    for index in 0..OBJECTS {
        let file = |name: &str| {
            place.path(name).join(format!("objects/{}.1/{}", partition(oid(index)), oid(index))).exists()
        };
        for name in ["a", "b", "c"] {
            assert_eq!(file(name), directory_of(&node, index) == place.path(name), "{index} in {name}");
        }
        assert_eq!(byte(&node, index), Ok(1));
    }
    // Uuids and weights of which another program computed the placement (`placement_never_changes`).
    let ids = [1, 2, 0xab].map(|id| DiskId([id; 16]));
    let disks = [(ids[0], 100), (ids[1], 200), (ids[2], 400)];
    let weighted = disks.map(|(disk, weight)| WeightedDisk { disk, weight });
    let first = [0_u16, 1, 2, 3, 4].map(|p| place_of(Partition::new(p).unwrap(), &weighted));
    assert_eq!(first, [Some(2), Some(2), Some(1), Some(0), Some(1)]);
}

#[test]
fn weights_are_as_given_and_stay() {
    let place = Place::new();
    let open = |weights: [Option<u32>; 2]| {
        let given: Vec<_> = ["a", "b"].into_iter().zip(weights).collect();
        let given: Vec<_> = given
            .into_iter()
            .map(|(name, weight)| DiskDirectory { path: place.path(name), weight })
            .collect();
        NodeStore::open(&place.path("state"), &given, options(), &Registry::new())
    };
    assert!(matches!(open([Some(0); 2]).err(), Some(OpenError::Disks(DisksError::NoWeight))));
    let weights = |node: &NodeStore| node.disks().iter().map(|disk| disk.weight).collect::<Vec<_>>();
    assert_eq!(weights(&open([Some(7), Some(30)]).unwrap()), [7, 30]);
    assert_eq!(weights(&open([None, None]).unwrap()), [7, 30]);
    let error = open([None, Some(31)]).err().unwrap().to_string();
    assert!(error.contains("b has weight 30, not 31"), "{error}");
}

#[test]
fn a_node_that_gets_no_threads_closes_its_disks_one_after_the_other() {
    let place = Place::made();
    let node = place.open(&["a", "b", "c"]);
    write_all(&node, 2);
    fail(&node, &place.path("b"));
    let too_large_a_stack = || thread::Builder::new().stack_size(1 << 60);
    assert_eq!(node.close_by(too_large_a_stack).unwrap_err().directories, [place.path("b")]);
    let leaves_work = |disk| node.local(disk).unwrap().store().has_unapplied();
    assert_eq!([0, 1, 2].map(leaves_work), [false, true, false], "all but the one that failed");
}

#[test]
fn a_disk_that_fails_leaves_the_others_serving() {
    let place = Place::made();
    let node = place.open(&["a", "b", "c"]);
    let (here, elsewhere) = split(&node, &place.path("b"));
    fail(&node, &place.path("b"));
    for index in &here {
        assert_eq!(byte(&node, *index), Err(failed(&place.path("b"))));
        assert_eq!(put(&node, *index, 9, Durability::Logged), Err(failed(&place.path("b"))));
    }
    for index in &elsewhere {
        assert_eq!(byte(&node, *index), Ok(1));
        assert_eq!(put(&node, *index, 2, Durability::Stable), Ok(Reply::Done));
        assert_eq!(byte(&node, *index), Ok(2));
    }
    assert_eq!(flush(&node), Ok(Reply::Done), "the disk lacks nothing that was acknowledged");
    let expected = [DiskState::Serving, DiskState::Failed, DiskState::Serving];
    assert_eq!(states(&node).into_iter().map(|(_, state)| state).collect::<Vec<_>>(), expected);
    assert_eq!(node.close().unwrap_err().directories, [place.path("b")]);
    drop(node);
    let node = place.open(&["a", "b", "c"]);
    assert!(here.iter().all(|index| byte(&node, *index) == Ok(1)));
    assert!(elsewhere.iter().all(|index| byte(&node, *index) == Ok(2)));
}

#[test]
fn no_flush_succeeds_while_a_disk_that_failed_may_lack_writes() {
    let place = Place::made();
    let node = place.open(&["a", "b", "c"]);
    let (here, elsewhere) = split(&node, &place.path("b"));
    // Nobody asks for stable storage, and application is too late: the log is not synced before the disk fails.
    let disk = node.disks().iter().position(|disk| disk.directory == place.path("b")).unwrap();
    let store = node.local(disk).unwrap().store();
    let applying = crate::locking::lock(&store.applying);
    assert_eq!(put(&node, here[0], 3, Durability::Logged), Ok(Reply::Done));
    fail(&node, &place.path("b"));
    drop(applying);
    for _ in 0..2 {
        assert_eq!(flush(&node), Err(failed(&place.path("b"))));
    }
    // What asks for stable storage of other disks gets it.
    assert_eq!(put(&node, elsewhere[0], 4, Durability::Stable), Ok(Reply::Done));
    drop(node);
    let node = place.open(&["a", "b", "c"]);
    assert_eq!(flush(&node), Ok(Reply::Done), "the disk is back with all it had");
    assert_eq!(byte(&node, here[0]), Ok(3));
}

#[test]
fn a_flush_waits_for_all_disks() {
    let place = Place::made();
    let node = place.open(&["a", "b", "c"]);
    write_all(&node, 5);
    assert_eq!(flush(&node), Ok(Reply::Done));
    for disk in 0..3 {
        assert!(!node.local(disk).unwrap().store().is_unflushed());
    }
}

#[test]
fn an_empty_mount_point_is_an_absent_disk_and_stays_empty() {
    let place = Place::made();
    place.unmount("c");
    let node = place.open(&["a", "b", "c"]);
    assert!(is_absent(&node, &place.path("c"), "is the disk mounted?"), "{:?}", states(&node));
    let (here, elsewhere) = split(&node, &place.path("c"));
    for index in &here {
        assert_eq!(byte(&node, *index), Err(failed(&place.path("c"))));
    }
    for index in &elsewhere {
        assert_eq!(put(&node, *index, 2, Durability::Logged), Ok(Reply::Done));
    }
    assert_eq!(flush(&node), Ok(Reply::Done), "it was closed: it lacks nothing");
    node.close().unwrap();
    drop(node);
    assert_eq!(fs::read_dir(place.path("c")).unwrap().count(), 0);
    place.mount("c");
    let node = place.open(&["a", "b", "c"]);
    assert!(here.iter().all(|index| byte(&node, *index) == Ok(1)));
    assert!(elsewhere.iter().all(|index| byte(&node, *index) == Ok(2)));
}

#[test]
fn a_disk_that_is_absent_since_it_was_in_use_stands_in_the_way_of_flushes_until_the_next_boot() {
    let place = Place::made();
    let open = |boot: u8| {
        let options = StoreOptions { boot: BootId([boot; 16]), ..options() };
        place.try_open_with(&["a", "b", "c"], options).unwrap()
    };
    let node = open(1);
    write_all(&node, 2);
    drop(node);
    place.unmount("c");
    for _ in 0..2 {
        let node = open(1);
        assert_eq!(flush(&node), Err(failed(&place.path("c"))));
        node.close().unwrap();
    }
    assert_eq!(flush(&open(2)), Ok(Reply::Done), "a power loss may have taken what it lacks");
    assert_eq!(flush(&open(2)), Ok(Reply::Done));
    place.mount("c");
    let node = open(2);
    assert!((0..OBJECTS).all(|index| byte(&node, index) == Ok(2)));
}

#[test]
fn disks_are_known_wherever_they_are() {
    let place = Place::made();
    for (from, to) in [("a", "x"), ("b", "a"), ("x", "b")] {
        fs::rename(place.path(from), place.path(to)).unwrap();
    }
    fs::rename(place.path("c"), place.path("elsewhere")).unwrap();
    let node = place.open(&["elsewhere", "b", "a"]);
    assert!((0..OBJECTS).all(|index| byte(&node, index) == Ok(1)));
    let directories: Vec<_> = states(&node).into_iter().map(|(directory, _)| directory).collect();
    assert_eq!(directories, [place.path("b"), place.path("a"), place.path("elsewhere")]);
}

#[test]
fn other_directories_than_the_disks_are_refused_with_a_cure() {
    let place = Place::made();
    let told = |names: &[&str]| place.refused(names).in_full();
    let added = told(&["a", "b", "c", "d"]);
    assert!(added.contains("the node has 3 disks, but 4") && added.contains("/d out again"), "{added}");
    assert!(!place.path("d").exists(), "nothing was made");
    let removed = told(&["a", "b"]);
    assert!(
        removed.contains("the node has 3 disks, but 2") && removed.contains("name them all"),
        "{removed}"
    );
    let twice = told(&["a", "b", "c/../b"]);
    assert!(twice.contains("are the same directory"), "{twice}");
    let none = place.refused(&[]);
    assert!(matches!(none, OpenError::Disks(DisksError::Count { given: 0 })), "{none:?}");

    fs::create_dir(place.path("copy")).unwrap();
    fs::copy(place.path("a/superblock"), place.path("copy/superblock")).unwrap();
    let copied = told(&["a", "b", "copy"]);
    assert!(copied.contains("one is a copy of the other"), "{copied}");

    let stranger = LocalStore::open(&place.path("stranger"), options(), &Registry::new()).unwrap();
    stranger.close().unwrap();
    drop(stranger);
    let other = told(&["a", "b", "stranger"]);
    assert!(other.contains("none of this node's 3 disks"), "{other}");
    drop(place.open(&["a", "b", "c"]));
}

#[test]
fn a_disk_of_another_node_or_in_use_is_refused() {
    let place = Place::made();
    let theirs = StoreOptions { node: NodeId([7; 16]), ..options() };
    drop(LocalStore::open(&place.path("theirs"), theirs.clone(), &Registry::new()).unwrap());
    let told = place.refused(&["a", "b", "theirs"]).in_full();
    assert!(told.contains("theirs") && told.contains("belongs to node"), "{told}");
    let other = place.try_open_with(&["a", "b", "c"], theirs).err();
    assert!(matches!(other, Some(OpenError::OtherNode { .. })), "{other:?}");

    let used = LocalStore::open(&place.path("b"), options(), &Registry::new()).unwrap();
    let told = place.refused(&["a", "b", "c"]).in_full();
    assert!(told.contains("in use by another process"), "{told}");
    drop(used);
    drop(place.open(&["a", "b", "c"]));
}

#[test]
fn a_damaged_disk_is_absent_and_says_why() {
    for (name, what, why) in [
        ("b", "superblock", "the superblock is damaged"),
        ("b", "partitions", "partitions"),
        ("c", "wal/released", "wal/released"),
    ] {
        let place = Place::made();
        let length = fs::metadata(place.path(name).join(what)).unwrap().len();
        fs::write(place.path(name).join(what), vec![0xa5; length as usize]).unwrap();
        let node = place.open(&["a", "b", "c"]);
        assert!(is_absent(&node, &place.path(name), why), "{what}: {:?}", states(&node));
        let (here, elsewhere) = split(&node, &place.path(name));
        assert!(here.iter().all(|index| byte(&node, *index) == Err(failed(&place.path(name)))));
        assert!(elsewhere.iter().all(|index| byte(&node, *index) == Ok(1)));
    }
    let place = Place::made();
    fs::remove_file(place.path("a/superblock")).unwrap();
    assert!(is_absent(&place.open(&["a", "b", "c"]), &place.path("a"), "the superblock is missing"));
    fs::remove_dir_all(place.path("b")).unwrap();
    fs::remove_dir_all(place.path("c")).unwrap();
    let told = place.refused(&["a", "b", "c"]).in_full();
    assert!(told.starts_with("none of the node's disks can be used: ") && told.contains("/c: "), "{told}");
    assert!(!place.path("c").exists());
}

#[test]
fn a_store_from_before_tables_gets_one() {
    let place = Place::new();
    let store = LocalStore::open(&place.path("a"), options(), &Registry::new()).unwrap();
    let id = store.store().superblock().disk;
    store.close().unwrap();
    drop(store);
    let told = place.refused(&["a", "b"]).in_full();
    assert!(told.contains("holds the only disk of a node"), "{told}");
    let node = place.open(&["a"]);
    write_all(&node, 4);
    node.close().unwrap();
    drop(node);
    assert_eq!(place.table().disks.iter().map(|disk| disk.id).collect::<Vec<_>>(), [id]);
    let node = place.open(&["a"]);
    assert!((0..OBJECTS).all(|index| byte(&node, index) == Ok(4)));
}

#[test]
fn without_its_table_one_of_several_disks_is_not_served() {
    let place = Place::made();
    fs::remove_file(place.path("state/disks")).unwrap();
    for names in [&["a"][..], &["a", "b", "c"]] {
        let told = place.refused(names).in_full();
        assert!(told.contains("is one of 3 disks of a node, but"), "{told}");
    }
    fs::write(place.path("state/disks"), b"HNTWDSKS").unwrap();
    let told = place.refused(&["a", "b", "c"]).in_full();
    assert!(told.contains("state/disks cannot be used: it is damaged"), "{told}");
}

#[test]
fn a_first_start_that_was_interrupted_is_gone_on_with() {
    // All that a crash leaves: the table of phase 1, and any of the stores, made or begun.
    for made in [&[][..], &["a"], &["a", "b"]] {
        let place = Place::new();
        fs::create_dir(place.path("state")).unwrap();
        let entry = |id| DiskEntry::new(DiskId([id; 16]), 1);
        let (node, boot) = (options().node, BootId([0; 16]));
        let disks = vec![entry(1), entry(2)];
        let table = DiskTable { node, boot, is_complete: false, disks, routes: None };
        table.store(&place.state()).unwrap();
        for (id, name) in (1..).zip(made) {
            let options = StoreOptions { new_disk: DiskId([id; 16]), disks: 2, ..options() };
            drop(LocalStore::open(&place.path(name), options, &Registry::new()).unwrap());
        }
        let node = place.open(&["a", "b"]);
        write_all(&node, 6);
        drop(node);
        let table = place.table();
        assert!(table.is_complete);
        for (id, entry) in (1..).zip(&table.disks) {
            // An earlier uuid is not given again: its disk may be elsewhere.
            assert_eq!(entry.id == DiskId([id; 16]), usize::from(id) <= made.len());
        }
        let node = place.open(&["a", "b"]);
        assert!((0..OBJECTS).all(|index| byte(&node, index) == Ok(6)));
    }
}

#[test]
fn a_directory_that_holds_something_else_is_found_before_anything_is_made() {
    let place = Place::new();
    fs::create_dir(place.path("b")).unwrap();
    fs::write(place.path("b/letter"), "dear").unwrap();
    let told = place.refused(&["a", "b"]).in_full();
    assert!(told.contains("/b: the directory holds something (letter)"), "{told}");
    assert!(!place.path("a/superblock").exists() && !place.path("state/disks").exists());
    drop(place.open(&["a"]));
}

#[test]
fn a_check_of_one_of_several_disks_says_so() {
    let place = Place::made();
    let report = crate::check::check(&place.path("b")).unwrap();
    assert!(report.is_sound(), "{report}");
    let told = report.to_string();
    assert!(told.starts_with("note: this is one of 3 disks of its node: check the others, too\n"), "{told}");
}

#[test]
fn metrics_tell_the_disks_apart_in_one_family_each() {
    let place = Place::made();
    place.unmount("c");
    let registry = Registry::new();
    let given = place.given(&["a", "b", "c"]);
    let node = NodeStore::open(&place.path("state"), &given, options(), &registry).unwrap();
    fail(&node, &place.path("b"));
    let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    let mut families: Vec<&str> = text.lines().filter(|line| line.starts_with("# HELP")).collect();
    let count = families.len();
    families.dedup();
    families.sort_unstable();
    families.dedup();
    assert_eq!((families.len(), count), (18, 18), "{text}");
    for (name, value) in [("a", 0), ("b", 1), ("c", 1)] {
        let line = format!("huntaway_store_disk_failed{{disk=\"{}\"}} {value}", place.path(name).display());
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
}

#[test]
fn a_disk_leaves_once_and_not_the_last_one_and_may_stay_after_all() {
    let place = Place::made();
    let node = place.open(&["a", "b", "c"]);
    let number =
        |name: &str| node.disks().iter().position(|disk| disk.directory == place.path(name)).unwrap();
    let no_spare = node.remove(&place.path("a"), (2, 2));
    assert!(matches!(no_spare, Err(NotRemoved::NoSpare { copies: 2, min_copies: 2 })));
    for name in ["a", "b", "a", "b"] {
        assert_eq!(
            node.remove(&place.path(name), (3, 2)).unwrap(),
            number(name),
            "also if it leaves already"
        );
    }
    assert!(matches!(node.remove(&place.path("c"), (3, 2)), Err(NotRemoved::Only)));
    let on = |name: &str| Partition::all().find(|at| node.number_of(*at) == number(name)).unwrap();
    let (of_a, of_c) = (on("a"), on("c"));
    assert_eq!(node.instead(of_a, |_| true), Some(number("c")));
    assert_eq!(node.instead(of_c, |_| true), None, "it works, and stays");
    fail(&node, &place.path("c"));
    assert!([Some(number("a")), Some(number("b"))].contains(&node.instead(of_c, |_| true)));
    assert_eq!(node.instead(of_a, |_| true), None, "it is on a disk that works");
    assert_eq!(node.keep(&place.path("a")).unwrap(), number("a"));
    assert_eq!(node.instead(of_c, |_| true), Some(number("a")));
    drop(node);
    let leaves: Vec<bool> = place.open(&["a", "b", "c"]).disks().iter().map(|disk| disk.leaves).collect();
    assert_eq!(leaves.iter().filter(|leaves| **leaves).count(), 1);
}

#[test]
fn what_comes_to_a_disk_that_is_added_is_its_share_and_nothing_else_moves() {
    let place = Place::made();
    let node = place.open(&["a", "b", "c"]);
    let before: Vec<usize> = Partition::all().map(|at| node.number_of(at)).collect();
    let given = |name: &str, weight| DiskDirectory { path: place.path(name), weight };
    let add = |name, weight, copies| node.add(&given(name, weight), copies, |_| Ok(()));
    assert!(matches!(add("a", None, (3, 2)), Err(NotAdded::Known)));
    assert!(matches!(add("d", None, (2, 2)), Err(NotAdded::NoSpare { .. })));
    assert!(matches!(add("d", Some(0), (3, 2)), Err(NotAdded::NoWeight)));
    fs::create_dir(place.path("d")).unwrap();
    fs::write(place.path("d").join("mine"), "data").unwrap();
    let full = add("d", None, (3, 2)).unwrap_err().to_string();
    assert!(full.contains("holds something (mine)"), "{full}");
    fs::remove_file(place.path("d").join("mine")).unwrap();
    assert!(!node.is_filling());

    assert_eq!(add("d", None, (3, 2)).unwrap(), 3);
    assert!(node.is_filling());
    let (coming, staying): (Vec<Partition>, Vec<Partition>) =
        Partition::all().partition(|at| node.fills(*at) == Some(3));
    assert!((900..1150).contains(&coming.len()), "a fourth: {}", coming.len());
    assert!(staying.iter().all(|at| node.fills(*at).is_none()));
    // While nothing is on it, it need not be there; then it has to.
    node.close().unwrap();
    drop(node);
    assert_eq!(place.open(&["a", "b", "c"]).disks().len(), 3);
    fs::remove_dir_all(place.path("d")).unwrap();
    let node = place.open(&["a", "b", "c"]);
    assert_eq!(node.add(&given("d", None), (3, 2), |_| Ok(())).unwrap(), 3);
    let coming: Vec<Partition> = Partition::all().filter(|at| node.fills(*at).is_some()).collect();
    node.reroute(&coming, 3).unwrap();
    node.are_filled().unwrap();
    for at in Partition::all() {
        assert_eq!(node.number_of(at), if coming.contains(&at) { 3 } else { before[at.index()] });
    }
    node.close().unwrap();
    drop(node);
    let refused = place.refused(&["a", "b", "c"]).to_string();
    assert!(refused.contains("the node has 4 disks, but 3 data directories are given"), "{refused}");
    let node = place.open(&["a", "b", "c", "d"]);
    assert!(!node.is_filling());
    assert!(coming.iter().all(|at| node.number_of(*at) == 3));
}
