//! A running `huntaway node` on ports that the kernel chose, whose configuration a test rewrites. It is killed when it is
//! dropped.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use super::demo::huntaway;
use super::http::get;
use super::script::Script;
use super::wait;

/// Time in which the node has to accept logins (it may have to replay its log first).
const START_LIMIT: Duration = Duration::from_secs(60);
/// Time in which the node has to stop when it is told to.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Time in which a changed configuration has to be looked at.
const RELOAD_LIMIT: Duration = Duration::from_secs(30);

/// The sections `node` and `cluster` of a configuration: one disk, one portal `san`, an admin address.
pub(crate) const NODE: &str = "\
node:
  name: test
  data_directories: [disk1]
  portals:
    - {name: san, listen: \"127.0.0.1:0\"}
  admin: 127.0.0.1:0
cluster: {name: test, copies: 1, membership: local}
";

/// The line that `huntaway node --json` prints when it accepts logins.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ready {
    /// What the portals listen on, `127.0.0.1:PORT`.
    pub(crate) portals: Vec<String>,
    /// Where the admin address serves HTTP.
    pub(crate) admin: Option<String>,
    /// The control socket.
    pub(crate) control: String,
    /// The process.
    pub(crate) pid: u32,
}

/// A running node.
pub(crate) struct Node {
    child: Child,
    /// What it said when it was ready.
    pub(crate) ready: Ready,
    config: PathBuf,
    log: PathBuf,
    // kept for their Drop
    _scratch: Option<TempDir>,
    _stdout: BufReader<ChildStdout>,
}

impl Node {
    /// A node that serves these `targets` (the value of that key in YAML, such as `[]`), in a temporary directory.
    ///
    /// # Panics
    /// If it does not become ready; what it said is shown.
    pub(crate) fn serving(targets: &str) -> Self {
        Self::start(&with_targets(targets))
    }

    /// A node with this configuration. Relative paths in it begin in a temporary directory.
    ///
    /// # Panics
    /// As above.
    pub(crate) fn start(config: &str) -> Self {
        let scratch = tempfile::tempdir().expect("a temporary directory can be made");
        let mut node = Self::start_in(scratch.path(), config);
        node._scratch = Some(scratch);
        node
    }

    /// A node with this configuration as `DIRECTORY/huntaway.yaml`.
    ///
    /// # Panics
    /// As above.
    pub(crate) fn start_in(directory: &Path, config: &str) -> Self {
        fs::write(directory.join("huntaway.yaml"), config).expect("the directory is writable");
        Self::start_on(directory)
    }

    /// A node with the configuration that is there as `DIRECTORY/huntaway.yaml`.
    ///
    /// # Panics
    /// As above.
    pub(crate) fn start_on(directory: &Path) -> Self {
        Self::start_with(directory, &[])
    }

