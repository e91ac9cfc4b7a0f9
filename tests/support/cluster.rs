//! A running `huntaway demo` of several nodes: what can happen to them, what they say of their health, and whether all copies
//! are the same.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::demo::{Demo, huntaway};
use super::wait;

/// Time in which all copies have to be whole, once all nodes run.
const WHOLE_LIMIT: Duration = Duration::from_secs(240);
/// How often they are started, if something else listens at their ports.
const MOST_TRIES: usize = 3;
/// Time for small things.
const LIMIT: Duration = Duration::from_secs(30);
/// The disk that they serve.
const LUN: &str = "size=64MiB,block_size=4096";
/// Objects of that disk, and their size.
const OBJECTS: u64 = 16;
const OBJECT_BYTES: u64 = 4 << 20;
/// Where an object's table of blocks lies in its file, and how long it is (`store/FORMAT.md`).
const TABLE: (u64, usize) = (4096, 16 * 1024);

/// Nodes on this machine, numbered from 1. Dropped, they are killed.
pub(crate) struct Nodes {
    demo: Demo,
    count: u8,
}

impl Nodes {
    /// Starts so many, with one disk of 64 MiB in 4 KiB blocks, and their data in the directory.
    ///
    /// # Panics
    /// If they do not serve.
    pub(crate) fn start(count: u8, directory: &Path) -> Self {
        Self::start_with(LUN, count, directory)
    }

    /// The same, with another disk.
    ///
    /// # Panics
    /// If they do not serve.
    pub(crate) fn start_with(lun: &str, count: u8, directory: &Path) -> Self {
        Self::start_by(&[], lun, count, directory)
    }

    /// With the usual disk, in another boot of the machine than what was before, as far as they can tell: to be root is needed.
    ///
    /// # Panics
    /// If they do not serve.
    pub(crate) fn start_after_power_loss(count: u8, directory: &Path) -> Self {
        let boot =
            "cp /proc/sys/kernel/random/uuid \"$0\" && mount --bind \"$0\" /proc/sys/kernel/random/boot_id";
        let id = directory.with_extension("boot").display().to_string();
        let script = format!("{boot} && exec \"$@\"");
        Self::start_by(&["unshare", "--mount", "sh", "-c", &script, &id], LUN, count, directory)
    }

    fn start_by(wrapper: &[&str], lun: &str, count: u8, directory: &Path) -> Self {
        let start = || {
            let mut arguments =
                vec!["--nodes".to_owned(), count.to_string(), "--lun".to_owned(), lun.to_owned()];
            let portals = free_portals(count).into_iter();
            arguments.extend(portals.flat_map(|portal| ["--listen".to_owned(), portal]));
            let builder = Demo::builder().started_by(wrapper.iter().copied());
            let mut demo = builder.directory(directory).portals(0).args(arguments).try_start()?;
            if demo.ready.portals.len() == usize::from(count) {
                return Ok(demo);
            }
            demo.stop();
            Err(demo.log())
        };
        // A port that was free may be taken by whoever calls somebody from it, before a node listens there.
        let is_taken = |said: &String| said.contains("Address already in use");
        let tried = (1..MOST_TRIES).map(|_| start()).find(|tried| !tried.as_ref().is_err_and(is_taken));
        let demo = tried.unwrap_or_else(start);
        let demo = demo.unwrap_or_else(|said| panic!("the demo did not become ready:\n{said}"));
        assert_eq!(demo.ready.portals.len(), usize::from(count), "{}", demo.ready_line);
        Self { demo, count }
    }

    /// What they say.
    pub(crate) fn demo(&self) -> &Demo {
        &self.demo
    }

