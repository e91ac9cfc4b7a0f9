//! What is done with VDIs: made, grown, shrunk, deleted.
//!
//! Each takes several steps, and the process may end between any two of them. So whatever takes space comes before the
//! record that promises it, and whatever loses data or space before the record that forgets about it:
//!
//! | | steps | found at the next start |
//! | --- | --- | --- |
//! | create, thick | record, reserve, record "provisioned" | not provisioned: reserved again when it is served |
//! | grow, thick | record "growing", reserve the rest, record | the old size, growing: it goes on, or what was reserved is given back |
//! | shrink | remove what is beyond the end, record | the old size: shrunk again |
//! | delete | remove everything, record | an empty VDI: deleted again |
//!
//! In a cluster several processes may be at the same, and another one may serve what this one cannot finish. So each step there
//! may have been done by another, which is as good; what was set aside is never taken back, however a step ends; and what began
//! goes on wherever it is asked for. No VDI shrinks, and a deletion is the record alone, after which stores free everything.

use std::sync::Arc;

use huntaway_ledger::{DiskRecord, Name, Operation, Record, Sanitize, State, Vdi, VdiOptions};
use huntaway_membership::ProposeError;
use huntaway_wire::{Error, Refusal};

use super::storage::Storage;

/// Told when space cannot be given back.
const STILL_TAKEN: &str = "what the disk took to grow cannot be given back yet";

/// What could not be done with a VDI. It is as it was, or as the table above says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VdiError {
    /// There is no room for a thick one.
    #[error(
        "cannot set {} MiB aside for VDI {name}: {reason}; free space, or write thin: true or a smaller size",
        needed_bytes.div_ceil(1 << 20)
    )]
    NoSpace {
        /// The VDI.
        name: Name,
        /// How much was asked for.
        needed_bytes: u64,
        /// What the store says.
        reason: Error,
    },
    /// In a cluster, not all of its space could be set aside.
    #[error(
        "VDI {name} cannot have all of its space yet: {reason}; it keeps what it took: free space on the nodes, and it goes \
         on, by itself where a file asks for it, else by `huntaway vdi resize`; or delete the VDI"
    )]
    KeepsSpace {
        /// The VDI.
        name: Name,
        /// What the stores say.
        reason: Error,
    },
    /// The store did not do it.
    #[error("VDI {name}: {reason}")]
    Store {
        /// The VDI.
        name: Name,
        /// What the store says.
        reason: Error,
    },
    /// What is being sanitized stays as it is until that is over.
    #[error("VDI {name} is being sanitized: wait until that is over")]
    Sanitizing {
        /// The VDI.
        name: Name,
    },
    /// The ledger did not take it.
    #[error("VDI {name}: {reason}")]
    Ledger {
        /// The VDI.
        name: Name,
        /// What the ledger says.
        reason: ProposeError,
    },
    /// The ledger took it, but does not show it.
    #[error("VDI {name} is not in the ledger")]
    Missing {
        /// The VDI.
        name: Name,
    },
}

impl Storage {
    /// Makes a VDI that may be used at once.
    ///
    /// # Errors
    /// [`VdiError`]; then there is no such VDI, or one that is not provisioned: in a cluster, or if what was set aside cannot be
    /// given back.
    pub(crate) async fn create(&self, name: &Name, options: VdiOptions) -> Result<Vdi, VdiError> {
        let recorded = self.agree(name, Operation::CreateVdi { name: name.clone(), options }).await;
        let vdi = match (recorded, self.state().vdi(name.as_str())) {
            (Ok(_), Some(vdi)) => vdi.clone(),
            // Another node that has the same configuration was faster.
            (Err(VdiError::Ledger { .. }), Some(vdi)) if vdi.options() == options => vdi.clone(),
            (Err(error), _) => return Err(error),
            (Ok(_), None) => return Err(VdiError::Missing { name: name.clone() }),
        };
        match self.provision(&vdi).await {
            Ok(provisioned) => {
                tracing::info!(vdi = %name, bytes = vdi.size_bytes, thin = vdi.thin, "VDI created");
                Ok(provisioned)
            }
            // Another node may have provisioned it by now, and serve it.
            Err(error) if self.is_clustered() => Err(error),
            Err(error) => {
                self.delete_after(&vdi, &error).await;
                Err(error)
            }
        }
    }

