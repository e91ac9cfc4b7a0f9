//! Space of thin disks: the log page that tells of it, and the threshold that initiators are told of (SBC-3 §4.7.3.8).

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use huntaway_scsi::{Resources, Sense, provisioning_log};
use huntaway_wire::{Segments, Space};
use iscsi_target::TaskTag;

use crate::disk::Disk;
use crate::driver::Driver;
use crate::operation::{self, Outcome};
use crate::sessions::Sessions;
use crate::unit::Unit;
use crate::volume::Volume;

impl Driver {
    /// LOG SENSE of the logical block provisioning page: the stores ask their disks.
    pub(crate) fn log_provisioning(
        &mut self,
        task: TaskTag,
        unit: &Arc<Unit>,
        first_parameter: u16,
        allocation_length: u32,
    ) {
        let unit = Arc::clone(unit);
        let answer = async move {
            match unit.volume.space().await {
                Ok(Space { available_bytes, total_bytes }) => {
                    let used_bytes = total_bytes.saturating_sub(available_bytes);
                    let resources = Resources { available_bytes, used_bytes };
                    let page = provisioning_log(resources, first_parameter, allocation_length);
                    Outcome::Data(Segments::from_iter([Bytes::from(page)]))
                }
                Err(error) => Outcome::Failed(operation::sense_of(&error, &unit.scsi, 0)),
            }
        };
        self.reading.push(answer.map(move |outcome| (task, outcome)).boxed());
    }

    /// A command that may have taken space has ended: looks whether that was the last of it.
    pub(crate) fn watch_space(&self, unit: &Unit) {
        self.shared.sessions.watch_space(&unit.disk, &unit.volume, unit.scsi.soft_threshold_bytes());
    }
}

impl Sessions {
    /// Something may have taken space for this disk: looks whether that was the last of it.
    pub(crate) fn watch_space(&self, disk: &Arc<Disk>, volume: &Volume, threshold_bytes: Option<u64>) {
        if let Some(threshold_bytes) = threshold_bytes
            && let Some(space) = volume.space_at_hand()
            && disk.crosses(space.available_bytes, threshold_bytes)
        {
            self.tell_of_threshold(disk, space.available_bytes);
        }
    }

    /// `first`, of which that is known already, and all other disks with a threshold that was crossed as well: their
    /// initiators are told, unless they do not want to be (LBPERE).
    fn tell_of_threshold(&self, first: &Arc<Disk>, available_bytes: u64) {
        let catalog = self.catalog();
        let mut crossed = vec![Arc::clone(first)];
        for unit in catalog.units() {
            if let Some(threshold_bytes) = unit.scsi.soft_threshold_bytes()
                && unit.disk.crosses(available_bytes, threshold_bytes)
            {
                crossed.push(Arc::clone(&unit.disk));
            }
        }
        tracing::warn!(available_bytes, disks = crossed.len(), "space of thin disks is running out");
        for disk in crossed.iter().filter(|disk| disk.modes().threshold_reporting) {
            self.tell(disk, None, Sense::soft_threshold_reached());
        }
    }
}
