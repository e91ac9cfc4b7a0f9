//! A logical unit as this gateway serves it: the SCSI description, the disk it is a unit of, and the volume behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use huntaway_scsi::{Extent, LogicalUnit, ModeState, Sense};
use huntaway_wire::Durability;
use tokio::sync::watch;

use crate::disk::Disk;
use crate::unit_metrics::UnitMetrics;
use crate::volume::Volume;

/// One LUN of one target. Shared by all sessions. Immutable but for what it shares with the other units of its disk: a
/// disk that is described otherwise is another unit, and commands go on with the one they began with.
pub(crate) struct Unit {
    /// Its number.
    pub(crate) lun: u16,
    pub(crate) description: Description,
    pub(crate) scsi: LogicalUnit,
    pub(crate) volume: Arc<Volume>,
    pub(crate) metrics: Arc<UnitMetrics>,
    pub(crate) disk: Arc<Disk>,
    /// No view has it any more.
    retired: AtomicBool,
    /// Never sent: dropped with the unit, when no command has it any more.
    end: watch::Sender<()>,
}

/// What tells two units apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Description {
    pub(crate) uuid: [u8; 16],
    pub(crate) size_bytes: u64,
    pub(crate) block_size: u32,
    pub(crate) physical_block_size: u32,
    pub(crate) thin: bool,
    pub(crate) read_only: bool,
    pub(crate) write_cache: bool,
    pub(crate) soft_threshold_bytes: u64,
}

impl Description {
    /// Whether initiators may go on with their data: another size or other flags do not make another disk.
    pub(crate) fn is_same_disk(&self, other: &Self) -> bool {
        (self.uuid, self.block_size) == (other.uuid, other.block_size)
    }

    /// What initiators are to be told when the same disk was described by `before` until now.
    pub(crate) fn attentions_since(&self, before: &Self) -> Vec<Sense> {
        let has_other_pages =
            (self.thin, self.physical_block_size) != (before.thin, before.physical_block_size);
        let modes = |of: &Self| (of.read_only, of.write_cache, of.soft_threshold_bytes);
        let has_other_modes = modes(self) != modes(before);
        let changes = [
            (has_other_pages, Sense::inquiry_changed()),
            (self.size_bytes != before.size_bytes, Sense::capacity_changed()),
            (has_other_modes, Sense::mode_parameters_changed()),
        ];
        changes.into_iter().filter_map(|(changed, attention)| changed.then_some(attention)).collect()
    }
}

impl Unit {
    pub(crate) fn new(
        lun: u16,
        description: Description,
        scsi: LogicalUnit,
        volume: Arc<Volume>,
        metrics: Arc<UnitMetrics>,
        disk: Arc<Disk>,
    ) -> Self {
        let (retired, end) = (AtomicBool::new(false), watch::Sender::new(()));
        Self { lun, description, scsi, volume, metrics, disk, retired, end }
    }

    /// Marks a unit that no view has any more. What is returned closes when no command has it either.
    pub(crate) fn retire(&self) -> watch::Receiver<()> {
        self.retired.store(true, Ordering::Release);
        self.end.subscribe()
    }

    /// Whether no view has it any more.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// The mode state in force.
    pub(crate) fn modes(&self) -> ModeState {
        self.scsi.limit_modes(self.disk.modes())
    }

    /// Sets the mode state for all units of the disk; returns the one until now.
    pub(crate) fn set_modes(&self, modes: ModeState) -> ModeState {
        let of_disk = self.disk.modes();
        self.disk.set_modes(self.scsi.change_modes(of_disk, modes));
        self.scsi.limit_modes(of_disk)
    }

    /// Forgets what MODE SELECT set: a reset has taken place.
    pub(crate) fn reset_modes(&self) {
        self.disk.set_modes(ModeState::default());
    }

    /// When a write with this FUA bit that begins now counts as done. The write cache may have been turned off since the
    /// command was planned.
    pub(crate) fn durability(&self, fua: bool) -> Durability {
        if fua || !self.modes().write_cache { Durability::Stable } else { Durability::Logged }
    }

    /// An extent in bytes: offset and length.
    pub(crate) fn bytes(&self, extent: Extent) -> (u64, u64) {
        let block_size = u64::from(self.scsi.block_size());
        (extent.lba * block_size, extent.blocks * block_size)
    }
}
