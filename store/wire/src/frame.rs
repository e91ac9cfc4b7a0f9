//! Frames: what a connection's bytes are cut into. A fixed preamble, metadata, payload.
//!
//! The preamble has a checksum over itself and the metadata: once that is right, all lengths are those that were sent.
//! The payload is blocks, each of which has its own checksum in the metadata, and is verified by who takes it in. Nothing
//! here reads or writes a socket. `PROTOCOL.md` draws the bytes.

mod decoder;
#[cfg(test)]
mod tests;

use bytes::{BufMut, Bytes, BytesMut};
use smallvec::SmallVec;

pub use decoder::{Decoder, Garbage};

use crate::Partition;
use crate::encoding::{Encoding, Malformed, Reader, Writer};

/// The version of the wire that hellos agree on; their own frames have [`HELLO_VERSION`].
pub const VERSION: u8 = 1;

/// The version in frames that come before a version is agreed on. They never change.
pub const HELLO_VERSION: u8 = 0;

/// How every frame begins.
pub(crate) const MAGIC: [u8; 2] = *b"Hw";

/// Length of the preamble: magic, version, kind, length of the metadata, length of the payload, checksum.
pub const PREAMBLE_BYTES: usize = 16;

/// What of the preamble the checksum covers.
const SUMMED_BYTES: usize = 12;

/// Most metadata of a frame: a list of the writes that are in doubt in a partition has to fit.
pub const MAX_METADATA_BYTES: usize = 8 << 20;

/// Most payload of a frame: what these writes hold has to fit.
pub const MAX_PAYLOAD_BYTES: usize = 256 << 20;

/// Most metadata of a frame before hellos were exchanged; there is no payload.
pub const MAX_HELLO_BYTES: usize = 1024;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Who calls: the first frame of a connection.
    Hello,
    /// Who was called takes the connection.
    Welcome,
    /// Who was called does not take it, and says why.
    Rejection,
    /// Who was called shows that it has the cluster's key, and wants to see that who calls has it.
    Challenge,
    /// Who calls shows that it has the key.
    Proof,
    /// From replica to replica of a partition.
    Message,
    /// A gateway's request to a primary.
    Request,
    /// What a primary answers.
    Answer,
    /// A gateway's request to a primary, for another process to hand on.
    Relay,
    /// What the primary answers to that.
    Relayed,
    /// A gateway wants what a process has logged on stable storage.
    SyncAll,
    /// What came of that.
    Synced,
    /// A process is to compare the copies of what it leads.
    Compare,
    /// How far that is.
    Compared,
    /// A process is to tell how far recovery of what it leads is.
    AskProgress,
    /// How far that is.
    TellProgress,
}

impl Kind {
    const ALL: [Self; 16] = [
        Self::Hello,
        Self::Welcome,
        Self::Rejection,
        Self::Challenge,
        Self::Proof,
        Self::Message,
        Self::Request,
        Self::Answer,
        Self::Relay,
        Self::Relayed,
        Self::SyncAll,
        Self::Synced,
        Self::Compare,
        Self::Compared,
        Self::AskProgress,
        Self::TellProgress,
    ];

    fn code(self) -> u8 {
        match self {
            Self::Hello => 1,
            Self::Welcome => 2,
            Self::Rejection => 3,
            Self::Challenge => 4,
            Self::Proof => 5,
            Self::Message => 16,
            Self::Request => 17,
            Self::Answer => 18,
            Self::Relay => 19,
            Self::Relayed => 20,
            Self::SyncAll => 21,
            Self::Synced => 22,
            Self::Compare => 23,
            Self::Compared => 24,
            Self::AskProgress => 25,
            Self::TellProgress => 26,
        }
    }

    fn of(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

/// What a frame of its own is for, and concerns one partition, or a process as a whole.
pub trait Framed: Encoding {
    /// The kind of these frames.
    const KIND: Kind;
}

/// A frame to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Preamble and metadata.
    pub head: Bytes,
    /// The payload, in as many pieces as it was made of.
    pub payload: SmallVec<[Bytes; 1]>,
}

/// Why a frame is not made: nobody would take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{metadata} bytes of metadata and {payload} of payload do not fit in a frame")]
pub struct TooLong {
    /// Bytes of metadata.
    pub metadata: usize,
    /// Bytes of payload.
    pub payload: usize,
}

impl Outgoing {
    /// The frame that tells a partition's replica, or its gateway, something.
    ///
    /// # Errors
    /// [`TooLong`], which is not to be sent again as it is.
    pub fn new<T: Framed>(partition: Partition, body: &T) -> Result<Self, TooLong> {
        let mut writer = Writer::new();
        partition.encode(&mut writer);
        body.encode(&mut writer);
        Self::bounded::<T>(writer)
    }

