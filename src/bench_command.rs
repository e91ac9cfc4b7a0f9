//! `huntaway bench`: the load table on any iSCSI targets, for people and for programs.

use std::error::Error;
use std::fs::File;
use std::io::{IsTerminal, Write, stderr, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::bench::{
    Comparison, Load, Loads, Pinned, Progress, Settings, Target, conditions, parse_loads, table, verified,
};
use crate::disk_option::parse_bytes;

const EXAMPLES: &str = "\
Examples:
  huntaway demo --dir /dev/shm/bench        # in another terminal
  huntaway bench --destroy-data --loads quick --target \\
    portal=127.0.0.1:3260,iqn=iqn.2026-11.dev.huntaway:demo,lun=0,pid=$(pgrep -nx huntaway)

  huntaway bench --destroy-data --loads all --rounds 5 --pin 1 --verify \\
    --target name=ours,portal=127.0.0.1:3260,iqn=iqn.2026-11.dev.huntaway:demo,pid=123 \\
    --target name=tgt,portal=127.0.0.1:3261,iqn=iqn.2026-11.net.example:tgt,lun=1,pid=124

Loads with names, as they come with `all` (q is the depth, x the number of connections):
  read 4k q1; write 4k q1; read 4k q32; write 4k q32; read 4k q32 x4; write 4k q32 x4;
  70% read 4k q32; read 64k q8; write 64k q8; read 1m q8; write 1m q8;
  read 4k q32, digests; write 4k q32, digests; read 1m q8, digests; write 1m q8, digests;
  write through 4k q1; write through 4k q1 x4; write + flush 4k q1

A load of your own:
  --load mode=randrw,reads=50,size=16KiB,depth=16,connections=2,digests=both
  mode is randread, randwrite, randrw, read, write (both sequential), fua, flush or check
  (which reads what the --journal of an earlier run knows).

The CPU time is that of the target's processes, for each I/O. Of loads that write, it goes on
until the processes are idle after a flush: work that is put off is counted, too.";

/// Arguments of `huntaway bench`.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct BenchArgs {
    /// A target; may be repeated: each load is measured on all of them in turn, and ratios are to the first. Keys:
    /// portal=HOST:PORT,iqn=NAME,lun=0,name=NAME,pid=PID+PID,chap=USER:SECRETFILE. Without pid there is no CPU time
    #[arg(long, value_name = "KEY=VALUE,...", required = true)]
    target: Vec<Target>,

    /// What is on these LUNs is of no use any more: it will be overwritten
    #[arg(long)]
    destroy_data: bool,

    /// all, quick, or names of loads (see below) with commas between them [default: quick]
    #[arg(long, value_name = "NAME,...", value_parser = parse_loads)]
    loads: Option<Loads>,

    /// A load of your own, beside or instead of those with names; may be repeated
    #[arg(long, value_name = "KEY=VALUE,...")]
    load: Vec<Load>,

    /// How often each load is measured on each target; 0 only verifies
    #[arg(long, default_value_t = 3)]
    rounds: u32,

    /// Seconds of each measurement
    #[arg(long, default_value = "2", value_parser = parse_seconds)]
    seconds: Duration,

    /// Seconds before each measurement that are not measured
    #[arg(long, value_name = "SECONDS", default_value = "0.4", value_parser = parse_seconds)]
    warm: Duration,

    /// Have loads that write go on until they have written so much, such as 1GiB: several times what the target keeps in
    /// memory
    #[arg(long, value_name = "SIZE", default_value = "0", value_parser = parse_size)]
    min_bytes: u64,

    /// Use at most so much of each LUN, from its beginning: more than the target's caches hold, if disks are meant
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = parse_size)]
    span: u64,

    /// Put the targets' processes and this one on this CPU while measuring: the steadiest figures for software's cost
    #[arg(long, value_name = "CPU")]
    pin: Option<usize>,

    /// Before measuring, run each load once with every block checked that is read
    #[arg(long)]
    verify: bool,

    /// Keep in this file what was written, for a later run: one load on one target, verified
    #[arg(long, value_name = "FILE", requires = "verify")]
    journal: Option<PathBuf>,

    /// Do not write the LUNs once before loads that read: they are full already
    #[arg(long)]
    no_fill: bool,

    /// How the result is printed: as a table, or one measurement a line as it is made
    #[arg(short, long, value_enum, default_value_t = Form::Table)]
    output: Form,

    /// Write the measurements to this file, too, as lines of JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// For people: medians, as Markdown
    Table,
    /// For programs
    Json,
}

/// What is not done as asked for.
#[derive(Debug, thiserror::Error)]
enum BenchError {
    #[error(
        "this destroys all data of {units}: say --destroy-data if that is meant. Loads that only read, with --no-fill, \
         destroy nothing"
    )]
    WouldDestroy { units: String },
    #[error("a journal is of one load on one target: give one --load, one --target and --rounds 0")]
    JournalOfSeveral,
    #[error("two targets are called {0}: tell them apart with name=NAME")]
    SameName(String),
    #[error("there is nothing to do: --rounds 0 measures nothing, and without --verify nothing is verified")]
    NothingToDo,
}

