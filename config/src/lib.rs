//! The configuration of a node: read from YAML, checked, and explained to whoever wrote it.
//!
//! [`parse`] is pure: text in, a [`Config`] or a [`Report`] of everything that is wrong out. It goes in three steps: the
//! YAML becomes a tree whose nodes know their places (`tree`), the tree becomes a [`Config`] by a reader that notes what it
//! cannot use and goes on (`read`), and what fits each for itself is checked together (`check`). Only [`read_secret`]
//! and [`read_secrets`] touch files.

mod check;
mod config;
mod place;
mod read;
mod report;
mod schema;
mod secrets;
mod tree;

use std::sync::Arc;

pub use check::overlap;
pub use config::{
    Cache, ChapAccount, ChapPair, Cluster, Config, DataDirectory, Digests, Initiator, Ledger, Log, LogFormat,
    Lun, Membership, Node, Portal, Target, TlsFiles,
};
pub use place::{At, Source, Span};
pub use report::{Problem, Report, Severity};
pub use schema::schema;
pub use secrets::{MAX_SECRET_BYTES, MIN_SECRET_BYTES, SecretError, Secrets, read_secret, read_secrets};

/// Longest configuration that is looked at, in bytes: 4 MiB.
pub const MAX_CONFIG_BYTES: usize = 4 << 20;

/// A configuration with every key, explained by comments; [`parse`] accepts it.
pub const EXAMPLE: &str = include_str!("example.yaml");

/// What [`parse`] makes of a good file.
#[derive(Debug, Clone)]
pub struct Checked {
    /// What the file says.
    pub config: Config,
    /// What is allowed, but probably not meant. Often empty.
    pub warnings: Report,
}

/// Reads and checks the text of a configuration file. `name` is what the report calls the file.
///
/// # Errors
/// Everything that is wrong with it, warnings included. A text that is not YAML has only its first error reported.
pub fn parse(name: &str, text: &str) -> Result<Checked, Report> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.len() > MAX_CONFIG_BYTES {
        let source = Arc::new(Source { name: name.to_owned(), text: String::new() });
        let message = format!("the file has {} bytes", text.len());
        let cure = format!("a configuration has at most {MAX_CONFIG_BYTES} bytes: is this the right file?");
        return Err(Report::new(source, vec![Problem::error(Span::default(), message, cure)]));
    }
    let source = Arc::new(Source { name: name.to_owned(), text: text.to_owned() });
    let tree = match tree::read(text) {
        Ok(tree) => tree,
        Err(problem) => return Err(Report::new(source, vec![problem])),
    };
    let (config, problems) = read::config(&source, &tree);
    let report = Report::new(source, problems);
    if report.has_errors() { Err(report) } else { Ok(Checked { config, warnings: report }) }
}
