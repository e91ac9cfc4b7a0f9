//! The `huntaway` command: one binary, its subcommands in one file each.

mod account_file;
mod address;
mod admin;
mod apply_command;
mod bench;
mod bench_command;
mod cluster;
mod cluster_command;
mod completions;
mod config_command;
mod control;
mod demo;
mod demo_disks;
mod disk_command;
mod disk_option;
mod export;
mod gateway_command;
mod init_command;
mod keeper_command;
mod logging;
mod manual;
mod members_command;
mod new_node;
mod node;
mod node_address;
mod node_command;
mod notify;
mod object_command;
mod open_files;
mod progress_line;
mod readiness;
mod recipes;
mod recovery_command;
mod signals;
mod status_command;
mod store_check;
mod table;
mod vdi_command;
mod verify_command;

use std::error::Error;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use logging::{DEFAULT_LEVEL, LogFormat, Logging};

/// What the environment decides.
const ENVIRONMENT_HELP: &str = "HUNTAWAY_LOG in the environment says what is logged, whatever else says: a level (error, \
                                warn, info, debug, trace) or such as info,huntaway_gateway=debug.";

/// Each command and each message between nodes is some memory that one thread takes and another gives back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Shared iSCSI block storage from a few ordinary Linux machines.
#[derive(Parser)]
#[command(version, arg_required_else_help = true, after_help = ENVIRONMENT_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve disks from a directory of this machine: no root, no daemon, no configuration
    Demo(Box<demo::DemoArgs>),
    /// Make the node that a configuration describes, once, before it is started
    Init(init_command::InitArgs),
    /// Serve what a configuration says, until told to stop; or look after the nodes of a cluster
    Node(node_command::NodeArgs),
    /// Serve what the nodes of a cluster keep, without keeping any of it, until told to stop
    Gateway(gateway_command::GatewayArgs),
    /// Keep the ledger of a cluster of several nodes, until told to stop
    Keeper(Box<keeper_command::KeeperArgs>),
    /// Show what a configuration changes on the node that runs here, and put it in force
    Apply(apply_command::ApplyArgs),
    /// Look after the virtual disks of the node that runs here
    #[command(subcommand, arg_required_else_help = true)]
    Vdi(vdi_command::VdiCommand),
    /// Show how the cluster is: its health, its nodes, its partitions
    Status(status_command::StatusArgs),
    /// Look after the cluster as a whole
    #[command(subcommand, arg_required_else_help = true)]
    Cluster(cluster_command::ClusterCommand),
    /// Say what copying to nodes that lack something may take, or wait for it
    #[command(subcommand, arg_required_else_help = true)]
    Recovery(recovery_command::RecoveryCommand),
    /// Find out where data is
    #[command(subcommand, arg_required_else_help = true)]
    Object(object_command::ObjectCommand),
    /// Look after the files of a store
    #[command(subcommand, arg_required_else_help = true)]
    Store(StoreCommand),
    /// Measure iSCSI targets beside one another: speed, latency and CPU cost
    Bench(Box<bench_command::BenchArgs>),
    /// Print what initiators need to reach a target: scripts and settings, without secrets
    Export(export::ExportArgs),
    /// Check a configuration file, or print what helps to write one
    #[command(subcommand, arg_required_else_help = true)]
    Config(config_command::ConfigCommand),
    /// Print what a shell needs to complete huntaway's subcommands and options
    Completions(completions::CompletionsArgs),
    /// Write the manual pages
    Man(manual::ManArgs),
}

#[derive(Subcommand)]
enum StoreCommand {
    /// Verify every checksum in a store's directory, while nothing is running on it
    Check(store_check::CheckArgs),
}

fn main() -> ExitCode {
    run(Cli::parse()).unwrap_or_else(|error| {
        logging::last_words(&in_full(&*error));
        ExitCode::FAILURE
    })
}

fn run(cli: Cli) -> Result<ExitCode, Box<dyn Error>> {
    let is_configured = match &cli.command {
        Command::Node(args) => args.serves(),
        command => matches!(command, Command::Gateway(_)),
    };
    if !is_configured {
        // a node is told by its configuration
        Logging::start(LogFormat::Text, DEFAULT_LEVEL)?;
    }
    if matches!(
        cli.command,
        Command::Demo(_) | Command::Init(_) | Command::Keeper(_) | Command::Node(_) | Command::Gateway(_)
    ) {
        // what they make holds the data of others
        rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    }
    match cli.command {
        Command::Demo(args) => demo::run(&args),
        Command::Init(args) => init_command::run(&args),
        Command::Node(args) => node_command::run(&args),
        Command::Gateway(args) => gateway_command::run(&args),
        Command::Keeper(args) => keeper_command::run(&args),
        Command::Apply(args) => apply_command::run(&args),
        Command::Status(args) => status_command::run(&args),
        Command::Cluster(command) => cluster_command::run(&command),
        Command::Recovery(command) => recovery_command::run(&command),
        Command::Object(command) => object_command::run(&command),
        Command::Vdi(command) => vdi_command::run(&command),
        Command::Store(StoreCommand::Check(args)) => store_check::run(&args),
        Command::Bench(args) => bench_command::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Config(command) => config_command::run(&command),
        Command::Completions(args) => completions::run(&args, Cli::command()),
        Command::Man(args) => manual::run(&args, Cli::command()),
    }
}

/// An error with everything that led to it, in one line. A cause that its effect names already is not repeated.
fn in_full(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let reason = error.to_string();
        if !text.contains(&reason) {
            text = format!("{text}: {reason}");
        }
        cause = error.source();
    }
    text
}
