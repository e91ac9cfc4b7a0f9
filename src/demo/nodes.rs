//! The demo of several nodes, each a child: this process keeps their ledger, and starts and ends them.

use std::convert::Infallible;
use std::error::Error;
use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::path::{self, Path, PathBuf};
use std::process::ExitCode;

use huntaway_ledger::{Name, State, VdiOptions};
use huntaway_membership::local::shared::{ClusterKey, KeeperOptions, KeeperServer, NewCluster};
use rustix::process::{Signal, kill_process};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::child::{Common, Disk, Node, node_dir};
use super::control::{Action, Control};
use super::{DEFAULT_ADMIN_PORT, DEFAULT_PORTAL_PORT, DemoArgs, PORTS_TRIED, Ready, ReadyLun, TARGET};
use crate::cluster::NewMember;
use crate::keeper_command::{DEFAULT_COPIES, key};
use crate::new_node::member;
use crate::node_address::first_that_answers;
use crate::recipes::{self, ChapRecipe, LunRecipe, Recipe};
use crate::signals::Signals;

/// Most nodes of a demo.
const MOST_NODES: u8 = 9;

/// A demo of several nodes.
struct Demo<'a> {
    common: Common<'a>,
    nodes: Vec<Node>,
}

/// The nodes whose directories there are; of a new demo, those that are to be made. None: one in this process.
///
/// # Errors
/// The directory has another demo.
pub(super) fn wanted(args: &DemoArgs) -> Result<Vec<u8>, Box<dyn Error>> {
    let dir = args.dir.display();
    let known: Vec<u8> = (1..=MOST_NODES).filter(|number| node_dir(&args.dir, *number).exists()).collect();
    let Some(nodes) = args.nodes.filter(|_| known.is_empty()) else { return Ok(known) };
    if args.dir.join("epoch").exists() {
        return Err(format!("{dir} has a demo of one node in one process: give another --dir").into());
    }
    check_portals(args, nodes.into())?;
    Ok((1..=nodes).collect())
}

fn check_portals(args: &DemoArgs, nodes: usize) -> Result<(), String> {
    let given = args.listen.len();
    if given == 0 || given == nodes {
        return Ok(());
    }
    Err(format!("{given} portals for {nodes} nodes: give --listen once for each node, or not at all"))
}

/// Serves until it is told to stop.
pub(super) fn run(args: &DemoArgs, nodes: &[u8]) -> Result<ExitCode, Box<dyn Error>> {
    if !args.advertise.is_empty() {
        return Err("--advertise is for a demo of one node".into());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(args, nodes))?;
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}

async fn serve(args: &DemoArgs, nodes: &[u8]) -> Result<(), Box<dyn Error>> {
    let dir = path::absolute(&args.dir)?;
    let mut signals = Signals::listen()?;
    fs::create_dir_all(&dir).map_err(|error| format!("cannot make {}: {error}", dir.display()))?;
    let key = key(&dir.join("cluster.key"))?;
    let server = KeeperServer::open(&dir.join("ledger"), keeper_options(&dir, nodes, key)?)?;
    let disks = Disk::all(&args.lun, server.state())?;
    let nodes = members(args, nodes, server.state())?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let keeper = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let mut kept = tokio::spawn(server.serve(listener, async move { _ = stopped.await }));
    let control = Control::listen(&dir)?;
    let portals = portals(args, nodes.len())?;
    let first = *nodes.first().ok_or("there are no nodes")?;
    let common = Common { args, dir, keeper, disks, admin: (first, admin(args)?) };
    let configured =
        nodes.into_iter().zip(portals).map(|(number, portal)| Node::configured(&common, number, portal));
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
    let signal = tokio::select! {
        signal = signals.next() => signal,
        ended = &mut kept => {
            demo.stop_all().await;
            ended??;
            return Err("the keeper of the ledger ended".into());
        }
        never = demo.obey(&control) => match never {},
    };
    tracing::info!(signal, "stopping all nodes; a second signal stops at once");
    signals.end_at_the_next();
    demo.stop_all().await;
    drop(stop);
    kept.await??;
    Ok(())
}

