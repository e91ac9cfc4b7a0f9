//! Sanitize operations in the ledger: recorded before the first block goes, and found as failed if the process ends before
//! they do.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;

use huntaway_gateway::{NotRecorded, Sanitization, SanitizeRecord, SanitizeRecords};
use huntaway_ledger::{Operation, Sanitize, Vdi};
use huntaway_membership::Driver;
use huntaway_membership::local::LocalDriver;

use super::storage::Storage;

/// Records in the ledger of this node.
pub(crate) struct LedgerRecords(Arc<Storage>);

impl LedgerRecords {
    pub(crate) fn of(storage: &Arc<Storage>) -> Arc<dyn SanitizeRecords> {
        Arc::new(Self(Arc::clone(storage)))
    }
}

impl SanitizeRecords for LedgerRecords {
    fn record(
        &self,
        disk: [u8; 16],
        record: SanitizeRecord,
    ) -> Pin<Box<dyn Future<Output = Result<(), NotRecorded>> + Send>> {
        let storage = Arc::clone(&self.0);
        let sanitize = match record {
            SanitizeRecord::Begun { may_exit } => Some(Sanitize::Running { may_exit }),
            SanitizeRecord::Failed { may_exit } => Some(Sanitize::Failed { may_exit }),
            SanitizeRecord::Over => None,
        };
        Box::pin(async move {
            let state = storage.state();
            let vdi = state.vdis().find(|vdi| vdi.uuid == disk).ok_or(NotRecorded)?;
            if vdi.sanitize == sanitize {
                return Ok(());
            }
            if let (SanitizeRecord::Begun { .. }, true) = (record, storage.is_clustered()) {
                tracing::error!(
                    vdi = %vdi.name,
                    "not sanitized: other gateways would go on writing; overwrite the disk, or delete it"
                );
                return Err(NotRecorded);
            }
            if let (SanitizeRecord::Begun { .. }, Some(disk)) = (record, storage.missing_disk()) {
                tracing::error!(vdi = %vdi.name, disk, "not sanitized: a disk that may have some of it does not serve");
                return Err(NotRecorded);
            }
            let recorded = storage.propose(Operation::SanitizeVdi { vid: vdi.vid, sanitize }).await;
            recorded.map(drop).map_err(|error| {
                tracing::error!(vdi = %vdi.name, ?record, %error, "the ledger does not take how sanitizing stands");
                NotRecorded
            })
        })
    }
}

/// How initiators find a disk that is not served yet.
pub(super) fn sanitization(vdi: &Vdi) -> Sanitization {
    match vdi.sanitize {
        None => Sanitization::Idle,
        Some(Sanitize::Running { may_exit } | Sanitize::Failed { may_exit }) => {
            Sanitization::Failed { may_exit }
        }
    }
}

/// Records as failed what an earlier process did not bring to its end.
///
/// # Errors
/// The ledger does not take it.
pub(super) fn fail_interrupted(ledger: &LocalDriver) -> Result<(), Box<dyn Error>> {
    let state = ledger.state();
    for vdi in state.vdis() {
        if let Some(Sanitize::Running { may_exit }) = vdi.sanitize {
            tracing::warn!(vdi = %vdi.name, "sanitizing was interrupted, and counts as failed");
            let sanitize = Some(Sanitize::Failed { may_exit });
            ledger.propose(Operation::SanitizeVdi { vid: vdi.vid, sanitize })?;
        }
    }
    Ok(())
}
