//! A logical unit as this gateway serves it: the SCSI description, its mode state and the volume behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use huntaway_scsi::{Extent, LogicalUnit, ModeState};
use huntaway_wire::Durability;

use crate::metrics::UnitMetrics;
use crate::volume::Volume;

/// One LUN of one target. Shared by all sessions.
pub(crate) struct Unit {
    /// Its number.
    pub(crate) lun: u16,
    pub(crate) scsi: LogicalUnit,
    pub(crate) volume: Arc<Volume>,
    pub(crate) metrics: UnitMetrics,
    modes: AtomicModes,
}

impl Unit {
    pub(crate) fn new(lun: u16, scsi: LogicalUnit, volume: Arc<Volume>, metrics: UnitMetrics) -> Self {
        let modes = AtomicModes::new(scsi.default_modes());
        Self { lun, scsi, volume, metrics, modes }
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
