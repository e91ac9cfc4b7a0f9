//! The frame of a record: a fixed preamble, then the payload, padded to 8 bytes.
//!
//! ```text
//!  0        4         6      8          16              48         52        56         60        64
//! | "HTLR" | version | kind | number   | parent hash   | payload  | payload | zero     | preamble | payload .. pad
//! |        | u16 = 1 | u16  | u64      | SHA-256       | length   | crc32c  | u32      | crc32c   |
//! ```
//!
//! Integers are little-endian, lengths in bytes. The preamble's CRC32C covers bytes 0 to 59 and is checked before
//! any other field is believed. The hash of a record is the SHA-256 of all its bytes, padding (zeroes) included; the
//! next record names it as its parent, the first one names 32 zeroes.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::Record;
use crate::payload::{self, Kind};

/// Length of a preamble in bytes.
pub const PREAMBLE_BYTES: usize = 64;

/// Longest record, preamble included, in bytes: it still fits one message of a cluster.
pub const MAX_RECORD_BYTES: usize = 60 << 10;

const MAGIC: [u8; 4] = *b"HTLR";
const FORMAT_VERSION: u16 = 1;
const ALIGNMENT_BYTES: usize = 8;

/// SHA-256 of a record's bytes. All zeroes stands for "no record".
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RecordHash(pub [u8; 32]);

impl RecordHash {
    /// The hash of the bytes of one record.
    pub fn of(record: &[u8]) -> Self {
        Self(Sha256::digest(record).into())
    }
}

impl fmt::Display for RecordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RecordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordHash({self})")
    }
}

/// A record too large to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a record has at most {MAX_RECORD_BYTES} bytes")]
pub struct EncodeError;

/// Bytes that are not a record that follows the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end before the record does.
    #[error("the record ends after {found_bytes} of {expected_bytes} bytes")]
    Incomplete {
        /// How many there are.
        found_bytes: usize,
        /// How many there should be at least.
        expected_bytes: usize,
    },
    /// There is no record, or its preamble does not match its checksum.
    #[error("there is no intact preamble")]
    Preamble,
    /// The record is intact but its form is unknown: it was written by a newer version.
    #[error("the record has format version {version} and kind {kind}, which this version does not know")]
    Unknown {
        /// Its format version.
        version: u16,
        /// Its kind.
        kind: u16,
    },
    /// The payload does not match its checksum.
    #[error("the payload does not match its checksum")]
    PayloadChecksum,
    /// Another number than the next.
    #[error("this is record {found}, where record {expected} should be")]
    OutOfOrder {
        /// Its number.
        found: u64,
        /// The number that would follow.
        expected: u64,
    },
    /// The record follows another one than the one before it.
    #[error("the record does not follow the one before it, but another")]
    OtherParent,
    /// The checksums are right, but the payload makes no sense.
    #[error("the payload is not what its kind asks for")]
    Payload,
}

/// Writes the record that follows the one with the hash `parent`.
pub(crate) fn encode(number: u64, parent: RecordHash, record: &Record) -> Result<Vec<u8>, EncodeError> {
    let (kind, payload) = payload::encode(record).map_err(|_| EncodeError)?;
    let length = PREAMBLE_BYTES + payload.len().next_multiple_of(ALIGNMENT_BYTES);
    if length > MAX_RECORD_BYTES {
        return Err(EncodeError);
    }
    let payload_length = u32::try_from(payload.len()).map_err(|_| EncodeError)?;
    let mut bytes = Vec::with_capacity(length);
    bytes.extend(MAGIC);
    bytes.extend(FORMAT_VERSION.to_le_bytes());
    bytes.extend((kind as u16).to_le_bytes());
    bytes.extend(number.to_le_bytes());
    bytes.extend(parent.0);
    bytes.extend(payload_length.to_le_bytes());
    bytes.extend(crc32c::crc32c(&payload).to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    bytes.extend(payload.as_slice());
    bytes.resize(length, 0);
    Ok(bytes)
}

/// Reads the record at the beginning of `bytes`, which must have `number` and follow `parent`. Returns it with its
/// length in bytes.
pub(crate) fn decode(number: u64, parent: RecordHash, bytes: &[u8]) -> Result<(Record, usize), DecodeError> {
    let Some((preamble, rest)) = bytes.split_first_chunk::<PREAMBLE_BYTES>() else {
        return Err(DecodeError::Incomplete { found_bytes: bytes.len(), expected_bytes: PREAMBLE_BYTES });
    };
    let preamble = Preamble::read(preamble).ok_or(DecodeError::Preamble)?;
    let (version, kind) = (preamble.version, preamble.kind);
    let known = Kind::from_number(kind).filter(|_| version == FORMAT_VERSION);
    let known = known.ok_or(DecodeError::Unknown { version, kind })?;
    let padded = preamble.payload_length.next_multiple_of(ALIGNMENT_BYTES);
    let length = PREAMBLE_BYTES + padded;
    if length > MAX_RECORD_BYTES {
        return Err(DecodeError::Payload);
    }
    let body = rest
        .get(..padded)
        .ok_or(DecodeError::Incomplete { found_bytes: bytes.len(), expected_bytes: length })?;
    let (payload, padding) = body.split_at(preamble.payload_length);
    if crc32c::crc32c(payload) != preamble.payload_crc || padding.iter().any(|&byte| byte != 0) {
        return Err(DecodeError::PayloadChecksum);
    }
    if preamble.number != number {
        return Err(DecodeError::OutOfOrder { found: preamble.number, expected: number });
    }
    if preamble.parent != parent {
        return Err(DecodeError::OtherParent);
    }
    let record = payload::decode(known, payload).ok_or(DecodeError::Payload)?;
    Ok((record, length))
}

struct Preamble {
    version: u16,
    kind: u16,
    number: u64,
    parent: RecordHash,
    payload_length: usize,
    payload_crc: u32,
}

impl Preamble {
    /// `None` unless magic, zeroes and checksum are right.
    fn read(bytes: &[u8; PREAMBLE_BYTES]) -> Option<Self> {
        let mut fields = Fields::of_preamble(bytes, MAGIC)?;
        let preamble = Self {
            version: u16::from_le_bytes(fields.next()?),
            kind: u16::from_le_bytes(fields.next()?),
            number: u64::from_le_bytes(fields.next()?),
            parent: RecordHash(fields.next()?),
            payload_length: u32::from_le_bytes(fields.next()?).try_into().ok()?,
            payload_crc: u32::from_le_bytes(fields.next()?),
        };
        let zero: [u8; 4] = fields.next()?;
        (zero == [0; 4]).then_some(preamble)
    }
}

/// Bytes taken off one field at a time.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    /// What is between the magic and the checksum of a preamble, if both are right.
    pub(crate) fn of_preamble(bytes: &'a [u8; PREAMBLE_BYTES], magic: [u8; 4]) -> Option<Self> {
        let (covered, crc) = bytes.split_last_chunk()?;
        let is_sound = crc32c::crc32c(covered) == u32::from_le_bytes(*crc);
        covered.strip_prefix(&magic).filter(|_| is_sound).map(Self)
    }

    pub(crate) fn next<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }
}
