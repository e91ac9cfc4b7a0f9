//! What a connection's bytes are cut into: length, checksum, a message.
//!
//! ```text
//!  0        4        8                    10
//! | length | crc32c | length of metadata | metadata .. | payload ..
//! ```
//!
//! Numbers are little-endian, lengths in bytes. The first one is that of all that comes after the checksum, which covers it.

use core::time::Duration;
use std::io;

use bytes::{Buf, Bytes, BytesMut};
use huntaway_ledger::MAX_RECORD_BYTES;
use huntaway_wire::encoding::{Encoding, Malformed, Reader, Writer};
use huntaway_wire::tls::Untrusted;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::rejection::Rejection;

/// Longest message: a record, and what is said of it.
pub(super) const MAX_MESSAGE_BYTES: usize = MAX_RECORD_BYTES + 256;

/// Longest message before either side has shown that it has the key.
pub(super) const MAX_HELLO_BYTES: usize = 256;

/// Each side says something at least this often.
pub(super) const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// The connection is given up when nothing came for so long, or when a message cannot be sent within it.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Length and checksum.
pub(super) const PREAMBLE_BYTES: usize = 8;

/// Why a connection brings no more messages.
#[derive(Debug, thiserror::Error)]
pub enum Cut {
    /// The other side closed it.
    #[error("the other side closed the connection")]
    Closed,
    /// The network failed.
    #[error(transparent)]
    Io(io::Error),
    /// The other side was silent, or did not read, for too long.
    #[error("nothing was heard of the other side for {} s", PATIENCE.as_secs())]
    Silent,
    /// What comes is nothing that is said here.
    #[error(
        "what comes is no message of a keeper or of its followers: see that the address is the keeper's, and that both have `tls`, or \
         neither"
    )]
    Length {
        /// How long it would be, in bytes.
        length: usize,
    },
    /// The message was damaged on its way.
    #[error("a message does not match its checksum: it was damaged on its way")]
    Checksum,
    /// It is not known who that is.
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    /// Others came before this one showed that it has the cluster's key.
    #[error("newer connections took its place before it showed that it has the cluster's key")]
    Displaced,
    /// The keeper does not take this follower.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The message makes no sense.
    #[error("a message cannot be read: {0}")]
    Malformed(#[from] Malformed),
}

impl From<io::Error> for Cut {
    fn from(error: io::Error) -> Self {
        match Untrusted::of(&error) {
            Some(untrusted) => Self::Untrusted(untrusted),
            None => Self::Io(error),
        }
    }
}

impl Cut {
    /// The same, for somebody else who wants to know.
    pub(super) fn again(&self) -> Self {
        match self {
            Self::Closed => Self::Closed,
            Self::Io(error) => Self::Io(io::Error::new(error.kind(), error.to_string())),
            Self::Silent => Self::Silent,
            Self::Length { length } => Self::Length { length: *length },
            Self::Checksum => Self::Checksum,
            Self::Untrusted(untrusted) => Self::Untrusted(untrusted.clone()),
            Self::Displaced => Self::Displaced,
            Self::Rejected(rejection) => Self::Rejected(*rejection),
            Self::Malformed(malformed) => Self::Malformed(*malformed),
        }
    }
}

/// Takes messages off a connection. What is waited for can be given up at any moment, and nothing is lost by that.
#[derive(Debug)]
pub(super) struct Messages<R> {
    stream: R,
    received: BytesMut,
    /// When something came last.
    heard: Instant,
    /// Longer ones are not taken.
    longest: usize,
}

impl<R: AsyncRead + Unpin> Messages<R> {
    pub(super) fn new(stream: R) -> Self {
        Self { stream, received: BytesMut::new(), heard: Instant::now(), longest: MAX_HELLO_BYTES }
    }

    /// Both sides have the key.
    pub(super) fn trusted(&mut self) {
        self.longest = MAX_MESSAGE_BYTES;
    }

    /// The next one.
    pub(super) async fn next<T: Encoding>(&mut self) -> Result<T, Cut> {
        Ok(opened(&self.whole().await?)?.whole()?)
    }

    /// The next one of a handshake, as it was sent. Later versions may say more: that is ignored.
    pub(super) async fn next_hello<T: Encoding>(&mut self) -> Result<(T, Bytes), Cut> {
        let message = self.whole().await?;
        Ok((T::decode(&mut opened(&message)?)?, message))
    }

    async fn whole(&mut self) -> Result<Bytes, Cut> {
        loop {
            if let Some(message) = self.taken()? {
                return Ok(message);
            }
            self.received.reserve(PREAMBLE_BYTES + self.longest.min(16 << 10));
            let read = self.stream.read_buf(&mut self.received);
            // Counted from what came last, however often this is given up and begun again.
            match timeout_at(self.heard + PATIENCE, read).await {
                Err(_) => return Err(Cut::Silent),
                Ok(Ok(0)) => return Err(Cut::Closed),
                Ok(read) => read?,
            };
            self.heard = Instant::now();
        }
    }

    fn taken(&mut self) -> Result<Option<Bytes>, Cut> {
        let Some((length, rest)) = self.received.split_first_chunk() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length == 0 || length > self.longest {
            return Err(Cut::Length { length });
        }
        let Some((crc, rest)) = rest.split_first_chunk() else { return Ok(None) };
        let Some(message) = rest.get(..length) else { return Ok(None) };
        if crc32c::crc32c(message) != u32::from_le_bytes(*crc) {
            return Err(Cut::Checksum);
        }
        self.received.advance(PREAMBLE_BYTES);
        Ok(Some(self.received.split_to(length).freeze()))
    }
}

fn opened(message: &Bytes) -> Result<Reader<'_>, Malformed> {
    let (metadata, rest) = message.split_first_chunk().ok_or(Malformed::Short)?;
    let metadata = usize::from(u16::from_le_bytes(*metadata));
    let (metadata, payload) = rest.split_at_checked(metadata).ok_or(Malformed::Short)?;
    Ok(Reader::new(metadata, message.slice_ref(payload)))
}

/// A message as it is sent.
pub(super) fn framed<T: Encoding>(message: &T) -> Bytes {
    let mut writer = Writer::new();
    message.encode(&mut writer);
    let (metadata, payload) = writer.into_bytes();
    let mut bytes = Vec::with_capacity(PREAMBLE_BYTES + 2 + metadata.len() + payload.len());
    bytes.extend([0; PREAMBLE_BYTES]);
    // Messages have bounds far below that.
    bytes.extend((metadata.len() as u16).to_le_bytes());
    bytes.extend(&metadata);
    bytes.extend(&payload);
    let (preamble, message) = bytes.split_at_mut(PREAMBLE_BYTES);
    let (length, crc) = preamble.split_at_mut(4);
    length.copy_from_slice(&(message.len() as u32).to_le_bytes());
    crc.copy_from_slice(&crc32c::crc32c(message).to_le_bytes());
    bytes.into()
}

/// Sends a message.
pub(super) async fn send(stream: &mut (impl AsyncWrite + Unpin), framed: &[u8]) -> Result<(), Cut> {
    let sent = async {
        stream.write_all(framed).await?;
        stream.flush().await
    };
    Ok(timeout(PATIENCE, sent).await.map_err(|_| Cut::Silent)??)
}
