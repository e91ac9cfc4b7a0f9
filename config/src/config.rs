//! What a configuration file says, value by value with its place. Everything here has passed the checks.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{At, Source};

/// A whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The text it was read from, to report what is found later.
    pub source: Arc<Source>,
    /// `node`: this machine.
    pub node: Node,
    /// `cluster`: what the nodes have in common.
    pub cluster: Cluster,
    /// `targets`: what initiators log in to. May be empty.
    pub targets: Vec<Target>,
}

/// `node`: this machine. Paths are as written; the methods resolve them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name, unique in the cluster.
    pub name: At<String>,
    /// What fails together with it, such as a rack.
    pub zone: At<String>,
    /// Where the ledger is; `None`: in the first data directory.
    pub state_directory: Option<At<PathBuf>>,
    /// One per disk, at least one; none: it is a gateway that keeps no data, in a cluster whose ledger another process keeps.
    pub data_directories: Vec<DataDirectory>,
    /// Where initiators log in, at least one.
    pub portals: Vec<Portal>,
    /// Where metrics and health are served by HTTP.
    pub admin: Option<At<SocketAddr>>,
    /// The socket that `huntaway apply` and `huntaway vdi` use; `None`: `control.sock` in the state directory.
    pub control_socket: Option<At<PathBuf>>,
    /// What is logged, and how.
    pub log: Log,
    /// CHAP of discovery sessions.
    pub discovery: ChapPair,
}

/// A directory that holds data, on a disk of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDirectory {
    /// As written.
    pub path: At<PathBuf>,
    /// Its share of the data in proportion to the others'; `None`: its size in GiB when first used.
    pub weight: Option<At<u32>>,
}

/// An address on which initiators log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Portal {
    /// What targets call it.
    pub name: Option<At<String>>,
    /// Where to listen. Port 0: any.
    pub listen: At<SocketAddr>,
    /// What discovery shows instead of `listen`: `HOST` or `HOST:PORT`.
    pub advertise: Option<At<String>>,
}

/// `log`: what is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Such as `info` or `info,huntaway_gateway=debug`.
    pub level: At<String>,
    /// How a line looks.
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs: one object a line.
    Json,
}

/// `cluster`: what the nodes have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Its name.
    pub name: At<String>,
    /// How many copies of each block are kept. Always 1 in this release.
    pub copies: At<u8>,
    /// What agrees on the ledger.
    pub membership: Membership,
    /// Who keeps the ledger of several nodes; `None`: this node, alone.
    pub ledger: Option<Ledger>,
}

/// Who keeps the ledger of several nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    /// Where `huntaway keeper` listens.
    pub keeper: At<SocketAddr>,
    /// The cluster's key: a file with 64 hexadecimal digits. As written.
    pub key_file: At<PathBuf>,
    /// How connections between the cluster's processes are secured; `None`: by that key alone.
    pub tls: Option<TlsFiles>,
}

/// Files in PEM, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificates of the cluster's CA.
    pub ca_file: At<PathBuf>,
    /// The certificate of this node or gateway.
    pub certificate_file: At<PathBuf>,
    /// Its key.
    pub private_key_file: At<PathBuf>,
}

/// What agrees on the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Membership {
    /// A file of this machine.
    Local,
}

/// CHAP accounts of both directions (RFC 7143 §9.2.1).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChapPair {
    /// What the initiator proves.
    pub chap: Option<ChapAccount>,
    /// What the target proves. Never without `chap`.
    pub mutual_chap: Option<ChapAccount>,
}

/// A CHAP user whose secret is in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChapAccount {
    /// 1 to 255 bytes.
    pub user: At<String>,
    /// As written; [`crate::read_secrets`] reads it.
    pub secret_file: At<PathBuf>,
}

