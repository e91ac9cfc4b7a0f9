//! What comes on a connection between processes: whatever it is, it is frames or a reason to cut the connection; what a frame
//! says is said again by the same bytes; and a replica that takes it in goes on, and says nothing that cannot be sent.

use std::collections::VecDeque;
use std::sync::Arc;

use huntaway_replica::{
    Configuration, Input, Message, Moment, Outcome, Output, Page, Recovered, Replica, Stored, Vdi, Vdis,
};
use huntaway_wire::comparison::{Compare, Compared};
use huntaway_wire::frame::{Decoder, Frame, Framed, Kind, Outgoing, PREAMBLE_BYTES, VERSION};
use huntaway_wire::hello::{Caller, ClusterId, Hello, Identity, welcomed};
use huntaway_wire::progress::{AskProgress, TellProgress};
use huntaway_wire::replicated::{Answered, Relay, Relayed, Request, SyncAll, Synced};
use huntaway_wire::{ClusterKey, Incarnation, NodeId, Partition, Pepoch, Process, Vid};

/// A choice, and in how large pieces the bytes come.
const CHOICE_BYTES: usize = 2;

/// Before each frame's metadata: its kind, how many blocks of payload it has, and the length of the metadata.
const HEADER_BYTES: usize = 4;

/// A replica takes no more steps: each message asks for a few at most.
const MAX_STEPS: usize = 2_000;

/// Takes what comes on one connection.
pub fn run(bytes: &[u8]) {
    let Some((&[choice, step], bytes)) = bytes.split_first_chunk::<CHOICE_BYTES>() else { return };
    let mut decoder = Decoder::default();
    let bytes = if choice & 1 == 0 { sealed(bytes) } else { bytes.to_vec() };
    if choice & 2 == 0 {
        decoder.agreed(VERSION);
    }
    let mut receiver = Receiver::new(choice >> 2);
    for piece in bytes.chunks(1 + usize::from(step) * 16) {
        decoder.room().extend_from_slice(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => receiver.take(&frame),
                Ok(None) => break,
                Err(_) => return,
            }
        }
        assert!(decoder.waiting() <= bytes.len());
    }
}

/// Frames as their lengths and checksums should be. The n-th block of a payload is full of the byte n.
fn sealed(mut bytes: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    while let Some((&[kind, blocks, low, high], rest)) = bytes.split_first_chunk::<HEADER_BYTES>() {
        let (metadata, rest) = rest.split_at(rest.len().min(u16::from_le_bytes([low, high]).into()));
        let blocks = blocks % 8;
        let payload = usize::from(blocks) * 4096;
        let mut preamble = [b"Hw".as_slice(), &[VERSION, kind]].concat();
        preamble.extend((metadata.len() as u32).to_le_bytes());
        preamble.extend((payload as u32).to_le_bytes());
        preamble.extend(crc32c::crc32c_append(crc32c::crc32c(&preamble), metadata).to_le_bytes());
        assert_eq!(preamble.len(), PREAMBLE_BYTES);
        stream.extend(preamble);
        stream.extend(metadata);
        (1..=blocks).for_each(|number| stream.extend([number; 4096]));
        bytes = rest;
    }
    stream
}

fn process(node: u8) -> Process {
    Process { node: NodeId([node; 16]), incarnation: Incarnation(7) }
}

/// A process with a replica.
struct Receiver {
    replica: Replica,
    now: u64,
    from: Process,
}

impl Receiver {
    /// The replica is primary, or another one is.
    fn new(choice: u8) -> Self {
        let (me, from) = if choice & 1 == 0 { (1, 2) } else { (2, 1) };
        let is_learner = choice & 2 != 0;
        let vid = |number| Vid::new(number).expect("a small number");
        let vdi = |parent| Vdi {
            parent,
            layout: 2,
            fence: 1,
            is_frozen: false,
            is_deleted: false,
            hold: None,
            holds_reads: false,
        };
        let (in_sync, candidates) = if is_learner {
            (vec![process(1)], vec![process(2)])
        } else {
            (vec![process(1), process(2)], Vec::new())
        };
        let configuration = Configuration {
            pepoch: Pepoch(3),
            in_sync,
            doubtful: Vec::new(),
            damaged: Vec::new(),
            failed: Vec::new(),
            is_lost: false,
            primary: process(1).node,
            candidates,
            keepers: vec![process(1).node, process(2).node],
            copies: 2,
            min_copies: 1,
            gateways: vec![Process { node: NodeId([0xa0; 16]), incarnation: Incarnation(7) }],
            vdis: Arc::new(Vdis::from_iter([(vid(0x2b), vdi(None)), (vid(0x2c), vdi(Some(vid(0x2b))))])),
        };
        let partition = Partition::new(0x123).expect("a small number");
        let replica = Replica::new(partition, process(me), Moment(0), Recovered::default());
        let mut receiver = Self { replica, now: 1, from: process(from) };
        receiver.steps(Input::Configured(Arc::new(configuration)));
        receiver.now = 10_000_000;
        receiver.steps(Input::LedgerLease { until: Moment(1 << 40) });
        if is_learner {
            receiver.steps(Input::Teach { learner: process(2), bytes_per_second: 1 << 20 });
        }
        receiver.steps(Input::Tick);
        receiver
    }

