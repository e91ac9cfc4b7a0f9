//! PDU framing: however a stream is cut, the same PDUs come out of it; what they say is what would be written; and no
//! length in a header makes room for more than the limits.

use arbitrary::{Arbitrary, Unstructured};
use bytes::BytesMut;
use iscsi_target::framing::{Digests, Frame, FrameError, FrameLimits, put_pdu, take_frame};
use iscsi_target::pdu::{
    AdditionalHeaders, AsyncMessagePdu, BASIC_HEADER_BYTES, BasicHeader, DataInPdu, DataOutPdu,
    LoginRequestPdu, LoginResponsePdu, LogoutRequestPdu, LogoutResponsePdu, NopInPdu, NopOutPdu, Opcode,
    R2tPdu, RejectPdu, ScsiCommandPdu, ScsiResponsePdu, SnackPdu, TaskManagementRequestPdu,
    TaskManagementResponsePdu, TextRequestPdu, TextResponsePdu,
};
use iscsi_target::{OutputBuffer, PIECE_BYTES};

const LIMITS: FrameLimits = FrameLimits { data: 2000, additional_header: 64 };

/// Bytes that an input buffer may have room for beyond what was put into it: one PDU, and what a growing buffer rounds to.
const MAX_ROOM_BYTES: usize = 2 * (BASIC_HEADER_BYTES + 64 + 4 + 2000 + 4);

/// A stream: bytes as they are, or PDUs with sound digests.
#[derive(Debug, Arbitrary)]
struct Input<'a> {
    header_digest: bool,
    data_digest: bool,
    cut: u8,
    sound: Vec<([u8; BASIC_HEADER_BYTES], &'a [u8])>,
    raw: &'a [u8],
}

/// Takes a stream.
pub fn run(bytes: &[u8]) {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(bytes)) else { return };
    let digests = Digests { header: input.header_digest, data: input.data_digest };
    let mut output = OutputBuffer::default();
    let mut sound = Vec::new();
    for (header, data) in input.sound.iter().filter(|(_, data)| data.len() <= LIMITS.data as usize) {
        let mut header = BasicHeader::from_bytes(*header);
        header.set_additional_header_words(0);
        put_pdu(&mut output, digests, header, &[data]);
        header.set_data_segment_length(data.len() as u32);
        sound.push((header, *data));
    }
    let stream = [&output[..], input.raw].concat();
    let (whole, end) = frames(&stream, digests, stream.len().max(1));
    let (cut, cut_end) = frames(&stream, digests, usize::from(input.cut) + 1);
    assert_eq!(
        (described(&whole), end),
        (described(&cut), cut_end),
        "where a stream is cut makes no difference"
    );
    assert!(whole.len() >= sound.len(), "PDUs that are sound are taken");
    for (frame, (header, data)) in whole.iter().zip(&sound) {
        assert_eq!((frame.header, &frame.data[..], frame.data_is_intact), (*header, *data, true));
    }
    whole.iter().for_each(|frame| check(frame, digests));
}

/// What comes out of a stream that arrives in pieces, and why it ends.
fn frames(stream: &[u8], digests: Digests, piece: usize) -> (Vec<Frame>, Option<FrameError>) {
    let mut input = BytesMut::new();
    let mut frames = Vec::new();
    for piece in stream.chunks(piece) {
        input.extend_from_slice(piece);
        loop {
            let fed = input.capacity().max(stream.len());
            match take_frame(&mut input, digests, LIMITS) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
            assert!(input.capacity() <= fed + MAX_ROOM_BYTES);
        }
        assert!(input.capacity() <= 2 * stream.len() + MAX_ROOM_BYTES, "{} bytes of room", input.capacity());
    }
    (frames, None)
}

type Described<'a> = (BasicHeader, &'a [u8], &'a [u8], bool);

fn described(frames: &[Frame]) -> Vec<Described<'_>> {
    let parts = frames.iter();
    parts
        .map(|frame| (frame.header, &frame.additional_header[..], &frame.data[..], frame.data_is_intact))
        .collect()
}

/// One PDU: within the limits, written and read again the same.
fn check(frame: &Frame, digests: Digests) {
    assert!(
        frame.data.len() <= LIMITS.data as usize && frame.additional_header.len() <= LIMITS.additional_header
    );
    if let Ok(additional) = AdditionalHeaders::parse(&frame.additional_header) {
        assert!(additional.extended_cdb.len() <= frame.additional_header.len());
    }
    let pieces = frame.data.chunks(PIECE_BYTES).filter(|_| digests.data);
    assert!(pieces.map(crc32c::crc32c).eq(frame.piece_crcs.iter().copied()));
    let mut header = frame.header;
    header.set_additional_header_words(0);
    let mut output = OutputBuffer::default();
    put_pdu(&mut output, digests, header, &[&frame.data]);
    let mut input = BytesMut::from(&output[..]);
    let again =
        take_frame(&mut input, digests, LIMITS).expect("what is written can be read").expect("wholly");
    assert!(input.is_empty() && again.data_is_intact);
    assert_eq!((again.header, &again.data), (header, &frame.data));
    check_meaning(&header);
}

/// What a header says is what one that says the same would be read as.
fn check_meaning(header: &BasicHeader) {
    macro_rules! same {
        ($pdu:ident) => {{
            let said = $pdu::parse(header);
            assert_eq!($pdu::parse(&said.build()), said);
        }};
    }
    match header.opcode() {
        Opcode::NopOut => same!(NopOutPdu),
        Opcode::ScsiCommand => same!(ScsiCommandPdu),
        Opcode::TaskManagementRequest => same!(TaskManagementRequestPdu),
        Opcode::LoginRequest => same!(LoginRequestPdu),
        Opcode::TextRequest => same!(TextRequestPdu),
        Opcode::DataOut => same!(DataOutPdu),
        Opcode::LogoutRequest => same!(LogoutRequestPdu),
        Opcode::Snack => same!(SnackPdu),
        Opcode::NopIn => same!(NopInPdu),
        Opcode::ScsiResponse => same!(ScsiResponsePdu),
        Opcode::TaskManagementResponse => same!(TaskManagementResponsePdu),
        Opcode::LoginResponse => same!(LoginResponsePdu),
        Opcode::TextResponse => same!(TextResponsePdu),
        Opcode::DataIn => same!(DataInPdu),
        Opcode::LogoutResponse => same!(LogoutResponsePdu),
        Opcode::ReadyToTransfer => same!(R2tPdu),
        Opcode::AsyncMessage => same!(AsyncMessagePdu),
        Opcode::Reject => same!(RejectPdu),
        Opcode::Unknown(_) => {}
    }
}
