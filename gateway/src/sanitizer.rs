//! SANITIZE carried out (SBC-3 §4.11): in the background, whatever becomes of the session that asked for it.
//!
//! The order is what makes it hold: the disk refuses commands from the moment it is asked for; it is recorded before the
//! first block goes; what sessions had begun to write has ended by then; and it is over once that is recorded. A process
//! that ends meanwhile leaves the record of a failed operation.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use huntaway_scsi::{Sanitization, SanitizeMethod, SanitizeRequest, Sense};
use huntaway_wire::{Durability, Error, Provisioning};
use iscsi_target::TaskTag;
use tokio::sync::oneshot;

use crate::disk::DiskId;
use crate::driver::{Driver, Waited};
use crate::gateway::Shared;
use crate::operation;
use crate::sessions::lock;
use crate::unit::Unit;

/// Bytes that are erased at a time.
const ERASED_AT_ONCE_BYTES: u64 = 256 << 20;

/// Bytes that are overwritten at a time.
const OVERWRITTEN_AT_ONCE_BYTES: u64 = 4 << 20;

/// How an operation on a disk stands, as it is to be found after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SanitizeRecord {
    /// It has begun. Found after a restart, it has failed.
    Begun {
        /// Initiators may leave its failure.
        may_exit: bool,
    },
    /// It failed.
    Failed {
        /// Initiators may leave that.
        may_exit: bool,
    },
    /// Nothing is the matter: it ended well, or its failure was left.
    Over,
}

/// It could not be recorded; whoever keeps the records has said why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the record was not taken")]
pub struct NotRecorded;

/// Whoever keeps what is known of sanitize operations through restarts.
pub trait SanitizeRecords: Send + Sync {
    /// Records it of the disk with this uuid; ready when that is on stable storage.
    fn record(&self, disk: [u8; 16], record: SanitizeRecord) -> BoxFuture<'static, Result<(), NotRecorded>>;
}

impl Driver {
    /// Begins to sanitize the unit's disk. The answer follows by [`Waited::Sanitize`].
    ///
    /// # Errors
    /// The sense to refuse it with.
    pub(crate) fn sanitize(
        &mut self,
        task: TaskTag,
        unit: &Arc<Unit>,
        request: SanitizeRequest,
    ) -> Result<(), Sense> {
        unit.disk.begin_sanitizing(&request)?;
        let (begun, is_begun) = oneshot::channel();
        let immediate = request.immediate;
        let work = Work { shared: Arc::clone(&self.shared), unit: Arc::clone(unit), request };
        let (ended, is_ended) = oneshot::channel();
        self.in_background(work.run(begun, ended));
        // Whoever does not answer has stopped.
        let stopped = || Err(Sense::internal_failure());
        let answer = async move {
            let begun = is_begun.await.unwrap_or_else(|_| stopped());
            match begun {
                Ok(()) if !immediate => is_ended.await.unwrap_or_else(|_| stopped()),
                begun => begun,
            }
        };
        self.waits.push(answer.map(move |result| Waited::Sanitize { task, result }).boxed());
        Ok(())
    }

    /// Leaves the failure of an operation. The answer follows by [`Waited::Sanitize`].
    pub(crate) fn exit_sanitize_failure(&mut self, task: TaskTag, unit: &Arc<Unit>) {
        let (shared, unit) = (Arc::clone(&self.shared), Arc::clone(unit));
        let (done, is_done) = oneshot::channel();
        self.in_background(async move {
            let mut recorded = unit.disk.recorded.lock().await;
            let left = match unit.disk.sanitization() {
                Sanitization::Failed { may_exit: true } => {
                    let left = record(&shared, unit.description.uuid, SanitizeRecord::Over).await;
                    left.inspect(|()| {
                        *recorded = Sanitization::Idle;
                        unit.disk.leave_failure();
                    })
                }
                other => other.check_exit(),
            };
            // Gone if the session has ended.
            let _ = done.send(left);
        });
        let answer = is_done.map(move |left| Waited::Sanitize {
            task,
            result: left.unwrap_or(Err(Sense::internal_failure())),
        });
        self.waits.push(answer.boxed());
    }

    fn in_background(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut background = lock(&self.shared.background);
        // Those that have ended.
        while background.try_join_next().is_some() {}
        background.spawn(work);
    }
}

async fn record(shared: &Shared, disk: DiskId, record: SanitizeRecord) -> Result<(), Sense> {
    shared.records.record(disk, record).await.map_err(|NotRecorded| Sense::internal_failure())
}

/// Why an operation did not come to its end.
enum Interrupted {
    Failed(Error),
    /// The gateway stops. What was recorded at the beginning tells the next one.
    Stopping,
}

/// One operation.
struct Work {
    shared: Arc<Shared>,
    unit: Arc<Unit>,
    request: SanitizeRequest,
}