    fn take(&mut self, frame: &Frame) {
        match frame.kind {
            Kind::Hello | Kind::Welcome | Kind::Rejection | Kind::Challenge | Kind::Proof => greet(frame),
            Kind::Message => {
                if let Some(message) = again::<Message>(frame) {
                    self.steps(Input::Received { from: self.from, message });
                }
            }
            Kind::Request => {
                if let Some(request) = again::<Request>(frame) {
                    self.steps(Input::Requested(request));
                }
            }
            Kind::Relay => {
                if let Some(relay) = again::<Relay>(frame) {
                    self.steps(Input::Requested(relay.request));
                }
            }
            Kind::Answer => {
                again::<Answered>(frame);
            }
            Kind::Relayed => {
                again::<Relayed>(frame);
            }
            Kind::SyncAll => of_process_again::<SyncAll>(frame),
            Kind::Synced => of_process_again::<Synced>(frame),
            Kind::Compare => of_process_again::<Compare>(frame),
            Kind::Compared => of_process_again::<Compared>(frame),
            Kind::AskProgress => of_process_again::<AskProgress>(frame),
            Kind::TellProgress => of_process_again::<TellProgress>(frame),
        }
    }

    /// What the replica wants is done at once, by a store that has nothing.
    fn steps(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        for _ in 0..MAX_STEPS {
            let Some(input) = inputs.pop_front() else { return };
            self.now += 10;
            for output in self.replica.step(Moment(self.now), input) {
                inputs.extend(self.done(output));
            }
        }
    }

    fn done(&self, output: Output) -> Option<Input> {
        let partition = self.replica.partition();
        let (ticket, outcome) = match output {
            Output::Log { ticket, .. } | Output::Sync { ticket } => (ticket, Outcome::Done),
            Output::Read { ticket, blocks, .. } => {
                // The last one stands for the space that is set aside.
                assert!(blocks.start < blocks.end && blocks.end <= 1025, "no blocks of an object");
                (ticket, Outcome::Blocks(vec![Stored::default(); blocks.len()]))
            }
            Output::Digests { ticket, .. } => {
                (ticket, Outcome::Digests(Page { objects: Vec::new(), is_last: true }))
            }
            Output::Versions { ticket, .. } => (ticket, Outcome::Versions(Vec::new())),
            Output::Verify { ticket, .. } => (ticket, Outcome::Verified(Vec::new())),
            Output::Send { message, .. } => {
                Outgoing::new(partition, &message).expect("what is said can be sent");
                return None;
            }
            Output::Answer { id, resend, answer, stamp } => {
                let answered = Answered { id, resend, answer, stamp };
                Outgoing::new(partition, &answered).expect("what is answered can be sent");
                return None;
            }
            Output::Propose(_) | Output::GaveUp { .. } | Output::Held { .. } => return None,
        };
        Some(Input::Stored { ticket, outcome })
    }
}

fn greet(frame: &Frame) {
    let (ours, key, nonce) =
        (Identity::new(ClusterId([0xc0; 16]), process(1)), ClusterKey::new([0xe0; 32]), [0xd0; 32]);
    if let Ok(caller) = Caller::of(frame) {
        match caller.challenge(ours, &key, nonce) {
            Ok(challenged) => assert!(challenged.proved(ours, frame).is_err(), "a hello is no proof"),
            Err(rejection) => assert!(!rejection.to_string().is_empty()),
        }
    }
    let call = Hello { from: ours, to: process(2), nonce };
    for told in [call.challenged(&key, frame).map(drop), welcomed(frame)] {
        if let Err(why) = told {
            assert!(!why.to_string().is_empty());
        }
    }
}

/// What the frame says, if it says something; and that is said by the same bytes, but for those of requests that nobody remembers.
fn again<T: Framed + PartialEq + std::fmt::Debug>(frame: &Frame) -> Option<T> {
    let (partition, said) = frame.open::<T>().ok()?;
    let sent = Outgoing::new(partition, &said).expect("what came can be sent");
    assert!(sent.length() <= frame.length());
    let mut decoder = Decoder::default();
    decoder.agreed(VERSION);
    decoder.feed(&sent.to_bytes());
    let frame = decoder.next_frame().expect("a frame").expect("a whole one");
    assert_eq!(frame.open::<T>(), Ok((partition, said)));
    frame.open().ok().map(|(_, said)| said)
}

/// What is of no partition, sent again as it came.
fn of_process_again<T: Framed + PartialEq + std::fmt::Debug>(frame: &Frame) {
    let Ok(said) = frame.open_of_process::<T>() else { return };
    let sent = Outgoing::of_process(&said).expect("what came can be sent");
    let mut decoder = Decoder::default();
    decoder.agreed(VERSION);
    decoder.feed(&sent.to_bytes());
    let frame = decoder.next_frame().expect("a frame").expect("a whole one");
    assert_eq!(frame.open_of_process::<T>(), Ok(said));
}
