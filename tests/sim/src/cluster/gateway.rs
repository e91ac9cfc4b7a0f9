//! A gateway: it takes commands of clients to primaries, and sends them again until it may not any more.

use std::collections::BTreeMap;
use std::ops::Range;

use huntaway_gateway::fencing::SETTLE_TIME;
use huntaway_replica::{Answer, Command, Moment, Process, Refused, Request, RequestId};
use huntaway_wire::{Incarnation, MappedRun, ObjectKind, Oid, Pepoch, Provisioning, Stamp, Vid};

use super::block::{Seen, flip};
use super::client::Told;
use super::event::{AtGateway, AtNode, Event};
use super::judgement::Broken;
use super::operation::{At, What};
use super::snapshot::Target;
use super::syncing::{Knowledge, Rounds};
use super::{Bug, Cluster, Endpoint, MS, Shape, id_of, note, partition};
use crate::Random;
use crate::clock::{Clock, Time};

/// A command is sent, and sent again, only within this age on the gateway's clock.
const SENT_WITHIN_US: u64 = 2_000_000;

/// A command is failed at this age: whatever was sent can have no effect any more.
const FAILED_AFTER_US: u64 = 3_200_000;

/// A command that is not answered is sent again after so long.
const RESEND_US: u64 = 400_000;

/// A gateway that starts takes commands only after so long, for what its predecessor sent may still have effects.
const LISTENS_AFTER: Time = SETTLE_TIME.as_micros() as Time;

const TICK: Time = 100 * MS;

/// A gateway of the cluster.
pub(crate) struct Gateway {
    clock: Clock,
    pub(crate) incarnation: Incarnation,
    alive: bool,
    pub(crate) paused_until: Time,
    listens_from: Time,
    last_number: u64,
    commands: BTreeMap<u64, UnderWay>,
    /// The newest stamp of each store.
    stamps: BTreeMap<Endpoint, Stamp>,
    /// The version of each disk that is worked with.
    disks: Vec<Option<Target>>,
    /// Pepoch and primary of each partition.
    view: Vec<(Pepoch, Endpoint)>,
    /// What else it knows of the ledger.
    pub(super) knows: Knowledge,
    pub(super) rounds: Rounds,
}

struct UnderWay {
    client: usize,
    operation: u64,
    /// When the client sent it, on the gateway's clock: what a path proof would show.
    sent: Moment,
    partition: u16,
    what: What,
    /// The fence of its disk when it was received.
    fence: u64,
    /// The version of its disk that it was sent to last.
    sent_to: Option<Vid>,
    /// It was given up on purpose: it is not sent any more.
    is_aborted: bool,
    resend: u32,
    /// How many requests are to reach a store: the network may repeat them.
    copies: usize,
    send_at: Moment,
    /// A store said that it cannot be done, for a block is damaged.
    is_damaged: bool,
    /// When a store said that there is no space for it.
    without_space_at: Option<Moment>,
}

impl Gateway {
    pub(crate) fn new(shape: &Shape, random: &mut Random) -> Self {
        Self {
            clock: Clock::new(random),
            incarnation: Incarnation(0),
            alive: false,
            paused_until: 0,
            listens_from: 0,
            last_number: 0,
            commands: BTreeMap::new(),
            stamps: BTreeMap::new(),
            disks: Vec::new(),
            view: vec![(Pepoch(0), 0); usize::from(shape.partitions)],
            knows: Knowledge::default(),
            rounds: Rounds::default(),
        }
    }

    /// Which half of a block the command with the number writes, if that is what it does.
    pub(crate) fn half_of(&self, number: u64) -> Option<u32> {
        match self.commands.get(&number)?.what {
            What::WriteHalf { half, .. } => Some(half),
            _ => None,
        }
    }

    /// The node that it takes for the primary of a partition.
    pub(crate) fn primary(&self, partition: usize) -> Endpoint {
        self.view[partition].1
    }

    /// The pepoch of a place, and the version of its disk, as it knows them.
    pub(crate) fn knows(&self, at: At) -> Option<(Pepoch, Target)> {
        Some((self.view[usize::from(at.partition)].0, (*self.disks.get(at.disk)?)?))
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.alive
    }

    /// The partition that the command with the number is for, if it is under way.
    pub(super) fn partition_of(&self, number: u64) -> Option<u16> {
        self.commands.get(&number).map(|command| command.partition)
    }
}

