//! A gateway: its connections' commands, logins and ends, around the fencing that it rests on. Its threads may stall between
//! any two steps, and it may be paused or killed.

use std::collections::HashMap;
use std::time::Duration;

use huntaway_gateway::fencing::{
    End, Ended, GivenUp, NewestStamp, PING_INTERVAL, SETTLE_TIME, SILENCE, UnderWay,
};
use huntaway_gateway::order::Footprint;
use huntaway_wire::NodeId;

use super::bug::Bug;
use super::connection::{Connection, Early, TargetEnd};
use super::event::{Event, Owner, Status, ToGateway, ToInitiator, Work};
use super::habits::Step;
use super::ledger::Record;
use super::world::World;
use crate::clock::{Clock, Ms};

/// Longest times for which gateways try a command before they fail it.
const PATIENCE_MS: [u64; 4] = [500, 3_000, 12_000, 25_000];

/// One gateway's process.
#[derive(Debug)]
pub(super) struct Gateway {
    pub(super) clock: Clock,
    pub(super) is_listening: bool,
    pub(super) incarnation: u64,
    pub(super) paused_until: Ms,
    /// How many of the ledger's records it knows.
    pub(super) records: usize,
    pub(super) under_way: UnderWay<Owner>,
    pub(super) stamps: HashMap<NodeId, NewestStamp>,
    /// Connections whose login waits.
    logins: Vec<usize>,
    /// Connections whose Logout waits.
    logouts: Vec<usize>,
    /// When it looks next at what may have settled.
    alarm: Option<Ms>,
}

impl Gateway {
    pub(super) fn new(clock: Clock, bug: Option<Bug>) -> Self {
        let mut under_way = UnderWay::default();
        under_way.plant(bug.and_then(Bug::in_gateway));
        Self {
            clock,
            is_listening: true,
            incarnation: 1,
            paused_until: 0,
            records: 0,
            under_way,
            stamps: HashMap::new(),
            logins: Vec::new(),
            logouts: Vec::new(),
            alarm: None,
        }
    }
}

impl World {
    pub(super) fn target(&mut self, connection: usize) -> &mut TargetEnd {
        &mut self.connections[connection].target
    }

    pub(super) fn clock_of(&self, gateway: usize) -> Duration {
        self.gateways[gateway].clock.read(self.now)
    }

    /// One PDU of a connection is read.
    pub(super) fn read(&mut self, connection: usize) {
        let gateway = self.connections[connection].gateway;
        let now = self.clock_of(gateway);
        let target = self.target(connection);
        if !target.is_open {
            return;
        }
        let Some((exp_stat_sn, pdu)) = target.inbox.pop_front() else { return };
        target.last_heard = now;
        if !self.acknowledge(connection, exp_stat_sn) {
            self.outcome.protocol_errors += 1;
            return self.drop_connection(connection);
        }
        match pdu {
            ToGateway::Login => self.on_login(connection),
            ToGateway::Write { attempt, solicited } => self.on_write(connection, attempt, solicited),
            ToGateway::DataOut { attempt } => {
                self.target(connection).order.ready(attempt);
                self.give_turns(connection);
            }
            ToGateway::Abort { attempt } => self.on_abort(connection, attempt),
            ToGateway::NopOut { target_transfer_tag } => {
                self.acknowledge_ping(connection, target_transfer_tag);
            }
            ToGateway::Logout => self.on_logout(connection),
            ToGateway::Reset => self.on_wish(connection, Record::Reset, ToInitiator::ResetDone),
            ToGateway::Preempt { of, aborts } => {
                self.on_wish(connection, Record::Preempt { of, aborts }, ToInitiator::Preempted);
            }
            ToGateway::Register => {
                let of = self.connections[connection].initiator;
                self.on_wish(connection, Record::Register { of }, ToInitiator::Registered);
            }
            ToGateway::Fin => self.drop_connection(connection),
        }
        let target = self.target(connection);
        if target.inbox.is_empty() {
            target.is_reading = false;
        } else {
            self.work_after_stall(connection, Step::Read, Work::Read(connection));
        }
    }

    /// Takes note of an ExpStatSN; `false` if it is beyond what was sent.
    fn acknowledge(&mut self, connection: usize, exp_stat_sn: u32) -> bool {
        let bug = self.bug;
        let target = self.target(connection);
        let claimed = match bug {
            Some(Bug::ShownNumberProves) if exp_stat_sn == target.next_stat_sn.wrapping_add(1) => {
                target.next_stat_sn
            }
            _ => exp_stat_sn,
        };
        match target.proof.acknowledged(claimed) {
            Ok(is_newer) => self.on_proof(connection, is_newer),
            Err(_) if bug == Some(Bug::StatusTimeAfterWrite) => {
                target.early.push(Early::Status(exp_stat_sn));
            }
            Err(_) => return false,
        }
        true
    }

    fn acknowledge_ping(&mut self, connection: usize, target_transfer_tag: u32) {
        let is_early = self.bug == Some(Bug::StatusTimeAfterWrite);
        let target = self.target(connection);
        if is_early {
            target.early.push(Early::Ping(target_transfer_tag));
        }
        let is_newer = target.proof.ping_answered(target_transfer_tag);
        self.on_proof(connection, is_newer);
    }

