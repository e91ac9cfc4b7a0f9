//! The demo of several nodes, each a child: this process keeps their ledger, and starts and ends them.

use std::error::Error;
use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::path::{self, Path, PathBuf};
use std::process::ExitCode;

use huntaway_ledger::{Name, VdiOptions};
use huntaway_membership::local::shared::{ClusterKey, KeeperOptions, KeeperServer, NewCluster};
use rustix::process::{Signal, kill_process};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::child::{Common, Disk, Node, node_dir};
use super::control::{Action, Control};
use super::{DEFAULT_PORTAL_PORT, DemoArgs, PORTS_TRIED, Ready, ReadyLun, TARGET};
use crate::cluster::NewMember;
use crate::control::Client;
use crate::keeper_command::{DEFAULT_COPIES, key};
use crate::new_node::member;
use crate::recipes::{self, ChapRecipe, LunRecipe, Recipe};
use crate::signals::Signals;

/// Most nodes of a demo.
const MOST_NODES: u8 = 9;

/// A demo of several nodes.
struct Demo<'a> {
    common: Common<'a>,
    nodes: Vec<Node>,
}

/// How many nodes are to run, if not one in this process.
///
/// # Errors
/// The directory has another demo.
pub(super) fn wanted(args: &DemoArgs) -> Result<Option<u8>, Box<dyn Error>> {
    let dir = args.dir.display();
    let known = (1..=MOST_NODES).take_while(|number| node_dir(&args.dir, *number).exists()).last();
    match (args.nodes, known) {
        (None, known) => Ok(known),
        (Some(_), None) if args.dir.join("epoch").exists() => {
            Err(format!("{dir} has a demo of one node in one process: give another --dir").into())
        }
        (Some(nodes), Some(known)) if nodes != known => Err(format!(
            "the demo in {dir} has {known} nodes, not {nodes}: give --nodes {known} or another --dir"
        )
        .into()),
        (Some(nodes), _) => Ok(Some(nodes)),
    }
}

/// Serves until it is told to stop.
pub(super) fn run(args: &DemoArgs, nodes: u8) -> Result<ExitCode, Box<dyn Error>> {
    if !args.advertise.is_empty() {
        return Err("--advertise is for a demo of one node".into());
    }
    if !args.listen.is_empty() && args.listen.len() != usize::from(nodes) {
        let given = args.listen.len();
        return Err(format!(
            "{given} portals for {nodes} nodes: give --listen once for each node, or not at all"
        )
        .into());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(args, nodes))?;
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}

async fn serve(args: &DemoArgs, nodes: u8) -> Result<(), Box<dyn Error>> {
    let dir = path::absolute(&args.dir)?;
    let mut signals = Signals::listen()?;
    fs::create_dir_all(&dir).map_err(|error| format!("cannot make {}: {error}", dir.display()))?;
    let key = key(&dir.join("cluster.key"))?;
    let server = KeeperServer::open(&dir.join("ledger"), keeper_options(&dir, nodes, key)?)?;
    let disks = Disk::all(&args.lun, server.state())?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let keeper = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let mut kept = tokio::spawn(server.serve(listener, async move { _ = stopped.await }));
    let control = Control::listen(&dir)?;
    let portals = portals(args, nodes)?;
    let common = Common { args, dir, keeper, disks };
    let configured =
        (1..=nodes).zip(portals).map(|(number, portal)| Node::configured(&common, number, portal));
    let nodes = configured.collect::<Result<Vec<Node>, Box<dyn Error>>>()?;
    let mut demo = Demo { common, nodes };
    let began = tokio::select! {
        began = demo.start_all() => began,
        signal = signals.next() => Err(format!("stopped by {signal} before all nodes served").into()),
    };
    if let Err(error) = began {
        demo.stop_all().await;
        return Err(error);
    }
    announce(&demo)?;
    loop {
        tokio::select! {
            signal = signals.next() => {
                tracing::info!(signal, "stopping all nodes; a second signal stops at once");
                break;
            }
            ended = &mut kept => {
                demo.stop_all().await;
                ended??;
                return Err("the keeper of the ledger ended".into());
            }
            (action, asker) = control.next() => {
                let done = demo.carry_out(action).await;
                asker.answer(&done).await;
            }
        }
    }
    signals.end_at_the_next();
    demo.stop_all().await;
    drop(stop);
    kept.await??;
    Ok(())
}

