//! Connections: both ends, and TCP between them. Each direction delivers in order, after any delay, and delivers what was
//! written before a close.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use huntaway_gateway::fencing::PathProof;
use huntaway_gateway::order::Order;

use super::event::{Event, Numbered, ToGateway, ToInitiator, Work};
use super::habits::Step;
use super::world::World;
use crate::clock::Ms;

/// Number of a connection's first status: soon to wrap around.
const FIRST_STAT_SN: u32 = u32::MAX - 5;

/// Which way something goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Direction {
    ToGateway,
    ToInitiator,
}

/// One TCP connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) initiator: usize,
    pub(super) gateway: usize,
    last_arrival: [Ms; 2],
    /// The initiator still has it.
    pub(super) is_held: bool,
    /// The initiator's ExpStatSN.
    pub(super) exp_stat_sn: u32,
    pub(super) target: TargetEnd,
}

/// The gateway's end.
#[derive(Debug)]
pub(super) struct TargetEnd {
    pub(super) is_open: bool,
    pub(super) is_logging_out: bool,
    pub(super) inbox: VecDeque<(u32, ToGateway)>,
    pub(super) is_reading: bool,
    pub(super) outbox: VecDeque<ToInitiator>,
    pub(super) is_writing: bool,
    pub(super) next_stat_sn: u32,
    pub(super) next_is_shown: bool,
    pub(super) next_transfer_tag: u32,
    pub(super) proof: PathProof,
    /// What was acknowledged before its time was taken, which only a planted bug brings about.
    pub(super) early: Vec<Early>,
    pub(super) last_heard: Duration,
    /// The turns of the commands, which are called by their attempts.
    pub(super) order: Order<usize>,
    /// Commands that were not entered among the requests yet, each with the fence under which it was received.
    pub(super) waiting: BTreeMap<usize, u64>,
}

/// An acknowledgement.
#[derive(Debug, Clone, Copy)]
pub(super) enum Early {
    Status(u32),
    Ping(u32),
}

impl Connection {
    pub(super) fn new(initiator: usize, gateway: usize, now: Duration) -> Self {
        let target = TargetEnd {
            is_open: true,
            is_logging_out: false,
            inbox: VecDeque::new(),
            is_reading: false,
            outbox: VecDeque::new(),
            is_writing: false,
            next_stat_sn: FIRST_STAT_SN,
            next_is_shown: false,
            next_transfer_tag: 0,
            proof: PathProof::new(FIRST_STAT_SN),
            early: Vec::new(),
            last_heard: now,
            order: Order::default(),
            waiting: BTreeMap::new(),
        };
        let exp_stat_sn = FIRST_STAT_SN;
        Self { initiator, gateway, last_arrival: [0; 2], is_held: true, exp_stat_sn, target }
    }

    /// The initiator has the status of this number, or takes it that it has.
    pub(super) fn note_status(&mut self, stat_sn: u32) {
        let exp = stat_sn.wrapping_add(1);
        if (exp.wrapping_sub(self.exp_stat_sn) as i32) > 0 {
            self.exp_stat_sn = exp;
        }
    }
}

impl World {
    fn tcp_delay(&mut self, connection: usize, direction: Direction) -> Ms {
        let Connection { initiator, gateway, .. } = self.connections[connection];
        let mut delay = self.random.below(2);
        if self.random.permille(self.habits.slow_tcp) {
            delay += self.random.below(2_500);
        }
        let cut_until = self.cuts.get(&(initiator, gateway, direction)).copied().unwrap_or(0);
        if cut_until > self.now {
            // It is sent again some time after that.
            delay += cut_until - self.now + self.random.below(1_000);
        }
        let last = &mut self.connections[connection].last_arrival[direction as usize];
        *last = (*last).max(self.now + delay);
        *last - self.now
    }

    pub(super) fn send_to_gateway(&mut self, connection: usize, pdu: ToGateway) {
        let delay = self.tcp_delay(connection, Direction::ToGateway);
        let exp_stat_sn = self.connections[connection].exp_stat_sn;
        self.after(delay, Event::ToGateway(connection, exp_stat_sn, pdu));
    }

    pub(super) fn send_to_initiator(&mut self, connection: usize, numbered: Numbered) {
        let delay = self.tcp_delay(connection, Direction::ToInitiator);
        self.after(delay, Event::ToInitiator(connection, numbered));
    }

    /// Bytes reach a gateway's socket.
    pub(super) fn on_bytes(&mut self, connection: usize, exp_stat_sn: u32, pdu: ToGateway) {
        let target = self.target(connection);
        if !target.is_open {
            return;
        }
        target.inbox.push_back((exp_stat_sn, pdu));
        if !target.is_reading {
            target.is_reading = true;
            self.work_after_stall(connection, Step::Read, Work::Read(connection));
        }
    }
}
