//! Unit attentions: what an initiator has to be told before its next command runs (SAM-5).
//!
//! One queue for each I_T_L nexus. Which commands a unit attention stops is a column of the command table.

use crate::sense::Sense;
use crate::table;
use smallvec::SmallVec;

/// Most unit attentions that wait for one nexus. There are fewer different ones than this.
pub const MAXIMUM_UNIT_ATTENTIONS: usize = 16;

/// How a command meets a pending unit attention (SAM-5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttentionRule {
    /// It is answered with the unit attention, which is then gone.
    Report,
    /// It runs as if there were none, and the unit attention stays.
    Pass,
    /// As `Pass`, but what it returns makes REPORTED LUNS DATA HAS CHANGED obsolete.
    PassAndClearLunsChanged,
}

/// The unit attentions that wait for one I_T_L nexus, oldest first, each only once.
#[derive(Debug, Clone, Default)]
pub struct UnitAttentions {
    pending: SmallVec<[Sense; 2]>,
}

impl UnitAttentions {
    /// Nothing pending.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a unit attention made by one of [`Sense`]'s constructors. One that is already pending is not
    /// repeated. A reset or power on (29h) replaces everything before it: those conditions are over.
    pub fn establish(&mut self, attention: Sense) {
        const RESET: u8 = 0x29;
        if self.pending.contains(&attention) {
            return;
        }
        if attention.asc == RESET {
            self.pending.clear();
        }
        if self.pending.len() < MAXIMUM_UNIT_ATTENTIONS {
            self.pending.push(attention);
        }
    }

    /// To be asked before a command is planned: the sense to answer it with instead, if there is one.
    ///
    /// INQUIRY, REPORT LUNS and REQUEST SENSE are never stopped; the latter tells by way of [`Self::take`].
    pub fn intercept(&mut self, cdb: &[u8]) -> Option<Sense> {
        if self.pending.is_empty() {
            return None;
        }
        match table::attention_rule(cdb) {
            AttentionRule::Report => self.take(),
            AttentionRule::Pass => None,
            AttentionRule::PassAndClearLunsChanged => {
                self.pending.retain(|attention| *attention != Sense::luns_changed());
                None
            }
        }
    }

    /// Removes and returns the oldest: what REQUEST SENSE reports.
    pub fn take(&mut self) -> Option<Sense> {
        if self.pending.is_empty() { None } else { Some(self.pending.remove(0)) }
    }

    /// What is pending, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Sense> {
        self.pending.iter()
    }

    /// Whether nothing is pending.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEST_UNIT_READY: [u8; 6] = [0; 6];
    const INQUIRY: [u8; 6] = [0x12, 0, 0, 0, 96, 0];
    const REQUEST_SENSE: [u8; 6] = [0x03, 0, 0, 0, 18, 0];
    const REPORT_LUNS: [u8; 12] = [0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];

    #[test]
    fn each_is_reported_once_in_order() {
        let mut attentions = UnitAttentions::new();
        attentions.establish(Sense::power_on());
        attentions.establish(Sense::capacity_changed());
        attentions.establish(Sense::capacity_changed());
        assert_eq!(attentions.intercept(&TEST_UNIT_READY), Some(Sense::power_on()));
        assert_eq!(attentions.intercept(&TEST_UNIT_READY), Some(Sense::capacity_changed()));
        assert_eq!(attentions.intercept(&TEST_UNIT_READY), None);
    }

    #[test]
    fn inquiry_report_luns_and_request_sense_pass() {
        let mut attentions = UnitAttentions::new();
        attentions.establish(Sense::power_on());
        attentions.establish(Sense::luns_changed());
        for cdb in [INQUIRY.as_slice(), &REQUEST_SENSE, &REPORT_LUNS] {
            assert_eq!(attentions.intercept(cdb), None);
        }
        assert_eq!(attentions.take(), Some(Sense::power_on()));
        assert_eq!(attentions.take(), None, "REPORT LUNS told the rest");
    }

    #[test]
    fn reset_replaces_what_was_before_it() {
        let mut attentions = UnitAttentions::new();
        attentions.establish(Sense::mode_parameters_changed());
        attentions.establish(Sense::logical_unit_reset());
        assert_eq!(attentions.take(), Some(Sense::logical_unit_reset()));
        assert!(attentions.is_empty());
    }

    #[test]
    fn queue_is_bounded() {
        let mut attentions = UnitAttentions::new();
        for lba in 0..1000 {
            attentions.establish(Sense::read_error(lba));
        }
        assert_eq!(attentions.pending.len(), MAXIMUM_UNIT_ATTENTIONS);
    }

    #[test]
    fn unknown_opcode_is_answered_with_the_attention_first() {
        let mut attentions = UnitAttentions::new();
        attentions.establish(Sense::power_on());
        assert_eq!(attentions.intercept(&[0xff]), Some(Sense::power_on()));
    }
}
