//! Appending to the ledger's file: write, fsync, mark.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use huntaway_ledger::Ledger;

use super::error::LogError;
use super::log_file::{MARK_OFFSET_BYTES, MAX_LOG_BYTES, mark};

/// What an append asks of its file.
pub(super) trait Storage {
    fn write_at(&self, bytes: &[u8], offset_bytes: u64) -> io::Result<()>;
    fn sync(&self) -> io::Result<()>;
    fn cut(&self, length_bytes: u64) -> io::Result<()>;
}

impl Storage for File {
    fn write_at(&self, bytes: &[u8], offset_bytes: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset_bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn cut(&self, length_bytes: u64) -> io::Result<()> {
        self.set_len(length_bytes)
    }
}

/// The file's end, and whether it may still be written to.
#[derive(Debug)]
pub(super) struct Log<S> {
    storage: S,
    path: PathBuf,
    end_bytes: u64,
    /// An append failed in a way that leaves the file unknown: a failed fsync is never tried again.
    failed: bool,
}

impl<S: Storage> Log<S> {
    pub(super) fn new(storage: S, path: PathBuf, end_bytes: u64) -> Self {
        Self { storage, path, end_bytes, failed: false }
    }

    /// Appends the bytes of records; `ledger` is the ledger that has them. When this returns they are on stable storage.
    pub(super) fn append(&mut self, bytes: &[u8], ledger: &Ledger) -> Result<(), LogError> {
        if self.failed {
            return Err(LogError::Poisoned { path: self.path.clone() });
        }
        let end_bytes = self.end_bytes + bytes.len() as u64;
        if end_bytes > MAX_LOG_BYTES {
            return Err(LogError::Full { path: self.path.clone() });
        }
        if let Err(source) = self.storage.write_at(bytes, self.end_bytes) {
            self.failed = self.storage.cut(self.end_bytes).is_err();
            return Err(LogError::Write { path: self.path.clone(), source });
        }
        let marked = self.storage.sync().and_then(|()| {
            let mark = mark(end_bytes, ledger);
            self.storage.write_at(&mark, MARK_OFFSET_BYTES)
        });
        if let Err(source) = marked {
            self.failed = true;
            return Err(LogError::Sync { path: self.path.clone(), source });
        }
        self.end_bytes = end_bytes;
        Ok(())
    }
}
