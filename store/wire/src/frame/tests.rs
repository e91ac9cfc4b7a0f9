//! Frames that are whole, torn, damaged or made up.

use super::*;
use crate::replicated::{Answer, Answered, Block, Command, Request, RequestId, SyncAll, Synced};
use crate::{ByteRange, Durability, Incarnation, NodeId, ObjectKind, Oid, Pepoch, Process, Stamp, Vid};
use core::time::Duration;

fn request(command: Command) -> Request {
    let gateway = Process { node: NodeId([7; 16]), incarnation: Incarnation(3) };
    Request {
        id: RequestId { gateway, number: 9 },
        resend: 1,
        unanswered_from: 8,
        pepoch: Pepoch(5),
        stamp: Stamp { incarnation: Incarnation(2), clock: Duration::from_nanos(1_234_567_890_123) },
        layout: 4,
        fence: 6,
        command,
    }
}

fn write() -> Command {
    let bytes = |length| Bytes::from((0..length).map(|i: u32| (i * 7 % 251) as u8).collect::<Vec<_>>());
    Command::CompareAndWrite {
        oid: Oid::new(ObjectKind::Data, Vid::new(1).unwrap(), 2),
        range: ByteRange::new(4096, 4196).unwrap(),
        expected: Block::new(bytes(4196)),
        pieces: vec![Block::new(bytes(4096)), Block::new(bytes(100))],
        durability: Durability::Stable,
    }
}

fn partition() -> Partition {
    Partition::new(77).unwrap()
}

fn agreed() -> Decoder {
    let mut decoder = Decoder::default();
    decoder.agreed(VERSION);
    decoder
}

#[test]
fn frames_come_whole_however_they_are_cut() {
    let frames = [write(), Command::Flush, write()].map(request);
    let bytes: Vec<u8> =
        frames.iter().flat_map(|frame| Outgoing::new(partition(), frame).unwrap().to_bytes()).collect();
    for step in [1, 7, 16, 4096, bytes.len()] {
        let mut decoder = agreed();
        let mut came = Vec::new();
        for piece in bytes.chunks(step) {
            decoder.feed(piece);
            while let Some(frame) = decoder.next_frame().unwrap() {
                came.push(frame.open::<Request>().unwrap());
            }
        }
        assert_eq!(came, frames.clone().map(|frame| (partition(), frame)));
        assert_eq!(decoder.waiting(), 0);
    }
}

#[test]
fn payloads_are_where_they_were_received() {
    let sent = Outgoing::new(partition(), &request(write())).unwrap();
    let mut decoder = agreed();
    decoder.room().extend_from_slice(&sent.to_bytes());
    let received = decoder.room().as_ptr().addr();
    let (_, came) = decoder.next_frame().unwrap().unwrap().open::<Request>().unwrap();
    let Command::CompareAndWrite { expected, pieces, .. } = came.command else { panic!("another command") };
    assert_eq!(expected.bytes.as_ptr().addr() - received, sent.head.len());
    assert_eq!(pieces[1].bytes.as_ptr().addr() - received, sent.head.len() + 4196 + 4096);
}

#[test]
fn damage_shows() {
    let sent = Outgoing::new(partition(), &request(write())).unwrap();
    let whole = sent.to_bytes();
    for place in 0..sent.head.len() * 8 {
        let mut damaged = whole.to_vec();
        damaged[place / 8] ^= 1 << (place % 8);
        let mut decoder = agreed();
        decoder.feed(&damaged);
        let taken = decoder.next_frame();
        assert!(!matches!(taken, Ok(Some(_))), "bit {place}: {taken:?}");
    }
    let open = |place: usize| {
        let mut damaged = whole.to_vec();
        damaged[place] ^= 1;
        let mut decoder = agreed();
        decoder.feed(&damaged);
        decoder.next_frame().unwrap().unwrap().open::<Request>()
    };
    for (place, are_sound) in [(sent.head.len(), [false, true, true]), (whole.len() - 1, [true, true, false])]
    {
        let Ok((_, Request { command: Command::CompareAndWrite { expected, pieces, .. }, .. })) = open(place)
        else {
            panic!("blocks are for others to verify")
        };
        assert_eq!([expected.is_sound(), pieces[0].is_sound(), pieces[1].is_sound()], are_sound);
    }
}

