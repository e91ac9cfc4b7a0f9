//! `huntaway vdi`: the virtual disks of a running node.

use std::error::Error;
use std::io::{IsTerminal, Write, stdin, stdout};
use std::process::ExitCode;

use huntaway_ledger::Name;
use serde::Serialize;

use crate::control::{Client, LunOfVdi, NewSize, NewVdi, SanitizeStatus, VdiStatus};
use crate::disk_option::{SIZE, parse_size};
use crate::node::size;
use crate::node_address::NodeAddress;
use crate::table::{Form, table};

/// What can be done with VDIs.
#[derive(clap::Subcommand)]
pub(crate) enum VdiCommand {
    /// List the VDIs, and the LUNs that show them
    List(ListArgs),
    /// Show one VDI
    Show(ShowArgs),
    /// Make a VDI, to be served as a LUN of the configuration later
    Create(CreateArgs),
    /// Make a VDI larger, or smaller with --allow-shrink; initiators see it at once
    Resize(ResizeArgs),
    /// Delete a VDI that no LUN of this node shows, with all its data; in a cluster other nodes and gateways are not asked, and LUNs
    /// of theirs that show it are gone at once
    Delete(DeleteArgs),
}

/// What all of them take.
#[derive(clap::Args)]
struct Common {
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = Form::Table)]
    output: Form,

    #[command(flatten)]
    node: NodeAddress,
}

/// Arguments of `huntaway vdi list`.
#[derive(clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    common: Common,
}

/// Arguments of `huntaway vdi show`.
#[derive(clap::Args)]
pub(crate) struct ShowArgs {
    /// Its name
    #[arg(value_parser = parse_name)]
    name: Name,

    #[command(flatten)]
    common: Common,
}

/// Arguments of `huntaway vdi create`.
#[derive(clap::Args)]
pub(crate) struct CreateArgs {
    /// Its name: letters, digits and . _ : -
    #[arg(value_parser = parse_name)]
    name: Name,

    /// Its size, such as 10GiB: a multiple of 4 KiB from 1MiB to 64TiB
    #[arg(long, value_parser = parse_bytes)]
    size: u64,

    /// Bytes of a logical block: 512 or 4096 [default: 512]
    #[arg(long, value_name = "BYTES")]
    block_size: Option<u32>,

    /// Bytes of a physical block [default: 4096]
    #[arg(long, value_name = "BYTES")]
    physical_block_size: Option<u32>,

    /// Set all its space aside now
    #[arg(long)]
    thick: bool,

    #[command(flatten)]
    common: Common,
}

/// Arguments of `huntaway vdi resize`.
#[derive(clap::Args)]
pub(crate) struct ResizeArgs {
    /// Its name
    #[arg(value_parser = parse_name)]
    name: Name,

    /// Its new size, such as 20GiB
    #[arg(value_parser = parse_bytes)]
    size: u64,

    /// A smaller size is meant: data beyond it is lost (not in a cluster, where nothing shrinks)
    #[arg(long)]
    allow_shrink: bool,

    #[command(flatten)]
    common: Common,
}

/// Arguments of `huntaway vdi delete`.
#[derive(clap::Args)]
pub(crate) struct DeleteArgs {
    /// Its name
    #[arg(value_parser = parse_name)]
    name: Name,

    /// Do not ask
    #[arg(long)]
    yes: bool,

    #[command(flatten)]
    node: NodeAddress,
}

/// Has the node do it.
pub(crate) fn run(command: &VdiCommand) -> Result<ExitCode, Box<dyn Error>> {
    match command {
        VdiCommand::List(ListArgs { common }) => {
            let vdis = common.node.client()?.vdis()?;
            print(common.output, &vdis, &vdis)?;
        }
        VdiCommand::Show(ShowArgs { name, common }) => {
            show(common.output, common.node.client()?.vdi(name.as_str())?)?;
        }
        VdiCommand::Create(args) => show(args.common.output, create(args)?)?,
        VdiCommand::Resize(ResizeArgs { name, size, allow_shrink, common }) => {
            let size = NewSize { size_bytes: *size, allow_shrink: *allow_shrink };
            show(common.output, common.node.client()?.resize(name.as_str(), &size)?)?;
        }
        VdiCommand::Delete(args) => delete(args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn create(args: &CreateArgs) -> Result<VdiStatus, Box<dyn Error>> {
    let new = NewVdi {
        name: args.name.as_str().to_owned(),
        size_bytes: args.size,
        block_size: args.block_size,
        physical_block_size: args.physical_block_size,
        thin: Some(!args.thick),
    };
    Ok(args.common.node.client()?.create(&new)?)
}

fn delete(DeleteArgs { name, yes, node }: &DeleteArgs) -> Result<(), Box<dyn Error>> {
    let client = node.client()?;
    if !yes && !is_confirmed(&client, name)? {
        return Err(format!("VDI {name} is not deleted").into());
    }
    client.delete(name.as_str())?;
    println!("VDI {name} is deleted");
    Ok(())
}

fn is_confirmed(client: &Client, name: &Name) -> Result<bool, Box<dyn Error>> {
    if !stdin().is_terminal() {
        return Err("deleting a VDI loses its data, and there is no terminal to ask at: say --yes".into());
    }
    let vdi = client.vdi(name.as_str())?;
    print!("Delete VDI {name} ({}) with all its data? [y/N] ", size(vdi.size_bytes));
    stdout().flush()?;
    let mut answer = String::new();
    stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn show(form: Form, vdi: VdiStatus) -> Result<(), Box<dyn Error>> {
    print(form, &vdi, std::slice::from_ref(&vdi))
}

fn print(form: Form, value: &impl Serialize, vdis: &[VdiStatus]) -> Result<(), Box<dyn Error>> {
    let head = ["NAME", "SIZE", "KIND", "BLOCK", "STATE", "LUNS"];
    let text = form.text(value, || table(head, vdis.iter().map(row)))?;
    Ok(stdout().write_all(text.as_bytes())?)
}

fn row(vdi: &VdiStatus) -> [String; 6] {
    let kind = match (vdi.thin, vdi.provisioned) {
        (true, _) => "thin",
        (false, true) => "thick",
        (false, false) => "thick, not all of its space set aside",
    };
    let state = match (vdi.sanitize, vdi.growing_to_bytes) {
        (None, None) => "ready".to_owned(),
        (None, Some(bytes)) => format!("growing to {}", size(bytes)),
        (Some(SanitizeStatus::Running), _) => "being sanitized".to_owned(),
        (Some(SanitizeStatus::Failed), _) => "failed to be sanitized".to_owned(),
    };
    let lun = |LunOfVdi { target, lun }: &LunOfVdi| format!("{target}/{lun}");
    let luns: Vec<String> = vdi.luns.iter().map(lun).collect();
    let luns = if luns.is_empty() { "-".to_owned() } else { luns.join(" ") };
    [vdi.name.clone(), size(vdi.size_bytes), kind.to_owned(), vdi.block_size.to_string(), state, luns]
}

/// A name on the command line: it becomes a part of a path, so it has to be one.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse_name(text: &str) -> Result<Name, String> {
    Name::new(text).map_err(|error| error.to_string())
}

fn parse_bytes(text: &str) -> Result<u64, String> {
    parse_size(text).ok_or_else(|| SIZE.to_owned())
}
