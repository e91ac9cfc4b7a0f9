//! A disk: what the logical units that serve one VDI have in common, through whichever target and LUN. To initiators they
//! are one logical unit with several ports (SPC-4): the designators are the same, and what one initiator sets holds for all.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use huntaway_scsi::{ModeState, Sanitization, SanitizeRequest, Sense};
use tokio::sync::Mutex;

/// A disk's uuid: its identity through every target.
pub(crate) type DiskId = [u8; 16];

/// The disks that are served, by their ids.
pub(crate) type Disks = HashMap<DiskId, Arc<Disk>>;

/// What is common to all units of one VDI, for as long as it is served at all.
pub(crate) struct Disk {
    modes: AtomicModes,
    /// How it stands with regard to SANITIZE, packed.
    sanitization: AtomicU32,
    /// How that is recorded: what it becomes again if nothing comes of an operation. Held by whoever carries one out, or
    /// changes what is recorded.
    pub(crate) recorded: Mutex<Sanitization>,
    /// Its soft threshold was crossed, and the space has not come back since.
    is_short: AtomicBool,
}

/// The disks of a catalog that is being made: those of the catalog before it go on.
pub(crate) struct NextDisks<'a> {
    before: &'a Disks,
    disks: Disks,
}

impl<'a> NextDisks<'a> {
    pub(crate) fn after(before: &'a Disks) -> Self {
        Self { before, disks: Disks::new() }
    }

    /// The disk of this id, which is the same for all who ask. One that was not served before stands as `sanitization`
    /// says.
    pub(crate) fn disk(&mut self, id: DiskId, sanitization: Sanitization) -> Arc<Disk> {
        let before = self.before.get(&id);
        let new = || Arc::new(Disk::new(sanitization));
        let disk = self.disks.entry(id).or_insert_with(|| before.cloned().unwrap_or_else(new));
        Arc::clone(disk)
    }

