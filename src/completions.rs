//! `huntaway completions`: what a shell needs to complete our subcommands and options.

use std::error::Error;
use std::io::{Write, stdout};
use std::process::ExitCode;

use clap::Command;
use clap_complete::Shell;

/// Arguments of `huntaway completions`.
#[derive(clap::Args)]
pub(crate) struct CompletionsArgs {
    /// The shell, whose completions go to standard output
    shell: Shell,
}

/// Prints the completions of `program`.
pub(crate) fn run(args: &CompletionsArgs, mut program: Command) -> Result<ExitCode, Box<dyn Error>> {
    let name = program.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut program, name, &mut script);
    stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}