    /// The same, with variables of its environment. The node is made if there is none.
    ///
    /// # Panics
    /// As above.
    pub(crate) fn start_with(directory: &Path, variables: &[(&str, &str)]) -> Self {
        let config = directory.join("huntaway.yaml");
        let log = directory.join("stderr");
        if let Err(reason) = make(&config) {
            panic!("the node cannot be made: {reason}");
        }
        let mut command = huntaway();
        command.args(["node", "--json", "--config"]).arg(&config);
        command.envs(variables.iter().copied());
        command.stdout(Stdio::piped()).stderr(File::create(&log).expect("the directory is writable"));
        let mut child = command.spawn().expect("the built huntaway can be started");
        let stdout = child.stdout.take().expect("stdout was piped");
        let Some((line, stdout)) = first_line(stdout) else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{command:?} did not become ready:\n{}", read(&log));
        };
        let ready = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("the ready line is not as documented: {error}: {line}"));
        Self { child, ready, config, log, _scratch: None, _stdout: stdout }
    }

    /// The first portal, `127.0.0.1:PORT`.
    pub(crate) fn portal(&self) -> &str {
        &self.ready.portals[0]
    }

    /// The URL of a LUN through the first portal, as libiscsi and QEMU write it.
    pub(crate) fn url(&self, target: &str, lun: u16) -> String {
        format!("iscsi://{}/{target}/{lun}", self.portal())
    }

    /// The lines of `iscsi-ls -s` that name LUNs, such as `Lun:0 Type:DIRECT_ACCESS (Size:63M)`: it counts up to where the
    /// last block begins.
    ///
    /// # Panics
    /// If it fails.
    pub(crate) fn luns(&self) -> Vec<String> {
        let portal = format!("iscsi://{}", self.portal());
        let output = Script::program("iscsi-ls").args(["-s", &portal]).limit(START_LIMIT).run();
        let lines = output.lines().map(str::trim).filter(|line| line.starts_with("Lun:"));
        lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }

    /// Its configuration file.
    pub(crate) fn config(&self) -> &Path {
        &self.config
    }

    /// Where relative paths in its configuration begin.
    pub(crate) fn directory(&self) -> &Path {
        self.config.parent().expect("a file has a directory")
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        read(&self.log)
    }

    /// What `/metrics` says.
    ///
    /// # Panics
    /// If it has no admin address, or does not answer.
    pub(crate) fn metrics(&self) -> String {
        get(&format!("{}/metrics", self.admin())).body
    }

    /// The value of the metric whose line begins with `name`, labels included; None if there is none.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let metrics = self.metrics();
        metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    /// Where the admin address serves HTTP.
    ///
    /// # Panics
    /// If it has none.
    pub(crate) fn admin(&self) -> &str {
        self.ready.admin.as_deref().expect("the configuration has an admin address")
    }

    /// Replaces the configuration, as an editor does: a new file takes the old one's name.
    pub(crate) fn write_config(&self, config: &str) {
        let new = self.directory().join("huntaway.yaml.new");
        fs::write(&new, config).expect("the directory is writable");
        fs::rename(&new, &self.config).expect("the directory is writable");
    }

    /// Replaces the configuration, tells the node (SIGHUP), and waits until it is in force.
    ///
    /// # Panics
    /// If it is refused, or nothing happens.
    pub(crate) fn reload(&self, config: &str) {
        self.changes(true, || {
            self.write_config(config);
            self.signal(Signal::HUP);
        });
    }

    /// Replaces the configuration, tells the node (SIGHUP), and waits until it is refused.
    ///
    /// # Panics
    /// If it is taken, or nothing happens.
    pub(crate) fn reload_refused(&self, config: &str) {
        self.changes(false, || {
            self.write_config(config);
            self.signal(Signal::HUP);
        });
    }

    /// Replaces the configuration and waits until the node has noticed that by itself, and it is in force.
    ///
    /// # Panics
    /// If it is refused, or nothing happens.
    pub(crate) fn follows(&self, config: &str) {
        self.changes(true, || self.write_config(config));
    }

    /// Replaces the configuration and waits until the node has noticed that by itself, and refused it.
    ///
    /// # Panics
    /// If it is taken, or nothing happens.
    pub(crate) fn does_not_follow(&self, config: &str) {
        self.changes(false, || self.write_config(config));
    }

    /// Waits until a reload has gone well, or has not, since before `work`.
    fn changes(&self, well: bool, work: impl FnOnce()) {
        let before = self.reloads();
        work();
        wait::until("the configuration to be looked at", RELOAD_LIMIT, || {
            let now = self.reloads();
            let (is_in_force, is_refused) = (now.0 > before.0, now.1 > before.1);
            let (done, wrong) = if well { (is_in_force, is_refused) } else { (is_refused, is_in_force) };
            assert!(!wrong, "taken: {is_in_force}, refused: {is_refused}:\n{}", self.log());
            done.then_some(())
        });
    }

    /// How many reloads went well, and how many were refused.
    pub(crate) fn reloads(&self) -> (u64, u64) {
        let count = |result: &str| {
            let name = format!("huntaway_config_reloads_total{{result=\"{result}\"}}");
            self.metric(&name).unwrap_or_else(|| panic!("there is no metric {name}")) as u64
        };
        (count("success"), count("failure"))
    }

    /// Runs `huntaway ARGS --config FILE` with this node's configuration.
    ///
    /// # Panics
    /// If it cannot be started.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        let mut command = huntaway();
        command.args(args).arg("--config").arg(&self.config);
        command.output().expect("the built huntaway can be started")
    }

    /// What such a command prints.
    ///
    /// # Panics
    /// If it fails.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        let output = self.command(args);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("it prints text")
    }

    /// What such a command says when it refuses.
    ///
    /// # Panics
    /// If it does not.
    pub(crate) fn refuses<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        let output = self.command(args);
        assert!(!output.status.success(), "it was not refused: {output:?}");
        String::from_utf8(output.stderr).expect("it prints text")
    }

    /// What its control socket says of it.
    ///
    /// # Panics
    /// If it does not answer.
    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&self.control("GET /v1/status", "")).expect("the answer is JSON")
    }

    /// What the control socket answers to a request such as `GET /v1/status`: the body, whatever the status.
    ///
    /// # Panics
    /// If it does not answer.
    pub(crate) fn control(&self, request: &str, body: &str) -> String {
        let mut stream =
            UnixStream::connect(&self.ready.control).expect("the control socket accepts connections");
        stream.set_read_timeout(Some(RELOAD_LIMIT)).expect("a socket takes a time limit");
        let head = format!(
            "{request} HTTP/1.1\r\nHost: node\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + body).as_bytes()).expect("it takes a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer.split_once("\r\n\r\n").expect("it answers by HTTP").1.to_owned()
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a child has a process id"), signal).expect("a child can be signalled");
    }

    /// True until the process has ended.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Tells it to stop (SIGTERM) and waits until it has.
    ///
    /// # Panics
    /// If it does not stop in time.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait_for_exit()
    }

    /// Waits until the process has ended.
    ///
    /// # Panics
    /// If it does not end in time.
    pub(crate) fn wait_for_exit(&mut self) -> ExitStatus {
        wait::until("the node to stop", STOP_LIMIT, || {
            self.child.try_wait().expect("a child can be waited for")
        })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- what the node logged:\n{}", self.log());
        }
    }
}

