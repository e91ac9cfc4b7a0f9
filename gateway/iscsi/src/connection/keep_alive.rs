//! Deadlines of a connection: the login's, and in full feature phase NOP-In pings and the end of a silent
//! peer (RFC 7143 §11.18, §11.19).

use std::time::Duration;

use super::{Connection, Phase};
use crate::error::ConnectionError;
use crate::lun::Lun;
use crate::pdu::{NopInPdu, RESERVED_TAG};

/// When the peer was last heard, and when the next ping is due.
#[derive(Debug)]
pub(super) struct KeepAlive {
    last_sign_of_life: Duration,
    silence: Duration,
    next_ping: Duration,
    unanswered_pings: u32,
    /// Input bytes that were left over by the last [`Connection::next_event`].
    input_left: usize,
    /// Output bytes the peer's TCP had taken when last looked at.
    output_taken: u64,
}

impl KeepAlive {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            last_sign_of_life: now,
            silence: Duration::MAX,
            next_ping: Duration::MAX,
            unanswered_pings: 0,
            input_left: 0,
            output_taken: 0,
        }
    }

    /// Full feature phase begins.
    pub(super) fn begin(&mut self, now: Duration, silence: Duration, ping_interval: Duration) {
        self.last_sign_of_life = now;
        self.silence = silence;
        self.next_ping = now + ping_interval;
    }

    pub(super) fn input_is_there(&mut self, length: usize, now: Duration) {
        if length > self.input_left {
            self.last_sign_of_life = now;
        }
    }

    pub(super) fn input_is_left(&mut self, length: usize) {
        self.input_left = length;
    }

    pub(super) fn ping_was_answered(&mut self) {
        self.unanswered_pings = 0;
    }

    pub(super) fn output_was_taken(&mut self, total: u64, now: Duration) {
        if total > self.output_taken {
            self.output_taken = total;
            self.last_sign_of_life = now;
        }
    }

    fn dies_at(&self) -> Duration {
        self.last_sign_of_life.saturating_add(self.silence)
    }
}

impl Connection {
    /// The time at which [`handle_timeout`](Self::handle_timeout) wants to be called next. There is none
    /// while a logout waits for the caller's answer and after the end, when only the output is left to
    /// send: how long to try that is the caller's business.
    pub fn next_timeout(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Login(login) => Some(login.deadline),
            Phase::FullFeature if self.is_discovery() => Some(self.keep_alive.dies_at()),
            Phase::FullFeature => Some(self.keep_alive.next_ping.min(self.keep_alive.dies_at())),
            Phase::LoggingOut | Phase::Closed => None,
        }
    }

    /// Does what is due: pings the initiator, or finds the peer dead. Calling it early does no harm.
    ///
    /// # Errors
    /// The login took too long or the peer is silent: close the connection.
    pub fn handle_timeout(&mut self, now: Duration) -> Result<(), ConnectionError> {
        let overdue = match &self.phase {
            Phase::Login(login) if now >= login.deadline => Some(ConnectionError::LoginTimeout),
            Phase::FullFeature => {
                self.keep_alive.output_was_taken(self.output.taken_total(), now);
                (now >= self.keep_alive.dies_at()).then_some(ConnectionError::PeerSilent)
            }
            _ => None,
        };
        if let Some(error) = overdue {
            self.phase = Phase::Closed;
            return Err(error);
        }
        if self.is_full_feature() && !self.is_discovery() && now >= self.keep_alive.next_ping {
            self.keep_alive.next_ping = now + self.limits.ping_interval;
            self.ping();
            self.output.trim(self.limits.idle_output);
        }
        Ok(())
    }

    fn ping(&mut self) {
        if self.keep_alive.unanswered_pings >= self.limits.unanswered_pings {
            return;
        }
        self.keep_alive.unanswered_pings += 1;
        let ping = NopInPdu {
            lun: Lun::ZERO,
            initiator_task_tag: RESERVED_TAG,
            target_transfer_tag: self.next_transfer_tag(),
            sequence: self.unconsumed_numbers(),
        };
        self.send(ping.build(), &[]);
    }
}
