//! `huntaway cluster show|set|verify|force`: the cluster as a whole.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{IsTerminal, Write, stdin, stdout};
use std::process::ExitCode;

use crate::cluster::{Closed, ClusterStatus, CopiesStatus, Force, Forced, NewCopies, may_be_lost};
use crate::node_address::ClusterAddress;
use crate::status_command::nodes;
use crate::table::Form;
use crate::verify_command::{self, VerifyArgs};

/// Most partitions that are named one by one, of those in the same plight.
const MOST_NAMED: usize = 8;

/// What can be done with a cluster.
#[derive(clap::Subcommand)]
pub(crate) enum ClusterCommand {
    /// Show what the cluster is: its epoch, its copies, its nodes
    Show(ShowArgs),
    /// Say how many copies of everything there are to be, and how many of them writes need: what is lacking is copied from then on
    Set(SetArgs),
    /// Compare all copies, block by block, while the cluster works (64 MiB in a second of each node): what differs is told, and put
    /// right
    Verify(VerifyArgs),
    /// Open partitions that nobody serves with what is there: what is lost by that is lost for good
    Force(ForceArgs),
}

/// Arguments of `huntaway cluster show`.
#[derive(clap::Args)]
pub(crate) struct ShowArgs {
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = Form::Table)]
    output: Form,

    #[command(flatten)]
    cluster: ClusterAddress,
}

/// Arguments of `huntaway cluster set`.
#[derive(clap::Args)]
#[group(required = true, multiple = true, args = ["copies", "min_copies"])]
pub(crate) struct SetArgs {
    /// Copies of everything, each on another node; with zones, each in another zone as far as there are so many
    #[arg(long, value_name = "N")]
    copies: Option<usize>,

    /// So many of them have to be in sync, or nothing is written: more of them survive more at once, fewer go on with less. Fewer
    /// copies need half of them, rounded up, unless told
    #[arg(long, value_name = "N")]
    min_copies: Option<usize>,

    /// Do not ask when there are to be fewer copies
    #[arg(long)]
    yes: bool,

    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = Form::Table)]
    output: Form,

    #[command(flatten)]
    cluster: ClusterAddress,
}

/// Arguments of `huntaway cluster force`.
#[derive(clap::Args)]
pub(crate) struct ForceArgs {
    /// Do not ask
    #[arg(long)]
    yes: bool,

    /// How the result is printed: what may be lost is shown in any case
    #[arg(short, long, value_enum, default_value_t = Form::Table)]
    output: Form,

    #[command(flatten)]
    cluster: ClusterAddress,
}

