//! A client: it reads and writes through one gateway at a time, and goes to another when that fails, as multipath does.

use super::block::{BITS, Seen};
use super::operation::{At, What};
use super::{Cluster, FAULTS_END, MS, SECOND, Shape, note};
use crate::clock::Time;
use crate::cluster::event::Event;
use crate::{Attempt, Effect, Random};

/// An operation is given up after so long without an answer.
const REPLACEMENT_TIMEOUT: Time = 5 * SECOND;

/// A command has no effect later than so long after it was sent: what the gateway's proof and the stores' stamps allow, on
/// clocks that are never slower than true time.
const LATEST_EFFECT: Time = 2_600 * MS;

/// A client of the cluster.
pub(crate) struct Client {
    pub(crate) gateway: usize,
    /// In microseconds; a client is never idle for longer.
    pub(crate) longest_pause: Time,
    /// Counted; only the last one that was scheduled happens.
    pub(crate) turn: u64,
    operations: u64,
    current: Option<Operation>,
    /// What it reads in the end; `None` before.
    last_reads: Option<Vec<At>>,
}

struct Operation {
    number: u64,
    what: What,
    sent: Time,
    /// When a gateway had it.
    received: Time,
}

/// What a client hears of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    Done,
    Data(Vec<Seen>),
    /// For each block, whether it holds data.
    Map(Vec<bool>),
    Miscompare,
    Damaged,
    /// There was no space for it. It has no effect from now on, and had none if it got to a store once.
    NoSpace {
        had_no_effect: bool,
    },
    /// It failed; it has no effect from now on.
    Failed,
    /// It did not get as far as the gateway.
    Refused,
    /// The connection is gone.
    Lost,
}

impl Client {
    pub(crate) fn new(shape: &Shape, random: &mut Random) -> Self {
        Self {
            gateway: random.below(shape.gateways as u64) as usize,
            longest_pause: [20 * MS, 400 * MS, 1500 * MS][random.below(3) as usize],
            turn: 0,
            operations: 0,
            current: None,
            last_reads: None,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.current.is_none() && self.last_reads.as_ref().is_some_and(Vec::is_empty)
    }

    /// Whether it has nothing to do before its next turn.
    pub(crate) fn is_idle(&self) -> bool {
        self.current.is_none() && self.last_reads.is_none()
    }

    fn has_written_all(&self) -> bool {
        self.current.is_none() && self.last_reads.is_some()
    }

    /// The operation, if it is still wanted, which a gateway receives.
    pub(crate) fn receive(&mut self, number: u64, now: Time) -> Option<What> {
        let current = self.current.as_mut().filter(|current| current.number == number)?;
        current.received = now;
        Some(current.what.clone())
    }
}

impl Cluster {
    /// The client's turn, unless it has another one by now.
    pub(crate) fn client_turn(&mut self, client: usize, turn: u64) {
        if self.clients[client].turn == turn {
            self.client_next(client);
        }
    }

    fn client_next(&mut self, client: usize) {
        let what = if let Some(last_reads) = &mut self.clients[client].last_reads {
            let Some(at) = last_reads.pop() else { return };
            What::Read { at, blocks: 1 }
        } else if self.time > FAULTS_END + 2 * SECOND {
            self.clients[client].last_reads = Some(Vec::new());
            return self.begin_last_reads();
        } else if let Some(rest) = self.stillness() {
            let after = 1 + rest + self.random.below(20 * MS);
            return self.client_goes_on_in(client, after);
        } else {
            self.wish(client)
        };
        self.issue(client, what);
    }

    /// Has the first client read everything, when all others are done.
    fn begin_last_reads(&mut self) {
        if self.clients.iter().all(Client::has_written_all) {
            let places = self.places();
            self.clients[0].last_reads = Some(places);
            self.client_next(0);
        }
    }

    /// Makes an operation the client's current one. Each attempt to write has numbers of its own.
    fn next_operation(&mut self, client: usize, mut what: What) -> u64 {
        match &mut what {
            What::Write { numbers, .. } => numbers.iter_mut().for_each(|number| *number = self.next_number()),
            What::WriteHalf { number, .. } => *number = self.next_number(),
            What::Swap { at, expected, number, .. } => {
                *expected = self.histories.known(at.cell(0));
                *number = self.next_number();
            }
            What::SetBit { at, bit, .. } => {
                *bit = self.bits[usize::from(at.partition)];
                if *bit < BITS {
                    self.bits[usize::from(at.partition)] += 1;
                } else {
                    what = What::Read { at: *at, blocks: 1 };
                }
            }
            What::Read { .. }
            | What::Map { .. }
            | What::ReadSnapshot { .. }
            | What::Discard { .. }
            | What::DiscardHalf { .. }
            | What::Remove { .. }
            | What::Reserve { .. }
            | What::Flush { .. } => {}
        }
        let state = &mut self.clients[client];
        state.operations += 1;
        let (number, gateway) = (state.operations, state.gateway);
        note!(self, "client {client} sends {number} through {gateway}: {what:?}");
        self.clients[client].current = Some(Operation { number, what, sent: self.time, received: Time::MAX });
        number
    }

    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn issue(&mut self, client: usize, what: What) {
        let number = self.next_operation(client, what);
        let gateway = self.clients[client].gateway;
        self.at(REPLACEMENT_TIMEOUT, Event::ClientTimeout { client, operation: number });
        self.command_to(gateway, client, number);
    }

