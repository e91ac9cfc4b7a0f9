//! Several nodes at work: they are killed, hang, stop and come back, alone and together, and disks are lost or damaged. Whatever
//! initiators see meanwhile of each block is what one disk would show, and in the end all copies are whole, and the same.

mod support;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use huntaway_judge::Random;
use rustix::process::Signal;
use serde_json::Value;
use support::cluster::{Nodes, copy};
use support::demo::{huntaway, refused};
use support::load;
use support::multipath::{
    BLOCK_BYTES, MOST_BLOCKS, Multipath, OBJECT_BLOCKS, OBJECTS, Seen, UNIT_ATTENTION, judge, work_during,
};
use support::needs::{Need, available, skip};
use support::script::break_log;
use support::wait;
use tempfile::TempDir;

const NODES: u8 = 3;
/// Time for small things.
const LIMIT: Duration = Duration::from_secs(30);
/// Initiators that work while something happens.
const INITIATORS: usize = 4;
/// How long who waits for a node that hangs does so.
const GIVES_UP_AFTER: Duration = Duration::from_millis(1500);
/// How long it is waited for a write that is not to be acknowledged.
const NOT_ACKNOWLEDGED_FOR: Duration = Duration::from_secs(2);
/// A node that dies is missed later than that: it might hold a lease of 600 ms, of which a quarter has passed perhaps.
const SOON: Duration = Duration::from_millis(350);

/// A demo, and what was seen of its disk so far.
struct Cluster {
    nodes: Nodes,
    scratch: TempDir,
    began: Instant,
    initiators: u64,
    seen: Vec<Seen>,
}

impl Cluster {
    fn start() -> Self {
        let scratch = tempfile::tempdir().expect("a temporary directory can be made");
        let nodes = Nodes::start(NODES, &scratch.path().join("data"));
        Self { nodes, scratch, began: Instant::now(), initiators: 0, seen: Vec::new() }
    }

    /// Starts it again, in the same directory.
    fn start_again(self) -> Self {
        let Self { nodes, scratch, began, initiators, seen } = self;
        drop(nodes);
        let nodes = Nodes::start(NODES, &scratch.path().join("data"));
        Self { nodes, scratch, began, initiators, seen }
    }

    fn initiator(&mut self, through: &[u8]) -> Multipath {
        self.initiators += 1;
        let portals: Vec<String> = through.iter().map(|node| self.nodes.portal(*node).to_owned()).collect();
        let target = self.nodes.demo().target();
        Multipath::new(self.initiators, target, &portals, Random::new(self.initiators), self.began)
    }

    /// Has this happen while initiators work and see no error, with paths through these nodes. Returns the longest time that a
    /// command took.
    fn under_load(&mut self, through: &[u8], happens: impl FnOnce(&Nodes)) -> Duration {
        let mut initiators: Vec<Multipath> = (0..INITIATORS).map(|_| self.initiator(through)).collect();
        work_during(&mut initiators, || happens(&self.nodes));
        let slowest = initiators.iter().map(|initiator| initiator.ends.slowest).max();
        let done: u64 = initiators.iter().map(|initiator| initiator.ends.done).sum();
        println!("  {done} commands, the slowest took {slowest:?}");
        let failed = initiators.iter().flat_map(|initiator| &initiator.ends.failed);
        let errors: Vec<_> = failed.filter(|(sense, _)| sense.0 != UNIT_ATTENTION).collect();
        assert!(errors.is_empty(), "by sense key, code and qualifier: {errors:?}");
        self.seen.extend(initiators.into_iter().map(|initiator| initiator.seen));
        slowest.unwrap_or_default()
    }

    /// A block of each object that the node leads, that is not worked on, and for each an initiator with a session there.
    fn at_home(&mut self, node: u8) -> (Vec<u64>, Vec<Multipath>) {
        let led = self.nodes.copies().into_iter().filter(|copies| copies.nodes.first() == Some(&node));
        let blocks: Vec<u64> = led.map(|copies| copies.number * OBJECT_BLOCKS + MOST_BLOCKS).collect();
        let mut initiators: Vec<Multipath> = blocks.iter().map(|_| self.initiator(&[node])).collect();
        for (initiator, block) in initiators.iter_mut().zip(&blocks) {
            initiator.answered_within = Some(GIVES_UP_AFTER);
            initiator.write(*block, 1);
        }
        (blocks, initiators)
    }

