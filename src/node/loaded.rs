//! A configuration as it was read: the YAML file, and the secrets in the files that it names.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use huntaway_config::{
    ChapAccount, Checked, Config, MAX_CONFIG_BYTES, Problem, Report, Secrets, read_secrets,
};

use rustix::fs::OFlags;

use super::files_seen::FilesSeen;
use crate::logging::check_level;

/// A configuration without errors of its own; whether this node can serve it is for [`plan`](super::plan) to say.
pub(crate) struct Loaded {
    /// What the file says.
    pub(crate) config: Config,
    /// What it names.
    pub(crate) secrets: Secrets,
    /// What is allowed, but may not be meant.
    pub(crate) warnings: Report,
}

/// A configuration that is not taken: nothing was changed.
#[derive(Debug)]
pub(crate) enum Unusable {
    /// The file cannot be read.
    Unreadable(String),
    /// It has errors, each with its place and what to write instead.
    Wrong(Report),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(reason) => f.write_str(reason),
            Self::Wrong(report) => report.fmt(f),
        }
    }
}

impl Error for Unusable {}

impl From<Report> for Unusable {
    fn from(report: Report) -> Self {
        Self::Wrong(report)
    }
}

impl Loaded {
    /// Reads the file and the secrets, each after a look at it: whatever changes later looks different.
    ///
    /// # Errors
    /// All that is wrong with the first of them that is wrong.
    pub(crate) fn read(file: &Path) -> (FilesSeen, Result<Self, Unusable>) {
        let mut seen = FilesSeen::default();
        let loaded = Self::read_after_looking(file, &mut seen);
        (seen, loaded)
    }

    fn read_after_looking(file: &Path, seen: &mut FilesSeen) -> Result<Self, Unusable> {
        seen.look_at([file]);
        let Checked { config, warnings } =
            huntaway_config::parse(&file.display().to_string(), &read_regular(file)?)?;
        let base = directory_of(file);
        let secrets = secret_files(&config, base);
        seen.look_at(secrets.iter().map(PathBuf::as_path));
        Self::with_secrets(config, warnings, base)
    }

    /// Takes `text` for the file's, which is called `name` in reports; relative paths in it begin at `base`.
    ///
    /// # Errors
    /// All that is wrong with the text, or else with the secrets.
    pub(crate) fn of(name: &str, text: &str, base: &Path) -> Result<Self, Unusable> {
        let Checked { config, warnings } = huntaway_config::parse(name, text)?;
        Self::with_secrets(config, warnings, base)
    }

    /// Reads the secrets that a checked configuration names.
    ///
    /// # Errors
    /// All that is wrong with them.
    fn with_secrets(config: Config, warnings: Report, base: &Path) -> Result<Self, Unusable> {
        if let Err(error) = check_level(&config.node.log.level) {
            let level = &config.node.log.level;
            let problem =
                Problem::error(level.span, format!("`{}` is not a log level", **level), error.to_string());
            return Err(Report::new(Arc::clone(&config.source), vec![problem]).into());
        }
        let secrets = read_secrets(&config, base)?;
        Ok(Self { config, secrets, warnings })
    }

    /// The secret of an account of this configuration; none for another's.
    pub(super) fn secret(&self, account: &ChapAccount) -> Option<&[u8]> {
        self.secrets.of(account)
    }
}

/// The text of a node's own configuration file, which is read again and again: not from a pipe, which would keep it waiting.
///
/// # Errors
/// In words that name the file.
pub(crate) fn read_regular(file: &Path) -> Result<String, Unusable> {
    let mut options = File::options();
    options.read(true).custom_flags(OFlags::NONBLOCK.bits() as i32);
    let open = options.open(file).and_then(|open| Ok((open.metadata()?.is_file(), open)));
    let (is_regular, open) = open.map_err(|error| unreadable(file, &error))?;
    if !is_regular {
        return Err(Unusable::Unreadable(format!(
            "the configuration {} is not a regular file, which a node needs: it reads it again when it changes",
            file.display()
        )));
    }
    text_of(open, file)
}

fn unreadable(file: &Path, error: &io::Error) -> Unusable {
    Unusable::Unreadable(format!("cannot read the configuration {}: {error}", file.display()))
}

/// The text of a configuration file; of one that is too long, as much as shows that it is.
///
/// # Errors
/// In words that name the file.
pub(crate) fn read_text(file: &Path) -> Result<String, Unusable> {
    text_of(File::open(file).map_err(|error| unreadable(file, &error))?, file)
}

fn text_of(open: File, file: &Path) -> Result<String, Unusable> {
    let mut bytes = Vec::new();
    let limit = MAX_CONFIG_BYTES as u64 + 1;
    open.take(limit).read_to_end(&mut bytes).map_err(|error| unreadable(file, &error))?;
    if bytes.len() > MAX_CONFIG_BYTES {
        // cut off, perhaps within a character
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    String::from_utf8(bytes).map_err(|error| {
        let (place, at) = (file.display(), error.utf8_error().valid_up_to());
        Unusable::Unreadable(format!("{place} is not text: byte {at} is not UTF-8; save it as UTF-8"))
    })
}

/// The directory where the relative paths in a configuration file begin.
pub(crate) fn directory_of(file: &Path) -> &Path {
    match file.parent() {
        Some(directory) if directory != Path::new("") => directory,
        _ => Path::new("."),
    }
}

/// Every file besides the configuration's own that decides what is served.
fn secret_files(config: &Config, base: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = config.accounts().map(|account| base.join(&*account.secret_file)).collect();
    files.sort();
    files.dedup();
    files
}
