//! Each kind of request, before and after application.

use bytes::Bytes;
use huntaway_wire::{
    BLOCK_SIZE_BYTES, Broken, ByteRange, Durability, Error, OBJECT_SIZE_BYTES, ObjectRequest, Operation,
    Pepoch, Provisioning, Refusal, Reply, Request, Segments, Submission, piece_crcs,
};

use super::harness::{Harness, oid, options, partition, pattern, write};

/// Runs `check` when the requests before it are in memory, and again when they are applied.
fn before_and_after_application(harness: &Harness, check: impl Fn()) {
    check();
    harness.apply();
    check();
}

#[test]
fn what_was_never_written_reads_as_zeroes() {
    let harness = Harness::new();
    assert_eq!(harness.read(oid(0), 100, 9000), Ok(vec![0; 9000]));
    assert!(!harness.store.has_unapplied());
}

#[test]
fn writes_of_any_alignment_are_read_back() {
    let harness = Harness::new();
    let mut expected = vec![0; OBJECT_SIZE_BYTES as usize];
    let writes =
        [(0, 4096), (512, 512), (8192 + 4000, 10_000), (1 << 20, 1 << 20), (OBJECT_SIZE_BYTES - 1, 1)];
    for (seed, (offset, length)) in writes.into_iter().enumerate() {
        let data = pattern(seed as u8 + 1, length);
        harness.write(oid(3), offset, &data);
        expected[offset as usize..offset as usize + length].copy_from_slice(&data);
    }
    before_and_after_application(&harness, || {
        assert!(harness.read(oid(3), 0, OBJECT_SIZE_BYTES).unwrap() == expected);
        for (offset, length) in [(0, 1), (511, 514), (12_000, 5_000), (4095, 2), (1 << 20, 4096)] {
            let end = (offset + length) as usize;
            assert!(harness.read(oid(3), offset, length).unwrap() == expected[offset as usize..end]);
        }
    });
}

#[test]
fn a_fragment_is_merged_over_what_is_in_the_file() {
    let harness = Harness::new();
    harness.write(oid(0), 0, &pattern(1, 8192));
    harness.apply();
    harness.write(oid(0), 4000, &[9; 200]);
    let mut expected = pattern(1, 8192);
    expected[4000..4200].fill(9);
    before_and_after_application(&harness, || assert!(harness.read(oid(0), 0, 8192).unwrap() == expected));
}

#[test]
fn a_fragment_that_does_not_match_its_checksum_is_not_merged() {
    let harness = Harness::new();
    let mut wrong = write(4096, &[1; 512], Durability::Logged);
    if let Operation::Write { crcs, .. } = &mut wrong {
        crcs[0] ^= 1;
    }
    assert_eq!(harness.ask(oid(0), wrong), Err(Broken::CorruptBlock { oid: oid(0), block: 1 }.into()));
    assert_eq!(harness.read(oid(0), 4096, 4096), Ok(vec![0; 4096]));
}

#[test]
fn discarded_blocks_read_as_zeroes_and_give_up_their_space() {
    let harness = Harness::new();
    harness.write(oid(0), 0, &pattern(1, 65536));
    harness.apply();
    harness.discard(oid(0), 6000, 20_000);
    let mut expected = pattern(1, 65536);
    expected[6000..26_000].fill(0);
    before_and_after_application(&harness, || {
        assert!(harness.read(oid(0), 0, 65536).unwrap() == expected);
        let runs: Vec<_> = harness.map(oid(0)).iter().map(|run| (run.blocks, run.provisioning)).collect();
        let (mapped, free) = (Provisioning::Mapped, Provisioning::Deallocated);
        assert_eq!(runs, [(2, mapped), (4, free), (10, mapped), (1008, free)]);
    });
}

#[test]
fn an_object_of_which_nothing_is_left_loses_its_file() {
    let harness = Harness::new();
    for discard in [(0, OBJECT_SIZE_BYTES), (4096, 8192)] {
        harness.write(oid(0), 4096, &[1; 8192]);
        harness.apply();
        assert!(harness.object_path(oid(0)).exists());
        harness.discard(oid(0), discard.0, discard.1);
        before_and_after_application(&harness, || {
            assert_eq!(harness.read(oid(0), 4096, 8192), Ok(vec![0; 8192]));
        });
        assert!(!harness.object_path(oid(0)).exists());
    }
}