/// [`NODE`] with these targets.
pub(crate) fn with_targets(targets: &str) -> String {
    format!("{NODE}targets: {targets}\n")
}

/// Makes the node of a configuration, unless there is one.
///
/// # Errors
/// What `huntaway init` says.
pub(crate) fn make(config: &Path) -> Result<(), String> {
    let output = huntaway().args(["init", "--config"]).arg(config).output();
    let output = output.expect("the built huntaway can be started");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() || told.contains("there is a node in") { Ok(()) } else { Err(told) }
}

/// What `huntaway init`, or else `huntaway node`, says when there is no way to start with this configuration.
///
/// # Panics
/// If it starts.
pub(crate) fn refused_start(directory: &Path, config: &str) -> String {
    let file = directory.join("huntaway.yaml");
    fs::write(&file, config).expect("the directory is writable");
    if let Err(told) = make(&file) {
        return told;
    }
    super::demo::refused([OsStr::new("node"), OsStr::new("--json"), OsStr::new("--config"), file.as_os_str()])
}

fn read(log: &Path) -> String {
    String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned()
}

/// Reads the first line, at most for [`START_LIMIT`]. None if there is none.
fn first_line(stdout: ChildStdout) -> Option<(String, BufReader<ChildStdout>)> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut reader = BufReader::new(stdout);
        let mut line = String::new();
        if reader.read_line(&mut line).is_ok_and(|length| length > 0) {
            // the receiver is gone if this came too late
            let _ = sender.send((line, reader));
        }
    });
    receiver.recv_timeout(START_LIMIT).ok()
}
