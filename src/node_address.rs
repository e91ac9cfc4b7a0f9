//! Which node a command talks to.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::control::Client;
use crate::node::{directory_of, read_text};

/// Where a node's configuration is unless told otherwise.
pub(crate) const DEFAULT_CONFIG: &str = "/etc/huntaway/huntaway.yaml";

/// The options that name a node on this machine.
#[derive(Debug, clap::Args)]
pub(crate) struct NodeAddress {
    /// The node's configuration, which says where its control socket is
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub(crate) config: PathBuf,

    /// The node's control socket, if its configuration cannot be read
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
}

impl NodeAddress {
    /// The way to the node.
    ///
    /// # Errors
    /// The configuration does not tell.
    pub(crate) fn client(&self) -> Result<Client, Box<dyn Error>> {
        match &self.socket {
            Some(socket) => Ok(Client::new(socket)?),
            None => self.client_by(&self.config),
        }
    }

    /// The way to the node that `file` describes, taken for its configuration.
    ///
    /// # Errors
    /// The file does not tell.
    pub(crate) fn client_by(&self, file: &Path) -> Result<Client, Box<dyn Error>> {
        let checked = huntaway_config::parse(&file.display().to_string(), &read_text(file)?)?;
        Ok(Client::new(&checked.config.node.control_socket(directory_of(&self.config)))?)
    }
}

/// How long a node of a demo has to say how it is, before the next one is asked.
const PATIENCE: Duration = Duration::from_secs(3);

/// The options that name a cluster by one of its nodes on this machine.
#[derive(Debug, clap::Args)]
pub(crate) struct ClusterAddress {
    /// Ask the first node of the demo in this directory that answers, rather than the node of a configuration
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "socket"])]
    dir: Option<PathBuf>,

    #[command(flatten)]
    node: NodeAddress,
}

impl ClusterAddress {
    /// The way to a node of the cluster: of a demo's, to one that has a lease of the ledger, if there is one.
    ///
    /// # Errors
    /// There is none that answers.
    pub(crate) fn client(&self) -> Result<Client, Box<dyn Error>> {
        let Some(dir) = &self.dir else { return self.node.client() };
        let files = (1..=9).map(|number| dir.join(format!("node-{number}/huntaway.yaml")));
        let found = first_that_answers(files.filter(|file| file.exists()))?;
        found.ok_or_else(|| format!("there is no demo of several nodes in {}", dir.display()).into())
    }
}

/// The way to one of the nodes that these files describe, one that has a lease of the ledger if there is one; `None`: there are no files.
///
/// # Errors
/// None of them answers.
pub(crate) fn first_that_answers(
    files: impl IntoIterator<Item = PathBuf>,
) -> Result<Option<Client>, Box<dyn Error>> {
    let mut without_lease = None;
    let mut last: Option<Box<dyn Error>> = None;
    for config in files {
        let node = NodeAddress { config, socket: None };
        let answered = node.client().and_then(|client| Ok((client.cluster_within(PATIENCE)?, client)));
        match answered {
            Ok((status, client)) if status.has_ledger_lease => return Ok(Some(client)),
            Ok((_, client)) => without_lease = without_lease.or(Some(client)),
            Err(error) => last = Some(error),
        }
    }
    match (without_lease, last) {
        (None, Some(error)) => Err(error),
        (found, _) => Ok(found),
    }
}
