//! What entries take of a disk that is almost full.

use std::sync::Arc;

use huntaway_replica::{Entry, SET_ASIDE_VERSION, WHOLE_OBJECT_BYTES};
use huntaway_wire::Partition;

use super::{Place, copied, copy, known, oid, options, partition, replace, reserve, version, write};
use crate::disk::{Disk, Open, SimulatedDisk};
use crate::{LogError, PlantedBug, Store, StoreOptions};

/// A store on a disk with so much left.
fn almost_full(prepare: impl FnOnce(&Place), left_bytes: u64) -> Place {
    let disk = Arc::new(SimulatedDisk::new(64 << 20));
    let place = Place { store: Store::open(disk.clone(), options()).unwrap(), disk };
    // The log has all of its segments.
    (0..3).for_each(|index| place.log(&write(version(1, 1), index, 0, &[Some(1); 1000])));
    (0..3).for_each(|index| place.log(&Entry::Remove { oid: oid(index) }));
    prepare(&place);
    place.log(&known(&[]));
    place.store.sync().unwrap();
    place.store.apply().unwrap();
    let free_bytes = place.disk.space().unwrap().free_bytes;
    let file = place.disk.open("others", Open::New).unwrap();
    place.disk.allocate(&file, 0, free_bytes - left_bytes).unwrap();
    place.store.apply().unwrap();
    place
}

#[test]
fn lessons_about_what_has_its_space_take_none() {
    let place = almost_full(
        |place| {
            place.log(&reserve(5));
            place.log(&write(version(1, 2), 6, 0, &[Some(1); 20]));
        },
        16 << 10,
    );
    let set_aside = copied(1024, SET_ASIDE_VERSION, None, false);
    let mut all: Vec<_> = (0..600).map(|block| copied(block, version(2, 1), Some(2), false)).collect();
    // Into an object for which space is set aside; over what is there; anew, with its space set aside as before.
    place.log(&copy(5, &all));
    place.log(&copy(6, &all[..20]));
    all.push(set_aside);
    place.log(&replace(5, &all));
    for entry in [copy(6, &all[..40]), copy(7, &all[..1]), copy(6, &all[600..])] {
        let refused = place.store.log_entry(partition(0), &entry);
        assert!(matches!(refused, Err(LogError::Full | LogError::NoSpace { .. })), "{refused:?}");
    }
    assert_eq!(place.store.apply().unwrap().objects_without_room, 0);
    assert!(!place.store.has_unapplied());
    assert_eq!(
        place.read(5, 601)[598..],
        [Some((version(2, 1), 2)), Some((version(2, 1), 2)), Some(Default::default())]
    );
    assert_eq!(place.read(6, 20)[19], Some((version(2, 1), 2)));
}

/// A store that was asked what each of many partitions may take, more than there is; then others fill the disk, but for what it
/// has set aside. Returns those that were granted a whole object.
fn granted(planted: Option<PlantedBug>) -> (Place, Vec<Partition>) {
    let disk = Arc::new(SimulatedDisk::new(64 << 20));
    let options = StoreOptions { opens_damaged_log: true, planted, ..options() };
    let place = Place { store: Store::open(disk.clone(), options).unwrap(), disk };
    let mut granted = Vec::new();
    for partition in (0..20).map(partition) {
        let credit = place.store.credit(partition).unwrap();
        assert_eq!(place.store.credit(partition), Ok(credit), "asking again changes nothing");
        assert!(credit.limit_bytes >= WHOLE_OBJECT_BYTES);
        if credit.is_full {
            assert_eq!(credit.space_limit_bytes, 0);
        } else {
            assert!(credit.space_limit_bytes >= WHOLE_OBJECT_BYTES);
            granted.push(partition);
        }
    }
    let left_bytes = place.store.available(true).available_bytes;
    let file = place.disk.open("others", Open::New).unwrap();
    place.disk.allocate(&file, 0, left_bytes / 4096 * 4096).unwrap();
    place.store.space();
    (place, granted)
}

/// What whoever drives replicas does: when there is no room in the log, it is emptied.
fn log(place: &Place, partition: Partition, entry: &Entry) {
    for _ in 0..2 {
        match place.store.log_entry(partition, entry) {
            Err(LogError::Full) => {}
            logged => {
                logged.unwrap();
                return;
            }
        }
        for due in place.store.checkpoints_due() {
            place.store.log_entry(due, &known(&[])).unwrap();
        }
        place.store.sync().unwrap();
        assert_eq!(place.store.apply().unwrap().objects_without_room, 0);
    }
    panic!("the log stays full");
}

#[test]
fn whatever_was_granted_can_be_logged_and_applied() {
    let full = write(version(1, 1), 0, 0, &[Some(1); 1024]);
    for entry in [reserve(0), full] {
        let (place, partitions) = granted(None);
        assert!((8..16).contains(&partitions.len()), "{}", partitions.len());
        let lesson = copy(1, &[copied(0, version(1, 1), Some(1), false)]);
        assert!(place.store.log_entry(partitions[0], &lesson).is_err(), "nothing else takes it");
        for partition in &partitions {
            log(&place, *partition, &entry);
        }
        place.store.sync().unwrap();
        assert_eq!(place.store.apply().unwrap().objects_without_room, 0);
        assert!(!place.store.has_unapplied());
        // What is granted is used up, and there is no more.
        let credit = place.store.credit(partitions[0]).unwrap();
        assert!(credit.is_full && credit.space_limit_bytes == WHOLE_OBJECT_BYTES);
        for partition in &partitions[1..4] {
            log(&place, *partition, &Entry::Remove { oid: oid(0) });
        }
        place.store.apply().unwrap();
        let credit = place.store.credit(partitions[0]).unwrap();
        assert!(!credit.is_full && credit.space_limit_bytes == 2 * WHOLE_OBJECT_BYTES);
    }
}

#[test]
fn what_is_granted_twice_cannot_be_applied() {
    let (place, partitions) = granted(Some(PlantedBug::GrantsCountedTwice));
    for partition in &partitions {
        let _ = place.store.log_entry(*partition, &reserve(0));
    }
    assert!(place.store.apply().unwrap().objects_without_room > 0);
}
