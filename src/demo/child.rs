//! A node of the demo of several: a child that runs `huntaway node` with a configuration of its own, as one would write it.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{self, Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::nodes::luns;
use super::{DemoArgs, TARGET};

/// How long a node may take to start.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// How long a node may take to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(20);

/// A node, running or not.
pub(super) struct Node {
    pub(super) number: u8,
    config: PathBuf,
    child: Option<Child>,
    pub(super) is_paused: bool,
    pub(super) portals: Vec<String>,
    pub(super) admin: Option<String>,
}

/// What a node says when it serves.
#[derive(Deserialize)]
struct Started {
    portals: Vec<String>,
    admin: Option<String>,
}

/// Where it keeps everything.
pub(super) fn node_dir(dir: &Path, number: u8) -> PathBuf {
    dir.join(format!("node-{number}"))
}

impl Node {
    /// Writes its configuration; it is not started.
    pub(super) fn configured(
        args: &DemoArgs,
        dir: &Path,
        number: u8,
        portal: SocketAddr,
        keeper: SocketAddr,
    ) -> Result<Self, Box<dyn Error>> {
        let config = node_dir(dir, number).join("huntaway.yaml");
        fs::write(&config, yaml(args, number, portal, keeper)?)?;
        Ok(Self { number, config, child: None, is_paused: false, portals: Vec::new(), admin: None })
    }

    pub(super) fn pid(&mut self) -> Option<Pid> {
        // One that ended by itself is waited for here.
        let child = self.child.as_mut()?;
        if !matches!(child.try_wait(), Ok(None)) {
            self.child = None;
            return None;
        }
        Pid::from_raw(self.child.as_ref()?.id()?.try_into().ok()?)
    }

    /// Starts it, and waits until it serves.
    pub(super) async fn start(&mut self) -> Result<(), Box<dyn Error>> {
        let number = self.number;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("node").arg("--config").arg(&self.config).args(["--json", "--until-stdin-ends"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        // Ctrl-C is for this process, which then stops them in order.
        command.process_group(0);
        let mut child =
            command.spawn().map_err(|error| format!("node {number} cannot be started: {error}"))?;
        let out = child.stdout.take().ok_or("a pipe that was asked for")?;
        self.child = Some(child);
        self.is_paused = false;
        let mut line = String::new();
        let read = timeout(START_DEADLINE, BufReader::new(out).read_line(&mut line)).await;
        match read {
            Ok(Ok(length)) if length > 0 => {
                let Started { portals, admin } = serde_json::from_str(&line)?;
                (self.portals, self.admin) = (portals, admin);
                Ok(())
            }
            Ok(_) => Err(format!("node {number} ended before it served: its messages are above").into()),
            Err(_) => {
                Err(format!("node {number} did not serve within {} s", START_DEADLINE.as_secs()).into())
            }
        }
    }

    pub(super) async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill().await;
        }
        self.is_paused = false;
    }

    pub(super) async fn stop(&mut self) {
        // Waiting for a child ends its input, which would be a second signal: it would stop at once.
        let input = self.child.as_mut().and_then(|child| child.stdin.take());
        if let Some(pid) = self.pid() {
            let _ = kill_process(pid, Signal::CONT);
            let _ = kill_process(pid, Signal::TERM);
        }
        if let Some(child) = &mut self.child
            && timeout(STOP_DEADLINE, child.wait()).await.is_err()
        {
            tracing::warn!(node = self.number, "the node does not stop: it is killed");
        }
        self.kill().await;
        drop(input);
    }
}

/// A node's configuration.
fn yaml(
    args: &DemoArgs,
    number: u8,
    portal: SocketAddr,
    keeper: SocketAddr,
) -> Result<String, Box<dyn Error>> {
    let mut text = String::new();
    writeln!(text, "# Written anew whenever the demo starts.")?;
    writeln!(text, "node:\n  name: node-{number}\n  zone: node-{number}\n  state_directory: state")?;
    writeln!(text, "  data_directories: [{{path: disk, weight: 1}}]\n  portals: [{{listen: \"{portal}\"}}]")?;
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let admin = args.admin.filter(|_| number == 1).map_or(any, |address| address.0);
    writeln!(text, "  admin: \"{admin}\"")?;
    writeln!(text, "cluster:\n  name: demo\n  ledger: {{keeper: \"{keeper}\", key_file: ../cluster.key}}")?;
    writeln!(text, "targets:\n  - iqn: {TARGET}\n    initiators: [\"*\"]")?;
    for (key, account) in [("chap", &args.chap), ("mutual_chap", &args.mutual_chap)] {
        if let Some(account) = account {
            let file = path::absolute(&account.file)?;
            writeln!(
                text,
                "    {key}: {{user: {:?}, secret_file: {:?}}}",
                account.user,
                file.display().to_string()
            )?;
        }
    }
    writeln!(text, "    luns:")?;
    for (lun, option) in luns(args) {
        let new = option.for_new_disk();
        let (size, thin) = (new.size_bytes, new.thin);
        write!(text, "      - {{lun: {lun}, vdi: demo-{lun}, size: {size}, thin: {thin}")?;
        write!(text, ", block_size: {}, physical_block_size: {}", new.block_size, new.physical_block_size)?;
        let cache = if option.has_write_cache() { "writeback" } else { "writethrough" };
        writeln!(text, ", read_only: {}, cache: {cache}}}", option.is_read_only())?;
    }
    Ok(text)
}
