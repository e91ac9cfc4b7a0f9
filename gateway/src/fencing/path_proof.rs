//! Path proof: how long ago an initiator held its session at the latest.
//!
//! Each PDU carries ExpStatSN: when the initiator sent it, it had our response before that number (RFC 7143 §4.2.2.2). So it
//! held the session at some time after we numbered that response, and TCP keeps the order of what it sent before. The time
//! is taken *before* the response is written to the socket: after it, a stall would make the proof look younger than it is.
//! A NOP-Out that answers our NOP-In (RFC 7143 §11.18) proves the same for the time of that ping. Whatever carries
//! ExpStatSN counts; for a WRITE with data to follow that is its last Data-Out too.
//!
//! What an initiator has given up silently it gave up after the last time for which there is a proof.

use std::collections::VecDeque;
use std::time::Duration;

use iscsi_target::AcknowledgedBeyondSent;

use super::{PING_INTERVAL, PROOF_AGE};

/// Responses numbered within so much time count as one, numbered at its beginning: a busy session needs no mark for each.
const MARK_INTERVAL: Duration = Duration::from_millis(10);

/// Pings that can still prove something. More than that are not sent within [`PROOF_AGE`] by those who ask
/// [`PathProof::wants_ping`].
const MAX_PINGS: usize = 8;

/// What one connection's initiator has proved.
#[derive(Debug)]
pub struct PathProof {
    next_stat_sn: u32,
    /// The initiator may take that number for one it has a status of.
    next_is_shown: bool,
    /// What an acknowledgement proves, by the ExpStatSN that it takes. Oldest first, none older than [`PROOF_AGE`].
    statuses: VecDeque<Mark>,
    /// The same for the answer to a ping, by its Target Transfer Tag.
    pings: VecDeque<Mark>,
    proven: Proven,
}

/// The latest time for which it is known that an initiator held its session, if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Proven(pub Option<Duration>);

impl Proven {
    /// Whether a command may be sent to a store; `now` is read after its stamp was taken.
    pub fn is_fresh(self, now: Duration) -> bool {
        self.0.is_some_and(|at| now < at + PROOF_AGE)
    }
}

/// Who shows to have this held the session at that time or later.
#[derive(Debug, Clone, Copy)]
struct Mark {
    number: u32,
    at: Duration,
}

impl PathProof {
    /// Nothing is proved on a connection whose first status will have this number.
    pub fn new(first_stat_sn: u32) -> Self {
        Self {
            next_stat_sn: first_stat_sn,
            next_is_shown: false,
            statuses: VecDeque::new(),
            pings: VecDeque::new(),
            proven: Proven::default(),
        }
    }

    /// Responses are about to be written to the socket, and `next_stat_sn` is what the next status will have. To be called
    /// before they are written, with `now` read before as well.
    ///
    /// `next_is_shown` says that an R2T has shown that number (RFC 7143 §11.8). A widespread initiator (libiscsi) takes it
    /// for that of a status it has; so when a status gets the number, its acknowledgement alone proves nothing.
    pub fn about_to_write(&mut self, next_stat_sn: u32, next_is_shown: bool, now: Duration) {
        if next_stat_sn == self.next_stat_sn {
            self.next_is_shown |= next_is_shown;
            return;
        }
        let only_shown = self.next_is_shown && next_stat_sn == self.next_stat_sn.wrapping_add(1);
        (self.next_stat_sn, self.next_is_shown) = (next_stat_sn, next_is_shown);
        drop_old(&mut self.statuses, now);
        let is_soon = self.statuses.back().is_some_and(|last| now < last.at + MARK_INTERVAL);
        if !only_shown && !is_soon {
            self.statuses.push_back(Mark { number: next_stat_sn, at: now });
        }
    }

    /// A NOP-In with this Target Transfer Tag is about to be written to the socket.
    pub fn pinged(&mut self, target_transfer_tag: u32, now: Duration) {
        drop_old(&mut self.pings, now);
        if self.pings.len() == MAX_PINGS {
            self.pings.pop_front();
        }
        self.pings.push_back(Mark { number: target_transfer_tag, at: now });
    }

    /// A PDU with this ExpStatSN was received. Returns whether there is a newer proof now.
    ///
    /// # Errors
    /// It is beyond what was sent: a protocol error, close the connection.
    pub fn acknowledged(&mut self, exp_stat_sn: u32) -> Result<bool, AcknowledgedBeyondSent> {
        let next = self.next_stat_sn;
        if is_after(exp_stat_sn, next.wrapping_add(u32::from(self.next_is_shown))) {
            return Err(AcknowledgedBeyondSent { exp_stat_sn, next });
        }
        let mut last = None;
        while let Some(mark) = self.statuses.front().filter(|mark| !is_after(mark.number, exp_stat_sn)) {
            last = Some(mark.at);
            self.statuses.pop_front();
        }
        Ok(last.is_some_and(|at| self.prove(at)))
    }

    /// A NOP-Out with the Target Transfer Tag of a ping was received. Returns whether there is a newer proof now.
    pub fn ping_answered(&mut self, target_transfer_tag: u32) -> bool {
        let Some(place) = self.pings.iter().position(|ping| ping.number == target_transfer_tag) else {
            return false;
        };
        let last = self.pings.drain(..=place).next_back();
        last.is_some_and(|ping| self.prove(ping.at))
    }

