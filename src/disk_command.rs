//! `huntaway node disk list|add|remove|keep`: the disks of a node on this machine.

use std::error::Error;
use std::io::{Write, stdout};
use std::path::{self, PathBuf};
use std::process::ExitCode;

use crate::control::{DiskStatus, NewDisk};
use crate::node_address::NodeAddress;
use crate::status_command::amount;
use crate::table::{Form, table};

/// What can be done with the disks of a node.
#[derive(clap::Subcommand)]
pub(crate) enum DiskCommand {
    /// List the disks of a node, with how many partitions each has, and how many of these are about to go to another one
    List(ListArgs),
    /// Take a new disk into use: its share of the partitions comes to it, in the background, while all is served
    Add(AddArgs),
    /// Have what a disk has go to the node's other disks, in the background, while all is served: then it can be taken away
    Remove(PlaceArgs),
    /// Have a disk stay that was to be taken away: what has gone to the others stays there
    Keep(PlaceArgs),
}

/// Arguments of `huntaway node disk remove` and `keep`.
#[derive(clap::Args)]
pub(crate) struct PlaceArgs {
    /// The disk's directory, as in the node's `data_directories`
    directory: PathBuf,

    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = Form::Table)]
    output: Form,

    #[command(flatten)]
    node: NodeAddress,
}

/// Arguments of `huntaway node disk add`.
#[derive(clap::Args)]
pub(crate) struct AddArgs {
    /// The disk's directory, which is empty: as it is to be in the node's `data_directories`
    directory: PathBuf,

    /// Its share of the partitions, relative to the weights of the others [default: its size in GiB]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    weight: Option<u32>,

    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = Form::Table)]
    output: Form,

    #[command(flatten)]
    node: NodeAddress,
}

/// Arguments of `huntaway node disk list`.
#[derive(clap::Args)]
pub(crate) struct ListArgs {
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = Form::Table)]
    output: Form,

    #[command(flatten)]
    node: NodeAddress,
}

/// Has the node do it.
pub(crate) fn run(command: &DiskCommand) -> Result<ExitCode, Box<dyn Error>> {
    let text = match command {
        DiskCommand::List(ListArgs { output, node }) => {
            let disks = node.client()?.status()?.disks;
            output.text(&disks, || listed(&disks))?
        }
        DiskCommand::Add(AddArgs { directory, weight, output, node }) => {
            let new = NewDisk { directory: path::absolute(directory)?, weight: *weight };
            let disk = node.client()?.add_disk(&new)?;
            output.text(&disk, || {
                format!(
                    "the disk in {0} is in use: `huntaway node disk list` shows how its share comes to it. Add it to \
                     `data_directories` now: without `- {0}` the node does not start again\n",
                    disk.directory
                )
            })?
        }
        DiskCommand::Keep(PlaceArgs { directory, output, node }) => {
            let disk = node.client()?.keep_disk(path::absolute(directory)?)?;
            output.text(&disk, || {
                format!("the disk in {} stays, with {} partitions on it\n", disk.directory, disk.partitions)
            })?
        }
        DiskCommand::Remove(PlaceArgs { directory, output, node }) => {
            let disk = node.client()?.remove_disk(path::absolute(directory)?)?;
            output.text(&disk, || removed(&disk))?
        }
    };
    stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn removed(disk: &DiskStatus) -> String {
    let DiskStatus { directory, partitions, .. } = disk;
    let then = "take it out of `data_directories`, start the node anew, and take the disk away";
    match partitions {
        0 => format!("nothing is on the disk in {directory} any more: {then}\n"),
        _ => format!(
            "{partitions} partitions go from the disk in {directory} to the others; `huntaway node disk list` shows how many \
             are left. At 0: {then}\n"
        ),
    }
}

fn listed(disks: &[DiskStatus]) -> String {
    let row = |disk: &DiskStatus| {
        let used_bytes = disk.total_bytes.saturating_sub(disk.free_bytes);
        [
            disk.directory.clone(),
            disk.partitions.to_string(),
            disk.moving.to_string(),
            amount(used_bytes),
            amount(disk.free_bytes),
            disk.state.clone(),
        ]
    };
    table(["DIRECTORY", "PARTITIONS", "MOVING", "USED", "FREE", "STATE"], disks.iter().map(row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_disks_says_what_moves() {
        let disk = |directory: &str, state: &str, partitions, moving| DiskStatus {
            directory: directory.into(),
            state: state.into(),
            partitions,
            moving,
            free_bytes: 3 << 30,
            total_bytes: 4 << 30,
        };
        let disks = [disk("/srv/1", "serving", 3000, 0), disk("/srv/2", "failed", 1096, 64)];
        let expected = "\
DIRECTORY  PARTITIONS  MOVING  USED    FREE    STATE
/srv/1     3000        0       1.0GiB  3.0GiB  serving
/srv/2     1096        64      1.0GiB  3.0GiB  failed
";
        assert_eq!(listed(&disks), expected);
    }
}
