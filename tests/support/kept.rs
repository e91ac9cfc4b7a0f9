//! Processes of a cluster whose ledger `huntaway keeper` keeps, in one directory.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::demo::huntaway;
use super::script::{Running, Script};
use super::wait;

/// Time for small things.
const LIMIT: Duration = Duration::from_secs(30);

/// Addresses that are free, or were a moment ago: the ledger has to name them before anybody listens there.
pub(crate) fn free_addresses<const COUNT: usize>() -> [SocketAddr; COUNT] {
    let listeners = [(); COUNT].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port is free"));
    listeners.map(|listener| listener.local_addr().expect("it listens"))
}

/// `huntaway keeper`, with its ledger in that directory.
pub(crate) fn keeper(directory: &Path, listen: SocketAddr, more: &[String]) -> Running {
    let (ledger, key) = (directory.join("ledger"), directory.join("key"));
    let (ledger, key, listen) = (ledger.display().to_string(), key.display().to_string(), listen.to_string());
    let args = ["keeper", "--dir", &ledger, "--key-file", &key, "--listen", &listen];
    Script::program(huntaway().get_program()).args(args).args(more).start()
}

/// `huntaway node` of that name, with all it has in a new directory of that name.
pub(crate) fn node(directory: &Path, name: &str, keeper: SocketAddr) -> Running {
    let own = directory.join(name);
    fs::create_dir(&own).expect("the directory is new");
    let config = own.join("huntaway.yaml");
    fs::write(&config, configuration(name, keeper)).expect("the directory is writable");
    let config = config.display().to_string();
    Script::program(huntaway().get_program()).args(["node", "--config", &config]).start()
}

/// That of a node in a directory beside the key.
pub(crate) fn configuration(name: &str, keeper: SocketAddr) -> String {
    format!(
        "node:\n  name: {name}\n  state_directory: state\n  data_directories: [disk]\n  portals: [{{listen: \"127.0.0.1:0\"}}]\n\
         cluster:\n  name: lab\n  ledger: {{keeper: \"{keeper}\", key_file: ../key}}\n\
         targets:\n  - iqn: iqn.2026-11.net.example:vm\n    initiators: [\"*\"]\n    luns: [{{lun: 0, vdi: root, size: 32MiB}}]\n"
    )
}

/// Waits until the keeper has made the cluster's key.
///
/// # Panics
/// If that takes too long.
pub(crate) fn has_key(directory: &Path) {
    let made = || fs::read_to_string(directory.join("key")).ok().filter(|key| key.len() == 65);
    wait::until("the key", LIMIT, made);
}

/// How the cluster is, as the node says that answers; `None` if it does not answer.
pub(crate) fn status(directory: &Path, name: &str) -> Option<Value> {
    let config = directory.join(name).join("huntaway.yaml");
    let output = huntaway().args(["status", "-o", "json", "--config"]).arg(config).output().ok()?;
    serde_json::from_slice(&output.stdout).ok()
}
