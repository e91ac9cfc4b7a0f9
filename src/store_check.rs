//! `huntaway store check DIR`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `huntaway store check`.
#[derive(clap::Args)]
pub(crate) struct CheckArgs {
    /// The data directory
    dir: PathBuf,
}

/// Verifies the ledger and the store in the directory and prints what was found; the exit status says whether everything
/// is whole.
pub(crate) fn run(args: &CheckArgs) -> Result<ExitCode, Box<dyn Error>> {
    let report = huntaway_store::check::check(&args.dir)?;
    println!("{report}");
    if !keeps_ledger(&args.dir, report.disks) {
        println!("ledger: in the node's state directory, which is another one");
        return Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let ledger = huntaway_membership::local::read(&args.dir);
    match &ledger {
        Ok(ledger) => println!("ledger: {} records: sound", ledger.state.number()),
        Err(error) => println!("DAMAGE: ledger: {}", crate::in_full(error)),
    }
    let sound = report.is_sound() && ledger.is_ok();
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether the ledger belongs into the directory. Where a node keeps it, it keeps its table of disks, too; stores from
/// before there were tables have it beside them.
fn keeps_ledger(dir: &Path, disks: u32) -> bool {
    disks == 0 || dir.join("epoch").exists() || dir.join("disks").exists()
}
