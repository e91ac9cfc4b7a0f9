//! A keeper, nodes with clocks of their own, and a network between them that loses, repeats and delays.

mod checker;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

pub(crate) use checker::Violation;
use checker::{Checker, Lease};
use huntaway_ledger::keeper::{
    Follower, HoldEnd, Input, Keeper, KeeperBug, NotStarted, Output, Proposal, ProposalAnswer, Start,
};
use huntaway_ledger::{
    Cluster, DiskRecord, EpochRecord, InSyncChange, Incarnation, Ledger, Member, MemberState, Memory, Name,
    Record, SetRecord, StartId, Starts, State, VdiOptions,
};
use huntaway_wire::{Epoch, NodeId, Partition, Process, Vid};

const NODES: usize = 4;
const PARTITIONS: u16 = 8;
const DISKS: u32 = 24;
const MS: u64 = 1000;
const SILENCE: Duration = Duration::from_secs(1);
const FAULTS_END: u64 = 8_000 * MS;
const END: u64 = 14_000 * MS;

/// SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[derive(Debug)]
enum Event {
    ToKeeper { keeper: u64, input: Input },
    ToNode { node: usize, output: Output },
    News { node: usize },
    Start { node: usize },
    Ask { node: usize },
    Report { node: usize },
    Send { node: usize, incarnation: Incarnation, number: u64 },
    Propose,
    Renew,
    Hold,
    Tick,
    Fault,
}

struct Node {
    incarnation: Incarnation,
    start: StartId,
    starts: Starts,
    after: Vec<StartId>,
    is_started: bool,
    /// What it knows.
    ledger: Ledger,
    /// Its clock shows so many thousandths of real time.
    rate: u64,
    silent_until: u64,
    /// Until then it has not found the keeper that there is.
    lost_until: u64,
    /// When it asked what, in real time.
    asks: BTreeMap<u64, u64>,
    last_ask: u64,
    follower: Follower,
    waiting: BTreeMap<u64, Proposal>,
    last_number: u64,
}

pub(crate) struct History {
    random: Random,
    bug: Option<KeeperBug>,
    time: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    last_event: u64,
    keeper: Keeper,
    /// Which one it is.
    keepers: u64,
    keeper_rate: u64,
    /// Until then it takes no steps: whatever comes waits.
    held_up_until: u64,
    nodes: Vec<Node>,
    records: Vec<Vec<u8>>,
    checker: Checker,
    next_disk: u32,
    loss_percent: u64,
    delay: u64,
    broken: Option<Violation>,
}

