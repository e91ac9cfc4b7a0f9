//! Every message there is, there and back; golden bytes, as `store/wire/PROTOCOL.md` shows them.

use std::sync::Arc;

use bytes::Bytes;
use huntaway_wire::encoding::{Encoding, Malformed, Reader, Writer};
use huntaway_wire::frame::{Decoder, Frame, Framed, Outgoing, VERSION};
use huntaway_wire::hello::{ClusterId, Hello, Identity};
use huntaway_wire::replicated::{Answer, Answered, Command, Refused, Request};
use huntaway_wire::{
    ByteRange, Durability, Incarnation, MappedRun, NodeId, ObjectKind, Oid, Partition, Pepoch, Process,
    Provisioning, Stamp, Version, Vid,
};

use crate::event::{Page, Verified};
use crate::message::{Body, Lesson, Message, Reply};
use crate::process::Moment;
use crate::record::{Block, Change, Completion, CopiedBlock, Record, RequestId, Stored};
use crate::requests::Requests;
use crate::room::Credit;

fn partition() -> Partition {
    Partition::new(0x123).unwrap()
}

fn id(number: u64) -> RequestId {
    RequestId { gateway: Process { node: NodeId([0xa0; 16]), incarnation: Incarnation(7) }, number }
}

fn oid() -> Oid {
    Oid::new(ObjectKind::Data, Vid::new(0x2b).unwrap(), 5)
}

fn version(seq: u32) -> Version {
    Version { pepoch: 3, seq }
}

fn block(byte: u8) -> Block {
    Block::new(Bytes::from(vec![byte; 4096]))
}

fn credit() -> Credit {
    Credit { limit_bytes: 1 << 20, space_limit_bytes: 1 << 19, is_full: true }
}

fn record(change: Change) -> Arc<Record> {
    Arc::new(Record {
        version: version(9),
        oid: oid(),
        change,
        completion: Completion::Done,
        request: Some(id(12)),
        unanswered_from: 11,
        durability: Durability::Stable,
    })
}

fn forward() -> Body {
    let change = Change::Write { first_block: 1, blocks: vec![Some(block(0x5a)), None] };
    Body::Forward { record: record(change), settled: version(8), attempt: 0 }
}

fn records() -> Vec<Arc<Record>> {
    let changes = [
        Change::Write { first_block: 0, blocks: vec![None, Some(block(1)), Some(block(2))] },
        Change::Remove,
        Change::Free { runs: vec![0..3, 9..10, 1024..1025] },
        Change::Nothing,
        Change::Reserve,
    ];
    let other = Record {
        request: None,
        completion: Completion::Miscompare { offset: 77 },
        durability: Durability::Logged,
        ..Record::clone(&record(Change::Remove))
    };
    changes.map(record).into_iter().chain([Arc::new(other)]).collect()
}

fn requests() -> Arc<Requests> {
    let mut requests = Requests::default();
    requests.trim(id(0).gateway, 5);
    requests.put(id(6), Completion::Done);
    requests.put(id(8), Completion::Miscompare { offset: 4095 });
    let other = Process { node: NodeId([0xa1; 16]), incarnation: Incarnation(1) };
    requests.trim(other, 0);
    Arc::new(requests)
}

fn lessons() -> Vec<Lesson> {
    let stored = Stored { version: version(4), content: Some(block(3)) };
    let hole = Stored { version: version(5), content: None };
    let blocks = Arc::new(vec![
        CopiedBlock::new(2, stored),
        CopiedBlock::new(3, hole),
        CopiedBlock::new(4, Stored::default()),
        CopiedBlock::lost(9, version(6)),
    ]);
    vec![
        Lesson::Begin { requests: requests(), settled: version(2) },
        Lesson::Requests,
        Lesson::Digests { after: None, most: 64 },
        Lesson::Digests { after: Some(oid()), most: 1 },
        Lesson::Versions { oid: oid() },
        Lesson::Read { oid: oid(), blocks: 4..9 },
        Lesson::Copy { oid: oid(), blocks: blocks.clone() },
        Lesson::Verify { oid: oid() },
        Lesson::Replace { oid: oid(), blocks },
        Lesson::Remove { oid: oid() },
        Lesson::Sync,
    ]
}

