//! A learner counts as in sync only when it has on stable storage whatever may have been flushed without it.

mod support;

use std::sync::Arc;

use bytes::Bytes;
use huntaway_replica::{
    Answer, Attempt, Block, Body, Command, Completion, Configuration, Credit, Input, Known, Lesson, Message,
    Moment, Outcome, Output, Page, Process, Recovered, Replica, Reply, Request, RequestId, SetChange, Stored,
};
use huntaway_wire::{
    BLOCK_SIZE_BYTES, ByteRange, Durability, Incarnation, NodeId, ObjectKind, Oid, Partition, Pepoch, Stamp,
    Version,
};
use support::{GATEWAY, configuration, vid};

const PRIMARY: Process = Process { node: NodeId([1; 16]), incarnation: Incarnation(1) };
const LEARNER: Process = Process { node: NodeId([2; 16]), incarnation: Incarnation(1) };
const PEPOCH: Pepoch = Pepoch(4);

/// The only replica of a partition, which has a candidate to teach, and a store that does at once what it is asked for.
struct Teacher {
    replica: Replica,
    now: Moment,
    requests: u64,
}

impl Teacher {
    /// It serves, and knows of nobody to teach.
    fn alone() -> Self {
        let start = Moment(1_000_000);
        let partition = Partition::new(7).expect("there are more");
        let replica = Replica::new(partition, PRIMARY, start, Recovered::default());
        // What the process before it granted has run out.
        let mut teacher = Self { replica, now: start.after(700_000), requests: 0 };
        teacher.step(Input::LedgerLease { until: teacher.now.after(60_000_000) });
        teacher.configure(Vec::new());
        teacher
    }

    /// It serves, and has asked the learner to begin.
    fn new() -> Self {
        let mut teacher = Self::alone();
        teacher.configure(vec![LEARNER]);
        let outputs = teacher.tick();
        assert!(matches!(asked(&outputs)[..], [(_, 1, Lesson::Begin { .. })]), "{outputs:?}");
        teacher
    }

    fn configure(&mut self, candidates: Vec<Process>) -> Vec<Output> {
        let configuration = Configuration { candidates, ..configuration(PEPOCH, &[PRIMARY]) };
        self.step(Input::Configured(Arc::new(configuration)))
    }

    fn step(&mut self, input: Input) -> Vec<Output> {
        let mut outputs = self.replica.step(self.now, input);
        let mut done = 0;
        while done < outputs.len() {
            let outcome = match &outputs[done] {
                Output::Log { ticket, .. } | Output::Sync { ticket } => Some((*ticket, Outcome::Done)),
                Output::Digests { ticket, .. } => Some((*ticket, Outcome::Digests(nothing()))),
                _ => None,
            };
            done += 1;
            if let Some((ticket, outcome)) = outcome {
                outputs.extend(self.replica.step(self.now, Input::Stored { ticket, outcome }));
            }
        }
        outputs
    }

    fn tick(&mut self) -> Vec<Output> {
        self.now = self.now.after(150_000);
        let mut outputs = self.step(Input::Tick);
        outputs.extend(self.step(Input::Teach { learner: LEARNER, bytes_per_second: 1 << 20 }));
        outputs
    }

    fn hears(&mut self, body: Body) -> Vec<Output> {
        self.step(Input::Received { from: LEARNER, message: Message { pepoch: PEPOCH, body } })
    }

    fn request(&mut self, command: Command) -> Vec<Output> {
        let request = self.next_request(command);
        self.step(Input::Requested(request))
    }

    fn next_request(&mut self, command: Command) -> Request {
        self.requests += 1;
        let clock = std::time::Duration::from_micros(self.now.0);
        Request {
            id: RequestId { gateway: GATEWAY, number: self.requests },
            resend: 1,
            unanswered_from: self.requests,
            pepoch: PEPOCH,
            stamp: Stamp { incarnation: PRIMARY.incarnation, clock },
            layout: 1,
            fence: 1,
            command,
        }
    }

    /// Writes the beginning of a block.
    fn write_bytes(&mut self, bytes: u32) -> Vec<Output> {
        self.write_bytes_to(0, bytes)
    }

    /// Writes a block of an object.
    fn write_to(&mut self, object: u32) -> Vec<Output> {
        self.write_bytes_to(object, BLOCK_SIZE_BYTES)
    }

    fn write_bytes_to(&mut self, object: u32, bytes: u32) -> Vec<Output> {
        let block = Block::new(Bytes::from(vec![1; bytes as usize]));
        self.request(Command::Write {
            oid: Oid::new(ObjectKind::Data, vid(), object),
            range: ByteRange::new(0, bytes).expect("within the first block"),
            pieces: vec![block],
            durability: Durability::Logged,
        })
    }

