//! A cluster below gateways that are simulated elsewhere ([`crate::fencing`]). It has no clients, and its own gateways know no
//! more than where partitions are and whether they live. What they would be told is told to whoever runs it.

use huntaway_gateway::fencing::Sending;
use huntaway_ledger::DiskRecord;
use huntaway_replica::{Answer, Command, Entry, Process, Refused, Request, RequestId};
use huntaway_wire::{Durability, NodeId, ObjectKind, Oid, Stamp};

use super::block::{Seen, range_of, whole};
use super::event::{AtNode, Event};
use super::habits::Habits;
use super::operation::At;
use super::{Bug, Cluster, Endpoint, MS, SECOND, Shape, endpoint_of, id_of, note, partition as partition_of};
use crate::clock::{Ms, Time};
use crate::{Attempt, Random};

/// What whoever is above a cluster is told.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Report {
    /// A gateway's process died.
    Killed { gateway: usize },
    /// It was started again.
    Started { gateway: usize },
    /// Somebody is to reset the disk now.
    Reset,
    /// A store's answer reached a gateway's process.
    Answered { gateway: usize, incarnation: u64, number: u64, send: u32, said: Said, stamp: Stamp },
    /// A primary gave a write its version.
    Versioned { gateway: usize, incarnation: u64, number: u64 },
}

/// What a store said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    Done,
    /// What a read found.
    Found(u64),
    OldStamp,
    Fenced,
    OldLayout,
    /// It is to be sent again later, perhaps elsewhere.
    NotNow,
    /// The gateway had the answer before: nobody waits for one.
    Late,
}

impl Said {
    fn of(answer: &Answer) -> Self {
        match answer {
            Answer::Data(blocks) => Self::Found(blocks.first().map_or(0, |block| Seen::of(block).halves[0])),
            Answer::Done | Answer::Miscompare { .. } => Self::Done,
            Answer::Refused(Refused::OldStamp) => Self::OldStamp,
            Answer::Refused(Refused::Fenced) => Self::Fenced,
            Answer::Refused(Refused::OldLayout) => Self::OldLayout,
            Answer::Refused(Refused::Late) => Self::Late,
            // Nobody asks for a map here.
            Answer::Refused(_) | Answer::Damaged | Answer::Map(_) => Self::NotNow,
        }
    }
}

impl Cluster {
    /// A cluster for `gateways` that are simulated elsewhere. Its disks lose nothing but power.
    pub(crate) fn below(seed: u64, gateways: usize, bug: Option<Bug>, is_traced: bool) -> Self {
        let mut random = Random::new(seed);
        let shape = Shape {
            gateways,
            disks: 1,
            objects: 1,
            blocks: 2,
            branch_percent: 0,
            reset_percent: 0,
            reserves: false,
            disk_fault_every: 0,
            scrub_bytes_per_second: 0,
            ..Shape::draw(&mut random)
        };
        let habits = Habits::draw(shape.reserves, &mut random);
        let mut cluster = Self::of(shape, habits, 0, random, bug, is_traced);
        cluster.told = Some(Vec::new());
        cluster.begin();
        cluster
    }

    /// When something happens next.
    pub(crate) fn next_at(&self) -> Option<Time> {
        self.queue.next_at()
    }

    /// Lets the next thing happen. Returns when.
    pub(crate) fn go_on(&mut self) -> Time {
        if let Some((at, event)) = self.queue.pop() {
            self.time = at;
            self.happen(event);
        }
        self.time
    }

    /// What is asked of the cluster comes at that time.
    pub(crate) fn at_time(&mut self, now: Ms) -> &mut Self {
        self.time = self.time.max(now * MS);
        self
    }

