//! What is to be sent: headers in one buffer, and data where it lies, gathered by the system.

use std::io::IoSlice;
use std::net::TcpStream;
use std::ops::Range;
use std::sync::Arc;

use iscsi_target::framing::Digests;
use iscsi_target::pdu::BasicHeader;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, send, sendmsg};

use super::tasks::Tasks;
use crate::bench::error::SessionError;

/// Pieces that one call to the system takes.
const MAX_SLICES: usize = 128;

/// Where write data lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// In the session's pattern, from this offset on.
    Pattern(usize),
    /// In the buffer of the task's tag.
    Buffer(u32),
}

enum Piece {
    /// Of `headers`.
    Headers(Range<usize>),
    Data(Source, Range<usize>),
}

impl Piece {
    fn range_mut(&mut self) -> &mut Range<usize> {
        match self {
            Self::Headers(range) | Self::Data(_, range) => range,
        }
    }
}

/// PDUs in the order in which they leave.
pub(super) struct Output {
    /// Headers, digests and padding.
    headers: Vec<u8>,
    pieces: Vec<Piece>,
    /// Pieces that have left as a whole.
    sent: usize,
    digests: Digests,
    pattern: Arc<[u8]>,
}

impl Output {
    pub(super) fn new(digests: Digests, pattern: Arc<[u8]>) -> Self {
        Self { headers: Vec::new(), pieces: Vec::new(), sent: 0, digests, pattern }
    }

    /// Queues a PDU without data.
    pub(super) fn put(&mut self, header: &BasicHeader) {
        let begin = self.headers.len();
        self.headers.extend_from_slice(header.as_bytes());
        if self.digests.header {
            let digest = crc32c::crc32c(header.as_bytes());
            self.headers.extend_from_slice(&digest.to_le_bytes());
        }
        self.queue_headers(begin);
    }

    /// Queues a PDU with the data in a range of a source; `buffer` is what that range comes from.
    pub(super) fn put_with_data(
        &mut self,
        mut header: BasicHeader,
        source: Source,
        range: Range<usize>,
        buffer: &[u8],
    ) {
        header.set_data_segment_length(range.len() as u32);
        self.put(&header);
        if range.is_empty() {
            return;
        }
        let begin = self.headers.len();
        self.headers.resize(begin + range.len().next_multiple_of(4) - range.len(), 0);
        if self.digests.data {
            let data = match source {
                Source::Pattern(at) => &self.pattern[at + range.start..at + range.end],
                Source::Buffer(_) => &buffer[range.clone()],
            };
            let digest = crc32c::crc32c_append(crc32c::crc32c(data), &self.headers[begin..]);
            self.headers.extend_from_slice(&digest.to_le_bytes());
        }
        self.pieces.push(Piece::Data(source, range));
        self.queue_headers(begin);
    }

    /// Queues what was appended to the headers since `begin`: with the piece before, if that ends there.
    fn queue_headers(&mut self, begin: usize) {
        let end = self.headers.len();
        match self.pieces.last_mut() {
            Some(Piece::Headers(range)) if range.end == begin && range.start < begin => range.end = end,
            _ if begin == end => {}
            _ => self.pieces.push(Piece::Headers(begin..end)),
        }
    }