    fn write(&mut self) -> Vec<Output> {
        self.write_to(0)
    }
}

fn nothing() -> Page {
    Page { objects: Vec::new(), is_last: true }
}

/// The lessons that the learner is asked to do.
fn asked(outputs: &[Output]) -> Vec<(Attempt, u64, Lesson)> {
    let lesson = |output: &Output| match output {
        Output::Send { to: LEARNER, message } => match &message.body {
            Body::Ask { attempt, step, lesson } => Some((*attempt, *step, lesson.clone())),
            _ => None,
        },
        _ => None,
    };
    outputs.iter().filter_map(lesson).collect()
}

/// The writes that are sent to the learner.
fn forwarded(outputs: &[Output]) -> Vec<u32> {
    let seq = |output: &Output| match output {
        Output::Send { to: LEARNER, message } => match &message.body {
            Body::Forward { record, .. } => Some(record.version.seq),
            _ => None,
        },
        _ => None,
    };
    outputs.iter().filter_map(seq).collect()
}

fn is_done(outputs: &[Output]) -> bool {
    outputs.iter().any(|output| matches!(output, Output::Answer { answer: Answer::Done, .. }))
}

fn is_proposed(outputs: &[Output]) -> bool {
    let promotes = |output: &Output| matches!(output, Output::Propose(proposal) if proposal.change == SetChange::Promote(LEARNER));
    outputs.iter().any(promotes)
}

/// What a request came to is known when its record is made, which may be long after its turn came. A learner that was told of the requests
/// before that would carry it out again as a primary.
#[test]
fn a_learner_is_told_of_requests_whose_turn_came_before_it_took_part() {
    let mut teacher = Teacher::alone();
    // A part of a block: what is there has to be read first, which takes its time.
    let begun = teacher.write_bytes(512);
    let [Output::Read { ticket, .. }] = begun[..] else { panic!("{begun:?}") };
    assert_eq!(asked(&teacher.configure(vec![LEARNER])), []);
    assert_eq!(asked(&teacher.tick()), []);
    let read = Input::Stored { ticket, outcome: Outcome::Blocks(vec![Stored::default()]) };
    assert!(is_done(&teacher.step(read)));

    let lessons = asked(&teacher.tick());
    let [(_, 1, Lesson::Begin { requests, settled })] = &lessons[..] else { panic!("{lessons:?}") };
    assert_eq!(*settled, Version { pepoch: PEPOCH.0, seq: 1 });
    let request = RequestId { gateway: GATEWAY, number: 1 };
    assert_eq!(requests.known(request), Known::Done(Completion::Done));
}

#[test]
fn a_learner_syncs_when_it_has_what_was_held_back_and_flushed_without_it() {
    let mut teacher = Teacher::new();
    let attempt = 1;
    let reply = |step, reply| Body::Reply { attempt, step, reply };
    let credit = Credit::ENDLESS;
    let logged = |seq| Body::Forwarded { version: Version { pepoch: PEPOCH.0, seq }, attempt, credit };
    teacher.hears(Body::Granted { sent: teacher.now, credit, attempt: 1 });
    let listing = asked(&teacher.hears(reply(1, Reply::Done)));
    let [(_, step, Lesson::Digests { .. })] = listing[..] else { panic!("{listing:?}") };

    // Two writes to one block, and a flush, are done without it; the second write waits for the first one.
    let first = teacher.write();
    assert!(is_done(&first));
    assert_eq!(forwarded(&first), [1]);
    let second = teacher.write();
    assert!(is_done(&second));
    assert_eq!(forwarded(&second), [0; 0]);
    assert!(is_done(&teacher.request(Command::Flush)));

    // It has the same objects, and syncs, so that it is admitted: but it has neither write.
    let compared = teacher.hears(reply(step, Reply::Digests(nothing())));
    assert_eq!(asked(&compared), [(attempt, step + 1, Lesson::Sync)]);
    assert_eq!(asked(&teacher.hears(reply(step + 1, Reply::Done))), []);
    let after_first = teacher.hears(logged(1));
    assert_eq!((forwarded(&after_first), asked(&after_first)), (vec![2], vec![]));

    // Now it has both; what it syncs from here on is all that was flushed.
    let after_second = teacher.hears(logged(2));
    assert_eq!(asked(&after_second), [(attempt, step + 2, Lesson::Sync)]);
    let granted = Body::Granted { sent: teacher.now, credit, attempt: 1 };
    assert!(!is_proposed(&after_second) && !is_proposed(&teacher.hears(granted)));
    assert!(is_proposed(&teacher.hears(reply(step + 2, Reply::Done))));
}