#[test]
fn garbage_is_named_before_room_is_made_for_it() {
    let taken = |decoder: &mut Decoder, bytes: &[u8]| {
        decoder.feed(bytes);
        decoder.next_frame().unwrap_err()
    };
    assert_eq!(taken(&mut agreed(), b"GET / HTTP/1.1\r\n"), Garbage::Magic);
    let header = |version, kind, metadata, payload| {
        let summed = Preamble { version, kind, metadata, payload }.bytes();
        [summed.as_slice(), &[0; 4]].concat()
    };
    let version = Garbage::Version { found: 2, expected: VERSION };
    assert_eq!(taken(&mut agreed(), &header(2, 16, 0, 0)), version);
    assert_eq!(taken(&mut agreed(), &header(VERSION, 99, 0, 0)), Garbage::Kind { code: 99 });
    for (metadata, payload) in [(MAX_METADATA_BYTES + 1, 0), (0, MAX_PAYLOAD_BYTES + 1)] {
        let error = taken(&mut agreed(), &header(VERSION, 16, metadata, payload));
        assert!(matches!(error, Garbage::Length { .. }), "{error}");
    }
    let error = taken(&mut Decoder::default(), &header(HELLO_VERSION, 1, MAX_HELLO_BYTES, 1));
    assert!(matches!(error, Garbage::Length { .. }), "{error}");
    assert_eq!(taken(&mut agreed(), &header(VERSION, 16, 0, 0)), Garbage::Checksum);

    // What it says of itself is not believed before its checksum is right.
    let mut decoder = agreed();
    decoder.feed(&header(VERSION, 16, 64, MAX_PAYLOAD_BYTES));
    assert_eq!(decoder.next_frame(), Ok(None));
    assert!(decoder.room().capacity() < 1 << 20);
}

#[test]
fn room_for_a_long_frame_is_made_as_it_comes() {
    let blocks = vec![Some(Block::new(Bytes::from(vec![1; 4096]))); 1024];
    let id = RequestId { gateway: Process { node: NodeId([7; 16]), incarnation: Incarnation(3) }, number: 9 };
    let answered = Answered { id, resend: 0, answer: Answer::Data(blocks), stamp: Stamp::NONE };
    let bytes = Outgoing::new(partition(), &answered).unwrap().to_bytes();
    let mut decoder = agreed();
    let (mut rest, mut rooms) = (&bytes[..], 0);
    let frame = loop {
        if let Some(frame) = decoder.next_frame().unwrap() {
            break frame;
        }
        let room = decoder.room();
        let (now, later) = rest.split_at(rest.len().min(room.capacity() - room.len()));
        room.extend_from_slice(now);
        (rest, rooms) = (later, rooms + 1);
    };
    assert_eq!(frame.open(), Ok((partition(), answered)));
    assert!(rooms <= 3, "{rooms}");
}

#[test]
fn frames_of_another_kind_are_not_taken_for_it() {
    let mut decoder = agreed();
    decoder.feed(&Outgoing::new(partition(), &request(Command::Flush)).unwrap().to_bytes());
    let frame = decoder.next_frame().unwrap().unwrap();
    assert!(frame.open::<Answered>().is_err());
}

#[test]
fn too_much_is_not_sent() {
    let blocks = vec![Some(Block { crc: 0, bytes: Bytes::from_static(&[0; 1 << 20]) }); 257];
    let id = RequestId { gateway: Process { node: NodeId([7; 16]), incarnation: Incarnation(3) }, number: 9 };
    let answered = Answered { id, resend: 0, answer: Answer::Data(blocks), stamp: Stamp::NONE };
    let error = Outgoing::new(partition(), &answered).unwrap_err();
    assert_eq!(error.payload, 257 << 20);
}

#[test]
fn what_is_of_no_partition_has_these_bytes() {
    let asked = SyncAll {
        gateway: Process { node: NodeId([7; 16]), incarnation: Incarnation(3) },
        round: 0x0102_0304_0506_0708,
    };
    let synced = Synced { asked, known: Some(77) };
    let bytes = Outgoing::of_process(&synced).unwrap().to_bytes();
    let body =
        [&[7; 16][..], &[3, 0, 0, 0, 0, 0, 0, 0], &[8, 7, 6, 5, 4, 3, 2, 1], &[1], &77_u64.to_le_bytes()];
    assert_eq!(&bytes[..4], [b'H', b'w', VERSION, 22]);
    assert_eq!(&bytes[PREAMBLE_BYTES..], body.concat());
    for (sent, is_asked) in [(Outgoing::of_process(&asked), true), (Outgoing::of_process(&synced), false)] {
        let mut decoder = agreed();
        decoder.feed(&sent.unwrap().to_bytes());
        let frame = decoder.next_frame().unwrap().unwrap();
        assert_eq!(frame.open_of_process::<SyncAll>().ok(), is_asked.then_some(asked));
        assert_eq!(frame.open_of_process::<Synced>().ok(), (!is_asked).then_some(synced));
    }
}
