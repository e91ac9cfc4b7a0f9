//! A log that is damaged: what can be read of it is there, and whom the rest concerns is told until somebody knows.

use std::sync::Arc;

use huntaway_replica::{Entry, Outcome};
use huntaway_wire::{Partition, Version};

use super::{known, oid, partition, version, write};
use crate::disk::{Crash, Disk, Open, SimulatedDisk};
use crate::wal::Lsn;
use crate::{LogError, PlantedBug, Store, StoreOptions};

/// Blocks of each write: so many that a segment has a few of them.
const BLOCKS: usize = 200;

const PARTITIONS: u16 = 3;

/// One that has nothing in the log.
const OTHER: u16 = 9;

fn open_with(disk: &Arc<SimulatedDisk>, planted: Option<PlantedBug>) -> Store<SimulatedDisk> {
    let options = StoreOptions { opens_damaged_log: true, wal_bytes: 30 << 20, planted, ..super::options() };
    Store::open(disk.clone(), options).unwrap()
}

fn open(disk: &Arc<SimulatedDisk>) -> Store<SimulatedDisk> {
    open_with(disk, None)
}

/// A record of the log: a write of an object of its own.
#[derive(Debug, Clone, Copy)]
struct Place {
    partition: Partition,
    index: u32,
    segment: u64,
    /// Where in the segment's file.
    offset: u64,
}

impl Place {
    fn version(&self) -> Version {
        version(1, self.index + 1)
    }

    /// Whether what it wrote is there; otherwise nothing is.
    fn is_in(&self, store: &Store<SimulatedDisk>) -> bool {
        let Outcome::Blocks(blocks) = store.read_blocks(self.partition, oid(self.index), 0..BLOCKS as u32)
        else {
            panic!("{self:?} cannot be read")
        };
        let are = |version| blocks.iter().all(|stored| stored.version == version);
        assert!(are(self.version()) || are(Version::NEVER), "{self:?}");
        are(self.version())
    }
}

/// A log of three segments, all of it on stable storage.
fn log() -> (SimulatedDisk, Vec<Place>) {
    let disk = Arc::new(SimulatedDisk::new(1 << 30));
    let store = open(&disk);
    let (mut places, mut segment) = (Vec::new(), 1);
    for index in 0..14 {
        let partition = partition(index as u16 % PARTITIONS);
        let begins = store.wal.written();
        let blocks = vec![Some(index as u8 + 1); BLOCKS];
        store.log_entry(partition, &write(version(1, index + 1), index, 0, &blocks)).unwrap();
        let end = store.wal.written();
        let last_byte = store.wal.files().find(Lsn(end.0 - 1)).unwrap().1;
        let offset = last_byte + 1 - (end.0 - begins.0);
        segment += u64::from(offset == 4096 && index > 0);
        places.push(Place { partition, index, segment, offset });
    }
    assert_eq!(segment, 3);
    store.sync().unwrap();
    drop(store);
    disk.crash(Crash::Process, 0);
    (disk.copy(), places)
}

fn path(segment: u64) -> String {
    format!("wal/{segment:016x}")
}

/// Whose log is damaged.
fn told(store: &Store<SimulatedDisk>) -> Vec<u16> {
    let is_told = |number: &u16| store.is_log_damaged(partition(*number));
    (0..PARTITIONS).chain([OTHER]).filter(is_told).collect()
}

