//! The log as a whole, on the real file system.

use std::io::IoSlice;
use std::sync::Arc;

use huntaway_wire::{ObjectKind, Oid, Partition, Version, Vid};

use super::{Change, Lsn, Record, RecordHeader, Wal, WalError, WalOptions};
use crate::disk::{Disk, FileDisk};

const OPTIONS: WalOptions =
    WalOptions { disk_uuid: [7; 16], segment_bytes: 64 << 10, bound_bytes: 256 << 10 };

type Seen = Vec<(Lsn, u32, Vec<u8>)>;

fn open<D: Disk>(disk: &Arc<D>) -> Result<(Wal<D>, Seen), WalError> {
    let mut seen = Seen::new();
    let wal = Wal::open(Arc::clone(disk), OPTIONS, &mut |lsn, record: Record<'_>| {
        seen.push((lsn, record.header.version.seq, record.payload.to_vec()));
        Ok::<(), WalError>(())
    })?;
    Ok((wal, seen))
}

fn append<D: Disk>(wal: &Wal<D>, seq: u32) -> Result<Lsn, WalError> {
    let block = [seq as u8; 4096];
    let header = RecordHeader {
        partition: Partition::new(3).unwrap(),
        oid: Oid::new(ObjectKind::Data, Vid::new(1).unwrap(), 2),
        version: Version { pepoch: 1, seq },
        change: Change::Write { first_block: seq % 1024, crcs: &[crc32c::crc32c(&block)] },
    };
    wal.append(&header, &[IoSlice::new(&block[..512]), IoSlice::new(&block[512..])])
}

#[test]
fn what_was_appended_is_replayed_until_it_is_released() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Arc::new(FileDisk::new(directory.path()).unwrap());
    let (wal, seen) = open(&disk).unwrap();
    assert!(seen.is_empty());
    let ends: Vec<Lsn> = (1..=30).map(|seq| append(&wal, seq).unwrap()).collect();
    assert_eq!(wal.durable(), Lsn(0));
    assert_eq!(wal.sync().unwrap(), ends[29]);
    drop(wal);
    let (wal, seen) = open(&disk).unwrap();
    assert_eq!(seen.iter().map(|(lsn, ..)| *lsn).collect::<Vec<_>>(), ends);
    assert!(seen.iter().all(|(_, seq, payload)| *payload == [*seq as u8; 4096]));
    wal.release(ends[19]).unwrap();
    wal.checkpoint().unwrap();
    drop(wal);
    let (_, seen) = open(&disk).unwrap();
    assert_eq!(seen.len(), 10);
}
