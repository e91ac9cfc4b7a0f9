//! A node of a local cluster in a temporary directory.

#![allow(dead_code, reason = "each test uses the part it needs")]

use std::fs;
use std::path::PathBuf;

use huntaway_ledger::{Name, Operation, VdiOptions};
use huntaway_membership::local::{LocalDriver, LocalOptions, OpenError};
use tempfile::TempDir;

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).expect("a valid name")
}

pub(crate) fn options() -> LocalOptions {
    LocalOptions { cluster_name: name("test"), node_name: name("node-1"), zone: name("here"), make: true }
}

pub(crate) fn create(text: &str) -> Operation {
    let options = VdiOptions { size_bytes: 1 << 30, block_size: 512, physical_block_size: 4096, thin: false };
    Operation::CreateVdi { name: name(text), options }
}

pub(crate) struct Node {
    pub(crate) dir: TempDir,
}

impl Node {
    pub(crate) fn new() -> Self {
        Self { dir: TempDir::new().expect("a temporary directory") }
    }

    /// A node whose ledger is `log`, byte for byte.
    pub(crate) fn with_log(log: &[u8]) -> Self {
        let node = Self::new();
        fs::create_dir(node.dir.path().join("epoch")).expect("a new directory");
        node.set_log(log);
        node
    }

    pub(crate) fn open(&self) -> Result<LocalDriver, OpenError> {
        LocalDriver::open(self.dir.path(), options())
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.dir.path().join("epoch/log")
    }

    pub(crate) fn log(&self) -> Vec<u8> {
        fs::read(self.log_path()).expect("a ledger")
    }

    pub(crate) fn set_log(&self, log: &[u8]) {
        fs::write(self.log_path(), log).expect("a directory to write to");
    }
}
