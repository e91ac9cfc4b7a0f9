//! Applying to one partition: files that go, files that change, the index.

use std::io;
use std::sync::{Arc, Mutex};

use huntaway_wire::{BLOCK_SIZE_BYTES, Broken, Error, Partition, Refusal};

use super::object::{Changed, Plan};
use super::{Applied, ApplyError, Batch};
use crate::disk::Disk;
use crate::error::DiskError;
use crate::index::{IndexLog, Item, State};
use crate::locking::lock;
use crate::memory::Captured;
use crate::object::{Change, FILE_BYTES, ObjectPath};
use crate::partition::{OBJECTS, PartitionState};
use crate::store::Store;

/// The partition's files.
struct Place {
    directory: Arc<str>,
    index: Arc<Mutex<IndexLog>>,
}

impl<D: Disk> Store<D> {
    /// Applies a batch to its partition. What the disk has no room for is counted and stays where it is.
    pub(super) fn apply_partition(&self, batch: Batch, applied: &mut Applied) -> Result<(), ApplyError> {
        let Some(place) = self.prepare_partition(&batch, applied)? else { return Ok(()) };
        let (mut gone, mut removed, mut changed) = (Vec::new(), Vec::new(), Vec::new());
        for captured in batch.objects {
            match self.plan_object(batch.partition, &place.directory, &captured) {
                Ok(Plan::Nothing) => gone.push(captured),
                Ok(Plan::Remove) => removed.push(captured),
                Ok(Plan::Change(target)) => changed.push(Changed { captured, target }),
                Err(error) if error.may_pass() => self.put_back(batch.partition, &captured, applied),
                // Until the object is mended, the log has what was written to it since.
                Err(ApplyError::Object(_)) if captured.is_replicated && !self.is_log_filling() => {
                    lock(&self.suspects).insert((batch.partition, captured.oid));
                    self.put_back(batch.partition, &captured, applied);
                }
                Err(ApplyError::Object(_)) => self.give_up(batch.partition, &captured),
                Err(error) => return Err(error),
            }
        }
        // A process that died may have left their files.
        self.remove_files(batch.partition, &place, gone, applied)?;
        self.remove_objects(batch.partition, &place, removed, applied)?;
        self.change_objects(batch.partition, &place, changed, applied)
    }

    /// Makes sure of what a process that died left in the partition's directory; `None` when that is not possible now, or
    /// there is no directory.
    fn prepare_partition(&self, batch: &Batch, applied: &mut Applied) -> Result<Option<Place>, ApplyError> {
        let look = |state: &mut PartitionState| {
            let place = Place { directory: state.directory.clone(), index: state.index.log() };
            (place, state.has_directory, state.is_inherited)
        };
        let Some((place, has_directory, is_inherited)) = self.with_loaded(batch.partition, look) else {
            return Ok(None);
        };
        let is_prepared = match (has_directory, is_inherited) {
            (false, _) => false,
            (true, true) => match self.make_sure(&place) {
                Err(error) if error.may_pass() => false,
                made_sure => made_sure.map(|()| true)?,
            },
            (true, false) => return Ok(Some(place)),
        };
        if !is_prepared {
            batch.objects.iter().for_each(|captured| self.put_back(batch.partition, captured, applied));
            if has_directory && batch.objects.is_empty() {
                // The log stays until its index is made good.
                applied.objects_without_room += 1;
                self.dirty.insert(batch.partition);
            }
            return Ok(None);
        }
        self.with_loaded(batch.partition, |state| state.is_inherited = false);
        Ok(Some(place))
    }

    fn make_sure(&self, place: &Place) -> Result<(), ApplyError> {
        let directory = &place.directory;
        self.disk.sync_dir(directory).map_err(DiskError::new("sync", directory))?;
        Ok(lock(&place.index).make_sure(&*self.disk).map_err(DiskError::new("open or sync", directory))?)
    }

    /// Makes the directories that partitions lack, all at once. A partition for which that is not possible now is left
    /// without.
    pub(super) fn make_directories(&self, batches: &[Batch]) -> Result<(), ApplyError> {
        let mut made = Vec::new();
        for partition in batches.iter().map(|batch| batch.partition) {
            let look = |state: &mut PartitionState| (!state.has_directory).then(|| state.directory.clone());
            let Some(directory) = self.with_loaded(partition, look).flatten() else { continue };
            match self.disk.create_dir(&directory).map_err(DiskError::new("create", &directory)) {
                Err(error) if error.may_pass() => {}
                result => result.map(|()| made.push(partition))?,
            }
        }
        if made.is_empty() {
            return Ok(());
        }
        match self.disk.sync_dir(OBJECTS).map_err(DiskError::new("sync", OBJECTS)) {
            Err(error) if error.may_pass() => return Ok(()),
            result => result?,
        }
        for partition in made {
            self.with_loaded(partition, |state| state.has_directory = true);
        }
        Ok(())
    }

