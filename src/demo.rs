//! `huntaway demo`: one node from nothing, in one command; or several.

mod child;
mod control;
mod nodes;

use std::error::Error;
use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{self, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use huntaway_gateway::{
    Authentication, Chap, ChapAccount, DEFAULT_LOGIN_TIME, DigestPolicy, Gateway, GatewayConfig,
    InitiatorConfig, Metrics, PortalConfig, Secret, Served, TargetConfig, listen,
};

use huntaway_config::{SecretError, read_secret};
use prometheus::Registry;
use serde::Serialize;
use tokio::net::TcpListener;

pub(crate) use self::control::Action;
use crate::account_file::AccountFile;
use crate::address::Address;
use crate::admin::Admin;
use crate::demo_disks::{self, Disk};
use crate::disk_option::DiskOption;
use crate::node::{LedgerRecords, Storage, cannot_listen};
use crate::open_files::OpenFiles;
use crate::readiness::readiness;
use crate::recipes::{self, ChapRecipe, LunRecipe, Recipe};
use crate::signals::Signals;

/// The demo's one target.
const TARGET: &str = "iqn.2026-11.dev.huntaway:demo";

/// Where the portal listens unless told otherwise: this port, or the next free one.
const DEFAULT_PORTAL_PORT: u16 = 3260;

/// Where the admin address listens unless told otherwise: this port, or the next free one.
const DEFAULT_ADMIN_PORT: u16 = 9326;

/// How many ports are tried when the default one is taken.
const PORTS_TRIED: u16 = 100;

/// Arguments of `huntaway demo`.
#[derive(clap::Args)]
pub(crate) struct DemoArgs {
    /// Where the data lies; made if it does not exist, found again if it does
    #[arg(long, default_value = "./huntaway-demo", global = true)]
    dir: PathBuf,

    /// So many nodes, each a process of its own, which keep three copies of everything (or as many as there are nodes) and all
    /// serve every disk [default: one node, in this process; or as many as there were in this directory]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u8).range(1..=9))]
    nodes: Option<u8>,

    /// Try out what happens to the nodes of a demo that runs
    #[command(subcommand)]
    action: Option<Action>,

    /// Where initiators log in; may be repeated; port 0 takes any free one [default: 127.0.0.1:3260, or the next free port]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<Address>,

    /// Where /metrics, /healthz and /readyz are served, of several nodes by the first one [default: 127.0.0.1:9326, or the next free
    /// port]
    #[arg(long, value_name = "ADDR:PORT")]
    admin: Option<Address>,

    /// Print one line of JSON once logins are accepted, instead of help for people
    #[arg(long)]
    json: bool,

    /// A disk; may be repeated: the first is LUN 0. Keys and defaults:
    /// size=1GiB,thin=true,read_only=false,block_size=512,physical_block_size=4096,cache=writeback.
    /// A disk keeps its sizes and thin for ever; read_only and cache hold for this run only
    #[arg(long, value_name = "KEY=VALUE,...")]
    lun: Vec<DiskOption>,

    /// Initiators must know this CHAP user's secret, the only line of SECRETFILE, to log in; discovery needs no CHAP
    #[arg(long, value_name = "USER:SECRETFILE")]
    chap: Option<AccountFile>,

    /// We prove ourselves to initiators that ask with this user and secret
    #[arg(long, value_name = "USER:SECRETFILE", requires = "chap")]
    mutual_chap: Option<AccountFile>,

    /// Address that discovery shows instead of those it listens on: one for all, or one for each --listen
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_advertised)]
    advertise: Vec<String>,
}

/// The line that `--json` prints.
#[derive(Serialize)]
struct Ready<'a> {
    portals: Vec<String>,
    target: &'a str,
    luns: Vec<ReadyLun<'a>>,
    admin: String,
    pid: u32,
}

#[derive(Serialize)]
struct ReadyLun<'a> {
    lun: u16,
    vdi: &'a str,
    bytes: u64,
    block_size: u32,
}

