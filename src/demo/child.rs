//! A node of the demo of several: a child that runs `huntaway node` with a configuration of its own, as one would write it.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{self, Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use huntaway_ledger::{State, VdiOptions};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::{DemoArgs, TARGET};
use crate::demo_disks::{self, NAME_PREFIX, Unsuitable};
use crate::disk_option::DiskOption;

/// How long a node may take to start.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// How long a node may take to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(20);

/// What the configurations of all nodes have in common.
pub(super) struct Common<'a> {
    pub(super) args: &'a DemoArgs,
    /// Where the demo keeps everything.
    pub(super) dir: PathBuf,
    /// Where its ledger is kept.
    pub(super) keeper: SocketAddr,
    pub(super) disks: Vec<Disk>,
    /// Where that node serves /metrics, always; the others do so anywhere.
    pub(super) admin: (u8, SocketAddr),
}

/// A disk that every node serves.
pub(super) struct Disk {
    pub(super) lun: u16,
    pub(super) vdi: String,
    /// How it is served.
    pub(super) option: DiskOption,
    /// What it is, or is to be made with.
    pub(super) properties: VdiOptions,
    /// The ledger has it not yet.
    is_new: bool,
}

impl Disk {
    /// Those that are asked for; if none are, those that the ledger has, or one of the default kind.
    ///
    /// # Errors
    /// One is there already, and is another one.
    pub(super) fn all(asked: &[DiskOption], state: &State) -> Result<Vec<Self>, Unsuitable> {
        let existing = demo_disks::existing(state);
        let wanted = demo_disks::wanted(asked, &existing);
        // Nodes themselves refuse what does not fit.
        demo_disks::check(&wanted, &existing, u64::MAX)?;
        let disk = |(lun, option): (u16, DiskOption)| {
            let known = existing.get(&lun).map(demo_disks::options_of);
            let (is_new, properties) = (known.is_none(), known.unwrap_or_else(|| option.for_new_disk()));
            Self { lun, vdi: format!("{NAME_PREFIX}{lun}"), option, properties, is_new }
        };
        Ok(wanted.into_iter().map(disk).collect())
    }
}

/// A node, running or not.
pub(super) struct Node {
    pub(super) number: u8,
    /// Where it is to listen.
    pub(super) portal: SocketAddr,
    pub(super) config: PathBuf,
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
        common: &Common<'_>,
        number: u8,
        portal: SocketAddr,
    ) -> Result<Self, Box<dyn Error>> {
        let config = node_dir(&common.dir, number).join("huntaway.yaml");
        fs::write(&config, yaml(common, number, portal)?)?;
        Ok(Self { number, portal, config, child: None, is_paused: false, portals: Vec::new(), admin: None })
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
                self.kill().await;
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
fn yaml(common: &Common<'_>, number: u8, portal: SocketAddr) -> Result<String, Box<dyn Error>> {
    let Common { args, keeper, disks, .. } = common;
    let mut text = String::new();
    writeln!(text, "# Written anew whenever the demo starts.")?;
    writeln!(text, "node:\n  name: node-{number}\n  zone: node-{number}\n  state_directory: state")?;
    writeln!(text, "  data_directories: [{{path: disk, weight: 1}}]\n  portals: [{{listen: \"{portal}\"}}]")?;
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (first, address) = common.admin;
    let admin = if number == first { address } else { any };
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
    for Disk { lun, vdi, option, properties, is_new } in disks {
        write!(text, "      - {{lun: {lun}, vdi: {vdi}")?;
        // One that is there keeps what it has, and may have grown.
        if *is_new {
            let VdiOptions { size_bytes, block_size, physical_block_size, thin } = properties;
            write!(text, ", size: {size_bytes}, thin: {thin}")?;
            write!(text, ", block_size: {block_size}, physical_block_size: {physical_block_size}")?;
        }
        let cache = if option.has_write_cache() { "writeback" } else { "writethrough" };
        writeln!(text, ", read_only: {}, cache: {cache}}}", option.is_read_only())?;
    }
    Ok(text)
}
