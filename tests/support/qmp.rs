//! A QEMU whose virtual machine does not run, but whose disk is a LUN, and its monitor (QMP).

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::script::{Running, Script};
use super::wait;

/// Time that QEMU has to start (it logs in to the target first), and for one answer.
const LIMIT: Duration = Duration::from_secs(30);

/// The block device that the virtual machine has, and the node below it.
const DEVICE: &str = "/machine/peripheral/disk/virtio-backend";
const NODE: &str = "lun";

/// A QEMU with a LUN as its disk.
pub(crate) struct Qemu {
    monitor: BufReader<UnixStream>,
    process: Running,
    // kept for its Drop
    _scratch: TempDir,
}

impl Qemu {
    /// Starts one that logs in to the target at this portal.
    ///
    /// # Panics
    /// If it does not start; what it said is shown.
    pub(crate) fn start(portal: &str, target: &str, lun: u16) -> Self {
        let scratch = tempfile::tempdir().expect("a temporary directory can be made");
        let socket = scratch.path().join("qmp");
        let disk =
            format!("driver=iscsi,node-name={NODE},transport=tcp,portal={portal},target={target},lun={lun}");
        // line by line: what qemu-io says goes there, not to the monitor
        let mut process = Script::program("stdbuf")
            .args(["-oL", "qemu-system-x86_64"])
            .args(["-accel", "tcg", "-m", "64", "-nodefaults", "-display", "none", "-S"])
            .args(["-blockdev", &disk])
            .args(["-device", &format!("virtio-blk-pci,id=disk,drive={NODE}")])
            .args(["-qmp", &format!("unix:{},server=on,wait=off", socket.display())])
            .start();
        let stream = wait::until("QEMU to start", LIMIT, || {
            assert!(process.is_running(), "QEMU has ended:\n{}", process.output());
            UnixStream::connect(&socket).ok()
        });
        stream.set_read_timeout(Some(LIMIT)).expect("a socket takes a time limit");
        let mut qemu = Self { monitor: BufReader::new(stream), process, _scratch: scratch };
        qemu.line();
        qemu.execute("qmp_capabilities", json!({})).expect("QEMU greets");
        qemu
    }

    /// One command: what it returns, or what QEMU says against it.
    pub(crate) fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, String> {
        let request = json!({ "execute": command, "arguments": arguments });
        writeln!(self.monitor.get_mut(), "{request}").expect("QEMU reads its monitor");
        loop {
            let mut answer = self.line();
            if let Some(error) = answer["error"]["desc"].as_str() {
                return Err(error.to_owned());
            }
            // anything else is an event
            if answer.get("return").is_some() {
                return Ok(answer["return"].take());
            }
        }
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.monitor.read_line(&mut line).expect("QEMU answers");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("QEMU said {line:?}: {error}"))
    }

    /// The disk's size in bytes, as the virtual machine has it.
    pub(crate) fn disk_bytes(&mut self) -> u64 {
        let devices = self.execute("query-block", json!({})).expect("QEMU lists its disks");
        let bytes = devices[0]["inserted"]["image"]["virtual-size"].as_u64();
        bytes.unwrap_or_else(|| panic!("there is no size in {devices}"))
    }

    /// Gives the virtual machine this size, as `virsh blockresize` does.
    ///
    /// # Errors
    /// If the LUN does not have it.
    pub(crate) fn resize(&mut self, bytes: u64) -> Result<(), String> {
        self.execute("block_resize", json!({ "node-name": NODE, "size": bytes })).map(|_| ())
    }

    /// One command of `qemu-io` on the disk, such as `read 0 4k`.
    ///
    /// # Errors
    /// What it said, if it did not go well.
    pub(crate) fn io(&mut self, command: &str) -> Result<(), String> {
        let before = self.process.output().len();
        let line = format!("qemu-io -d {DEVICE} \"{command}\"");
        self.execute("human-monitor-command", json!({ "command-line": line }))?;
        let said = self.process.output().split_off(before);
        // a pattern that differs is told besides the number of bytes
        if said.contains(" bytes at offset") && !said.contains("failed") { Ok(()) } else { Err(said) }
    }
}
