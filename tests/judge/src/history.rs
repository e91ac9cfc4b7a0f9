//! Whether what clients saw of one block can be explained by one copy that each operation touched at one moment.
//!
//! Every write has a value of its own, so each read tells which write it saw. All operations of one value are a *cluster*;
//! its *zone* lies between its first end and its last start. A history can be put in order if and only if no two zones that
//! go forward (first end before last start) overlap and no other zone lies within one of them (Gibbons and Korach, "Testing
//! shared memories", SIAM J. Comput. 26, 1997, §3). That takes n log n steps, so every history is judged to its end.
//!
//! A write that was not acknowledged may have happened, until its deadline, or not: it counts if it was read.
//!
//! Zero is what discarding leaves, however often, so a read of it does not tell which: see [`zeroes`]. A swap (COMPARE AND
//! WRITE) reads one value and writes the other, and no third one was in place between them.

mod zeroes;

use std::collections::BTreeMap;
use std::fmt;

/// What an operation did to the block, as its client knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It wrote this value, which no other write has; or 0, which is also what the block held at first.
    Write(u64),
    /// It found this value.
    Read(u64),
    /// It found the first value and wrote the second in its place.
    Swap(u64, u64),
    /// It found another value than this one.
    Differs(u64),
}

/// One operation on one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// What it did.
    pub effect: Effect,
    /// When its client sent it.
    pub start: u64,
    /// When its client had the answer; without an answer: when it can have no effect any more.
    pub end: u64,
    /// Whether there was an answer. What does not write and has none is left out of the history.
    pub answered: bool,
    /// For a write: whether the answer says that it is on stable storage.
    pub stable: bool,
}

/// A moment at which writes were lost that were on no stable storage, as was to be expected.
#[derive(Debug, Clone, Copy)]
pub struct Loss<'a> {
    /// When the block could be used again.
    pub at: u64,
    /// Whether what was on stable storage is to be there still: some replica's log was not damaged.
    pub keeps_stable: bool,
    /// What some replica whose log is not damaged still had, if that was not zeroes.
    pub kept: Option<u64>,
    /// When flushes were sent and answered.
    pub flushes: &'a [(u64, u64)],
    /// From then on the block showed what a snapshot has, which may have been written elsewhere.
    pub is_shown: bool,
}

/// All operations on one block, in any order.
#[derive(Debug, Clone, Default)]
pub struct History {
    attempts: Vec<Attempt>,
    swaps: Vec<Swap>,
    /// What the block held at first: 0 or [`UNKNOWN`].
    at_first: u64,
}

/// One value took the place of another.
#[derive(Debug, Clone, Copy)]
struct Swap {
    expected: u64,
    value: u64,
    start: u64,
    end: u64,
}

/// Stands for what a block was left with by a loss.
const UNKNOWN: u64 = u64::MAX;

/// Why a history cannot be explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// A read found a value that nobody wrote.
    FromNowhere(u64),
    /// A read that had ended before the write began found its value.
    FromTheFuture(u64),
    /// Two values were each seen both before and after the other.
    Interleaved(u64, u64),
    /// After a loss the block had a value older than this one, which was on stable storage, or still known to a replica.
    Lost(u64),
    /// The second value was written and seen only while the first, which was seen before and after that, was in place.
    Passed(u64, u64),
    /// A third value was in place after the first and before the second, which was written where the first was found.
    NotSwapped(u64, u64, u64),
    /// The value was not found, although it was in place.
    NotFound(u64),
    /// A read found zeroes where this value, and nothing that left zeroes since, had been written or seen.
    Zeroes(u64),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FromNowhere(value) => write!(f, "{value} was read, but never written"),
            Self::FromTheFuture(value) => write!(f, "{value} was read before it was sent"),
            Self::Interleaved(one, other) => write!(f, "{one} and {other} were in place in turns"),
            Self::Lost(value) => write!(f, "{value} was on stable storage, or left in a log, and is lost"),
            Self::Passed(outer, inner) => {
                write!(f, "{outer} was in place before and after {inner} was written")
            }
            Self::NotSwapped(expected, between, value) => {
                write!(f, "{value} was written where {expected} was found, and {between} came between")
            }
            Self::NotFound(value) => write!(f, "{value} was in place, and was not found"),
            Self::Zeroes(value) => write!(f, "zeroes were read, and nothing made {value} zeroes"),
        }
    }
}

