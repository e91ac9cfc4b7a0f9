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

/// More objects than fit anywhere here.
const MOST_OBJECTS: u32 = 4000;

/// What is written, and where.
#[derive(Clone, Copy)]
struct Form {
    /// Blocks written at a time.
    blocks: u32,
    /// The log, in MiB.
    log_mib: u64,
    /// Each file system: room for the log, for what is never promised, and for some 80 MiB.
    size: &'static str,
}

/// All that is written is no more than what the log holds.
const SMALL: Form = Form { blocks: 64, log_mib: 32, size: "size=136m" };

/// A few writes fill the log.
const LARGE: Form = Form { blocks: 512, log_mib: 24, size: "size=128m" };

/// File systems in memory that are unmounted when they are dropped.
struct FileSystems(Vec<PathBuf>);

impl FileSystems {
    fn mount(dir: &Path, count: u8, size: &str) -> Self {
        let mut mounted = Self(Vec::new());
        for node in 1..=count {
            let path = dir.join(format!("node-{node}")).join("disk");
            std::fs::create_dir_all(&path).expect("the scratch directory is writable");
            let mut mount = Program::new("mount");
            mount.args(["-t", "tmpfs", "-o", size, "huntaway-test"]).arg(&path);
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

/// A disk of three copies, each on a file system that gets full.
struct Full {
    flock: Flock,
    vid: Vid,
    blocks: u32,
    _file_systems: FileSystems,
}

impl Full {
    fn new(form: Form) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let file_systems = FileSystems::mount(dir.path(), 3, form.size);
        let store = StoreOptions {
            wal_bytes: form.log_mib * MIB,
            wal_segment_bytes: 8 * MIB,
            space_reserve_bytes: 16 * MIB,
            ..StoreOptions::default()
        };
        let flock = Flock::in_directory(dir, (3, 3), store);
        let vid = flock.create("disk");
        Self { flock, vid, blocks: form.blocks, _file_systems: file_systems }
    }

    /// Writes one of the runs of blocks of an object, and says whether there was space.
    fn put(&mut self, index: u32, run: u32, byte: u8) -> bool {
        let (partition, oid) = object(self.vid, index);
        let range = ByteRange::new(run * self.blocks * BLOCK_SIZE_BYTES, self.blocks * BLOCK_SIZE_BYTES);
        let range = range.expect("a range of an object");
        let block = Block::new(Bytes::from(vec![byte; BLOCK_SIZE_BYTES as usize]));
        let pieces = vec![block; self.blocks as usize];
        let write = Command::Write { oid, range, pieces, durability: Durability::Logged };
        match self.flock.ask(partition, &write) {
            Answer::Done => true,
            Answer::Refused(Refused::NoSpace) => false,
            other => panic!("a write is answered by {other:?}"),
        }
    }

    fn first_byte(&mut self, index: u32) -> Option<u8> {
        read(&mut self.flock, self.vid, index, 1)[0]
    }
}

#[test]
fn full_disks_refuse_what_takes_space_and_no_replica_is_lost_for_that() {
    if available(&[Need::Root]) {
        fill(SMALL);
    }
}

#[test]
fn a_log_at_its_bound_on_a_full_disk_costs_no_replica() {
    if available(&[Need::Root]) {
        fill(LARGE);
    }
}

fn fill(form: Form) {
    let mut full = Full::new(form);
    let objects = (0..MOST_OBJECTS).find(|index| !full.put(*index, 0, *index as u8));
    let objects = objects.expect("the disks get full");
    assert!(objects > 5, "{objects} objects found room");
    // Each partition has some room of its own still, and uses it up.
    let twice = (0..objects).filter(|index| full.put(*index, 1, *index as u8)).count();
    assert!(twice > 0, "of {objects} objects none has room for two runs");
    // What was kept for them and not used may be enough for a few others.
    let objects = (objects..MOST_OBJECTS).find(|index| !full.put(*index, 0, *index as u8));
    let objects = objects.expect("the disks are full");
    // Whoever did not take what it had promised would stay out as long as its process lives.
    let partitions: Vec<_> = (0..objects).map(|index| object(full.vid, index).0).collect();
    full.flock.until_whole(&partitions);
    // What takes the place of what is there needs none, and what is there is read.
    for index in 0..objects {
        assert!(full.put(index, 0, 1 + index as u8), "{index}");
        assert_eq!(full.first_byte(index), Some(1 + index as u8), "{index}");
    }
    // Who comes back finds its disk full, and learns what it missed.
    full.flock.kill(3);
    assert!(full.put(0, 0, 77));
    full.flock.start(3);
    full.flock.until_whole(&partitions);
    // What is given back is there for others.
    let began = Instant::now();
    for index in 1..objects {
        let (partition, oid) = object(full.vid, index);
        let gone = Command::Remove { oid, durability: Durability::Logged };
        assert_eq!(full.flock.ask(partition, &gone), Answer::Done);
    }
    while !full.put(objects, 0, 88) {
        assert!(began.elapsed() < DEADLINE, "there is space again");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(full.first_byte(0), Some(77));
    assert_eq!(full.first_byte(objects), Some(88));
    full.flock.until_whole(&partitions);
}