    pub(crate) fn client_told(&mut self, client: usize, number: u64, told: Told) {
        let state = &mut self.clients[client];
        let Some(operation) = state.current.take_if(|current| current.number == number) else { return };
        note!(self, "client {client} is told of {number}: {told:?}");
        match told {
            Told::Done
            | Told::Data(_)
            | Told::Map(_)
            | Told::Miscompare
            | Told::Damaged
            | Told::NoSpace { .. } => {
                let is_refused = matches!(told, Told::NoSpace { .. });
                self.summary.answered += u64::from(!is_refused);
                self.summary.without_space += u64::from(is_refused);
                self.remember(&operation, &told);
                let is_last = self.clients[client].last_reads.is_some();
                let pause = if is_last { MS } else { self.pause_between(client) };
                self.client_goes_on_in(client, pause);
            }
            // What may still be under way keeps its time; the answer to come would be that of another connection.
            Told::Lost => self.clients[client].current = Some(operation),
            Told::Failed | Told::Refused => self.retry(client, &operation),
        }
    }

    pub(crate) fn client_timeout(&mut self, client: usize, number: u64) {
        let state = &mut self.clients[client];
        let Some(operation) = state.current.take_if(|current| current.number == number) else { return };
        self.retry(client, &operation);
    }

    /// Tries again by another path: at once, for nothing that was sent can have an effect any more.
    fn retry(&mut self, client: usize, operation: &Operation) {
        self.summary.given_up += 1;
        self.remember(operation, &Told::Failed);
        let state = &mut self.clients[client];
        state.gateway = (state.gateway + 1) % self.gateways.len();
        let (number, what) = (operation.number, operation.what.clone());
        note!(self, "client {client} gives up {number}");
        if self.is_gone(&what) {
            let pause = self.pause_between(client);
            return self.client_goes_on_in(client, pause);
        }
        if self.gateways[self.clients[client].gateway].is_alive() {
            self.issue(client, what);
        } else {
            // Nothing listens there: the next path is tried in a while.
            let operation = self.next_operation(client, what);
            let wait = 100 * MS + self.random.below(300 * MS);
            self.at(wait, Event::ClientTimeout { client, operation });
        }
    }

    /// Puts what the client knows into the histories of the blocks.
    fn remember(&mut self, operation: &Operation, told: &Told) {
        let (start, now) = (operation.sent, self.time);
        let answered = matches!(told, Told::Done | Told::Data(_) | Told::Map(_) | Told::Miscompare);
        let end = if answered { now } else { now.min(start + LATEST_EFFECT) };
        if let What::Flush { partition } = operation.what {
            if answered {
                self.histories.flushed(partition, start, now);
            }
            return;
        }
        let bits = self.bits[usize::from(operation.what.partition())];
        let stable = operation.what.is_stable();
        let given_up = operation.what.at().and_then(|at| self.given_up(at.disk, operation.received, end));
        if let (What::Swap { at, number, .. }, Told::Miscompare) = (&operation.what, told) {
            let effect = Effect::Write(*number);
            self.histories.failed(at.cell(0), Attempt { effect, start, end, answered: false, stable: false });
        }
        if let Told::NoSpace { had_no_effect } = told {
            self.mind_told_of_no_space(&operation.what);
            if *had_no_effect {
                return self.had_no_effect(operation, end);
            }
        }
        let told = if matches!(told, Told::NoSpace { .. }) { &Told::Failed } else { told };
        for (place, effect) in operation.what.effects(told, bits) {
            if let (What::ReadSnapshot { snapshot, .. }, Effect::Read(value)) = (&operation.what, effect) {
                let disk = operation.what.at().map_or(0, |at| at.disk);
                self.histories.snapshots[*snapshot].seen(place, disk, value, end);
                continue;
            }
            let is_write = matches!(effect, Effect::Write(_) | Effect::Swap(..));
            let end = given_up.filter(|_| is_write).unwrap_or(end);
            self.histories.add(place, Attempt { effect, start, end, answered, stable });
        }
    }

    /// What was to be written is never seen, but after a loss of what was not flushed: see [`super::judgement::Histories::failed`].
    fn had_no_effect(&mut self, operation: &Operation, end: Time) {
        for (place, effect) in operation.what.effects(&Told::Failed, 0) {
            let effect = if let Effect::Swap(_, number) = effect { Effect::Write(number) } else { effect };
            let attempt = Attempt { effect, start: operation.sent, end, answered: false, stable: false };
            self.histories.failed(place, attempt);
        }
    }
}
