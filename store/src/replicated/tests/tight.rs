//! A log at its bound, on a disk that others have filled.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Place, known, options, partition, version, write};
use crate::disk::{Disk, Open, SimulatedDisk};
use crate::{Store, StoreOptions};

const MIB: u64 = 1 << 20;

#[test]
fn what_has_begun_finds_room_in_a_log_that_takes_no_more_and_then_it_is_used_again() {
    for segments in [3, 4] {
        let disk = Arc::new(SimulatedDisk::new(96 * MIB));
        let options = StoreOptions {
            wal_bytes: segments * 8 * MIB,
            wal_segment_bytes: 8 * MIB,
            opens_damaged_log: true,
            ..options()
        };
        let place = Place { store: Store::open(disk.clone(), options).unwrap(), disk };
        let store = &place.store;
        let all = [0, 1, 2].map(partition);
        // Each has its object, and the log its segments.
        for (seq, partition) in (1..=12).zip(all.into_iter().cycle()) {
            store.log_entry(partition, &write(version(1, seq), 0, 0, &[Some(1); 512])).unwrap();
        }
        let tell = |at: &_| assert!(store.log_entry(*at, &known(&[])).is_ok());
        all.iter().for_each(tell);
        store.sync().unwrap();
        store.apply().unwrap();
        let left_bytes = store.available(true).available_bytes;
        let file = place.disk.open("others", Open::New).unwrap();
        place.disk.allocate(&file, 0, left_bytes / 4096 * 4096).unwrap();
        store.space();
        let mut was_tight = 0;
        for (seq, partition) in (13..=120).zip(all.into_iter().cycle()) {
            let takes_more = store.takes_more(2 * MIB + MIB / 4);
            store.log_entry(partition, &write(version(1, seq), 0, 0, &[Some(2); 512])).unwrap();
            if !takes_more {
                was_tight += 1;
                let in_the_way = store.in_the_way();
                assert!(!in_the_way.is_empty());
                in_the_way.iter().for_each(tell);
                store.want_room();
                assert!(store.apply_is_due());
                assert_eq!(store.apply().unwrap().objects_without_room, 0);
                assert!(store.takes_more(4 * MIB + MIB / 4), "{seq}");
            }
        }
        assert!(was_tight >= 8, "{was_tight}");
    }
}

/// It was rung for a write that the application then under way took in: the next write rings again.
#[test]
fn whoever_rests_is_rung_for_the_next_write() {
    let disk = Arc::new(SimulatedDisk::new(64 * MIB));
    let store = Store::open(disk, options()).unwrap();
    let rung = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&rung);
    store.on_work(move |_| _ = count.fetch_add(1, Ordering::Relaxed));
    store.log_entry(partition(0), &write(version(1, 1), 0, 0, &[Some(1)])).unwrap();
    store.apply().unwrap();
    store.ring_unapplied();
    assert!(store.rests());
    let before = rung.load(Ordering::Relaxed);
    store.log_entry(partition(0), &write(version(1, 2), 0, 0, &[Some(2)])).unwrap();
    assert!(rung.load(Ordering::Relaxed) > before);
    assert!(!store.rests());
}