    /// Writes some blocks of every object, with paths through these nodes.
    fn write(&mut self, through: &[u8]) {
        let mut initiator = self.initiator(through);
        (0..OBJECTS).for_each(|object| initiator.write(object * OBJECT_BLOCKS, 3));
        self.seen.push(initiator.seen);
    }

    /// Reads all through each of these nodes alone: everything that was ever seen makes sense.
    fn read(&mut self, through: &[u8]) {
        for node in through {
            let mut initiator = self.initiator(&[*node]);
            initiator.read_all();
            self.seen.push(initiator.seen);
        }
        judge(&self.seen);
    }

    /// All nodes run, all copies are whole, and each gateway shows the same.
    fn is_healed(&mut self) {
        self.nodes.until_healthy();
        self.read(&[1, 2, 3]);
    }

    /// The same, and all stop, and all copies are the same on their disks.
    fn ends_well(mut self) -> Self {
        self.is_healed();
        let copies = self.nodes.copies();
        self.nodes.stop();
        self.nodes.compare(&copies);
        self
    }

    /// What it logged contains all of this.
    fn has_logged(&self, words: &[&str]) {
        let log = self.nodes.demo().log();
        assert!(words.iter().all(|word| log.contains(word)), "{words:?} are not in:\n{log}");
    }
}

/// What happens to a cluster, and that it is well after it.
fn scene(happens: fn(&mut Cluster)) {
    let mut cluster = Cluster::start();
    cluster.write(&[1, 2, 3]);
    happens(&mut cluster);
    cluster.ends_well();
}

macro_rules! scenes {
    ($($scene:ident,)*) => {
        mod scenes {
            $(
                #[test]
                fn $scene() {
                    super::scene(super::$scene);
                }
            )*
        }
    };
}

scenes! {
    each_node_is_killed,
    nodes_go_one_at_a_time_down_to_min_copies_and_below,
    two_nodes_are_killed_together,
    a_node_hangs,
    two_nodes_hang,
    a_node_hangs_and_all_die,
    a_node_stops_in_order,
    all_nodes_are_killed_and_start_in_any_order,
    the_disk_of_a_node_fails,
    sources_of_recovery_hang,
    an_old_copy_of_a_disk_comes_back,
    a_bit_of_each_copy_is_flipped_in_turn,
}

fn each_node_is_killed(cluster: &mut Cluster) {
    for (killed, others) in [(1, [2, 3]), (2, [1, 3]), (3, [1, 2])] {
        cluster.under_load(&[1, 2, 3], |nodes| {
            pause(500);
            nodes.have("kill", killed);
            pause(1000);
        });
        cluster.write(&others);
        cluster.read(&others);
        cluster.under_load(&[1, 2, 3], |nodes| {
            nodes.have("start", killed);
            nodes.until_healthy();
        });
    }
}

/// Longer than it takes others to take the place of who hangs.
const HANGS_FOR_MS: u64 = 4000;

/// Writes lie in the buffers of its gateway, and when it goes on, their initiators have written something else elsewhere.
fn a_node_hangs(cluster: &mut Cluster) {
    for (node, others) in [(1, [2, 3]), (2, [1, 3])] {
        let (blocks, mut initiators) = cluster.at_home(node);
        let mut elsewhere: Vec<Multipath> = blocks.iter().map(|_| cluster.initiator(&others)).collect();
        cluster.under_load(&[1, 2, 3], |nodes| {
            pause(500);
            nodes.have("pause", node);
            thread::scope(|scope| {
                for ((initiator, other), block) in initiators.iter_mut().zip(&mut elsewhere).zip(&blocks) {
                    scope.spawn(|| {
                        initiator.try_write(*block, 1, SOON);
                        other.write(*block, 1);
                    });
                }
            });
            nodes.have("start", node);
            pause(1000);
        });
        cluster.seen.extend(initiators.into_iter().chain(elsewhere).map(|initiator| initiator.seen));
        cluster.read(&others);
    }
}

