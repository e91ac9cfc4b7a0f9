//! The bytes of records: they never change, and any change to them is noticed.

mod fixture;

use fixture::{create, one_of_each, written};
use huntaway_ledger::{DecodeError, Ledger, PREAMBLE_BYTES, ReadError, Record, RecordHash};
use proptest::prelude::{any, prop, proptest};

/// One record of each kind as version 1 writes them. If this test fails, old ledgers can no longer be read.
const GOLDEN: &str = include_str!("golden/version-1.hex");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hexadecimal");
    digits.map(byte).collect()
}

/// The ledger after all of `records`, read from bytes.
fn read_all(bytes: &[u8]) -> Result<(Ledger, Vec<Record>), ReadError> {
    let mut ledger = Ledger::default();
    let mut records = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (record, length) = ledger.read(rest)?;
        records.push(record);
        rest = &rest[length..];
    }
    Ok((ledger, records))
}

#[test]
fn records_are_written_as_they_always_were() {
    let written: Vec<String> = written(&one_of_each()).iter().map(|bytes| hex(bytes)).collect();
    assert_eq!(written, GOLDEN.lines().collect::<Vec<_>>());
}

#[test]
fn records_written_long_ago_are_read() {
    let golden: Vec<Vec<u8>> = GOLDEN.lines().map(unhex).collect();
    let (ledger, records) = read_all(&golden.concat()).unwrap();
    assert_eq!(records, one_of_each());
    assert_eq!(ledger.state().number(), 9);
    assert_eq!(ledger.hash(), RecordHash::of(&golden[8]));
}

#[test]
fn each_record_names_the_hash_of_the_one_before_it() {
    let written = written(&one_of_each());
    assert_eq!(written[0][16..48], [0; 32]);
    for pair in written.windows(2) {
        assert_eq!(pair[1][16..48], RecordHash::of(&pair[0]).0);
    }
}

#[test]
fn any_flipped_bit_is_noticed() {
    let written = written(&one_of_each());
    let mut ledger = Ledger::default();
    for bytes in &written {
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(ledger.clone().read(&flipped).is_err(), "bit {bit}");
        }
        ledger.read(bytes).unwrap();
    }
}

#[test]
fn a_record_cut_short_at_any_byte_is_incomplete() {
    for bytes in written(&one_of_each()[..1]) {
        for length in 0..bytes.len() {
            let cut = Ledger::default().read(&bytes[..length]);
            let Err(ReadError::Decode(DecodeError::Incomplete { found_bytes, expected_bytes })) = cut else {
                panic!("{length} bytes: {cut:?}");
            };
            assert!(found_bytes == length && expected_bytes > length);
        }
    }
}

#[test]
fn a_record_is_read_only_where_it_belongs() {
    let records = written(&one_of_each());
    let skipped = Ledger::default().read(&records[1]).unwrap_err();
    assert_eq!(skipped, DecodeError::OutOfOrder { found: 2, expected: 1 }.into());

    let mut history = one_of_each();
    history[2] = create(1, "other-disk");
    let other_history = written(&history);
    let mut ledger = read_all(&other_history[..3].concat()).unwrap().0;
    assert_eq!(ledger.read(&records[3]).unwrap_err(), DecodeError::OtherParent.into());
}

#[test]
fn a_record_of_a_newer_version_is_told_from_damage() {
    let mut bytes = written(&one_of_each()[..1]).remove(0);
    for (offset, version, kind) in [(4, 2, 1), (6, 1, 77)] {
        let mut newer = bytes.clone();
        newer[offset] = if offset == 4 { version } else { kind } as u8;
        reseal(&mut newer);
        let error = Ledger::default().read(&newer).unwrap_err();
        assert_eq!(error, DecodeError::Unknown { version, kind }.into());
    }
    reseal(&mut bytes);
    assert!(Ledger::default().read(&bytes).is_ok());
}

/// Gives the bytes of a record a right checksum over whatever its preamble says by now.
fn reseal(bytes: &mut [u8]) {
    let length = u32::from_le_bytes(bytes[48..52].try_into().expect("4 bytes")) as usize;
    if let Some(payload) = bytes.get(PREAMBLE_BYTES..PREAMBLE_BYTES + length) {
        let crc = crc32c::crc32c(payload);
        bytes[52..56].copy_from_slice(&crc.to_le_bytes());
    }
    let crc = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
}

proptest! {
    #[test]
    fn nothing_that_is_read_panics(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = Ledger::default().read(&bytes);
    }

    /// With right checksums over wrong bytes, only rkyv's checks and the ledger's rules are left.
    #[test]
    fn nothing_with_right_checksums_panics(
        which in 0..9usize,
        changes in prop::collection::vec((any::<u16>(), any::<u8>()), 1..8),
    ) {
        let records = written(&one_of_each());
        let mut ledger = read_all(&records[..which].concat()).expect("records that apply").0;
        let mut bytes = records[which].clone();
        for (offset, value) in changes {
            let place = offset as usize % bytes.len();
            bytes[place] = value;
        }
        reseal(&mut bytes);
        let _ = ledger.read(&bytes);
    }
}
