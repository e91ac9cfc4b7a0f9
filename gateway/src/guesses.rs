//! Guessing secrets, slowed down: how long a proof waits for its turn, by the address it comes from.
//!
//! The first few wrong proofs cost nothing; from then on the proofs from one address are judged one after another, and
//! each wrong one is followed by a pause, which doubles up to some seconds, over however many connections they come. A
//! right one costs nothing: those that wait beside it are judged at once. Wrong proofs are forgiven with time.
//!
//! What counts is the address alone. Whom a proof names makes no difference, so nobody can lock another out by its name; and
//! one who guesses slows down only those who share its address (an IPv6 network of /64 counts as one), who wait for the
//! pause to end or try again. A right secret gets in through any other address meanwhile.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Mutex;
use std::time::Duration;

use crate::sessions::lock;

/// Wrong proofs from one address that slow nothing down.
const FREE_GUESSES: u32 = 5;

/// The pause after the first guess that is not free; each doubles it, up to [`MAX_DOUBLINGS`].
const FIRST_PAUSE: Duration = Duration::from_millis(125);

/// The longest pause is 4 s.
const MAX_DOUBLINGS: u32 = 5;

/// Time after which one wrong proof is forgiven.
const FORGIVENESS: Duration = Duration::from_secs(10);

/// Wrong proofs that are remembered of one address: after less than three minutes without another all are forgiven.
const MAX_REMEMBERED: u32 = 16;

/// A proof whose turn would come later than this after it came itself is turned away.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(10);

/// Until a proof looks again whether those before it are judged, which takes no longer than computing them.
const JUDGING_TIME: Duration = Duration::from_millis(5);

/// Addresses remembered. When there are more, the one that has been quiet for longest is forgotten.
const MAX_ADDRESSES: usize = 4096;

/// Proofs by address.
#[derive(Default)]
pub(crate) struct Guesses {
    by_address: Mutex<HashMap<IpAddr, Guesser>>,
}

/// What is remembered of an address. Times are those of the gateway's clock.
#[derive(Debug, Clone, Copy)]
struct Guesser {
    /// Proofs that were wrong, and are not forgiven.
    wrong: u32,
    /// When the last of them was judged, or one was forgiven.
    since: Duration,
    /// When the next proof may be judged.
    next_turn: Duration,
    /// Proofs that have their turn.
    judging: u32,
}

impl Guesses {
    /// Gives a proof from this address its turn: `None`, and [`Guesses::verdict`] is to follow. Otherwise how long it is to
    /// wait until it asks again.
    pub(crate) fn turn(&self, address: IpAddr, now: Duration) -> Option<Duration> {
        let mut by_address = lock(&self.by_address);
        let address = network(address);
        if by_address.len() >= MAX_ADDRESSES && !by_address.contains_key(&address) {
            let quietest = by_address.iter().min_by_key(|(_, guesser)| guesser.since);
            if let Some(quietest) = quietest.map(|(address, _)| *address) {
                by_address.remove(&quietest);
            }
        }
        let fresh = Guesser { wrong: 0, since: now, next_turn: now, judging: 0 };
        by_address.entry(address).or_insert(fresh).turn(now)
    }

    /// What came of a proof from this address that had its turn.
    pub(crate) fn verdict(&self, address: IpAddr, was_right: bool, now: Duration) {
        let mut by_address = lock(&self.by_address);
        let address = network(address);
        if let Some(guesser) = by_address.get_mut(&address) {
            guesser.judging = guesser.judging.saturating_sub(1);
            if !was_right {
                guesser.wrong = (guesser.wrong + 1).min(MAX_REMEMBERED);
                guesser.since = now;
                guesser.next_turn = guesser.next_turn.max(now) + pause_after(guesser.wrong);
            }
            if guesser.wrong == 0 && guesser.judging == 0 {
                by_address.remove(&address);
            }
        }
    }
}