/// A write whose turn came first may have its record last. It is the first that the learner is given: if it counted as what comes
/// after the others, a learner with little room would be given nothing, and so promise nothing more.
#[test]
fn a_learner_with_room_for_one_write_is_given_the_first_although_others_were_done_before() {
    let mut teacher = Teacher::new();
    let reply = |step, reply| Body::Reply { attempt: 1, step, reply };
    let room_for = |writes: u64| Credit { limit_bytes: writes * 5000, ..Credit::ENDLESS };
    teacher.hears(reply(1, Reply::Done));
    // What is there has to be read first.
    let begun = teacher.write_bytes_to(0, 512);
    let [Output::Read { ticket, .. }] = begun[..] else { panic!("{begun:?}") };
    assert!(is_done(&teacher.write_to(1)));
    let read = Input::Stored { ticket, outcome: Outcome::Blocks(vec![Stored::default()]) };
    assert!(is_done(&teacher.step(read)));

    let granted = Body::Granted { sent: teacher.now, credit: room_for(1), attempt: 1 };
    assert_eq!(forwarded(&teacher.hears(granted)), [1]);
    let version = Version { pepoch: PEPOCH.0, seq: 1 };
    let logged = Body::Forwarded { version, attempt: 1, credit: room_for(2) };
    assert_eq!(forwarded(&teacher.hears(logged)), [2]);
}

/// What it was taught may be much, and takes its time: neither clients nor the learner suffer from that.
#[test]
fn nobody_waits_for_a_learner_to_store_what_it_was_taught() {
    let mut teacher = Teacher::new();
    let reply = |step, reply| Body::Reply { attempt: 1, step, reply };
    teacher.hears(reply(1, Reply::Done));
    let compared = asked(&teacher.hears(reply(2, Reply::Digests(nothing()))));
    assert_eq!(compared, [(1, 3, Lesson::Sync)]);
    for _ in 0..100 {
        let granted = Body::Granted { sent: teacher.now, credit: Credit::ENDLESS, attempt: 1 };
        teacher.hears(granted);
        let lessons = asked(&teacher.tick());
        assert!(lessons.iter().all(|lesson| *lesson == (1, 3, Lesson::Sync)), "{lessons:?}");
    }
    assert!(is_done(&teacher.request(Command::Flush)));
    assert_eq!(asked(&teacher.hears(reply(3, Reply::Done))), [(1, 4, Lesson::Sync)]);
    assert!(!is_done(&teacher.request(Command::Flush)));
}

/// It is compared with what others write to just now, or has no room, or the primary's store is slow: it is not to blame.
#[test]
fn a_learner_that_waits_for_others_is_not_given_up() {
    let mut teacher = Teacher::new();
    let reply = |step, reply| Body::Reply { attempt: 1, step, reply };
    teacher.hears(reply(1, Reply::Done));
    // It has room for no write, so none is sent to it; then its log is used again.
    assert_eq!(forwarded(&teacher.write()), [0; 0]);
    let credit = Credit { limit_bytes: 0, ..Credit::ENDLESS };
    let mut listed = teacher.hears(reply(2, Reply::Digests(nothing())));
    listed.extend(teacher.hears(reply(3, Reply::Done)));
    for _ in 0..50 {
        let granted = Body::Granted { sent: teacher.now, credit, attempt: 1 };
        listed.extend(teacher.hears(granted));
        listed.extend(teacher.tick());
    }
    let lessons = asked(&listed);
    assert!(lessons.iter().all(|(_, _, lesson)| *lesson == Lesson::Sync), "{lessons:?}");
    let granted = Body::Granted { sent: teacher.now, credit: Credit::ENDLESS, attempt: 1 };
    assert_eq!(forwarded(&teacher.hears(granted)), [1]);
    let silent: Vec<_> = (0..50).flat_map(|_| asked(&teacher.tick())).collect();
    let begins = |(attempt, _, lesson): &(Attempt, u64, Lesson)| {
        *attempt == 2 && matches!(lesson, Lesson::Begin { .. })
    };
    assert!(silent.iter().any(begins), "now it has room, and takes nothing");
}

#[test]
fn a_flush_waits_for_a_learner_from_its_admission_on() {
    let mut teacher = Teacher::new();
    let reply = |step, reply| Body::Reply { attempt: 1, step, reply };
    teacher.hears(reply(1, Reply::Done));
    teacher.hears(reply(2, Reply::Digests(nothing())));
    assert!(matches!(asked(&teacher.hears(reply(3, Reply::Done)))[..], [(1, 4, Lesson::Sync)]));
    let flush = teacher.request(Command::Flush);
    assert!(!is_done(&flush));
    let number = flush.iter().find_map(|output| match output {
        Output::Send { message: Message { body: Body::Flush { number }, .. }, .. } => Some(*number),
        _ => None,
    });
    let number = number.expect("the learner is asked to flush");
    assert!(is_done(&teacher.hears(Body::Flushed { number })));
}

