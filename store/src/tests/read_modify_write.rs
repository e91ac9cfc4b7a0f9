//! COMPARE AND WRITE and ORWRITE: nothing comes between reading and writing.

use std::fs;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bytes::Bytes;
use huntaway_wire::{
    Answer, Broken, ByteRange, Durability, Error, Oid, Operation, Reply, Segments, Submission, piece_crcs,
};

use super::harness::{Harness, oid, options, pattern};

const THREADS: u8 = 4;
const INCREMENTS: u64 = 500;

fn compare_and_write(offset: u32, expected: &[u8], data: &[u8], durability: Durability) -> Operation {
    let range = ByteRange::new(offset, data.len() as u32).unwrap();
    let expected = Segments::from_iter(expected.chunks(700).map(Bytes::copy_from_slice));
    let data = Segments::from_iter([Bytes::copy_from_slice(data)]);
    let crcs = piece_crcs(range, &data);
    Operation::CompareAndWrite { range, expected, data, crcs, durability }
}

fn or(offset: u32, data: &[u8]) -> Operation {
    let range = ByteRange::new(offset, data.len() as u32).unwrap();
    let data = Segments::from_iter([Bytes::copy_from_slice(data)]);
    let crcs = piece_crcs(range, &data);
    Operation::Or { range, data, crcs, durability: Durability::Logged }
}

fn read(harness: &Harness, oid: Oid, offset: u32, length: u32) -> Vec<u8> {
    let range = ByteRange::new(offset, length).unwrap();
    match harness.ask(oid, Operation::Read { range }) {
        Ok(Reply::Data(segments)) => segments.concat(),
        other => panic!("{other:?} is no data"),
    }
}

/// Runs `work` in several threads that begin at once, and application in one more until they are done.
fn in_threads(harness: &Harness, work: impl Fn(u8) + Sync) {
    let (done, barrier) = (AtomicBool::new(false), Barrier::new(THREADS.into()));
    thread::scope(|scope| {
        let applying = scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                harness.store.apply().unwrap();
                thread::yield_now();
            }
        });
        let (work, barrier) = (&work, &barrier);
        let begin = |number| {
            scope.spawn(move || {
                barrier.wait();
                work(number);
            })
        };
        let workers: Vec<_> = (0..THREADS).map(begin).collect();
        let results: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        done.store(true, Ordering::Release);
        applying.join().unwrap();
        assert!(results.iter().all(Result::is_ok));
    });
}

#[test]
fn no_increment_of_a_counter_is_lost() {
    const OFFSET: u32 = 3 * 4096 + 512;
    let harness = Harness::new();
    let increment = || loop {
        let old = read(&harness, oid(0), OFFSET, 512);
        let mut new = old.clone();
        let count = u64::from_le_bytes(new[..8].try_into().unwrap());
        new[..8].copy_from_slice(&(count + 1).to_le_bytes());
        match harness.ask(oid(0), compare_and_write(OFFSET, &old, &new, Durability::Logged)) {
            Ok(Reply::Done) => return,
            Ok(Reply::Miscompare { offset }) => assert!(offset < 8),
            other => panic!("{other:?}"),
        }
    };
    in_threads(&harness, |_| (0..INCREMENTS).for_each(|_| increment()));
    let count = u64::from(THREADS) * INCREMENTS;
    let harness = harness.restart();
    assert_eq!(harness.read(oid(0), OFFSET, 8), Ok(count.to_le_bytes().to_vec()));
}

#[test]
fn no_bit_that_is_set_beside_others_is_lost() {
    const LENGTH: usize = 100;
    const PLACES: u32 = 400;
    let harness = Harness::new();
    in_threads(&harness, |number| {
        for place in 0..PLACES {
            let operation = or(place * LENGTH as u32, &[1 << number; LENGTH]);
            assert_eq!(harness.ask(oid(0), operation), Ok(Reply::Done));
        }
    });
    let expected = vec![(1 << THREADS) - 1; PLACES as usize * LENGTH];
    assert!(harness.read(oid(0), 0, expected.len() as u32).unwrap() == expected);
    assert_eq!(harness.read(oid(0), expected.len() as u32, 1000), Ok(vec![0; 1000]));
}

