//! Whether a run kept the promises: what clients saw can be explained, and in the end all copies are the same.

use std::collections::BTreeMap;
use std::fmt;

use huntaway_wire::{Oid, Partition, Pepoch};

use super::{Cluster, endpoint_of, partition};
use crate::clock::Time;
use crate::history::Loss;
use crate::storage::ModelStorage;
use crate::{Attempt, Effect, History, Violation};

/// Partition, object, block, and what of the block: half, or bit from 2 on.
pub(crate) type Place = (u16, u32, u32, u32);

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    /// What clients saw of a block cannot be explained.
    History {
        /// Partition, object, block, and what of the block: half, or bit from 2 on.
        place: (u16, u32, u32, u32),
        /// How not.
        violation: Violation,
    },
    /// Replicas that are in sync differ.
    Unequal {
        /// The partition.
        partition: u16,
        /// Two nodes.
        nodes: (usize, usize),
        /// The first object that differs.
        oid: Oid,
    },
    /// A client was told that a block is damaged, which it is nowhere.
    Damaged,
    /// Long after the last fault something is not at rest.
    Stuck {
        /// What.
        what: String,
    },
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::History { place: (partition, object, block, cell), violation } => {
                write!(
                    f,
                    "cell {cell} of block {block} of object {object} of partition {partition}: {violation}"
                )
            }
            Self::Unequal { partition, nodes: (one, other), oid } => {
                write!(f, "nodes {one} and {other} are in sync in partition {partition} and differ in {oid}")
            }
            Self::Damaged => write!(f, "a read found damage that a store has let in"),
            Self::Stuck { what } => write!(f, "not at rest long after the last fault: {what}"),
        }
    }
}

/// What clients saw.
#[derive(Default)]
pub(crate) struct Histories {
    blocks: BTreeMap<Place, History>,
    /// When a partition went on although none of its replicas was sure to have everything.
    losses: BTreeMap<u16, Vec<(Pepoch, Time)>>,
    /// The number that was written or seen last, as far as is known.
    known: BTreeMap<Place, u64>,
    /// When flushes of a partition were sent and answered.
    flushes: BTreeMap<u16, Vec<(Time, Time)>>,
}

impl Histories {
    pub(crate) fn add(&mut self, place: Place, attempt: Attempt) {
        if let Effect::Write(number) | Effect::Read(number) | Effect::Swap(_, number) = attempt.effect
            && attempt.answered
        {
            self.known.insert(place, number);
        }
        self.blocks.entry(place).or_default().add(attempt);
    }

    /// What a client expects to find.
    pub(crate) fn known(&self, place: Place) -> u64 {
        self.known.get(&place).copied().unwrap_or(0)
    }

    pub(crate) fn flushed(&mut self, partition: u16, sent: Time, answered: Time) {
        self.flushes.entry(partition).or_default().push((sent, answered));
    }

    /// What was not flushed may be gone from here on.
    pub(crate) fn lost(&mut self, partition: Partition, pepoch: Pepoch, at: Time) {
        let losses = self.losses.entry(partition.value()).or_default();
        if losses.last().is_none_or(|(last, _)| *last != pepoch) {
            losses.push((pepoch, at));
        }
    }

    fn check(&self) -> Result<(), Broken> {
        for (place, history) in &self.blocks {
            let flushes = self.flushes.get(&place.0).map_or(&[][..], Vec::as_slice);
            let losses = self.losses.get(&place.0).into_iter().flatten();
            let losses: Vec<Loss> = losses.map(|(_, at)| Loss { at: *at, flushes }).collect();
            history
                .check_with_losses(&losses)
                .map_err(|violation| Broken::History { place: *place, violation })?;
        }
        Ok(())
    }
}

impl Cluster {
    /// Whether every partition has its copies and serves.
    pub(crate) fn is_at_rest(&self) -> bool {
        (0..self.shape.partitions).all(|number| self.unrest(number).is_none())
    }

    fn unrest(&self, number: u16) -> Option<String> {
        let configuration = &self.ledger.rows[usize::from(number)].configuration;
        if configuration.in_sync.len() < self.shape.copies || !configuration.doubtful.is_empty() {
            let (in_sync, doubtful) = (&configuration.in_sync, &configuration.doubtful);
            let nodes: Vec<_> = in_sync.iter().map(|process| endpoint_of(process.node)).collect();
            return Some(format!("partition {number} has {nodes:?}, {} of them doubtful", doubtful.len()));
        }
        let primary = endpoint_of(configuration.primary);
        let serves = self.nodes[primary].replica(number).is_some_and(huntaway_replica::Replica::is_serving);
        (!serves).then(|| format!("partition {number} is not served by node {primary}"))
    }

    pub(crate) fn stuck(&self) -> Broken {
        let unrest = (0..self.shape.partitions).find_map(|number| self.unrest(number));
        let what = unrest.unwrap_or_else(|| "a client has no answer".to_owned());
        Broken::Stuck { what: format!("{what}, after {} events", self.summary.events) }
    }

    pub(crate) fn judge(&self) -> Result<(), Broken> {
        self.histories.check()?;
        for number in 0..self.shape.partitions {
            let in_sync = &self.ledger.rows[usize::from(number)].configuration.in_sync;
            let nodes: Vec<usize> = in_sync.iter().map(|process| endpoint_of(process.node)).collect();
            for pair in nodes.windows(2) {
                let storage = |node: usize| &self.nodes[node].storage[partition(number).index()];
                if let Some(oid) = difference(storage(pair[0]), storage(pair[1])) {
                    return Err(Broken::Unequal { partition: number, nodes: (pair[0], pair[1]), oid });
                }
            }
        }
        Ok(())
    }
}

/// The first object that differs.
fn difference(one: &ModelStorage, other: &ModelStorage) -> Option<Oid> {
    let (one, other) = (one.blocks(), other.blocks());
    let mut oids: Vec<Oid> = one.keys().chain(other.keys()).copied().collect();
    oids.sort_unstable();
    oids.into_iter().find(|oid| one.get(oid) != other.get(oid))
}
