//! A node of a cluster has several disks, and one of them fails, or is to be taken away, or is added, while initiators work: the others
//! take what it had while the node lives, or it takes its share, nobody sees an error, and whatever dies meanwhile, all copies are whole and the same in the end.

mod support;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use huntaway_judge::Random;
use rustix::process::Signal;
use serde_json::Value;
use support::demo::huntaway;
use support::kept::{configuration, free_addresses, has_key, keeper, status};
use support::multipath::{Multipath, Seen, judge, work_during};
use support::needs::{Need, available};
use support::script::{Running, Script, break_log};
use support::wait;
use tempfile::TempDir;

const TARGET: &str = "iqn.2026-11.net.example:vm";
const NAMES: [&str; 3] = ["a", "b", "c"];
/// All are on the first node.
const DISKS: [&str; 3] = ["disk1", "disk2", "disk3"];
const PARTITIONS: u64 = 4096;
/// Time for what a cluster does by itself.
const LIMIT: Duration = Duration::from_secs(240);
/// Nobody waits so long for an answer.
const LATE: Duration = Duration::from_secs(15);
/// What is told to an initiator that it need not do anything about.
const UNIT_ATTENTION: u8 = 6;

/// Three nodes with three copies, the first one with three disks.
struct Cluster {
    nodes: Vec<Running>,
    portals: Vec<String>,
    began: Instant,
    initiators: u64,
    seen: Vec<Seen>,
    _keeper: Running,
    scratch: TempDir,
}

impl Cluster {
    fn start() -> Self {
        let scratch = tempfile::tempdir().expect("a temporary directory can be made");
        let directory = scratch.path();
        let [listen, addresses @ ..] = free_addresses::<4>();
        let portals = free_addresses::<3>();
        let mut new = vec!["--new".to_owned(), "lab".into()];
        for (name, address) in NAMES.iter().zip(addresses) {
            new.extend(["--node".to_owned(), format!("{name}={address},zone={name}")]);
        }
        let keeper = keeper(directory, listen, &new);
        has_key(directory);
        for (name, portal) in NAMES.iter().zip(portals) {
            make(directory, name, listen, portal);
        }
        let nodes = NAMES.map(|name| run(directory, name)).into();
        let portals = portals.map(|portal| portal.to_string()).into();
        let (began, seen) = (Instant::now(), Vec::new());
        let cluster = Self { nodes, portals, began, initiators: 0, seen, _keeper: keeper, scratch };
        cluster.until_whole();
        cluster
    }

    fn config(&self) -> PathBuf {
        self.scratch.path().join("a/huntaway.yaml")
    }

    fn disk(&self, name: &str) -> PathBuf {
        fs::canonicalize(self.scratch.path().join("a").join(name)).expect("it is there")
    }

    /// What `huntaway` says to this of the first node, or what it complains of.
    fn ask(&self, words: &[&str]) -> Result<String, String> {
        let output = huntaway().args(words).arg("--config").arg(self.config()).output();
        let output = output.expect("huntaway can be started");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let (told, complained) = (text(output.stdout), text(output.stderr));
        if output.status.success() { Ok(told) } else { Err(complained + &told) }
    }

    /// How its disks are, by `huntaway node disk list`.
    fn disks(&self) -> Option<Vec<Value>> {
        let said = self.ask(&["node", "disk", "list", "-o", "json"]).ok()?;
        Some(serde_json::from_str(&said).expect("it is JSON"))
    }

    fn listed(&self, name: &str) -> Option<Value> {
        let is_it = |disk: &Value| disk["directory"].as_str().is_some_and(|path| path.ends_with(name));
        self.disks()?.into_iter().find(is_it)
    }

    fn partitions(&self, name: &str) -> Option<u64> {
        self.listed(name)?["partitions"].as_u64()
    }

    fn until_left(&self, name: &str, most: u64) {
        let is_so = || self.partitions(name).filter(|left| *left <= most);
        if wait::try_until(LIMIT, is_so).is_none() {
            panic!("{name} has more than {most} partitions: {:?}", self.listed(name));
        }
    }

    fn until_whole(&self) {
        let is_whole = || {
            let status = status(self.scratch.path(), "b")?;
            let mut nodes = status["nodes"].as_array()?.iter();
            (status["health"] == "ok" && nodes.all(|node| node["is_up"] == true)).then_some(())
        };
        if wait::try_until(LIMIT, is_whole).is_none() {
            panic!("copies are not whole: {:#}", status(self.scratch.path(), "b").unwrap_or_default());
        }
    }

