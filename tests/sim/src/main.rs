//! Runs simulations: many seeds, one seed with all that happens, or every planted bug.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use huntaway_sim::fencing;

#[derive(Debug, Parser)]
#[command(about, version)]
struct Arguments {
    #[command(subcommand)]
    world: World,
}

#[derive(Debug, Subcommand)]
enum World {
    /// Many active gateways: does a command that was given up take effect later?
    #[command(subcommand)]
    Fencing(fencing::Command),
}

fn main() -> ExitCode {
    match Arguments::parse().world {
        World::Fencing(command) => command.carry_out(),
    }
}