/// Those of the nodes that the ledger has as well.
///
/// # Errors
/// There are none, or not as many as are asked for.
fn members(args: &DemoArgs, nodes: &[u8], state: &State) -> Result<Vec<u8>, Box<dyn Error>> {
    let is_member = |node: &u8| state.members().iter().any(|member| member.name.as_str() == name(*node));
    let (members, strangers): (Vec<u8>, Vec<u8>) = nodes.iter().partition(|node| is_member(node));
    let dir = args.dir.display();
    for node in strangers {
        let place = node_dir(&args.dir, node);
        tracing::warn!(node, directory = %place.display(), "a node that belongs to the cluster no more is not started: its \
            directory can be removed");
    }
    for node in (1..=MOST_NODES).filter(|node| is_member(node) && !members.contains(node)) {
        let place = node_dir(&args.dir, node);
        tracing::warn!(node, directory = %place.display(), "a node whose directory is not there is not started: without it the \
            cluster lacks a node until huntaway node drain and node remove take it out");
    }
    if members.is_empty() {
        return Err(
            format!("{dir} has the directory of no node that its cluster knows: give another --dir").into()
        );
    }
    let found = members.len();
    if let Some(asked) = args.nodes.filter(|asked| usize::from(*asked) != found) {
        return Err(format!(
            "the demo in {dir} has {found} nodes, not {asked}: give --nodes {found} or another --dir"
        )
        .into());
    }
    check_portals(args, found)?;
    Ok(members)
}

fn name(node: u8) -> String {
    format!("node-{node}")
}