impl Cluster {
    pub(crate) fn start_gateway(&mut self, gateway: usize) {
        let state = &mut self.gateways[gateway];
        if state.alive {
            return;
        }
        state.alive = true;
        state.incarnation.0 += 1;
        state.listens_from = self.time + if state.incarnation.0 > 1 { LISTENS_AFTER } else { 0 };
        state.last_number = 0;
        state.stamps.clear();
        state.rounds = Rounds::default();
        note!(self, "gateway {gateway} starts");
        self.tell_above(super::Report::Started { gateway });
        let node = id_of(self.gateway_endpoint(gateway));
        self.ledger.gateways[gateway] = Process { node, incarnation: self.gateways[gateway].incarnation };
        self.publish();
        self.at_gateway_process(gateway, 1, AtGateway::News);
        self.at_gateway_process(gateway, TICK, AtGateway::Tick);
    }

    pub(crate) fn crash_gateway(&mut self, gateway: usize) {
        note!(self, "gateway {gateway} is killed");
        self.tell_above(super::Report::Killed { gateway });
        let state = &mut self.gateways[gateway];
        state.alive = false;
        state.paused_until = 0;
        for command in std::mem::take(&mut state.commands).into_values() {
            self.tell(command.client, command.operation, Told::Lost);
        }
    }

    pub(crate) fn news_for_gateway_in(&mut self, gateway: usize, after: Time) {
        self.at_gateway_process(gateway, after, AtGateway::News);
    }

    fn at_gateway_process(&mut self, gateway: usize, after: Time, what: AtGateway) {
        let incarnation = self.gateways[gateway].incarnation;
        self.at(after, Event::Gateway { gateway, incarnation, what });
    }

    /// A client's command reaches the gateway, if there is one.
    pub(crate) fn command_to(&mut self, gateway: usize, client: usize, operation: u64) {
        if self.gateways[gateway].alive {
            let sent = self.time;
            self.at_gateway_process(gateway, 50, AtGateway::Command { client, operation, sent });
        } else {
            self.tell(client, operation, Told::Refused);
        }
    }

    fn tell(&mut self, client: usize, operation: u64, told: Told) {
        let delay = 50 + self.random.below(200);
        self.at(delay, Event::ClientTold { client, operation, told });
    }

    pub(crate) fn at_gateway(&mut self, gateway: usize, what: AtGateway) {
        match what {
            AtGateway::Command { client, operation, sent } => {
                self.take_command(gateway, client, operation, sent);
            }
            AtGateway::Answer { id, resend, answer, stamp, .. } if self.told.is_some() => {
                self.tell_answer(gateway, id, resend, &answer, stamp);
            }
            AtGateway::Answer { from, id, resend, answer, stamp } => {
                self.answered(gateway, from, id, resend, answer, stamp);
            }
            AtGateway::SyncedAll { from, round, known } => self.round_answered(gateway, from, round, known),
            AtGateway::Tick => {
                self.mind_round(gateway);
                self.gateway_tick(gateway);
            }
            AtGateway::News => {
                let endpoint = self.gateway_endpoint(gateway);
                if !self.network.reaches(self.ledger_endpoint(), endpoint) {
                    return self.at_gateway_process(gateway, 300 * MS, AtGateway::News);
                }
                let late = self.network.late_news[endpoint].saturating_sub(self.time);
                if late > 0 {
                    return self.at_gateway_process(gateway, late, AtGateway::News);
                }
                let partitions = 0..usize::from(self.shape.partitions);
                self.gateways[gateway].disks = self.ledger.targets();
                self.gateways[gateway].view = partitions.map(|number| self.ledger.primary(number)).collect();
                self.gateways[gateway].knows = self.knowledge();
                self.mind_round(gateway);
            }
        }
    }

    /// The version of a disk that an operation is for, as the gateway knows it.
    fn target(&self, gateway: usize, what: &What) -> Option<Target> {
        let Some(at) = what.at() else { return self.gateways[gateway].disks.first().copied().flatten() };
        match what {
            What::ReadSnapshot { snapshot, .. } => {
                let frozen = self.histories.snapshots[*snapshot].frozen.get(&at.disk).copied();
                match frozen {
                    Some(vid) => self.ledger.target(vid),
                    None => self.ledger.targets().get(at.disk).copied().flatten(),
                }
            }
            _ => self.gateways[gateway].disks.get(at.disk).copied().flatten(),
        }
    }

    fn take_command(&mut self, gateway: usize, client: usize, operation: u64, sent: Time) {
        if self.time < self.gateways[gateway].listens_from {
            return self.tell(client, operation, Told::Refused);
        }
        let Some(what) = self.clients[client].receive(operation, self.time) else { return };
        let target = self.target(gateway, &what);
        let (partition, fence) = (what.partition(), target.map_or(0, |target| target.fence));
        let state = &mut self.gateways[gateway];
        state.last_number += 1;
        let number = state.last_number;
        let sent = state.clock.moment(sent);
        let is_by_round = matches!(what, What::Flush { .. }) && self.habits.flushes_by_round;
        let under_way = UnderWay {
            client,
            operation,
            sent,
            partition,
            what,
            fence,
            sent_to: None,
            is_aborted: false,
            resend: 0,
            copies: 0,
            send_at: Moment(if is_by_round { u64::MAX } else { 0 }),
            is_damaged: false,
            without_space_at: None,
        };
        state.commands.insert(number, under_way);
        if is_by_round {
            self.flush_by_round(gateway, number);
        } else {
            self.send_command(gateway, number);
        }
    }

