//! What a forwarded write of 4 KiB and its acknowledgement cost on the wire: made into bytes, and made of them again.
//!
//! `cargo bench -p huntaway-replica --bench wire`. Of many rounds the fastest counts: the others share the processor with
//! somebody. Sockets are not part of it, nor is the block's checksum, which the replica verifies in any case.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use huntaway_replica::{Block, Body, Change, Completion, Credit, Message, Process, Record, RequestId};
use huntaway_wire::frame::{Decoder, Outgoing, VERSION};
use huntaway_wire::{Durability, Incarnation, NodeId, ObjectKind, Oid, Partition, Pepoch, Version, Vid};

/// Frames of one round: as many as one read from a socket brings.
const FRAMES: u32 = 15;

const ROUNDS: u32 = 20_000;

/// What making both messages into bytes and of bytes again may take, in nanoseconds.
const AIM_NS: f64 = 1000.0;

fn forward() -> Message {
    let version = Version { pepoch: 3, seq: 9 };
    let gateway = Process { node: NodeId([7; 16]), incarnation: Incarnation(7) };
    let blocks = vec![Some(Block::new(Bytes::from(vec![0x5a; 4096])))];
    let record = Arc::new(Record {
        version,
        oid: Oid::new(ObjectKind::Data, Vid::MAX, 5),
        change: Change::Write { first_block: 1, blocks },
        completion: Completion::Done,
        request: Some(RequestId { gateway, number: 12 }),
        unanswered_from: 11,
        durability: Durability::Logged,
    });
    Message { pepoch: Pepoch(3), body: Body::Forward { record, settled: version, attempt: 0 } }
}

fn forwarded() -> Message {
    let version = Version { pepoch: 3, seq: 9 };
    let body = Body::Forwarded { version, attempt: 0, credit: Credit::ENDLESS };
    Message { pepoch: Pepoch(3), body }
}

fn encoded(message: &Message) -> Outgoing {
    let partition = Partition::new(77).expect("a small number");
    Outgoing::new(partition, black_box(message)).expect("a short frame")
}

/// Nanoseconds for each frame, of the fastest round; `prepare` is not counted.
fn fastest<T>(mut prepare: impl FnMut() -> T, mut round: impl FnMut(&mut T)) -> f64 {
    let mut timed = || {
        let mut prepared = prepare();
        let begun = Instant::now();
        round(&mut prepared);
        begun.elapsed()
    };
    let fastest = (0..ROUNDS).map(|_| timed()).min().unwrap_or(Duration::ZERO);
    fastest.as_nanos() as f64 / f64::from(FRAMES)
}

fn encode_ns(message: &Message) -> f64 {
    let room = || Vec::with_capacity(FRAMES as usize);
    fastest(room, |frames| frames.extend((0..FRAMES).map(|_| encoded(message))))
}

fn decode_ns(message: &Message) -> f64 {
    let bytes = encoded(message).to_bytes();
    let received = || {
        let mut decoder = Decoder::default();
        decoder.agreed(VERSION);
        decoder.room();
        (0..FRAMES).for_each(|_| decoder.feed(&bytes));
        (decoder, Vec::with_capacity(FRAMES as usize))
    };
    fastest(received, |(decoder, messages)| {
        while let Ok(Some(frame)) = decoder.next_frame() {
            messages.push(frame.open::<Message>().expect("a message"));
        }
        assert_eq!(messages.len(), FRAMES as usize);
    })
}

fn main() {
    let mut total = 0.0;
    for (name, message) in [("forward of 4 KiB", forward()), ("its acknowledgement", forwarded())] {
        let (encode, decode) = (encode_ns(&message), decode_ns(&message));
        println!("{name}: {encode:.0} ns to encode, {decode:.0} ns to decode");
        total += encode + decode;
    }
    println!("both, there and back: {total:.0} ns, where {AIM_NS} are the aim");
    let Body::Forward { record, .. } = forward().body else { return };
    let verify = fastest(|| (), |()| (0..FRAMES).for_each(|_| assert!(black_box(&record).is_sound())));
    println!("for comparison, to verify the block: {verify:.0} ns");
}