    /// All of them.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u8> + use<> {
        1..=self.count
    }

    /// Where the node's gateway listens.
    pub(crate) fn portal(&self, node: u8) -> &str {
        &self.demo.ready.portals[usize::from(node) - 1]
    }

    /// Its configuration.
    pub(crate) fn config(&self, node: u8) -> PathBuf {
        self.directory(node).join("huntaway.yaml")
    }

    /// What the node keeps.
    pub(crate) fn directory(&self, node: u8) -> PathBuf {
        self.demo.directory().join(format!("node-{node}"))
    }

    /// `huntaway demo add`: another node. Returns its number.
    ///
    /// # Panics
    /// If it does not serve.
    pub(crate) fn add(&mut self) -> u8 {
        self.say(&["demo", "add", "--dir"], self.demo.directory());
        self.count += 1;
        let config = self.config(self.count);
        let config = fs::read_to_string(config).expect("it has a configuration");
        let portal = config.split_once("portals: [{listen: \"").and_then(|(_, rest)| rest.split_once('"'));
        self.demo.ready.portals.push(portal.expect("it has a portal").0.to_owned());
        self.count
    }

    /// What `huntaway` says to this of the cluster, asked at its first node.
    ///
    /// # Panics
    /// If it does not go well.
    pub(crate) fn told(&self, words: &[&str]) -> String {
        self.say(&[words, &["--config"]].concat(), &self.config(1))
    }

    /// What `huntaway cluster verify` finds, and whether it says that all is well.
    ///
    /// # Panics
    /// If it finds out nothing.
    pub(crate) fn verify(&self) -> (bool, Value) {
        let config = self.config(1);
        let output = huntaway().args(["cluster", "verify", "-o", "json", "--config"]).arg(config).output();
        let output = output.expect("huntaway can be started");
        let found = serde_json::from_slice(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        (output.status.success(), found.unwrap_or_else(|error| panic!("{error}: {complaint}")))
    }

    fn say(&self, words: &[&str], place: &Path) -> String {
        let output = huntaway().args(words).arg(place).output().expect("huntaway can be started");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {complaint}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// `huntaway demo ACTION NODE`: what it says, and whether it went well.
    pub(crate) fn ask(&self, action: &str, node: u8) -> Result<String, String> {
        let mut command = huntaway();
        command.args(["demo", "--dir"]).arg(self.demo.directory()).args([action, &node.to_string()]);
        let output = command.output().expect("huntaway can be started");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    /// The same, of what has to go well.
    ///
    /// # Panics
    /// If it does not.
    pub(crate) fn have(&self, action: &str, node: u8) {
        if let Err(said) = self.ask(action, node) {
            panic!("demo {action} {node}: {said}");
        }
    }

    /// Sends the node's process a signal; false if it has none.
    pub(crate) fn signal(&self, node: u8, signal: Signal) -> bool {
        self.pid(node).is_some_and(|pid| kill_process(pid, signal).is_ok())
    }

    /// Kills them at once, and waits until they are gone.
    pub(crate) fn kill(&self, nodes: &[u8]) {
        nodes.iter().for_each(|node| _ = self.signal(*node, Signal::KILL));
        nodes.iter().for_each(|node| self.is_gone(*node));
    }

    /// Tells one of them to stop, and waits until it has.
    ///
    /// # Panics
    /// If it does not.
    pub(crate) fn stop_one(&self, node: u8) {
        self.signal(node, Signal::TERM);
        wait::until("a node to stop", LIMIT, || self.pid(node).is_none().then_some(()));
        self.is_gone(node);
    }

    /// Waits until the demo knows that the node, which has ended or is about to, has.
    fn is_gone(&self, node: u8) {
        // It waits for whom it kills, and there is nobody to be killed if it noticed already.
        let _ = self.ask("kill", node);
    }

    /// The node's process: the one that was started with its configuration.
    pub(crate) fn pid(&self, node: u8) -> Option<Pid> {
        process_with(&self.config(node))
    }

    /// `huntaway status` of that node; `None` if it does not answer.
    pub(crate) fn status(&self, node: u8) -> Option<Value> {
        let config = self.config(node);
        let output = huntaway().args(["status", "-o", "json", "--config"]).arg(config).output();
        serde_json::from_slice(&output.expect("huntaway can be started").stdout).ok()
    }

    /// Waits until the node says that this is the cluster's health.
    ///
    /// # Panics
    /// If that takes too long.
    pub(crate) fn until_health(&self, node: u8, health: &str) {
        let is_so = || self.status(node).filter(|status| status["health"] == health);
        if wait::try_until(WHOLE_LIMIT, is_so).is_none() {
            panic!("waited {WHOLE_LIMIT:?} for {health}:\n{:#}", self.status(node).unwrap_or_default());
        }
    }

    /// Waits until all nodes run, and each of them says that everything has all its copies.
    ///
    /// # Panics
    /// If that takes too long; what they say by then is shown.
    pub(crate) fn until_healthy(&self) {
        let statuses = || self.numbers().map(|node| self.status(node)).collect::<Vec<_>>();
        let all = || {
            let statuses: Option<Vec<Value>> = statuses().into_iter().collect();
            let statuses = statuses?;
            let is_healthy = |status: &Value| {
                let mut nodes = status["nodes"].as_array().into_iter().flatten();
                // What one of them knows may be past, but not what all know alike.
                status["health"] == "ok"
                    && status["record"] == statuses[0]["record"]
                    && nodes.all(|node| node["is_up"] == true)
            };
            statuses.iter().all(is_healthy).then_some(())
        };
        if wait::try_until(WHOLE_LIMIT, all).is_none() {
            let told: Vec<String> =
                statuses().into_iter().map(|status| format!("{:#}", status.unwrap_or_default())).collect();
            panic!("waited {WHOLE_LIMIT:?} for all copies to be whole:\n{}", told.join("\n"));
        }
    }

    /// Tells all to stop and waits until they have.
    ///
    /// # Panics
    /// If they do not, or not in order.
    pub(crate) fn stop(&mut self) {
        let status = self.demo.stop();
        let log = self.demo.log();
        assert!(status.success(), "{status}\n{log}");
        for word in ["stopped at once", "it is killed"] {
            assert!(!log.contains(word), "a node did not stop in order:\n{log}");
        }
    }

    /// Kills all at once, whoever keeps the ledger too.
    pub(crate) fn kill_all(&mut self) {
        for node in self.numbers() {
            self.signal(node, Signal::KILL);
        }
        self.demo.kill();
    }

    /// Which nodes have everything of each object.
    pub(crate) fn copies(&self) -> Vec<Copies> {
        let config = self.config(1);
        let place = |object: u64| {
            let mut command = huntaway();
            command.args(["object", "where", "demo-0", &(object * OBJECT_BYTES).to_string()]);
            let output = command.args(["-o", "json", "--config"]).arg(&config).output();
            let place = output.ok().and_then(|output| serde_json::from_slice::<Value>(&output.stdout).ok());
            let place = place.unwrap_or_else(|| panic!("node 1 does not say where object {object} is"));
            let names = place["in_sync"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let number = |name: &str| name.strip_prefix("node-").and_then(|number| number.parse().ok());
            Copies {
                number: object,
                partition: format!("{:03x}.", place["partition"].as_u64().expect("a partition has a number")),
                object: place["object"].as_str().expect("an object has a name").to_owned(),
                nodes: names.filter_map(number).collect(),
            }
        };
        (0..OBJECTS).map(place).collect()
    }

    /// Verifies each node's disk, and compares all copies, block by block: of versions, and of checksums that the blocks were found
    /// to have. All nodes have been stopped.
    ///
    /// # Panics
    /// If a disk is not sound, a copy is missing, or two of them differ.
    pub(crate) fn compare(&self, copies: &[Copies]) {
        for node in self.numbers() {
            let output = huntaway().args(["store", "check"]).arg(self.directory(node).join("disk")).output();
            let output = output.expect("huntaway can be started");
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "node {node}: {said}");
        }
        let mut compared = 0;
        for Copies { partition, object, nodes, .. } in copies {
            assert_eq!(nodes.len(), usize::from(self.count.min(3)), "copies of {object}");
            let tables: BTreeMap<u8, Vec<u8>> =
                nodes.iter().map(|node| (*node, table(&self.directory(*node), partition, object))).collect();
            let first = &tables[&nodes[0]];
            for (node, table) in &tables {
                let differs = table.chunks(16).zip(first.chunks(16)).position(|(one, other)| one != other);
                assert_eq!(differs, None, "block of {object} on nodes {} and {node}", nodes[0]);
            }
            compared += first.chunks(16).filter(|entry| entry.iter().any(|byte| *byte != 0)).count();
        }
        assert!(compared > 0, "nothing was compared");
    }
}

/// The node that was started with that configuration.
pub(crate) fn process_with(config: &Path) -> Option<Pid> {
    let processes = fs::read_dir("/proc").expect("processes can be listed");
    let mut numbers = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let has_it = |number: &i32| {
        let line = fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        words.clone().any(|word| word == "node") && words.any(|word| OsStr::new(&*word) == config)
    };
    numbers.find(has_it).and_then(Pid::from_raw)
}

/// Who has an object.
pub(crate) struct Copies {
    /// How the names of its partition's directories begin.
    partition: String,
    object: String,
    /// Which of the disk's objects it is.
    pub(crate) number: u64,
    /// The first of them leads.
    pub(crate) nodes: Vec<u8>,
}

/// What a node's disk has of an object: nothing but zeroes if it has no file.
fn table(node: &Path, partition: &str, object: &str) -> Vec<u8> {
    let entries = fs::read_dir(node.join("disk/objects")).expect("a disk has objects");
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let epoch = |name: &str| name.strip_prefix(partition).and_then(|epoch| epoch.parse::<u64>().ok());
    // Of several directories, the one with the highest epoch counts.
    let newest = names.filter_map(|name| Some((epoch(&name)?, name))).max();
    let mut table = vec![0; TABLE.1];
    if let Some((_, name)) = newest
        && let Ok(file) = File::open(node.join("disk/objects").join(name).join(object))
    {
        file.read_exact_at(&mut table, TABLE.0).expect("an object has a table");
    }
    table
}

/// Ports that nobody has: a node is to have the same one each time it starts.
fn free_portals(count: u8) -> Vec<String> {
    let bind = |_| TcpListener::bind("127.0.0.1:0").expect("the loopback can be listened on");
    let listeners: Vec<TcpListener> = (0..count).map(bind).collect();
    let address = |listener: &TcpListener| listener.local_addr().expect("a listener has an address");
    listeners.iter().map(|listener| address(listener).to_string()).collect()
}

impl Drop for Nodes {
    fn drop(&mut self) {
        // One that is stopped would not see that the demo is gone.
        for node in self.numbers() {
            self.signal(node, Signal::KILL);
        }
    }
}

/// Copies a directory that nobody writes to, as it is.
///
/// # Panics
/// If that does not go well.
pub(crate) fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg("-a").args([from, to]).status();
    assert!(status.is_ok_and(|status| status.success()), "cp -a {} {}", from.display(), to.display());
}