    /// Deletes a VDI whose space cannot be set aside. If that fails too, it is told: `error` is what people must know.
    pub(crate) async fn delete_after(&self, vdi: &Vdi, error: &VdiError) {
        if let Err(left) = self.delete(vdi).await {
            tracing::warn!(%error, "VDI {} is left without all of its space, and cannot be deleted: {left}", vdi.name);
        }
    }

    /// Sets a thick VDI's space aside, unless that was done before.
    ///
    /// # Errors
    /// [`VdiError`]; what was set aside stays so, for the next try.
    pub(crate) async fn provision(&self, vdi: &Vdi) -> Result<Vdi, VdiError> {
        if vdi.provisioned {
            return Ok(vdi.clone());
        }
        let is_so = |vdi: &Vdi| vdi.provisioned;
        if let Err(reason) = self.volume(vdi).reserve(0).await {
            return self.unless(vdi, is_so, self.no_space(vdi, vdi.size_bytes, reason));
        }
        self.record_once(vdi, Operation::ProvisionedVdi { vid: vdi.vid }, is_so).await
    }

    /// Makes a VDI larger. What is new reads as zeroes.
    ///
    /// # Errors
    /// [`VdiError`]; the VDI is as it was, or growing still.
    pub(crate) async fn grow(&self, vdi: &Vdi, size_bytes: u64) -> Result<Vdi, VdiError> {
        self.check_not_sanitizing(vdi)?;
        // It may be larger by now than when this was planned.
        let now = self.state().vdi_by_vid(vdi.vid).cloned();
        let now = now.ok_or_else(|| VdiError::Missing { name: vdi.name.clone() })?;
        let mut vdi = self.provision(&now).await?;
        if !self.is_clustered() && vdi.growing_to_bytes != Some(size_bytes) {
            vdi = self.settle(&vdi).await?;
        }
        while vdi.size_bytes < size_bytes {
            vdi = match vdi.growing_to_bytes {
                None if !vdi.thin => {
                    let grow = Operation::GrowVdi { vid: vdi.vid, size_bytes };
                    let has_begun =
                        |vdi: &Vdi| vdi.growing_to_bytes.is_some() || vdi.size_bytes >= size_bytes;
                    self.record_once(&vdi, grow, has_begun).await?
                }
                growing_to => {
                    // Of a larger growth that others began, no more than is asked for.
                    let size_bytes = growing_to.map_or(size_bytes, |to| to.min(size_bytes));
                    match self.take_growth(&vdi, size_bytes).await {
                        Ok(()) => self.resized(&vdi, size_bytes).await?,
                        Err(error) => self.unless(&vdi, |vdi| vdi.size_bytes >= size_bytes, error)?,
                    }
                }
            };
        }
        Ok(vdi)
    }

    /// Sets aside what a thick VDI lacks to have that size.
    async fn take_growth(&self, vdi: &Vdi, size_bytes: u64) -> Result<(), VdiError> {
        if vdi.thin {
            return Ok(());
        }
        let larger = self.volume(&Vdi { size_bytes, ..vdi.clone() });
        let Err(reason) = larger.reserve(vdi.size_bytes).await else { return Ok(()) };
        // It stays "growing": the next try needs no record of it, nor does what cannot be given back now.
        if !self.is_clustered()
            && let Err(left) = larger.remove(vdi.size_bytes).await
        {
            tracing::warn!(vdi = %vdi.name, error = %left, "{STILL_TAKEN}");
        }
        Err(self.no_space(vdi, size_bytes - vdi.size_bytes, reason))
    }

    /// Gives back what growths took that came to nothing, unless they go on: to the size that `goes_on_to` tells. In a cluster
    /// any of them may go on elsewhere.
    pub(crate) async fn settle_all(&self, goes_on_to: impl Fn(&Vdi) -> Option<u64>) {
        if self.is_clustered() {
            return;
        }
        for vdi in self.state().vdis().filter(|vdi| vdi.growing_to_bytes != goes_on_to(vdi)) {
            if let Err(error) = self.settle(vdi).await {
                tracing::warn!(vdi = %vdi.name, %error, "{STILL_TAKEN}");
            }
        }
    }

