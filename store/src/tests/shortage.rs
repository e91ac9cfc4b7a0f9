//! A process that has too many files open: it goes on when there are fewer.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use huntaway_wire::{Durability, OBJECT_SIZE_BYTES, Oid, Operation, Refusal, Reply, Submission};
use rustix::io::Errno;

use super::harness::{Harness, oid, options, partition, pattern, write};
use crate::check::check_disk;
use crate::disk::{Crash, Disk, Open, SimulatedDisk, SimulatedFile, Space};

/// A disk that opens so many more files; after that there is no file descriptor.
struct Scarce {
    disk: SimulatedDisk,
    left: AtomicU64,
    /// Syncs of partitions' directories for which there is none, whatever is left.
    refused_syncs: AtomicU64,
}

/// No end of files.
const PLENTY: u64 = u64::MAX;

impl Scarce {
    fn new(disk: SimulatedDisk) -> Self {
        Self { disk, left: AtomicU64::new(PLENTY), refused_syncs: AtomicU64::new(0) }
    }

    /// The next `syncs` of directories have no file descriptor.
    fn refuse_syncs(&self, syncs: u64) {
        self.refused_syncs.store(syncs, Ordering::Relaxed);
    }

    fn leave(&self, files: u64) {
        self.left.store(files, Ordering::Relaxed);
    }

    fn take(&self) -> io::Result<()> {
        let take = |left: u64| if left == PLENTY { Some(left) } else { left.checked_sub(1) };
        let taken = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.map(drop).map_err(|_| Errno::MFILE.into())
    }
}

impl Disk for Scarce {
    type File = SimulatedFile;

    fn open(&self, path: &str, how: Open) -> io::Result<Arc<SimulatedFile>> {
        self.take()?;
        self.disk.open(path, how)
    }

    fn read_at(&self, file: &SimulatedFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.read_at(file, buffer, offset)
    }

    fn write_at(&self, file: &SimulatedFile, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.disk.write_at(file, parts, offset)
    }

    fn sync_data(&self, file: &SimulatedFile) -> io::Result<()> {
        self.disk.sync_data(file)
    }

    fn length(&self, file: &SimulatedFile) -> io::Result<u64> {
        self.disk.length(file)
    }

    fn set_length(&self, file: &SimulatedFile, length: u64) -> io::Result<()> {
        self.disk.set_length(file, length)
    }

    fn allocate(&self, file: &SimulatedFile, offset: u64, length: u64) -> io::Result<()> {
        self.disk.allocate(file, offset, length)
    }

    fn punch_hole(&self, file: &SimulatedFile, offset: u64, length: u64) -> io::Result<()> {
        self.disk.punch_hole(file, offset, length)
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.disk.create_dir(path)
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        self.take()?;
        self.disk.list(path)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.disk.remove(path)
    }

    /// As the real one, it keeps the disk's own directory and those in it open.
    fn sync_dir(&self, path: &str) -> io::Result<()> {
        if path.contains('/') {
            self.take()?;
            let refuse = |syncs: u64| syncs.checked_sub(1);
            if self.refused_syncs.fetch_update(Ordering::Relaxed, Ordering::Relaxed, refuse).is_ok() {
                return Err(Errno::MFILE.into());
            }
        }
        self.disk.sync_dir(path)
    }

    fn space(&self) -> io::Result<Space> {
        self.disk.space()
    }
}

fn harness() -> Harness<Scarce> {
    Harness::on(Scarce::new(SimulatedDisk::new(1 << 30)), options())
}

fn assert_sound(harness: &Harness<Scarce>) {
    assert!(!harness.store.has_failed());
    harness.store.checkpoint().unwrap();
    let report = check_disk(&*harness.place.disk).unwrap();
    assert!(report.is_sound(), "{report}");
}

const MIB: usize = 1 << 20;

