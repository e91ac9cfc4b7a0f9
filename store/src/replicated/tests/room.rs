//! What entries take of a disk that is almost full.

use std::sync::Arc;

use super::{Place, copied, copy, options, partition, replace, reserve, version, write};
use crate::disk::{Disk, Open, SimulatedDisk};
use crate::{LogError, Store};

/// A store on a disk with so much left.
fn almost_full(prepare: impl FnOnce(&Place), left_bytes: u64) -> Place {
    let disk = Arc::new(SimulatedDisk::new(64 << 20));
    let place = Place { store: Store::open(disk.clone(), options()).unwrap(), disk };
    // The log has all of its segments.
    (0..3).for_each(|index| place.log(&write(version(1, 1), index, 0, &[Some(1); 1000])));
    (0..3).for_each(|index| place.log(&super::Entry::Remove { oid: super::oid(index) }));
    prepare(&place);
    place.log(&super::known(&[]));
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
    let set_aside = copied(1024, huntaway_replica::SET_ASIDE_VERSION, None, false);
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