    /// Index first: a crash then leaves a file that counts for nothing, not an object without its file. Memory says that
    /// the objects are empty until they are gone from the index.
    fn remove_objects(
        &self,
        partition: Partition,
        place: &Place,
        removed: Vec<Captured>,
        applied: &mut Applied,
    ) -> Result<(), ApplyError> {
        if removed.is_empty() {
            return Ok(());
        }
        let item = |captured: &Captured| Item {
            oid: captured.oid,
            version: captured.removed_version(),
            state: State::Removed,
        };
        let items: Vec<_> = removed.iter().map(item).collect();
        if let Err(error) = self.append_to_index(partition, place, &items) {
            if !error.may_pass() {
                return Err(error);
            }
            removed.iter().for_each(|captured| self.put_back(partition, captured, applied));
            return Ok(());
        }
        self.with_loaded(partition, |state| {
            state.index.publish(&items);
            removed.iter().for_each(|captured| self.objects.remove((partition, captured.oid)));
        });
        applied.objects += removed.len() as u64;
        applied.blocks += removed.iter().map(|captured| captured.changes.len() as u64).sum::<u64>();
        self.remove_files(partition, place, removed, applied)
    }

    /// Removes the files, if there are any, of objects that are not in the index, and forgets them. On stable storage: what
    /// a power loss brought back when the log no longer tells of it, would take its space for ever.
    fn remove_files(
        &self,
        partition: Partition,
        place: &Place,
        gone: Vec<Captured>,
        applied: &mut Applied,
    ) -> Result<(), ApplyError> {
        if gone.is_empty() {
            return Ok(());
        }
        let mut is_changed = self.with_loaded(partition, |state| state.names_unsynced).unwrap_or_default();
        for captured in &gone {
            let path = ObjectPath::new(&place.directory, captured.oid);
            match self.disk.remove(path.as_str()) {
                Ok(()) => is_changed = true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(DiskError::new("remove", path.as_str())(error).into()),
            }
        }
        if is_changed {
            match self.disk.sync_dir(&place.directory).map_err(DiskError::new("sync", &place.directory)) {
                // A power loss may bring them back: their tombstones and the log have to stay until then.
                Err(error) if error.may_pass() => {
                    self.with_loaded(partition, |state| {
                        state.names_unsynced = true;
                        let removed = gone.iter().map(|captured| (captured.oid, captured.removed_version()));
                        removed.for_each(|(oid, version)| state.index.may_come_back(oid, version));
                    });
                    gone.iter().for_each(|captured| self.put_back(partition, captured, applied));
                    return Ok(());
                }
                result => result?,
            }
            self.with_loaded(partition, |state| state.names_unsynced = false);
        }
        self.with_loaded(partition, |state| {
            gone.iter().for_each(|captured| state.index.forget_leftover(captured.oid));
        });
        gone.iter().for_each(|captured| self.settle(partition, captured));
        Ok(())
    }

    /// Files first, then their names, then the index: what is in the index has a sound file.
    fn change_objects(
        &self,
        partition: Partition,
        place: &Place,
        changed: Vec<Changed<D>>,
        applied: &mut Applied,
    ) -> Result<(), ApplyError> {
        let Some(changed) = self.lower_in_index(partition, place, changed, applied)? else { return Ok(()) };
        let log = self.wal.files();
        let mut done = Vec::with_capacity(changed.len());
        for plan in changed {
            match self.change_object(&log, &plan) {
                Ok(()) => done.push(plan),
                Err(error) if error.may_pass() => {
                    self.with_loaded(partition, |state| state.memory.doubt(plan.captured.oid));
                    self.unmake_object(partition, &plan)?;
                    self.put_back(partition, &plan.captured, applied);
                }
                Err(error) => return Err(error),
            }
        }
        let new = done.iter().filter(|plan| plan.target.is_new).map(|plan| &plan.captured);
        let items: Vec<_> = new
            .map(|captured| Item { oid: captured.oid, version: captured.version, state: State::Present })
            .collect();
        if !items.is_empty()
            && let Err(error) = self.append_new(partition, place, &items)
        {
            if !error.may_pass() {
                return Err(error);
            }
            let (new, old): (Vec<_>, Vec<_>) = done.into_iter().partition(|plan| plan.target.is_new);
            for plan in new {
                self.unmake_object(partition, &plan)?;
                self.put_back(partition, &plan.captured, applied);
            }
            self.publish(partition, &[], old, applied);
            return Ok(());
        }
        self.publish(partition, &items, done, applied);
        Ok(())
    }

    /// Makes the index say of objects no more than will be in their files; `None` if there is no room for that now.
    fn lower_in_index(
        &self,
        partition: Partition,
        place: &Place,
        changed: Vec<Changed<D>>,
        applied: &mut Applied,
    ) -> Result<Option<Vec<Changed<D>>>, ApplyError> {
        if !changed.iter().any(|plan| plan.captured.is_replicated) {
            return Ok(Some(changed));
        }
        let lowered = |state: &mut PartitionState| -> Vec<Item> {
            let lowered =
                changed.iter().filter_map(|plan| plan.lowered(state.index.version(plan.captured.oid)?));
            lowered.collect()
        };
        let items = self.with_loaded(partition, lowered).unwrap_or_default();
        #[cfg(feature = "planted-bugs")]
        let items = if self.options.has(crate::PlantedBug::IndexNotLowered) { Vec::new() } else { items };
        if !items.is_empty() {
            match self.append_to_index(partition, place, &items) {
                Err(error) if error.may_pass() => {
                    for plan in changed {
                        self.unmake_object(partition, &plan)?;
                        self.put_back(partition, &plan.captured, applied);
                    }
                    return Ok(None);
                }
                appended => appended?,
            }
            self.with_loaded(partition, |state| state.index.publish(&items));
        }
        Ok(Some(changed))
    }