#[test]
fn a_removed_object_can_be_written_again_before_the_removal_is_applied() {
    let harness = Harness::new();
    harness.write(oid(0), 0, &[1; 8192]);
    harness.apply();
    let remove = Operation::Remove { durability: Durability::Stable };
    assert_eq!(harness.ask(oid(0), remove), Ok(Reply::Done));
    harness.write(oid(0), 4096 + 512, &[2; 512]);
    let mut expected = vec![0; 8192];
    expected[4608..5120].fill(2);
    before_and_after_application(&harness, || {
        assert_eq!(harness.read(oid(0), 0, 8192).as_ref(), Ok(&expected))
    });
    let harness = harness.restart();
    before_and_after_application(&harness, || {
        assert_eq!(harness.read(oid(0), 0, 8192).as_ref(), Ok(&expected))
    });
}

#[test]
fn a_reserved_object_keeps_its_space_until_it_is_removed() {
    use std::os::unix::fs::MetadataExt;
    let harness = Harness::new();
    assert_eq!(harness.ask(oid(0), Operation::Reserve), Ok(Reply::Done));
    let allocated = || harness.object_path(oid(0)).metadata().unwrap().blocks() * 512;
    assert!(allocated() >= u64::from(OBJECT_SIZE_BYTES));
    harness.write(oid(0), 0, &[1; 8192]);
    harness.apply();
    harness.discard(oid(0), 0, OBJECT_SIZE_BYTES);
    before_and_after_application(&harness, || {
        assert_eq!(harness.read(oid(0), 0, 8192), Ok(vec![0; 8192]));
        assert!(harness.map(oid(0)).iter().all(|run| run.provisioning == Provisioning::Mapped));
        assert!(allocated() >= u64::from(OBJECT_SIZE_BYTES));
    });
    assert!(matches!(harness.submit(oid(0), Operation::Reserve), Submission::Done(Ok(Reply::Done))));
    assert_eq!(harness.ask(oid(0), Operation::Remove { durability: Durability::Logged }), Ok(Reply::Done));
    harness.apply();
    assert!(!harness.object_path(oid(0)).exists());
}

#[test]
fn a_stable_write_is_answered_after_the_sync_and_a_flush_covers_all_before() {
    let harness = Harness::new();
    let Submission::Waiting(mut stable) = harness.submit(oid(0), write(0, &[1; 512], Durability::Stable))
    else {
        panic!("answered before it was synced");
    };
    assert!(harness.store.sync_is_due());
    assert!(stable.try_recv().is_err());
    harness.store.sync().unwrap();
    assert_eq!(stable.try_recv(), Ok(Ok(Reply::Done)));
    assert!(matches!(harness.store.submit(Request::Flush), Submission::Done(Ok(Reply::Done))));
    harness.write(oid(0), 0, &[1; 512]);
    let Submission::Waiting(mut flush) = harness.store.submit(Request::Flush) else {
        panic!("answered before it was synced");
    };
    harness.store.sync().unwrap();
    assert_eq!(flush.try_recv(), Ok(Ok(Reply::Done)));
}

#[test]
fn a_stable_discard_of_zeroes_waits_for_what_made_them() {
    let harness = Harness::new();
    harness.write(oid(0), 0, &[1; 4096]);
    harness.store.sync().unwrap();
    harness.write(oid(0), 0, &[0; 4096]);
    let range = ByteRange::new(512, 512).unwrap();
    let discard = harness.submit(oid(0), Operation::Discard { range, durability: Durability::Stable });
    assert!(matches!(discard, Submission::Waiting(_)));
    assert_eq!(harness.settle(discard), Ok(Reply::Done));
}

