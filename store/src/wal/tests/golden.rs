//! The bytes on disk never change by accident: `store/FORMAT.md`, "wal/".

use std::fmt::Write;

use super::super::{Change, Wal, WalError};
use super::{OPTIONS, append, header, simulated};
use crate::disk::{Disk, Open, SimulatedDisk};

fn hex(disk: &SimulatedDisk, path: &str, offset: u64, length: usize) -> String {
    let file = disk.open(path, Open::Existing).unwrap();
    let mut bytes = vec![0; length];
    assert_eq!(disk.read_at(&file, &mut bytes, offset).unwrap(), length);
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

#[test]
fn a_log_has_these_bytes() {
    let disk = simulated();
    let wal = Wal::open(disk.clone(), OPTIONS, &mut |_, _| Ok::<(), WalError>(())).unwrap();
    append(&wal, 5, 1).unwrap();
    wal.release(wal.sync().unwrap()).unwrap();
    wal.append(&header(6, Change::Discard { blocks: 16..1024 }), &[]).unwrap();
    wal.append(&header(7, Change::Reserve), &[]).unwrap();
    wal.append(&header(8, Change::Remove), &[]).unwrap();
    wal.checkpoint().unwrap();
    let segment = "wal/0000000000000001";
    assert_eq!(hex(&disk, segment, 0, 64), SEGMENT_HEADER);
    assert_eq!(hex(&disk, segment, 4096, 64), WRITE);
    assert_eq!(hex(&disk, segment, 4096 + 4160, 56 * 3), OTHERS.concat());
    assert_eq!(hex(&disk, "wal/released", 0, 48), FIRST_MARK);
    assert_eq!(hex(&disk, "wal/released", 512, 48), SECOND_MARK);
    assert_eq!(disk.list("wal").unwrap(), ["0000000000000001", "released"]);
}

const SEGMENT_HEADER: &str = "\
    485777616c736567010000001e61683a07070707070707070707070707070707\
    0100000000000000000000000000000000000000000000000000000000000000";
const WRITE: &str = "\
    48577263646ba870000000000000000000000000000000000200000001000000\
    01000000050000000300010005000100846eed7200000000d01dcccc9b9c9d9e";
const OTHERS: [&str; 3] = [
    "\
    48577263fcb5da54401000000000000040100000000000000200000001000000\
    0100000006000000030002001000f0030000000000000000",
    "\
    485772635c64184e781000000000000040100000000000000200000001000000\
    010000000700000003000300000000000000000000000000",
    "\
    485772630c5fd609b01000000000000040100000000000000200000001000000\
    010000000800000003000400000000000000000000000000",
];
const FIRST_MARK: &str = "\
    485777616c72656c01000000bcc1542f07070707070707070707070707070707\
    02000000000000004010000000000000";
const SECOND_MARK: &str = "\
    485777616c72656c01000000db90f7ba07070707070707070707070707070707\
    01000000000000000000000000000000";