    /// Has this happen while initiators work; none of them is answered by an error, nor late.
    fn under_load(&mut self, happens: impl FnOnce(&mut Vec<Running>, &Self)) {
        let initiator = |number| {
            let mut initiator =
                Multipath::new(number, TARGET, &self.portals, Random::new(number), self.began);
            initiator.answered_within = Some(LATE);
            initiator
        };
        let mut initiators: Vec<Multipath> =
            (self.initiators + 1..self.initiators + 5).map(initiator).collect();
        let mut nodes = std::mem::take(&mut self.nodes);
        work_during(&mut initiators, || happens(&mut nodes, self));
        self.nodes = nodes;
        for initiator in initiators {
            self.initiators += 1;
            println!("  {:?}", initiator.ends);
            let mut failed = initiator.ends.failed.keys();
            assert!(failed.all(|(key, ..)| *key == UNIT_ATTENTION), "{:?}", initiator.ends);
            assert!(initiator.ends.done > 0);
            self.seen.push(initiator.seen);
        }
    }

    /// All copies are compared, and each gateway shows the same.
    fn ends_well(mut self) {
        self.until_whole();
        for (number, portal) in (100..).zip(&self.portals) {
            let portals = [portal.clone()];
            let mut reader = Multipath::new(number, TARGET, &portals, Random::new(number), self.began);
            reader.read_all();
            self.seen.push(reader.seen);
        }
        judge(&self.seen);
        let found = self.ask(&["cluster", "verify", "-o", "json"]).expect("all is well");
        let found: Value = serde_json::from_str(&found).expect("it is JSON");
        assert_eq!((&found["differing_blocks"], &found["failed_objects"]), (&0.into(), &0.into()), "{found}");
        let all = self.disks().expect("it answers");
        let on_them = all.iter().filter_map(|disk| disk["partitions"].as_u64()).sum::<u64>();
        assert_eq!(on_them, PARTITIONS, "{all:?}");
    }
}

/// The configuration of a node, in a new directory of its name.
fn make(directory: &Path, name: &str, keeper: SocketAddr, portal: SocketAddr) {
    let own = directory.join(name);
    fs::create_dir(&own).expect("the directory is new");
    let disks = if name == NAMES[0] { &DISKS[..] } else { &DISKS[..1] };
    let disks: Vec<String> = disks.iter().map(|disk| format!("{{path: {disk}, weight: 1}}")).collect();
    let text = configuration(name, keeper)
        .replace("[disk]", &format!("[{}]", disks.join(", ")))
        .replace("127.0.0.1:0", &portal.to_string())
        .replace("size: 32MiB", "size: 64MiB, block_size: 4096");
    fs::write(own.join("huntaway.yaml"), text).expect("the directory is writable");
}

fn run(directory: &Path, name: &str) -> Running {
    let config = directory.join(name).join("huntaway.yaml").display().to_string();
    Script::program(huntaway().get_program()).args(["node", "--config", &config]).start()
}

/// One cluster at a time: the initiators of one do as much as they can.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn a_disk_that_fails_under_load_is_taken_over_by_the_others_while_its_node_lives() {
    if !available(&[Need::Program("strace")]) {
        return;
    }
    let _alone = alone();
    let mut cluster = Cluster::start();
    let before = cluster.partitions("disk1").expect("it answers");
    let mut breaks = None;
    cluster.under_load(|nodes, cluster| {
        breaks = break_log(nodes[0].pid(), &cluster.disk("disk2"));
        if breaks.is_some() {
            cluster.until_left("disk2", 0);
            cluster.until_whole();
        }
    });
    if breaks.is_none() {
        return;
    }
    assert_eq!(cluster.listed("disk2").expect("it answers")["state"], "failed");
    assert!(cluster.partitions("disk1") > Some(before + 400));
    drop(breaks);
    // The process dies while another disk is taken over. The disks work when it is back.
    cluster.under_load(|nodes, cluster| {
        let breaks = break_log(nodes[0].pid(), &cluster.disk("disk3"));
        let had = cluster.partitions("disk3").expect("it answers");
        cluster.until_left("disk3", had - 20);
        nodes[0].signal_group(Signal::KILL);
        assert!(nodes[0].wait(LIMIT).is_some());
        drop(breaks);
        nodes[0] = run(cluster.scratch.path(), NAMES[0]);
        cluster.until_whole();
    });
    assert_eq!(cluster.partitions("disk2"), Some(0), "what it had is nothing to anybody");
    cluster.ends_well();
}