impl<'a> ReadyLun<'a> {
    fn of(Disk { lun, vdi, .. }: &'a Disk) -> Self {
        Self { lun: *lun, vdi: vdi.name.as_str(), bytes: vdi.size_bytes, block_size: vdi.block_size }
    }
}

/// Serves until it is told to stop.
pub(crate) fn run(args: &DemoArgs) -> Result<ExitCode, Box<dyn Error>> {
    if let Some(action) = &args.action {
        return control::ask(&args.dir, *action);
    }
    demo_disks::check_count(args.lun.len())?;
    let nodes = nodes::wanted(args)?;
    if !nodes.is_empty() {
        return nodes::run(args, &nodes);
    }
    let files = OpenFiles::take()?;
    let authentication = authentication(args)?;
    let registry = Registry::new();
    let storage = Arc::new(demo_disks::open(&args.dir, files.objects, &registry)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(args, &storage, registry, authentication, files.connections))?;
    // The runtime goes on until the store is closed: it hears a second signal.
    storage.close()?;
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}

async fn serve(
    args: &DemoArgs,
    storage: &Arc<Storage>,
    registry: Registry,
    authentication: Authentication,
    max_connections: usize,
) -> Result<(), Box<dyn Error>> {
    let mut signals = Signals::listen()?;
    let disks = tokio::select! {
        disks = demo_disks::disks(storage, &args.lun) => disks?,
        signal = signals.next() => {
            tracing::info!(signal, "stopping before all disks were there; the next start goes on with them");
            signals.end_at_the_next();
            return Ok(());
        }
    };
    let portals = portals(args)?;
    let admin_listener = match args.admin {
        None => listen_near(DEFAULT_ADMIN_PORT)?,
        Some(address) => listen_at(address.0)?,
    };
    let admin_address = admin_listener.local_addr()?;
    let accepts = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&accepts);
    let accepted = move || told.load(Ordering::Acquire);
    let admin = Admin::new(registry.clone(), readiness(Arc::clone(storage), accepted));
    let admin = tokio::spawn(admin.serve(admin_listener));
    let units = disks.iter().map(|disk| demo_disks::unit(storage, disk)).collect();
    let anyone = InitiatorConfig { pattern: "*".into(), luns: None, authentication };
    let target = TargetConfig {
        name: TARGET.into(),
        portals: None,
        initiators: vec![anyone],
        digests: DigestPolicy::Allowed,
        units,
    };
    let gateway = Gateway::start(GatewayConfig {
        portals,
        served: Served { targets: vec![target], discovery: Authentication::None },
        max_connections,
        login_time: DEFAULT_LOGIN_TIME,
        records: LedgerRecords::of(storage),
        cluster: storage.cluster(),
        loops: storage.loops(),
        metrics: Metrics::new(&registry)?,
    })?;
    accepts.store(true, Ordering::Release);
    announce(args, &gateway, &disks, admin_address)?;
    let signal = signals.next().await;
    tracing::info!(signal, "stopping: asking initiators to log out; a second signal stops at once");
    signals.end_at_the_next();
    accepts.store(false, Ordering::Release);
    gateway.shut_down().await;
    admin.abort();
    Ok(())
}

/// Opens the portals: each is shown in discovery by what is advertised for it, if anything is.
fn portals(args: &DemoArgs) -> Result<Vec<PortalConfig>, Box<dyn Error>> {
    let listeners = match &*args.listen {
        [] => vec![listen_near(DEFAULT_PORTAL_PORT)?],
        addresses => addresses.iter().map(|address| listen_at(address.0)).collect::<Result<_, _>>()?,
    };
    let portals = listeners.len();
    let advertised: Vec<Option<String>> = match &*args.advertise {
        [] => vec![None; portals],
        [one] => vec![Some(one.clone()); portals],
        several if several.len() == portals => several.iter().cloned().map(Some).collect(),
        several => {
            let given = several.len();
            return Err(format!(
                "{given} addresses are advertised for {portals} portals: give --advertise once, or once for each \
                 --listen, in the same order"
            )
            .into());
        }
    };
    let portal = |((listener, advertised), number)| PortalConfig {
        name: format!("portal-{number}"),
        listener,
        advertised,
    };
    Ok(listeners.into_iter().zip(advertised).zip(0..).map(portal).collect())
}