fn replies() -> Vec<Reply> {
    let verified = vec![
        Verified { block: 1, version: version(1), crc: Some(0xfeed) },
        Verified { block: 7, version: Version::NEVER, crc: None },
    ];
    let stored = Stored { version: version(4), content: Some(block(3)) };
    let page = Page { objects: vec![(oid(), Some(5)), (oid(), None)], is_last: true };
    vec![
        Reply::Done,
        Reply::Failed,
        Reply::Missing(verified.clone()),
        Reply::Damaged(vec![None, Some(stored.clone())]),
        Reply::Verified(verified),
        Reply::Digests(page),
        Reply::Versions(vec![(1, version(2)), (3, Version::NEVER)]),
        Reply::Blocks(vec![stored, Stored::default()]),
        Reply::Requests(requests()),
    ]
}

fn bodies() -> Vec<Body> {
    let mut bodies = vec![
        Body::Beacon { sent: Moment(5), settled: version(1), attempt: 2, is_missed: true, wants_room: true },
        Body::Misses,
        Body::Released,
        Body::Suspect { oid: oid() },
        Body::Granted { sent: Moment(5), credit: credit(), attempt: 3 },
        forward(),
        Body::Forwarded { version: version(9), attempt: 4, credit: credit() },
        Body::Flush { number: 6 },
        Body::Flushed { number: 7 },
        Body::Gather,
        Body::Gathered { records: records() },
        Body::RollForward { records: records() },
        Body::RolledForward,
        Body::Mended { number: 8 },
    ];
    for lesson in lessons() {
        bodies.push(Body::Inspect { number: 1, lesson: lesson.clone() });
        bodies.push(Body::Mend { number: 2, lesson: lesson.clone() });
        bodies.push(Body::Ask { attempt: 3, step: 4, lesson });
    }
    for reply in replies() {
        bodies.push(Body::Inspected { number: 1, reply: reply.clone() });
        bodies.push(Body::Reply { attempt: 2, step: 3, reply });
    }
    bodies
}

fn messages() -> Vec<Message> {
    bodies().into_iter().map(|body| Message { pepoch: Pepoch(3), body }).collect()
}

fn request(command: Command) -> Request {
    Request {
        id: id(12),
        resend: 1,
        unanswered_from: 11,
        pepoch: Pepoch(3),
        stamp: Stamp { incarnation: Incarnation(4), clock: Moment(90_000_001).clock() },
        layout: 2,
        fence: 1,
        command,
    }
}

fn commands() -> Vec<Command> {
    let (oid, range, durability) = (oid(), ByteRange::new(4000, 200).unwrap(), Durability::Logged);
    let bytes = Bytes::from_static(&[7; 200]);
    let pieces = vec![Block::new(bytes.slice(..96)), Block::new(bytes.slice(96..))];
    vec![
        Command::Read { oid, blocks: 0..8 },
        Command::Map { oid, blocks: 3..1024 },
        Command::Write { oid, range, pieces: pieces.clone(), durability },
        Command::CompareAndWrite {
            oid,
            range,
            expected: Block::new(bytes),
            pieces: pieces.clone(),
            durability,
        },
        Command::Or { oid, range, pieces, durability },
        Command::Discard { oid, range, durability },
        Command::Remove { oid, durability: Durability::Stable },
        Command::Flush,
        Command::Reserve { oid, durability },
    ]
}

fn answers() -> Vec<Answer> {
    let run = |provisioning| MappedRun { first_block: 1, blocks: 2, provisioning };
    let refusals = [
        Refused::NotServing,
        Refused::OtherPepoch { newest: Pepoch(4) },
        Refused::OldStamp,
        Refused::Late,
        Refused::OldLayout,
        Refused::Fenced,
        Refused::NoSpace,
        Refused::Unsound,
    ];
    let answers = [
        Answer::Done,
        Answer::Data(vec![Some(block(1)), None]),
        Answer::Map(vec![run(Provisioning::Mapped), run(Provisioning::Deallocated)]),
        Answer::Miscompare { offset: 3 },
        Answer::Damaged,
    ];
    answers.into_iter().chain(refusals.map(Answer::Refused)).collect()
}

fn answered(answer: Answer) -> Answered {
    Answered { id: id(12), resend: 1, answer, stamp: Stamp::NONE }
}

fn received(bytes: &[u8]) -> Frame {
    let mut decoder = Decoder::default();
    decoder.agreed(VERSION);
    decoder.feed(bytes);
    decoder.next_frame().unwrap().unwrap()
}

fn arrives<T: Framed + PartialEq + std::fmt::Debug>(sent: &T) {
    let frame = received(&Outgoing::new(partition(), sent).unwrap().to_bytes());
    assert_eq!(frame.open::<T>().as_ref().map(|(to, it)| (to, it)), Ok((&partition(), sent)));
}

