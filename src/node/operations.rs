//! What people do with VDIs while the node runs: look, make, resize, delete.

use huntaway_config::Lun;
use huntaway_ledger::{Name, Vdi, VdiOptions};

use super::engine::{Engine, Stopping};
use super::plan::{NEVER_SMALLER, size};
use super::served::served;
use super::vdis::VdiError;

/// What was asked for and not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OperationError {
    /// There is no such VDI.
    #[error("there is no VDI `{0}`: `huntaway vdi list` shows those that exist")]
    Unknown(String),
    /// It makes no sense: nothing was done.
    #[error("{0}")]
    Invalid(String),
    /// It cannot be done as things are: nothing was done.
    #[error("{0}")]
    Conflict(String),
    /// It was begun and failed.
    #[error(transparent)]
    Failed(#[from] VdiError),
    /// Initiators were not told.
    #[error("the gateway did not take the change: {0}")]
    NotShown(String),
    /// There is no time for it.
    #[error(transparent)]
    Stopping(#[from] Stopping),
}

/// Where a VDI is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mapping {
    /// The target's IQN.
    pub(crate) target: String,
    /// The LUN.
    pub(crate) lun: u16,
}

/// A VDI and where it is served.
#[derive(Debug, Clone)]
pub(crate) struct MappedVdi {
    /// What the ledger says of it.
    pub(crate) vdi: Vdi,
    /// None: it is not served.
    pub(crate) mappings: Vec<Mapping>,
}

impl Engine {
    /// All VDIs, oldest first.
    pub(crate) fn vdis(&self) -> Vec<MappedVdi> {
        let state = self.storage.state();
        state.vdis().map(|vdi| self.with_mappings(vdi.clone())).collect()
    }

    /// The VDI of that name.
    ///
    /// # Errors
    /// [`OperationError::Unknown`].
    pub(crate) fn vdi(&self, name: &str) -> Result<MappedVdi, OperationError> {
        let vdi = self.storage.state().vdi(name).cloned();
        vdi.map(|vdi| self.with_mappings(vdi)).ok_or_else(|| OperationError::Unknown(name.into()))
    }

    /// Makes a VDI that no LUN shows yet.
    ///
    /// # Errors
    /// See [`OperationError`].
    pub(crate) async fn create_vdi(
        &self,
        name: &str,
        options: VdiOptions,
    ) -> Result<MappedVdi, OperationError> {
        let name = Name::new(name)
            .map_err(|error| OperationError::Invalid(format!("`{name}` is not a name: {error}")))?;
        options.check().map_err(|error| OperationError::Invalid(error.to_string()))?;
        check_size(options.size_bytes)?;
        let work = async {
            let _changing = self.changing.lock().await;
            if self.storage.state().vdi(name.as_str()).is_some() {
                return Err(OperationError::Conflict(format!(
                    "there is a VDI `{name}` already: choose another name"
                )));
            }
            if !options.thin {
                self.check_disks()?;
                self.check_space(options.size_bytes)?;
            }
            Ok(self.storage.create(&name, options).await?)
        };
        let vdi = self.unless_stopping(work).await??;
        Ok(self.with_mappings(vdi))
    }

    /// Makes a VDI larger, or smaller if that is allowed, while it is served.
    ///
    /// # Errors
    /// See [`OperationError`].
    pub(crate) async fn resize_vdi(
        &self,
        name: &str,
        size_bytes: u64,
        allow_shrink: bool,
    ) -> Result<MappedVdi, OperationError> {
        check_size(size_bytes)?;
        let work = async {
            let _changing = self.changing.lock().await;
            let MappedVdi { vdi, .. } = self.vdi(name)?;
            self.check_resize(&vdi, size_bytes, allow_shrink)?;
            if size_bytes == vdi.size_bytes && vdi.provisioned {
                return Ok(vdi);
            }
            self.storage.check_not_sanitizing(&vdi)?;
            self.resize(&vdi, size_bytes).await
        };
        let vdi = self.unless_stopping(work).await??;
        Ok(self.with_mappings(vdi))
    }

    /// Deletes a VDI that no LUN of this node shows, with all its data.
    ///
    /// # Errors
    /// See [`OperationError`].
    pub(crate) async fn delete_vdi(&self, name: &str) -> Result<(), OperationError> {
        let work = async {
            let _changing = self.changing.lock().await;
            let MappedVdi { vdi, mappings } = self.vdi(name)?;
            if let Some(Mapping { target, lun }) = mappings.first() {
                return Err(OperationError::Conflict(format!(
                    "VDI `{name}` is LUN {lun} of {target}: take that LUN out of {} first",
                    self.file().display()
                )));
            }
            self.check_disks()?;
            Ok(self.storage.delete(&vdi).await?)
        };
        self.unless_stopping(work).await??;
        Ok(())
    }

