//! A few replicas of one partition under a test's own hand: what is sent arrives at once, unless the test keeps it back, and stores
//! do at once what they are asked for.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use huntaway_replica::{
    Answer, Block, Body, Command, Configuration, Input, Message, Moment, Outcome, Output, Process, Replica,
    Request, RequestId, SetChange, Stored, Ticket, Vdi, Vdis,
};
use huntaway_wire::{
    BLOCK_SIZE_BYTES, ByteRange, Durability, Incarnation, NodeId, ObjectKind, Oid, Partition, Pepoch, Stamp,
    Vid,
};

use crate::Random;
use crate::storage::{Crash, ModelStorage, Storage};

/// Longer than any lease and any word that was given.
pub(super) const LEASES_RUN_OUT_US: u64 = 700_000;

const TICK_US: u64 = 100_000;

pub(super) struct Flock {
    pub(super) now: Moment,
    pub(super) nodes: Vec<Node>,
    pub(super) configuration: Configuration,
    /// From whom to whom nothing gets through.
    pub(super) cut: BTreeSet<(usize, usize)>,
    /// What does not get through, wherever it goes.
    pub(super) is_stopped: fn(&Body) -> bool,
    /// What did not get through.
    pub(super) kept_back: Vec<(usize, usize, Message)>,
    pub(super) answers: Vec<(RequestId, Answer)>,
    pub(super) proposals: Vec<SetChange>,
    on_their_way: VecDeque<(usize, usize, Message)>,
    /// How many messages were sent.
    pub(super) sent: u64,
    pub(super) gateway: Process,
    requests: u64,
    /// What is left on a disk when power is lost depends on it.
    pub(super) chance: u64,
}

pub(super) struct Node {
    pub(super) incarnation: Incarnation,
    pub(super) replica: Option<Replica>,
    pub(super) storage: ModelStorage,
    /// It can do nothing that it is asked for but log and sync.
    pub(super) reads_fail: bool,
    /// The log takes entries, and does not say when they are in its file.
    pub(super) log_is_slow: bool,
    logging: VecDeque<(Ticket, u64)>,
}

pub(super) fn vid(number: u32) -> Vid {
    Vid::new(number).expect("there are so many")
}

pub(super) fn oid(disk: u32, index: u32) -> Oid {
    Oid::new(ObjectKind::Data, vid(disk), index)
}

pub(super) fn block(value: u8) -> Block {
    Block::new(Bytes::from(vec![value; BLOCK_SIZE_BYTES as usize]))
}

impl Flock {
    /// So many nodes, all in sync, of which the first is primary and serves.
    pub(super) fn new(nodes: usize) -> Self {
        let vdi = Vdi {
            parent: None,
            layout: 1,
            fence: 1,
            is_frozen: false,
            is_deleted: false,
            hold: None,
            holds_reads: false,
        };
        let node = || Node {
            incarnation: Incarnation(0),
            replica: None,
            storage: ModelStorage::new(0, None, None),
            reads_fail: false,
            log_is_slow: false,
            logging: VecDeque::new(),
        };
        let mut flock = Self {
            now: Moment(1_000_000),
            nodes: (0..nodes).map(|_| node()).collect(),
            configuration: Configuration {
                pepoch: Pepoch(0),
                in_sync: Vec::new(),
                doubtful: Vec::new(),
                damaged: Vec::new(),
                failed: Vec::new(),
                is_lost: false,
                primary: NodeId([1; 16]),
                candidates: Vec::new(),
                keepers: Vec::new(),
                copies: nodes,
                min_copies: 1,
                gateways: Vec::new(),
                vdis: Arc::new(Vdis::from_iter([(vid(1), vdi), (vid(2), vdi)])),
            },
            cut: BTreeSet::new(),
            is_stopped: |_| false,
            kept_back: Vec::new(),
            answers: Vec::new(),
            proposals: Vec::new(),
            on_their_way: VecDeque::new(),
            sent: 0,
            gateway: Process { node: NodeId([9; 16]), incarnation: Incarnation(1) },
            requests: 0,
            chance: 0,
        };
        (0..nodes).for_each(|node| flock.start(node));
        flock.agree(&(0..nodes).collect::<Vec<_>>(), &[]);
        flock.pass(LEASES_RUN_OUT_US);
        assert!(flock.is_serving(0));
        flock
    }

