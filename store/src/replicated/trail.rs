//! From where on the log is needed for what replicas know of requests and of writes in doubt.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use huntaway_wire::Partition;

use crate::locking::lock;
use crate::wal::Lsn;

/// Of each partition with entries of a replica, the part of the log that tells what is known.
#[derive(Debug, Default)]
pub(crate) struct Trails(Mutex<BTreeMap<Partition, Trail>>);

#[derive(Debug)]
struct Trail {
    /// What is before is needed for blocks alone.
    from: Lsn,
    /// Where the last entry begins, or before.
    last: Lsn,
    /// Where all that is known was told last: it ends there.
    told: Lsn,
    /// Later places of which that is true once the log is durable up to the second position.
    next: VecDeque<(Lsn, Lsn)>,
}

impl Trail {
    fn advance(&mut self, durable: Lsn) {
        while let Some((from, _)) = self.next.pop_front_if(|(_, end)| *end <= durable) {
            self.from = from;
        }
    }
}

impl Trails {
    /// A partition is about to have an entry at or after `lsn`: to be said before that is in the log.
    pub(crate) fn begin(&self, partition: Partition, lsn: Lsn) {
        let new = || Trail { from: lsn, last: lsn, told: lsn, next: VecDeque::new() };
        lock(&self.0).entry(partition).or_insert_with(new).last = lsn;
    }

    /// All that is known was logged again from `from` on, up to `end`; if that is the same, there is nothing.
    pub(crate) fn known(&self, partition: Partition, from: Lsn, end: Lsn) {
        if let Some(trail) = lock(&self.0).get_mut(&partition) {
            if from < end {
                trail.last = trail.last.max(from);
            }
            trail.told = end;
            trail.next.push_back((from, end));
        }
    }

    /// What the partition knew is of no use to anybody.
    pub(crate) fn give_up(&self, partition: Partition) {
        lock(&self.0).remove(&partition);
    }

    /// From where on the log is needed when it is `durable` up to there; `None` if it is not.
    pub(crate) fn needed(&self, durable: Lsn) -> Option<Lsn> {
        let mut trails = lock(&self.0);
        trails.values_mut().for_each(|trail| trail.advance(durable));
        // Where a partition was forgotten, nothing is known.
        trails.retain(|_, trail| trail.last >= trail.from);
        trails.values().map(|trail| trail.from).min()
    }

    /// The partitions of which all that is known was told last before `lsn`. What was told just now is not to be told again,
    /// however much it is.
    pub(crate) fn before(&self, lsn: Lsn) -> Vec<Partition> {
        let is_before = |trail: &Trail| trail.told < lsn;
        lock(&self.0).iter().filter(|(_, trail)| is_before(trail)).map(|(partition, _)| *partition).collect()
    }

    /// The partitions that need the log from `lsn` on, or from further back, also when all that they said is durable.
    pub(crate) fn up_to(&self, lsn: Lsn) -> Vec<Partition> {
        let needed = |trail: &Trail| trail.next.back().map_or(trail.from, |(from, _)| *from);
        let trails = lock(&self.0);
        let pinning = trails.iter().filter(|(_, trail)| trail.last >= needed(trail) && needed(trail) <= lsn);
        pinning.map(|(partition, _)| *partition).collect()
    }

    /// Whether the partition is one of these.
    pub(crate) fn is_before(&self, partition: Partition, lsn: Lsn) -> bool {
        lock(&self.0).get(&partition).is_some_and(|trail| trail.told < lsn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(number: u16) -> Partition {
        Partition::new(number).unwrap()
    }

    #[test]
    fn the_log_is_needed_from_the_oldest_durable_knowledge_on() {
        let trails = Trails::default();
        assert_eq!(trails.needed(Lsn(100)), None);
        trails.begin(partition(1), Lsn(10));
        trails.begin(partition(2), Lsn(20));
        trails.begin(partition(1), Lsn(30));
        assert_eq!(trails.needed(Lsn(100)), Some(Lsn(10)));
        trails.known(partition(1), Lsn(40), Lsn(50));
        assert_eq!(trails.needed(Lsn(49)), Some(Lsn(10)), "it may be lost yet");
        assert_eq!(trails.before(Lsn(30)), [partition(2)]);
        assert_eq!(trails.needed(Lsn(50)), Some(Lsn(20)));
        trails.known(partition(2), Lsn(60), Lsn(70));
        assert_eq!(trails.before(Lsn(65)), [partition(1)], "what was told ends after that");
        assert_eq!(trails.needed(Lsn(70)), Some(Lsn(40)));
        trails.begin(partition(1), Lsn(80));
        trails.known(partition(1), Lsn(90), Lsn(90));
        trails.begin(partition(2), Lsn(90));
        trails.known(partition(2), Lsn(100), Lsn(100));
        trails.begin(partition(2), Lsn(100));
        assert_eq!(trails.needed(Lsn(100)), Some(Lsn(100)), "one is forgotten, the other has gone on");
    }
}