fn two_nodes_hang(cluster: &mut Cluster) {
    cluster.under_load(&[1, 2, 3], |nodes| {
        pause(500);
        nodes.have("pause", 1);
        nodes.have("pause", 2);
        pause(HANGS_FOR_MS);
        nodes.have("start", 1);
        pause(1500);
        nodes.have("start", 2);
        pause(1500);
    });
}

/// What it did not get was not acknowledged: when it comes back, there is nobody to ask.
fn a_node_hangs_and_all_die(cluster: &mut Cluster) {
    for (hanging, other) in [(1, 2), (3, 1)] {
        let (blocks, mut initiators) = cluster.at_home(other);
        cluster.nodes.signal(hanging, Signal::STOP);
        // It is not missed yet.
        thread::scope(|scope| {
            for (initiator, block) in initiators.iter_mut().zip(&blocks) {
                scope.spawn(|| initiator.try_write(*block, 1, SOON));
            }
            thread::sleep(SOON);
            cluster.nodes.kill(&[1, 2, 3]);
        });
        cluster.seen.extend(initiators.into_iter().map(|initiator| initiator.seen));
        cluster.nodes.have("start", hanging);
        cluster.read(&[hanging]);
        cluster
            .nodes
            .numbers()
            .filter(|node| *node != hanging)
            .for_each(|node| cluster.nodes.have("start", node));
        cluster.nodes.until_healthy();
    }
}

fn nodes_go_one_at_a_time_down_to_min_copies_and_below(cluster: &mut Cluster) {
    cluster.nodes.have("kill", 3);
    cluster.nodes.until_health(1, "degraded");
    cluster.write(&[1, 2]);
    cluster.read(&[1, 2]);
    cluster.nodes.have("kill", 2);
    cluster.nodes.until_health(1, "partitions-down");
    // One copy alone is read, and takes no writes.
    cluster.read(&[1]);
    let mut initiator = cluster.initiator(&[1]);
    initiator.answered_within = Some(NOT_ACKNOWLEDGED_FOR);
    let was_written = initiator.try_write(0, 2, NOT_ACKNOWLEDGED_FOR);
    cluster.seen.push(initiator.seen);
    assert!(!was_written, "a write was acknowledged with fewer copies than min_copies");
    cluster.read(&[1]);
    cluster.nodes.have("start", 2);
    cluster.write(&[1, 2]);
    cluster.read(&[1, 2]);
    cluster.nodes.have("start", 3);
}

fn two_nodes_are_killed_together(cluster: &mut Cluster) {
    for (together, other) in [([1, 2], 3), ([3, 1], 2)] {
        cluster.under_load(&[1, 2, 3], |nodes| {
            pause(500);
            // Both at one moment, as when what they share fails.
            nodes.kill(&together);
            pause(1500);
            nodes.have("start", together[0]);
        });
        // Two have everything, and the third may have been the first to serve.
        cluster.write(&[other, together[0]]);
        cluster.read(&[other, together[0]]);
        cluster.nodes.have("start", together[1]);
        cluster.nodes.until_healthy();
    }
}

fn all_nodes_are_killed_and_start_in_any_order(cluster: &mut Cluster) {
    let mut random = Random::new(now_micros());
    for _ in 0..2 {
        let mut order = vec![1, 2, 3];
        let order: Vec<u8> = (0..NODES).map(|_| order.swap_remove(random.index(order.len()))).collect();
        println!("  they start in the order {order:?}");
        cluster.under_load(&[1, 2, 3], |nodes| {
            pause(500);
            nodes.kill(&order);
            order.iter().for_each(|node| nodes.have("start", *node));
            nodes.until_healthy();
        });
    }
}

/// Nobody waits until a node that stops in order is missed: its end is a record before its process has ended.
fn a_node_stops_in_order(cluster: &mut Cluster) {
    for (stopped, others) in [(1, [2, 3]), (2, [1, 3]), (3, [1, 2])] {
        cluster.under_load(&others, |nodes| {
            pause(500);
            nodes.stop_one(stopped);
            let name = format!("node-{stopped}");
            let is_down = || {
                let status = nodes.status(others[0])?;
                let mut nodes = status["nodes"].as_array()?.iter();
                nodes.any(|node| node["name"] == name && node["is_up"] == false).then_some(())
            };
            wait::until("others to know that a node has stopped", SOON, is_down);
            pause(500);
        });
        cluster.nodes.have("start", stopped);
        cluster.nodes.until_healthy();
    }
}

