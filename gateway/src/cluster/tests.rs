//! A cluster's gateway, and stores that answer when they are told to.

#[path = "../../tests/support/agreed.rs"]
mod agreed;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Instant;

use agreed::{NODES, disk, first_state, started};
use bytes::Bytes;
use futures_util::FutureExt;
use huntaway_ledger::{DiskRecord, Incarnation, Record, SetRecord};
use huntaway_wire::replicated::{Answer, Block, Refused, Request, Store, SyncAll};
use huntaway_wire::{ByteRange, Durability, Error, NodeId, ObjectKind, Reply, Stamp, piece_crcs};
use smallvec::smallvec;

use super::*;
use crate::fencing::{PROOF_AGE, Proven};

const GATEWAY: Process = Process { node: NodeId([9; 16]), incarnation: Incarnation(4) };
const PATIENCE: Duration = Duration::from_secs(10);

fn oid() -> Oid {
    Oid::new(ObjectKind::Data, disk(), 0)
}

fn partition() -> Partition {
    Partition::of(disk(), 0)
}

/// What a store was sent.
type Arrived = (Process, Request, Arc<dyn Answers>);

/// What a process was to sync.
type Asking = (Process, SyncAll, Arc<dyn Answers>);

/// What a store was to hand on.
type Relayed = (Process, Relay, Arc<dyn Answers>);

/// All stores: they keep what they are sent, or answer at once.
#[derive(Default)]
struct FakeStores {
    arrived: Mutex<Vec<Arrived>>,
    at_once: Mutex<Option<Answer>>,
    clocks: Mutex<HashMap<NodeId, Duration>>,
    /// The node to which there is no way, and what others were to hand on.
    cut_off: Mutex<Option<NodeId>>,
    /// There is no way to anybody yet.
    are_unknown: Mutex<bool>,
    relayed: Mutex<Vec<Relayed>>,
    asked: Mutex<Vec<Asking>>,
}

struct FakeStore(Process, Arc<FakeStores>);

struct NoFences;

impl Fences for NoFences {
    fn raise(&self, _: Vid) -> BoxFuture<'static, Result<(), NotRaised>> {
        std::future::ready(Err(NotRaised)).boxed()
    }
}

impl Stores for Arc<FakeStores> {
    fn reach(&self, process: Process, _: &[SocketAddr], _: &Weak<dyn Answers>) -> Option<Arc<dyn Store>> {
        (!*lock(&self.are_unknown)).then(|| Arc::new(FakeStore(process, Arc::clone(self))) as Arc<dyn Store>)
    }
}

impl Store for FakeStore {
    fn request(&self, of: Partition, request: Request, answers: &Arc<dyn Answers>) {
        let at_once = lock(&self.1.at_once).clone();
        match at_once {
            Some(answer) => self.1.answer_of(of, &(self.0, request, Arc::clone(answers)), answer),
            None => lock(&self.1.arrived).push((self.0, request, Arc::clone(answers))),
        }
    }

    fn is_reachable(&self) -> bool {
        *lock(&self.1.cut_off) != Some(self.0.node)
    }

    fn relay(&self, of: Partition, relay: Relay, answers: &Arc<dyn Answers>) {
        assert_eq!(of, partition());
        lock(&self.1.relayed).push((self.0, relay, Arc::clone(answers)));
    }

    fn sync_all(&self, asked: SyncAll, answers: &Arc<dyn Answers>) -> bool {
        lock(&self.1.asked).push((self.0, asked, Arc::clone(answers)));
        true
    }
}

impl FakeStores {
    fn answer(&self, arrived: &Arrived, answer: Answer) {
        self.answer_of(partition(), arrived, answer);
    }

    fn answer_of(&self, of: Partition, (by, request, answers): &Arrived, answer: Answer) {
        let clock = {
            let mut clocks = lock(&self.clocks);
            let clock = clocks.entry(by.node).or_default();
            *clock += Duration::from_millis(1);
            *clock
        };
        let stamp = Stamp { incarnation: by.incarnation, clock };
        let answered = Answered { id: request.id, resend: request.resend, answer, stamp };
        answers.answered(*by, of, answered);
    }
}