/// A driver that does not say that its disk failed: nothing that was given to the log is taken for logged.
#[test]
fn a_log_that_fails_ends_the_replica() {
    let mut teacher = Teacher::alone();
    let block = Block::new(Bytes::from(vec![1; BLOCK_SIZE_BYTES as usize]));
    let write = Command::Write {
        oid: Oid::new(ObjectKind::Data, vid(), 0),
        range: ByteRange::new(0, BLOCK_SIZE_BYTES).expect("the first block"),
        pieces: vec![block],
        durability: Durability::Logged,
    };
    let request = teacher.next_request(write);
    let logs = teacher.replica.step(teacher.now, Input::Requested(request));
    let [Output::Log { ticket, .. }] = logs[..] else { panic!("{logs:?}") };
    let failed = teacher.step(Input::Stored { ticket, outcome: Outcome::Failed });
    assert!(!is_done(&failed) && !teacher.replica.is_serving());
    let says_so = |output: &Output| matches!(output, Output::Propose(proposal) if proposal.change == SetChange::Failed(PRIMARY));
    assert!(failed.iter().any(says_so), "{failed:?}");
}

/// A learner that answers beacons, or acknowledges writes, and not what it is asked keeps nothing locked.
#[test]
fn a_learner_that_does_not_answer_a_lesson_is_given_up() {
    let mut teacher = Teacher::new();
    let mut begins = 0;
    for _ in 0..40 {
        let granted = Body::Granted { sent: teacher.now, credit: Credit::ENDLESS, attempt: 1 };
        teacher.hears(granted);
        let attempts = asked(&teacher.tick()).into_iter().map(|(attempt, ..)| attempt);
        begins = attempts.max().unwrap_or(0).max(begins);
    }
    assert_eq!(begins, 2, "it is silent for 3 seconds in each attempt");
}

/// A write that is to be on stable storage is logged, and then synced: what the sync says is nothing if the log failed.
#[test]
fn a_sync_does_not_make_up_for_a_log_that_failed() {
    let mut teacher = Teacher::alone();
    let write = Command::Write {
        oid: Oid::new(ObjectKind::Data, vid(), 0),
        range: ByteRange::new(0, BLOCK_SIZE_BYTES).expect("the first block"),
        pieces: vec![Block::new(Bytes::from(vec![1; BLOCK_SIZE_BYTES as usize]))],
        durability: Durability::Stable,
    };
    let request = teacher.next_request(write);
    let stores = teacher.replica.step(teacher.now, Input::Requested(request));
    let [Output::Log { ticket: log, .. }, Output::Sync { ticket: sync }] = stores[..] else {
        panic!("{stores:?}")
    };
    let failed = teacher.step(Input::Stored { ticket: log, outcome: Outcome::Failed });
    let synced = teacher.step(Input::Stored { ticket: sync, outcome: Outcome::Done });
    assert!(!is_done(&failed) && !is_done(&synced) && !teacher.replica.is_serving());
}

/// A learner that answers beacons and lessons, and takes no write that it was sent before others wait for it.
#[test]
fn a_learner_that_takes_no_writes_is_given_up() {
    let mut teacher = Teacher::new();
    let reply = |step, reply| Body::Reply { attempt: 1, step, reply };
    teacher.hears(Body::Granted { sent: teacher.now, credit: Credit::ENDLESS, attempt: 1 });
    teacher.hears(reply(1, Reply::Done));
    assert!(is_done(&teacher.write()));
    // From here on each write waits for it.
    teacher.hears(reply(2, Reply::Digests(nothing())));
    assert_eq!(asked(&teacher.hears(reply(3, Reply::Done))), []);
    assert!(!is_done(&teacher.write_to(1)));
    let mut answered = 0;
    for tick in 1..40 {
        let credit = Credit::ENDLESS;
        teacher.hears(Body::Granted { sent: teacher.now, credit, attempt: 1 });
        if is_done(&teacher.tick()) {
            answered = tick;
            break;
        }
    }
    assert!((20..24).contains(&answered), "the write is answered after {answered} ticks");
}

/// What a learner is to flush, it flushes, or it is given up.
#[test]
fn a_learner_that_flushes_nothing_is_given_up() {
    let mut teacher = Teacher::new();
    let reply = |step, reply| Body::Reply { attempt: 1, step, reply };
    teacher.hears(reply(1, Reply::Done));
    teacher.hears(reply(2, Reply::Digests(nothing())));
    teacher.hears(reply(3, Reply::Done));
    assert!(!is_done(&teacher.request(Command::Flush)));
    let is_answered = (0..40).any(|_| {
        let credit = Credit::ENDLESS;
        teacher.hears(Body::Granted { sent: teacher.now, credit, attempt: 1 });
        is_done(&teacher.tick())
    });
    assert!(is_answered);
}
