//! The object files that are open, with their tables: bounded, the ones not used for longest leave first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use huntaway_wire::{Oid, Partition};

use super::ObjectFile;
use crate::disk::Disk;
use crate::locking::lock;

/// Which object of which partition.
pub(crate) type ObjectKey = (Partition, Oid);

/// Open object files. There is never more than one [`ObjectFile`] of an object, so that its table has one truth:
/// what somebody else still holds is not let go.
pub(crate) struct ObjectCache<D: Disk> {
    slots: Mutex<Slots<D>>,
    limit: usize,
}

struct Slots<D: Disk> {
    places: HashMap<ObjectKey, usize>,
    slots: Vec<Slot<D>>,
    /// The slot that is looked at next for one to evict.
    hand: usize,
}

struct Slot<D: Disk> {
    key: ObjectKey,
    object: Arc<ObjectFile<D>>,
    used: bool,
}

impl<D: Disk> ObjectCache<D> {
    /// Room for `limit` objects, at least one.
    pub(crate) fn new(limit: usize) -> Self {
        let slots = Slots { places: HashMap::new(), slots: Vec::new(), hand: 0 };
        Self { slots: Mutex::new(slots), limit: limit.max(1) }
    }

    /// The object, if it is open.
    pub(crate) fn find(&self, key: ObjectKey) -> Option<Arc<ObjectFile<D>>> {
        let mut slots = lock(&self.slots);
        let place = *slots.places.get(&key)?;
        let slot = &mut slots.slots[place];
        slot.used = true;
        Some(slot.object.clone())
    }

    /// Takes in an object that was just opened, in place of one of the same name if there is one. The caller holds the
    /// partition's lock since it looked for the object.
    pub(crate) fn insert(&self, key: ObjectKey, object: Arc<ObjectFile<D>>) {
        let mut slots = lock(&self.slots);
        if let Some(&place) = slots.places.get(&key) {
            slots.slots[place] = Slot { key, object, used: true };
            return;
        }
        while slots.slots.len() >= self.limit && slots.evict_one() {}
        let place = slots.slots.len();
        slots.places.insert(key, place);
        slots.slots.push(Slot { key, object, used: true });
    }

    /// Lets go of an object whose file was found to be `found`, unless somebody holds it. The caller holds the partition's lock.
    pub(crate) fn renew(&self, key: ObjectKey, found: Option<Arc<ObjectFile<D>>>) {
        let mut slots = lock(&self.slots);
        let place = slots.places.get(&key).copied();
        match (place, found) {
            (Some(place), _) if Arc::strong_count(&slots.slots[place].object) > 1 => {}
            (Some(place), Some(object)) => slots.slots[place].object = object,
            (Some(place), None) => slots.remove(place),
            // Who asks next opens it.
            (None, _) => {}
        }
    }

    /// Lets go of objects beyond the limit, which there are when all of them were held.
    pub(crate) fn trim(&self) {
        let mut slots = lock(&self.slots);
        while slots.slots.len() > self.limit && slots.evict_one() {}
    }

    /// Lets go of an object whose file is gone.
    pub(crate) fn remove(&self, key: ObjectKey) {
        let mut slots = lock(&self.slots);
        if let Some(&place) = slots.places.get(&key) {
            slots.remove(place);
        }
    }

    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        lock(&self.slots).slots.len()
    }
}

impl<D: Disk> Slots<D> {
    /// Second chance: an object used since the hand last passed stays for another round. False when all are held.
    fn evict_one(&mut self) -> bool {
        for _ in 0..2 * self.slots.len() {
            if self.hand >= self.slots.len() {
                self.hand = 0;
            }
            let slot = &mut self.slots[self.hand];
            // A new holder would have to come through the lock on these slots.
            let held = Arc::strong_count(&slot.object) > 1;
            if !held && !std::mem::take(&mut slot.used) {
                self.remove(self.hand);
                return true;
            }
            self.hand += 1;
        }
        false
    }

    fn remove(&mut self, place: usize) {
        let removed = self.slots.swap_remove(place);
        self.places.remove(&removed.key);
        if let Some(moved) = self.slots.get(place) {
            self.places.insert(moved.key, place);
        }
    }
}

#[cfg(test)]
mod tests {
    use huntaway_wire::{ObjectKind, Vid};

    use super::super::{Header, ObjectPath};
    use super::*;
    use crate::disk::FileDisk;

    fn key(index: u32) -> ObjectKey {
        (Partition::new(0).unwrap(), Oid::new(ObjectKind::Data, Vid::new(1).unwrap(), index))
    }

    fn object(disk: &FileDisk, index: u32) -> Arc<ObjectFile<FileDisk>> {
        let header = Header { oid: key(index).1, reserved: false, sums: None };
        Arc::new(ObjectFile::create(disk, &ObjectPath::new("", header.oid), header).unwrap())
    }

    #[test]
    fn the_least_used_leave_and_the_held_stay() {
        let directory = tempfile::tempdir().unwrap();
        let disk = FileDisk::new(directory.path()).unwrap();
        let cache = ObjectCache::new(2);
        let held = object(&disk, 0);
        cache.insert(key(0), held.clone());
        cache.insert(key(1), object(&disk, 1));
        cache.insert(key(2), object(&disk, 2));
        assert!(cache.find(key(1)).is_none());
        assert!(cache.find(key(0)).is_some() && cache.find(key(2)).is_some());
        drop(held);
        cache.insert(key(3), object(&disk, 3));
        assert_eq!(cache.len(), 2);
        cache.remove(key(3));
        assert!(cache.find(key(3)).is_none());
        assert_eq!(cache.len(), 1);
    }
}
