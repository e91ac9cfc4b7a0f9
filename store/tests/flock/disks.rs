//! A node of several disks: one of them fails, and the others take what it had.

use std::time::Instant;

use huntaway_ledger::State;
use huntaway_store::{DiskState, NotAdded, NotRemoved, StoreOptions};
use huntaway_wire::replicated::{Answer, Command};
use huntaway_wire::{Durability, Oid, Partition, Vid};
use tempfile::TempDir;

use super::running::{DEADLINE, Flock, id, object, read, write};

/// Objects that are written: some on each disk.
const OBJECTS: u32 = 24;

/// The node whose disk fails.
const NODE: u8 = 2;

fn flock(disks: &'static [&'static str]) -> (Flock, Vid) {
    let dir = TempDir::new().expect("a temporary directory");
    let flock = Flock::with_disks(dir, (3, 2), StoreOptions::default(), disks);
    let vid = flock.create("disk");
    (flock, vid)
}

fn write_all(flock: &mut Flock, vid: Vid, block: u32) {
    for index in 0..OBJECTS {
        let (partition, oid) = object(vid, index);
        let command = write(oid, block, block as u8 * 50 + index as u8, Durability::Logged);
        assert_eq!(flock.ask(partition, &command), Answer::Done);
    }
}

/// The node is the only one that runs, and all that it has is right.
fn assert_has_all(flock: &mut Flock, vid: Vid, blocks: u32) {
    let state = flock.state();
    let others = (1..=3).filter(|node| *node != NODE);
    let kept: Vec<u32> = (0..OBJECTS).filter(|index| keeps(&state, object(vid, *index).0)).collect();
    assert!(!kept.is_empty());
    others.for_each(|node| flock.kill(node));
    for index in kept {
        let expected: Vec<_> = (0..blocks).map(|block| Some(block as u8 * 50 + index as u8)).collect();
        assert_eq!(read(flock, vid, index, blocks), expected, "object {index}");
    }
}

fn keeps(state: &State, partition: Partition) -> bool {
    state.sets().set(partition).is_some_and(|set| set.in_sync.contains(&id(NODE)))
}

