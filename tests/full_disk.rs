//! A data directory on a small file system of its own: initiators are told ahead of time, what does not fit is refused and
//! the rest goes on, and what is given back can be used at once.

mod support;

use support::demo::{Demo, huntaway, lun};
use support::file_system::FileSystem;
use support::initiator::{Initiator, Login};
use support::needs::{Need, available, skip};

/// Room for the log (256 MiB), what is never promised (64 MiB), and about 120 MiB of data.
const FILE_SYSTEM: &str = "size=448m";

/// Bytes written at a time.
const CHUNK_BYTES: usize = 64 << 10;
const CHUNK_BLOCKS: u32 = 128;
/// More does not fit anywhere here.
const MOST_CHUNKS: u32 = 448 * 16;

const THRESHOLD_REACHED: (u8, u8, u8) = (6, 0x38, 0x07);
const NO_SPACE: (u8, u8, u8) = (7, 0x27, 0x07);

fn chunk(number: u32, seed: u32) -> Vec<u8> {
    let word = [number.to_le_bytes(), seed.to_le_bytes()].concat();
    word.repeat(CHUNK_BYTES / word.len())
}

fn cdb(opcode: u8, number: u32) -> [u8; 10] {
    let [l0, l1, l2, l3] = (number * CHUNK_BLOCKS).to_be_bytes();
    [opcode, 0, l0, l1, l2, l3, 0, 0, CHUNK_BLOCKS as u8, 0]
}

fn write(initiator: &mut Initiator, number: u32, seed: u32) -> Result<(), (u8, u8, u8)> {
    initiator.tell(0, &cdb(0x2a, number), &chunk(number, seed))
}

fn read(initiator: &mut Initiator, number: u32) -> Vec<u8> {
    initiator.ask(0, &cdb(0x28, number), CHUNK_BYTES as u32).expect("reading goes on")
}

fn unmap(initiator: &mut Initiator, number: u32, chunks: u32) {
    let mut list = vec![0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0];
    list.extend_from_slice(&(number * CHUNK_BLOCKS).to_be_bytes());
    list.extend_from_slice(&(chunks * CHUNK_BLOCKS).to_be_bytes());
    list.extend_from_slice(&[0; 4]);
    assert_eq!(initiator.tell(0, &[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], &list), Ok(()));
}

/// MiB that the log page says are available.
fn available_mib(initiator: &mut Initiator) -> u32 {
    let page = initiator.ask(0, &[0x4d, 0, 0x4c, 0, 0, 0, 0, 0, 255, 0], 255).expect("the log page is there");
    u32::from_be_bytes(page[8..12].try_into().expect("4 bytes"))
}

fn log_in(demo: &Demo, name: &str) -> Initiator {
    let login = Login {
        portal: demo.portal(),
        initiator: name,
        target: Some(demo.target()),
        account: None,
        mutual: None,
    };
    let mut initiator = login.log_in().expect("anyone may log in");
    initiator.read(0).expect("the disk can be read");
    initiator
}

/// What became of filling a disk.
struct Filled {
    /// The first chunk that was refused.
    full: u32,
    /// Before which chunks the writer was told of the threshold.
    told: Vec<u32>,
    /// How often the other initiator was.
    other_told: usize,
}

/// Writes chunks until there is no space; `other` only looks whether its disk is ready, now and then.
fn fill(writer: &mut Initiator, other: &mut Initiator) -> Filled {
    let mut filled = Filled { full: 0, told: Vec::new(), other_told: 0 };
    let mut look = |other_told: &mut usize| match other.ask(0, &[0; 6], 0) {
        Ok(_) => {}
        Err(THRESHOLD_REACHED) => *other_told += 1,
        Err(sense) => panic!("{sense:x?}"),
    };
    while filled.full < MOST_CHUNKS {
        match write(writer, filled.full, 0) {
            Ok(()) => filled.full += 1,
            Err(THRESHOLD_REACHED) => filled.told.push(filled.full),
            Err(NO_SPACE) => {
                look(&mut filled.other_told);
                return filled;
            }
            Err(sense) => panic!("chunk {}: {sense:x?}", filled.full),
        }
        if filled.full.is_multiple_of(64) {
            look(&mut filled.other_told);
        }
    }
    panic!("a file system of {FILE_SYSTEM} took {MOST_CHUNKS} chunks");
}

#[test]
fn a_full_file_system_is_told_of_refuses_what_is_new_and_takes_what_is_given_back() {
    if !available(&[Need::Root, Need::Program("mount")]) {
        return;
    }
    let scratch = tempfile::tempdir().expect("a temporary directory can be made");
    let directory = scratch.path().join("data");
    let Some(_file_system) = FileSystem::mount(&directory, FILE_SYSTEM) else {
        return skip("a tmpfs cannot be mounted here");
    };
    let mut demo = Demo::builder().args(lun("size=1GiB,thin=true")).directory(&directory).start();
    let mut writer = log_in(&demo, "iqn.2026-11.test:writer");
    let mut other = log_in(&demo, "iqn.2026-11.test:other");
    let before = available_mib(&mut writer);
    assert!((100..=128).contains(&before), "{before} MiB are available");

    let Filled { full, told, other_told } = fill(&mut writer, &mut other);
    drop(other);
    assert!(full > 16 * (before - 16), "only {full} chunks fit into {before} MiB");
    assert_eq!(told.len(), 1, "told at {told:?}");
    assert!((16 * 30..=16 * 60).contains(&(full - told[0])), "told at chunk {} of {full}", told[0]);
    assert_eq!(other_told, 1);
    for number in [full, full + 1, MOST_CHUNKS] {
        assert_eq!(write(&mut writer, number, 0), Err(NO_SPACE));
        assert_eq!(read(&mut writer, number), [0; CHUNK_BYTES], "nothing of it was written");
    }
    assert!(available_mib(&mut writer) <= 1);

    // What has its space goes on.
    for number in (0..full).step_by(97) {
        assert_eq!(write(&mut writer, number, 7), Ok(()));
    }
    let seed = |number: u32| if number.is_multiple_of(97) { 7 } else { 0 };
    for number in 0..full {
        assert!(read(&mut writer, number) == chunk(number, seed(number)), "chunk {number}");
    }

    // Half of what is given back is written at once.
    let given_back = 16 * 32;
    unmap(&mut writer, 0, given_back);
    let new = full..full + given_back / 2;
    for number in new.clone() {
        assert_eq!(write(&mut writer, number, 0), Ok(()), "chunk {number}");
    }
    let check = |initiator: &mut Initiator| {
        for number in 0..new.end {
            let found = read(initiator, number);
            match number {
                _ if number < given_back => assert!(found == [0; CHUNK_BYTES], "chunk {number} is back"),
                _ if number < full => assert!(found == chunk(number, seed(number)), "chunk {number}"),
                _ => assert!(found == chunk(number, 0), "chunk {number}"),
            }
        }
    };
    check(&mut writer);
    drop(writer);
    assert!(demo.stop().success());

    let mut demo = Demo::builder().directory(&directory).start();
    check(&mut log_in(&demo, "iqn.2026-11.test:writer"));
    assert!(demo.stop().success());
    let check =
        huntaway().args(["store", "check"]).arg(&directory).output().expect("huntaway can be started");
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
}
