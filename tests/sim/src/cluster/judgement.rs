//! Whether a run kept the promises: what clients saw can be explained, and in the end all copies are the same.

use std::collections::BTreeMap;
use std::fmt;

use huntaway_wire::{Oid, Partition, Pepoch};

use super::{Cluster, endpoint_of, partition};
use crate::clock::Time;
use crate::history::Loss;
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
    /// A client was told that a block is damaged, and a replica in sync has it.
    Damaged {
        /// The partition.
        partition: u16,
        /// The object.
        oid: Oid,
    },
    /// Replicas that are in sync differed, or held damage, in a run in which disks have no faults.
    LetIn {
        /// The partition.
        partition: u16,
    },
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
            Self::Damaged { partition, oid } => {
                write!(
                    f,
                    "a block of {oid} of partition {partition} was called damaged, and is not everywhere"
                )
            }
            Self::LetIn { partition } => {
                write!(
                    f,
                    "replicas of partition {partition} differed, or let damage in, without a fault of a disk"
                )
            }
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

    /// Whether all that is there was read again since all was written: what is damaged was mended by now.
    pub(crate) fn is_read_again(&mut self) -> bool {
        let partitions = 0..self.shape.partitions;
        let now: Vec<(Pepoch, u64)> = partitions.map(|number| self.passes_of(number)).collect();
        let before = self.passes.get_or_insert_with(|| now.clone());
        let is_enough = |((pepoch, passes), before): (&(Pepoch, u64), &(Pepoch, u64))| {
            // One of them may have begun before.
            *passes >= if *pepoch == before.0 { before.1 + 2 } else { 1 }
        };
        now.iter().zip(before.iter()).all(is_enough)
    }

    /// While disks have no faults, there is nothing to mend.
    pub(crate) fn mind_mended(&mut self, node: usize) {
        for number in 0..self.shape.partitions {
            let mended = self.nodes[node].replica(number).and_then(huntaway_replica::Replica::mended);
            let Some(mended) = mended else { continue };
            if self.shape.disk_fault_every == 0 && mended.blocks > 0 {
                self.broken = Some(Broken::LetIn { partition: number });
            }
        }
    }

    fn passes_of(&self, number: u16) -> (Pepoch, u64) {
        let configuration = &self.ledger.rows[usize::from(number)].configuration;
        let primary = self.nodes[endpoint_of(configuration.primary)].replica(number);
        let mended = primary.and_then(huntaway_replica::Replica::mended);
        (configuration.pepoch, mended.map_or(0, |mended| mended.passes))
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
                let objects = |node: usize| self.nodes[node].storage[partition(number).index()].objects();
                if let Some(oid) = objects(pair[0]).difference(objects(pair[1])) {
                    return Err(Broken::Unequal { partition: number, nodes: (pair[0], pair[1]), oid });
                }
            }
        }
        Ok(())
    }
}