    /// A flush is done, by whoever has synced.
    pub(super) fn is_flushed(&mut self, gateway: usize, number: u64) {
        if let Some(command) = self.gateways[gateway].commands.remove(&number) {
            self.tell(command.client, command.operation, Told::Done);
        }
    }

    /// Sends a command, if it is young enough: with the newest stamp of the store, taken before its age is checked.
    pub(super) fn send_command(&mut self, gateway: usize, number: u64) {
        let endpoint = self.gateway_endpoint(gateway);
        let Some(command) = self.gateways[gateway].commands.get(&number) else { return };
        let Some(target) = self.target(gateway, &command.what) else { return };
        let state = &mut self.gateways[gateway];
        let now = state.clock.moment(self.time);
        let process = Process { node: id_of(endpoint), incarnation: state.incarnation };
        let unanswered_from = state.commands.keys().next().copied().unwrap_or(number);
        let Some(command) = state.commands.get_mut(&number) else { return };
        let (pepoch, primary) = state.view[usize::from(command.partition)];
        let stamp = state.stamps.get(&primary).copied().unwrap_or(Stamp::NONE);
        if now.since(command.sent) > SENT_WITHIN_US || command.is_aborted {
            return;
        }
        command.resend += 1;
        command.sent_to = Some(target.vid);
        command.send_at = now.after(RESEND_US);
        let request = Request {
            id: RequestId { gateway: process, number },
            resend: command.resend,
            unanswered_from,
            pepoch,
            stamp,
            layout: target.layout,
            fence: command.fence,
            command: command.what.command(target.vid),
        };
        let partition = command.partition;
        if let Command::Remove { oid, .. } = &request.command {
            self.histories.set_aside.removed(partition, *oid, self.time);
        }
        let copies = self.send_request(endpoint, primary, partition, &request);
        if let Some(command) = self.gateways[gateway].commands.get_mut(&number) {
            command.copies += copies;
        }
    }

    /// A gateway's socket takes a request to a store. Returns how often it gets there.
    pub(super) fn send_request(
        &mut self,
        endpoint: Endpoint,
        primary: Endpoint,
        number: u16,
        request: &Request,
    ) -> usize {
        let partition = partition(number);
        let passage = self.network.pass(endpoint, primary, &mut self.random);
        let copies = passage.after.len();
        for after in passage.after {
            let mut request = request.clone();
            if passage.is_damaged {
                damage(&mut request.command, self.random.percent(50));
            }
            let request = self.carried(partition, request);
            let what = AtNode::Request { from: endpoint, partition, request, is_checked: false };
            self.at_process(primary, after, what);
        }
        copies
    }

    fn answered(
        &mut self,
        gateway: usize,
        from: Endpoint,
        id: RequestId,
        resend: u32,
        answer: Answer,
        stamp: Stamp,
    ) {
        let state = &mut self.gateways[gateway];
        let newest = state.stamps.entry(from).or_insert(stamp);
        *newest = (*newest).max(stamp);
        let now = state.clock.moment(self.time);
        let Some(command) = state.commands.get_mut(&id.number) else { return };
        let told = match answer {
            Answer::Done => Told::Done,
            Answer::Data(blocks) => Told::Data(blocks.iter().map(Seen::of).collect()),
            Answer::Map(runs) => {
                let is_mapped = |run: &MappedRun| run.provisioning == Provisioning::Mapped;
                let blocks = runs.iter().flat_map(|run| (0..run.blocks).map(move |_| is_mapped(run)));
                Told::Map(blocks.collect())
            }
            Answer::Miscompare { .. } => Told::Miscompare,
            Answer::Damaged if command.what.is_read() => Told::Damaged,
            // An earlier sending may be on its way, so there is no answer before none of them can have an effect.
            Answer::Damaged => {
                command.is_damaged = true;
                command.send_at = Moment(u64::MAX);
                self.broken = self.broken.take().or(needless(command));
                return;
            }
            // What was sent until now can have an effect only for so long.
            Answer::Refused(Refused::NoSpace) => {
                command.without_space_at.get_or_insert(now);
                command.is_aborted = true;
                return;
            }
            Answer::Refused(Refused::OldStamp) if resend == command.resend => {
                return self.send_command(gateway, id.number);
            }
            Answer::Refused(Refused::OldLayout) => {
                command.send_at = now;
                return self.at_gateway_process(gateway, 1, AtGateway::News);
            }
            Answer::Refused(Refused::Fenced) => {
                command.is_aborted = true;
                if self.bug == Some(Bug::AbortedSentAgain) {
                    let newest = command.what.at().and_then(|at| Some(self.ledger.targets()[at.disk]?.fence));
                    (command.is_aborted, command.fence) = (false, newest.unwrap_or(0));
                    command.send_at = now;
                }
                return;
            }
            Answer::Refused(_) => {
                command.send_at = command.send_at.min(now.after(RESEND_US / 4));
                return;
            }
        };
        let (client, operation) = (command.client, command.operation);
        if let What::Reserve { at, .. } = command.what
            && command.resend == 1
            && let Some(vid) = command.sent_to
        {
            let oid = Oid::new(ObjectKind::Data, vid, at.object);
            self.histories.set_aside.is_there(at.partition, oid, self.time);
        }
        let state = &mut self.gateways[gateway];
        state.commands.remove(&id.number);
        self.tell(client, operation, told);
    }

