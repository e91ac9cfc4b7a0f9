//! What a crash leaves is never damage: the offline check finds every store sound, whenever its process or the power
//! died. (That the right data is there is shown by the simulation.)

use std::io::ErrorKind;

use huntaway_wire::{ByteRange, Durability, OBJECT_SIZE_BYTES, Oid, Operation, Reply};

use super::harness::{Harness, crash_factor, oid, options, partition, pattern, write};
use crate::StoreOptions;
use crate::check::check_disk;
use crate::disk::{Crash, Fault, Operation as DiskOperation, SeededRandom, SimulatedDisk};

const SEEDS: u64 = 60;

/// Crashes in one run.
const LIVES: u64 = 6;

/// Makings and removals of one object after which the index of its partition is compacted at the next removal: all of
/// the 64 sectors that keep it from that but one, or more of them than matter.
const COMPACTED_AFTER: u64 = 30;

/// Requests before each crash, at most.
const STEPS: u64 = 40;

/// Another object in the partition of object 0.
fn neighbour() -> Oid {
    let home = partition(oid(0));
    (1..100_000).map(oid).find(|other| partition(*other) == home).unwrap()
}

fn step(harness: &Harness<SimulatedDisk>, random: &mut SeededRandom) {
    let oid = oid(random.below(3) as u32);
    let offset = random.below(20) as u32 * 1000;
    let length = 1 + random.below(20_000) as u32;
    let durability = if random.chance(1, 3) { Durability::Stable } else { Durability::Logged };
    let range = ByteRange::new(offset, length).unwrap();
    let operation = match random.below(12) {
        0..6 => write(offset, &pattern(random.draw() as u8, length as usize), durability),
        6 | 7 => Operation::Discard { range, durability },
        8 => {
            let range = ByteRange::new(0, OBJECT_SIZE_BYTES).unwrap();
            Operation::Discard { range, durability }
        }
        9 => Operation::Remove { durability },
        10 => Operation::Reserve,
        _ => {
            let _ = harness.store.apply();
            return;
        }
    };
    // Whatever comes of it: the process may be dead.
    drop(harness.submit(oid, operation));
    if random.chance(1, 4) {
        let _ = harness.store.sync();
    }
    if random.chance(1, 10) {
        let _ = harness.store.checkpoint();
    }
}

fn run(seed: u64) {
    let mut random = SeededRandom::new(seed);
    let options = StoreOptions { open_objects: 1 + random.below(3) as usize, ..options() };
    let mut harness = Harness::simulated(1 << 30, options);
    for life in 0..LIVES {
        harness.place.disk.die_after(random.below(150));
        for _ in 0..random.below(STEPS) {
            step(&harness, &mut random);
        }
        let crash = if random.chance(1, 2) { Crash::Power } else { Crash::Process };
        harness.place.disk.crash(crash, random.draw());
        let report = check_disk(&*harness.place.disk).unwrap();
        assert!(report.is_sound(), "seed {seed}, life {life}, after the crash: {report}");
        harness = harness.restart();
        if random.chance(1, 2) {
            harness.apply();
            harness.store.checkpoint().unwrap();
        }
        let report = check_disk(&*harness.place.disk).unwrap();
        assert!(report.is_sound(), "seed {seed}, life {life}, opened again: {report}");
    }
}

/// WRITE ATOMIC (SBC-4) promises this of 128 KiB.
#[test]
fn a_write_to_one_object_survives_a_crash_whole_or_not_at_all() {
    const BYTES: u32 = 128 << 10;
    let (mut old, mut new) = (0, 0);
    for (operations, seed) in (0..12).flat_map(|operations| (0..12).map(move |seed| (operations, seed))) {
        let harness = Harness::simulated(1 << 30, options());
        let stable = write(0, &[1; BYTES as usize], Durability::Stable);
        assert_eq!(harness.ask(oid(0), stable), Ok(Reply::Done));
        if seed % 2 == 0 {
            harness.apply();
        }
        harness.place.disk.die_after(operations);
        drop(harness.submit(oid(0), write(0, &[2; BYTES as usize], Durability::Logged)));
        let _ = harness.store.apply();
        let crash = if seed % 3 == 0 { Crash::Process } else { Crash::Power };
        harness.place.disk.crash(crash, seed);
        let harness = harness.restart();
        let found = harness.read(oid(0), 0, BYTES).unwrap();
        assert!(
            found.iter().all(|byte| *byte == found[0]),
            "a part of it after {operations} operations, {crash:?} with seed {seed}"
        );
        *(if found[0] == 1 { &mut old } else { &mut new }) += 1;
    }
    assert!(old > 10 && new > 10, "{old} times the old, {new} times the new data");
}