/// Measures.
pub(crate) fn run(args: &BenchArgs) -> Result<ExitCode, Box<dyn Error>> {
    let loads = args.loads();
    args.check(&loads)?;
    let mut comparison = Comparison::open(&args.target)?;
    if !args.destroy_data && args.destroys(&loads) {
        return Err(BenchError::WouldDestroy { units: comparison.units().join(", and of ") }.into());
    }
    let pids: Vec<u32> = args.target.iter().flat_map(Target::pids).collect();
    let pinned = args.pin.map(|cpu| Pinned::to(cpu, &pids)).transpose()?;
    if let Some(pinned) = &pinned {
        comparison.note_pinned(pinned);
    }
    let mut journalist = Journalist::new(args)?;
    let settings = args.settings();
    let mut tell = |progress: Progress<'_>| journalist.tell(progress);
    let mut all = Vec::new();
    if args.verify {
        all.extend(comparison.verify(&loads, &settings, &mut tell));
    }
    if args.rounds > 0 {
        if args.fills(&loads) {
            comparison.fill(&settings, &mut tell)?;
        }
        all.extend(comparison.measure(&loads, args.rounds, &settings, &mut tell));
    }
    drop(pinned);
    journalist.finish()?;
    let failed = journalist.failed;
    if args.output == Form::Table {
        let mut out = stdout().lock();
        if let Some(conditions) = conditions(&all, args.rounds, args.seconds).filter(|_| args.rounds > 0) {
            write!(out, "{}\n{conditions}\n", table(&all))?;
        }
        if args.verify {
            writeln!(out, "{}", verified(&all))?;
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

impl BenchArgs {
    fn loads(&self) -> Vec<Load> {
        let named = match &self.loads {
            Some(Loads(loads)) => loads.clone(),
            None if self.load.is_empty() => Loads::quick().0,
            None => Vec::new(),
        };
        [named, self.load.clone()].concat()
    }

    fn check(&self, loads: &[Load]) -> Result<(), BenchError> {
        if self.journal.is_some() && (loads.len() > 1 || self.target.len() > 1 || self.rounds > 0) {
            return Err(BenchError::JournalOfSeveral);
        }
        let names: Vec<_> = self.target.iter().map(Target::name).collect();
        if let Some(index) = (1..names.len()).find(|index| names[..*index].contains(&names[*index])) {
            return Err(BenchError::SameName(names[index].to_owned()));
        }
        if self.rounds == 0 && !self.verify {
            return Err(BenchError::NothingToDo);
        }
        Ok(())
    }

    /// Whether the LUNs are written once before anything is measured.
    fn fills(&self, loads: &[Load]) -> bool {
        !self.no_fill && self.rounds > 0 && loads.iter().any(Load::reads)
    }

    /// Whether anything is written. To verify is to write first, unless a journal knows what is there.
    fn destroys(&self, loads: &[Load]) -> bool {
        let writes = |load: &Load| load.writes() || (self.verify && !load.is_check());
        self.fills(loads) || loads.iter().any(writes)
    }

    fn settings(&self) -> Settings {
        Settings {
            warm: self.warm,
            time: self.seconds,
            min_bytes: self.min_bytes,
            span_bytes: self.span,
            journal: self.journal.clone(),
        }
    }
}

/// Tells people and files what happens.
struct Journalist {
    lines_to_stdout: bool,
    file: Option<(PathBuf, File)>,
    /// The first line that could not be written.
    unwritten: Option<String>,
    tells_progress: bool,
    /// Something went wrong at a target.
    failed: bool,
}

impl Journalist {
    fn new(args: &BenchArgs) -> Result<Self, Box<dyn Error>> {
        let create = |path: &PathBuf| match File::create(path) {
            Ok(file) => Ok((path.clone(), file)),
            Err(error) => Err(format!("{} cannot be written: {error}", path.display())),
        };
        Ok(Self {
            lines_to_stdout: args.output == Form::Json,
            file: args.json.as_ref().map(create).transpose()?,
            unwritten: None,
            tells_progress: stderr().is_terminal(),
            failed: false,
        })
    }

    fn tell(&mut self, progress: Progress<'_>) {
        match progress {
            Progress::Begins { what, target } if self.tells_progress => eprintln!("{what}: {target}"),
            Progress::Begins { .. } => {}
            Progress::Measured(measurement) => {
                self.complain(measurement.failure());
                if let Some(doubt) = measurement.doubt() {
                    eprintln!("huntaway: {doubt}");
                }
                self.write(serde_json::to_string(measurement));
            }
            Progress::Failed(failure) => {
                self.complain(Some(failure.to_string()));
                self.write(serde_json::to_string(failure));
            }
        }
    }

    fn complain(&mut self, failure: Option<String>) {
        if let Some(failure) = failure {
            self.failed = true;
            eprintln!("huntaway: {failure}");
        }
    }

    fn write(&mut self, line: serde_json::Result<String>) {
        let result = line.map_err(|error| error.to_string()).and_then(|line| {
            if self.lines_to_stdout {
                writeln!(stdout(), "{line}").map_err(|error| format!("standard output: {error}"))?;
            }
            match &mut self.file {
                Some((path, file)) => {
                    writeln!(file, "{line}").map_err(|error| format!("{}: {error}", path.display()))
                }
                None => Ok(()),
            }
        });
        if let Err(error) = result {
            self.unwritten.get_or_insert(error);
        }
    }

    fn finish(&mut self) -> Result<(), Box<dyn Error>> {
        self.unwritten.take().map_or(Ok(()), |error| Err(error.into()))
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| "write a number of seconds, such as 2 or 0.5".to_owned())
}

fn parse_size(text: &str) -> Result<u64, String> {
    parse_bytes(text).ok_or_else(|| "write a number of bytes, such as 512MiB or 1GiB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_every_load() {
        let Loads(loads) = parse_loads("all").unwrap();
        let listed: Vec<String> = loads.iter().map(|load| load.name().to_owned()).collect();
        let (_, help) = EXAMPLES.split_once("connections):\n").unwrap();
        let (help, _) = help.split_once("\n\n").unwrap();
        let named: Vec<&str> =
            help.split([';', '\n']).map(str::trim).filter(|name| !name.is_empty()).collect();
        assert_eq!(named, listed);
    }
}
