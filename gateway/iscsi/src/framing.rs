//! PDUs in a byte stream: headers, padding and CRC32C digests (RFC 7143 §11.1, §13.1).
//!
//! ```text
//! | BHS 48 | AHS 0..1020 | header digest 0|4 | data | padding 0..3 | data digest 0|4 |
//! ```
//! A digest is the CRC32C in little-endian order; the data digest covers the padding and is absent
//! without data.

use bytes::{Buf, Bytes, BytesMut};

use crate::crc::{PIECE_BYTES, PieceCrcs, RunningCrc};
use crate::output::OutputBuffer;
use crate::pdu::{BASIC_HEADER_BYTES, BasicHeader};

/// Bytes of a digest.
pub(crate) const DIGEST_BYTES: usize = 4;

/// Which digests a connection uses; none during login.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digests {
    /// CRC32C over BHS and AHS.
    pub header: bool,
    /// CRC32C over data and padding.
    pub data: bool,
}

impl Digests {
    /// Bytes of a header without AHS, with its digest.
    pub(crate) fn header_bytes(self) -> usize {
        BASIC_HEADER_BYTES + if self.header { DIGEST_BYTES } else { 0 }
    }

    /// Bytes that `length` bytes of data take, with padding and digest.
    pub(crate) fn data_bytes(self, length: usize) -> usize {
        match length {
            0 => 0,
            _ => length.next_multiple_of(4) + if self.data { DIGEST_BYTES } else { 0 },
        }
    }
}

/// What a receiver accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLimits {
    /// Largest data segment, in bytes.
    pub data: u32,
    /// Most AHS bytes.
    pub additional_header: usize,
}

/// One received PDU.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The basic header segment.
    pub header: BasicHeader,
    /// The additional header segments; mostly empty.
    pub additional_header: Bytes,
    /// The data segment without padding.
    pub data: Bytes,
    /// Whether the data digest, if in use, was right.
    pub data_is_intact: bool,
    /// The CRCs of the data segment's pieces, which add up to the data digest; none if it is not in use.
    pub piece_crcs: PieceCrcs,
}

/// The stream cannot be followed any further: close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The header is damaged, so its lengths cannot be trusted.
    #[error("header digest error")]
    HeaderDigest,
    /// The peer ignores our MaxRecvDataSegmentLength.
    #[error("data segment of {length} bytes, more than the {limit} we declared")]
    DataSegmentTooLong {
        /// DataSegmentLength of the PDU.
        length: u32,
        /// What we accept.
        limit: u32,
    },
    /// More additional header segments than any command needs.
    #[error("{length} bytes of additional header segments, more than the {limit} we accept")]
    AdditionalHeaderTooLong {
        /// Bytes the PDU has.
        length: usize,
        /// What we accept.
        limit: usize,
    },
}

/// Bytes of the first PDU of `input`, once its header is complete.
pub(crate) fn pdu_bytes(input: &[u8], digests: Digests) -> Option<usize> {
    let header = BasicHeader::from_bytes(*input.first_chunk::<BASIC_HEADER_BYTES>()?);
    let header_end = digests.header_bytes() + header.additional_header_bytes();
    let data_bytes = digests.data_bytes(header.data_segment_length() as usize);
    (input.len() >= header_end).then_some(header_end + data_bytes)
}

/// Takes the first PDU off `input`; `None` if it is not all there yet.
///
/// The data segment is split off, not copied.
///
/// # Errors
/// When the stream cannot be followed any further; `input` is then of no use.
pub fn take_frame(
    input: &mut BytesMut,
    digests: Digests,
    limits: FrameLimits,
) -> Result<Option<Frame>, FrameError> {
    let Some(header) = input.first_chunk::<BASIC_HEADER_BYTES>() else { return Ok(None) };
    let header = BasicHeader::from_bytes(*header);
    let additional = header.additional_header_bytes();
    if additional > limits.additional_header {
        let limit = limits.additional_header;
        return Err(FrameError::AdditionalHeaderTooLong { length: additional, limit });
    }
    let header_end = digests.header_bytes() + additional;
    if input.len() < header_end {
        return Ok(None);
    }
    if digests.header && !digest_matches(&input[..header_end]) {
        return Err(FrameError::HeaderDigest);
    }
    let length = header.data_segment_length();
    if length > limits.data {
        return Err(FrameError::DataSegmentTooLong { length, limit: limits.data });
    }
    let length = length as usize;
    let rest = digests.data_bytes(length);
    if input.len() < header_end + rest {
        return Ok(None);
    }
    let additional_header = match additional {
        0 => Bytes::new(),
        _ => Bytes::copy_from_slice(&input[BASIC_HEADER_BYTES..BASIC_HEADER_BYTES + additional]),
    };
    input.advance(header_end);
    let (piece_crcs, data_is_intact) = match digests.data && length > 0 {
        true => sum_data(&input[..rest], length),
        false => (PieceCrcs::new(), true),
    };
    let data = match length {
        0 => Bytes::new(),
        _ => input.split_to(length).freeze(),
    };
    input.advance(rest - length);
    Ok(Some(Frame { header, additional_header, data, data_is_intact, piece_crcs }))
}