fn id(node: usize) -> NodeId {
    NodeId([node as u8 + 1; 16])
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

/// A cluster of a few nodes and disks.
fn first() -> Ledger {
    let mut ledger = Ledger::default();
    ledger.plant(|state| *state = State::with_partitions(PARTITIONS));
    let member = |node| Member {
        node: id(node),
        name: name("node"),
        incarnation: Incarnation(0),
        addresses: Vec::new(),
        zone: name("zone"),
        weight: 1,
        state: MemberState::Up,
    };
    let members: Vec<Member> = (0..NODES).map(member).collect();
    let voters = members.iter().map(|member| member.node).collect();
    let cluster = Cluster { uuid: [1; 16], name: name("cluster") };
    let options = VdiOptions { size_bytes: 1 << 30, block_size: 512, physical_block_size: 512, thin: true };
    let mut records = vec![
        Record::Copies { copies: 3, min_copies: 1 },
        Record::Epoch(EpochRecord { number: Epoch(1), cluster, members, voters }),
    ];
    records.extend((1..=DISKS).map(|disk| {
        let (vid, name) = (Vid::new(disk).expect("a vid"), name(&format!("disk-{disk}")));
        Record::CreateVdi { vid, name, uuid: [0; 16], options }
    }));
    for record in records {
        ledger = ledger.follow(&record).expect("a new cluster").ledger;
    }
    ledger
}

impl History {
    pub(crate) fn new(seed: u64, bug: Option<KeeperBug>) -> Self {
        let mut random = Random(seed.wrapping_mul(0x1234_5678_9abc_def1));
        let ledger = first();
        let rate = |random: &mut Random| if random.percent(50) { 1000 } else { 1000 + random.below(101) };
        let node = |random: &mut Random| Node {
            incarnation: Incarnation(0),
            start: StartId(0),
            starts: Starts::first(),
            after: Vec::new(),
            is_started: false,
            ledger: ledger.clone(),
            rate: rate(random),
            silent_until: 0,
            lost_until: 0,
            asks: BTreeMap::new(),
            last_ask: 0,
            follower: Follower(0),
            waiting: BTreeMap::new(),
            last_number: 0,
        };
        let nodes = (0..NODES).map(|_| node(&mut random)).collect();
        let keeper_rate = 1000 + random.below(101);
        let loss_percent = random.below(20);
        let longest = if random.percent(30) { 400 * MS } else { 20 * MS };
        let delay = 1 + random.below(longest);
        let mut history = Self {
            bug,
            time: 0,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            last_event: 0,
            keeper: Keeper::new(Duration::ZERO, ledger.clone(), SILENCE),
            keepers: 0,
            keeper_rate,
            held_up_until: 0,
            nodes,
            records: Vec::new(),
            checker: Checker::new(ledger),
            next_disk: 1,
            loss_percent,
            delay,
            broken: None,
            random,
        };
        bug.into_iter().for_each(|bug| history.keeper.plant(bug));
        for node in 0..NODES {
            history.after(700 * MS, Event::Start { node });
            history.after(800 * MS, Event::Ask { node });
        }
        for event in [Event::Tick, Event::Propose, Event::Renew, Event::Hold, Event::Fault] {
            history.after(800 * MS, event);
        }
        history
    }

    pub(crate) fn run(mut self) -> Result<(), Violation> {
        while let Some(Reverse((time, number))) = self.queue.pop() {
            self.time = time;
            if let Some(violation) = self.broken.take() {
                return Err(violation);
            }
            if time > END {
                let served = (0..NODES).all(|node| self.checker.has_lease(self.process(node), time));
                return self.checker.at_rest(served);
            }
            if let Some(event) = self.events.remove(&number) {
                self.happens(event);
            }
        }
        Ok(())
    }

    fn after(&mut self, delay: u64, event: Event) {
        self.last_event += 1;
        self.queue.push(Reverse((self.time + delay, self.last_event)));
        self.events.insert(self.last_event, event);
    }

    fn process(&self, node: usize) -> Process {
        Process { node: id(node), incarnation: self.nodes[node].incarnation }
    }

    fn is_quiet(&self) -> bool {
        self.time >= FAULTS_END
    }

    /// Sends something to the keeper: lost, late, or twice.
    fn send(&mut self, input: Input) {
        let copies = if !self.is_quiet() && self.random.percent(10) { 2 } else { 1 };
        for _ in 0..copies {
            if let Some(delay) = self.network_delay() {
                self.after(delay, Event::ToKeeper { keeper: self.keepers, input: input.clone() });
            }
        }
    }

    fn network_delay(&mut self) -> Option<u64> {
        let delay = if self.is_quiet() { 2 * MS } else { self.delay };
        let is_lost = !self.is_quiet() && self.random.percent(self.loss_percent);
        (!is_lost).then(|| 1 + self.random.below(delay))
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::ToKeeper { keeper, input } if keeper == self.keepers => self.step(input),
            Event::ToKeeper { .. } => {}
            Event::ToNode { node, output } => self.hears(node, output),
            Event::News { node } => self.learns(node),
            Event::Start { node } => self.starts(node),
            Event::Ask { node } => self.asks(node),
            Event::Report { node } => self.reports(node),
            Event::Send { node, incarnation, number } => self.sends(node, incarnation, number),
            Event::Propose => self.proposes(),
            Event::Renew => self.renews(),
            Event::Hold => self.holds(),
            Event::Tick => {
                self.after(20 * MS, Event::Tick);
                if self.time >= self.held_up_until {
                    self.step(Input::Tick);
                    self.step(Input::AskedKnown);
                }
            }
            Event::Fault => self.fault(),
        }
    }

    fn step(&mut self, input: Input) {
        if self.time < self.held_up_until {
            let keeper = self.keepers;
            return self.after(self.held_up_until - self.time, Event::ToKeeper { keeper, input });
        }
        let now = Duration::from_micros(self.time * self.keeper_rate / 1000);
        match &input {
            Input::Suspected { nodes } => self.checker.suspected(nodes, self.time),
            Input::AskedLease { process, applied, .. } => self.checker.heard(*process, *applied, self.time),
            Input::Left { process } => self.checker.excuse(process.node),
            _ => {}
        }
        if let Err(violation) = self.checker.is_in_time(self.time) {
            self.broken.get_or_insert(violation);
        }
        for output in self.keeper.step(now, input) {
            if let Err(violation) = self.comes(output) {
                self.broken.get_or_insert(violation);
            }
        }
    }

    fn check_known_by_all(&mut self, known_by_all: u64) -> Result<(), Violation> {
        let known: BTreeMap<NodeId, u64> =
            (0..NODES).map(|node| (id(node), self.nodes[node].ledger.state().number())).collect();
        self.checker.known_by_all(known_by_all, &known, self.time)
    }

    fn comes(&mut self, output: Output) -> Result<(), Violation> {
        let to = match &output {
            Output::Record(bytes) => {
                self.checker.record(bytes, self.time)?;
                self.records.push(bytes.clone());
                for node in 0..NODES {
                    let late = if self.random.percent(20) { self.random.below(400 * MS) } else { 0 };
                    let delay = 1 + self.random.below(5 * MS) + if self.is_quiet() { 0 } else { late };
                    self.after(delay, Event::News { node });
                }
                return Ok(());
            }
            Output::Leased { process, ask, known_by_all } => {
                let node = self.node_of(process.node);
                let Node { rate, asks, ledger, incarnation, .. } = &self.nodes[node];
                if *incarnation == process.incarnation
                    && let Some(sent) = asks.get(ask)
                {
                    let until = sent + 600_000 * 1000 / rate;
                    let lease = Lease { until, applied: ledger.state().number() };
                    self.checker.leased(*process, lease, self.time)?;
                }
                self.check_known_by_all(*known_by_all)?;
                process.node
            }
            Output::Known { known_by_all } => return self.check_known_by_all(*known_by_all),
            Output::Started { process, .. }
            | Output::NotStarted { process, .. }
            | Output::NotLeased { process, .. } => process.node,
            Output::Connected { .. } => return Ok(()),
            Output::Answered { by, .. } => match self.nodes.iter().position(|node| node.follower == *by) {
                Some(node) => id(node),
                None => return Ok(()),
            },
        };
        let node = self.node_of(to);
        if let Some(delay) = self.network_delay() {
            self.after(delay, Event::ToNode { node, output });
        }
        Ok(())
    }

    fn node_of(&self, node: NodeId) -> usize {
        usize::from(node.0[0]) - 1
    }

    /// A process starts, or says again that it did.
    fn starts(&mut self, node: usize) {
        let state = &mut self.nodes[node];
        if state.is_started {
            return;
        }
        if state.start == StartId(0) {
            state.start = StartId(self.random.next());
            state.after = state.starts.begin(state.start);
            state.starts.proposed();
            state.follower = Follower(self.random.next());
            (state.asks, state.waiting) = (BTreeMap::new(), BTreeMap::new());
            state.incarnation = Incarnation(state.incarnation.0 + 1);
            self.keeper_connects(node);
        }
        let process = self.process(node);
        let (start, after) = (self.nodes[node].start, self.nodes[node].after.clone());
        self.send(Input::Started(Start { process, memory: Memory::Kept, start, after }));
        let pause = 100 * MS + self.random.below(100 * MS);
        self.after(pause, Event::Start { node });
    }

    fn keeper_connects(&mut self, node: usize) {
        let by = self.nodes[node].follower;
        self.step(Input::Connected { by });
    }

    fn asks(&mut self, node: usize) {
        let pause = 100 * MS + self.random.below(60 * MS);
        self.after(pause, Event::Ask { node });
        let process = self.process(node);
        let (time, state) = (self.time, &mut self.nodes[node]);
        if !state.is_started || state.silent_until.max(state.lost_until) > time {
            return;
        }
        state.last_ask += 1;
        let (ask, applied) = (state.last_ask, state.ledger.state().number());
        state.asks.insert(ask, time);
        self.send(Input::AskedLease { process, ask, applied });
    }

    /// It learns of some of what is new.
    fn learns(&mut self, node: usize) {
        let known = self.nodes[node].ledger.state().number() - self.checker.first_number();
        let Some(bytes) = self.records.get(known as usize).cloned() else { return };
        if self.nodes[node].silent_until > self.time {
            return;
        }
        self.nodes[node].ledger.read(&bytes).expect("what was agreed on can be read");
        let (next, report) = (self.random.below(MS), self.random.below(50 * MS));
        self.after(1 + next, Event::News { node });
        self.after(1 + report, Event::Report { node });
    }

    /// It says what it holds: everything, as soon as it knows of the hold.
    fn reports(&mut self, node: usize) {
        let process = self.process(node);
        let Node { ledger, is_started, silent_until, .. } = &self.nodes[node];
        let state = ledger.state().clone();
        let hold = state.disks().versions().find_map(|(_, _, hold)| hold);
        let Some(hold) = hold.filter(|_| *is_started && *silent_until <= self.time) else { return };
        let leads = state.leads(process.node);
        self.checker.reported(process.node, hold.number, leads);
        self.send(Input::Holds { process, hold: hold.number, leads });
        self.after(60 * MS, Event::Report { node });
    }

    fn hears(&mut self, node: usize, output: Output) {
        let process = self.process(node);
        let state = &mut self.nodes[node];
        match output {
            Output::Started { process: started, start }
                if started == process && start == state.start && !state.is_started =>
            {
                state.starts.recorded();
                state.is_started = true;
            }
            Output::NotStarted { process: refused, start, why: NotStarted::Past { last } }
                if refused == process && start == state.start && !state.is_started =>
            {
                state.incarnation = Incarnation(last.0 + 1);
            }
            Output::Answered { by, number, answer } if by == state.follower => {
                if let Some(proposal) = state.waiting.remove(&number)
                    && let Err(violation) = self.checker.answered(&proposal, answer)
                {
                    self.broken.get_or_insert(violation);
                }
            }
            _ => {}
        }
    }

    /// A node proposes something, and again, until it has the answer.
    fn propose(&mut self, node: usize, proposal: Proposal) {
        let state = &mut self.nodes[node];
        if state.is_started && self.time < FAULTS_END {
            state.last_number += 1;
            let (incarnation, number) = (state.incarnation, state.last_number);
            state.waiting.insert(number, proposal);
            self.sends(node, incarnation, number);
        }
    }

    fn sends(&mut self, node: usize, incarnation: Incarnation, number: u64) {
        let state = &self.nodes[node];
        let Some(proposal) = state.waiting.get(&number).filter(|_| state.incarnation == incarnation) else {
            return;
        };
        let unanswered_from = state.waiting.keys().next().copied().unwrap_or(number);
        let (by, proposal) = (state.follower, proposal.clone());
        self.send(Input::Proposed { by, number, unanswered_from, proposal });
        let pause = 20 * MS + self.random.below(200 * MS);
        self.after(pause, Event::Send { node, incarnation, number });
    }

    /// Each fence is wanted once.
    fn proposes(&mut self) {
        let pause = self.random.below(600 * MS);
        self.after(pause, Event::Propose);
        if self.next_disk <= DISKS {
            let disk = Vid::new(self.next_disk).expect("a vid");
            self.next_disk += 1;
            let node = self.random.below(NODES as u64) as usize;
            self.propose(node, Proposal::Record(Record::Disks(DiskRecord::Fence { disk })));
        }
    }

    fn renews(&mut self) {
        let pause = 1 + self.random.below(300 * MS);
        self.after(pause, Event::Renew);
        let node = self.random.below(NODES as u64) as usize;
        let partition = Partition::new(self.random.below(PARTITIONS.into()) as u16).expect("a partition");
        let pepoch = self.nodes[node].ledger.state().pepoch(partition);
        let change = InSyncChange::Renew;
        let record = Record::Sets(SetRecord::Changed { partition, pepoch, change });
        self.propose(node, Proposal::Record(record));
    }

    fn holds(&mut self) {
        let pause = self.random.below(1500 * MS);
        self.after(pause, Event::Hold);
        let node = self.random.below(NODES as u64) as usize;
        let disks = (1..=DISKS).map(|disk| Vid::new(disk).expect("a vid")).collect();
        self.propose(node, Proposal::Hold { disks, then: HoldEnd::Freeze });
    }

    fn fault(&mut self) {
        if self.is_quiet() {
            return;
        }
        let pause = self.random.below(1200 * MS);
        self.after(pause, Event::Fault);
        let node = self.random.below(NODES as u64) as usize;
        match self.random.below(100) {
            // A process is replaced by another one. It may be there still.
            0..35 => {
                let state = &mut self.nodes[node];
                (state.is_started, state.start) = (false, StartId(0));
                let by = state.follower;
                self.step(Input::Disconnected { by });
                let longest = if self.random.percent(50) { 100 * MS } else { 2_500 * MS };
                let pause = self.random.below(longest);
                self.after(pause, Event::Start { node });
            }
            // A process is paused, or cut off.
            35..60 => {
                let until = self.time + self.random.below(2_500 * MS);
                self.nodes[node].silent_until = until;
                self.after(until - self.time, Event::News { node });
            }
            60..75 => {
                let also = self.random.below(NODES as u64) as usize;
                self.step(Input::Suspected { nodes: vec![id(node), id(also)] });
            }
            75..80 => {
                let process = self.process(node);
                if self.nodes[node].is_started {
                    self.nodes[node].is_started = false;
                    self.checker.left(process);
                    self.nodes[node].start = StartId(0);
                    self.nodes[node].asks.clear();
                    self.send(Input::Left { process });
                    self.after(300 * MS, Event::Start { node });
                }
            }
            80..90 => self.restart_keeper(),
            // What it does takes longer than it should.
            _ => {
                let longest = self.random.below(2_500 * MS);
                let before = self.held_up_until.max(self.time);
                self.held_up_until = before.max(self.time + longest);
                self.checker.held_up(self.held_up_until - before);
            }
        }
    }

    /// What the keeper knew but for the records is gone, and so is what was on its way.
    fn restart_keeper(&mut self) {
        self.keepers += 1;
        let now = Duration::from_micros(self.time * self.keeper_rate / 1000);
        self.keeper = Keeper::new(now, self.checker.ledger().clone(), SILENCE);
        self.bug.into_iter().for_each(|bug| self.keeper.plant(bug));
        self.held_up_until = 0;
        self.checker.keeper_restarted(self.time);
        for node in 0..NODES {
            self.nodes[node].lost_until = self.time + self.random.below(1_500 * MS);
            self.nodes[node].follower = Follower(self.random.next());
            self.nodes[node].waiting.clear();
            self.keeper_connects(node);
        }
    }
}

/// Whether the record is what was proposed.
fn is_agreed(record: &Record, proposal: &Proposal, answer: ProposalAnswer) -> bool {
    match (proposal, answer) {
        (Proposal::Record(proposed), ProposalAnswer::Agreed { .. }) => record.carries_out(proposed),
        (Proposal::Hold { .. }, ProposalAnswer::Agreed { .. }) => {
            matches!(record, Record::Disks(DiskRecord::Commit { .. }))
        }
        (_, ProposalAnswer::NotHeld { .. }) => matches!(record, Record::Disks(DiskRecord::Abort { .. })),
        _ => true,
    }
}
