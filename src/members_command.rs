//! `huntaway node list|show|add|remove|drain|undrain|weight`: the nodes of a cluster; and `huntaway node disk`.

use std::error::Error;
use std::io::{Write, stdout};
use std::process::ExitCode;

use huntaway_ledger::{MAX_WEIGHT, Name};

use crate::cluster::{NewMember, NewWeight, NodeStatus};
use crate::control::Client;
use crate::disk_command::{self, DiskCommand};
use crate::new_node::NewNode;
use crate::node_address::ClusterAddress;
use crate::status_command::{amount, nodes};
use crate::table::Form;
use crate::vdi_command::parse_name;

/// What can be done with the nodes of a cluster.
#[derive(clap::Subcommand)]
pub(crate) enum MembersCommand {
    /// List the nodes of the cluster
    List(ListArgs),
    /// Show one node
    Show(ShowArgs),
    /// Have a new node belong to the cluster: then start it, by a configuration with that name, and it gets its share of the data
    Add(AddArgs),
    /// Have a node belong to the cluster no more that keeps nothing and is stopped; it never comes back under its uuid
    Remove(RemoveArgs),
    /// Have all that a node keeps kept by others: it gets the weight 0, and may be taken away when it keeps nothing any more
    Drain(DrainArgs),
    /// Have a node keep data again that was drained
    Undrain(UndrainArgs),
    /// Give a node another share of the data, in relation to the others'
    Weight(WeightArgs),
    /// Look after the disks of a node on this machine
    #[command(subcommand)]
    Disk(DiskCommand),
}

/// What all of them take.
#[derive(clap::Args)]
struct Common {
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = Form::Table)]
    output: Form,

    #[command(flatten)]
    cluster: ClusterAddress,
}

/// Arguments of `huntaway node list`.
#[derive(clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    common: Common,
}

/// Arguments of `huntaway node show`.
#[derive(clap::Args)]
pub(crate) struct ShowArgs {
    /// Its name
    #[arg(value_parser = parse_name)]
    node: Name,

    #[command(flatten)]
    common: Common,
}

/// Arguments of `huntaway node add`.
#[derive(clap::Args)]
pub(crate) struct AddArgs {
    /// Its name, where the others reach it, in what zone (default: its name), and its share of the data (default: 1)
    #[arg(value_name = "NAME=ADDR:PORT[,zone=ZONE][,weight=N]")]
    node: NewNode,

    #[command(flatten)]
    common: Common,
}

/// Arguments of `huntaway node remove`.
#[derive(clap::Args)]
pub(crate) struct RemoveArgs {
    /// Its name
    #[arg(value_parser = parse_name)]
    node: Name,

    #[command(flatten)]
    common: Common,
}

/// Arguments of `huntaway node drain`.
#[derive(clap::Args)]
pub(crate) struct DrainArgs {
    /// Its name
    #[arg(value_parser = parse_name)]
    node: Name,

    #[command(flatten)]
    common: Common,
}

/// Arguments of `huntaway node undrain`.
#[derive(clap::Args)]
pub(crate) struct UndrainArgs {
    /// Its name
    #[arg(value_parser = parse_name)]
    node: Name,

    /// Its weight from now on; what it had before is not remembered
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_WEIGHT)))]
    weight: u32,

    #[command(flatten)]
    common: Common,
}

/// Arguments of `huntaway node weight`.
#[derive(clap::Args)]
pub(crate) struct WeightArgs {
    /// Its name
    #[arg(value_parser = parse_name)]
    node: Name,

    /// Its weight from now on, 100 at most; 0 drains it
    #[arg(value_parser = clap::value_parser!(u32).range(..=i64::from(MAX_WEIGHT)))]
    weight: u32,

    #[command(flatten)]
    common: Common,
}