    /// What there is to tell.
    pub(crate) fn news(&mut self) -> Vec<Report> {
        self.told.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// What happened, if it was to be noted.
    pub(crate) fn take_trace(&mut self) -> Vec<String> {
        self.trace.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn block_at(&self, block: usize) -> At {
        self.shape.at(
            block as u16 % self.shape.partitions,
            0,
            block as u32 / u32::from(self.shape.partitions),
        )
    }

    /// The store that is primary of a block's partition, as the gateway knows it.
    pub(crate) fn primary_of(&self, gateway: usize, block: usize) -> NodeId {
        let partition = usize::from(self.block_at(block).partition);
        id_of(self.gateways[gateway].primary(partition))
    }

    /// A gateway sends a request to a store: to write a value to a block, or to read it.
    pub(crate) fn submit(&mut self, gateway: usize, sending: &Sending, block: usize, writes: Option<u64>) {
        let Some(request) = self.request(gateway, sending, block, writes) else { return };
        note!(
            self,
            "gateway {gateway} sends {}#{} under fence {} to node {}",
            sending.number.0,
            sending.send,
            sending.fence,
            endpoint_of(sending.store)
        );
        let (endpoint, partition) = (self.gateway_endpoint(gateway), self.block_at(block).partition);
        self.send_request(endpoint, endpoint_of(sending.store), partition, &request);
    }

    /// A copy of such a request reaches the store so late.
    pub(crate) fn submit_late(
        &mut self,
        gateway: usize,
        sending: &Sending,
        block: usize,
        writes: Option<u64>,
        late: Ms,
    ) {
        let Some(request) = self.request(gateway, sending, block, writes) else { return };
        let (from, partition) = (self.gateway_endpoint(gateway), self.block_at(block).partition);
        let what = AtNode::Request { from, partition: partition_of(partition), request, is_checked: false };
        self.at_process(endpoint_of(sending.store), late * MS, what);
    }

    fn request(
        &self,
        gateway: usize,
        sending: &Sending,
        block: usize,
        writes: Option<u64>,
    ) -> Option<Request> {
        let at = self.block_at(block);
        let endpoint = self.gateway_endpoint(gateway);
        let incarnation = self.gateways[gateway].incarnation;
        let (pepoch, target) = self.gateways[gateway].knows(at)?;
        let oid = Oid::new(ObjectKind::Data, target.vid, at.object);
        let command = match writes {
            Some(value) => Command::Write {
                oid,
                range: range_of(at.block, 1),
                pieces: vec![whole(value)],
                durability: Durability::Logged,
            },
            None => Command::Read { oid, blocks: at.block..at.block + 1 },
        };
        Some(Request {
            id: RequestId {
                gateway: Process { node: id_of(endpoint), incarnation },
                number: sending.number.0,
            },
            resend: sending.send,
            unanswered_from: sending.lowest.0,
            pepoch,
            stamp: sending.stamp,
            layout: target.layout,
            fence: sending.fence,
            command,
        })
    }

    /// What a store says reaches a gateway.
    pub(super) fn tell_answer(
        &mut self,
        gateway: usize,
        id: RequestId,
        send: u32,
        answer: &Answer,
        stamp: Stamp,
    ) {
        let said = Said::of(answer);
        if said == Said::OldLayout {
            self.news_for_gateway_in(gateway, 1);
        }
        let (incarnation, number) = (id.gateway.incarnation.0, id.number);
        self.tell_above(Report::Answered { gateway, incarnation, number, send, said, stamp });
    }

    /// A node logs an entry: if it is a write that it gave its version, as a primary, it takes effect now. Not when it lacks a
    /// lease: until it has one again, or another primary has rolled the write forward, nothing is served, so it is as if the
    /// write had come before the lease ran out.
    pub(super) fn tell_if_versioned(&mut self, node: Endpoint, partition: u16, entry: &Entry) {
        let Entry::Write { record, .. } = entry else { return };
        let Some(request) = record.request else { return };
        let serving = self.nodes[node].replica(partition).filter(|replica| replica.is_serving());
        if serving.is_some_and(|replica| record.version.pepoch == replica.configuration().pepoch.0) {
            let gateway = endpoint_of(request.gateway.node) - self.shape.nodes;
            let (incarnation, number) = (request.gateway.incarnation.0, request.number);
            self.tell_above(Report::Versioned { gateway, incarnation, number });
        }
    }

    pub(super) fn tell_above(&mut self, what: Report) {
        self.told.iter_mut().for_each(|told| told.push(what));
    }

    /// A gateway's process dies, and is started again after so long.
    pub(crate) fn restart_gateway(&mut self, gateway: usize, after: Ms) {
        if self.gateways[gateway].is_alive() {
            self.crash_gateway(gateway);
            self.at(after * MS, Event::StartGateway { gateway });
        }
    }

    /// The store's thread that reads what the gateway sends stalls for so long, while others go on.
    pub(crate) fn stall_reader(&mut self, gateway: usize, store: NodeId, long: Ms) {
        let (from, now) = (self.gateway_endpoint(gateway), self.time);
        let stalled = &mut self.nodes[endpoint_of(store)].stalled;
        stalled.retain(|(_, until)| *until > now);
        stalled.push((from, now + long * MS));
    }

    /// The primary of a block's partition is removed in a moment, and what it says to a gateway is late.
    pub(crate) fn dethrone_soon(&mut self, block: usize, gateway: usize) {
        let partition = usize::from(self.block_at(block).partition);
        let primary = self.ledger.primary(partition).1;
        let after = self.random.below(50 * MS);
        self.at(after, Event::Overthrow { partition, primary });
        let (gateway, late) = (self.gateway_endpoint(gateway), self.random.below(2 * SECOND));
        self.network.slow_link(primary, gateway, late);
        self.at(2 * SECOND, Event::Quicken { endpoint: primary });
    }

    /// Raises the fence of the disk. Returns what a store has to have heard to know of that.
    pub(crate) fn raise_fence(&mut self) -> u64 {
        let disk = self.ledger.disks().disks().map(|(disk, _)| disk).next();
        if let Some(disk) = disk
            && self.ledger.agree_on_disks(DiskRecord::Fence { disk }).is_ok()
        {
            self.publish();
        }
        self.ledger.sequence
    }

    /// Whether every store has heard of that, or cannot serve.
    pub(crate) fn is_known(&self, sequence: u64) -> bool {
        let knows = |node: Endpoint| {
            let is_up = self.ledger.sets().node(id_of(node)).is_some_and(|known| known.is_up);
            !is_up || self.nodes[node].applied >= sequence
        };
        (0..self.shape.nodes).all(knows)
    }

    /// Somebody wants a snapshot.
    pub(crate) fn wish_snapshot(&mut self) {
        self.at(1, Event::Hold);
    }

    /// When the gateway's process goes on, if it is paused.
    pub(crate) fn paused_until(&self, gateway: usize) -> Ms {
        self.gateways[gateway].paused_until.div_ceil(MS)
    }

    /// What an initiator knows of an attempt to write or read a block.
    pub(crate) fn observed(&mut self, block: usize, attempt: Attempt) {
        let place = self.block_at(block).cell(0);
        self.histories.add(place, attempt);
    }

    /// What is wrong with all that was seen, if anything is.
    pub(crate) fn verdict(&self) -> Option<String> {
        let broken = self.broken.clone().or_else(|| self.judge_histories().err());
        broken.map(|broken| broken.to_string())
    }
}
