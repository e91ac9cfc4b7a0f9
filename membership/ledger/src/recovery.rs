//! What recovery may take, in the whole cluster: what a person says about it is agreed on like anything else.

use crate::{ApplyError, State};

/// What recovery may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoveryPolicy {
    /// Nothing is copied to anybody, whatever lacks copies.
    pub is_paused: bool,
    /// What each node copies to others in a second, at least one.
    pub bytes_per_second: u64,
    /// How long copies wait that merely move, in seconds: a node that is away for a moment is not made up for.
    pub move_after_seconds: u32,
}

impl Default for RecoveryPolicy {
    fn default() -> Self {
        Self { is_paused: false, bytes_per_second: 100 << 20, move_after_seconds: 60 }
    }
}

impl State {
    /// What recovery may take.
    pub fn recovery(&self) -> RecoveryPolicy {
        self.recovery
    }

    pub(crate) fn apply_recovery(&mut self, policy: RecoveryPolicy) -> Result<(), ApplyError> {
        if policy.bytes_per_second == 0 {
            return Err(ApplyError::NoPace);
        }
        if policy == self.recovery {
            return Err(ApplyError::SameRecovery);
        }
        self.recovery = policy;
        Ok(())
    }
}
