//! Nodes of one cluster, each with a file of its own that says something of the same disks: what one of them does with a disk all
//! others show, and none undoes it, whether its file is old, it starts just then, or it ends half-way.

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::Output;
use std::thread;
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
const CAPACITY_CHANGED: Sense = (6, 0x2a, 0x09);
const UNIT_ATTENTION: u8 = 6;
const LUNS_CHANGED: Sense = (6, 0x3f, 0x0e);

/// Three nodes, whose files name a thick disk of 16 MiB.
struct Cluster {
    nodes: Nodes,
    scratch: TempDir,
}

impl Cluster {
    fn start() -> Self {
        let scratch = tempfile::tempdir().expect("a temporary directory can be made");
        let thick = "size=16MiB,block_size=4096,thin=false";
        let nodes = Nodes::start_with(thick, 3, &scratch.path().join("data"));
        Self { nodes, scratch }
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

    /// What the command complains of.
    fn refused(&self, node: u8, words: &[&str]) -> String {
        let output = self.ask(node, words);
        assert!(!output.status.success(), "{words:?} at node {node}: {}", text(&output.stdout));
        text(&output.stderr)
    }

    /// What the node says of the VDI.
    fn vdi(&self, node: u8, name: &str) -> Value {
        let told = self.said(node, &["vdi", "show", name, "-o", "json"]);
        serde_json::from_str(&told).expect("it is JSON")
    }

    /// The node's file, with something else in the place of what it says.
    fn rewritten(&self, node: u8, changes: &[(&str, &str)]) -> PathBuf {
        let mut says = fs::read_to_string(self.nodes.config(node)).expect("a node has a file");
        for (from, to) in changes {
            assert!(says.contains(from), "{from} is not in {says}");
            says = says.replace(from, to);
        }
        let file = self.scratch.path().join(format!("node-{node}.yaml"));
        fs::write(&file, says).expect("the directory is writable");
        file
    }

    /// Puts that in force. Returns what the node warns of.
    fn apply(&self, node: u8, changes: &[(&str, &str)]) -> String {
        let file = self.rewritten(node, changes);
        let output = self.ask(node, &["apply", "-f", &file.display().to_string()]);
        let complaint = text(&output.stderr);
        assert!(output.status.success(), "node {node}: {complaint}");
        complaint
    }

    /// Has the node start with that in its file.
    fn start_with(&self, node: u8, changes: &[(&str, &str)]) {
        self.nodes.have("kill", node);
        fs::copy(self.rewritten(node, changes), self.nodes.config(node)).expect("it can be written");
        self.nodes.have("start", node);
    }

    /// Files of the object on all nodes.
    fn files_of(&self, object: &str) -> usize {
        let of_node = |node| {
            let objects = self.nodes.directory(node).join("disk/objects");
            let partitions = fs::read_dir(objects).expect("a disk has objects");
            let file = |partition: fs::DirEntry| partition.path().join(object);
            partitions.filter_map(|entry| entry.ok().map(file)).filter(|file| file.exists()).count()
        };
        self.nodes.numbers().map(of_node).sum()
    }

    fn log_has(&self, words: &[&str]) {
        let log = self.nodes.demo().log();
        assert!(words.iter().all(|word| log.contains(word)), "{words:?} are not in:\n{log}");
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn is_ready(session: &mut Initiator) -> Result<(), Sense> {
    session.tell(0, &[0; 6], &[])
}

/// Waits until the initiator is told that.
fn until_told(session: &mut Initiator, attention: Sense) {
    wait::until(&format!("unit attention {attention:x?}"), LIMIT, || {
        (is_ready(session) == Err(attention)).then_some(())
    });
}

/// READ CAPACITY(10), in bytes.
fn capacity(session: &mut Initiator) -> u64 {
    let told = session.ask(0, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], 8).expect("the disk has a capacity");
    let last = u32::from_be_bytes([told[0], told[1], told[2], told[3]]);
    (u64::from(last) + 1) * BLOCK_BYTES as u64
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
    a_disk_that_grew_is_shown_by_all_and_stays_so(&cluster);
    a_growth_that_was_interrupted_goes_on(&cluster);
    nothing_shrinks(&cluster);
    a_deleted_disk_is_gone_everywhere(&cluster);
    a_deleted_disk_comes_back_only_by_a_file_that_is_read_again(&cluster);
    modes_are_fixed(&cluster);
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

const OF_16_MIB: &str = "size: 16777216";

fn a_disk_that_grew_is_shown_by_all_and_stays_so(cluster: &Cluster) {
    let (mut second, mut third) = (cluster.session(2), cluster.session(3));
    assert_eq!(cluster.apply(1, &[(OF_16_MIB, "size: 32MiB")]), "");
    for session in [&mut second, &mut third] {
        until_told(session, CAPACITY_CHANGED);
        assert_eq!(capacity(session), 32 * MIB);
    }
    write(&mut second, 0, 20 * MIB, 7);

    // It starts, whatever else its file says; what is old in there is told.
    let unknown = ("luns:", "luns:\n      - {lun: 1, vdi: nothing}");
    cluster.start_with(3, &[(OF_16_MIB, "size: 16777216, allow_shrink: true"), unknown]);
    assert_eq!(cluster.vdi(1, "demo-0")["size_bytes"], 32 * MIB);
    let mut session = cluster.session(3);
    assert_eq!(capacity(&mut session), 32 * MIB);
    reads(&mut session, 20 * MIB, 7);
    let file = cluster.nodes.config(3).display().to_string();
    cluster.log_has(&[&file, "is served with that, not with 16MiB", "there is no VDI `nothing` yet"]);
    let warned = cluster.apply(2, &[(OF_16_MIB, "size: 20MiB")]);
    assert!(warned.contains("write `size: 32MiB`"), "{warned}");
    reads(&mut second, 20 * MIB, 7);
}

/// More than one try is needed if a growth ends before its node is killed.
const MOST_TRIES: u64 = 5;

fn a_growth_that_was_interrupted_goes_on(cluster: &Cluster) {
    let was_interrupted = |mib: &u64| {
        interrupt_growth(cluster, *mib);
        cluster.vdi(2, "demo-0")["growing_to_bytes"] == mib * MIB
    };
    let mib = (1..=MOST_TRIES).map(|tries| 32 + 16 * tries).find(was_interrupted);
    let mib = mib.expect("a growth that was interrupted");
    // Another one that has something to do leaves that alone.
    cluster.apply(2, &[("  admin:", "  log: {level: debug}\n  admin:")]);
    let vdi = cluster.vdi(2, "demo-0");
    assert_eq!(vdi["growing_to_bytes"], mib * MIB, "{vdi:#}");
    assert!(cluster.said(2, &["vdi", "list"]).contains(&format!("growing to {mib}MiB")));
    let mut session = cluster.session(2);
    cluster.nodes.have("start", 1);
    until_told(&mut session, CAPACITY_CHANGED);
    assert_eq!(capacity(&mut session), mib * MIB);
    let vdi = cluster.vdi(3, "demo-0");
    let grown = (&vdi["size_bytes"], &vdi["growing_to_bytes"]);
    assert_eq!(grown, (&(mib * MIB).into(), &Value::Null), "{vdi:#}");
    reads(&mut session, 20 * MIB, 7);
    has_what_was_written(cluster);
}

/// Node 1 is killed while it has the disk grow, which takes until a node that hangs is missed.
fn interrupt_growth(cluster: &Cluster, mib: u64) {
    if cluster.nodes.pid(1).is_none() {
        cluster.nodes.have("start", 1);
    }
    cluster.nodes.until_healthy();
    let size = cluster.vdi(1, "demo-0")["size_bytes"].as_u64().expect("it has a size");
    let from = format!("size: {}MiB", size / MIB);
    let larger = cluster.rewritten(1, &[(&from, &format!("size: {mib}MiB"))]);
    cluster.nodes.have("pause", 3);
    let apply =
        huntaway().args(["apply", "-f"]).arg(larger).arg("--config").arg(cluster.nodes.config(1)).spawn();
    let mut apply = apply.expect("huntaway can be started");
    let has_begun = || {
        let vdi = cluster.vdi(1, "demo-0");
        (!vdi["growing_to_bytes"].is_null() || vdi["size_bytes"] == mib * MIB).then_some(())
    };
    wait::until("the disk to grow", LIMIT, has_begun);
    cluster.nodes.kill(&[1]);
    cluster.nodes.have("start", 3);
    // It says that it does not know what became of that.
    apply.wait().expect("it ends");
}

fn nothing_shrinks(cluster: &Cluster) {
    for words in
        [&["vdi", "resize", "demo-0", "8MiB"][..], &["vdi", "resize", "demo-0", "8MiB", "--allow-shrink"]]
    {
        let said = cluster.refused(1, words);
        assert!(said.contains("make a smaller VDI and copy"), "{said}");
    }
}

fn a_deleted_disk_is_gone_everywhere(cluster: &Cluster) {
    cluster.said(1, &["vdi", "create", "extra", "--size", "8MiB", "--block-size", "4096"]);
    cluster.apply(2, &[("luns:", "luns:\n      - {lun: 1, vdi: extra}")]);
    cluster.apply(3, &[("vdi: nothing", "vdi: extra")]);
    let mut sessions = [2, 3].map(|node| cluster.session(node));
    for session in &mut sessions {
        wait::until("LUN 1 to be ready", LIMIT, || session.tell(1, &[0; 6], &[]).ok());
    }
    write(&mut sessions[0], 1, 0, 1);
    let place = cluster.said(1, &["object", "where", "extra", "0", "-o", "json"]);
    let place: Value = serde_json::from_str(&place).expect("it is JSON");
    let object = place["object"].as_str().expect("an object has a name");
    wait::until("the object to be on the disks", LIMIT, || (cluster.files_of(object) == 3).then_some(()));

    let said = cluster.refused(2, &["vdi", "delete", "extra", "--yes"]);
    assert!(said.contains("take that LUN out of"), "{said}");
    let writer = cluster.session(3);
    thread::scope(|scope| {
        scope.spawn(|| write_until_it_is_gone(writer));
        cluster.said(1, &["vdi", "delete", "extra", "--yes"]);
    });
    for session in &mut sessions {
        until_told(session, LUNS_CHANGED);
        assert!(!session.luns().contains(&1));
    }
    wait::until("its space to be free", LIMIT, || (cluster.files_of(object) == 0).then_some(()));
    cluster.log_has(&["another process has deleted a VDI"]);
}

fn a_deleted_disk_comes_back_only_by_a_file_that_is_read_again(cluster: &Cluster) {
    const MENDED: &str = "a change that was interrupted: what is left of it is put right";
    let mended = || cluster.nodes.demo().log().matches(MENDED).count();
    let is_there = |name: &str| cluster.said(1, &["vdi", "list"]).contains(name);
    // What its file says cannot be done to its end when it starts: that is tried again.
    let says = "vdi: absent}\n      - {lun: 2, vdi: spare, size: 8MiB}";
    cluster.start_with(2, &[("vdi: extra}", says)]);
    wait::until("the node's disk", LIMIT, || is_there("spare").then_some(()));
    let before = mended();
    cluster.said(1, &["vdi", "delete", "spare", "--yes"]);
    cluster.said(1, &["vdi", "create", "absent", "--size", "8MiB"]);
    wait::until("the next try", LIMIT, || (mended() > before).then_some(()));
    assert!(!is_there("spare"));
    cluster.log_has(&["VDI `spare` was deleted since"]);
    cluster.apply(2, &[]);
    assert!(is_there("spare"));
}

/// Writes to LUN 1 as long as that is taken.
fn write_until_it_is_gone(mut session: Initiator) {
    let mut write = || session.tell(1, &cdb(0x2a, 0), &[9; BLOCK_BYTES]);
    while matches!(write(), Ok(()) | Err((UNIT_ATTENTION, ..))) {}
}

/// MODE SELECT(6) with the caching page (WCE=0), and with the control page (SWP=1).
fn modes_are_fixed(cluster: &Cluster) {
    let mut session = cluster.session(2);
    let without_cache = [&[0, 0, 0, 0, 8, 18][..], &[0; 18]].concat();
    let protected = [0, 0, 0, 0, 0x0a, 10, 0, 0x10, 8, 0, 0, 0, 0xff, 0xff, 0, 0];
    for list in [&without_cache[..], &protected] {
        let select = [0x15, 0x10, 0, 0, list.len() as u8, 0];
        assert_eq!(session.tell(0, &select, list), Err((5, 0x26, 0)));
    }
}