/// Opens the store again and again: what `is_lost` is not there, all the rest is, and `whose` are told until that is known.
fn check(disk: &Arc<SimulatedDisk>, places: &[Place], is_lost: impl Fn(&Place) -> bool, whose: &[u16]) {
    let look = |store: &Store<SimulatedDisk>, context: &str| {
        for place in places {
            assert_eq!(place.is_in(store), !is_lost(place), "{context}: {place:?}");
        }
    };
    for crash in [Crash::Process, Crash::Power] {
        let store = open(disk);
        assert_eq!(told(&store), whose);
        look(&store, "opened");
        // The log goes on, and is released but for what is damaged.
        for number in 0..PARTITIONS {
            store.log_entry(partition(number), &known(&[])).unwrap();
        }
        store.sync().unwrap();
        store.apply().unwrap();
        assert!(!store.has_unapplied());
        look(&store, "applied");
        drop(store);
        disk.crash(crash, 3);
    }
    let store = open(disk);
    assert_eq!(told(&store), whose);
    store.log_damage_is_known();
    for number in 0..PARTITIONS {
        store.log_entry(partition(number), &known(&[])).unwrap();
    }
    store.sync().unwrap();
    store.apply().unwrap();
    drop(store);
    disk.crash(Crash::Power, 5);
    let store = open(disk);
    assert_eq!(told(&store), [0; 0]);
    look(&store, "released");
}

#[test]
fn a_flipped_bit_loses_one_record_and_concerns_whose_it_was() {
    let (disk, places) = log();
    for (number, damaged) in places.iter().enumerate() {
        // In the header, in the table, in the data: which of them it is, is told by the header alone.
        let at = [9, 80, 7000][number % 3];
        let whose = if at == 9 { vec![0, 1, 2, OTHER] } else { vec![damaged.partition.value()] };
        let disk = Arc::new(disk.copy());
        assert!(disk.flip(&path(damaged.segment), damaged.offset + at, 4));
        check(&disk, &places, |place| place.index == damaged.index, &whose);
    }
}

#[test]
fn several_records_can_be_damaged() {
    let (disk, places) = log();
    let disk = Arc::new(disk);
    for index in [0, 4, 5, 13] {
        let Place { segment, offset, .. } = places[index];
        assert!(disk.flip(&path(segment), offset + 4096, 1));
    }
    check(&disk, &places, |place| [0, 4, 5, 13].contains(&place.index), &[0, 1, 2]);
}

#[test]
fn a_segment_that_is_cut_or_has_no_header_loses_what_is_behind() {
    let (disk, places) = log();
    for segment in 1..=3 {
        for length in [0, 20, 4096, 5000, 1 << 20] {
            let disk = Arc::new(disk.copy());
            let file = disk.open(&path(segment), Open::Existing).unwrap();
            disk.set_length(&file, length).unwrap();
            disk.sync_data(&file).unwrap();
            let end = |place: &Place| place.offset + 200 * 4096;
            // Only the header of the last record is left.
            let whose: &[u16] = if (segment, length) == (3, 1 << 20) { &[1] } else { &[0, 1, 2, OTHER] };
            check(&disk, &places, |place| place.segment == segment && end(place) > length, whose);
        }
        let disk = Arc::new(disk.copy());
        assert!(disk.flip(&path(segment), 20, 1));
        check(&disk, &places, |place| place.segment == segment, &[0, 1, 2, OTHER]);
    }
}

#[test]
fn a_log_of_which_nothing_is_left_begins_anew() {
    for is_cut in [false, true] {
        let disk = Arc::new(SimulatedDisk::new(1 << 30));
        let store = open(&disk);
        store.log_entry(partition(0), &write(version(1, 1), 0, 0, &[Some(1)])).unwrap();
        store.sync().unwrap();
        drop(store);
        disk.crash(Crash::Process, 0);
        if is_cut {
            let file = disk.open(&path(1), Open::Existing).unwrap();
            disk.set_length(&file, 0).unwrap();
        } else {
            assert!(disk.flip(&path(1), 20, 1));
        }
        for _ in 0..2 {
            let store = open(&disk);
            assert_eq!(told(&store), [0, 1, 2, OTHER]);
            store.log_entry(partition(0), &write(version(2, 1), 0, 1, &[Some(2)])).unwrap();
            let Outcome::Blocks(blocks) = store.read_blocks(partition(0), oid(0), 0..2) else { panic!() };
            assert_eq!((blocks[0].version, blocks[1].version), (Version::NEVER, version(2, 1)));
            drop(store);
            disk.crash(Crash::Process, 0);
        }
    }
}

