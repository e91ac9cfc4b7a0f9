//! Applying to one object file.

use std::sync::Arc;

use huntaway_wire::{BLOCKS_PER_OBJECT, Oid, Partition, Version};

use super::ApplyError;
use crate::disk::Disk;
use crate::error::{DiskError, is_shortage};
use crate::index::{Item, State};
use crate::memory::{Captured, Stamp};
use crate::object::{Change, Header, LoadError, ObjectFile, ObjectPath};
use crate::store::Store;
use crate::wal::LogFiles;

/// Whether an object is in the index, and its file.
type Found<D> = (bool, Option<Arc<ObjectFile<D>>>);

/// What is to be done to an object.
pub(super) enum Plan<D: Disk> {
    /// Nothing: there is no such object, and there will be none.
    Nothing,
    /// Its file goes.
    Remove,
    /// Its file changes.
    Change(Target<D>),
}

/// An object whose file changes.
pub(super) struct Changed<D: Disk> {
    pub(super) captured: Captured,
    pub(super) target: Target<D>,
}

/// A file that changes.
pub(super) struct Target<D: Disk> {
    pub(super) object: Arc<ObjectFile<D>>,
    pub(super) reserved: bool,
    /// The file was made just now.
    pub(super) is_new: bool,
    path: ObjectPath,
    /// What every block becomes, if what was in the file is gone.
    every_block: Option<Vec<(u32, Change)>>,
}

impl<D: Disk> Changed<D> {
    /// What the index is to say before the file of a replica's object, which it has since `created`, changes: versions may go
    /// down, and none of the file would be as new as that any more.
    pub(super) fn lowered(&self, created: Version) -> Option<Item> {
        if !self.captured.is_replicated || self.target.is_new {
            return None;
        }
        let newest = self.target.object.table_after(self.changes()).versions().max().unwrap_or_default();
        let item = Item { oid: self.captured.oid, version: newest, state: State::Present };
        (newest < created).then_some(item)
    }