/// What is known of one value.
#[derive(Debug, Clone, Copy)]
struct Cluster {
    value: u64,
    written_from: u64,
    acknowledged: bool,
    reads: u32,
    first_end: u64,
    last_start: u64,
    first_read_end: u64,
}

impl Cluster {
    fn forward(&self) -> bool {
        self.first_end < self.last_start
    }

    fn zone(&self) -> (u64, u64) {
        (self.first_end.min(self.last_start), self.first_end.max(self.last_start))
    }
}

impl History {
    /// Adds an operation.
    pub fn add(&mut self, attempt: Attempt) {
        match attempt.effect {
            Effect::Swap(expected, value) => {
                let Attempt { start, end, .. } = attempt;
                self.swaps.push(Swap { expected, value, start, end });
                self.add(Attempt { effect: Effect::Read(expected), ..attempt });
                self.add(Attempt { effect: Effect::Write(value), ..attempt });
            }
            Effect::Write(_) => self.attempts.push(attempt),
            Effect::Read(_) | Effect::Differs(_) if attempt.answered => self.attempts.push(attempt),
            Effect::Read(_) | Effect::Differs(_) => {}
        }
    }

    /// All operations, in the order in which they were added.
    pub fn attempts(&self) -> &[Attempt] {
        &self.attempts
    }

    /// Judges the history, of a block that held 0 at first.
    ///
    /// # Errors
    /// The first [`Violation`] found.
    pub fn check(&self) -> Result<(), Violation> {
        let mut clusters = self.clusters()?;
        clusters.retain(|cluster| cluster.acknowledged || cluster.reads > 0);
        for cluster in &clusters {
            if cluster.first_read_end < cluster.written_from {
                return Err(Violation::FromTheFuture(cluster.value));
            }
        }
        self.check_swaps(&clusters)?;
        let (mut forward, backward): (Vec<_>, Vec<_>) = clusters.into_iter().partition(Cluster::forward);
        forward.sort_by_key(Cluster::zone);
        for pair in forward.windows(2) {
            if pair[1].zone().0 < pair[0].zone().1 {
                return Err(Violation::Interleaved(pair[0].value, pair[1].value));
            }
        }
        // The value that was in place throughout.
        let throughout = |(start, end): (u64, u64)| {
            let before = forward.partition_point(|outer| outer.zone().0 < start);
            let outer = before.checked_sub(1).map(|place| &forward[place]);
            outer.filter(|outer| end < outer.zone().1).map(|outer| outer.value)
        };
        for inner in &backward {
            if let Some(outer) = throughout(inner.zone()) {
                return Err(Violation::Passed(outer, inner.value));
            }
        }
        for attempt in &self.attempts {
            if let Effect::Differs(value) = attempt.effect
                && throughout((attempt.start, attempt.end)) == Some(value)
            {
                return Err(Violation::NotFound(value));
            }
        }
        self.check_zeroes(throughout)
    }

    /// Checks that nothing else had to be in place between the two values of a swap that took place.
    fn check_swaps(&self, clusters: &[Cluster]) -> Result<(), Violation> {
        for swap in &self.swaps {
            let of = |value: u64| clusters.iter().find(|cluster| cluster.value == value);
            let (Some(expected), Some(value)) = (of(swap.expected), of(swap.value)) else { continue };
            let comes_between = |between: &&Cluster| {
                between.value != expected.value
                    && between.value != value.value
                    && expected.first_end < between.written_from
                    && between.first_end < value.last_start
            };
            if let Some(between) = clusters.iter().find(comes_between) {
                return Err(Violation::NotSwapped(expected.value, between.value, value.value));
            }
        }
        Ok(())
    }