    pub(super) fn process(&self, node: usize) -> Process {
        Process { node: NodeId([node as u8 + 1; 16]), incarnation: self.nodes[node].incarnation }
    }

    /// A new process runs on the node, and knows what is on its disk.
    pub(super) fn start(&mut self, node: usize) {
        let state = &mut self.nodes[node];
        state.incarnation.0 += 1;
        let recovered = state.storage.recover();
        let me = self.process(node);
        let partition = Partition::new(0).expect("the first one");
        self.nodes[node].replica = Some(Replica::new(partition, me, self.now, recovered));
        self.step(node, Input::LedgerLease { until: Moment(u64::MAX) });
    }

    pub(super) fn dies(&mut self, node: usize, crash: Crash) {
        self.nodes[node].replica = None;
        self.nodes[node].logging.clear();
        self.nodes[node].storage.crash(crash, &mut Random::new(self.chance));
    }

    /// The next pepoch: these are in sync, the first of them is primary, and others may learn.
    pub(super) fn agree(&mut self, in_sync: &[usize], candidates: &[usize]) {
        let all = |nodes: &[usize]| nodes.iter().map(|node| self.process(*node)).collect::<Vec<_>>();
        let (in_sync, candidates) = (all(in_sync), all(candidates));
        let configuration = &mut self.configuration;
        configuration.pepoch = Pepoch(configuration.pepoch.0 + 1);
        configuration.primary = in_sync[0].node;
        (configuration.in_sync, configuration.candidates) = (in_sync, candidates);
        configuration.gateways = vec![self.gateway];
        configuration.keepers = (0..self.nodes.len()).map(|node| NodeId([node as u8 + 1; 16])).collect();
        self.tell_all();
    }

    /// All living nodes hear what was agreed on.
    pub(super) fn tell_all(&mut self) {
        for node in 0..self.nodes.len() {
            self.tell(node);
        }
        self.deliver();
        (0..self.nodes.len()).for_each(|node| self.step_to_teach(node));
        self.deliver();
    }

    pub(super) fn tell(&mut self, node: usize) {
        self.step(node, Input::Configured(Arc::new(self.configuration.clone())));
    }

    /// Nothing gets from one to the other, nor back.
    pub(super) fn part(&mut self, one: usize, other: usize) {
        self.cut.extend([(one, other), (other, one)]);
    }

    /// Time goes by.
    pub(super) fn pass(&mut self, us: u64) {
        let end = self.now.after(us);
        while self.now < end {
            self.now = self.now.after(TICK_US);
            for node in 0..self.nodes.len() {
                self.step(node, Input::Tick);
                self.step_to_teach(node);
            }
            self.deliver();
        }
    }

    /// Whoever is primary may teach the learners, each in its turn, as fast as it can.
    fn step_to_teach(&mut self, node: usize) {
        let candidates = &self.configuration.candidates;
        let turn = (self.now.0 / TICK_US) as usize % candidates.len().max(1);
        if let Some(learner) = candidates.get(turn).copied() {
            self.step(node, Input::Teach { learner, bytes_per_second: u64::MAX });
        }
    }

    pub(super) fn deliver(&mut self) {
        while let Some((from, to, message)) = self.on_their_way.pop_front() {
            if self.cut.contains(&(from, to)) || (self.is_stopped)(&message.body) {
                self.kept_back.push((from, to, message));
            } else {
                let from = self.process(from);
                self.step(to, Input::Received { from, message });
            }
        }
    }

    /// What did not get through arrives after all, but for what `is_stopped` from now on.
    pub(super) fn let_through(&mut self, is_stopped: fn(&Body) -> bool) {
        self.cut.clear();
        self.is_stopped = is_stopped;
        self.on_their_way.extend(std::mem::take(&mut self.kept_back));
        self.deliver();
    }

    /// A slow log says what is in its file by now.
    pub(super) fn log_goes_on(&mut self, node: usize) {
        self.nodes[node].log_is_slow = false;
        while let Some((ticket, number)) = self.nodes[node].logging.pop_front() {
            self.nodes[node].storage.written(number);
            self.step(node, Input::Stored { ticket, outcome: Outcome::Done });
        }
        self.deliver();
    }

    pub(super) fn is_serving(&self, node: usize) -> bool {
        self.nodes[node].replica.as_ref().is_some_and(Replica::is_serving)
    }

