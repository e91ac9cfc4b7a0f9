//! Promise: what travels between processes arrives whole or not at all, at the process that was meant, and nobody on the other
//! side of a connection can hang, fill or confuse this one. Over loopback, with ports that the kernel picks.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use huntaway_wire::encoding::Malformed;
use huntaway_wire::frame::{Decoder, Frame, Outgoing};
use huntaway_wire::hello::{Caller, ClusterId, Hello, Identity, Why, welcomed};
use huntaway_wire::link::{Acceptor, Cut, Inbox, Link, MAX_QUEUED_BYTES, MAX_UNPROVED, Outbox, Status};
use huntaway_wire::replicated::{Answer, Answered, Block, RequestId};
use huntaway_wire::{ClusterKey, Incarnation, NodeId, Partition, Process, Stamp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{interval, timeout};

const DEADLINE: Duration = Duration::from_secs(30);

fn process(node: u8, incarnation: u64) -> Process {
    Process { node: NodeId([node; 16]), incarnation: Incarnation(incarnation) }
}

fn identity(node: u8, incarnation: u64) -> Identity {
    Identity::new(ClusterId([1; 16]), process(node, incarnation))
}

fn key() -> ClusterKey {
    ClusterKey::new([7; 32])
}

fn linked(ours: Identity, to: Process, address: SocketAddr, inbox: Arc<dyn Inbox>) -> Link {
    Link::new(ours, key(), to, address, inbox)
}

fn call(ours: Identity, to: Process) -> Hello {
    Hello { from: ours, to, nonce: [1; 32] }
}

/// A frame with a number, and so many blocks.
fn frame(number: u64, blocks: usize) -> Outgoing {
    let partition = Partition::new(3).expect("there are 4096");
    let id = RequestId { gateway: process(9, 9), number };
    let answer = Answer::Data(vec![Some(Block::new(Bytes::from(vec![number as u8; 4096]))); blocks]);
    let answered = Answered { id, resend: 0, answer, stamp: Stamp::NONE };
    Outgoing::new(partition, &answered).expect("it is short")
}

/// Keeps who sent which numbers, and sends some back if it is told to.
#[derive(Default)]
struct Kept {
    came: Mutex<VecDeque<(Process, u64)>>,
    filled: Notify,
    returns: bool,
}

impl Inbox for Kept {
    fn take(&self, from: Process, frame: Frame, back: &Outbox) -> Result<(), Malformed> {
        let (_, answered) = frame.open::<Answered>()?;
        let Answer::Data(blocks) = &answered.answer else { panic!("another answer") };
        let number = answered.id.number;
        if !blocks.iter().flatten().all(Block::is_sound) {
            return Ok(());
        }
        self.came().push_back((from, number));
        self.filled.notify_one();
        if self.returns {
            back.send(self::frame(number + 1000, 1));
        }
        Ok(())
    }
}

impl Kept {
    async fn next(&self) -> (Process, u64) {
        timeout(DEADLINE, async {
            loop {
                if let Some(next) = self.came().pop_front() {
                    return next;
                }
                self.filled.notified().await;
            }
        })
        .await
        .expect("a frame comes")
    }

    fn is_empty(&self) -> bool {
        self.came().is_empty()
    }

    fn came(&self) -> MutexGuard<'_, VecDeque<(Process, u64)>> {
        self.came.lock().expect("nobody panics meanwhile")
    }
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

async fn serve(ours: Identity) -> (Arc<Kept>, SocketAddr, JoinHandle<()>) {
    let (listener, address) = listener().await;
    let kept = Arc::new(Kept { returns: true, ..Kept::default() });
    let task = tokio::spawn(Acceptor::new(ours, key(), kept.clone()).serve(listener));
    (kept, address, task)
}

/// Waits until the link is as told.
async fn until(link: &Link, is: impl Fn(&Status) -> bool) -> Status {
    let mut status = link.status();
    let found = timeout(DEADLINE, status.wait_for(is)).await.expect("in time").expect("a link");
    found.clone()
}

async fn cut_of(link: &Link, is: impl Fn(&Cut) -> bool) -> String {
    match until(link, |status| matches!(status, Status::Cut(cut) if is(cut))).await {
        Status::Cut(cut) => cut.to_string(),
        other => panic!("{other:?}"),
    }
}

fn is_connected(status: &Status) -> bool {
    matches!(status, Status::Connected(_))
}

/// One that does as it pleases, after a hello.
async fn stranger(hello: Hello, address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("somebody listens");
    stream.write_all(&hello.frame().to_bytes()).await.expect("a hello is taken");
    let challenge = read_frame(&mut stream).await.expect("an answer");
    let (proof, _) = hello.challenged(&key(), &challenge).expect("a challenge");
    stream.write_all(&proof.to_bytes()).await.expect("a proof is taken");
    welcomed(&read_frame(&mut stream).await.expect("an answer")).expect("a welcome");
    stream
}

/// Takes a connection, and says that it is who was meant.
async fn welcome(listener: &TcpListener, ours: Identity) -> TcpStream {
    let (mut stream, _) = timeout(DEADLINE, listener.accept()).await.expect("a call").expect("a connection");
    let caller = Caller::of(&read_frame(&mut stream).await.expect("a hello")).expect("a hello");
    let challenged = caller.challenge(ours, &key(), [2; 32]).expect("it is meant");
    stream.write_all(&challenged.challenge.to_bytes()).await.expect("a challenge is taken");
    let proof = read_frame(&mut stream).await.expect("a proof");
    challenged.proved(ours, &proof).expect("it has the key");
    stream.write_all(&ours.welcome().to_bytes()).await.expect("a welcome is taken");
    stream
}

async fn read_frame(stream: &mut TcpStream) -> Option<Frame> {
    let mut decoder = Decoder::default();
    loop {
        if let Some(frame) = decoder.next_frame().expect("a frame") {
            return Some(frame);
        }
        if timeout(DEADLINE, stream.read_buf(decoder.room())).await.ok()?.ok()? == 0 {
            return None;
        }
    }
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut bytes = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut bytes)).await.is_ok()
}