/// Has a node of the cluster do it.
pub(crate) fn run(command: &ClusterCommand) -> Result<ExitCode, Box<dyn Error>> {
    match command {
        ClusterCommand::Show(ShowArgs { output, cluster }) => {
            let status = cluster.client()?.cluster()?;
            let text = output.text(&status, || page(&status))?;
            stdout().write_all(text.as_bytes())?;
        }
        ClusterCommand::Set(args) => set(args)?,
        ClusterCommand::Verify(args) => return verify_command::run(args),
        ClusterCommand::Force(args) => force(args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn page(status: &ClusterStatus) -> String {
    let ClusterStatus { cluster, health, epoch, record, copies, min_copies, partitions, .. } = status;
    format!(
        "cluster     {cluster}\nhealth      {health}\nepoch       {epoch}\nrecord      {record}\ncopies      {copies}\n\
         min_copies  {min_copies}\npartitions  {}\n\n{}",
        partitions.all(),
        nodes(&status.nodes)
    )
}

fn set(SetArgs { copies, min_copies, yes, output, cluster }: &SetArgs) -> Result<(), Box<dyn Error>> {
    let client = cluster.client()?;
    let before = client.cluster()?.copies;
    if let Some(copies) = copies.filter(|copies| *copies < before && !yes) {
        let what = format!("Keep {copies} copies of everything, and remove the others of {before}?");
        if !is_confirmed("that gives up copies", &what)? {
            return Err("there are as many copies as before".into());
        }
    }
    let set = client.set_copies(NewCopies { copies: *copies, min_copies: *min_copies })?;
    stdout().write_all(output.text(&set, || for_people(set))?.as_bytes())?;
    Ok(())
}

fn for_people(CopiesStatus { copies, min_copies }: CopiesStatus) -> String {
    format!(
        "everything is to have {copies} copies, and writes need {min_copies} of them (huntaway recovery wait waits until it is so)\n"
    )
}

fn force(ForceArgs { yes, output, cluster }: &ForceArgs) -> Result<(), Box<dyn Error>> {
    let client = cluster.client()?;
    let closed = client.closed()?;
    let say = |text: &str| match output {
        Form::Table => print!("{text}"),
        Form::Json => eprint!("{text}"),
    };
    if closed.is_empty() {
        let nothing = Forced { opened: 0, refused: Vec::new() };
        let said = || "no partition waits for anybody: there is nothing to force\n".to_owned();
        stdout().write_all(output.text(&nothing, said)?.as_bytes())?;
        return Ok(());
    }
    say(&plights(&closed));
    let can_be = closed.iter().filter(|closed| !closed.present.is_empty()).count();
    if can_be == 0 {
        return Err("none of them can be opened: start a node that has something of them".into());
    }
    say(
        "\nWho is absent and can still be started has what is lost otherwise: start it instead if you can.\n",
    );
    let what = format!("Open {can_be} partitions all the same?");
    if !yes && !is_confirmed("that may lose data for good", &what)? {
        return Err("nothing was opened".into());
    }
    let forced = client.force(&Force { closed })?;
    let said = || format!("{} partitions were opened\n", forced.opened);
    stdout().write_all(output.text(&forced, said)?.as_bytes())?;
    if !forced.refused.is_empty() {
        let why = forced.refused.join("\n  ");
        return Err(format!("some were not, for they are not any more what was shown:\n  {why}").into());
    }
    Ok(())
}

/// Each partition, and what may be lost with it; those in the same plight together.
fn plights(closed: &[Closed]) -> String {
    let mut plights: BTreeMap<String, Vec<u16>> = BTreeMap::new();
    for closed in closed {
        plights.entry(may_be_lost(closed)).or_default().push(closed.partition);
    }
    let line = |(plight, partitions): (String, Vec<u16>)| {
        let named: Vec<String> =
            partitions.iter().take(MOST_NAMED).map(|partition| format!("{partition:03x}")).collect();
        let more = partitions.len().saturating_sub(MOST_NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{} partitions ({}{more}): {plight}\n", partitions.len(), named.join(" "))
    };
    plights.into_iter().map(line).collect()
}

fn is_confirmed(consequence: &str, what: &str) -> Result<bool, Box<dyn Error>> {
    if !stdin().is_terminal() {
        return Err(format!("{consequence}, and there is no terminal to ask at: say --yes").into());
    }
    eprint!("{what} Type yes: ");
    let mut answer = String::new();
    stdin().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Party;

    #[test]
    fn partitions_in_the_same_plight_are_shown_together() {
        let party = |name: &str| Party { name: name.into(), uuid: String::new(), incarnation: 1 };
        let closed = |partition, flushed| Closed {
            partition,
            pepoch: 3,
            absent: vec![party("b")],
            present: vec![party("a")],
            flushed,
        };
        let text = plights(&[closed(1, true), closed(2, false), closed(0x0af, true)]);
        assert_eq!(
            text,
            "2 partitions (001 0af): opens with what a has and without b: any write may be lost, flushed or not, and \
             what was replaced or discarded may come back\n\
             1 partitions (002): opens with what a has and without b: writes that were acknowledged and not flushed may be \
             lost\n"
        );
    }
}