    fn on_write(&mut self, connection: usize, attempt: usize, solicited: bool) {
        let operation = self.checker.operation(attempt);
        let (lba, writes) = (operation.block as u64, !operation.is_read);
        let Connection { initiator, gateway, .. } = self.connections[connection];
        self.checker.received(attempt, self.now);
        if self.target(connection).is_logging_out {
            return;
        }
        let unit = self.ledger.after(self.gateways[gateway].records);
        if !unit.admits(initiator) {
            return self.respond(connection, ToInitiator::Status { attempt, status: Status::Refused });
        }
        let fence = unit.fence;
        let target = self.target(connection);
        target.order.enter(attempt, Footprint { lba, blocks: 1, lun: 0, writes, ordered: false });
        target.waiting.insert(attempt, fence);
        if solicited {
            self.respond(connection, ToInitiator::ReadyToTransfer { attempt });
        } else {
            self.target(connection).order.ready(attempt);
            self.give_turns(connection);
        }
        let longest = self.random.pick(&PATIENCE_MS);
        let patience = Duration::from_millis(100 + self.random.below(longest));
        let patience = self.gateways[gateway].clock.ms_until(patience);
        self.work_after(patience, gateway, Work::OutOfPatience(connection, attempt));
    }

    /// Enters the commands whose turn has come among the requests.
    pub(super) fn give_turns(&mut self, connection: usize) {
        let (initiator, gateway) =
            (self.connections[connection].initiator, self.connections[connection].gateway);
        while let Some(attempt) = self.target(connection).order.next_turn() {
            let fence = self.target(connection).waiting.remove(&attempt).unwrap_or_default();
            let owner = Owner { initiator, connection, attempt };
            let number = self.gateways[gateway].under_way.enter(owner, fence);
            self.start_send(gateway, number);
        }
    }

    fn on_abort(&mut self, connection: usize, attempt: usize) {
        self.outcome.aborts += 1;
        if !self.give_up(connection, attempt, GivenUp::Aborted) {
            self.respond(connection, ToInitiator::Aborted { attempt });
        }
    }

    pub(super) fn out_of_patience(&mut self, connection: usize, attempt: usize) {
        let was_waiting = self.target(connection).waiting.contains_key(&attempt);
        if !self.give_up(connection, attempt, GivenUp::Failed) && was_waiting {
            self.respond(connection, ToInitiator::Status { attempt, status: Status::Failed });
        }
    }

    /// Gives up one command. Returns whether stores may have it, so that its end is to be waited for.
    fn give_up(&mut self, connection: usize, attempt: usize, why: GivenUp) -> bool {
        let gateway = self.connections[connection].gateway;
        let target = self.target(connection);
        if target.waiting.remove(&attempt).is_some() {
            target.order.leave(attempt);
            self.give_turns(connection);
            return false;
        }
        let is_it = |owner: &Owner| owner.attempt == attempt;
        let under_way = &mut self.gateways[gateway].under_way;
        if under_way.is_clear(is_it) {
            return false;
        }
        under_way.give_up(is_it, why);
        self.note(|| format!("gateway {gateway} gives up attempt {attempt}: {why:?}"));
        self.work_after(0, gateway, Work::Settle);
        true
    }

    /// Ends what has settled, and sets the alarm for what has not.
    pub(super) fn settle(&mut self, gateway: usize) {
        let now = self.clock_of(gateway);
        if self.gateways[gateway].alarm.is_some_and(|alarm| alarm <= self.now) {
            self.gateways[gateway].alarm = None;
        }
        for ended in self.gateways[gateway].under_way.settle(now) {
            self.on_ended(gateway, ended);
        }
        self.answer_waiting(gateway);
        let Gateway { under_way, clock, alarm, .. } = &mut self.gateways[gateway];
        let Some(next) = under_way.next_settlement() else { return };
        let due = self.now + clock.ms_until(next.saturating_sub(now)).max(1);
        if alarm.is_none_or(|alarm| alarm > due) {
            *alarm = Some(due);
            self.work_after(due - self.now, gateway, Work::Settle);
        }
    }

    /// A request has ended: whoever waits for it is answered.
    pub(super) fn on_ended(&mut self, gateway: usize, ended: Ended<Owner>) {
        let Ended { owner: Owner { connection, attempt, .. }, end, given_up, .. } = ended;
        self.outcome.settled += u64::from(end == End::Settled);
        self.target(connection).order.leave(attempt);
        match given_up {
            None => self.respond(connection, ToInitiator::Status { attempt, status: Status::Good }),
            Some(GivenUp::Failed) => {
                let status = if end == End::Done { Status::Good } else { Status::Failed };
                self.respond(connection, ToInitiator::Status { attempt, status });
            }
            Some(GivenUp::Aborted) => self.respond(connection, ToInitiator::Aborted { attempt }),
            Some(GivenUp::Dropped) => {}
        }
        self.give_turns(connection);
        self.answer_waiting(gateway);
    }

