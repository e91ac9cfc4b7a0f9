//! The ledger as a value: the state so far and the end of the chain of records that led to it.

use std::sync::Arc;

use crate::frame::{self, DecodeError, EncodeError, RecordHash};
use crate::{ApplyError, Record, State};

/// The state after some record, and what the next one must name as its parent. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    state: Arc<State>,
    hash: RecordHash,
}

/// A record that may follow a [`Ledger`]: its bytes, and the ledger that has it.
#[derive(Debug, Clone)]
pub struct Next {
    /// What a driver makes durable, and agreed, before it takes `ledger` for its own.
    pub bytes: Vec<u8>,
    /// The ledger after the record.
    pub ledger: Ledger,
}

/// A record that cannot follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FollowError {
    /// The state does not allow it.
    #[error(transparent)]
    Refused(#[from] ApplyError),
    /// It is too large.
    #[error(transparent)]
    TooLarge(#[from] EncodeError),
}

/// Bytes that are not the next record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// They are damaged, cut off, or another record.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// They are intact, but the state does not allow the record: it was written by other rules.
    #[error("the record is intact but cannot follow: {0}")]
    Refused(#[from] ApplyError),
}

impl Ledger {
    /// The ledger whose last record has that hash.
    pub(crate) fn at(state: State, hash: RecordHash) -> Self {
        Self { state: Arc::new(state), hash }
    }

    /// Makes the agreed state wrong, or a simulated one.
    #[cfg(feature = "planted-bugs")]
    pub fn plant(&mut self, plant: impl FnOnce(&mut State)) {
        plant(Arc::make_mut(&mut self.state));
    }

    /// What the records so far add up to.
    pub fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// The hash of the last record; zeroes before the first.
    pub fn hash(&self) -> RecordHash {
        self.hash
    }

    /// Makes `record` the next one. Changes nothing: the caller goes on with [`Next::ledger`] once the bytes are safe.
    ///
    /// # Errors
    /// [`FollowError`] when the record cannot follow.
    pub fn follow(&self, record: &Record) -> Result<Next, FollowError> {
        let mut state = Arc::clone(&self.state);
        Arc::make_mut(&mut state).apply(record)?;
        let bytes = frame::encode(state.number(), self.hash, record)?;
        let hash = RecordHash::of(&bytes);
        Ok(Next { bytes, ledger: Self { state, hash } })
    }

    /// Takes the next record from the beginning of `bytes`. Returns it with its length in bytes.
    ///
    /// # Errors
    /// [`ReadError`] when there is no record that can follow; the ledger is then unchanged.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(Record, usize), ReadError> {
        let (record, length) = frame::decode(self.state.number() + 1, self.hash, bytes)?;
        Arc::make_mut(&mut self.state).apply(&record)?;
        self.hash = RecordHash::of(bytes.get(..length).unwrap_or(bytes));
        Ok((record, length))
    }
}
