//! CHAP secrets: the files that a configuration names, read and checked. The only part of this crate that touches files.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{ChapAccount, Config};
use crate::{At, Problem, Report};

/// Shortest secret, in bytes (RFC 7143 §9.2.1: 96 bits).
pub const MIN_SECRET_BYTES: usize = 12;

/// Longest secret, in bytes.
pub const MAX_SECRET_BYTES: usize = 255;

/// Permissions that a secret file may not give: anything to others, writing to its group.
const FORBIDDEN_MODE: u32 = 0o027;

/// The secrets of a configuration. `Debug` shows none of them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    /// By the path as written.
    by_file: HashMap<PathBuf, Vec<u8>>,
}

impl Secrets {
    /// The secret of an account of the configuration that these were read for; of another one, `None`.
    pub fn of(&self, account: &ChapAccount) -> Option<&[u8]> {
        self.by_file.get(&account.secret_file.value).map(Vec::as_slice)
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.by_file.keys().map(|file| (file, "***"))).finish()
    }
}

/// Reads every secret file that `config` names. Relative paths begin in `base`, the directory of the configuration file.
///
/// # Errors
/// Everything that is wrong with the files, at the `secret_file` that names them first; never what is in them.
pub fn read_secrets(config: &Config, base: &Path) -> Result<Secrets, Report> {
    let mut problems = Vec::new();
    let mut read: HashMap<PathBuf, Option<Vec<u8>>> = HashMap::new();
    for ChapAccount { secret_file, .. } in config.accounts() {
        if read.contains_key(&secret_file.value) {
            continue;
        }
        let secret = read_secret(&base.join(&secret_file.value));
        let secret = secret.map_err(|mistake| problems.push(mistake.at(secret_file))).ok();
        read.insert(secret_file.value.clone(), secret);
    }
    let known = read.into_iter().filter_map(|(file, secret)| Some((file, secret?)));
    let secrets = Secrets { by_file: known.collect() };
    both_ways(config, &secrets, &mut problems);
    if problems.is_empty() { Ok(secrets) } else { Err(Report::new(Arc::clone(&config.source), problems)) }
}

/// What is wrong with a secret file, and what to do. Nothing of what is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}: {cure}")]
pub struct SecretError {
    message: String,
    cure: String,
}

impl SecretError {
    fn new(message: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { message: message.into(), cure: cure.into() }
    }

    fn at(self, place: &At<PathBuf>) -> Problem {
        Problem::error(place.span, self.message, self.cure)
    }
}

/// The secret in a file: its only line.
///
/// # Errors
/// There is none of 12 to 255 bytes, or others than its owner and group may use it.
pub fn read_secret(path: &Path) -> Result<Vec<u8>, SecretError> {
    let shown = path.display();
    let unreadable = |error: io::Error| {
        let cure = match error.kind() {
            io::ErrorKind::NotFound => {
                "create it, or correct the path (a configuration's begin in that file's directory)".to_owned()
            }
            io::ErrorKind::PermissionDenied => {
                format!("let the node's group read it: chgrp huntaway {shown}; chmod 640 {shown}")
            }
            _ => "name a file that can be read".to_owned(),
        };
        SecretError::new(format!("cannot read {shown}: {error}"), cure)
    };
    // Not to wait for whoever writes into a FIFO.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(SecretError::new(
            format!("{shown} is not a regular file"),
            "name a file with one line: the secret",
        ));
    }
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o777;
    if mode & FORBIDDEN_MODE != 0 {
        let message = format!("{shown} has mode {mode:04o}: others than the node could use its secret");
        return Err(SecretError::new(message, format!("chmod 600 {shown} (or 640: its group may read it)")));
    }
    let mut content = Vec::new();
    let most = MAX_SECRET_BYTES as u64 + 3;
    file.take(most).read_to_end(&mut content).map_err(unreadable)?;
    only_line(content).map_err(|reason| {
        let cure = format!(
            "write one line of {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} bytes, such as: openssl rand -hex 16 > {shown}"
        );
        SecretError::new(format!("{shown} holds no secret: {reason}"), cure)
    })
}

/// The one line of a secret file, without its end.
fn only_line(mut content: Vec<u8>) -> Result<Vec<u8>, String> {
    if content.ends_with(b"\n") {
        content.pop();
        if content.ends_with(b"\r") {
            content.pop();
        }
    }
    match content.len() {
        _ if content.contains(&b'\n') => Err("it has more than one line".into()),
        0 => Err("it is empty".into()),
        length if length < MIN_SECRET_BYTES => Err(format!("{length} bytes are too easily guessed")),
        length if length > MAX_SECRET_BYTES => Err("its line is too long".into()),
        _ => Ok(content),
    }
}

/// Notes accounts of both directions with one secret: who knows one could answer for the other (RFC 7143 §9.2.1).
fn both_ways(config: &Config, secrets: &Secrets, problems: &mut Vec<Problem>) {
    let mut compare = |chap: &ChapAccount, mutual: &ChapAccount| {
        let same = secrets.of(chap).is_some_and(|secret| secrets.of(mutual) == Some(secret));
        if same && problems.iter().all(|problem| problem.span != mutual.secret_file.span) {
            let message = "`mutual_chap` has the secret of a `chap` of the same target";
            let cure = "give each direction a secret of its own (RFC 7143 §9.2.1)";
            problems.push(Problem::error(mutual.secret_file.span, message, cure));
        }
    };
    let discovery = &config.node.discovery;
    if let (Some(chap), Some(mutual)) = (&discovery.chap, &discovery.mutual_chap) {
        compare(chap, mutual);
    }
    for target in &config.targets {
        if let Some(mutual) = &target.chap.mutual_chap {
            let own = target.initiators.iter().filter_map(|initiator| target.chap_of(initiator));
            target.chap.chap.iter().chain(own).for_each(|chap| compare(chap, mutual));
        }
    }
}