    /// Sends what the socket takes. True if nothing is left.
    pub(super) fn flush(&mut self, stream: &TcpStream, tasks: &Tasks) -> Result<bool, SessionError> {
        while self.sent < self.pieces.len() {
            match self.send_once(stream, tasks) {
                Ok(length) => self.advance(length),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.compact();
                    return Ok(false);
                }
                Err(error) => return Err(SessionError::Lost(error.into())),
            }
        }
        self.headers.clear();
        self.pieces.clear();
        self.sent = 0;
        Ok(true)
    }

    fn send_once(&self, stream: &TcpStream, tasks: &Tasks) -> Result<usize, Errno> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let pieces = &self.pieces[self.sent..];
        if let [Piece::Headers(range)] = pieces {
            return send(stream, &self.headers[range.clone()], flags);
        }
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let count = pieces.len().min(MAX_SLICES);
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(match piece {
                Piece::Headers(range) => &self.headers[range.clone()],
                Piece::Data(Source::Pattern(at), range) => &self.pattern[at + range.start..at + range.end],
                Piece::Data(Source::Buffer(tag), range) => &tasks.buffer(*tag)[range.clone()],
            });
        }
        sendmsg(stream, &slices[..count], &mut SendAncillaryBuffer::default(), flags)
    }

    /// Forgets what has left: under load the socket may never take all there is.
    fn compact(&mut self) {
        if self.sent < MAX_SLICES {
            return;
        }
        self.pieces.drain(..self.sent);
        self.sent = 0;
        let first = self.pieces.iter().find_map(|piece| match piece {
            Piece::Headers(range) => Some(range.start),
            Piece::Data(..) => None,
        });
        let gone = first.unwrap_or(self.headers.len());
        self.headers.drain(..gone);
        for piece in &mut self.pieces {
            if let Piece::Headers(range) = piece {
                *range = range.start - gone..range.end - gone;
            }
        }
    }

    fn advance(&mut self, mut length: usize) {
        while let Some(piece) = self.pieces.get_mut(self.sent) {
            let range = piece.range_mut();
            let part = length.min(range.len());
            range.start += part;
            length -= part;
            if range.start < range.end {
                return;
            }
            self.sent += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;
    use std::thread;

    use iscsi_target::Lun;
    use iscsi_target::pdu::{BASIC_HEADER_BYTES, Opcode};
    use socket2::SockRef;

    use super::super::login::LoggedIn;
    use super::*;

    const PDUS: usize = 400;
    /// Much less than half of the PDUs.
    const SOCKET_BYTES: usize = 64 << 10;

    /// Lengths that need padding, and the digests that cover it.
    #[test]
    fn all_leaves_in_order_however_little_the_socket_takes() {
        let pattern: Vec<u8> = (0..100_000).map(|at| (at % 251) as u8).collect();
        let digests = Digests { header: true, data: true };
        let mut output = Output::new(digests, pattern.clone().into());
        let tasks = Tasks::new(Lun::ZERO, 1, &LoggedIn::of_a_test());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        SockRef::from(&listener).set_recv_buffer_size(SOCKET_BYTES).unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        SockRef::from(&stream).set_send_buffer_size(SOCKET_BYTES).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let mut expected = Vec::new();
        let mut lengths = (0..PDUS).map(|number| number * 97 % 60_000);
        let mut queue = |output: &mut Output, expected: &mut Vec<u8>| {
            let Some(length) = lengths.next() else { return false };
            let mut header = BasicHeader::new(Opcode::DataOut, 0);
            output.put_with_data(header, Source::Pattern(3), 7..7 + length, &[]);
            header.set_data_segment_length(length as u32);
            expected.extend_from_slice(header.as_bytes());
            expected.extend_from_slice(&crc32c::crc32c(header.as_bytes()).to_le_bytes());
            if length > 0 {
                let mut data = pattern[10..10 + length].to_vec();
                data.resize(length.next_multiple_of(4), 0);
                expected.extend_from_slice(&data);
                expected.extend_from_slice(&crc32c::crc32c(&data).to_le_bytes());
            }
            true
        };
        // more than a socket holds before the first byte is read
        (0..PDUS / 2).for_each(|_| assert!(queue(&mut output, &mut expected)));
        assert!(!output.flush(&stream, &tasks).unwrap());
        let received = thread::spawn(move || {
            let mut received = Vec::new();
            peer.read_to_end(&mut received).map(|_| received)
        });
        let mut more = true;
        while more || !output.flush(&stream, &tasks).unwrap() {
            more = queue(&mut output, &mut expected);
            thread::yield_now();
        }
        assert!(output.headers.is_empty() && output.pieces.is_empty());
        drop(stream);
        let received = received.join().unwrap().unwrap();
        assert!(received.len() > PDUS * BASIC_HEADER_BYTES && received == expected);
    }

    #[test]
    fn what_has_left_is_forgotten_though_more_waits() {
        let mut output = Output::new(Digests::default(), vec![1; 100].into());
        let header = BasicHeader::new(Opcode::DataOut, 0);
        (0..MAX_SLICES).for_each(|_| output.put_with_data(header, Source::Pattern(0), 0..100, &[]));
        let sent = BASIC_HEADER_BYTES + 100;
        output.advance(100 * sent + 10);
        assert_eq!(output.sent, 200);
        output.compact();
        assert_eq!((output.sent, output.pieces.len()), (0, 2 * MAX_SLICES - 200));
        assert_eq!(output.headers.len(), (MAX_SLICES - 100) * BASIC_HEADER_BYTES - 10);
        assert!(matches!(&output.pieces[0], Piece::Headers(range) if *range == (0..BASIC_HEADER_BYTES - 10)));
    }
}