/// An index and the names of object files that a process left unsynced when it died, and the next one built on.
#[test]
fn what_a_dead_process_left_unsynced_is_synced_before_it_is_built_on() {
    for (operations, seed) in (10..30).flat_map(|operations| (0..12).map(move |seed| (operations, seed))) {
        let harness = Harness::simulated(1 << 30, options());
        harness.write(oid(0), 0, &pattern(1, 4096));
        harness.place.disk.die_after(operations);
        let _ = harness.store.apply();
        harness.place.disk.crash(Crash::Process, 0);
        let harness = harness.restart();
        harness.apply();
        harness.store.checkpoint().unwrap();
        harness.place.disk.crash(Crash::Power, seed);
        let harness = harness.restart();
        let found = harness.read(oid(0), 0, 4096);
        assert!(found == Ok(pattern(1, 4096)), "died after {operations} operations, power loss {seed}");
    }
}

/// A sync that failed leaves bytes that the next process can read, but that no later sync writes: they are written again.
#[test]
fn what_a_failed_sync_left_in_memory_only_is_made_durable_after_a_restart() {
    let neighbour = neighbour();
    for (after, seed, applies) in
        (0..8).flat_map(|after| (0..8).flat_map(move |seed| [(after, seed, false), (after, seed, true)]))
    {
        let told = format!("sync {after}, power loss {seed}, applied: {applies}");
        let stable = |byte| write(0, &[byte; 4096], Durability::Stable);
        let harness = Harness::simulated(1 << 30, options());
        assert_eq!(harness.ask(oid(0), stable(1)), Ok(Reply::Done));
        harness.apply();
        harness.write(oid(0), 0, &[2; 4096]);
        harness.write(neighbour, 0, &[3; 4096]);
        let disk = harness.place.disk.clone();
        disk.fail(Fault { operation: DiskOperation::SyncData, after, error: ErrorKind::Other });
        let _ = harness.store.sync();
        let _ = harness.store.apply();
        disk.crash(Crash::Process, 0);
        let harness = harness.restart();
        let found = |harness: &Harness<SimulatedDisk>| {
            [oid(0), neighbour].map(|oid| harness.read(oid, 0, 4096).map(|bytes| bytes[0]))
        };
        assert_eq!(found(&harness), [Ok(2), Ok(3)], "{told}");
        // Everything written before is promised by that.
        assert_eq!(harness.ask(oid(2), stable(4)), Ok(Reply::Done), "{told}");
        if applies {
            harness.apply();
            harness.store.checkpoint().unwrap();
        }
        disk.crash(Crash::Power, seed);
        let harness = harness.restart();
        assert_eq!(found(&harness), [Ok(2), Ok(3)], "{told}");
        assert!(check_disk(&*disk).unwrap().is_sound(), "{told}");
    }
}

#[test]
fn what_was_removed_takes_no_space_after_any_crash() {
    const OBJECTS: u32 = 10;
    let removal = || Operation::Remove { durability: Durability::Stable };
    // The process dies while it applies the removals; or it lives, and only then power is lost.
    let points = (0..40).step_by(if crash_factor() > 1 { 1 } else { 3 });
    for (died_after, seed) in points.flat_map(|at| (0..4 * crash_factor()).map(move |seed| (at, seed))) {
        let harness = Harness::simulated(1 << 30, options());
        (0..OBJECTS).for_each(|index| harness.write(oid(index), 0, &[1; 65_536]));
        harness.apply();
        (0..OBJECTS).for_each(|index| assert_eq!(harness.ask(oid(index), removal()), Ok(Reply::Done)));
        let disk = harness.place.disk.clone();
        if seed % 2 == 0 {
            disk.die_after(died_after);
        }
        if harness.store.apply().is_ok() {
            let _ = harness.store.checkpoint();
        }
        disk.crash(Crash::Power, seed);
        let harness = harness.restart();
        harness.apply();
        let report = check_disk(&*disk).unwrap();
        assert!(report.findings.is_empty(), "died after {died_after}, seed {seed}: {report}");
    }
}