#[tokio::test]
async fn frames_arrive_in_order_and_answers_come_back() {
    let (kept, address, _task) = serve(identity(2, 6)).await;
    let back = Arc::new(Kept::default());
    let link = linked(identity(1, 5), process(2, 6), address, back.clone());
    for number in 0..200 {
        assert!(link.outbox().send(frame(number, number as usize % 70)));
    }
    for number in 0..200 {
        assert_eq!(kept.next().await, (process(1, 5), number));
        assert_eq!(back.next().await, (process(2, 6), number + 1000));
    }
    assert_eq!(link.outbox().dropped(), 0);
}

#[tokio::test]
async fn what_is_cut_in_the_middle_of_a_frame_does_not_count() {
    let (kept, address, _task) = serve(identity(2, 6)).await;
    let hello = call(identity(1, 5), process(2, 6));
    let mut stream = stranger(hello, address).await;
    let bytes = [frame(1, 2).to_bytes(), frame(2, 2).to_bytes()].concat();
    stream.write_all(&bytes[..bytes.len() - 1]).await.expect("it is taken");
    drop(stream);
    assert_eq!(kept.next().await, (process(1, 5), 1));

    let link = linked(identity(1, 5), process(2, 6), address, Arc::new(Kept::default()));
    assert!(link.outbox().send(frame(3, 1)));
    assert_eq!(kept.next().await, (process(1, 5), 3));
}

#[tokio::test]
async fn a_link_that_is_cut_is_made_again() {
    let (listener, address) = listener().await;
    let link = linked(identity(1, 5), process(2, 6), address, Arc::new(Kept::default()));
    for _ in 0..3 {
        let mut stream = welcome(&listener, identity(2, 6)).await;
        until(&link, is_connected).await;
        stream.write_all(&frame(1, 1).to_bytes()[..100]).await.expect("it is taken");
        drop(stream);
        cut_of(&link, |_| true).await;
    }
}