impl Work {
    async fn run(self, begun: oneshot::Sender<Result<(), Sense>>, ended: oneshot::Sender<Result<(), Sense>>) {
        let Self { shared, unit, request } = self;
        let (disk, uuid, may_exit) = (Arc::clone(&unit.disk), unit.description.uuid, request.may_exit);
        let mut recorded = disk.recorded.lock().await;
        let has_begun = match check_room(&unit, &request.method).await {
            Ok(()) => record(&shared, uuid, SanitizeRecord::Begun { may_exit }).await,
            Err(sense) => Err(sense),
        };
        if let Err(sense) = has_begun {
            disk.end_sanitizing(*recorded);
            let _ = begun.send(Err(sense));
            return;
        }
        let name = format!("{:032x}", u128::from_be_bytes(uuid));
        tracing::info!(disk = name, method = method_name(&request.method), "sanitizing");
        let sessions = shared.sessions.all();
        join_all(sessions.iter().map(|session| session.settle_writes(Arc::clone(&disk)))).await;
        let volume = Arc::clone(&unit.volume);
        let threshold_bytes = unit.scsi.soft_threshold_bytes();
        // An update waits for nobody who has the unit.
        drop(unit);
        let _ = begun.send(Ok(()));
        let progress = |progress| {
            disk.note_progress(progress);
            shared.sessions.watch_space(&disk, &volume, threshold_bytes);
        };
        let result = carry_out(&shared, &volume, &request.method, progress).await;
        let result = match result {
            Err(Interrupted::Stopping) => return,
            Ok(()) => record(&shared, uuid, SanitizeRecord::Over).await.map_err(|_| None),
            Err(Interrupted::Failed(error)) => Err(Some(error)),
        };
        match result {
            Ok(()) => {
                *recorded = Sanitization::Idle;
                tracing::info!(disk = name, "sanitized");
            }
            Err(ref error) => {
                let reason = error.as_ref().map_or("the ledger did not take it".into(), ToString::to_string);
                tracing::error!(disk = name, reason, "sanitizing failed: data may still be there");
                // Without this record, that it had begun is there.
                let _ = record(&shared, uuid, SanitizeRecord::Failed { may_exit }).await;
                *recorded = Sanitization::Failed { may_exit };
            }
        }
        disk.end_sanitizing(*recorded);
        let _ = ended.send(result.map_err(|_| Sense::sanitize_failed()));
    }
}

fn method_name(method: &SanitizeMethod) -> &'static str {
    match method {
        SanitizeMethod::Overwrite { .. } => "overwrite",
        SanitizeMethod::BlockErase => "block erase",
    }
}

/// Overwriting a thin disk takes space for all of it. Where that is not there it would fail on its way, with the data of
/// the beginning gone and all space taken from the other disks.
///
/// # Errors
/// SPACE ALLOCATION FAILED WRITE PROTECT, or what keeps the stores from telling.
async fn check_room(unit: &Unit, method: &SanitizeMethod) -> Result<(), Sense> {
    if !unit.scsi.is_thin() || matches!(method, SanitizeMethod::BlockErase) {
        return Ok(());
    }
    let (volume, size_bytes) = (&unit.volume, unit.volume.size_bytes());
    let refusal = |error| operation::sense_of(&error, &unit.scsi, 0);
    let available_bytes = volume.space().await.map_err(refusal)?.available_bytes;
    let (mut offset, mut needed_bytes) = (0, 0);
    // Looking at what is mapped takes its time on a large disk, and is not needed where all of it would fit again.
    while offset < size_bytes && available_bytes < size_bytes {
        let map = volume.map(offset, size_bytes - offset, usize::MAX).await.map_err(refusal)?;
        for run in &map {
            offset += run.length;
            needed_bytes += if run.provisioning == Provisioning::Deallocated { run.length } else { 0 };
        }
        if map.is_empty() || needed_bytes > available_bytes {
            return Err(Sense::space_allocation_failed(0));
        }
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Does it to all blocks; `progress` is told how far it is, in parts of 65536.
async fn carry_out(
    shared: &Shared,
    volume: &crate::volume::Volume,
    method: &SanitizeMethod,
    progress: impl Fn(u16),
) -> Result<(), Interrupted> {
    let (passes, step_bytes) = match method {
        SanitizeMethod::Overwrite { passes, .. } => (*passes, OVERWRITTEN_AT_ONCE_BYTES),
        SanitizeMethod::BlockErase => (1, ERASED_AT_ONCE_BYTES),
    };
    let size_bytes = volume.size_bytes();
    for pass in 0..passes {
        let pattern = method.pattern(pass);
        let mut offset = 0;
        while offset < size_bytes {
            if shared.is_stopping() {
                return Err(Interrupted::Stopping);
            }
            let length = step_bytes.min(size_bytes - offset);
            let done = match &pattern {
                None => volume.discard(offset, length, Durability::Logged).finish().await,
                Some(block) => volume.write_pattern(offset, length, block, Durability::Logged).await,
            };
            done.map_err(Interrupted::Failed)?;
            offset += length;
            let done = u128::from(pass) * u128::from(size_bytes) + u128::from(offset);
            let all = u128::from(passes) * u128::from(size_bytes);
            progress((done * 65536 / all.max(1)).min(65535) as u16);
            tokio::task::yield_now().await;
        }
        volume.flush().finish().await.map_err(Interrupted::Failed)?;
    }
    Ok(())
}
