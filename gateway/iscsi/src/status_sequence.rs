//! StatSN: the numbers of our answers, and what the initiator says it has of them (RFC 7143 §4.2.2.2).

/// The initiator acknowledges a status that we never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ExpStatSN {exp_stat_sn} is beyond what was sent (next StatSN is {next})")]
pub struct AcknowledgedBeyondSent {
    /// What the initiator expects next.
    pub exp_stat_sn: u32,
    /// What we would send next.
    pub next: u32,
}

/// The status numbers of one connection.
#[derive(Debug)]
pub(crate) struct StatusSequence {
    next: u32,
    acknowledged: u32,
    next_was_shown: bool,
}

impl StatusSequence {
    pub(crate) fn new(first: u32) -> Self {
        Self { next: first, acknowledged: first, next_was_shown: false }
    }

    /// The number for an answer that carries a status.
    pub(crate) fn take(&mut self) -> u32 {
        let taken = self.next;
        self.next = self.next.wrapping_add(1);
        self.next_was_shown = false;
        taken
    }

    /// The next number, for a PDU that does not consume it.
    pub(crate) fn peek(&self) -> u32 {
        self.next
    }

    /// The next number, for an R2T. A widespread initiator (libiscsi) takes it for the number of a status
    /// it has, and then acknowledges one more than we sent; that alone is not an error.
    pub(crate) fn show(&mut self) -> u32 {
        self.next_was_shown = true;
        self.next
    }

    /// Whether an R2T has shown the next number.
    pub(crate) fn next_was_shown(&self) -> bool {
        self.next_was_shown
    }

    /// Takes note of an ExpStatSN.
    ///
    /// # Errors
    /// When it is beyond what we sent: a protocol error, close the connection.
    pub(crate) fn acknowledge(&mut self, exp_stat_sn: u32) -> Result<(), AcknowledgedBeyondSent> {
        let ahead = exp_stat_sn.wrapping_sub(self.next) as i32;
        if ahead > i32::from(self.next_was_shown) {
            return Err(AcknowledgedBeyondSent { exp_stat_sn, next: self.next });
        }
        let claimed = if ahead > 0 { self.next } else { exp_stat_sn };
        if claimed.wrapping_sub(self.acknowledged) as i32 > 0 {
            self.acknowledged = claimed;
        }
        Ok(())
    }

    /// The highest number that the initiator expected next: it has every status before.
    pub(crate) fn acknowledged(&self) -> u32 {
        self.acknowledged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgement_beyond_what_was_sent_is_an_error() {
        let mut sequence = StatusSequence::new(u32::MAX);
        assert_eq!(sequence.take(), u32::MAX);
        assert!(sequence.acknowledge(0).is_ok());
        assert!(sequence.acknowledge(u32::MAX).is_ok(), "older ones may repeat");
        assert_eq!(sequence.acknowledged(), 0);
        assert!(sequence.acknowledge(1).is_err());
    }

    #[test]
    fn a_number_shown_in_an_r2t_may_be_taken_for_a_status() {
        let mut sequence = StatusSequence::new(7);
        assert_eq!(sequence.show(), 7);
        assert!(sequence.acknowledge(8).is_ok());
        assert_eq!(sequence.acknowledged(), 7, "but proves nothing");
        assert!(sequence.acknowledge(9).is_err());
        assert_eq!(sequence.take(), 7);
        assert!(sequence.acknowledge(9).is_err());
    }
}