#[test]
fn a_write_waits_for_a_segment_of_the_log_until_files_can_be_opened() {
    let harness = harness();
    // Indexes that were not read yet could not be now.
    (0..10).for_each(|index| assert!(harness.map(oid(index)).len() == 1));
    harness.place.disk.leave(0);
    let mut waiting = None;
    for index in 0..10 {
        match harness.submit(oid(index), write(0, &pattern(index as u8, MIB), Durability::Logged)) {
            Submission::Done(answer) => assert_eq!(answer, Ok(Reply::Done)),
            Submission::Waiting(receiver) => {
                waiting = Some((index, receiver));
                break;
            }
        }
    }
    let (last, mut receiver) = waiting.expect("a segment is full before that");
    assert!(harness.store.apply().unwrap().objects_without_room > 0);
    assert!(receiver.try_recv().is_err() && !harness.store.has_failed());
    harness.place.disk.leave(PLENTY);
    harness.store.apply().unwrap();
    assert_eq!(receiver.try_recv(), Ok(Ok(Reply::Done)));
    harness.apply();
    let harness = harness.restart();
    for index in 0..=last {
        assert!(harness.read(oid(index), 0, MIB as u32).unwrap() == pattern(index as u8, MIB));
    }
    assert_sound(&harness);
}

#[test]
fn with_nothing_to_wait_for_a_write_is_refused_and_may_be_repeated() {
    let mut harness = harness();
    let (mut refused, mut written) = (0, 0);
    for round in 0..24 {
        // Segments that are used again are open, but for those that a process finds.
        harness = harness.restart();
        let data = pattern(round, MIB);
        harness.write(oid(0), 0, &data);
        harness.apply();
        harness.place.disk.leave(0);
        match harness.ask(oid(0), write(0, &pattern(!round, MIB), Durability::Logged)) {
            Ok(reply) => {
                assert_eq!(reply, Reply::Done);
                written += 1;
            }
            Err(error) => {
                assert_eq!(error, Refusal::NotServing.into());
                assert!(harness.read(oid(0), 0, MIB as u32).unwrap() == data);
                refused += 1;
            }
        }
        harness.place.disk.leave(PLENTY);
    }
    // More often than the log has segments: they are used again.
    assert!(refused > 5 && written > 5, "{refused} refused, {written} written");
    harness.apply();
    assert_sound(&harness);
}

#[test]
fn application_that_runs_out_of_files_loses_nothing() {
    for files in 0.. {
        let harness = harness();
        harness.write(oid(0), 0, &pattern(1, 8192));
        harness.write(oid(2), 0, &pattern(4, 8192));
        harness.apply();
        // With nothing open, objects are opened again.
        let harness = harness.restart();
        harness.write(oid(0), 4096, &pattern(2, 8192));
        harness.write(oid(1), 0, &pattern(3, 4096));
        assert_eq!(
            harness.ask(oid(2), Operation::Remove { durability: Durability::Logged }),
            Ok(Reply::Done)
        );
        let check = |harness: &Harness<Scarce>| {
            assert!(harness.read(oid(0), 4096, 8192).unwrap() == pattern(2, 8192), "{files} files");
            assert!(harness.read(oid(1), 0, 4096).unwrap() == pattern(3, 4096), "{files} files");
            assert!(harness.read(oid(2), 0, 8192).unwrap() == [0; 8192], "{files} files");
        };
        harness.place.disk.leave(files);
        let first = harness.store.apply().unwrap_or_else(|_| panic!("stopped with {files} files"));
        harness.place.disk.leave(PLENTY);
        check(&harness);
        let harness = if files % 2 == 0 { harness.restart() } else { harness };
        harness.apply();
        check(&harness);
        let harness = harness.restart();
        check(&harness);
        assert_sound(&harness);
        if first.objects_without_room == 0 {
            assert!(files > 5, "only {files} files are opened");
            return;
        }
    }
}