/// A gateway at work.
struct World {
    stores: Arc<FakeStores>,
    states: watch::Sender<Arc<State>>,
    cluster: Arc<Cluster>,
    proof: Arc<Proof>,
}

impl World {
    fn new() -> Self {
        Self::over(FakeStores::default())
    }

    fn over(stores: FakeStores) -> Self {
        Self::of(GATEWAY, stores)
    }

    /// Of a process that may have replicas itself.
    fn of(process: Process, stores: FakeStores) -> Self {
        let stores = Arc::new(stores);
        let (sender, states) = watch::channel(Arc::new(first_state()));
        let config = ClusterConfig {
            process,
            states,
            stores: Arc::new(Arc::clone(&stores)),
            fences: Arc::new(NoFences),
            is_followed: Box::new(|| true),
            flushes: Flushes::OfThisGateway,
        };
        let world =
            Self { stores, states: sender, cluster: Cluster::start(config), proof: Arc::new(Proof::new()) };
        world.proof.prove(Proven(Some(clock::now())));
        world
    }

    fn primary(&self) -> NodeId {
        self.states.borrow().primary(partition()).unwrap()
    }

    fn record(&self, record: &Record) {
        let mut state = State::clone(&self.states.borrow());
        state.apply(record).unwrap();
        self.states.send_replace(Arc::new(state));
    }

    fn command(&self) -> Arc<Asker> {
        self.cluster.asker(&self.proof, disk())
    }

    fn write(&self, asker: Option<&Arc<Asker>>) -> Submission {
        let (range, data) = (ByteRange::new(0, 4096).unwrap(), smallvec![Bytes::from(vec![5; 4096])]);
        let crcs = piece_crcs(range, &data);
        let write = Operation::Write { range, data, crcs, durability: Durability::Logged };
        self.cluster.submit(partition(), oid(), write, asker)
    }

