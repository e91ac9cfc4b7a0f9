//! What initiators see of a gateway whose stores replicate: their data, and that nothing is sent for them which they may have given
//! up, nor answered before it has settled.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use huntaway_gateway::cluster::{Cluster, ClusterConfig, Fences, Flushes, Links, NotRaised, Stores};
use huntaway_gateway::fencing::{PROOF_AGE, SETTLE_TIME};
use huntaway_ledger::{DiskRecord, Record, State};
use huntaway_wire::encoding::Malformed;
use huntaway_wire::frame::{Frame, Outgoing};
use huntaway_wire::hello::{ClusterId, Identity};
use huntaway_wire::link::{Acceptor, Inbox, Outbox};
use huntaway_wire::replicated::{
    Answer, Answered, Answers, Block, Command, Refused, Request, RequestId, Store,
};
use huntaway_wire::{ClusterKey, Incarnation, KEY_BYTES, NodeId, Oid, Partition, Process, Stamp, Vid};
use support::agreed::{NODES, disk, first_state};
use support::{
    ABORT_TASK, DATA_IN, Initiator, LOGICAL_UNIT_RESET, LOGOUT_RESPONSE, PATIENCE, SCSI_RESPONSE,
    TASK_MANAGEMENT_RESPONSE, TestGateway, wait_for,
};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;

const GATEWAY: Process = Process { node: NodeId([9; 16]), incarnation: Incarnation(1) };
const CLUSTER: ClusterId = ClusterId([7; 16]);

fn key() -> ClusterKey {
    ClusterKey::new([5; KEY_BYTES])
}

/// The blocks that stores keep, and how they stand to their work.
#[derive(Default)]
struct Kept {
    blocks: Mutex<HashMap<(Oid, u32), Bytes>>,
    /// They take requests, and neither carry them out nor answer them.
    is_silent: Mutex<bool>,
    arrived: Mutex<Vec<RequestId>>,
    clock: Mutex<Duration>,
}

impl Kept {
    fn be_silent(&self, is_silent: bool) {
        *self.is_silent.lock().unwrap() = is_silent;
    }

    /// Requests that came while they were silent.
    fn arrived(&self) -> usize {
        self.arrived.lock().unwrap().len()
    }

    /// What a process answers, if it does.
    fn answer(&self, by: Process, request: Request) -> Option<Answered> {
        if *self.is_silent.lock().unwrap() {
            self.arrived.lock().unwrap().push(request.id);
            return None;
        }
        let clock = {
            let mut clock = self.clock.lock().unwrap();
            *clock += Duration::from_micros(1);
            *clock
        };
        let answer = match request.command {
            _ if request.stamp == Stamp::NONE => Answer::Refused(Refused::OldStamp),
            Command::Read { oid, blocks } => {
                let kept = self.blocks.lock().unwrap();
                Answer::Data(blocks.map(|block| kept.get(&(oid, block)).cloned().map(Block::new)).collect())
            }
            Command::Write { oid, range, pieces, .. } => {
                let mut kept = self.blocks.lock().unwrap();
                for ((piece, at), block) in
                    pieces.iter().zip(huntaway_wire::pieces(range)).zip(range.blocks())
                {
                    assert!(piece.is_sound());
                    let before = kept.get(&(oid, block)).map_or(vec![0; 4096], |bytes| bytes.to_vec());
                    let from = at.start as usize % 4096;
                    let mut merged = before;
                    merged[from..from + at.len()].copy_from_slice(&piece.bytes);
                    kept.insert((oid, block), merged.into());
                }
                Answer::Done
            }
            _ => Answer::Done,
        };
        let stamp = Stamp { incarnation: by.incarnation, clock };
        Some(Answered { id: request.id, resend: request.resend, answer, stamp })
    }
}

/// Stores in this process.
struct Direct(Arc<Kept>);

struct DirectStore(Process, Arc<Kept>);

impl Stores for Direct {
    fn reach(&self, process: Process, _: &[SocketAddr], _: &Weak<dyn Answers>) -> Option<Arc<dyn Store>> {
        Some(Arc::new(DirectStore(process, Arc::clone(&self.0))))
    }
}

impl Store for DirectStore {
    fn request(&self, partition: Partition, request: Request, answers: &Arc<dyn Answers>) {
        if let Some(answered) = self.1.answer(self.0, request) {
            answers.answered(self.0, partition, answered);
        }
    }
}

/// A gateway over such stores.
fn start() -> (TestGateway, Arc<Kept>) {
    let kept = Arc::new(Kept::default());
    let stores = Arc::new(Direct(Arc::clone(&kept)));
    let gateway = TestGateway::over(|| cluster(first_state(), stores));
    (gateway, kept)
}