#[test]
fn what_was_never_synced_is_no_damage() {
    let (disk, places) = log();
    let disk = Arc::new(disk);
    let store = open(&disk);
    let last = Place { partition: partition(0), index: 20, segment: 3, offset: 0 };
    store.log_entry(last.partition, &write(last.version(), 20, 0, &[Some(7); BLOCKS])).unwrap();
    drop(store);
    for seed in 0..8 {
        let disk = Arc::new(disk.copy());
        disk.crash(Crash::Power, seed);
        let store = open(&disk);
        assert_eq!(told(&store), [0; 0]);
        assert!(places.iter().all(|place| place.is_in(&store)));
        let _ = last.is_in(&store);
    }
}

#[test]
fn what_the_disk_cannot_read_is_missing() {
    let (disk, places) = log();
    // In the record's data; its header; a segment's header.
    for (spoilt, at) in [(4, 9000), (5, 0), (13, 20000)] {
        let disk = Arc::new(disk.copy());
        let Place { segment, offset, partition, .. } = places[spoilt];
        assert!(disk.spoil(&path(segment), offset + at));
        let page = (offset + at) / 4096;
        let end = |place: &Place| place.offset + 56 + 900 + 200 * 4096;
        let is_lost = |place: &Place| {
            place.segment == segment && (place.offset / 4096..=end(place) / 4096).contains(&page)
        };
        let lost: Vec<_> = places.iter().filter(|place| is_lost(place)).collect();
        let whose = if at > 0 { vec![partition.value()] } else { vec![0, 1, 2, OTHER] };
        assert!(lost.len() == if at > 0 { 1 } else { 2 }, "{lost:?}");
        check(&disk, &places, is_lost, &whose);
    }
    let disk = Arc::new(disk.copy());
    assert!(disk.spoil(&path(2), 0));
    check(&disk, &places, |place| place.segment == 2, &[0, 1, 2, OTHER]);
    // A single copy is not opened, for it may be readable another time.
    let (disk, _) = log();
    assert!(disk.spoil(&path(2), 9000));
    assert!(Store::open(Arc::new(disk), super::options()).is_err());
}

/// What the log lacks was the partition's: it explains its object file, and that there is no index yet.
#[test]
fn indexes_are_made_good_before_what_the_log_lacks_is_forgotten() {
    for crash in [Crash::Process, Crash::Power] {
        let disk = Arc::new(SimulatedDisk::new(1 << 30));
        let store = open(&disk);
        let entry = write(version(1, 1), 1, 0, &[Some(1)]);
        store.log_entry(partition(1), &entry).unwrap();
        store.sync().unwrap();
        // The process dies when the object has its file, and before the index has it.
        let died = (0..60).find(|count| {
            let disk = Arc::new(disk.copy());
            let store = open(&disk);
            disk.die_after(*count);
            let _ = store.apply();
            let files = disk.files();
            disk.is_dead() && files.iter().any(|path| path.ends_with(&oid(1).to_string()))
        });
        drop(store);
        disk.crash(Crash::Process, 0);
        let store = open(&disk);
        disk.die_after(died.unwrap());
        let _ = store.apply();
        drop(store);
        disk.crash(Crash::Process, 0);
        assert!(disk.flip(&path(1), 4096 + 9, 1));
        // Nobody looks at the partition.
        let store = open(&disk);
        store.log_damage_is_known();
        store.apply().unwrap();
        drop(store);
        disk.crash(crash, 3);
        let store = open(&disk);
        assert_eq!(told(&store), [0; 0]);
        store.log_entry(partition(1), &entry).unwrap();
    }
}

