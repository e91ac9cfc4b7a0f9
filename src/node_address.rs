//! Which node a command talks to.

use std::error::Error;
use std::path::{Path, PathBuf};

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
