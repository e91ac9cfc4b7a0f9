//! `huntaway store check DIR`.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `huntaway store check`.
#[derive(clap::Args)]
pub(crate) struct CheckArgs {
    /// The data directory
    dir: PathBuf,
}

/// Verifies the directory and prints what was found; the exit status says whether everything is whole.
pub(crate) fn run(args: &CheckArgs) -> Result<ExitCode, Box<dyn Error>> {
    let report = huntaway_store::check::check(&args.dir)?;
    print!("{report}");
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