    async fn settle(&self, vdi: &Vdi) -> Result<Vdi, VdiError> {
        let Some(size_bytes) = vdi.growing_to_bytes else { return Ok(vdi.clone()) };
        let larger = self.volume(&Vdi { size_bytes, ..vdi.clone() });
        larger.remove(vdi.size_bytes).await.map_err(|reason| store_error(vdi, reason))?;
        let size_bytes = vdi.size_bytes;
        self.record(vdi, Operation::ResizeVdi { vid: vdi.vid, size_bytes }).await
    }

    /// Makes a VDI smaller: what lies beyond its new end is gone for ever. Nobody may write there any more.
    ///
    /// # Errors
    /// [`VdiError`]; the VDI has its old size, and beyond the new end perhaps no data.
    pub(crate) async fn shrink(&self, vdi: &Vdi, size_bytes: u64) -> Result<Vdi, VdiError> {
        self.check_not_sanitizing(vdi)?;
        let vdi = &self.settle(vdi).await?;
        self.volume(vdi).remove(size_bytes).await.map_err(|reason| store_error(vdi, reason))?;
        let smaller = self.resized(vdi, size_bytes).await?;
        self.provision(&smaller).await
    }

    /// Deletes a VDI and its data. Nobody may use it any more, but for other processes of a cluster: they hear of the record.
    ///
    /// # Errors
    /// [`VdiError`]; the VDI is still there, perhaps with less data.
    pub(crate) async fn delete(&self, vdi: &Vdi) -> Result<(), VdiError> {
        self.check_not_sanitizing(vdi)?;
        // Stores that know of the record take nothing for it any more, and free what they have.
        let record = Record::Disks(DiskRecord::DeleteDisk { disk: vdi.vid });
        if let Some(recorded) = self.propose_record(record).await {
            recorded.map_err(|reason| VdiError::Ledger { name: vdi.name.clone(), reason })?;
        } else {
            let vdi = &self.settle(vdi).await?;
            self.volume(vdi).remove(0).await.map_err(|reason| store_error(vdi, reason))?;
            self.agree(&vdi.name, Operation::DeleteVdi { vid: vdi.vid }).await?;
        }
        tracing::info!(vdi = %vdi.name, bytes = vdi.size_bytes, "VDI deleted");
        Ok(())
    }

    /// Whether nothing writes to a VDI behind everybody's back: to its end as it was when that began.
    ///
    /// # Errors
    /// [`VdiError::Sanitizing`].
    pub(crate) fn check_not_sanitizing(&self, vdi: &Vdi) -> Result<(), VdiError> {
        match self.state().vdi_by_vid(vdi.vid).and_then(|vdi| vdi.sanitize) {
            Some(Sanitize::Running { .. }) => Err(VdiError::Sanitizing { name: vdi.name.clone() }),
            Some(Sanitize::Failed { .. }) | None => Ok(()),
        }
    }

    async fn resized(&self, vdi: &Vdi, size_bytes: u64) -> Result<Vdi, VdiError> {
        let resize = Operation::ResizeVdi { vid: vdi.vid, size_bytes };
        let is_so = |now: &Vdi| match size_bytes > vdi.size_bytes {
            true => now.size_bytes >= size_bytes,
            false => now.size_bytes == size_bytes,
        };
        let resized = self.record_once(vdi, resize, is_so).await?;
        tracing::info!(vdi = %vdi.name, from_bytes = vdi.size_bytes, bytes = resized.size_bytes, "VDI resized");
        Ok(resized)
    }

    /// The VDI with the record; or as it is if there is none because `is_so` already: another process was faster.
    async fn record_once(
        &self,
        vdi: &Vdi,
        operation: Operation,
        is_so: impl Fn(&Vdi) -> bool,
    ) -> Result<Vdi, VdiError> {
        match self.record(vdi, operation).await {
            Err(error) => self.unless(vdi, is_so, error),
            recorded => recorded,
        }
    }

    /// The VDI as it is if `is_so`, or else the error.
    fn unless(&self, vdi: &Vdi, is_so: impl Fn(&Vdi) -> bool, error: VdiError) -> Result<Vdi, VdiError> {
        self.state().vdi_by_vid(vdi.vid).filter(|vdi| is_so(vdi)).cloned().ok_or(error)
    }

    async fn record(&self, vdi: &Vdi, operation: Operation) -> Result<Vdi, VdiError> {
        let state = self.agree(&vdi.name, operation).await?;
        state.vdi_by_vid(vdi.vid).cloned().ok_or_else(|| VdiError::Missing { name: vdi.name.clone() })
    }

