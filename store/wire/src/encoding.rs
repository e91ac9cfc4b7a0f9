//! How values become bytes: by hand, little-endian, one after the other, and blocks of data beside them.
//!
//! What is written is *metadata*; the bytes of blocks are the *payload*, which is neither copied nor summed here: each
//! block's checksum is among the metadata, and whoever takes the block in verifies it. `PROTOCOL.md` draws the bytes.

mod ids;

use core::ops::Range;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use smallvec::SmallVec;

use crate::InvalidId;
use crate::frame::PREAMBLE_BYTES;

/// Something that travels. What is decoded is what was encoded; [`Malformed`] says what no encoder writes.
pub trait Encoding: Sized {
    /// Writes it.
    fn encode(&self, to: &mut Writer);

    /// Reads it. Whether it makes sense is for others to judge, but for what its type cannot hold.
    ///
    /// # Errors
    /// [`Malformed`]: nothing of what was read counts.
    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed>;
}

/// Bytes that no encoder of this version writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It ends before all is said.
    #[error("it ends too early")]
    Short,
    /// There is more than what was to be said.
    #[error("{bytes} bytes are left over")]
    LeftOver {
        /// Of metadata and payload.
        bytes: usize,
    },
    /// A byte that tells one thing from another tells none of those there are.
    #[error("{code} is no {what}")]
    Unknown {
        /// What was to be told.
        what: &'static str,
        /// The byte.
        code: u8,
    },
    /// A list is longer than any such list.
    #[error("a list of {entries} {what}, of which there are {most} at most")]
    Long {
        /// What it lists.
        what: &'static str,
        /// Its entries.
        entries: u32,
        /// Most of them.
        most: u32,
    },
    /// A number is no id.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// A range is empty, or ends beyond the object.
    #[error("{length} bytes at {offset} are no range of an object")]
    NoRange {
        /// Its first byte.
        offset: u32,
        /// Its length.
        length: u32,
    },
    /// Bytes that have no checksum elsewhere are not what the one here says.
    #[error("{what}: the checksum does not match")]
    Unsound {
        /// Which bytes.
        what: &'static str,
    },
}

/// Takes in what is to be sent.
#[derive(Debug)]
pub struct Writer {
    /// Room for the preamble, then metadata.
    head: BytesMut,
    payload: SmallVec<[Bytes; 1]>,
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

impl Writer {
    /// Most messages' metadata is no longer.
    const COMMON_BYTES: usize = 192;

    /// Nothing was written.
    pub fn new() -> Self {
        let mut head = BytesMut::with_capacity(PREAMBLE_BYTES + Self::COMMON_BYTES);
        head.put_bytes(0, PREAMBLE_BYTES);
        Self { head, payload: SmallVec::new() }
    }

    /// Bytes of metadata and of payload.
    pub(crate) fn lengths(&self) -> (usize, usize) {
        (self.head.len() - PREAMBLE_BYTES, self.payload.iter().map(Bytes::len).sum())
    }

    /// What was written: metadata behind room for the preamble, and the payload.
    pub(crate) fn into_parts(self) -> (BytesMut, SmallVec<[Bytes; 1]>) {
        (self.head, self.payload)
    }

    /// Metadata and payload, as they are without a frame.
    pub fn into_bytes(self) -> (Bytes, Bytes) {
        (self.head.freeze().slice(PREAMBLE_BYTES..), Bytes::from(self.payload.concat()))
    }

    /// Writes bytes that both sides know the number of.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.head.put_slice(bytes);
    }

    /// Writes a byte that tells one thing from another.
    pub fn code(&mut self, code: u8) {
        self.head.put_u8(code);
    }

    /// Adds bytes to the payload. That they are there, how many they are, and their checksum is for the metadata to say.
    pub fn payload(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.payload.push(bytes);
        }
    }

    /// Writes how many there are, then each.
    pub fn list<'a, T: Encoding + 'a>(&mut self, entries: impl ExactSizeIterator<Item = &'a T>) {
        // A list that does not fit in 32 bits does not fit in a frame either.
        (entries.len() as u32).encode(self);
        entries.for_each(|entry| entry.encode(self));
    }
}