    fn on_logout(&mut self, connection: usize) {
        self.outcome.logouts += 1;
        self.target(connection).is_logging_out = true;
        let gateway = self.connections[connection].gateway;
        self.gateways[gateway].logouts.push(connection);
        self.abandon(connection);
    }

    /// Closes a connection. Its commands stay known until they have ended.
    pub(super) fn drop_connection(&mut self, connection: usize) {
        let target = self.target(connection);
        if !target.is_open {
            return;
        }
        target.is_open = false;
        self.note(|| format!("connection {connection} is closed by its gateway"));
        self.send_fin(connection);
        self.abandon(connection);
    }

    fn send_fin(&mut self, connection: usize) {
        if self.random.permille(800) {
            self.send_to_initiator(connection, (0, ToInitiator::Fin));
        }
    }

    /// Gives up all commands of a connection.
    fn abandon(&mut self, connection: usize) {
        let gateway = self.connections[connection].gateway;
        let target = self.target(connection);
        for attempt in std::mem::take(&mut target.waiting).into_keys() {
            target.order.leave(attempt);
        }
        let of_it = |owner: &Owner| owner.connection == connection;
        self.gateways[gateway].under_way.give_up(of_it, GivenUp::Dropped);
        self.work_after(0, gateway, Work::Settle);
    }

    /// A login takes the place of the session that its initiator has here.
    fn on_login(&mut self, connection: usize) {
        let gateway = self.connections[connection].gateway;
        let initiator = self.connections[connection].initiator;
        for before in 0..connection {
            let other = &self.connections[before];
            if (other.initiator, other.gateway) == (initiator, gateway) {
                self.drop_connection(before);
            }
        }
        self.gateways[gateway].logins.push(connection);
        self.answer_waiting(gateway);
    }

    /// Answers the logins and Logouts that nothing keeps waiting any more.
    fn answer_waiting(&mut self, gateway: usize) {
        for connection in std::mem::take(&mut self.gateways[gateway].logins) {
            let initiator = self.connections[connection].initiator;
            let of_predecessor =
                |owner: &Owner| owner.initiator == initiator && owner.connection != connection;
            let is_clear = self.gateways[gateway].under_way.is_clear(of_predecessor)
                || self.bug == Some(Bug::LoginBeforeSettled);
            if !is_clear {
                self.gateways[gateway].logins.push(connection);
            } else if self.target(connection).is_open {
                self.respond(connection, ToInitiator::LoginResponse);
                self.work_after(500, gateway, Work::Ping(connection));
            }
        }
        for connection in std::mem::take(&mut self.gateways[gateway].logouts) {
            let is_clear = self.gateways[gateway].under_way.is_clear(|owner| owner.connection == connection)
                || self.bug == Some(Bug::LogoutBeforeSettled);
            if is_clear {
                self.respond(connection, ToInitiator::LogoutResponse);
            } else {
                self.gateways[gateway].logouts.push(connection);
            }
        }
    }

    /// Pings a session, or drops it if it was silent for too long.
    pub(super) fn tick_connection(&mut self, connection: usize) {
        let gateway = self.connections[connection].gateway;
        if !self.target(connection).is_open {
            return;
        }
        if self.clock_of(gateway) > self.target(connection).last_heard + SILENCE {
            return self.drop_connection(connection);
        }
        self.ping(connection);
        let interval = self.gateways[gateway].clock.ms_until(PING_INTERVAL);
        let stall = self.habits.stall(Step::Ping, &mut self.random);
        self.work_after(interval + stall, gateway, Work::Ping(connection));
    }

    /// The process is killed and started again. Requests that its kernel has still reach the stores.
    pub(super) fn restart_gateway(&mut self, gateway: usize) {
        let start = 10 + self.random.below(200);
        match &mut self.cluster {
            Some(cluster) => {
                cluster.at_time(self.now).restart_gateway(gateway, start);
                self.hear_cluster();
            }
            None => {
                self.kill_gateway(gateway);
                self.start_gateway(gateway, start);
            }
        }
    }

    /// The process is gone.
    pub(super) fn kill_gateway(&mut self, gateway: usize) {
        self.outcome.restarts += 1;
        let Gateway { clock, incarnation, .. } = self.gateways[gateway];
        let mut restarted = Gateway::new(clock, self.bug);
        (restarted.incarnation, restarted.is_listening) = (incarnation + 1, false);
        restarted.records = self.ledger.records();
        self.gateways[gateway] = restarted;
        for connection in 0..self.connections.len() {
            if self.connections[connection].gateway == gateway && self.target(connection).is_open {
                self.target(connection).is_open = false;
                self.send_fin(connection);
            }
        }
    }

    /// A process starts after so long, and listens when what the one before it sent has settled.
    pub(super) fn start_gateway(&mut self, gateway: usize, after: Ms) {
        let Gateway { clock, incarnation, .. } = self.gateways[gateway];
        let waits = incarnation > 1 && self.bug != Some(Bug::RestartListensAtOnce);
        let wait = if waits { clock.ms_until(SETTLE_TIME) } else { 0 };
        self.after(after + wait, Event::Listen(gateway, incarnation));
    }
}
