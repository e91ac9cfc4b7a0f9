//! `huntaway cluster verify`: whether all in-sync copies are the same, and what they should be.

use std::error::Error;
use std::io::{Write, stdout};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use crate::cluster::Comparison;
use crate::control::Client;
use crate::node_address::ClusterAddress;
use crate::progress_line::ProgressLine;
use crate::table::Form;

/// How often it is asked how far it is. Nodes forget who does not ask for some seconds.
const LOOK: Duration = Duration::from_millis(500);

/// It has come to a stop if nothing more was compared for so long.
const STANDSTILL: Duration = Duration::from_secs(60);

/// Another comparison may have been given up, which nodes know some seconds later.
const TURN: Duration = Duration::from_secs(10);

/// Most differences that are named to people.
const MOST_NAMED: usize = 20;

/// Arguments of `huntaway cluster verify`.
#[derive(clap::Args)]
pub(crate) struct VerifyArgs {
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = Form::Table)]
    output: Form,

    #[command(flatten)]
    cluster: ClusterAddress,
}

/// Compares. The exit status is 0 if all could be compared, and nothing differed.
pub(crate) fn run(VerifyArgs { output, cluster }: &VerifyArgs) -> Result<ExitCode, Box<dyn Error>> {
    let client = cluster.client()?;
    let mut round = [0; 8];
    getrandom::fill(&mut round).map_err(|error| format!("no random numbers: {error}"))?;
    let round = u64::from_le_bytes(round);
    let compared = compare(&client, round)?;
    // Otherwise it is forgotten after some seconds.
    let _ = client.compare(round, true);
    stdout().write_all(output.text(&compared, || for_people(&compared))?.as_bytes())?;
    Ok(if is_well(&compared) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Asks until there is nothing more to compare, or it stands still.
fn compare(client: &Client, round: u64) -> Result<Comparison, Box<dyn Error>> {
    let mut line = ProgressLine::new();
    let mut last = ((0, 0), Instant::now());
    let mut turn = Instant::now();
    let mut seen = Comparison::default();
    loop {
        seen = client.compare(round, false)?.with_what_was_found(seen);
        let now = &seen;
        if now.partitions > 0 && now.compared + now.not_served >= now.partitions {
            return Ok(seen);
        }
        if !now.waits {
            turn = Instant::now();
        } else if turn.elapsed() > TURN {
            let why = "another comparison of all copies is under way, and there is one at a time: try again when it is over";
            return Err(why.into());
        }
        let far = (now.compared, now.objects);
        if far != last.0 {
            last = (far, Instant::now());
        } else if last.1.elapsed() > STANDSTILL {
            return Ok(seen);
        }
        let what = format!("{} of {} partitions, {} objects", now.compared, now.partitions, now.objects);
        line.tell(now.compared as u64, now.partitions as u64, &what);
        thread::sleep(LOOK);
    }
}

fn is_well(compared: &Comparison) -> bool {
    let Comparison { partitions, compared: done, failed_objects, differing_blocks, .. } = compared;
    *partitions > 0 && done == partitions && *failed_objects == 0 && *differing_blocks == 0
}

fn for_people(compared: &Comparison) -> String {
    let Comparison { partitions, compared: done, not_served, objects, blocks, .. } = compared;
    let Comparison { failed_objects, differing_blocks, differences, .. } = compared;
    let mut text = format!(
        "compared {done} of {partitions} partitions: {objects} objects with {blocks} blocks, on all nodes that are in sync\n"
    );
    if *not_served > 0 {
        text.extend([format!(
            "{not_served} partitions are served by nobody, and were not compared: huntaway status --explain\n"
        )]);
    }
    let left = partitions.saturating_sub(done + not_served);
    if left > 0 {
        text.extend([format!(
            "{left} partitions were not read through within {} s: see huntaway status --explain, and try again\n",
            STANDSTILL.as_secs()
        )]);
    }
    if *failed_objects > 0 {
        text.extend([format!("{failed_objects} objects could not be read on some node: try again\n")]);
    }
    for found in differences.iter().take(MOST_NAMED) {
        let what = match &found.node {
            Some(node) => format!("the copy of {node} was wrong, and is put right"),
            None => "no copy is whole: it reads as an error until it is written again".to_owned(),
        };
        text.extend([format!("{} at {}: {what}\n", found.vdi, found.offset_bytes)]);
    }
    match differing_blocks.saturating_sub(differences.len().min(MOST_NAMED) as u64) {
        0 => {}
        more => text.extend([format!("and {more} blocks more\n")]),
    }
    text.push_str(if is_well(compared) { "all copies are the same\n" } else { "not all is well\n" });
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::DifferenceFound;

    #[test]
    fn what_differs_is_told_by_its_place_and_whose_it_is() {
        let well =
            Comparison { partitions: 4096, compared: 4096, objects: 16, blocks: 64, ..Comparison::default() };
        assert!(is_well(&well));
        assert!(for_people(&well).ends_with("all copies are the same\n"));
        let found = |node: Option<&str>| DifferenceFound {
            vdi: "root".into(),
            offset_bytes: 8192,
            object: String::new(),
            node: node.map(str::to_owned),
        };
        let differences = vec![found(Some("node-2")), found(None)];
        let bad = Comparison { compared: 4000, not_served: 90, differing_blocks: 3, differences, ..well };
        assert!(!is_well(&bad));
        let text = for_people(&bad);
        for line in [
            "90 partitions are served by nobody",
            "6 partitions were not read through",
            "root at 8192: the copy of node-2 was wrong, and is put right",
            "root at 8192: no copy is whole",
            "and 1 blocks more",
            "not all is well",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
