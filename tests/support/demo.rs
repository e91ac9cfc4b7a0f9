//! A running `huntaway demo` on ports that the kernel chose. It is killed when it is dropped.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tempfile::TempDir;

use super::wait;

/// Time in which the demo has to accept logins (it may have to replay its log first).
const START_LIMIT: Duration = Duration::from_secs(60);
/// Time in which the demo has to stop when it is told to.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// The line that `huntaway demo --json` prints when it accepts logins.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ready {
    /// What the portals listen on, `127.0.0.1:PORT`.
    pub(crate) portals: Vec<String>,
    /// The target's name.
    pub(crate) target: String,
    /// Its LUNs.
    pub(crate) luns: Vec<ReadyLun>,
    /// Where the admin address serves HTTP.
    pub(crate) admin: String,
    /// The process.
    pub(crate) pid: u32,
}

/// One LUN of [`Ready`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReadyLun {
    /// The LUN's number.
    pub(crate) lun: u16,
    /// The virtual disk's name.
    pub(crate) vdi: String,
    /// Its size in bytes.
    pub(crate) bytes: u64,
    /// Its logical block size in bytes.
    pub(crate) block_size: u32,
}

/// The `huntaway` command, not yet started.
pub(crate) fn huntaway() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_huntaway"));
    command.stdin(Stdio::null());
    command
}

/// How a demo is to be started.
pub(crate) struct DemoBuilder {
    args: Vec<String>,
    directory: Option<PathBuf>,
    portals: usize,
    admin: String,
    listen: Option<String>,
    wrapper: Vec<String>,
}

/// A running demo.
pub(crate) struct Demo {
    child: Child,
    /// What it said when it was ready.
    pub(crate) ready: Ready,
    /// The line itself.
    pub(crate) ready_line: String,
    directory: PathBuf,
    log: PathBuf,
    // kept for their Drop
    _scratch: TempDir,
    _stdout: BufReader<ChildStdout>,
}