    /// What becomes of blocks, in their order.
    pub(super) fn changes(&self) -> &[(u32, Change)] {
        self.target.every_block.as_deref().unwrap_or(&self.captured.changes)
    }
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
        // A hole is nothing, unless others are to know since when it is there.
        let is_something = |(_, change): &(u32, Change)| match change {
            Change::Data { .. } | Change::Lost { .. } => true,
            Change::Hole { .. } => captured.is_replicated,
            Change::Never => false,
        };
        let has_data = captured.changes.iter().any(is_something);
        // Removed, whatever it was: the old file does not matter, were it damaged or gone.
        let starts_anew = captured.erased.is_some() && captured.reservation.is_some();
        let (is_indexed, old) = self.find_old(partition, captured.oid, starts_anew)?;
        let was_reserved = old.as_ref().is_some_and(|object| object.content().reserved);
        let reserved = captured.reservation.map_or(was_reserved, |(_, reserved)| reserved);
        let Some(object) = old else {
            if !has_data && !reserved {
                return Ok(if is_indexed { Plan::Remove } else { Plan::Nothing });
            }
            let header = Header { oid: captured.oid, reserved: false, sums: None };
            let object = match ObjectFile::create(&*self.disk, &path, header) {
                Ok(object) => Arc::new(object),
                Err(error) => {
                    self.unmake(partition, &path)?;
                    return Err(DiskError::new("create", path.as_str())(error).into());
                }
            };
            return Ok(Plan::Change(Target { object, reserved, is_new: true, path, every_block: None }));
        };
        let every_block = captured.erased.map(|stamp| with_erasure(captured, stamp));
        let changes = every_block.as_deref().unwrap_or(&captured.changes);
        if !reserved && !has_data {
            let after = object.table_after(changes);
            if if captured.is_replicated { after.is_unwritten() } else { after.is_empty() } {
                return Ok(Plan::Remove);
            }
        }
        Ok(Plan::Change(Target { object, reserved, is_new: false, path, every_block }))
    }

    /// Whether the object is in the index, and its file if that is any good or has to be.
    fn find_old(&self, partition: Partition, oid: Oid, starts_anew: bool) -> Result<Found<D>, ApplyError> {
        let look = |state: &mut crate::partition::PartitionState| {
            (state.index.contains(oid), self.find_object(state, oid), state.directory.clone())
        };
        let Some((is_indexed, found, directory)) = self.with_loaded(partition, look) else {
            return Err(ApplyError::Object(oid));
        };
        match found {
            Ok(object) => Ok((is_indexed, object)),
            Err(_) if starts_anew => Ok((is_indexed, None)),
            Err(LoadError::Io(error)) if is_shortage(&error) => Err(ApplyError::NotNow(oid)),
            // The file may be sound, and what was acknowledged cannot be applied to it: giving that up would bring back what
            // the file holds.
            Err(LoadError::Io(error)) => {
                let path = ObjectPath::new(&directory, oid);
                tracing::error!(
                    disk = self.options.directory, path = path.as_str(), %error,
                    "an object with acknowledged changes that are not applied cannot be read, and its disk is stopped, so \
                     that none of them is given up: restore this file or take it away, and run `huntaway store check`"
                );
                Err(DiskError::new("read", path.as_str())(error).into())
            }
            Err(error) => {
                tracing::error!(%oid, %error, "the file of an object cannot be used");
                Err(ApplyError::Object(oid))
            }
        }
    }

    /// Brings a file to what it should be, on stable storage.
    pub(super) fn change_object(
        &self,
        log: &LogFiles<D::File>,
        changed: &Changed<D>,
    ) -> Result<(), ApplyError> {
        let Target { object, path, reserved, .. } = &changed.target;
        let was_reserved = object.content().reserved;
        // What was asked for is done again: it may not be on stable storage.
        if *reserved && (changed.captured.reservation.is_some() || !was_reserved) {
            object.reserve(&*self.disk).map_err(DiskError::new("reserve", path.as_str()))?;
        }
        #[cfg(feature = "planted-bugs")]
        if let Some(done) = self.change_wrongly(object, log, changed.changes(), *reserved) {
            return Ok(done.map_err(DiskError::new("write or sync", path.as_str()))?);
        }
        let gives_back = was_reserved && !*reserved;
        object
            .write_data(&*self.disk, log, changed.changes(), *reserved)
            .and_then(|()| if gives_back { object.give_back(&*self.disk, changed.changes()) } else { Ok(()) })
            .and_then(|()| object.write_table(&*self.disk, changed.changes(), *reserved))
            .map_err(DiskError::new("write", path.as_str()))?;
        object.sync(&*self.disk).map_err(DiskError::new("sync", path.as_str()))?;
        Ok(())
    }

    /// Takes back a file that was made and then could not be filled.
    pub(super) fn unmake_object(&self, partition: Partition, changed: &Changed<D>) -> Result<(), ApplyError> {
        if changed.target.is_new { self.unmake(partition, &changed.target.path) } else { Ok(()) }
    }

    fn unmake(&self, partition: Partition, path: &ObjectPath) -> Result<(), ApplyError> {
        // A power loss may bring the file back. While the log has what is in it, that is explained; before the log is
        // released, the object is made again, which replaces the file, or gone, and then the directory is synced.
        self.with_loaded(partition, |state| state.names_unsynced = true);
        match self.disk.remove(path.as_str()).map_err(|error| (error.kind(), error)) {
            Ok(()) | Err((std::io::ErrorKind::NotFound, _)) => Ok(()),
            Err((_, error)) => {
                let error = DiskError::new("remove", path.as_str())(error);
                if !error.may_pass() {
                    return Err(error.into());
                }
                tracing::warn!(%error, "a file that was begun stays until its object is applied");
                Ok(())
            }
        }
    }
}

/// What was captured, and nothing in every other block: what was there before is gone.
fn with_erasure(captured: &Captured, erased: Stamp) -> Vec<(u32, Change)> {
    let mut written = captured.changes.iter().peekable();
    let hole = match captured.is_replicated {
        true => Change::Never,
        false => Change::Hole { version: erased.version },
    };
    (0..BLOCKS_PER_OBJECT)
        .map(|block| written.next_if(|(next, _)| *next == block).cloned().unwrap_or((block, hole.clone())))
        .collect()
}