#[test]
fn another_pepoch_is_refused() {
    let harness = Harness::new();
    let request = |pepoch, operation| {
        let request = ObjectRequest { partition: partition(oid(0)), pepoch, oid: oid(0), operation };
        harness.settle(harness.store.submit(Request::Object(request)))
    };
    let newest = harness.store.pepoch();
    let read = Operation::Read { range: ByteRange::new(0, 1).unwrap() };
    for operation in [read, write(0, &[1], Durability::Logged), Operation::Reserve] {
        let stale = Refusal::StaleEpoch { newest };
        assert_eq!(request(Pepoch(newest.0 - 1), operation.clone()), Err(stale.into()));
        assert_eq!(request(Pepoch(newest.0 + 1), operation), Err(Refusal::NotServing.into()));
    }
}

#[test]
fn writes_beyond_the_memory_wait_for_application_in_their_order() {
    let mut options = options();
    options.memory_bytes = 1 << 20;
    options.waiting_requests = 3;
    let harness = Harness::with(options);
    harness.write(oid(0), 0, &[1; 1 << 19]);
    let first = harness.submit(oid(1), write(0, &[2; 1 << 19], Durability::Logged));
    let second = harness.submit(oid(1), write(0, &[3; 4096], Durability::Stable));
    assert!(matches!((&first, &second), (Submission::Waiting(_), Submission::Waiting(_))));
    assert!(harness.store.apply_is_due());
    let read = Operation::Read { range: ByteRange::new(0, 1).unwrap() };
    let behind = harness.submit(oid(1), read.clone());
    assert!(matches!(behind, Submission::Waiting(_)), "it must not pass the writes before it");
    assert!(matches!(harness.submit(oid(0), read), Submission::Done(Ok(_))));
    let refused = harness.submit(oid(2), write(0, &[2; 1 << 20], Durability::Logged));
    assert!(matches!(refused, Submission::Done(Err(Error::Refused(Refusal::NotServing)))));
    assert_eq!(harness.settle(first), Ok(Reply::Done));
    assert_eq!(harness.settle(second), Ok(Reply::Done));
    assert_eq!(
        harness.settle(behind),
        Ok(Reply::Data([bytes::Bytes::from_static(&[3])].into_iter().collect()))
    );
    assert_eq!(harness.read(oid(1), 4095, 2), Ok(vec![3, 2]));
    assert_eq!(harness.store.waiting_requests(), 0);
}

#[test]
fn what_was_received_is_let_go_once_it_is_in_the_log() {
    let harness = Harness::new();
    for (offset, lengths) in
        [(8192, &[65536, 65536][..]), (8192, &[4000, 96]), (4096, &[256 << 10]), (100, &[60 << 10])]
    {
        let received: Segments = lengths.iter().map(|length| Bytes::from(pattern(1, *length))).collect();
        let range = ByteRange::new(offset, lengths.iter().sum::<usize>() as u32).unwrap();
        let (data, crcs) = (received.clone(), piece_crcs(range, &received));
        let write = Operation::Write { range, data, crcs, durability: Durability::Logged };
        assert_eq!(harness.ask(oid(0), write), Ok(Reply::Done));
        assert!(received.iter().all(Bytes::is_unique), "{lengths:?}");
        assert_eq!(harness.read(oid(0), offset, range.length()), Ok(received.concat()), "{lengths:?}");
    }
}

#[test]
fn the_log_does_not_grow_beyond_its_bound() {
    let harness = Harness::new();
    let bound = harness.store.options.wal_bytes;
    for round in 0..30u8 {
        let data = vec![round; 1 << 20];
        let submission = harness.submit(oid(0), write(0, &data, Durability::Logged));
        assert_eq!(harness.settle(submission), Ok(Reply::Done));
        assert!(harness.store.wal_bytes() <= bound);
    }
    assert_eq!(harness.read(oid(0), 0, BLOCK_SIZE_BYTES), Ok(vec![29; 4096]));
}

#[test]
fn objects_beyond_the_open_ones_are_opened_again() {
    let mut options = options();
    options.open_objects = 2;
    let harness = Harness::with(options);
    for round in 0..3u8 {
        for index in 0..6 {
            harness.write(oid(index), u32::from(round) * 700, &pattern(index as u8, 900));
        }
        harness.apply();
        assert!(harness.store.open_objects() <= 2);
        for index in 0..6 {
            let found = harness.read(oid(index), u32::from(round) * 700, 900).unwrap();
            assert!(found == pattern(index as u8, 900), "object {index} in round {round}");
        }
    }
}
