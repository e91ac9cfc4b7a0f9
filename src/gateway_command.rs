//! `huntaway gateway`: a node's portals, without its data. It is no member of its cluster: it learns from the ledger who has what,
//! and can come and go as it likes.

use std::error::Error;
use std::process::ExitCode;

use crate::node_command::{Role, ServeArgs, serve_as};

/// Arguments of `huntaway gateway`.
#[derive(clap::Args)]
pub(crate) struct GatewayArgs {
    #[command(flatten)]
    serve: ServeArgs,
}

/// Serves until it is told to stop.
pub(crate) fn run(args: &GatewayArgs) -> Result<ExitCode, Box<dyn Error>> {
    serve_as(Role::Gateway, &args.serve)
}
