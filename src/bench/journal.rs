//! The journal of acknowledged writes: what a LUN must hold.
//!
//! The LUN is divided into units of one I/O. Each write of a unit has a generation, one higher than the last. A unit must always
//! hold the generation that was acknowledged last, or the one that was under way when the connection broke.
//!
//! The journal may be a file: it then outlives the process, and the next run goes on where this one stopped.
//!
//! ```text
//! | magic 8 | seed 8 | bytes of a unit 8 | units 8 | writes acknowledged 8 | zeroes 24 | units: | acknowledged 4 | pending 4 | ...
//! ```
//! Numbers are little-endian.

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

const MAGIC: [u8; 8] = *b"HWBENCH1";
const HEAD_BYTES: usize = 64;
const WRITES_AT: u64 = 32;
const UNIT_BYTES: usize = 8;

/// What is known of a unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Unit {
    /// Generation of the last acknowledged write; 0: none.
    pub(super) acknowledged: u32,
    /// Generation of a write that may or may not have happened; 0: none.
    pub(super) pending: u32,
}

impl Unit {
    /// Whether anything was ever written there.
    pub(super) fn is_known(self) -> bool {
        self != Self::default()
    }

    fn to_bytes(self) -> [u8; UNIT_BYTES] {
        (u64::from(self.pending) << 32 | u64::from(self.acknowledged)).to_le_bytes()
    }

    fn from_bytes(bytes: [u8; UNIT_BYTES]) -> Self {
        let both = u64::from_le_bytes(bytes);
        Self { acknowledged: both as u32, pending: (both >> 32) as u32 }
    }
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    #[error("journal {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("journal {0} is not one, or of another load or LUN: give another file, or remove it")]
    Other(PathBuf),
}

/// What all workers of a load share of the journal.
pub(super) struct Journal {
    /// Tells this journal's blocks from others'.
    pub(super) seed: u64,
    file: Option<(PathBuf, File)>,
    writes: AtomicU64,
}

impl Journal {
    /// A journal that is forgotten when the load ends.
    pub(super) fn in_memory() -> Self {
        Self { seed: RandomState::new().hash_one(MAGIC), file: None, writes: AtomicU64::new(0) }
    }

    /// The journal in a file, which is made if it does not exist.
    ///
    /// # Errors
    /// The file cannot be used, or is another load's.
    pub(super) fn open(path: &Path, unit_bytes: u64, units: u64) -> Result<Self, JournalError> {
        let failed = |source| JournalError::Io { path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let file = file.map_err(failed)?;
        let size = HEAD_BYTES as u64 + units * UNIT_BYTES as u64;
        let now = file.metadata().map_err(failed)?.len();
        if now == 0 {
            let seed = RandomState::new().hash_one(MAGIC);
            let head = [MAGIC, seed.to_le_bytes(), unit_bytes.to_le_bytes(), units.to_le_bytes()].concat();
            file.write_all_at(&head, 0).map_err(failed)?;
            file.set_len(size).map_err(failed)?;
        } else if now != size {
            return Err(JournalError::Other(path.to_owned()));
        }
        let mut head = [0; HEAD_BYTES];
        file.read_exact_at(&mut head, 0).map_err(failed)?;
        let (words, _) = head.as_chunks::<8>();
        let word = |index: usize| u64::from_le_bytes(words[index]);
        if words[0] != MAGIC || word(2) != unit_bytes || word(3) != units {
            return Err(JournalError::Other(path.to_owned()));
        }
        Ok(Self { seed: word(1), writes: AtomicU64::new(word(4)), file: Some((path.to_owned(), file)) })
    }

    /// What is known of `count` units from `first` on.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn units(&self, first: u64, count: u64) -> Result<Vec<Unit>, JournalError> {
        let mut bytes = vec![0; count as usize * UNIT_BYTES];
        self.io(|file| file.read_exact_at(&mut bytes, unit_at(first)))?;
        Ok(bytes.as_chunks().0.iter().map(|bytes| Unit::from_bytes(*bytes)).collect())
    }

    /// Notes what is known of a unit now.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn note(&self, number: u64, unit: Unit) -> Result<(), JournalError> {
        self.io(|file| file.write_all_at(&unit.to_bytes(), unit_at(number)))
    }

    /// Counts acknowledged writes.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn count_write(&self) -> Result<(), JournalError> {
        self.io(|file| {
            let writes = self.writes.fetch_add(1, Ordering::Relaxed) + 1;
            file.write_all_at(&writes.to_le_bytes(), WRITES_AT)
        })
    }

    fn io(&self, work: impl FnOnce(&File) -> io::Result<()>) -> Result<(), JournalError> {
        let Some((path, file)) = &self.file else { return Ok(()) };
        work(file).map_err(|source| JournalError::Io { path: path.clone(), source })
    }
}

fn unit_at(number: u64) -> u64 {
    HEAD_BYTES as u64 + number * UNIT_BYTES as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_gone_on_with_by_the_same_load_only() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("journal");
        let journal = Journal::open(&path, 4096, 10).unwrap();
        let unit = Unit { acknowledged: 3, pending: 4 };
        journal.note(9, unit).unwrap();
        journal.count_write().unwrap();
        let again = Journal::open(&path, 4096, 10).unwrap();
        assert_eq!((again.seed, again.writes.load(Ordering::Relaxed)), (journal.seed, 1));
        assert_eq!(again.units(8, 2).unwrap(), [Unit::default(), unit]);
        for (unit_bytes, units) in [(512, 10), (4096, 11)] {
            assert!(matches!(Journal::open(&path, unit_bytes, units), Err(JournalError::Other(_))));
        }
        std::fs::write(&path, [0; 64 + 80]).unwrap();
        assert!(matches!(Journal::open(&path, 4096, 10), Err(JournalError::Other(_))));
    }
}
