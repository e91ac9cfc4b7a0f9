//! Records about VDIs: names and options here, versions in [`Disks`](crate::Disks).

use huntaway_wire::Vid;

use super::{ApplyError, MAX_VDIS, State};
use crate::{DiskRecord, Name, Sanitize, Vdi, VdiOptions};

impl State {
    pub(super) fn create_vdi(
        &mut self,
        vid: Vid,
        name: &Name,
        uuid: [u8; 16],
        options: &VdiOptions,
    ) -> Result<(), ApplyError> {
        options.check()?;
        self.check_new(vid, name)?;
        self.disks.create(vid, *options)?;
        let vdi = vdi(vid, name, uuid, (vid, None), options);
        self.vdis.insert(vid, vdi);
        self.vids.insert(name.clone(), vid);
        Ok(())
    }

    /// A disk that shows what a snapshot has is made.
    pub(super) fn clone_vdi(
        &mut self,
        of: Vid,
        vid: Vid,
        name: &Name,
        uuid: [u8; 16],
    ) -> Result<(), ApplyError> {
        self.check_new(vid, name)?;
        let (family, options) = self.disks.clone_of(of, vid)?;
        let vdi = vdi(vid, name, uuid, (family, Some(of)), &options);
        self.vdis.insert(vid, vdi);
        self.vids.insert(name.clone(), vid);
        Ok(())
    }

    fn check_new(&self, vid: Vid, name: &Name) -> Result<(), ApplyError> {
        if vid.value() <= self.disks.last_vid {
            return Err(ApplyError::VidUsed { vid, last: self.disks.last_vid });
        }
        if self.vids.contains_key(name) {
            return Err(ApplyError::NameTaken { name: name.clone() });
        }
        if self.vdis.len() >= MAX_VDIS {
            return Err(ApplyError::TooManyVdis);
        }
        Ok(())
    }

    pub(super) fn provisioned_vdi(&mut self, vid: Vid) -> Result<(), ApplyError> {
        let vdi = self.vdis.get_mut(&vid).ok_or(ApplyError::UnknownVdi { vid })?;
        if vdi.provisioned {
            return Err(ApplyError::AlreadyProvisioned { name: vdi.name.clone() });
        }
        vdi.provisioned = true;
        Ok(())
    }

    pub(super) fn resize_vdi(&mut self, vid: Vid, size_bytes: u64) -> Result<(), ApplyError> {
        let vdi = self.vdis.get_mut(&vid).ok_or(ApplyError::UnknownVdi { vid })?;
        VdiOptions { size_bytes, ..vdi.options() }.check()?;
        if vdi.size_bytes == size_bytes && vdi.growing_to_bytes.is_none() {
            return Err(ApplyError::SameSize { name: vdi.name.clone(), size_bytes });
        }
        let is_held = self.disks.resize(vid, size_bytes).is_err();
        if is_held {
            return Err(ApplyError::InUse { name: vdi.name.clone() });
        }
        vdi.size_bytes = size_bytes;
        vdi.growing_to_bytes = None;
        Ok(())
    }

    pub(super) fn grow_vdi(&mut self, vid: Vid, size_bytes: u64) -> Result<(), ApplyError> {
        let vdi = self.vdis.get_mut(&vid).ok_or(ApplyError::UnknownVdi { vid })?;
        VdiOptions { size_bytes, ..vdi.options() }.check()?;
        if vdi.thin || size_bytes <= vdi.size_bytes || vdi.growing_to_bytes.is_some() {
            return Err(ApplyError::CannotGrow { name: vdi.name.clone(), size_bytes });
        }
        vdi.growing_to_bytes = Some(size_bytes);
        Ok(())
    }

    pub(super) fn sanitize_vdi(&mut self, vid: Vid, sanitize: Option<Sanitize>) -> Result<(), ApplyError> {
        let vdi = self.vdis.get_mut(&vid).ok_or(ApplyError::UnknownVdi { vid })?;
        if vdi.sanitize == sanitize {
            return Err(ApplyError::SameSanitize { name: vdi.name.clone() });
        }
        vdi.sanitize = sanitize;
        Ok(())
    }

    pub(super) fn delete_vdi(&mut self, vid: Vid) -> Result<(), ApplyError> {
        let vdi = self.vdi_by_vid(vid).ok_or(ApplyError::UnknownVdi { vid })?;
        let name = vdi.name.clone();
        self.disks.remove(vid).map_err(|_| ApplyError::InUse { name })?;
        self.forget_vdi(vid);
        Ok(())
    }

    fn forget_vdi(&mut self, vid: Vid) {
        if let Some(vdi) = self.vdis.remove(&vid) {
            self.vids.remove(&vdi.name);
        }
    }

    /// What is done with snapshots.
    pub(super) fn apply_to_disks(&mut self, record: &DiskRecord) -> Result<(), ApplyError> {
        let held = match record {
            DiskRecord::RollBack { hold, .. } => self.disks.held(*hold),
            _ => Vec::new(),
        };
        self.disks.apply(record)?;
        if let DiskRecord::DeleteDisk { disk } = record {
            self.forget_vdi(*disk);
        }
        for disk in held {
            let working = self.disks.working(disk).and_then(|working| self.disks.version(working));
            if let (Some(vdi), Some(version)) = (self.vdis.get_mut(&disk), working) {
                (vdi.size_bytes, vdi.growing_to_bytes) = (version.options.size_bytes, None);
            }
        }
        Ok(())
    }
}

/// A new VDI, of a family, and made from a version of it or not.
fn vdi(
    vid: Vid,
    name: &Name,
    uuid: [u8; 16],
    (family, parent): (Vid, Option<Vid>),
    options: &VdiOptions,
) -> Vdi {
    Vdi {
        vid,
        name: name.clone(),
        uuid,
        family,
        parent,
        size_bytes: options.size_bytes,
        block_size: options.block_size,
        physical_block_size: options.physical_block_size,
        thin: options.thin,
        provisioned: options.thin,
        growing_to_bytes: None,
        sanitize: None,
    }
}