    /// All of them, and those of before that are being sanitized: whoever serves them again must know.
    pub(crate) fn finish(mut self) -> Disks {
        let is_sanitized = |disk: &Disk| matches!(disk.sanitization(), Sanitization::Running { .. });
        for (id, disk) in self.before.iter().filter(|(_, disk)| is_sanitized(disk)) {
            self.disks.entry(*id).or_insert_with(|| Arc::clone(disk));
        }
        self.disks
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

    fn new(sanitization: Sanitization) -> Self {
        Self {
            modes: AtomicModes::new(ModeState::default()),
            sanitization: AtomicU32::new(pack(sanitization)),
            recorded: Mutex::new(sanitization),
            is_short: AtomicBool::new(false),
        }
    }

    /// How it stands with regard to SANITIZE.
    pub(crate) fn sanitization(&self) -> Sanitization {
        unpack(self.sanitization.load(Ordering::Acquire))
    }

    /// Commands are refused from now on, for an operation begins.
    ///
    /// # Errors
    /// The sense to refuse the operation with.
    pub(crate) fn begin_sanitizing(&self, request: &SanitizeRequest) -> Result<(), Sense> {
        let running = pack(Sanitization::Running { progress: 0 });
        let mut found = self.sanitization.load(Ordering::Acquire);
        loop {
            unpack(found).check_begin(request)?;
            match self.sanitization.compare_exchange(found, running, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(()),
                Err(now) => found = now,
            }
        }
    }

    pub(crate) fn note_progress(&self, progress: u16) {
        self.sanitization.store(pack(Sanitization::Running { progress }), Ordering::Release);
    }

    /// The failure of an operation is left, unless another has begun since.
    pub(crate) fn leave_failure(&self) {
        let (failed, idle) = (pack(Sanitization::Failed { may_exit: true }), pack(Sanitization::Idle));
        let _ = self.sanitization.compare_exchange(failed, idle, Ordering::AcqRel, Ordering::Acquire);
    }

    /// The operation is over, or nothing came of it.
    pub(crate) fn end_sanitizing(&self, sanitization: Sanitization) {
        self.sanitization.store(pack(sanitization), Ordering::Release);
    }

    /// Whether a threshold was crossed just now: once, until there is clearly more space again (a sixteenth of the
    /// threshold, or [`MIN_THRESHOLD_MARGIN_BYTES`], more, since what is promised is not exactly what is taken).
    pub(crate) fn crosses(&self, available_bytes: u64, threshold_bytes: u64) -> bool {
        if available_bytes <= threshold_bytes {
            return !self.is_short.load(Ordering::Acquire) && !self.is_short.swap(true, Ordering::AcqRel);
        }
        let margin_bytes = (threshold_bytes / 16).max(MIN_THRESHOLD_MARGIN_BYTES);
        if available_bytes - threshold_bytes > margin_bytes && self.is_short.load(Ordering::Acquire) {
            self.is_short.store(false, Ordering::Release);
        }
        false
    }
}

/// A store sets space aside for its log and what it allocates next, in steps that a small margin would take for more space.
const MIN_THRESHOLD_MARGIN_BYTES: u64 = 128 << 20;

const RUNNING: u32 = 1 << 16;
const FAILED: u32 = 2 << 16;

fn pack(sanitization: Sanitization) -> u32 {
    match sanitization {
        Sanitization::Idle => 0,
        Sanitization::Running { progress } => RUNNING | u32::from(progress),
        Sanitization::Failed { may_exit } => FAILED | u32::from(may_exit),
    }
}

fn unpack(bits: u32) -> Sanitization {
    let low = bits as u16;
    match bits & !u32::from(u16::MAX) {
        0 => Sanitization::Idle,
        RUNNING => Sanitization::Running { progress: low },
        _ => Sanitization::Failed { may_exit: low != 0 },
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
        let ModeState { descriptor_sense, write_cache, software_write_protect, threshold_reporting } = modes;
        let flags = [descriptor_sense, write_cache, software_write_protect, threshold_reporting];
        flags.into_iter().rev().fold(0, |bits, flag| bits << 1 | u8::from(flag))
    }

    fn unpack(bits: u8) -> ModeState {
        ModeState {
            descriptor_sense: bits & 1 != 0,
            write_cache: bits & 2 != 0,
            software_write_protect: bits & 4 != 0,
            threshold_reporting: bits & 8 != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_state_survives_packing() {
        for bits in 0..16 {
            assert_eq!(AtomicModes::pack(AtomicModes::unpack(bits)), bits);
        }
    }

    #[test]
    fn a_disk_is_the_same_for_all_and_goes_on_in_the_next_catalog() {
        let none = Disks::new();
        let mut first = NextDisks::after(&none);
        let disk = first.disk([1; 16], Sanitization::Idle);
        assert!(Arc::ptr_eq(&disk, &first.disk([1; 16], FAILURE)));
        let sanitized = first.disk([2; 16], FAILURE);
        assert!(!Arc::ptr_eq(&disk, &sanitized) && sanitized.sanitization() == FAILURE);
        first.disk([3; 16], Sanitization::Idle);
        let before = first.finish();
        sanitized.note_progress(9);
        let mut next = NextDisks::after(&before);
        assert!(Arc::ptr_eq(&disk, &next.disk([1; 16], Sanitization::Idle)));
        let next = next.finish();
        assert_eq!(next.len(), 2, "what is no longer served is forgotten, unless it is being sanitized");
        assert!(Arc::ptr_eq(&sanitized, &next[&[2; 16]]));
    }

    const FAILURE: Sanitization = Sanitization::Failed { may_exit: true };

    #[test]
    fn every_sanitization_survives_packing() {
        let running = [0, 1, u16::MAX].map(|progress| Sanitization::Running { progress });
        let failed = [false, true].map(|may_exit| Sanitization::Failed { may_exit });
        for sanitization in running.into_iter().chain(failed).chain([Sanitization::Idle]) {
            assert_eq!(unpack(pack(sanitization)), sanitization);
        }
    }

    #[test]
    fn a_threshold_is_crossed_once_until_there_is_clearly_more_space() {
        let disk = Disk::new(Sanitization::Idle);
        for (threshold, margin) in [(16 << 30, 1 << 30), (64 << 20, 128 << 20), (0, 128 << 20)] {
            let [at, more] = [threshold, threshold + margin];
            let crossings = [at + 1, at, at / 2, more - 1, at, more, at, more + 1, at, 0];
            let crossed = crossings.map(|available| disk.crosses(available, threshold));
            assert_eq!(crossed, [false, true, false, false, false, false, false, false, true, false]);
            disk.crosses(more + 1, threshold);
        }
    }
}