    /// Makes what was applied seen, and forgets it in memory, in one step.
    fn publish(&self, partition: Partition, items: &[Item], done: Vec<Changed<D>>, applied: &mut Applied) {
        for plan in &done {
            let data =
                plan.changes().iter().filter(|(_, change)| matches!(change, Change::Data { .. })).count()
                    as u64;
            applied.objects += 1;
            applied.blocks += plan.changes().len() as u64;
            applied.bytes += data * u64::from(BLOCK_SIZE_BYTES);
            self.metrics.applied_blocks.inc_by(plan.changes().len() as u64);
            self.metrics.applied_bytes.inc_by(data * u64::from(BLOCK_SIZE_BYTES));
        }
        self.with_loaded(partition, |state| {
            state.index.publish(items);
            for plan in &done {
                plan.target.object.publish(plan.changes(), plan.target.reserved);
                if plan.target.is_new {
                    self.objects.insert((partition, plan.captured.oid), plan.target.object.clone());
                }
                state.memory.forget(&plan.captured);
            }
        });
        done.iter().for_each(|plan| self.room.keep(plan.captured.promised_bytes));
    }

    /// Forgets what needs nothing more.
    fn settle(&self, partition: Partition, captured: &Captured) {
        self.with_loaded(partition, |state| state.memory.forget(captured));
        self.room.give_back(captured.promised_bytes);
    }

    /// Drops what was to be applied to an object whose file is damaged. Whatever is asked of it is answered so, until it
    /// is removed; nothing else is to suffer for it.
    fn give_up(&self, partition: Partition, captured: &Captured) {
        let (oid, blocks) = (captured.oid, captured.changes.len());
        let first_block = captured.changes.first().map(|(block, _)| *block);
        tracing::error!(
            %partition, %oid, blocks, first_block, erased = captured.erased.is_some(),
            "the file of an object is damaged: acknowledged changes of it that were not applied yet are lost"
        );
        self.refuse_reservers(captured, &Broken::DamagedObject { oid }.into());
        self.settle(partition, captured);
    }

    /// Leaves in memory what the disk had no room for. A reservation is given up: nobody was told that it is there.
    fn put_back(&self, partition: Partition, captured: &Captured, applied: &mut Applied) {
        applied.objects_without_room += 1;
        self.with_loaded(partition, |state| {
            // That of a replica has a version: there will be room.
            if let Some((_, true)) = captured.reservation.filter(|_| !captured.is_replicated) {
                state.memory.drop_reservation(captured);
                self.refuse_reservers(captured, &Refusal::NoSpace { needed_bytes: FILE_BYTES }.into());
            }
            if state.memory.object(captured.oid).is_some() {
                state.memory.promise(captured.oid, captured.promised_bytes);
                self.dirty.insert(partition);
            } else {
                self.room.give_back(captured.promised_bytes);
            }
        });
    }

    /// Tells all who wait for the object's reservation that it comes to nothing.
    fn refuse_reservers(&self, captured: &Captured, error: &Error) {
        captured.reservers.iter().for_each(|lsn| self.waiters.not_applied(*lsn, error));
    }

    fn append_new(&self, partition: Partition, place: &Place, items: &[Item]) -> Result<(), ApplyError> {
        let path = format!("{}/index", place.directory);
        #[cfg(feature = "planted-bugs")]
        if self.options.has(crate::PlantedBug::NamesNotSynced) {
            return self.append_to_index(partition, place, items);
        }
        lock(&place.index)
            .sync_names(&*self.disk)
            .map_err(DiskError::new("make or sync the name of", &path))?;
        self.append_to_index(partition, place, items)
    }

    fn append_to_index(&self, partition: Partition, place: &Place, items: &[Item]) -> Result<(), ApplyError> {
        let path = format!("{}/index", place.directory);
        let mut log = lock(&place.index);
        #[cfg(feature = "planted-bugs")]
        let items = &self.indexed_items(items)[..];
        log.append(&*self.disk, items).map_err(DiskError::new("append to", &path))?;
        lock(&self.known).add(partition, log.epoch());
        let live = self.with_loaded(partition, |state| state.index.len()).unwrap_or_default();
        if log.is_wasteful(live + items.len()) {
            let live =
                self.with_loaded(partition, |state| state.index.items_after(items)).unwrap_or_default();
            match log.compact(&*self.disk, &live).map_err(DiskError::new("replace", &path)) {
                // What was appended is in the old file, which is as good.
                Err(error) if error.may_pass() => {
                    tracing::warn!(%partition, %error, "cannot make the index of a partition smaller now");
                }
                result => result?,
            }
        }
        Ok(())
    }
}