    /// Judges the history of a block that may have lost what was not on stable storage, at the moments of `losses`.
    ///
    /// # Errors
    /// The first [`Violation`] found.
    pub fn check_with_losses(&self, losses: &[Loss<'_>]) -> Result<(), Violation> {
        let mut from = 0;
        for (place, loss) in losses.iter().enumerate() {
            self.between(from, loss.at).check()?;
            // What is read after a loss of everything tells nothing of what was there before that; nor is what a snapshot has
            // on stable storage only because it is shown.
            let is_end = |later: &&Loss<'_>| !later.keeps_stable || loss.is_shown;
            let end = losses[place + 1..].iter().find(is_end);
            let all = self.before(end.map_or(u64::MAX, |loss| loss.at));
            let is_shown = losses[..=place].iter().any(|loss| loss.is_shown);
            all.between(loss.at, u64::MAX).first_value(from, &Loss { is_shown, ..*loss }, &all)?;
            from = loss.at;
        }
        self.between(from, u64::MAX).check()
    }

    /// What was written and read before `end`.
    fn before(&self, end: u64) -> Self {
        let is_before = |attempt: &&Attempt| match attempt.effect {
            Effect::Write(_) => attempt.start < end,
            _ => attempt.end <= end,
        };
        let swaps = self.swaps.iter().filter(|swap| swap.end <= end);
        Self {
            attempts: self.attempts.iter().filter(is_before).copied().collect(),
            swaps: swaps.copied().collect(),
            ..*self
        }
    }

    /// What was done from one loss to the next. A value from before it is what the block held at first.
    fn between(&self, from: u64, to: u64) -> Self {
        let mut between = Self::default();
        for attempt in &self.attempts {
            let overlaps = attempt.start < to && attempt.end > from;
            match attempt.effect {
                Effect::Write(_) if overlaps => between.attempts.push(Attempt {
                    start: attempt.start.max(from),
                    end: attempt.end.min(to),
                    // On which side of a loss it happened is not known, and it may have been overwritten before.
                    answered: attempt.answered && attempt.start >= from && attempt.end <= to,
                    ..*attempt
                }),
                // Which side of the loss it saw is not known.
                Effect::Read(_) | Effect::Differs(_) if attempt.start >= from && attempt.end <= to => {
                    between.attempts.push(*attempt);
                }
                _ => {}
            }
        }
        between.swaps.extend(self.swaps.iter().filter(|swap| swap.start >= from && swap.end <= to));
        if from > 0 {
            between.at_first = UNKNOWN;
            let written: Vec<u64> = between.writes().map(|(value, _)| value).collect();
            for attempt in &mut between.attempts {
                if matches!(attempt.effect, Effect::Read(value) if !written.contains(&value)) {
                    attempt.effect = Effect::Read(UNKNOWN);
                }
            }
        }
        between
    }

    fn writes(&self) -> impl Iterator<Item = (u64, &Attempt)> {
        self.attempts.iter().filter_map(|attempt| match attempt.effect {
            Effect::Write(value) => Some((value, attempt)),
            Effect::Read(_) | Effect::Swap(..) | Effect::Differs(_) => None,
        })
    }

    /// Checks that after `loss` the block had one value, and none older than what was on stable storage. `self` is what was
    /// done after it, `all` everything.
    fn first_value(&self, from: u64, loss: &Loss<'_>, all: &Self) -> Result<(), Violation> {
        let written: Vec<u64> = self.writes().map(|(value, _)| value).collect();
        let mut first = None;
        for attempt in all.attempts.iter().filter(|attempt| attempt.start >= loss.at) {
            let Effect::Read(value) = attempt.effect else { continue };
            if !written.contains(&value) && *first.get_or_insert(value) != value {
                return Err(Violation::Interleaved(value, first.unwrap_or(0)));
            }
        }
        let Some(first) = first else { return Ok(()) };
        let is_origin = |(value, attempt): &(u64, &Attempt)| *value == first && attempt.start < loss.at;
        let end = all.writes().filter(is_origin).map(|(_, origin)| origin.end).max();
        if first != 0 && end.is_none() && !loss.is_shown {
            return Err(Violation::FromNowhere(first));
        }
        let end = end.unwrap_or(0);
        let is_stable = |write: &Attempt| {
            let flushed =
                loss.flushes.iter().any(|(sent, answered)| write.end <= *sent && *answered <= loss.at);
            let is_before = write.answered && write.end <= loss.at && write.start >= from;
            loss.keeps_stable && is_before && (write.stable || flushed)
        };
        let is_there = |(value, write): &(u64, &Attempt)| loss.kept == Some(*value) || is_stable(write);
        match all.writes().find(|write| is_there(write) && end < write.1.start) {
            Some((value, _)) => Err(Violation::Lost(value)),
            None => Ok(()),
        }
    }

    fn clusters(&self) -> Result<Vec<Cluster>, Violation> {
        let mut clusters: BTreeMap<u64, Cluster> = BTreeMap::new();
        let cluster = |value, written_from, end, acknowledged| Cluster {
            value,
            written_from,
            acknowledged,
            reads: 0,
            first_end: end,
            last_start: written_from,
            first_read_end: u64::MAX,
        };
        let is_zeroed = self.is_zeroed();
        if self.at_first != 0 || !is_zeroed {
            clusters.insert(self.at_first, cluster(self.at_first, 0, 0, true));
        }
        for attempt in &self.attempts {
            if let Effect::Write(value) = attempt.effect
                && value != 0
            {
                clusters.insert(value, cluster(value, attempt.start, attempt.end, attempt.answered));
            }
        }
        for attempt in &self.attempts {
            if let Effect::Read(value) = attempt.effect
                && (value != 0 || !is_zeroed)
            {
                let cluster = clusters.get_mut(&value).ok_or(Violation::FromNowhere(value))?;
                cluster.reads += 1;
                cluster.first_end = cluster.first_end.min(attempt.end);
                cluster.last_start = cluster.last_start.max(attempt.start);
                cluster.first_read_end = cluster.first_read_end.min(attempt.end);
            }
        }
        Ok(clusters.into_values().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(value: u64, start: u64, end: u64) -> Attempt {
        Attempt { effect: Effect::Write(value), start, end, answered: true, stable: false }
    }

    fn unanswered(value: u64, start: u64, deadline: u64) -> Attempt {
        Attempt { answered: false, ..write(value, start, deadline) }
    }

    fn read(value: u64, start: u64, end: u64) -> Attempt {
        Attempt { effect: Effect::Read(value), start, end, answered: true, stable: false }
    }

    fn check(attempts: &[Attempt]) -> Result<(), Violation> {
        let mut history = History::default();
        attempts.iter().for_each(|attempt| history.add(*attempt));
        history.check()
    }

    #[test]
    fn operations_at_the_same_time_may_come_in_either_order() {
        assert_eq!(check(&[write(1, 10, 30), write(2, 10, 30), read(1, 40, 50)]), Ok(()));
        assert_eq!(check(&[write(1, 10, 30), write(2, 10, 30), read(2, 40, 50)]), Ok(()));
    }

    #[test]
    fn an_acknowledged_write_does_not_vanish() {
        assert_eq!(check(&[write(1, 10, 20), read(0, 30, 40)]), Err(Violation::Passed(0, 1)));
    }

    #[test]
    fn what_was_overwritten_does_not_come_back() {
        let seen = [write(1, 10, 20), write(2, 30, 40), read(1, 50, 60)];
        assert_eq!(check(&seen), Err(Violation::Passed(1, 2)));
    }

    #[test]
    fn an_unanswered_write_that_was_seen_stays() {
        assert_eq!(check(&[unanswered(1, 10, 100), read(0, 20, 30), read(1, 40, 50)]), Ok(()));
        let vanishes = [unanswered(1, 10, 100), read(1, 20, 30), read(0, 40, 50)];
        assert_eq!(check(&vanishes), Err(Violation::Passed(0, 1)));
    }

    #[test]
    fn an_unanswered_write_has_no_effect_after_its_deadline() {
        let ghost = [unanswered(1, 10, 50), write(2, 60, 70), read(2, 80, 90), read(1, 100, 110)];
        assert_eq!(check(&ghost), Err(Violation::Interleaved(1, 2)));
        let in_time = [unanswered(1, 10, 85), write(2, 60, 70), read(2, 75, 80), read(1, 100, 110)];
        assert_eq!(check(&in_time), Ok(()));
    }

    #[test]
    fn a_value_that_nobody_wrote_is_found() {
        assert_eq!(check(&[read(9, 10, 20)]), Err(Violation::FromNowhere(9)));
    }

    #[test]
    fn a_value_read_before_it_was_sent_is_found() {
        assert_eq!(check(&[read(1, 10, 20), write(1, 30, 40)]), Err(Violation::FromTheFuture(1)));
    }

    #[test]
    fn what_was_not_flushed_may_be_lost_once_and_what_was_may_not() {
        let mut history = History::default();
        [write(1, 10, 20), write(2, 30, 40), read(2, 45, 50), read(1, 110, 120)]
            .iter()
            .for_each(|attempt| history.add(*attempt));
        let loss = |flushes| Loss { at: 100, keeps_stable: true, kept: None, flushes, is_shown: false };
        assert_eq!(history.check_with_losses(&[]), Err(Violation::Interleaved(1, 2)));
        assert_eq!(history.check_with_losses(&[loss(&[(25, 28)])]), Ok(()));
        assert_eq!(history.check_with_losses(&[loss(&[(41, 60)])]), Err(Violation::Lost(2)));
        let of_all = |at| Loss { at, keeps_stable: false, kept: None, flushes: &[], is_shown: false };
        assert_eq!(history.check_with_losses(&[Loss { keeps_stable: false, ..loss(&[(41, 60)]) }]), Ok(()));
        assert_eq!(history.check_with_losses(&[loss(&[(41, 60)]), of_all(105)]), Ok(()));
        assert_eq!(history.check_with_losses(&[loss(&[(41, 60)]), of_all(125)]), Err(Violation::Lost(2)));
        let mut over_the_loss = history.clone();
        [write(3, 60, 130), write(4, 70, 80)].iter().for_each(|attempt| over_the_loss.add(*attempt));
        assert_eq!(over_the_loss.check_with_losses(&[loss(&[])]), Ok(()));
        history.add(read(2, 130, 140));
        assert_eq!(history.check_with_losses(&[loss(&[])]), Err(Violation::Interleaved(2, 1)));
    }

    /// Tries every order.
    pub(super) fn can_be_ordered(left: &[Attempt], value: u64) -> bool {
        let first_end = left.iter().map(|attempt| attempt.end).min();
        let Some(first_end) = first_end else { return true };
        (0..left.len()).any(|place| {
            let next = left[place];
            let after = match next.effect {
                Effect::Write(written) => written,
                Effect::Read(read) if read == value => value,
                Effect::Swap(expected, swapped) if expected == value => swapped,
                Effect::Differs(expected) if expected != value => value,
                Effect::Read(_) | Effect::Swap(..) | Effect::Differs(_) => return false,
            };
            let mut rest = left.to_vec();
            rest.remove(place);
            next.start <= first_end && can_be_ordered(&rest, after)
        })
    }

    #[test]
    fn the_judgement_is_that_of_trying_every_order() {
        let mut random = crate::Random::new(1);
        let mut verdicts = [0; 2];
        for _ in 0..4000 {
            let attempts: Vec<Attempt> = (1..=random.between(2, 6))
                .map(|number| {
                    let start = random.between(1, 40);
                    let end = start + random.between(1, 25);
                    if random.percent(50) { write(number, start, end) } else { read(number, start, end) }
                })
                .collect();
            let written: Vec<u64> = std::iter::once(0)
                .chain(attempts.iter().filter_map(|attempt| match attempt.effect {
                    Effect::Write(value) => Some(value),
                    _ => None,
                }))
                .collect();
            let seen: Vec<Attempt> = attempts
                .iter()
                .map(|attempt| match attempt.effect {
                    Effect::Read(_) => Attempt { effect: Effect::Read(random.pick(&written)), ..*attempt },
                    _ => *attempt,
                })
                .collect();
            let expected = can_be_ordered(&seen, 0);
            assert_eq!(check(&seen).is_ok(), expected, "{seen:?}");
            verdicts[usize::from(expected)] += 1;
        }
        assert!(verdicts.iter().all(|count| *count > 300), "the histories are all alike: {verdicts:?}");
    }
}