/// The CRCs of the pieces of `length` bytes of data, and whether they agree with the digest that comes behind it and its
/// padding.
fn sum_data(segment: &[u8], length: usize) -> (PieceCrcs, bool) {
    let (data, rest) = segment.split_at(length);
    let (padding, digest) = rest.split_at(rest.len() - DIGEST_BYTES);
    let mut sum = RunningCrc::default();
    let sum_piece = |piece| {
        let crc = crc32c::crc32c(piece);
        sum.add_known(piece, crc);
        crc
    };
    let crcs = data.chunks(PIECE_BYTES).map(sum_piece).collect();
    sum.add(padding);
    (crcs, sum.value().to_le_bytes() == *digest)
}

/// Lays out a whole PDU whose data segment is the concatenation of `data`.
pub fn put_pdu(output: &mut OutputBuffer, digests: Digests, mut header: BasicHeader, data: &[&[u8]]) {
    let length: usize = data.iter().map(|part| part.len()).sum();
    let header_bytes = digests.header_bytes();
    let begin = output.grow(header_bytes + digests.data_bytes(length));
    // Our own data segments are far below the 24 bits of the field: answers, sense and echoes.
    header.set_data_segment_length(length as u32);
    let mut at = begin + header_bytes;
    for part in data {
        output.range_mut(at..at + part.len()).copy_from_slice(part);
        at += part.len();
    }
    seal_pdu(output, digests, begin, &header, None);
}

/// Completes a PDU whose payload is already in place: writes its header (whose DataSegmentLength is set),
/// padding and digests at `begin`; returns where the PDU ends. `crc` is the payload's CRC32C, if it is known: then the data
/// digest says what the payload should be, not what it is.
pub(crate) fn seal_pdu(
    output: &mut OutputBuffer,
    digests: Digests,
    begin: usize,
    header: &BasicHeader,
    crc: Option<u32>,
) -> usize {
    let header_end = begin + BASIC_HEADER_BYTES;
    output.range_mut(begin..header_end).copy_from_slice(header.as_bytes());
    if digests.header {
        let digest = crc32c::crc32c(header.as_bytes()).to_le_bytes();
        output.range_mut(header_end..header_end + DIGEST_BYTES).copy_from_slice(&digest);
    }
    let data_begin = begin + digests.header_bytes();
    let length = header.data_segment_length() as usize;
    let data_end = data_begin + length;
    let padded_end = data_begin + length.next_multiple_of(4);
    output.range_mut(data_end..padded_end).fill(0);
    if digests.data && length > 0 {
        let crc = crc.unwrap_or_else(|| crc32c::crc32c(output.range_mut(data_begin..data_end)));
        let digest = crc32c::crc32c_append(crc, output.range_mut(data_end..padded_end)).to_le_bytes();
        output.range_mut(padded_end..padded_end + DIGEST_BYTES).copy_from_slice(&digest);
    }
    data_begin + digests.data_bytes(length)
}

