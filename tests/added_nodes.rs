//! A node that is added while initiators work gets its share of the data, and nothing else moves.

mod support;

use std::time::{Duration, Instant};

use huntaway_judge::Random;
use support::cluster::Nodes;
use support::multipath::{MOST_BLOCKS, Multipath, OBJECT_BLOCKS, OBJECTS, Seen, judge, work_during};

/// Partitions of a cluster.
const PARTITIONS: u64 = 4096;
/// Blocks of each object that are written.
const WRITTEN: u64 = 64;
/// Some more at the ends of objects are worked on.
const MOST_WRITTEN: u64 = WRITTEN + MOST_BLOCKS;
const BLOCK_BYTES: u64 = 4096;
/// What moves is that many hundredths of what has to, at most.
const MOST_MOVED: u64 = 120;
/// Nobody waits so long for an answer.
const LATE: Duration = Duration::from_secs(15);

fn initiator(nodes: &Nodes, number: u64, portals: &[u8], began: Instant) -> Multipath {
    let portals: Vec<String> = portals.iter().map(|node| nodes.portal(*node).to_owned()).collect();
    let mut initiator = Multipath::new(number, nodes.demo().target(), &portals, Random::new(number), began);
    initiator.answered_within = Some(LATE);
    initiator
}

/// What all nodes have copied to others.
fn copied(nodes: &Nodes) -> u64 {
    let of_node = |node| nodes.status(node).and_then(|status| status["recovery"]["bytes_copied"].as_u64());
    nodes.numbers().map(|node| of_node(node).expect("the node tells")).sum()
}

#[test]
fn a_node_that_is_added_gets_its_share_and_nothing_else_moves() {
    let scratch = tempfile::tempdir().unwrap();
    let mut nodes = Nodes::start(3, &scratch.path().join("data"));
    nodes.until_healthy();
    let began = Instant::now();
    let mut seen: Vec<Seen> = Vec::new();
    let mut writer = initiator(&nodes, 1, &[1, 2, 3], began);
    for block in (0..OBJECTS).flat_map(|object| (0..WRITTEN).map(move |block| object * OBJECT_BLOCKS + block))
    {
        if block % MOST_BLOCKS == 0 {
            writer.write(block, MOST_BLOCKS);
        }
    }
    seen.push(writer.seen);
    assert!(nodes.told(&["recovery", "delay", "0"]).contains("after 0 s"));
    let before = copied(&nodes);

    let mut at_work: Vec<Multipath> =
        (2..6).map(|number| initiator(&nodes, number, &[1, 2, 3], began)).collect();
    let added = {
        let mut added = 0;
        work_during(&mut at_work, || {
            added = nodes.add();
            println!("{:.1} s: node {added} serves", began.elapsed().as_secs_f64());
            nodes.told(&["recovery", "wait", "--timeout", "240"]);
            println!("{:.1} s: it has its share", began.elapsed().as_secs_f64());
        });
        added
    };
    for initiator in &at_work {
        const UNIT_ATTENTION: u8 = 6;
        let failed = initiator.ends.failed.iter().filter(|((key, ..), _)| *key != UNIT_ATTENTION);
        assert_eq!((failed.count(), initiator.ends.lost), (0, 0), "{:?}", initiator.ends);
    }
    println!("{:?}", at_work.iter().map(|initiator| initiator.ends.clone()).collect::<Vec<_>>());
    seen.extend(at_work.into_iter().map(|initiator| initiator.seen));

    // Of four nodes that have three copies each has three quarters.
    let status = nodes.status(added).expect("it answers");
    let kept = status["nodes"][usize::from(added) - 1]["kept"].as_u64().expect("a number");
    let ideal = PARTITIONS * 3 / 4;
    assert!(
        kept * 100 <= ideal * MOST_MOVED && kept * 100 >= ideal * 85,
        "{kept} partitions moved, not {ideal}"
    );
    let copies = nodes.copies();
    let objects = copies.iter().filter(|copies| copies.nodes.contains(&added)).count() as u64;
    let moved = copied(&nodes) - before;
    println!("{moved} bytes moved, for {objects} objects");
    assert!(moved >= objects * WRITTEN * BLOCK_BYTES, "{moved} bytes for {objects} objects");
    assert!(
        moved * 100 <= objects * MOST_WRITTEN * BLOCK_BYTES * MOST_MOVED,
        "{moved} bytes for {objects} objects"
    );

    nodes.until_healthy();
    for (number, node) in (6..).zip([added, 1]) {
        let mut reader = initiator(&nodes, number, &[node], began);
        reader.read_all();
        seen.push(reader.seen);
    }
    judge(&seen);
    nodes.stop();
    nodes.compare(&copies);
}