fn pause(milliseconds: u64) {
    thread::sleep(Duration::from_millis(milliseconds));
}

fn now_micros() -> u64 {
    std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_micros() as u64)
}

/// It is not copied all of its objects anew: tens of times as much.
#[test]
fn a_node_that_was_away_is_copied_what_was_written_meanwhile() {
    let cluster = Cluster::start();
    let (nodes, others) = (&cluster.nodes, [1, 2]);
    let work = |mode: &str, seconds: f64| {
        let report = load::run(load::on(nodes.demo(), 0, mode, seconds));
        assert_eq!((report.errors, report.wrong, report.lost), (0, 0, false), "{mode}: {report:?}");
        report.ios
    };
    work("mode=write,size=1MiB,depth=4", 3.0);
    nodes.until_healthy();
    let copied_bytes = || {
        let recoveries = others.map(|node| nodes.status(node).expect("it answers")["recovery"].clone());
        recoveries.iter().map(|recovery| recovery["bytes_copied"].as_u64().expect("a number")).sum::<u64>()
    };
    let before = copied_bytes();
    nodes.have("kill", 3);
    let written_bytes = BLOCK_BYTES as u64 * work("mode=randwrite,size=4KiB,depth=4", 2.0);
    nodes.have("start", 3);
    nodes.until_healthy();
    let copied_bytes = copied_bytes() - before;
    println!("{written_bytes} bytes were written, {copied_bytes} copied");
    assert!(copied_bytes > 0 && 10 * copied_bytes <= 11 * written_bytes);
}

#[test]
fn started_again_they_find_the_data() {
    let mut cluster = Cluster::start();
    cluster.write(&[1, 2, 3]);
    let mut cluster = cluster.ends_well().start_again();
    cluster.read(&[1, 2, 3]);

    cluster.write(&[2]);
    cluster.nodes.kill_all();
    cluster.start_again().ends_well();
}

#[test]
fn a_directory_has_one_demo_and_nodes_that_are_not_there_are_told() {
    let cluster = Cluster::start();
    let directory = cluster.scratch.path().join("data").display().to_string();
    let again = ["--listen", "127.0.0.1:0"].repeat(3);
    let arguments = ["demo", "--nodes", "3", "--json", "--dir", &directory];
    let said = refused(arguments.iter().chain(&again));
    assert!(said.contains(&directory), "{said}");

    for (action, node, word) in [
        ("kill", 9, "there are nodes 1, 2, 3 "),
        ("pause", 0, "there are nodes 1, 2, 3 "),
        ("start", 2, "node 2 runs already"),
    ] {
        let said = cluster.nodes.ask(action, node).unwrap_err();
        assert!(said.contains(word), "{action} {node}: {said}");
    }
    cluster.nodes.have("kill", 2);
    for action in ["kill", "pause"] {
        let said = cluster.nodes.ask(action, 2).unwrap_err();
        assert!(said.contains("node 2 does not run"), "{action}: {said}");
    }
    cluster.nodes.have("start", 2);
}

/// What a disk has that fails is not asked for again, by nobody, until its node starts again.
fn the_disk_of_a_node_fails(cluster: &mut Cluster) {
    if !available(&[Need::Program("strace")]) {
        return;
    }
    for node in [1, 3] {
        let others: Vec<u8> = cluster.nodes.numbers().filter(|other| *other != node).collect();
        let pid = cluster.nodes.pid(node).expect("it runs").as_raw_pid();
        let disk = fs::canonicalize(cluster.nodes.directory(node).join("disk")).expect("it is there");
        let mut pulled = None;
        cluster.under_load(&[1, 2, 3], |nodes| {
            pause(300);
            pulled = break_log(pid, &disk);
            if pulled.is_some() {
                nodes.until_health(others[0], "degraded");
                pause(500);
            }
        });
        if pulled.is_none() {
            return;
        }
        let told = cluster.nodes.told(&["status", "--explain"]);
        assert!(told.contains(&format!(" of node-{node} on a disk that failed")), "{told}");
        // The gateway of that node goes on, with what others have.
        cluster.write(&[node]);
        cluster.read(&[node]);
        drop(pulled);
        cluster.write(&others);
        cluster.nodes.stop_one(node);
        cluster.nodes.have("start", node);
        cluster.nodes.until_healthy();
    }
}

