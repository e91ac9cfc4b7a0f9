//! The state as a whole, for a node that joins, and the sum by which two nodes tell whether they have the same.
//!
//! ```text
//!  0        4         6      8          16         48        56        60         64
//! | "HTLS" | version | zero | number   | hash of  | payload | payload | preamble | payload
//! |        | u16 = 2 | u16  | u64      | record   | length  | crc32c  | crc32c   |
//! ```
//!
//! Integers are little-endian, lengths in bytes. The payload is rkyv's form of the state (version 2); everything in it is in the order
//! of ids, so equal states have equal bytes.

mod check;
mod form;

use crate::frame::{Fields, PREAMBLE_BYTES, RecordHash};
use crate::{Ledger, State};

const MAGIC: [u8; 4] = *b"HTLS";
const FORMAT_VERSION: u16 = 2;

/// Bytes that are no snapshot of a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// They are damaged, or cut off.
    #[error("the snapshot of the ledger is damaged")]
    Damaged,
    /// It was written by another version.
    #[error("the snapshot of the ledger has format version {version}, which this version does not know")]
    Unknown {
        /// Its format version.
        version: u16,
    },
    /// The checksums are right, but the payload makes no sense.
    #[error("the snapshot of the ledger holds what no ledger can")]
    Payload,
}

/// A state that cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no memory to write the state")]
pub struct NoMemory;

impl Ledger {
    /// All that a node has to know to follow the records from here on.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn snapshot(&self) -> Result<Vec<u8>, NoMemory> {
        let payload = form::encode(self.state()).map_err(|_| NoMemory)?;
        let mut bytes = Vec::with_capacity(PREAMBLE_BYTES + payload.len());
        bytes.extend(MAGIC);
        bytes.extend(FORMAT_VERSION.to_le_bytes());
        bytes.extend([0; 2]);
        bytes.extend(self.state().number().to_le_bytes());
        bytes.extend(self.hash().0);
        bytes.extend((payload.len() as u64).to_le_bytes());
        bytes.extend(crc32c::crc32c(&payload).to_le_bytes());
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        bytes.extend(payload.as_slice());
        Ok(bytes)
    }

    /// The ledger of which `bytes` are a snapshot.
    ///
    /// # Errors
    /// [`SnapshotError`]: ask another node for it.
    pub fn of_snapshot(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let (preamble, payload) = bytes.split_first_chunk().ok_or(SnapshotError::Damaged)?;
        let preamble = Preamble::read(preamble).ok_or(SnapshotError::Damaged)?;
        let version = preamble.version;
        if version != FORMAT_VERSION {
            return Err(SnapshotError::Unknown { version });
        }
        if payload.len() as u64 != preamble.length || crc32c::crc32c(payload) != preamble.crc {
            return Err(SnapshotError::Damaged);
        }
        let state = form::decode(payload).filter(|state| state.number() == preamble.number);
        Ok(Self::at(state.ok_or(SnapshotError::Payload)?, preamble.hash))
    }
}

impl State {
    /// The SHA-256 of all of it: two nodes at the same record have the same, or one of them is broken.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn digest(&self) -> Result<RecordHash, NoMemory> {
        form::encode(self).map(|payload| RecordHash::of(&payload)).map_err(|_| NoMemory)
    }
}

struct Preamble {
    version: u16,
    number: u64,
    hash: RecordHash,
    length: u64,
    crc: u32,
}

impl Preamble {
    /// `None` unless magic, zeroes and checksum are right.
    fn read(bytes: &[u8; PREAMBLE_BYTES]) -> Option<Self> {
        let mut fields = Fields::of_preamble(bytes, MAGIC)?;
        let version = u16::from_le_bytes(fields.next()?);
        let zero: [u8; 2] = fields.next()?;
        let preamble = Self {
            version,
            number: u64::from_le_bytes(fields.next()?),
            hash: RecordHash(fields.next()?),
            length: u64::from_le_bytes(fields.next()?),
            crc: u32::from_le_bytes(fields.next()?),
        };
        (zero == [0; 2]).then_some(preamble)
    }
}
