//! `huntaway status`: how the cluster is, on one page.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{Write as _, stdout};
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;

use crate::cluster::{ClusterStatus, Explanation, Health, NodeStatus, RecoveryOfAll, ago};
use crate::node::size;
use crate::node_address::ClusterAddress;
use crate::recovery_command;
use crate::table::{Form, table};

/// Most VDIs that are named to people.
const MOST_NAMED: usize = 20;

/// Arguments of `huntaway status`.
#[derive(clap::Args)]
pub(crate) struct StatusArgs {
    /// Say also what is not as it should be and why, which VDIs that concerns, and what losing each node would mean now
    #[arg(long)]
    explain: bool,

    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = Form::Table)]
    output: Form,

    #[command(flatten)]
    cluster: ClusterAddress,
}

/// What is printed for programs.
#[derive(Serialize)]
struct Page<'a> {
    #[serde(flatten)]
    status: &'a ClusterStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<&'a Explanation>,
}

/// Asks, and prints.
pub(crate) fn run(args: &StatusArgs) -> Result<ExitCode, Box<dyn Error>> {
    let client = args.cluster.client()?;
    let status = client.cluster()?;
    let explanation = args.explain.then(|| client.explanation()).transpose()?;
    let page = Page { status: &status, explanation: explanation.as_ref() };
    let text = args.output.text(&page, || for_people(&status, explanation.as_ref()))?;
    stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn for_people(status: &ClusterStatus, explanation: Option<&Explanation>) -> String {
    let ClusterStatus { cluster, epoch, record, told_by, copies, min_copies, .. } = status;
    let mut text = format!("cluster {cluster}: {}\n", status.health);
    text.extend([format!("epoch {epoch}, record {record}, as {told_by} knows it; ")]);
    text.extend([format!("{copies} copies, {min_copies} of which have to be in sync for writes\n")]);
    if !status.has_ledger_lease {
        text.extend([format!("{told_by} does not hear from the keeper of the ledger: this may be past\n")]);
    }
    text.push('\n');
    text.push_str(&nodes(&status.nodes));
    if !status.gateways.is_empty() {
        text.extend([format!("gateways without data: {}\n", status.gateways.join(", "))]);
    }
    text.push('\n');
    text.push_str(&partitions(status));
    if status.recovery_policy.is_paused {
        text.push_str(&recovery_command::for_people(&status.recovery_policy));
    }
    if !status.luns.is_empty() {
        let row = |lun: &crate::cluster::LunStatus| {
            [format!("{}/{}", lun.target, lun.lun), lun.vdi.clone(), size(lun.size_bytes)]
        };
        text.push('\n');
        text.push_str(&table(["LUN", "VDI", "SIZE"], status.luns.iter().map(row)));
    }
    match explanation {
        Some(explanation) => text.push_str(&explained(explanation)),
        None if status.health != Health::Ok => text.push_str("\nhuntaway status --explain says why\n"),
        None => {}
    }
    text
}

/// A table of nodes.
pub(crate) fn nodes(nodes: &[NodeStatus]) -> String {
    let row = |node: &NodeStatus| {
        let state = match (node.is_up, node.down_seconds) {
            (true, _) => "up".to_owned(),
            (false, Some(seconds)) => format!("down for {}", ago(Duration::from_secs(seconds))),
            (false, None) if node.incarnation == 0 => "never ran".to_owned(),
            (false, None) => "down".to_owned(),
        };
        let free = node.free_bytes.map_or_else(|| "-".to_owned(), amount);
        let [weight, led, kept] = [node.weight.to_string(), node.led.to_string(), node.kept.to_string()];
        [node.name.clone(), node.zone.clone(), state, weight, led, kept, free]
    };
    table(["NODE", "ZONE", "STATE", "WEIGHT", "LEADS", "KEEPS", "FREE"], nodes.iter().map(row))
}

fn partitions(status: &ClusterStatus) -> String {
    let counts = &status.partitions;
    let mut text = format!("{} partitions: {} whole", counts.all(), counts.whole);
    for (number, state) in [
        (counts.moving, "moving"),
        (counts.degraded, "degraded (fewer copies than wanted)"),
        (counts.below_min_copies, "below min_copies (not written)"),
        (counts.down, "down (nobody serves them)"),
    ] {
        if number > 0 {
            text.extend([format!(", {number} {state}")]);
        }
    }
    text.push('\n');
    let Some(RecoveryOfAll { told, silent }) = status.recovery_of_all else {
        if status.nodes.len() > 1 && counts.whole < counts.all() {
            text.push_str("how far recovery is, nodes tell: ask one of them\n");
        }
        return text;
    };
    if told.partitions_left > 0 {
        let left = match told.seconds_left {
            Some(seconds) if told.bytes_left > 0 => format!("{} left", ago(Duration::from_secs(seconds))),
            _ => "no time to tell".to_owned(),
        };
        text.extend([format!(
            "recovery: {} partitions and at most {} to copy, {}/s, {left}\n",
            told.partitions_left,
            amount(told.bytes_left),
            amount(told.bytes_per_second),
        )]);
    }
    if silent > 0 {
        text.extend([format!("{silent} nodes do not tell how far recovery is of what they lead\n")]);
    }
    text
}

fn explained(Explanation { reasons, vdis, losses }: &Explanation) -> String {
    let mut text = String::from("\nwhat is not as it should be:\n");
    if reasons.is_empty() {
        text.push_str("  nothing\n");
    }
    for reason in reasons {
        // Writing to a text does not fail.
        let _ = writeln!(text, "  {reason}");
    }
    if !vdis.is_empty() {
        text.push_str("\nVDIs that may have data in partitions without all copies:\n");
        for vdi in vdis.iter().take(MOST_NAMED) {
            let down =
                if vdi.down > 0 { format!(", {} of them not served", vdi.down) } else { String::new() };
            let _ = writeln!(text, "  {}: {} of {} partitions{down}", vdi.name, vdi.partitions, vdi.of);
        }
        if vdis.len() > MOST_NAMED {
            let _ = writeln!(text, "  and {} more", vdis.len() - MOST_NAMED);
        }
    }
    text.push_str("\nwhat losing a node now would mean, in partitions:\n");
    let row = |loss: &crate::cluster::Loss| {
        let [last, below, led] =
            [loss.last_copies, loss.below_min_copies, loss.led].map(|number| number.to_string());
        [loss.node.clone(), last, below, led]
    };
    let head = ["NODE", "LAST COPY LOST", "BELOW MIN_COPIES", "SERVED BY ANOTHER"];
    text.push_str(&table(head, losses.iter().map(row)));
    text
}

/// An amount for people, with a digit behind the point.
pub(crate) fn amount(bytes: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match UNITS.iter().find(|(_, shift)| bytes >> shift > 0) {
        Some((unit, shift)) => format!("{:.1}{unit}", bytes as f64 / (1_u64 << shift) as f64),
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{explanation, fixture};

    #[test]
    fn a_page_has_nodes_partitions_and_what_losses_would_mean() {
        let sight = fixture::sight(fixture::state(3, 3, 2));
        let progress = huntaway_replica::Progress {
            partitions_left: 3,
            bytes_left: 5 << 20,
            bytes_copied: 0,
            bytes_per_second: 1 << 20,
            time_left: Some(Duration::from_secs(5)),
        };
        let recovery_of_all = Some(RecoveryOfAll::of(vec![progress], 1));
        let status = ClusterStatus { recovery_of_all, ..sight.status(Vec::new()) };
        let page = for_people(&status, Some(&explanation(&sight)));
        for line in [
            "cluster demo: ok",
            "NODE    ZONE    STATE  WEIGHT  LEADS  KEEPS  FREE",
            "4096 partitions: 4096 whole",
            "recovery: 3 partitions and at most 5.0MiB to copy, 1.0MiB/s, 5 s left",
            "1 nodes do not tell how far recovery is",
            "  nothing",
        ] {
            assert!(page.contains(line), "{line} is not in\n{page}");
        }
    }

    #[test]
    fn amounts_are_short() {
        assert_eq!([0, 1023, 1536, 3 << 40].map(amount), ["0B", "1023B", "1.5KiB", "3.0TiB"]);
    }
}