/// Tells a program (`--json`) or a person how to reach the disks.
fn announce(
    args: &DemoArgs,
    gateway: &Gateway,
    disks: &[Disk],
    admin: SocketAddr,
) -> Result<(), Box<dyn Error>> {
    let admin = format!("http://{admin}");
    let mut out = std::io::stdout().lock();
    if args.json {
        let ready = Ready {
            portals: gateway.portals().iter().map(|(_, address)| address.to_string()).collect(),
            target: TARGET,
            luns: disks.iter().map(ReadyLun::of).collect(),
            admin,
            pid: std::process::id(),
        };
        writeln!(out, "{}", serde_json::to_string(&ready)?)?;
        return Ok(out.flush()?);
    }
    writeln!(out, "Huntaway serves {} from {}:", TARGET, args.dir.display())?;
    disks.iter().try_for_each(|disk| writeln!(out, "  {disk}"))?;
    write!(out, "{}", recipes::for_people(&recipe(args, gateway, disks), &admin))?;
    writeln!(out, "\nCtrl-C stops it; the data stays in {}.", args.dir.display())?;
    Ok(out.flush()?)
}

fn recipe(args: &DemoArgs, gateway: &Gateway, disks: &[Disk]) -> Recipe {
    let portals = match &*args.advertise {
        [] => gateway.portals().iter().map(|(_, address)| address.to_string()).collect(),
        advertised => advertised.to_vec(),
    };
    let account = |account: &AccountFile| ChapRecipe {
        user: account.user.clone(),
        secret_file: path::absolute(&account.file).unwrap_or_else(|_| account.file.clone()),
    };
    let lun = |Disk { lun, vdi, option }: &Disk| LunRecipe {
        number: *lun,
        vdi: vdi.name.as_str().to_owned(),
        size_bytes: Some(vdi.size_bytes),
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

/// Listens on the loopback address at `port`, or at the next free one.
fn listen_near(port: u16) -> Result<TcpListener, Box<dyn Error>> {
    for port in port..port + PORTS_TRIED {
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        match listen(address) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            result => return result.map_err(|error| cannot_listen(address, &error).into()),
        }
    }
    Err(format!("ports {port} to {} are all taken: give an address yourself", port + PORTS_TRIED - 1).into())
}

fn listen_at(address: SocketAddr) -> Result<TcpListener, Box<dyn Error>> {
    listen(address).map_err(|error| cannot_listen(address, &error).into())
}

/// An address as initiators will use it: a name will do as well.
fn parse_advertised(text: &str) -> Result<String, String> {
    let valid = text.rsplit_once(':').is_some_and(|(host, port)| {
        let bracketed = host.starts_with('[') && host.ends_with(']');
        !host.is_empty()
            && (bracketed || !host.contains(':'))
            && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    let expected = "write ADDR:PORT, such as 192.0.2.1:3260 or [2001:db8::1]:3260";
    if valid { Ok(text.into()) } else { Err(expected.into()) }
}

/// What initiators must prove, by the arguments.
fn authentication(args: &DemoArgs) -> Result<Authentication, Box<dyn Error>> {
    let Some(account) = &args.chap else { return Ok(Authentication::None) };
    let read = |AccountFile { user, file }: &AccountFile| -> Result<ChapAccount, SecretError> {
        Ok(ChapAccount { user: user.clone(), secret: Secret::new(&read_secret(file)?) })
    };
    let mutual = args.mutual_chap.as_ref().map(read).transpose()?;
    Ok(Authentication::Chap(Chap { mutual, ..Chap::new(vec![read(account)?]) }))
}
