//! Applying to one object file.

use std::sync::Arc;

use huntaway_wire::{BLOCKS_PER_OBJECT, Error, Oid, Partition};

use super::ApplyError;
use crate::disk::Disk;
use crate::error::DiskError;
use crate::memory::{Captured, Stamp};
use crate::object::{Change, Header, ObjectFile, ObjectPath};
use crate::store::Store;

/// Whether an object is in the index, and its file.
type Found<D> = (bool, Option<Arc<ObjectFile<D>>>);

/// What is to be done to an object.
pub(super) enum Plan<D: Disk> {
    /// Nothing: there is no such object, and there will be none.
    Nothing,
    /// Its file goes.
    Remove,
    /// Its file changes.
    Change(Changed<D>),
}

/// An object whose file changes.
pub(super) struct Changed<D: Disk> {
    pub(super) captured: Captured,
    pub(super) object: Arc<ObjectFile<D>>,
    /// In order of the blocks.
    pub(super) changes: Vec<(u32, Change)>,
    pub(super) reserved: bool,
    /// The file was made just now.
    pub(super) is_new: bool,
    path: ObjectPath,
}

impl<D: Disk> Store<D> {
    /// Decides what is to be done; makes the file if there is to be one.
    pub(super) fn plan_object(
        &self,
        partition: Partition,
        directory: &str,
        captured: &Captured,
    ) -> Result<Plan<D>, ApplyError> {
        let path = ObjectPath::new(directory, captured.oid);
        let has_data = captured.changes.iter().any(|(_, change)| matches!(change, Change::Data { .. }));
        // Removed, whatever it was: the old file does not matter, were it damaged or gone.
        let starts_anew = captured.erased.is_some() && captured.reservation.is_some();
        let (is_indexed, old) = self.find_old(partition, captured.oid, starts_anew)?;
        let was_reserved = old.as_ref().is_some_and(|object| object.content().reserved);
        let reserved = captured.reservation.map_or(was_reserved, |(_, reserved)| reserved);
        let object = match old {
            Some(object) => object,
            None if has_data || reserved => {
                let header = Header { oid: captured.oid, reserved: false };
                let made = ObjectFile::create(&*self.disk, &path, header).inspect_err(|_| self.unmake(&path));
                let object = Arc::new(made.map_err(DiskError::new("create", path.as_str()))?);
                let changes = captured.changes.clone();
                let captured = captured.clone();
                return Ok(Plan::Change(Changed { captured, object, changes, reserved, is_new: true, path }));
            }
            None if is_indexed => return Ok(Plan::Remove),
            None => return Ok(Plan::Nothing),
        };
        let changes = with_erasure(captured.changes.clone(), captured.erased);
        if !reserved && !has_data && object.is_empty_after(&changes) {
            return Ok(Plan::Remove);
        }
        let captured = captured.clone();
        Ok(Plan::Change(Changed { captured, object, changes, reserved, is_new: false, path }))
    }

    /// Whether the object is in the index, and its file if that is any good or has to be.
    fn find_old(&self, partition: Partition, oid: Oid, starts_anew: bool) -> Result<Found<D>, ApplyError> {
        let look = |state: &mut crate::partition::PartitionState| {
            let found = if starts_anew { self.peek(state, oid) } else { self.object(state, oid) };
            (state.index.contains(oid), found)
        };
        match self.with_loaded(partition, look) {
            Some((is_indexed, Ok(object))) => Ok((is_indexed, object)),
            Some((_, Err(Error::Refused(_)))) => Err(ApplyError::NotNow(oid)),
            Some((_, Err(Error::Broken(_)))) | None => Err(ApplyError::Object(oid)),
        }
    }

    /// Brings a file to what it should be, on stable storage.
    pub(super) fn change_object(&self, changed: &Changed<D>) -> Result<(), ApplyError> {
        let Changed { object, path, changes, reserved, .. } = changed;
        let was_reserved = object.content().reserved;
        if *reserved && !was_reserved {
            object.reserve(&*self.disk).map_err(DiskError::new("reserve", path.as_str()))?;
        } else if was_reserved && !reserved {
            object.unreserve(&*self.disk).map_err(DiskError::new("write", path.as_str()))?;
        }
        object.write(&*self.disk, changes, !reserved).map_err(DiskError::new("write", path.as_str()))?;
        object.sync(&*self.disk).map_err(DiskError::new("sync", path.as_str()))?;
        Ok(())
    }

    /// Takes back a file that was made and then could not be filled.
    pub(super) fn unmake_object(&self, changed: &Changed<D>) {
        if changed.is_new {
            self.unmake(&changed.path);
        }
    }

    fn unmake(&self, path: &ObjectPath) {
        // A file that stays is not in the index: it takes space, and is replaced when the object is made again.
        if let Err(error) = self.disk.remove(path.as_str())
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = path.as_str(), %error, "cannot remove a file that was begun");
        }
    }
}

/// `changes`, and a hole in every other block if the object was erased before them.
fn with_erasure(changes: Vec<(u32, Change)>, erased: Option<Stamp>) -> Vec<(u32, Change)> {
    let Some(Stamp { version, .. }) = erased else { return changes };
    let mut written = changes.into_iter().peekable();
    (0..BLOCKS_PER_OBJECT)
        .map(|block| written.next_if(|(next, _)| *next == block).unwrap_or((block, Change::Hole { version })))
        .collect()
}