#[test]
fn whatever_is_said_arrives() {
    messages().iter().for_each(arrives);
    commands().into_iter().map(request).for_each(|request| arrives(&request));
    answers().into_iter().map(answered).for_each(|answered| arrives(&answered));
}

#[test]
fn what_is_said_in_part_or_twice_is_malformed() {
    for message in messages() {
        let mut writer = Writer::new();
        partition().encode(&mut writer);
        message.encode(&mut writer);
        let (metadata, payload) = writer.into_bytes();
        for end in 0..metadata.len() {
            let cut = Reader::new(&metadata[..end], payload.clone()).whole::<(Partition, Message)>();
            assert!(cut.is_err(), "{message:?} cut at {end}");
        }
        let twice = [metadata.clone(), metadata].concat();
        let left_over = Reader::new(&twice, payload).whole::<(Partition, Message)>();
        assert!(matches!(left_over, Err(Malformed::LeftOver { .. } | Malformed::Short)), "{message:?}");
    }
}

#[test]
fn lists_are_bounded_before_there_is_room_for_them() {
    let mut writer = Writer::new();
    Pepoch(3).encode(&mut writer);
    // A reply with blocks, and how many.
    writer.code(16);
    (0u64, 0u64).encode(&mut writer);
    writer.code(8);
    u32::MAX.encode(&mut writer);
    let (metadata, payload) = writer.into_bytes();
    let error = Reader::new(&metadata, payload).whole::<Message>().unwrap_err();
    assert_eq!(
        error,
        Malformed::Long { what: "blocks", entries: u32::MAX, most: crate::record::SET_ASIDE_BLOCK + 1 }
    );
}

/// The bytes that the protocol's page shows under a heading.
fn shown(heading: &str) -> Vec<u8> {
    let page = include_str!("../../../wire/PROTOCOL.md");
    let (_, rest) = page.split_once(&format!("### {heading}\n")).expect("a heading");
    let digits: String = rest.split("```").nth(1).expect("a block").split_whitespace().collect();
    let pairs = digits.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).expect("digits"));
    pairs.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal")).collect()
}

/// What the page should show instead, if anything.
fn correction(heading: &str, frame: &Outgoing) -> Option<String> {
    let digits = |row: &[u8]| row.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    let rows: Vec<String> = frame.head.chunks(16).map(digits).collect();
    (shown(heading) != frame.head).then(|| format!("### {heading}\n{}", rows.join("\n")))
}

#[test]
fn the_bytes_of_the_first_version_stay_as_they_are() {
    let message = |body| Outgoing::new(partition(), &Message { pepoch: Pepoch(3), body }).unwrap();
    let process = Process { node: NodeId([0xb0; 16]), incarnation: Incarnation(4) };
    let from = Identity::new(ClusterId([0xc0; 16]), id(0).gateway);
    let hello = Hello { from, to: process, nonce: [0xd0; 32] };
    let done = Body::Forwarded { version: version(9), attempt: 0, credit: credit() };
    let read = request(Command::Read { oid: oid(), blocks: 0..8 });
    let data = answered(Answer::Data(vec![Some(block(0x5a)), None]));
    let corrections: Vec<String> = [
        correction("A hello", &hello.frame()),
        correction("A forwarded write", &message(forward())),
        correction("That it is logged", &message(done)),
        correction("A read", &Outgoing::new(partition(), &read).unwrap()),
        correction("What was read", &Outgoing::new(partition(), &data).unwrap()),
    ]
    .into_iter()
    .flatten()
    .collect();
    assert!(corrections.is_empty(), "{}", corrections.join("\n"));
}

#[test]
fn a_change_of_any_bytes_is_a_change_of_the_page() {
    let mut sum = 0;
    let mut add = |frame: Outgoing| sum = crc32c::crc32c_append(sum, &frame.head);
    messages().iter().for_each(|message| add(Outgoing::new(partition(), message).unwrap()));
    for command in commands() {
        add(Outgoing::new(partition(), &request(command)).unwrap());
    }
    for answer in answers() {
        add(Outgoing::new(partition(), &answered(answer)).unwrap());
    }
    assert_eq!(format!("{sum:08x}"), GOLDEN_SUM, "is it what store/wire/PROTOCOL.md says?");
}

/// Of the heads of all messages, requests and answers above.
const GOLDEN_SUM: &str = "b92da9da";
