//! Data digests from end to end: a READ's comes from the CRCs that the store keeps, a WRITE's are what it stores.

mod support;

use std::io::ErrorKind;
use std::sync::atomic::Ordering;

use support::{DATA_IN, Initiator, R2T, SCSI_RESPONSE, TARGET, TestGateway, try_login};

/// Bytes of the disk.
const DISK_BYTES: usize = 8 << 20;

/// Bytes of an object: writes near it lie in two.
const OBJECT_BYTES: usize = 4 << 20;

/// Most bytes of a random write or read.
const MAX_BYTES: usize = 40 << 10;

/// A session with data digests, or without, that takes Data-Ins of so many bytes.
fn log_in(gateway: &TestGateway, digest: &str, segment_bytes: usize) -> Initiator {
    let keys = format!(
        "InitiatorName=iqn.2026-11.test:a SessionType=Normal TargetName={TARGET} InitialR2T=Yes \
         ImmediateData=Yes DataDigest={digest} MaxRecvDataSegmentLength={segment_bytes}"
    );
    let mut initiator = try_login(gateway.portal, &keys, None, false).expect("the login is let in");
    initiator.data_digest = digest == "CRC32C";
    initiator.command(0xffff, 0, &[0; 6], 0, None);
    initiator.expect(SCSI_RESPONSE);
    initiator
}

fn cdb(code: u8, offset: usize, length: usize) -> [u8; 10] {
    let lba = ((offset / 512) as u32).to_be_bytes();
    let blocks = ((length / 512) as u16).to_be_bytes();
    [code, 0, lba[0], lba[1], lba[2], lba[3], 0, blocks[0], blocks[1], 0]
}

fn read(initiator: &mut Initiator, offset: usize, length: usize) -> std::io::Result<Vec<u8>> {
    initiator.command(1, 0, &cdb(0x28, offset, length), length as u32, None);
    let mut data = Vec::new();
    while data.len() < length {
        let pdu = initiator.try_receive()?;
        assert_eq!(pdu.opcode(), DATA_IN);
        data.extend_from_slice(&pdu.data);
    }
    Ok(data)
}

/// Random numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    /// Where a command begins and how long it is, in bytes: some at the borders of blocks, some of two objects.
    fn extent(&mut self) -> (usize, usize) {
        let unit = if self.below(2) == 0 { 4096 } else { 512 };
        let length = unit * (1 + self.below(MAX_BYTES / unit));
        let from = if self.below(3) == 0 { OBJECT_BYTES - MAX_BYTES } else { 0 };
        (from + unit * self.below(MAX_BYTES / unit), length)
    }

    /// Where data is cut: at borders of blocks, or anywhere.
    fn cut(&mut self) -> usize {
        let unit = if self.below(3) == 0 { 1 } else { 4096 };
        unit * self.below(MAX_BYTES / unit)
    }
}

#[test]
fn data_arrives_sound_however_it_is_cut() {
    let gateway = TestGateway::start(1);
    gateway.peer.reads_at_once.store(true, Ordering::Relaxed);
    let mut disk = vec![0; DISK_BYTES];
    for (seed, segment_bytes) in [512, 5000, 8192, 262_144].into_iter().enumerate() {
        let mut random = Random(seed as u64);
        let mut initiator = log_in(&gateway, "CRC32C", segment_bytes);
        for round in 0..60 {
            let (offset, length) = random.extent();
            let data: Vec<u8> =
                (0..length / 4).flat_map(|_| random.below(1 << 30).to_le_bytes()[..4].to_vec()).collect();
            let immediate = random.cut().min(length).min(8192);
            initiator.command(2, 0, &cdb(0x2a, offset, length), length as u32, Some(&data[..immediate]));
            let mut answer = initiator.receive();
            if answer.opcode() == R2T {
                initiator.data_outs(&answer, &data, &[random.cut(), random.cut(), random.cut()]);
                answer = initiator.receive();
            }
            assert_eq!((answer.opcode(), answer.header[3]), (SCSI_RESPONSE, 0), "round {round}");
            disk[offset..offset + length].copy_from_slice(&data);
            let (offset, length) = random.extent();
            let found = read(&mut initiator, offset, length).unwrap();
            assert!(found == disk[offset..offset + length], "{length} bytes at {offset}, round {round}");
        }
    }
}

#[test]
fn what_damages_a_block_between_store_and_initiator_is_found_by_the_digest() {
    let gateway = TestGateway::start(1);
    gateway.peer.reads_at_once.store(true, Ordering::Relaxed);
    *gateway.peer.damaged_byte.lock().unwrap() = Some(3 * 4096 + 100);
    let mut initiator = log_in(&gateway, "CRC32C", 262_144);
    assert_eq!(read(&mut initiator, 0, 3 * 4096).unwrap(), [0; 3 * 4096]);
    assert_eq!(read(&mut initiator, 4 * 4096, 4096).unwrap(), [0; 4096]);
    assert_eq!(read(&mut initiator, 0, 8 * 4096).unwrap_err().kind(), ErrorKind::InvalidData);
    assert_eq!(read(&mut initiator, 3 * 4096, 4096).unwrap_err().kind(), ErrorKind::InvalidData);

    let mut without = log_in(&gateway, "None", 262_144);
    assert_eq!(read(&mut without, 3 * 4096, 4096).unwrap()[100], 0x40, "nothing else tells");
}