#[test]
fn a_disk_is_emptied_while_all_is_served_and_is_then_the_nodes_no_longer() {
    let _alone = alone();
    let mut cluster = Cluster::start();
    let stranger = cluster.ask(&["node", "disk", "remove", "/nowhere"]).unwrap_err();
    assert!(stranger.contains("no disk of this node is in that directory"), "{stranger}");
    let disk = cluster.disk("disk3");
    let had = cluster.partitions("disk3").expect("it answers");
    cluster.under_load(|nodes, cluster| {
        let directory = disk.display().to_string();
        let have = |does: &str| cluster.ask(&["node", "disk", does, &directory]).unwrap();
        for (does, says) in [("remove", "take it out of `data_directories`"), ("keep", "stays")] {
            let said = have(does);
            assert!(said.contains(says), "{said}");
        }
        have("remove");
        cluster.until_left("disk3", had / 2);
        // The next process goes on with it.
        nodes[0].signal_group(Signal::KILL);
        assert!(nodes[0].wait(LIMIT).is_some());
        nodes[0] = run(cluster.scratch.path(), NAMES[0]);
        cluster.until_left("disk3", 0);
        cluster.until_whole();
    });
    assert_eq!(cluster.listed("disk3").expect("it answers")["state"], "empty");
    cluster.nodes[0].signal_group(Signal::TERM);
    assert!(cluster.nodes[0].wait(LIMIT).is_some_and(|status| status.success()));
    fs::remove_dir_all(&disk).unwrap();
    let config = fs::read_to_string(cluster.config()).unwrap();
    fs::write(cluster.config(), config.replace(", {path: disk3, weight: 1}", "")).unwrap();
    cluster.nodes[0] = run(cluster.scratch.path(), NAMES[0]);
    cluster.until_whole();
    assert_eq!(cluster.disks().map(|disks| disks.len()), Some(2));
    cluster.ends_well();
}

#[test]
fn the_share_of_a_disk_that_is_added_comes_to_it_while_all_is_served() {
    let _alone = alone();
    let mut cluster = Cluster::start();
    let directory = cluster.scratch.path().join("a/disk4");
    let add = ["node", "disk", "add", "--weight", "1", &*directory.display().to_string()];
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("mine"), "somebody's").unwrap();
    let full = cluster.ask(&add).unwrap_err();
    assert!(full.contains("disk4") && full.contains("mine"), "{full}");
    fs::remove_file(directory.join("mine")).unwrap();
    let others = DISKS.map(|name| cluster.partitions(name).expect("it answers"));
    cluster.under_load(|nodes, cluster| {
        let said = cluster.ask(&add).unwrap();
        assert!(said.contains("Add it to `data_directories` now"), "{said}");
        assert!(cluster.ask(&add).unwrap_err().contains("a disk of this node already"));
        // The node that runs takes the file as it is to be, and one that names a disk which it does not have not at all.
        let config = fs::read_to_string(cluster.config()).unwrap();
        let with = |name: &str| {
            let text = config
                .replace("disk3, weight: 1}", &format!("disk3, weight: 1}}, {{path: {name}, weight: 1}}"));
            fs::write(cluster.config(), text).unwrap();
            cluster.ask(&["apply", "-f", &cluster.config().display().to_string()])
        };
        assert!(
            with("disk5").unwrap_err().contains("`node.data_directories` cannot change while the node runs")
        );
        with("disk4").unwrap();
        let has_some = || cluster.partitions("disk4").filter(|there| *there > PARTITIONS / 10);
        wait::until("half of its share", LIMIT, has_some);
        // The next process goes on with it.
        nodes[0].signal_group(Signal::KILL);
        assert!(nodes[0].wait(LIMIT).is_some());
        nodes[0] = run(cluster.scratch.path(), NAMES[0]);
        let is_filled = || cluster.listed("disk4").filter(|disk| disk["state"] == "serving");
        wait::until("its share", LIMIT, is_filled);
        cluster.until_whole();
    });
    let share = cluster.partitions("disk4").expect("it answers");
    assert!((PARTITIONS / 5..PARTITIONS * 3 / 10).contains(&share), "{share} of {PARTITIONS}");
    for (name, had) in DISKS.iter().zip(others) {
        assert!(cluster.partitions(name) < Some(had), "{name} gave nothing");
    }
    cluster.ends_well();
}