fn until_empty(flock: &Flock, disk: usize) {
    let began = Instant::now();
    while flock.disks(NODE)[disk].partitions > 0 {
        assert!(began.elapsed() < DEADLINE, "it has {:?}", flock.disks(NODE));
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

fn all() -> Vec<Partition> {
    Partition::all().collect()
}

#[test]
fn the_others_take_what_a_disk_had_that_failed_while_its_node_lives() {
    let (mut flock, vid) = flock(&["one", "two", "three"]);
    write_all(&mut flock, vid, 0);
    flock.until_whole(&all());
    let before = flock.disks(NODE);
    assert!(before.iter().all(|disk| disk.partitions > 900), "{before:?}");
    flock.fail_disk(NODE, 1);
    write_all(&mut flock, vid, 1);
    until_empty(&flock, 1);
    flock.until_whole(&all());
    let after = flock.disks(NODE);
    assert_eq!(after[1].state, DiskState::Failed);
    assert_eq!(after.iter().map(|disk| u32::from(disk.partitions)).sum::<u32>(), 4096);
    assert!([0, 2].iter().all(|disk| after[*disk].partitions > before[*disk].partitions + 400), "{after:?}");
    write_all(&mut flock, vid, 2);
    assert!(flock.sync_all(1, NODE).is_some(), "nothing is on it that would have to be synced");
    // The disk is there again at the next start, and what it has is nothing to anybody.
    flock.kill(NODE);
    write_all(&mut flock, vid, 3);
    flock.start(NODE);
    flock.until_whole(&all());
    assert_eq!(
        (flock.disks(NODE)[1].state.clone(), flock.disks(NODE)[1].partitions),
        (DiskState::Serving, 0)
    );
    assert_has_all(&mut flock, vid, 4);
}

#[test]
fn a_process_that_dies_while_its_disks_take_over_goes_on_with_that() {
    let (mut flock, vid) = flock(&["one", "two"]);
    write_all(&mut flock, vid, 0);
    flock.until_whole(&all());
    flock.fail_disk(NODE, 0);
    let all_of = |flock: &Flock| flock.disks(NODE).iter().map(|disk| disk.partitions).sum::<u16>();
    let of_it = flock.disks(NODE)[0].partitions;
    for (round, left) in [(1, of_it - 10), (2, of_it / 2)] {
        let began = Instant::now();
        while flock.disks(NODE)[0].partitions > left {
            assert!(began.elapsed() < DEADLINE && all_of(&flock) == 4096);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        flock.kill(NODE);
        write_all(&mut flock, vid, round);
        flock.start(NODE);
        flock.fail_disk(NODE, 0);
    }
    until_empty(&flock, 0);
    flock.until_whole(&all());
    assert_has_all(&mut flock, vid, 3);
}

#[test]
fn a_node_with_one_disk_waits_for_its_next_process() {
    let (mut flock, vid) = flock(&["one"]);
    write_all(&mut flock, vid, 0);
    flock.until_whole(&all());
    flock.fail_disk(NODE, 0);
    write_all(&mut flock, vid, 1);
    assert_eq!(flock.disks(NODE)[0].partitions, 4096);
    flock.kill(NODE);
    flock.start(NODE);
    flock.until_whole(&all());
    assert_has_all(&mut flock, vid, 2);
}

#[test]
fn a_disk_that_is_to_be_taken_away_is_emptied_and_then_is_the_nodes_no_longer() {
    let (mut flock, vid) = flock(&["one", "two"]);
    write_all(&mut flock, vid, 0);
    flock.until_whole(&all());
    assert!(matches!(flock.remove_disk(NODE, "three"), Err(NotRemoved::Unknown { .. })));
    let of_it = flock.remove_disk(NODE, "one").expect("the other has room").partitions;
    assert!(matches!(flock.remove_disk(NODE, "two"), Err(NotRemoved::Only)));
    assert!(!flock.keep_disk(NODE, "one").expect("it is one of its disks").leaves);
    assert!(flock.remove_disk(NODE, "one").expect("the other has room").leaves);
    write_all(&mut flock, vid, 1);
    // The process dies half-way: the next one goes on, without being told again.
    let began = Instant::now();
    while flock.disks(NODE)[0].partitions > of_it / 2 {
        assert!(began.elapsed() < DEADLINE, "{:?}", flock.disks(NODE));
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    flock.kill(NODE);
    write_all(&mut flock, vid, 2);
    flock.start(NODE);
    until_empty(&flock, 0);
    flock.until_whole(&all());
    flock.kill(NODE);
    flock.disks = &["two"];
    flock.start(NODE);
    let disks: Vec<_> = flock.disks(NODE).iter().map(|disk| (disk.partitions, disk.leaves)).collect();
    assert_eq!(disks, [(4096, false)]);
    flock.until_whole(&all());
    assert_has_all(&mut flock, vid, 3);
}

#[test]
fn the_share_of_a_disk_that_is_added_comes_to_it_and_no_more() {
    let (mut flock, vid) = flock(&["one", "two"]);
    write_all(&mut flock, vid, 0);
    flock.until_whole(&all());
    let before: Vec<u16> = flock.disks(NODE).iter().map(|disk| disk.partitions).collect();
    assert!(matches!(flock.add_disk(NODE, "two"), Err(NotAdded::Known)));
    let added = flock.add_disk(NODE, "three").expect("it is new");
    assert!(added.fills);
    write_all(&mut flock, vid, 1);
    let share = |flock: &Flock| flock.disks(NODE)[2].partitions;
    // The process dies half-way: the next one goes on, without being told again.
    let began = Instant::now();
    while share(&flock) < 4096 / 6 {
        assert!(began.elapsed() < DEADLINE, "{:?}", flock.disks(NODE));
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    flock.kill(NODE);
    write_all(&mut flock, vid, 2);
    flock.disks = &["one", "two", "three"];
    flock.start(NODE);
    while flock.disks(NODE)[2].fills {
        assert!(began.elapsed() < DEADLINE, "{:?}", flock.disks(NODE));
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    flock.until_whole(&all());
    assert!((4096 / 4..=4096 * 5 / 12).contains(&share(&flock)), "{:?}", flock.disks(NODE));
    let now: Vec<u16> = flock.disks(NODE).iter().map(|disk| disk.partitions).collect();
    assert!(now[0] < before[0] && now[1] < before[1], "{before:?}, and then {now:?}");
    assert_has_all(&mut flock, vid, 3);
}

/// By its table partitions are on a disk from which what it had of them was removed.
#[test]
fn a_node_whose_state_directory_is_an_old_copy_learns_all_anew() {
    let (mut flock, vid) = flock(&["one", "two"]);
    write_all(&mut flock, vid, 0);
    flock.until_whole(&all());
    let old = flock.state_files(NODE);
    flock.remove_disk(NODE, "one").expect("the other has room");
    until_empty(&flock, 0);
    flock.until_whole(&all());
    for state in [None, Some(old)] {
        flock.kill(NODE);
        for (path, bytes) in state.into_iter().flatten() {
            std::fs::write(path, bytes).expect("it is written");
        }
        flock.start(NODE);
        flock.until_whole(&all());
    }
    assert_ne!(flock.disks(NODE)[0].partitions, 0, "by the old table");
    assert_has_all(&mut flock, vid, 1);
}

#[test]
fn what_a_disk_that_failed_cannot_tell_is_not_called_damaged() {
    let dir = TempDir::new().expect("a temporary directory");
    let mut flock = Flock::in_directory(dir, (1, 1), StoreOptions::default());
    let vid = flock.create("disk");
    write_all(&mut flock, vid, 0);
    flock.fail_disk(1, 0);
    // Its replicas have not been told yet.
    for index in 0..OBJECTS {
        let (partition, oid) = object(vid, index);
        let answer = flock.answers_at_once(partition, &Command::Read { oid, blocks: 0..1 });
        assert!(matches!(answer, None | Some(Answer::Refused(_))), "object {index}: {answer:?}");
    }
}

/// Whether a disk of the node has an object of the partition.
fn has_files(flock: &Flock, disk: &str, (partition, oid): (Partition, Oid)) -> bool {
    let prefix = format!("{:03x}.", partition.index());
    let entries = std::fs::read_dir(flock.directory(NODE).join(disk).join("objects"));
    let mut entries = entries.expect("it is there").filter_map(Result::ok);
    entries.any(|entry| {
        let name = entry.file_name();
        name.to_string_lossy().starts_with(&prefix) && entry.path().join(oid.to_string()).exists()
    })
}

#[test]
fn what_a_disk_had_is_removed_when_all_copies_are_whole_without_it() {
    let dir = TempDir::new().expect("a temporary directory");
    let mut flock = Flock::with_disks(dir, (2, 2), StoreOptions::default(), &["one", "two"]);
    let vid = flock.create("disk");
    write_all(&mut flock, vid, 0);
    flock.until_whole(&all());
    let mut on_it: Vec<_> = (0..OBJECTS).map(|index| object(vid, index)).collect();
    let is_applied = |at: &(Partition, Oid)| ["one", "two"].iter().any(|disk| has_files(&flock, disk, *at));
    flock.until("all is applied", |_| on_it.iter().all(is_applied));
    on_it.retain(|at| has_files(&flock, "one", *at));
    let led = on_it.iter().position(|at| flock.primary(at.0) == 1).expect("about half of them");
    let untaught = on_it.swap_remove(led);
    assert!(!on_it.is_empty());
    // Who would teach it is busy.
    flock.while_busy(1, untaught.0, |flock| {
        flock.remove_disk(NODE, "one").expect("the other has room");
        let is_gone = |at: &(Partition, Oid)| !has_files(flock, "one", *at);
        flock.until("others are removed", |_| on_it.iter().all(is_gone));
        until_empty(flock, 0);
        assert!(has_files(flock, "one", untaught), "one copy is all there is");
    });
    flock.until("all is removed", |_| !has_files(&flock, "one", untaught));
    flock.until_whole(&all());
}
