//! The `huntaway` command: one binary, its subcommands in one file each.

mod address;
mod admin;
mod demo;
mod disk_option;
mod node;
mod open_files;
mod recipes;
mod signals;
mod store_check;

use std::env::VarError;
use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Chooses what is logged.
const LOG_VARIABLE: &str = "HUNTAWAY_LOG";

/// What is logged unless told otherwise.
const DEFAULT_LOG: &str = "info";

/// Shared iSCSI block storage from a few ordinary Linux machines.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve disks from a directory of this machine: no root, no daemon, no configuration
    Demo(Box<demo::DemoArgs>),
    /// Look after the files of a store
    #[command(subcommand, arg_required_else_help = true)]
    Store(StoreCommand),
}

#[derive(Subcommand)]
enum StoreCommand {
    /// Verify every checksum in a store's directory, while nothing is running on it
    Check(store_check::CheckArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_logging();
    let result = match cli.command {
        Command::Demo(args) => demo::run(&args),
        Command::Store(StoreCommand::Check(args)) => store_check::run(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("huntaway: {}", in_full(&*error));
        ExitCode::FAILURE
    })
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

/// Log lines go to standard error; `HUNTAWAY_LOG` (such as `debug` or `huntaway_gateway=trace`) chooses which.
fn start_logging() {
    let (filter, mistake) = match std::env::var(LOG_VARIABLE) {
        Ok(text) => match EnvFilter::try_new(&text) {
            Ok(filter) => (filter, None),
            Err(error) => (EnvFilter::new(DEFAULT_LOG), Some(format!("{text:?}: {}", in_full(&error)))),
        },
        Err(VarError::NotPresent) => (EnvFilter::new(DEFAULT_LOG), None),
        Err(error) => (EnvFilter::new(DEFAULT_LOG), Some(error.to_string())),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(false)
        .init();
    if let Some(mistake) = mistake {
        tracing::warn!("{LOG_VARIABLE} cannot be used, {DEFAULT_LOG} is taken instead: {mistake}");
    }
}