fn cluster(state: State, stores: Arc<dyn Stores>) -> Arc<Cluster> {
    cluster_of(watch::Sender::new(Arc::new(state)), stores)
}

fn cluster_of(states: watch::Sender<Arc<State>>, stores: Arc<dyn Stores>) -> Arc<Cluster> {
    let (process, receiver) = (GATEWAY, states.subscribe());
    Cluster::start(ClusterConfig {
        process,
        states: receiver,
        stores,
        fences: Arc::new(Ledger(states)),
        is_followed: Box::new(|| true),
        flushes: Flushes::OfAll,
    })
}

/// A ledger of which everybody hears at once.
struct Ledger(watch::Sender<Arc<State>>);

impl Fences for Ledger {
    fn raise(&self, disk: Vid) -> BoxFuture<'static, Result<(), NotRaised>> {
        let raise = |state: &mut Arc<State>| {
            Arc::make_mut(state).apply(&Record::Disks(DiskRecord::Fence { disk })).unwrap();
        };
        self.0.send_modify(raise);
        std::future::ready(Ok(())).boxed()
    }
}

/// A disk whose fence another gateway raises, when that is sent.
fn reset_by_another(states: &watch::Sender<Arc<State>>) {
    let fence = Record::Disks(DiskRecord::Fence { disk: disk() });
    states.send_modify(|state| Arc::make_mut(state).apply(&fence).unwrap());
}