    fn step(&mut self, node: usize, input: Input) {
        let Some(replica) = &mut self.nodes[node].replica else { return };
        let outputs = replica.step(self.now, input);
        for output in outputs {
            self.carry_out(node, output);
        }
    }

    fn carry_out(&mut self, node: usize, output: Output) {
        let Node { storage, reads_fail, log_is_slow, logging, .. } = &mut self.nodes[node];
        let found = |outcome: Outcome| if *reads_fail { Outcome::Failed } else { outcome };
        let (ticket, outcome) = match output {
            Output::Log { ticket, entry } => {
                let number = storage.log(entry);
                if *log_is_slow {
                    return logging.push_back((ticket, number));
                }
                storage.written(number);
                (ticket, Outcome::Done)
            }
            Output::Sync { ticket } => {
                storage.synced(storage.last());
                (ticket, Outcome::Done)
            }
            Output::Read { ticket, oid, blocks } => (ticket, found(storage.read(oid, blocks))),
            Output::Digests { ticket, after, most } => (ticket, found(storage.digests(after, most))),
            Output::Versions { ticket, oid } => (ticket, found(storage.versions(oid))),
            Output::Verify { ticket, oid } => (ticket, found(storage.verify(oid))),
            Output::Send { to, message } => {
                let to = usize::from(to.node.0[0]) - 1;
                self.sent += 1;
                return self.on_their_way.push_back((node, to, message));
            }
            Output::Answer { id, answer, .. } => return self.answers.push((id, answer)),
            Output::Propose(proposal) => return self.proposals.push(proposal.change),
            _ => return,
        };
        self.step(node, Input::Stored { ticket, outcome });
    }

    /// A request as the gateway makes it: with a new number, and a stamp of now.
    pub(super) fn next_request(&mut self, primary: usize, command: Command) -> Request {
        self.requests += 1;
        Request {
            id: RequestId { gateway: self.gateway, number: self.requests },
            resend: 1,
            unanswered_from: 1,
            pepoch: self.configuration.pepoch,
            stamp: self.stamp(primary),
            layout: 1,
            fence: 1,
            command,
        }
    }

    pub(super) fn stamp(&self, node: usize) -> Stamp {
        let clock = Duration::from_micros(self.now.0);
        Stamp { incarnation: self.nodes[node].incarnation, clock }
    }

    /// Sends a request; returns its answer, if one comes at once.
    pub(super) fn request(&mut self, primary: usize, request: Request) -> Option<Answer> {
        let (id, before) = (request.id, self.answers.len());
        self.step(primary, Input::Requested(request));
        self.deliver();
        self.answers[before..].iter().find(|(answered, _)| *answered == id).map(|(_, answer)| answer.clone())
    }

    pub(super) fn ask(&mut self, primary: usize, command: Command) -> Option<Answer> {
        let request = self.next_request(primary, command);
        self.request(primary, request)
    }

    /// Writes `value` to the first block of an object.
    pub(super) fn write(&mut self, primary: usize, oid: Oid, value: u8) -> Option<Answer> {
        self.ask(primary, write(oid, value))
    }

    /// The first byte of the first block: `Ok(None)` for zeroes that were never written.
    pub(super) fn read(&mut self, primary: usize, oid: Oid) -> Result<Option<u8>, Option<Answer>> {
        match self.ask(primary, Command::Read { oid, blocks: 0..1 }) {
            Some(Answer::Data(blocks)) => Ok(blocks[0].as_ref().map(|block| block.bytes[0])),
            answer => Err(answer),
        }
    }

    /// What a replica has of the first block of an object.
    pub(super) fn has(&self, node: usize, oid: Oid) -> Option<u8> {
        let stored: Option<Stored> = self.nodes[node].storage.objects().whole(oid, 0);
        stored?.content.map(|block| block.bytes[0])
    }

    pub(super) fn are_equal(&self, one: usize, other: usize) -> bool {
        let objects = |node: usize| self.nodes[node].storage.objects();
        objects(one).difference(objects(other)).is_none()
    }

    pub(super) fn has_promoted(&self, node: usize) -> bool {
        self.proposals.contains(&SetChange::Promote(self.process(node)))
    }
}

pub(super) fn write(oid: Oid, value: u8) -> Command {
    let range = ByteRange::new(0, BLOCK_SIZE_BYTES).expect("the first block");
    Command::Write { oid, range, pieces: vec![block(value)], durability: Durability::Logged }
}
