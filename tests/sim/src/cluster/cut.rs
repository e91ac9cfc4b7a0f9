//! Whether a snapshot is a consistent cut: it stays as it is, and if it holds a write, it holds every write that was acknowledged
//! before that one was sent.

use std::collections::BTreeMap;
use std::fmt;

use huntaway_wire::Vid;

use super::judgement::Place;
use super::operation::clone_of;
use crate::clock::Time;
use crate::{Attempt, Effect, History};

/// A snapshot, and what clients saw of it.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// The versions that it froze, by disk.
    pub(crate) frozen: BTreeMap<usize, Vid>,
    requested: Time,
    committed: Time,
    seen: Vec<Seen>,
}

#[derive(Debug, Clone)]
struct Seen {
    place: Place,
    value: u64,
    end: Time,
}

/// How a snapshot is no consistent cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Torn {
    /// Two values of one place.
    Changed(u64, u64),
    /// The first value is there, although the second had been acknowledged before something that is in the snapshot was sent.
    Lacks(u64, u64),
    /// The value was sent when the snapshot was there already.
    Late(u64),
}

impl fmt::Display for Torn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed(one, other) => write!(f, "it had {one} and {other}"),
            Self::Lacks(value, lacking) => {
                write!(f, "it has {value}, not {lacking}, which came before something that it has")
            }
            Self::Late(value) => write!(f, "it has {value}, which was sent after it was taken"),
        }
    }
}

impl Snapshot {
    pub(crate) fn new(frozen: BTreeMap<usize, Vid>, requested: Time, committed: Time) -> Self {
        Self { frozen, requested, committed, seen: Vec::new() }
    }

    /// A client read the place. What is not in the snapshot is not judged.
    pub(crate) fn seen(&mut self, place: Place, disk: usize, value: u64, end: Time) {
        if self.frozen.contains_key(&disk) {
            self.seen.push(Seen { place, value, end });
        }
    }

    /// Judges what was seen before the first of `losses` after it was taken; what was written before the last of them before
    /// may be gone, and so may what was written before one of the disks showed another snapshot, at the moments of `shown`.
    pub(crate) fn check(
        &self,
        histories: &BTreeMap<Place, History>,
        losses: &[Time],
        shown: &[Time],
    ) -> Result<(), (Place, Torn)> {
        let before = losses.iter().chain(shown).filter(|loss| **loss <= self.requested);
        let from = before.max().copied().unwrap_or(0);
        let after = losses.iter().filter(|loss| **loss > self.requested);
        let until = after.min().copied().unwrap_or(Time::MAX);
        if until <= self.committed {
            return Ok(());
        }
        let mut values = BTreeMap::new();
        for seen in self.seen.iter().filter(|seen| seen.end < until) {
            let value = *values.entry(seen.place).or_insert(seen.value);
            if value != seen.value {
                return Err((seen.place, Torn::Changed(value, seen.value)));
            }
        }
        let writes = |place: &Place| -> Vec<(u64, Attempt)> {
            let attempts = histories.get(place).map_or(&[][..], History::attempts);
            let written = attempts.iter().filter_map(|attempt| match attempt.effect {
                Effect::Write(value) => Some((value, *attempt)),
                _ => None,
            });
            written.collect()
        };
        // All that was acknowledged before this has to be there.
        let mut sent_last = self.requested;
        for (place, value) in values.iter().filter(|(_, value)| **value != 0) {
            let starts = writes(place).into_iter().filter(|(written, _)| written == value);
            let start = starts.map(|(_, write)| write.start).min();
            // A disk that was made of a snapshot may have it from there.
            let from_elsewhere = clone_of(place).map(|_| 0);
            let start = start.or(from_elsewhere).unwrap_or(Time::MAX);
            if start > self.committed {
                return Err((*place, Torn::Late(*value)));
            }
            sent_last = sent_last.max(start);
        }
        for (place, value) in &values {
            let writes = writes(place);
            let origins = writes.iter().filter(|(written, _)| written == value);
            let written_until = origins.map(|(_, write)| write.end).max().unwrap_or(0);
            let is_lacking = |(other, write): &&(u64, Attempt)| {
                let in_time = write.answered && write.start > from && write.end < sent_last;
                other != value && in_time && written_until < write.start
            };
            if let Some((other, _)) = writes.iter().find(is_lacking) {
                return Err((*place, Torn::Lacks(*value, *other)));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Place = (0, 0, 0, 0);
    const B: Place = (1, 0, 0, 0);

    fn write(value: u64, start: Time, end: Time) -> Attempt {
        Attempt { effect: Effect::Write(value), start, end, answered: true, stable: false }
    }

    fn check(
        writes: &[(Place, Attempt)],
        seen: &[(Place, u64)],
        losses: &[Time],
    ) -> Result<(), (Place, Torn)> {
        let mut histories: BTreeMap<Place, History> = BTreeMap::new();
        writes.iter().for_each(|(place, write)| histories.entry(*place).or_default().add(*write));
        let frozen = BTreeMap::from([(0, Vid::new(1).unwrap())]);
        let mut snapshot = Snapshot::new(frozen, 100, 120);
        seen.iter().for_each(|(place, value)| snapshot.seen(*place, 0, *value, 200));
        snapshot.check(&histories, losses, &[])
    }

    #[test]
    fn what_is_sent_meanwhile_may_be_in_it_or_not() {
        let writes = [(A, write(1, 10, 20)), (A, write(2, 105, 130)), (B, write(3, 107, 140))];
        for (a, b) in [(1, 0), (1, 3), (2, 0), (2, 3)] {
            assert_eq!(check(&writes, &[(A, a), (B, b)], &[]), Ok(()));
        }
    }

    #[test]
    fn what_was_acknowledged_before_is_in_it() {
        assert_eq!(check(&[(A, write(1, 10, 20))], &[(A, 0)], &[]), Err((A, Torn::Lacks(0, 1))));
        assert_eq!(check(&[(A, write(1, 10, 20))], &[(A, 0)], &[50]), Ok(()));
        let writes = [(A, write(1, 102, 105)), (B, write(2, 110, 130))];
        assert_eq!(check(&writes, &[(A, 0), (B, 2)], &[]), Err((A, Torn::Lacks(0, 1))));
        assert_eq!(check(&writes, &[(A, 1), (B, 0)], &[]), Ok(()));
    }

    #[test]
    fn it_stays_as_it_is() {
        let writes = [(A, write(1, 10, 20)), (A, write(2, 130, 140))];
        assert_eq!(check(&writes, &[(A, 1), (A, 2)], &[]), Err((A, Torn::Changed(1, 2))));
        assert_eq!(check(&writes, &[(A, 2)], &[]), Err((A, Torn::Late(2))));
    }
}