/// Hands out what came.
#[derive(Debug)]
pub struct Reader<'a> {
    metadata: &'a [u8],
    payload: Bytes,
}

impl<'a> Reader<'a> {
    /// Room is made for so many entries of a list, however many it says it has.
    const ROOM_AT_ONCE: u32 = 1024;

    /// Nothing of it was read.
    pub fn new(metadata: &'a [u8], payload: Bytes) -> Self {
        Self { metadata, payload }
    }

    /// All of it.
    ///
    /// # Errors
    /// [`Malformed`], also if something is left over.
    pub fn whole<T: Encoding>(mut self) -> Result<T, Malformed> {
        let value = T::decode(&mut self)?;
        match self.metadata.len() + self.payload.len() {
            0 => Ok(value),
            bytes => Err(Malformed::LeftOver { bytes }),
        }
    }

    /// So many bytes of metadata.
    ///
    /// # Errors
    /// [`Malformed::Short`].
    pub fn raw<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (bytes, rest) = self.metadata.split_first_chunk().ok_or(Malformed::Short)?;
        self.metadata = rest;
        Ok(*bytes)
    }

    /// A byte that tells one thing from another.
    ///
    /// # Errors
    /// [`Malformed::Short`].
    pub fn code(&mut self) -> Result<u8, Malformed> {
        self.raw().map(|[code]| code)
    }

    /// So many bytes of the payload, where they were received.
    ///
    /// # Errors
    /// [`Malformed::Short`].
    pub fn payload(&mut self, length: usize) -> Result<Bytes, Malformed> {
        if length > self.payload.len() {
            return Err(Malformed::Short);
        }
        Ok(self.payload.split_to(length))
    }

    /// A list of at most so many entries. Room for them is made as they come.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn list<T: Encoding>(&mut self, what: &'static str, most: u32) -> Result<Vec<T>, Malformed> {
        let entries = u32::decode(self)?;
        if entries > most {
            return Err(Malformed::Long { what, entries, most });
        }
        let mut list = Vec::with_capacity(entries.min(Self::ROOM_AT_ONCE) as usize);
        for _ in 0..entries {
            list.push(T::decode(self)?);
        }
        Ok(list)
    }
}

macro_rules! numbers {
    ($($number:ty),*) => { $(
        /// Little-endian.
        impl Encoding for $number {
            fn encode(&self, to: &mut Writer) {
                to.raw(&self.to_le_bytes());
            }

            fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
                from.raw().map(Self::from_le_bytes)
            }
        }
    )* };
}

numbers!(u16, u32, u64);

/// A byte: 0 or 1.
impl Encoding for bool {
    fn encode(&self, to: &mut Writer) {
        to.code(u8::from(*self));
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        match from.code()? {
            0 => Ok(false),
            1 => Ok(true),
            code => Err(Malformed::Unknown { what: "yes or no", code }),
        }
    }
}

/// Whether there is something, then that.
impl<T: Encoding> Encoding for Option<T> {
    fn encode(&self, to: &mut Writer) {
        self.is_some().encode(to);
        if let Some(value) = self {
            value.encode(to);
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        bool::decode(from)?.then(|| T::decode(from)).transpose()
    }
}

/// As what is shared.
impl<T: Encoding> Encoding for Arc<T> {
    fn encode(&self, to: &mut Writer) {
        T::encode(self, to);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        T::decode(from).map(Self::new)
    }
}

/// One after the other.
impl<T: Encoding, U: Encoding> Encoding for (T, U) {
    fn encode(&self, to: &mut Writer) {
        self.0.encode(to);
        self.1.encode(to);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok((T::decode(from)?, U::decode(from)?))
    }
}

/// Beginning and end.
impl Encoding for Range<u32> {
    fn encode(&self, to: &mut Writer) {
        self.start.encode(to);
        self.end.encode(to);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(u32::decode(from)?..u32::decode(from)?)
    }
}
