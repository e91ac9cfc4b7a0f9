//! Reads of zeroes in a history in which more than one thing leaves zeroes, so that a read does not tell which one it saw.
//!
//! What is judged is what can be said without knowing that: while another value was in place throughout, no zeroes were read
//! and nothing was discarded; and zeroes that are read after another value was need something that left them in between.

use super::{Effect, History, Violation};

impl History {
    /// Whether anything but the beginning leaves zeroes.
    pub(super) fn is_zeroed(&self) -> bool {
        self.writes().any(|(value, _)| value == 0)
    }

    /// Judges what has to do with zeroes; `throughout` says which value was in place all the time between two moments.
    pub(super) fn check_zeroes(
        &self,
        throughout: impl Fn((u64, u64)) -> Option<u64>,
    ) -> Result<(), Violation> {
        if !self.is_zeroed() {
            return Ok(());
        }
        for attempt in self.attempts.iter().filter(|attempt| attempt.answered) {
            let (start, end) = (attempt.start, attempt.end);
            if matches!(attempt.effect, Effect::Read(0) | Effect::Write(0))
                && let Some(value) = throughout((start, end))
            {
                return Err(Violation::Passed(value, 0));
            }
            if attempt.effect == Effect::Read(0)
                && let Some((value, since)) = self.seen_before(start)
                && !self
                    .writes()
                    .any(|(value, zeroes)| value == 0 && zeroes.start <= end && zeroes.end >= since)
            {
                return Err(Violation::Zeroes(value));
            }
        }
        Ok(())
    }

    /// The value that was in place last before `time`, as far as that is certain, and when that cannot have ended before.
    fn seen_before(&self, time: u64) -> Option<(u64, u64)> {
        let seen = self.attempts.iter().filter(|attempt| attempt.answered && attempt.end < time);
        let values = seen.filter_map(|attempt| match attempt.effect {
            Effect::Read(value) | Effect::Write(value) if value != 0 => Some((value, attempt.start)),
            _ => None,
        });
        values.max_by_key(|(_, since)| *since)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::can_be_ordered;
    use super::super::{Attempt, Loss};
    use super::*;
    use crate::Random;

    fn attempt(effect: Effect, start: u64, end: u64) -> Attempt {
        Attempt { effect, start, end, answered: true, stable: false }
    }

    fn check(attempts: &[(Effect, u64, u64)]) -> Result<(), Violation> {
        let mut history = History::default();
        attempts.iter().for_each(|(effect, start, end)| history.add(attempt(*effect, *start, *end)));
        history.check()
    }

    use Effect::{Differs, Read, Swap, Write};

    #[test]
    fn zeroes_are_read_after_each_discard_and_not_without_one() {
        let discards = [(Write(0), 10, 20), (Write(1), 30, 40), (Write(0), 50, 60), (Read(0), 70, 80)];
        assert_eq!(check(&discards), Ok(()));
        let lost = [(Write(0), 10, 20), (Write(1), 30, 40), (Read(0), 70, 80)];
        assert_eq!(check(&lost), Err(Violation::Zeroes(1)));
        let at_the_same_time = [(Write(0), 10, 35), (Write(1), 30, 40), (Read(0), 70, 80)];
        assert_eq!(check(&at_the_same_time), Ok(()));
    }

    #[test]
    fn what_was_discarded_does_not_come_back() {
        let seen = [(Write(1), 10, 20), (Write(0), 30, 40), (Read(1), 50, 60)];
        assert_eq!(check(&seen), Err(Violation::Passed(1, 0)));
        let seen = [(Write(1), 10, 20), (Write(0), 15, 70), (Read(0), 30, 40), (Read(1), 50, 60)];
        assert_eq!(check(&seen), Err(Violation::Passed(1, 0)));
    }

    #[test]
    fn after_a_loss_zeroes_may_be_what_was_left() {
        let mut history = History::default();
        let attempts = [(Write(1), 10, 20), (Write(0), 30, 40), (Write(2), 50, 60), (Read(0), 110, 120)];
        attempts.iter().for_each(|(effect, start, end)| history.add(attempt(*effect, *start, *end)));
        assert_eq!(
            history.check_with_losses(&[Loss {
                at: 100,
                keeps_stable: true,
                kept: None,
                flushes: &[],
                is_shown: false
            }]),
            Ok(())
        );
        let flushed = Loss { at: 100, keeps_stable: true, kept: None, flushes: &[(70, 80)], is_shown: false };
        assert_eq!(history.check_with_losses(&[flushed]), Err(Violation::Lost(2)));
    }

    #[test]
    fn nothing_comes_between_the_values_of_a_swap() {
        assert_eq!(check(&[(Write(1), 10, 20), (Swap(1, 2), 30, 40), (Read(2), 50, 60)]), Ok(()));
        let between = [(Write(1), 10, 20), (Swap(1, 3), 30, 60), (Write(2), 35, 40), (Read(3), 70, 80)];
        assert_eq!(check(&between), Err(Violation::NotSwapped(1, 2, 3)));
        let twice = [(Write(1), 10, 20), (Swap(1, 2), 30, 40), (Swap(1, 3), 50, 60), (Read(3), 70, 80)];
        assert!(check(&twice).is_err());
    }

    #[test]
    fn a_swap_that_came_to_nothing_did_not_find_what_was_in_place() {
        let seen = [(Write(1), 10, 20), (Differs(1), 30, 40), (Read(1), 50, 60)];
        assert_eq!(check(&seen), Err(Violation::NotFound(1)));
        let seen = [(Write(1), 10, 20), (Differs(1), 30, 60), (Write(2), 40, 50), (Read(2), 70, 80)];
        assert_eq!(check(&seen), Ok(()));
    }

    /// One operation of any kind; each write has its own number, or leaves zeroes.
    fn any(random: &mut Random, number: u64) -> (Effect, u64, u64) {
        let start = random.between(1, 40);
        let found = random.below(number + 1);
        let effect = match random.below(6) {
            0 | 1 => Write(number),
            2 => Write(0),
            3 => Swap(found, number),
            4 => Differs(found),
            _ => Read(found),
        };
        (effect, start, start + random.between(1, 25))
    }

    #[test]
    fn what_can_be_put_in_order_is_no_violation_and_most_else_is_one() {
        let mut random = Random::new(2);
        let (mut ordered, mut found, mut missed) = (0, 0, 0);
        for _ in 0..20_000 {
            let attempts: Vec<_> =
                (1..=random.between(2, 6)).map(|number| any(&mut random, number)).collect();
            let all: Vec<Attempt> =
                attempts.iter().map(|(effect, start, end)| attempt(*effect, *start, *end)).collect();
            match (can_be_ordered(&all, 0), check(&attempts).is_ok()) {
                (true, judged_sound) => {
                    assert!(judged_sound, "{attempts:?}: {:?}", check(&attempts));
                    ordered += 1;
                }
                (false, true) => missed += 1,
                (false, false) => found += 1,
            }
        }
        println!("{ordered} in order, {found} found, {missed} missed");
        assert!(ordered > 1000 && found > 2 * missed, "{ordered} in order, {found} found, {missed} missed");
    }
}
