//! The payloads of records about disks and their versions.

use huntaway_wire::Vid;
use rkyv::rancor::Failure;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Serialize};

use super::{Kind, VidForm, vid};
use crate::{DiskRecord, MAX_HELD};

#[derive(Archive, Serialize)]
struct HoldForm {
    disks: Vec<u32>,
    reads: bool,
}

#[derive(Archive, Serialize)]
struct HoldEndForm {
    hold: u64,
    /// The version to go back to; 0 = none.
    to: u32,
}

pub(super) fn encode(record: &DiskRecord) -> Result<(Kind, AlignedVec), Failure> {
    let of_vid = |vid: &Vid| rkyv::to_bytes(&VidForm { vid: vid.value() });
    let end = |hold: u64, to: u32| rkyv::to_bytes(&HoldEndForm { hold, to });
    Ok(match record {
        DiskRecord::Hold { disks, reads } => {
            let disks = disks.iter().map(|disk| disk.value()).collect();
            (Kind::Hold, rkyv::to_bytes(&HoldForm { disks, reads: *reads })?)
        }
        DiskRecord::Commit { hold } => (Kind::Commit, end(*hold, 0)?),
        DiskRecord::Abort { hold } => (Kind::Abort, end(*hold, 0)?),
        DiskRecord::RollBack { hold, to } => (Kind::RollBack, end(*hold, to.value())?),
        DiskRecord::DeleteSnapshot { version } => (Kind::DeleteSnapshot, of_vid(version)?),
        DiskRecord::DeleteDisk { disk } => (Kind::DeleteDisk, of_vid(disk)?),
        DiskRecord::Fence { disk } => (Kind::Fence, of_vid(disk)?),
    })
}

pub(super) fn decode(kind: Kind, payload: &[u8]) -> Option<DiskRecord> {
    Some(match kind {
        Kind::Hold => {
            let form: &ArchivedHoldForm = rkyv::access::<_, Failure>(payload).ok()?;
            let disks = form.disks.iter().take(MAX_HELD + 1).map(|disk| Vid::new(disk.to_native()).ok());
            DiskRecord::Hold { disks: disks.collect::<Option<_>>()?, reads: form.reads }
        }
        Kind::Commit => DiskRecord::Commit { hold: hold_end(payload)?.0 },
        Kind::Abort => DiskRecord::Abort { hold: hold_end(payload)?.0 },
        Kind::RollBack => {
            let (hold, to) = hold_end(payload)?;
            DiskRecord::RollBack { hold, to: Vid::new(to).ok()? }
        }
        Kind::DeleteSnapshot => DiskRecord::DeleteSnapshot { version: vid(payload)? },
        Kind::DeleteDisk => DiskRecord::DeleteDisk { disk: vid(payload)? },
        Kind::Fence => DiskRecord::Fence { disk: vid(payload)? },
        _ => return None,
    })
}

fn hold_end(payload: &[u8]) -> Option<(u64, u32)> {
    let form: &ArchivedHoldEndForm = rkyv::access::<_, Failure>(payload).ok()?;
    Some((form.hold.to_native(), form.to.to_native()))
}
