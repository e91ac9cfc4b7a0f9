//! `huntaway config check|schema|example`: help with the configuration file, without a node.

use std::error::Error;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use huntaway_config::{Checked, EXAMPLE, MAX_CONFIG_BYTES, Problem, Report, parse, read_secrets, schema};

use crate::node::read_tls;

/// What stands for standard input.
const STANDARD_INPUT: &str = "-";

/// Subcommands of `huntaway config`.
#[derive(clap::Subcommand)]
pub(crate) enum ConfigCommand {
    /// Explain everything that is wrong with a configuration file; status 0 if it can be used
    Check(CheckArgs),
    /// Print the JSON Schema of the file, for editors
    Schema,
    /// Print a file with every key, explained by comments
    Example,
}

/// Arguments of `huntaway config check`.
#[derive(clap::Args)]
pub(crate) struct CheckArgs {
    /// The file; - is standard input, whose relative paths begin in the current directory
    file: PathBuf,
    /// Do not look at the files of secrets and of TLS: they may be on another machine
    #[arg(long)]
    no_secrets: bool,
}

/// A file that cannot be checked at all.
#[derive(Debug, thiserror::Error)]
enum CheckError {
    /// It cannot be opened or read.
    #[error("cannot read {name}")]
    Unreadable { name: String, source: io::Error },
    /// It is in another encoding, or no text.
    #[error("{name} is not text in UTF-8 (byte {place}): is this the right file?")]
    NotText { name: String, place: usize },
}

/// Runs one of the subcommands.
pub(crate) fn run(command: &ConfigCommand) -> Result<ExitCode, Box<dyn Error>> {
    match command {
        ConfigCommand::Check(args) => check(args),
        ConfigCommand::Schema => print(&schema()),
        ConfigCommand::Example => print(EXAMPLE),
    }
}

/// Whoever reads only the beginning (`| head`) is no error.
fn print(text: &str) -> Result<ExitCode, Box<dyn Error>> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Reports go to standard error, the good news to standard output.
fn check(args: &CheckArgs) -> Result<ExitCode, Box<dyn Error>> {
    let is_input = args.file.as_os_str() == OsStr::new(STANDARD_INPUT);
    let name = if is_input { "<standard input>".to_owned() } else { args.file.display().to_string() };
    let text = if is_input { text(&name, io::stdin()) } else { text(&name, open(&name, &args.file)?) }?;
    let base = if is_input { Path::new("") } else { args.file.parent().unwrap_or(Path::new("")) };
    match everything_wrong(&name, &text, base, !args.no_secrets) {
        Err(report) => {
            eprintln!("{report}");
            Ok(ExitCode::FAILURE)
        }
        Ok(Checked { config, warnings }) => {
            if !warnings.is_empty() {
                eprintln!("{warnings}");
            }
            let luns: usize = config.targets.iter().map(|target| target.luns.len()).sum();
            print(&format!(
                "{name} can be used: {} and {}\n",
                count(config.targets.len(), "target"),
                count(luns, "LUN")
            ))
        }
    }
}

/// Checks the text and, if that is good, the files of secrets and of TLS.
fn everything_wrong(name: &str, text: &str, base: &Path, secrets: bool) -> Result<Checked, Report> {
    let checked = parse(name, text)?;
    if !secrets {
        return Ok(checked);
    }
    let files = [read_secrets(&checked.config, base).err(), read_tls(&checked.config, base).err()];
    let wrong: Vec<Problem> = files.iter().flatten().flat_map(Report::problems).cloned().collect();
    if wrong.is_empty() {
        return Ok(checked);
    }
    let problems = wrong.iter().chain(checked.warnings.problems()).cloned().collect();
    Err(Report::new(Arc::clone(&checked.config.source), problems))
}

fn open(name: &str, file: &Path) -> Result<File, CheckError> {
    File::open(file).map_err(|source| CheckError::Unreadable { name: name.to_owned(), source })
}

/// The text, or as much of it as shows that it is too long.
fn text(name: &str, source: impl Read) -> Result<String, CheckError> {
    let mut bytes = Vec::new();
    let mut source = source.take(MAX_CONFIG_BYTES as u64 + 4);
    source
        .read_to_end(&mut bytes)
        .map_err(|source| CheckError::Unreadable { name: name.to_owned(), source })?;
    String::from_utf8(bytes).map_err(|error| CheckError::NotText {
        name: name.to_owned(),
        place: error.utf8_error().valid_up_to() + 1,
    })
}

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