#[tokio::test]
async fn who_sends_garbage_is_cut() {
    let (kept, address, _task) = serve(identity(2, 6)).await;
    let mut stream = TcpStream::connect(address).await.expect("somebody listens");
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("it is taken");
    assert!(is_closed(&mut stream).await);

    let hello = call(identity(1, 5), process(2, 6));
    let mut damaged = frame(1, 1).to_bytes().to_vec();
    damaged[20] ^= 1;
    for garbage in [damaged, hello.frame().to_bytes().to_vec(), vec![0xff; 100]] {
        let mut stream = stranger(hello, address).await;
        stream.write_all(&garbage).await.expect("it is taken");
        assert!(is_closed(&mut stream).await);
    }
    assert!(kept.is_empty());

    let (listener, address) = listener().await;
    let link = linked(identity(1, 5), process(2, 6), address, Arc::new(Kept::default()));
    let mut stream = welcome(&listener, identity(2, 6)).await;
    stream.write_all(b"220 mail.example ESMTP\r\n").await.expect("it is taken");
    let why = cut_of(&link, |cut| matches!(cut, Cut::Garbage(_))).await;
    assert!(why.contains("something else"), "{why}");
}

#[tokio::test]
async fn who_does_not_read_takes_no_more_than_its_share() {
    let (listener, address) = listener().await;
    let link = linked(identity(1, 5), process(2, 6), address, Arc::new(Kept::default()));
    let mut stream = welcome(&listener, identity(2, 6)).await;
    until(&link, is_connected).await;
    let big = frame(1, 256);
    let mut sent = 0;
    while link.outbox().send(big.clone()) {
        sent += 1;
        tokio::task::yield_now().await;
        assert!(sent < 200, "what nobody reads waits without end");
    }
    assert!(link.outbox().waiting_bytes() <= MAX_QUEUED_BYTES && link.outbox().dropped() == 1);
    // When it goes on, so does the rest.
    let mut bytes = vec![0; big.length() * sent];
    timeout(DEADLINE, stream.read_exact(&mut bytes)).await.expect("in time").expect("all that was taken");
    assert!(link.outbox().send(frame(2, 1)));
}

/// Longer than it takes to find out that a machine is gone whose kernel says nothing.
const PAUSE: Duration = Duration::from_secs(6);

#[tokio::test]
async fn a_process_that_is_paused_is_not_cut_for_it() {
    let (listener, address) = listener().await;
    let link = linked(identity(1, 5), process(2, 6), address, Arc::new(Kept::default()));
    let mut paused = welcome(&listener, identity(2, 6)).await;
    until(&link, is_connected).await;
    // More than any socket has room for.
    let big = frame(1, 256);
    let sent = (0..16).filter(|_| link.outbox().send(big.clone())).count();
    let mut status = link.status();
    let is_cut = timeout(PAUSE, status.wait_for(|status| !is_connected(status))).await.is_ok();
    assert!(!is_cut, "it is no machine that is gone");
    let mut bytes = vec![0; big.length() * sent];
    timeout(DEADLINE, paused.read_exact(&mut bytes)).await.expect("in time").expect("all that was taken");
}

/// One that sends without end, and does not wait for anything.
#[tokio::test]
async fn who_sends_without_end_keeps_nobody_from_the_rest() {
    let (kept, address, _task) = serve(identity(2, 6)).await;
    let hello = call(identity(1, 5), process(2, 6));
    let mut stream = stranger(hello, address).await.into_std().expect("a socket");
    stream.set_nonblocking(false).expect("a socket that waits");
    let is_over = Arc::new(AtomicBool::new(false));
    let over = is_over.clone();
    let flood = std::thread::spawn(move || {
        use std::io::Write;
        let bytes = frame(1, 256).to_bytes();
        while !over.load(Ordering::Relaxed) && stream.write_all(&bytes).is_ok() {}
    });
    let begun = Instant::now();
    kept.next().await;
    while begun.elapsed() < Duration::from_secs(2) {
        let before = Instant::now();
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
    }
    is_over.store(true, Ordering::Relaxed);
    tokio::task::spawn_blocking(|| flood.join()).await.expect("no panic").expect("no panic");
}

