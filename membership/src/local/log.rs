//! Appending to the ledger's file: write, fsync, mark.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use huntaway_ledger::{Ledger, ReadError};

use super::error::LogError;
use super::log_file::{MARK_OFFSET_BYTES, mark};

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
    /// Where its records begin.
    start_bytes: u64,
    /// An append failed in a way that leaves the file unknown: a failed fsync is never tried again.
    failed: bool,
}

impl<S: Storage> Log<S> {
    pub(super) fn new(storage: S, path: PathBuf, end_bytes: u64, start_bytes: u64) -> Self {
        Self { storage, path, end_bytes, start_bytes, failed: false }
    }

    /// Whether it is so long, and twice as long as a snapshot took last, that it is better cut.
    pub(super) fn is_long(&self, cut_bytes: u64) -> bool {
        !self.failed && self.end_bytes >= cut_bytes.max(2 * self.start_bytes)
    }

    /// From here on it is another file.
    pub(super) fn replace(&mut self, storage: S, end_bytes: u64) {
        (self.storage, self.start_bytes, self.end_bytes) = (storage, end_bytes, end_bytes);
    }

    /// It is not known which file is there.
    pub(super) fn lost(&mut self, source: io::Error) -> LogError {
        self.failed = true;
        LogError::Sync { path: self.path.clone(), source }
    }

    /// Where it ends, in bytes.
    pub(super) fn end_bytes(&self) -> u64 {
        self.end_bytes
    }

    /// What was appended is no record.
    pub(super) fn unreadable(&self, source: ReadError) -> LogError {
        LogError::Unreadable { path: self.path.clone(), source }
    }

    /// Appends the bytes of records up to `limit_bytes`; `ledger` is the ledger that has them. They are on stable storage when this
    /// returns.
    pub(super) fn append(&mut self, bytes: &[u8], ledger: &Ledger, limit_bytes: u64) -> Result<(), LogError> {
        if self.failed {
            return Err(LogError::Poisoned { path: self.path.clone() });
        }
        let end_bytes = self.end_bytes + bytes.len() as u64;
        if end_bytes > limit_bytes {
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const LIMIT_BYTES: u64 = 4096;

    /// A file whose next call of each kind may be told to fail.
    #[derive(Default)]
    struct FailingStorage {
        write: Cell<bool>,
        sync: Cell<bool>,
        mark: Cell<bool>,
        cut: Cell<bool>,
        length_bytes: Cell<u64>,
    }

    fn answer(fails: &Cell<bool>) -> io::Result<()> {
        if fails.take() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    impl Storage for FailingStorage {
        fn write_at(&self, bytes: &[u8], offset_bytes: u64) -> io::Result<()> {
            if offset_bytes == MARK_OFFSET_BYTES {
                return answer(&self.mark);
            }
            self.length_bytes.set(offset_bytes + bytes.len() as u64);
            answer(&self.write)
        }

        fn sync(&self) -> io::Result<()> {
            answer(&self.sync)
        }

        fn cut(&self, length_bytes: u64) -> io::Result<()> {
            self.length_bytes.set(length_bytes);
            answer(&self.cut)
        }
    }

    fn log_failing(fail: fn(&FailingStorage)) -> Log<FailingStorage> {
        let storage = FailingStorage::default();
        fail(&storage);
        Log::new(storage, PathBuf::from("log"), 1024, 1024)
    }

    fn append(log: &mut Log<FailingStorage>) -> Result<(), LogError> {
        log.append(b"a record", &Ledger::default(), LIMIT_BYTES)
    }

    #[test]
    fn after_a_failed_fsync_nothing_is_written_any_more() {
        for fail in [|s: &FailingStorage| s.sync.set(true), |s: &FailingStorage| s.mark.set(true)] {
            let mut log = log_failing(fail);
            assert!(matches!(append(&mut log), Err(LogError::Sync { .. })));
            assert!(matches!(append(&mut log), Err(LogError::Poisoned { .. })));
        }
    }

    #[test]
    fn a_failed_write_is_cut_off_and_may_be_tried_again() {
        let mut log = log_failing(|storage| storage.write.set(true));
        assert!(matches!(append(&mut log), Err(LogError::Write { .. })));
        assert_eq!(log.storage.length_bytes.get(), 1024);
        append(&mut log).unwrap();
        append(&mut log).unwrap();
        assert_eq!(log.storage.length_bytes.get(), 1040);
    }

    #[test]
    fn a_failed_write_that_cannot_be_cut_off_is_the_last() {
        let mut log = log_failing(|storage| {
            storage.write.set(true);
            storage.cut.set(true);
        });
        assert!(matches!(append(&mut log), Err(LogError::Write { .. })));
        assert!(matches!(append(&mut log), Err(LogError::Poisoned { .. })));
    }

    #[test]
    fn a_full_ledger_takes_no_more_and_stays_readable() {
        let mut log = Log::new(FailingStorage::default(), PathBuf::from("log"), LIMIT_BYTES - 7, 1024);
        assert!(matches!(append(&mut log), Err(LogError::Full { .. })));
        assert_eq!(log.storage.length_bytes.get(), 0);
    }
}