    async fn agree(&self, name: &Name, operation: Operation) -> Result<Arc<State>, VdiError> {
        let agreed = self.propose(operation).await;
        agreed.map_err(|reason| VdiError::Ledger { name: name.clone(), reason })
    }

    fn no_space(&self, vdi: &Vdi, needed_bytes: u64, reason: Error) -> VdiError {
        let name = vdi.name.clone();
        match reason {
            reason if self.is_clustered() => VdiError::KeepsSpace { name, reason },
            Error::Refused(Refusal::NoSpace { .. }) => VdiError::NoSpace { name, needed_bytes, reason },
            reason => VdiError::Store { name, reason },
        }
    }
}

fn store_error(vdi: &Vdi, reason: Error) -> VdiError {
    VdiError::Store { name: vdi.name.clone(), reason }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use huntaway_store::DiskDirectory;
    use prometheus::Registry;

    use super::super::storage::StorageOptions;
    use super::*;

    const OBJECT_BYTES: u64 = 4 << 20;

    fn open(directory: &Path) -> Storage {
        let name = Name::new("test").unwrap();
        let options = StorageOptions {
            state: directory.to_owned(),
            disks: vec![DiskDirectory { path: directory.to_owned(), weight: None }],
            cluster: name.clone(),
            node: name.clone(),
            zone: name,
            open_objects: 16,
            make: true,
        };
        Storage::open(options, &Registry::new()).unwrap()
    }

    fn objects(directory: &Path) -> usize {
        let partitions = fs::read_dir(directory.join("objects")).unwrap();
        let files = partitions.flat_map(|partition| fs::read_dir(partition.unwrap().path()).unwrap());
        // an object's name is its oid; beside them are the indexes
        files.filter(|file| file.as_ref().unwrap().file_name().len() == 16).count()
    }

    #[tokio::test]
    async fn an_interrupted_growth_goes_on_or_gives_back_what_it_took() {
        let scratch = tempfile::tempdir().unwrap();
        let storage = open(scratch.path());
        let name = Name::new("thick").unwrap();
        let options = VdiOptions {
            size_bytes: 4 * OBJECT_BYTES,
            block_size: 512,
            physical_block_size: 4096,
            thin: false,
        };
        let vdi = storage.create(&name, options).await.unwrap();
        // as far as a growth comes that ends before it is at its end
        let size_bytes = 7 * OBJECT_BYTES;
        let growing = storage.record(&vdi, Operation::GrowVdi { vid: vdi.vid, size_bytes }).await.unwrap();
        storage.volume(&Vdi { size_bytes, ..growing }).reserve(vdi.size_bytes).await.unwrap();
        storage.close().unwrap();
        drop(storage);
        assert_eq!(objects(scratch.path()), 7);

        let storage = open(scratch.path());
        // it goes on: nothing is given back, and nothing more recorded
        storage.settle_all(|_| Some(size_bytes)).await;
        let records = storage.state().number();
        let grown = storage.grow(storage.state().vdi("thick").unwrap(), size_bytes).await.unwrap();
        assert_eq!((grown.size_bytes, grown.growing_to_bytes), (size_bytes, None));
        assert_eq!(storage.state().number(), records + 1);

        let size_bytes = 9 * OBJECT_BYTES;
        let growing = storage.record(&vdi, Operation::GrowVdi { vid: vdi.vid, size_bytes }).await.unwrap();
        storage.volume(&Vdi { size_bytes, ..growing.clone() }).reserve(grown.size_bytes).await.unwrap();
        // another size is asked for
        let other = storage.grow(&growing, 8 * OBJECT_BYTES).await.unwrap();
        assert_eq!((other.size_bytes, other.growing_to_bytes), (8 * OBJECT_BYTES, None));
        let growing = storage.record(&vdi, Operation::GrowVdi { vid: vdi.vid, size_bytes }).await.unwrap();
        storage.volume(&Vdi { size_bytes, ..growing }).reserve(other.size_bytes).await.unwrap();
        // none is asked for
        storage.settle_all(|_| None).await;
        assert_eq!(storage.state().vdi("thick"), Some(&other));
        storage.close().unwrap();
        assert_eq!(objects(scratch.path()), 8);
    }
}