    /// What was proved so far.
    pub fn proven(&self) -> Proven {
        self.proven
    }

    /// Whether a command that waits for a proof is helped by a ping: none was sent a short while ago.
    pub fn wants_ping(&self, now: Duration) -> bool {
        self.pings.back().is_none_or(|ping| now >= ping.at + PING_INTERVAL)
    }

    fn prove(&mut self, at: Duration) -> bool {
        let is_newer = Proven(Some(at)) > self.proven;
        if is_newer {
            self.proven = Proven(Some(at));
        }
        is_newer
    }
}

/// Takes out what could only prove what is too old.
fn drop_old(marks: &mut VecDeque<Mark>, now: Duration) {
    while marks.front().is_some_and(|mark| mark.at + PROOF_AGE <= now) {
        marks.pop_front();
    }
}

/// Serial number arithmetic (RFC 1982), as RFC 7143 §4.2.2 wants it.
fn is_after(one: u32, other: u32) -> bool {
    (one.wrapping_sub(other) as i32) > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: u32 = u32::MAX - 1;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn number(count: u32) -> u32 {
        FIRST.wrapping_add(count)
    }

    #[test]
    fn an_acknowledgement_proves_the_time_before_the_status_was_written() {
        let mut proof = PathProof::new(FIRST);
        assert!(!proof.proven().is_fresh(ms(0)));
        proof.about_to_write(number(1), false, ms(1_000));
        proof.about_to_write(number(3), false, ms(2_000));
        assert_eq!(proof.acknowledged(FIRST), Ok(false));
        assert!(!proof.proven().is_fresh(ms(2_000)), "it has none of the statuses");
        assert_eq!(proof.acknowledged(number(2)), Ok(true));
        assert!(proof.proven().is_fresh(ms(2_999)));
        assert!(!proof.proven().is_fresh(ms(3_000)));
        assert_eq!(proof.acknowledged(number(3)), Ok(true));
        assert!(proof.proven().is_fresh(ms(3_999)));
        assert_eq!(proof.acknowledged(number(3)), Ok(false), "nothing new");
        assert_eq!(proof.acknowledged(number(1)), Ok(false), "older ones may repeat");
    }

    #[test]
    fn an_acknowledgement_beyond_what_was_sent_is_an_error() {
        let mut proof = PathProof::new(FIRST);
        let beyond = AcknowledgedBeyondSent { exp_stat_sn: number(1), next: FIRST };
        assert_eq!(proof.acknowledged(number(1)), Err(beyond));
        proof.about_to_write(number(4), false, ms(0));
        assert_eq!(proof.acknowledged(number(4)), Ok(true));
        assert!(proof.acknowledged(number(5)).is_err());
    }

    #[test]
    fn what_takes_no_number_makes_no_acknowledgement_younger() {
        let mut proof = PathProof::new(FIRST);
        proof.about_to_write(number(1), false, ms(0));
        proof.about_to_write(number(1), false, ms(1_500));
        assert_eq!(proof.acknowledged(number(1)), Ok(true));
        assert!(!proof.proven().is_fresh(ms(2_000)));
    }

    #[test]
    fn a_number_that_an_r2t_showed_proves_nothing() {
        let mut proof = PathProof::new(7);
        proof.about_to_write(8, false, ms(0));
        proof.about_to_write(8, true, ms(500));
        assert_eq!(proof.acknowledged(9), Ok(true), "whoever has the R2T has the statuses before it");
        proof.about_to_write(9, false, ms(1_000));
        assert_eq!(proof.acknowledged(9), Ok(false));
        assert!(!proof.proven().is_fresh(ms(2_000)));
        proof.about_to_write(10, false, ms(1_500));
        assert_eq!(proof.acknowledged(10), Ok(true));
        assert!(proof.proven().is_fresh(ms(3_499)));
        assert!(proof.acknowledged(11).is_err());
    }

    #[test]
    fn the_answer_to_a_ping_proves_the_time_of_that_ping() {
        let mut proof = PathProof::new(FIRST);
        assert!(proof.wants_ping(ms(0)));
        proof.pinged(70, ms(0));
        assert!(!proof.wants_ping(ms(999)));
        assert!(proof.wants_ping(ms(1_000)));
        proof.pinged(71, ms(1_000));
        proof.pinged(72, ms(1_900));
        assert!(proof.ping_answered(71));
        assert!(!proof.ping_answered(70), "an earlier one says nothing new");
        assert!(!proof.ping_answered(99));
        assert!(proof.proven().is_fresh(ms(2_999)) && !proof.proven().is_fresh(ms(3_000)));
        assert!(proof.ping_answered(72));
        assert!(proof.proven().is_fresh(ms(3_899)));
    }

    #[test]
    fn a_busy_session_keeps_few_marks_and_none_that_is_too_young() {
        let mut proof = PathProof::new(0);
        for status in 1..100_000 {
            let now = Duration::from_micros(u64::from(status) * 100);
            proof.about_to_write(status, false, now);
            proof.pinged(status, now);
        }
        assert!(proof.statuses.len() <= 200 && proof.pings.len() <= MAX_PINGS);
        assert_eq!(proof.acknowledged(90_000), Ok(true));
        let at = proof.proven().0.unwrap();
        assert!(at <= ms(9_000) && at + MARK_INTERVAL >= ms(9_000));
    }
}
