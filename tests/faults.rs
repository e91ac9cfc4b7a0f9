//! Several initiators with paths through all gateways of a cluster, while its nodes are killed, hang, lose their connections or do not
//! reach one another and come back, one now and then with an old copy of its disk, or with nothing, and the disk of another fails, and
//! that of a third one fills up: what they see of each block is what one disk would show. In the end everything has all its copies, all gateways show the same, and so do all copies.
//!
//! `HUNTAWAY_FAULTS_SECONDS` is how long that goes on (180 unless told), `HUNTAWAY_FAULTS_SEED` what is drawn (printed). The
//! same seed draws the same faults and commands; how processes and threads take turns is the kernel's. If something is wrong,
//! the directory is kept, with all that was seen.

mod support;

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use huntaway_judge::{Effect, Random};
use rustix::process::Signal;
use serde_json::Value;
use support::cluster::{Nodes, copy};
use support::demo::huntaway;
use support::file_system::FileSystem;
use support::multipath::{Multipath, Seen, judge, work_during};
use support::needs::{Need, available, skip};
use support::script::break_log;
use support::wait;
use tempfile::TempDir;

const NODES: u8 = 5;
const INITIATORS: u64 = 12;
/// The disk of this one fills up now and then: room for its log, what is never promised, and twice the disk that is worked on.
const FULL: u8 = 3;
const FILE_SYSTEM: &str = "size=512m";
/// The disk of this one fails now and then.
const FAILING: u8 = 4;
/// This one comes back with an old copy of its disk now and then, or with nothing. If more did, nobody might have what was acknowledged.
const FORGETFUL: u8 = 5;
/// Unless told.
const SECONDS: u64 = 180;
/// The sense key of what cannot be read.
const MEDIUM_ERROR: u8 = 3;
/// Most nodes that are down or hang at a time.
const MOST_DOWN: usize = 2;
/// Time in which a node that was killed has to serve again, however often it has to be started.
const START_LIMIT: Duration = Duration::from_secs(90);
/// Time in which others know that a node is down, or it is not waited for.
const KNOWN_LIMIT: Duration = Duration::from_secs(5);

#[test]
fn what_clients_see_under_faults_is_what_one_disk_would_show() {
    let seconds = number("HUNTAWAY_FAULTS_SECONDS").unwrap_or(SECONDS);
    let time = std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_micros() as u64);
    let seed = number("HUNTAWAY_FAULTS_SEED").unwrap_or(time);
    println!("HUNTAWAY_FAULTS_SEED={seed} HUNTAWAY_FAULTS_SECONDS={seconds}");
    if !available(&[Need::Root, Need::Program("strace"), Need::Program("ss"), Need::Program("mount")]) {
        return;
    }
    let scratch = Kept(Some(tempfile::tempdir().unwrap()));
    let mut nodes = Nodes::start(NODES, &scratch.path().join("data"));
    let Some(small) = moved_to_small_disk(&nodes, FULL) else {
        return skip("a tmpfs cannot be mounted here");
    };
    let portals: Vec<String> = nodes.numbers().map(|node| nodes.portal(node).to_owned()).collect();
    let began = Instant::now();
    let mut random = Random::new(seed);
    let mut draw = || Random::new(random.draw());
    let target = nodes.demo().target();
    let mut initiators: Vec<Multipath> =
        (0..INITIATORS).map(|number| Multipath::new(number, target, &portals, draw(), began)).collect();
    let nodes_draw: Vec<Random> = nodes.numbers().map(|_| draw()).collect();
    work_during(&mut initiators, || {
        let breaker = Breaker { nodes: &nodes, old: &scratch.path().join("old"), small: &small };
        let faults = breaker.break_and_heal(nodes_draw, Duration::from_secs(seconds));
        println!("{faults:?}; waiting until all copies are whole");
        let Faults { killed, hung, cut, parted, filled, disks_failed, .. } = faults;
        let least = killed.min(hung).min(cut).min(parted).min(filled).min(disks_failed);
        assert!(seconds < SECONDS || least > 0, "too little happens");
        nodes.until_healthy();
    });
    let mut seen: Vec<Seen> = Vec::new();
    for initiator in initiators {
        println!("{:?}", initiator.ends);
        // All of them were served again and again.
        assert!(initiator.ends.done >= seconds, "an initiator was not served");
        // Nobody is told that something is lost, for nothing is.
        let is_medium_error = |(key, _, _): &(u8, u8, u8)| *key == MEDIUM_ERROR;
        assert!(!initiator.ends.failed.keys().any(is_medium_error), "an initiator was told of damage");
        seen.push(initiator.seen);
    }
    let last = read_through_each(&nodes, began);
    let shown: Vec<Vec<Effect>> = last.iter().map(effects).collect();
    seen.extend(last);
    fs::write(scratch.path().join("seen"), format!("{seen:#?}")).unwrap();
    judge(&seen);
    let attempts: usize = seen.iter().flat_map(|seen| seen.values()).map(Vec::len).sum();
    println!("{attempts} reads and writes of blocks are explained");
    assert!(shown.windows(2).all(|pair| pair[0] == pair[1]), "gateways show different blocks");
    let (is_well, found) = nodes.verify();
    assert!(is_well && found["differing_blocks"] == 0, "{found:#}");
    let copies = nodes.copies();
    nodes.stop();
    nodes.compare(&copies);
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok()?.parse().ok()
}