#[tokio::test]
async fn another_cluster_is_told_and_not_tried_at_once() {
    let (kept, address, _task) = serve(Identity::new(ClusterId([2; 16]), process(2, 6))).await;
    let link = linked(identity(1, 5), process(2, 6), address, Arc::new(Kept::default()));
    assert!(link.outbox().send(frame(1, 1)));
    let why = cut_of(&link, |cut| matches!(cut, Cut::Rejected(by) if by.why == Why::Cluster)).await;
    assert!(why.contains("02020202-0202") && why.contains("of this cluster"), "{why}");
    assert!(kept.is_empty());
    assert_eq!(link.outbox().dropped(), 1, "what waited for it is lost");
}

#[tokio::test]
async fn nothing_is_taken_of_who_has_another_key_and_nothing_sent_to_it() {
    let (kept, address, _task) = serve(identity(2, 6)).await;
    let other = ClusterKey::new([8; 32]);
    let link = Link::new(identity(1, 5), other, process(2, 6), address, Arc::new(Kept::default()));
    assert!(link.outbox().send(frame(1, 1)));
    let why = cut_of(&link, |cut| matches!(cut, Cut::Rejected(by) if by.why == Why::Key)).await;
    assert!(why.contains("the same one"), "{why}");

    // Who has a place loses it to nobody that only says who it is, and a proof that was overheard is none.
    let hello = call(identity(1, 5), process(2, 6));
    let mut good = stranger(hello, address).await;
    let mut overheard = TcpStream::connect(address).await.expect("somebody listens");
    overheard.write_all(&hello.frame().to_bytes()).await.expect("it is taken");
    let challenge = read_frame(&mut overheard).await.expect("a challenge");
    let (proof, _) = hello.challenged(&key(), &challenge).expect("a challenge");
    let mut again = TcpStream::connect(address).await.expect("somebody listens");
    again.write_all(&hello.frame().to_bytes()).await.expect("it is taken");
    read_frame(&mut again).await.expect("another challenge");
    let frames = [proof.to_bytes(), frame(2, 1).to_bytes()].concat();
    again.write_all(&frames).await.expect("it is taken");
    let rejection = welcomed(&read_frame(&mut again).await.expect("an answer")).expect_err("it is none");
    assert!(rejection.to_string().contains("another cluster key"), "{rejection}");
    assert!(is_closed(&mut again).await);
    good.write_all(&frame(3, 1).to_bytes()).await.expect("it is taken");
    assert_eq!(kept.next().await, (process(1, 5), 3));
}

#[tokio::test]
async fn who_only_connects_keeps_nobody_out() {
    let (kept, address, _task) = serve(identity(2, 6)).await;
    let mut idle = Vec::new();
    for _ in 0..2 * MAX_UNPROVED {
        idle.push(TcpStream::connect(address).await.expect("somebody listens"));
    }
    let link = linked(identity(1, 5), process(2, 6), address, Arc::new(Kept::default()));
    assert!(link.outbox().send(frame(1, 1)));
    assert_eq!(kept.next().await, (process(1, 5), 1));
    let begun = Instant::now();
    assert!(is_closed(&mut idle[0]).await && begun.elapsed() < Duration::from_secs(2), "the oldest goes");
}

#[tokio::test]
async fn nothing_reaches_another_start_of_a_process() {
    let (listener, address) = listener().await;
    let listener = listener.into_std().expect("a listener");
    let serve = |ours| {
        let listener = TcpListener::from_std(listener.try_clone().expect("a listener")).expect("a listener");
        let kept = Arc::new(Kept::default());
        (kept.clone(), tokio::spawn(Acceptor::new(ours, key(), kept).serve(listener)))
    };
    let (kept, task) = serve(identity(2, 6));
    let link = linked(identity(1, 5), process(2, 6), address, Arc::new(Kept::default()));
    assert!(link.outbox().send(frame(1, 1)));
    assert_eq!(kept.next().await, (process(1, 5), 1));
    task.abort();
    assert!(task.await.is_err());
    let (kept, _task) = serve(identity(2, 7));
    link.outbox().send(frame(2, 1));
    cut_of(&link, |cut| matches!(cut, Cut::Rejected(by) if by.why == Why::Incarnation)).await;
    let newer = linked(identity(1, 5), process(2, 7), address, Arc::new(Kept::default()));
    assert!(newer.outbox().send(frame(3, 1)));
    assert_eq!(kept.next().await, (process(1, 5), 3));
}

