//! Guessing secrets, slowed down: how long a proof waits for its turn, by the address it comes from.
//!
//! The first few wrong proofs cost nothing; from then on the proofs from one address are judged one after another, with
//! pauses that double up to some seconds, over however many connections they come. Proofs are counted before they are
//! judged, and the right ones taken off again: so many at once are no way around. Wrong proofs are forgiven with time.
//!
//! What counts is the address alone. Whom a proof names makes no difference, so nobody can lock another out by its name; and
//! one who guesses slows down only those who share its address (an IPv6 network of /64 counts as one), who wait their
//! turn or try again. A right secret gets in through any other address meanwhile.

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

/// A proof whose turn would come later than this is turned away.
const MAX_WAIT: Duration = Duration::from_secs(10);

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
    /// Proofs that were wrong, or are not judged yet.
    wrong: u32,
    /// When the last of them came, or one was forgiven.
    since: Duration,
    /// When the next proof may be judged.
    next_turn: Duration,
}

impl Guesses {
    /// How long a proof from this address is to wait until it is judged; `None` if that would be too long. It counts as
    /// wrong until [`Guesses::was_right`].
    pub(crate) fn turn(&self, address: IpAddr, now: Duration) -> Option<Duration> {
        let mut by_address = lock(&self.by_address);
        let address = network(address);
        if by_address.len() >= MAX_ADDRESSES && !by_address.contains_key(&address) {
            let quietest = by_address.iter().min_by_key(|(_, guesser)| guesser.since);
            if let Some(quietest) = quietest.map(|(address, _)| *address) {
                by_address.remove(&quietest);
            }
        }
        let fresh = Guesser { wrong: 0, since: now, next_turn: now };
        by_address.entry(address).or_insert(fresh).turn(now)
    }

    /// A proof from this address had its turn, and was right.
    pub(crate) fn was_right(&self, address: IpAddr) {
        let mut by_address = lock(&self.by_address);
        let address = network(address);
        if let Some(guesser) = by_address.get_mut(&address) {
            guesser.wrong = guesser.wrong.saturating_sub(1);
            if guesser.wrong == 0 {
                by_address.remove(&address);
            }
        }
    }
}

impl Guesser {
    fn turn(&mut self, now: Duration) -> Option<Duration> {
        self.forgive(now);
        let turn = self.next_turn.max(now);
        let wait = turn - now;
        if wait > MAX_WAIT {
            return None;
        }
        self.wrong = (self.wrong + 1).min(MAX_REMEMBERED);
        self.since = now;
        self.next_turn = turn + pause_after(self.wrong);
        Some(wait)
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

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Waits of proofs that come at once, in milliseconds.
    fn waits(guesses: &Guesses, from: &str, count: usize, now: Duration) -> Vec<Option<u128>> {
        let wait = |_| Some(guesses.turn(address(from), now)?.as_millis());
        (0..count).map(wait).collect()
    }

    #[test]
    fn many_proofs_at_once_wait_for_each_other_and_too_many_are_turned_away() {
        let guesses = Guesses::default();
        let found = waits(&guesses, "192.0.2.1", 14, NOW);
        let free = [Some(0); 6];
        assert_eq!(found[..6], free, "those that are free, and the first that is not");
        assert_eq!(
            found[6..],
            [Some(125), Some(375), Some(875), Some(1875), Some(3875), Some(7875), None, None]
        );
    }

    #[test]
    fn right_proofs_count_for_nothing() {
        let guesses = Guesses::default();
        for _ in 0..1000 {
            assert_eq!(guesses.turn(address("192.0.2.1"), NOW), Some(Duration::ZERO));
            guesses.was_right(address("192.0.2.1"));
        }
        assert!(lock(&guesses.by_address).is_empty());
    }

    #[test]
    fn other_addresses_are_not_slowed_down() {
        let guesses = Guesses::default();
        waits(&guesses, "192.0.2.1", 20, NOW);
        waits(&guesses, "2001:db8::1", 20, NOW);
        assert_eq!(waits(&guesses, "192.0.2.2", 1, NOW), [Some(0)]);
        assert_eq!(waits(&guesses, "::ffff:192.0.2.1", 1, NOW), [None], "however it is written");
        assert_eq!(waits(&guesses, "2001:db8::2", 1, NOW), [None], "of one network");
        assert_eq!(waits(&guesses, "2001:db8:0:1::1", 1, NOW), [Some(0)]);
    }

    #[test]
    fn the_right_one_at_a_guessers_address_gets_its_turn_and_all_is_forgiven_in_time() {
        let guesses = Guesses::default();
        waits(&guesses, "192.0.2.1", 1000, NOW);
        let soon = NOW + MAX_WAIT;
        assert!(guesses.turn(address("192.0.2.1"), soon).is_some_and(|wait| wait <= MAX_WAIT));
        let later = soon + FORGIVENESS * MAX_REMEMBERED;
        assert_eq!(waits(&guesses, "192.0.2.1", 6, later), [Some(0); 6]);
    }

    #[test]
    fn an_address_has_few_guesses_however_long_it_tries() {
        let guesses = Guesses::default();
        let day = 24 * 60 * 60;
        let tries = (0..day * 2).map(|half_second| NOW + Duration::from_millis(500) * half_second);
        let judged = tries.filter(|now| guesses.turn(address("192.0.2.1"), *now).is_some()).count();
        assert!(judged <= day as usize / 4 + 20, "{judged} guesses in a day");
    }

    #[test]
    fn the_addresses_that_are_remembered_have_a_bound() {
        let guesses = Guesses::default();
        waits(&guesses, "192.0.2.1", 20, NOW + Duration::from_secs(1));
        for number in 0..2 * MAX_ADDRESSES as u32 {
            guesses.turn(IpAddr::from(number.to_be_bytes()), NOW);
        }
        assert_eq!(lock(&guesses.by_address).len(), MAX_ADDRESSES);
        assert_eq!(
            waits(&guesses, "192.0.2.1", 1, NOW + Duration::from_secs(1)),
            [None],
            "the quiet ones go first"
        );
    }
}