#[test]
fn a_difference_is_told_and_nothing_is_written() {
    let harness = Harness::new();
    let old = pattern(1, 8192);
    harness.write(oid(0), 0, &old);
    for applied in [false, true] {
        if applied {
            harness.apply();
        }
        for place in [0, 95, 96, 5999] {
            let mut expected = old[4000..8192].to_vec();
            expected.extend([0; 1808]);
            expected[place] ^= 0x10;
            let operation = compare_and_write(4000, &expected, &[9; 6000], Durability::Stable);
            let miscompare = Reply::Miscompare { offset: place as u32 };
            assert!(
                matches!(harness.submit(oid(0), operation), Submission::Done(Ok(reply)) if reply == miscompare)
            );
        }
        assert_eq!(harness.read(oid(0), 0, 8192).as_ref(), Ok(&old));
    }
    let short = compare_and_write(0, &old[..100], &[9; 200], Durability::Logged);
    assert_eq!(harness.ask(oid(0), short), Ok(Reply::Miscompare { offset: 100 }));
    assert!(!harness.store.has_unapplied());
}

#[test]
fn what_was_never_written_compares_as_zeroes() {
    let harness = Harness::new();
    let answer = harness.ask(oid(0), compare_and_write(512, &[0; 512], &[7; 512], Durability::Logged));
    assert_eq!(answer, Ok(Reply::Done));
    assert_eq!(harness.read(oid(0), 0, 1536), Ok([[0; 512], [7; 512], [0; 512]].concat()));
}

#[test]
fn a_stable_one_is_answered_after_the_sync() {
    let harness = Harness::new();
    let operation = compare_and_write(0, &[0; 4096], &[7; 4096], Durability::Stable);
    let Submission::Waiting(mut answer) = harness.submit(oid(0), operation) else {
        panic!("answered before it was synced");
    };
    assert!(answer.try_recv().is_err());
    harness.store.sync().unwrap();
    assert_eq!(answer.try_recv(), Ok(Ok(Reply::Done)));
}

#[test]
fn bits_are_added_to_what_is_in_memory_and_in_the_file() {
    let harness = Harness::new();
    let mut expected = pattern(3, 12_288);
    harness.write(oid(0), 0, &expected);
    harness.apply();
    harness.write(oid(0), 4096, &[0x40; 4096]);
    expected[4096..8192].fill(0x40);
    let bits = pattern(0x5a, 9000);
    assert_eq!(harness.ask(oid(0), or(1000, &bits)), Ok(Reply::Done));
    expected[1000..10_000].iter_mut().zip(&bits).for_each(|(byte, bits)| *byte |= bits);
    assert!(harness.read(oid(0), 0, 12_288).unwrap() == expected);
    harness.apply();
    assert!(harness.read(oid(0), 0, 12_288).unwrap() == expected);
}

#[test]
fn nothing_is_compared_with_a_corrupt_block_or_merged_into_it() {
    let harness = Harness::new();
    harness.write(oid(0), 0, &pattern(1, 4096));
    harness.apply();
    let path = harness.object_path(oid(0));
    let mut bytes = fs::read(&path).unwrap();
    bytes[20_480 + 7] ^= 4;
    fs::write(&path, bytes).unwrap();
    let corrupt: Answer = Err(Broken::CorruptBlock { oid: oid(0), block: 0 }.into());
    let compare = compare_and_write(0, &pattern(1, 4096), &[1; 4096], Durability::Logged);
    assert_eq!(harness.ask(oid(0), compare), corrupt);
    assert_eq!(harness.ask(oid(0), or(0, &[1; 4096])), corrupt);
}

#[test]
fn data_that_does_not_match_its_checksum_is_refused() {
    let harness = Harness::new();
    for mut operation in [or(0, &[1; 512]), compare_and_write(0, &[0; 512], &[1; 512], Durability::Logged)] {
        if let Operation::Or { crcs, .. } | Operation::CompareAndWrite { crcs, .. } = &mut operation {
            crcs[0] ^= 1;
        }
        let answer = harness.ask(oid(0), operation);
        assert!(matches!(answer, Err(Error::Broken(Broken::CorruptBlock { block: 0, .. }))));
    }
    assert_eq!(harness.read(oid(0), 0, 512), Ok(vec![0; 512]));
}

#[test]
fn what_waits_for_room_is_compared_when_there_is_room() {
    let mut options = options();
    options.memory_bytes = 1 << 20;
    let harness = Harness::with(options);
    harness.write(oid(0), 0, &[1; 1 << 20]);
    let first = harness.submit(oid(1), compare_and_write(0, &[0; 512], &[1; 512], Durability::Logged));
    let second = harness.submit(oid(1), compare_and_write(0, &[0; 512], &[2; 512], Durability::Logged));
    assert!(matches!((&first, &second), (Submission::Waiting(_), Submission::Waiting(_))));
    assert_eq!(harness.settle(first), Ok(Reply::Done));
    assert_eq!(harness.settle(second), Ok(Reply::Miscompare { offset: 0 }));
    assert_eq!(harness.read(oid(1), 0, 512), Ok(vec![1; 512]));
}
