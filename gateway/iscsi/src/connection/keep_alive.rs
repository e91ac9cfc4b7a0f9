//! Deadlines of a connection: the login's, NOP-In pings in full feature phase (RFC 7143 §11.18, §11.19), and
//! from then on until the last byte is sent the end of a silent peer.

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
    /// The end of a session of limited time, whatever the peer does.
    ends_at: Duration,
    next_ping: Duration,
    unanswered_pings: u32,
    /// The tag of the last ping, and that of the last one which was answered.
    last_ping: Option<u32>,
    answered_ping: Option<u32>,
    /// Input bytes that were left over by the last [`Connection::next_event`].
    input_left: usize,
    /// Output bytes the peer's TCP had taken when last looked at.
    output_taken: u64,
}

impl KeepAlive {
    /// `silence` holds for a login that was refused; while it goes on the login has its own deadline.
    pub(super) fn new(now: Duration, silence: Duration) -> Self {
        Self {
            last_sign_of_life: now,
            silence,
            ends_at: Duration::MAX,
            next_ping: Duration::MAX,
            unanswered_pings: 0,
            last_ping: None,
            answered_ping: None,
            input_left: 0,
            output_taken: 0,
        }
    }

    /// Full feature phase of a normal session begins.
    pub(super) fn begin(&mut self, now: Duration, silence: Duration, ping_interval: Duration) {
        self.last_sign_of_life = now;
        self.silence = silence;
        self.next_ping = now + ping_interval;
    }

    /// Full feature phase of a discovery session begins: it is not pinged and lasts only so long.
    pub(super) fn begin_discovery(&mut self, now: Duration, silence: Duration, time: Duration) {
        self.last_sign_of_life = now;
        self.silence = silence;
        self.ends_at = now + time;
    }

    pub(super) fn input_is_there(&mut self, length: usize, now: Duration) {
        if length > self.input_left {
            self.last_sign_of_life = now;
        }
    }

    pub(super) fn input_is_left(&mut self, length: usize) {
        self.input_left = length;
    }

    pub(super) fn ping_was_answered(&mut self, target_transfer_tag: u32) {
        self.unanswered_pings = 0;
        self.answered_ping = Some(target_transfer_tag);
    }

    pub(super) fn last_ping(&self) -> Option<u32> {
        self.last_ping
    }

    pub(super) fn answered_ping(&self) -> Option<u32> {
        self.answered_ping
    }

    pub(super) fn output_was_taken(&mut self, total: u64, now: Duration) {
        if total > self.output_taken {
            self.output_taken = total;
            self.last_sign_of_life = now;
        }
    }

    fn dies_at(&self) -> Duration {
        self.last_sign_of_life.saturating_add(self.silence).min(self.ends_at)
    }

    /// Why the connection is over at this time, if it is.
    fn verdict(&self, now: Duration) -> Option<ConnectionError> {
        match now {
            _ if now >= self.ends_at => Some(ConnectionError::DiscoveryTimeout),
            _ if now >= self.dies_at() => Some(ConnectionError::PeerSilent),
            _ => None,
        }
    }
}

impl Connection {
    /// The time at which [`handle_timeout`](Self::handle_timeout) wants to be called next. There is always
    /// one until the connection [is finished](Self::is_finished): a peer may be silent while a logout waits
    /// for the caller's answer too, or leave the last output untaken.
    pub fn next_timeout(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Login(login) => Some(login.deadline),
            Phase::FullFeature => Some(self.keep_alive.next_ping.min(self.keep_alive.dies_at())),
            Phase::LoggingOut => Some(self.keep_alive.dies_at()),
            Phase::Closed => (!self.output.is_empty()).then(|| self.keep_alive.dies_at()),
        }
    }

    /// Does what is due: pings the initiator, or finds the peer dead. Calling it early does no harm.
    ///
    /// # Errors
    /// The login or a discovery session took too long, or the peer is silent: close the connection. What it did not take of the
    /// output is given up.
    pub fn handle_timeout(&mut self, now: Duration) -> Result<(), ConnectionError> {
        self.keep_alive.input_is_there(self.input.len(), now);
        self.keep_alive.output_was_taken(self.output.taken_total(), now);
        let overdue = match &self.phase {
            Phase::Login(login) => (now >= login.deadline).then_some(ConnectionError::LoginTimeout),
            Phase::Closed if self.output.is_empty() => None,
            _ => self.keep_alive.verdict(now),
        };
        if let Some(error) = overdue {
            self.phase = Phase::Closed;
            self.output.clear();
            return Err(error);
        }
        if self.is_full_feature() && now >= self.keep_alive.next_ping {
            self.keep_alive.next_ping = now + self.limits.ping_interval;
            self.ping();
            self.output.trim(self.limits.idle_output);
        }
        Ok(())
    }

    /// Pings the initiator before the next ping is due. Nothing comes of it outside full feature phase, or if too many pings wait for
    /// their answers.
    pub fn ping_now(&mut self) {
        if self.is_full_feature() && !self.is_discovery() {
            self.ping();
        }
    }

    fn ping(&mut self) {
        if self.keep_alive.unanswered_pings >= self.limits.unanswered_pings {
            return;
        }
        self.keep_alive.unanswered_pings += 1;
        let target_transfer_tag = self.next_transfer_tag();
        self.keep_alive.last_ping = Some(target_transfer_tag);
        let ping = NopInPdu {
            lun: Lun::ZERO,
            initiator_task_tag: RESERVED_TAG,
            target_transfer_tag,
            sequence: self.unconsumed_numbers(),
        };
        self.send(ping.build(), &[]);
    }
}
