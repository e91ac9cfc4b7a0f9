//! A process that has too many files open: it goes on when there are fewer.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use huntaway_wire::{Durability, Operation, Refusal, Reply, Submission};
use rustix::io::Errno;

use super::harness::{Harness, oid, options, pattern, write};
use crate::disk::{Disk, Open, SimulatedDisk, SimulatedFile, Space};

/// A disk that opens so many more files; after that there is no file descriptor.
struct Scarce {
    disk: SimulatedDisk,
    left: AtomicU64,
}

/// No end of files.
const PLENTY: u64 = u64::MAX;

impl Scarce {
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
        }
        self.disk.sync_dir(path)
    }

    fn space(&self) -> io::Result<Space> {
        self.disk.space()
    }
}

fn harness() -> Harness<Scarce> {
    let disk = Scarce { disk: SimulatedDisk::new(1 << 30), left: AtomicU64::new(PLENTY) };
    Harness::on(disk, options())
}

fn assert_sound(harness: &Harness<Scarce>) {
    assert!(!harness.store.has_failed());
    harness.store.checkpoint().unwrap();
    let report = crate::check::check_disk(&*harness.place.disk).unwrap();
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
    let harness = harness();
    let (mut refused, mut written) = (0, 0);
    for round in 0..24 {
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
