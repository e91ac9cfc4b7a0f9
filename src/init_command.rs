//! `huntaway init`: makes a node's ledger and disks, once. `huntaway node` never does: a directory that should hold them and
//! is empty is most likely a disk that is not mounted.

use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{self, PathBuf};
use std::process::ExitCode;

use huntaway_store::{DiskStatus, NodeStore};
use prometheus::Registry;

use crate::node::{Storage, StorageOptions, check_empty, directory_of, read_regular};
use crate::node_address::DEFAULT_CONFIG;
use crate::open_files::OpenFiles;

/// Arguments of `huntaway init`.
#[derive(clap::Args)]
pub(crate) struct InitArgs {
    /// The configuration: see `huntaway config example`
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
}

/// Makes the node, or ends what an interrupted run began; refuses if there is one.
pub(crate) fn run(args: &InitArgs) -> Result<ExitCode, Box<dyn Error>> {
    let file = path::absolute(&args.config)?;
    let config = huntaway_config::parse(&file.display().to_string(), &read_regular(&file)?)?.config;
    let files = OpenFiles::take()?;
    let options = StorageOptions::of(&config, directory_of(&file), files.objects)?;
    let state = options.state.clone();
    if NodeStore::is_made(&state)? {
        return Err(format!(
            "there is a node in {} already, and nothing was changed: start it by huntaway node --config {}",
            state.display(),
            args.config.display()
        )
        .into());
    }
    if !state.join("epoch").exists() {
        // before anything is made: what is in the way would still be there
        check_empty(&state)?;
        options.disks.iter().try_for_each(|disk| check_empty(&disk.path))?;
    }
    let storage = Storage::open(StorageOptions { make: true, ..options }, &Registry::new())?;
    let disks = storage.disks();
    storage.close()?;
    println!("node {} of cluster {} is made:", *config.node.name, *config.cluster.name);
    print!("{}", told(&disks));
    println!("its ledger is in {}. To start it:", state.display());
    println!("  huntaway node --config {}", args.config.display());
    Ok(ExitCode::SUCCESS)
}

/// The disks, and which of them may be one.
fn told(disks: &[DiskStatus]) -> String {
    let mut text = String::new();
    for (place, disk) in disks.iter().enumerate() {
        let device = |disk: &DiskStatus| fs::metadata(&disk.directory).ok().map(|found| found.dev());
        let same = disks[..place].iter().find(|other| device(other) == device(disk));
        let note = same.map_or(String::new(), |other| {
            format!(" (on the file system of {}: is one of them not mounted?)", other.directory.display())
        });
        // writing to a String does not fail
        let _ = writeln!(
            text,
            "  disk {}, weight {}, {} MiB free{note}",
            disk.directory.display(),
            disk.weight,
            disk.free_bytes >> 20
        );
    }
    text
}
