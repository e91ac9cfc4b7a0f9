//! `huntaway node` and `huntaway gateway`: serve what a configuration says, until told to stop.

use std::error::Error;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{self, Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use huntaway_config::Config;
use prometheus::Registry;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::signal::unix::Signal;
use tokio::task::JoinSet;

use crate::admin::Admin;
use crate::control::ControlSocket;
use crate::logging::Logging;
use crate::members_command::{self, MembersCommand};
use crate::node::{
    ClusterMetrics, Engine, EngineOptions, Loaded, Phase, Storage, StorageOptions, Trust, cannot_listen,
    directory_of, watch,
};
use crate::node_address::DEFAULT_CONFIG;
use crate::notify::ServiceManager;
use crate::open_files::OpenFiles;
use crate::readiness::readiness;
use crate::signals::{Signals, hangups};

/// Why a gateway ends that nobody told to.
const SUPERSEDED: &str = "the start of another gateway of this name";

/// Arguments of `huntaway node`.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct NodeArgs {
    #[command(subcommand)]
    members: Option<MembersCommand>,

    #[command(flatten)]
    serve: ServeArgs,
}

/// Arguments of whatever serves.
#[derive(clap::Args)]
pub(crate) struct ServeArgs {
    /// The configuration: see `huntaway config example`
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,

    /// Print one line of JSON once logins are accepted
    #[arg(long)]
    json: bool,

    /// Stop when whoever started this closes its end of the pipe, or dies
    #[arg(long, hide = true)]
    until_stdin_ends: bool,
}

/// What a process is that serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It keeps data.
    Node,
    /// It keeps none: the nodes of its cluster do.
    Gateway,
}

impl Role {
    /// Whether the configuration is one for this.
    fn check(self, config: &Config) -> Result<(), &'static str> {
        let (keeps_data, is_alone) =
            (!config.node.data_directories.is_empty(), config.cluster.ledger.is_none());
        match self {
            Self::Node if !keeps_data => {
                Err("`node` has no `data_directories`: name one for each disk, or start \
                                              what keeps no data by huntaway gateway")
            }
            Self::Gateway if is_alone => {
                Err("`cluster` has no `ledger`: a gateway without data serves what the nodes \
                                              of a cluster keep; name its keeper and key_file")
            }
            Self::Gateway if keeps_data => {
                Err("`node` has `data_directories`, and a gateway keeps no data: take them \
                                                out, or start a node by huntaway node")
            }
            _ => Ok(()),
        }
    }
}

/// The line that `--json` prints.
#[derive(Serialize)]
struct Ready {
    portals: Vec<String>,
    admin: Option<String>,
    control: String,
    pid: u32,
}

impl NodeArgs {
    /// Whether this process is to be a node.
    pub(crate) fn serves(&self) -> bool {
        self.members.is_none()
    }
}

/// Serves until it is told to stop, or looks after the members.
pub(crate) fn run(args: &NodeArgs) -> Result<ExitCode, Box<dyn Error>> {
    match &args.members {
        Some(command) => members_command::run(command),
        None => serve_as(Role::Node, &args.serve),
    }
}

/// Serves until it is told to stop.
pub(crate) fn serve_as(role: Role, args: &ServeArgs) -> Result<ExitCode, Box<dyn Error>> {
    let file = path::absolute(&args.config)?;
    let (seen, loaded) = Loaded::read(&file);
    let loaded = loaded?;
    role.check(&loaded.config).map_err(|wrong| format!("{}: {wrong}", file.display()))?;
    let log = &loaded.config.node.log;
    let logging = Logging::start(log.format, &log.level)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // opening the storage may take long: a SIGHUP must not end the process meanwhile
    let hangups = runtime.block_on(async { hangups() })?;
    let files = OpenFiles::take()?;
    let registry = Registry::new();
    let (base, config) = (directory_of(&file), &loaded.config);
    let options = StorageOptions::of(config, base, files.objects)?;
    let trust = config.cluster.ledger.as_ref().map(|ledger| Trust::of(config, ledger, base)).transpose()?;
    let storage = Arc::new(match trust {
        None => Storage::open(options, &registry)?,
        Some(trust) if role == Role::Gateway => runtime.block_on(Storage::elsewhere(options, trust))?,
        Some(trust) => runtime.block_on(Storage::join(options, trust, &registry))?,
    });
    if config.cluster.ledger.is_some() {
        let shown = Arc::downgrade(&storage);
        ClusterMetrics::register(&registry, move || Some(shown.upgrade()?.sight().status(Vec::new())))?;
    }
    let max_connections = files.connections;
    let options = EngineOptions { file, seen, storage: Arc::clone(&storage), logging, max_connections };
    runtime.block_on(serve(args, options, loaded, registry, hangups))?;
    // The runtime goes on until the storage is closed: it hears a second signal.
    storage.close()?;
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}