impl Demo<'_> {
    async fn start_all(&mut self) -> Result<(), Box<dyn Error>> {
        // At the same time: none serves before most are there.
        futures_util::future::try_join_all(self.nodes.iter_mut().map(Node::start)).await?;
        Ok(())
    }

    async fn stop_all(&mut self) {
        futures_util::future::join_all(self.nodes.iter_mut().map(Node::stop)).await;
    }

    async fn carry_out(&mut self, action: Action) -> Result<String, String> {
        let count = self.nodes.len();
        let Some(number) = action.node() else {
            return self.add().await.map_err(|error| error.to_string());
        };
        let node = usize::from(number).checked_sub(1).and_then(|place| self.nodes.get_mut(place));
        let node =
            node.ok_or_else(|| format!("there are nodes 1 to {count} in {}", self.common.dir.display()))?;
        let number = node.number;
        match (action, node.pid(), node.is_paused) {
            (Action::Kill(_), Some(_), _) => {
                node.kill().await;
                Ok(format!("node {number} is killed; huntaway demo start {number} starts it again"))
            }
            (Action::Pause(_), Some(pid), false) => {
                kill_process(pid, Signal::STOP).map_err(|error| error.to_string())?;
                node.is_paused = true;
                Ok(format!("node {number} is paused; huntaway demo start {number} lets it go on"))
            }
            (Action::Start(_), Some(pid), true) => {
                kill_process(pid, Signal::CONT).map_err(|error| error.to_string())?;
                node.is_paused = false;
                Ok(format!("node {number} goes on"))
            }
            (Action::Start(_), None, _) => {
                node.start().await.map_err(|error| error.to_string())?;
                Ok(format!("node {number} is started"))
            }
            (Action::Kill(_) | Action::Pause(_), None, _) => Err(format!("node {number} does not run")),
            (Action::Pause(_), Some(_), true) => Err(format!("node {number} is paused already")),
            (Action::Start(_), Some(_), false) => Err(format!("node {number} runs already")),
            (Action::Add, _, _) => Err("a node that is there is not added".into()),
        }
    }

    /// Has another node belong to the cluster, and starts it.
    async fn add(&mut self) -> Result<String, Box<dyn Error>> {
        let number = self.nodes.last().map_or(1, |node| node.number + 1);
        if number > MOST_NODES {
            return Err(format!("a demo has {MOST_NODES} nodes at most").into());
        }
        let portal = if self.common.args.listen.is_empty() { free_portals(1)?[0] } else { free_address()? };
        let dir = node_dir(&self.common.dir, number);
        fs::create_dir_all(&dir)?;
        let node = Node::configured(&self.common, number, portal)?;
        let name = format!("node-{number}");
        let new = NewMember { zone: name.clone(), name, address: free_address()?, weight: 1 };
        let sockets: Vec<PathBuf> = self
            .nodes
            .iter()
            .map(|node| node_dir(&self.common.dir, node.number).join("state/control.sock"))
            .collect();
        let added = tokio::task::spawn_blocking(move || admit(&sockets, &new)).await?;
        if let Err(error) = added {
            // It would count as one that is there.
            fs::remove_dir_all(&dir)?;
            return Err(error.into());
        }
        self.nodes.push(node);
        let node = self.nodes.last_mut().ok_or("it was put there")?;
        node.start().await?;
        let portals = node.portals.join(" ");
        Ok(format!(
            "node {number} is added, and serves every disk at {portals}; its share of the data moves after the delay that \
             huntaway recovery show --dir {} tells",
            self.common.dir.display()
        ))
    }
}

/// Has the first node that answers have the ledger have it.
fn admit(sockets: &[PathBuf], new: &NewMember) -> Result<(), String> {
    let mut last = "no node runs: start one".to_owned();
    for socket in sockets {
        match Client::new(socket).map_err(|error| error.to_string())?.add(new) {
            Ok(_) => return Ok(()),
            Err(error) if error.is_refusal() => return Err(error.to_string()),
            Err(error) => last = error.to_string(),
        }
    }
    Err(last)
}

