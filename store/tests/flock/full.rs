//! Disks that are full: each node has a small file system of its own.

use std::path::{Path, PathBuf};
use std::process::Command as Program;
use std::time::{Duration, Instant};

use bytes::Bytes;
use huntaway_store::StoreOptions;
use huntaway_wire::replicated::{Answer, Block, Command, Refused};
use huntaway_wire::{BLOCK_SIZE_BYTES, ByteRange, Durability, Vid};
use tempfile::TempDir;

use super::needs::{Need, available};
use super::running::{DEADLINE, Flock, object, read};

const MIB: u64 = 1 << 20;

/// Room for the log, for what is never promised, and for some 80 MiB.
const FILE_SYSTEM: &str = "size=136m";

/// More objects than fit anywhere here.
const MOST_OBJECTS: u32 = 4000;

/// Blocks written at a time. All that is written here is no more than what the log holds.
const BLOCKS: u32 = 64;

/// File systems in memory that are unmounted when they are dropped.
struct FileSystems(Vec<PathBuf>);

impl FileSystems {
    fn mount(dir: &Path, count: u8) -> Self {
        let mut mounted = Self(Vec::new());
        for node in 1..=count {
            let path = dir.join(format!("node-{node}")).join("disk");
            std::fs::create_dir_all(&path).expect("the scratch directory is writable");
            let mut mount = Program::new("mount");
            mount.args(["-t", "tmpfs", "-o", FILE_SYSTEM, "huntaway-test"]).arg(&path);
            assert!(mount.status().is_ok_and(|status| status.success()), "root may mount a tmpfs");
            mounted.0.push(path);
        }
        mounted
    }
}

impl Drop for FileSystems {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = Program::new("umount").arg("--lazy").arg(path).status();
        }
    }
}

/// Writes one of the runs of blocks of an object, and says whether there was space.
fn put(flock: &mut Flock, vid: Vid, index: u32, run: u32, byte: u8) -> bool {
    let (partition, oid) = object(vid, index);
    let range = ByteRange::new(run * BLOCKS * BLOCK_SIZE_BYTES, BLOCKS * BLOCK_SIZE_BYTES);
    let range = range.expect("a range of an object");
    let block = Block::new(Bytes::from(vec![byte; BLOCK_SIZE_BYTES as usize]));
    let pieces = vec![block; BLOCKS as usize];
    match flock.ask(partition, &Command::Write { oid, range, pieces, durability: Durability::Logged }) {
        Answer::Done => true,
        Answer::Refused(Refused::NoSpace) => false,
        other => panic!("a write is answered by {other:?}"),
    }
}

#[test]
fn full_disks_refuse_what_takes_space_and_no_replica_is_lost_for_that() {
    if !available(&[Need::Root]) {
        return;
    }
    let dir = TempDir::new().expect("a temporary directory");
    let _file_systems = FileSystems::mount(dir.path(), 3);
    let store = StoreOptions {
        wal_bytes: 32 * MIB,
        wal_segment_bytes: 8 * MIB,
        space_reserve_bytes: 16 * MIB,
        ..StoreOptions::default()
    };
    let mut flock = Flock::in_directory(dir, (3, 3), store);
    let vid = flock.create("disk");
    let objects = (0..MOST_OBJECTS).find(|index| !put(&mut flock, vid, *index, 0, *index as u8));
    let objects = objects.expect("the disks get full");
    assert!(objects > 5, "{objects} objects found room");
    // Each partition has some room of its own still, and uses it up.
    let twice = (0..objects).filter(|index| put(&mut flock, vid, *index, 1, *index as u8)).count();
    assert!(!put(&mut flock, vid, objects, 0, 0), "full, with two runs in {twice} objects of {objects}");
    // Whoever did not take what it had promised would stay out as long as its process lives.
    let partitions: Vec<_> = (0..objects).map(|index| object(vid, index).0).collect();
    flock.until_whole(&partitions);
    // What takes the place of what is there needs none, and what is there is read.
    for index in 0..objects {
        assert!(put(&mut flock, vid, index, 0, 1 + index as u8), "{index}");
        assert_eq!(read(&mut flock, vid, index, 1), [Some(1 + index as u8)], "{index}");
    }
    // Who comes back finds its disk full, and learns what it missed.
    flock.kill(3);
    assert!(put(&mut flock, vid, 0, 0, 77));
    flock.start(3);
    flock.until_whole(&partitions);
    // What is given back is there for others.
    let began = Instant::now();
    for index in 1..objects {
        let (partition, oid) = object(vid, index);
        let gone = Command::Remove { oid, durability: Durability::Logged };
        assert_eq!(flock.ask(partition, &gone), Answer::Done);
    }
    while !put(&mut flock, vid, objects, 0, 88) {
        assert!(began.elapsed() < DEADLINE, "there is space again");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(read(&mut flock, vid, 0, 1), [Some(77)]);
    assert_eq!(read(&mut flock, vid, objects, 1), [Some(88)]);
    flock.until_whole(&partitions);
}
