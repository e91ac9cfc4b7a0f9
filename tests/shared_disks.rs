//! Nodes of one cluster, each with a file of its own that says something of the same disks: what one of them does with a disk all
//! others show, and none undoes it, whether its file is old, it starts just then, or it ends half-way.

mod support;

use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use support::cluster::Nodes;
use support::demo::huntaway;
use support::initiator::{Initiator, Login, Sense};
use support::wait;
use tempfile::TempDir;

/// Time for what nodes do by themselves.
const LIMIT: Duration = Duration::from_secs(30);
const MIB: u64 = 1 << 20;
const BLOCK_BYTES: usize = 4096;

/// Three nodes, whose files name a thick disk of 16 MiB.
struct Cluster {
    nodes: Nodes,
    _scratch: TempDir,
}

impl Cluster {
    fn start() -> Self {
        let scratch = tempfile::tempdir().expect("a temporary directory can be made");
        let thick = "size=16MiB,block_size=4096,thin=false";
        let nodes = Nodes::start_with(thick, 3, &scratch.path().join("data"));
        Self { nodes, _scratch: scratch }
    }

    /// A session with the node's gateway that has nothing more to be told.
    fn session(&self, node: u8) -> Initiator {
        let (portal, target) = (self.nodes.portal(node), Some(self.nodes.demo().target()));
        let initiator = "iqn.2026-11.dev.huntaway:shared";
        let login = Login { portal, initiator, target, account: None, mutual: None };
        let mut session = login.log_in().expect("the node lets everybody in");
        session.limit(LIMIT);
        wait::until("the LUN to be ready", LIMIT, || is_ready(&mut session).ok());
        session
    }

    fn ask(&self, node: u8, words: &[&str]) -> Output {
        let output = huntaway().args(words).arg("--config").arg(self.nodes.config(node)).output();
        output.expect("huntaway can be started")
    }

    /// What the command says, which has to go well.
    fn said(&self, node: u8, words: &[&str]) -> String {
        let output = self.ask(node, words);
        assert!(output.status.success(), "{words:?} at node {node}: {}", text(&output.stderr));
        text(&output.stdout)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn is_ready(session: &mut Initiator) -> Result<(), Sense> {
    session.tell(0, &[0; 6], &[])
}

fn write(session: &mut Initiator, lun: u8, at: u64, byte: u8) {
    assert_eq!(session.tell(lun, &cdb(0x2a, at), &[byte; BLOCK_BYTES]), Ok(()), "{at}");
}

fn reads(session: &mut Initiator, at: u64, byte: u8) {
    let found = session.ask(0, &cdb(0x28, at), BLOCK_BYTES as u32).expect("it can be read");
    assert_eq!((found.len(), found.iter().find(|found| **found != byte)), (BLOCK_BYTES, None), "{at}");
}

/// READ(10) or WRITE(10) of the block at that many bytes.
fn cdb(operation: u8, at: u64) -> [u8; 10] {
    let [a, b, c, d] = ((at / BLOCK_BYTES as u64) as u32).to_be_bytes();
    [operation, 0, a, b, c, d, 0, 0, 1, 0]
}

#[test]
fn what_one_node_does_with_a_disk_all_show_and_none_undoes() {
    let cluster = Cluster::start();
    all_that_start_at_once_make_one_thick_disk(&cluster);
}

fn all_that_start_at_once_make_one_thick_disk(cluster: &Cluster) {
    for node in cluster.nodes.numbers() {
        write(&mut cluster.session(node), 0, u64::from(node) * 4 * MIB, node);
        let told = cluster.said(node, &["vdi", "list", "-o", "json"]);
        let vdis: Value = serde_json::from_str(&told).expect("it is JSON");
        assert_eq!(vdis.as_array().map(Vec::len), Some(1), "{vdis:#}");
        assert_eq!((&vdis[0]["thin"], &vdis[0]["provisioned"]), (&false.into(), &true.into()), "{vdis:#}");
    }
    has_what_was_written(cluster);
}

/// Through all nodes.
fn has_what_was_written(cluster: &Cluster) {
    for node in cluster.nodes.numbers() {
        let mut session = cluster.session(node);
        (1..4).for_each(|writer| reads(&mut session, u64::from(writer) * 4 * MIB, writer));
    }
}