/// Writing the index anew must not lose what it says of files that are still there.
#[test]
fn an_object_that_goes_while_the_index_is_compacted_is_no_damage_after_a_crash() {
    let neighbour = neighbour();
    let discard = |length| {
        let range = ByteRange::new(0, length).unwrap();
        Operation::Discard { range, durability: Durability::Stable }
    };
    let removal = Operation::Remove { durability: Durability::Stable };
    let seeds = (0..crash_factor()).flat_map(|seed| [(Crash::Process, seed), (Crash::Power, seed)]);
    let points = 20 * crash_factor().min(2);
    for ((crash, seed), after) in seeds.flat_map(|crash| (0..points).map(move |after| (crash, after))) {
        for goes in [discard(OBJECT_SIZE_BYTES), discard(4096), removal.clone()] {
            let told = format!("{goes:?}, {crash:?} after {after}, seed {seed}");
            let harness = Harness::simulated(1 << 30, options());
            harness.write(neighbour, 0, &pattern(1, 4096));
            harness.apply();
            for _ in 0..COMPACTED_AFTER {
                harness.write(oid(0), 0, &pattern(2, 4096));
                harness.apply();
                harness.discard(oid(0), 0, OBJECT_SIZE_BYTES);
                harness.apply();
            }
            harness.write(oid(0), 0, &pattern(2, 4096));
            harness.apply();
            harness.store.checkpoint().unwrap();
            let submission = harness.submit(oid(0), goes);
            harness.store.sync().unwrap();
            drop(submission);
            let disk = harness.place.disk.clone();
            disk.die_after(after);
            let _ = harness.store.apply();
            disk.crash(crash, after * 7 + 1 + seed);
            assert!(check_disk(&*disk).unwrap().is_sound(), "{told}");
            let harness = harness.restart();
            let _ = harness.store.apply();
            assert_eq!(harness.read(oid(0), 0, 4096), Ok(vec![0; 4096]), "{told}");
            harness.write(oid(0), 0, &pattern(9, 4096));
            assert_eq!(harness.read(oid(0), 0, 4096), Ok(pattern(9, 4096)), "{told}");
        }
    }
}

/// A file that was begun and taken back is there again after a power loss, unless its directory was synced.
#[test]
fn a_file_that_could_not_be_finished_and_was_discarded_is_no_damage_after_a_power_loss() {
    let neighbour = neighbour();
    let mut begun = 0;
    let operations = [DiskOperation::Write, DiskOperation::Name, DiskOperation::Allocate].into_iter();
    let seeds = 8 * crash_factor();
    let places =
        (0..14).flat_map(|after| (0..seeds).flat_map(move |seed| [(after, seed, 0), (after, seed, 1)]));
    for (operation, (after, seed, removes)) in
        operations.flat_map(|operation| places.clone().map(move |place| (operation, place)))
    {
        let told = format!("{operation:?} {after} fails, power loss {seed}, removed: {removes}");
        let harness = Harness::simulated(1 << 30, options());
        harness.write(neighbour, 0, &pattern(1, 4096));
        harness.apply();
        harness.write(oid(0), 0, &pattern(2, 4096));
        harness.store.sync().unwrap();
        let disk = harness.place.disk.clone();
        disk.fail(Fault { operation, after, error: ErrorKind::StorageFull });
        if !harness.store.apply().is_ok_and(|applied| applied.objects_without_room > 0) {
            continue;
        }
        begun += 1;
        if removes == 1 {
            drop(harness.submit(oid(0), Operation::Remove { durability: Durability::Logged }));
        } else {
            harness.discard(oid(0), 0, OBJECT_SIZE_BYTES);
        }
        harness.apply();
        harness.store.checkpoint().unwrap();
        disk.crash(Crash::Power, seed);
        assert!(check_disk(&*disk).unwrap().is_sound(), "{told}");
        assert_eq!(harness.restart().read(oid(0), 0, 4096), Ok(vec![0; 4096]), "{told}");
    }
    assert!(begun > 0, "no application met the full disk");
}

#[test]
fn no_crash_leaves_damage() {
    (0..SEEDS * crash_factor()).for_each(run);
}
