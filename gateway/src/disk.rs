//! A disk: what the logical units that serve one VDI have in common, through whichever target and LUN. To initiators they
//! are one logical unit with several ports (SPC-4): the designators are the same, and what one initiator sets holds for all.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use huntaway_scsi::ModeState;

/// A disk's uuid: its identity through every target.
pub(crate) type DiskId = [u8; 16];

/// The disks that are served, by their ids.
pub(crate) type Disks = HashMap<DiskId, Arc<Disk>>;

/// What is common to all units of one VDI, for as long as it is served at all.
pub(crate) struct Disk {
    modes: AtomicModes,
}

/// The disks of a catalog that is being made: those of the catalog before it go on.
pub(crate) struct NextDisks<'a> {
    before: &'a Disks,
    pub(crate) disks: Disks,
}

impl<'a> NextDisks<'a> {
    pub(crate) fn after(before: &'a Disks) -> Self {
        Self { before, disks: Disks::new() }
    }

    /// The disk of this id, which is the same for all who ask.
    pub(crate) fn disk(&mut self, id: DiskId) -> Arc<Disk> {
        let before = self.before.get(&id);
        let disk = self.disks.entry(id).or_insert_with(|| before.cloned().unwrap_or_default());
        Arc::clone(disk)
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self { modes: AtomicModes::new(ModeState::default()) }
    }
}

impl Disk {
    /// What MODE SELECT set last, through any unit; what of it counts for a unit,
    /// [`LogicalUnit::limit_modes`](huntaway_scsi::LogicalUnit::limit_modes) tells.
    pub(crate) fn modes(&self) -> ModeState {
        self.modes.load()
    }

    pub(crate) fn set_modes(&self, modes: ModeState) {
        self.modes.store(modes);
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

    fn store(&self, modes: ModeState) {
        self.0.store(Self::pack(modes), Ordering::Release);
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

    #[test]
    fn a_disk_is_the_same_for_all_and_goes_on_in_the_next_catalog() {
        let none = Disks::new();
        let mut first = NextDisks::after(&none);
        let disk = first.disk([1; 16]);
        assert!(Arc::ptr_eq(&disk, &first.disk([1; 16])));
        assert!(!Arc::ptr_eq(&disk, &first.disk([2; 16])));
        let before = first.disks;
        let mut next = NextDisks::after(&before);
        assert!(Arc::ptr_eq(&disk, &next.disk([1; 16])));
        assert_eq!(next.disks.len(), 1, "what is no longer served is forgotten");
    }
}