/// The status of a WRITE(10) and of a READ(10) of so many blocks, and what was read.
fn write_and_read(initiator: &mut Initiator, lba: u8, data: &[u8]) -> Vec<u8> {
    let blocks = (data.len() / 512) as u8;
    let length = data.len() as u32;
    initiator.command(1, 0, &[0x2a, 0, 0, 0, 0, lba, 0, 0, blocks, 0], length, Some(data));
    assert_eq!(initiator.expect(SCSI_RESPONSE).header[3], 0);
    initiator.command(2, 0, &[0x28, 0, 0, 0, 0, lba, 0, 0, blocks, 0], length, None);
    let read = initiator.expect(DATA_IN).data;
    // SYNCHRONIZE CACHE(10)
    initiator.command(3, 0, &[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0, None);
    assert_eq!(initiator.expect(SCSI_RESPONSE).header[3], 0);
    read
}

fn data() -> Vec<u8> {
    (0..512 * 17_u32).map(|at| (at * 31 % 251) as u8).collect()
}

#[test]
fn what_was_written_is_read_whichever_way_blocks_are_cut() {
    let (gateway, _kept) = start();
    let mut initiator = Initiator::login(gateway.portal, "iqn.2026-11.test:a");
    for lba in [0, 3, 8] {
        assert_eq!(write_and_read(&mut initiator, lba, &data()), data());
    }
}

#[test]
fn a_gateway_that_started_lets_initiators_in_when_what_its_predecessor_sent_has_settled() {
    let begun = Instant::now();
    let (gateway, _kept) = start();
    let _initiator = Initiator::login(gateway.portal, "iqn.2026-11.test:a");
    assert!(begun.elapsed() >= SETTLE_TIME);
}

#[test]
fn an_abort_is_answered_when_the_command_has_settled_and_it_is_never_sent_again() {
    let (gateway, kept) = start();
    for function in [ABORT_TASK, LOGICAL_UNIT_RESET] {
        let mut initiator = Initiator::login(gateway.portal, "iqn.2026-11.test:a");
        initiator.write(1, 0, 7, true);
        assert_eq!(initiator.expect(SCSI_RESPONSE).header[3], 0);
        kept.be_silent(true);
        initiator.write(2, 0, 8, true);
        wait_for("the write", || kept.arrived() > 0);
        initiator.manage(3, function, 2);
        initiator.expect_silence();
        let sent = kept.arrived();
        assert_eq!(initiator.expect(TASK_MANAGEMENT_RESPONSE).header[2], 0);
        std::thread::sleep(Duration::from_millis(700));
        assert_eq!(kept.arrived(), sent);
        kept.be_silent(false);
        kept.arrived.lock().unwrap().clear();
    }
}

#[test]
fn a_logout_and_the_login_that_follows_a_lost_session_wait_for_what_stores_may_have() {
    let (gateway, kept) = start();
    let mut initiator = Initiator::login(gateway.portal, "iqn.2026-11.test:a");
    initiator.write(1, 0, 7, true);
    assert_eq!(initiator.expect(SCSI_RESPONSE).header[3], 0);
    kept.be_silent(true);
    initiator.write(2, 0, 8, true);
    wait_for("the write", || kept.arrived() > 0);
    let mut next = Initiator::start_login(gateway.portal, "iqn.2026-11.test:a");
    next.expect_silence();
    let sent = kept.arrived();
    kept.be_silent(false);
    next.finish_login();
    assert_eq!(kept.arrived(), sent, "nothing more of the session before");
    next.write(1, 0, 9, true);
    assert_eq!(next.expect(SCSI_RESPONSE).header[3], 0);
    kept.be_silent(true);
    next.write(2, 0, 8, true);
    wait_for("the write", || kept.arrived() > sent);
    next.logout(3);
    next.expect_silence();
    assert_ne!(next.expect(SCSI_RESPONSE).header[3], 0, "nobody knows what became of it");
    next.expect(LOGOUT_RESPONSE);
}

#[test]
fn a_session_that_proves_nothing_has_nothing_sent_until_it_answers_a_ping() {
    let (gateway, kept) = start();
    let mut initiator = Initiator::login(gateway.portal, "iqn.2026-11.test:a");
    let begun = Instant::now();
    while begun.elapsed() < PROOF_AGE {
        initiator.ping(false);
    }
    kept.be_silent(true);
    initiator.write(1, 0, 7, true);
    initiator.expect_silence();
    assert_eq!(kept.arrived(), 0);
    kept.be_silent(false);
    initiator.ping(true);
    assert_eq!(initiator.expect(SCSI_RESPONSE).header[3], 0);
}

#[test]
fn initiators_are_told_of_resets_by_other_gateways_once() {
    let states = watch::Sender::new(Arc::new(first_state()));
    let stores = Arc::new(Direct(Arc::default()));
    let gateway = TestGateway::over(|| cluster_of(states.clone(), stores));
    let mut resetting = Initiator::login(gateway.portal, "iqn.2026-11.test:a");
    let mut other = Initiator::login(gateway.portal, "iqn.2026-11.test:b");
    let reset = Err((6, 0x29, 3));
    resetting.manage(1, LOGICAL_UNIT_RESET, u32::MAX);
    assert_eq!(resetting.expect(TASK_MANAGEMENT_RESPONSE).header[2], 0);
    for initiator in [&mut resetting, &mut other] {
        assert_eq!([initiator.test_unit(2, 0), initiator.test_unit(3, 0)], [reset, Ok(())]);
    }
    reset_by_another(&states);
    for initiator in [&mut resetting, &mut other] {
        wait_for("the unit attention", || initiator.test_unit(4, 0) == reset);
        assert_eq!(initiator.test_unit(5, 0), Ok(()));
    }
}

/// A store behind a connection.
struct Remote(Process, Arc<Kept>);

impl Inbox for Remote {
    fn take(&self, _: Process, frame: Frame, back: &Outbox) -> Result<(), Malformed> {
        let (partition, request) = frame.open::<Request>()?;
        if let Some(answered) = self.1.answer(self.0, request) {
            back.send(Outgoing::new(partition, &answered).unwrap());
        }
        Ok(())
    }
}

#[test]
fn stores_are_reached_by_connections() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let kept = Arc::new(Kept::default());
    let addresses = NODES.map(|node| {
        let process = Process { node, incarnation: Incarnation(1) };
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let remote = Arc::new(Remote(process, Arc::clone(&kept)));
        runtime.spawn(Acceptor::new(Identity::new(CLUSTER, process), key(), remote).serve(listener));
        (process, address)
    });
    let gateway = TestGateway::over(|| {
        let links = Links::new(Identity::new(CLUSTER, GATEWAY), key(), Handle::current());
        cluster(first_state(), Arc::new(At(links, addresses)))
    });
    let mut initiator = Initiator::login(gateway.portal, "iqn.2026-11.test:a");
    assert_eq!(write_and_read(&mut initiator, 3, &data()), data());
    assert!(!kept.blocks.lock().unwrap().is_empty());
    assert!(PATIENCE > SETTLE_TIME);
}

/// Connections to where the nodes of this test are.
struct At(Links, [(Process, SocketAddr); 2]);

impl Stores for At {
    fn reach(
        &self,
        process: Process,
        _: &[SocketAddr],
        answers: &Weak<dyn Answers>,
    ) -> Option<Arc<dyn Store>> {
        let (_, address) = self.1.iter().find(|(at, _)| *at == process)?;
        self.0.reach(process, &[*address], answers)
    }
}