/// An entry of `targets`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its iSCSI name (RFC 7143 §4.2.7), lower case. No two targets have the same.
    pub iqn: At<String>,
    /// Names of the portals that serve it; `None`: all.
    pub portals: Option<Vec<At<String>>>,
    /// Who may log in; the first whose pattern matches decides. Empty: nobody.
    pub initiators: Vec<Initiator>,
    /// The accounts of initiators that have none of their own.
    pub chap: ChapPair,
    /// Header and data digests.
    pub digests: Digests,
    /// No two have the same number.
    pub luns: Vec<Lun>,
}

/// Whether header and data digests (RFC 7143 §13.1) are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Digests {
    /// If the initiator wants.
    Allowed,
    /// Always.
    Required,
    /// Never.
    Off,
}

/// An entry of a target's `initiators`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Initiator {
    /// An iSCSI name, lower case, in which `*` stands for any text and `?` for any character.
    pub name: At<String>,
    /// The LUNs it may use; `None`: all of the target.
    pub luns: Option<Vec<At<u16>>>,
    /// What it proves; `None`: the target's.
    pub chap: Option<ChapAccount>,
}

/// An entry of a target's `luns`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lun {
    /// 0 to 255.
    pub number: At<u16>,
    /// The disk's name.
    pub vdi: At<String>,
    /// A multiple of 4 KiB, 1 MiB to 64 TiB. `None`: that of the existing disk.
    pub size_bytes: Option<At<u64>>,
    /// 512 or 4096.
    pub block_size: Option<At<u32>>,
    /// 512 or 4096, not below `block_size`.
    pub physical_block_size: Option<At<u32>>,
    /// Space is taken as blocks are written.
    pub thin: Option<At<bool>>,
    /// Initiators may only read.
    pub read_only: bool,
    /// When a write is acknowledged.
    pub cache: Cache,
    /// A smaller `size_bytes` than the disk has cuts off its end, if the node is alone.
    pub allow_shrink: bool,
}

/// When a write is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// Once logged; a flush or FUA makes it survive power loss (as a disk with a write cache does).
    Writeback,
    /// Once on stable storage.
    Writethrough,
}

impl Node {
    /// Where the ledger is. Relative paths begin in `base`, the directory of the configuration file.
    pub fn state_directory(&self, base: &Path) -> PathBuf {
        let first = || self.data_directories.first().map(|directory| &directory.path.value);
        let path = self.state_directory.as_ref().map(|path| &path.value).or_else(first);
        path.map_or_else(|| base.to_owned(), |path| base.join(path))
    }

    /// The control socket, resolved as by [`Self::state_directory`].
    pub fn control_socket(&self, base: &Path) -> PathBuf {
        match &self.control_socket {
            Some(path) => base.join(&path.value),
            None => self.state_directory(base).join("control.sock"),
        }
    }

    /// The data directories and their weights, resolved as by [`Self::state_directory`].
    pub fn data_directories(&self, base: &Path) -> Vec<(PathBuf, Option<u32>)> {
        let resolved = |directory: &DataDirectory| {
            (base.join(&directory.path.value), directory.weight.as_ref().map(|weight| weight.value))
        };
        self.data_directories.iter().map(resolved).collect()
    }
}

impl Config {
    /// Every CHAP account that the configuration names.
    pub fn accounts(&self) -> impl Iterator<Item = &ChapAccount> {
        self.node.discovery.accounts().chain(self.targets.iter().flat_map(Target::accounts))
    }
}

impl ChapPair {
    fn accounts(&self) -> impl Iterator<Item = &ChapAccount> {
        self.chap.iter().chain(&self.mutual_chap)
    }
}

impl Target {
    fn accounts(&self) -> impl Iterator<Item = &ChapAccount> {
        let own = self.initiators.iter().filter_map(|initiator| initiator.chap.as_ref());
        self.chap.accounts().chain(own)
    }

    /// What an initiator of this target has to prove.
    pub fn chap_of<'a>(&'a self, initiator: &'a Initiator) -> Option<&'a ChapAccount> {
        initiator.chap.as_ref().or(self.chap.chap.as_ref())
    }
}