async fn serve(
    args: &ServeArgs,
    options: EngineOptions,
    loaded: Loaded,
    registry: Registry,
    hangups: Signal,
) -> Result<(), Box<dyn Error>> {
    let mut signals = Signals::listen()?;
    let mut manager = ServiceManager::find();
    let path = loaded.config.node.control_socket(directory_of(&options.file));
    let storage = Arc::clone(&options.storage);
    let control = ControlSocket::listen(&path)?;
    let mut background = JoinSet::new();
    // empty until it serves: whoever asks meanwhile is told so
    let running: Arc<OnceLock<Arc<Engine>>> = Arc::default();
    background.spawn(control.serve(Arc::clone(&running), Arc::clone(&options.storage)));
    let (admin, admin_address) = match &loaded.config.node.admin {
        None => (None, None),
        Some(address) => {
            let listener = listen_at(address.value).await?;
            let address = listener.local_addr()?;
            let asked = Arc::clone(&running);
            let accepts = move || asked.get().is_some_and(|engine| engine.accepts_logins());
            let readiness = readiness(Arc::clone(&options.storage), accepts);
            let admin = Admin::new(registry.clone(), readiness);
            (Some(tokio::spawn(admin.serve(listener))), Some(address))
        }
    };
    manager.status("making what the configuration asks for");
    let engine = tokio::select! {
        engine = Engine::start(options, loaded, &registry) => Arc::new(engine.map_err(|error| -> Box<dyn Error> { error })?),
        signal = signals.next() => {
            tracing::info!(signal, "stopping before all disks were there; the next start goes on with them");
            signals.end_at_the_next();
            background.shutdown().await;
            return Ok(());
        }
    };
    let engine = running.get_or_init(|| engine);
    announce(args, engine, admin_address, &path)?;
    let watched = Arc::clone(engine);
    background.spawn(async move { watch(&watched, hangups).await });
    let signal = tokio::select! {
        signal = work(engine, &mut manager, &mut signals) => signal,
        () = stdin_ends(), if args.until_stdin_ends => "the end of its input",
        () = storage.superseded() => SUPERSEDED,
    };
    tracing::info!(signal, "stopping: asking initiators to log out; a second signal stops at once");
    manager.stopping("asking initiators to log out");
    signals.end_at_the_next();
    engine.stop().await;
    engine.leave().await;
    background.shutdown().await;
    if let Some(admin) = admin {
        admin.abort();
    }
    if signal == SUPERSEDED {
        let cure = "give each gateway a name of its own (`node: {name: ...}`)";
        return Err(format!("another process of this gateway's name has started: {cure}").into());
    }
    Ok(())
}

/// Nothing is written there: it ends with who started this.
async fn stdin_ends() {
    let (told, ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = told.send(());
    });
    let _ = ended.await;
}

/// Tells the service manager how we are until a signal comes, and returns its name.
async fn work(engine: &Engine, manager: &mut ServiceManager, signals: &mut Signals) -> &'static str {
    let mut phases = engine.phases();
    phases.mark_changed();
    loop {
        tokio::select! {
            signal = signals.next() => return signal,
            Ok(()) = phases.changed() => match &*phases.borrow_and_update() {
                Phase::Serving(status) => manager.ready(status),
                Phase::Reloading => manager.reloading(),
            },
            () = manager.beat_due() => manager.beat(),
        }
    }
}

async fn listen_at(address: SocketAddr) -> Result<TcpListener, Box<dyn Error>> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| format!("node.admin: {}", cannot_listen(address, &error)).into())
}

/// Tells a program (`--json`) where things are. People read the log.
fn announce(
    args: &ServeArgs,
    engine: &Engine,
    admin: Option<SocketAddr>,
    control: &Path,
) -> Result<(), Box<dyn Error>> {
    let portals: Vec<String> =
        engine.gateway().portals().iter().map(|(_, address)| address.to_string()).collect();
    let pid = std::process::id();
    tracing::info!(portals = portals.join(" "), config = %engine.file().display(), pid, "serving");
    if args.json {
        let ready = Ready {
            portals,
            admin: admin.map(|admin| format!("http://{admin}")),
            control: control.display().to_string(),
            pid,
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", serde_json::to_string(&ready)?)?;
        out.flush()?;
    }
    Ok(())
}
