//! `huntaway object where`: which nodes have a place of a VDI.

use std::error::Error;
use std::io::{Write, stdout};
use std::process::ExitCode;

use huntaway_ledger::Name;

use crate::cluster::ObjectPlace;
use crate::disk_option::{SIZE, parse_size};
use crate::node_address::ClusterAddress;
use crate::table::Form;
use crate::vdi_command::parse_name;

/// What can be asked of objects.
#[derive(clap::Subcommand)]
pub(crate) enum ObjectCommand {
    /// Show which object has a place of a VDI, and which nodes have that object
    Where(WhereArgs),
}

/// Arguments of `huntaway object where`.
#[derive(clap::Args)]
pub(crate) struct WhereArgs {
    /// The VDI's name
    #[arg(value_parser = parse_name)]
    vdi: Name,

    /// The place in it, in bytes, or such as 20GiB
    #[arg(value_parser = parse_offset)]
    offset: u64,

    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = Form::Table)]
    output: Form,

    #[command(flatten)]
    cluster: ClusterAddress,
}

/// Asks a node of the cluster.
pub(crate) fn run(command: &ObjectCommand) -> Result<ExitCode, Box<dyn Error>> {
    let ObjectCommand::Where(WhereArgs { vdi, offset, output, cluster }) = command;
    let place = cluster.client()?.object(vdi.as_str(), *offset)?;
    stdout().write_all(output.text(&place, || page(&place))?.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn page(place: &ObjectPlace) -> String {
    let names = |names: &[String]| if names.is_empty() { "-".to_owned() } else { names.join(" ") };
    let mut text = String::new();
    for (key, value) in [
        ("object", format!("{} (the {}. of {})", place.object, u64::from(place.index) + 1, place.vdi)),
        ("partition", format!("{:03x}, {}, pepoch {}", place.partition, place.condition, place.pepoch)),
        ("primary", place.primary.clone().unwrap_or_else(|| "-".to_owned())),
        ("in sync", names(&place.in_sync)),
        ("doubtful", names(&place.doubtful)),
        ("old copies", names(&place.old_copies)),
        ("to keep it", names(&place.targets)),
    ] {
        text.extend([format!("{key:10}  {value}\n")]);
    }
    text
}

fn parse_offset(text: &str) -> Result<u64, String> {
    text.parse().ok().or_else(|| parse_size(text)).ok_or_else(|| SIZE.to_owned())
}
