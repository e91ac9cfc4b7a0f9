//! Sanitizing (SBC-3 §4.11): while it goes on, and after it failed, hardly any command is carried out. What to do is
//! decided here; doing it, and keeping the state through restarts, is the business of the code around.

use crate::sense::Sense;
use crate::table;

/// How a logical unit stands with regard to SANITIZE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sanitization {
    /// Nothing is the matter.
    Idle,
    /// It is being sanitized.
    Running {
        /// How far that is, in parts of 65536.
        progress: u16,
    },
    /// The last time it was not sanitized to the end: parts of the data may be gone, others still be there.
    Failed {
        /// EXIT FAILURE MODE is allowed: the operation was asked for with AUSE.
        may_exit: bool,
    },
}

/// What SANITIZE asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SanitizeRequest {
    /// What is done to the blocks.
    pub method: SanitizeMethod,
    /// GOOD may be sent once it has begun (IMMED).
    pub immediate: bool,
    /// If it fails, EXIT FAILURE MODE is allowed (AUSE).
    pub may_exit: bool,
}

/// What is done to the blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SanitizeMethod {
    /// Every block is written.
    Overwrite {
        /// What each block holds after the first pass: as long as a logical block.
        block: Vec<u8>,
        /// How often, 1 to 31.
        passes: u8,
        /// Every second pass writes the complement.
        invert: bool,
    },
    /// Every block gives its space back, and reads as zeros.
    BlockErase,
}

impl SanitizeMethod {
    /// What each block is filled with in a pass, from 0 on; `None`: nothing is written.
    pub fn pattern(&self, pass: u8) -> Option<Vec<u8>> {
        match self {
            Self::BlockErase => None,
            Self::Overwrite { block, invert: true, .. } if pass % 2 == 1 => {
                Some(block.iter().map(|byte| !byte).collect())
            }
            Self::Overwrite { block, .. } => Some(block.clone()),
        }
    }
}

impl Sanitization {
    /// The sense to answer a command with that is not to be carried out as things are.
    pub fn refusal(&self, cdb: &[u8]) -> Option<Sense> {
        let sense = self.sense()?;
        let may_mend = matches!(self, Self::Failed { .. }) && cdb.first() == Some(&table::SANITIZE);
        (!may_mend && !table::tells_of_the_target_only(cdb)).then_some(sense)
    }

    /// What REQUEST SENSE tells if there is no unit attention to tell.
    pub fn sense(&self) -> Option<Sense> {
        match *self {
            Self::Idle => None,
            Self::Running { progress } => Some(Sense::sanitize_in_progress(progress)),
            Self::Failed { .. } => Some(Sense::sanitize_failed()),
        }
    }

    /// Whether an operation may begin.
    ///
    /// # Errors
    /// The sense to refuse it with: one goes on, or the last one failed for good and this one could be left again.
    pub fn check_begin(&self, request: &SanitizeRequest) -> Result<(), Sense> {
        const AUSE_BIT: u8 = 5;
        match self {
            Self::Failed { may_exit: false } if request.may_exit => {
                Err(Sense::invalid_field_in_cdb(1, Some(AUSE_BIT)))
            }
            Self::Running { progress } => Err(Sense::sanitize_in_progress(*progress)),
            Self::Idle | Self::Failed { .. } => Ok(()),
        }
    }

    /// Whether EXIT FAILURE MODE may be carried out.
    ///
    /// # Errors
    /// The sense to refuse it with: the failed operation did not allow it, or one goes on.
    pub fn check_exit(&self) -> Result<(), Sense> {
        const SERVICE_ACTION_BIT: u8 = 4;
        match self {
            Self::Failed { may_exit: false } => Err(Sense::invalid_field_in_cdb(1, Some(SERVICE_ACTION_BIT))),
            Self::Running { progress } => Err(Sense::sanitize_in_progress(*progress)),
            Self::Idle | Self::Failed { may_exit: true } => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;
    use crate::table::{SANITIZE, supported};

    const RUNNING: Sanitization = Sanitization::Running { progress: 0x8001 };
    const FAILED: Sanitization = Sanitization::Failed { may_exit: false };
    const LEAVABLE: Sanitization = Sanitization::Failed { may_exit: true };

    fn request(may_exit: bool) -> SanitizeRequest {
        SanitizeRequest { method: SanitizeMethod::BlockErase, immediate: false, may_exit }
    }

    #[test]
    fn only_what_tells_of_the_target_is_answered_meanwhile() {
        let unit = example::thin_unit();
        let answered = |state: Sanitization| -> Vec<(u8, u8)> {
            let cdbs = supported(&unit).map(|row| (row.opcode, row.service_action.unwrap_or(0) as u8));
            let passes = |(opcode, action): &(u8, u8)| state.refusal(&[*opcode, *action]).is_none();
            cdbs.filter(passes).collect()
        };
        let harmless = [(0x03, 0), (0x12, 0), (0xa0, 0), (0xa3, 0x0c), (0xa3, 0x0d)];
        assert_eq!(answered(RUNNING), harmless);
        let mut with_sanitize = answered(FAILED);
        with_sanitize.retain(|(opcode, _)| *opcode != SANITIZE);
        assert_eq!(with_sanitize, harmless);
        assert_eq!(answered(FAILED).len(), harmless.len() + 3);
        assert_eq!(answered(Sanitization::Idle).len(), supported(&unit).count());
        assert_eq!(RUNNING.refusal(&[0xff]), Some(Sense::sanitize_in_progress(0x8001)));
        assert_eq!(FAILED.refusal(&[0x28]), Some(Sense::sanitize_failed()));
    }

    #[test]
    fn a_failure_is_left_by_a_success_or_if_it_was_allowed_to_be() {
        assert_eq!(Sanitization::Idle.check_exit(), Ok(()));
        assert_eq!(LEAVABLE.check_exit(), Ok(()));
        assert_eq!(FAILED.check_exit(), Err(Sense::invalid_field_in_cdb(1, Some(4))));
        assert_eq!(RUNNING.check_exit(), Err(Sense::sanitize_in_progress(0x8001)));
        for may_exit in [false, true] {
            assert_eq!(Sanitization::Idle.check_begin(&request(may_exit)), Ok(()));
            assert_eq!(LEAVABLE.check_begin(&request(may_exit)), Ok(()));
            assert_eq!(RUNNING.check_begin(&request(may_exit)), Err(Sense::sanitize_in_progress(0x8001)));
        }
        assert_eq!(FAILED.check_begin(&request(false)), Ok(()));
        assert_eq!(FAILED.check_begin(&request(true)), Err(Sense::invalid_field_in_cdb(1, Some(5))));
    }

    #[test]
    fn every_second_pass_is_inverted() {
        let method = SanitizeMethod::Overwrite { block: vec![0x0f, 0xaa], passes: 3, invert: true };
        assert_eq!(
            [0, 1, 2].map(|pass| method.pattern(pass).unwrap()),
            [[0x0f, 0xaa], [0xf0, 0x55], [0x0f, 0xaa]]
        );
        assert_eq!(SanitizeMethod::BlockErase.pattern(0), None);
    }
}
