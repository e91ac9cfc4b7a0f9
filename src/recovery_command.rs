//! `huntaway recovery`: what copying to nodes that lack something may take, and how far it is.

use std::error::Error;
use std::io::{Write, stdout};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use crate::cluster::{ClusterStatus, Health, NewPolicy, PartitionCounts, PolicyStatus, ago};
use crate::control::Client;
use crate::disk_option::parse_bytes;
use crate::node_address::ClusterAddress;
use crate::progress_line::ProgressLine;
use crate::status_command::amount;
use crate::table::Form;

/// A node that asks others has so long to answer, whatever is left of the time.
const LATE: Duration = Duration::from_secs(2);

/// How often it is looked how far it is.
const LOOK: Duration = Duration::from_millis(500);

/// Nothing moves if nothing has moved for so long: more than copies wait that merely move, unless told.
const STANDSTILL: Duration = Duration::from_secs(90);

/// What can be said of recovery.
#[derive(clap::Subcommand)]
pub(crate) enum RecoveryCommand {
    /// Show what it may take
    Show(Common),
    /// Have nothing copied, whatever lacks copies, until it is resumed
    Pause(Common),
    /// Go on copying
    Resume(Common),
    /// Say what each node may copy in a second
    Limit(LimitArgs),
    /// Say how long copies wait that merely move to another node, because one was added, or has another weight
    Delay(DelayArgs),
    /// Wait until all has its copies where they belong; on a terminal, show how far that is. While recovery is paused that is an
    /// error; if nothing moves for 90 s, why is said
    Wait(WaitArgs),
}

/// What all of them take.
#[derive(clap::Args)]
pub(crate) struct Common {
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = Form::Table)]
    output: Form,

    #[command(flatten)]
    cluster: ClusterAddress,
}

/// Arguments of `huntaway recovery limit`.
#[derive(clap::Args)]
pub(crate) struct LimitArgs {
    /// Bytes in a second, or such as 50MiB
    #[arg(value_parser = parse_pace)]
    bytes: u64,

    #[command(flatten)]
    common: Common,
}

/// Arguments of `huntaway recovery delay`.
#[derive(clap::Args)]
pub(crate) struct DelayArgs {
    /// Seconds; 0: they begin at once
    seconds: u32,

    #[command(flatten)]
    common: Common,
}

/// Arguments of `huntaway recovery wait`.
#[derive(clap::Args)]
pub(crate) struct WaitArgs {
    /// Give up after so many seconds
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,

    #[command(flatten)]
    common: Common,
}

fn parse_pace(text: &str) -> Result<u64, String> {
    let pace = parse_bytes(text).filter(|pace| *pace > 0);
    pace.ok_or_else(|| {
        "write a number of bytes, or such as 50MiB; to copy nothing: huntaway recovery pause".into()
    })
}