    /// What the last sending of a request asks to read, if it is still under way and a read: the object, those that it inherits
    /// from, and the blocks.
    pub(crate) fn read_of(
        &self,
        gateway: usize,
        id: RequestId,
        resend: u32,
    ) -> Option<(Vec<Oid>, Range<u32>)> {
        let state = &self.gateways[gateway];
        let is_it = |command: &&UnderWay| {
            state.incarnation == id.gateway.incarnation && command.resend == resend && command.what.is_read()
        };
        let command = state.commands.get(&id.number).filter(is_it)?;
        let (Command::Read { oid, blocks } | Command::Map { oid, blocks }) =
            command.what.command(command.sent_to?)
        else {
            return None;
        };
        let lineage = self.ledger.vdis().lineage(oid.vid());
        Some((lineage.into_iter().map(|vid| Oid::new(oid.kind(), vid, oid.index())).collect(), blocks))
    }

    /// The object that a request that is still under way may change, unless it is to set space aside.
    pub(crate) fn changed_by(&self, gateway: usize, id: RequestId, resend: u32) -> Option<Oid> {
        let state = &self.gateways[gateway];
        let command = state.commands.get(&id.number)?;
        let is_it = state.incarnation == id.gateway.incarnation && command.resend == resend;
        let is_write = !matches!(command.what, What::Reserve { .. });
        let (at, vid) = (command.what.at()?, command.sent_to?);
        (is_it && is_write).then(|| Oid::new(ObjectKind::Data, vid, at.object))
    }

    fn gateway_tick(&mut self, gateway: usize) {
        self.at_gateway_process(gateway, TICK, AtGateway::Tick);
        let state = &mut self.gateways[gateway];
        let now = state.clock.moment(self.time);
        let is_settled = |since: Moment| u128::from(now.since(since)) > SETTLE_TIME.as_micros();
        let is_old = |command: &UnderWay| {
            now.since(command.sent) > FAILED_AFTER_US || command.without_space_at.is_some_and(is_settled)
        };
        let numbers = |wanted: &dyn Fn(&UnderWay) -> bool| -> Vec<u64> {
            let commands = state.commands.iter().filter(|(_, command)| wanted(command));
            commands.map(|(number, _)| *number).collect()
        };
        let (old, late) = (numbers(&is_old), numbers(&|command| command.send_at <= now));
        for number in old {
            if let Some(command) = self.gateways[gateway].commands.remove(&number) {
                let told = if command.without_space_at.is_some() {
                    // One that was refused can be followed by one that is carried out.
                    Told::NoSpace { had_no_effect: command.copies == 1 }
                } else if command.is_damaged {
                    Told::Damaged
                } else {
                    Told::Failed
                };
                self.tell(command.client, command.operation, told);
            }
        }
        late.into_iter().for_each(|number| self.send_command(gateway, number));
    }
}

/// What a command was told is damaged, if it has to know nothing of it.
fn needless(command: &UnderWay) -> Option<Broken> {
    let (What::Write { at, .. } | What::Discard { at, .. } | What::Remove { at, .. }) = command.what else {
        return None;
    };
    let oid = Oid::new(ObjectKind::Data, command.sent_to?, at.object);
    Some(Broken::Damaged { partition: at.partition, oid })
}

/// A bit of what the command writes flips on the way, or of what it expects.
fn damage(command: &mut Command, in_expected: bool) {
    if let Command::CompareAndWrite { expected, .. } = command
        && in_expected
    {
        flip(Some(expected));
    } else if let Command::Write { pieces, .. }
    | Command::CompareAndWrite { pieces, .. }
    | Command::Or { pieces, .. } = command
    {
        flip(pieces.first_mut());
    }
}
