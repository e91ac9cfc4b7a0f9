//! Reads while entries are logged and applied: each of one moment.

use std::io::IoSlice;
use std::sync::atomic::{AtomicBool, Ordering};

use huntaway_replica::{CopiedBlock, Entry, Outcome};
use huntaway_wire::Version;

use super::{Place, copied, copy, known, oid, partition, replace, version};
use crate::LogError;
use crate::disk::{Crash, Disk, Open};

const BLOCKS: u32 = 24;

/// All blocks as of one writing.
fn all_of(number: u32) -> Vec<CopiedBlock> {
    let of = |block| match number % 7 {
        // A hole here and there, at the same places each time.
        0 if block % 5 == 0 => copied(block, version(number, 1), None, false),
        _ => copied(block, version(number, 1), Some(number as u8), false),
    };
    (0..BLOCKS).map(of).collect()
}

#[test]
fn what_replaces_blocks_is_seen_whole_or_not_at_all() {
    let place = Place::new();
    let is_over = AtomicBool::new(false);
    let log = |entry: &Entry| {
        while let Err(error) = place.store.log_entry(partition(0), entry) {
            assert_eq!(error, LogError::Full);
            place.store.log_entry(partition(0), &known(&[])).unwrap();
            place.store.sync().unwrap();
            place.store.apply().unwrap();
        }
    };
    log(&replace(0, &all_of(1)));
    std::thread::scope(|scope| {
        let read = || {
            let (mut reads, mut last) = (0_u32, Version::NEVER);
            while !is_over.load(Ordering::Relaxed) || reads == 0 {
                let Outcome::Blocks(blocks) = place.store.read_blocks(partition(0), oid(0), 0..BLOCKS) else {
                    panic!("a block is damaged")
                };
                let newest = blocks[0].version;
                assert!(newest >= last && blocks.iter().all(|stored| stored.version == newest));
                let Outcome::Verified(verified) = place.store.verify(partition(0), oid(0)) else {
                    panic!("the object is missing")
                };
                assert!(verified.iter().all(|verified| verified.crc.is_some()));
                assert!(verified.iter().all(|one| one.version == verified[0].version));
                (reads, last) = (reads + 1, newest);
            }
        };
        let readers = [scope.spawn(read), scope.spawn(read)];
        for number in 2..300 {
            let blocks = all_of(number);
            log(&if number % 2 == 0 { replace(0, &blocks) } else { copy(0, &blocks) });
            if number % 3 == 0 {
                place.store.apply().unwrap();
            }
        }
        is_over.store(true, Ordering::Relaxed);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
    assert!(place.store.wal.written().0 > 2 * (10 << 20), "the log was used again");
}

/// A replica that did not list it would have others remove what they have of it.
#[test]
fn an_object_that_the_index_has_lost_is_missing_and_listed() {
    let place = Place::new();
    place.log(&replace(0, &all_of(1)));
    place.store.apply().unwrap();
    let copy_of = |from: &str, to: &str| {
        let (from, to) =
            (place.disk.open(from, Open::Existing).unwrap(), place.disk.open(to, Open::New).unwrap());
        let mut bytes = vec![0; 20480];
        assert_eq!(place.disk.read_at(&from, &mut bytes, 0).unwrap(), bytes.len());
        place.disk.write_at(&to, &[IoSlice::new(&bytes)], 0).unwrap();
    };
    copy_of(&place.path(0), &place.path(3));
    let place = place.crash(Crash::Process);
    assert_eq!(place.store.versions(partition(0), oid(3)), Outcome::Missing(Vec::new()));
    let listed =
        |place: &Place| place.objects().into_iter().map(|(index, sum)| (index, sum.is_some())).collect();
    let objects: Vec<_> = listed(&place);
    assert_eq!(objects, [(0, true), (3, false)]);
    for entry in [replace(3, &[]), replace(3, &all_of(2))] {
        place.log(&entry);
        place.store.apply().unwrap();
        let is_there = entry != replace(3, &[]);
        let objects: Vec<_> = listed(&place);
        assert_eq!(objects, if is_there { vec![(0, true), (3, true)] } else { vec![(0, true)] });
    }
}