/// An address of this machine that nobody has.
fn free_address() -> std::io::Result<SocketAddr> {
    StdListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn keeper_options(dir: &Path, nodes: u8, key: ClusterKey) -> Result<KeeperOptions, Box<dyn Error>> {
    let mut options = KeeperOptions::new(key);
    let mut members = Vec::new();
    // All at once, so that each gets another port.
    let mut listeners = Vec::new();
    for number in 1..=nodes {
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let name = Name::new(format!("node-{number}"))?;
        fs::create_dir_all(node_dir(dir, number))?;
        members.push(member(name.clone(), listener.local_addr()?, name, 1)?);
        listeners.push(listener);
    }
    let copies = DEFAULT_COPIES.min(nodes.into());
    let (name, min_copies) = (Name::new("demo")?, copies.div_ceil(2));
    options.make = Some(NewCluster { name, members, copies, min_copies });
    Ok(options)
}

/// Where each node's gateway listens.
fn portals(args: &DemoArgs, nodes: u8) -> Result<Vec<SocketAddr>, Box<dyn Error>> {
    if args.listen.is_empty() {
        return free_portals(nodes);
    }
    Ok(args.listen.iter().map(|address| address.0).collect())
}

/// So many free ports, from the default one on.
fn free_portals(nodes: u8) -> Result<Vec<SocketAddr>, Box<dyn Error>> {
    let free = (DEFAULT_PORTAL_PORT..DEFAULT_PORTAL_PORT + PORTS_TRIED)
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .filter(|address| StdListener::bind(address).is_ok());
    let free: Vec<SocketAddr> = free.take(nodes.into()).collect();
    if free.len() < usize::from(nodes) {
        return Err("too few ports are free: give --listen for each node".into());
    }
    Ok(free)
}

/// Tells a program (`--json`) or a person how to reach the disks.
fn announce(Demo { common, nodes }: &Demo<'_>) -> Result<(), Box<dyn Error>> {
    let Common { args, dir, disks, .. } = common;
    let portals: Vec<String> = nodes.iter().flat_map(|node| node.portals.clone()).collect();
    let admin = nodes.first().and_then(|node| node.admin.clone()).unwrap_or_default();
    let mut out = std::io::stdout().lock();
    if args.json {
        let luns = disks.iter().map(|Disk { lun, vdi, properties, .. }| {
            let VdiOptions { size_bytes: bytes, block_size, .. } = *properties;
            ReadyLun { lun: *lun, vdi, bytes, block_size }
        });
        let ready = Ready { portals, target: TARGET, luns: luns.collect(), admin, pid: std::process::id() };
        writeln!(out, "{}", serde_json::to_string(&ready)?)?;
        return Ok(out.flush()?);
    }
    let (count, dir) = (nodes.len(), dir.display());
    writeln!(out, "Huntaway serves {TARGET} from {count} nodes in {dir}, each of which serves every disk:")?;
    for Disk { lun, properties, .. } in disks {
        writeln!(out, "  LUN {lun}: {} MiB", properties.size_bytes >> 20)?;
    }
    write!(out, "{}", recipes::for_people(&recipe(common, portals), &admin))?;
    writeln!(out, "\nSee it heal, from another terminal:")?;
    let given = args.dir.display();
    for action in ["kill 2 ", "start 2", "pause 3", "start 3", "add    "] {
        writeln!(out, "  huntaway demo --dir {given} {action}")?;
    }
    writeln!(out, "\nCtrl-C stops it; the data stays in {given}.")?;
    Ok(out.flush()?)
}

fn recipe(Common { args, disks, .. }: &Common<'_>, portals: Vec<String>) -> Recipe {
    let account = |account: &crate::account_file::AccountFile| ChapRecipe {
        user: account.user.clone(),
        secret_file: path::absolute(&account.file).unwrap_or_else(|_| account.file.clone()),
    };
    let lun = |Disk { lun, vdi, option, properties, .. }: &Disk| LunRecipe {
        number: *lun,
        vdi: vdi.clone(),
        size_bytes: Some(properties.size_bytes),
        read_only: option.is_read_only(),
    };
    Recipe {
        portals,
        target: TARGET.into(),
        luns: disks.iter().map(lun).collect(),
        initiator: None,
        allowed: vec!["*".into()],
        chap: args.chap.as_ref().map(account),
        mutual_chap: args.mutual_chap.as_ref().map(account),
        digests_required: false,
    }
}