/// Whether the last four bytes are the digest of those before.
fn digest_matches(bytes: &[u8]) -> bool {
    bytes
        .split_last_chunk::<DIGEST_BYTES>()
        .is_some_and(|(covered, digest)| crc32c::crc32c(covered).to_le_bytes() == *digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdu::Opcode;

    const LIMITS: FrameLimits = FrameLimits { data: 1024, additional_header: 64 };
    const ALL: [Digests; 4] = [
        Digests { header: false, data: false },
        Digests { header: true, data: false },
        Digests { header: false, data: true },
        Digests { header: true, data: true },
    ];

    fn framed(digests: Digests, data: &[u8]) -> BytesMut {
        let mut output = OutputBuffer::default();
        output.grow(100);
        output.advance(99);
        put_pdu(&mut output, digests, BasicHeader::new(Opcode::NopOut, 0x80), &[data]);
        BytesMut::from(&output[1..])
    }

    #[test]
    fn what_is_put_is_taken_once_all_bytes_are_there() {
        for digests in ALL {
            for length in [0, 1, 2, 3, 4, 5, 511] {
                let data: Vec<u8> = (0..length).map(|i| i as u8).collect();
                let whole = framed(digests, &data);
                assert_eq!(whole.len(), digests.header_bytes() + digests.data_bytes(length));
                let mut input = BytesMut::new();
                for byte in &whole[..whole.len() - 1] {
                    input.extend_from_slice(&[*byte]);
                    assert!(take_frame(&mut input, digests, LIMITS).unwrap().is_none());
                    let is_known = input.len() >= digests.header_bytes();
                    assert_eq!(pdu_bytes(&input, digests), is_known.then_some(whole.len()));
                }
                input.extend_from_slice(&whole[whole.len() - 1..]);
                let frame = take_frame(&mut input, digests, LIMITS).unwrap().unwrap();
                assert!(frame.data_is_intact && input.is_empty());
                assert_eq!(frame.data, data);
                assert_eq!(frame.piece_crcs.len(), usize::from(digests.data && length > 0));
            }
        }
    }

    #[test]
    fn damage_is_found() {
        let digests = Digests { header: true, data: true };
        let mut damaged_data = framed(digests, b"hello");
        damaged_data[digests.header_bytes() + 5] ^= 1;
        let frame = take_frame(&mut damaged_data, digests, LIMITS).unwrap().unwrap();
        assert!(!frame.data_is_intact, "padding is covered too");
        let mut damaged_header = framed(digests, b"hello");
        damaged_header[20] ^= 1;
        assert_eq!(take_frame(&mut damaged_header, digests, LIMITS).unwrap_err(), FrameError::HeaderDigest);
    }

    #[test]
    fn each_bit_of_many_pieces_is_covered_and_their_crcs_are_kept() {
        let digests = Digests { header: false, data: true };
        let limits = FrameLimits { data: 1 << 20, ..LIMITS };
        for length in [1, 4095, 4096, 4097, 8192, 8195, 3 * 4096 + 512] {
            let data: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let whole = framed(digests, &data);
            let frame = take_frame(&mut whole.clone(), digests, limits).unwrap().unwrap();
            assert!(frame.data_is_intact);
            let expected: Vec<u32> = data.chunks(PIECE_BYTES).map(crc32c::crc32c).collect();
            assert_eq!(frame.piece_crcs.to_vec(), expected, "{length} bytes");
            for at in (BASIC_HEADER_BYTES..whole.len()).step_by(7).chain(whole.len() - 8..whole.len()) {
                let mut damaged = whole.clone();
                damaged[at] ^= 1 << (at % 8);
                let frame = take_frame(&mut damaged, digests, limits).unwrap().unwrap();
                assert!(!frame.data_is_intact, "byte {at} of {length}");
            }
        }
    }

    #[test]
    fn lengths_beyond_the_limits_are_refused_before_the_bytes_arrive() {
        let mut header = BasicHeader::new(Opcode::DataOut, 0);
        header.set_data_segment_length(1025);
        let mut input = BytesMut::from(&header.as_bytes()[..]);
        assert_eq!(
            take_frame(&mut input, Digests::default(), LIMITS).unwrap_err(),
            FrameError::DataSegmentTooLong { length: 1025, limit: 1024 }
        );
        header.set_data_segment_length(0);
        header.set_additional_header_words(17);
        let mut input = BytesMut::from(&header.as_bytes()[..]);
        assert_eq!(
            take_frame(&mut input, Digests::default(), LIMITS).unwrap_err(),
            FrameError::AdditionalHeaderTooLong { length: 68, limit: 64 }
        );
    }

    #[test]
    fn digest_bytes_are_those_of_the_standard() {
        // RFC 7143 appendix A.4: 32 bytes of zeroes give aa 36 91 8a.
        let framed = framed(Digests { header: false, data: true }, &[0; 32]);
        assert_eq!(framed[BASIC_HEADER_BYTES + 32..], [0xaa, 0x36, 0x91, 0x8a]);
    }
}
