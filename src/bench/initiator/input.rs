//! What has come from the target: one large buffer, and the PDUs in it. PDUs are looked at in place.

use std::io::{self, ErrorKind};
use std::net::TcpStream;

use iscsi_target::framing::Digests;
use iscsi_target::pdu::{BASIC_HEADER_BYTES, BasicHeader};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::session::SILENCE_LIMIT_SECONDS;
use crate::bench::error::{ProtocolError, SessionError};

/// Several of the largest PDUs that we let the target send.
const BUFFER_BYTES: usize = 4 << 20;
const DIGEST_BYTES: usize = 4;

/// One PDU, where it lies in the buffer.
pub(super) struct Pdu<'a> {
    /// Its header.
    pub(super) header: BasicHeader,
    /// Its data, without padding.
    pub(super) data: &'a [u8],
    /// Whether the data digest, if there is one, is right.
    pub(super) data_is_intact: bool,
}

/// Bytes of the connection from `start` to `end`.
pub(super) struct Input {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    digests: Digests,
}

impl Input {
    pub(super) fn new(digests: Digests) -> Self {
        Self { buffer: vec![0; BUFFER_BYTES], start: 0, end: 0, digests }
    }

    /// Waits for bytes and takes as many as there are.
    pub(super) fn receive(&mut self, stream: &TcpStream) -> Result<(), SessionError> {
        match recv(stream, &mut self.buffer[self.end..], RecvFlags::empty()) {
            Ok((_, 0)) => {
                Err(SessionError::Lost(io::Error::new(ErrorKind::UnexpectedEof, "the target closed it")))
            }
            Ok((_, length)) => {
                self.end += length;
                Ok(())
            }
            Err(Errno::INTR) => Ok(()),
            Err(Errno::AGAIN) => Err(SessionError::Silent(SILENCE_LIMIT_SECONDS)),
            Err(error) => Err(SessionError::Lost(error.into())),
        }
    }

    /// The next PDU that is there as a whole.
    pub(super) fn next_pdu(&mut self) -> Result<Option<Pdu<'_>>, ProtocolError> {
        let bytes = &self.buffer[self.start..self.end];
        let Some(header) = bytes.first_chunk::<BASIC_HEADER_BYTES>() else { return Ok(None) };
        let header = BasicHeader::from_bytes(*header);
        let header_bytes = BASIC_HEADER_BYTES + header.additional_header_bytes();
        let data_at = header_bytes + if self.digests.header { DIGEST_BYTES } else { 0 };
        let length = header.data_segment_length() as usize;
        let padded_end = data_at + length.next_multiple_of(4);
        let has_data_digest = self.digests.data && length > 0;
        let total = padded_end + if has_data_digest { DIGEST_BYTES } else { 0 };
        if bytes.len() < total {
            return if total > BUFFER_BYTES / 2 { Err(ProtocolError::TooLong(total)) } else { Ok(None) };
        }
        if self.digests.header && !is_intact(&bytes[..data_at]) {
            return Err(ProtocolError::HeaderDigest);
        }
        let data_is_intact = !has_data_digest || is_intact(&bytes[data_at..total]);
        self.start += total;
        Ok(Some(Pdu { header, data: &bytes[data_at..data_at + length], data_is_intact }))
    }

    /// Makes room for more.
    pub(super) fn compact(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start > BUFFER_BYTES / 2 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
    }
}

/// Whether the last four bytes are the CRC32C of those before (RFC 7143 §13.1).
fn is_intact(bytes: &[u8]) -> bool {
    bytes
        .split_last_chunk::<DIGEST_BYTES>()
        .is_some_and(|(covered, digest)| crc32c::crc32c(covered).to_le_bytes() == *digest)
}
