//! Entries of replicas on a disk that loses power: what is read, what is known, and what of the log is kept.

mod begun_anew;
mod damage;
mod driver;
mod reading;
mod room;
mod tight;

use std::sync::Arc;

use bytes::Bytes;
use huntaway_replica::{
    Block, Change, Completion, CopiedBlock, Entry, Moment, Outcome, Process, Record, Recovered, Replica,
    RequestId, Requests, Stored, Verified,
};
use huntaway_wire::{
    BLOCK_SIZE_BYTES, Durability, Incarnation, NodeId, ObjectKind, Oid, Partition, Version, Vid,
};

use super::meta::{self, Logged};
use crate::disk::{Crash, Disk, SimulatedDisk};
use crate::{LogError, Store, StoreOptions};

fn partition(number: u16) -> Partition {
    Partition::new(number).unwrap()
}

fn oid(index: u32) -> Oid {
    Oid::new(ObjectKind::Data, Vid::new(1).unwrap(), index)
}

fn version(pepoch: u32, seq: u32) -> Version {
    Version { pepoch, seq }
}

fn block(byte: u8) -> Block {
    Block::new(Bytes::from(vec![byte; BLOCK_SIZE_BYTES as usize]))
}

fn record(version: Version, index: u32, change: Change) -> Record {
    let gateway = Process { node: NodeId([9; 16]), incarnation: Incarnation(3) };
    Record {
        version,
        oid: oid(index),
        change,
        completion: Completion::Miscompare { offset: 77 },
        request: Some(RequestId { gateway, number: u64::from(version.seq) }),
        unanswered_from: 2,
        durability: Durability::Stable,
    }
}

fn write(version: Version, index: u32, first_block: u32, blocks: &[Option<u8>]) -> Entry {
    let blocks = blocks.iter().map(|byte| byte.map(block)).collect();
    let record = Arc::new(record(version, index, Change::Write { first_block, blocks }));
    Entry::Write { record, settled: Version::NEVER }
}

fn free(index: u32, runs: &[std::ops::Range<u32>]) -> Entry {
    let record = record(version(1, 9), index, Change::Free { runs: runs.to_vec() });
    let record = Arc::new(Record { request: None, ..record });
    Entry::Write { record, settled: Version::NEVER }
}

fn reserve(index: u32) -> Entry {
    Entry::Write { record: Arc::new(record(version(1, 8), index, Change::Reserve)), settled: Version::NEVER }
}

fn copied(block: u32, version: Version, content: Option<u8>, is_lost: bool) -> CopiedBlock {
    CopiedBlock { block, stored: Stored { version, content: content.map(self::block) }, is_lost }
}

fn copy(index: u32, blocks: &[CopiedBlock]) -> Entry {
    Entry::Copy { oid: oid(index), blocks: Arc::new(blocks.to_vec()) }
}

fn replace(index: u32, blocks: &[CopiedBlock]) -> Entry {
    Entry::Replace { oid: oid(index), blocks: Arc::new(blocks.to_vec()) }
}

fn known(in_doubt: &[Record]) -> Entry {
    let mut requests = Requests::default();
    (5..9).for_each(|seq| requests.add(&record(version(1, seq), 0, Change::Nothing)));
    let in_doubt = in_doubt.iter().cloned().map(Arc::new).collect();
    Entry::Known { requests: Arc::new(requests), settled: version(1, 4), in_doubt }
}

/// What a replica knows that recovered that.
fn knowledge(recovered: Recovered) -> Entry {
    let me = Process { node: NodeId([1; 16]), incarnation: Incarnation(1) };
    Replica::new(partition(0), me, Moment(0), recovered).checkpoint()
}

struct Place {
    disk: Arc<SimulatedDisk>,
    store: Store<SimulatedDisk>,
}

fn options() -> StoreOptions {
    StoreOptions {
        directory: "the disk".into(),
        wal_segment_bytes: 5 << 20,
        wal_bytes: 10 << 20,
        space_reserve_bytes: 0,
        open_objects: 2,
        ..StoreOptions::default()
    }
}

