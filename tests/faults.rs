//! Several initiators with paths through all gateways of a cluster, while its nodes are killed, hang and come back: what they
//! see of each block is what one disk would show. In the end everything has all its copies, all gateways show the same, and
//! so do all copies.
//!
//! `HUNTAWAY_FAULTS_SECONDS` is how long that goes on (180 unless told), `HUNTAWAY_FAULTS_SEED` what is drawn (printed). The
//! same seed draws the same faults and commands; how processes and threads take turns is the kernel's. If something is wrong,
//! the directory is kept, with all that was seen.

mod support;

use std::env;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use huntaway_judge::{Effect, Random};
use rustix::process::Signal;
use support::cluster::Nodes;
use support::multipath::{Multipath, Seen, judge, work_during};
use support::wait;
use tempfile::TempDir;

const NODES: u8 = 5;
const INITIATORS: u64 = 12;
/// Unless told.
const SECONDS: u64 = 180;
/// Most nodes that are down or hang at a time.
const MOST_DOWN: usize = 2;
/// Time in which a node that was killed has to serve again, however often it has to be started.
const START_LIMIT: Duration = Duration::from_secs(90);

#[test]
fn what_clients_see_under_faults_is_what_one_disk_would_show() {
    let seconds = number("HUNTAWAY_FAULTS_SECONDS").unwrap_or(SECONDS);
    let time = std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_micros() as u64);
    let seed = number("HUNTAWAY_FAULTS_SEED").unwrap_or(time);
    println!("HUNTAWAY_FAULTS_SEED={seed} HUNTAWAY_FAULTS_SECONDS={seconds}");
    let scratch = Kept(Some(tempfile::tempdir().unwrap()));
    let mut nodes = Nodes::start(NODES, &scratch.path().join("data"));
    let portals: Vec<String> = nodes.numbers().map(|node| nodes.portal(node).to_owned()).collect();
    let began = Instant::now();
    let mut random = Random::new(seed);
    let mut draw = || Random::new(random.draw());
    let target = nodes.demo().target();
    let mut initiators: Vec<Multipath> =
        (0..INITIATORS).map(|number| Multipath::new(number, target, &portals, draw(), began)).collect();
    let nodes_draw: Vec<Random> = nodes.numbers().map(|_| draw()).collect();
    work_during(&mut initiators, || {
        let faults = break_and_heal(&nodes, nodes_draw, Duration::from_secs(seconds));
        println!("{faults} faults; waiting until all copies are whole");
        nodes.until_healthy();
    });
    let mut seen: Vec<Seen> = Vec::new();
    for initiator in initiators {
        println!("{:?}", initiator.ends);
        // All of them were served again and again.
        assert!(initiator.ends.done >= seconds, "an initiator was not served");
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
    let copies = nodes.copies();
    nodes.stop();
    nodes.compare(&copies);
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok()?.parse().ok()
}

/// For so long, kills and stops nodes at random, and lets them come back. Returns how often.
fn break_and_heal(nodes: &Nodes, random: Vec<Random>, time: Duration) -> usize {
    let (is_over, down) = (&AtomicBool::new(false), &AtomicUsize::new(0));
    thread::scope(|scope| {
        let broken: Vec<_> = nodes
            .numbers()
            .zip(random)
            .map(|(node, random)| scope.spawn(move || break_and_heal_one(nodes, node, random, is_over, down)))
            .collect();
        thread::sleep(time);
        is_over.store(true, Ordering::Release);
        broken.into_iter().map(|thread| thread.join().expect("a node comes back")).sum()
    })
}

fn break_and_heal_one(
    nodes: &Nodes,
    node: u8,
    mut random: Random,
    is_over: &AtomicBool,
    down: &AtomicUsize,
) -> usize {
    let mut faults = 0;
    pause(&mut random, 0, 8000);
    while !is_over.load(Ordering::Acquire) {
        let one_more = |down| (down < MOST_DOWN).then_some(down + 1);
        if down.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).is_err() {
            pause(&mut random, 100, 1000);
            continue;
        }
        faults += 1;
        if random.percent(40) {
            nodes.kill(&[node]);
            pause(&mut random, 0, 5000);
            start(nodes, node);
        } else {
            // Half of the time long enough for initiators to go on elsewhere, with what it holds sent again there.
            let (least, most) = if random.percent(50) { (3000, 9000) } else { (50, 3000) };
            nodes.signal(node, Signal::STOP);
            pause(&mut random, least, most);
            nodes.signal(node, Signal::CONT);
        }
        down.fetch_sub(1, Ordering::AcqRel);
        pause(&mut random, 1000, 20_000);
    }
    faults
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