    /// The next request that reaches a store.
    async fn next(&self) -> Arrived {
        let begun = Instant::now();
        loop {
            if let Some(arrived) = self.pop() {
                return arrived;
            }
            assert!(begun.elapsed() < PATIENCE, "no request came");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn pop(&self) -> Option<Arrived> {
        let mut arrived = lock(&self.stores.arrived);
        (!arrived.is_empty()).then(|| arrived.remove(0))
    }

    /// Brings the gateway a stamp of the primary.
    async fn warm_up(&self) {
        let waiting = self.write(None);
        let arrived = self.next().await;
        self.stores.answer(&arrived, Answer::Done);
        assert_eq!(waiting.answer().await, Ok(Reply::Done));
    }
}

fn waits(submission: &mut Submission) -> bool {
    match submission {
        Submission::Done(_) => false,
        Submission::Waiting(receiver) => receiver.try_recv().is_err(),
    }
}

#[tokio::test]
async fn a_request_keeps_its_number_and_gets_a_newer_stamp_when_its_own_was_too_old() {
    let world = World::new();
    let waiting = world.write(Some(&world.command()));
    let first = world.next().await;
    assert_eq!((first.0.node, first.1.stamp), (world.primary(), Stamp::NONE));
    assert_eq!((first.1.id.number, first.1.resend, first.1.unanswered_from), (1, 1, 1));
    assert_eq!(first.1.pepoch, world.states.borrow().pepoch(partition()));
    world.stores.answer(&first, Answer::Refused(Refused::OldStamp));
    let second = world.pop().expect("it is sent at once");
    assert_eq!((second.1.id, second.1.resend), (first.1.id, 2));
    assert!(second.1.stamp > Stamp::NONE);
    world.stores.answer(&second, Answer::Done);
    assert_eq!(waiting.answer().await, Ok(Reply::Done));
    world.stores.answer(&first, Answer::Done);
    let _next = world.write(None);
    let third = world.next().await;
    assert_eq!((third.1.id.number, third.1.unanswered_from), (2, 2));
}

#[tokio::test]
async fn a_store_in_this_process_that_answers_at_once_keeps_nobody_waiting() {
    let world = World::new();
    *lock(&world.stores.at_once) = Some(Answer::Done);
    assert!(matches!(world.write(Some(&world.command())), Submission::Done(Ok(Reply::Done))));
}

#[tokio::test]
async fn what_is_not_served_is_sent_again_and_goes_to_the_next_primary() {
    let world = World::new();
    let waiting = world.write(Some(&world.command()));
    let first = world.next().await;
    world.stores.answer(&first, Answer::Refused(Refused::NotServing));
    assert!(world.pop().is_none());
    let second = world.next().await;
    assert_eq!((second.0, second.1.resend), (first.0, 2));
    world.record(&Record::Sets(SetRecord::NodesDown { nodes: vec![first.0.node] }));
    let third = world.next().await;
    assert_eq!((third.1.id, third.1.resend), (first.1.id, 3));
    assert!(third.0.node != first.0.node && third.1.pepoch > first.1.pepoch);
    world.stores.answer(&third, Answer::Done);
    assert_eq!(waiting.answer().await, Ok(Reply::Done));
}

#[tokio::test]
async fn a_primary_that_starts_anew_is_sent_what_the_one_before_it_did_not_answer() {
    let world = World::new();
    let _waiting = world.write(Some(&world.command()));
    let first = world.next().await;
    world.record(&started(first.0.node, 2));
    let second = world.next().await;
    assert!(second.0 != first.0 && second.1.pepoch > first.1.pepoch);
    assert!(second.1.stamp == Stamp::NONE || second.0.node != first.0.node);
}

#[tokio::test]
async fn what_is_not_answered_is_sent_again_each_time_with_a_proof() {
    let world = World::new();
    let mut waiting = world.write(Some(&world.command()));
    let first = world.next().await;
    let second = world.next().await;
    assert_eq!((second.1.id, second.1.resend), (first.1.id, 2));
    world.proof.prove(Proven(Some(clock::now() - PROOF_AGE)));
    world.stores.answer(&second, Answer::Refused(Refused::NotServing));
    tokio::time::sleep(requests::RESEND + requests::RETRY + TICK * 2).await;
    assert!(world.pop().is_none() && waits(&mut waiting));
}

#[tokio::test]
async fn a_paused_gateway_sends_nothing_until_the_initiator_has_proved_that_it_is_there() {
    let world = World::new();
    world.proof.prove(Proven(Some(clock::now() - PROOF_AGE)));
    let mut waiting = world.write(Some(&world.command()));
    tokio::time::timeout(PATIENCE, world.proof.wanted()).await.unwrap();
    assert!(world.pop().is_none() && waits(&mut waiting));
    world.proof.prove(Proven(Some(clock::now())));
    world.cluster.proof_is_newer(&world.proof);
    world.stores.answer(&world.pop().unwrap(), Answer::Done);
    assert_eq!(waiting.answer().await, Ok(Reply::Done));
}

#[tokio::test]
async fn a_command_that_was_given_up_is_never_sent_again_and_ends_when_its_stamp_has_run_out() {
    let world = World::new();
    world.warm_up().await;
    let begun = Instant::now();
    let command = world.command();
    let waiting = world.write(Some(&command));
    let first = world.next().await;
    world.cluster.give_up(&command, GivenUp::Aborted);
    world.stores.answer(&first, Answer::Refused(Refused::NotServing));
    let more = world.write(Some(&command));
    assert!(matches!(more, Submission::Done(Err(_))), "nor does it ask for anything else");
    assert!(waiting.answer().await.is_err());
    // The stamp was read before this began, and nothing was noted since but that of the refusal, which it did not take.
    assert!(begun.elapsed() + Duration::from_millis(100) > SETTLE_TIME, "{:?}", begun.elapsed());
    assert!(world.pop().is_none());
}

#[tokio::test]
async fn a_command_that_was_given_up_ends_at_once_when_it_was_never_sent_or_is_done() {
    let world = World::new();
    world.warm_up().await;
    let command = world.command();
    let waiting = world.write(Some(&command));
    let first = world.next().await;
    world.cluster.give_up(&command, GivenUp::Dropped);
    world.stores.answer(&first, Answer::Done);
    assert_eq!(waiting.answer().await, Ok(Reply::Done));
    world.record(&Record::Sets(SetRecord::NodesDown { nodes: NODES.to_vec() }));
    tokio::time::sleep(TICK * 2).await;
    let command = world.command();
    let mut waiting = world.write(Some(&command));
    assert!(waits(&mut waiting), "nobody serves the partition");
    world.cluster.give_up(&command, GivenUp::Aborted);
    assert!(!waits(&mut waiting) && world.pop().is_none());
}

#[tokio::test]
async fn who_is_tired_of_waiting_is_told_when_nothing_can_take_effect_any_more() {
    let world = World::new();
    world.warm_up().await;
    let waiting = world.write(Some(&world.command()));
    let first = world.next().await;
    let table = world.cluster.table.load_full();
    world.cluster.requests(partition()).grow_old(requests::PATIENCE);
    let effects = world.cluster.requests(partition()).tick(to(&table, partition()), &table, false);
    assert!(effects.finished.is_empty() && effects.due.is_empty());
    world.stores.answer(&first, Answer::Refused(Refused::NotServing));
    assert_eq!(waiting.answer().await, Err(Error::Refused(Refusal::Unavailable)));
    assert!(world.pop().is_none());
}

#[tokio::test]
async fn want_of_space_is_told_when_no_earlier_send_can_take_effect_any_more() {
    let world = World::new();
    world.warm_up().await;
    let mut waiting = world.write(Some(&world.command()));
    let first = world.next().await;
    world.stores.answer(&first, Answer::Refused(Refused::NoSpace));
    assert!(waits(&mut waiting));
    let answer = tokio::time::timeout(PATIENCE, waiting.answer()).await.unwrap();
    assert!(matches!(answer, Err(Error::Refused(Refusal::NoSpace { .. }))));
    assert!(world.pop().is_none());
}

#[tokio::test]
async fn data_is_checked_and_damage_that_is_everywhere_is_told() {
    let world = World::new();
    let read = Operation::Read { range: ByteRange::new(512, 1024).unwrap() };
    let waiting = world.cluster.submit(partition(), oid(), read.clone(), Some(&world.command()));
    let damaged = Block { crc: 5, bytes: Bytes::from(vec![1; 4096]) };
    world.stores.answer(&world.next().await, Answer::Data(vec![Some(damaged)]));
    let sound = Block::new(Bytes::from(vec![1; 4096]));
    world.stores.answer(&world.next().await, Answer::Data(vec![Some(sound)]));
    assert_eq!(waiting.answer().await, Ok(Reply::Data(smallvec![Bytes::from(vec![1; 1024])])));
    let waiting = world.cluster.submit(partition(), oid(), read, Some(&world.command()));
    world.stores.answer(&world.next().await, Answer::Damaged);
    assert!(matches!(waiting.answer().await, Err(Error::Broken(_))));
}

#[tokio::test]
async fn a_reset_gives_up_what_was_received_before_and_nothing_of_the_gateways_own() {
    let world = World::new();
    let old = world.command();
    let (waiting, own) = (world.write(Some(&old)), world.write(None));
    let (first, second) = (world.next().await, world.next().await);
    assert_eq!(first.1.fence, second.1.fence);
    for arrived in [&first, &second] {
        world.stores.answer(arrived, Answer::Refused(Refused::Fenced));
    }
    assert!(world.pop().is_none(), "not before the record is known");
    world.record(&Record::Disks(DiskRecord::Fence { disk: disk() }));
    let again = world.next().await;
    assert_eq!((again.1.id, again.1.fence), (second.1.id, first.1.fence + 1));
    world.stores.answer(&again, Answer::Done);
    assert_eq!(own.answer().await, Ok(Reply::Done));
    let given_up = Err(Error::Refused(Refusal::GivenUp));
    assert_eq!(waiting.answer().await, given_up);
    assert_eq!(world.write(Some(&old)).answer().await, given_up);
    let _new = world.write(Some(&world.command()));
    assert_eq!(world.next().await.1.fence, first.1.fence + 1);
}

#[tokio::test]
async fn what_was_asked_of_a_disk_ends_when_that_is_deleted() {
    let world = World::new();
    world.warm_up().await;
    let waiting = world.write(Some(&world.command()));
    let first = world.next().await;
    world.record(&Record::Disks(DiskRecord::DeleteDisk { disk: disk() }));
    world.stores.answer(&first, Answer::Refused(Refused::OldLayout));
    let answer = tokio::time::timeout(PATIENCE, waiting.answer()).await.unwrap();
    assert_eq!(answer, Err(Error::Refused(Refusal::NotServing)));
}

#[tokio::test]
async fn after_a_snapshot_requests_go_to_the_new_version_under_the_number_they_had() {
    let world = World::new();
    let _waiting = world.write(Some(&world.command()));
    let first = world.next().await;
    world.stores.answer(&first, Answer::Refused(Refused::OldLayout));
    world.record(&Record::Disks(DiskRecord::Hold { disks: vec![disk()], reads: false }));
    world.record(&Record::Disks(DiskRecord::Commit { hold: 1 }));
    let version = world.states.borrow().disks().working(disk()).unwrap();
    let is_new = |command: &Command| matches!(command, Command::Write { oid, .. } if oid.vid() == version);
    loop {
        let arrived = world.next().await;
        assert_eq!(arrived.1.id, first.1.id);
        if arrived.1.layout > first.1.layout {
            assert!(is_new(&arrived.1.command) && !is_new(&first.1.command));
            return;
        }
        world.stores.answer(&arrived, Answer::Refused(Refused::OldLayout));
    }
}

#[tokio::test]
async fn what_has_no_way_to_its_primary_is_handed_on_by_another_process() {
    let world = World::new();
    world.warm_up().await;
    *lock(&world.stores.cut_off) = Some(world.primary());
    let waiting = world.write(Some(&world.command()));
    let (by, Relay { to, request }, answers) = lock(&world.stores.relayed).pop().unwrap();
    assert_eq!(to.node, world.primary());
    assert!(by.node != to.node && request.stamp > Stamp::NONE, "the stamp is the primary's");
    world.stores.answer(&(to, request, answers), Answer::Done);
    assert_eq!(waiting.answer().await, Ok(Reply::Done));
}

#[tokio::test]
async fn a_gateway_hands_nothing_on_to_its_own_process() {
    let cut_off = first_state().primary(partition()).unwrap();
    let node = NODES.into_iter().find(|node| *node != cut_off).unwrap();
    let stores = FakeStores { cut_off: Mutex::new(Some(cut_off)), ..FakeStores::default() };
    let world = World::of(Process { node, incarnation: Incarnation(1) }, stores);
    let _waiting = world.write(Some(&world.command()));
    assert!(lock(&world.stores.relayed).is_empty());
    assert_eq!(world.next().await.0.node, cut_off, "what is sent while a connection is made waits for it");
}

#[tokio::test]
async fn a_way_that_is_not_there_yet_is_looked_for_again() {
    let world = World::over(FakeStores { are_unknown: Mutex::new(true), ..FakeStores::default() });
    let _waiting = world.write(Some(&world.command()));
    assert!(world.pop().is_none());
    *lock(&world.stores.are_unknown) = false;
    world.next().await;
}

#[tokio::test]
async fn a_flush_of_this_gateways_writes_goes_where_some_are_and_first_where_some_may_be_of_an_earlier_process()
 {
    let world = World::new();
    let flush = || world.cluster.flush([partition()].into_iter(), disk(), Some(&world.command()));
    let mut first = flush();
    world.stores.answer(&world.next().await, Answer::Done);
    assert_eq!(first.remove(0).answer().await, Ok(Reply::Done));
    assert!(flush().is_empty());
    let written = world.write(Some(&world.command()));
    let arrived = world.next().await;
    let early = flush();
    assert!(early.is_empty(), "what is not answered is not to be flushed");
    world.stores.answer(&arrived, Answer::Done);
    assert_eq!(written.answer().await, Ok(Reply::Done));
    let mut late = flush();
    let arrived = world.next().await;
    // Answered while the flush is on its way: perhaps it does not cover this one.
    *lock(&world.stores.at_once) = Some(Answer::Done);
    assert_eq!(world.write(None).answer().await, Ok(Reply::Done));
    world.stores.answer(&arrived, Answer::Done);
    assert_eq!(late.remove(0).answer().await, Ok(Reply::Done));
    assert_eq!(flush().len(), 1);
    assert!(flush().is_empty());
}

impl World {
    /// A flush of more partitions than there are processes.
    fn flush_many(&self) -> Submission {
        let mut flushes = self.cluster.flush(Partition::all().take(100), disk(), Some(&self.command()));
        assert_eq!(flushes.len(), 1);
        flushes.remove(0)
    }

    /// What the processes are asked next, all of them.
    async fn next_round(&self) -> Vec<Asking> {
        let begun = Instant::now();
        while lock(&self.stores.asked).len() < NODES.len() {
            assert!(begun.elapsed() < PATIENCE, "nobody was asked");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        std::mem::take(&mut *lock(&self.stores.asked))
    }

    fn number(&self) -> u64 {
        self.states.borrow().number()
    }
}

fn synced((by, asked, answers): &Asking, known: Option<u64>) {
    answers.synced(*by, Synced { asked: *asked, known });
}

#[tokio::test]
async fn a_flush_of_many_partitions_asks_each_process_once() {
    let world = World::new();
    let flush = world.flush_many();
    world.next_round().await.iter().for_each(|asking| synced(asking, Some(world.number())));
    assert_eq!(flush.answer().await, Ok(Reply::Done));
    assert!(world.pop().is_none() && lock(&world.stores.asked).is_empty());
    assert!(world.cluster.flush(Partition::all().take(100), disk(), None).is_empty(), "all is flushed");
}

#[tokio::test]
async fn a_flush_needs_a_round_that_began_after_it_came_and_shares_it() {
    let world = World::new();
    let first = world.flush_many();
    let asked = world.next_round().await;
    let (mut second, mut third) = (world.flush_many(), world.flush_many());
    asked.iter().for_each(|asking| synced(asking, Some(0)));
    assert_eq!(first.answer().await, Ok(Reply::Done));
    let next = world.next_round().await;
    asked.iter().for_each(|asking| synced(asking, Some(0)));
    synced(&next[0], Some(0));
    tokio::time::sleep(TICK).await;
    assert!(waits(&mut second) && waits(&mut third));
    synced(&next[1], Some(0));
    assert_eq!(second.answer().await, Ok(Reply::Done));
    assert_eq!(third.answer().await, Ok(Reply::Done));
    assert!(lock(&world.stores.asked).is_empty() && world.pop().is_none());
}

#[tokio::test]
async fn a_flush_by_processes_waits_for_what_they_knew_of_the_ledger() {
    let world = World::new();
    let mut flush = world.flush_many();
    world.next_round().await.iter().for_each(|asking| synced(asking, Some(world.number() + 1)));
    tokio::time::sleep(TICK).await;
    assert!(waits(&mut flush));
    world.record(&Record::Disks(DiskRecord::Fence { disk: disk() }));
    assert_eq!(flush.answer().await, Ok(Reply::Done));
    assert!(world.pop().is_none());
}

#[tokio::test]
async fn partitions_are_asked_when_a_process_is_not_sure_does_not_answer_or_is_another_by_now() {
    for what in ["refuses", "is silent", "is another"] {
        let world = World::new();
        let flush = world.flush_many();
        let asked = world.next_round().await;
        if what == "is another" {
            world.record(&started(asked[1].0.node, 2));
        }
        synced(&asked[0], Some(world.number()));
        match what {
            "refuses" => synced(&asked[1], None),
            "is another" => synced(&asked[1], Some(world.number())),
            _ => {}
        }
        let first = world.next().await;
        *lock(&world.stores.at_once) = Some(Answer::Done);
        assert_eq!(first.1.command, Command::Flush, "{what}");
        assert_eq!(flush.answer().await, Ok(Reply::Done), "{what}");
    }
}

#[tokio::test]
async fn who_may_have_become_a_replica_has_to_answer_although_no_set_has_it() {
    let world = World::new();
    let flush = world.flush_many();
    let asked = world.next_round().await;
    world.record(&Record::Sets(SetRecord::NodesDown { nodes: vec![asked[1].0.node] }));
    world.record(&Record::Sets(SetRecord::NodeUp { node: asked[1].0.node }));
    let state = Arc::clone(&world.states.borrow());
    assert!(Partition::all().all(|at| state.sets().set(at).unwrap().in_sync == [asked[0].0.node]));
    synced(&asked[0], Some(world.number()));
    assert_eq!(world.next().await.1.command, Command::Flush);
    drop(flush);
}
