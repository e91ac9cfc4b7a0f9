//! What commands come to.

use huntaway_wire::{ObjectKind, Vid};

use super::*;

fn oid() -> Oid {
    Oid::new(ObjectKind::Data, Vid::new(1).unwrap(), 0)
}

fn range(offset: u32, length: u32) -> ByteRange {
    ByteRange::new(offset, length).unwrap()
}

/// Data for a range, each byte being `byte`.
fn data(range: ByteRange, byte: u8) -> Vec<Block> {
    pieces(range).map(|piece| Block::new(Bytes::from(vec![byte; piece.len()]))).collect()
}

fn block(byte: u8) -> Content {
    Some(Block::new(Bytes::from(vec![byte; 4096])))
}

fn write(range: ByteRange, byte: u8) -> Command {
    Command::Write { oid: oid(), range, pieces: data(range, byte), durability: Durability::Logged }
}

fn contents(outcome: Result<(Change, Completion), Refused>) -> (u32, Vec<Content>) {
    match outcome.unwrap() {
        (Change::Write { first_block, blocks }, Completion::Done) => (first_block, blocks),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_fragment_is_merged_with_what_was_there_and_gets_another_checksum() {
    let command = write(range(4096 + 10, 4096), 7);
    assert_eq!(wanted(&command).to_vec(), [1..2, 2..3]);
    let old = BTreeMap::from([(1, block(3)), (2, None)]);
    let (first_block, blocks) = contents(outcome(&command, &old, false));
    assert_eq!(first_block, 1);
    let bytes = |place: usize| blocks[place].as_ref().unwrap().bytes.clone();
    assert_eq!((bytes(0)[9], bytes(0)[10], bytes(0)[4095]), (3, 7, 7));
    assert_eq!((bytes(1)[9], bytes(1)[10]), (7, 0));
    assert!(blocks.iter().flatten().all(Block::is_sound));
}

#[test]
fn whole_blocks_are_written_without_looking() {
    let command = write(range(4096, 8192), 7);
    assert!(wanted(&command).is_empty());
    assert_eq!(contents(outcome(&command, &BTreeMap::new(), false)), (1, vec![block(7), block(7)]));
}

#[test]
fn data_that_is_damaged_is_not_sound() {
    for range in [range(10, 20), range(0, 4096)] {
        let whole = write(range, 7);
        let Command::Write { oid, pieces, durability, .. } = whole.clone() else { panic!("{whole:?}") };
        let pieces = vec![Block { crc: 1, ..pieces[0].clone() }];
        let damaged = Command::Write { oid, range, pieces, durability };
        assert!(is_sound(&whole) && !is_sound(&damaged));
    }
}

#[test]
fn data_that_is_not_as_long_as_its_range_is_refused() {
    let short = |range: ByteRange, pieces| Command::Write {
        oid: oid(),
        range,
        pieces,
        durability: Durability::Logged,
    };
    let wrong = short(range(0, 8192), data(range(0, 4096), 7));
    assert_eq!(outcome(&wrong, &BTreeMap::new(), false), Err(Refused::Unsound));
    let wrong = short(range(0, 4096), data(range(0, 100), 7));
    assert_eq!(outcome(&wrong, &BTreeMap::new(), false), Err(Refused::Unsound));
}

#[test]
fn or_leaves_the_bits_that_are_set() {
    let range = range(0, 4096);
    let command =
        Command::Or { oid: oid(), range, pieces: data(range, 0b0101), durability: Durability::Logged };
    let old = BTreeMap::from([(0, block(0b0011))]);
    assert_eq!(contents(outcome(&command, &old, false)), (0, vec![block(0b0111)]));
}

#[test]
fn compare_and_write_says_where_the_first_difference_is() {
    let range = range(512, 1024);
    let command = |expected: Vec<u8>| Command::CompareAndWrite {
        oid: oid(),
        range,
        expected: Block::new(Bytes::from(expected)),
        pieces: data(range, 9),
        durability: Durability::Logged,
    };
    let old = BTreeMap::from([(0, block(5))]);
    let (_, blocks) = contents(outcome(&command(vec![5; 1024]), &old, false));
    assert_eq!(blocks[0].as_ref().unwrap().bytes[511..513], [5, 9]);
    let mut other = vec![5; 1024];
    other[700] = 6;
    let miscompare = (Change::Nothing, Completion::Miscompare { offset: 700 });
    assert_eq!(outcome(&command(other), &old, false), Ok(miscompare));
    assert_eq!(outcome(&command(vec![5; 10]), &old, false), Err(Refused::Unsound));
}

#[test]
fn discarding_leaves_holes_and_what_else_was_in_the_blocks_at_the_ends() {
    let command =
        Command::Discard { oid: oid(), range: range(100, 3 * 4096), durability: Durability::Logged };
    assert_eq!(wanted(&command).to_vec(), [0..1, 3..4]);
    let old = BTreeMap::from([(0, block(5)), (3, None)]);
    let (first_block, blocks) = contents(outcome(&command, &old, false));
    assert_eq!((first_block, blocks.len()), (0, 4));
    let first = blocks[0].as_ref().unwrap();
    assert_eq!((first.bytes[99], first.bytes[100], first.is_sound()), (5, 0, true));
    assert_eq!(blocks[1..], [None, None, None]);
}

#[test]
fn a_removed_object_does_not_show_what_it_inherits() {
    let command = Command::Remove { oid: oid(), durability: Durability::Logged };
    let old = BTreeMap::new();
    assert_eq!(outcome(&command, &old, false), Ok((Change::Remove, Completion::Done)));
    let (first_block, blocks) = contents(outcome(&command, &old, true));
    assert_eq!((first_block, blocks), (0, vec![None; 1024]));
}

#[test]
fn a_map_has_runs_of_blocks_that_hold_data_or_do_not() {
    let found = (3..).zip([block(1), block(2), None, None, block(3)]).collect();
    let (mapped, free) = (Provisioning::Mapped, Provisioning::Deallocated);
    let runs = [(3, 2, mapped), (5, 2, free), (7, 1, mapped)];
    let run = |(first_block, blocks, provisioning)| MappedRun { first_block, blocks, provisioning };
    assert_eq!(map(&found, false), runs.map(run));
}