#[tokio::test]
async fn a_new_start_takes_the_place_of_an_old_one() {
    let (kept, address, _task) = serve(identity(2, 6)).await;
    let call = |incarnation| call(identity(1, incarnation), process(2, 6));
    let mut old = stranger(call(5), address).await;
    let mut new = stranger(call(6), address).await;
    assert!(is_closed(&mut old).await);
    let late = linked(identity(1, 5), process(2, 6), address, Arc::new(Kept::default()));
    let why = cut_of(&late, |cut| matches!(cut, Cut::Rejected(by) if by.why == Why::Superseded)).await;
    assert!(why.contains("run twice"), "{why}");
    new.write_all(&frame(1, 1).to_bytes()).await.expect("it is taken");
    assert_eq!(kept.next().await, (process(1, 6), 1));
}

/// Passes on what comes, in pieces, until a connection is cut, or a bit is flipped before that. Counts connections.
async fn pass_on(listener: TcpListener, to: SocketAddr, calls: Arc<AtomicU32>) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = move |most: usize| {
        // xorshift64* (Vigna 2016)
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) % most as u64) as usize
    };
    loop {
        let (near, _) = listener.accept().await.expect("a connection");
        let far = TcpStream::connect(to).await.expect("somebody listens");
        let ((mut from, mut back_to), (mut back_from, mut to)) = (near.into_split(), far.into_split());
        let back = tokio::spawn(async move { tokio::io::copy(&mut back_from, &mut back_to).await });
        let (mut rest, is_flipped) = (below(300_000), below(2) == 0);
        while rest > 0 {
            let mut bytes = vec![0; 1 + below(rest.min(20_000))];
            let Ok(length @ 1..) = from.read(&mut bytes).await else { break };
            rest -= length;
            if is_flipped && rest < 10_000 {
                bytes[below(length)] ^= 1 << below(8);
            }
            if to.write_all(&bytes[..length]).await.is_err() {
                break;
            }
        }
        back.abort();
        calls.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn what_arrives_over_a_bad_network_is_whole_and_in_order() {
    let (kept, address, _task) = serve(identity(2, 6)).await;
    let (listener, proxy) = listener().await;
    let calls = Arc::new(AtomicU32::new(0));
    let _proxy = tokio::spawn(pass_on(listener, address, calls.clone()));
    let link = linked(identity(1, 5), process(2, 6), proxy, Arc::new(Kept::default()));
    let (mut sent, mut last) = (0, 0);
    let (begun, mut pace) = (Instant::now(), interval(Duration::from_millis(1)));
    while calls.load(Ordering::Relaxed) < 6 || last == 0 {
        sent += 1;
        link.outbox().send(frame(sent, sent as usize % 20));
        pace.tick().await;
        assert!(begun.elapsed() < DEADLINE);
        let came: Vec<_> = kept.came().drain(..).collect();
        for (from, number) in came {
            assert_eq!(from, process(1, 5));
            assert!(last < number && number <= sent, "{number} after {last}");
            last = number;
        }
    }
}

#[tokio::test]
async fn who_says_nothing_is_given_up() {
    let (listener, address) = listener().await;
    let link = linked(identity(1, 5), process(2, 6), address, Arc::new(Kept::default()));
    let (_silent, _) = listener.accept().await.expect("a connection");
    cut_of(&link, |cut| matches!(cut, Cut::Late { .. })).await;
    welcome(&listener, identity(2, 6)).await;

    let (_kept, address, _task) = serve(identity(2, 6)).await;
    let mut silent = TcpStream::connect(address).await.expect("somebody listens");
    assert!(is_closed(&mut silent).await);
}
