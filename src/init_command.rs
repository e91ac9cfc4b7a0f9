//! `huntaway init`: makes a node's ledger and disks, once. `huntaway node` never does: a directory that should hold them and
//! is empty is most likely a disk that is not mounted. The ledger of a cluster of several is a keeper's: of its nodes the disks are made,
//! if all of them are lost. Before that a node makes its own.

use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{self, PathBuf};
use std::process::ExitCode;

use huntaway_store::{DiskStatus, NodeStore};
use prometheus::Registry;

use crate::node::{Storage, StorageOptions, Trust, check_empty, directory_of, read_regular};
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
    let (directory, started_by) =
        (state.display(), format!("huntaway node --config {}", args.config.display()));
    let ledger = config.cluster.ledger.as_ref();
    if NodeStore::is_made(&state)? {
        let otherwise = ledger.map_or("", |_| {
            "; or, if its disks are lost, empty that directory, and try this again: the cluster copies to the node what it is to keep"
        });
        let is_there = format!("there is a node in {directory} already, and nothing was changed");
        return Err(format!("{is_there}: start it by {started_by}{otherwise}").into());
    }
    if !state.join("epoch").exists() {
        // before anything is made: what is in the way would still be there
        check_empty(&state)?;
        options.disks.iter().try_for_each(|disk| check_empty(&disk.path))?;
    }
    if let Some(ledger) = ledger {
        let trust = Trust::of(&config, ledger, directory_of(&file))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let disks = runtime.block_on(Storage::make_disks(options, trust))?;
        println!("the disks of node {} of cluster {} are made:", *config.node.name, *config.cluster.name);
        print!("{}", told(&disks));
        println!("what it keeps is copied to it once it is started:\n  {started_by}");
        return Ok(ExitCode::SUCCESS);
    }
    let storage = Storage::open(StorageOptions { make: true, ..options }, &Registry::new())?;
    let disks = storage.disks();
    storage.close()?;
    println!("node {} of cluster {} is made:", *config.node.name, *config.cluster.name);
    print!("{}", told(&disks));
    println!("its ledger is in {directory}. To start it:\n  {started_by}");
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