fn sources_of_recovery_hang(cluster: &mut Cluster) {
    cluster.nodes.have("kill", 3);
    cluster.under_load(&[1, 2], |_| pause(2000));
    cluster.nodes.told(&["recovery", "limit", "256KiB"]);
    cluster.nodes.have("start", 3);
    let is_left = |status: Value| status["recovery"]["partitions_left"].as_u64() > Some(0);
    let is_learning =
        || [1, 2].iter().any(|node| cluster.nodes.status(*node).is_some_and(is_left)).then_some(());
    wait::until("a node to learn", LIMIT, is_learning);
    [1, 2].iter().for_each(|node| _ = cluster.nodes.signal(*node, Signal::STOP));
    pause(10_000);
    [1, 2].iter().for_each(|node| _ = cluster.nodes.signal(*node, Signal::CONT));
    cluster.write(&[1, 2]);
    cluster.nodes.told(&["recovery", "limit", "1GiB"]);
}

/// What was acknowledged was on stable storage of all, or in memory that nobody has any more; what is left is one disk again.
#[test]
fn all_nodes_lose_power() {
    if !available(&[Need::Root, Need::Program("unshare")]) {
        return;
    }
    if !std::process::Command::new("unshare")
        .args(["--mount", "true"])
        .status()
        .is_ok_and(|made| made.success())
    {
        return skip("mount namespaces cannot be made here");
    }
    let mut cluster = Cluster::start();
    cluster.write(&[1, 2, 3]);
    cluster.under_load(&[1, 2, 3], |_| pause(1000));
    let Cluster { mut nodes, scratch, began, initiators, seen } = cluster;
    nodes.kill_all();
    let directory = nodes.demo().directory().to_owned();
    drop(nodes);
    let nodes = Nodes::start_after_power_loss(NODES, &directory);
    let mut cluster = Cluster { nodes, scratch, began, initiators, seen };
    cluster.is_healed();
    let log = cluster.nodes.demo().log();
    assert!(log.matches("memory=Stable").count() >= usize::from(NODES), "{log}");
    cluster.under_load(&[1, 2, 3], |_| pause(500));
    cluster.ends_well();
}

fn an_old_copy_of_a_disk_comes_back(cluster: &mut Cluster) {
    cluster.nodes.have("kill", 2);
    let (now, old) = (cluster.nodes.directory(2), cluster.scratch.path().join("old"));
    copy(&now, &old);
    cluster.nodes.have("start", 2);
    cluster.is_healed();
    cluster.write(&[1, 2, 3]);
    cluster.nodes.have("kill", 2);
    fs::remove_dir_all(&now).expect("it can be removed");
    copy(&old, &now);
    cluster.nodes.have("start", 2);
    cluster.is_healed();
    // What the old copy has by now is all there is, but for one more.
    cluster.nodes.have("kill", 1);
    cluster.read(&[2, 3]);
    cluster.nodes.have("start", 1);
}