/// Has a node of the cluster do it.
pub(crate) fn run(command: &MembersCommand) -> Result<ExitCode, Box<dyn Error>> {
    match command {
        MembersCommand::List(ListArgs { common }) => {
            let status = common.cluster.client()?.cluster()?;
            print(&common.output.text(&status.nodes, || nodes(&status.nodes))?)
        }
        MembersCommand::Show(ShowArgs { node, common }) => {
            let status = find(&common.cluster.client()?, node)?;
            print(&common.output.text(&status, || page(&status))?)
        }
        MembersCommand::Add(AddArgs { node, common }) => add(common, node),
        MembersCommand::Remove(RemoveArgs { node, common }) => {
            common.cluster.client()?.remove(node.as_str())?;
            let said = || format!("{node} belongs to the cluster no more: its directories can be removed\n");
            print(&common.output.text(&serde_json::json!({ "removed": node.as_str() }), said)?)
        }
        MembersCommand::Drain(DrainArgs { node, common }) => weigh(common, node, 0),
        MembersCommand::Undrain(UndrainArgs { node, weight, common }) => {
            let status = find(&common.cluster.client()?, node)?;
            if status.weight > 0 {
                let why = format!(
                    "node {node} has the weight {}: `huntaway node weight` changes it",
                    status.weight
                );
                return Err(why.into());
            }
            weigh(common, node, *weight)
        }
        MembersCommand::Weight(WeightArgs { node, weight, common }) => weigh(common, node, *weight),
        MembersCommand::Disk(command) => disk_command::run(command),
    }
}

fn add(Common { output, cluster }: &Common, node: &NewNode) -> Result<ExitCode, Box<dyn Error>> {
    let NewNode { name, address, zone, weight } = node;
    let client = cluster.client()?;
    let (name, zone) = (name.to_string(), zone.to_string());
    let status = client.add(&NewMember { name, address: address.0, zone, weight: *weight })?;
    let delay = client.cluster()?.recovery_policy.delay_seconds;
    let said = || {
        format!(
            "{} belongs to the cluster, and is to keep {} partitions. Start it: `huntaway node --config FILE`, where FILE \
             has `node: {{name: {0}}}`, and `cluster` and `targets` as the other nodes have them. Data moves {delay} s \
             later; `huntaway recovery wait` shows how far it is\n",
            status.name, status.wanted
        )
    };
    print(&output.text(&status, said)?)
}

fn find(client: &Client, name: &Name) -> Result<NodeStatus, Box<dyn Error>> {
    let nodes = client.cluster()?.nodes;
    let known: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
    let found = nodes.into_iter().find(|node| node.name == name.as_str());
    found.ok_or_else(|| format!("the cluster has no node `{name}`, but {}", known.join(", ")).into())
}

fn weigh(Common { output, cluster }: &Common, node: &Name, weight: u32) -> Result<ExitCode, Box<dyn Error>> {
    let status = cluster.client()?.weigh(node.as_str(), NewWeight { weight })?;
    let said = || match status.weight {
        0 if status.kept == 0 => format!(
            "{node} keeps nothing any more; `huntaway status` tells whether there are enough others for all copies\n"
        ),
        0 => format!(
            "{node} is to keep nothing any more: it keeps {} partitions until others have them\n",
            status.kept
        ),
        weight => format!("{node} has the weight {weight}: it is to keep {} partitions\n", status.wanted),
    };
    print(&output.text(&status, said)?)
}

fn page(node: &NodeStatus) -> String {
    let disks = match (node.free_bytes, node.total_bytes) {
        (Some(free), Some(total)) => format!("{} free of {}", amount(free), amount(total)),
        _ => "ask the node itself".to_owned(),
    };
    nodes(std::slice::from_ref(node))
        + &format!(
            "\nuuid       {}\naddresses  {}\nprocess    {}\nto keep    {} partitions\ndisks      {disks}\n",
            node.uuid,
            node.addresses.join(" "),
            node.incarnation,
            node.wanted
        )
}

fn print(text: &str) -> Result<ExitCode, Box<dyn Error>> {
    stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
