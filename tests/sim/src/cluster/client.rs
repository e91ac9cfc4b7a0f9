//! A client: it reads and writes through one gateway at a time, and goes to another when that fails, as multipath does.

use bytes::Bytes;
use huntaway_replica::{Block, Command};
use huntaway_wire::{Durability, Oid};

use super::judgement::Place;
use super::{Cluster, FAULTS_END, MS, SECOND, Shape, note, oid};
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
    gateway: usize,
    /// In microseconds; a client is never idle for longer.
    longest_pause: Time,
    operations: u64,
    current: Option<Operation>,
    /// What it reads in the end; `None` before.
    last_reads: Option<Vec<Place>>,
}

struct Operation {
    number: u64,
    what: What,
    sent: Time,
}

#[derive(Debug, Clone)]
enum What {
    Read { partition: u16, object: u32, first_block: u32, blocks: u32 },
    Write { partition: u16, object: u32, first_block: u32, values: Vec<u64>, durability: Durability },
    Flush { partition: u16 },
}

/// What a client hears of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    Done,
    Data(Vec<u64>),
    Damaged,
    /// It failed; it has no effect from now on.
    Failed,
    /// It did not get as far as the gateway.
    Refused,
    /// The connection is gone.
    Lost,
}

/// The number that a block stands for.
pub(crate) fn value_of(block: &Block) -> u64 {
    block.bytes.as_ref().try_into().map_or(u64::MAX, u64::from_le_bytes)
}

impl Client {
    pub(crate) fn new(shape: &Shape, random: &mut Random) -> Self {
        Self {
            gateway: random.below(shape.gateways as u64) as usize,
            longest_pause: [20 * MS, 400 * MS, 1500 * MS][random.below(3) as usize],
            operations: 0,
            current: None,
            last_reads: None,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.current.is_none() && self.last_reads.as_ref().is_some_and(Vec::is_empty)
    }

    fn has_written_all(&self) -> bool {
        self.current.is_none() && self.last_reads.is_some()
    }

    /// What the operation asks for, if it is still wanted.
    pub(crate) fn command(&self, number: u64) -> Option<(u16, Command)> {
        let current = self.current.as_ref().filter(|current| current.number == number)?;
        Some(match &current.what {
            What::Read { partition, object, first_block, blocks } => {
                let command = Command::Read { oid: oid(*object), blocks: *first_block..first_block + blocks };
                (*partition, command)
            }
            What::Write { partition, object, first_block, values, durability } => {
                let block = |value: &u64| Block::new(Bytes::copy_from_slice(&value.to_le_bytes()));
                let blocks = values.iter().map(block).collect();
                let oid: Oid = oid(*object);
                let (first_block, durability) = (*first_block, *durability);
                (*partition, Command::Write { oid, first_block, blocks, durability })
            }
            What::Flush { partition } => (*partition, Command::Flush),
        })
    }
}

impl What {
    fn draw(shape: &Shape, random: &mut Random) -> Self {
        let partition = random.below(shape.partitions.into()) as u16;
        let object = random.below(shape.objects.into()) as u32;
        let first_block = random.below(shape.blocks.into()) as u32;
        let blocks = 1 + random.below(u64::from(shape.blocks - first_block)) as u32;
        match random.below(100) {
            0..42 => Self::Read { partition, object, first_block, blocks },
            42..47 => Self::Flush { partition },
            dice => {
                let durability = if dice < 55 { Durability::Stable } else { Durability::Logged };
                let values = vec![0; blocks as usize];
                Self::Write { partition, object, first_block, values, durability }
            }
        }
    }
}

impl Cluster {
    pub(crate) fn client_next(&mut self, client: usize) {
        let what = if let Some(last_reads) = &mut self.clients[client].last_reads {
            let Some((partition, object, first_block)) = last_reads.pop() else { return };
            What::Read { partition, object, first_block, blocks: 1 }
        } else if self.time > FAULTS_END + 2 * SECOND {
            self.clients[client].last_reads = Some(Vec::new());
            return self.begin_last_reads();
        } else {
            What::draw(&self.shape, &mut self.random)
        };
        self.issue(client, what);
    }

    /// Has the first client read everything, when all others are done.
    fn begin_last_reads(&mut self) {
        if self.clients.iter().all(Client::has_written_all) {
            let places = self.shape.places();
            self.clients[0].last_reads = Some(places);
            self.client_next(0);
        }
    }

    /// Makes an operation the client's current one. Each attempt to write has values of its own.
    fn next_operation(&mut self, client: usize, mut what: What) -> u64 {
        if let What::Write { values, .. } = &mut what {
            for value in values {
                self.last_value += 1;
                *value = self.last_value;
            }
        }
        let state = &mut self.clients[client];
        state.operations += 1;
        let (number, gateway) = (state.operations, state.gateway);
        note!(self, "client {client} sends {number} through {gateway}: {what:?}");
        self.clients[client].current = Some(Operation { number, what, sent: self.time });
        number
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
            Told::Done | Told::Data(_) => {
                self.summary.answered += 1;
                self.remember(&operation, &told);
                let pause = self.clients[client].longest_pause;
                let pause = if self.clients[client].last_reads.is_some() { MS } else { pause };
                let pause = 1 + self.random.below(pause);
                self.at(pause, Event::ClientNext { client });
            }
            Told::Damaged => self.broken = Some(super::Broken::Damaged),
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
        let answered = matches!(told, Told::Done | Told::Data(_));
        let end = if answered { now } else { now.min(start + LATEST_EFFECT) };
        match (&operation.what, told) {
            (What::Write { partition, object, first_block, values, durability }, _) => {
                let stable = *durability == Durability::Stable;
                for (block, value) in (*first_block..).zip(values) {
                    let attempt = Attempt { effect: Effect::Write(*value), start, end, answered, stable };
                    self.histories.add((*partition, *object, block), attempt);
                }
            }
            (What::Read { partition, object, first_block, .. }, Told::Data(values)) => {
                for (block, value) in (*first_block..).zip(values) {
                    let effect = Effect::Read(*value);
                    let attempt = Attempt { effect, start, end, answered, stable: false };
                    self.histories.add((*partition, *object, block), attempt);
                }
            }
            (What::Flush { partition }, Told::Done) => self.histories.flushed(*partition, start, now),
            _ => {}
        }
    }
}

impl Shape {
    fn places(&self) -> Vec<Place> {
        let mut places = Vec::new();
        for partition in 0..self.partitions {
            for object in 0..self.objects {
                places.extend((0..self.blocks).map(|block| (partition, object, block)));
            }
        }
        places
    }
}