fn a_bit_of_each_copy_is_flipped_in_turn(cluster: &mut Cluster) {
    cluster.nodes.until_healthy();
    let (is_well, found) = cluster.nodes.verify();
    assert!(is_well, "{found:#}");
    assert_eq!((&found["compared"], &found["differing_blocks"]), (&4096.into(), &0.into()), "{found:#}");
    assert!(found["objects"].as_u64() >= Some(OBJECTS), "{found:#}");
    for node in cluster.nodes.numbers() {
        let flipped = flip_all(cluster, node);
        if node == 1 {
            // What nobody reads, and the log does not bring back, is found by who compares, and told by its place.
            cluster.nodes.until_healthy();
            let left = flipped.iter().filter(|object| is_flipped(object)).count();
            let (is_well, found) = cluster.nodes.verify();
            let differences = found["differences"].as_array().expect("a list");
            assert_eq!((is_well, differences.len()), (left == 0, left), "{found:#}");
            println!("  {left} copies were wrong");
            for found in differences {
                assert_eq!((&found["vdi"], &found["node"]), (&"demo-0".into(), &"node-1".into()));
                let place = found["offset_bytes"].as_u64().expect("a place");
                assert_eq!(place % (OBJECT_BLOCKS * 4096), 0, "{found:#}");
            }
        } else {
            cluster.read(&[1, 2, 3]);
        }
        let is_mended = || flipped.iter().all(|object| !is_flipped(object)).then_some(());
        wait::until("all objects to be mended", LIMIT * 4, is_mended);
        cluster.nodes.until_healthy();
    }
    let (is_well, found) = cluster.nodes.verify();
    assert!(is_well, "what was found was put right: {found:#}");
}

/// Flips a bit in the first block of each object of a node, and returns the objects.
fn flip_all(cluster: &Cluster, node: u8) -> Vec<(PathBuf, u8)> {
    // In order, so that nothing is left in its log.
    cluster.nodes.stop_one(node);
    let flipped = objects(&cluster.nodes.directory(node).join("disk"));
    assert!(flipped.len() as u64 >= OBJECTS, "{} objects", flipped.len());
    flipped.iter().for_each(flip);
    cluster.nodes.have("start", node);
    flipped
}

#[test]
fn an_emptied_disk_is_refused_and_the_others_serve_until_its_node_is_made_anew() {
    let mut cluster = Cluster::start();
    cluster.write(&[1, 2, 3]);
    cluster.nodes.have("kill", 2);
    let disk = cluster.nodes.directory(2).join("disk");
    fs::remove_dir_all(&disk).unwrap();
    fs::create_dir(&disk).unwrap();
    let said = cluster.nodes.ask("start", 2).unwrap_err();
    assert!(said.contains("node 2 ended before it served"), "{said}");
    cluster.has_logged(&[&disk.display().to_string(), "`huntaway init` makes it anew"]);
    cluster.write(&[1, 3]);
    cluster.read(&[1, 3]);
    let init = || {
        let config = cluster.nodes.directory(2).join("huntaway.yaml");
        let output = huntaway().arg("init").arg("--config").arg(config).output().unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        )
    };
    let (_, refused) = init();
    assert!(refused.contains("empty that directory, and try this again"), "{refused}");
    let state = cluster.nodes.directory(2).join("state");
    fs::remove_dir_all(&state).unwrap();
    let (is_made, said) = init();
    assert!(is_made && said.contains("what it keeps is copied to it once it is started"), "{said}");
    cluster.nodes.have("start", 2);
    cluster.ends_well();
}

/// The object files of a disk, with what a byte of the first block is to be in each.
fn objects(disk: &Path) -> Vec<(PathBuf, u8)> {
    let partitions = fs::read_dir(disk.join("objects")).expect("a disk has objects");
    let files = partitions.flat_map(|partition| {
        let entries = fs::read_dir(partition.expect("it can be read").path()).expect("it is a directory");
        entries.map(|entry| entry.expect("it can be read").path())
    });
    let is_object = |file: &PathBuf| file.file_name().is_some_and(|name| name.len() == 16);
    files.filter(is_object).map(|file| (file.clone(), byte(&file))).collect()
}

/// A byte of the first block (`store/FORMAT.md`).
const FIRST_BLOCK_AT: u64 = 20_480;

fn byte(object: &Path) -> u8 {
    let mut byte = [0];
    let file = fs::File::open(object).expect("it is there");
    file.read_exact_at(&mut byte, FIRST_BLOCK_AT).expect("it has blocks");
    byte[0]
}

fn flip((object, was): &(PathBuf, u8)) {
    let file = fs::OpenOptions::new().write(true).open(object).expect("it can be written");
    file.write_all_at(&[was ^ 1], FIRST_BLOCK_AT).expect("it can be written");
}

fn is_flipped((object, was): &(PathBuf, u8)) -> bool {
    byte(object) != *was
}