impl Place {
    fn new() -> Self {
        let disk = Arc::new(SimulatedDisk::new(1 << 30));
        let store = Store::open(disk.clone(), options()).unwrap();
        Self { disk, store }
    }

    fn crash(self, crash: Crash) -> Self {
        let Self { disk, store } = self;
        drop(store);
        disk.crash(crash, 7);
        let store = Store::open(disk.clone(), options()).unwrap();
        Self { disk, store }
    }

    fn log(&self, entry: &Entry) {
        self.store.log_entry(partition(0), entry).unwrap();
    }

    fn read(&self, index: u32, blocks: u32) -> Vec<Option<(Version, u8)>> {
        let found = match self.store.read_blocks(partition(0), oid(index), 0..blocks) {
            Outcome::Blocks(blocks) => blocks.into_iter().map(Some).collect(),
            Outcome::Damaged(blocks) => blocks,
            other => panic!("{other:?}"),
        };
        let of = |stored: Stored| (stored.version, stored.content.map_or(0, |block| block.bytes[4000]));
        found.into_iter().map(|stored| stored.map(of)).collect()
    }

    fn objects(&self) -> Vec<(u32, Option<u64>)> {
        let mut all = Vec::new();
        loop {
            let after = all.last().map(|(index, _)| oid(*index));
            match self.store.digests(partition(0), after, 2) {
                Outcome::Digests(page) => {
                    all.extend(page.objects.iter().map(|(oid, sum)| (oid.index(), *sum)));
                    if page.is_last {
                        return all;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn path(&self, index: u32) -> String {
        format!("objects/000.1/{}", oid(index))
    }
}

/// Looks before application, after it, and after either kind of crash.
fn at_all_times(entries: &[Entry], look: impl Fn(&Place)) {
    for crash in [None, Some(Crash::Process), Some(Crash::Power)] {
        for applied in 0..=entries.len() {
            let mut place = Place::new();
            for (number, entry) in entries.iter().enumerate() {
                place.log(entry);
                if number + 1 == applied {
                    place.store.apply().unwrap();
                }
            }
            if let Some(crash) = crash {
                place.store.sync().unwrap();
                place = place.crash(crash);
            }
            look(&place);
            place.store.apply().unwrap();
            assert!(!place.store.has_unapplied());
            look(&place);
            let report = crate::check::check_disk(&*place.disk).unwrap();
            let is_lost = |finding: &crate::check::Finding| {
                matches!(finding.problem, crate::check::Problem::DamagedEntry { .. })
            };
            assert!(report.findings.iter().all(is_lost), "{report:?}");
        }
    }
}

/// Of nine gateways and more, each with as many requests as are remembered at most, there is too much for one record.
#[test]
fn what_is_known_takes_as_many_records_as_it_needs() {
    let mut requests = Requests::default();
    for gateway in 1..=60 {
        let gateway = Process { node: NodeId([gateway; 16]), incarnation: Incarnation(1) };
        requests.trim(gateway, 1);
        // The last one has none.
        let numbers = if gateway.node.0[0] == 60 { 0..0 } else { 1..5000 };
        numbers.for_each(|number| requests.put(RequestId { gateway, number }, Completion::Done));
    }
    let in_doubt = vec![Arc::new(record(version(1, 9), 0, Change::Nothing))];
    let entry = Entry::Known { requests: Arc::new(requests), settled: version(1, 4), in_doubt };
    assert!(meta::encode(&entry).unwrap().len() > 9);
    let place = Place::new();
    place.log(&known(&[]));
    place.log(&entry);
    assert_eq!(place.store.checkpoints_due(), [], "it is told just now");
    let place = place.crash(Crash::Process);
    assert_eq!(knowledge(place.store.recovered(partition(0))), entry);
}

#[test]
fn blocks_have_the_versions_and_states_that_were_logged() {
    let entries = [
        write(version(1, 1), 0, 0, &[Some(1), None, Some(2)]),
        write(version(1, 2), 0, 1, &[Some(3)]),
        copy(0, &[copied(0, Version::NEVER, None, false), copied(3, version(9, 9), Some(4), false)]),
        copy(0, &[copied(3, version(1, 1), None, true), copied(4, version(2, 7), None, false)]),
    ];
    at_all_times(&entries, |place| {
        let expected = [
            Some((Version::NEVER, 0)),
            Some((version(1, 2), 3)),
            Some((version(1, 1), 2)),
            None,
            Some((version(2, 7), 0)),
            Some((Version::NEVER, 0)),
        ];
        assert_eq!(place.read(0, 6), expected);
        let versions = [(1, version(1, 2)), (2, version(1, 1)), (3, version(1, 1)), (4, version(2, 7))];
        assert_eq!(place.store.versions(partition(0), oid(0)), Outcome::Versions(versions.to_vec()));
        let crcs = [Some(block(3).crc), Some(block(2).crc), None, Some(0)];
        let verified = versions.iter().zip(crcs).map(|((block, version), crc)| {
            let (block, version) = (*block, *version);
            Verified { block, version, crc }
        });
        assert_eq!(place.store.verify(partition(0), oid(0)), Outcome::Verified(verified.collect()));
    });
}

#[test]
fn versions_go_down_and_the_object_stays_what_it_is() {
    let entries = [
        write(version(5, 9), 0, 0, &[Some(1), Some(1)]),
        copy(0, &[copied(0, version(5, 3), Some(2), false), copied(1, version(4, 1), None, false)]),
    ];
    at_all_times(&entries, |place| {
        assert_eq!(place.read(0, 2), [Some((version(5, 3), 2)), Some((version(4, 1), 0))]);
        assert_eq!(place.objects().len(), 1);
    });
}

#[test]
fn an_object_of_holes_is_an_object_and_one_that_is_as_never_written_is_none() {
    let never = |block| copied(block, Version::NEVER, None, false);
    let entries = [
        write(version(1, 1), 0, 3, &[None, None]),
        write(version(1, 2), 1, 3, &[Some(1)]),
        write(version(1, 3), 2, 0, &[None]),
        copy(1, &[never(3)]),
        write(version(1, 3), 4, 1, &[Some(1), None, Some(2)]),
        free(4, &[1..3, 3..4]),
        write(version(1, 4), 3, 0, &[Some(7)]),
        Entry::Remove { oid: oid(3) },
    ];
    at_all_times(&entries, |place| {
        assert_eq!(place.objects().iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(place.read(0, 4)[3], Some((version(1, 1), 0)));
    });
}

#[test]
fn sums_do_not_tell_where_blocks_are() {
    let entries = [
        write(version(1, 1), 0, 0, &[Some(1), None]),
        write(version(1, 2), 0, 1023, &[Some(1)]),
        write(version(1, 3), 0, 1, &[Some(1)]),
    ];
    let reference = Place::new();
    entries.iter().for_each(|entry| reference.log(entry));
    let sum = reference.objects();
    assert!(sum[0].1.is_some());
    at_all_times(&entries, |place| assert_eq!(place.objects(), sum));
}

#[test]
fn replacing_and_removing_leave_nothing_of_what_was_there() {
    let entries = [
        write(version(7, 1), 0, 0, &[Some(1), Some(2), Some(3)]),
        replace(0, &[copied(1, version(1, 1), Some(9), false)]),
        write(version(7, 2), 1, 0, &[Some(1), Some(2)]),
        Entry::Remove { oid: oid(1) },
        write(version(1, 3), 1, 1, &[Some(5)]),
    ];
    at_all_times(&entries, |place| {
        let none = Some((Version::NEVER, 0));
        assert_eq!(place.read(0, 3), [none, Some((version(1, 1), 9)), none]);
        assert_eq!(place.read(1, 2), [none, Some((version(1, 3), 5))]);
    });
}

#[test]
fn what_was_forgotten_is_gone_and_what_came_after_is_not() {
    let entries = [
        write(version(7, 1), 0, 0, &[Some(1), Some(2)]),
        write(version(7, 2), 1, 0, &[Some(1)]),
        Entry::Forget,
        write(version(1, 3), 1, 1, &[Some(5)]),
    ];
    at_all_times(&entries, |place| {
        assert_eq!(place.objects().iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1]);
        assert_eq!(place.read(1, 2), [Some((Version::NEVER, 0)), Some((version(1, 3), 5))]);
    });
}

#[test]
fn space_that_is_set_aside_after_all_was_forgotten_stays_so() {
    let entries = [
        write(version(7, 1), 0, 0, &[Some(1), Some(2)]),
        Entry::Forget,
        reserve(0),
        copy(1, &[copied(1024, Version { pepoch: 0, seq: 1 }, None, false)]),
    ];
    at_all_times(&entries, |place| {
        let is_set_aside = |index| {
            let Outcome::Versions(versions) = place.store.versions(partition(0), oid(index)) else {
                return false;
            };
            versions == [(1024, Version { pepoch: 0, seq: 1 })]
        };
        assert!(is_set_aside(0) && is_set_aside(1));
    });
}

#[test]
fn what_stays_is_listed_while_others_go() {
    const OBJECTS: u32 = 400;
    let place = Place::new();
    (0..OBJECTS).for_each(|index| place.log(&write(version(1, 1), index, 0, &[Some(1)])));
    place.store.apply().unwrap();
    let goes = std::sync::atomic::AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for index in (0..OBJECTS).filter(|index| index % 50 != 49).rev() {
                place.log(&Entry::Remove { oid: oid(index) });
                place.store.apply().unwrap();
            }
            goes.store(false, std::sync::atomic::Ordering::Release);
        });
        while goes.load(std::sync::atomic::Ordering::Acquire) {
            let (mut after, mut staying) = (None, 0);
            while let Outcome::Digests(page) = place.store.digests(partition(0), after, 8) {
                staying += page.objects.iter().filter(|(oid, _)| oid.index() % 50 == 49).count();
                after = page.objects.last().map(|(oid, _)| *oid);
                if page.is_last {
                    break;
                }
            }
            assert_eq!(staying, 8);
        }
    });
}

#[test]
fn space_that_was_set_aside_is_given_back() {
    let place = Place::new();
    place.log(&reserve(0));
    place.log(&write(version(1, 1), 0, 3, &[Some(1), None]));
    place.store.apply().unwrap();
    let before = place.disk.space().unwrap().free_bytes;
    let space = 1024..1025;
    place.log(&free(0, std::slice::from_ref(&space)));
    place.store.apply().unwrap();
    let freed = place.disk.space().unwrap().free_bytes - before;
    assert_eq!(freed, 1023 * 4096);
    assert_eq!(place.read(0, 5)[3..], [Some((version(1, 1), 1)), Some((version(1, 1), 0))]);
}

#[test]
fn what_is_known_comes_back() {
    let in_doubt = [
        record(version(2, 1), 4, Change::Write { first_block: 3, blocks: vec![Some(block(8)), None] }),
        record(version(2, 2), 4, Change::Remove),
        record(version(2, 3), 4, Change::Nothing),
    ];
    let entries =
        [write(version(1, 1), 0, 0, &[Some(1)]), known(&in_doubt), write(version(2, 4), 0, 0, &[None])];
    let expected = {
        let mut recovered = Recovered::default();
        entries.iter().for_each(|entry| recovered.take(entry));
        knowledge(recovered)
    };
    for crash in [Crash::Process, Crash::Power] {
        for applies in [false, true] {
            let place = Place::new();
            entries.iter().for_each(|entry| place.log(entry));
            place.store.sync().unwrap();
            if applies {
                place.store.apply().unwrap();
            }
            let place = place.crash(crash);
            assert_eq!(knowledge(place.store.recovered(partition(0))), expected);
            assert_eq!(place.read(0, 1), [Some((version(2, 4), 0))]);
        }
    }
}

#[test]
fn knowledge_of_which_a_part_is_missing_does_not_count() {
    let place = Place::new();
    let first = known(&[]);
    place.log(&first);
    let second = known(&[record(version(2, 1), 4, Change::Nothing)]);
    let encoded = meta::encode(&second).unwrap();
    let header = crate::wal::RecordHeader {
        partition: partition(0),
        oid: oid(0),
        version: Version::NEVER,
        change: crate::wal::Change::Replicated { meta: &encoded[0].meta, crcs: &[] },
    };
    place.store.wal.append(&header, &[]).unwrap();
    let place = place.crash(Crash::Process);
    assert_eq!(knowledge(place.store.recovered(partition(0))), first);
}

/// Many more entries than the log has room for, in two partitions, of which one has nothing to do.
#[test]
fn no_partition_pins_the_log_and_nothing_that_is_known_is_lost() {
    let place = Place::new();
    let idle = known(&[record(version(2, 1), 4, Change::Nothing)]);
    place.store.log_entry(partition(1), &idle).unwrap();
    let mut logged = 0_u64;
    for seq in 1..450 {
        let entry = write(version(3, seq), seq % 3, 0, &[Some(seq as u8); 32]);
        while let Err(error) = place.store.log_entry(partition(0), &entry) {
            assert_eq!(error, LogError::Full);
            place.store.sync().unwrap();
            place.store.apply().unwrap();
        }
        logged += 32 * u64::from(BLOCK_SIZE_BYTES);
        for due in place.store.checkpoints_due() {
            let what = if due == partition(1) { &idle } else { &known(&[]) };
            place.store.log_entry(due, what).unwrap();
        }
        if place.store.apply_is_due() {
            place.store.sync().unwrap();
            place.store.apply().unwrap();
        }
        assert!(place.store.wal_bytes() <= 10 << 20);
    }
    assert!(logged > 5 * (10 << 20));
    let place = place.crash(Crash::Process);
    assert_eq!(knowledge(place.store.recovered(partition(1))), idle);
}

#[test]
fn a_lost_file_is_missing_until_the_object_is_replaced() {
    for damage in 0..2 {
        let place = Place::new();
        place.log(&write(version(1, 1), 0, 0, &[Some(1), Some(2)]));
        place.store.apply().unwrap();
        place.log(&known(&[]));
        place.store.sync().unwrap();
        place.store.apply().unwrap();
        if damage == 0 {
            place.disk.remove(&place.path(0)).unwrap();
            place.disk.sync_dir("objects/000.1").unwrap();
        } else {
            assert!(place.disk.flip(&place.path(0), 3, 1));
        }
        assert_eq!(place.store.verify(partition(0), oid(0)), Outcome::Missing(Vec::new()));
        assert_eq!(place.objects(), [(0, None)]);
        assert_eq!(place.store.suspects(partition(0)), [], "nothing waits for it");
        place.log(&write(version(1, 2), 0, 1, &[Some(3)]));
        place.store.apply().unwrap();
        assert_eq!(place.store.suspects(partition(0)), [oid(0)]);
        let place = place.crash(Crash::Process);
        assert_eq!(place.store.suspects(partition(0)), []);
        place.store.apply().unwrap();
        assert_eq!(place.store.suspects(partition(0)), [oid(0)]);
        let since = Verified { block: 1, version: version(1, 2), crc: Some(block(3).crc) };
        for outcome in [place.store.verify(partition(0), oid(0)), place.store.versions(partition(0), oid(0))]
        {
            assert_eq!(outcome, Outcome::Missing(vec![since]));
        }
        assert_eq!(place.read(0, 2), [None, Some((version(1, 2), 3))]);
        place.log(&replace(0, &[copied(0, version(1, 1), Some(1), false)]));
        place.store.apply().unwrap();
        assert!(!place.store.has_unapplied());
        assert_eq!(place.store.suspects(partition(0)), []);
        assert_eq!(place.read(0, 2), [Some((version(1, 1), 1)), Some((Version::NEVER, 0))]);
    }
}

#[test]
fn a_rotten_block_is_damaged_with_its_version_until_it_is_written() {
    let place = Place::new();
    place.log(&write(version(1, 1), 0, 0, &[Some(1), Some(2)]));
    place.store.apply().unwrap();
    assert!(place.disk.flip(&place.path(0), 20480 + 4096, 3));
    let good = Verified { block: 0, version: version(1, 1), crc: Some(block(1).crc) };
    let bad = Verified { block: 1, version: version(1, 1), crc: None };
    assert_eq!(place.store.verify(partition(0), oid(0)), Outcome::Verified(vec![good, bad]));
    assert_eq!(place.read(0, 2), [Some((version(1, 1), 1)), None]);
    place.log(&copy(0, &[copied(1, version(1, 1), Some(2), false)]));
    assert_eq!(place.read(0, 2)[1], Some((version(1, 1), 2)));
    place.store.apply().unwrap();
    assert_eq!(place.read(0, 2)[1], Some((version(1, 1), 2)));
}

#[test]
fn what_cannot_be_read_again_is_not_logged() {
    let place = Place::new();
    let short = Block::new(Bytes::from_static(b"short"));
    let short = Change::Write { first_block: 0, blocks: vec![Some(short)] };
    let of =
        |change| Entry::Write { record: Arc::new(record(version(1, 1), 0, change)), settled: Version::NEVER };
    let wrong = [
        of(short),
        of(Change::Write { first_block: 1023, blocks: vec![None, None] }),
        free(0, &[3..3, 4..5]),
        free(0, &[5..6, 3..4]),
        copy(0, &[copied(1024, version(1, 1), Some(1), false)]),
        copy(0, &[copied(1025, version(1, 1), None, false)]),
        copy(0, &[copied(0, version(1, u32::MAX), None, false)]),
    ];
    for entry in wrong {
        assert_eq!(place.store.log_entry(partition(0), &entry), Err(LogError::Malformed));
    }
    assert_eq!(place.store.wal_bytes(), 0);
}

fn all_kinds() -> Vec<Entry> {
    let in_doubt =
        [record(version(2, 1), 4, Change::Write { first_block: 3, blocks: vec![None, Some(block(8))] })];
    vec![
        write(version(1, 1), 0, 1021, &[Some(1), None, Some(2)]),
        copy(0, &[copied(5, version(1, 1), Some(1), false), copied(6, version(1, 2), None, true)]),
        replace(0, &[copied(5, Version::NEVER, None, false), copied(6, version(1, 2), None, false)]),
        Entry::Remove { oid: oid(3) },
        free(3, &[1..2, 7..1024]),
        known(&in_doubt),
        Entry::Forget,
    ]
}

#[test]
fn any_bytes_are_what_was_encoded_or_nothing() {
    for entry in all_kinds() {
        for encoded in meta::encode(&entry).unwrap() {
            let crcs: Vec<u32> = encoded.data.iter().map(|block| block.crc).collect();
            let payload: Vec<u8> = encoded.data.iter().flat_map(|block| block.bytes.to_vec()).collect();
            let payload = Bytes::from(payload);
            let at = (encoded.oid.or_else(meta::no_object).unwrap(), encoded.version);
            let decode = |meta: &[u8]| meta::decode(at, meta, &crcs, &payload);
            let (logged, _) = decode(&encoded.meta).unwrap();
            if let (Entry::Write { record, settled }, Logged::Write { record: found, settled: then }) =
                (&entry, &logged)
            {
                assert_eq!((&**record, settled), (found, then));
            }
            // None of these panics, and none takes more memory than there are bytes for.
            for place in 0..encoded.meta.len() {
                assert_eq!(decode(&encoded.meta[..place]), None);
                for bit in 0..8 {
                    let mut meta = encoded.meta.clone();
                    meta[place] ^= 1 << bit;
                    let _ = decode(&meta);
                }
            }
        }
    }
}