    /// The frame that tells a process something that is of no partition.
    ///
    /// # Errors
    /// As [`Outgoing::new`].
    pub fn of_process<T: Framed>(body: &T) -> Result<Self, TooLong> {
        let mut writer = Writer::new();
        body.encode(&mut writer);
        Self::bounded::<T>(writer)
    }

    fn bounded<T: Framed>(writer: Writer) -> Result<Self, TooLong> {
        let (metadata, payload) = writer.lengths();
        if metadata > MAX_METADATA_BYTES || payload > MAX_PAYLOAD_BYTES {
            return Err(TooLong { metadata, payload });
        }
        Ok(Self::sealed(VERSION, T::KIND, writer))
    }

    /// A frame of a hello, which is short.
    pub(crate) fn hello<T: Encoding>(kind: Kind, body: &T) -> Self {
        let mut writer = Writer::new();
        body.encode(&mut writer);
        Self::sealed(HELLO_VERSION, kind, writer)
    }

    fn sealed(version: u8, kind: Kind, writer: Writer) -> Self {
        let (mut head, payload) = writer.into_parts();
        let metadata = head.len() - PREAMBLE_BYTES;
        let payload_bytes = payload.iter().map(Bytes::len).sum();
        let (mut preamble, metadata_bytes) = head.split_at_mut(PREAMBLE_BYTES);
        let summed = Preamble { version, kind: kind.code(), metadata, payload: payload_bytes }.bytes();
        preamble.put_slice(&summed);
        preamble.put_u32_le(crc32c::crc32c_append(crc32c::crc32c(&summed), metadata_bytes));
        Self { head: head.freeze(), payload }
    }

    /// Its length on the wire.
    pub fn length(&self) -> usize {
        self.head.len() + self.payload.iter().map(Bytes::len).sum::<usize>()
    }

    /// Its bytes, copied into one piece.
    pub fn to_bytes(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.length());
        bytes.put_slice(&self.head);
        self.payload.iter().for_each(|piece| bytes.put_slice(piece));
        bytes.freeze()
    }
}

/// A frame that came, whole, its metadata as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    metadata: Bytes,
    payload: Bytes,
}

impl Frame {
    /// What of it is kept by whoever keeps what it says, in bytes.
    pub fn size_bytes(&self) -> usize {
        self.metadata.len() + self.payload.len()
    }

    /// What it says, and of which partition.
    ///
    /// # Errors
    /// [`Malformed`]: the sender does not keep to the protocol.
    pub fn open<T: Framed>(&self) -> Result<(Partition, T), Malformed> {
        self.is(T::KIND)?;
        Reader::new(&self.metadata, self.payload.clone()).whole()
    }

    /// What it says, which is of no partition.
    ///
    /// # Errors
    /// [`Malformed`]: the sender does not keep to the protocol.
    pub fn open_of_process<T: Framed>(&self) -> Result<T, Malformed> {
        self.is(T::KIND)?;
        Reader::new(&self.metadata, self.payload.clone()).whole()
    }

    fn is(&self, kind: Kind) -> Result<(), Malformed> {
        let code = self.kind.code();
        if self.kind == kind {
            Ok(())
        } else {
            Err(Malformed::Unknown { what: "frame to be taken here", code })
        }
    }

    /// What a frame of a hello says. Later versions may say more: that is ignored.
    pub(crate) fn open_hello<T: Encoding>(&self, kind: Kind) -> Result<T, Malformed> {
        self.is(kind)?;
        T::decode(&mut Reader::new(&self.metadata, self.payload.clone()))
    }

    pub(crate) fn metadata(&self) -> &[u8] {
        &self.metadata
    }

    /// Its length on the wire.
    pub fn length(&self) -> usize {
        PREAMBLE_BYTES + self.metadata.len() + self.payload.len()
    }
}

/// What the preamble says, but for its checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Preamble {
    version: u8,
    kind: u8,
    metadata: usize,
    payload: usize,
}

impl Preamble {
    fn bytes(self) -> [u8; SUMMED_BYTES] {
        let Self { version, kind, metadata, payload } = self;
        let mut bytes = [0; SUMMED_BYTES];
        let mut rest = bytes.as_mut_slice();
        rest.put_slice(&MAGIC);
        rest.put_slice(&[version, kind]);
        // Both are bounded far below that.
        rest.put_u32_le(metadata as u32);
        rest.put_u32_le(payload as u32);
        bytes
    }
}
