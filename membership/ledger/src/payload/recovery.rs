//! The payload of a record about what recovery may take.

use rkyv::{Archive, Serialize};

use crate::RecoveryPolicy;

/// It, as a record or a snapshot has it.
#[derive(Archive, Serialize)]
pub(crate) struct RecoveryForm {
    bytes_per_second: u64,
    move_after_seconds: u32,
    is_paused: bool,
}

pub(crate) fn recovery_form(policy: &RecoveryPolicy) -> RecoveryForm {
    let RecoveryPolicy { is_paused, bytes_per_second, move_after_seconds } = *policy;
    RecoveryForm { bytes_per_second, move_after_seconds, is_paused }
}

pub(crate) fn recovery(form: &ArchivedRecoveryForm) -> RecoveryPolicy {
    RecoveryPolicy {
        is_paused: form.is_paused,
        bytes_per_second: form.bytes_per_second.to_native(),
        move_after_seconds: form.move_after_seconds.to_native(),
    }
}