/// Has a node of the cluster do it.
pub(crate) fn run(command: &RecoveryCommand) -> Result<ExitCode, Box<dyn Error>> {
    let paused = |is_paused| NewPolicy { is_paused: Some(is_paused), ..NewPolicy::default() };
    match command {
        RecoveryCommand::Show(common) => print(common, &common.cluster.client()?.cluster()?.recovery_policy),
        RecoveryCommand::Pause(common) => change(common, paused(true)),
        RecoveryCommand::Resume(common) => change(common, paused(false)),
        RecoveryCommand::Limit(LimitArgs { bytes, common }) => {
            change(common, NewPolicy { bytes_per_second: Some(*bytes), ..NewPolicy::default() })
        }
        RecoveryCommand::Delay(DelayArgs { seconds, common }) => {
            change(common, NewPolicy { delay_seconds: Some(*seconds), ..NewPolicy::default() })
        }
        RecoveryCommand::Wait(WaitArgs { timeout, common }) => {
            let status = wait(&common.cluster.client()?, *timeout)?;
            let whole = status.partitions.whole;
            let said = || format!("all {whole} partitions have their copies where they belong\n");
            stdout().write_all(common.output.text(&status, said)?.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn change(common: &Common, new: NewPolicy) -> Result<ExitCode, Box<dyn Error>> {
    print(common, &common.cluster.client()?.pace_recovery(new)?)
}

fn print(common: &Common, policy: &PolicyStatus) -> Result<ExitCode, Box<dyn Error>> {
    stdout().write_all(common.output.text(policy, || for_people(policy))?.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// What it may take, in a sentence.
pub(crate) fn for_people(policy: &PolicyStatus) -> String {
    let PolicyStatus { is_paused, bytes_per_second, delay_seconds } = *policy;
    let (pace, delay) = (amount(bytes_per_second), ago(Duration::from_secs(delay_seconds.into())));
    let paused = if is_paused { "is paused (huntaway recovery resume lets it go on); it " } else { "" };
    format!("recovery {paused}copies {pace}/s at most from each node, and what merely moves after {delay}\n")
}

fn wait(client: &Client, timeout: Option<u64>) -> Result<ClusterStatus, Box<dyn Error>> {
    let began = Instant::now();
    let mut movement = Movement::new(began);
    let mut line = ProgressLine::new();
    loop {
        let left = timeout.map_or(Duration::MAX, |seconds| {
            Duration::from_secs(seconds).saturating_sub(began.elapsed()).max(LATE)
        });
        let status = client.cluster_within(left)?;
        let whole = status.partitions.whole;
        if whole == status.partitions.all() && status.health == Health::Ok {
            line.clear();
            return Ok(status);
        }
        if status.recovery_policy.is_paused {
            line.clear();
            let all = status.partitions.all();
            return Err(format!(
                "{whole} of {all} partitions have their copies where they belong, and nothing more is copied, for recovery \
                 is paused: `huntaway recovery resume` lets it go on, then wait again"
            )
            .into());
        }
        if movement.stands_still(far(&status), Instant::now()) {
            let why = client.explanation()?.reasons.join("\n  ");
            line.clear();
            eprintln!("nothing has moved for {} s:\n  {why}", STANDSTILL.as_secs());
        }
        line.tell(whole as u64, status.partitions.all() as u64, &told(&status));
        if timeout.is_some_and(|seconds| began.elapsed() >= Duration::from_secs(seconds)) {
            line.clear();
            let (all, health) = (status.partitions.all(), status.health);
            let seconds = began.elapsed().as_secs();
            return Err(format!(
                "after {seconds} s {whole} of {all} partitions have their copies where they belong, and the cluster is \
                 {health}: `huntaway status --explain` says why"
            )
            .into());
        }
        thread::sleep(LOOK);
    }
}

/// How far it is: partitions in each state, and what was copied.
type Far = (PartitionCounts, Option<u64>);

fn far(status: &ClusterStatus) -> Far {
    (status.partitions, status.recovery_of_all.map(|recovery| recovery.told.bytes_copied))
}

/// Whether anything moves.
struct Movement {
    last: Option<Far>,
    since: Instant,
    is_told: bool,
}

impl Movement {
    fn new(now: Instant) -> Self {
        Self { last: None, since: now, is_told: false }
    }

    /// True once when nothing has moved for a while.
    fn stands_still(&mut self, far: Far, now: Instant) -> bool {
        if self.last.replace(far) != Some(far) {
            (self.since, self.is_told) = (now, false);
        }
        let stands_still = !self.is_told && now.duration_since(self.since) >= STANDSTILL;
        self.is_told |= stands_still;
        stands_still
    }
}

fn told(status: &ClusterStatus) -> String {
    let mut text = format!("{} of {} partitions whole", status.partitions.whole, status.partitions.all());
    if let Some(left) = status.recovery_of_all.map(|all| all.told).filter(|left| left.partitions_left > 0) {
        let (bytes, pace) = (amount(left.bytes_left), amount(left.bytes_per_second));
        text.push_str(&format!(", at most {bytes} left, {pace}/s"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_bytes_and_not_nothing() {
        assert_eq!(parse_pace("50MiB"), Ok(50 << 20));
        assert!(parse_pace("0").unwrap_err().contains("recovery pause"));
        assert!(parse_pace("fast").is_err());
    }

    #[test]
    fn a_node_that_hangs_is_not_waited_for_longer_than_was_said() {
        let scratch = tempfile::tempdir().unwrap();
        let socket = scratch.path().join("control.sock");
        let _hangs = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let late = wait(&Client::new(&socket).unwrap(), Some(1)).unwrap_err().to_string();
        assert!(late.contains("has not answered within 2 s"), "{late}");
    }

    #[test]
    fn that_nothing_moves_is_told_once() {
        let began = Instant::now();
        let mut movement = Movement::new(began);
        let mut told = |whole, seconds| {
            let far = (PartitionCounts { whole, ..PartitionCounts::default() }, None);
            movement.stands_still(far, began + Duration::from_secs(seconds))
        };
        let asked = [(1, 0), (1, 89), (2, 90), (2, 179), (2, 180), (2, 300), (3, 301), (3, 391)];
        let times: Vec<u64> =
            asked.into_iter().filter(|(whole, at)| told(*whole, *at)).map(|(_, at)| at).collect();
        assert_eq!(times, [180, 391]);
    }

    #[test]
    fn what_it_may_take_is_told_in_a_sentence() {
        let policy = PolicyStatus { is_paused: true, bytes_per_second: 50 << 20, delay_seconds: 60 };
        assert_eq!(
            for_people(&policy),
            "recovery is paused (huntaway recovery resume lets it go on); it copies 50.0MiB/s at most from each node, and \
             what merely moves after 60 s\n"
        );
    }
}