/// What the log has of a partition whose index is damaged is kept until that is known, and no longer.
#[test]
fn a_damaged_index_does_not_keep_the_log_when_it_is_known() {
    for has_objects_in_log in [false, true] {
        let disk = Arc::new(SimulatedDisk::new(1 << 30));
        let store = open(&disk);
        store.log_entry(partition(1), &write(version(1, 1), 0, 0, &[Some(1)])).unwrap();
        store.apply().unwrap();
        store.log_entry(partition(1), &known(&[])).unwrap();
        if has_objects_in_log {
            store.log_entry(partition(1), &write(version(1, 2), 1, 0, &[Some(1)])).unwrap();
        }
        store.sync().unwrap();
        store.wal.release(store.trails.needed(store.wal.durable()).unwrap()).unwrap();
        store.checkpoint().unwrap();
        drop(store);
        disk.crash(Crash::Process, 0);
        assert!(disk.flip("objects/001.1/index", 3, 1));
        for is_known in [false, false, true] {
            let store = open(&disk);
            assert_eq!(told(&store), [1], "so somebody is told, in the next process too");
            assert_eq!(store.log_entry(partition(1), &known(&[])), Err(LogError::DamagedIndex));
            store.sync().unwrap();
            store.apply().unwrap();
            assert!(store.wal_bytes() > 0);
            if is_known {
                store.log_damage_is_known();
                store.log_entry(partition(1), &Entry::Forget).unwrap();
                store.sync().unwrap();
                store.apply().unwrap();
                assert_eq!(store.wal_bytes(), 0);
            }
            drop(store);
            disk.crash(Crash::Process, 0);
        }
    }
}

#[test]
fn a_record_before_others_is_no_torn_tail_if_only_the_process_died() {
    for (boot, whose) in [(1, vec![1]), (2, vec![])] {
        let disk = Arc::new(SimulatedDisk::new(1 << 30));
        let open = |boot| {
            let boot = crate::BootId([boot; 16]);
            let options = StoreOptions { opens_damaged_log: true, boot, ..super::options() };
            Store::open(disk.clone(), options).unwrap()
        };
        let store = open(1);
        (0..3).for_each(|index| {
            let entry = write(version(1, 1), index, 0, &[Some(1)]);
            store.log_entry(partition(index as u16), &entry).unwrap();
        });
        let end = store.wal.written().0;
        drop(store);
        disk.crash(Crash::Process, 0);
        let file = disk.open(&path(1), Open::Existing).unwrap();
        disk.write_at(&file, &[std::io::IoSlice::new(&[9])], 4096 + end / 3 + 1000).unwrap();
        assert_eq!(told(&open(boot)), whose);
    }
}

/// What an entry says is under a checksum, byte by byte: none that was changed is taken for one.
#[test]
fn nothing_of_an_entry_can_change_unseen() {
    let disk = Arc::new(SimulatedDisk::new(1 << 30));
    let store = open(&disk);
    let entries: Vec<Entry> = super::all_kinds();
    for entry in &entries {
        store.log_entry(partition(1), entry).unwrap();
    }
    store.sync().unwrap();
    let end = store.wal.written().0;
    drop(store);
    disk.crash(Crash::Process, 0);
    // Not each byte of a block: that is for those who read blocks.
    for at in (4096..4096 + end).filter(|at| at % 4096 < 400) {
        let disk = Arc::new(disk.copy());
        assert!(disk.flip(&path(1), at, (at % 8) as u32));
        let store = open(&disk);
        // The bytes that fill up to the next record are of no account.
        let is_told = store.is_log_damaged(partition(1));
        let is_filling = !is_told && store.wal.holes().is_empty();
        assert!(is_told || is_filling, "byte {at}");
        if is_filling {
            let recovered = store.recovered(partition(1));
            let mut expected = huntaway_replica::Recovered::default();
            entries.iter().for_each(|entry| expected.take(entry));
            assert_eq!(super::knowledge(recovered), super::knowledge(expected), "byte {at}");
        }
    }
}

#[test]
fn the_planted_bug_is_one() {
    let (disk, places) = log();
    let disk = Arc::new(disk);
    assert!(disk.flip(&path(places[3].segment), places[3].offset + 9, 1));
    assert_eq!(told(&open_with(&disk, Some(PlantedBug::LogDamageNotTold))), [0; 0]);
}