#[test]
fn an_index_that_cannot_be_replaced_goes_on() {
    for files in 0..12 {
        let harness = harness();
        // Often enough for the index to be written anew.
        for round in 0..40 {
            for operation in [
                write(0, &pattern(round, 4096), Durability::Logged),
                Operation::Remove { durability: Durability::Logged },
            ] {
                assert_eq!(harness.ask(oid(0), operation), Ok(Reply::Done));
                harness.place.disk.leave(files);
                harness.store.apply().unwrap_or_else(|_| panic!("stopped with {files} files"));
                harness.place.disk.leave(PLENTY);
                harness.apply();
            }
        }
        harness.write(oid(0), 0, &pattern(99, 4096));
        harness.apply();
        let harness = harness.restart();
        assert!(harness.read(oid(0), 0, 4096).unwrap() == pattern(99, 4096), "{files} files");
        assert_sound(&harness);
    }
}

/// Removes the object, or discards all of it.
fn take_away(harness: &Harness<Scarce>, oid: Oid, removes: bool) {
    if removes {
        let removal = Operation::Remove { durability: Durability::Logged };
        assert_eq!(harness.ask(oid, removal), Ok(Reply::Done));
    } else {
        harness.discard(oid, 0, OBJECT_SIZE_BYTES);
    }
}

/// The file is gone from a directory that is not synced: it must be, before the log forgets the removal.
#[test]
fn a_removal_whose_directory_could_not_be_synced_is_not_undone_by_a_power_loss() {
    for (removes, seed) in
        [true, false].into_iter().flat_map(|removes| (0..8).map(move |seed| (removes, seed)))
    {
        let harness = harness();
        harness.write(oid(0), 0, &pattern(1, 4096));
        harness.apply();
        take_away(&harness, oid(0), removes);
        harness.place.disk.refuse_syncs(1);
        assert_eq!(harness.store.apply().unwrap().objects_without_room, 1);
        harness.apply();
        harness.store.checkpoint().unwrap();
        harness.place.disk.disk.crash(Crash::Power, seed);
        let report = check_disk(&*harness.place.disk).unwrap();
        assert!(report.findings.is_empty(), "removed: {removes}, power loss {seed}: {report}");
    }
}

/// Object 0 and these, of one partition, whose index was appended to often: once more for each of these.
fn with_long_index(others: &[Oid]) -> SimulatedDisk {
    let harness = harness();
    for other in others {
        harness.write(*other, 0, &pattern(1, 4096));
        harness.apply();
    }
    for _ in 0..30 {
        harness.write(oid(0), 0, &pattern(2, 4096));
        harness.apply();
        harness.discard(oid(0), 0, OBJECT_SIZE_BYTES);
        harness.apply();
    }
    harness.write(oid(0), 0, &pattern(3, 4096));
    harness.apply();
    harness.store.checkpoint().unwrap();
    harness.place.disk.disk.copy()
}

/// The index is written anew while the file of an object that it tells to be removed may come back.
#[test]
fn a_removal_that_is_not_synced_when_the_index_is_compacted_is_no_damage_after_a_power_loss() {
    let home = partition(oid(0));
    let others: Vec<Oid> = (1..100_000).map(oid).filter(|other| partition(*other) == home).take(2).collect();
    // With one of them the index is compacted when the second of two objects goes.
    for disk in [with_long_index(&others[..1]), with_long_index(&others)] {
        for after in 8..14 {
            let harness = Harness::on_old(Arc::new(Scarce::new(disk.copy())));
            take_away(&harness, oid(0), false);
            harness.place.disk.refuse_syncs(2);
            assert_eq!(harness.store.apply().unwrap().objects_without_room, 1);
            take_away(&harness, others[0], false);
            harness.store.sync().unwrap();
            let dying = &harness.place.disk.disk;
            dying.die_after(after);
            let _ = harness.store.apply();
            for seed in 0..40 {
                let disk = dying.copy();
                disk.crash(Crash::Power, seed);
                let told = format!("died after {after}, power loss {seed}");
                let report = check_disk(&disk).unwrap();
                assert!(report.is_sound(), "{told}: {report}");
                let harness = Harness::on_old(Arc::new(disk));
                harness.apply();
                assert_eq!(harness.read(oid(0), 0, 4096), Ok(vec![0; 4096]), "{told}");
            }
        }
    }
}
