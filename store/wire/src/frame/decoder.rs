//! Takes frames out of the bytes of one connection, as they come.

use bytes::{Buf, BytesMut};

use super::{
    Frame, HELLO_VERSION, Kind, MAGIC, MAX_HELLO_BYTES, MAX_METADATA_BYTES, MAX_PAYLOAD_BYTES,
    PREAMBLE_BYTES, Preamble, SUMMED_BYTES,
};

/// What is read at a time, unless more is known to come.
const READ_BYTES: usize = 64 << 10;

/// Less room than this is not read into.
const LEAST_READ_BYTES: usize = 8 << 10;

/// Room that is made at once for a frame, whatever it says of its length: the data of an object and what tells of it. A longer
/// frame gets more as its bytes come.
const MOST_AT_ONCE_BYTES: usize = 5 << 20;

/// The other side does not speak as it should: the connection is to be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Garbage {
    /// It is not a frame that begins here.
    #[error(
        "what comes is no frame of Huntaway's: is something else connected to this port, or has one side `tls` in its \
         configuration, and the other one not?"
    )]
    Magic,
    /// The frame has another version than was agreed on.
    #[error("a frame of version {found}, where {expected} was agreed on")]
    Version {
        /// Of the frame.
        found: u8,
        /// What was agreed on.
        expected: u8,
    },
    /// There are no such frames.
    #[error("a frame of the unknown kind {code}")]
    Kind {
        /// What it says it is.
        code: u8,
    },
    /// The frame is longer than frames may be.
    #[error("a frame of {metadata} and {payload} bytes, where {max_metadata} and {max_payload} are the most")]
    Length {
        /// Bytes of metadata.
        metadata: usize,
        /// Bytes of payload.
        payload: usize,
        /// Most of these.
        max_metadata: usize,
        /// Most of these.
        max_payload: usize,
    },
    /// The frame was damaged on its way.
    #[error("a frame does not match its checksum: it was damaged on its way")]
    Checksum,
}

/// Cuts what a connection brings into frames. Payloads are slices of what was received, and keep what was received with them,
/// 64 KiB or a long frame, for as long as they are there.
#[derive(Debug)]
pub struct Decoder {
    received: BytesMut,
    version: u8,
    /// The checksum of the frame that is under way was found to match.
    is_checked: bool,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { received: BytesMut::new(), version: HELLO_VERSION, is_checked: false }
    }
}

impl Decoder {
    /// Hellos were exchanged: from here on come frames of this version.
    pub fn agreed(&mut self, version: u8) {
        self.version = version;
    }

    /// Where to put what comes next; there is room. No more is set aside than [`Decoder::next_frame`] found to be within bounds.
    pub fn room(&mut self) -> &mut BytesMut {
        let missing = match self.under_way() {
            Some(length) => length.saturating_sub(self.received.len()),
            None => READ_BYTES,
        };
        let at_once = MOST_AT_ONCE_BYTES.max(self.received.len());
        let wanted = missing.min(at_once);
        let room = self.received.capacity() - self.received.len();
        if room < wanted || room < LEAST_READ_BYTES {
            self.received.reserve(wanted.max(READ_BYTES));
        }
        &mut self.received
    }

    /// Takes in bytes that are somewhere else.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
    }

    /// Bytes of a frame that is not whole.
    pub fn waiting(&self) -> usize {
        self.received.len()
    }

    /// The next frame, if all of it is there.
    ///
    /// # Errors
    /// [`Garbage`]: nothing that comes after it can be told apart any more.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Garbage> {
        let Some((summed, crc)) = self.preamble() else { return Ok(None) };
        let (preamble, kind) = self.check(&summed)?;
        if self.received.len() < PREAMBLE_BYTES + preamble.metadata {
            return Ok(None);
        }
        let metadata = &self.received[PREAMBLE_BYTES..][..preamble.metadata];
        if !self.is_checked && crc32c::crc32c_append(crc32c::crc32c(&summed), metadata) != crc {
            return Err(Garbage::Checksum);
        }
        self.is_checked = true;
        let length = PREAMBLE_BYTES + preamble.metadata + preamble.payload;
        if self.received.len() < length {
            return Ok(None);
        }
        self.is_checked = false;
        let mut payload = self.received.split_to(length).freeze();
        payload.advance(PREAMBLE_BYTES);
        let metadata = payload.split_to(preamble.metadata);
        Ok(Some(Frame { kind, metadata, payload }))
    }

    /// The bytes that the checksum covers, and the checksum.
    fn preamble(&self) -> Option<([u8; SUMMED_BYTES], u32)> {
        let (summed, rest) = self.received.split_first_chunk()?;
        Some((*summed, u32::from_le_bytes(*rest.first_chunk()?)))
    }

    fn check(&self, summed: &[u8; SUMMED_BYTES]) -> Result<(Preamble, Kind), Garbage> {
        let [m0, m1, version, code, lengths @ ..] = *summed;
        if [m0, m1] != MAGIC {
            return Err(Garbage::Magic);
        }
        if version != self.version {
            return Err(Garbage::Version { found: version, expected: self.version });
        }
        let kind = Kind::of(code).ok_or(Garbage::Kind { code })?;
        let [a, b, c, d, e, f, g, h] = lengths;
        let metadata = u32::from_le_bytes([a, b, c, d]) as usize;
        let payload = u32::from_le_bytes([e, f, g, h]) as usize;
        let (max_metadata, max_payload) = match self.version {
            HELLO_VERSION => (MAX_HELLO_BYTES, 0),
            _ => (MAX_METADATA_BYTES, MAX_PAYLOAD_BYTES),
        };
        if metadata > max_metadata || payload > max_payload {
            return Err(Garbage::Length { metadata, payload, max_metadata, max_payload });
        }
        Ok((Preamble { version, kind: code, metadata, payload }, kind))
    }

    /// How much there is of the frame of which a part is here, as far as that is certain.
    fn under_way(&self) -> Option<usize> {
        let (summed, _) = self.preamble()?;
        let (preamble, _) = self.check(&summed).ok()?;
        let payload = if self.is_checked { preamble.payload } else { 0 };
        Some(PREAMBLE_BYTES + preamble.metadata + payload)
    }
}
