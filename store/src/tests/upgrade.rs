//! A store that a version without sums of tables left: it is taken over, whenever that is interrupted.

use std::io::IoSlice;
use std::sync::Arc;

use huntaway_wire::{OBJECT_SIZE_BYTES, Oid, Operation, Reply};

use super::harness::{Harness, crash_factor, oid, options, pattern};
use crate::Store;
use crate::check::check_disk;
use crate::disk::{Crash, Disk, Open, SimulatedDisk};
use crate::layout::SECTOR_BYTES;
use crate::object::Header;

const BLOCK: u32 = 4096;

/// Blocks that objects 0 to 3 are made of.
const BLOCKS: u32 = 40;

/// Bytes of the file `wal/released` when it did not say yet what is durable.
const OLD_RELEASED_BYTES: u64 = 2 * SECTOR_BYTES as u64;

/// Objects of each kind, and changes of them that are in the log only.
fn old_store() -> Arc<SimulatedDisk> {
    let harness = Harness::simulated(1 << 30, options());
    for index in 0..4 {
        harness.write(oid(index), 0, &pattern(index as u8, (BLOCKS * BLOCK) as usize));
    }
    assert_eq!(harness.ask(oid(1), Operation::Reserve), Ok(Reply::Done));
    harness.apply();
    harness.discard(oid(0), BLOCK * 3, BLOCK * 5);
    harness.discard(oid(1), BLOCK * 3, BLOCK * 5);
    harness.discard(oid(2), 0, OBJECT_SIZE_BYTES);
    harness.apply();
    harness.write(oid(0), BLOCK * 4, &pattern(7, (BLOCK * 30) as usize));
    harness.write(oid(1), BLOCK * 4, &pattern(8, (BLOCK * 30) as usize));
    harness.write(oid(2), BLOCK * 4, &pattern(9, (BLOCK * 3) as usize));
    harness.discard(oid(3), BLOCK, BLOCK * 2);
    harness.write(oid(5), 0, &pattern(10, BLOCK as usize));
    harness.store.sync().unwrap();
    let disk = harness.place.disk.clone();
    disk.crash(Crash::Process, 0);
    disk.files().iter().filter(|path| is_object(path)).for_each(|path| take_sums_away(&disk, path));
    let released = disk.open("wal/released", Open::Existing).unwrap();
    disk.set_length(&released, OLD_RELEASED_BYTES).unwrap();
    disk.sync_data(&released).unwrap();
    disk
}

fn is_object(path: &str) -> bool {
    path.starts_with("objects/") && !path.ends_with("index")
}

fn take_sums_away(disk: &SimulatedDisk, path: &str) {
    let file = disk.open(path, Open::Existing).unwrap();
    let mut sector = [0; SECTOR_BYTES];
    disk.read_at(&file, &mut sector, 0).unwrap();
    let header = Header { sums: None, ..Header::decode(&sector).unwrap() };
    disk.write_at(&file, &[IoSlice::new(&header.encode())], 0).unwrap();
    disk.sync_data(&file).unwrap();
}

fn assert_all_is_there(harness: &Harness<SimulatedDisk>, told: &str) {
    let check = |oid: Oid, first: u32, expected: Vec<u8>| {
        let found = harness.read(oid, first * BLOCK, expected.len() as u32);
        assert!(found == Ok(expected), "{told}: {oid} from block {first} on");
    };
    let zeroes = |blocks: u32| vec![0; (blocks * BLOCK) as usize];
    let part = |seed: u8, first: u32, end: u32| {
        pattern(seed, (BLOCKS * BLOCK) as usize)[(first * BLOCK) as usize..(end * BLOCK) as usize].to_vec()
    };
    for (index, seed) in [(0, 7), (1, 8)] {
        check(oid(index), 0, part(index as u8, 0, 3));
        check(oid(index), 3, zeroes(1));
        check(oid(index), 4, part(seed, 0, 30));
        check(oid(index), 34, part(index as u8, 34, BLOCKS));
    }
    check(oid(2), 0, zeroes(4));
    check(oid(2), 4, part(9, 0, 3));
    check(oid(2), 7, zeroes(100));
    check(oid(3), 0, part(3, 0, 1));
    check(oid(3), 1, zeroes(2));
    check(oid(5), 0, part(10, 0, 1));
}

#[test]
fn a_store_without_sums_is_taken_over_whole_whenever_that_is_interrupted() {
    let points = (0..90 * crash_factor().min(2)).step_by(if crash_factor() > 1 { 1 } else { 6 });
    for (after, seed) in points.flat_map(|after| (0..3 * crash_factor()).map(move |seed| (after, seed))) {
        let told = format!("died after {after} operations, seed {seed}");
        let disk = old_store();
        disk.die_after(after);
        if let Ok(store) = Store::open(disk.clone(), options()) {
            let _ = store.apply();
            let _ = store.checkpoint();
        }
        disk.crash(if seed % 3 == 0 { Crash::Process } else { Crash::Power }, seed);
        assert!(check_disk(&*disk).unwrap().is_sound(), "{told}");
        let harness = Harness::on_old(disk.clone());
        assert_all_is_there(&harness, &told);
        harness.apply();
        harness.store.checkpoint().unwrap();
        disk.crash(Crash::Power, seed);
        let harness = harness.restart();
        assert_all_is_there(&harness, &format!("{told}, and after another power loss"));
        assert!(check_disk(&*disk).unwrap().is_sound(), "{told}");
    }
}
