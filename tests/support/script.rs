//! Running a client's script or program with a time limit, and showing what it printed if it failed.

use std::ffi::OsStr;
use std::fmt::Display;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use super::needs::skip;
use super::wait;

/// Time that a script has to clean up when its limit has passed.
const GRACE: Duration = Duration::from_secs(5);

/// How long strace takes to be attached at most.
const ATTACHED_WITHIN: Duration = Duration::from_secs(30);

/// More segments than the log of a test has.
const SEGMENTS: u64 = 40;

/// A program that is about to run, in a process group and a temporary directory of its own.
pub(crate) struct Script {
    command: Command,
    limit: Duration,
    scratch: TempDir,
}

/// How a script ended.
pub(crate) struct Outcome {
    /// None if its time limit passed.
    pub(crate) status: Option<ExitStatus>,
    /// Standard output and standard error, in the order they were written.
    pub(crate) output: String,
}

impl Script {
    /// A script of `tests/`, e.g. `clients/qemu`.
    pub(crate) fn new(script: &str) -> Self {
        Self::program(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(script))
    }

    /// Any program.
    pub(crate) fn program(program: impl AsRef<OsStr>) -> Self {
        let scratch = tempfile::tempdir().expect("a temporary directory can be made");
        let mut command = Command::new(program);
        command.env("TMPDIR", scratch.path()).stdin(Stdio::null()).process_group(0);
        Self { command, limit: Duration::from_secs(60), scratch }
    }

    /// Appends arguments.
    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable of its environment.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Gives it a text as standard input.
    pub(crate) fn stdin(mut self, text: &str) -> Self {
        let path = self.scratch.path().join("stdin");
        fs::write(&path, text).expect("the scratch directory is writable");
        self.command.stdin(File::open(path).expect("the file was just written"));
        self
    }

    /// Sets its time limit (60 s unless told).
    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it to its end and returns what it printed.
    ///
    /// # Panics
    /// If it fails or takes longer than its limit; what it printed is shown.
    pub(crate) fn run(self) -> String {
        let limit = self.limit;
        let name = format!("{:?}", self.command);
        let Outcome { status, output } = self.finish();
        match status {
            Some(status) if status.success() => output,
            Some(status) => panic!("{name}: {status}\n{output}"),
            None => panic!("{name}: not done after {limit:?}\n{output}"),
        }
    }

    /// Runs it to its end, however it ends.
    pub(crate) fn finish(self) -> Outcome {
        let limit = self.limit;
        let mut running = self.start();
        let status = running.wait(limit);
        Outcome { status, output: running.output() }
    }

    /// Starts it, to go on beside the test.
    pub(crate) fn start(mut self) -> Running {
        let log = self.scratch.path().join("output");
        let output = File::create(&log).expect("the scratch directory is writable");
        self.command.stdout(output.try_clone().expect("a file can be duplicated")).stderr(output);
        let child = self.command.spawn().unwrap_or_else(|error| panic!("{:?}: {error}", self.command));
        Running { child, log, _scratch: self.scratch }
    }
}

/// A script at work. Dropped, it and all it started are killed.
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
    _scratch: TempDir,
}

impl Running {
    /// What it has printed so far.
    pub(crate) fn output(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// True until it has ended.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end; if `limit` passes first, it is told to stop, then killed, and the answer is None.
    pub(crate) fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let status = wait::try_until(limit, || self.ended());
        if status.is_none() {
            self.stop();
        }
        status
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    fn stop(&mut self) {
        if self.ended().is_some() {
            return;
        }
        self.signal_group(Signal::TERM);
        if wait::try_until(GRACE, || self.ended()).is_none() {
            self.signal_group(Signal::KILL);
            wait::try_until(GRACE, || self.ended());
        }
    }

    /// Sends a signal to it and all it started. The group is this script's own: it was made when the script was started, and its
    /// leader has not been waited for.
    pub(crate) fn signal_group(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // an error means that it has just ended
            let _ = kill_process_group(pid, signal);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// From now on the kernel answers each write of the process to the log of this disk, and each sync of it, with EIO, until what is
/// returned is dropped. None if that is not allowed here, which has been said.
///
/// # Panics
/// If it cannot be done for another reason.
pub(crate) fn break_log(pid: impl Display, disk: &Path) -> Option<Running> {
    let segments = (1..=SEGMENTS).map(|number| disk.join(format!("wal/{number:016x}")));
    let mut strace = Script::program("strace")
        .args(["-f", "-p", &pid.to_string()])
        .args(segments.flat_map(|segment| ["-P".into(), segment]))
        .args(["-e", "trace=pwritev,pwritev2,pwrite64,fdatasync,fsync"])
        .args(["-e", "inject=pwritev,pwritev2,pwrite64,fdatasync,fsync:error=EIO"])
        .start();
    let is_attached = wait::until("strace to be attached", ATTACHED_WITHIN, || {
        let is_running = strace.is_running();
        let is_attached = strace.output().contains("attached");
        (is_attached || !is_running).then_some(is_attached)
    });
    if !is_attached {
        let said = strace.output();
        assert!(said.contains("Operation not permitted"), "strace:\n{said}");
        skip("strace may not attach to another process");
    }
    is_attached.then_some(strace)
}