impl DemoBuilder {
    /// Appends arguments of `huntaway demo`.
    pub(crate) fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Keeps its data in `directory` instead of a temporary one.
    pub(crate) fn directory(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    /// Listens on so many portals (one unless told).
    pub(crate) fn portals(mut self, portals: usize) -> Self {
        self.portals = portals;
        self
    }

    /// Listens on this address instead of a port chosen by the kernel.
    pub(crate) fn listen(mut self, address: &str) -> Self {
        self.listen = Some(address.to_owned());
        self
    }

    /// Has a program start it, such as strace with these arguments, that becomes it.
    pub(crate) fn started_by<S: Into<String>>(mut self, wrapper: impl IntoIterator<Item = S>) -> Self {
        self.wrapper = wrapper.into_iter().map(Into::into).collect();
        self
    }

    /// Starts it and waits until it accepts logins.
    ///
    /// # Panics
    /// If it ends or does not become ready; what it said is shown.
    pub(crate) fn start(self) -> Demo {
        self.try_start().unwrap_or_else(|said| panic!("the demo did not become ready:\n{said}"))
    }

    /// The same. The error is what it said when it ended, or did not become ready.
    pub(crate) fn try_start(self) -> Result<Demo, String> {
        let scratch = tempfile::tempdir().expect("a temporary directory can be made");
        let directory = self.directory.unwrap_or_else(|| scratch.path().join("data"));
        let log = scratch.path().join("stderr");
        let listen = self.listen.unwrap_or_else(|| "127.0.0.1:0".to_owned());
        let mut command = match &*self.wrapper {
            [] => huntaway(),
            [program, args @ ..] => {
                let mut command = Command::new(program);
                command.args(args).arg(huntaway().get_program()).stdin(Stdio::null());
                command
            }
        };
        command.args(["demo", "--json", "--admin", &self.admin, "--dir"]).arg(&directory);
        for _ in 0..self.portals {
            command.args(["--listen", &listen]);
        }
        command.args(&self.args);
        command.stdout(Stdio::piped()).stderr(File::create(&log).expect("the scratch directory is writable"));
        let mut child = command.spawn().expect("the built huntaway can be started");
        let stdout = child.stdout.take().expect("stdout was piped");
        let Some((ready_line, stdout)) = first_line(stdout) else {
            let _ = child.kill();
            let status = child.wait().expect("a child can be waited for");
            return Err(format!("{command:?}: {status}\n{}", read_log(&log)));
        };
        let ready = serde_json::from_str(&ready_line)
            .unwrap_or_else(|error| panic!("the ready line is not as documented: {error}: {ready_line}"));
        Ok(Demo { child, ready, ready_line, directory, log, _scratch: scratch, _stdout: stdout })
    }
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

fn read_log(log: &Path) -> String {
    String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned()
}

impl Demo {
    /// A demo with its data in a temporary directory.
    pub(crate) fn builder() -> DemoBuilder {
        DemoBuilder {
            args: Vec::new(),
            directory: None,
            portals: 1,
            admin: "127.0.0.1:0".to_owned(),
            listen: None,
            wrapper: Vec::new(),
        }
    }

    /// A demo with these arguments and its data in a temporary directory.
    pub(crate) fn start<S: Into<String>>(args: impl IntoIterator<Item = S>) -> Self {
        Self::builder().args(args).start()
    }

    /// The first portal, `127.0.0.1:PORT`.
    pub(crate) fn portal(&self) -> &str {
        &self.ready.portals[0]
    }

    /// The first portal's TCP port.
    pub(crate) fn port(&self) -> u16 {
        let (_, port) = self.portal().rsplit_once(':').expect("a portal is ADDRESS:PORT");
        port.parse().expect("a port is a number")
    }

    /// The target's name.
    pub(crate) fn target(&self) -> &str {
        &self.ready.target
    }

    /// The URL of a LUN through the first portal, as libiscsi and QEMU write it.
    pub(crate) fn url(&self, lun: u16) -> String {
        self.url_through(0, lun)
    }

    /// The URL of a LUN through one of the portals.
    pub(crate) fn url_through(&self, portal: usize, lun: u16) -> String {
        format!("iscsi://{}/{}/{lun}", self.ready.portals[portal], self.ready.target)
    }

    /// Where the first portal is seen from a QEMU guest with user networking.
    pub(crate) fn portal_in_guest(&self) -> String {
        format!("10.0.2.2:{}", self.port())
    }

    /// The directory of its data.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        read_log(&self.log)
    }

    /// True until the process has ended.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid =
            i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a child has a process id");
        kill_process(pid, signal).expect("a child can be signalled");
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
        wait::until("the demo to stop", STOP_LIMIT, || {
            self.child.try_wait().expect("a child can be waited for")
        })
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- what the demo logged:\n{}", self.log());
        }
    }
}

/// The arguments of one `--lun`, for readable tests: `lun("size=64MiB,thin=true")`.
pub(crate) fn lun(options: &str) -> [String; 2] {
    ["--lun".to_owned(), options.to_owned()]
}

/// Writes a file that its owner alone may read, as secrets must be.
pub(crate) fn write_secret(file: &Path, secret: &str) {
    fs::write(file, secret).expect("the directory is writable");
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("an own file can be changed");
}

/// Runs `huntaway` with arguments that are expected to fail at once, and returns its standard error.
///
/// # Panics
/// If it does not end in time, or ends well.
pub(crate) fn refused<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> String {
    let mut child = huntaway()
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("huntaway can be started");
    let Some(status) = wait::try_until(STOP_LIMIT, || child.try_wait().expect("a child can be waited for"))
    else {
        let _ = child.kill();
        let _ = child.wait();
        panic!("huntaway did not refuse its arguments");
    };
    assert!(!status.success(), "huntaway accepted its arguments");
    let stderr = child.stderr.take().expect("stderr was piped");
    std::io::read_to_string(stderr).expect("stderr is text")
}
