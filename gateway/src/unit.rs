//! A logical unit as this gateway serves it: the SCSI description, its mode state and the volume behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use huntaway_scsi::{Extent, LogicalUnit, ModeState, Sense};
use huntaway_wire::Durability;
use tokio::sync::watch;

use crate::unit_metrics::UnitMetrics;
use crate::volume::Volume;

/// One LUN of one target. Shared by all sessions. Immutable but for its modes: a disk that changes is another unit, and
/// commands go on with the one they began with.
pub(crate) struct Unit {
    /// Its number.
    pub(crate) lun: u16,
    pub(crate) description: Description,
    pub(crate) scsi: LogicalUnit,
    pub(crate) volume: Arc<Volume>,
    pub(crate) metrics: Arc<UnitMetrics>,
    modes: Arc<AtomicModes>,
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
        let has_other_modes = (self.read_only, self.write_cache) != (before.read_only, before.write_cache);
        let changes = [
            (has_other_pages, Sense::inquiry_changed()),
            (self.size_bytes != before.size_bytes, Sense::capacity_changed()),
            (has_other_modes, Sense::mode_parameters_changed()),
        ];
        changes.into_iter().filter_map(|(changed, attention)| changed.then_some(attention)).collect()
    }
}

impl Unit {
    /// A unit in the place of `before`, if there was one. What MODE SELECT set stays set, unless the flags that decide
    /// what can be set have changed.
    pub(crate) fn new(
        lun: u16,
        description: Description,
        scsi: LogicalUnit,
        volume: Arc<Volume>,
        metrics: Arc<UnitMetrics>,
        before: Option<&Self>,
    ) -> Self {
        let keeps_modes = |before: &&Self| {
            let flags = |of: &Description| (of.read_only, of.write_cache);
            before.description.is_same_disk(&description) && flags(&before.description) == flags(&description)
        };
        let modes = match before.filter(keeps_modes) {
            Some(before) => Arc::clone(&before.modes),
            None => Arc::new(AtomicModes::new(scsi.default_modes())),
        };
        let (retired, end) = (AtomicBool::new(false), watch::Sender::new(()));
        Self { lun, description, scsi, volume, metrics, modes, retired, end }
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

    /// What MODE SELECT set last.
    pub(crate) fn modes(&self) -> ModeState {
        self.modes.load()
    }

    /// Sets the mode state for all sessions; returns whether it changed.
    pub(crate) fn set_modes(&self, modes: ModeState) -> bool {
        self.modes.swap(modes) != modes
    }

    /// Forgets what MODE SELECT set: a reset has taken place.
    pub(crate) fn reset_modes(&self) {
        self.set_modes(self.scsi.default_modes());
    }

    /// When a write with this FUA bit (or with the write cache off) counts as done.
    pub(crate) fn durability(fua: bool) -> Durability {
        if fua { Durability::Stable } else { Durability::Logged }
    }

    /// An extent in bytes: offset and length.
    pub(crate) fn bytes(&self, extent: Extent) -> (u64, u64) {
        let block_size = u64::from(self.scsi.block_size());
        (extent.lba * block_size, extent.blocks * block_size)
    }
}

/// A [`ModeState`] that every command reads and hardly any changes: its bits in one atomic byte.
struct AtomicModes(AtomicU8);

impl AtomicModes {
    fn new(modes: ModeState) -> Self {
        Self(AtomicU8::new(Self::pack(modes)))
    }

    fn load(&self) -> ModeState {
        Self::unpack(self.0.load(Ordering::Acquire))
    }

    fn swap(&self, modes: ModeState) -> ModeState {
        Self::unpack(self.0.swap(Self::pack(modes), Ordering::AcqRel))
    }

    fn pack(modes: ModeState) -> u8 {
        let ModeState { descriptor_sense, write_cache, software_write_protect } = modes;
        u8::from(descriptor_sense) | u8::from(write_cache) << 1 | u8::from(software_write_protect) << 2
    }

    fn unpack(bits: u8) -> ModeState {
        ModeState {
            descriptor_sense: bits & 1 != 0,
            write_cache: bits & 2 != 0,
            software_write_protect: bits & 4 != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_state_survives_packing() {
        for bits in 0..8 {
            assert_eq!(AtomicModes::pack(AtomicModes::unpack(bits)), bits);
        }
    }
}