    fn with_mappings(&self, vdi: Vdi) -> MappedVdi {
        let loaded = self.served();
        let mappings = loaded.config.targets.iter().flat_map(|target| {
            let luns = target.luns.iter().filter(|lun| *lun.vdi == vdi.name.as_str());
            luns.map(|lun| Mapping { target: target.iqn.value.clone(), lun: lun.number.value })
        });
        MappedVdi { mappings: mappings.collect(), vdi }
    }

    /// What concerns a part of a VDI on each disk is done on all of them or on none.
    fn check_disks(&self) -> Result<(), OperationError> {
        let Some(disk) = self.storage.missing_disk() else { return Ok(()) };
        Err(OperationError::Conflict(format!(
            "disk {disk} has failed or is missing, and holds a part of the VDI: bring that disk back and restart the node \
             first; nothing was changed"
        )))
    }

    fn check_space(&self, needed_bytes: u64) -> Result<(), OperationError> {
        let free_bytes = self.storage.free_bytes();
        if needed_bytes <= free_bytes {
            return Ok(());
        }
        Err(OperationError::Conflict(format!(
            "that takes {} MiB of space, but {} MiB are free: free space, or make it smaller or thin",
            needed_bytes.div_ceil(1 << 20),
            free_bytes >> 20
        )))
    }

    fn check_resize(&self, vdi: &Vdi, size_bytes: u64, allow_shrink: bool) -> Result<(), OperationError> {
        if size_bytes < vdi.size_bytes && self.storage.is_clustered() {
            return Err(OperationError::Conflict(format!(
                "VDI `{}` has {}: {NEVER_SMALLER}",
                vdi.name,
                size(vdi.size_bytes)
            )));
        }
        let loaded = self.served();
        let mut luns = loaded.config.targets.iter().flat_map(|target| &target.luns);
        let says_size = |lun: &&Lun| *lun.vdi == vdi.name.as_str() && lun.size_bytes.is_some();
        if luns.any(|lun| says_size(&lun)) {
            return Err(OperationError::Conflict(format!(
                "{} says the size of VDI `{}`: change it there, or take `size` out of its LUN",
                self.file().display(),
                vdi.name
            )));
        }
        if size_bytes < vdi.size_bytes && !allow_shrink {
            return Err(OperationError::Conflict(format!(
                "VDI `{}` is larger: {}; all data beyond {} would be lost: say --allow-shrink if it may go",
                vdi.name,
                size(vdi.size_bytes),
                size(size_bytes)
            )));
        }
        if size_bytes < vdi.size_bytes {
            return self.check_disks();
        }
        if vdi.thin || size_bytes == vdi.size_bytes {
            return Ok(());
        }
        self.check_disks()?;
        // what an interrupted growth has taken already is not known: it is tried
        if vdi.growing_to_bytes == Some(size_bytes) {
            return Ok(());
        }
        self.check_space(size_bytes - vdi.size_bytes)
    }

    /// What initiators see grows after the VDI, and shrinks before it.
    async fn resize(&self, vdi: &Vdi, size_bytes: u64) -> Result<Vdi, OperationError> {
        if size_bytes >= vdi.size_bytes {
            let larger = self.storage.grow(vdi, size_bytes).await?;
            self.show_changed(None).await?;
            return Ok(larger);
        }
        self.show_changed(Some(&Vdi { size_bytes, ..vdi.clone() })).await?;
        Ok(self.storage.shrink(vdi, size_bytes).await?)
    }

    /// Shows initiators all VDIs as they are by now, others may have changed them since, but for one that `shrinks`.
    async fn show_changed(&self, shrinks: Option<&Vdi>) -> Result<(), OperationError> {
        let state = self.storage.state();
        let vdi = |name: &str| {
            let smaller = shrinks.filter(|shrinks| shrinks.name.as_str() == name);
            smaller.or_else(|| state.vdi(name)).cloned()
        };
        let shown = served(&self.served(), &self.storage, vdi);
        let updated = self.gateway.update(shown).await;
        updated.map_err(|error| OperationError::NotShown(error.to_string()))?;
        self.shown.store(state);
        Ok(())
    }
}

fn check_size(size_bytes: u64) -> Result<(), OperationError> {
    if crate::disk_option::is_size(size_bytes) {
        return Ok(());
    }
    Err(OperationError::Invalid(format!(
        "a VDI cannot have {size_bytes} bytes: {}",
        crate::disk_option::SIZE
    )))
}