/// How often which fault happened.
#[derive(Debug, Default)]
struct Faults {
    killed: usize,
    hung: usize,
    cut: usize,
    parted: usize,
    filled: usize,
    disks_failed: usize,
    old_copies: usize,
    wiped: usize,
}

impl Faults {
    fn and(self, other: Self) -> Self {
        Self {
            killed: self.killed + other.killed,
            hung: self.hung + other.hung,
            cut: self.cut + other.cut,
            parted: self.parted + other.parted,
            filled: self.filled + other.filled,
            disks_failed: self.disks_failed + other.disks_failed,
            old_copies: self.old_copies + other.old_copies,
            wiped: self.wiped + other.wiped,
        }
    }
}

/// Who breaks the nodes.
#[derive(Clone, Copy)]
struct Breaker<'a> {
    nodes: &'a Nodes,
    /// Where an old copy of a node's files is kept.
    old: &'a Path,
    /// What the node has its disk on that fills up.
    small: &'a FileSystem,
}

impl Breaker<'_> {
    /// For so long, breaks nodes at random, and lets them come back.
    fn break_and_heal(self, random: Vec<Random>, time: Duration) -> Faults {
        let (is_over, down) = (&AtomicBool::new(false), &AtomicUsize::new(0));
        thread::scope(|scope| {
            let broken: Vec<_> = self
                .nodes
                .numbers()
                .zip(random)
                .map(|(node, random)| {
                    scope.spawn(move || self.break_and_heal_one(node, random, is_over, down))
                })
                .collect();
            thread::sleep(time);
            is_over.store(true, Ordering::Release);
            let ended = broken.into_iter().map(|thread| thread.join().expect("a node comes back"));
            ended.fold(Faults::default(), Faults::and)
        })
    }

    fn break_and_heal_one(
        self,
        node: u8,
        mut random: Random,
        is_over: &AtomicBool,
        down: &AtomicUsize,
    ) -> Faults {
        let mut faults = Faults::default();
        pause(&mut random, 0, 8000);
        while !is_over.load(Ordering::Acquire) {
            let one_more = |down| (down < MOST_DOWN).then_some(down + 1);
            if down.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).is_err() {
                pause(&mut random, 100, 1000);
                continue;
            }
            let kind = random.below(100);
            if node == FULL && (faults.filled == 0 || kind >= 80) {
                faults.filled += 1;
                let filler = self.small.fill();
                pause(&mut random, 1000, 10_000);
                drop(filler);
            } else if kind < 40 || node == FAILING && faults.disks_failed == 0 {
                faults.killed += 1;
                self.break_and_start(node, &mut random, &mut faults);
            } else if kind < 60 {
                faults.cut += 1;
                for _ in 0..random.between(1, 6) {
                    self.cut(node, |_| random.percent(50));
                    pause(&mut random, 100, 1500);
                }
            } else if kind < 75 {
                faults.parted += 1;
                self.part(node, &mut random);
            } else {
                faults.hung += 1;
                // Half of the time long enough for initiators to go on elsewhere, with what it holds sent again there.
                let (least, most) = if random.percent(50) { (3000, 9000) } else { (50, 3000) };
                self.nodes.signal(node, Signal::STOP);
                pause(&mut random, least, most);
                self.nodes.signal(node, Signal::CONT);
            }
            down.fetch_sub(1, Ordering::AcqRel);
            pause(&mut random, 1000, 20_000);
        }
        faults
    }

    /// Whether others know that this node is down, and serve all that it had: where it was the last one, an old copy of its disk
    /// holds nothing, and is not made whole.
    fn can_do_without(self, node: u8, before: u64) -> bool {
        let name = format!("node-{node}");
        let is_down = |status: &Value| {
            let mut nodes = status["nodes"].as_array().into_iter().flatten();
            nodes.any(|node| node["name"] == *name && node["is_up"] == false)
        };
        let is_known = |status: &Value| status["record"].as_u64() > Some(before) && is_down(status);
        let others: Vec<u8> = self.nodes.numbers().filter(|other| *other != node).collect();
        let mut others = others.into_iter().cycle();
        let known = wait::try_until(KNOWN_LIMIT, || {
            others.next().and_then(|other| self.nodes.status(other)).filter(is_known)
        });
        known.is_some_and(|status| status["partitions"]["down"] == 0)
    }

    /// The node and another one do not reach each other for a while.
    fn part(self, node: u8, random: &mut Random) {
        let other = 1 + (node + random.below(u64::from(NODES) - 1) as u8) % NODES;
        let until = Instant::now() + Duration::from_millis(random.between(1000, 8000));
        while Instant::now() < until {
            // It may be killed meanwhile.
            let Some(pid) = self.nodes.pid(other) else { break };
            let of_other = ends_of(pid.as_raw_pid());
            self.cut(node, |(from, to)| of_other.contains(&(to.clone(), from.clone())));
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends these connections that the node has with others and with initiators.
    fn cut(self, node: u8, mut is_to_end: impl FnMut(&Ends) -> bool) {
        let pid = self.nodes.pid(node).expect("it runs").as_raw_pid();
        for ends in ends_of(pid).iter().filter(|ends| is_to_end(ends)) {
            let killed = Command::new("ss").args(["-Ktn", "src", &ends.0, "dst", &ends.1]).output();
            assert!(killed.is_ok_and(|ss| ss.status.success()), "ss -K is not possible");
        }
    }

    fn break_and_start(self, node: u8, random: &mut Random, faults: &mut Faults) {
        let is_worse = random.percent(60) || node == FAILING && faults.disks_failed == 0;
        let fails = (is_worse && node == FAILING).then(|| {
            let pid = self.nodes.pid(node).expect("it runs").as_raw_pid();
            let disk = fs::canonicalize(self.nodes.directory(node).join("disk")).expect("it is there");
            println!("the disk of node {node} fails");
            let fails = break_log(pid, &disk);
            faults.disks_failed += usize::from(fails.is_some());
            pause(random, 500, 6000);
            fails
        });
        let before = self.nodes.status(node).and_then(|status| status["record"].as_u64());
        self.nodes.kill(&[node]);
        drop(fails);
        if is_worse && node == FORGETFUL && before.is_some_and(|before| self.can_do_without(node, before)) {
            let now = self.nodes.directory(node);
            if random.percent(50) {
                println!("node {node} loses all that it has");
                faults.wiped += 1;
                for directory in ["disk", "state"] {
                    fs::remove_dir_all(now.join(directory)).expect("it can be removed");
                }
                let made = huntaway().arg("init").arg("--config").arg(now.join("huntaway.yaml")).output();
                assert!(made.is_ok_and(|made| made.status.success()), "a node is made anew");
            } else if self.old.exists() {
                println!("node {node} comes back with an old copy");
                faults.old_copies += 1;
                fs::remove_dir_all(&now).expect("it can be removed");
                copy(self.old, &now);
            } else {
                copy(&now, self.old);
            }
        }
        pause(random, 0, 5000);
        start(self.nodes, node);
    }
}

/// The two addresses of a connection, the own one first.
type Ends = (String, String);

/// Those of the connections that the process has.
fn ends_of(pid: i32) -> Vec<Ends> {
    let listed = Command::new("ss").args(["-Htnp", "state", "established"]).output().expect("ss runs");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let lines = listed.lines().filter(|line| line.contains(&format!("pid={pid},")));
    lines
        .filter_map(|line| {
            let mut ends = line.split_whitespace().skip(2);
            Some((ends.next()?.to_owned(), ends.next()?.to_owned()))
        })
        .collect()
}

fn pause(random: &mut Random, least_ms: u64, most_ms: u64) {
    thread::sleep(Duration::from_millis(random.between(least_ms, most_ms)));
}

fn start(nodes: &Nodes, node: u8) {
    wait::until("a killed node to serve again", START_LIMIT, || match nodes.ask("start", node) {
        Ok(_) => Some(()),
        Err(said) => {
            println!("start {node}: {}", said.trim());
            None
        }
    });
}

/// Puts a node's files on a small file system. `None`: this machine does not allow it.
fn moved_to_small_disk(nodes: &Nodes, node: u8) -> Option<FileSystem> {
    nodes.kill(&[node]);
    let directory = nodes.directory(node);
    let aside = directory.with_extension("aside");
    fs::rename(&directory, &aside).expect("it can be moved");
    let small = FileSystem::mount(&directory, FILE_SYSTEM)?;
    copy(&aside.join("."), &directory);
    fs::remove_dir_all(&aside).expect("it can be removed");
    start(nodes, node);
    Some(small)
}

/// What each gateway shows of all blocks that may have been written.
fn read_through_each(nodes: &Nodes, began: Instant) -> Vec<Seen> {
    let through = |node: u8| {
        let portal = [nodes.portal(node).to_owned()];
        let number = INITIATORS + u64::from(node);
        let mut reader = Multipath::new(number, nodes.demo().target(), &portal, Random::new(number), began);
        reader.read_all();
        reader.seen
    };
    nodes.numbers().map(through).collect()
}

fn effects(seen: &Seen) -> Vec<Effect> {
    seen.values().flatten().map(|attempt| attempt.effect).collect()
}

/// A directory that is kept if the test fails.
struct Kept(Option<TempDir>);

impl Kept {
    fn path(&self) -> &Path {
        self.0.as_ref().expect("it is there until it is dropped").path()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if thread::panicking()
            && let Some(directory) = self.0.take()
        {
            println!("kept: {}", directory.keep().display());
        }
    }
}
