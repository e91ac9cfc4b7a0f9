//! What the processes of a cluster know each other by: its key, and with TLS their certificates.

use std::error::Error;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use huntaway_config::{At, Config, Ledger, Problem, Report, read_secret};
use huntaway_ledger::State;
use huntaway_membership::local::shared::{ClusterKey, InvalidKey};
use huntaway_wire::tls::{Credentials, File, KEEPER, Pem, Tls, Unusable};
use tokio::sync::watch;

/// Permissions that the file of a private key may not give: anything to others, writing to its group.
const FORBIDDEN_MODE: u32 = 0o027;

/// Where the ledger of a cluster is kept, and what opens its processes' doors.
#[derive(Debug, Clone)]
pub(crate) struct Trust {
    pub(super) keeper: SocketAddr,
    pub(super) key: ClusterKey,
    pub(super) tls: Option<Tls>,
}

impl Trust {
    /// What a configuration says; relative paths in it begin at `base`.
    ///
    /// # Errors
    /// What is wrong with the files, and what to do.
    pub(crate) fn of(config: &Config, ledger: &Ledger, base: &Path) -> Result<Self, Box<dyn Error>> {
        let key = read_key(&base.join(&ledger.key_file.value))?;
        Ok(Self { keeper: ledger.keeper.value, key, tls: read_tls(config, base)? })
    }

    /// For connections to those that the ledger has.
    pub(super) fn credentials(&self, states: watch::Receiver<Arc<State>>) -> Credentials {
        let names = Arc::new(move |node| Some(states.borrow().name_of(node)?.to_string()));
        let tls = self.tls.clone().map(|tls| (tls, names as _));
        Credentials { key: self.key.clone(), tls }
    }
}

/// The cluster's key.
///
/// # Errors
/// The file cannot be read, has no key, or may be read by others: whoever has it can write to every disk.
pub(crate) fn read_key(file: &Path) -> Result<ClusterKey, String> {
    let of_key = |error: &dyn std::fmt::Display| format!("the cluster's key {}: {error}", file.display());
    let key = read_secret(file).map_err(|error| of_key(&error))?;
    String::from_utf8_lossy(&key).parse().map_err(|error: InvalidKey| of_key(&error))
}

/// What a configuration says of TLS, if it does; relative paths in it begin at `base`.
///
/// # Errors
/// What is wrong with its files, where it names them.
pub(crate) fn read_tls(config: &Config, base: &Path) -> Result<Option<Tls>, Report> {
    let Some(files) = config.cluster.ledger.as_ref().and_then(|ledger| ledger.tls.as_ref()) else {
        return Ok(None);
    };
    let wrong = |problem| Report::new(Arc::clone(&config.source), vec![problem]);
    let name = &config.node.name;
    if name.value.trim_end_matches('.').eq_ignore_ascii_case(KEEPER) {
        let message = format!("with TLS no node is called `{KEEPER}`");
        let cure = "give it another name: whoever has that name's certificate can keep the ledger";
        return Err(wrong(Problem::error(name.span, message, cure)));
    }
    let named = [&files.ca_file, &files.certificate_file, &files.private_key_file];
    let tls = load(named.map(|file| base.join(&file.value)), name);
    tls.map(Some).map_err(|Unfit { file, message, cure }| {
        let At { span, .. } = *named[file as usize];
        wrong(Problem::error(span, message, cure))
    })
}

/// The same for whoever keeps the ledger.
///
/// # Errors
/// What is wrong with the files.
pub(crate) fn keeper_tls(ca: &Path, certificate: &Path, private_key: &Path) -> Result<Tls, String> {
    let files = [ca, certificate, private_key].map(Path::to_owned);
    load(files, KEEPER).map_err(|Unfit { message, cure, .. }| format!("{message}: {cure}"))
}

/// What is wrong with one of the files.
struct Unfit {
    file: File,
    message: String,
    cure: String,
}

fn load([ca, certificate, private_key]: [PathBuf; 3], name: &str) -> Result<Tls, Unfit> {
    let read_ca = read(File::Ca, &ca)?;
    let read_certificate = read(File::Certificate, &certificate)?;
    let read_key = read(File::PrivateKey, &private_key)?;
    let pem = Pem { ca: &read_ca, certificate: &read_certificate, private_key: &read_key };
    Tls::new(pem, name).map_err(|Unusable { file, why, cure }| {
        let (path, what) = match file {
            File::Ca => (ca, "CA's certificate"),
            File::Certificate => (certificate, "certificate"),
            File::PrivateKey => (private_key, "private key"),
        };
        Unfit { file, message: format!("{} cannot be used as {what}: {why}", path.display()), cure }
    })
}

/// Longest file, in bytes.
const MAX_BYTES: u64 = 1 << 20;

fn read(file: File, path: &Path) -> Result<Vec<u8>, Unfit> {
    let shown = path.display();
    let unfit = |message: String, cure: String| Unfit { file, message, cure };
    let unreadable = |error: std::io::Error| {
        let cure = "create it, correct the path (a configuration's begin in that file's directory), or let the node read it";
        unfit(format!("cannot read {shown}: {error}"), cure.to_owned())
    };
    let found = fs::metadata(path).map_err(unreadable)?;
    if !found.is_file() || found.len() > MAX_BYTES {
        let cure = "name a file in PEM, as openssl and others write it".to_owned();
        return Err(unfit(format!("{shown} is not a regular file of at most {MAX_BYTES} bytes"), cure));
    }
    let mode = found.permissions().mode() & 0o777;
    if file == File::PrivateKey && mode & FORBIDDEN_MODE != 0 {
        let message = format!("{shown} has mode {mode:04o}: others than the node could use its private key");
        return Err(unfit(message, format!("chmod 600 {shown} (or 640: its group may read it)")));
    }
    fs::read(path).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("key");
        std::fs::write(&file, "ab".repeat(32) + "\n").unwrap();
        for (mode, is_read) in [(0o644, false), (0o640, true), (0o600, true)] {
            std::fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            assert_eq!(read_key(&file).is_ok(), is_read, "{mode:o}");
        }
        std::fs::write(&file, "none of its digits\n").unwrap();
        assert!(read_key(&file).unwrap_err().contains("hexadecimal"));
    }
}