impl Demo<'_> {
    /// Starts those that start.
    ///
    /// # Errors
    /// None does.
    async fn start_all(&mut self) -> Result<(), Box<dyn Error>> {
        // At the same time: none serves before most are there.
        let started = futures_util::future::join_all(self.nodes.iter_mut().map(Node::start)).await;
        let failed: Vec<String> =
            started.into_iter().filter_map(|started| Some(started.err()?.to_string())).collect();
        if failed.len() == self.nodes.len() {
            return Err(failed.join("\n").into());
        }
        for why in failed {
            tracing::warn!(why, "the other nodes go on without it: huntaway demo start tries it again");
        }
        Ok(())
    }

    /// Does what is asked for, one after another.
    async fn obey(&mut self, control: &Control) -> Infallible {
        loop {
            let (action, asker) = control.next().await;
            let done = self.carry_out(action).await;
            asker.answer(&done).await;
        }
    }

    async fn stop_all(&mut self) {
        futures_util::future::join_all(self.nodes.iter_mut().map(Node::stop)).await;
    }

    async fn carry_out(&mut self, action: Action) -> Result<String, String> {
        let Some(number) = action.node() else {
            return self.add().await.map_err(|error| error.to_string());
        };
        let known: Vec<String> = self.nodes.iter().map(|node| node.number.to_string()).collect();
        let node = self.nodes.iter_mut().find(|node| node.number == number);
        let there_are = || format!("there are nodes {} in {}", known.join(", "), self.common.dir.display());
        let node = node.ok_or_else(there_are)?;
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
        let dir = |number: &u8| node_dir(&self.common.dir, *number);
        let is_free =
            |number: &u8| !dir(number).exists() && self.nodes.iter().all(|node| node.number != *number);
        let number = (1..=MOST_NODES).find(is_free);
        let number = number.ok_or_else(|| format!("a demo has {MOST_NODES} nodes at most"))?;
        let dir = dir(&number);
        let taken: Vec<SocketAddr> = self.nodes.iter().map(|node| node.portal).collect();
        let portal =
            if self.common.args.listen.is_empty() { free_portals(1, &taken)?[0] } else { free_address()? };
        fs::create_dir_all(&dir)?;
        let node = Node::configured(&self.common, number, portal)?;
        let (name, zone) = (name(number), name(number));
        let new = NewMember { zone, name, address: free_address()?, weight: 1 };
        // Whoever is paused takes the question, and does not answer.
        let at_work =
            |node: &mut Node| (!node.is_paused && node.pid().is_some()).then(|| node.config.clone());
        let configurations: Vec<PathBuf> = self.nodes.iter_mut().filter_map(at_work).collect();
        let added = tokio::task::spawn_blocking(move || admit(configurations, &new)).await?;
        if let Err(NotAdmitted { why, may_be_done }) = added {
            if !may_be_done {
                fs::remove_dir_all(&dir)?;
            }
            return Err(why.into());
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

/// Why a node does not belong to the cluster.
struct NotAdmitted {
    why: String,
    /// It may do so later.
    may_be_done: bool,
}

/// Has the first node that answers have the ledger have it.
fn admit(configurations: Vec<PathBuf>, new: &NewMember) -> Result<(), NotAdmitted> {
    let not_asked = |why: String| NotAdmitted { why, may_be_done: false };
    let asked = first_that_answers(configurations).map_err(|error| not_asked(error.to_string()))?;
    let asked = asked.ok_or_else(|| not_asked("no node runs: start one".to_owned()))?;
    let added = asked.add(new).map(drop);
    added.map_err(|error| NotAdmitted { may_be_done: !error.is_refusal(), why: error.to_string() })
}

/// An address of this machine that nobody has.
fn free_address() -> std::io::Result<SocketAddr> {
    StdListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn keeper_options(dir: &Path, nodes: &[u8], key: ClusterKey) -> Result<KeeperOptions, Box<dyn Error>> {
    let mut options = KeeperOptions::new(key);
    let mut members = Vec::new();
    // All at once, so that each gets another port.
    let mut listeners = Vec::new();
    for number in nodes {
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let name = Name::new(name(*number))?;
        fs::create_dir_all(node_dir(dir, *number))?;
        members.push(member(name.clone(), listener.local_addr()?, name, 1)?);
        listeners.push(listener);
    }
    let copies = DEFAULT_COPIES.min(nodes.len());
    let (name, min_copies) = (Name::new("demo")?, copies.div_ceil(2));
    options.make = Some(NewCluster { name, members, copies, min_copies });
    Ok(options)
}

/// Where each node's gateway listens.
fn portals(args: &DemoArgs, nodes: usize) -> Result<Vec<SocketAddr>, Box<dyn Error>> {
    if args.listen.is_empty() {
        return free_portals(nodes, &[]);
    }
    Ok(args.listen.iter().map(|address| address.0).collect())
}

/// So many free ports, from the default one on; those that are taken are somebody's who may not listen there just now.
fn free_portals(count: usize, taken: &[SocketAddr]) -> Result<Vec<SocketAddr>, Box<dyn Error>> {
    let free: Vec<SocketAddr> = free_from(DEFAULT_PORTAL_PORT, taken).take(count).collect();
    if free.len() < count {
        return Err("too few ports are free: give --listen for each node".into());
    }
    Ok(free)
}

fn free_from(port: u16, taken: &[SocketAddr]) -> impl Iterator<Item = SocketAddr> {
    (port..port + PORTS_TRIED)
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .filter(|address| !taken.contains(address) && StdListener::bind(address).is_ok())
}

/// Where the first node serves /metrics: there again when it is started again.
fn admin(args: &DemoArgs) -> Result<SocketAddr, &'static str> {
    let free = || free_from(DEFAULT_ADMIN_PORT, &[]).next();
    let address = args.admin.map(|address| address.0).or_else(free);
    address.ok_or("too few ports are free: give --admin")
}

/// Tells a program (`--json`) or a person how to reach the disks.
fn announce(Demo { common, nodes }: &Demo<'_>) -> Result<(), Box<dyn Error>> {
    let Common { args, dir, disks, .. } = common;
    let portals: Vec<String> = nodes.iter().flat_map(|node| node.portals.clone()).collect();
    let admin = nodes.iter().find_map(|node| node.admin.clone()).unwrap_or_default();
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cluster::fixture;

    #[test]
    fn a_portal_of_a_node_that_does_not_run_is_not_free() {
        let first = free_portals(2, &[]).unwrap();
        let others = free_portals(2, &first).unwrap();
        assert!(others.iter().all(|portal| !first.contains(portal)), "{first:?} {others:?}");
    }

    #[test]
    fn nodes_that_are_no_members_or_have_no_directory_are_not_started() {
        let state = fixture::state(3, 3, 2);
        let args = |more: &[&str]| Args::parse_from(["demo"].iter().chain(more)).demo;
        assert_eq!(members(&args(&[]), &[1, 3, 4], &state).unwrap(), [1, 3]);
        assert_eq!(members(&args(&["--nodes", "2"]), &[1, 3, 4], &state).unwrap(), [1, 3]);
        let refused =
            |more: &[&str], nodes: &[u8]| members(&args(more), nodes, &state).unwrap_err().to_string();
        assert!(refused(&["--nodes", "3"], &[1, 3, 4]).contains("has 2 nodes, not 3"));
        assert!(refused(&["--listen", "127.0.0.1:0"], &[1, 3]).contains("1 portals for 2 nodes"));
        assert!(refused(&[], &[4]).contains("no node that its cluster knows"));
    }

    #[test]
    fn metrics_are_served_where_they_were_before() {
        let free = admin(&Args::parse_from(["demo"]).demo).unwrap();
        assert!(free.port() >= DEFAULT_ADMIN_PORT, "{free}");
    }

    #[derive(clap::Parser)]
    struct Args {
        #[command(flatten)]
        demo: DemoArgs,
    }
}
