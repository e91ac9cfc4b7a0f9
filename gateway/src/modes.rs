//! MODE SELECT carried out: a disk's mode parameters change for all who see it, and the others are told (SPC-4).

use std::sync::Arc;

use futures_util::FutureExt;
use huntaway_scsi::{ModeState, Sense};
use iscsi_target::TaskTag;

use crate::driver::Driver;
use crate::operation::{self, Outcome};
use crate::unit::Unit;
use crate::volume::Progress;

impl Driver {
    /// Sets the mode state of the unit's disk. Writes that begin from now on obey it; what was acknowledged out of a write
    /// cache that is turned off, or to a disk that is write-protected, is on stable storage before GOOD (SBC-3, SPC-4).
    /// `None`: the stores have to be waited for.
    pub(crate) fn set_modes(&mut self, task: TaskTag, unit: &Arc<Unit>, modes: ModeState) -> Option<Outcome> {
        let before = unit.set_modes(modes);
        let after = unit.modes();
        if before == after {
            return Some(Outcome::Good);
        }
        let session = self.session.as_ref();
        let own = session.map(|session| (&*session.registration.nexus, unit.lun));
        self.shared.sessions.tell(&unit.disk, own, Sense::mode_parameters_changed());
        let is_cache_off = before.write_cache && !after.write_cache;
        let is_protected = !before.software_write_protect && after.software_write_protect;
        if !is_cache_off && !is_protected {
            return Some(Outcome::Good);
        }
        let scsi = Arc::clone(unit);
        let outcome = move |flushed: Result<(), huntaway_wire::Error>| -> Outcome {
            flushed.map_err(|error| operation::sense_of(&error, &scsi.scsi, 0)).into()
        };
        match unit.volume.flush() {
            Progress::Done(flushed) => Some(outcome(flushed)),
            Progress::Waiting(pending) => {
                self.running.push(pending.finish().map(move |flushed| (task, outcome(flushed))).boxed());
                None
            }
        }
    }
}