impl Guesser {
    fn turn(&mut self, now: Duration) -> Option<Duration> {
        self.forgive(now);
        // Any of those that are judged may be wrong: so many at once are no way around the pauses.
        if self.judging > 0 && self.wrong + self.judging > FREE_GUESSES {
            return Some(JUDGING_TIME);
        }
        if self.next_turn > now {
            return Some(self.next_turn - now);
        }
        self.judging += 1;
        None
    }

    fn forgive(&mut self, now: Duration) {
        let periods = now.saturating_sub(self.since).as_secs() / FORGIVENESS.as_secs();
        let forgiven = u32::try_from(periods).unwrap_or(u32::MAX).min(self.wrong);
        self.wrong -= forgiven;
        self.since += FORGIVENESS * forgiven;
    }
}

fn pause_after(wrong: u32) -> Duration {
    match wrong.checked_sub(FREE_GUESSES + 1) {
        None => Duration::ZERO,
        Some(doublings) => FIRST_PAUSE * (1 << doublings.min(MAX_DOUBLINGS)),
    }
}

/// What counts as one address.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1000);
    const HOME: &str = "192.0.2.1";

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Has a proof judged if it has its turn; how long it is to wait otherwise, in milliseconds.
    fn tell(guesses: &Guesses, from: &str, is_right: bool, now: Duration) -> Option<u128> {
        let wait = guesses.turn(address(from), now);
        if wait.is_none() {
            guesses.verdict(address(from), is_right, now);
        }
        wait.map(|wait| wait.as_millis())
    }

    /// Makes so many wrong proofs, each as soon as it has its turn; when the last of them was judged.
    fn guess(guesses: &Guesses, from: &str, count: usize, mut now: Duration) -> Duration {
        for _ in 0..count {
            while let Some(wait) = guesses.turn(address(from), now) {
                now += wait;
            }
            guesses.verdict(address(from), false, now);
        }
        now
    }

    #[test]
    fn a_few_wrong_proofs_are_free_and_then_each_costs_a_longer_pause() {
        let guesses = Guesses::default();
        let waits = (0..14).map(|_| {
            let now = guess(&guesses, HOME, 1, NOW);
            (now - NOW).as_millis()
        });
        let waits: Vec<_> = waits.collect();
        assert_eq!(waits[..6], [0; 6], "those that are free, and the first that is not");
        assert_eq!(waits[6..], [125, 375, 875, 1875, 3875, 7875, 11875, 15875]);
    }

    #[test]
    fn of_many_at_once_no_more_are_judged_than_are_free() {
        let guesses = Guesses::default();
        let at_once = (0..40).filter(|_| guesses.turn(address(HOME), NOW).is_none()).count();
        assert_eq!(at_once, FREE_GUESSES as usize + 1);
        for _ in 0..at_once {
            guesses.verdict(address(HOME), false, NOW);
        }
        assert_eq!(tell(&guesses, HOME, true, NOW), Some(125));
    }

    #[test]
    fn of_many_right_ones_at_once_all_are_judged_as_fast_as_that_goes() {
        let guesses = Guesses::default();
        let (mut waiting, mut now) = (300, NOW);
        while waiting > 0 {
            let judged = (0..waiting).filter(|_| guesses.turn(address(HOME), now).is_none()).count();
            assert!(judged > 0, "{waiting} wait, though none is judged and none was wrong");
            waiting -= judged;
            now += JUDGING_TIME;
            (0..judged).for_each(|_| guesses.verdict(address(HOME), true, now));
        }
        assert!(now - NOW <= MAX_WAIT);
    }

    #[test]
    fn right_proofs_cost_nothing_and_are_not_remembered() {
        let guesses = Guesses::default();
        for _ in 0..1000 {
            assert_eq!(tell(&guesses, HOME, true, NOW), None);
        }
        assert!(lock(&guesses.by_address).is_empty());
        guess(&guesses, HOME, 20, NOW);
        let after = NOW + Duration::from_secs(60);
        for _ in 0..1000 {
            assert_eq!(
                tell(&guesses, HOME, true, after),
                None,
                "nor beside wrong ones, between their pauses"
            );
        }
    }

    #[test]
    fn other_addresses_are_not_slowed_down() {
        let guesses = Guesses::default();
        guess(&guesses, HOME, 6, NOW);
        guess(&guesses, "2001:db8::1", 6, NOW);
        assert_eq!(tell(&guesses, "192.0.2.2", true, NOW), None);
        assert_eq!(tell(&guesses, "::ffff:192.0.2.1", true, NOW), Some(125), "however it is written");
        assert_eq!(tell(&guesses, "2001:db8::2", true, NOW), Some(125), "of one network");
        assert_eq!(tell(&guesses, "2001:db8:0:1::1", true, NOW), None);
    }

    /// When each of 99 right proofs was judged that came together, one in each millisecond, while a wrong one that came
    /// first comes again 5 s after each time it was judged.
    fn right_ones_beside_a_wrong_one(guesses: &Guesses, begin: Duration) -> Vec<Duration> {
        let mut right: Vec<_> = (0..99).map(|number| begin + Duration::from_millis(number)).collect();
        let (mut judged, mut wrong, mut now) = (Vec::new(), begin, begin);
        while !right.is_empty() {
            if wrong <= now {
                let wait = guesses.turn(address(HOME), now);
                if wait.is_none() {
                    guesses.verdict(address(HOME), false, now);
                }
                wrong = now + wait.unwrap_or(Duration::from_secs(5));
            }
            right.retain_mut(|at| {
                if *at > now {
                    return true;
                }
                let wait = tell(guesses, HOME, true, now);
                *at = now + Duration::from_millis(wait.unwrap_or(0) as u64);
                judged.extend(wait.is_none().then_some(now));
                wait.is_some()
            });
            now += Duration::from_millis(1);
            assert!(now < begin + Duration::from_secs(60), "{} of 99 in", judged.len());
        }
        judged
    }

    #[test]
    fn one_wrong_secret_that_retries_keeps_nobody_out() {
        for wrong_before in [0, 5, 6, 20] {
            let guesses = Guesses::default();
            let begin = guess(&guesses, HOME, wrong_before, NOW) + Duration::from_secs(5);
            let judged = right_ones_beside_a_wrong_one(&guesses, begin);
            let last = judged.into_iter().max().unwrap() - begin;
            assert!(last <= MAX_WAIT, "after {wrong_before}: the last one in after {last:?}");
        }
    }

    #[test]
    fn wrong_proofs_are_forgiven_where_right_ones_come_often() {
        let guesses = Guesses::default();
        guess(&guesses, HOME, 5, NOW);
        for second in 0..60 * 60 {
            assert_eq!(tell(&guesses, HOME, true, NOW + Duration::from_secs(second)), None);
        }
        let later = NOW + Duration::from_secs(60 * 60);
        assert_eq!(guess(&guesses, HOME, 6, later), later, "as many are free as in the beginning");
    }

    #[test]
    fn an_address_has_few_guesses_however_long_it_tries() {
        let guesses = Guesses::default();
        let day = 24 * 60 * 60;
        let tries = (0..day * 2).map(|half_second| NOW + Duration::from_millis(500) * half_second);
        let judged = tries.filter(|now| tell(&guesses, HOME, false, *now).is_none()).count();
        assert!(judged <= day as usize / 4 + 20, "{judged} guesses in a day");
    }

    #[test]
    fn the_addresses_that_are_remembered_have_a_bound() {
        let guesses = Guesses::default();
        let later = guess(&guesses, HOME, 20, NOW + Duration::from_secs(1));
        for number in 0..2 * MAX_ADDRESSES as u32 {
            guesses.turn(IpAddr::from(number.to_be_bytes()), NOW);
        }
        assert_eq!(lock(&guesses.by_address).len(), MAX_ADDRESSES);
        assert!(tell(&guesses, HOME, true, later).is_some(), "the quiet ones go first");
    }
}
